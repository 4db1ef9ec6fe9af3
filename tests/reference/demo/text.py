"""A tiny template language, and the frames in which people ask.

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
        f"(could|would|can) you (please |)(outline|sketch|summarize|illustrate|clarify) {noun}(?|.|)",
        f"in (short|brief|plain english|simple terms|a few words)(,|:) what is {noun}?",
        f"remind me (again |)(what {noun} is|about {noun}|of {noun})(.|)",
        f"i (came across|stumbled upon|heard of|saw|noticed|found) {noun}(.| somewhere.| in the text.) what is (it|that|this)?",
        f"(i never understood|i do not understand|i don't get|nobody explained|i forgot) {noun}(.| yet.|)",
        f"(teach|educate|brief) me (about|on) {noun}(.|)",
        f"(any|some|more|basic|i need) (information|info|details|background|words) (on|about) {noun}(?|.|, please.)",
        f"{noun}(:| -|,) what (is it|is that|does it mean|does that mean)?",
        f"(so|and|now|next:|then) {noun}(?| is what?|, please.)",
        f"let's (discuss|look at|turn to|go over|talk about) {noun}(.|)",
        f"(i'm|i am) (curious|wondering|confused|unsure) about {noun}(.|)",
        f"(my|the next|another|one more) question is about {noun}(.|)",
        f"how would you (describe|define|explain|put) {noun}?",
        f"what (should|must|does) (one|i|a beginner) (know|need to know) about {noun}?",
        f"what kind of (thing|stuff|animal) is {noun}?",
        f"why is {noun} (important|interesting|useful|there|special)?",
        f"a (definition|description|summary|little explanation) of {noun}(, please|.|)",
        f"what would be a good (explanation|definition) of {noun}?",
        f"{noun} (in one sentence|for beginners|for dummies|explained)(.|, please.|?|)",
        f"(we|they|people) (talked|spoke|were talking) about {noun}. what is (it|that)?",
        f"please (say|write) (a little|a few words|two sentences|more) (about|on) {noun}(.|)",
        f"the (word|term|phrase) {noun} is (new|unclear|strange) to me(.|)",
        f"how (do|should|can) i (picture|imagine|understand) {noun}?",
        f"is there (something|anything|a lot) to (know|say) about {noun}?",
    ]


def howto(verb: str) -> list[str]:
    """Frames asking how to do a thing; <>, {{}} and [] are resolved by wording.inflect."""
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
        f"what is the (way|command|best way|right way|easiest way|trick) to {verb}?",
        f"how would (one|a user|somebody|anyone|a beginner) {verb}?",
        f"my (plan|goal|task|wish|idea) is to {verb}(.|, how?|)",
        f"i (forgot|don't know|do not remember|never learned|cannot find out|can't see) how to {verb}(.|)",
        f"(please |)let me {verb}(.|)",
        f"(it is time|i am ready|i have decided) to {verb}(.|)",
        f"i tried to {verb}(, but it failed.| without success.| and could not.|)",
        f"(when|if) i want to {verb}, (what do i do|what then|what next)?",
        f"(suppose|say|imagine) i (want|need|have) to {verb}(.|, what then?|: how?)",
        f"in order to {verb}, what (do i type|must i do|comes first)?",
        f"(there must be|is there|isn't there) (a|some|any) way to {verb}(.|?|)",
        f"(is it possible to|can i|i would like to|i want to) have <{verb}>(?|.|)",
        f"(what|which command|which option|who) gets <{verb}>?",
        f"(i want|i need|i'd like|please get|can you get) <{verb}>(.|)",
        f"what (must|should|has to) happen to (get|have) <{verb}>?",
        f"(must|should|could|will|may) {{{verb}}}( by hand| somehow| automatically| at all|)?",
        f"(when|where|by whom) (should|must|may) {{{verb}}}?",
        f"(what about|how about|i am thinking about|a word about|help with|tell me about) [{verb}](?|.|)",
        f"[{verb}](:| -|,) (how|how does it work|what is the command|what do i type)?",
        f"i have (trouble|problems|difficulties) [{verb}](.|)",
        f"(instructions|steps|a recipe|hints|the command|the way|the key|tips) for [{verb}](?|.|, please.|)",
        f"how (does|do) (one|people|others|you) get <{verb}>?",
        f"<{verb}>(: how?|? how?|, please.|, that is what i want.)",
        f"is [{verb}] (hard|easy|possible|difficult|allowed)?",
        f"what (do i need|is needed|is required|is the command|is the trick) for [{verb}]?",
        f"(does lade|can lade) (support|allow|offer|do) [{verb}]?",
        f"[{verb}](, please|.|?|)",
    ]


def concerning(symptom: str) -> list[str]:
    """Frames around a complaint or an error message."""
    return [
        f"{symptom}(.|, what now?|, help|. what now?|. what do i do?|. what should i do?|. help!|)",
        f"(what do i do|what should i do|what can i do) (if|when) {symptom}?",
        f"(why do i get|what does it mean when|what does it mean:|i get|i got|lade says|it says|i see|there is an error:|the error is) {symptom}(?|.|)",
        f"(help|help me|please help|problem): {symptom}(.|)",
        f"how (do|can) i (fix|solve|repair) (this|it): {symptom}(?|)",
        f"(since today|since yesterday|since the update|after a restart|on start|while loading|during the load|suddenly) (i see|i get|there is|it prints|lade prints)(:|) {symptom}(.|)",
        f"{symptom}(. why?|. what can i try?|, why is that?|, any idea?|. what is wrong?| again and again.| every time.)",
        f"what (causes|is the cause of|is behind|is the reason for) (this|that|it)(:| -) {symptom}(?|)",
        f"(is it|is this) (bad|serious|normal|dangerous|my fault)(:|, that) {symptom}(?|)",
        f"the (log|output|screen|last line|message) (says|has|shows|was|reads)(:|) {symptom}(.|)",
        f"(it|lade|the program|the start|the load) (ends|ended|fails|failed|stops|refuses to go on) with(:|) {symptom}(.|)",
        f"i am stuck(:|, because| since) {symptom}(.|)",
        f"(my|our|a) (problem|trouble|issue|error)(:| is that| is this:) {symptom}(.|)",
        f"(what helps|what is the cure|what is the remedy|what to do|who can help) (against|when|if|with) {symptom}?",
        f"(could you|can you|please) (look at|explain|solve) (this|my problem|my error)(:|) {symptom}(.|)",
    ]
