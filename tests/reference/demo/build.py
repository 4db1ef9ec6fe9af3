#!/usr/bin/env python3
"""Make the bundled model again, from nothing to engine/bundled.

  venv/bin/python tests/reference/demo/build.py --work DIR      (venv: tests/reference/requirements.txt)

  tokenizer.py   byte-level BPE on generated conversations          DIR/tok
  train.py       the float model; about an hour on two cores, two runs of minutes on a GPU (--device cuda)  DIR/float.pt
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
GPU = ["--device", "cuda", "--ranks", "1", "--workers", "14"]
# The runs of train.py; each goes on from the weights of the one before, with a schedule of its own.
RUNS = {
    "cpu": [[]],
    "cuda": [
        [*GPU, "--tokens", "16384", "--steps", "1323"],
        [*GPU, "--tokens", "49152", "--steps", "706", "--seed", "21", "--rate", "0.005", "--warmup", "40",
         "--decay-from", "0.1", "--quantize-from", "0.7"],
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", required=True)
    parser.add_argument("--device", default="cpu", choices=RUNS)
    args = parser.parse_args()
    work, bundled = args.work, ROOT / "engine" / "bundled"
    training = [
        ["train.py", "--work", work, *run, *(["--start", f"{work}/float.pt"] if i else [])]
        for i, run in enumerate(RUNS[args.device])
    ]
    for command in (
        ["tokenizer.py", f"{work}/tok"],
        *training,
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
