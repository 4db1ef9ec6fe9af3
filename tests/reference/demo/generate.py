"""Batched generation with the training model's weights, one token at a time with all states kept.

Prompts of different lengths run side by side: each sequence is fed its own prompt first and its own
tokens afterwards, so nothing is padded and every sequence sees exactly its own history.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from model import Attention, Model, l2_norm, rms_norm


def _rotate(x, cos, sin):
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


class Stepper:
    """The recurrent form of the model for a batch of sequences."""

    def __init__(self, model: Model, batch: int, longest: int):
        self.model, self.s = model, model.s
        s = model.s
        self.cos, self.sin = model.rope(longest, model.embed.device)
        self.state = []
        for layer in model.layers:
            if isinstance(layer.mixer, Attention):
                shape = (batch, s.num_key_value_heads, longest, s.head_dim)
                self.state.append((torch.zeros(shape), torch.zeros(shape)))
            else:
                conv = torch.zeros(batch, layer.mixer.conv.shape[0], s.linear_conv_kernel_dim)
                memory = torch.zeros(batch, s.linear_num_value_heads, s.linear_key_head_dim, s.linear_value_head_dim)
                self.state.append((conv, memory))

    def _attention(self, a: Attention, x, state, t: int):
        s, batch = self.s, x.shape[0]
        q, gate = a.q_proj(x).view(batch, s.num_attention_heads, 2 * s.head_dim).chunk(2, -1)
        k = a.k_proj(x).view(batch, s.num_key_value_heads, s.head_dim)
        keys, values = state
        keys[:, :, t] = _rotate(rms_norm(k, 1 + a.k_norm, s.rms_norm_eps), self.cos[t], self.sin[t])
        values[:, :, t] = a.v_proj(x).view(batch, s.num_key_value_heads, s.head_dim)
        q = _rotate(rms_norm(q, 1 + a.q_norm, s.rms_norm_eps), self.cos[t], self.sin[t])
        ratio = s.num_attention_heads // s.num_key_value_heads
        q = q.view(batch, s.num_key_value_heads, ratio, s.head_dim)
        p = (q @ keys[:, :, :t + 1].mT * s.head_dim ** -0.5).softmax(-1)
        out = (p @ values[:, :, :t + 1]).reshape(batch, -1)
        return a.o_proj(out * gate.reshape(batch, -1).sigmoid())

    def _delta(self, d, x, state):
        s, batch = self.s, x.shape[0]
        nk, nv = s.linear_num_key_heads, s.linear_num_value_heads
        dk, dv, ratio = s.linear_key_head_dim, s.linear_value_head_dim, nv // nk
        q, k, v, z = d.in_proj_qkvz(x).view(batch, nk, -1).split((dk, dk, ratio * dv, ratio * dv), -1)
        b, a = d.in_proj_ba(x).view(batch, nk, -1).split((ratio, ratio), -1)
        conv, memory = state
        conv.copy_(torch.cat((conv[:, :, 1:], torch.cat([t.reshape(batch, -1) for t in (q, k, v)], -1)[:, :, None]), -1))
        q, k, v = F.silu((conv * d.conv[:, 0]).sum(-1)).split((d.kdim, d.kdim, d.vdim), -1)
        q = l2_norm(q.view(batch, nk, dk)).repeat_interleave(ratio, 1) * dk ** -0.5
        k = l2_norm(k.view(batch, nk, dk)).repeat_interleave(ratio, 1)
        v = v.view(batch, nv, dv)
        beta = b.reshape(batch, nv, 1).sigmoid()
        g = -d.A_log.exp() * F.softplus(a.reshape(batch, nv) + d.dt_bias)
        memory.mul_(g.exp()[..., None, None])
        change = beta * (v - (memory * k.unsqueeze(-1)).sum(-2))
        memory.add_(k.unsqueeze(-1) * change.unsqueeze(-2))
        out = (memory * q.unsqueeze(-1)).sum(-2)
        out = rms_norm(out, d.norm, s.rms_norm_eps) * F.silu(z.reshape(batch, nv, dv))
        return d.out_proj(out.reshape(batch, -1))

    def step(self, ids: torch.Tensor, t: int) -> torch.Tensor:
        """Feed one token per sequence at position t; the logits after it."""
        eps = self.s.rms_norm_eps
        x = self.model.embed[ids]
        for layer, state in zip(self.model.layers, self.state):
            h = rms_norm(x, 1 + layer.input_layernorm, eps)
            if isinstance(layer.mixer, Attention):
                x = x + self._attention(layer.mixer, h, state, t)
            else:
                x = x + self._delta(layer.mixer, h, state)
            x = x + layer.mlp(rms_norm(x, 1 + layer.post_attention_layernorm, eps))[0]
        return F.linear(rms_norm(x, 1 + self.model.norm, eps), self.model.lm_head)


def choose(logits, temperature: float, top_p: float, top_k: int, generator):
    if temperature == 0:
        return logits.argmax(-1)
    best, index = (logits / temperature).topk(top_k, -1)
    p = best.softmax(-1)
    p = torch.where(p.cumsum(-1) - p < top_p, p, 0.0)
    return index.gather(1, torch.multinomial(p, 1, generator=generator))[:, 0]


@torch.inference_mode()
def generate(model: Model, prompts: list[list[int]], stop: set[int], limit: int, temperature: float = 0.0,
             top_p: float = 0.95, top_k: int = 20, seed: int = 1) -> list[list[int]]:
    """The tokens after each prompt, up to and with the stop token (absent when `limit` was reached)."""
    longest = max(map(len, prompts)) + limit
    stepper = Stepper(model, len(prompts), longest)
    generator = torch.Generator().manual_seed(seed)
    out: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    current = torch.tensor([p[0] for p in prompts])
    for t in range(longest - 1):
        picked = choose(stepper.step(current, t), temperature, top_p, top_k, generator).tolist()
        following = []
        for i, prompt in enumerate(prompts):
            if t + 1 < len(prompt):
                following.append(prompt[t + 1])
                continue
            if not done[i]:
                out[i].append(picked[i])
                done[i] = picked[i] in stop or len(out[i]) >= limit
            following.append(picked[i])
        if all(done):
            break
        current = torch.tensor(following)
    return out
