"""Checks of the shell test that need more than a shell: check.py NAME ARGUMENTS..."""

import array
import base64
import json
import math
import os
import signal
import subprocess
import sys


def logits(lade, fixture, *options):
    """`lade logits --all -o -` against the golden logits: relative L2 of the worst position."""
    name = os.path.basename(fixture)
    golden = json.load(open(f"tests/golden/models/{name}.json"))
    reference = array.array("f", open(f"tests/golden/models/{name}.f32", "rb").read())
    ids = " ".join(map(str, golden["prompt"]))
    out = subprocess.run(
        [lade, "logits", "-m", fixture, "--ids", ids, "--all", "-o", "-", *options],
        capture_output=True,
        check=True,
    ).stdout
    ours = array.array("f", out)
    vocab, columns = golden["vocab"], golden["columns"]
    first, step = golden["column_first"], golden["column_step"]
    assert len(ours) == len(golden["prompt"]) * vocab, "wrong number of logits"
    worst = 0.0
    for p in range(len(golden["prompt"])):
        row = ours[p * vocab + first : (p + 1) * vocab : step][:columns]
        wanted = reference[p * columns : (p + 1) * columns]
        difference = math.sqrt(sum((a - b) ** 2 for a, b in zip(row, wanted)))
        worst = max(worst, difference / math.sqrt(sum(b * b for b in wanted)))
    limit = 2e-2 if "--fast" in options else 1e-4
    assert worst <= limit, f"relative L2 {worst:.2e}"


def last_row(lade, fixture):
    """Without --all the last row; in a file as well as in a pipe."""
    run = [lade, "logits", "-m", fixture, "--ids", "5,6 7"]
    every = subprocess.run([*run, "--all", "-o", "-"], capture_output=True, check=True).stdout
    last = subprocess.run([*run, "-o", "-"], capture_output=True, check=True).stdout
    a = array.array("f", every)[-len(last) // 4 :]
    b = array.array("f", last)
    assert len(every) == 3 * len(last)
    assert math.dist(a, b) <= 1e-4 * math.hypot(*b)


def tokens(lade, fixture):
    """Tokenize and back, on a part of the golden corpus (the unit test takes all of it)."""
    lines = open("tests/golden/tokenizer/small.jsonl").read().splitlines()[1::40]
    assert len(lines) >= 10
    for line in lines:
        case = json.loads(line)
        text = base64.b64decode(case["text"])
        ids = " ".join(map(str, case["ids"]))
        run = [lade, "tokenize", "-m", fixture, "--special"]
        out = subprocess.run(run, input=text, capture_output=True, check=True).stdout
        assert out.decode().strip() == ids, f"{case['name']}: {out!r}"
        run = [lade, "detokenize", "-m", fixture]
        out = subprocess.run(run, input=ids.encode(), capture_output=True, check=True).stdout
        # The tokenizer composes characters (NFC) and replaces what is no UTF-8.
        import unicodedata

        wanted = unicodedata.normalize("NFC", text.decode(errors="replace"))
        assert out.decode() == wanted, f"{case['name']}: {out!r}"


def interrupt(lade, fixture):
    """Ctrl-C in the middle of an answer: ends soon, with 130 and what was written so far."""
    run = [lade, "run", "-m", fixture, "-p", "x", "--isa", "portable", "--threads", "1"]
    child = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert child.returncode == 130, f"code {child.returncode}: {err!r}"
    assert err == b"" and out.endswith(b"\n")


def interrupt_json(lade, fixture):
    run = [lade, "run", "-m", fixture, "-p", "x", "--isa", "portable", "--threads", "1", "--json"]
    child = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        child.wait(0.3)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=10)
    result = json.loads(out)
    assert (child.returncode, result["stop"]) in [(130, "cancelled"), (0, "end"), (0, "context")]


def fields(path, *names):
    """Every name is a key of the object (or of each of the list's) in the file."""
    value = json.load(open(path))
    for item in value if isinstance(value, list) else [value]:
        missing = [n for n in names if n not in item]
        assert not missing, f"no {missing}"


def same_export(a, b):
    """Two exports hold the same conversations."""

    def clean(path):
        value = json.load(open(path))
        assert value["conversations"], "empty"
        return value["conversations"]

    assert clean(a) == clean(b)


def conversation(path):
    """An export with one conversation and a control sequence in it."""
    message = {"id": 1, "parent": 0, "role": "user", "state": "complete", "created": 1700000000000}
    answer = {"id": 2, "parent": 1, "role": "assistant", "state": "stopped"}
    value = {
        "lade_history": 1,
        "conversations": [
            {
                "title": "Über 北京",
                "created": 1700000000000,
                "updated": 1700000001000,
                "leaf": 2,
                "messages": [
                    {**message, "content": "Wo liegt 北京?"},
                    {
                        **answer,
                        "content": "In China.\u001b[31m",
                        "reasoning": "easy",
                        "created": 1700000000500,
                        "tokens": 4,
                        "decode_tps": 12.5,
                    },
                ],
            }
        ],
    }
    json.dump(value, open(path, "w"))


def sql(path, statement):
    import sqlite3

    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


name, *arguments = sys.argv[1:]
try:
    globals()[name](*arguments)
except AssertionError as error:
    sys.exit(f"{name}: {error}")
