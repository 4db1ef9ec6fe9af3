#!/usr/bin/env python3
"""Writes engine/tokenizer/unicode.h: where the tokenizers library reads Unicode otherwise than the
libraries lade uses.

Its regexes (Oniguruma) know Unicode 16, PCRE2 10.42 of Debian 12 knows 14; its NFC knows 9, and
utf8proc whatever it was built with. Which characters that concerns is asked of the library itself.
Needs Python 3.11 (whose unicodedata has Unicode 14), tokenizers, and unicodedata2 of a version as
new as possible.
"""
import sys
import unicodedata
from pathlib import Path

import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

OUT = Path(__file__).resolve().parents[2] / "engine" / "tokenizer" / "unicode.h"
CHARACTERS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
OLD_MARKS = [0x334, 0x5B0, 0x301, 0x35C]  # one of each kind of combining class

normalize = normalizers.NFC().normalize_str


def matched(regex):
    """The characters that one character of the regex matches in the library."""
    found = set()
    removing = pre_tokenizers.Split(Regex(regex), "removed")
    for i in range(0, len(CHARACTERS), 4096):
        part = CHARACTERS[i:i + 4096]
        kept = removing.pre_tokenize_str("".join(map(chr, part)))
        kept = set("".join(text for text, _ in kept))
        found |= {c for c in part if chr(c) not in kept}
    return found


def newer(category):
    known = {c for c in CHARACTERS if unicodedata.category(chr(c))[0] == category}
    return matched(r"\p{%s}" % category) - known


def differs(text):
    return normalize(text) != unicodedata2.normalize("NFC", text)


def inert():
    """Characters that have a combining class or compose, but not for the library."""
    found = set()
    for c in CHARACTERS:
        if not unicodedata2.combining(chr(c)):
            continue
        for mark in OLD_MARKS:
            if differs("q" + chr(c) + chr(mark)) or differs("q" + chr(mark) + chr(c)):
                found.add(c)
    for c in CHARACTERS:
        parts = unicodedata2.decomposition(chr(c))
        if not parts or parts.startswith("<"):
            continue
        if differs(unicodedata2.normalize("NFD", chr(c))):
            found |= {c} | {int(p, 16) for p in parts.split() if int(p, 16) > 0x36F}
    return found


def ranges(characters):
    result = []
    for c in sorted(characters):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def wrap(items, indent, width=100):
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) > width:
            lines.append(line.rstrip())
            line = indent
        line += item
    return "\n".join(lines + [line.rstrip()])


def class_text(name, characters):
    parts = ["\\\\x{%x}" % a if a == b else "\\\\x{%x}-\\\\x{%x}" % (a, b)
             for a, b in ranges(characters)]
    lines, line = [], ""
    for part in parts:
        if len(line) + len(part) > 88:
            lines.append(line)
            line = ""
        line += part
    lines.append(line)
    return "#define %s" % name + "".join(' \\\n    "%s"' % text for text in lines)


def main():
    if unicodedata.unidata_version != "14.0.0":
        sys.exit("unicode_gap: this Python knows Unicode %s, not 14.0.0; use Python 3.11"
                 % unicodedata.unidata_version)
    table = wrap(["{0x%x, 0x%x}, " % (a, b) for a, b in ranges(inert())], "    ")
    OUT.write_text("""\
/* unicode.h - where the tokenizers library reads Unicode otherwise than the libraries used here.
 * Written by tests/reference/unicode_gap.py. */
#ifndef LADE_TOKENIZER_UNICODE_H
#define LADE_TOKENIZER_UNICODE_H

#include <stdint.h>

/* clang-format off */

/* Characters that Oniguruma counts as \\\\p{L}, \\\\p{M} and \\\\p{N} and Unicode 14, which PCRE2 10.42
 * knows, does not; as the inside of a character class. */
%s

%s

%s

/* Characters that came after Unicode 9, with which the library composes: marks without a combining
 * class to it, and pairs that do not compose. From %s. */
static const uint32_t lade_inert[][2] = {
%s
};

#endif
""".replace("\\\\p", "\\p") % (class_text("LADE_NEWER_L", newer("L")), class_text("LADE_NEWER_M", newer("M")),
       class_text("LADE_NEWER_N", newer("N")), "Unicode " + unicodedata2.unidata_version, table))


if __name__ == "__main__":
    main()
