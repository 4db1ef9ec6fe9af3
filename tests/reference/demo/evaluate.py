"""Evaluate the bundled model on the held-out questions (heldout.py).

    python evaluate.py --work DIR                   the float weights DIR/float.pt
    python evaluate.py --model engine/bundled       a shipped checkpoint, dequantized to float32

Every answer must be right (the pattern of its case, for machines the strategy's name), end by
itself, be free of repetition, and be made of sentences as the model was taught to write: capital or
code at the start, a full stop at the end, balanced backticks, only known words and known sequences
of three words. A case is on topic when it is right or, for machines and sums, of the right form.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import random
import re
import sys
import time

import torch
from tokenizers import Tokenizer

import dialogue
import heldout
from dialogue import plain
from generate import generate
from model import Model, Shape

LIMIT = 190
_WORD = re.compile(r"`[^`]*`|[\w'/.-]+|[^\w\s]")


def words(text: str) -> list[str]:
    """Words with numbers and names of code kept as units; digits become #."""
    return [re.sub(r"\d+", "#", w) for w in _WORD.findall(text)]


class Language:
    """The words and three-word sequences of the answers that the corpus can generate."""

    def __init__(self, conversations: int = 40000, seed: int = 4242):
        rng = random.Random(seed)
        self.words, self.threes, self.questions = set(), set(), set()
        for _ in range(conversations):
            for turn in dialogue.conversation(rng)[1]:
                w = words(turn.answer)
                self.words.update(w)
                self.threes.update(zip(w, w[1:], w[2:]))
                self.questions.add(plain(turn.user))

    def faults(self, text: str, names: frozenset[str] = frozenset()) -> list[str]:
        found = []
        if not text or not (text[0].isupper() or text[0] in "`-" or text[0].isdigit() or text.startswith("lade")):
            found.append("start")
        if not text.endswith((".", "!", "?")):
            found.append("end")
        if text.count("`") % 2:
            found.append("backticks")
        w = words(text)
        unknown = [x for x in w if x not in self.words and x not in names]
        if unknown:
            found.append("words " + " ".join(unknown[:3]))
        strange = [t for t in zip(w, w[1:], w[2:]) if t not in self.threes and not names & set(t)]
        if strange:
            found.append("sequence " + " ".join(strange[0]))
        fours = collections.Counter(zip(w, w[1:], w[2:], w[3:]))
        if fours and max(fours.values()) > 2:
            found.append("repetition")
        return found


class Chat:
    def __init__(self, model: Model, tokenizer: Tokenizer, thinks: bool, **sampling):
        self.model, self.tokenizer, self.thinks, self.sampling = model, tokenizer, thinks, sampling
        self.stop = {tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")}

    def answers(self, histories: list[list[str]]) -> list[tuple[str, str, bool, int]]:
        """For each alternating history user, model, ..., user: (thoughts, answer, stopped, tokens)."""
        prompts = []
        for history in histories:
            text = ""
            for index, content in enumerate(history):
                text += f"<|im_start|>{'assistant' if index % 2 else 'user'}\n{content}<|im_end|>\n"
            text += "<|im_start|>assistant\n" + ("<think>\n" if self.thinks else "<think>\n\n</think>\n\n")
            prompts.append(self.tokenizer.encode(text, add_special_tokens=False).ids)
        results = [("", "", False, 0)] * len(prompts)
        # Similar lengths together: a step costs the same for all sequences of its batch.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for start in range(0, len(order), 96):
            part = order[start:start + 96]
            for i, ids in zip(part, generate(self.model, [prompts[i] for i in part], self.stop, LIMIT, **self.sampling)):
                stopped = bool(ids) and ids[-1] in self.stop
                text = self.tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=False)
                thoughts, mark, answer = text.partition("</think>")
                if not mark:
                    thoughts, answer = "", text
                results[i] = (thoughts.strip(), answer.strip(), stopped, len(ids))
        return results


def evaluate(chat: Chat, language: Language, cases: list[heldout.Case], log=None) -> dict:
    histories = [[case.turns[0]] for case in cases]
    last = [None] * len(cases)
    for turn in range(max(len(c.turns) for c in cases)):
        active = [i for i, c in enumerate(cases) if turn < len(c.turns)]
        for i, result in zip(active, chat.answers([histories[i] for i in active])):
            last[i] = result
            if turn + 1 < len(cases[i].turns):
                histories[i] += [result[1], cases[i].turns[turn + 1]]
    tally = collections.defaultdict(lambda: [0, 0])
    totals = collections.Counter()
    for case, history, (thoughts, answer, stopped, tokens) in zip(cases, histories, last):
        right = re.search(case.must, answer, re.S) is not None
        form = right
        if case.kind == "machine":
            named = re.search(r"`([a-z-]+)`", answer)
            right = named is not None and named.group(1) == case.strategy
            form = named is not None and "RAM" in answer
        elif case.kind == "sum":
            form = re.search(r"\d+ [+*-] \d+ (is|=) -?\d+\.$", answer) is not None
        names = frozenset([case.must, case.must + ".", *words(" ".join(case.turns))]) if case.kind == "name" else frozenset()
        faults = language.faults(answer, names)
        totals["stopped"] += stopped
        totals["repeats"] += "repetition" in faults
        totals["good"] += form and stopped and not faults
        totals["grammatical"] += not faults
        totals["tokens"] += tokens
        tally[case.kind][0] += right
        tally[case.kind][1] += 1
        if log and not (right and stopped and not faults):
            print(case.kind, "RIGHT" if right else "WRONG", "; ".join(faults), " || ".join(history), "=>", thoughts, "=>", answer,
                  sep="\t", file=log)
    n = len(cases)
    report = {f"right: {kind}": f"{a}/{b} = {100 * a / b:.1f}%" for kind, (a, b) in tally.items()}
    right = sum(a for a, _ in tally.values())
    report["right: all"] = f"{right}/{n} = {100 * right / n:.1f}%"
    for key, name in (("good", "grammatical, on topic, stopped"), ("grammatical", "grammatical"), ("stopped", "stopped by itself")):
        report[name] = f"{totals[key]}/{n} = {100 * totals[key] / n:.1f}%"
    report["endless repetition"] = f"{totals['repeats']}/{n}"
    report["tokens per answer"] = f"{totals['tokens'] / n:.0f}"
    return report


def load(args) -> tuple[Model, Tokenizer]:
    model = Model(Shape())
    if args.model:
        sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
        import reference_model
        directory = pathlib.Path(args.model)
        model.load_hf(reference_model.plain_weights(reference_model.read_tensors(directory)))
        return model, Tokenizer.from_file(str(directory / "tokenizer.json"))
    work = pathlib.Path(args.work)
    state = torch.load(work / args.weights, map_location="cpu")
    model.load_state_dict(state.get("model", state))
    return model, Tokenizer.from_file(str(work / "tok" / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work")
    parser.add_argument("--weights", default="float.pt")
    parser.add_argument("--model")
    parser.add_argument("--plain", action="store_true", help="answers without thinking")
    parser.add_argument("--sample", action="store_true", help="temperature 0.6, top-p 0.95, top-k 20 instead of greedy")
    parser.add_argument("--part", type=int, default=1, help="every n-th case only")
    parser.add_argument("--fake", action="store_true", help="round the weights as they will be stored")
    parser.add_argument("--log", help="write the failures to this file")
    parser.add_argument("--json", help="write the report to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(args)
    model.set_fake(args.fake)
    language = Language()
    cases = heldout.cases()
    copied = sum(plain(c.turns[-1]) in language.questions for c in cases)
    cases = cases[::args.part]
    sampling = {"temperature": 0.6} if args.sample else {}
    began = time.time()
    with open(args.log or "/dev/null", "w", encoding="utf-8") as log:
        report = evaluate(Chat(model, tokenizer, not args.plain, **sampling), language, cases, log)
    print(f"{len(cases)} cases, {copied} of them word for word in the training set, {time.time() - began:.0f} s")
    for key, value in report.items():
        print(f"  {key:34s} {value}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
