"""Training batches: an endless stream of fresh conversations, the same for the same seed.

The stream is made window by window. A window is a few thousand conversations drawn from its own
random generator, sorted by length, cut into batches of about `tokens` tokens and shuffled. So any
number of processes can make windows side by side without changing what the training sees.
"""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import random

import numpy as np
from tokenizers import Tokenizer

import dialogue

LONGEST = 1280  # tokens of a conversation; longer ones are left out
LONG_SHARE = 0.01  # conversations of many turns
CUT_SHARE = 0.6  # replies of which only the beginning is kept
CUT_TOKENS = 14
USER_WEIGHT = 0.05  # of the loss on what people say, against 1 on replies
STEP = 16  # lengths are padded to a multiple: fewer different shapes


def encode(tokenizer: Tokenizer, rng: random.Random):
    """One conversation as (ids, weights); weights[i] belongs to the prediction OF token i.

    What is hard is to see what a question asks for, and that is decided in the first tokens of a
    reply; the rest follows from them. So most conversations end there: more questions for the same
    work. Thoughts weigh more than answers, whose wording is partly free.
    """
    pieces = dialogue.render(*dialogue.conversation(rng, long=rng.random() < LONG_SHARE))
    ids, weights = [], []

    def add(text: str, weight: float, most: int = LONGEST) -> None:
        part = tokenizer.encode(text, add_special_tokens=False).ids[:most]
        ids.extend(part)
        weights.extend([weight] * len(part))

    for text, weight in pieces:
        cut = weight == 1.0 and rng.random() < CUT_SHARE
        if weight == 1.0 and "</think>" in text:
            thought, mark, answer = text.partition("</think>")
            add(thought + mark, 2.0)
            if not cut:
                add(answer, 0.7)
        elif cut:
            add(text, weight, CUT_TOKENS)
        else:
            add(text, weight or USER_WEIGHT)
        if cut:
            break
    return np.array(ids, np.int16), np.array(weights, np.float16)


def window(tokenizer: Tokenizer, seed: int, index: int, tokens: int) -> list[tuple[np.ndarray, ...]]:
    """The batches of window `index`: (ids [rows, length], labels, weights, real places of the flat batch)."""
    rng = random.Random(f"{seed} {index}")
    rows = [encode(tokenizer, rng) for _ in range(tokens // 2)]
    rows = sorted((r for r in rows if len(r[0]) <= LONGEST), key=lambda r: len(r[0]))
    groups, group, size = [], [], 0
    for row in rows:
        group.append(row)
        size += len(row[0])
        if size >= tokens:
            groups.append(group)
            group, size = [], 0
    if size > tokens // 2:
        groups.append(group)
    else:
        groups[-1] += group  # the longest must not be lost
    rng.shuffle(groups)
    return [pad(g) for g in groups]


def pad(group) -> tuple[np.ndarray, ...]:
    length = -(-(max(len(ids) for ids, _ in group) - 1) // STEP) * STEP
    ids = np.zeros((len(group), length), np.int16)
    labels, weights, real = np.zeros_like(ids), np.zeros(ids.shape, np.float16), np.zeros(ids.shape, bool)
    for row, (tokens, weight) in enumerate(group):
        n = len(tokens) - 1
        ids[row, :n], labels[row, :n] = tokens[:-1], tokens[1:]
        weights[row, :n], real[row, :n] = weight[1:], True
    return ids, labels, weights, real.reshape(-1).nonzero()[0].astype(np.int32)


_tokenizer = None


def _open(path: str) -> None:
    global _tokenizer
    _tokenizer = Tokenizer.from_file(path)


def _make(seed: int, index: int, tokens: int):
    return window(_tokenizer, seed, index, tokens)


def batches(path: str, seed: int, tokens: int, workers: int = 0):
    """Endless batches in the order of their windows; with `workers` made ahead by other processes."""
    if not workers:
        _open(path)
        for index in itertools.count():
            yield from _make(seed, index, tokens)
    with multiprocessing.get_context("fork").Pool(workers, _open, (path,)) as pool:
        ahead = collections.deque(pool.apply_async(_make, (seed, i, tokens)) for i in range(workers + 2))
        for index in itertools.count(len(ahead)):
            yield from ahead.popleft().get()
            ahead.append(pool.apply_async(_make, (seed, index, tokens)))
