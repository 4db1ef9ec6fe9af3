"""The held-out questions: wordings, frames, names and things that the training corpus never uses.

Every case says what a right answer is. `cases(seed)` is the whole set; nothing here may be copied
into the corpus (`evaluate.py` counts the questions that occur in the training set word for word).
"""

from __future__ import annotations

import dataclasses
import random

import numbers_units as units
import refusals
from strategy import GPUS, Machine, decide, random_ram, random_vram
from topics_lade import LADE
from topics_strategies import FACTS, PAIRS
from topics_talk import SELF, TALK
from topics_use import COMMANDS, ERRORS


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str  # machine, topic, talk, sum, unit, refusal, follow, name
    turns: tuple[str, ...]  # user turns; answers in between are the model's own
    must: str  # pattern of a right last answer
    strategy: str = ""  # for machines: the right name


_MACHINES = [
    "On this workstation there is a graphics card with {v} GB of memory next to {r} GB of RAM; tell me the strategy that suits it.",
    "{r} GB system RAM here, and the GPU carries {v} GB. Your recommendation?",
    "My rig: {v}GB VRAM, {r}GB RAM. Strategy please!",
    "If somebody owns {v} GB of VRAM plus {r} GB of RAM, which strategy would lade go for?",
    "Could you work out the best strategy? VRAM is {v} GB while RAM is {r} GB.",
    "we run a box holding {r} gigs of ram along with a {v} gig card, what would you go with",
    "Looking for advice: {v} GB VRAM / {r} GB RAM.",
    "Considering {v} gigabytes of video memory and {r} gigabytes of main memory, what is your pick?",
    "i just bought a pc ({v} GB vram, {r} GB ram), how would lade place the model there?",
    "Hi lade! {v} GB on my GPU, {r} GB of RAM. What's your suggestion?",
    "Tell me please which of your strategies goes well together with {v} GB VRAM and {r} GB RAM.",
    "The server got {r} GB RAM installed, its GPU offers {v} GB VRAM. Choose one for me.",
    "what would fit a {v}gb gpu when the ram is {r}gb",
    "I am sitting in front of a {v} GB VRAM machine; it has {r} GB of memory. Where do I go from here?",
    "How do you load the 80B if VRAM = {v} GB and RAM = {r} GB?",
    "Which loading mode makes sense at {v} GiB of VRAM and {r} GiB of RAM?",
    "please advise: gpu memory {v} gb, system memory {r} gb",
    "Would you kindly pick a strategy? I have {r} GB of RAM together with {v} GB of VRAM.",
]
_NO_GPU = [
    "There is no GPU in my computer, but it has {r} GB of RAM. Which strategy?",
    "cpu only box, {r} gb ram - your pick?",
    "Without any graphics card and with {r} GB of RAM, what do you propose?",
    "My old server lacks a GPU. It does have {r} GB of RAM. What would lade choose?",
    "{r} gigs of RAM and not a single GPU, which strategy do I go for?",
    "I don't own a graphics card, the memory is {r} GB. Which one is for me?",
]
_CARDS = [
    "My gaming PC has an {g} and {r} GB of RAM, so which strategy is it?",
    "got a {g} plus {r} gb ram, which strategy now?",
    "I put a {g} next to {r} GB of RAM. What do you advise?",
    "How would the model be loaded by a {g} together with {r} GB of RAM?",
]
_DRIVES = [
    "I don't have a GPU, only {r} GB of RAM, but two NVMe drives in RAID 0. What would you pick?",
    "{r} GB RAM, no graphics card, several drives striped together: which strategy?",
]

# The choices that the project's design fixes, as (VRAM, RAM, drives).
FIXED = [(48, 64, 1), (80, 128, 1), (26, 56, 1), (32, 64, 1), (22, 64, 1), (16, 72, 1), (16, 64, 1), (0, 60, 1), (0, 90, 1), (0, 160, 1),
         (10, 40, 1), (10, 56, 1), (14, 40, 1), (0, 24, 1), (0, 40, 1), (0, 16, 2)]

# key -> held-out wordings
_TOPICS = {
    "lade": ["Give me a short introduction to lade.", "So what kind of software is lade?", "Somebody installed lade here, what is it good for?"],
    "name": ["Is there a story behind the name lade?", "For what reason was it named lade?"],
    "idea": ["How is it possible that lade runs on little hardware, inside?", "Walk me through how lade works internally."],
    "strategy": ["In one sentence, what do you mean by a strategy?", "What role do strategies play in lade?"],
    "list": ["Could you list every strategy that exists?", "Show me the names of all the strategies, please.", "Which strategies can I choose from in lade?"],
    "models": ["Name the models that lade is able to run.", "Is lade able to run Llama?"],
    "size": ["How many gigabytes is the 80B on disk?", "What size does the full model have?"],
    "expert": ["What role do the experts play?", "How many experts work on a token?", "I keep reading about experts, what are they?"],
    "shard": ["Why are there several shards?", "What exactly do these loading bars show?"],
    "base": ["What counts as the base of the model?"],
    "quant": ["What is meant by int4-mixed?", "Why would one quantize a model?"],
    "kv": ["How long may a conversation get?", "Please explain to me what the KV cache is."],
    "deltanet": ["Which layers are inside Qwen3-Next?", "What's a gated DeltaNet layer?"],
    "mtp": ["What is the idea of multi-token prediction?"],
    "thinking": ["What is this thinking text that I see?", "How can the thinking be hidden?", "Why do you write down thoughts first?"],
    "whileload": ["Can I already type while the shards are loading?", "Is it necessary to wait for the load to finish?"],
    "speed": ["How many tokens per second should I hope for?", "Will the 80B be fast on my computer?"],
    "slow": ["Answers come so slowly, why is that?", "What makes lade faster?"],
    "formats": ["Which kinds of model files does lade understand?", "Would a GGUF file work?"],
    "gpu": ["Is it fine to have no GPU at all?", "Must there be a graphics card?"],
    "vram": ["In what way does VRAM differ from RAM?", "What do people mean by VRAM?"],
    "ram": ["What is meant by main memory?"],
    "gauges": ["What do those gauges on the screen tell me?", "Where on the screen is the memory shown?"],
    "privacy": ["Does anything I type leave this computer?", "Who gets to read my conversations?", "Will my data be uploaded?"],
    "storage": ["Where on disk are my conversations?", "If lade crashes, is my chat lost?"],
    "remote": ["Is lade able to use a model on another server?", "Could vLLM run the model for lade?"],
    "requirements": ["What hardware would I need for the real model?", "What's the minimum RAM for lade?"],
    "fastest": ["Which of the strategies is fastest?", "With which strategy is lade at its quickest?"],
    "slowest": ["Which of the strategies is slowest?"],
    "install": ["How is lade installed?", "What steps are needed to build lade?"],
    "language": ["In what language was lade written?", "Under which licence is lade?"],
    "change": ["How can another strategy be selected?", "Where do I set the strategy?"],
    "auto": ["How does lade decide on a strategy?", "Does lade pick the strategy on its own?"],
    "cmd-chat": ["What would I use lade chat for?"],
    "cmd-run": ["How can a script ask lade one question?", "What does lade run print?"],
    "cmd-logits": ["Where do I get the logits from?", "What does lade logits give me?"],
    "cmd-tokenize": ["How would I count the tokens in a text?", "Explain the tokenize command."],
    "cmd-plan": ["What will lade plan show me?", "How can I see beforehand which strategy fits?"],
    "cmd-inspect": ["What does the inspect command tell me?", "How can I look inside a checkpoint?"],
    "cmd-pack": ["What is lade pack good for?", "How is a packed copy of the model made?"],
    "cmd-bench": ["How is the speed measured?", "What will lade bench measure?"],
    "cmd-history": ["How can I view the list of old conversations?", "Where can I see my earlier chats?"],
    "cmd-search": ["How can I search through my conversations?"],
    "cmd-export": ["How can a conversation be exported?", "I want a file with this conversation, how?"],
    "cmd-delete": ["How can a conversation be deleted?", "Please delete this chat."],
    "cmd-doctor": ["What does lade doctor tell me?", "How can I check which hardware was found?"],
    "cmd-models": ["What does lade models print?", "How can I see which models are installed?"],
    "cmd-pull": ["How is a real model downloaded?", "What does lade pull do exactly?"],
    "open": ["How do I open the big model instead of you?", "How can I load a real model now?"],
    "commands": ["Which commands does the lade program have?"],
    "help": ["Which slash commands are there?", "I need some help with the chat commands."],
    "s-new": ["How can a new conversation be started?", "Tell me what /new is for."],
    "s-resume": ["How can I continue my last conversation?", "Tell me what /resume is for."],
    "s-rename": ["How can the conversation get another name?"],
    "s-retry": ["Can I have another try at that answer?", "Tell me what /retry is for."],
    "s-edit": ["How can the previous question be corrected?"],
    "s-copy": ["How do I get your answer into the clipboard?"],
    "s-theme": ["Can I have a light theme?", "How can the colours be changed?"],
    "s-set": ["How can the temperature be changed?", "And what is the temperature setting for?"],
    "s-stats": ["What does /stats show?"],
    "s-quit": ["How can I get out of lade?", "How is lade closed?"],
    "stop": ["How can I interrupt an answer?", "Which key cancels the answer?"],
    "keys": ["Which keyboard shortcuts exist?", "How is scrolling done?"],
    "multiline": ["Is it possible to paste several lines?"],
    "o-gpu": ["How can lade be told to use less VRAM?"],
    "o-cpu": ["How can lade be told to use less RAM?"],
    "o-nogpu": ["How can I make lade ignore the GPU?"],
    "o-context": ["How can the context be made longer?"],
    "o-threads": ["How many threads will lade use?"],
    "o-greedy": ["How do I always get the same answer?"],
    "o-home": ["Where does lade keep its settings?"],
    "o-exit": ["What exit codes can lade return?"],
    "e-shard": ["lade complains that a shard is missing", "One shard of my model is missing, what can be done?"],
    "e-trunc": ["lade told me that the shard is truncated"],
    "e-notmodel": ["lade told me that this directory is not a model"],
    "e-arch": ["lade complains about an unsupported architecture"],
    "e-memory": ["lade told me there is not enough memory", "It stopped because the model is larger than memory."],
    "e-vram": ["The GPU ran out of VRAM, what helps?"],
    "e-nogpu": ["Why doesn't lade find my GPU?"],
    "e-dbnew": ["lade complains: the database is newer"],
    "e-terminal": ["lade complains that the terminal is too small"],
    "e-tokenizer": ["lade complains about tokenizer.json"],
    "e-packing": ["lade complains about an unknown packing"],
    "e-dtype": ["lade complains that a tensor has the wrong shape"],
    "e-disk": ["There is no space left on the disk, what now?"],
    "e-net": ["My download failed, can it continue?"],
    "e-noise": ["The model only talks nonsense, what can be done?"],
    "who": ["Who exactly are you?", "May I ask what you are?", "Am I talking to a machine?"],
    "can": ["What sort of things can you do?", "With what can you help me?"],
    "limits": ["What are you not able to do?", "How smart are you really?"],
    "bigness": ["How many parameters are inside you?"],
    "made": ["On what data were you trained?", "Who is your creator?"],
    "other-ai": ["Are you ChatGPT in disguise?", "Is this the Claude model?"],
    "feel": ["Do you feel anything at all?"],
    "hello": ["Hello there, lade!", "hi small model", "Good morning to you!", "Hey, how nice to see you"],
    "howareyou": ["And how are you doing today?", "hey how are you feeling", "How's everything going?"],
    "thanks": ["Thank you so much for the help!", "ok thanks, that was great", "Many thanks to you."],
    "bye": ["Goodbye then, see you tomorrow!", "ok bye for now", "I have to go now, good night"],
    "joke": ["Do you happen to know a good joke?", "please tell us a joke", "One more joke, please!"],
    "praise": ["You are really great!", "wow, that is awesome"],
    "blame": ["That answer was wrong.", "You are really stupid!"],
    "ok": ["ok, got it", "alright then", "I see, interesting"],
    "sorry": ["Oh, sorry about that."],
    "test": ["just a test", "Testing, testing"],
    "bored": ["I am so bored today."],
    "happy": ["I am very happy today!"],
    "foreign": ["Can you talk to me in German?", "Hola, como estas?", "Guten Morgen!"],
    "meaning": ["So what is the meaning of life?"],
}

_SUMS = [("+", "Please add {a} and {b} for me."), ("+", "What do I get when I add {a} to {b}?"), ("+", "{a} plus {b} gives what?"), ("+", "Do you know what {a} + {b} is?"),
         ("-", "What remains when I take {b} from {a}?"), ("-", "{a} minus {b} gives what?"), ("-", "Do you know what {a} - {b} is?"), ("-", "Please work out {a} - {b}."),
         ("*", "Do you know what {a} times {b} is?"), ("*", "{a} times {b} gives what?"), ("*", "Please multiply {a} with {b} for me.")]
_UNITS = [("How many megabytes would {n} GB be?", "{n}000 MB", (2, 3, 5, 12, 40)), ("Please turn {n} GB into MB.", "{n}000 MB", (4, 7, 16)),
          ("How many GiB do {n} GB make?", None, (16, 24, 64)), ("In what way do GB and GiB differ?", r"1\.074", (0,)), ("Is one GiB equal to one GB?", r"1\.074", (0,)),
          ("How many MiB does one GiB have?", "1024 MiB", (0,)), ("What is meant by a gibibyte?", r"1\.074", (0,))]
_REFUSALS = ["What can you tell me about X?", "I would love to hear something about X.", "Please give me some facts on X.", "Do you have an opinion on X?", "Who was the first to study X?", "Write some lines about X.", "For my homework I need to know everything on X.", "Is it true that X changed the world?"]
_THINGS = ["Alexander the Great", "the Eiffel Tower", "Portugal", "the saxophone", "pancakes", "the Vikings", "tsunamis", "Saturn", "kangaroos", "the Titanic", "opera", "skiing", "Kotlin", "vaccines", "the printing press", "bagpipes"]
_REFUSALS_FIXED = ["Could you write a Python script for me?", "What's the weather going to be tomorrow?", "Please translate this sentence into French.", "Which time is it at the moment?", "What is the capital of Sweden?", "Tell me a long story about a princess.", "Who won the last election?",
                   "Can you book a flight for me?", "Write an email to my landlord.", "How do I repair a bicycle?", "Please solve this equation for me.", "Recommend a good movie.", "What should we have for dinner?", "Please sing a nice song for me!"]
_NAMES = ["Sebastian", "Miriam", "Tobias", "Nadia", "Gustav", "Elena", "Kofi", "Aisha"]
_FOLLOWS = [
    (("I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?", "And why exactly?"), "`hybrid-heavy-cpu`.*16 GB"),
    (("I have 16 GB of VRAM and 64 GB of RAM. Which strategy should I use?", "So what happens if I have 20 GB of VRAM instead?"), "`hybrid-balanced`"),
    (("Which strategy for 12 GB of VRAM and 32 GB of RAM?", "And if the RAM grows to 64 GB of RAM?"), "`stream-cached`"),
    (("No GPU and 64 GB of RAM, which strategy?", "How do I use that one?"), "--strategy cpu-tight"),
    (("I have 24 GB of VRAM and 64 GB of RAM. Which strategy?", "Is full-gpu not possible?"), "48 GB"),
    (("Which strategy is best for me?", "There is a GPU with 16 GB of VRAM and there are 64 GB of RAM."), "`hybrid-heavy-cpu`"),
    (("I have a card with 24 GB of VRAM. Which strategy?", "The RAM is 64 GB."), "`hybrid-heavy-gpu`"),
    (("I have 96 GB of RAM, which strategy?", "There is no GPU."), "`cpu-standard`"),
    (("hello", "what is lade exactly?"), "terminal"),
    (("Hi!", "Do you know what 47 + 38 is?"), "85"),
    (("What is lade?", "I want to hear more."), "pieces"),
    (("What is an expert?", "ok, tell me a bit more"), r"1\.7 MB"),
    (("What is 8 + 9?", "Thank you, and which strategy for 8 GB of VRAM and 32 GB of RAM?"), "`stream-aggressive`"),
    (("Tell me a joke.", "Very good! Who are you?"), "(?i)lade"),
    (("What is mmap?", "What does cached-mmap do instead?"), "`cached-mmap`"),
]


def cases(seed: int = 77) -> list[Case]:
    rng = random.Random(seed)
    out: list[Case] = []

    def machine(frame: str, m: Machine) -> None:
        name = decide(m.vram, m.ram, m.drives)
        out.append(Case("machine", (frame.format(v=m.vram, r=m.ram, g=m.gpu),), f"`{name}`", name))

    for vram, ram, drives in FIXED:
        frames = _DRIVES if drives > 1 else _NO_GPU if vram == 0 else _MACHINES
        machine(frames[int(rng.random() * len(frames))], Machine(vram, ram, drives))
    for frame in _MACHINES * 6:
        machine(frame, Machine(max(1, random_vram(rng)), random_ram(rng)))
    for frame in _NO_GPU * 4:
        machine(frame, Machine(0, random_ram(rng)))
    for frame in _CARDS * 5:
        gpu = list(GPUS)[int(rng.random() * len(GPUS))]
        machine(frame, Machine(GPUS[gpu], random_ram(rng), 1, gpu))
    for frame in _DRIVES * 2:
        machine(frame, Machine(0, 8 + int(rng.random() * 20), 2))
    topics = {t.key: t for t in LADE + COMMANDS + ERRORS + SELF + TALK}
    talk = {t.key for t in TALK}
    for key, questions in _TOPICS.items():
        for question in questions:
            out.append(Case("talk" if key in talk else "topic", (question,), topics[key].must))
    for name, (where, _) in FACTS.items():
        out.append(Case("topic", (f"What exactly happens with the {name} strategy?",), f"`{name}`.*{where[:14]}"))
        out.append(Case("topic", (f"Which machine would {name} suit?",), f"`{name}`"))
    for first, second, _ in PAIRS:
        out.append(Case("topic", (f"In what way do {first} and {second} differ?",), f"`{first}`.*`{second}`|`{second}`.*`{first}`"))
    for sign, frame in _SUMS * 5:
        top = 13 if sign == "*" else 100
        a, b = sorted((int(rng.random() * top), int(rng.random() * top)), reverse=True)
        result = {"+": a + b, "-": a - b, "*": a * b}[sign]
        out.append(Case("sum", (frame.format(a=a, b=b),), rf"(?<!\d){result}\.$"))
    for frame, must, numbers in _UNITS:
        for n in numbers:
            out.append(Case("unit", (frame.format(n=n),), must.format(n=n) if must else units._GIB[n]))
    for index, frame in enumerate(_REFUSALS * 3):
        out.append(Case("refusal", (frame.replace("X", _THINGS[(5 * index) % len(_THINGS)]),), refusals.MUST))
    for question in _REFUSALS_FIXED:
        out.append(Case("refusal", (question,), refusals.MUST))
    for name in _NAMES:
        out.append(Case("name", (f"Hello! My name is {name}.",), name))
        out.append(Case("name", (f"Hi, I'm {name}.", "Do you still know my name?"), name))
    for turns, must in _FOLLOWS:
        out.append(Case("follow", turns, must))
    return out


if __name__ == "__main__":
    everything = cases()
    for case in everything:
        print(case.kind, " || ".join(case.turns), "=>", case.must, sep="\t")
