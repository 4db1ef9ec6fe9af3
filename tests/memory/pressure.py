#!/usr/bin/env python3
"""Another program takes memory while lade answers, then gives it back.

    pressure.py LADE MODEL [--limit GiB] [--ballast GiB] [--rate GiB/s] [--prompt] [--tests]

In one control group with a limit, lade answers with a model of which not all fits, so that it fills
what the limit allows with experts; and a ballast process takes more than the limit has left. lade's
experts must make room: neither process may be killed, the ballast must get all that it wants, and
when it ends lade must take that memory again. The words of the answer must be the same as without.
With --prompt the ballast comes while lade reads a long prompt, not while it decodes. The exit
status is 1 where any of this fails. Without a control group nothing can be tried: "skip".

Sizes default to what suits the model: the limit leaves room for half of its experts, the ballast is
half of that room. Greater rates than a few GiB/s are beyond what any look in time can catch.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from group import Group, Unavailable, read  # noqa: E402

GIB = 1 << 30
PATIENCE = 120  # seconds that a step may take
BALLAST = """
import mmap, sys, time
size, rate, step = int(sys.argv[1]), float(sys.argv[2]), 4 << 20
memory, begin = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), time.monotonic()
for at in range(0, size, step):
    end = min(at + step, size)
    memory[at:end] = b"\\x11" * (end - at)
    time.sleep(max(0, begin + end / rate - time.monotonic()))
print("full", flush=True)
sys.stdin.read()
"""


def anon(pid):
    """Bytes of a process that are no file's; 0 when it has ended."""
    try:
        lines = dict(line.split(":", 1) for line in read(f"/proc/{pid}/status").splitlines())
    except OSError:
        return 0
    return 1024 * int(lines.get("RssAnon", "0").split()[0])


class Failed(Exception):
    pass


class Trial:
    def __init__(self, o, group, limit, ballast):
        self.o, self.group, self.limit, self.ballast = o, group, limit, ballast
        self.begin = time.monotonic()

    def say(self, what, p):
        if not self.o.tests:
            print(f"{time.monotonic() - self.begin:6.1f} s  lade {anon(p.pid) / GIB:6.3f} GiB, group "
                  f"{self.group.use() / GIB:6.3f} of {self.limit / GIB:.3f}  {what}", flush=True)

    def wait(self, what, p, done):
        """Until done(); the answer must go on meanwhile."""
        end = time.monotonic() + PATIENCE
        while not done():
            if p.poll() is not None:
                raise Failed(f"{what}: lade ended with status {p.returncode}")
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {PATIENCE} s; lade has {anon(p.pid) / GIB:.3f} GiB")
            time.sleep(0.02)
        self.say(what, p)

    def run(self, p):
        """All of it; how many bytes lade had before, under pressure and again."""
        last = [0, 0.0]

        def steady():
            now = anon(p.pid)
            if now > last[0] + (1 << 20):
                last[:] = now, time.monotonic()
            return last[1] and time.monotonic() - last[1] > self.o.steady
        self.wait("loaded", p, steady)
        before = anon(p.pid)
        with self.group.start([sys.executable, "-c", BALLAST, str(self.ballast),
                               str(self.o.rate * GIB)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as b:
            full = []
            os.set_blocking(b.stdout.fileno(), False)

            def is_full():
                full.append(b.stdout.read())
                if b.poll() is not None:
                    raise Failed(f"the ballast ended with status {b.returncode}")
                return any(full)
            self.wait(f"the ballast has its {self.ballast / GIB:.3f} GiB", p, is_full)
            time.sleep(1)
            during = anon(p.pid)
            if self.group.kills():
                raise Failed("a process was killed for memory")
            b.stdin.close()
        self.say("the ballast has ended", p)
        self.wait("lade has its memory again", p,
                  lambda: anon(p.pid) >= before - (before - during) * 0.1)
        return before, during, anon(p.pid)


def answer(p):
    """Stops the answer and gives its text."""
    p.send_signal(signal.SIGINT)
    return p.communicate()[0].decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lade")
    parser.add_argument("model")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--ballast", type=float)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--steady", type=float, default=3)
    parser.add_argument("--prompt", action="store_true")
    parser.add_argument("--tests", action="store_true")
    o = parser.parse_args()
    name = f"experts give way to a ballast, {'prompt' if o.prompt else 'decode'}"
    common = ["-m", o.model, "--cpu", "--context", "32768"]
    with tempfile.TemporaryDirectory() as home:
        os.environ["LADE_HOME"] = home
        plan = json.loads(subprocess.run([o.lade, "plan", *common, "--json"], check=True,
                                         stdout=subprocess.PIPE).stdout)
        row = next(r for r in plan["rows"] if r["strategy"] == "mmap")
        fixed = row["ram_bytes"] - row["experts_in_ram"] * plan["experts_bytes"]
        limit = int(o.limit * GIB if o.limit else (fixed + 0.5 * plan["experts_bytes"]) * 16 / 15)
        ballast = int(o.ballast * GIB if o.ballast else 0.25 * plan["experts_bytes"])
        prompt = " ".join(f"word {i}," for i in range(4000 if o.prompt else 20))
        command = [o.lade, "run", *common, "-p", prompt, "-n", "8000", "--greedy"]
        try:
            with Group(limit) as group, group.start(command, stdout=subprocess.PIPE) as p:
                before, during, after = Trial(o, group, limit, ballast).run(p)
                text = answer(p)
        except Unavailable as e:
            print(f"skip {name}: {e}")
            return 0
        except Failed as e:
            print(f"not ok {name}\n  {e}")
            return 1
    print(f"ok {name}" + ("" if o.tests else f": {before / GIB:.3f} GiB, then {during / GIB:.3f}, "
                          f"then {after / GIB:.3f}; {len(text)} bytes of answer meanwhile"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
