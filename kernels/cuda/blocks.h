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

/* ---- blocks of 32: chunk c has values 8c .. 8c+7; byte j has value j low and j + 16 high ------ */

/* d * (nibble + 16 * fifth bit) + m; the nibbles begin at word `qs`. */
__device__ static inline void chunk_45(const struct block_lane &b, int qs, uint32_t fifth, int c,
                                       float d, float m, float *y)
{
    uint32_t pair[2];
    block_pair(pair, b, qs + c % 2 * 2);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t q = byte_of(pair, i) >> c / 2 * 4 & 15;
        q |= (fifth >> (8 * c + i) & 1) << 4;
        y[i] = (float)q * d + m;
    }
}

__device__ static inline void chunk_q8(const struct block_lane &b, int c, float *y)
{
    const float d = block_rest(b);
    uint32_t pair[2];
    block_pair(pair, b, 2 * c);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = d * (float)(int8_t)byte_of(pair, i);
}

/* Values of IQ4 by nibble, four to a word. */
__device__ static inline float iq4_value(uint32_t q)
{
    uint32_t low = q & 4 ? 0xf6eaddcfu : 0xbfad9881u, high = q & 4 ? 0x71594535u : 0x26190d01u;
    return (float)(int8_t)((q & 8 ? high : low) >> q % 4 * 8);
}

__device__ static inline void chunk_iq4(const struct block_lane &b, int qs, int c, float d,
                                        float *y)
{
    uint32_t pair[2];
    block_pair(pair, b, qs + c % 2 * 2);
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = d * iq4_value(byte_of(pair, i) >> c / 2 * 4 & 15);
}

/* Twice the values of E2M1, and half of 2^(e - 127), which may be subnormal. */
__device__ static inline void chunk_mxfp4(const struct block_lane &b, int c, float *y)
{
    const uint32_t e = b.rest[0];
    const float d = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    uint32_t pair[2];
    block_pair(pair, b, c % 2 * 2);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t q = byte_of(pair, i) >> c / 2 * 4 & 15;
        float v = (float)(0xc8643210u >> (q & 7) * 4 & 15);
        y[i] = q & 8 ? -d * v : d * v;
    }
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
#pragma unroll
    for (int i = 0; i < 8; i++)
        y[i] = dl * (float)(byte_of(pair, i) >> field_shift(c) & 3) - ml;
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
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int q = (int)(byte_of(pair, i) >> field_shift(c) & 3);
        y[i] = dl * (float)(q + (int)(byte_of(mask, i) >> bit & 1) * 4 - 4);
    }
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
    if (qh)
        block_pair(fifth, b, qh + c % 4 * 2);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t q = byte_of(pair, i) >> g % 2 * 4 & 15;
        q |= (byte_of(fifth, i) >> g & 1) << 4;
        y[i] = dl * (float)q - ml;
    }
}

__device__ static inline void chunk_q6(const struct block_lane &b, int c, float *y)
{
    const int shift = field_shift(c);
    const float dl = block_rest(b) * (float)(int8_t)block_byte(b, 192 + c / 2);
    uint32_t low[2], high[2];
    block_pair(low, b, c / 16 * 16 + (shift & 2) * 4 + field_word(c) % 8);
    block_pair(high, b, 32 + field_word(c));
#pragma unroll
    for (int i = 0; i < 8; i++) {
        uint32_t q = (byte_of(low, i) >> (shift & 4) & 15) | (byte_of(high, i) >> shift & 3) << 4;
        y[i] = dl * (float)((int)q - 32);
    }
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
