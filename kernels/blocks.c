#include "kernels/blocks.h"

#include <string.h>

#include "kernels/codebooks.h"

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | (uint32_t)u16(p + 2) << 16;
}

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static float half_bits(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7FFF;
    if (rest >= 0x7C00)
        return from_bits(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    float f = from_bits(rest << 13) * 0x1p112f; /* subnormals come out right, too */
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return from_bits(bits | sign);
}

static float half(const uint8_t *p)
{
    return half_bits(u16(p));
}

/* ---- blocks of 32 ---------------------------------------------------------------------------- */

/* Byte j of qs has value j low and value j + 16 high, in all of these. */

static void q4_0(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[2 + j] & 15) - 8) * d;
        y[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void q4_1(const uint8_t *b, float *y)
{
    const float d = half(b), m = half(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

/* The fifth bits are in qh, value j's at bit j. */
static void q5_0(const uint8_t *b, float *y)
{
    const float d = half(b);
    const uint32_t qh = u32(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((int)((b[6 + j] & 15) | (qh >> j & 1) << 4) - 16) * d;
        y[j + 16] = (float)((int)((b[6 + j] >> 4) | (qh >> (j + 16) & 1) << 4) - 16) * d;
    }
}

static void q5_1(const uint8_t *b, float *y)
{
    const float d = half(b), m = half(b + 2);
    const uint32_t qh = u32(b + 4);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[8 + j] & 15) | (qh >> j & 1) << 4) * d + m;
        y[j + 16] = (float)((b[8 + j] >> 4) | (qh >> (j + 16) & 1) << 4) * d + m;
    }
}

static void q8_0(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int j = 0; j < 32; j++)
        y[j] = (float)(int8_t)b[2 + j] * d;
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

static void iq4_nl(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int j = 0; j < 16; j++) {
        y[j] = d * iq4_values[b[2 + j] & 15];
        y[j + 16] = d * iq4_values[b[2 + j] >> 4];
    }
}

/* Twice the values of E2M1, and half of 2^(e - 127), which may be subnormal. */
static void mxfp4(const uint8_t *b, float *y)
{
    static const int8_t values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    const float d = from_bits(b[0] < 2 ? 0x00200000u << b[0] : (uint32_t)(b[0] - 1) << 23);
    for (int j = 0; j < 16; j++) {
        y[j] = d * values[b[1 + j] & 15];
        y[j + 16] = d * values[b[1 + j] >> 4];
    }
}

/* ---- blocks of 256 with scales of scales ----------------------------------------------------- */

/* Where group g of 16 values lies in the formats with fields of 2 bits: two halves of 128 values, in
 * each the four fields of 32 bytes are 32 values each. */
struct field {
    int part, shift, byte;
};

static struct field field_of(int g)
{
    return (struct field){g / 8, g / 2 % 4 * 2, g % 2 * 16};
}

/* A scale (low nibble) and a minimum (high) serve a group. */
static void q2_k(const uint8_t *b, float *y)
{
    const float d = half(b + 80), min = half(b + 82);
    for (int g = 0; g < 16; g++, y += 16) {
        const struct field f = field_of(g);
        const uint8_t *qs = b + 16 + 32 * f.part + f.byte;
        const float dl = d * (float)(b[g] & 15), ml = min * (float)(b[g] >> 4);
        for (int k = 0; k < 16; k++)
            y[k] = dl * (float)(qs[k] >> f.shift & 3) - ml;
    }
}

/* As Q2_K with a third bit, which subtracts 4 where it is not set, and 6-bit scales less 32. */
static void q3_k(const uint8_t *b, float *y)
{
    const uint8_t *packed = b + 96;
    const float d = half(b + 108);
    for (int g = 0; g < 16; g++, y += 16) {
        const struct field f = field_of(g);
        const uint8_t *hmask = b + f.byte, *qs = b + 32 + 32 * f.part + f.byte;
        const int low = g < 8 ? packed[g] & 15 : packed[g - 8] >> 4;
        const int scale = (low | (packed[8 + g % 4] >> 2 * (g / 4) & 3) << 4) - 32;
        const int bit = 4 * f.part + f.shift / 2;
        const float dl = d * (float)scale;
        for (int k = 0; k < 16; k++)
            y[k] = dl * (float)((qs[k] >> f.shift & 3) + (hmask[k] >> bit & 1) * 4 - 4);
    }
}

/* 6-bit scale and minimum of group j out of 12 bytes. */
static void scale_min(const uint8_t *p, int j, float *scale, float *min)
{
    int s = j < 4 ? p[j] & 63 : (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
    int m = j < 4 ? p[j + 4] & 63 : p[j + 4] >> 4 | p[j] >> 6 << 4;
    *scale = (float)s;
    *min = (float)m;
}

/* Eight groups of 32; 32 bytes have a group low and the next one high. qh is NULL for Q4_K. */
static void q45_k(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *y)
{
    const float d = half(b), dmin = half(b + 2);
    for (int g = 0; g < 8; g++) {
        float scale, min;
        scale_min(b + 4, g, &scale, &min);
        const float dl = d * scale, ml = dmin * min;
        for (int l = 0; l < 32; l++) {
            int q = qs[32 * (g / 2) + l] >> 4 * (g % 2) & 15;
            if (qh)
                q |= (qh[l] >> g & 1) << 4;
            y[32 * g + l] = dl * (float)q - ml;
        }
    }
}

static void q4_k(const uint8_t *b, float *y)
{
    q45_k(b, NULL, b + 16, y);
}

static void q5_k(const uint8_t *b, float *y)
{
    q45_k(b, b + 16, b + 48, y);
}

/* Low nibbles: in each half 64 bytes, all low halves first. The two high bits are fields. */
static void q6_k(const uint8_t *b, float *y)
{
    const int8_t *scales = (const int8_t *)b + 192;
    const float d = half(b + 208);
    for (int g = 0; g < 16; g++, y += 16) {
        const struct field f = field_of(g);
        const uint8_t *ql = b + 64 * f.part + (f.shift & 2) * 16 + f.byte;
        const uint8_t *qh = b + 128 + 32 * f.part + f.byte;
        const int low_shift = f.shift & 4;
        const float dl = d * (float)scales[g];
        for (int k = 0; k < 16; k++)
            y[k] = dl * (float)(((ql[k] >> low_shift & 15) | (qh[k] >> f.shift & 3) << 4) - 32);
    }
}

static void iq4_xs(const uint8_t *b, float *y)
{
    const float d = half(b);
    const uint16_t high = u16(b + 2);
    for (int g = 0; g < 8; g++) {
        int scale = (b[4 + g / 2] >> 4 * (g % 2) & 15) | (high >> 2 * g & 3) << 4;
        const float dl = d * (float)(scale - 32);
        const uint8_t *qs = b + 8 + 16 * g;
        for (int j = 0; j < 16; j++) {
            y[32 * g + j] = dl * iq4_values[qs[j] & 15];
            y[32 * g + j + 16] = dl * iq4_values[qs[j] >> 4];
        }
    }
}

/* ---- codebooks ------------------------------------------------------------------------------- */

/* A 7-bit sign code stands for 8 bits with an even number of ones. */
static unsigned even_signs(uint32_t code)
{
    code &= 127;
    return code | (unsigned)__builtin_parity(code) << 7;
}

static void grid2(float *y, float scale, uint16_t entry, unsigned signs)
{
    static const float values[4] = {8, 25, 43, 0};
    for (int i = 0; i < 8; i++) {
        float v = scale * values[entry >> 2 * i & 3];
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static void grid3(float *y, float scale, const float *values, uint16_t entry, unsigned signs)
{
    for (int i = 0; i < 4; i++) {
        float v = scale * values[entry >> 3 * i & 7];
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static void grid1(float *y, float scale, uint16_t entry, float delta)
{
    for (int i = 0; i < 8; i++)
        y[i] = scale * ((float)((int)(entry >> 2 * i & 3) - 1) + delta);
}

/* Per group of 32: four bytes of grid, then four sign codes and on top a 4-bit scale. */
static void iq2_xxs(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int g = 0; g < 8; g++, y += 32) {
        const uint8_t *q = b + 2 + 8 * g;
        const uint32_t signs = u32(q + 4);
        const float dl = d * (0.5f + (float)(signs >> 28)) * 0.25f;
        for (int l = 0; l < 4; l++)
            grid2(y + 8 * l, dl, lade_iq2xxs_grid[q[l]], even_signs(signs >> 7 * l));
    }
}

/* Per 8 values a word of 9 grid and 7 sign bits; a 4-bit scale for 16. */
static void iq2_xs(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int i = 0; i < 32; i++, y += 8) {
        const uint16_t q = u16(b + 2 + 2 * i);
        const int scale = b[66 + i / 4] >> 4 * (i / 2 % 2) & 15;
        grid2(y, d * (0.5f + (float)scale) * 0.25f, lade_iq2xs_grid[q & 511], even_signs(q >> 9));
    }
}

static void iq2_s(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int i = 0; i < 32; i++, y += 8) {
        const int scale = b[74 + i / 4] >> 4 * (i / 2 % 2) & 15;
        const int high = b[66 + i / 4] >> 2 * (i % 4) & 3;
        grid2(y, d * (0.5f + (float)scale) * 0.25f, lade_iq2s_grid[b[2 + i] | high << 8],
              b[34 + i]);
    }
}

static void iq3_xxs(const uint8_t *b, float *y)
{
    static const float values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const float d = half(b);
    for (int g = 0; g < 8; g++, y += 32) {
        const uint8_t *q = b + 2 + 8 * g;
        const uint32_t signs = u32(b + 66 + 4 * g);
        const float dl = d * (0.5f + (float)(signs >> 28)) * 0.5f;
        for (int l = 0; l < 8; l++)
            grid3(y + 4 * l, dl, values, lade_iq3xxs_grid[q[l]],
                  even_signs(signs >> 7 * (l / 2)) >> 4 * (l % 2));
    }
}

static void iq3_s(const uint8_t *b, float *y)
{
    static const float values[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const float d = half(b);
    for (int i = 0; i < 64; i++, y += 4) {
        const int g = i / 8, high = b[66 + g] >> i % 8 & 1;
        const int scale = b[106 + g / 2] >> 4 * (g % 2) & 15;
        grid3(y, d * (float)(1 + 2 * scale), values, lade_iq3s_grid[b[2 + i] | high << 8],
              b[74 + i / 2] >> 4 * (i % 2));
    }
}

/* Per 32 values a word: 3 more grid bits for each 8, a 3-bit scale, the sign of the shift. */
static void iq1_s(const uint8_t *b, float *y)
{
    const float d = half(b);
    for (int i = 0; i < 32; i++, y += 8) {
        const uint16_t qh = u16(b + 34 + i / 4 * 2);
        const float dl = d * (float)(2 * (qh >> 12 & 7) + 1);
        const int high = qh >> 3 * (i % 4) & 7;
        grid1(y, dl, lade_iq1_grid[b[2 + i] | high << 8], qh & 0x8000 ? -0.125f : 0.125f);
    }
}

/* The block's scale is spread over the top nibbles of four words, whose other bits are four 3-bit
 * scales each; per 8 values a nibble: 3 more grid bits and the sign of the shift. */
static void iq1_m(const uint8_t *b, float *y)
{
    uint16_t words[4], top = 0;
    for (int i = 0; i < 4; i++) {
        words[i] = u16(b + 48 + 2 * i);
        top = (uint16_t)(top | words[i] >> 12 << 4 * i);
    }
    const float d = half_bits(top);
    for (int i = 0; i < 32; i++, y += 8) {
        const int nibble = b[32 + i / 2] >> 4 * (i % 2) & 15;
        const int scale = words[i / 8] >> 3 * (i / 2 % 4) & 7;
        grid1(y, d * (float)(2 * scale + 1), lade_iq1_grid[b[i] | (nibble & 7) << 8],
              nibble & 8 ? -0.125f : 0.125f);
    }
}

/* ---- 8-bit floats ---------------------------------------------------------------------------- */

/* The code's exponent and mantissa are those of a half 2^8 times smaller. */
static void f8_e4m3(const uint8_t *b, float *y)
{
    const float scale = from_bits(u32(b));
    for (int j = 0; j < 128; j++) {
        const uint8_t c = b[4 + j];
        const uint16_t h = (uint16_t)((c & 0x80) << 8 | (c & 0x7F) << 7);
        y[j] = half_bits(h) * 0x1p8f * scale;
    }
}

const struct lade_block_info lade_blocks[LADE_N_BLOCKS] = {
    [LADE_BLOCK_Q4_0] = {"Q4_0", 32, 18, true, q4_0},
    [LADE_BLOCK_Q4_1] = {"Q4_1", 32, 20, false, q4_1},
    [LADE_BLOCK_Q5_0] = {"Q5_0", 32, 22, true, q5_0},
    [LADE_BLOCK_Q5_1] = {"Q5_1", 32, 24, false, q5_1},
    [LADE_BLOCK_Q8_0] = {"Q8_0", 32, 34, true, q8_0},
    [LADE_BLOCK_Q2_K] = {"Q2_K", 256, 84, false, q2_k},
    [LADE_BLOCK_Q3_K] = {"Q3_K", 256, 110, false, q3_k},
    [LADE_BLOCK_Q4_K] = {"Q4_K", 256, 144, false, q4_k},
    [LADE_BLOCK_Q5_K] = {"Q5_K", 256, 176, false, q5_k},
    [LADE_BLOCK_Q6_K] = {"Q6_K", 256, 210, false, q6_k},
    [LADE_BLOCK_IQ1_S] = {"IQ1_S", 256, 50, true, iq1_s},
    [LADE_BLOCK_IQ1_M] = {"IQ1_M", 256, 56, false, iq1_m},
    [LADE_BLOCK_IQ2_XXS] = {"IQ2_XXS", 256, 66, true, iq2_xxs},
    [LADE_BLOCK_IQ2_XS] = {"IQ2_XS", 256, 74, true, iq2_xs},
    [LADE_BLOCK_IQ2_S] = {"IQ2_S", 256, 82, true, iq2_s},
    [LADE_BLOCK_IQ3_XXS] = {"IQ3_XXS", 256, 98, true, iq3_xxs},
    [LADE_BLOCK_IQ3_S] = {"IQ3_S", 256, 110, true, iq3_s},
    [LADE_BLOCK_IQ4_NL] = {"IQ4_NL", 32, 18, true, iq4_nl},
    [LADE_BLOCK_IQ4_XS] = {"IQ4_XS", 256, 136, false, iq4_xs},
    [LADE_BLOCK_MXFP4] = {"MXFP4", 32, 17, true, mxfp4},
    [LADE_BLOCK_F8_E4M3] = {"fp8", 128, 132, false, f8_e4m3},
};
