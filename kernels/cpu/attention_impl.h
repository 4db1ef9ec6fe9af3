/* attention_impl.h - softmax attention over the cache; included once by each isa_*.c after
 * vector_impl.h and matmul_impl.h. Both forms keep a running maximum (online softmax, arXiv
 * 1805.02867), so that a long context is read once and in pieces. */
#include "kernels/cpu/simd.h"

/* ---- few queries ------------------------------------------------------------------------------
 *
 * Lanes are dimensions. HEADS query heads and KEY_STEP keys give VL sums at a time, which
 * sum_lanes() turns into one vector: their *scores*, lane h * KEY_STEP + j of head h and key j. They
 * stay in that order, so that the softmax takes whole vectors, and so do the weights of values. */
enum { HEADS = VL == 16 ? 8 : 4, KEY_STEP = VL / HEADS };
enum { KEYS_AHEAD = 8 << 10 }; /* bytes of keys fetched in advance */
_Static_assert((int)HEADS <= (int)CPU_SCORES, "a position's scores fit in the work space");

#if defined(SIMD_AVX512)
#define FOLD8(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +       \
     __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
#define FOLD4(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +     \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
#define FOLD2(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +     \
     __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
#define FOLD1(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +    \
     __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#elif defined(SIMD_AVX2)
#define FOLD4(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +                                     \
     __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15))
#define FOLD2(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +                                     \
     __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15))
#define FOLD1(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +                                    \
     __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15))
#else
#define FOLD2(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7))
#define FOLD1(a, b)                                                                                \
    (__builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7))
#endif

/* Lane i of the result is the sum of the lanes of v[i]. A fold at width w adds the upper half of
 * every 2w lanes to the lower and lays the halves of two vectors side by side. */
ALWAYS_INLINE vf sum_lanes(vf v[VL])
{
#if defined(SIMD_AVX512)
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        v[i] = FOLD8(v[i], v[i + 8]);
#endif
#if defined(SIMD_AVX512) || defined(SIMD_AVX2)
    UNROLL(4)
    for (int i = 0; i < 4; i++)
        v[i] = FOLD4(v[i], v[i + 4]);
#endif
    UNROLL(2)
    for (int i = 0; i < 2; i++)
        v[i] = FOLD2(v[i], v[i + 2]);
    return FOLD1(v[0], v[1]);
}

/* A row of a Q16 cache, and the scale of its codes. */
ALWAYS_INLINE const int16_t *code_row(const void *cache, size_t row, int head_dim)
{
    return (const int16_t *)(const void *)((const char *)cache +
                                           row * lade_cache_row(LADE_Q16, head_dim));
}

ALWAYS_INLINE float code_scale(const int16_t *codes, int head_dim)
{
    float scale;
    memcpy(&scale, codes + (head_dim + 1) / 2 * 2, sizeof(scale));
    return scale;
}

/* Values [i, i + VL) of a row of a cache, i a multiple of VL. */
ALWAYS_INLINE vf row_load(const enum lade_type type, const void *cache, size_t row, int head_dim,
                          int i)
{
    if (type == LADE_Q16) {
        const int16_t *codes = code_row(cache, row, head_dim);
        return vf_load_i16(codes + i) * code_scale(codes, head_dim);
    }
    if (type != LADE_Q8)
        return vf_load_type(type, cache, row * (size_t)head_dim + (size_t)i);
    const int groups = (head_dim + LADE_CACHE_GROUP - 1) / LADE_CACHE_GROUP;
    const int8_t *codes = (const int8_t *)cache + row * lade_cache_row(LADE_Q8, head_dim);
    const float *scales = (const float *)(const void *)(codes + groups * LADE_CACHE_GROUP);
    return vf_load_i8(codes + i) * scales[i / LADE_CACHE_GROUP];
}

ALWAYS_INLINE float row_value(const enum lade_type type, const void *cache, size_t row,
                              int head_dim, int i)
{
    if (type == LADE_Q16) {
        const int16_t *codes = code_row(cache, row, head_dim);
        return (float)codes[i] * code_scale(codes, head_dim);
    }
    if (type != LADE_Q8)
        return f_load_type(type, cache, row * (size_t)head_dim + (size_t)i);
    const int groups = (head_dim + LADE_CACHE_GROUP - 1) / LADE_CACHE_GROUP;
    const int8_t *codes = (const int8_t *)cache + row * lade_cache_row(LADE_Q8, head_dim);
    const float *scales = (const float *)(const void *)(codes + groups * LADE_CACHE_GROUP);
    return (float)codes[i] * scales[i / LADE_CACHE_GROUP];
}

/* The last k < VL values of a row of a cache, from i on; the rest 0. */
ALWAYS_INLINE vf row_load_part(const enum lade_type type, const void *cache, size_t row,
                               int head_dim, int i)
{
    float t[VL] = {0};
    for (int d = i; d < head_dim; d++)
        t[d - i] = row_value(type, cache, row, head_dim, d);
    return vf_load(t);
}

/* Adds q_h * key_j, both from dimension i on, for H heads and K keys from row `at` on. */
ALWAYS_INLINE void keys_times(vf acc[VL], const float *q, const void *keys, size_t at, int head_dim,
                              int i, const bool whole, const enum lade_type type, const int H,
                              const int K)
{
    vf key[KEY_STEP];
    UNROLL(4)
    for (int j = 0; j < K; j++)
        key[j] = whole ? row_load(type, keys, at + (size_t)j, head_dim, i)
                       : row_load_part(type, keys, at + (size_t)j, head_dim, i);
    UNROLL(8)
    for (int h = 0; h < H; h++) {
        const float *from = q + h * head_dim + i;
        vf query = whole ? vf_load(from) : vf_load_part(from, head_dim - i);
        KEEP(query);
        UNROLL(4)
        for (int j = 0; j < K; j++)
            acc[h * KEY_STEP + j] = vf_fma(key[j], query, acc[h * KEY_STEP + j]);
    }
}

/* The scores of H heads and K keys from row `at` on. Keys that are not there score -infinity. */
ALWAYS_INLINE vf scores_of(const float *q, const void *keys, size_t at, int head_dim,
                           const enum lade_type type, const int H, const int K)
{
    vf acc[VL] = {0};
    int i = 0;
    for (; i + VL <= head_dim; i += VL)
        keys_times(acc, q, keys, at, head_dim, i, true, type, H, K);
    if (i < head_dim)
        keys_times(acc, q, keys, at, head_dim, i, false, type, H, K);
    vf s = sum_lanes(acc);
    for (int l = 0; K < KEY_STEP && l < VL; l++)
        if (l % KEY_STEP >= K)
            s[l] = -INFINITY;
    return s;
}

/* s[h * V + c] += weight * value for H heads, V vectors of columns from `col` on and K rows of values
 * from `at` on; `p` are their weights, which lie as scores do */
ALWAYS_INLINE void value_rows(vf *s, const struct cpu_attend_part *a, const float *p, size_t at,
                              int col, const enum lade_type type, const int H, const int V,
                              const int K)
{
    UNROLL(4)
    for (int j = 0; j < K; j++) {
        vf x[2];
        UNROLL(2)
        for (int c = 0; c < V; c++)
            x[c] = row_load(type, a->v, at + (size_t)j, a->head_dim, col + c * VL);
        UNROLL(8)
        for (int h = 0; h < H; h++) {
            vf weight = vf_set1(p[h * KEY_STEP + j]);
            UNROLL(2)
            for (int c = 0; c < V; c++)
                s[h * V + c] = vf_fma(x[c], weight, s[h * V + c]);
        }
    }
}

/* Columns [col, col + V * VL) of the values, for H heads from h0 on. */
ALWAYS_INLINE void values_times(const struct cpu_attend_part *a, int h0, int col,
                                const enum lade_type type, const int H, const int V)
{
    const size_t size = type == LADE_Q8 ? 1 : type == LADE_F32 ? 4 : 2;
    const size_t row = lade_cache_row(type, a->head_dim);
    const float *p = a->scores;
    vf s[HEADS * 2] = {0};
    size_t at = (size_t)a->first, end = (size_t)a->last;
    /* The next columns, and a share of the keys after these for the second cache. */
    const size_t step = a->more ? (size_t)V * VL * size : 0;
    const char *next = (const char *)a->v + at * row + (size_t)(col + V * VL) * size;
    const char *keys = (const char *)a->k + end * row + (end - at) * (size_t)col * size;
    for (; at + KEY_STEP <= end; at += KEY_STEP, p += VL) {
        UNROLL(4)
        for (int j = 0; j < KEY_STEP; j++, next += row, keys += step) {
            __builtin_prefetch(next);
            __builtin_prefetch(keys, 0, 2);
        }
        value_rows(s, a, p, at, col, type, H, V, KEY_STEP);
    }
    for (; at < end; at += KEY_STEP) /* at most once */
        value_rows(s, a, p, at, col, type, H, V, 1);
    float *acc = a->acc + h0 * a->head_dim + col;
    UNROLL(8)
    for (int h = 0; h < H; h++)
        for (int c = 0; c < V; c++)
            vf_store(acc + h * a->head_dim + c * VL, s[h * V + c]);
}

/* Scores of heads [h0, h0 + H); the largest of each lane. */
ALWAYS_INLINE vf part_scores(const struct cpu_attend_part *a, int h0, const enum lade_type type,
                             const int H)
{
    const int n = a->last - a->first, d = a->head_dim;
    const float *q = a->q + h0 * d;
    float *scores = a->scores;
    size_t at = (size_t)a->first, row = lade_cache_row(type, d);
    vf most = vf_set1(-INFINITY);
    int j = 0;
    for (; j + KEY_STEP <= n; j += KEY_STEP, at += KEY_STEP, scores += VL) {
        /* Keys come in several streams and values later in columns: hardware foresees neither. */
        for (size_t from = at * row; !h0 && from < (at + KEY_STEP) * row; from += 64) {
            __builtin_prefetch((const char *)a->v + from, 0, 2);
            __builtin_prefetch((const char *)a->k + from + KEYS_AHEAD, 0, 3);
        }
        vf s = scores_of(q, a->k, at, d, type, H, KEY_STEP);
        vf_store(scores, s);
        most = vf_max(s, most);
    }
    for (; j < n; j += KEY_STEP, at++, scores += VL) { /* at most once */
        vf s = scores_of(q, a->k, at, d, type, H, 1);
        vf_store(scores, s);
        most = vf_max(s, most);
    }
    return most;
}

/* Scores to weights: exp(score - largest of the head). */
ALWAYS_INLINE void part_weights(const struct cpu_attend_part *a, int h0, vf most, const int H)
{
    const int n = (a->last - a->first + KEY_STEP - 1) / KEY_STEP * VL;
    vf max = most, sum = {0};
    for (int l = 0; l < VL; l++) { /* of all lanes of the head */
        const int first = l / KEY_STEP * KEY_STEP;
        for (int j = first; j < first + KEY_STEP; j++)
            max[l] = most[j] > max[l] ? most[j] : max[l];
    }
    for (int i = 0; i < n; i += VL) {
        vf e = vf_exp(vf_load(a->scores + i) - max);
        vf_store(a->scores + i, e);
        sum += e;
    }
    for (int h = 0; h < H; h++) {
        a->max[h0 + h] = max[h * KEY_STEP];
        a->sum[h0 + h] = 0;
        for (int j = 0; j < KEY_STEP; j++)
            a->sum[h0 + h] += sum[h * KEY_STEP + j];
    }
}

ALWAYS_INLINE void part_values(const struct cpu_attend_part *a, int h0, const enum lade_type type,
                               const int H)
{
    const int n = a->last - a->first, d = a->head_dim;
    int c = 0;
    for (; c + 2 * VL <= d; c += 2 * VL)
        values_times(a, h0, c, type, H, 2);
    for (; c + VL <= d; c += VL)
        values_times(a, h0, c, type, H, 1);
    for (; c < d; c++)
        for (int h = 0; h < H; h++) {
            float s = 0;
            for (int j = 0; j < n; j++)
                s += a->scores[j / KEY_STEP * VL + h * KEY_STEP + j % KEY_STEP] *
                     row_value(type, a->v, (size_t)a->first + (size_t)j, d, c);
            a->acc[(h0 + h) * d + c] = s;
        }
}

ALWAYS_INLINE void part_heads(const struct cpu_attend_part *a, const enum lade_type type)
{
    int h = 0;
    for (; h + HEADS <= a->heads; h += HEADS) {
        part_weights(a, h, part_scores(a, h, type, HEADS), HEADS);
        part_values(a, h, type, HEADS);
    }
    for (; h < a->heads; h++) {
        part_weights(a, h, part_scores(a, h, type, 1), 1);
        part_values(a, h, type, 1);
    }
}

static void attend_part(const struct cpu_attend_part *a)
{
    if (a->cache_type == LADE_F16)
        part_heads(a, LADE_F16);
    else if (a->cache_type == LADE_Q8)
        part_heads(a, LADE_Q8);
    else if (a->cache_type == LADE_Q16)
        part_heads(a, LADE_Q16);
    else
        part_heads(a, LADE_F32);
}

/* ---- many queries -----------------------------------------------------------------------------
 *
 * Lanes are queries: scores come out as [key][query], so that the softmax needs no sums across
 * lanes and its result is at once an operand of the product with the values. */
_Static_assert(CPU_KEYS % NR == 0, "keys go in whole blocks");

struct block_work {
    int dp, rp;               /* head_dim padded to PW; rows padded to PW and NR */
    float *qt;                /* [head_dim][rp] */
    float *k;                 /* [CPU_KEYS][head_dim] */
    float *v;                 /* [CPU_KEYS][dp] */
    float *p;                 /* [CPU_KEYS][rp]: scores, then their exponentials */
    float *o;                 /* [rp][dp] */
    float *max, *sum, *scale; /* [rp] */
    int *limit;               /* [rp] */
};

/* out[t][r] = x_t . column r of the panel, for NR rows of x and PW columns */
static void micro_rows(float *out, const float *panel, size_t ldp, const float *x, size_t ldx,
                       int k)
{
    vf acc[NR * PANEL_VECS] = {0};
    for (int i = 0; i < k; i++) {
        vf p[PANEL_VECS];
        UNROLL(4)
        for (int v = 0; v < PANEL_VECS; v++)
            p[v] = vf_load(panel + (size_t)i * ldp + v * VL);
        UNROLL(16)
        for (int t = 0; t < NR; t++) {
            vf b = vf_set1(x[(size_t)t * ldx + (size_t)i]);
            UNROLL(4)
            for (int v = 0; v < PANEL_VECS; v++)
                acc[t * PANEL_VECS + v] = vf_fma(p[v], b, acc[t * PANEL_VECS + v]);
        }
    }
    UNROLL(16)
    for (int t = 0; t < NR; t++)
        for (int v = 0; v < PANEL_VECS; v++)
            vf_store(out + t * PW + v * VL, acc[t * PANEL_VECS + v]);
}

/* Positions [first, first + n) as floats; the rest of the block is 0. */
ALWAYS_INLINE void load_rows_of(float *to, size_t ld, const void *cache, const enum lade_type type,
                                int head_dim, int first, int n)
{
    for (int j = 0; j < CPU_KEYS; j++, to += ld) {
        const size_t row = (size_t)first + (size_t)j;
        int i = 0;
        for (; j < n && i + VL <= head_dim; i += VL)
            vf_store(to + i, row_load(type, cache, row, head_dim, i));
        for (; j < n && i < head_dim; i++)
            to[i] = row_value(type, cache, row, head_dim, i);
        for (; i < (int)ld; i++)
            to[i] = 0;
    }
}

static void load_rows(float *to, size_t ld, const void *cache, enum lade_type type, int head_dim,
                      int first, int n)
{
    if (type == LADE_F16)
        load_rows_of(to, ld, cache, LADE_F16, head_dim, first, n);
    else if (type == LADE_Q8)
        load_rows_of(to, ld, cache, LADE_Q8, head_dim, first, n);
    else if (type == LADE_Q16)
        load_rows_of(to, ld, cache, LADE_Q16, head_dim, first, n);
    else
        load_rows_of(to, ld, cache, LADE_F32, head_dim, first, n);
}

/* Scores to exponentials for PW queries from `lane` on. */
static void block_softmax(struct block_work *w, int lane, int first)
{
    for (int v = lane; v < lane + PW; v += VL) {
        vi limit;
        memcpy(&limit, w->limit + v, sizeof(limit));
        limit -= first; /* keys j < limit are seen */
        vf old = vf_load(w->max + v), max = old;
        for (int j = 0; j < CPU_KEYS; j++) {
            float *p = w->p + (size_t)j * (size_t)w->rp + v;
            vf s = vf_select(limit > j, vf_load(p), vf_set1(-INFINITY));
            vf_store(p, s);
            max = vf_max(s, max);
        }
        vf sum = {0}, scale = vf_exp(old - max);
        for (int j = 0; j < CPU_KEYS; j++) {
            float *p = w->p + (size_t)j * (size_t)w->rp + v;
            vf e = vf_exp(vf_load(p) - max);
            vf_store(p, e);
            sum += e;
        }
        vf_store(w->max + v, max);
        vf_store(w->scale + v, scale);
        vf_store(w->sum + v, vf_fma(vf_load(w->sum + v), scale, sum));
    }
}

static void block_step(struct block_work *w, const struct cpu_attend_block *a, int first)
{
    float out[NR * PW];
    for (int lane = 0; lane < w->rp && lane < a->rows; lane += PW) {
        for (int j = 0; j < CPU_KEYS; j += NR) {
            micro_rows(out, w->qt + lane, (size_t)w->rp, w->k + (size_t)j * (size_t)a->head_dim,
                       (size_t)a->head_dim, a->head_dim);
            for (int t = 0; t < NR; t++)
                memcpy(w->p + (size_t)(j + t) * (size_t)w->rp + lane, out + t * PW,
                       PW * sizeof(float));
        }
        block_softmax(w, lane, first);
    }
    for (int b = 0; b < a->rows; b += NR) {
        int m = cpu_min(NR, a->rows - b);
        for (int c = 0; c < w->dp; c += PW) {
            micro(out, w->v + c, (size_t)w->dp, w->p + b, (size_t)w->rp, CPU_KEYS, m);
            for (int t = 0; t < m; t++) {
                float *o = w->o + (size_t)(b + t) * (size_t)w->dp + c;
                vf scale = vf_set1(w->scale[b + t]);
                for (int i = 0; i < PW; i += VL)
                    vf_store(o + i, vf_fma(vf_load(o + i), scale, vf_load(out + t * PW + i)));
            }
        }
    }
}

static void block_setup(struct block_work *w, const struct cpu_attend_block *a)
{
    w->dp = (a->head_dim + CPU_MAX_PW - 1) / CPU_MAX_PW * CPU_MAX_PW;
    w->rp = (a->rows + CPU_ROW_PAD - 1) / CPU_ROW_PAD * CPU_ROW_PAD;
    size_t d = (size_t)a->head_dim, dp = (size_t)w->dp, rp = (size_t)w->rp;
    w->qt = a->work;
    w->k = w->qt + d * rp;
    w->v = w->k + CPU_KEYS * d;
    w->p = w->v + CPU_KEYS * dp;
    w->o = w->p + CPU_KEYS * rp;
    w->max = w->o + rp * dp;
    w->sum = w->max + rp;
    w->scale = w->sum + rp;
    w->limit = (int *)(w->scale + rp);
    memset(w->o, 0, rp * dp * sizeof(float));
    for (int t = 0; t < w->rp; t++) {
        /* Rows of the padding see the first key, so that they stay finite. */
        w->limit[t] = t < a->rows ? a->limit[t] : 1;
        w->max[t] = -INFINITY;
        w->sum[t] = 0;
        for (size_t i = 0; i < d; i++)
            w->qt[i * rp + (size_t)t] = t < a->rows ? a->q[(size_t)t * d + i] : 0;
    }
}

static void attend_block(const struct cpu_attend_block *a)
{
    struct block_work w;
    block_setup(&w, a);
    int end = a->limit[a->rows - 1];
    for (int first = 0; first < end; first += CPU_KEYS) {
        int n = cpu_min(CPU_KEYS, end - first);
        load_rows(w.k, (size_t)a->head_dim, a->k, a->cache_type, a->head_dim, first, n);
        load_rows(w.v, (size_t)w.dp, a->v, a->cache_type, a->head_dim, first, n);
        block_step(&w, a, first);
    }
    for (int t = 0; t < a->rows; t++) {
        const float *o = w.o + (size_t)t * (size_t)w.dp;
        float scale = 1.0f / w.sum[t];
        for (int i = 0; i < a->head_dim; i++)
            a->out[(size_t)t * (size_t)a->head_dim + (size_t)i] = o[i] * scale;
    }
}
