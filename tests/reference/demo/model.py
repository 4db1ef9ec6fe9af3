"""The qwen3_next forward pass for training on short sequences, in plain torch.

Same formulas and same state-dict names as transformers' Qwen3NextForCausalLM (`state_dict_hf`,
checked by `python verify.py`), but fast. On a CPU experts are evaluated on tokens sorted by expert;
on a GPU all experts see all tokens, with weight 0 where they are not chosen: more arithmetic, but few
and large operations and nothing to wait for. The delta rule inverts its triangular system per chunk
in one call, and only real tokens reach the experts and the head. Weights that will be stored in 4 or
8 bits can be trained through the rounding (`set_fake`), so that the shipped model is the one that was
trained.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 192
    num_hidden_layers: int = 8
    full_attention_interval: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    partial_rotary_factor: float = 0.25
    rope_theta: float = 10000.0
    linear_num_key_heads: int = 2
    linear_num_value_heads: int = 4
    linear_key_head_dim: int = 64
    linear_value_head_dim: int = 64
    linear_conv_kernel_dim: int = 4
    num_experts: int = 24
    num_experts_per_tok: int = 4
    moe_intermediate_size: int = 64
    shared_expert_intermediate_size: int = 64
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 8192
    group_size: int = 64

    def is_full(self, layer: int) -> bool:
        return (layer + 1) % self.full_attention_interval == 0

    def hf_config(self) -> dict:
        """config.json as the real checkpoints have it."""
        return {
            "architectures": ["Qwen3NextForCausalLM"],
            "model_type": "qwen3_next",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": self.vocab_size - 26,
            "eos_token_id": self.vocab_size - 24,
            "decoder_sparse_step": 1,
            "dtype": "bfloat16",
            "full_attention_interval": self.full_attention_interval,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": 4 * self.moe_intermediate_size,
            "layer_types": ["full_attention" if self.is_full(i) else "linear_attention"
                            for i in range(self.num_hidden_layers)],
            "linear_conv_kernel_dim": self.linear_conv_kernel_dim,
            "linear_key_head_dim": self.linear_key_head_dim,
            "linear_num_key_heads": self.linear_num_key_heads,
            "linear_num_value_heads": self.linear_num_value_heads,
            "linear_value_head_dim": self.linear_value_head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_only_layers": [],
            "moe_intermediate_size": self.moe_intermediate_size,
            "norm_topk_prob": True,
            "num_attention_heads": self.num_attention_heads,
            "num_experts": self.num_experts,
            "num_experts_per_tok": self.num_experts_per_tok,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "output_router_logits": False,
            "partial_rotary_factor": self.partial_rotary_factor,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "router_aux_loss_coef": 0.001,
            "shared_expert_intermediate_size": self.shared_expert_intermediate_size,
            "tie_word_embeddings": False,
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": self.vocab_size,
        }


class _FakeQuant(torch.autograd.Function):
    """Round as AutoRound's symmetric scheme stores it; pass the gradient straight through."""

    @staticmethod
    def forward(ctx, weight, bits, group):
        return fake_quant(weight, bits, group)

    @staticmethod
    def backward(ctx, grad):
        return grad, None, None


def fake_quant(weight: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """scale = (element of largest magnitude) / -2^(bits-1), in float16; q in [-2^(bits-1), 2^(bits-1)-1]."""
    half = 2 ** (bits - 1)
    flat = weight.reshape(-1, group)
    low, high = flat.amin(-1, keepdim=True), flat.amax(-1, keepdim=True)
    extreme = torch.where(high > -low, high, low)
    scale = (extreme / -half).half().float()
    scale = torch.where(scale == 0, torch.full_like(scale, 1e-5), scale)
    q = torch.clamp(torch.round(flat / scale), -half, half - 1)
    return (q * scale).reshape(weight.shape)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def l2_norm(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


class _UnitInverse(torch.autograd.Function):
    """(I + strictly lower part of a)^-1, from inverses of blocks of 1, 2, 4, ... rows: as exact as
    solve_triangular, and on a GPU a few products in place of thousands of small systems."""

    @staticmethod
    def forward(ctx, a):
        n = a.shape[-1]
        place = torch.arange(n, device=a.device)
        inverse = torch.eye(n, dtype=a.dtype, device=a.device)
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        size = 1
        while size < n:
            block = place // size
            between = (block[:, None] == block + 1) & (block[:, None] % 2 == 1)
            inverse = inverse - inverse @ (a * between) @ inverse
            size *= 2
        torch.set_float32_matmul_precision(precision)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx, grad):
        inverse, = ctx.saved_tensors
        return -(inverse.mT @ grad @ inverse.mT).tril(-1)


def delta_rule(q, k, v, g, beta, chunk: int = 32):
    """Chunked gated delta rule. q, k: [B, H, T, dk]; v: [B, H, T, dv]; g, beta: [B, H, T]."""
    batch, heads, length, dk = q.shape
    dv = v.shape[-1]
    pad = -length % chunk
    if pad:
        q, k, v = (F.pad(x, (0, 0, 0, pad)) for x in (q, k, v))
        g, beta = F.pad(g, (0, pad)), F.pad(beta, (0, pad))
    n = (length + pad) // chunk
    q = (q * dk ** -0.5).reshape(batch, heads, n, chunk, dk)
    k = k.reshape(batch, heads, n, chunk, dk)
    v = v.reshape(batch, heads, n, chunk, dv)
    g = g.reshape(batch, heads, n, chunk).cumsum(-1)
    beta = beta.reshape(batch, heads, n, chunk, 1)
    lower = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).tril()
    # Mask before exp: above the diagonal the difference is positive and may overflow.
    decay = (g.unsqueeze(-1) - g.unsqueeze(-2)).masked_fill(~lower, -math.inf).exp()
    kt = k.transpose(-1, -2)
    a = (beta * k) @ kt * decay
    growth = g.exp().unsqueeze(-1)
    u, w = (_UnitInverse.apply(a) @ torch.cat((beta * v, beta * growth * k), -1)).split((dv, dk), -1)
    scores = q @ kt * decay
    q_in = q * growth
    k_out = (k * (g[..., -1:] - g).exp().unsqueeze(-1)).transpose(-1, -2)
    keep = g[..., -1].exp().unsqueeze(-1).unsqueeze(-1)
    state = None
    out = []
    for i in range(n):
        if state is None:
            new = u[:, :, i]
            out.append(scores[:, :, i] @ new)
            state = k_out[:, :, i] @ new
        else:
            new = u[:, :, i] - w[:, :, i] @ state
            out.append(q_in[:, :, i] @ state + scores[:, :, i] @ new)
            if i + 1 < n:
                state = keep[:, :, i] * state + k_out[:, :, i] @ new
    return torch.cat(out, 2)[:, :, :length]


class Linear(nn.Module):
    """A bias-free matrix; `bits` is what it is rounded to while `fake` is on."""

    def __init__(self, rows: int, cols: int, bits: int = 16, group: int = 64):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, cols) * cols ** -0.5)
        self.bits, self.group, self.fake = bits, group, False

    def forward(self, x):
        weight = self.weight
        if self.fake and self.bits < 16:
            weight = _FakeQuant.apply(weight, self.bits, self.group)
        return F.linear(x, weight)


class DeltaNet(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.kdim = s.linear_num_key_heads * s.linear_key_head_dim
        self.vdim = s.linear_num_value_heads * s.linear_value_head_dim
        channels = 2 * self.kdim + self.vdim
        self.in_proj_qkvz = Linear(channels + self.vdim, s.hidden_size, 8, s.group_size)
        self.in_proj_ba = Linear(2 * s.linear_num_value_heads, s.hidden_size)
        self.conv = nn.Parameter(torch.randn(channels, 1, s.linear_conv_kernel_dim) * 0.3)
        self.A_log = nn.Parameter(torch.linspace(0.5, 8, s.linear_num_value_heads).log())
        dt = torch.linspace(math.log(0.002), math.log(0.1), s.linear_num_value_heads).exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.norm = nn.Parameter(torch.ones(s.linear_value_head_dim))
        self.out_proj = Linear(s.hidden_size, self.vdim, 8, s.group_size)

    def forward(self, x, rope):
        s = self.s
        batch, length, _ = x.shape
        nk, nv = s.linear_num_key_heads, s.linear_num_value_heads
        dk, dv, ratio = s.linear_key_head_dim, s.linear_value_head_dim, nv // nk
        mixed = self.in_proj_qkvz(x).view(batch, length, nk, -1)
        q, k, v, z = mixed.split((dk, dk, ratio * dv, ratio * dv), -1)
        b, a = self.in_proj_ba(x).view(batch, length, nk, -1).split((ratio, ratio), -1)
        qkv = torch.cat([t.reshape(batch, length, -1) for t in (q, k, v)], -1)
        # The depthwise convolution as shifted products: cheaper than conv1d and its backward on a CPU.
        taps = s.linear_conv_kernel_dim
        padded = F.pad(qkv, (0, 0, taps - 1, 0))
        acc = sum(padded[:, j:j + length] * self.conv[:, 0, j] for j in range(taps))
        q, k, v = F.silu(acc).split((self.kdim, self.kdim, self.vdim), -1)
        q = l2_norm(q.view(batch, length, nk, dk)).repeat_interleave(ratio, 2).transpose(1, 2)
        k = l2_norm(k.view(batch, length, nk, dk)).repeat_interleave(ratio, 2).transpose(1, 2)
        v = v.view(batch, length, nv, dv).transpose(1, 2)
        beta = b.reshape(batch, length, nv).sigmoid().transpose(1, 2)
        g = -self.A_log.exp() * F.softplus(a.reshape(batch, length, nv) + self.dt_bias)
        out = delta_rule(q, k, v, g.transpose(1, 2), beta).transpose(1, 2)
        out = rms_norm(out, self.norm, s.rms_norm_eps) * F.silu(z.reshape(batch, length, nv, dv))
        return self.out_proj(out.reshape(batch, length, -1))


class Attention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.q_proj = Linear(2 * s.num_attention_heads * s.head_dim, s.hidden_size, 8, s.group_size)
        self.k_proj = Linear(s.num_key_value_heads * s.head_dim, s.hidden_size, 8, s.group_size)
        self.v_proj = Linear(s.num_key_value_heads * s.head_dim, s.hidden_size, 8, s.group_size)
        self.o_proj = Linear(s.hidden_size, s.num_attention_heads * s.head_dim, 8, s.group_size)
        self.q_norm = nn.Parameter(torch.zeros(s.head_dim))
        self.k_norm = nn.Parameter(torch.zeros(s.head_dim))

    def forward(self, x, rope):
        s = self.s
        batch, length, _ = x.shape
        heads, kv, dim = s.num_attention_heads, s.num_key_value_heads, s.head_dim
        q, gate = self.q_proj(x).view(batch, length, heads, 2 * dim).chunk(2, -1)
        k = self.k_proj(x).view(batch, length, kv, dim)
        v = self.v_proj(x).view(batch, length, kv, dim).transpose(1, 2)
        q = rotate(rms_norm(q, 1 + self.q_norm, s.rms_norm_eps).transpose(1, 2), rope)
        k = rotate(rms_norm(k, 1 + self.k_norm, s.rms_norm_eps).transpose(1, 2), rope)
        k = k.repeat_interleave(heads // kv, 1)
        v = v.repeat_interleave(heads // kv, 1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out.transpose(1, 2).reshape(batch, length, -1)
        return self.o_proj(out * gate.reshape(batch, length, -1).sigmoid())


def rotate(x, rope):
    cos, sin = rope
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


class MoE(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        e, i, h = s.num_experts, s.moe_intermediate_size, s.hidden_size
        self.gate = Linear(e, h)
        self.gate_up = nn.Parameter(torch.randn(e, 2, i, h) * h ** -0.5)
        self.down = nn.Parameter(torch.randn(e, h, i) * i ** -0.5)
        shared = s.shared_expert_intermediate_size
        self.shared_gate = Linear(shared, h, 8, s.group_size)
        self.shared_up = Linear(shared, h, 8, s.group_size)
        self.shared_down = Linear(h, shared, 8, s.group_size)
        self.shared_expert_gate = Linear(1, h)
        self.fake = False
        self.dense = False  # all experts for all tokens, as always on a GPU
        self.trace = None

    def forward(self, x):
        """x: [N, hidden], real tokens only. Returns the output and the balance loss."""
        s = self.s
        p = self.gate(x).softmax(-1)
        weight, chosen = p.topk(s.num_experts_per_tok, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        if self.trace is not None:
            self.trace.append(chosen.detach())
        gate_up, down = self.gate_up, self.down
        if self.fake:
            gate_up = _FakeQuant.apply(gate_up, 4, s.group_size)
            down = _FakeQuant.apply(down, 4, s.group_size)
        if x.is_cuda or self.dense:
            y, share = self.all_experts(x, weight, chosen, gate_up, down)
        else:
            y, share = self.chosen_experts(x, weight, chosen, gate_up, down)
        balance = s.num_experts * (p.mean(0) * share).sum()
        shared = self.shared_down(F.silu(self.shared_gate(x)) * self.shared_up(x))
        return y + self.shared_expert_gate(x).sigmoid() * shared, balance

    def chosen_experts(self, x, weight, chosen, gate_up, down):
        """The routed experts' output [N, hidden], and each expert's share of the choices."""
        s = self.s
        flat = chosen.reshape(-1)
        counts = torch.bincount(flat, minlength=s.num_experts)
        order = flat.argsort(stable=True)
        token = order // s.num_experts_per_tok
        parts = x[token].split(counts.tolist())
        outs = []
        for rows, gu, d in zip(parts, gate_up.flatten(1, 2).unbind(0), down.unbind(0)):
            if not rows.shape[0]:
                continue
            gate, up = F.linear(rows, gu).chunk(2, -1)
            outs.append(F.linear(F.silu(gate) * up, d))
        out = torch.cat(outs) * weight.reshape(-1)[order].unsqueeze(-1)
        return torch.zeros_like(x).index_add(0, token, out), counts / flat.numel()

    def all_experts(self, x, weight, chosen, gate_up, down):
        """The same from dense products, in bfloat16 on a GPU."""
        s = self.s
        kind = torch.bfloat16 if x.is_cuda else x.dtype
        all_weights = torch.zeros(x.shape[0], s.num_experts, device=x.device).scatter(1, chosen, weight)
        rows = x.to(kind)
        gate = F.linear(rows, gate_up[:, 0].flatten(0, 1).to(kind))
        up = F.linear(rows, gate_up[:, 1].flatten(0, 1).to(kind))
        inner = (F.silu(gate) * up).view(-1, s.num_experts, s.moe_intermediate_size) * all_weights.to(kind).unsqueeze(-1)
        y = F.linear(inner.flatten(1), down.transpose(0, 1).flatten(1).to(kind))
        return y.to(x.dtype), (all_weights > 0).float().mean(0) / s.num_experts_per_tok


class Layer(nn.Module):
    def __init__(self, s: Shape, index: int):
        super().__init__()
        self.s = s
        self.input_layernorm = nn.Parameter(torch.zeros(s.hidden_size))
        self.post_attention_layernorm = nn.Parameter(torch.zeros(s.hidden_size))
        self.mixer = Attention(s) if s.is_full(index) else DeltaNet(s)
        self.mlp = MoE(s)

    def forward(self, x, rope, real):
        x = x + self.mixer(rms_norm(x, 1 + self.input_layernorm, self.s.rms_norm_eps), rope)
        rows = rms_norm(x, 1 + self.post_attention_layernorm, self.s.rms_norm_eps).flatten(0, 1)
        if real is None:
            y, balance = self.mlp(rows)
        else:
            part, balance = self.mlp(rows.index_select(0, real))
            y = torch.zeros_like(rows).index_copy(0, real, part)
        return x + y.view_as(x), balance


class Model(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.s = s
        self.embed = nn.Parameter(torch.randn(s.vocab_size, s.hidden_size) * 0.5)
        self.layers = nn.ModuleList(Layer(s, i) for i in range(s.num_hidden_layers))
        self.norm = nn.Parameter(torch.zeros(s.hidden_size))
        self.lm_head = nn.Parameter(torch.randn(s.vocab_size, s.hidden_size) * 0.02)
        for layer in self.layers:
            mixer_out = layer.mixer.o_proj if isinstance(layer.mixer, Attention) else layer.mixer.out_proj
            for weight in (mixer_out.weight, layer.mlp.down, layer.mlp.shared_down.weight):
                weight.data *= (2 * s.num_hidden_layers) ** -0.5
            layer.mlp.gate.weight.data *= 0.3
            layer.mlp.shared_expert_gate.weight.data *= 0.1

    def set_fake(self, on: bool) -> None:
        for module in self.modules():
            if hasattr(module, "fake"):
                module.fake = on

    def rope(self, length: int, device):
        dims = int(self.s.head_dim * self.s.partial_rotary_factor)
        inv = self.s.rope_theta ** (-torch.arange(0, dims, 2, device=device).float() / dims)
        angle = torch.arange(length, device=device).float()[:, None] * inv
        return angle.cos(), angle.sin()

    def forward(self, ids, real=None, positions=None):
        """Logits of all positions, or of the flat `positions` only, and the mean balance loss."""
        x = F.embedding(ids, self.embed)
        rope = self.rope(ids.shape[1], ids.device)
        total = 0.0
        for layer in self.layers:
            x, balance = layer(x, rope, real)
            total = total + balance
        x = x.flatten(0, 1)
        if positions is not None:
            x = x.index_select(0, positions)
        x = rms_norm(x, 1 + self.norm, self.s.rms_norm_eps)
        return F.linear(x, self.lm_head), total / len(self.layers)

    def state_dict_hf(self) -> dict[str, torch.Tensor]:
        """The weights under the names of the Hugging Face checkpoint (views where possible)."""
        out = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm,
               "lm_head.weight": self.lm_head}
        for n, layer in enumerate(self.layers):
            base = f"model.layers.{n}."
            out[base + "input_layernorm.weight"] = layer.input_layernorm
            out[base + "post_attention_layernorm.weight"] = layer.post_attention_layernorm
            mixer, mlp = layer.mixer, layer.mlp
            if isinstance(mixer, Attention):
                for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                    out[f"{base}self_attn.{name}.weight"] = getattr(mixer, name).weight
                out[base + "self_attn.q_norm.weight"] = mixer.q_norm
                out[base + "self_attn.k_norm.weight"] = mixer.k_norm
            else:
                for name in ("in_proj_qkvz", "in_proj_ba", "out_proj"):
                    out[f"{base}linear_attn.{name}.weight"] = getattr(mixer, name).weight
                out[base + "linear_attn.conv1d.weight"] = mixer.conv
                out[base + "linear_attn.A_log"] = mixer.A_log
                out[base + "linear_attn.dt_bias"] = mixer.dt_bias
                out[base + "linear_attn.norm.weight"] = mixer.norm
            out[base + "mlp.gate.weight"] = mlp.gate.weight
            out[base + "mlp.shared_expert_gate.weight"] = mlp.shared_expert_gate.weight
            out[base + "mlp.shared_expert.gate_proj.weight"] = mlp.shared_gate.weight
            out[base + "mlp.shared_expert.up_proj.weight"] = mlp.shared_up.weight
            out[base + "mlp.shared_expert.down_proj.weight"] = mlp.shared_down.weight
            for e in range(self.s.num_experts):
                expert = f"{base}mlp.experts.{e}."
                out[expert + "gate_proj.weight"] = mlp.gate_up[e, 0]
                out[expert + "up_proj.weight"] = mlp.gate_up[e, 1]
                out[expert + "down_proj.weight"] = mlp.down[e]
        return {name: tensor.detach() for name, tensor in out.items()}

    @torch.no_grad()
    def load_hf(self, state: dict[str, torch.Tensor]) -> None:
        """The reverse of `state_dict_hf`: copy a checkpoint's tensors into this model."""
        for name, tensor in self.state_dict_hf().items():
            tensor.copy_(state[name].to(tensor.dtype))
