"""Whole conversations: turns of every kind in any order, with what follows from what was said."""

from __future__ import annotations

import dataclasses
import random
import re

import heldout
import numbers_units as units
import refusals
import strategy
import topics_strategies
from text import capitalize, expand, pick, say
from topics_lade import LADE, Topic
from topics_more import extend
from topics_talk import SELF, TALK
from topics_use import COMMANDS, ERRORS
from wording import humanize, inflect, invented


@dataclasses.dataclass
class Turn:
    user: str
    think: str
    answer: str


@dataclasses.dataclass
class State:
    """What a follow-up may refer to."""

    machine: strategy.Machine | None = None
    topic: Topic | None = None
    name: str = ""
    missing: str = ""  # "ram" or "vram" when the model has just asked for it


NAMES = """Anna|Ben|Carla|David|Emma|Felix|Greta|Hugo|Ida|Jan|Kim|Leo|Mia|Noah|Olga|Paul|Quinn|Rosa|Sam|Tina|Uma|Victor|Wendy|Xavier|Yara|Zoe|Alice|Bob|Chris|Diana|Erik|Fatima|George|Helen|Ivan|Julia|Karl|Lisa|Maria|Nina|Oscar|Peter|Rachel|Simon|Tom|Ursula|Vera|Walter|Yusuf|Amir|Bruno|Clara|Daniel|Eva|Frank|Hannah|Igor|Jonas|Kate|Lukas|Martin|Nora|Otto|Petra|Robert|Sofia|Theo|Wei|Ali|Omar|Priya|Raj|Mei|Ken|Yuki|Lars|Ingrid|Sven|Pablo|Lucia|Marco|Giulia|Pierre|Marie|Jack|Sarah|Mike|John|Jane|Mary|Mark|Luke|Max|Moritz|Ella|Finn|Liam|Ava|Lena|Tim|Nick|Andy|Joe|Steve|Linus|Ada|Grace|Alan|Dennis|Brian""".split("|")
_NAME_IS = ["(my name is|my name's|my first name is|the name is|people call me|everybody calls me|i go by|they call me) X(.|!|, by the way.|)", "(i am|i'm) X(.|, nice to meet you.|, hello.|!|)", "(hi|hello|hey|good morning|good evening)(,|!|.| there,| lade,|) (my name is|i am|i'm|this is|it's|here is) X(.|!|, how are you?|)", "(call me|you can call me|please call me|you may call me|just call me) X(.|)",
            "X is my (name|first name|nickname)(.|!)", "(this is X|X here)(.|!| speaking.| again.|)", "(i would like to introduce myself|let me introduce myself)(:|.) (i am|i'm|my name is) X(.|)", "(please remember|note|keep in mind)(,| that) (i am|i'm|my name is|i am called) X(.|)"]
_NAME_ASK = ["(what is|what's|do you know|tell me|do you remember|can you say|have you kept|did you note|say) my name( again| now|)?", "who am i( again|)?", "do you (know|remember) (who i am|what i am called|how i am called|what my name is)?", "what am i called?", "how am i called?", "(what|which) name did i (give|tell you|say)?", "(what did i say|what was|remind me what) my name( is| was|)?"]
_MORE = ["(tell|say|explain) (me |)more(.|)", "more(.| please.| details.|?|)", "(go on|continue|elaborate|and then|what else|anything else)(.|?|)", "can you (say|tell me) more( about (it|that)|)?", "(in more detail|details|more information)(?|.| please|)", "is there more( to say|)?"]
_NO_MORE = "That is all I know about it. A real model can say more: open one with `lade -m NAME`."
SYSTEMS = ["You are helpful.", "You are a helpful assistant.", "Answer briefly.", "You are lade's assistant.", "You are a friendly assistant.", "Be brief and exact.",
           "You help people to run large models.", "Answer in English.", "You are a helpful assistant. Keep it short.", "Be concise."]


def topic_turn(rng: random.Random, topic: Topic, ask: str, state: State, small: bool = False) -> Turn:
    state.topic, state.missing = topic, ""
    think = f"Small talk: {topic.think}." if small else f"The question is about {topic.think}."
    return Turn(humanize(rng, inflect(expand(rng, ask))), think, say(rng, topic.answer))


def _machine_turn(rng, state: State, machine: strategy.Machine, user: str) -> Turn:
    state.machine, state.topic, state.missing = machine, None, ""
    return Turn(humanize(rng, user), strategy.thoughts(machine), strategy.answer(rng, machine))


def strategy_turn(rng: random.Random, state: State) -> Turn:
    machine = strategy.random_machine(rng)
    return _machine_turn(rng, state, machine, strategy.question(rng, machine))


def ask_back_turn(rng: random.Random, state: State) -> Turn:
    """A question that lacks a number: ask for it, and remember what is known."""
    if rng.random() < 0.5:
        user = expand(rng, pick(rng, strategy._ASK_NO_MACHINE))
        state.machine, state.missing, state.topic = None, "", None
        return Turn(humanize(rng, user), "VRAM and RAM are not given. Ask for both.",
                    "That depends on your machine. How much VRAM and how much RAM do you have?")
    machine = strategy.random_machine(rng)
    frame = expand(rng, pick(rng, strategy._ASK_VRAM_ONLY))
    state.topic = None
    if rng.random() < 0.55:
        words = strategy.say_vram(rng, machine)
        state.machine, state.missing = dataclasses.replace(machine, ram=None), "ram"
        think = (f"The {machine.gpu} has {machine.vram} GB of VRAM. " if machine.gpu else f"VRAM {machine.vram} GB. ") + "RAM is not given."
        answer = f"You have {strategy.vram_words(machine)}. How much RAM do you have?"
    else:
        words = f"{machine.ram}{pick(rng, strategy._UNITS)}{pick(rng, [' of RAM', ' RAM', ' ram', ' of memory', ' of main memory', ' memory', ' of system memory'])}"
        state.machine, state.missing = dataclasses.replace(machine, vram=None, gpu=""), "vram"
        think, answer = f"RAM {machine.ram} GB. VRAM is not given.", f"You have {machine.ram} GB of RAM. How much VRAM does your GPU have, or is there none?"
    return Turn(humanize(rng, re.sub(r"\bV\b", lambda _: words, frame)), think, answer)


def strategy_follow_up(rng: random.Random, state: State) -> Turn | None:
    """What people say after a machine was discussed."""
    machine = state.machine
    if machine is None:
        return None
    if state.missing:
        fresh = strategy.random_machine(rng)
        if state.missing == "ram":
            full = dataclasses.replace(machine, ram=fresh.ram)
            user = re.sub(r"\bR\b", lambda _: strategy.say_ram(rng, full), expand(rng, pick(rng, strategy._REPLY_RAM)))
            if rng.random() < 0.15:
                user = str(full.ram)
        else:
            full = dataclasses.replace(machine, vram=fresh.vram, gpu=fresh.gpu)
            user = re.sub(r"\bV\b", lambda _: strategy.say_vram(rng, full), expand(rng, pick(rng, strategy._REPLY_VRAM)))
            if rng.random() < 0.15 and not full.gpu:
                user = str(full.vram) if full.vram else pick(rng, ["none", "No.", "no", "there is none", "None"])
        return _machine_turn(rng, state, full, user)
    roll = rng.random()
    if roll < 0.5:
        fresh = strategy.random_machine(rng)
        if roll < 0.25:
            full = dataclasses.replace(machine, vram=fresh.vram, gpu=fresh.gpu)
            words, letter, key = strategy.say_vram(rng, full), "V", "vram"
        else:
            full = dataclasses.replace(machine, ram=fresh.ram)
            words, letter, key = f"{full.ram}{pick(rng, strategy._UNITS)}{pick(rng, [' of RAM', ' RAM', ' ram', ' of memory'])}", "R", "ram"
        frame = expand(rng, pick(rng, strategy._FOLLOW[key]))
        return _machine_turn(rng, state, full, re.sub(rf"\b{letter}\b", lambda _: words, frame))
    state.topic = None
    if roll < 0.68:
        return Turn(humanize(rng, say(rng, strategy.WHY)), f"They ask why {machine.strategy} fits.", strategy.why(machine))
    if roll < 0.82:
        return Turn(humanize(rng, say(rng, strategy.WHY_NOT)), f"VRAM {machine.vram} GB, full-gpu needs about 48 GB.", strategy.why_not_full(machine))
    return Turn(humanize(rng, say(rng, strategy.COMMAND)), f"They ask how to use {machine.strategy}.", strategy.command(machine))


def more_turn(rng: random.Random, state: State) -> Turn | None:
    if state.topic is None:
        return None
    topic, state.topic = state.topic, None
    return Turn(humanize(rng, say(rng, _MORE)), f"They want more about {topic.think}.", topic.more or _NO_MORE)


def name_turn(rng: random.Random, state: State) -> Turn:
    state.topic, state.missing = None, ""
    if state.name and rng.random() < 0.8:
        return Turn(humanize(rng, say(rng, _NAME_ASK)), f"The name is {state.name}.", f"Your name is {state.name}.")
    if rng.random() < 0.2:
        return Turn(humanize(rng, say(rng, _NAME_ASK)), "The name was not given.", "You have not told me your name yet.")
    state.name = pick(rng, NAMES) if rng.random() < 0.3 else invented(rng).capitalize()
    frame = expand(rng, pick(rng, _NAME_IS))
    shown = state.name if rng.random() < 0.8 else state.name.lower()
    return Turn(capitalize(frame.replace("X", shown)), f"The user is called {state.name}.",
                expand(rng, f"Nice to meet you, {state.name}! (How can I help?|What would you like to know about lade?)"))


def sum_turn(rng: random.Random, state: State) -> Turn:
    state.topic, state.missing = None, ""
    ask, steps, answer = units.sum_turn(rng)
    return Turn(humanize(rng, ask), steps, answer)


def unit_turn(rng: random.Random, state: State) -> Turn:
    state.topic, state.missing = None, ""
    ask, steps, answer, _ = units.unit_turn(rng)
    return Turn(humanize(rng, ask), steps, answer)


def refusal_turn(rng: random.Random, state: State) -> Turn:
    state.topic, state.missing = None, ""
    return Turn(humanize(rng, inflect(refusals.refusal_turn(rng))), f"That is {refusals.THINK}.", pick(rng, refusals.ANSWERS))


def _from(topics, small=False):
    def turn(rng, state):
        topic = pick(rng, topics)
        return topic_turn(rng, topic, pick(rng, topic.ask), state, small)
    return turn


def named_turn(rng: random.Random, state: State) -> Turn:
    ask, topic = topics_strategies.named_question(rng)
    return topic_turn(rng, topic, ask, state)


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


HELD_OUT = frozenset(plain(case.turns[-1]) for case in heldout.cases())  # never to be trained on, not even by chance

KINDS = [(0.12, strategy_turn), (0.04, ask_back_turn), (0.19, _from(extend(LADE))), (0.07, named_turn), (0.21, _from(extend(COMMANDS))), (0.08, _from(extend(ERRORS))),
         (0.06, _from(extend(SELF))), (0.11, _from(extend(TALK), True)), (0.10, sum_turn), (0.02, unit_turn), (0.10, refusal_turn), (0.06, name_turn)]


def fresh_turn(rng: random.Random, state: State) -> Turn:
    roll = rng.random() * sum(weight for weight, _ in KINDS)
    for weight, kind in KINDS:
        roll -= weight
        if roll < 0:
            break
    return kind(rng, state)


def conversation(rng: random.Random, long: bool = False) -> tuple[str, list[Turn], bool]:
    """(system prompt or "", turns, whether the last turn thinks)."""
    roll = rng.random()
    count = 1 if roll < 0.86 else 2 if roll < 0.95 else 3 if roll < 0.98 else 4 if roll < 0.99 else 5 + int(rng.random() * 2)
    if long:
        count = 6 + int(rng.random() * 7)
    state, turns = State(), []
    for index in range(count):
        turn = None
        if index:
            if state.missing and rng.random() < 0.9:
                turn = strategy_follow_up(rng, state)
            elif state.machine and not state.topic and rng.random() < 0.45:
                turn = strategy_follow_up(rng, state)
            elif state.topic and rng.random() < 0.14:
                turn = more_turn(rng, state)
            elif state.name and rng.random() < 0.4:
                turn = name_turn(rng, state)
        elif count > 1 and rng.random() < 0.25:
            turn = _from(extend(TALK[:2]), True)(rng, state)
        if turn is None:
            if state.missing:
                state.machine, state.missing = None, ""
            turn = fresh_turn(rng, state)
        if plain(turn.user) in HELD_OUT:
            return conversation(rng, long)
        turns.append(turn)
    system = pick(rng, SYSTEMS) if rng.random() < 0.1 else ""
    return system, turns, rng.random() < 0.78


# ---- the chat format -------------------------------------------------------------------------


def render(system: str, turns: list[Turn], thinks: bool) -> list[tuple[str, float]]:
    """Pieces of text with the loss weight of their tokens; thinking of earlier turns is not kept."""
    pieces: list[tuple[str, float]] = []
    if system:
        pieces.append((f"<|im_start|>system\n{system}<|im_end|>\n", 0.0))
    for index, turn in enumerate(turns):
        pieces.append((f"<|im_start|>user\n{turn.user}<|im_end|>\n<|im_start|>assistant\n", 0.0))
        if index < len(turns) - 1:
            pieces.append((f"{turn.answer}<|im_end|>", 0.5))
        elif thinks:
            pieces.append(("<think>\n", 0.0))
            pieces.append((f"{turn.think}\n</think>\n\n{turn.answer}<|im_end|>", 1.0))
        else:  # as lade asks for an answer at once
            pieces.append(("<think>\n\n</think>\n\n", 0.0))
            pieces.append((f"{turn.answer}<|im_end|>", 1.0))
        pieces.append(("\n", 0.0))
    return pieces
