"""Random weights under which every part of the model matters.

The library's own initialisation (normal, 0.02) makes routers nearly uniform and the mixers
nearly zero, so mistakes would hide. Here routers and query/key norms are sharp enough to choose,
and the decays of the delta-net span a few tokens to hundreds. Each block adds about a third of
the residual stream, as in a trained model: with larger blocks rounding errors grow a hundredfold
over eight layers, and a comparison would measure that instead of the code. Each tensor has its
own generator, seeded by its name: order does not matter.
"""
import hashlib

import numpy as np
import torch

# Gain of a projection by the end of its name: standard deviation gain / sqrt(inputs).
GAINS = {
    "mlp.gate": 3.0, "shared_expert_gate": 1.5, "in_proj_qkvz": 1.2, "in_proj_ba": 1.5,
    "out_proj": 0.3, "o_proj": 0.8, "gate_proj": 1.6, "up_proj": 1.3, "down_proj": 0.35,
    "q_proj": 1.2, "k_proj": 1.2, "v_proj": 1.2, "lm_head": 3.0, "mtp.fc": 1.0,
}


def values(name, shape, seed):
    """One tensor's values as float64."""
    key = hashlib.sha256(f"{seed} {name}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(key, dtype="<u4"))
    if name.endswith("A_log"):
        return np.log(rng.uniform(0.2, 8.0, shape))
    if name.endswith("dt_bias"):
        step = np.exp(rng.uniform(np.log(1e-3), np.log(0.2), shape))
        return np.log(np.expm1(step))
    if name.endswith("linear_attn.norm.weight"):
        return 1.0 + rng.normal(0, 0.25, shape)
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 0.7 + rng.normal(0, 0.3, shape)
    if "norm" in name:
        return rng.normal(0, 0.25, shape)
    if name.endswith("conv1d.weight"):
        return np.linspace(0.1, 1.0, shape[-1]) ** 2 + rng.normal(0, 0.25, shape)
    if name.endswith("embed_tokens.weight"):
        return rng.normal(0, 1.0, shape)
    base = name.removesuffix(".weight")
    gain = next(g for end, g in GAINS.items() if base.endswith(end))
    return rng.normal(0, gain / np.sqrt(shape[-1]), shape)


def fill(shapes, seed):
    """bf16 tensors for a dict of name to shape."""
    return {name: torch.from_numpy(values(name, tuple(shape), seed)).to(torch.bfloat16)
            for name, shape in shapes.items()}


def mtp_shapes(config):
    """The tensors of the multi-token-prediction head: one attention layer with its experts."""
    h, d, f = config.hidden_size, config.head_dim, config.moe_intermediate_size
    q, kv, s = (config.num_attention_heads * d, config.num_key_value_heads * d,
                config.shared_expert_intermediate_size)
    shapes = {"mtp.fc.weight": (h, 2 * h)}
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        shapes[f"mtp.{name}.weight"] = (h,)
    layer = {
        "input_layernorm": (h,), "post_attention_layernorm": (h,),
        "self_attn.q_proj": (2 * q, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h),
        "self_attn.o_proj": (h, q), "self_attn.q_norm": (d,), "self_attn.k_norm": (d,),
        "mlp.gate": (config.num_experts, h), "mlp.shared_expert_gate": (1, h),
        "mlp.shared_expert.gate_proj": (s, h), "mlp.shared_expert.up_proj": (s, h),
        "mlp.shared_expert.down_proj": (h, s),
    }
    for e in range(config.num_experts):
        layer[f"mlp.experts.{e}.gate_proj"] = (f, h)
        layer[f"mlp.experts.{e}.up_proj"] = (f, h)
        layer[f"mlp.experts.{e}.down_proj"] = (h, f)
    shapes.update({f"mtp.layers.0.{name}.weight": shape for name, shape in layer.items()})
    return shapes
