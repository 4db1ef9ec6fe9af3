#!/usr/bin/env python3
"""Writes what the fuzzers start from: seeds.py DIR makes DIR/fuzz_NAME/ for each harness.

Small files, cut from the fixtures: a fuzzer runs as fast as its seeds are small.
"""
import json
import struct
import sys
from math import prod
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FIXTURES = TESTS / "fixtures"


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def load(path):
    return json.loads(path.read_text())


def safetensors():
    """The header, then two bytes: the size of the data."""
    for path in sorted(FIXTURES.glob("*/*.safetensors")):
        raw = path.read_bytes()
        header = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        header.pop("__metadata__", None)
        small = sorted(header.items(), key=lambda t: t[1]["data_offsets"][1] - t[1]["data_offsets"][0])
        at, out = 0, {"__metadata__": {"format": "pt"}}
        for name, t in small[:3]:
            size = t["data_offsets"][1] - t["data_offsets"][0]
            out[name] = t | {"data_offsets": [at, at + size]}
            at += size
        if at < 1 << 16:
            yield compact(out) + struct.pack("<H", at)


def index():
    for path in sorted(FIXTURES.glob("*/*.index.json")):
        full = load(path)
        some = list(full["weight_map"].items())
        yield compact(full | {"weight_map": dict(some[:3] + some[-3:])})


QUANTIZATIONS = (
    {"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "bits": 4,
     "group_size": 32, "sym": True,
     "extra_config": {".*mlp\\.gate$": {"bits": 16, "data_type": "fp"},
                      "model.layers.0.mlp.experts.0.gate_proj": {"bits": 8, "group_size": -1}}},
    {"quant_method": "auto-round", "packing_format": "auto_round:auto_awq", "bits": 4, "group_size": 128},
    {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True, "sym": True,
     "checkpoint_format": "gptq_v2", "dynamic": {"+:.*gate_proj.*": {"bits": 8}, "-:lm_head": {}}},
    {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"},
    {"quant_method": "awq", "w_bit": 4, "q_group_size": 128},
    {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
    {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {
        "targets": ["Linear", "re:.*gate_proj", "model.layers.0.mlp.experts.0.gate_proj"],
        "weights": {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "group",
                    "group_size": 32, "actorder": "group"}}}},
    {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "block",
                                           "block_structure": [128, 128]}}}},
    {"quant_method": "modelopt", "quant_algo": "NVFP4"},
)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": True}


def config():
    """With what the shape needs and one thing more."""
    base = load(FIXTURES / "tiny-bf16/config.json")
    for key in ("transformers_version", "initializer_range", "router_aux_loss_coef", "use_cache",
                "attention_dropout", "output_router_logits", "use_sliding_window", "torch_dtype"):
        base.pop(key, None)
    yield compact(base)
    yield compact(base | {"rope_scaling": YARN})
    yield compact(base | {"rope_parameters": YARN | {"rope_theta": 1e4, "partial_rotary_factor": 0.5}})
    yield compact(base | {"layer_types": ["linear_attention", "full_attention"],
                          "num_hidden_layers": 2})
    for quantization in QUANTIZATIONS:
        yield compact({"quantization_config": quantization})
    yield compact(base | {"quantization_config": QUANTIZATIONS[0]})
    yield compact(load(FIXTURES / "tiny-bf16/generation_config.json"))


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 4, "max_position_embeddings": 64,
         "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "linear_num_key_heads": 1,
         "linear_num_value_heads": 1, "linear_key_head_dim": 4, "linear_value_head_dim": 4,
         "linear_conv_kernel_dim": 2, "num_experts": 1, "num_experts_per_tok": 1,
         "moe_intermediate_size": 16, "shared_expert_intermediate_size": 8,
         "full_attention_interval": 2, "rope_theta": 1e4, "tie_word_embeddings": True}
EXPERT = "model.layers.%d.mlp.experts.0.%s"


def packed(kind, name, rows, cols):
    """The tensors of a quantized module of one group."""
    if kind == "gptq":
        return {name + ".qweight": ("I32", (cols // 8, rows)), name + ".qzeros": ("I32", (1, rows // 8)),
                name + ".scales": ("F16", (1, rows)), name + ".g_idx": ("I32", (cols,))}
    if kind == "awq":
        return {name + ".qweight": ("I32", (cols, rows // 8)), name + ".qzeros": ("I32", (1, rows // 8)),
                name + ".scales": ("F16", (1, rows))}
    if kind == "ct":
        return {name + ".weight_packed": ("I32", (rows, cols // 8)), name + ".weight_scale": ("BF16", (rows, 1)),
                name + ".weight_zero_point": ("I32", (rows // 8, 1)), name + ".weight_shape": ("I64", (2,))}
    return {name + ".weight": ("F8_E4M3", (rows, cols)), name + ".weight_scale_inv": ("F32", (1, 1))}


def directory(quantization, kind):
    """config.json, a line end, the header of the weights, and a byte for their values."""
    base = {"model_type": "qwen3_next"} | SIZES
    tensors = {"model.embed_tokens.weight": (4, 16), "model.norm.weight": (16,)}
    for i, own in enumerate((
            {"linear_attn.in_proj_qkvz.weight": (16, 16), "linear_attn.in_proj_ba.weight": (2, 16),
             "linear_attn.conv1d.weight": (12, 1, 2), "linear_attn.dt_bias": (1,),
             "linear_attn.A_log": (1,), "linear_attn.norm.weight": (4,),
             "linear_attn.out_proj.weight": (16, 4)},
            {"self_attn.q_proj.weight": (16, 16), "self_attn.k_proj.weight": (8, 16),
             "self_attn.v_proj.weight": (8, 16), "self_attn.o_proj.weight": (16, 8),
             "self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (8,)})):
        own |= {"input_layernorm.weight": (16,), "post_attention_layernorm.weight": (16,),
                "mlp.gate.weight": (1, 16), "mlp.shared_expert_gate.weight": (1, 16),
                "mlp.shared_expert.gate_proj.weight": (8, 16), "mlp.shared_expert.up_proj.weight": (8, 16),
                "mlp.shared_expert.down_proj.weight": (16, 8)}
        tensors |= {f"model.layers.{i}.{name}": dims for name, dims in own.items()}
    if kind == "stack":
        for i in range(2):
            tensors[f"model.layers.{i}.mlp.experts.gate_up_proj"] = (1, 32, 16)
            tensors[f"model.layers.{i}.mlp.experts.down_proj"] = (1, 16, 16)
    tensors = {name: ("BF16", dims) for name, dims in tensors.items()}
    for i in range(2):
        for name in ("gate_proj", "up_proj", "down_proj") if kind != "stack" else ():
            name = EXPERT % (i, name)
            tensors |= packed(kind, name, 16, 16) if kind else {name + ".weight": ("BF16", (16, 16))}
    if quantization:
        base["quantization_config"] = quantization
    at, header = 0, {}
    width = {"BF16": 2, "F16": 2, "I32": 4, "I64": 8, "F32": 4, "F8_E4M3": 1}
    for name, (dtype, dims) in tensors.items():
        size = prod(dims) * width[dtype]
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [at, at + size]}
        at += size
    return compact(base) + b"\n" + compact(header) + b"\0"


def catalog():
    group = {"type": "int", "num_bits": 4, "symmetric": False, "strategy": "group", "group_size": 16,
             "actorder": "group"}
    yield directory(None, None)
    yield directory(None, "stack")
    yield directory({"quant_method": "gptq", "bits": 4, "group_size": 16, "sym": False, "desc_act": True},
                    "gptq")
    yield directory({"quant_method": "auto-round", "bits": 4, "group_size": -1, "sym": False,
                     "packing_format": "auto_round"}, "gptq")
    yield directory({"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True}, "awq")
    yield directory({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8")
    yield directory({"quant_method": "compressed-tensors", "format": "pack-quantized",
                     "config_groups": {"g": {"targets": ["Linear"], "weights": group}}}, "ct")


def text(s):
    raw = s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(v):
    """A metadata value of GGUF: type and bytes."""
    if isinstance(v, bool):
        return struct.pack("<I?", 7, v)
    if isinstance(v, int):
        return struct.pack("<II", 4, v)
    if isinstance(v, float):
        return struct.pack("<If", 6, v)
    if isinstance(v, str):
        return struct.pack("<I", 8) + text(v)
    if isinstance(v[0], str):
        return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v))
    return struct.pack("<IIQ", 9, 5, len(v)) + struct.pack(f"<{len(v)}i", *v)


BLOCKS = {0: (1, 4), 8: (32, 34), 12: (256, 144)}


def gguf_file(version, entries, infos):
    """The header, then a byte: how much data follows, in units of 64 bytes."""
    out = struct.pack("<4sIQQ", b"GGUF", version, len(infos), len(entries))
    out += b"".join(text(k) + value(v) for k, v in entries.items())
    at, align = 0, entries.get("general.alignment", 32)
    for name, kind, ne in infos:
        out += text(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, at)
        n, size = BLOCKS[kind]
        at += -(-prod(ne) // n * size // align) * align
    return out + bytes([min(255, at // 64 + 2)])


def gguf_model(experts_fused):
    """All of a model: one layer of either kind, the vocabulary of the smallest tokenizer."""
    sizes = {"embedding_length": 8, "block_count": 2, "context_length": 64, "attention.head_count": 1,
             "attention.head_count_kv": 1, "attention.key_length": 2, "rope.dimension_count": 2,
             "ssm.group_count": 1, "ssm.time_step_rank": 1, "ssm.state_size": 2, "ssm.inner_size": 2,
             "ssm.conv_kernel": 2, "expert_count": 1, "expert_used_count": 1,
             "expert_feed_forward_length": 8, "expert_shared_feed_forward_length": 8,
             "full_attention_interval": 2, "rope.freq_base": 1e7, "rope.scaling.type": "yarn",
             "rope.scaling.factor": 2.0}
    entries = {"general.architecture": "qwen3next"} | {f"qwen3next.{k}": v for k, v in sizes.items()}
    infos = [("token_embd.weight", (8, 4)), ("output_norm.weight", (8,))]
    experts = ({"ffn_gate_up_exps.weight": (8, 16, 1)} if experts_fused else
               {"ffn_gate_exps.weight": (8, 8, 1), "ffn_up_exps.weight": (8, 8, 1)})
    both = {"attn_norm.weight": (8,), "post_attention_norm.weight": (8,), "ffn_gate_inp.weight": (8, 1),
            "ffn_gate_inp_shexp.weight": (8,), "ffn_down_exps.weight": (8, 8, 1),
            "ffn_gate_shexp.weight": (8, 8), "ffn_up_shexp.weight": (8, 8),
            "ffn_down_shexp.weight": (8, 8)} | experts
    projection = ({"ssm_in.weight": (8, 8)} if experts_fused else
                  {"attn_qkv.weight": (8, 6), "attn_gate.weight": (8, 2)})
    layers = (projection | {"ssm_ba.weight": (8, 2), "ssm_conv1d.weight": (2, 6), "ssm_dt.bias": (1,),
                            "ssm_a": (1,), "ssm_norm.weight": (2,), "ssm_out.weight": (2, 8)},
              {"attn_q.weight": (8, 4), "attn_k.weight": (8, 2), "attn_v.weight": (8, 2),
               "attn_output.weight": (2, 8), "attn_q_norm.weight": (2,), "attn_k_norm.weight": (2,)})
    for i, own in enumerate(layers):
        infos += [(f"blk.{i}.{name}", ne) for name, ne in (both | own).items()]
    return gguf_file(3, entries, [(name, 0, ne) for name, ne in infos])


def gguf_tokenizer():
    full = load(FIXTURES / "tiny-bf16/tokenizer.json")
    tokens = [t for t in full["model"]["vocab"] if len(t) == 1]
    merges = [" ".join(m) for m in full["model"]["merges"] if m[0] in tokens and m[1] in tokens][:4]
    tokens += [m.replace(" ", "") for m in merges] + ["<|im_end|>", "[PAD]"]
    types = [1] * (len(tokens) - 2) + [3, 5]
    return gguf_file(3, {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2",
                         "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types,
                         "tokenizer.ggml.merges": merges, "tokenizer.chat_template": "{{x}}"}, ())


def gguf():
    keys = ({"general.architecture": "qwen3next"},
            {"general.alignment": 64, "split.no": 0, "split.count": 2},
            {"tokenizer.ggml.tokens": ["a", "b", "<|im_end|>"], "tokenizer.ggml.token_type": [1, 1, 3]},
            {"qwen3next.rope.freq_base": 1e7, "tokenizer.ggml.add_bos_token": False})
    tensors = ((("token_embd.weight", 0, (32, 4)),), (("blk.0.attn_qkv.weight", 8, (32, 2)),
               ("blk.0.ffn_gate_exps.weight", 12, (256, 2, 2))), ())
    for version in (2, 3):
        for entries in keys:
            for infos in tensors:
                yield gguf_file(version, entries, infos)
    yield gguf_model(False)
    yield gguf_model(True)
    yield gguf_tokenizer()


def tokenizer():
    """By the first byte: a file and a text; parts of a file; merges and a text."""
    full = load(FIXTURES / "tiny-bf16/tokenizer.json")
    model = full["model"]
    single = {t: i for i, t in enumerate(t for t in model["vocab"] if len(t) == 1)}
    pairs = [list(m) for m in model["merges"] if m[0] in single and m[1] in single][:6]
    vocab = single | {a + b: len(single) + i for i, (a, b) in enumerate(pairs)}
    added = [t | {"id": len(vocab) + i} for i, t in enumerate(full["added_tokens"][:2])]
    some = full | {"model": model | {"vocab": vocab, "merges": pairs}, "added_tokens": added}
    for file in (some, {k: some[k] for k in ("model", "pre_tokenizer")}):
        raw = b"\0" + compact(file)
        speech = "Hello, in a <|im_start|>caf\u00e9".encode()
        yield raw + (speech * 1000)[:len(raw) // 7]
    regex = full["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    parts = (',"in":256,"ab":257', '"i n",["a","b"]',
             '{"id":258,"content":"<x>","special":true,"normalized":true}')
    for pattern in (regex, "\\n", " ?[^\\s\\p{L}\\p{N}]+", "(?i:'s|'t)|\\p{L}+"):
        yield b"\1" + "\n".join((*parts, compact(pattern).decode()[1:-1], "ab in <x> it's 42")).encode()
    yield b"\1\n\n\n\\n\nabc"
    yield b"\2" + b"abcdab" + bytes((128, 128, 128, 99)) + b"abcdabcd\nabab" * 3


def listing():
    files = [{"type": "file", "path": p, "size": 9, "oid": "0" * 40}
             for p in ("config.json", "tokenizer.json")]
    lfs = {"type": "file", "size": 99, "oid": "1" * 40, "lfs": {"oid": "2" * 64, "size": 99}}
    plain = [lfs | {"path": f"model-0000{i}-of-00002.safetensors"} for i in (1, 2)]
    ggufs = [lfs | {"path": p} for p in ("Q4_K_M/m-Q4_K_M-00001-of-00002.gguf",
                                        "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf", "m-Q8_0.gguf")]
    yield b"Org/Name\n" + compact({"sha": "3" * 40, "config": {"model_type": "qwen3_next"},
                                   "gguf": {"architecture": "qwen3next"}})
    for wanted in ("", ":Q4_K_M", ":m-Q8_0.gguf"):
        yield f"Org/Name{wanted}\n".encode() + compact(files + ggufs)
    yield b"https://huggingface.co/Org/Name\n" + compact(files + plain)


def markdown():
    """Two bytes, width and step, then the text."""
    samples = ("# Title\n\nSome *text*, **strong** and `code` with a [link](http://x.y/).\n",
               "1. one\n2. two\n   - deep\n\n> quoted\n> more\n", "```c\nint main(void);\n```\nend\n",
               "| a | b |\n|---|--:|\n| 1 | two |\n| \u4e09 | \U0001f642 |\n", "---\n\\*a\\* &amp; <b>x</b>\n~~no~~\n")
    for i, sample in enumerate(samples):
        yield bytes((39 + 20 * i, 200 >> i)) + sample.encode()


def theme():
    for path in sorted((TESTS.parent / "themes").glob("*.theme")):
        lines = [line for line in path.read_text().splitlines() if "=" in line and line[0] != "#"]
        yield "\n".join(lines[:6]).encode()
        yield "\n".join(lines[-3:]).encode()


def serve():
    """A line for the headers, then the body."""
    hi = {"role": "user", "content": "hi"}
    bodies = (
        {"messages": [hi], "temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "seed": 1},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "be"}]}, hi,
                      {"role": "assistant", "content": None, "reasoning_content": "x", "tool_calls": []}],
         "stop": ["a", "b"], "max_tokens": 5, "max_completion_tokens": 6, "repetition_penalty": 1.1},
        {"messages": [hi], "model": "bundled", "stream": True, "stream_options": {"include_usage": True},
         "chat_template_kwargs": {"enable_thinking": False}, "n": 1, "tools": [], "stop": "x"},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": [1, 1e-7]}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"}],
         "tool_choice": "auto", "parallel_tool_calls": False, "tools": [{"type": "function", "function": {
             "name": "f", "description": " d ", "parameters": {"type": "object", "required": ["x"], "properties": {
                 "x": {"type": ["array", "null"], "default": [True, None, 0.5, "'"]}}}}}]},
        {"messages": [hi], "response_format": {"type": "text"}, "modalities": ["text"], "logprobs": False},
    )
    heads = (b"127.0.0.1:8080", b"Bearer x", b"http://localhost:1", b"[::1]", b"Bearer key")
    for head, body in zip(heads, bodies):
        yield head + b"\n" + compact(body)


def calls():
    """Two bytes, the size of pieces and whether the answer ended, then the text."""
    tags = ("<tool_call>\n<function=f>\n<parameter=s>\na </parameter> b\n</parameter>\n<parameter=i>\n7\n"
            "</parameter>\n<parameter=o>\n{\"x\": null}\n</parameter>\n</function>\n</tool_call>")
    text = '<tool_call>\n{"name": "f", "arguments": {"s": "</tool_call>\\"", "i": 1e5}}\n</tool_call>'
    for i, sample in enumerate((tags, text, "Look.\n\n" + tags + "\n" + text + " and", text[:-8],
                                "a < <function=f>\n<parameter=a>[1]</parameter>\n</tool_call>", tags[:-30])):
        yield bytes((i, i)) + sample.encode()


def stream():
    """A byte, how long pieces are, then events; or a list of models."""
    delta = {"choices": [{"delta": {"content": "a\u20ac", "reasoning_content": "b"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}}
    for piece, value in ((1, delta), (7, {"error": {"message": "no"}}), (200, {"detail": "no", "choices": []})):
        yield bytes([piece]) + b"data: " + compact(value) + b"\r\n\r\n: c\n\ndata: [DONE]\n\n"
    yield b"\3" + compact({"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 9,
                                     "meta": {"n_ctx": 7, "n_ctx_train": 8, "size": 5}}]})
    yield b"\3" + compact({"status": "loading", "loaded_bytes": 3, "bytes": 9})


def pack():
    """Changes of a good index: none, a byte here and there, a cut."""
    yield b"\0"
    yield b"\1"
    yield b"\3"
    for at in range(0, 4096, 97):
        yield bytes([1]) + struct.pack("<HB", at, 4) + b"\xff\xff\xff\x7f"


def main():
    for make in (safetensors, index, config, catalog, pack, gguf, tokenizer, listing, markdown, theme,
                 serve, calls, stream):
        folder = Path(sys.argv[1]) / f"fuzz_{make.__name__}"
        folder.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(make()):
            (folder / f"seed-{i:02d}").write_bytes(seed)


if __name__ == "__main__":
    main()
