#!/usr/bin/env python3
"""Writes what transformers computes in float32 for a checkpoint.

  dump_goldens.py                     tests/golden/models/NAME.{json,f32} for every fixture
  dump_goldens.py NAME ...            only these fixtures
  dump_goldens.py --model DIR -o OUT  any other checkpoint: OUT.json and OUT.f32
  dump_goldens.py NAME --trace DIR    also every layer's hidden states, to look for a mistake

NAME.f32 is raw little-endian float32, row-major [positions][columns]: row p holds the logits
after token p of `prompt`, column c is the logit of token `column_first + c * column_step` (all
ids with step 1; a subset keeps the repository small and compares as sharply). NAME.json:

  model, model_sha256      the fixture, and a digest of its config.json and shards
  prompt                   token ids
  positions, columns, column_first, column_step, vocab
  row_l2                   per position, the L2 norm over the whole vocabulary
  argmax                   per position, over the whole vocabulary
  router_gap               smallest lead, over layers and positions of the prompt, of the last
                           chosen expert's router logit over the first one not chosen
  greedy                   list of {prompt, ids, gap, router_gap}: 64 ids each, stop tokens ignored;
                           gap is the smallest lead of the best logit over the second

Prompts are drawn until the gaps are well above float32's rounding: at a near tie the order of
additions would decide, and a comparison would say nothing about the code.

--trace writes the golden's prompt as DIR/LL-NAME.f32, LL the layer, mostly [positions][hidden]:

  input    the residual stream entering          mixer   output of attention or delta-net
  middle   the stream after the mixer            router  logits [positions][experts]
  moe      output of the experts                 output  the stream after them
  delta-net: qkvz, ba   projections as stored    conv    after SiLU: q, k, v head-major
             core       after the delta rule     norm    after the gated norm; both
                        [positions * value heads][value dim]
  attention: q, k, v    projections; q holds query and gate per head

and DIR/final-norm.f32, the input of the head.
"""
import argparse
import json
from pathlib import Path

import numpy as np
import torch

import reference_model
from fixture_specs import SPECS

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
GOLDEN = HERE.parent / "golden" / "models"
POSITIONS, GREEDY, ATTEMPTS = 200, 64, 400
PROMPT_LENGTHS = (1, 7, 33)
MIN_GREEDY_GAP, MIN_ROUTER_GAP = 2e-3, 1e-4
COLUMN_STEP = 4


def random_prompt(length, vocab, seed):
    return np.random.default_rng(seed).integers(0, vocab, length).tolist()


class Trace:
    """Keeps the outputs of the model's parts by forward hooks."""

    def __init__(self, model):
        self.parts = {}
        for i, layer in enumerate(model.model.layers):
            def keep(name, of_input=False, index=i):
                def hook(_, args, kwargs, output):
                    value = output[0] if isinstance(output, tuple) else output
                    if of_input:
                        value = args[0] if args else kwargs["hidden_states"]
                    self.parts[f"{index:02d}-{name}"] = value.reshape(-1, value.shape[-1]).clone()
                return hook
            hooks = [(layer, "input", True), (layer, "output", False), (layer.mlp, "moe", False),
                     (layer.post_attention_layernorm, "middle", True),
                     (layer.mlp.gate, "router", False)]
            if layer.layer_type == "linear_attention":
                mixer = layer.linear_attn
                hooks += [(mixer, "mixer", False), (mixer.in_proj_qkvz, "qkvz", False),
                          (mixer.in_proj_ba, "ba", False), (mixer.norm, "core", True),
                          (mixer.norm, "norm", False)]
                mixer.conv1d.register_forward_hook(self.keep_conv(i))
            else:
                mixer = layer.self_attn
                hooks += [(mixer, "mixer", False), (mixer.q_proj, "q", False),
                          (mixer.k_proj, "k", False), (mixer.v_proj, "v", False)]
            for module, name, of_input in hooks:
                module.register_forward_hook(keep(name, of_input), with_kwargs=True)
        model.model.norm.register_forward_hook(
            lambda _, args, output: self.parts.__setitem__("final-norm", output[0].clone()))

    def keep_conv(self, index):
        """The convolution is padded on both sides; its first columns are the causal ones."""
        def hook(_, args, output):
            causal = torch.nn.functional.silu(output[0, :, :args[0].shape[-1]])
            self.parts[f"{index:02d}-conv"] = causal.t().clone()
        return hook

    def write(self, directory):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, value in self.parts.items():
            value.numpy().astype("<f4").tofile(directory / f"{name}.f32")
            print(f"{directory}/{name}.f32 {list(value.shape)}")


def router_gap(trace, top_k):
    gaps = []
    for name, logits in trace.parts.items():
        if name.endswith("-router"):
            best = logits.topk(top_k + 1).values
            gaps.append((best[:, top_k - 1] - best[:, top_k]).min().item())
    return min(gaps)


def greedy(model, trace, prompt, count):
    """`count` ids after `prompt` by the cached, token by token path; and the smallest leads."""
    out = model.generate(torch.tensor([prompt]), max_new_tokens=count, min_new_tokens=count,
                         do_sample=False, eos_token_id=None, pad_token_id=0, output_logits=True,
                         return_dict_in_generate=True)
    ids = out.sequences[0, len(prompt):].tolist()
    best = torch.cat(out.logits).topk(2).values
    gap = (best[:, 0] - best[:, 1]).min().item()
    whole = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1:-1].argmax(-1).tolist()
    if whole != ids:
        gap = 0.0  # the two paths of transformers itself disagree: as close as it gets
    return {"prompt": prompt, "ids": ids, "gap": round(gap, 6),
            "router_gap": router_gap(trace, model.config.num_experts_per_tok)}


def greedy_set(model, trace, vocab, seed):
    """One continuation per prompt length."""
    found = []
    for length in PROMPT_LENGTHS:
        for attempt in range(ATTEMPTS):
            prompt = random_prompt(length, vocab, [seed, length, attempt])
            entry = greedy(model, trace, prompt, GREEDY)
            if (entry["gap"] >= MIN_GREEDY_GAP and entry["router_gap"] >= MIN_ROUTER_GAP
                    and len(set(entry["ids"])) > 8):
                found.append(entry)
                break
        else:
            raise SystemExit(f"no prompt of {length} tokens gives a clear continuation")
    return found


def clear_prompt(model, trace, vocab, top_k, seed):
    """A prompt in which no router is nearly undecided, with its logits."""
    for attempt in range(ATTEMPTS):
        prompt = random_prompt(POSITIONS, vocab, [seed, attempt])
        logits = model(torch.tensor([prompt])).logits[0]
        gap = router_gap(trace, top_k)
        if gap >= MIN_ROUTER_GAP:
            return prompt, logits, gap
    raise SystemExit("every prompt meets an undecided router")


@torch.inference_mode()
def dump(directory, out, full, seed, trace_dir=None):
    model = reference_model.load(directory)
    vocab = model.config.vocab_size
    trace = Trace(model)
    prompt, logits, gap = clear_prompt(model, trace, vocab, model.config.num_experts_per_tok, seed)
    if trace_dir:
        trace.write(trace_dir)
        return
    step = 1 if full else COLUMN_STEP
    kept = logits[:, ::step].contiguous()
    golden = {
        "model": Path(directory).name, "model_sha256": reference_model.digest(directory),
        "positions": POSITIONS, "columns": kept.shape[1], "column_first": 0, "column_step": step,
        "vocab": vocab, "prompt": prompt, "router_gap": gap,
        "argmax": logits.argmax(-1).tolist(),
        "row_l2": [round(x, 5) for x in logits.double().norm(dim=-1).tolist()],
        "greedy": greedy_set(model, trace, vocab, seed),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    kept.numpy().astype("<f4").tofile(out.with_suffix(".f32"))
    out.with_suffix(".json").write_text(to_text(golden))
    gaps = [entry["gap"] for entry in golden["greedy"]]
    print(f"{out.name}: {kept.shape[0]} x {kept.shape[1]} logits, router gap {gap:.1e}, "
          f"greedy gaps {gaps}")


def to_text(golden):
    """JSON with one key to a line: lists of ids stay on theirs."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="fixtures (default all)")
    parser.add_argument("--model", type=Path, help="another checkpoint's directory")
    parser.add_argument("-o", "--output", type=Path, help="with --model: OUT.json and OUT.f32")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="write hidden states instead")
    args = parser.parse_args()
    if args.model and not (args.output or args.trace):
        parser.error("--model needs -o or --trace")
    torch.set_num_threads(2)
    if args.model:
        dump(args.model, args.output, True, 0, args.trace)
        return
    for name in args.names or SPECS:
        if name not in SPECS:
            parser.error(f"no fixture {name}; there are {', '.join(SPECS)}")
        dump(FIXTURES / name, GOLDEN / name, False, SPECS[name].seed, args.trace)


if __name__ == "__main__":
    main()
