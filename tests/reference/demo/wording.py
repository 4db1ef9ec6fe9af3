"""How people word and type things: other words for the same, side remarks, slips, made-up names.

A model that sees every intent in a dozen fixed sentences learns the sentences. These variations take
that way out: what stays the same through all of them is what the question is about.
"""

from __future__ import annotations

import random
import re

from text import capitalize, pick

# word -> what may stand for it; one direction only, so that names of commands stay what they are
_WORDS = {
    "answer": "reply|response", "answers": "replies|responses", "app": "application|program|tool", "ask": "put to you|bring to you",
    "bad": "poor|awful|weak", "best": "optimal|ideal|most suitable|most sensible", "big": "large|huge|giant|massive|sizeable",
    "broken": "damaged|corrupt|defective|faulty", "build": "compile|make", "can": "could|may", "change": "alter|modify|adjust|edit", "check": "verify|find out|test",
    "choose": "select|pick|decide on|settle on", "close": "shut|shut down", "computer": "machine|pc|box|laptop|desktop|workstation|notebook", "continue": "carry on with|proceed with|go on with",
    "conversation": "chat|dialogue|talk|discussion|exchange", "conversations": "chats|dialogues|talks|discussions", "delete": "remove|erase|wipe|discard|throw away", "describe": "outline|sketch|characterize",
    "difference": "distinction|contrast", "does": "will|would", "download": "fetch|load down|obtain", "error": "message|problem|failure|complaint", "exit": "leave|get away from", "explain": "clarify|outline|spell out|make clear|illustrate",
    "fast": "quick|speedy|rapid", "faster": "quicker|speedier|more quickly", "find": "locate|get hold of|spot", "fit": "suit|match", "fits": "suits|matches|is suitable|is appropriate",
    "folder": "directory", "get": "obtain|receive|have|acquire", "good": "great|decent|fine|suitable|nice", "great": "super|terrific|lovely|marvellous", "guess": "foresee|anticipate", "happens": "goes on|takes place|occurs",
    "help": "assistance|support", "helpful": "useful|handy", "hide": "conceal|suppress", "how": "in which way|by what means", "huge": "very large|enormous", "inside": "within|in the middle of", "keep": "store|retain|hold", "kept": "held|stored|retained",
    "know": "be aware of|find out|learn", "large": "big|huge|sizeable", "leave": "go away from|get away from", "list": "enumerate|show|name", "load": "bring in|read in", "long": "lengthy|extended", "look": "appearance|style", "machine": "computer|pc|box|system|laptop",
    "made": "created|built|produced|put together", "many": "lots of|a lot of", "mean": "signify|stand for|refer to", "means": "signifies|stands for", "message": "text|line|note", "missing": "absent|gone|not there|lost|lacking",
    "model": "network|llm|language model|ai model", "models": "networks|llms|language models", "name": "title|label", "need": "require|have to have", "needed": "required|necessary", "new": "fresh|another|brand new", "nonsense": "rubbish|garbage|gibberish",
    "old": "earlier|past|previous|former|older", "open": "launch|bring up", "pick": "select|choose", "please": "kindly|pls|plz|be so kind and", "possible": "feasible|doable", "print": "output|write out", "program": "application|app|software|tool",
    "quit": "leave|end", "recommend": "suggest|advise|propose", "remove": "take away|drop|delete", "reply": "answer|response", "run": "execute|operate|start", "save": "store|keep|preserve", "saved": "stored|kept|preserved", "say": "mention|state", "screen": "display|monitor|window", "search": "look through|scan|browse",
    "see": "view|look at|get to see", "select": "choose|pick", "set": "configure|adjust", "show": "display|present|reveal", "shown": "displayed|presented", "size": "dimension|volume", "slow": "sluggish|lame|tardy", "small": "little|tiny|compact|modest",
    "smart": "clever|bright|intelligent", "speed": "pace|throughput|performance", "start": "begin|launch|open", "stop": "halt|end|break off", "stored": "kept|held", "stupid": "dumb|silly|dull", "switch": "change|toggle", "tell": "inform|brief", "terminal": "console|shell window", "text": "words|wording",
    "thanks": "thank you|thx|many thanks", "things": "stuff|matters", "tool": "utility|program", "type": "enter|write|key in", "use": "employ|apply|make use of|work with", "used": "employed|applied", "useful": "handy|practical", "want": "wish|intend|plan|hope", "weights": "parameters|numbers",
    "what's": "what is|whats", "where": "at which place|in which place|whereabouts", "which": "what", "why": "how come|for which cause|what is the cause why", "work": "function|operate", "works": "functions|operates", "write": "compose|put down", "wrong": "incorrect|false|not right", "yes": "yeah|sure",
}
_PAIRS = {
    "can i": "am i able to|is it possible to|may i|am i allowed to|could i", "can you": "could you|would you|are you able to|will you", "do i": "should i|must i|would i", "do you": "would you|can you", "does it": "will it|would it", "give me": "hand me|provide|offer me|i would like",
    "how can": "how could|how may|what is a way how", "how do": "how would|how should|how might", "how to": "the way to|ways to|what to do to", "i am": "i'm", "i have": "i've got|i have got|i've", "i want": "i would like|i'd like|i wish|my wish is", "i would": "i'd", "is it": "is this|is that", "is there": "do you have|does there exist|is there any|exists",
    "it is": "it's", "let me": "allow me to", "show me": "let me see|present me with", "tell me": "let me know|please say|inform me|i want to hear", "that is": "that's", "the difference": "a difference|the contrast", "what are": "which are|what would be", "what does": "what will|what would", "what is": "what's|whats|what would be|tell me what is",
    "what should": "what must|what could|what ought", "which one": "what|which of them", "you are": "you're", "i need": "i require|i'm in need of|i have need of", "help me": "assist me|support me|give me a hand with", "do not": "don't", "in the": "inside the|within the",
}
_WORDS = {k: v.split("|") for k, v in _WORDS.items()}
_PAIRS = {k: v.split("|") for k, v in _PAIRS.items()}

_REMARKS = """I am new here.|I'm quite new to this.|My colleague told me about this program.|I have just installed it.|Sorry if this is a silly question.|I read the manual, but it was long.|This is my first day with it.|This looks nice.|I have a little time today.|I am writing a small guide.|We are looking at tools at work.|My brother wanted to know that.|I could not find it in the help.|It is not urgent.|A short answer is enough.|I hope you can help.|That would be useful.|I am just curious.|I was wondering.|Here is something I do not get.|Let me ask you something.|I have a question.|I have one more question.|Two things, first this one.|Maybe you know this.|I am in a hurry.|I am a beginner.|I know a bit about computers.|I usually work with other programs.|Yesterday I tried it for an hour.|I like the screen by the way.|It is late here.|I am preparing a talk.|My boss wants to know.|A friend of mine asked me.|I am not a native speaker.|Now to something else.|Another topic.|Changing the subject.|Back to work.|Ok, next.|Before I forget it.|To be honest, I am lost.|I am stuck.|This puzzles me.|I heard different things.|Do not be too technical.|Keep it simple.|Be brief.|I need it for a report.|Someone on the forum mentioned it.|I have asked this before, I think.|All right, let's see.|Good to have you here.|You may laugh, but I wonder.|It came up in a meeting.|I am setting this up for my team.|I am on the train right now.|Coffee is ready, so let's go.|One thing is still unclear.""".split("|")
_AFTER = """Thanks in advance.|Thank you!|Please be brief.|I need to know it today.|That would help me a lot.|Just curious.|No hurry.|In short, please.|I could not find it.|Is that ok to ask?|I am new to this.|It is for a friend.|If you know it.|As simple as possible.|Thanks a lot!|Would be great to know.|Hope that is clear.|I am waiting.|Go ahead.|One sentence is enough.|I really want to know.|Please.""".split("|")
_FILLERS = """actually|honestly|just|really|maybe|somehow|basically|simply|quickly|exactly|precisely|normally|usually|generally|perhaps|possibly|probably|now|then|today|here|there|again|once more|first|briefly|in short|in general|in practice|in detail|in principle|by the way|i mean|you know|let's say|for example|for instance|at all|at home|at work|at the moment|right now|right away|as a beginner|as a user|as far as you know|if possible|if you can|in your opinion|in your view|roughly|more or less|kind of|sort of|of course|still|also|too|even|ever|only|always|often|sometimes|later|soon|finally|anyway|however|so|well|ok|please|kindly|my friend|dear|sir|mate|buddy|so to say|technically|typically|in this case|on my side|on linux|on debian|under linux|with lade|in lade|for me|for us|for my team|for beginners|from scratch|step by step|all in all|up to now|so far|these days|without trouble|in the end|on average|as usual|to be sure""".split("|")
_STOP = frozenset("the a an is are do does i to of it my me please you can in for on this that there have has should would be will with and at so".split())


def reword(rng: random.Random, text: str, share: float = 0.2) -> str:
    """Replaces some words and pairs of words by others of the same meaning."""
    words, out, i = text.split(" "), [], 0
    while i < len(words):
        pair = _PAIRS.get(f"{words[i]} {words[i + 1]}".lower()) if i + 1 < len(words) else None
        if pair and rng.random() < share:
            out.append(pick(rng, pair))
            i += 2
            continue
        core = words[i].rstrip("?.!,:;")
        options = _WORDS.get(core.lower())
        if options and rng.random() < share:
            out.append(pick(rng, options) + words[i][len(core):])
        else:
            out.append(words[i])
        i += 1
    return " ".join(out)


def disturb(rng: random.Random, text: str) -> str:
    """A filler put in, a little word left out; never between a number and its unit."""
    words = text.split(" ")
    if rng.random() < 0.16:
        at = int(rng.random() * (len(words) + 1))
        if at == 0 or not words[at - 1][-1:].isdigit():
            words.insert(at, pick(rng, _FILLERS))
    if rng.random() < 0.12 and len(words) > 3:
        small = [i for i, w in enumerate(words) if w.lower() in _STOP]
        for i in sorted(rng.sample(small, min(len(small), 1 + int(rng.random() * 2))), reverse=True):
            del words[i]
    return " ".join(words) or text


def remark(rng: random.Random, text: str) -> str:
    """A sentence beside the point, before or after."""
    if rng.random() < 0.6:
        return pick(rng, _REMARKS) + " " + text
    end = "" if text.endswith((".", "?", "!")) else pick(rng, [".", "?", ",", ""])
    return text + end + " " + pick(rng, _AFTER)


# ---- typing ----------------------------------------------------------------------------------

_OPENERS = ["hi, ", "hello, ", "hey, ", "hey! ", "ok, ", "okay, ", "so, ", "well, ", "quick question: ",
            "a question: ", "please tell me: ", "tell me, ", "one more thing: ", "also, ", "and ",
            "sorry, ", "um, ", "thanks. ", "thank you. ", "great, ", "cool. ", "good. ", "now, ",
            "another question: ", "hi there, ", "excuse me, ", "alright, ", "i see. ", "nice. ", "my question is: ", "i wonder: ", "i'd like to ask: ", "a friend asked me: ", "say, ", "look, ", "oh, ", "yes, ", "no, ", "right, ", "but ", "then ", "please, ", "hey lade, ", "lade, ", "dear lade, ", "q: ", "question: ", "can you help? ", "help me out: "]
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
    """A user's line as it may arrive: other words, remarks, openers, closers, case, punctuation, a typo now and then."""
    if rng.random() < 0.5:
        text = reword(rng, text)
    text = disturb(rng, text)
    roll = rng.random()
    if roll < 0.14:
        text = pick(rng, _OPENERS) + text
    elif roll < 0.24:
        text = remark(rng, text)
    if rng.random() < 0.06:
        text = text.rstrip("?.!") + pick(rng, _CLOSERS)
    roll = rng.random()
    if roll < 0.55:
        text = capitalize(text)
    elif roll < 0.58:
        text = text.upper()
    if rng.random() < 0.6:
        text = text.replace(" i ", " I ").replace(" i'", " I'")
        if text.startswith("i "):
            text = "I" + text[1:]
    if rng.random() < 0.16:
        text = text.rstrip("?.!")
    if rng.random() < 0.12:
        text = _typo(rng, text)
    return text


# ---- the forms of a verb ---------------------------------------------------------------------

_PARTICIPLES = {"begin": "begun", "build": "built", "choose": "chosen", "cut": "cut", "do": "done", "find": "found", "forget": "forgotten", "get": "got", "give": "given", "have": "had", "hide": "hidden", "keep": "kept", "know": "known", "leave": "left",
                "make": "made", "put": "put", "quit": "quit", "read": "read", "run": "run", "see": "seen", "send": "sent", "set": "set", "show": "shown", "shut": "shut", "split": "split", "take": "taken", "write": "written", "dump": "dumped", "drop": "dropped",
                "buy": "bought", "sell": "sold", "teach": "taught", "draw": "drawn", "grow": "grown", "feed": "fed", "hold": "held", "sing": "sung", "wear": "worn", "eat": "eaten", "drive": "driven", "ride": "ridden", "bake": "baked", "lose": "lost", "find out": "found out"}
_PARTICLES = frozenset("up off out back on down away in".split())


def participle(verb: str) -> str:
    if verb in _PARTICIPLES:
        return _PARTICIPLES[verb]
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ied"
    if len(verb) > 2 and verb[-1] in "bdgmnpt" and verb[-2] in "aeiou" and verb[-3] not in "aeiou" and verb not in ("open", "benchmark", "edit", "limit", "print", "adjust", "visit"):
        return verb + verb[-1] + "ed"
    return verb + "ed"


def gerund(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    if len(verb) > 2 and verb[-1] in "bdgmnpt" and verb[-2] in "aeiou" and verb[-3] not in "aeiou" and verb not in ("open", "edit", "limit", "visit"):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def _having(phrase: str, be: str) -> str:
    """ "delete a chat" -> "a chat deleted", with `be` before the participle."""
    verb, _, rest = phrase.partition(" ")
    first, _, others = rest.partition(" ")
    if first in _PARTICLES and others:
        return f"{others} {be}{participle(verb)} {first}"
    return f"{rest} {be}{participle(verb)}" if rest else f"it {be}{participle(verb)}"


def _doing(phrase: str) -> str:
    verb, _, rest = phrase.partition(" ")
    return f"{gerund(verb)} {rest}".strip()


def inflect(text: str) -> str:
    """Resolves <do a thing> to "a thing done", {do a thing} to "a thing be done", [do a thing] to "doing a thing"."""
    if "<" in text:
        text = re.sub(r"<([^<>]*)>", lambda m: _having(m.group(1).strip(), ""), text)
    if "{" in text:
        text = re.sub(r"\{([^{}]*)\}", lambda m: _having(m.group(1).strip(), "be "), text)
    if "[" in text:
        text = re.sub(r"\[([^\[\]]*)\]", lambda m: _doing(m.group(1).strip()), text)
    return text


# ---- names that no list holds ----------------------------------------------------------------

_ONSETS = "b|br|c|ch|d|dr|f|fr|g|gr|h|j|k|kr|l|m|n|p|pr|qu|r|s|sh|st|t|th|tr|v|w|y|z|sl|cl|bl|gl|sk|sv|zh|ts|ph|rh".split("|")
_VOWELS = "a|e|i|o|u|a|e|i|o|u|ai|ea|ie|ou|y|ee|oo|au|ia|io".split("|")
_CODAS = "|||||n|r|l|s|t|m|k|d|nd|rt|x|th|ck|ng|rd|v|sh|ll|nn|ss".split("|")


def invented(rng: random.Random) -> str:
    """A made-up word of two or three syllables, lower case."""
    word = "" if rng.random() < 0.75 else pick(rng, _VOWELS)
    for _ in range(1 + int(rng.random() * 2) + (not word)):
        word += pick(rng, _ONSETS) + pick(rng, _VOWELS) + (pick(rng, _CODAS) if rng.random() < 0.6 else "")
    return word
