#!/usr/bin/env python3
"""Makes everything under tests/fixtures and tests/golden again, in order, and checks it.

  python3 -m venv venv && venv/bin/pip install -r tests/reference/requirements.txt
  venv/bin/python tests/reference/make_all.py

Needs about ten minutes on two cores, 2 GB of memory and no GPU. The same versions give the same
bytes, so `git status` is clean afterwards; logits may differ in the last digits on another CPU.

  make_fixtures.py    tests/fixtures/NAME            tiny checkpoints (fixture_specs.py)
  dump_goldens.py     tests/golden/models            logits and greedy continuations
  check_dequant.py    -                              dequantization against auto-round's
  dump_tokens.py      tests/golden/tokenizer         the corpus and its ids
  dump_templates.py   tests/golden/templates         rendered conversations
"""
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
STEPS = ("make_fixtures", "dump_goldens", "check_dequant", "dump_tokens", "dump_templates")


def main():
    sys.argv = sys.argv[:1]
    for step in STEPS:
        print(f"-- {step}", flush=True)
        runpy.run_path(str(HERE / f"{step}.py"), run_name="__main__")


if __name__ == "__main__":
    main()
