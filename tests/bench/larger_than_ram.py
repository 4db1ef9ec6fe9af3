#!/usr/bin/env python3
"""A model larger than RAM: lade beside llama.cpp on one file, and the bound that the machine sets.

    larger_than_ram.py LADE MODEL [--peer LLAMA_BENCH]... [--rounds N] [--tokens N]

LADE is the program; MODEL a GGUF file, or without peers a directory; LLAMA_BENCH the llama-bench of
llama.cpp or of ik_llama.cpp, with arguments after it in the same word if wanted
("build/bin/llama-bench -t 8"). A checkpoint with the sizes of the 80B model and random weights will
do. In turn, each with the file out of the page cache:

    cold     seconds from the start of the program to the first token of a 16-token prompt
    decode   tokens/s of the first so many random tokens, when the load is over

llama.cpp maps the file, as it does by default; where it would copy the weights to another layout
(--repack), which takes RAM that is not there, it is told not to.

The bound of decode is the sum of what must be moved for a token, over the speeds measured here:
experts that RAM did not have over the drive's speed (direct reads of an expert's size at random,
eight in flight), everything else over the speed of RAM while all cores read. A program can get past
it only by doing both at once. The exit status is 1 where decode is below 3 times the best peer's or
85% of the bound, or the cold start is less than 4 times as fast as the best peer's.

Each run of lade has an empty LADE_HOME: the next one has the same tokens, and would know their routes.

Run it as root, or the page cache is only asked to forget the file. Nothing else should run.
"""
import argparse
import csv
import json
import mmap
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from model_files import files_of, forget

FASTER, OF_BOUND, COLD = 3, 0.85, 4
PROMPT_TOKENS = 16
# With the seven tokens of the template around it, these make 16 in Qwen's vocabulary.
PROMPT = "Name the largest cities of Japan now."


def forget_all(model):
    """Takes a model out of the page cache; everything, where that is allowed."""
    os.sync()
    forget(files_of(model))
    try:
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3")
    except OSError:
        pass


def drive_speed(path, block, seconds=2.0, threads=8):
    """GB/s of direct reads of `block` bytes at random."""
    block = -(-block // 4096) * 4096
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    blocks, done, end = os.fstat(fd).st_size // block, [0] * threads, time.monotonic() + seconds

    def read(k):
        pick, buffer = random.Random(k), mmap.mmap(-1, block)
        while time.monotonic() < end:
            done[k] += os.preadv(fd, [buffer], pick.randrange(blocks) * block)

    begin = time.monotonic()
    workers = [threading.Thread(target=read, args=(k,)) for k in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    os.close(fd)
    return sum(done) / (time.monotonic() - begin) / 1e9


def first_output(command):
    """Runs lade with an empty home; seconds until its first byte on standard output, and all of that."""
    with tempfile.TemporaryDirectory() as home:
        begin = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env={**os.environ, "LADE_HOME": home}) as p:
            first = p.stdout.read(1)
            seconds = time.monotonic() - begin
            text = (first + p.stdout.read()).decode()
    if p.returncode or not first:
        raise SystemExit(f"{shlex.join(command)}: failed; run it by hand to see why")
    return seconds, text


def lade_cold(program, model):
    forget_all(model)
    seconds, text = first_output([program, "run", "-m", model, "--cpu", "-p", PROMPT, "-n", "1",
                                  "--greedy", "--json"])
    answer = json.loads(text)
    if answer["prompt_tokens"] != PROMPT_TOKENS:
        print(f"  (the prompt has {answer['prompt_tokens']} tokens here)")
    return seconds


def lade_decode(program, model, tokens):
    forget_all(model)
    _, text = first_output([program, "bench", "-m", model, "--cpu", "-p", "0", "-n", str(tokens),
                            "-r", "1", "--json"])
    return json.loads(text)[0]


def peer(command, model, tokens):
    """Cold start and decode of a llama-bench: it loads once and prints a line after each test."""
    usage = subprocess.run([command[0], "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           check=False).stdout.decode()
    more = ["--no-warmup"] if "--no-warmup" in usage else ["-w", "0"]
    if "--repack" in usage:
        more += ["--repack", "0", "-lm", "mmap"]
    forget_all(model)
    begin = time.monotonic()
    cold = decode = 0.0
    with subprocess.Popen([*command, "-m", model, "-p", str(PROMPT_TOKENS), "-n", str(tokens), "-r",
                           "1", "-o", "csv", *more], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as p:
        for row in csv.DictReader(p.stdout):
            if int(row["n_gen"]) == 0:
                cold = time.monotonic() - begin
            else:
                decode = float(row["avg_ts"])
    if not cold or not decode:
        raise SystemExit(f"{shlex.join(command)}: failed; run it by hand to see why")
    return cold, decode


def bound(row, drive):
    """Tokens/s: missed experts over the drive, the rest of a token's bytes over RAM."""
    if not row["experts"]["disk_reads"]:
        raise SystemExit("the model fits into RAM: take a larger one")
    missed = row["experts"]["disk_bytes"] / row["n_gen"]
    rest = row["bytes_per_token"] - missed
    return 1 / (missed / drive / 1e9 + rest / row["peak_gbps"] / 1e9), missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lade")
    parser.add_argument("model")
    parser.add_argument("--peer", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32)
    o = parser.parse_args()
    colds, decodes, shares = [], [], []
    peers = {name: ([], []) for name in o.peer}
    for _ in range(o.rounds):
        for name, (peer_colds, peer_decodes) in peers.items():
            cold, decode = peer(shlex.split(name), o.model, o.tokens)
            peer_colds.append(cold)
            peer_decodes.append(decode)
            print(f"{name}: first token after {cold:.1f} s, decode {decode:.2f} tokens/s",
                  flush=True)
        colds.append(lade_cold(o.lade, o.model))
        row = lade_decode(o.lade, o.model, o.tokens)
        x, n = row["experts"], row["n_gen"]
        forget_all(o.model)
        drive = drive_speed(files_of(o.model)[0], x["disk_bytes"] // max(x["disk_reads"], 1) or 1 << 20)
        most, missed = bound(row, drive)
        decodes.append(row["decode_tps"])
        shares.append(row["decode_tps"] / most)
        print(f"lade, {row['strategy']}: first token after {colds[-1]:.1f} s, loaded in "
              f"{row['load_s']:.1f} s, decode {decodes[-1]:.2f} tokens/s\n"
              f"  a token: {x['ram_hits'] / n:.0f} experts in RAM, {x['disk_reads'] / n:.0f} from "
              f"the drive ({missed / 1e9:.3f} GB); waited {1000 * x['wait_s'] / n:.0f} ms, computed "
              f"{1000 * x['compute_s'] / n:.0f} ms\n"
              f"  drive {drive:.2f} GB/s, RAM {row['peak_gbps']:.1f} GB/s: bound {most:.2f} "
              f"tokens/s; memory at most {row['rss_peak_bytes'] / 2**30:.1f} GiB", flush=True)
    share = statistics.median(shares)
    print(f"of the bound: {100 * share:.0f}% (at least {100 * OF_BOUND:.0f}%)")
    good = share >= OF_BOUND
    if peers:
        best = max(statistics.median(d) for _, d in peers.values())
        first = min(statistics.median(c) for c, _ in peers.values())
        faster = statistics.median(decodes) / best
        sooner = first / statistics.median(colds)
        good &= faster >= FASTER and sooner >= COLD
        print(f"decode {faster:.1f} times the best peer's (at least {FASTER}), first token "
              f"{sooner:.1f} times as soon (at least {COLD})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
