#!/usr/bin/env python3
"""ggml's block formats, from llama.cpp's own Python package `gguf`.

  make_blocks.py codebooks   kernels/codebooks.c: the tables of the IQ formats, packed
  make_blocks.py fixtures    tests/fixtures/ggml-blocks/: for each format TYPE.blocks, random blocks
                             with finite scales, and TYPE.f32, what gguf.quants.dequantize makes
                             of them (float32, little-endian)

llama.cpp tests gguf.quants against its C code bit by bit (gguf-py/tests/test_quants.py).
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ROOT = Path(__file__).resolve().parent.parent.parent
GRIDS = {  # name: class, bits of a value
    "lade_iq1_grid": (quants.IQ1_S, 2),
    "lade_iq2xxs_grid": (quants.IQ2_XXS, 2),
    "lade_iq2xs_grid": (quants.IQ2_XS, 2),
    "lade_iq2s_grid": (quants.IQ2_S, 2),
    "lade_iq3xxs_grid": (quants.IQ3_XXS, 3),
    "lade_iq3s_grid": (quants.IQ3_S, 3),
}
HALVES = {  # where a format has f16 numbers
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ1_S": [0], "IQ2_XXS": [0],
    "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ4_NL": [0], "IQ4_XS": [0],
    "MXFP4": [], "IQ1_M": [],
}


def codebooks():
    out = ["/* Made by tests/reference/make_blocks.py from the tables of llama.cpp's Python package",
           " * gguf (gguf/quants.py; the same as in ggml-common.h, both under the MIT licence). */",
           '#include "kernels/codebooks.h"', "", "/* clang-format off */"]
    for name, (kind, bits) in GRIDS.items():
        kind.init_grid()
        grid = kind.grid.reshape(kind.grid_shape)
        index = {float(v): i for i, v in enumerate(kind.grid_map)}
        packed = [sum(index[float(v)] << bits * i for i, v in enumerate(row)) for row in grid]
        out.append(f"\nconst uint16_t {name}[{len(packed)}] = {{")
        for i in range(0, len(packed), 12):
            out.append("    " + ", ".join(f"{v:5d}" for v in packed[i:i + 12]) + ",")
        out.append("};")
    (ROOT / "kernels" / "codebooks.c").write_text("\n".join(out) + "\n")


def random_half(rng, n):
    return (rng.uniform(-2, 2, n)).astype("<f2").view(np.uint8).reshape(n, 2)


def fixtures():
    out = ROOT / "tests" / "fixtures" / "ggml-blocks"
    out.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    for name, places in HALVES.items():
        kind = GGMLQuantizationType[name]
        values, size = GGML_QUANT_SIZES[kind]
        n = 2048 // values
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for at in places:
            blocks[:, at:at + 2] = random_half(rng, n)
        if name == "MXFP4":  # the whole range, ends included, that stays finite
            blocks[:, 0] = np.linspace(0, 250, n)
        if name == "IQ1_M":  # the scale's bits are the top nibbles of four words
            half = random_half(rng, n).view("<u2").reshape(n)
            for i in range(4):
                blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (half >> 4 * i & 15) << 4
        (out / f"{name}.blocks").write_bytes(blocks.tobytes())
        floats = quants.dequantize(blocks, kind).astype("<f4")
        assert np.isfinite(floats).all() and floats.size == n * values
        (out / f"{name}.f32").write_bytes(floats.tobytes())


if __name__ == "__main__":
    jobs = {"codebooks": codebooks, "fixtures": fixtures}
    if len(sys.argv) != 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    jobs[sys.argv[1]]()
