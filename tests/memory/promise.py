#!/usr/bin/env python3
"""Memory that lade takes, by the kernel's count, against its cap and its plan.

    promise.py LADE MODEL... [--words N] [--tokens N] [--context N] [--tests]

For each model and each strategy of the CPU that this machine can run, with caps that leave room for
all, half and hardly any of the experts, lade answers a long question, while it loads and after; with
enough tokens the load ends meanwhile. The plan says how much RAM that takes; the cap is a promise.
Both are compared with the most that was ever in use:

    peak   the control group's own highest mark (memory.peak, memory.max_usage_in_bytes) less the
           pages of files in it, which the kernel can take back; kernel memory counts
    VmHWM  the process's highest mark, with pages of files (the program itself)
    anon   its pages that are no file's, at most

Then, in a group whose limit is below what the model takes, lade plans for itself: it must neither be
killed nor exceed the limit. Without control groups VmHWM decides alone. The exit status is 1 where
a peak is above the cap or above 1.05 times the plan. --tests prints "ok NAME" lines instead.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from group import Group, Unavailable, Watch  # noqa: E402

PROMISE, GIB = 1.05, 1 << 30



class Checker:
    def __init__(self, options):
        self.o, self.bad = options, 0
        self.common = ["--cpu", "--context", str(options.context)]
        self.prompt = "Who are they? " + " ".join(f"word {i}," for i in range(options.words))

    def tell(self, good, name, line):
        self.bad += not good
        if self.o.tests:
            print(f"{'ok' if good else 'not ok'} {name}" + ("" if good else f"\n  {line}"))
        else:
            print(f"{line}{'' if good else '   BROKEN'}", flush=True)

    def lade(self, *args):
        out = subprocess.run([self.o.lade, *args], stdout=subprocess.PIPE, check=True).stdout
        return json.loads(out)

    def plan(self, model, *more):
        rows = self.lade("plan", "-m", model, "--json", *self.common, *more)
        return rows, {r["strategy"]: r for r in rows["rows"] if r["status"] != "impossible"}

    def cases(self, model):
        """Strategies and caps in GiB with, as near as it gets, such shares of the experts in RAM."""
        whole, rows = self.plan(model)
        for name, row in rows.items():
            fixed = row["ram_bytes"] - row["experts_in_ram"] * whole["experts_bytes"]
            shares = (1.0,) if name.startswith("cpu") else (0.9, 0.55, 0.25, 0.05)
            for share in shares:
                yield name, share, (fixed + share * whole["experts_bytes"]) * 1.001 / GIB

    def run(self, model, strategy, cap, limit=None):
        """Answers once: what lade said, and the peaks."""
        command = [self.o.lade, "run", "-m", model, *self.common, "-p", self.prompt, "-n",
                   str(self.o.tokens), "--greedy", "--json"]
        if strategy:
            command += ["--strategy", strategy, "--cpu-memory", f"{cap:.6f}"]
        try:
            group = Group(limit)
        except Unavailable:
            if limit:
                raise
            return self.answer(subprocess.Popen, command, None)
        with group:
            return self.answer(group.start, command, group)

    @staticmethod
    def answer(start, command, group):
        with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            watch = Watch(p.pid)
            out, err = p.communicate()
        watch.join()
        seen = {"hwm": watch.hwm, "anon": watch.anon, "kills": 0, "peak": 0}
        if group:
            seen.update(kills=group.kills(), peak=group.peak() - group.cache())
        if p.returncode:
            return {"error": err.decode().strip() or f"status {p.returncode}", **seen}
        return {**json.loads(out), **seen}

    def check_row(self, model, strategy, share, cap):
        name = f"memory of {os.path.basename(model)}, {strategy}, {100 * share:.0f}% of the experts"
        _, rows = self.plan(model, "--cpu-memory", f"{cap:.6f}")
        if strategy not in rows:
            return
        plan = rows[strategy]["ram_bytes"]
        seen = self.run(model, strategy, cap)
        if "error" in seen:
            self.tell(False, name, seen["error"])
            return
        most = max(seen["peak"], seen["hwm"])
        # What the cap and the plan allow: the plan is never above the cap.
        good = most <= PROMISE * plan and most <= cap * GIB and not seen["kills"]
        self.tell(good, name, f"{os.path.basename(model)[:20]:20} {strategy:13} "
                  f"{cap:7.3f} {plan / GIB:7.3f} {seen['peak'] / GIB:7.3f} {seen['hwm'] / GIB:7.3f} "
                  f"{seen['anon'] / GIB:7.3f} {most / plan:6.3f} {seen['decode_tps']:7.2f}")

    def check_limit(self, model):
        """In a group that is too small for the whole model."""
        whole, rows = self.plan(model)
        row = rows["mmap"]
        limit = row["ram_bytes"] - (row["experts_in_ram"] - 0.3) * whole["experts_bytes"]
        limit = int(limit * 16 / 15) + (16 << 20)  # a sixteenth is left to others
        name = f"memory of {os.path.basename(model)} in a group that is too small for it"
        try:
            seen = self.run(model, None, 0, limit)
        except Unavailable as e:
            print(f"skip {name}: {e}")
            return
        good = "error" not in seen and not seen["kills"] and seen["peak"] <= limit
        self.tell(good, name, seen.get("error") or
                  f"{os.path.basename(model)[:20]:20} {seen['strategy']:13} "
                  f"{limit / GIB:7.3f} {'':7} {seen['peak'] / GIB:7.3f} {seen['hwm'] / GIB:7.3f} "
                  f"{seen['anon'] / GIB:7.3f} {'limit':>6} {seen['decode_tps']:7.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lade")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--tests", action="store_true")
    o = parser.parse_args()
    check = Checker(o)
    with tempfile.TemporaryDirectory() as home:
        os.environ["LADE_HOME"] = home
        if not o.tests:
            print(f"{'GiB':20} {'strategy':13} {'cap':>7} {'plan':>7} {'peak':>7} {'VmHWM':>7} "
                  f"{'anon':>7} {'/plan':>6} {'tok/s':>7}")
        for model in o.models:
            for case in check.cases(model):
                check.check_row(model, *case)
            check.check_limit(model)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main())
