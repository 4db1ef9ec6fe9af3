"""What transformers computes in float32 for the bundled model: tests/golden/bundled.

    python goldens.py --model engine/bundled

The same format as the other goldens (../dump_goldens.py), on real prompts: bundled.json and
bundled.f32 hold the logits of a conversation of 200 tokens and greedy continuations of 64 tokens.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import torch
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import dump_goldens  # noqa: E402
import reference_model  # noqa: E402

CONVERSATION = [
    "Hello!", "Hello! What can I do for you?", "What is lade?",
    "lade is a terminal program that chats with an 80-billion-parameter model on the machine you have. "
    "It decides where every weight lives, shows it getting there and keeps every conversation.",
    "What is 47 + 38?", "47 + 38 = 85.", "I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?",
    "With 16 GB of VRAM and 64 GB of RAM, use `hybrid-heavy-cpu`: the base and two or three shards' worth of experts "
    "live in VRAM, and the rest stay in RAM, computed on the CPU.", "How do I open a real model, and where are my conversations kept?"]
QUESTIONS = ["I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?", "What is lade?", "What is 47 + 38?",
             "Tell me a joke.", "There is no GPU in my computer, but it has 64 GB of RAM. Which strategy?"]


def chat_text(turns: list[str]) -> str:
    text = "".join(f"<|im_start|>{'assistant' if i % 2 else 'user'}\n{turn}<|im_end|>\n" for i, turn in enumerate(turns))
    return text + "<|im_start|>assistant\n<think>\n"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[1] / "golden" / "bundled" / "bundled")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = reference_model.load(args.model)
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    trace = dump_goldens.Trace(model)
    prompt = tokenizer.encode(chat_text(CONVERSATION), add_special_tokens=False).ids
    if len(prompt) < dump_goldens.POSITIONS:
        raise SystemExit(f"the conversation has only {len(prompt)} tokens")
    prompt = prompt[:dump_goldens.POSITIONS]
    logits = model(torch.tensor([prompt])).logits[0]
    gap = dump_goldens.router_gap(trace, model.config.num_experts_per_tok)
    kept = logits[:, ::dump_goldens.COLUMN_STEP].contiguous()
    entries = [dump_goldens.greedy(model, trace, tokenizer.encode(chat_text([q]), add_special_tokens=False).ids, dump_goldens.GREEDY)
               for q in QUESTIONS]
    golden = {
        "model": args.model.name, "model_sha256": reference_model.digest(args.model), "positions": len(prompt),
        "columns": kept.shape[1], "column_first": 0, "column_step": dump_goldens.COLUMN_STEP, "vocab": model.config.vocab_size,
        "prompt": prompt, "router_gap": gap, "argmax": logits.argmax(-1).tolist(),
        "row_l2": [round(x, 5) for x in logits.double().norm(dim=-1).tolist()], "greedy": entries}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept.numpy().astype("<f4").tofile(args.out.with_suffix(".f32"))
    args.out.with_suffix(".json").write_text(dump_goldens.to_text(golden))
    print(f"{args.out.name}: {len(prompt)} x {kept.shape[1]} logits, router gap {gap:.1e}, greedy gaps {[e['gap'] for e in entries]}")
    for question, entry in zip(QUESTIONS, entries):
        print(f"  {question}\n    {tokenizer.decode(entry['ids'], skip_special_tokens=False)!r}")


if __name__ == "__main__":
    main()
