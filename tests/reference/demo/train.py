"""Train the bundled model from scratch on generated conversations.

    python train.py --work DIR [--device cpu|cuda] [--steps N | --seconds S] [--resume]

DIR/tok holds the tokenizer (tokenizer.py). Checkpoints go to DIR; DIR/float.pt is the result. The
data, their order and the start weights follow from --seed. With --seconds the schedule follows the
clock: the run ends in time with all of its decay done, and prints the steps that it took, which
--steps repeats. On several cores take --ranks: processes of one thread that average gradients once
a step. On a machine with other work this keeps its speed, while threads that wait for each other
after every operation do not. On a GPU take large batches (--tokens 32768) and --workers for the data.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

import stream
from model import Model, Shape

BEGAN = time.time()
REPORT = 10  # steps between lines of the log


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
            same: dict[torch.Size, list] = {}
            for p in group["params"]:
                same.setdefault(p.shape, []).append(p)
            for shape, params in same.items():  # one call for all layers: most of the cost is calls
                for p in params:
                    if not self.state[p]:
                        self.state[p]["m"] = torch.zeros_like(p)
                grads, momenta = [p.grad for p in params], [self.state[p]["m"] for p in params]
                torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
                mixed = torch._foreach_lerp(grads, momenta, group["momentum"])
                updates = self.orthogonal(torch.stack(mixed)).unbind(0)
                scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(params, updates, alpha=-group["lr"] * scale)


def optimizers(model: Model, rate: float):
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
    return [Muon(matrices, rate, decay=0.1), adam]


def average_gradients(model: Model, ranks: int) -> None:
    if ranks == 1:
        return
    grads = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= ranks
    for g, part in zip(grads, flat.split([g.numel() for g in grads])):
        g.copy_(part.view_as(g))


def to_device(batch, device: str):
    """The arrays of a batch as tensors there, without waiting for the device."""
    tensors = [torch.from_numpy(array) for array in batch]
    if device != "cpu":
        tensors = [t.pin_memory().to(device, non_blocking=True) for t in tensors]
    ids, labels, weights, places = tensors
    return ids.long(), labels.long().flatten(), weights.float().flatten(), places.long()


def loss_of(model: Model, batch):
    """(weighted loss over the real tokens, balance of the experts)."""
    ids, labels, weights, places = batch
    logits, balance = model(ids, places, places)
    weight = weights[places]
    nll = F.cross_entropy(logits, labels[places], reduction="none")
    return (nll * weight).sum() / weight.sum(), balance


def save(value, path: pathlib.Path) -> None:
    torch.save(value, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)


def train(rank: int, args) -> None:
    if args.ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(args.port))
        dist.init_process_group("gloo", rank=rank, world_size=args.ranks)
    torch.manual_seed(args.seed)
    torch.set_num_threads(1 if args.ranks > 1 else args.threads)
    torch.set_float32_matmul_precision("high")
    work, chief = pathlib.Path(args.work), rank == 0
    feed = stream.batches(str(work / "tok" / "tokenizer.json"), args.seed, args.tokens // args.ranks, args.workers)
    first_batch = next(feed)  # starts the workers, before anything touches the GPU
    model = Model(Shape()).to(args.device)
    if args.start:
        model.load_state_dict(torch.load(args.start, map_location=args.device))
    opts = optimizers(model, args.rate)
    peaks = [[group["lr"] for group in opt.param_groups] for opt in opts]
    step = 0
    if args.resume:
        saved = torch.load(work / "last.pt", weights_only=False)
        model.load_state_dict(saved["model"])
        for opt, state in zip(opts, saved["opts"]):
            opt.load_state_dict(state)
        step = saved["step"]
    for _ in range(args.ranks * step + rank):  # batches that were seen, or belong to other ranks
        first_batch = next(feed)
    if chief:
        print(f"{sum(p.numel() for p in model.parameters())} parameters, start after {time.time() - BEGAN:.0f} s", flush=True)
    began, seen, mean, saved_at = time.time(), 0, None, time.time()
    progress = 0.0
    while progress < 1:
        progress = (time.time() - BEGAN) / args.seconds if args.seconds else step / max(1, args.steps - 1)
        factor = min(1.0, (step + 1) / args.warmup, max(0.02, (1 - progress) / (1 - args.decay_from)))
        for opt, peak in zip(opts, peaks):
            for group, lr in zip(opt.param_groups, peak):
                group["lr"] = lr * factor
        model.set_fake(progress >= args.quantize_from)
        batch = to_device(first_batch, args.device)
        loss, balance = loss_of(model, batch)
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        (loss + 0.01 * balance).backward()
        average_gradients(model, args.ranks)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
        seen += len(batch[3])
        step += 1
        if step % REPORT == 1 or progress >= 1:
            value = loss.item()  # waits for the device: now and then only
            if not math.isfinite(value):
                raise SystemExit(f"step {step}: the loss is {value}")
            mean = value if mean is None else 0.8 * mean + 0.2 * value
            if chief:
                elapsed = time.time() - began
                print(f"step {step} loss {mean:.4f} balance {balance.item():.3f} lr {factor:.3f} "
                      f"{args.ranks * seen / elapsed:.0f} tok/s {elapsed:.0f} s", flush=True)
            if chief and (time.time() - saved_at > args.save_every or progress >= 1):
                save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step}, work / "last.pt")
                save(model.state_dict(), work / "float.pt")
                saved_at = time.time()
        if progress < 1:
            for _ in range(args.ranks):
                first_batch = next(feed)
    feed.close()
    if chief:
        print(f"done: {step} steps of about {args.tokens} tokens", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True)
    parser.add_argument("--start", help="go on from the float.pt of an earlier run, with a schedule of its own")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--seconds", type=float, default=0, help="end by the clock instead, counted from the start of the program")
    parser.add_argument("--tokens", type=int, default=4096, help="per step, of all ranks together")
    parser.add_argument("--rate", type=float, default=0.006, help="learning rate of the matrices")
    parser.add_argument("--warmup", type=int, default=30, help="steps")
    parser.add_argument("--decay-from", type=float, default=0.3)
    parser.add_argument("--quantize-from", type=float, default=0.85)
    parser.add_argument("--save-every", type=float, default=60, help="seconds")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that make data")
    parser.add_argument("--port", type=int, default=29541)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.ranks > 1:
        mp.spawn(train, (options,), nprocs=options.ranks)
    else:
        train(0, options)
