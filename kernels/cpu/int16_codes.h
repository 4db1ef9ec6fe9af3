/* int16_codes.h - how the codes and scales of every quantized type are got at; included by
 * int16_impl.h.
 *
 * All types come to one form. 32 inputs of the 16 rows of a tile are eight *quads*: a quad has, in
 * each lane, codes of one byte for four inputs. W = s * code - m, with s and m per row and 32 or 16
 * inputs; where m is a constant times s, the constant is the type's zero and m stays out of it.
 *
 * `kind` is always a constant here: the compiler keeps one case of each switch. */
#include "kernels/blocks.h"
#include "kernels/cpu/simd.h"

enum kind {
    KIND_Q4,
    KIND_Q4_ZEROS,
    KIND_Q8,
    KIND_Q8_ZEROS, /* tiles */
    KIND_Q4_1,
    KIND_Q5_0,
    KIND_Q5_1,
    KIND_IQ4_NL,
    KIND_MXFP4, /* blocks of 32 */
    KIND_Q2_K,
    KIND_Q3_K,
    KIND_Q4_K,
    KIND_Q5_K,
    KIND_Q6_K,
    KIND_IQ4_XS, /* blocks of 256 */
    KIND_IQ1_S,
    KIND_IQ1_M,
    KIND_IQ2_XXS,
    KIND_IQ2_XS,
    KIND_IQ2_S,
    KIND_IQ3_XXS,
    KIND_IQ3_S, /* blocks of 256, lattices */
    N_KINDS
};

/* Where dot4() multiplies signed bytes, codes of 8 bits are signed, too, and have no zero. */
#if defined(SIMD_VNNI)
enum { SIGNED8 = 0 };
#else
enum { SIGNED8 = 1 };
#endif

/* Groups whose products with many tokens are summed as integers where their codes are small. */
enum { FOLD_SPAN = 4 };

#define EACH_VEC UNROLL(4) for (int v = 0; v < TILE_VECS; v++)

/* Codes of 8 bits, which two signed products of 16 bits may not hold. */
ALWAYS_INLINE bool kind_wide(const enum kind k)
{
    return k == KIND_Q8 || k == KIND_Q8_ZEROS || k == KIND_IQ4_NL || k == KIND_IQ4_XS;
}

/* Scales for 16 inputs instead of 32. */
ALWAYS_INLINE bool kind_fine(const enum kind k)
{
    return k == KIND_Q2_K || k == KIND_Q3_K || k == KIND_Q6_K || k == KIND_IQ1_M ||
           k == KIND_IQ2_XS || k == KIND_IQ2_S;
}

ALWAYS_INLINE bool kind_mins(const enum kind k)
{
    return k == KIND_Q4_ZEROS || k == KIND_Q8_ZEROS || k == KIND_Q4_1 || k == KIND_Q5_1 ||
           k == KIND_Q2_K || k == KIND_Q4_K || k == KIND_Q5_K;
}

/* Binary logarithm of the zero, or -1. */
ALWAYS_INLINE int kind_zero(const enum kind k)
{
    switch (k) {
    case KIND_Q3_K:
        return 2;
    case KIND_Q4:
        return 3;
    case KIND_Q5_0:
    case KIND_MXFP4:
    case KIND_IQ1_S:
    case KIND_IQ1_M:
    case KIND_IQ3_S:
        return 4;
    case KIND_Q6_K:
        return 5;
    case KIND_IQ2_XXS:
    case KIND_IQ2_XS:
    case KIND_IQ2_S:
    case KIND_IQ3_XXS:
        return 6;
    case KIND_Q8:
    case KIND_IQ4_NL:
    case KIND_IQ4_XS:
        return SIGNED8 ? -1 : 7;
    default:
        return -1;
    }
}

/* Where many tokens' codes are multiplied with the scales of their inputs beforehand, so that only the
 * block's scale is left: of how many groups of 32 such products may be summed in 32 bits, else 0. Inputs are
 * below 2^14, so codes times scales may be 2^17 less what the number of inputs takes. */
ALWAYS_INLINE int kind_folds(const enum kind k)
{
#if defined(SIMD_NEON)
    (void)k;
    return 0;
#else
    switch (k) {
    case KIND_Q3_K: /* 4 * 32 */
    case KIND_Q6_K: /* 32 * 128 */
        return 1;
    case KIND_Q4_K: /* 15 * 63 */
        return FOLD_SPAN;
    default:
        return 0;
    }
#endif
}

/* Whether such products of one group leave no room in 32 bits: 2^12 * 16,256 * 32. */
ALWAYS_INLINE bool kind_full(const enum kind k)
{
    return kind_folds(k) && k == KIND_Q6_K;
}

/* Groups of 32 inputs in a block; tiles count as blocks of one group. */
ALWAYS_INLINE int kind_span(const enum kind k)
{
    return k >= KIND_Q2_K ? 8 : 1;
}

/* 32-bit words of a block. */
ALWAYS_INLINE int kind_words(const enum kind k)
{
    switch (k) {
    case KIND_Q4:
    case KIND_Q4_ZEROS:
    case KIND_IQ4_NL:
    case KIND_MXFP4:
        return 4;
    case KIND_Q8:
    case KIND_Q8_ZEROS:
        return 8;
    case KIND_Q4_1:
    case KIND_Q5_0:
        return 5;
    case KIND_Q5_1:
        return 6;
    case KIND_Q2_K:
        return 21;
    case KIND_Q3_K:
        return 27;
    case KIND_Q4_K:
        return 36;
    case KIND_Q5_K:
        return 44;
    case KIND_Q6_K:
        return 52;
    case KIND_IQ4_XS:
        return 34;
    case KIND_IQ1_S:
        return 12;
    case KIND_IQ1_M:
        return 14;
    case KIND_IQ2_XXS:
        return 16;
    case KIND_IQ2_XS:
        return 18;
    case KIND_IQ2_S:
        return 20;
    case KIND_IQ3_XXS:
        return 24;
    case KIND_IQ3_S:
        return 27;
    default:
        return 0;
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

#include "kernels/cpu/int16_grids.h"

ALWAYS_INLINE vu nibbles(vu w, const int high)
{
    return (high ? w >> 4 : w) & 0x0f0f0f0fu;
}

/* table[nibble] for each byte. */
ALWAYS_INLINE vu look_up(const uint8_t *table, vu index)
{
#if defined(SIMD_AVX512)
    __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table));
    return (vu)_mm512_shuffle_epi8(t, (__m512i)index);
#elif defined(SIMD_AVX2)
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (vu)_mm256_shuffle_epi8(t, (__m256i)index);
#elif defined(SIMD_NEON)
    return (vu)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)index);
#else
    uint8_t b[SIMD_BYTES];
    vu r;
    memcpy(b, &index, sizeof(b));
    for (int i = 0; i < SIMD_BYTES; i++)
        b[i] = table[b[i]];
    memcpy(&r, b, sizeof(b));
    return r;
#endif
}

/* Bits 4i .. 4i + 3 as the fifth bits of four codes. */
ALWAYS_INLINE vu fifth_bits(vu w, const int i)
{
    return spread1(w, i) << 4;
}

/* Bits 2i and 2i + 1 of each byte as the fifth and sixth of a code. */
ALWAYS_INLINE vu upper_two(vu w, const int i)
{
    return (i < 2 ? w << (4 - 2 * i) : w >> (2 * i - 4)) & 0x30303030u;
}

/* The word of Q4_K that has quad i of group g, and of the group beside it. */
ALWAYS_INLINE vu q4_k_word(const struct group *of, const int g, const int i)
{
    return vu_load(of->w + (4 + 8 * (g / 2) + i) * LADE_TILE);
}

/* Quad i < 8 of group g of a block; of->w points at this vector's lanes of the block's first word. */
ALWAYS_INLINE vu quad(const enum kind kind, const struct group *of, const int g, const int i)
{
    static const uint8_t iq4_unsigned[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                             129, 141, 153, 166, 181, 197, 217, 241};
    static const int8_t iq4_signed[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
    static const uint8_t mxfp4[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};
    const uint8_t *iq4 = SIGNED8 ? (const uint8_t *)iq4_signed : iq4_unsigned;
#define W(n) vu_load(of->w + (n)*LADE_TILE)
    if (kind_grid(kind))
        return GRID_CODES ? of->index[i] : look_up(grid_values(kind), of->index[i]);
    switch (kind) {
    case KIND_Q4: /* eight codes of a word: even ones, then odd ones */
    case KIND_Q4_ZEROS:
        return nibbles(W(i / 2), i % 2);
    case KIND_Q8:
    case KIND_Q8_ZEROS:
        return SIGNED8 ? W(i) ^ 0x80808080u : W(i);
    case KIND_Q4_1:
        return nibbles(W(1 + i % 4), i / 4);
    case KIND_Q5_0:
        return nibbles(W(1 + i % 4), i / 4) | fifth_bits(W(0), i);
    case KIND_Q5_1:
        return nibbles(W(2 + i % 4), i / 4) | fifth_bits(W(1), i);
    case KIND_IQ4_NL:
        return look_up(iq4, nibbles(W(i % 4), i / 4));
    case KIND_MXFP4:
        return look_up(mxfp4, nibbles(W(i % 4), i / 4));
    case KIND_Q2_K:
        return W(4 + 8 * (g / 4) + i) >> 2 * (g % 4) & 0x03030303u;
    case KIND_Q3_K:
        return (W(8 + 8 * (g / 4) + i) >> 2 * (g % 4) & 0x03030303u) | (W(i) >> g & 0x01010101u)
                                                                           << 2;
    case KIND_Q4_K:
        return nibbles(q4_k_word(of, g, i), g % 2);
    case KIND_Q5_K:
        return nibbles(W(12 + 8 * (g / 2) + i), g % 2) | (W(4 + i) >> g & 0x01010101u) << 4;
    case KIND_Q6_K:
        return nibbles(W(16 * (g / 4) + 8 * (g % 2) + i), g % 4 / 2) |
               upper_two(W(32 + 8 * (g / 4) + i), g % 4);
    case KIND_IQ4_XS:
        return look_up(iq4, nibbles(W(2 + 4 * g + i % 4), i / 4));
    default:
        return (vu){0};
    }
#undef W
}

/* Groups whose codes lie in the same words and are got at together, a *turn*, where a core that loads one
 * vector a cycle and multiplies as many would wait for loads. */
enum { MOST_TURN = 2 };

ALWAYS_INLINE int kind_turn(const enum kind k)
{
#if defined(SIMD_AVX512)
    return k == KIND_Q4_K ? 2 : 1;
#else
    (void)k;
    return 1;
#endif
}

/* Quad i of each group of the turn that begins with group g. Of two, the second one's codes stay where they are,
 * sixteen times as large. */
ALWAYS_INLINE void turn_quads(vu c[MOST_TURN], const enum kind kind, const struct group *of,
                              const int g, const int i)
{
    if (kind_turn(kind) == 1) {
        c[0] = quad(kind, of, g, i);
        return;
    }
    vu w = q4_k_word(of, g, i);
    KEEP(w);
    c[0] = w & 0x0f0f0f0fu;
    c[1] = w & 0xf0f0f0f0u;
}

/* ---- scales ---------------------------------------------------------------------------------- */

/* Of one block (blocks of 256), of one group (others). */
struct head {
    vf d[TILE_VECS], min[TILE_VECS];
    vu scale[4][TILE_VECS], mins[2][TILE_VECS]; /* fields of bytes */
};

/* Of 32 inputs; the second ones where the kind is fine. */
struct scales {
    vf s[2][TILE_VECS], m[2][TILE_VECS];
};

/* The lower half of each lane as a float; infinity may come out as 65,536. Scales are often subnormal,
 * which cost an x86 core 50 cycles in arithmetic and nothing in its conversion. */
ALWAYS_INLINE vf half_of(vu h)
{
#if defined(SIMD_AVX512)
    return (vf)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)h));
#elif defined(SIMD_AVX2)
    const __m256i low = (__m256i)(h & 0xffff);
    return (vf)_mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
#else
    vf f = (vf)((h & 0x7fff) << 13) * 0x1p112f;
    return (vf)((vu)f | (h & 0x8000) << 16);
#endif
}

ALWAYS_INLINE vu byte_of(vu w, const int i)
{
    return w >> 8 * i & 255;
}

ALWAYS_INLINE vf float_of(vu x)
{
    return vf_from_int((vi)x);
}

/* read_head() of lattices. */
ALWAYS_INLINE void read_grid_head(struct head *h, const enum kind kind, const uint32_t *w,
                                  const uint8_t *rest, const int v)
{
#define W(n) vu_load(w + (n)*LADE_TILE)
    switch (kind) {
    case KIND_IQ1_S: /* 3 bits on top of each 16, below the sign of the shift */
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL) * 0.125f;
        for (int i = 0; i < 4; i++)
            h->scale[i][v] = W(8 + i) >> 12;
        break;
    case KIND_IQ1_M: { /* the block's scale is spread over the tops of four words of 16 bits */
        const vu a = W(12), b = W(13);
        h->d[v] = half_of((a >> 12 & 0xfu) | (a >> 24 & 0xf0u) | (b >> 4 & 0xf00u) |
                          (b >> 16 & 0xf000u)) *
                  0.125f;
        h->scale[0][v] = a;
        h->scale[1][v] = b;
        break;
    }
    case KIND_IQ2_XXS:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL) * 0.25f;
        for (int i = 0; i < 8; i++)
            h->scale[0][v] |= W(2 * i + 1) >> 28 << 4 * i;
        break;
    case KIND_IQ2_XS:
    case KIND_IQ2_S:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL) * 0.25f;
        for (int i = 0; i < 2; i++)
            h->scale[i][v] = W(kind == KIND_IQ2_XS ? 16 + i : 18 + i);
        break;
    case KIND_IQ3_XXS:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL) * 0.5f;
        for (int i = 0; i < 8; i++)
            h->scale[0][v] |= W(16 + i) >> 28 << 4 * i;
        break;
    case KIND_IQ3_S:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL);
        h->scale[0][v] = W(26);
        break;
    default:
        break;
    }
#undef W
}

/* One vector of lanes of a block: w as for quad(), rest where its rest of lane 0 begins. */
ALWAYS_INLINE void read_head(struct head *h, const enum kind kind, const uint32_t *w,
                             const uint8_t *rest, const int v)
{
#define W(n) vu_load(w + (n)*LADE_TILE)
    switch (kind) {
    case KIND_Q4:
    case KIND_Q4_ZEROS:
    case KIND_Q8:
    case KIND_Q8_ZEROS:
    case KIND_Q5_0:
    case KIND_IQ4_NL:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL);
        break;
    case KIND_Q4_1:
    case KIND_Q5_1:
        h->d[v] = half_of(W(0));
        h->min[v] = half_of(W(0) >> 16);
        break;
    case KIND_MXFP4: { /* half of 2^(e - 127), which may be subnormal */
        vu8 bytes;
        memcpy(&bytes, rest + v * VL, sizeof(bytes));
        vu e = __builtin_convertvector(bytes, vu);
        h->d[v] = vf_select((vi)e < 2, (vf)((e + 1) << 21), (vf)((e - 1) << 23));
        break;
    }
    case KIND_Q2_K:
        h->d[v] = half_of(W(20));
        h->min[v] = half_of(W(20) >> 16);
        for (int i = 0; i < 4; i++)
            h->scale[i][v] = W(i);
        break;
    case KIND_Q3_K:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL);
        UNROLL(4) /* else the head is cleared before */
        for (int i = 0; i < 4; i++)
            h->scale[i][v] = nibbles(W(24 + i % 2), i / 2) | (W(26) >> 2 * i & 0x03030303u) << 4;
        break;
    case KIND_Q4_K:
    case KIND_Q5_K:
        h->d[v] = half_of(W(0));
        h->min[v] = half_of(W(0) >> 16);
        h->scale[0][v] = W(1) & 0x3f3f3f3fu;
        h->scale[1][v] = nibbles(W(3), 0) | (W(1) >> 2 & 0x30303030u);
        h->mins[0][v] = W(2) & 0x3f3f3f3fu;
        h->mins[1][v] = nibbles(W(3), 1) | (W(2) >> 2 & 0x30303030u);
        break;
    case KIND_Q6_K:
        h->d[v] = vf_load_f16((const uint16_t *)(const void *)rest + v * VL);
        for (int i = 0; i < 4; i++)
            h->scale[i][v] = W(48 + i);
        break;
    case KIND_IQ4_XS:
        h->d[v] = half_of(W(0));
        h->scale[0][v] = W(1);
        h->scale[1][v] = W(0) >> 16;
        break;
    default:
        read_grid_head(h, kind, w, rest, v);
        break;
    }
#undef W
}

/* Scale and minimum of group g, for a fine kind those of its half `part`. */
ALWAYS_INLINE void read_scale(struct scales *out, const enum kind kind, const struct head *h,
                              const uint8_t *zeros, const int g, const int part, const int v)
{
    const int n = kind_fine(kind) ? 2 * g + part : g; /* of the block's scales */
    vf d = h->d[v];
    vf *s = &out->s[part][v], *m = &out->m[part][v];
    switch (kind) {
    case KIND_Q4_ZEROS:
        *s = d;
        *m = d * vf_load_u8(zeros + v * VL);
        break;
    case KIND_Q8_ZEROS:
        *s = d;
        *m = d * (vf_load_u8(zeros + v * VL) - (SIGNED8 ? 128.0f : 0.0f));
        break;
    case KIND_Q4_1:
    case KIND_Q5_1:
        *s = d;
        *m = -h->min[v];
        break;
    case KIND_Q2_K:
        *s = d * float_of(h->scale[n / 4][v] >> 8 * (n % 4) & 15);
        *m = h->min[v] * float_of(h->scale[n / 4][v] >> (8 * (n % 4) + 4) & 15);
        break;
    case KIND_Q3_K:
        *s = d * (float_of(byte_of(h->scale[n / 4][v], n % 4)) - 32.0f);
        break;
    case KIND_Q4_K:
    case KIND_Q5_K:
        *s = d * float_of(byte_of(h->scale[n / 4][v], n % 4));
        *m = h->min[v] * float_of(byte_of(h->mins[n / 4][v], n % 4));
        break;
    case KIND_Q6_K:
        *s = d * vf_from_int((vi)(h->scale[n / 4][v] << (24 - 8 * (n % 4))) >> 24);
        break;
    case KIND_IQ4_XS:
        *s = d * (float_of((h->scale[0][v] >> 4 * n & 15) | (h->scale[1][v] >> 2 * n & 3) << 4) -
                  32.0f);
        break;
    case KIND_IQ1_S:
        *s = d * (2.0f * float_of(h->scale[n / 2][v] >> 16 * (n % 2) & 7) + 1.0f);
        break;
    case KIND_IQ1_M:
        *s = d *
             (2.0f * float_of(h->scale[n / 8][v] >> (16 * (n / 4 % 2) + 3 * (n % 4)) & 7) + 1.0f);
        break;
    case KIND_IQ2_XXS:
    case KIND_IQ2_XS:
    case KIND_IQ2_S:
    case KIND_IQ3_XXS:
        *s = d * (float_of(h->scale[n / 8][v] >> 4 * (n % 8) & 15) + 0.5f);
        break;
    case KIND_IQ3_S:
        *s = d * (2.0f * float_of(h->scale[0][v] >> 4 * n & 15) + 1.0f);
        break;
    default:
        *s = d;
    }
}
