"""One topic per strategy, and the differences between neighbours."""

from __future__ import annotations

import random
import re

from text import pick
from topics_lade import Topic

# name -> (what lives where, what it needs)
FACTS = {
    "full-gpu": ("everything lives in VRAM", "about 48 GB of VRAM for the INT4-mixed files and 16 GB of RAM"),
    "hybrid-heavy-cpu": ("the base and two or three shards' worth of experts live in VRAM, and the rest stay in RAM, computed on the CPU",
                         "14 to 16 GB of VRAM and 60 to 80 GB of RAM"),
    "hybrid-balanced": ("the base and four or five shards' worth of experts live in VRAM, and the rest stay in RAM",
                        "20 to 24 GB of VRAM and 50 to 70 GB of RAM"),
    "hybrid-heavy-gpu": ("the base and most experts live in VRAM, six or seven shards' worth or more, and the rest stay in RAM",
                         "24 to 29 GB of VRAM, or up to 47, and 40 to 60 GB of RAM"),
    "cpu-tight": ("everything lives in RAM, with the smallest buffers", "no GPU and 50 to 64 GB of RAM"),
    "cpu-standard": ("everything lives in RAM", "no GPU and 80 to 96 GB of RAM"),
    "cpu-comfort": ("everything lives in RAM, with room for long contexts and repacked copies", "no GPU and 128 GB of RAM or more"),
    "stream-aggressive": ("the base lives in VRAM, and the experts are swapped in one or two shards' worth at a time",
                          "8 to 12 GB of VRAM and 32 to 48 GB of RAM"),
    "stream-cached": ("the base lives in VRAM, and recently used experts wait in a pinned RAM cache",
                      "8 to 12 GB of VRAM and 48 to 64 GB of RAM"),
    "offload-buffers": ("weights fill the VRAM as far as they go, and computation buffers and the KV cache stay in RAM",
                        "12 to 16 GB of VRAM and 32 to 48 GB of RAM"),
    "mmap": ("the base lives in RAM, and experts are read from the mapped file", "16 to 32 GB of RAM and a good drive"),
    "cached-mmap": ("the base lives in RAM, and experts are read from the file into an expert cache",
                    "32 to 48 GB of RAM and a good drive"),
    "striped-mmap": ("the base lives in RAM, and experts are striped or mirrored over several drives",
                     "16 GB of RAM and several drives"),
    "remote": ("the model runs behind an OpenAI-compatible server", "only a network connection and a server"),
}

PAIRS = [
    ("hybrid-heavy-cpu", "hybrid-heavy-gpu", "They differ in where most experts live: with `hybrid-heavy-cpu` most are in RAM, with `hybrid-heavy-gpu` most are in VRAM."),
    ("hybrid-heavy-cpu", "hybrid-balanced", "`hybrid-balanced` keeps four or five shards' worth of experts in VRAM, `hybrid-heavy-cpu` only two or three."),
    ("hybrid-balanced", "hybrid-heavy-gpu", "`hybrid-heavy-gpu` keeps six or seven shards' worth of experts in VRAM, `hybrid-balanced` four or five."),
    ("stream-aggressive", "stream-cached", "`stream-cached` keeps recently used experts in a RAM cache, `stream-aggressive` swaps all the time because it has less RAM."),
    ("mmap", "cached-mmap", "`cached-mmap` has its own cache of recent experts, `mmap` reads them from the mapped file each time."),
    ("mmap", "striped-mmap", "`striped-mmap` spreads the experts over several drives, `mmap` reads them from one."),
    ("cpu-tight", "cpu-standard", "Both keep everything in RAM. `cpu-tight` uses the smallest buffers, `cpu-standard` has room to spare."),
    ("cpu-standard", "cpu-comfort", "Both keep everything in RAM. `cpu-comfort` has room for long contexts and repacked copies as well, `cpu-standard` has not."),
    ("full-gpu", "hybrid-heavy-gpu", "`full-gpu` keeps everything in VRAM, `hybrid-heavy-gpu` leaves the last experts in RAM."),
    ("stream-cached", "offload-buffers", "`stream-cached` moves experts into VRAM as they are needed, `offload-buffers` fills the VRAM with weights and keeps buffers in RAM."),
    ("cached-mmap", "cpu-tight", "`cpu-tight` keeps all experts in RAM, `cached-mmap` only the recent ones, because it has less RAM."),
]

FAMILIES = {
    "hybrid": "The hybrid family is `hybrid-heavy-cpu`, `hybrid-balanced` and `hybrid-heavy-gpu`: some experts in VRAM, the rest in RAM.",
    "cpu": "The cpu family is `cpu-tight`, `cpu-standard` and `cpu-comfort`: everything lives in RAM and no GPU is needed.",
    "stream": "The stream family is `stream-aggressive`, `stream-cached` and `offload-buffers`: the base stays in VRAM and experts move through it.",
    "disk": "The disk family is `mmap`, `cached-mmap` and `striped-mmap`: the base lives in RAM and experts come from disk.",
}

_NAMED = ["what (is|'s|exactly is) (the strategy |)NAME?", "(explain|describe|define) NAME(.|)", "(tell me|talk) about (the |)NAME( strategy|)(.|)",
          "what does (the strategy |)NAME (do|mean)?", "how does NAME work?", "NAME?", "what (lives|goes|is kept) where (with|in|under) NAME?",
          "where (do|are) (the |)(weights|experts) (live|kept|stored) (with|in) NAME?", "can you explain NAME( to me|)?", "i (want|'d like) to know about NAME(.|)",
          "what happens (with|in) NAME?",
          "(what|which) (is|are) the (idea|trick|point|meaning) (of|behind) NAME?", "(i see|it says|the screen says|lade chose|lade plan says|i read) NAME(.|, what is that?|. what does it mean?)", "(describe|outline|sketch|summarize) (the |)(strategy |)NAME( for me| in short|)(.|)", "(a few words|more|something|details|information) (on|about) NAME(, please.|.|?|)",
          "NAME(: what is it?|, in short?| explained.|, please.| in one sentence.)", "how (are|will) the (weights|experts|shards) (placed|spread|stored) (with|by|in|under) NAME?", "(if i use|when i take|with|under) NAME, (what|where) (happens|do the weights go|are the experts|lives where)?"]
_NEEDS = ["what (do i need|is needed|is required|machine do i need) for NAME?", "(when|in which case) (should|do|can) i use NAME?", "how much (vram|ram|memory) (does NAME need|is needed for NAME|do i need for NAME)?",
          "what does NAME (need|require)?", "(who|what machine) is NAME (for|good for|meant for)?", "what are the requirements (of|for) NAME?", "is NAME (good|right|something) for me?",
          "(for|on) (which|what) (machine|machines|hardware|computer) is NAME( made| meant| good|)?", "(can|could|should) (i|my machine|a laptop) (use|run|afford) NAME?", "(memory|hardware|machine|ram|vram) (needs|needed|requirements|required) (of|for|by) NAME(?|, please.|)", "(the |)(requirements|conditions|minimum) (of|for) NAME(?|, please.)", "(when|for whom) is NAME (the right one|a good choice|useful|sensible)?"]
_DIFF = ["(what is|what's|explain) the difference between (A and B|B and A)?", "(compare|explain) (A and B|B and A|A with B)(.|)", "(A or B|B or A)?", "(A vs B|A versus B|B vs A)(?|)",
         "how (is A different|does A differ) from B?", "(which|what) is better, (A or B|B or A)?", "how do (A and B|B and A) differ?", "should i (use|take|choose) (A or B|B or A)?",
         "(what|which) (distinguishes|separates|sets apart) A (from|and) B?", "(A and B|B and A)(: what is the difference?|, are they the same?|: same thing?|, please compare.| compared.)", "(is|are) A (and|the same as|better than|slower than|faster than|like) B( the same|)?", "(why|when) (A|B) (and not|instead of|rather than) (B|A)?", "(the |)(contrast|distinction|choice) between A and B(?|, please.|.)"]
_FAMILY = ["(what|which) (is|are|strategies are in) the NAME (family|strategies)?", "(explain|tell me about|describe) the NAME (family|strategies)(.|)", "what does NAME mean in the (names|strategies)?", "(list|name|show) the NAME strategies(.|)", "(which|what) (strategies|ones) (begin|start) with NAME?", "(the |)(NAME family|NAME strategies|NAME ones|family NAME)(?|, please.|.)", "(who|what) belongs to the NAME (family|group|strategies)?"]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _spelled(rng: random.Random, name: str) -> str:
    """The name as users write it: exact, in backticks, or without the hyphens."""
    roll = rng.random()
    if roll < 0.55:
        return name
    if roll < 0.72:
        return f"`{name}`"
    if roll < 0.92:
        return name.replace("-", " ")
    return name.upper()


def named_question(rng: random.Random, frames=None, name: str = ""):
    """(template of the question, topic) about one strategy, one pair or one family."""
    roll = rng.random()
    if roll < 0.66 or name:
        name = name or pick(rng, list(FACTS))
        where, needs = FACTS[name]
        wants_needs = rng.random() < 0.4
        ask = pick(rng, _NEEDS if wants_needs else _NAMED).replace("NAME", _spelled(rng, name))
        if wants_needs:
            answer = [f"`{name}` needs {needs}. With it {where}.", f"`{name}` is for {needs}. There {where}."]
            think = f"what {name} needs"
        else:
            answer = [f"With `{name}` {where}. It needs {needs}.", f"In `{name}` {where}. It is for {needs}."]
            think = f"what {name} means"
        return ask, Topic(f"strategy:{name}", think, [], answer, f"`{name}`.*" + where[:14])
    if roll < 0.9:
        first, second, difference = pick(rng, PAIRS)
        names = {"A": _spelled(rng, first), "B": _spelled(rng, second)}
        ask = re.sub(r"\b[AB]\b", lambda match: names[match.group()], pick(rng, _DIFF))
        return ask, Topic(f"pair:{first}:{second}", f"the difference between {first} and {second}", [], [difference],
                          f"`{first}`.*`{second}`|`{second}`.*`{first}`")
    family = pick(rng, list(FAMILIES))
    ask = pick(rng, _FAMILY).replace("NAME", family)
    return ask, Topic(f"family:{family}", f"the {family} family", [], [FAMILIES[family]], f"{family} family")
