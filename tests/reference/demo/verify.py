"""Prove that model.py computes what transformers computes: same weights, same logits.

    python verify.py [--work DIR]     (without --work: random weights)

Trained routers are sharp in places: where the last chosen and the first unchosen expert are closer
than a router logit's own rounding, two correct programs may choose differently and all later
positions differ. Positions before the first such tie must agree; the tie is reported.
"""

from __future__ import annotations

import argparse
import pathlib

import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

from model import Model, Shape


TIE = 5e-5  # of router logits in float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work")
    args = parser.parse_args()
    torch.manual_seed(3)
    model = Model(Shape())
    if args.work:
        model.load_state_dict(torch.load(pathlib.Path(args.work) / "float.pt", map_location="cpu"))
    else:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.ndim == 1:
                    p.add_(torch.randn_like(p) * 0.1)
    config = Qwen3NextConfig(**model.s.hf_config())
    theirs = Qwen3NextForCausalLM(config).float().eval()
    state = model.state_dict_hf()
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise SystemExit(f"missing {missing[:3]}, unexpected {unexpected[:3]}")
    ids = torch.randint(0, model.s.vocab_size, (2, 150))
    ties = torch.full(ids.shape, torch.inf)

    def watch(_, inputs, logits):
        best = logits.view(*ids.shape, -1).topk(model.s.num_experts_per_tok + 1).values
        ties.copy_(torch.minimum(ties, best[..., -2] - best[..., -1]))

    for layer in theirs.model.layers:
        layer.mlp.gate.register_forward_hook(watch)
    with torch.no_grad():
        ours, _ = model(ids)
        reference = theirs(ids).logits
    error = (ours.view_as(reference) - reference).norm(dim=-1) / reference.norm(dim=-1)
    clear = (ties > TIE).cummin(dim=1).values
    worst = error[clear].max().item()
    print(f"logits against transformers: worst relative L2 {worst:.2e} at {int(clear.sum())} of {clear.numel()} positions "
          f"before a tie; median of all {error.median().item():.2e}; closest routing {ties.min().item():.1e}")
    if worst > 1e-5 or clear.sum() < 100:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
