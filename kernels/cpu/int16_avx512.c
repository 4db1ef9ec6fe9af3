/* The int16 path with AVX-512 VNNI: vpdpbusd multiplies four codes with four halves of inputs. */
#if defined(__x86_64__)

#include "kernels/cpu/int16.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#define ALWAYS_INLINE    static inline __attribute__((always_inline))
#define UNROLL_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define UNROLL UNROLL_PRAGMA(clang loop unroll(full))
#else
#define UNROLL UNROLL_PRAGMA(GCC unroll 16)
#endif

enum { TOKENS = 4, TILES = 2 }; /* of one inner block: 8 sums of each kind in registers */

#define LARGEST 32512.0f /* 127 * 256: the high half stays within 8 bits */

/* Sixteen inputs: q gets the words of their halves, in turns. Returns the sum of the integers. */
ALWAYS_INLINE int32_t quantize_part(int8_t *q, __m512 x, __m512 inverse, enum lade_type type)
{
    __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(x, inverse));
    __m512i high = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(128)), 8);
    __m128i h = _mm512_cvtepi32_epi8(high), l = _mm512_cvtepi32_epi8(v); /* low bytes: v mod 256 */
    if (type == LADE_Q4) {
        const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
        h = _mm_shuffle_epi8(h, order);
        l = _mm_shuffle_epi8(l, order);
    }
    _mm_storeu_si128((__m128i *)q, _mm_unpacklo_epi32(h, l));
    _mm_storeu_si128((__m128i *)(q + 16), _mm_unpackhi_epi32(h, l));
    return _mm512_reduce_add_epi32(v);
}

static void quantize_block(int8_t *q, float *scale, int32_t *bias, const float *x,
                           enum lade_type type)
{
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    __m512 inverse = _mm512_set1_ps(max > 0 ? LARGEST / max : 0.0f);
    int32_t sum = quantize_part(q, a, inverse, type) + quantize_part(q + 32, b, inverse, type);
    *scale = max / LARGEST;
    *bias = -lade_types[type].zero * sum;
}

static void quantize(void *row, const float *x, int k, enum lade_type type)
{
    size_t blocks = cpu_int16_blocks(k), full = (size_t)k / CPU_BLOCK;
    int8_t *q = row;
    float *scale = (float *)(q + blocks * 2 * CPU_BLOCK);
    int32_t *bias = (int32_t *)(scale + blocks);
    for (size_t b = 0; b < full; b++)
        quantize_block(q + b * 2 * CPU_BLOCK, scale + b, bias + b, x + b * CPU_BLOCK, type);
    if (full < blocks) {
        float part[CPU_BLOCK] = {0};
        memcpy(part, x + full * CPU_BLOCK, ((size_t)k - full * CPU_BLOCK) * sizeof(float));
        quantize_block(q + full * 2 * CPU_BLOCK, scale + full, bias + full, part, type);
    }
}

struct operand {
    const int32_t *words;   /* of the tile: [words][16] */
    const uint16_t *scales; /* [groups][16] */
    const uint8_t *zeros;
};

struct input {
    const int32_t *q; /* high and low halves of four inputs, in turns */
    const float *scale;
    const int32_t *bias;
};

/* Four codes of each lane times four inputs of M tokens. An input is spread over the lanes once
 * for all tiles. */
ALWAYS_INLINE void codes_times(__m512i *high, __m512i *low, const __m512i *codes,
                               const struct input *x, int at, const int T, const int M)
{
    UNROLL
    for (int m = 0; m < M; m++) {
        __m512i h = _mm512_set1_epi32(x[m].q[2 * at]), l = _mm512_set1_epi32(x[m].q[2 * at + 1]);
        UNROLL
        for (int t = 0; t < T; t++) {
            high[t * M + m] = _mm512_dpbusd_epi32(high[t * M + m], codes[t], h);
            low[t * M + m] = _mm512_dpbusd_epi32(low[t * M + m], codes[t], l);
        }
    }
}

/* One word of every tile times the inputs it stands for. */
ALWAYS_INLINE void word_times(__m512i *high, __m512i *low, const struct operand *w,
                              const struct input *x, int word, const enum lade_type type,
                              const int T, const int M)
{
    const __m512i nibbles = _mm512_set1_epi32(0x0f0f0f0f);
    __m512i c[TILES], odd[TILES];
    UNROLL
    for (int t = 0; t < T; t++)
        c[t] = _mm512_loadu_si512(w[t].words + (size_t)word * LADE_TILE);
    if (type == LADE_Q8) {
        codes_times(high, low, c, x, word, T, M);
        return;
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        odd[t] = _mm512_and_si512(_mm512_srli_epi32(c[t], 4), nibbles);
        c[t] = _mm512_and_si512(c[t], nibbles);
    }
    codes_times(high, low, c, x, 2 * word, T, M);
    codes_times(high, low, odd, x, 2 * word + 1, T, M);
}

/* out[t * M + m] = 16 rows of tile t times token m */
ALWAYS_INLINE void tiles_times(__m512 *out, const struct operand *w, const struct input *x,
                               const struct lade_matrix *m, const struct lade_matrix_layout *l,
                               const enum lade_type type, const bool zeros, const int T,
                               const int M)
{
    const int per = type == LADE_Q4 ? 8 : 4, block_words = CPU_BLOCK / per;
    const float implied = type == LADE_Q4 ? 8.0f : 128.0f;
    int blocks = (int)cpu_int16_blocks(m->cols), step = m->group / CPU_BLOCK;
    __m512 total[TILES * TOKENS];
    UNROLL
    for (int i = 0; i < T * M; i++)
        total[i] = _mm512_setzero_ps();
    for (int g = 0, b = 0; g < l->groups; g++) {
        __m512 sum[TILES * TOKENS];
        float inputs[TOKENS] = {0}; /* zeros: sum of the group's inputs, times -implied */
        UNROLL
        for (int i = 0; i < T * M; i++)
            sum[i] = _mm512_setzero_ps();
        for (int last = l->groups - g > 1 ? (g + 1) * step : blocks; b < last; b++) {
            __m512i high[TILES * TOKENS], low[TILES * TOKENS];
            UNROLL
            for (int i = 0; i < T * M; i++) {
                high[i] = _mm512_setzero_si512();
                low[i] = _mm512_set1_epi32(x[i % M].bias[b]);
            }
            int first = b * block_words;
            if (first + block_words <= l->words) {
                UNROLL
                for (int i = 0; i < block_words; i++)
                    word_times(high, low, w, x, first + i, type, T, M);
            } else {
                for (int i = first; i < l->words; i++)
                    word_times(high, low, w, x, i, type, T, M);
            }
            UNROLL
            for (int i = 0; i < T * M; i++) {
                __m512i all = _mm512_add_epi32(_mm512_slli_epi32(high[i], 8), low[i]);
                sum[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(all), _mm512_set1_ps(x[i % M].scale[b]),
                                         sum[i]);
            }
            if (zeros) {
                UNROLL
                for (int j = 0; j < M; j++)
                    inputs[j] += x[j].scale[b] * (float)x[j].bias[b];
            }
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            size_t at = (size_t)g * LADE_TILE;
            __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(w[t].scales + at)));
            __m512 extra = _mm512_setzero_ps();
            if (zeros) {
                __m128i z = _mm_loadu_si128((const __m128i *)(w[t].zeros + at));
                extra = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(z));
                extra = _mm512_mul_ps(_mm512_sub_ps(extra, _mm512_set1_ps(implied)),
                                      _mm512_set1_ps(1 / implied));
            }
            UNROLL
            for (int j = 0; j < M; j++) {
                __m512 s = sum[t * M + j];
                if (zeros)
                    s = _mm512_fmadd_ps(extra, _mm512_set1_ps(inputs[j]), s);
                total[t * M + j] = _mm512_fmadd_ps(s, scale, total[t * M + j]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < T * M; i++)
        out[i] = total[i];
}

typedef void tiles_fn(__m512 *out, const struct operand *w, const struct input *x,
                      const struct lade_matrix *m, const struct lade_matrix_layout *l);

#define VARIANT(type, zeros, T, M)                                                                 \
    static void tiles_##type##_##zeros##_##T##_##M(                                                \
        __m512 *out, const struct operand *w, const struct input *x, const struct lade_matrix *m,  \
        const struct lade_matrix_layout *l)                                                        \
    {                                                                                              \
        tiles_times(out, w, x, m, l, LADE_##type, zeros, T, M);                                    \
    }
#define TOKEN_VARIANTS(type, zeros, T)                                                             \
    VARIANT(type, zeros, T, 1)                                                                     \
    VARIANT(type, zeros, T, 2)                                                                     \
    VARIANT(type, zeros, T, 3)                                                                     \
    VARIANT(type, zeros, T, 4)
#define ALL_VARIANTS(type)                                                                         \
    TOKEN_VARIANTS(type, 0, 1)                                                                     \
    TOKEN_VARIANTS(type, 0, 2)                                                                     \
    TOKEN_VARIANTS(type, 1, 1)                                                                     \
    TOKEN_VARIANTS(type, 1, 2)
ALL_VARIANTS(Q4)
ALL_VARIANTS(Q8)

#define TOKEN_ENTRIES(type, zeros, T)                                                              \
    {                                                                                              \
        tiles_##type##_##zeros##_##T##_1, tiles_##type##_##zeros##_##T##_2,                        \
            tiles_##type##_##zeros##_##T##_3, tiles_##type##_##zeros##_##T##_4                     \
    }
#define ENTRIES(type)                                                                              \
    {                                                                                              \
        {TOKEN_ENTRIES(type, 0, 1), TOKEN_ENTRIES(type, 0, 2)},                                    \
            {TOKEN_ENTRIES(type, 1, 1), TOKEN_ENTRIES(type, 1, 2)},                                \
    }
/* [Q8][has_zeros][tiles - 1][tokens - 1] */
static tiles_fn *const variants[2][2][TILES][TOKENS] = {ENTRIES(Q4), ENTRIES(Q8)};

static void gemm(float *y, size_t ldy, const struct lade_matrix *m,
                 const struct lade_matrix_layout *l, const void *const *rows, int n, int first,
                 int last)
{
    const char *base = m->data;
    size_t blocks = cpu_int16_blocks(m->cols);
    for (int t = first; t < last; t += TILES) {
        struct operand w[TILES];
        int tiles = cpu_min(TILES, last - t);
        for (int i = 0; i < tiles; i++) {
            size_t groups = (size_t)(t + i) * (size_t)l->groups * LADE_TILE;
            w[i].words = (const int32_t *)base + (size_t)(t + i) * (size_t)l->words * LADE_TILE;
            w[i].scales = (const uint16_t *)(base + l->scales) + groups;
            w[i].zeros = (const uint8_t *)(base + l->zeros) + groups;
        }
        for (int b = 0; b < n; b += TOKENS) {
            struct input x[TOKENS];
            __m512 out[TILES * TOKENS];
            int tokens = cpu_min(TOKENS, n - b);
            for (int i = 0; i < tokens; i++) {
                x[i].q = rows[b + i];
                x[i].scale = (const float *)((const int8_t *)rows[b + i] + blocks * 2 * CPU_BLOCK);
                x[i].bias = (const int32_t *)(x[i].scale + blocks);
            }
            variants[m->type == LADE_Q8][m->has_zeros][tiles - 1][tokens - 1](out, w, x, m, l);
            for (int i = 0; i < tiles * tokens; i++) {
                int row = (t + i / tokens) * LADE_TILE, count = cpu_min(LADE_TILE, m->rows - row);
                float *to = y + (size_t)(b + i % tokens) * ldy + (row - first * LADE_TILE);
                _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), out[i]);
            }
        }
    }
}

const struct cpu_int16 cpu_int16_avx512 = {quantize, gemm};

#endif
