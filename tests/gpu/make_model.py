#!/usr/bin/env python3
"""Writes a checkpoint with the geometry of Qwen3-Next-80B and random weights, as fast as the place
it is written to allows: for placement and speed; what it says is noise.

    make_model.py DIR [--size full|slice|tiny] [--processes N]

full: 48 layers, 43 GB. slice: 8 layers, 8 GB. tiny: small in every dimension, for tests of
the scripts. The format is that of the int4-mixed AutoRound export: experts int4, other linear
layers int8, router, shared gate, norms, embedding and head bf16, group 128. Standard library only.
"""
import argparse
import json
import multiprocessing
import os
import random
import shutil
import struct
import sys
import time

TOKENIZER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "tiny-int4")
WIDTH = {"I32": 4, "F16": 2, "BF16": 2}
CHUNK = 1 << 26

FULL = dict(layers=48, hidden=2048, vocab=151936, ff=512, experts=512, used=10, heads=16,
            kv_heads=2, head=256, key_heads=16, value_heads=32, dim=128, shards=16)
SIZES = {
    "full": FULL,
    "slice": dict(FULL, layers=8, shards=4),
    "tiny": dict(layers=4, hidden=128, vocab=2048, ff=128, experts=16, used=4, heads=4, kv_heads=2,
                 head=32, key_heads=2, value_heads=4, dim=32, shards=2),
}


def tensors(g):
    """(name, dtype, shape, kind of content) of every tensor, in the order of the layers."""
    out = []

    def floats(name, *shape, kind="small"):
        out.append((name, "BF16", shape, kind))

    def linear(name, rows, cols, bits):
        out.append((name + ".qweight", "I32", (cols * bits // 32, rows), "random"))
        out.append((name + ".qzeros", "I32", (cols // 128, rows * bits // 32), f"zeros{bits}"))
        # What a layer adds stays small beside the embedding: in a deep net of random weights all
        # tokens become alike otherwise and all ask for the same experts.
        adds = name.endswith((".o_proj", ".out_proj", ".down_proj"))
        out.append((name + ".scales", "F16", (cols // 128, rows), f"scale{bits}" + adds * "small"))

    def expert(name, bits):
        linear(name + ".gate_proj", g["ff"], g["hidden"], bits)
        linear(name + ".up_proj", g["ff"], g["hidden"], bits)
        linear(name + ".down_proj", g["hidden"], g["ff"], bits)

    h, keys, values = g["hidden"], g["key_heads"] * g["dim"], g["value_heads"] * g["dim"]
    floats("model.embed_tokens.weight", g["vocab"], h)
    for i in range(g["layers"]):
        p = f"model.layers.{i}."
        floats(p + "input_layernorm.weight", h, kind="zero")
        floats(p + "post_attention_layernorm.weight", h, kind="zero")
        if (i + 1) % 4 == 0:
            linear(p + "self_attn.q_proj", 2 * g["heads"] * g["head"], h, 8)
            linear(p + "self_attn.k_proj", g["kv_heads"] * g["head"], h, 8)
            linear(p + "self_attn.v_proj", g["kv_heads"] * g["head"], h, 8)
            linear(p + "self_attn.o_proj", h, g["heads"] * g["head"], 8)
            floats(p + "self_attn.q_norm.weight", g["head"], kind="zero")
            floats(p + "self_attn.k_norm.weight", g["head"], kind="zero")
        else:
            linear(p + "linear_attn.in_proj_qkvz", 2 * keys + 2 * values, h, 8)
            linear(p + "linear_attn.in_proj_ba", 2 * g["value_heads"], h, 8)
            linear(p + "linear_attn.out_proj", h, values, 8)
            floats(p + "linear_attn.conv1d.weight", 2 * keys + values, 1, 4, kind="wide")
            floats(p + "linear_attn.dt_bias", g["value_heads"])
            floats(p + "linear_attn.A_log", g["value_heads"], kind="wide")
            floats(p + "linear_attn.norm.weight", g["dim"], kind="one")
        floats(p + "mlp.gate.weight", g["experts"], h)
        floats(p + "mlp.shared_expert_gate.weight", 1, h)
        expert(p + "mlp.shared_expert", 8)
        for e in range(g["experts"]):
            expert(p + f"mlp.experts.{e}", 4)
    floats("model.norm.weight", h, kind="zero")
    floats("lm_head.weight", g["vocab"], h)
    return out


def size(tensor):
    n = WIDTH[tensor[1]]
    for d in tensor[2]:
        n *= d
    return n


def contents():
    """A long run of bytes for each kind; tensors are cut from it at random places."""
    noise = os.urandom(CHUNK)

    def bf16(high):
        """Random low bytes (one bit of the exponent, the mantissa) under these high bytes."""
        table = bytes(high[i % len(high)] for i in range(256))
        values = bytearray(len(noise))
        values[0::2] = noise[:CHUNK // 2]
        values[1::2] = noise[CHUNK // 2:].translate(table)
        return bytes(values)

    half = lambda x: struct.pack("<e", x) * (CHUNK // 2)
    return {
        "random": noise,
        "small": bf16((0x3b, 0x3c, 0xbb, 0xbc)),  # 0.002 to 0.03, both signs
        "wide": bf16((0x3e, 0xbe)),               # 0.125 to 0.5
        "zero": bytes(CHUNK), "one": b"\x80\x3f" * (CHUNK // 2),
        "zeros4": b"\x77" * CHUNK, "zeros8": b"\x7f" * CHUNK,
        "scale4": half(0.0048), "scale8": half(0.0003),
        "scale4small": half(0.0048 / 1000), "scale8small": half(0.0003 / 1000),
    }


def write_all(fd, pieces):
    """Writes views one after the other, many with one call."""
    at = 0
    while at < len(pieces):
        some = pieces[at:at + 1000]
        left, done = sum(map(len, some)), os.writev(fd, some)
        if done == left:
            at += len(some)
            continue
        while done:  # a short write ended inside one of them
            if done < len(pieces[at]):
                pieces[at] = pieces[at][done:]
                break
            done -= len(pieces[at])
            at += 1


def write_shard(path, group, runs, seed):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for t in group:
        header[t[0]] = {"dtype": t[1], "shape": t[2], "data_offsets": [at, at + size(t)]}
        at += size(t)
    blob = json.dumps(header, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)
    place, pieces = random.Random(seed), []
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    write_all(fd, [struct.pack("<Q", len(blob)) + blob])
    for t in group:
        run, left = memoryview(runs[t[3]]), size(t)
        while left:
            begin = place.randrange(0, CHUNK // 2, 64)
            piece = run[begin:begin + min(left, CHUNK // 2)]
            pieces.append(piece)
            left -= len(piece)
        if len(pieces) > 4000:
            write_all(fd, pieces)
            pieces = []
    write_all(fd, pieces)
    os.close(fd)
    return at


def split(all_tensors, shards):
    budget = sum(map(size, all_tensors)) / shards
    groups, used = [[]], 0
    for t in all_tensors:
        if used > budget and len(groups) < shards:
            groups.append([])
            used = 0
        groups[-1].append(t)
        used += size(t)
    return groups


def config(g, all_tensors):
    extra = {}
    for name, *_ in all_tensors:
        base = name.rsplit(".", 1)[0]
        if name.endswith(".qweight") and ".experts." not in base:
            extra[base] = {"bits": 8}
        if base.endswith(("mlp.gate", "shared_expert_gate")):
            extra[base] = {"bits": 16, "data_type": "fp"}
    return {
        "architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next",
        "attention_bias": False, "bos_token_id": 0, "eos_token_id": 0, "decoder_sparse_step": 1,
        "full_attention_interval": 4, "head_dim": g["head"], "hidden_act": "silu",
        "hidden_size": g["hidden"], "intermediate_size": 5120, "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": g["dim"], "linear_num_key_heads": g["key_heads"],
        "linear_num_value_heads": g["value_heads"], "linear_value_head_dim": g["dim"],
        "max_position_embeddings": 262144, "mlp_only_layers": [],
        "moe_intermediate_size": g["ff"], "norm_topk_prob": True,
        "num_attention_heads": g["heads"], "num_experts": g["experts"],
        "num_experts_per_tok": g["used"], "num_hidden_layers": g["layers"],
        "num_key_value_heads": g["kv_heads"], "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 10000000,
        "shared_expert_intermediate_size": g["ff"], "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": g["vocab"],
        "quantization_config": {
            "bits": 4, "data_type": "int", "group_size": 128, "sym": True,
            "quant_method": "auto-round", "packing_format": "auto_round:auto_gptq",
            "block_name_to_quantize": "model.layers", "extra_config": extra},
    }


def make(out, name, processes):
    """Writes the checkpoint and returns its bytes."""
    g = SIZES[name]
    os.makedirs(out, exist_ok=True)
    all_tensors = tensors(g)
    groups = split(all_tensors, g["shards"])
    runs = contents()
    jobs, weight_map = [], {}
    for k, group in enumerate(groups):
        file = f"model-{k + 1:05d}-of-{len(groups):05d}.safetensors"
        jobs.append((os.path.join(out, file), group, k))
        weight_map.update((t[0], file) for t in group)
    context = multiprocessing.get_context("fork")  # the children see the runs without a copy
    pipes, running = [], []
    for path, group, seed in jobs:
        while len([p for p in running if p.is_alive()]) >= processes:
            time.sleep(0.01)
        running.append(context.Process(target=write_shard, args=(path, group, runs, seed)))
        running[-1].start()
    for p in running:
        p.join()
        if p.exitcode:
            sys.exit(f"make_model: writing to {out} failed")
    total = sum(map(size, all_tensors))
    for file, value in (("model.safetensors.index.json",
                         {"metadata": {"total_size": total}, "weight_map": weight_map}),
                        ("config.json", config(g, all_tensors)),
                        ("generation_config.json", {"do_sample": False, "eos_token_id": 0})):
        with open(os.path.join(out, file), "w", encoding="utf-8") as f:
            json.dump(value, f)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(TOKENIZER, file), out)
    return total


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--size", choices=SIZES, default="full")
    p.add_argument("--processes", type=int, default=os.cpu_count())
    o = p.parse_args()
    begin = time.monotonic()
    total = make(o.dir, o.size, o.processes)
    seconds = time.monotonic() - begin
    print(f"{o.dir}: {total / 1e9:.2f} GB in {seconds:.1f} s, {total / 1e9 / seconds:.2f} GB/s")


if __name__ == "__main__":
    main()
