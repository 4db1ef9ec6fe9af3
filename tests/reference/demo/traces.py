"""Record which experts real conversations choose: input for tests of the expert caches.

    python traces.py --model engine/bundled [--out tests/fixtures/routing/demo.trace]

The file is text, so that it can be read by eye and by a ten-line parser:

    lade-routing 1
    layers 8 experts 24 top 4
    conversation TOKENS          (one line per conversation)
    e e e e|e e e e|...          (one line per token: per layer the chosen experts, largest weight first)

Experts are numbered 0-9 then a-z, without spaces: "3a07|..." is experts 3, 10, 0 and 7 in layer 0.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import torch
from tokenizers import Tokenizer

import heldout
from evaluate import Chat
from model import Model, Shape

ROOT = pathlib.Path(__file__).resolve().parents[3]
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "fixtures" / "routing" / "demo.trace")
    parser.add_argument("--conversations", type=int, default=36)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sys.path.append(str(ROOT / "tests" / "reference"))
    import reference_model
    model = Model(Shape())
    model.load_hf(reference_model.plain_weights(reference_model.read_tensors(args.model)))
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    cases = heldout.cases()
    cases = cases[::max(1, len(cases) // args.conversations)][:args.conversations]
    chat = Chat(model, tokenizer, True)
    lines = ["lade-routing 1", f"layers {model.s.num_hidden_layers} experts {model.s.num_experts} top {model.s.num_experts_per_tok}"]
    for case, (thoughts, answer, _, _) in zip(cases, chat.answers([[c.turns[0]] for c in cases])):
        text = f"<|im_start|>user\n{case.turns[0]}<|im_end|>\n<|im_start|>assistant\n<think>\n{thoughts}\n</think>\n\n{answer}<|im_end|>"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        for layer in model.layers:
            layer.mlp.trace = []
        with torch.inference_mode():
            model(torch.tensor([ids]))
        chosen = [layer.mlp.trace[0].tolist() for layer in model.layers]
        lines.append(f"conversation {len(ids)}")
        lines += ["|".join("".join(DIGITS[e] for e in layer[t]) for layer in chosen) for t in range(len(ids))]
        for layer in model.layers:
            layer.mlp.trace = None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(cases)} conversations, {len(lines) - 2 - len(cases)} tokens, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
