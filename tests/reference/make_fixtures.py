#!/usr/bin/env python3
"""Makes the tiny checkpoints of tests/fixtures: transformers for the model and its config,
auto-round for the quantized ones, tokenizers for the tokenizer.

  make_fixtures.py            all of fixture_specs.py
  make_fixtures.py NAME ...   only these
"""
import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

import random_weights
import small_tokenizer
from fixture_specs import BASE, SPECS

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
SAMPLING = {"instruct": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
            "thinking": {"temperature": 0.6, "top_p": 0.95, "top_k": 20}}
EOS = small_tokenizer.FIRST_ADDED + small_tokenizer.ADDED.index("<|im_end|>")
PAD = small_tokenizer.FIRST_ADDED + small_tokenizer.ADDED.index("<|endoftext|>")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def build_model(spec):
    """A bf16 transformers model with random weights, as save_pretrained would write it."""
    config = Qwen3NextConfig(**{**BASE, **spec.shape}, bos_token_id=PAD, eos_token_id=EOS,
                             use_sliding_window=False, dtype=torch.bfloat16)
    model = Qwen3NextForCausalLM(config).to(torch.bfloat16)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    model.load_state_dict(random_weights.fill(shapes, spec.seed), strict=True)
    return model.eval()


def fuse_experts(state, config):
    """Per-expert 2-D tensors to the 3-D ones that newer transformers may save."""
    for layer in range(config.num_hidden_layers):
        base = f"model.layers.{layer}.mlp.experts."
        gate, up, down = (
            [state.pop(f"{base}{e}.{part}_proj.weight") for e in range(config.num_experts)]
            for part in ("gate", "up", "down"))
        state[base + "gate_up_proj"] = torch.stack([torch.cat(pair) for pair in zip(gate, up)])
        state[base + "down_proj"] = torch.stack(down)


def config_dict(config, spec):
    """config.json in the spelling that the spec asks for."""
    out = {"architectures": ["Qwen3NextForCausalLM"], **config.to_diff_dict()}
    # to_diff_dict leaves out what equals the library's defaults; real files spell these out.
    for key in ("attention_bias", "decoder_sparse_step", "hidden_act", "linear_conv_kernel_dim",
                "mlp_only_layers", "norm_topk_prob", "partial_rotary_factor", "rms_norm_eps",
                "rope_scaling", "rope_theta", "tie_word_embeddings", "layer_types"):
        out[key] = getattr(config, key)
    out["full_attention_interval"] = config.full_attention_interval
    if not spec.layer_types:
        del out["layer_types"]
        out["torch_dtype"] = out.pop("dtype")
    if spec.rope == "new":
        out["rope_parameters"] = {"partial_rotary_factor": out.pop("partial_rotary_factor"),
                                  "rope_theta": out.pop("rope_theta"), "rope_type": "default"}
        del out["rope_scaling"]
    return dict(sorted(out.items()))


def write_plain(directory, model, spec):
    """The bf16 shards, with the spec's variations of the layout."""
    state = dict(model.state_dict())
    if spec.fused_experts:
        fuse_experts(state, model.config)
    if spec.mtp:
        state.update(random_weights.fill(random_weights.mtp_shapes(model.config), spec.seed))
    if spec.float32_small:
        for name in state:
            if name.endswith(("A_log", "dt_bias")) or "norm" in name:
                state[name] = state[name].float()
    total = sum(t.numel() * t.element_size() for t in state.values())
    limit = total if spec.shards == 1 else total // spec.shards
    save_torch_state_dict(state, directory, max_shard_size=limit + 1)
    write_json(directory / "config.json", config_dict(model.config, spec))


def write_quantized(directory, model, spec, tokenizer_dir):
    """auto-round's own export; only config.json is respelled, keeping its quantization_config."""
    import quantize  # auto-round is slow to import and only needed here
    quantize.export(model, tokenizer_dir, directory, spec)
    exported = json.loads((directory / "config.json").read_text())
    out = config_dict(model.config, spec)
    out["quantization_config"] = exported["quantization_config"]
    write_json(directory / "config.json", out)


def write_text_files(directory, spec, tok):
    """Tokenizer, chat template and generation defaults."""
    template = (HERE / "templates" / f"{spec.family}.jinja").read_text(encoding="utf-8")
    small_tokenizer.write(directory, tok, template, spec.template_file)
    if spec.merges_as_text:
        path = directory / "tokenizer.json"
        value = json.loads(path.read_text(encoding="utf-8"))
        value["model"]["merges"] = [" ".join(pair) for pair in value["model"]["merges"]]
        path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n",
                        encoding="utf-8")
    write_json(directory / "generation_config.json", {
        "bos_token_id": PAD, "do_sample": True, "eos_token_id": [EOS, PAD], "pad_token_id": PAD,
        **SAMPLING[spec.family], "transformers_version": "4.57.6"})


def make(name, tok):
    spec = SPECS[name]
    directory = FIXTURES / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model = build_model(spec)
    if spec.quant:
        with tempfile.TemporaryDirectory() as scratch:
            write_text_files(Path(scratch), spec, tok)
            write_quantized(directory, model, spec, scratch)
        for path in directory.iterdir():  # auto-round adds its own copies of these
            if path.suffix != ".safetensors" and path.name not in (
                    "config.json", "quantization_config.json", "model.safetensors.index.json"):
                path.unlink()
    else:
        write_plain(directory, model, spec)
    write_text_files(directory, spec, tok)
    for path in directory.iterdir():
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in directory.iterdir())
    shards = len(list(directory.glob("*.safetensors")))
    print(f"{name}: {size / 1e6:.2f} MB, {shards} file(s) of weights")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="fixtures to make (default all)")
    names = parser.parse_args().names or list(SPECS)
    for name in names:
        if name not in SPECS:
            parser.error(f"no fixture {name}; there are {', '.join(SPECS)}")
    torch.set_num_threads(2)
    tok = small_tokenizer.train()
    for name in names:
        make(name, tok)


if __name__ == "__main__":
    main()
