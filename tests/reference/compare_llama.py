#!/usr/bin/env python3
"""Compares logits with llama.cpp's, for every quantization that llama.cpp makes.

  compare_llama.py TREE LADE [TYPE ...]

TREE is llama.cpp's source with its programs in TREE/bin (llama-quantize, libllama.so), LADE the
program to test, TYPE names of llama-quantize (all if none). Needs torch, transformers and the
Python sources of llama-cpp-python of the same version.

A model with random weights, whose sizes are whole blocks, goes through llama.cpp's converter and
quantizer; then the logits of LADE on that file are compared with

  float      those of LADE on the same weights made 32-bit floats by gguf-py: at most 1e-4
  peer       those of libllama on these floats: at most 1e-3, where it rounds nothing on purpose
  file       those of libllama on the same file: at most 2e-2

as relative L2 over all positions. On the file llama.cpp rounds the inputs of products to 8 bits, which
is what the last bound allows for. So that it measures just that, every expert is used (a router near a
tie would choose others) and each block adds a sixth of the residual stream, as in deep models.
"""
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

if len(sys.argv) < 3:
    sys.exit(__doc__)
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), sys.argv[1], os.path.join(sys.argv[1], "gguf-py")]
import gguf  # noqa: E402  llama.cpp's own, which knows its newest types

TYPES = """F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S
    Q5_K_M Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M
    IQ4_NL IQ4_XS MXFP4_MOE""".split()
SHAPE = dict(hidden_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
             linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=32,
             linear_value_head_dim=32, moe_intermediate_size=256,
             shared_expert_intermediate_size=256, num_experts=4, num_experts_per_tok=4)
TOKENS = 64
LIMITS = 1e-4, 1e-3, 2e-2


def make_checkpoint(directory):
    import make_fixtures
    import small_tokenizer
    from fixture_specs import Spec
    spec = Spec(seed=11, shape=SHAPE)
    model = make_fixtures.build_model(spec)
    for name, weight in model.state_dict().items():
        if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight")):
            weight.mul_(0.5)
    make_fixtures.write_plain(directory, model, spec)
    make_fixtures.write_text_files(directory, spec, small_tokenizer.train())


def convert(tree, directory, out):
    from conversion import qwen
    model = qwen.Qwen3NextModel
    model.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    model.no_mtp, model.mtp_only = True, False
    model(directory, gguf.LlamaFileType.ALL_F32, out).write()


def importance(source, out):
    """An importance matrix of ones, which the smallest types insist on."""
    writer = gguf.GGUFWriter(out, arch="imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in gguf.GGUFReader(source).tensors:
        if len(tensor.shape) < 2:
            continue
        experts = int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
        writer.add_tensor(tensor.name + ".in_sum2",
                          np.ones((experts, int(tensor.shape[0])), dtype=np.float32))
        writer.add_tensor(tensor.name + ".counts", np.ones((experts, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_floats(source, out):
    """The same model with every tensor as gguf-py dequantizes it."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, arch="qwen3next")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape([int(n) for n in tensor.shape[::-1]]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def lade_logits(lade, path, ids, vocab):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([lade, "logits", "-m", str(path), "--cpu", "--all", "-o", out.name, "--ids",
                        " ".join(map(str, ids))], check=True, stdout=subprocess.DEVNULL)
        return np.fromfile(out.name, dtype="<f4").reshape(len(ids), vocab)


def llama_logits(library, path, ids, vocab):
    params = library.llama_model_default_params()
    model = library.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    context_params = library.llama_context_default_params()
    context_params.n_ctx = context_params.n_batch = context_params.n_ubatch = 128
    context_params.n_threads = context_params.n_threads_batch = 2
    context_params.type_k = context_params.type_v = 0  # F32, as lade logits has it
    context = library.llama_init_from_model(model, context_params)
    batch = library.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, 1
    assert library.llama_decode(context, batch) == 0
    out = np.empty((len(ids), vocab), dtype=np.float32)
    for i in range(len(ids)):
        out[i] = np.ctypeslib.as_array(library.llama_get_logits_ith(context, i), shape=(vocab,))
    library.llama_batch_free(batch)
    library.llama_free(context)
    library.llama_model_free(model)
    return out


def distance(have, want):
    return float(np.linalg.norm(have.astype(np.float64) - want) / np.linalg.norm(want))


def load_library(tree):
    os.environ["LLAMA_CPP_LIB_PATH"] = str(tree / "bin")
    from llama_cpp import llama_cpp
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
        lambda level, text, user: None)
    llama_cpp.llama_log_set(ctypes.cast(silent, llama_cpp.llama_log_callback), None)
    llama_cpp.silent = silent
    llama_cpp.llama_backend_init()
    return llama_cpp


def main(tree, lade, types):
    library = load_library(tree)
    ids = [int(i) for i in np.random.default_rng(1).integers(0, 900, TOKENS)]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        source = scratch / "f32.gguf"
        (scratch / "model").mkdir()
        make_checkpoint(scratch / "model")
        convert(tree, scratch / "model", source)
        importance(source, scratch / "importance.gguf")
        print(f"{'type':10} {'tensors as':32}{'float':>9}{'peer':>9}{'file':>9}")
        for kind in types or TYPES:
            path, plain = scratch / "q.gguf", scratch / "plain.gguf"
            subprocess.run([tree / "bin" / "llama-quantize", "--imatrix",
                            scratch / "importance.gguf", source, path, kind], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            as_floats(path, plain)
            vocab = int(gguf.GGUFReader(path).tensors[0].shape[1])
            used = sorted({t.tensor_type.name for t in gguf.GGUFReader(path).tensors})
            have = lade_logits(lade, path, ids, vocab)
            seen = (distance(have, lade_logits(lade, plain, ids, vocab)),
                    distance(have, llama_logits(library, plain, ids, vocab)),
                    distance(have, llama_logits(library, path, ids, vocab)))
            bad = any(e > limit for e, limit in zip(seen, LIMITS))
            failed += bad
            print(f"{kind:10} {' '.join(used):32}" + "".join(f"{e:9.1e}" for e in seen)
                  + "  FAILED" * bad, flush=True)
            path.unlink()
            plain.unlink()
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]) else 0)
