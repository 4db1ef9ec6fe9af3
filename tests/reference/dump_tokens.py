#!/usr/bin/env python3
"""Writes the ids that the tokenizers library gives for every text of corpus.py.

  dump_tokens.py            small.jsonl from the fixtures' tokenizer, and qwen3.jsonl from the real
                            Qwen3 tokenizer when its directory is there
  dump_tokens.py --qwen DIR that directory (default ../shared/data/qwen3-tokenizer beside the
                            repository; it is not committed)

Both go to tests/golden/tokenizer, one JSON object a line:

  name      unique, for messages
  text      base64 of the raw bytes, which may be invalid UTF-8
  ids       with the added tokens matched literally in the text (the library's default)
  plain     only where different: ids when the text of added tokens is ordinary text
  decoded   only where different from the input: base64 of the bytes that `ids` stand for (NFC and
            U+FFFD make the difference)

Invalid UTF-8 is read as Python's errors="replace" reads it, before anything else happens: each
maximal prefix of a well-formed sequence that breaks off, else each byte, becomes one U+FFFD (the
practice Unicode recommends, chapter 3.9). The first line is {"tokenizer", "sha256", "size"}.
"""
import argparse
import base64
import hashlib
import json
from pathlib import Path

from tokenizers import Tokenizer

import corpus

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
GOLDEN = TESTS / "golden" / "tokenizer"
SMALL = TESTS / "fixtures" / "tiny-bf16"
QWEN = TESTS.parent.parent / "shared" / "data" / "qwen3-tokenizer"


def without_added(text):
    """The same tokenizer without added tokens."""
    value = json.loads(text)
    value["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(value))


def byte_table():
    """GPT-2's printable stand-ins for bytes: character to byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def spell(tok, ids, added, table):
    """The bytes that ids stand for."""
    out = bytearray()
    for i in ids:
        token = tok.id_to_token(i)
        out += token.encode() if i in added else bytes(table[c] for c in token)
    return bytes(out)


def dump(directory, out):
    text = (directory / "tokenizer.json").read_text(encoding="utf-8")
    tok, plain_tok, table = Tokenizer.from_str(text), without_added(text), byte_table()
    added = {entry["id"] for entry in json.loads(text)["added_tokens"]}
    lines = [{"tokenizer": directory.name, "size": tok.get_vocab_size(),
              "sha256": hashlib.sha256(text.encode()).hexdigest()}]
    for name, raw in corpus.entries():
        line = {"name": name, "text": base64.b64encode(raw).decode()}
        string = raw.decode("utf-8", errors="replace")
        line["ids"] = tok.encode(string, add_special_tokens=False).ids
        plain = plain_tok.encode(string, add_special_tokens=False).ids
        if plain != line["ids"]:
            line["plain"] = plain
        decoded = spell(tok, line["ids"], added, table)
        if decoded != raw:
            line["decoded"] = base64.b64encode(decoded).decode()
        lines.append(line)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{out.name}: {len(lines) - 1} texts, {sum('plain' in l for l in lines)} with added "
          f"tokens, {sum('decoded' in l for l in lines)} not round-trip")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--qwen", type=Path, default=QWEN, metavar="DIR")
    args = parser.parse_args()
    dump(SMALL, GOLDEN / "small.jsonl")
    if (args.qwen / "tokenizer.json").exists():
        dump(args.qwen, GOLDEN / "qwen3.jsonl")
    else:
        print(f"qwen3.jsonl: skipped, there is no {args.qwen}/tokenizer.json")


if __name__ == "__main__":
    main()
