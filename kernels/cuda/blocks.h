/* blocks.h - block formats on the card: eight consecutive values at a time.
 *
 * The formulas are those of kernels/blocks.c, which says how the formats lie. What is left to say
 * is where the parts are once blocks are interleaved over tiles (kernels/matrix.h): words are
 * counted from the first one of the block, and the bytes that fill no word are apart. Eight values
 * are what a lane needs at once: they share a scale in every format. */
#ifndef LADE_CUDA_BLOCKS_H
#define LADE_CUDA_BLOCKS_H

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/mma.h"

/* Where the tables of kernels/codebooks.h begin in one array of 16-bit entries. */
enum gpu_book {
    GPU_BOOK_IQ1 = 0,
    GPU_BOOK_IQ2XXS = GPU_BOOK_IQ1 + 2048,
    GPU_BOOK_IQ2XS = GPU_BOOK_IQ2XXS + 256,
    GPU_BOOK_IQ2S = GPU_BOOK_IQ2XS + 512,
    GPU_BOOK_IQ3XXS = GPU_BOOK_IQ2S + 1024,
    GPU_BOOK_IQ3S = GPU_BOOK_IQ3XXS + 256,
    GPU_BOOKS = GPU_BOOK_IQ3S + 512,
};

/* log2 of a block's values, its words, and its bytes left over. */
struct block_shape {
    uint8_t log2, words, rest;
};

__host__ __device__ static inline struct block_shape block_shape_of(int format)
{
    switch (format) {
    case LADE_BLOCK_Q4_0:
        return {5, 4, 2};
    case LADE_BLOCK_Q4_1:
        return {5, 5, 0};
    case LADE_BLOCK_Q5_0:
        return {5, 5, 2};
    case LADE_BLOCK_Q5_1:
        return {5, 6, 0};
    case LADE_BLOCK_Q8_0:
        return {5, 8, 2};
    case LADE_BLOCK_Q2_K:
        return {8, 21, 0};
    case LADE_BLOCK_Q3_K:
        return {8, 27, 2};
    case LADE_BLOCK_Q4_K:
        return {8, 36, 0};
    case LADE_BLOCK_Q5_K:
        return {8, 44, 0};
    case LADE_BLOCK_Q6_K:
        return {8, 52, 2};
    case LADE_BLOCK_IQ1_S:
        return {8, 12, 2};
    case LADE_BLOCK_IQ1_M:
        return {8, 14, 0};
    case LADE_BLOCK_IQ2_XXS:
        return {8, 16, 2};
    case LADE_BLOCK_IQ2_XS:
        return {8, 18, 2};
    case LADE_BLOCK_IQ2_S:
        return {8, 20, 2};
    case LADE_BLOCK_IQ3_XXS:
        return {8, 24, 2};
    case LADE_BLOCK_IQ3_S:
        return {8, 27, 2};
    case LADE_BLOCK_IQ4_NL:
        return {5, 4, 2};
    case LADE_BLOCK_IQ4_XS:
        return {8, 34, 0};
    case LADE_BLOCK_F8_E4M3:
        return {7, 33, 0};
    default:
        return {5, 4, 1}; /* LADE_BLOCK_MXFP4 */
    }
}

/* One row's block. */
struct block_lane {
    const uint32_t *words; /* LADE_TILE apart */
    const uint8_t *rest;
};

__device__ static inline uint32_t block_word(const struct block_lane &b, int i)
{
    return b.words[(size_t)i * LADE_TILE];
}

/* Byte and 16-bit number i, counted from word 0. */
__device__ static inline uint32_t block_byte(const struct block_lane &b, int i)
{
    return block_word(b, i / 4) >> i % 4 * 8 & 255;
}

__device__ static inline uint32_t block_u16(const struct block_lane &b, int i)
{
    return block_word(b, i / 2) >> i % 2 * 16 & 0xffff;
}

__device__ static inline float block_rest(const struct block_lane &b) /* where it is one f16 */
{
    return half_value(*(const uint16_t *)b.rest);
}

/* Byte i of eight in two words. */
__device__ static inline uint32_t byte_of(const uint32_t pair[2], int i)
{
    return pair[i / 4] >> i % 4 * 8 & 255;
}

__device__ static inline void block_pair(uint32_t pair[2], const struct block_lane &b, int word)
{
    pair[0] = block_word(b, word);
    pair[1] = block_word(b, word + 1);
}

/* A field of every byte: of the bits that `mask` has in a byte, `shift` up. */
__device__ static inline void bytes_take(uint32_t pair[2], int shift, uint32_t mask)
{
    pair[0] = pair[0] >> shift & mask * 0x01010101u;
    pair[1] = pair[1] >> shift & mask * 0x01010101u;
}

/* Adds such fields of other bytes, `up` higher. */
__device__ static inline void bytes_join(uint32_t pair[2], const uint32_t more[2], int up)
{
    pair[0] |= more[0] << up;
    pair[1] |= more[1] << up;
}

/* Byte i as a number less `zero`, exact: the low bits of 2^23 less 2^23 + zero. */
__device__ static inline float byte_number(const uint32_t pair[2], int i, float zero)
{
    return __uint_as_float(__byte_perm(pair[i / 4], 0x4b000000u, 0x7540u | i % 4)) -
           (0x1p23f + zero);
}

/* ---- blocks of 32: chunk c has values 8c .. 8c+7; byte j has value j low and j + 16 high ------ */

/* d * (nibble + 16 * fifth bit) + m; the nibbles begin at word `qs`. */
__device__ static inline void chunk_45(const struct block_lane &b, int qs, uint32_t fifth, int c,
                                       float d, float m, float *y)
{
    uint32_t pair[2];
    block_pair(pair, b, qs + c % 2 * 2);
    bytes_take(pair, c / 2 * 4, 15);
    fifth = fifth >> 8 * c & 255; /* a bit for each byte: multiplied, bit i goes to bit 8i */
    const uint32_t bits[2] = {(fifth & 15) * 0x00204081u & 0x01010101u,
                              (fifth >> 4) * 0x00204081u & 0x01010101u};
    bytes_join(pair, bits, 4);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = byte_number(pair, i, 0) * d + m;
}

__device__ static inline void chunk_q8(const struct block_lane &b, int c, float *y)
{
    const float d = block_rest(b);
    uint32_t pair[2];
    block_pair(pair, b, 2 * c);
    pair[0] ^= 0x80808080u; /* signed numbers are 128 more without their sign */
    pair[1] ^= 0x80808080u;
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = d * byte_number(pair, i, 128);
}

/* 16 signed numbers, four to a word, each 128 more. */
struct number_table {
    uint32_t word[4];
};

/* Bytes below 16 become the numbers of a table: four are looked up at once, among the first eight and
 * among the last eight. */
__device__ static inline void bytes_look_up(uint32_t pair[2], const struct number_table &t)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint32_t two = pair[i] | pair[i] >> 4; /* bytes 0 and 2: two codes each */
        const uint32_t four = __byte_perm(two, 0, 0x4420) & 0x7777u;
        const uint32_t low = __byte_perm(t.word[0], t.word[1], four);
        const uint32_t high = __byte_perm(t.word[2], t.word[3], four);
        const uint32_t upper = (pair[i] >> 3 & 0x01010101u) * 255;
        pair[i] = (low & ~upper) | (high & upper);
    }
}

__device__ static inline void chunk_looked_up(const struct block_lane &b, int qs, int c, float d,
                                              const struct number_table &t, float *y)
{
    uint32_t pair[2];
    block_pair(pair, b, qs + c % 2 * 2);
    bytes_take(pair, c / 2 * 4, 15);
    bytes_look_up(pair, t);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = d * byte_number(pair, i, 128);
}

__device__ static inline void chunk_iq4(const struct block_lane &b, int qs, int c, float d,
                                        float *y)
{
    /* -127 -104 -83 -65, -49 -35 -22 -10, 1 13 25 38, 53 69 89 113 */
    const struct number_table t = {{0x3f2d1801u, 0x766a5d4fu, 0xa6998d81u, 0xf1d9c5b5u}};
    chunk_looked_up(b, qs, c, d, t, y);
}

/* Twice the values of E2M1, and half of 2^(e - 127), which may be subnormal. */
__device__ static inline void chunk_mxfp4(const struct block_lane &b, int c, float *y)
{
    const uint32_t e = b.rest[0];
    const float d = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    /* 0 1 2 3, 4 6 8 12, the same below zero */
    const struct number_table t = {{0x83828180u, 0x8c888684u, 0x7d7e7f80u, 0x74787a7cu}};
    chunk_looked_up(b, 0, c, d, t, y);
}

/* ---- blocks of 256: chunk c is half c % 2 of group c / 2 of 16 -------------------------------- */

/* Fields of 2 bits: two halves of 128 values; in each, the four fields of 32 bytes are 32 values
 * each. `words` is where the 64 bytes begin; the chunk's eight fields lie `shift` up. */
__device__ static inline int field_word(int c)
{
    return c / 16 * 8 + c / 2 % 2 * 4 + c % 2 * 2;
}

__device__ static inline int field_shift(int c)
{
    return c / 4 % 4 * 2;
}

__device__ static inline void chunk_q2(const struct block_lane &b, int c, float *y)
{
    const uint32_t scale = block_byte(b, c / 2), d = block_word(b, 20);
    const float dl = half_value(d & 0xffff) * (float)(scale & 15);
    const float ml = half_value(d >> 16) * (float)(scale >> 4);
    uint32_t pair[2];
    block_pair(pair, b, 4 + field_word(c));
    bytes_take(pair, field_shift(c), 3);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = dl * byte_number(pair, i, 0) - ml;
}

__device__ static inline void chunk_q3(const struct block_lane &b, int c, float *y)
{
    const int g = c / 2, bit = c / 16 * 4 + field_shift(c) / 2;
    const int low = (int)(block_byte(b, 96 + g % 8) >> g / 8 * 4 & 15);
    const int high = (int)(block_byte(b, 104 + g % 4) >> g / 4 * 2 & 3);
    const float dl = block_rest(b) * (float)((low | high << 4) - 32);
    uint32_t pair[2], mask[2];
    block_pair(pair, b, 8 + field_word(c));
    block_pair(mask, b, field_word(c) % 8);
    bytes_take(pair, field_shift(c), 3);
    bytes_take(mask, bit, 1);
    bytes_join(pair, mask, 2);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = dl * byte_number(pair, i, 4);
}

/* Q4_K and Q5_K: groups of 32. qh is the word of the fifth bits, 0 for Q4_K. */
__device__ static inline void chunk_q45(const struct block_lane &b, int qh, int qs, int c, float *y)
{
    const int g = c / 4;
    const uint32_t d = block_word(b, 0), low = block_byte(b, 4 + g % 4),
                   mid = block_byte(b, 8 + g % 4);
    const uint32_t top = block_byte(b, 12 + g % 4);
    const uint32_t s = g < 4 ? low & 63 : (top & 15) | low >> 6 << 4;
    const uint32_t m = g < 4 ? mid & 63 : top >> 4 | mid >> 6 << 4;
    const float dl = half_value(d & 0xffff) * (float)s, ml = half_value(d >> 16) * (float)m;
    uint32_t pair[2], fifth[2] = {0, 0};
    block_pair(pair, b, qs + g / 2 * 8 + c % 4 * 2);
    bytes_take(pair, g % 2 * 4, 15);
    if (qh) {
        block_pair(fifth, b, qh + c % 4 * 2);
        bytes_take(fifth, g, 1);
        bytes_join(pair, fifth, 4);
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = dl * byte_number(pair, i, 0) - ml;
}

__device__ static inline void chunk_q6(const struct block_lane &b, int c, float *y)
{
    const int shift = field_shift(c);
    const float dl = block_rest(b) * (float)(int8_t)block_byte(b, 192 + c / 2);
    uint32_t low[2], high[2];
    block_pair(low, b, c / 16 * 16 + (shift & 2) * 4 + field_word(c) % 8);
    block_pair(high, b, 32 + field_word(c));
    bytes_take(low, shift & 4, 15);
    bytes_take(high, shift, 3);
    bytes_join(low, high, 4);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = dl * byte_number(low, i, 32);
}

__device__ static inline void chunk_iq4_xs(const struct block_lane &b, int c, float *y)
{
    const int g = c / 4;
    const uint32_t word = block_word(b, 0);
    const uint32_t scale = (block_byte(b, 4 + g / 2) >> g % 2 * 4 & 15) | (word >> (16 + 2 * g) & 3)
                                                                              << 4;
    chunk_iq4(b, 2 + 4 * g, c % 4, half_value(word & 0xffff) * (float)((int)scale - 32), y);
}

/* ---- codebooks ------------------------------------------------------------------------------- */

/* A 7-bit sign code stands for 8 bits with an even number of ones. */
__device__ static inline uint32_t even_signs(uint32_t code)
{
    code &= 127;
    return code | (uint32_t)(__popc(code) & 1) << 7;
}

__device__ static inline void chunk_grid2(float *y, float scale, uint32_t entry, uint32_t signs)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float v = scale * (float)(0x002b1908u >> (entry >> 2 * i & 3) * 8 & 255); /* 8, 25, 43 */
        y[i] = signs >> i & 1 ? -v : v;
    }
}

__device__ static inline void chunk_grid1(float *y, float scale, uint32_t entry, bool below)
{
    const float delta = below ? -1.125f : -0.875f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = scale * ((float)(entry >> 2 * i & 3) + delta);
}

__device__ static inline void chunk_iq2_xxs(const struct block_lane &b, const uint16_t *books,
                                            int c, float *y)
{
    const uint32_t signs = block_word(b, c / 4 * 2 + 1);
    const float dl = block_rest(b) * (0.5f + (float)(signs >> 28)) * 0.25f;
    chunk_grid2(y, dl, books[GPU_BOOK_IQ2XXS + block_byte(b, c / 4 * 8 + c % 4)],
                even_signs(signs >> 7 * (c % 4)));
}

__device__ static inline void chunk_iq2_xs(const struct block_lane &b, const uint16_t *books, int c,
                                           float *y)
{
    const uint32_t q = block_u16(b, c), scale = block_byte(b, 64 + c / 4) >> c / 2 % 2 * 4 & 15;
    chunk_grid2(y, block_rest(b) * (0.5f + (float)scale) * 0.25f, books[GPU_BOOK_IQ2XS + (q & 511)],
                even_signs(q >> 9));
}

__device__ static inline void chunk_iq2_s(const struct block_lane &b, const uint16_t *books, int c,
                                          float *y)
{
    const uint32_t scale = block_byte(b, 72 + c / 4) >> c / 2 % 2 * 4 & 15;
    const uint32_t high = block_byte(b, 64 + c / 4) >> c % 4 * 2 & 3;
    chunk_grid2(y, block_rest(b) * (0.5f + (float)scale) * 0.25f,
                books[GPU_BOOK_IQ2S + (block_byte(b, c) | high << 8)], block_byte(b, 32 + c));
}

__device__ static inline void chunk_iq3_xxs(const struct block_lane &b, const uint16_t *books,
                                            int c, float *y)
{
    const uint32_t word = block_word(b, 16 + c / 4), signs = even_signs(word >> 7 * (c % 4));
    const float dl = block_rest(b) * (0.5f + (float)(word >> 28)) * 0.5f;
    const uint32_t q = block_u16(b, c);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t entry = books[GPU_BOOK_IQ3XXS + (q >> i / 4 * 8 & 255)];
        uint32_t index = entry >> i % 4 * 3 & 7;
        float v = dl * (float)(index < 7 ? 4 + 8 * index : 62); /* 4, 12, .. 52, 62 */
        y[i] = signs >> i & 1 ? -v : v;
    }
}

__device__ static inline void chunk_iq3_s(const struct block_lane &b, const uint16_t *books, int c,
                                          float *y)
{
    const int g = c / 4;
    const uint32_t scale = block_byte(b, 104 + g / 2) >> g % 2 * 4 & 15;
    const uint32_t q = block_u16(b, c), high = block_byte(b, 64 + g) >> c % 4 * 2;
    const uint32_t signs = block_byte(b, 72 + c);
    const float dl = block_rest(b) * (float)(1 + 2 * scale);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t at = (q >> i / 4 * 8 & 255) | (high >> i / 4 & 1) << 8;
        float v = dl * (float)(1 + 2 * (books[GPU_BOOK_IQ3S + at] >> i % 4 * 3 & 7));
        y[i] = signs >> i & 1 ? -v : v;
    }
}

__device__ static inline void chunk_iq1_s(const struct block_lane &b, const uint16_t *books, int c,
                                          float *y)
{
    const uint32_t qh = block_u16(b, 16 + c / 4);
    const uint32_t at = block_byte(b, c) | (qh >> c % 4 * 3 & 7) << 8;
    chunk_grid1(y, block_rest(b) * (float)(2 * (qh >> 12 & 7) + 1), books[GPU_BOOK_IQ1 + at],
                qh & 0x8000);
}

__device__ static inline void chunk_iq1_m(const struct block_lane &b, const uint16_t *books, int c,
                                          float *y)
{
    const uint32_t low = block_word(b, 12), high = block_word(b, 13);
    const uint32_t d =
        (low >> 12 & 15) | (low >> 28) << 4 | (high >> 12 & 15) << 8 | (high >> 28) << 12;
    const uint32_t word = (c < 16 ? low : high) >> c / 8 % 2 * 16;
    const uint32_t nibble = block_byte(b, 32 + c / 2) >> c % 2 * 4 & 15;
    const uint32_t at = block_byte(b, c) | (nibble & 7) << 8;
    chunk_grid1(y, half_value(d) * (float)(2 * (word >> c / 2 % 4 * 3 & 7) + 1),
                books[GPU_BOOK_IQ1 + at], nibble & 8);
}

/* ---- 8-bit floats: the code's exponent and mantissa are those of a half 2^8 times smaller ----- */

__device__ static inline void chunk_f8(const struct block_lane &b, int c, float *y)
{
    const float scale = __uint_as_float(block_word(b, 0));
    uint32_t pair[2];
    block_pair(pair, b, 1 + 2 * c);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t code = byte_of(pair, i);
        y[i] = half_value((code & 0x80) << 8 | (code & 0x7f) << 7) * 256.0f * scale;
    }
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Values 8c .. 8c+7 of a row's block. */
__device__ static inline void block_chunk(int format, const struct block_lane &b,
                                          const uint16_t *books, int c, float *y)
{
    uint32_t d;
    switch (format) {
    case LADE_BLOCK_Q4_0:
        chunk_45(b, 0, 0, c, block_rest(b), -8 * block_rest(b), y);
        break;
    case LADE_BLOCK_Q4_1:
        d = block_word(b, 0);
        chunk_45(b, 1, 0, c, half_value(d & 0xffff), half_value(d >> 16), y);
        break;
    case LADE_BLOCK_Q5_0:
        chunk_45(b, 1, block_word(b, 0), c, block_rest(b), -16 * block_rest(b), y);
        break;
    case LADE_BLOCK_Q5_1:
        d = block_word(b, 0);
        chunk_45(b, 2, block_word(b, 1), c, half_value(d & 0xffff), half_value(d >> 16), y);
        break;
    case LADE_BLOCK_Q8_0:
        chunk_q8(b, c, y);
        break;
    case LADE_BLOCK_Q2_K:
        chunk_q2(b, c, y);
        break;
    case LADE_BLOCK_Q3_K:
        chunk_q3(b, c, y);
        break;
    case LADE_BLOCK_Q4_K:
        chunk_q45(b, 0, 4, c, y);
        break;
    case LADE_BLOCK_Q5_K:
        chunk_q45(b, 4, 12, c, y);
        break;
    case LADE_BLOCK_Q6_K:
        chunk_q6(b, c, y);
        break;
    case LADE_BLOCK_IQ1_S:
        chunk_iq1_s(b, books, c, y);
        break;
    case LADE_BLOCK_IQ1_M:
        chunk_iq1_m(b, books, c, y);
        break;
    case LADE_BLOCK_IQ2_XXS:
        chunk_iq2_xxs(b, books, c, y);
        break;
    case LADE_BLOCK_IQ2_XS:
        chunk_iq2_xs(b, books, c, y);
        break;
    case LADE_BLOCK_IQ2_S:
        chunk_iq2_s(b, books, c, y);
        break;
    case LADE_BLOCK_IQ3_XXS:
        chunk_iq3_xxs(b, books, c, y);
        break;
    case LADE_BLOCK_IQ3_S:
        chunk_iq3_s(b, books, c, y);
        break;
    case LADE_BLOCK_IQ4_NL:
        chunk_iq4(b, 0, c, block_rest(b), y);
        break;
    case LADE_BLOCK_IQ4_XS:
        chunk_iq4_xs(b, c, y);
        break;
    case LADE_BLOCK_F8_E4M3:
        chunk_f8(b, c, y);
        break;
    default:
        chunk_mxfp4(b, c, y);
        break;
    }
}

#endif
