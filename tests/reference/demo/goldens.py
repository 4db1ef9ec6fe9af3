"""What transformers computes in float32 for the bundled model: tests/golden/bundled.

    python goldens.py --model engine/bundled

The same format as the other goldens (../dump_goldens.py), on real prompts: bundled.json and
bundled.f32 hold the logits of a conversation of 200 tokens and greedy continuations of 64 tokens.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys

import torch
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import dump_goldens  # noqa: E402
import reference_model  # noqa: E402

TURNS = [
    ("Hello!", "Hello! What can I do for you?"),
    ("What is lade?", "lade is a terminal program that chats with an 80-billion-parameter model on the machine you have. "
     "It decides where every weight lives, shows it getting there and keeps every conversation."),
    ("What is 47 + 38?", "47 + 38 = 85."),
    ("I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?",
     "With 16 GB of VRAM and 64 GB of RAM, use `hybrid-heavy-cpu`: the base and two or three shards' worth of experts "
     "live in VRAM, and the rest stay in RAM, computed on the CPU, because VRAM alone cannot hold the 43.2 GB of weights."),
    ("How do I stop an answer?", "Press Esc or Ctrl-C. That stops the answer, not the program."),
    ("How many MB are 12 GB?", "12 GB are 12000 MB."),
    ("Tell me a joke.", "Why did the expert stay on disk? Nobody routed to it."),
    ("What is a shard?", "A shard is one file of the checkpoint. While the model loads, lade shows one bar per shard with its size, speed and time left.")]
LAST = "How do I open a real model, and where are my conversations kept?"
QUESTIONS = ["I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?", "What is lade?", "What is 47 + 38?",
             "Tell me a joke.", "There is no GPU in my computer, but it has 64 GB of RAM. Which strategy?", "How do I open a real model?",
             "What is the difference between mmap and cached-mmap?", "Who are you?", "Where are my conversations kept?",
             "What is an expert?", "How do I quit lade?", "How many GB are 16 GiB?", "What is 12 * 11?", "Which strategy for 24 GB of VRAM and 64 GB of RAM?",
             "What can you do?", "Can I chat while the model loads?", "What is the capital of Peru?", "How much VRAM does full-gpu need?", "A shard is missing",
             "Which strategies are there?", "Thank you!", "What does lade plan show?", "What is 90 - 45?", "How can I export a chat?"]
GREEDY = 5  # continuations


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
    def encode(turns):
        return tokenizer.encode(chat_text(turns), add_special_tokens=False).ids

    # At a near tie of experts the order of additions would decide: another order of the turns then.
    for attempt in range(dump_goldens.ATTEMPTS):
        turns = random.Random(attempt).sample(TURNS, len(TURNS))
        prompt = encode([text for turn in turns for text in turn] + [LAST])[-dump_goldens.POSITIONS:]
        logits = model(torch.tensor([prompt])).logits[0]
        gap = dump_goldens.router_gap(trace, model.config.num_experts_per_tok)
        if len(prompt) == dump_goldens.POSITIONS and gap >= dump_goldens.MIN_ROUTER_GAP:
            break
    else:
        raise SystemExit("every order of the conversation meets an undecided router")
    kept = logits[:, ::dump_goldens.COLUMN_STEP].contiguous()
    entries, asked = [], []
    for question in QUESTIONS:
        entry = dump_goldens.greedy(model, trace, encode([question]), dump_goldens.GREEDY)
        clear = entry["gap"] >= dump_goldens.MIN_GREEDY_GAP and entry["router_gap"] >= dump_goldens.MIN_ROUTER_GAP
        if clear and len(entries) < GREEDY:
            entries.append(entry)
            asked.append(question)
    if len(entries) < GREEDY:
        raise SystemExit(f"only {len(entries)} questions have a clear continuation")
    golden = {
        "model": args.model.name, "model_sha256": reference_model.digest(args.model), "positions": len(prompt),
        "columns": kept.shape[1], "column_first": 0, "column_step": dump_goldens.COLUMN_STEP, "vocab": model.config.vocab_size,
        "prompt": prompt, "router_gap": gap, "argmax": logits.argmax(-1).tolist(),
        "row_l2": [round(x, 5) for x in logits.double().norm(dim=-1).tolist()], "greedy": entries}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept.numpy().astype("<f4").tofile(args.out.with_suffix(".f32"))
    args.out.with_suffix(".json").write_text(dump_goldens.to_text(golden))
    print(f"{args.out.name}: {len(prompt)} x {kept.shape[1]} logits, router gap {gap:.1e}, greedy gaps {[e['gap'] for e in entries]}")
    for question, entry in zip(asked, entries):
        print(f"  {question}\n    {tokenizer.decode(entry['ids'], skip_special_tokens=False)!r}")


if __name__ == "__main__":
    main()
