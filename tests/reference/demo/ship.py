"""Quantize the trained model with auto-round itself and write the checkpoint that is shipped.

    python ship.py --work DIR [--out engine/bundled]

int4-mixed as the real checkpoints: routed experts in 4 bits; shared experts, attention and delta-net
projections in 8; routers, gates, embedding, head, norms and the small vectors in 16. Plain rounding
without tuning: training already went through exactly this rounding.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

from model import Model, Shape

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import quantize  # noqa: E402  (the fixtures' way to call auto-round)
from fixture_specs import Quant, Spec  # noqa: E402

LAYERS = {"mlp.shared_expert.": {"bits": 8}, "self_attn": {"bits": 8}, "in_proj_qkvz": {"bits": 8}, "out_proj": {"bits": 8},
          "in_proj_ba": {"bits": 16}, "mlp.gate$": {"bits": 16}, "shared_expert_gate": {"bits": 16}}
KEPT = ("config.json", "quantization_config.json", "model.safetensors.index.json")
SAMPLING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}


def build(work: pathlib.Path, weights: str) -> Qwen3NextForCausalLM:
    model = Model(Shape())
    state = torch.load(work / weights, map_location="cpu")
    model.load_state_dict(state.get("model", state))
    theirs = Qwen3NextForCausalLM(Qwen3NextConfig(**model.s.hf_config()))
    theirs.load_state_dict(model.state_dict_hf(), strict=True)
    return theirs.to(torch.bfloat16).eval()


def ship(work: pathlib.Path, weights: str, out: pathlib.Path) -> None:
    shape = Shape()
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("*.safetensors"):
        path.unlink()
    spec = Spec(seed=0, shape={}, shards=3, quant=Quant(group_size=shape.group_size, layers=LAYERS))
    with tempfile.TemporaryDirectory() as scratch:
        for path in (work / "tok").iterdir():
            shutil.copy(path, scratch)
        quantize.export(build(work, weights), scratch, scratch, spec)
        for path in pathlib.Path(scratch).iterdir():
            if path.suffix == ".safetensors" or path.name in KEPT:
                shutil.copy(path, out / path.name)
        for path in (work / "tok").iterdir():
            shutil.copy(path, out / path.name)
    exported = json.loads((out / "config.json").read_text())
    config = {**shape.hf_config(), "quantization_config": exported["quantization_config"], "transformers_version": "4.57.6"}
    (out / "config.json").write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    end, pad = config["eos_token_id"], config["bos_token_id"]
    generation = {"bos_token_id": pad, "do_sample": True, "eos_token_id": [end, pad], "pad_token_id": pad, **SAMPLING,
                  "transformers_version": "4.57.6"}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    for path in out.iterdir():
        path.chmod(0o644)
    total = sum(p.stat().st_size for p in out.iterdir())
    print(f"{out}: {total / 1e6:.2f} MB, {len(list(out.glob('*.safetensors')))} shards")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--weights", default="float.pt")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parents[2] / "engine" / "bundled")
    args = parser.parse_args()
    torch.set_num_threads(1)
    ship(args.work, args.weights, args.out)
