#!/usr/bin/env python3
"""Make the bundled model again, from nothing to engine/bundled.

  venv/bin/python tests/reference/demo/build.py --work DIR      (venv: tests/reference/requirements.txt)

  tokenizer.py   byte-level BPE on generated conversations          DIR/tok
  train.py       the float model; under two hours on two cores, minutes on a GPU with --device cuda   DIR/float.pt
  verify.py      same logits as transformers
  ship.py        auto-round's int4-mixed export                     engine/bundled
  evaluate.py    held-out questions, before and after quantization  DIR/before.json, DIR/after.json
  traces.py      routing of real conversations                      tests/fixtures/routing/demo.trace
  goldens.py     logits and continuations of transformers          tests/golden/bundled

The same seeds and versions give the same tokenizer and corpus; float weights differ in the last
digits between processors, so the model is trained once and committed.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
ON_GPU = ["--device", "cuda", "--ranks", "1", "--tokens", "49152", "--warmup", "100", "--workers", "14", "--seconds", "290"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    work, bundled = args.work, ROOT / "engine" / "bundled"
    for command in (
        ["tokenizer.py", f"{work}/tok"],
        ["train.py", "--work", work, *(ON_GPU if args.device == "cuda" else ())],
        ["verify.py", "--work", work],
        ["evaluate.py", "--work", work, "--json", f"{work}/before.json"],
        ["ship.py", "--work", work],
        ["evaluate.py", "--model", bundled, "--json", f"{work}/after.json"],
        ["traces.py", "--model", bundled],
        ["goldens.py", "--model", bundled],
    ):
        print("--", *command, flush=True)
        subprocess.run([sys.executable, HERE / command[0], *map(str, command[1:])], check=True)


if __name__ == "__main__":
    main()
