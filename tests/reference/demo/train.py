"""Train the bundled model from scratch on generated conversations.

    python train.py --work DIR [--steps N] [--device cpu|cuda] [--resume]

DIR/tok holds the tokenizer (tokenizer.py). Checkpoints go to DIR; DIR/float.pt is the result. The
order of the data and the start weights follow from --seed. On several cores take --ranks: processes
of one thread that average gradients once a step. On a machine with other work this keeps its
speed, while threads that wait for each other after every operation do not.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import random
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from tokenizers import Tokenizer

import dialogue
from model import Model, Shape

TOKENS_PER_STEP = 4096  # of all ranks together
LONGEST = 640
CUT = -1.0  # mark of a reply of which only the beginning is kept


def encode(tokenizer: Tokenizer, count: int, seed: int, long_share: float = 0.01, cut_share: float = 0.75):
    """`count` conversations as (ids, weights); weights[i] belongs to the prediction OF token i.

    What is hard is to see what a question asks for, and that is decided in the first tokens of a
    reply; the rest follows from them. So most conversations end there: more questions for the same
    work. Thoughts weigh more than answers, whose wording is partly free.
    """
    rng = random.Random(seed)
    rows = []
    while len(rows) < count:
        pieces = dialogue.render(*dialogue.conversation(rng, long=rng.random() < long_share))
        ids, weights = [], []
        for text, weight in pieces:
            if weight == 1.0 and "</think>" in text:
                thought, mark, answer = text.partition("</think>")
                parts = [(thought + mark, 2.0)]
                if rng.random() >= cut_share:
                    parts.append((answer, 0.7))
            elif weight == 1.0 and rng.random() < cut_share:
                parts = [(text, CUT)]
            else:
                parts = [(text, weight or 0.05)]
            for piece, share in parts:
                part = tokenizer.encode(piece, add_special_tokens=False).ids
                if share == CUT:
                    part, share = part[:14], 1.0
                ids += part
                weights += [share] * len(part)
            if len(parts) == 1 and weight == 1.0:
                break
        if len(ids) <= LONGEST:
            rows.append((np.array(ids, np.int32), np.array(weights, np.float32)))
    return rows


def batches(rows, seed: int, rank: int, ranks: int):
    """Endless batches of similar length, of about TOKENS_PER_STEP / ranks real tokens each."""
    rng = random.Random(seed)
    share = TOKENS_PER_STEP // ranks
    order = list(range(len(rows)))
    while True:
        rng.shuffle(order)
        # Sort within windows only, so that every batch still mixes the whole corpus.
        groups = []
        for start in range(0, len(order), 4096):
            window = sorted(order[start:start + 4096], key=lambda i: len(rows[i][0]))
            group, tokens = [], 0
            for index in window:
                group.append(index)
                tokens += len(rows[index][0])
                if tokens >= share:
                    groups.append(group)
                    group, tokens = [], 0
        rng.shuffle(groups)
        for group in groups[rank:len(groups) // ranks * ranks:ranks]:
            length = max(len(rows[i][0]) for i in group) - 1
            ids = np.zeros((len(group), length), np.int64)
            labels = np.zeros_like(ids)
            weights = np.zeros(ids.shape, np.float32)
            real = np.zeros(ids.shape, bool)
            for row, index in enumerate(group):
                tokens, weight = rows[index]
                n = len(tokens) - 1
                ids[row, :n], labels[row, :n] = tokens[:-1], tokens[1:]
                weights[row, :n], real[row, :n] = weight[1:], True
            yield tuple(map(torch.from_numpy, (ids, labels, weights, real)))


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised (Newton-Schulz) for matrices [..., rows, cols]."""

    def __init__(self, params, lr: float, momentum: float = 0.95, decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @staticmethod
    def orthogonal(g: torch.Tensor) -> torch.Tensor:
        tall = g.shape[-2] > g.shape[-1]
        x = g.mT if tall else g
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
        return x.mT if tall else x

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "m" not in state:
                    state["m"] = torch.zeros_like(p)
                m = state["m"].lerp_(p.grad, 1 - group["momentum"])
                update = self.orthogonal(p.grad.lerp(m, group["momentum"]))
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"] * scale)


def optimizers(model: Model):
    matrices, vectors, tables = [], [], []
    for name, p in model.named_parameters():
        if name in ("embed", "lm_head"):
            tables.append(p)
        elif p.ndim >= 2 and p.shape[-2] >= 32 and p.shape[-1] >= 32 and "conv" not in name:
            matrices.append(p)
        else:
            vectors.append(p)
    adam = torch.optim.AdamW([{"params": tables, "lr": 2e-3, "weight_decay": 0.0},
                              {"params": vectors, "lr": 2e-3, "weight_decay": 0.0}], betas=(0.9, 0.98), eps=1e-8)
    return [Muon(matrices, 0.006, decay=0.1), adam]


def average_gradients(model: Model, ranks: int) -> None:
    if ranks == 1:
        return
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= ranks
    for g, part in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(part.view_as(g))


def train(rank: int, args) -> None:
    if args.ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
        dist.init_process_group("gloo", rank=rank, world_size=args.ranks)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1 if args.ranks > 1 else args.threads)
    work = pathlib.Path(args.work)
    tokenizer = Tokenizer.from_file(str(work / "tok" / "tokenizer.json"))
    rows = encode(tokenizer, args.conversations, args.seed)
    if rank == 0:
        print(f"{len(rows)} conversations, {sum(len(r[0]) for r in rows)} tokens", flush=True)
    model = Model(Shape()).to(args.device)
    opts = optimizers(model)
    peaks = [[group["lr"] for group in opt.param_groups] for opt in opts]
    if rank == 0:
        print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    first = 0
    if args.resume:
        saved = torch.load(work / "last.pt", weights_only=False)
        model.load_state_dict(saved["model"])
        for opt, state in zip(opts, saved["opts"]):
            opt.load_state_dict(state)
        first = saved["step"]
    feed = batches(rows, args.seed, rank, args.ranks)
    for _ in range(first):
        next(feed)
    began, seen, mean = time.time(), 0, None
    for step in range(first, args.steps):
        progress = step / args.steps
        factor = min(1.0, (step + 1) / 30, max(0.02, (1 - progress) / (1 - args.decay_from)))
        for opt, peak in zip(opts, peaks):
            for group, lr in zip(opt.param_groups, peak):
                group["lr"] = lr * factor
        model.set_fake(progress >= args.quantize_from)
        ids, labels, weights, real = (t.to(args.device) for t in next(feed))
        places = real.flatten().nonzero()[:, 0]
        scored = (weights.flatten() > 0).nonzero()[:, 0]
        logits, balance = model(ids, places, scored)
        weight = weights.flatten()[scored]
        nll = F.cross_entropy(logits, labels.flatten()[scored], reduction="none")
        loss = (nll * weight).sum() / weight.sum()
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        (loss + 0.01 * balance).backward()
        average_gradients(model, args.ranks)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
        seen += len(places)
        mean = loss.item() if mean is None else 0.9 * mean + 0.1 * loss.item()
        if not math.isfinite(mean):
            raise SystemExit(f"step {step}: the loss is {loss.item()}")
        if step % 10 == 0 and rank == 0:
            elapsed = time.time() - began
            print(f"step {step} loss {mean:.4f} balance {balance.item():.3f} lr {factor:.3f} "
                  f"{args.ranks * seen / elapsed:.0f} tok/s {elapsed:.0f} s", flush=True)
        if rank == 0 and ((step + 1) % 100 == 0 or step + 1 == args.steps):
            torch.save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step + 1},
                       work / "last.tmp")
            (work / "last.tmp").rename(work / "last.pt")
    if rank == 0:
        torch.save(model.state_dict(), work / "float.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", required=True)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--conversations", type=int, default=150000)
    parser.add_argument("--decay-from", type=float, default=0.3)
    parser.add_argument("--quantize-from", type=float, default=0.85)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--port", type=int, default=29541)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.ranks > 1:
        mp.spawn(train, (options,), nprocs=options.ranks)
    else:
        train(0, options)
