#!/usr/bin/env python3
"""lade beside other programs on one GGUF file: alternating runs, medians, ratios.

    side_by_side.py LADE MODEL.gguf [--peer NAME=COMMAND]... [--python-package]
                    [--tests LIST] [--rounds N] [--state FILE [--seconds S]] [--json]

A peer is any llama-bench with the flags it is best with, for example

    --peer "llama.cpp=/opt/llama.cpp/bin/llama-bench -fa 1" --peer "ik=/opt/ik/llama-bench -rtr 1"

--python-package adds llama.cpp as the package llama_cpp of this Python. Tests, all by default:

    load        seconds from start to the end of one evaluated token, the file in the page cache
    cold        the same, the file not in the page cache; and `read`, a plain read of the file
    ready       seconds from start to the first token after a prompt of 16, the file not in the page
                cache: lade answers while it loads, the others when they have loaded
    short       prefill of 512 tokens and decode of 256, tokens a second
    decode      decode of 256 tokens with nothing before them
    long        prefill of 4,096 tokens
    deep        decode of 256 tokens at a depth of 16,384

Every round runs each test once in each program, one right after the other, because what else the
machine does changes from minute to minute; numbers are medians over the rounds, and a ratio is
the median of the rounds' ratios (over 1: lade is better). With --state the results are kept in FILE,
where another call goes on; with --seconds a call starts no run that would take it beyond S.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

from larger_than_ram import PROMPT, PROMPT_TOKENS, first_output
from model_files import forget

TESTS = ("load", "cold", "ready", "short", "decode", "long", "deep")
LONG, DEEP = 4096, 16384
GENERATED = 256  # an answer, not the second after a load, when a host may still move the cores
BETTER_LOW = {"load s", "cold s", "ready s"}


def run(command):
    """Output, and seconds the command took."""
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: {done.stderr.strip()[-400:] or done.returncode}")
    return done.stdout, time.monotonic() - begin


class Lade:
    name = "lade"

    def __init__(self, program, model):
        self.bench = [program, "bench", "-m", model, "--json"]
        self.answer = [program, "run", "-m", model, "-p", PROMPT, "-n", "1", "--greedy"]

    def rows(self, *flags):
        out, seconds = run(self.bench + list(flags))
        return json.loads(out), seconds

    def load(self):
        return {"load s": self.rows("-p", "1", "-n", "0", "-r", "1")[1]}

    def ready(self):
        return {"ready s": first_output(self.answer)[0]}

    def short(self):
        row = self.rows("-p", "512", "-n", str(GENERATED), "-r", "3")[0][0]
        return {"prefill 512": row["prefill_tps"], "decode": row["decode_tps"],
                "of bandwidth": row["of_peak"], "rss GB": row["rss_peak_bytes"] / 1e9}

    def decode(self):
        row = self.rows("-p", "0", "-n", str(GENERATED), "-r", "3")[0][0]
        return {"decode alone": row["decode_tps"], "alone, of bandwidth": row["of_peak"],
                "rss GB": row["rss_peak_bytes"] / 1e9}

    def long(self):
        row = self.rows("-p", str(LONG), "-n", "0", "-r", "1", "--context", str(LONG + 8))[0][0]
        return {"prefill 4096": row["prefill_tps"]}

    def deep(self):
        row = self.rows("-p", "0", "-n", str(GENERATED), "-r", "1", "--depth", str(DEEP),
                        "--context", str(DEEP + GENERATED + 8))[0][0]
        return {"decode at 16384": row["decode_tps"]}


class LlamaBench:
    def __init__(self, name, command, model):
        self.name = name
        words = shlex.split(command)
        self.bench = words + ["-m", model, "-o", "json"]
        text = subprocess.run(words[:1] + ["--help"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True).stdout
        self.no_warmup = ["--no-warmup"] if "--no-warmup" in text else ["-w", "0"]
        self.has_depth = "--n-depth" in text

    def rows(self, *flags):
        out, seconds = run(self.bench + list(flags))
        return json.loads(out[out.index("["):]), seconds

    def load(self):
        return {"load s": self.first(1)}

    def ready(self):
        return {"ready s": self.first(PROMPT_TOKENS)}

    def first(self, tokens):
        """Seconds from start to the end of a prompt of so many tokens."""
        return self.rows("-p", str(tokens), "-n", "0", "-r", "1", *self.no_warmup)[1]

    def short(self):
        rows, _ = self.rows("-p", "512", "-n", str(GENERATED), "-r", "3")
        speed = {bool(r["n_gen"]): statistics.median(r["samples_ts"]) for r in rows}
        return {"prefill 512": speed[False], "decode": speed[True]}

    def decode(self):
        rows, _ = self.rows("-p", "0", "-n", str(GENERATED), "-r", "3")
        return {"decode alone": statistics.median(rows[0]["samples_ts"])}

    def long(self):
        return {"prefill 4096": self.rows("-p", str(LONG), "-n", "0", "-r", "1")[0][0]["avg_ts"]}

    def deep(self):
        n = str(GENERATED)
        flags = (["-p", "0", "-n", n, "-d", str(DEEP)] if self.has_depth
                 else ["-p", "0", "-n", "0", "-gp", f"{DEEP},{n}"])
        return {"decode at 16384": self.rows(*flags, "-r", "1")[0][0]["avg_ts"]}


# Runs in a Python of its own, so that each test loads anew. argv: model, test
PACKAGE = """
import json, sys, time
begin = time.monotonic()
from llama_cpp import Llama
model, test = sys.argv[1:3]
context = {"deep": %d, "long": %d}.get(test, 1024)
llama = Llama(model, n_ctx=context, n_batch=2048, n_ubatch=512, verbose=False, n_threads=%d,
              n_threads_batch=%d, flash_attn=True)
def seconds(ids):
    start = time.monotonic()
    llama.eval(ids)
    return time.monotonic() - start
ids = [(i * 7919 + 1) %% 150000 for i in range(context)]
def decode(n):
    return n / sum(seconds(ids[i:i + 1]) for i in range(n))
if test == "load":
    seconds(ids[:1])
    out = {"load s": time.monotonic() - begin}
elif test == "ready":
    seconds(ids[:%d])
    out = {"ready s": time.monotonic() - begin}
elif test == "short":
    seconds(ids[:512])
    llama.reset()
    out = {"prefill 512": 512 / seconds(ids[:512]), "decode": decode(%d)}
elif test == "decode":
    seconds(ids[:1])
    out = {"decode alone": decode(%d)}
elif test == "long":
    out = {"prefill 4096": 4096 / seconds(ids[:4096])}
else:
    seconds(ids[:%d])
    out = {"decode at 16384": decode(%d)}
print(json.dumps(out))
"""


class PythonPackage:
    name = "python package"

    def __init__(self, model):
        cores = os.cpu_count()
        self.command = [sys.executable, "-c", PACKAGE % (
            DEEP + GENERATED + 8, LONG + 64, cores, cores,
            PROMPT_TOKENS, GENERATED, GENERATED, DEEP, GENERATED), model]

    def __getattr__(self, test):
        if test not in TESTS:
            raise AttributeError(test)
        return lambda: json.loads(run(self.command + [test])[0].splitlines()[-1])


def read_file(path):
    """Seconds to read the whole file into one buffer."""
    buffer = bytearray(16 << 20)
    begin = time.monotonic()
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buffer):
            pass
    return time.monotonic() - begin


class Results:
    """What was measured: {round: {test: {program: {quantity: value}}}}, and how long runs take."""

    def __init__(self, path):
        self.path = path
        self.data = {"rounds": {}, "took": {}}
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                self.data = json.load(f)

    def has(self, turn, test, name):
        return name in self.data["rounds"].get(str(turn), {}).get(test, {})

    def add(self, turn, test, name, values, took):
        tests = self.data["rounds"].setdefault(str(turn), {})
        tests.setdefault(test, {})[name] = values
        key = f"{test} {name}"
        self.data["took"][key] = max(took, self.data["took"].get(key, 0))
        if self.path:
            with open(self.path + ".new", "w", encoding="utf-8") as f:
                json.dump(self.data, f)
            os.replace(self.path + ".new", self.path)

    def took(self, test, name):
        """Seconds a run takes; before the first, a guess."""
        guess = {"decode": 40, "deep": 150}.get(test, 60)
        return self.data["took"].get(f"{test} {name}", guess)


def measure(programs, model, tests, rounds, results, seconds):
    """Whether everything was measured before the time was over."""
    end = time.monotonic() + seconds if seconds else float("inf")
    for turn in range(rounds):
        for test in tests:
            for program in programs:
                if results.has(turn, test, program.name):
                    continue
                if time.monotonic() + results.took(test, program.name) > end:
                    return False
                begin = time.monotonic()
                values = {}
                if test == "cold":
                    forget([model])
                    values = {"cold read s": read_file(model)} if program is programs[0] else {}
                    forget([model])
                    values["cold s"] = program.load()["load s"]
                else:
                    if test == "ready":
                        forget([model])
                    if test == "load":
                        values = {"read s": read_file(model)} if program is programs[0] else {}
                    values.update(getattr(program, test)())
                results.add(turn, test, program.name, values, time.monotonic() - begin)
    return True


def summary(results):
    """{quantity: {program: {"median", "ratio"}}}; the ratio is that of lade to the program."""
    out = {}
    for tests in results.data["rounds"].values():
        for by_program in tests.values():
            mine = by_program.get("lade", {})
            for name, values in by_program.items():
                for quantity, value in values.items():
                    entry = out.setdefault(quantity, {}).setdefault(name, ([], []))
                    entry[0].append(value)
                    if name != "lade" and quantity in mine:
                        ratio = mine[quantity] / value
                        entry[1].append(1 / ratio if quantity in BETTER_LOW else ratio)
    return {q: {name: {"median": statistics.median(values),
                       "ratio": statistics.median(ratios) if ratios else None, "runs": len(values)}
                for name, (values, ratios) in programs.items()} for q, programs in out.items()}


def show(table):
    for quantity, programs in table.items():
        for name, entry in programs.items():
            ratio = f"   lade {entry['ratio']:.2f}x" if entry["ratio"] else ""
            print(f"{quantity:16} {name:22} {entry['median']:10.2f}  ({entry['runs']} runs){ratio}")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("lade")
    p.add_argument("model")
    p.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    p.add_argument("--python-package", action="store_true")
    p.add_argument("--tests", default=",".join(TESTS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--state", metavar="FILE")
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    tests = o.tests.split(",")
    if set(tests) - set(TESTS):
        p.error(f"--tests: {o.tests}: not among {', '.join(TESTS)}")
    if any("=" not in peer for peer in o.peer):
        p.error("--peer: write NAME=COMMAND")
    programs = [Lade(o.lade, o.model)]
    programs += [LlamaBench(*peer.split("=", 1), o.model) for peer in o.peer]
    if o.python_package:
        programs.append(PythonPackage(o.model))
    results = Results(o.state)
    complete = measure(programs, o.model, tests, o.rounds, results, o.seconds)
    table = summary(results)
    if o.json:
        print(json.dumps({"complete": complete, "model": o.model, "summary": table,
                          "rounds": results.data["rounds"]}, indent=1))
    else:
        show(table)
        if not complete:
            print("not all measured yet; the same call goes on")


if __name__ == "__main__":
    main()
