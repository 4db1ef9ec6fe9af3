#!/usr/bin/env python3
"""Writes tests/golden/packings.json: what the formats' own tools make of packed weights, and
tests/fixtures/ggml-blocks/fp8.*: blocks of 8-bit floats with torch's values of them.

Every bit pattern is a valid set of codes, so the packed tensors are random bits from a generator
that tests/unit/test_packings.c repeats, and only the SHA-256 of the dequantized floats is kept:
float32, little-endian, [rows][cols], no negative zeros. Dequantized by auto-round's own layers (GPTQ and its own
packings, with and without g_idx), its AWQ layer, compressed-tensors' compressor, and torch's 8-bit
floats; always with the scales as float32, so that nothing is rounded.
"""
import hashlib
import json
import sys
from pathlib import Path

import torch

ROWS, COLS = 64, 256
MASK = (1 << 64) - 1
TORCH = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


# ---- the generator of tests/support/support_checkpoint.c --------------------------------------

def words(name, n):
    """n 32-bit words: xorshift64*, seeded by FNV-1a of the name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 & MASK
    for _ in range(n):
        state ^= state >> 12
        state = (state ^ state << 25) & MASK
        state ^= state >> 27
        yield (state * 0x2545F4914F6CDD1D & MASK) >> 32


def integers(name, *shape):
    n = torch.Size(shape).numel()
    return torch.tensor(list(words(name, n)), dtype=torch.int64).to(torch.int32).reshape(shape)


def scales(name, dtype, *shape):
    """Magnitudes of 2^-5 to 1, of either sign, as support_checkpoint.c makes them."""
    n = torch.Size(shape).numel()
    if dtype == "F32":
        values = [((r >> 8) / (1 << 24) - 0.5) * 2 for r in words(name, n)]
        return torch.tensor(values, dtype=torch.float32).reshape(shape)
    bits = [(r & 0x83FF) | (10 + r % 5) << 10 if dtype == "F16" else (r & 0x807F) | (122 + r % 5) << 7
            for r in words(name, n)]
    bits = torch.tensor(bits, dtype=torch.int32).to(torch.int16)
    return bits.view(TORCH[dtype]).reshape(shape)


def groups_of(case):
    return 1 if case["group"] == -1 else COLS // case["group"]


def order(case):
    """The group of each input, any of them."""
    return torch.tensor([r % groups_of(case) for r in words("order", COLS)])


# ---- the tools --------------------------------------------------------------------------------

def as_signed(value):
    return value - (1 << 32) if value >= 1 << 31 else value


def repeated(bits, value):
    """A stream of equal codes, as 3 words of 32 codes or fewer."""
    stream = sum(value << bits * i for i in range(32))
    return [as_signed(stream >> 32 * i & 0xFFFFFFFF) for i in range(bits)]


def gptq(case):
    if case["zero_offset"]:
        from auto_round_extension.torch.qlinear_torch_zp import QuantLinear
    else:
        from auto_round_extension.torch.qlinear_torch import QuantLinear
    bits, groups = case["bits"], groups_of(case)
    layer = QuantLinear(bits, case["group"], COLS, ROWS, False)
    layer.qweight = integers("qweight", COLS * bits // 32, ROWS)
    layer.scales = scales("scales", case["scales"], groups, ROWS).float()
    zeros = integers("qzeros", groups, ROWS * bits // 32)
    if bits == 8:
        zeros &= 0x7F7F7F7F  # 255 + 1 does not fit 8 bits
    if case["sym"]:
        pattern = repeated(bits, (1 << bits - 1) - case["zero_offset"])
        zeros = torch.tensor(pattern, dtype=torch.int32).repeat(groups, ROWS // 32)
    layer.qzeros = zeros
    if case["order"]:
        layer.g_idx = order(case).to(torch.int32)
    return layer(torch.eye(COLS)).t()


def awq(case):
    from auto_round.export.export_to_awq.utils import dequantize_gemm
    groups = groups_of(case)
    zeros = integers("qzeros", groups, ROWS // 8)
    if case["sym"]:
        zeros = torch.full_like(zeros, as_signed(0x88888888))
    return dequantize_gemm(integers("qweight", COLS, ROWS // 8), zeros,
                           scales("scales", case["scales"], groups, ROWS).float(), 4,
                           COLS // groups).t()


def compressed(case):
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    bits, groups = case["bits"], groups_of(case)
    args = QuantizationArgs(num_bits=bits, symmetric=case["sym"],
                            strategy="channel" if case["group"] == -1 else "group",
                            group_size=None if case["group"] == -1 else case["group"])
    state = {"weight_packed": integers("weight_packed", ROWS, COLS * bits // 32),
             "weight_scale": scales("weight_scale", case["scales"], ROWS, groups).float(),
             "weight_shape": torch.tensor([ROWS, COLS])}
    if not case["sym"]:
        state["weight_zero_point"] = integers("weight_zero_point", ROWS * bits // 32, groups)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    if not case["order"]:
        return PackedQuantizationCompressor.decompress(state, scheme)["weight"]
    # This version leaves g_idx to whoever runs the model. The rule: as without, but the group of
    # an input is g_idx of it.
    from compressed_tensors.compressors.pack_quantized import unpack_from_int32
    codes = unpack_from_int32(state["weight_packed"], bits, torch.Size([ROWS, COLS])).float()
    if not case["sym"]:
        zero = unpack_from_int32(state["weight_zero_point"], bits, torch.Size([ROWS, groups]),
                                 packed_dim=0)
        codes -= zero.float()[:, order(case)]
    return codes * state["weight_scale"][:, order(case)]


def fp8(case):
    codes = [r & 0xFF for r in words("weight", ROWS * COLS)]
    codes = [c ^ 1 if c & 0x7F == 0x7F else c for c in codes]  # no NaN
    weight = torch.tensor(codes, dtype=torch.uint8).view(torch.float8_e4m3fn)
    rows, cols = case["block"]
    rows, cols = (ROWS if rows < 0 else rows), (COLS if cols < 0 else cols)
    shape = -(-ROWS // rows), -(-COLS // cols)
    scale = scales(case["scale_name"], case["scales"], *shape).float()
    scale = scale.repeat_interleave(rows, 0)[:ROWS].repeat_interleave(cols, 1)[:, :COLS]
    return weight.float().reshape(ROWS, COLS) * scale


def cases():
    """Sizes, symmetry and order mixed so that each value of each meets each packing."""
    for bits in (2, 3, 4, 8):
        for i, group in enumerate((32, 64, 128, -1)):
            for offset in (0, 1):
                yield gptq, dict(form="gptq", bits=bits, group=group, sym=(i + offset) % 2 == 0,
                                 zero_offset=offset, order=group > 0 and (i + bits) % 2 == 1,
                                 scales="F16")
            yield compressed, dict(form="compressed-tensors", bits=bits, group=group,
                                   sym=i % 2 == 0, order=group > 0 and (i + bits) % 2 == 0,
                                   scales=("BF16", "F16")[i // 2])
    for group in (32, 64, 128, -1):
        for sym in (False, True):
            yield awq, dict(form="awq", bits=4, group=group, sym=sym, order=False, scales="F16")
    for block, name, kind in (([128, 128], "weight_scale_inv", "BF16"),
                              ([32, 128], "weight_scale_inv", "F32"),
                              ([128, 256], "weight_scale", "F16"),
                              ([1, -1], "weight_scale", "BF16"), ([-1, -1], "weight_scale", "F32")):
        yield fp8, dict(form="fp8", block=block, scale_name=name, scales=kind)


def fp8_blocks(directory):
    """16 blocks with every code, but NaN, eight times; scales of all sizes that floats have."""
    codes = torch.arange(2048, dtype=torch.int32) * 37 % 256
    codes[codes % 128 == 127] ^= 1
    codes = codes.to(torch.uint8).reshape(16, 128)
    scale = torch.tensor([(-1.0) ** i * (1 + i / 16) * 2.0 ** (8 * i - 80) for i in range(16)])
    values = codes.view(torch.float8_e4m3fn).float() * scale[:, None]
    blocks = torch.cat([scale[:, None].view(torch.uint8), codes], dim=1)
    (directory / "fp8.blocks").write_bytes(blocks.numpy().tobytes())
    (directory / "fp8.f32").write_bytes(values.numpy().tobytes())


def main():
    out = []
    for tool, case in cases():
        weight = tool(case).contiguous() + 0.0
        assert weight.dtype == torch.float32 and weight.shape == (ROWS, COLS), case
        out.append({**case, "sha256": hashlib.sha256(weight.numpy().tobytes()).hexdigest()})
    tests = Path(__file__).resolve().parent.parent
    path = tests / "golden" / "packings.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")
    fp8_blocks(tests / "fixtures" / "ggml-blocks")
    print(f"{path}: {len(out)} cases", file=sys.stderr)


if __name__ == "__main__":
    main()
