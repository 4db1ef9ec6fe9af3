/* int16_words.h - keys, values, queries and weights as words; included by int16_impl.h before
 * int16_attention.h and int16_part.h.
 *
 * By the inequality of Cauchy and Schwarz products of two rows of at most the length LADE_CODE_LENGTH fit 32
 * bits; sums over values do where weights together are small enough for the largest value. */

#if !defined(SIMD_NEON)  /* which has no products of words */
enum { WORDS = 2 * VL }; /* of a vector */
#define WEIGHT_MOST   32767.0f
#define WEIGHTS_LEAST 1e-30f /* what is all 0 has a scale, too */
#define WORDS_LEAST   1e-18f /* the same, of what is squared */

/* Words of a and b in turn, in each 128 bits: of their first and of their second halves; then the columns of
 * sums over such. */
#if defined(SIMD_AVX512)
#define ZIP_LOW(a, b)  ((vu)_mm512_unpacklo_epi16((__m512i)(a), (__m512i)(b)))
#define ZIP_HIGH(a, b) ((vu)_mm512_unpackhi_epi16((__m512i)(a), (__m512i)(b)))
#define SWAPPED(v)                                                                                 \
    __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
static const vi odd_lanes = {0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1};
#define FIRST_COLUMNS(a, b)                                                                        \
    __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23)
#define SECOND_COLUMNS(a, b)                                                                       \
    __builtin_shufflevector(a, b, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31)
#else
#define ZIP_LOW(a, b)        ((vu)_mm256_unpacklo_epi16((__m256i)(a), (__m256i)(b)))
#define ZIP_HIGH(a, b)       ((vu)_mm256_unpackhi_epi16((__m256i)(a), (__m256i)(b)))
#define SWAPPED(v)           __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6)
static const vi odd_lanes = {0, -1, 0, -1, 0, -1, 0, -1};
#define FIRST_COLUMNS(a, b)  __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define SECOND_COLUMNS(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#endif

ALWAYS_INLINE vu codes_load(const int16_t *p)
{
    vu v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* a and b, times their factors, as words of a lane. */
ALWAYS_INLINE vu word_pair(vf a, vf factor_a, vf b, vf factor_b)
{
    const vu low = (vu)vf_fma(a, factor_a, vf_set1(VF_ROUNDS));
    const vu high = (vu)vf_fma(b, factor_b, vf_set1(VF_ROUNDS));
    return (low & 0xffff) | high << 16;
}

/* What makes weights with this sum and this largest one integers of at most WEIGHT_MOST and, together, `most`. */
ALWAYS_INLINE vf weight_factor(vf total, vf largest, float most)
{
    const vf room = most / (total + WEIGHTS_LEAST), one = WEIGHT_MOST / (largest + WEIGHTS_LEAST);
    return vf_select(room < one, room, one);
}

/* Rounds a row to words that together have at most the length LADE_CODE_LENGTH; returns their scale. */
ALWAYS_INLINE float row_words(int16_t *to, const void *rows, size_t row, int dim,
                              const enum lade_type type)
{
    vf squares = {0};
    for (int i = 0; i < dim; i += VL) {
        const vf x = row_load(type, rows, row, dim, i);
        squares = vf_fma(x, x, squares);
    }
    const float scale = (sqrtf(vf_sum(squares)) + WORDS_LEAST) / LADE_CODE_LENGTH;
    for (int i = 0; i < dim; i += VL) {
        const vi16 words = vf_words(row_load(type, rows, row, dim, i), vf_set1(1 / scale));
        memcpy(to + i, &words, sizeof(words));
    }
    return scale;
}
#endif
