#!/usr/bin/env python3
"""What `lade plan` predicts against what then happens, for every strategy that runs here.

    predictions.py LADE MODEL... [--rounds N] [--tokens N]

For each model and each row that this machine can run it measures the machine (`lade doctor`), asks
for the plan under the row's cap of RAM, loads the model and decodes, and prints both numbers. Rows
with a cache are tried with room for several shares of the experts. The error of a number is
|predicted / measured - 1|; the last lines have the medians, and the exit status is 1 where one is
above 25%.

The model runs once before, all in RAM where it fits, so that its routing and what a load takes are
known, as from a person's second start on; the tokens are others than those that are measured. What is
kept of loads is what earlier ones took, never the one that is told. The measurements of
one row are taken right after each other, because other programs and other virtual machines change
the speed of memory and drives from minute to minute; with --rounds all rows are tried in turn that
often, and each number is the median of the rounds.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from model_files import forget

BOUND = 0.25
OTHER, ROUTED = 512, 200  # tokens: where those begin that tell the routing, and how many
GIB = 1 << 30


def lade(program, *args):
    out = subprocess.run([program, *args], stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)


def plan(program, model, strategy, cap):
    """The row of a strategy under a cap in GiB (0 = none), or None where it is impossible."""
    rows = lade(program, "plan", "-m", model, "--json", "--cpu", "--cpu-memory", f"{cap:.3f}")["rows"]
    row = next(r for r in rows if r["strategy"] == strategy)
    return None if row["status"] == "impossible" else row


def cases(program, model):
    """Strategies and caps: everything in RAM, and caches for several shares of the experts."""
    whole = lade(program, "plan", "-m", model, "--json", "--cpu")
    rows = {r["strategy"]: r for r in whole["rows"]}
    experts, full = whole["experts_bytes"], rows["mmap"]
    fixed = full["ram_bytes"] - full["experts_in_ram"] * experts
    for name in ("cpu-comfort", "cpu-standard", "cpu-tight"):
        if rows[name]["status"] != "impossible":
            yield name, 0.0
            break
    for name, shares in (("cached-mmap", (0.75, 0.55)), ("mmap", (0.35, 0.2, 0.1))):
        for share in shares:
            cap = (fixed + share * experts) / GIB
            if plan(program, model, name, cap):
                yield name, cap


def forget_all(model):
    """Takes the model's files out of the page cache, so that each load is a cold one."""
    forget([model] if os.path.isfile(model) else [
        os.path.join(model, f) for f in os.listdir(model)])


def bench(program, model, cap, *args):
    rows = lade(program, "bench", "-m", model, "--cpu", "--cpu-memory", f"{cap:.3f}", "-p", "0",
                "--json", *args)
    return rows[0]


def measure(program, model, strategy, cap, tokens):
    forget_all(model)
    return bench(program, model, cap, "--strategy", strategy, "-n", str(tokens), "-r", "3")


def hits(row):
    """The part of the experts asked for that was in RAM."""
    e = row["experts"]
    return e["ram_hits"] / max(e["ram_hits"] + e["disk_reads"], 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lade")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=48)
    o = parser.parse_args()
    errors = {"load": [], "decode": []}
    print(f"{'model':24} {'strategy':14} {'cap GiB':>7} {'load s':>8} {'seen':>8} {'':>5} "
          f"{'decode':>8} {'seen':>8} {'':>5} {'hits':>5}")
    with tempfile.TemporaryDirectory() as home:
        os.environ["LADE_HOME"] = home
        for model in o.models:
            bench(o.lade, model, 0.0, "--depth", str(OTHER), "-n", str(ROUTED), "-r", "1")
            rows = list(cases(o.lade, model))
            runs = {row: [] for row in rows}
            for _ in range(o.rounds):
                for strategy, cap in rows:
                    lade(o.lade, "doctor", "-m", model, "--json")
                    said = plan(o.lade, model, strategy, cap)
                    if said:
                        seen = measure(o.lade, model, strategy, cap, o.tokens)
                        runs[strategy, cap].append((said, seen))
            for (strategy, cap), pairs in runs.items():
                if not pairs:
                    continue
                line = f"{os.path.basename(model)[:24]:24} {strategy:14} {cap:7.2f}"
                for key, name in (("load", "load_s"), ("decode", "decode_tps")):
                    a, b = (statistics.median(side[name] for side in sides) for sides in zip(*pairs))
                    errors[key].append(abs(a / b - 1))
                    line += f" {a:8.2f} {b:8.2f} {100 * (a / b - 1):+4.0f}%"
                print(line + f" {100 * statistics.median(hits(s) for _, s in pairs):4.0f}%",
                      flush=True)
    bad = False
    for key, values in errors.items():
        median = statistics.median(values)
        bad |= median > BOUND
        print(f"{key}: median error {100 * median:.0f}% over {len(values)} rows, "
              f"bound {100 * BOUND:.0f}%")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
