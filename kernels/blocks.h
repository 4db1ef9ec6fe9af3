/* blocks.h - block formats: n values of a row in a fixed run of bytes.
 *
 * All but the last are ggml's. Layouts and formulas are those of ggml (ggml-common.h,
 * ggml-quants.c); d, dmin and m are f16. Values come out as ggml's own dequantization gives them,
 * to the last bit where the formula has one product and to one unit in the last place else.
 *
 * F8_E4M3 is what FP8 checkpoints become: an f32 scale and 128 8-bit floats (1 sign, 4 exponent, 3
 * mantissa bits, bias 7, no infinities). Their blocks of 128 x 128 weights have one scale, which
 * each row keeps: value = scale * code, which f32 has exactly where the scale was a BF16. */
#ifndef LADE_KERNELS_BLOCKS_H
#define LADE_KERNELS_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

/* clang-format off */
enum lade_block {
    LADE_BLOCK_Q4_0, LADE_BLOCK_Q4_1, LADE_BLOCK_Q5_0, LADE_BLOCK_Q5_1, LADE_BLOCK_Q8_0,
    LADE_BLOCK_Q2_K, LADE_BLOCK_Q3_K, LADE_BLOCK_Q4_K, LADE_BLOCK_Q5_K, LADE_BLOCK_Q6_K,
    LADE_BLOCK_IQ1_S, LADE_BLOCK_IQ1_M, LADE_BLOCK_IQ2_XXS, LADE_BLOCK_IQ2_XS, LADE_BLOCK_IQ2_S,
    LADE_BLOCK_IQ3_XXS, LADE_BLOCK_IQ3_S, LADE_BLOCK_IQ4_NL, LADE_BLOCK_IQ4_XS, LADE_BLOCK_MXFP4,
    LADE_BLOCK_F8_E4M3,
    LADE_N_BLOCKS
};
/* clang-format on */

enum { LADE_BLOCK_MAX = 256, LADE_BLOCK_BYTES = 210 }; /* most values and bytes of a block */

struct lade_block_info {
    const char *name; /* as ggml spells it: "Q4_K"; "fp8" */
    int n, bytes;     /* values and bytes of one block */
    bool rest_first;  /* the bytes that fill no 32-bit word (matrix.h) are the first ones */
    /* One block to n floats. Any alignment, any thread. */
    void (*dequantize)(const uint8_t *block, float *out);
};
extern const struct lade_block_info lade_blocks[LADE_N_BLOCKS];

#endif
