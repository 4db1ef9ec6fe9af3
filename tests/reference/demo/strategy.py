"""Which strategy fits given VRAM, RAM and drives: the rule, its reasons, and how people ask.

The rule is what `lade plan` chooses for the INT4-mixed 80B (43.2 GB), reduced to a table of intervals
that a small model can learn. The held-out wordings of the evaluation are elsewhere (heldout.py).
"""

from __future__ import annotations

import bisect
import dataclasses
import random
import re

from text import expand, pick
from topics_strategies import FACTS

VRAM_EDGES = (6, 11, 14, 18, 24, 48)
RAM_EDGES = (8, 20, 28, 44, 68, 112)

# A row per interval of VRAM, a column per interval of RAM, up from 0.
TABLE = [row.split() for row in """
remote  mmap               mmap               cached-mmap        cpu-tight         cpu-standard      cpu-comfort
remote  mmap               stream-aggressive  stream-aggressive  stream-cached     stream-cached     stream-cached
remote  mmap               offload-buffers    offload-buffers    stream-cached     stream-cached     stream-cached
remote  stream-aggressive  offload-buffers    offload-buffers    hybrid-heavy-cpu  hybrid-heavy-cpu  hybrid-heavy-cpu
remote  stream-aggressive  offload-buffers    offload-buffers    hybrid-balanced   hybrid-balanced   hybrid-balanced
remote  offload-buffers    offload-buffers    hybrid-heavy-gpu   hybrid-heavy-gpu  hybrid-heavy-gpu  hybrid-heavy-gpu
full-gpu full-gpu          full-gpu           full-gpu           full-gpu          full-gpu          full-gpu
""".strip().splitlines()]


def decide(vram: float, ram: float, drives: int = 1) -> str:
    """The strategy for so many GB of VRAM and RAM; `drives` > 1 means striped or mirrored storage."""
    name = TABLE[bisect.bisect_right(VRAM_EDGES, vram)][bisect.bisect_right(RAM_EDGES, ram)]
    return "striped-mmap" if name == "mmap" and drives > 1 else name


def bucket(value: float, edges: tuple) -> str:
    """The interval of whole GB that the table distinguishes, as the model thinks it."""
    low = 0
    for edge in edges:
        if value < edge:
            return str(low) if edge - low == 1 else (f"below {edge}" if low == 0 else f"{low} to {edge - 1}")
        low = edge
    return f"{low} or more"


GPUS = {
    "RTX 3060": 12, "RTX 3070": 8, "RTX 3080": 10, "RTX 3090": 24, "RTX 4060": 8, "RTX 4060 Ti 16GB": 16,
    "RTX 4070": 12, "RTX 4070 Ti Super": 16, "RTX 4080": 16, "RTX 4090": 24, "RTX 5060 Ti 16GB": 16, "RTX 5070": 12,
    "RTX 5080": 16, "RTX 5090": 32, "RTX 2080 Ti": 11, "GTX 1080 Ti": 11, "GTX 1060": 6, "RTX 2060": 6,
    "RTX 6000 Ada": 48, "RTX A6000": 48, "RTX A4000": 16, "RTX A5000": 24, "A100 80GB": 80, "A100 40GB": 40,
    "H100": 80, "H200": 141, "L40S": 48, "L4": 24, "T4": 16, "P40": 24,
}

_UNITS = [" GB", "GB", " gb", "gb", " gigs", " gig", " gigabytes", "g", " GiB", " G", " Gb", "GiB"]


@dataclasses.dataclass(frozen=True)
class Machine:
    vram: int | None  # GB; None = not said
    ram: int | None
    drives: int = 1
    gpu: str = ""  # a card's name, when the user names the card instead of its memory

    @property
    def strategy(self) -> str:
        return decide(self.vram, self.ram, self.drives)


def random_vram(rng: random.Random) -> int:
    roll = rng.random()
    if roll < 0.22:
        return 0
    if roll < 0.58:
        return pick(rng, [2, 4, 6, 8, 8, 10, 11, 12, 12, 16, 16, 16, 20, 22, 24, 24, 24, 32, 40, 48, 80])
    if roll < 0.92:
        return 1 + int(rng.random() * 50)
    return 48 + int(rng.random() * 150)


def random_ram(rng: random.Random) -> int:
    roll = rng.random()
    if roll < 0.45:
        return pick(rng, [8, 16, 16, 24, 32, 32, 48, 48, 64, 64, 64, 96, 128, 128, 192, 256])
    if roll < 0.93:
        return 4 + int(rng.random() * 137)
    return 128 + int(rng.random() * 900)


def random_machine(rng: random.Random) -> Machine:
    vram, ram = random_vram(rng), random_ram(rng)
    drives = 1
    if rng.random() < (0.35 if decide(vram, ram) == "mmap" else 0.06):
        drives = 2
    gpu = ""
    if rng.random() < 0.14:
        gpu = pick(rng, list(GPUS))
        vram = GPUS[gpu]
    return Machine(vram, ram, drives, gpu)


# ---- the user's words ------------------------------------------------------------------------


_VRAM_LABELS = ["VRAM", "vram", "video memory", "video RAM", "gpu memory", "GPU memory", "graphics memory", "gpu ram", "card memory", "memory on the card", "memory of the gpu", "graphics card memory", "VRAM", "vram"]
_RAM_LABELS = ["RAM", "ram", "memory", "main memory", "system memory", "system RAM", "host memory", "normal RAM", "DDR5", "ddr4", "computer memory", "RAM", "ram", "RAM"]


def say_vram(rng: random.Random, m: Machine) -> str:
    if m.gpu:
        name = m.gpu if rng.random() < 0.6 else m.gpu.replace("RTX ", "").replace("GTX ", "").replace("16GB", "").strip()
        if name == m.gpu.replace("16GB", "").strip() and "16GB" in m.gpu:
            name = m.gpu
        if len(name) < 3 or (m.gpu.endswith("16GB") and "16GB" not in name):
            name = m.gpu
        if rng.random() < 0.2:
            name = name.lower()
        return expand(rng, f"(a |an |one |my |the |nvidia |)(geforce |)({name})( card| gpu||||)") if not name.startswith(("A", "H", "L", "T", "P")) else expand(rng, f"(a |an |one |my |the |nvidia |)({name})( card| gpu||||)")
    if m.vram == 0:
        return expand(rng, "(no gpu|no graphics card|no GPU|no video card|0 GB of VRAM|no vram|no dedicated graphics|only integrated graphics|just a cpu|only a cpu|0 gb vram|zero vram|without a gpu|no graphics card at all|CPU only|just the CPU|no discrete GPU|no cuda card|no graphics hardware|no gpu of any kind|gpu: none|vram: 0|VRAM 0 GB|a cpu and no gpu|no nvidia card|nothing but a cpu|onboard graphics only|no extra graphics card|zero gpus)")
    n = f"{m.vram}{pick(rng, _UNITS)}"
    if rng.random() < 0.4:
        return _labelled(rng, n, pick(rng, _VRAM_LABELS))
    return expand(rng, f"(a {n} gpu|a {n} card|a {n} graphics card|a gpu with {n}|a graphics card with {n}|{n} on the gpu|a card with {n}|{n} gpu|{n} card|a GPU with {n} of VRAM|a {n} nvidia card|an nvidia gpu with {n}|gpu: {n}|gpu {n}|a {n} video card|one {n} GPU|{n} on the card|a card of {n}|a gpu of {n}|a {n} AMD card|{n} in the graphics card|{n} for the gpu|graphics: {n}|card: {n})")


def _labelled(rng: random.Random, n: str, label: str) -> str:
    """A number with what it counts, in either order."""
    return expand(rng, f"({n} of {label}|{n} {label}|{n} of {label}|{n} {label}|{label} {n}|{label}: {n}|{label}={n}|{label} of {n}|{label} - {n}|{n} as {label}|{n} ({label})|{label} ({n})|{label}: about {n}|around {n} of {label}|{n}, {label})".replace("(" + label + ")", "[" + label + "]").replace("(" + n + ")", "[" + n + "]")).replace("[", "(").replace("]", ")")


def say_ram(rng: random.Random, m: Machine) -> str:
    n = f"{m.ram}{pick(rng, _UNITS)}"
    if rng.random() < 0.75:
        return _labelled(rng, n, pick(rng, _RAM_LABELS))
    return expand(rng, f"({n} in the machine|{n} in the computer|{n} next to the cpu|{n} on the board|{n} on the mainboard|{n}|a machine with {n}|{n} for the cpu)")


# Whole clauses, for descriptions in several sentences.
_GPU = "(gpu|GPU|card|graphics card|video card|nvidia card)"
_BOX = "(machine|computer|pc|PC|box|server|laptop|system|workstation|desktop)"
_VRAM_CLAUSES = [f"(the|my|its|our|this) {_GPU} (has|comes with|brings|holds|gives me|is equipped with|got|has got|shows|reports|features) N( of memory| of vram| of VRAM| of its own| on board|)", "(the|my|its|our|) LABEL (is|equals|comes to|amounts to|would be|has|shows|was) N", "(i have|we have|there is|i've got|it has|i bought|i use) (a|one) N " + _GPU,
                 f"(i have|we have|there is|it has|you find) a {_GPU} (with|of|that has) N( of memory| of vram|)", "(i have|we have|there are|i got) N of LABEL", "(as for|about|regarding) (the |)LABEL(:|,) N", f"N (is|are) on the {_GPU}", f"N (fit|go|fits) (on|into) (my|the) {_GPU}", "N is what the (gpu|card) has"]
_NO_GPU_CLAUSES = ["(i have|there is|it has|we have|the machine has|my pc has) no (gpu|graphics card|video card|GPU)( at all| here| in it|)", f"(it|the {_BOX}|my {_BOX}|this {_BOX}) (doesn't have|does not have|hasn't got|has not got|is missing|comes without|runs without|never had|works without) (a|any) (gpu|graphics card|GPU|video card)",
                   "(i|we) (do not have|don't have|never had|cannot use|sold|removed|can't afford|have to do without) (a|any|the|my) (gpu|graphics card|GPU|video card)", "(gpu|graphics card|vram|VRAM|card)(:|?) (none|no|nothing|not there|0|zero)", "the (gpu|card|graphics card) is (gone|broken|missing|dead|removed|not there)", "(the |)(vram|VRAM|video memory) is (zero|0|0 GB|not there)", "(everything|it all) (runs|must run|has to run) on the (cpu|CPU|processor)", "(there are|it has|i see) (no|zero|0) (gpus|graphics cards)"]
_RAM_CLAUSES = [f"(the|my|this|our) {_BOX} (has|comes with|is fitted with|got|has got|offers|holds|is equipped with|contains) N( of RAM| of ram| of memory| RAM| of main memory| ram|)", "(the|my|its|our|) LABEL (is|equals|comes to|amounts to|would be|has|was|measures) N", "N (of RAM|of ram|RAM|of memory|of main memory|of system memory) (are|is) (installed|built in|available|there|in it|in the machine|plugged in|inside)",
                "(there are|i have|we have|it has|i got|i've got) N (of |)LABEL", "(as for|about|regarding) (the |)LABEL(:|,) N", "(i have|we have|it comes with|it has|there are) N of LABEL", "N is what (the machine|it) has (as|in) (RAM|main memory)", "N of LABEL (too|as well|besides|on top|also)"]


def _clause(rng: random.Random, templates: list[str], amount: int | None, labels: list[str]) -> str:
    text = expand(rng, pick(rng, templates))
    return text.replace("LABEL", pick(rng, labels)).replace("N", f"{amount}{pick(rng, _UNITS)}").strip() if amount is not None else text


def describe(rng: random.Random, m: Machine) -> str:
    """The machine in clauses, with or without what joins them."""
    if m.gpu:
        card = say_vram(rng, m)
        vram = pick(rng, [card, f"i have {card}", f"there is {card}", f"the gpu is {card}", f"i bought {card}", f"my card is {card}", f"it has {card}", f"{card} is in it", f"graphics: {card}"])
    elif m.vram == 0:
        vram = _clause(rng, _NO_GPU_CLAUSES, None, [])
    else:
        vram = _clause(rng, _VRAM_CLAUSES, m.vram, _VRAM_LABELS)
    parts = [vram, _clause(rng, _RAM_CLAUSES, m.ram, _RAM_LABELS)]
    if rng.random() < 0.45:
        parts.reverse()
    drives = say_drives(rng, m)
    if drives:
        parts.append(pick(rng, ["there are ", "with ", "storage: ", "disks: ", "on ", ""]) + drives)
    return pick(rng, [". ", ", ", " and ", "; ", ", and ", " but ", ". ", " / ", ", whereas ", "; and ", " - ", " | ", ". also, ", ", plus ", ". then "]).join(parts)


def say_drives(rng: random.Random, m: Machine) -> str:
    if m.drives > 1:
        return expand(rng, "(two NVMe drives|two nvme drives|several drives|a raid 0|raid0|RAID 0 storage|three SSDs|2 ssds|two drives|four drives in raid 0|striped drives|mirrored drives|an nvme raid|several nvme drives|a stripe of three disks|more than one drive|a raid of ssds|drives in a raid)")
    if rng.random() < 0.16:
        return expand(rng, "(an NVMe drive|one nvme|an SSD|a single drive|one drive|a fast ssd|nvme|a hard disk|an old hdd|a sata ssd)")
    return ""


def say_machine(rng: random.Random, m: Machine) -> str:
    """The parts in any order, joined as people join them."""
    parts = [say_vram(rng, m), say_ram(rng, m)]
    bare = not any(w in parts[1].lower() for w in ("ram", "memory", "ddr", "machine", "computer", "cpu", "board"))
    if rng.random() < 0.42:
        parts.reverse()
        if bare:
            parts[0] += " of ram"
    elif bare and rng.random() < 0.7:
        parts[1] += pick(rng, [" of RAM", " ram", " RAM", " of memory"])
    drives = say_drives(rng, m)
    if drives:
        parts.append(drives)
    joint = pick(rng, [" and ", ", ", " with ", " and ", " plus ", " / ", " + ", ", and ", " & ", " alongside ", " as well as ", "; ", " beside ", " combined with ", " in addition to "])
    if len(parts) == 3:
        return f"{parts[0]}{pick(rng, [', ', ' and ', ', '])}{parts[1]} {pick(rng, ['and', 'with', 'plus', 'on'])} {parts[2]}"
    return joint.join(parts)


# What is asked before or after a description.
_WANT = ["(which|what) (strategy|one|mode|loading strategy|of the strategies) (fits|is it|should i use|do i use|is right|is best|suits me|do i need|is mine|applies|works|is suitable|would be best|do you see|comes out|do you take)( here| then| now| for that|)?", "(what|which) (do you|would you|does lade) (recommend|suggest|use|take|choose|advise|say|propose|prefer)( here| then| there| in that case|)?",
         "(what|how) (now|next|then)?", "(strategy|best strategy|which one|what fits|the best one|mode|the right strategy|which way|any idea|what is best|what works)?", "(tell me|say|name|find|give me|show me|determine|suggest|choose) (the|a|the best|a good|the right|my|a fitting) strategy( for it| for that| for this machine|)(.|, please.|!|)", "how (should|do|can|would|will|must) (i|we|it|lade|one) (load|run|start|hold|keep|store) (it|the model|the 80b|this|the weights|qwen3-next)( there| here| then| best|)?",
         "(where|how) (do|will|should|would) the (weights|experts|shards) (go|live|be put|end up|be kept)( then| there|)?", "(does|will|would|can) (it|that|this|lade|the model|the 80b) (work|run|fit|do|be enough)( there| then| with that|)?", "(is that|is this) (enough|ok|good enough|sufficient|fine|too little)( for the model| for the 80b|)?", "what (can|could|should|must|shall) (i|we|one) (do|use|take|choose|expect|select|type)( with it| with that| there| here|)?", "help me (choose|decide|with the strategy|to find the strategy)(.|, please.|)", "i (need|want|would like|look for|am looking for) (a|the|the best|the fitting) strategy(.|, please.|)"]


def question(rng: random.Random, m: Machine) -> str:
    """One question for the strategy of a machine, in one of two grammars."""
    if rng.random() < 0.5:
        frame = expand(rng, pick(rng, _ASK))
        return re.sub(r"\bM\b", lambda _: say_machine(rng, m), frame)
    body = describe(rng, m) if rng.random() < 0.7 else say_machine(rng, m)
    if rng.random() < 0.15:
        body = pick(rng, ["my setup", "this box", "a friend's pc", "the machine", "my new laptop", "the server at work", "our node", "a used workstation", "what i have here", "the specs", "hardware"]) + pick(rng, [" (", " [", ": "]) + body
        body += ")" if "(" in body.split(" ")[-1] or " (" in body[:26] else "]" if " [" in body[:26] else ""
    want = expand(rng, pick(rng, _WANT))
    roll = rng.random()
    if roll < 0.6:
        return body + pick(rng, [". ", ", ", ": ", " - ", "; ", ", so ", ". so ", " ", ". now, ", "? ", ". ok, "]) + want
    if roll < 0.85:
        return want.rstrip("?.!") + pick(rng, ["? ", ": ", ", ", " if ", " when ", " - ", " given that ", ", because ", ". ", "? i mean: "]) + body + pick(rng, ["", ".", "?"])
    return body + pick(rng, ["", ".", "?", "!"])


_ASK = [
    "i have M. which strategy should i use?", "i have M. (which|what) strategy (fits|is right|is best|do you recommend|do i need|would you pick)?",
    "(which|what) strategy (should i use|fits|is best|do you recommend|is right|would you use|works|is good|suits|do i take) (for|with|on|if i have|when i have) M?",
    "my (machine|computer|pc|laptop|box|workstation|server) has M. (which|what) strategy(?| fits?| should i use?| do i use?| is best?| now?)",
    "M(?|.|, which strategy?|. which strategy?|. what now?|: which strategy?|, what strategy?)",
    "what (should|do|can) i (use|choose|pick|take) (with|for|on) M?", "(how should|how do|how can) i (load|run) the model (with|on) M?",
    "(recommend|suggest|choose|pick|name|tell me|give me) (a|the|me the|me a) (best |right |)strategy for M(.|)",
    "there (is|are) M in (my|this) (machine|computer|pc|box)(.| which strategy?|, which strategy?|. what fits?)",
    "i (own|got|use|bought|run lade on) (a machine with |)M. (what|which strategy) (do you suggest|would be best|is suitable|should i choose|is it)?",
    "(best|right|recommended|good) strategy for M(?|)", "strategy for M(?|)", "(does|will|can) (lade|the model|it|the 80b) (run|work) (with|on) M?",
    "with M, (which|what) strategy (is best|should i use|fits|is right|do i use|is the best choice)?", "which (one|of the strategies) (is best|fits|should i use) (for|with|on) M?",
    "(given|assuming|suppose i have|say i have|let's say i have|imagine i have) M, (which|what) strategy (fits|is right|should i use|is best)?",
    "can i run (it|the 80b|the model|lade|qwen3-next) (with|on) M?", "(we|i) have M here. what (strategy|mode) (should we use|is best|do you suggest)?",
    "help me choose a strategy: M(.|)", "is M enough?", "what about M?", "and (with|for|on) M?", "(here is|this is) my (machine|hardware|setup): M(.|)", "(hardware|machine|setup|specs): M(.|)",
    "how (will|would|does) lade (place|load|put) the weights (on|with|for) M?", "what is (the best|the right) (way|strategy) (to run|for running|to load) (the model|it|qwen3-next) (on|with) M?",
]
_ASK_NO_MACHINE = ["(which|what) strategy (should|do|can|would) (i|you|we) (use|choose|pick|take|need|recommend)?", "(which|what) strategy (fits|is best|is right|suits)( for| to|) (me|my machine|my computer|my pc|us)?", "(recommend|suggest|choose|pick|find) (a|the|me a) (right |good |best |)strategy(.| for me.| for my machine.|)",
                   "(how should|how do) i load the model( on my machine| here| best|)?", "help me (choose|find|pick|select) (a|the right|the best) strategy(.|)", "i (need|want) (a|the right|the best) strategy( for my machine|)(.|)", "(what|which) (one|strategy) is (best|right) for (me|my machine)?"]
_ASK_VRAM_ONLY = ["i have V(.|. which strategy?|, which strategy?|. what should i use?)", "(which|what) strategy (fits|for|with|is best for|should i use with) V?", "my (machine|computer|pc) has V(.|. which strategy?)", "V. (which|what) strategy (fits|should i use)?", "strategy for V?", "(i only know|all i know is|i can tell you|it says) V(.| about my machine.|, more i don't know.)", "V is what i have(.|, what fits?)", "with V, (which|what) strategy?", "(is|would) V (enough|sufficient|be ok)( for the model| for the 80b|)?", "(what about|what fits|what do you recommend for|how about) V?", "my (pc|laptop|machine|server) (comes with|offers|got) V(.|, what do you suggest?|. what is best?)"]
_FOLLOW = {
    "vram": ["(and|what|what if|and what) (about|if i had|if i have|with) V(?| instead?)", "(what if|and if|suppose) (i had|i have|i buy|i get|there is|there were|i use) V(?| instead?| then?)", "and V?", "now with V(?|)", "(i|we) (upgrade|change) the (gpu|card) to V(.|)"],
    "ram": ["(and|what|what if|and what) (about|if i had|if i have|with) R(?| instead?)", "(what if|and if|suppose) (i had|i have|i buy|i get|there is|there were) (only |just |)R(?| instead?| then?)", "and (with |)R?", "now with R(?|)", "(i|we) (upgrade|change) (the memory |)to R(.|)"],
}
_REPLY_RAM = ["R(.|!| i believe.| in total.| here.)", "(oh, |well, |ok, |yes, )(i have |it has |there are |)R(.|)", "(the machine|it|my pc|this one|the box) (has|got|comes with|shows|offers) R(.|)", "R(.|)", "(i have|it has|there is|there are|about|it is|we have) R(.|)", "R, i think(.|)", "(the ram is|ram is|memory is) R(.|)".replace("R", "R")]
_REPLY_VRAM = ["V(.|!| i believe.| in it.| here.)", "(oh, |well, |ok, |yes, )(i have |it has |there is |)V(.|)", "(the machine|it|my pc|this one|the box) (has|got|comes with|shows|offers) V(.|)", "V(.|)", "(i have|it has|there is|we have|it is) V(.|)", "V, i think(.|)"]


# ---- the model's words -----------------------------------------------------------------------


def vram_words(m: Machine) -> str:
    return "no GPU" if m.vram == 0 else f"{m.vram} GB of VRAM"


def thoughts(m: Machine) -> str:
    """The steps to the row: read both numbers, name both intervals, name the row."""
    lines = []
    if m.gpu:
        lines.append(f"The {m.gpu} has {m.vram} GB of VRAM.")
    lines.append(f"VRAM {m.vram} GB, so {bucket(m.vram, VRAM_EDGES)}.")
    lines.append(f"RAM {m.ram} GB, so {bucket(m.ram, RAM_EDGES)}.")
    if m.drives > 1:
        lines.append("Several drives.")
    lines.append(f"That row is {m.strategy}.")
    return " ".join(lines)


_REASONS = {
    "full": "because the 43.2 GB of weights fit", "hybrid": "because VRAM alone cannot hold the 43.2 GB of weights",
    "cpu": "because RAM holds the 43.2 GB of weights", "stream": "because VRAM has room for the base and only few experts",
    "offload": "because neither VRAM nor RAM alone holds the 43.2 GB of weights", "mmap": "because RAM is too small for the 43.2 GB of weights",
    "cached": "because RAM is too small for the 43.2 GB of weights", "striped": "because RAM is too small for the 43.2 GB of weights",
}


def answer(rng: random.Random, m: Machine) -> str:
    name = m.strategy
    where = FACTS[name][0]
    have = f"{vram_words(m)} and {m.ram} GB of RAM"
    if name == "remote":
        return expand(rng, f"With {have} no local strategy fits: at least 8 GB of RAM (are|is) needed. Use `remote`, where {where}.")
    drives = " and several drives" if name == "striped-mmap" else ""
    return expand(rng, f"With {have}{drives}, (use|take) `{name}`: {where}, {_REASONS[name.split('-')[0]]}.")


def why_not_full(m: Machine) -> str:
    if m.strategy == "full-gpu":
        return f"You can use it: `full-gpu` needs about 48 GB of VRAM, and you have {m.vram} GB."
    return f"`full-gpu` needs about 48 GB of VRAM for the 43.2 GB of weights, and you have {vram_words(m)}."


WHY_NOT = ["why not full-gpu?", "(can|could|may) i (use|take|run) full-gpu( too| instead| there| as well|)?", "why not (put |keep |)everything (in|into) vram?", "what about full-gpu?", "is full-gpu possible( too| there|)?"]
WHY = ["why(?| that one?| this one?| is that?| so?| that?)", "(can you |please |)explain( that| why|)(.|?|)", "(what is|what's) the reason(?|)", "why (should i use|do you recommend|not another one|this strategy)( that| it| this|)?", "how come?", "are you sure?"]
COMMAND = ["(how do i|how can i|how to|how should i) (use|start|select|set|run|try) (it|that|this|that strategy)?", "(what|which) (command|option) is (that|it)?", "what do i type( for that| then| now|)?", "what is the command( for that|)?", "how do i start( lade with that|)( then| now|)?"]


def why(m: Machine) -> str:
    if m.strategy == "remote":
        return f"Because {m.ram} GB of RAM are less than the 8 GB that the smallest local strategy needs."
    return f"Because `{m.strategy}` is for {FACTS[m.strategy][1]}, and you have {vram_words(m)} and {m.ram} GB of RAM. That is the nearest row."


def command(m: Machine) -> str:
    return f"Start `lade -m MODEL --strategy {m.strategy}`. With `auto` lade picks it by itself."
