"""Quantizes a tiny model with Intel's auto-round and lets it write its own export.

Plain rounding (iters=0): the fixtures need auto-round's packing and config, not its tuning, and
plain rounding needs no calibration data. Weights come out as auto_round:auto_gptq.
"""
import contextlib
import functools
import io
import json
import logging
import re
from pathlib import Path

import torch
from auto_round import AutoRound
from transformers import AutoTokenizer


def shard_limit(model, spec):
    """Bytes per shard so that at least spec.shards files come out: an estimate of the quantized
    size, since auto-round offers no count."""
    if spec.shards == 1:
        return 1 << 30
    total = 0
    for name, tensor in model.state_dict().items():
        packed = tensor.ndim == 2 and not name.endswith(("embed_tokens.weight", "lm_head.weight"))
        total += tensor.numel() * (0.6 if packed else 2)
    return int(total / spec.shards)


def use_rules(path, broaden):
    """Replaces expressions of extra_config by wider ones and removes the exact names that say the
    same. auto-round writes every name beside the expressions; without the repetition a reader has
    to apply them, and to let an exact name win."""
    config = json.loads(path.read_text())
    quant = config.get("quantization_config", config)
    extra = {broaden.get(key, key): value for key, value in quant["extra_config"].items()}
    rules = {key: value for key, value in extra.items() if not key.startswith("model.")}
    quant["extra_config"] = {
        key: value for key, value in extra.items()
        if key in rules or value != next((v for r, v in rules.items() if re.search(r, key)), None)}
    path.write_text(json.dumps(config, indent=2) + "\n")


def export(model, tokenizer_dir, directory, spec):
    """Writes shards, index, config.json and quantization_config.json into `directory`."""
    logging.getLogger("autoround").setLevel(logging.ERROR)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    model.save_pretrained = functools.partial(_save_in_shards, model.save_pretrained,
                                              shard_limit(model, spec))
    quantizer = AutoRound(
        model, tokenizer, bits=spec.quant.bits, group_size=spec.quant.group_size, sym=True,
        iters=0, disable_opt_rtn=True, device_map="cpu", layer_config=dict(spec.quant.layers),
        enable_torch_compile=False, low_cpu_mem_usage=False)
    with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
        quantizer.quantize_and_save(str(directory), format="auto_round")
    if spec.quant.broaden:
        for name in ("config.json", "quantization_config.json"):
            use_rules(Path(directory) / name, spec.quant.broaden)


def _save_in_shards(save, limit, directory, **options):
    """transformers' own save_pretrained with our shard size in place of auto-round's 5 GB."""
    save(directory, **{**options, "max_shard_size": limit})
