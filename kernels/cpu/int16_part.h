/* int16_part.h - attention of one token with products of words, over a cache of Q16; included by int16_impl.h.
 *
 * As attend_part() of attention_impl.h, but nothing of the cache is converted: codes are multiplied as they are
 * by those of the query, which is rounded as a key is, and by weights. A position's weight takes its value's
 * scale, and becomes an integer with one scale for SPAN positions and a head, which is so small that sums fit
 * 32 bits: SPAN_SUM * LADE_CODE_MOST is below 2^31. */

#if defined(SIMD_NEON)
#define INT16_ATTEND_PART NULL /* no products of words */
#else
enum { SPAN = 64 };
#define SPAN_SUM          (262000.0f - SPAN) /* each weight may be half more when it is rounded */

_Static_assert((int)KEY_STEP == 2, "two positions are a pair of words");
_Static_assert(CPU_HEAD_STEP % WORDS == 0, "whole vectors");

/* The second of two rows, or the first again where it is the only one. */
ALWAYS_INLINE const int16_t *next_row(const int16_t *first, int dim, bool two)
{
    return two ? code_row(first, 1, dim) : first;
}

/* Scales of two rows in turn; 0 of the second where there is only one. */
ALWAYS_INLINE vf pair_scales(const int16_t *first, int dim, bool two)
{
    return vf_select(odd_lanes, vf_set1(two ? code_scale(code_row(first, 1, dim), dim) : 0),
                     vf_set1(code_scale(first, dim)));
}

/* HEADS queries as words, and their scales, twice each. */
struct part_query {
    _Alignas(64) int16_t words[HEADS][CPU_HEAD_MOST];
    vf scales;
};

static void part_query(struct part_query *to, const float *q, int dim)
{
    for (int h = 0; h < HEADS; h++)
        to->scales[2 * h] = to->scales[2 * h + 1] =
            row_words(to->words[h], q, (size_t)h, dim, LADE_F32);
}

/* Scores of HEADS heads and two keys, without scales. */
ALWAYS_INLINE vf pair_products(const struct part_query *q, const int16_t *first,
                               const int16_t *second, int dim)
{
    vi acc[VL] = {0};
    for (int i = 0; i < dim; i += WORDS) {
        vu a = codes_load(first + i), b = codes_load(second + i);
        KEEP(a);
        KEEP(b);
        UNROLL(8)
        for (int h = 0; h < HEADS; h++) {
            vu x = codes_load(q->words[h] + i);
            KEEP(x);
            acc[2 * h] = dot2(acc[2 * h], a, x);
            acc[2 * h + 1] = dot2(acc[2 * h + 1], b, x);
        }
    }
    vf sums[VL];
    UNROLL(16)
    for (int l = 0; l < VL; l++)
        sums[l] = vf_from_int(acc[l]);
    return sum_lanes(sums);
}

/* Scores of n positions; the largest of each head, twice. */
static vf words_part_scores(const struct cpu_attend_part *a, const struct part_query *q, int n)
{
    const int d = a->head_dim;
    const size_t bytes = 2 * lade_cache_row(LADE_Q16, d);
    const int16_t *k = code_row(a->k, (size_t)a->first, d),
                  *v = code_row(a->v, (size_t)a->first, d);
    vf most = vf_set1(-INFINITY);
    for (int j = 0; j < n; j += 2, k = code_row(k, 2, d), v = code_row(v, 2, d)) {
        const bool two = j + 1 < n;
        for (size_t i = 0; i < bytes; i += 64) {
            __builtin_prefetch((const char *)v + i, 0, 2);
            __builtin_prefetch((const char *)k + i + KEYS_AHEAD, 0, 3);
        }
        vf s = pair_products(q, k, next_row(k, d, two), d) * q->scales * pair_scales(k, d, two);
        if (!two)
            s = vf_select(odd_lanes, vf_set1(-INFINITY), s);
        vf_store(a->scores + j * HEADS, s);
        most = vf_max(s, most);
    }
    return vf_max(most, SWAPPED(most));
}

/* Scores of positions [begin, end) to weights as words, each head's where the first of the two had its
 * score; adds to `sum`. Returns what sums over values are to be multiplied with. */
static vf span_weights(const struct cpu_attend_part *a, vf most, vf *sum, int begin, int end)
{
    const int16_t *v = code_row(a->v, (size_t)(a->first + begin), a->head_dim);
    vf total = {0}, largest = {0};
    for (int j = begin; j < end; j += 2, v = code_row(v, 2, a->head_dim)) {
        float *at = a->scores + j * HEADS;
        const vf e = vf_exp(vf_load(at) - most);
        const vf weight = e * pair_scales(v, a->head_dim, j + 1 < end);
        vf_store(at, weight);
        *sum += e;
        total += weight;
        largest = vf_max(weight, largest);
    }
    const vf factor =
        weight_factor(total + SWAPPED(total), vf_max(largest, SWAPPED(largest)), SPAN_SUM);
    for (int j = begin; j < end; j += 2) {
        float *at = a->scores + j * HEADS;
        const vu w = (vu)vf_fma(vf_load(at), factor, vf_set1(VF_ROUNDS));
        const vu pair = (w & 0xffff) | (vu)SWAPPED(w) << 16;
        vf_store(at, (vf)pair);
    }
    return 1.0f / factor;
}

/* Adds columns [col, col + WORDS) of positions [begin, end). */
ALWAYS_INLINE void span_values(const struct cpu_attend_part *a, float *to, vf gain, int col,
                               int begin, int end)
{
    vi acc[VL] = {0};
    /* A share of the keys after these for the second cache: memory would idle. */
    const size_t n = (size_t)(a->last - a->first), strips = (size_t)(a->head_dim / WORDS);
    const size_t share = a->more ? 2 * lade_cache_row(LADE_Q16, a->head_dim) / strips : 0;
    const char *keys = (const char *)code_row(a->k, (size_t)a->last, a->head_dim) +
                       ((size_t)(col / WORDS) * n + (size_t)begin) * share / 2;
    const int16_t *v = code_row(a->v, (size_t)(a->first + begin), a->head_dim) + col;
    for (int j = begin; j < end; j += 2, v = code_row(v, 2, a->head_dim), keys += share) {
        const int16_t *second = next_row(v, a->head_dim, j + 1 < end);
        __builtin_prefetch(keys, 0, 2);
        __builtin_prefetch(keys + 64, 0, 2);
        __builtin_prefetch(v + WORDS);
        __builtin_prefetch(second + WORDS);
        const vu x = codes_load(v), y = codes_load(second);
        const vu low = ZIP_LOW(x, y), high = ZIP_HIGH(x, y);
        UNROLL(8)
        for (int h = 0; h < HEADS; h++) {
            uint32_t w;
            memcpy(&w, a->scores + j * HEADS + 2 * h, sizeof(w));
            vu weight = w - (vu){0};
            KEEP(weight);
            acc[2 * h] = dot2(acc[2 * h], low, weight);
            acc[2 * h + 1] = dot2(acc[2 * h + 1], high, weight);
        }
    }
    UNROLL(8)
    for (int h = 0; h < HEADS; h++) {
        float *o = to + h * a->head_dim + col;
        const vf low = vf_from_int(acc[2 * h]), high = vf_from_int(acc[2 * h + 1]);
        const vf g = vf_set1(gain[2 * h]);
        vf_store(o, vf_fma(FIRST_COLUMNS(low, high), g, vf_load(o)));
        vf_store(o + VL, vf_fma(SECOND_COLUMNS(low, high), g, vf_load(o + VL)));
    }
}

/* HEADS heads from h0 on. */
static void words_part_heads(const struct cpu_attend_part *a, int h0)
{
    const int n = a->last - a->first, d = a->head_dim;
    struct part_query q;
    part_query(&q, a->q + h0 * d, d);
    const vf most = words_part_scores(a, &q, n);
    float *acc = a->acc + h0 * d;
    memset(acc, 0, (size_t)(HEADS * d) * sizeof(*acc));
    vf sum = {0};
    for (int begin = 0; begin < n; begin += SPAN) {
        const int end = cpu_min(begin + SPAN, n);
        const vf gain = span_weights(a, most, &sum, begin, end);
        for (int col = 0; col < d; col += WORDS)
            span_values(a, acc, gain, col, begin, end);
    }
    sum += SWAPPED(sum);
    for (int h = 0; h < HEADS; h++) {
        a->max[h0 + h] = most[2 * h];
        a->sum[h0 + h] = sum[2 * h];
    }
}

static void attend_part_words(const struct cpu_attend_part *a)
{
    for (int h = 0; h < a->heads; h += HEADS)
        words_part_heads(a, h);
}
#define INT16_ATTEND_PART attend_part_words
#endif
