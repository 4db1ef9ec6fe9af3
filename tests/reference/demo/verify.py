"""Prove that model.py computes what transformers computes: same weights, same logits.

    python verify.py [--work DIR]     (without --work: random weights)
"""

from __future__ import annotations

import argparse
import pathlib

import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

from model import Model, Shape


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """The worst relative L2 distance over positions."""
    return ((a - b).norm(dim=-1) / b.norm(dim=-1)).max().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work")
    args = parser.parse_args()
    torch.manual_seed(3)
    model = Model(Shape())
    if args.work:
        model.load_state_dict(torch.load(pathlib.Path(args.work) / "float.pt"))
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
    with torch.no_grad():
        ours, _ = model(ids)
        reference = theirs(ids).logits
    error = relative(ours.view_as(reference), reference)
    print(f"logits against transformers: worst relative L2 {error:.2e}")
    if error > 1e-5:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
