"""Opens a qwen3_next checkpoint as a float32 transformers model, whatever its packing.

Quantized modules are dequantized from their packed tensors, fused experts are taken apart, mtp.*
is dropped; load_state_dict is strict, so nothing can be missing or left over. Without the
flash-linear-attention package transformers takes its plain torch path, which is the reference.
"""
import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

PACKED = (".qweight", ".qzeros", ".scales")


def read_config(directory):
    """config.json as Qwen3NextConfig. The pinned transformers knows only the older place of the
    rope values, so `rope_parameters` are moved there."""
    raw = json.loads((Path(directory) / "config.json").read_text())
    rope = raw.pop("rope_parameters", None)
    if rope:
        raw["rope_theta"] = rope["rope_theta"]
        raw["partial_rotary_factor"] = rope["partial_rotary_factor"]
    raw.pop("quantization_config", None)
    config = Qwen3NextConfig(**raw)
    config._attn_implementation = "eager"
    return config


def read_tensors(directory):
    """All tensors of all shards by name, as stored."""
    tensors = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        with safe_open(path, "pt") as f:
            for name in f.keys():
                tensors[name] = f.get_tensor(name)
    return tensors


def unpack(words, bits, dim):
    """Splits each int32 along `dim` into 32 / bits unsigned values, lowest bits first."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    parts = (words.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    if dim == 0:
        return parts.permute(0, 2, 1).reshape(-1, words.shape[1])
    return parts.reshape(words.shape[0], -1)


def dequantize(qweight, qzeros, scales):
    """auto_round:auto_gptq to a float32 weight [out, in]. The bits follow from the shapes of
    qzeros and scales; the zero is stored minus one; the product is taken in float32."""
    bits = 32 * qzeros.shape[1] // scales.shape[1]
    q = unpack(qweight, bits, 0)
    group = q.shape[0] // scales.shape[0]
    zero = (unpack(qzeros, bits, 1) + 1).repeat_interleave(group, 0)
    return ((q - zero).float() * scales.float().repeat_interleave(group, 0)).t().contiguous()


def plain_weights(tensors):
    """The state dict transformers expects, in float32: dequantized, experts per expert."""
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("mtp.") or name.endswith((".qzeros", ".scales")):
            continue
        if name.endswith(".qweight"):
            base = name.removesuffix(".qweight")
            state[base + ".weight"] = dequantize(*(tensors[base + s] for s in PACKED))
        elif name.endswith(".experts.gate_up_proj"):
            base = name.removesuffix("gate_up_proj")
            for e, fused in enumerate(tensor.float()):
                gate, up = fused.chunk(2, 0)
                state[f"{base}{e}.gate_proj.weight"] = gate.contiguous()
                state[f"{base}{e}.up_proj.weight"] = up.contiguous()
        elif name.endswith(".experts.down_proj"):
            base = name.removesuffix("down_proj")
            for e, down in enumerate(tensor.float()):
                state[f"{base}{e}.down_proj.weight"] = down.contiguous()
        else:
            state[name] = tensor.float()
    return state


def load(directory):
    """The checkpoint as a Qwen3NextForCausalLM in float32, ready for inference."""
    model = Qwen3NextForCausalLM(read_config(directory)).float().eval()
    model.load_state_dict(plain_weights(read_tensors(directory)), strict=True)
    model.requires_grad_(False)
    return model


def digest(directory):
    """sha256 over the names and bytes of config.json and all shards: ties a golden to its model."""
    h = hashlib.sha256()
    paths = [Path(directory) / "config.json"] + sorted(Path(directory).glob("*.safetensors"))
    for path in paths:
        h.update(path.name.encode() + b"\0")
        h.update(path.read_bytes())
    return h.hexdigest()
