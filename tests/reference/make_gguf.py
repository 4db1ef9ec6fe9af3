#!/usr/bin/env python3
"""Converts a fixture to GGUF with llama.cpp's own converter.

  make_gguf.py DIR     DIR holds llama.cpp's `conversion` package (the root of its source tree)

Writes tests/fixtures/tiny-gguf/: tiny-bf16.gguf and tiny-q8_0.gguf; routers and vectors are F32 in
both. Needs the packages gguf and torch. The fixtures' tokenizers are not among the published ones whose pre-tokenizer the converter
recognizes by a digest, so that question is answered here: they split text as Qwen2 does.
"""
import sys
from pathlib import Path

import gguf

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FILES = {
    "tiny-bf16.gguf": ("tiny-bf16", gguf.LlamaFileType.MOSTLY_BF16),
    "tiny-q8_0.gguf": ("tiny-bf16", gguf.LlamaFileType.MOSTLY_Q8_0),
}


def main(tree):
    sys.path.insert(0, tree)
    from conversion import qwen

    model = qwen.Qwen3NextModel
    model.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    model.no_mtp, model.mtp_only = True, False
    out = FIXTURES / "tiny-gguf"
    out.mkdir(exist_ok=True)
    for file, (fixture, kind) in FILES.items():
        model(FIXTURES / fixture, kind, out / file).write()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
