#!/usr/bin/env python3
"""How near a load into RAM comes to the drive: lade beside direct reads of the same files.

    load_speed.py LADE MODEL [--rounds N]

In turn: all files of the model read past the page cache, front to back, 4 MiB at a time, eight in
flight, into huge pages that are used again; and the model loaded into RAM, with its files out of the
page cache. The model must fit into RAM as a whole. On a virtual machine the first touch of memory may
have to wait for the hypervisor, which also takes back what has been free for a while, at the drive's
cost. So all memory that is free is held, long enough that it has taken the last of it, and what the
load needs is given back just before it, the rest after it; the speed at which it came, when it was
taken and once more, is printed. What has not been read for a while comes slowly the first
time, so all is read once before. The exit status is 1 where the median of the rounds' ratios, a
load's speed to that of the reads just before it, is below 90%. Nothing else should run.
"""
import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import threading
import time

from model_files import files_of, forget

BOUND = 0.9
BLOCK, FLYING = 4 << 20, 8
LEFT, PIECE = 1 << 30, 1 << 28  # bytes of memory: what others may need meanwhile; held at once
MORE = 3 << 30  # bytes that a load is given beside a tenth more than the files have
REST = 2.5  # seconds after which what was free has been taken back
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14


class Held:
    """All free memory but LEFT, in pieces."""

    def __init__(self):
        with open("/proc/meminfo", encoding="ascii") as f:
            free = {line.split(":")[0]: int(line.split()[1]) << 10 for line in f}["MemFree"]
        self.pieces = [mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                       for _ in range(max(free - LEFT, PIECE) // PIECE)]
        for piece in self.pieces:
            piece.madvise(mmap.MADV_HUGEPAGE)

    def touch(self, again=False):
        """GB/s at which it comes into being. Again: each piece is given back for a moment."""
        begin = time.monotonic()
        for piece in self.pieces:
            if again:
                piece.madvise(mmap.MADV_DONTNEED)
            piece.madvise(POPULATE_WRITE)
        return len(self.pieces) * PIECE / (time.monotonic() - begin) / 1e9

    def give(self, size):
        """As many bytes as that, or all."""
        for _ in range(min(-(-size // PIECE), len(self.pieces))):
            self.pieces.pop().close()

    def give_all(self):
        self.give(len(self.pieces) * PIECE)


def read_all(files):
    """GB/s of direct reads of all files."""
    blocks = [(path, at) for path in files for at in range(0, os.path.getsize(path), BLOCK)]
    fds = {path: os.open(path, os.O_RDONLY | os.O_DIRECT) for path in files}
    done, lock, todo = [0], threading.Lock(), iter(blocks)

    def work():
        buffer = mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        buffer.madvise(mmap.MADV_HUGEPAGE)
        while True:
            with lock:
                path, at = next(todo, (None, 0))
            if path is None:
                return
            got = os.preadv(fds[path], [buffer], at)
            with lock:
                done[0] += got

    begin = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(FLYING)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    speed = done[0] / (time.monotonic() - begin) / 1e9
    for fd in fds.values():
        os.close(fd)
    return speed


def load(program, model):
    """GB/s of the model's files, and the seconds."""
    out = subprocess.run([program, "bench", "-m", model, "--cpu", "-p", "0", "-n", "1", "-r", "1",
                          "--json"], stdout=subprocess.PIPE, check=True).stdout
    row = json.loads(out)[0]
    if row["strategy"].endswith("mmap"):
        raise SystemExit("the model does not fit into RAM: take a smaller one")
    return row["load_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lade")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    o = parser.parse_args()
    files = files_of(o.model)
    size = sum(os.path.getsize(f) for f in files)
    shares = []
    read_all(files)
    for _ in range(o.rounds):
        forget(files)
        held = Held()
        first = held.touch()
        read = read_all(files)
        again = held.touch(again=True)
        time.sleep(REST)
        held.give(size + size // 10 + MORE)
        seconds = load(o.lade, o.model)
        held.give_all()
        shares.append(size / seconds / 1e9 / read)
        print(f"drive {read:.2f} GB/s; memory's first touch {first:.2f}, again {again:.2f} "
              f"GB/s; loaded in {seconds:.2f} s, {shares[-1] * read:.2f} GB/s", flush=True)
    share = statistics.median(shares)
    print(f"load: {100 * share:.0f}% of the drive's speed (at least {100 * BOUND:.0f}%)")
    return 0 if share >= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
