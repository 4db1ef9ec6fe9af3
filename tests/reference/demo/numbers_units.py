"""Sums to two digits, and units of memory."""

from __future__ import annotations

import random

from text import expand, pick


def add(a: int, b: int) -> str:
    """Column addition as the model writes it for itself."""
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    ones = a % 10 + b % 10
    carry = ones // 10
    tens = a // 10 + b // 10
    text = f"Ones: {a % 10} + {b % 10} = {ones}. Tens: {a // 10} + {b // 10}"
    text += f" + 1 = {tens + 1}." if carry else f" = {tens}."
    return text + f" So {a} + {b} = {a + b}."


def subtract(a: int, b: int) -> str:
    if a < b:
        return f"{b} is more than {a}, so minus. " + subtract(b, a)[:-1] + f", and {a} - {b} = {a - b}."
    if a < 10:
        return f"{a} - {b} = {a - b}."
    if a % 10 >= b % 10:
        text = f"Ones: {a % 10} - {b % 10} = {a % 10 - b % 10}. Tens: {a // 10} - {b // 10} = {a // 10 - b // 10}."
    else:
        text = f"Ones: {a % 10 + 10} - {b % 10} = {a % 10 + 10 - b % 10}, borrow. Tens: {a // 10 - 1} - {b // 10} = {a // 10 - 1 - b // 10}."
    return text + f" So {a} - {b} = {a - b}."


_ADD = ["what is A + B?", "A + B", "A + B = ?", "(what is|what's|how much is) A plus B?", "A plus B(?|)", "(add|sum up|sum) A and B(.|)", "(calculate|compute) A + B(.|)", "(how much is|what do you get for) A + B?",
        "what is the sum of A and B?", "can you add A and B?", "A+B", "A+B=?", "A and B makes?", "if i have A (shards|files|apples|gigabytes|euros) and (get|find|receive|buy) B more, how many (do i have|are there|does that make)?",
        "(add|put) B to A(.|)", "(A with B added|A increased by B|B more than A)(?|)", "(the |)(sum|total) of A and B(?|, please.|)", "(work|figure) out A (+|plus) B(.|)", "(can you|could you|please) (do|sum|tell me|say|solve) A (+|plus) B(?|.|)", "(i wonder|tell me|say|quick:) what A (+|plus) B (is|makes|gives|equals)(.|)", "A (and|plus) B (is|are|equals|comes to)( what| how much|)?", "adding A (and|to) B(?| gives?|)", "how many are A and B( together|)?", "A + B (equals|is|makes)(?| what?)"]
_SUB = ["what is A - B?", "A - B", "A - B = ?", "(what is|what's|how much is) A minus B?", "A minus B(?|)", "subtract B from A(.|)", "(calculate|compute) A - B(.|)", "(how much is|what do you get for) A - B?",
        "what is the difference between A and B?", "take B away from A(.|)", "A-B", "A-B=?", "if i have A (shards|files|apples|gigabytes|euros) and (lose|sell|eat|spend|give away) B, how many (remain|are left|do i keep|stay)?",
        "(remove|take|deduct) B from A(.|)", "(A less B|A reduced by B|B less than A|A without B)(?|)", "(the |)difference of A and B(?|, please.|)", "(work|figure) out A (-|minus) B(.|)", "(can you|could you|please) (do|tell me|say|solve) A (-|minus) B(?|.|)", "(i wonder|tell me|say|quick:) what A (-|minus) B (is|makes|gives|equals)(.|)", "A minus B (is|equals|comes to)( what| how much|)?", "subtracting B from A(?| gives?|)", "what (is left|stays|is over) (of|from) A (without|after) B?", "A - B (equals|is|makes)(?| what?)"]
_MUL = ["what is A * B?", "A * B", "A x B(?|)", "(what is|what's|how much is) A times B?", "A times B(?|)", "multiply A (by|and|with) B(.|)", "(calculate|compute) A * B(.|)", "what is A multiplied by B?", "A*B", "A × B(?|)", "what is the product of A and B?", "A*B=?",
        "(the |)product of A and B(?|, please.|)", "(work|figure) out A (*|times) B(.|)", "(can you|could you|please) (do|tell me|say|solve) A (*|times|x) B(?|.|)", "(i wonder|tell me|say|quick:) what A (*|times) B (is|makes|gives|equals)(.|)", "A times B (is|equals|comes to|makes)( what| how much|)?", "A (rows|boxes|bags|groups) of B(?| are how many?| make?)", "multiplying A (by|and) B(?| gives?|)", "A multiplied (by|with) B(?|)", "A * B (equals|is|makes)(?| what?)"]


def sum_turn(rng: random.Random):
    """(question template, thoughts, answer) of one sum."""
    kind = rng.random()
    if kind < 0.45:
        a, b = (int(rng.random() * 10) if rng.random() < 0.25 else int(rng.random() * 100) for _ in "ab")
        frames, sign, result, steps = _ADD, "+", a + b, add(a, b)
    elif kind < 0.8:
        a, b = (int(rng.random() * 10) if rng.random() < 0.2 else int(rng.random() * 100) for _ in "ab")
        if a < b and rng.random() < 0.9:
            a, b = b, a
        frames, sign, result, steps = _SUB, "-", a - b, subtract(a, b)
    else:
        a, b = int(rng.random() * 13), int(rng.random() * 13)
        frames, sign, result = _MUL, "*", a * b
        steps = f"{a} * {b} = {a * b}."
    return ask_sum(rng, pick(rng, frames), a, b), steps, say_result(rng, a, sign, b, result)


def ask_sum(rng: random.Random, frame: str, a: int, b: int) -> str:
    return expand(rng, frame).replace("A", "\x00").replace("B", str(b)).replace("\x00", str(a))


def say_result(rng: random.Random, a: int, sign: str, b: int, result: int) -> str:
    return expand(rng, f"{a} {sign} {b} (=|is|=) {result}.")


# ---- units -----------------------------------------------------------------------------------

_GIB = {8: "7.45", 10: "9.31", 12: "11.18", 16: "14.90", 24: "22.35", 32: "29.80", 40: "37.25", 48: "44.70", 64: "59.60", 80: "74.51", 96: "89.41", 128: "119.21"}
_GB = {8: "8.59", 10: "10.74", 12: "12.88", 16: "17.18", 24: "25.77", 32: "34.36", 40: "42.95", 48: "51.54", 64: "68.72", 80: "85.90", 96: "103.08", 128: "137.44"}


def unit_turn(rng: random.Random):
    """(question template, thoughts, answer, pattern of a right answer) of one question on units."""
    kind = rng.random()
    if kind < 0.25:
        n = 1 + int(rng.random() * (20 if rng.random() < 0.7 else 99))
        ask = expand(rng, f"(how many (MB|megabytes) (are|are there|fit) in {n} (GB|gigabytes)?|(convert|change) {n} GB (to|into) MB(.|)|{n} GB in MB(?|)|what is {n} GB in (MB|megabytes)?|{n} gb to mb|how (much|many mb) is {n} gb( in mb|)?)")
        return ask, f"1 GB is 1000 MB, so {n} with three zeros.", f"{n} GB are {n}000 MB.", f"{n}000 MB"
    if kind < 0.4:
        n = 1 + int(rng.random() * 99)
        ask = expand(rng, f"(how many (GB|gigabytes) are {n}000 (MB|megabytes)?|(convert|change) {n}000 MB (to|into) GB(.|)|{n}000 MB in GB(?|)|what is {n}000 MB in GB?|{n}000 mb to gb)")
        return ask, f"1000 MB is 1 GB, so {n}000 without three zeros.", f"{n}000 MB are {n} GB.", f"\\b{n} GB"
    if kind < 0.58:
        n = pick(rng, list(_GIB))
        ask = expand(rng, f"(how many GiB are {n} GB?|(convert|change) {n} GB (to|into) GiB(.|)|{n} GB in GiB(?|)|what is {n} GB in GiB?|{n} gb to gib)")
        return ask, f"1 GiB is 1.074 GB, so fewer GiB than GB.", f"{n} GB are {_GIB[n]} GiB.", _GIB[n]
    if kind < 0.76:
        n = pick(rng, list(_GB))
        ask = expand(rng, f"(how many GB are {n} GiB?|(convert|change) {n} GiB (to|into) GB(.|)|{n} GiB in GB(?|)|what is {n} GiB in GB?|{n} gib to gb)")
        return ask, f"1 GiB is 1.074 GB, so more GB than GiB.", f"{n} GiB are {_GB[n]} GB.", _GB[n]
    if kind < 0.88:
        ask = expand(rng, "((what is|what's|explain) the difference between (GB and GiB|GiB and GB|gb and gib|gigabytes and gibibytes)?|(is|are) (a GB|GB|gb) (the same as|equal to) (a GiB|GiB|gib)?|GB or GiB?|(what is|explain) (a GiB|GiB|a gibibyte|gib)?|what does GiB mean?|why (does lade|do you) (use|show|write) GiB?|is (a gib|GiB) (more|bigger|larger) than (a gb|GB)?)")
        return ask, "The question is about GB and GiB.", pick(rng, ["1 GB is 1000 MB, and 1 GiB is 1024 MiB. So 1 GiB is 1.074 GB, about 7 percent more.", "A GiB is 1024 MiB and a GB is 1000 MB. One GiB is 1.074 GB."]), "1\\.074"
    small, big, n = pick(rng, [("MiB", "GiB", 1024), ("KiB", "MiB", 1024), ("kB", "MB", 1000), ("GB", "TB", 1000), ("GiB", "TiB", 1024), ("bytes", "KiB", 1024), ("bytes", "kB", 1000), ("bits", "byte", 8), ("MB", "GB", 1000)])
    ask = expand(rng, f"(how many {small} (are|are there|are there) in (a|one|1) {big}?|(a|one|1) {big} (is|has) how many {small}?|how (big|large) is (a|one) {big}( in {small})?|{big} in {small}(?|)|what is (a|one|1) {big}( in {small})?)")
    return ask, f"The question is about {big} and {small}.", f"1 {big} is {n} {small}.", f"{n} {small}"
