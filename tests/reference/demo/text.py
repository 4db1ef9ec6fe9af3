"""A tiny template language and the surface noise of people typing.

`(a|b|c)` picks one alternative, alternatives nest and may be empty, so "(please |)explain (it|this)"
is four sentences. Everything random comes from the caller's `random.Random`.
"""

from __future__ import annotations

import functools
import random

Node = tuple  # ("s", text) | ("a", [sequence, ...]) ; a sequence is a list of nodes


@functools.lru_cache(maxsize=None)
def _parse(template: str):
    sequence, position = _parse_sequence(template, 0, 0)
    if position != len(template):
        raise ValueError(f"unbalanced template: {template!r}")
    return sequence


def _parse_sequence(template: str, position: int, depth: int):
    nodes, text = [], []
    while position < len(template):
        char = template[position]
        if char == "(":
            if text:
                nodes.append(("s", "".join(text)))
                text = []
            options = []
            while True:
                option, position = _parse_sequence(template, position + 1, depth + 1)
                options.append(option)
                if position >= len(template):
                    raise ValueError(f"unbalanced template: {template!r}")
                if template[position] == ")":
                    break
            nodes.append(("a", options))
        elif depth and char in "|)":
            break
        else:
            text.append(char)
        position += 1
    if text:
        nodes.append(("s", "".join(text)))
    return nodes, position


def _emit(rng: random.Random, nodes, out: list[str]) -> None:
    for kind, value in nodes:
        if kind == "s":
            out.append(value)
        else:
            _emit(rng, value[int(rng.random() * len(value))], out)


def expand(rng: random.Random, template: str) -> str:
    """One random sentence of the template."""
    out: list[str] = []
    _emit(rng, _parse(template), out)
    return "".join(out)


def pick(rng: random.Random, options):
    return options[int(rng.random() * len(options))]


def say(rng: random.Random, templates) -> str:
    """One random sentence of one random template (a str counts as a single template)."""
    if isinstance(templates, str):
        return expand(rng, templates)
    return expand(rng, pick(rng, templates))


def capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---- what people ask, as frames around a noun or a verb phrase -------------------------------


def about(noun: str) -> list[str]:
    """Frames asking what a thing is."""
    return [
        f"what (is|'s|exactly is|is the meaning of) {noun}?",
        f"(tell me|talk|say something|tell me more|tell me something) about {noun}(.|)",
        f"(please |can you |could you |)(explain|describe|define) {noun}( to me| for me| briefly| in simple words|)(.|?|)",
        f"what does {noun} (mean|do|stand for)?",
        f"{noun}?",
        f"what do you know about {noun}?",
        f"i (want|would like|need) to (know|learn|understand|hear) (about|more about|what is|what's) {noun}(.|)",
        f"(do you know|any idea|can you tell me) (what {noun} is|what is {noun})?",
        f"what is {noun} (for|good for|used for|about)?",
        f"how does {noun} work?",
    ]


def howto(verb: str) -> list[str]:
    """Frames asking how to do a thing."""
    return [
        f"how (do|can|could|would|should) i {verb}?",
        f"how to {verb}(?|)",
        f"how (do you|does one) {verb}?",
        f"i (want|would like|need|'d like|am trying|have) to {verb}(.| now.|)",
        f"(what|which) command (do i use|should i use|is there|do i need|is used) to {verb}?",
        f"(is there|do you know|do you have) a (way|command|option) to {verb}?",
        f"(can|could|may) i {verb}?",
        f"(help me|show me how to|tell me how to|explain how to|please help me) {verb}(.|)",
        f"(is it possible|what do i (do|type|run|enter)|what should i (do|type|run)) to {verb}?",
        f"{verb}(?|, how?| how|)",
    ]


def concerning(symptom: str) -> list[str]:
    """Frames around a complaint or an error message."""
    return [
        f"{symptom}(.|, what now?|, help|. what now?|. what do i do?|. what should i do?|. help!|)",
        f"(what do i do|what should i do|what can i do) (if|when) {symptom}?",
        f"(why do i get|what does it mean when|what does it mean:|i get|i got|lade says|it says|i see|there is an error:|the error is) {symptom}(?|.|)",
        f"(help|help me|please help|problem): {symptom}(.|)",
        f"how (do|can) i (fix|solve|repair) (this|it): {symptom}(?|)",
    ]


# ---- noise -----------------------------------------------------------------------------------

_OPENERS = ["hi, ", "hello, ", "hey, ", "hey! ", "ok, ", "okay, ", "so, ", "well, ", "quick question: ",
            "a question: ", "please tell me: ", "tell me, ", "one more thing: ", "also, ", "and ",
            "sorry, ", "um, ", "thanks. ", "thank you. ", "great, ", "cool. ", "good. ", "now, ",
            "another question: ", "hi there, ", "excuse me, ", "alright, ", "i see. ", "nice. "]
_CLOSERS = [" please", " please?", " thanks", " thanks!", " thank you", " :)", "?", "!", " again", " now?",
            " in lade?", " in lade", " for me"]


def _typo(rng: random.Random, text: str) -> str:
    """One slip of the finger inside a word of at least five letters; digits stay intact."""
    words = text.split(" ")
    candidates = [i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not candidates:
        return text
    index = pick(rng, candidates)
    word = words[index]
    at = 1 + int(rng.random() * (len(word) - 2))
    kind = rng.random()
    if kind < 0.4:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2:]
    elif kind < 0.7:
        word = word[:at] + word[at + 1:]
    else:
        word = word[:at] + word[at] + word[at:]
    words[index] = word
    return " ".join(words)


def humanize(rng: random.Random, text: str) -> str:
    """A user's line as it may arrive: openers, closers, case, punctuation, a typo now and then."""
    if rng.random() < 0.16:
        text = pick(rng, _OPENERS) + text
    if rng.random() < 0.06:
        text = text.rstrip("?.!") + pick(rng, _CLOSERS)
    roll = rng.random()
    if roll < 0.52:
        text = capitalize(text)
    elif roll < 0.56:
        text = text.upper()
    if rng.random() < 0.6:
        text = text.replace(" i ", " I ").replace(" i'", " I'")
        if text.startswith("i "):
            text = "I" + text[1:]
    if rng.random() < 0.18:
        text = text.rstrip("?.!")
    if rng.random() < 0.10:
        text = _typo(rng, text)
    return text
