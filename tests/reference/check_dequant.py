#!/usr/bin/env python3
"""Checks reference_model.dequantize against auto-round itself, on the quantized fixtures.

1. Every packed module: its weight against what auto-round's QuantLinear multiplies by (float32
   scales, so that only the unpacking is compared): must be equal to the last bit.
2. The whole model: auto-round's own loader (transformers with the export's quantization_config)
   against reference_model.load. The loader computes with 16-bit scales in its layers' product, so
   logits agree only closely; a wrong choice of bits or zero would show as a difference of order 1.
"""
import json
from pathlib import Path

import torch
from auto_round_extension.torch.qlinear_torch_zp import QuantLinear
from transformers import AutoModelForCausalLM

import reference_model
from fixture_specs import SPECS

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def packed_weight(tensors, base):
    """The weight auto-round's layer applies, by feeding it the identity."""
    qweight, qzeros, scales = (tensors[base + s] for s in reference_model.PACKED)
    bits = 32 * qzeros.shape[1] // scales.shape[1]
    inputs = qweight.shape[0] * 32 // bits
    layer = QuantLinear(bits, inputs // scales.shape[0], inputs, qweight.shape[1], bias=False)
    layer.qweight, layer.qzeros, layer.scales = qweight, qzeros, scales.float()
    return layer(torch.eye(inputs)).t()


@torch.inference_mode()
def check(name):
    directory = FIXTURES / name
    tensors = reference_model.read_tensors(directory)
    modules = [n.removesuffix(".qweight") for n in tensors if n.endswith(".qweight")]
    for base in modules:
        ours = reference_model.dequantize(*(tensors[base + s] for s in reference_model.PACKED))
        if not torch.equal(ours, packed_weight(tensors, base)):
            raise SystemExit(f"{name}: {base} differs from auto-round's weight")
    negative = sum(int((t < 0).sum()) for n, t in tensors.items() if n.endswith(".scales"))
    if not negative:
        raise SystemExit(f"{name}: no scale is negative; the fixture misses that case")
    golden = json.loads((FIXTURES.parent / "golden" / "models" / f"{name}.json").read_text())
    ids = torch.tensor([golden["prompt"]])
    ours = reference_model.load(directory)(ids).logits[0]
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(ids).logits[0]
    error = ((ours - theirs).norm(dim=-1) / ours.norm(dim=-1)).median().item()
    if error > 5e-2:
        raise SystemExit(f"{name}: logits differ by {error:.2e} from auto-round's loader")
    print(f"{name}: {len(modules)} modules equal, {negative} negative scales, "
          f"median relative L2 to auto-round's loader {error:.1e}")


if __name__ == "__main__":
    for fixture, row in SPECS.items():
        if row.quant:
            check(fixture)
