/* int16_impl.h - products with inputs of 16 bits; included once by each isa_*.c that has dot4().
 *
 * GEMV: one token. Codes go from memory to registers and into the products.
 * GEMM: more tokens. Tiles are unpacked to *panels* first, bytes of codes and floats of scales that
 * stay in the first cache, and one product serves all types. */
#include "kernels/cpu/int16.h"
#include "kernels/cpu/int16_codes.h"

#define LARGEST 16256.0f /* 127 * 128: the high half stays within 8 bits */

/* acc + the sum of four products of each lane: codes times the bytes of x. */
ALWAYS_INLINE vi dot4(vi acc, vu codes, vi x, const bool wide)
{
#if defined(SIMD_AVX512)
    (void)wide;
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)codes, (__m512i)x);
#elif defined(SIMD_AVXVNNI)
    (void)wide;
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)codes, (__m256i)x);
#elif defined(SIMD_AVX2)
    /* Pairs are summed in 16 bits: enough for codes up to 127 in magnitude, signs moved to x. */
    __m256i c = (__m256i)codes, b = (__m256i)x;
    if (wide) {
        b = _mm256_sign_epi8(b, c);
        c = _mm256_abs_epi8(c);
    }
    __m256i pairs = _mm256_maddubs_epi16(c, b);
    return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(SIMD_NEON)
    (void)wide;
    return (vi)vdotq_s32((int32x4_t)acc, (int8x16_t)codes, (int8x16_t)x);
#endif
}

/* ---- inputs ---------------------------------------------------------------------------------- */

struct row {
    const int32_t *q; /* high and low halves of four inputs, in turns */
    const float *scale;
    const int32_t *sum;
    const float *total, *halves;
};

ALWAYS_INLINE struct row row_at(const void *data, size_t blocks)
{
    struct row r = {.q = data};
    r.scale = (const float *)(r.q + blocks * (2 * CPU_BLOCK / 4));
    r.sum = (const int32_t *)(r.scale + blocks);
    r.total = (const float *)(r.sum + blocks);
    r.halves = r.total + blocks;
    return r;
}

typedef int8_t vi8 __attribute__((vector_size(VL)));

/* Inputs i .. i + VL in the order of the codes. */
ALWAYS_INLINE vf load_ordered(const float *x, int i, enum cpu_order order)
{
    if (order == CPU_ORDER_PLAIN)
        return vf_load(x + i);
#if defined(SIMD_AVX512)
    vf v = vf_load(x + i);
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
#elif defined(SIMD_AVX2)
    vf v = vf_load(x + i);
    return __builtin_shufflevector(v, v, 0, 2, 4, 6, 1, 3, 5, 7);
#else
    vf a = vf_load(x + i / 8 * 8), b = vf_load(x + i / 8 * 8 + 4);
    return i % 8 ? __builtin_shufflevector(a, b, 1, 3, 5, 7)
                 : __builtin_shufflevector(a, b, 0, 2, 4, 6);
#endif
}

ALWAYS_INLINE int32_t vi_sum(vi v)
{
#if defined(SIMD_AVX512)
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t t[VL], sum = 0;
    memcpy(t, &v, sizeof(v));
    for (int i = 0; i < VL; i++)
        sum += t[i];
    return sum;
#endif
}

/* One block. Returns its scale; sums are those of its two halves. */
ALWAYS_INLINE float quantize_block(int8_t *q, int32_t sums[2], const float *x,
                                   const enum cpu_order order)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vf most = {0};
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK; i += VL)
        most = vf_max((vf)((vu)vf_load(x + i) & 0x7fffffffu), most);
    float largest = vf_hmax(most);
    vf inverse = vf_set1(largest > 0 ? LARGEST / largest : 0);
    vi half[2] = {0};
    UNROLL(8)
    for (int i = 0; i < CPU_BLOCK; i += VL, q += 2 * VL) {
        vi v = (vi)(load_ordered(x, i, order) * inverse + magic) - (vi)vf_set1(magic);
        vi high = (v + 64) >> 7, low = v - (high << 7);
        vi8 h = __builtin_convertvector(high, vi8), l = __builtin_convertvector(low, vi8);
        half[i * 2 / CPU_BLOCK] += v;
        uint32_t hw[VL / 4], lw[VL / 4];
        memcpy(hw, &h, sizeof(hw));
        memcpy(lw, &l, sizeof(lw));
        UNROLL(4)
        for (int w = 0; w < VL / 4; w++) {
            memcpy(q + w * 8, &hw[w], 4);
            memcpy(q + w * 8 + 4, &lw[w], 4);
        }
    }
    sums[0] = vi_sum(half[0]);
    sums[1] = vi_sum(half[1]);
    return largest / LARGEST;
}

static void quantize(void *data, const float *x, int k, enum cpu_order order)
{
    const size_t blocks = cpu_int16_blocks(k);
    int8_t *q = data;
    float *scale = (float *)(void *)(q + blocks * 2 * CPU_BLOCK);
    int32_t *sum = (int32_t *)(scale + blocks);
    float *total = (float *)(sum + blocks), *halves = total + blocks;
    for (size_t b = 0; b < blocks; b++, q += 2 * CPU_BLOCK) {
        float part[CPU_BLOCK] = {0};
        int32_t sums[2];
        const int at = (int)b * CPU_BLOCK, n = cpu_min(CPU_BLOCK, k - at);
        const float *from = n == CPU_BLOCK ? x + at : part;
        if (n > 0 && n < CPU_BLOCK)
            memcpy(part, x + at, (size_t)n * sizeof(float));
        scale[b] = order == CPU_ORDER_Q4 ? quantize_block(q, sums, from, CPU_ORDER_Q4)
                                         : quantize_block(q, sums, from, CPU_ORDER_PLAIN);
        sum[b] = sums[0] + sums[1];
        total[b] = (float)sum[b] * scale[b];
        halves[2 * b] = (float)sums[0] * scale[b];
        halves[2 * b + 1] = (float)sums[1] * scale[b];
    }
}

/* ---- one tile -------------------------------------------------------------------------------- */

/* Memory answers so late that what is read must be asked for this many bytes before. */
enum { WORDS_AHEAD = 12 << 10, REST_AHEAD = 256 };

/* Tiles that are read in one go, and what is read after them. */
struct stretch {
    const char *end, *next; /* end of their words; next: NULL if it is not known */
};

/* A tile and the walk over its blocks. */
struct source {
    const uint32_t *words; /* of lane 0 */
    const uint8_t *rest;   /* scales of tiles, rests of blocks */
    const uint8_t *zeros;
    int valid;         /* words of tiles that are there; all of them for blocks */
    int group, until;  /* tiles: inputs of a group, inputs before the next scale */
    size_t rest_step;  /* bytes to the next block's rest */
    const char *ahead; /* what to ask for while the next block is computed */
};

ALWAYS_INLINE struct source source_at(const enum kind kind, const struct lade_matrix *m,
                                      const struct lade_matrix_layout *l, int tile,
                                      const struct stretch *in)
{
    const char *base = m->data;
    const size_t t = (size_t)tile, groups = (size_t)l->groups * LADE_TILE;
    const bool tiled = kind <= KIND_Q8_ZEROS;
    const char *words = cpu_int16_words(m, l, tile);
    const size_t rest = tiled ? sizeof(uint16_t) : (size_t)l->rest;
    const char *ahead = words + WORDS_AHEAD;
    return (struct source){
        .ahead = in->next && ahead >= in->end ? in->next + (ahead - in->end) : ahead,
        .words = (const uint32_t *)(const void *)words,
        .rest = (const uint8_t *)base + l->scales + t * groups * rest,
        .zeros = (const uint8_t *)base + l->zeros + t * groups,
        .valid = tiled ? l->words : INT32_MAX,
        .group = m->group,
        .until = m->group,
        .rest_step = rest * LADE_TILE,
    };
}

/* The words of the next block, from `spare` where the matrix ends inside it. */
ALWAYS_INLINE const uint32_t *next_words(const enum kind kind, struct source *s, uint32_t *spare)
{
    const uint32_t *w = s->words;
    const int n = kind_words(kind);
    if (kind <= KIND_Q8_ZEROS && s->valid < n) {
        memset(spare, 0, (size_t)n * LADE_TILE * sizeof(*spare));
        memcpy(spare, w, (size_t)(s->valid > 0 ? s->valid : 0) * LADE_TILE * sizeof(*spare));
        w = spare;
    }
    s->words += n * LADE_TILE;
    s->valid -= n;
    return w;
}

/* Asks for group g's share of the block that lies ahead. The barrier keeps the compiler from asking
 * for a whole block at once, which is more than a core can have under way. */
ALWAYS_INLINE void fetch_ahead(const enum kind kind, const struct source *s, const int g)
{
    const int span = kind_span(kind), words = kind_words(kind);
    for (int i = g * words / span; i < (g + 1) * words / span; i++)
        __builtin_prefetch(s->ahead + i * LADE_TILE * 4);
    if (span > 1)
        __asm__ volatile("" ::: "memory");
}

/* Steps to the scales of the next block. */
ALWAYS_INLINE void next_scales(const enum kind kind, struct source *s, const struct stretch *in)
{
    const char *ahead = s->ahead + kind_words(kind) * LADE_TILE * 4;
    s->ahead =
        s->ahead < in->end && ahead >= in->end && in->next ? in->next + (ahead - in->end) : ahead;
    if (kind > KIND_Q8_ZEROS) {
        s->rest += s->rest_step;
        return;
    }
    s->until -= CPU_BLOCK;
    if (s->until <= 0 && s->valid > 0) {
        s->until = s->group;
        s->rest += s->rest_step;
        s->zeros += LADE_TILE;
    }
}

/* ---- one token ------------------------------------------------------------------------------- */

/* total += 32 inputs times one group. */
ALWAYS_INLINE void group_times(vf *total, const enum kind kind, const uint32_t *w,
                               const struct head *h, const uint8_t *zeros, const struct row *x,
                               int b, const int g)
{
    const int parts = kind_fine(kind) ? 2 : 1, quads = 8 / parts, zero = kind_zero(kind);
    struct scales sc;
    UNROLL(2)
    for (int p = 0; p < parts; p++) {
        vi high[TILE_VECS] = {0}, low[TILE_VECS];
        EACH_VEC
        {
            low[v] = zero ? (vi){0} - x->sum[b] * zero : (vi){0};
            read_scale(&sc, kind, h, zeros, g, p, v);
        }
        UNROLL(8)
        for (int j = 0; j < quads; j++) {
            const int i = p * quads + j;
            const int32_t *q = x->q + (b * 8 + i) * 2;
            EACH_VEC
            {
                vu c = quad(kind, w + v * VL, g, i);
                high[v] = dot4(high[v], c, (vi){0} + q[0], kind_wide(kind));
                low[v] = dot4(low[v], c, (vi){0} + q[1], kind_wide(kind));
            }
        }
        EACH_VEC
        {
            vf sum = vf_from_int((high[v] << 7) + low[v]);
            total[v] = vf_fma(sum * sc.s[p][v], vf_set1(x->scale[b]), total[v]);
            if (kind_mins(kind))
                total[v] =
                    vf_fma(sc.m[p][v], vf_set1(parts == 2 ? -x->halves[2 * b + p] : -x->total[b]),
                           total[v]);
        }
    }
}

ALWAYS_INLINE void gemv_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                             const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                             const struct row *x)
{
    const int span = kind_span(kind);
    const int blocks = (m->cols - 1) / (span * CPU_BLOCK) + 1;
    struct source s = source_at(kind, m, l, tile, in);
    vf total[TILE_VECS] = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks; b++) {
        struct head h = {0};
        const uint32_t *w = next_words(kind, &s, spare);
        EACH_VEC read_head(&h, kind, w + v * VL, s.rest, v);
        __builtin_prefetch(s.rest + REST_AHEAD);
        UNROLL(8)
        for (int g = 0; g < span; g++) {
            fetch_ahead(kind, &s, g);
            group_times(total, kind, w, &h, s.zeros, x, b * span + g, g);
        }
        next_scales(kind, &s, in);
    }
    EACH_VEC vf_store(out + v * VL, total[v]);
}

/* ---- panels ---------------------------------------------------------------------------------- */

/* Inputs [k0, k0 + PANEL_K) of one tile. */
enum { PANEL_K = 2048, PANEL_BLOCKS = PANEL_K / CPU_BLOCK };

struct panel {
    _Alignas(64) uint32_t codes[PANEL_K / 4][LADE_TILE];
    float s[PANEL_BLOCKS * 2][LADE_TILE], m[PANEL_BLOCKS * 2][LADE_TILE];
};

/* Unpacks the next PANEL_K inputs, or `blocks` of 32 where fewer are left. */
ALWAYS_INLINE void unpack(struct panel *p, const enum kind kind, struct source *s,
                          const struct stretch *in, int blocks)
{
    const int span = kind_span(kind), parts = kind_fine(kind) ? 2 : 1;
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks; b += span) {
        struct head h = {0};
        const uint32_t *w = next_words(kind, s, spare);
        EACH_VEC read_head(&h, kind, w + v * VL, s->rest, v);
        __builtin_prefetch(s->rest + REST_AHEAD);
        UNROLL(8)
        for (int g = 0; g < span; g++) {
            fetch_ahead(kind, s, g);
            EACH_VEC
            {
                struct scales sc;
                UNROLL(2)
                for (int part = 0; part < parts; part++) {
                    read_scale(&sc, kind, &h, s->zeros, g, part, v);
                    vf_store(p->s[(b + g) * parts + part] + v * VL, sc.s[part][v]);
                    if (kind_mins(kind))
                        vf_store(p->m[(b + g) * parts + part] + v * VL, sc.m[part][v]);
                }
                UNROLL(8)
                for (int i = 0; i < 8; i++) {
                    vu c = quad(kind, w + v * VL, g, i);
                    memcpy(p->codes[(b + g) * 8 + i] + v * VL, &c, sizeof(c));
                }
            }
        }
        next_scales(kind, s, in);
    }
}

#if defined(SIMD_AVX512)
enum { GEMM_TILES = 2, GEMM_TOKENS = 4 };
#else
enum { GEMM_TILES = 1, GEMM_TOKENS = 2 };
#endif

/* What all types have in common for the product of panels. */
struct form {
    bool fine, mins, wide;
    int zero;
};

/* sums[(t * M + j) * TILE_VECS ...] += panel t times `blocks` of token j, from block b0 on. */
ALWAYS_INLINE void panels_times(vf *sums, const struct panel *p, const struct row *x, int b0,
                                int blocks, int zero, const bool fine, const bool mins,
                                const bool wide, const int T, const int M)
{
    enum { MOST = GEMM_TILES * GEMM_TOKENS * TILE_VECS };
    const int parts = fine ? 2 : 1, quads = 8 / parts;
    vf total[MOST];
    UNROLL(16)
    for (int i = 0; i < T * M * TILE_VECS; i++)
        total[i] = sums[i];
    for (int b = 0; b < blocks; b++) {
        UNROLL(2)
        for (int part = 0; part < parts; part++) {
            vi high[MOST], low[MOST];
            UNROLL(16)
            for (int i = 0; i < T * M * TILE_VECS; i++) {
                high[i] = (vi){0};
                low[i] = fine || mins ? (vi){0} : (vi){0} - x[i / TILE_VECS % M].sum[b0 + b] * zero;
            }
            UNROLL(8)
            for (int k = 0; k < quads; k++) {
                const int i = part * quads + k;
                vu c[GEMM_TILES * TILE_VECS];
                UNROLL(4)
                for (int t = 0; t < T; t++)
                    EACH_VEC c[t * TILE_VECS + v] = vu_load(p[t].codes[b * 8 + i] + v * VL);
                UNROLL(4)
                for (int j = 0; j < M; j++) {
                    const int32_t *q = x[j].q + ((size_t)(b0 + b) * 8 + (size_t)i) * 2;
                    vi qh = (vi){0} + q[0], ql = (vi){0} + q[1];
                    UNROLL(4)
                    for (int t = 0; t < T; t++)
                        EACH_VEC
                        {
                            const int at = (t * M + j) * TILE_VECS + v;
                            high[at] = dot4(high[at], c[t * TILE_VECS + v], qh, wide);
                            low[at] = dot4(low[at], c[t * TILE_VECS + v], ql, wide);
                        }
                }
            }
            UNROLL(4)
            for (int t = 0; t < T; t++)
                EACH_VEC
                {
                    vf s = vf_load(p[t].s[b * parts + part] + v * VL);
                    UNROLL(4)
                    for (int j = 0; j < M; j++) {
                        const int at = (t * M + j) * TILE_VECS + v;
                        vf sum = vf_from_int((high[at] << 7) + low[at]);
                        total[at] = vf_fma(sum * x[j].scale[b0 + b], s, total[at]);
                        if (mins)
                            total[at] = vf_fma(vf_load(p[t].m[b * parts + part] + v * VL),
                                               vf_set1(fine ? -x[j].halves[2 * (b0 + b) + part]
                                                            : -x[j].total[b0 + b]),
                                               total[at]);
                    }
                }
        }
    }
    UNROLL(16)
    for (int i = 0; i < T * M * TILE_VECS; i++)
        sums[i] = total[i];
}

typedef void panels_fn(vf *sums, const struct panel *p, const struct row *x, int b0, int blocks,
                       int zero);

#define PANELS(name, fine, mins, wide, T, M)                                                       \
    static void name(vf *sums, const struct panel *p, const struct row *x, int b0, int blocks,     \
                     int zero)                                                                     \
    {                                                                                              \
        panels_times(sums, p, x, b0, blocks, zero, fine, mins, wide, T, M);                        \
    }
#if defined(SIMD_AVX512)
#define PANEL_FORMS(name, fine, mins, wide)                                                        \
    PANELS(name##_1_1, fine, mins, wide, 1, 1)                                                     \
    PANELS(name##_1_2, fine, mins, wide, 1, 2)                                                     \
    PANELS(name##_1_3, fine, mins, wide, 1, 3)                                                     \
    PANELS(name##_1_4, fine, mins, wide, 1, 4)                                                     \
    PANELS(name##_2_1, fine, mins, wide, 2, 1)                                                     \
    PANELS(name##_2_2, fine, mins, wide, 2, 2)                                                     \
    PANELS(name##_2_3, fine, mins, wide, 2, 3)                                                     \
    PANELS(name##_2_4, fine, mins, wide, 2, 4)                                                     \
    static panels_fn *const name[GEMM_TILES][GEMM_TOKENS] = {                                      \
        {name##_1_1, name##_1_2, name##_1_3, name##_1_4},                                          \
        {name##_2_1, name##_2_2, name##_2_3, name##_2_4},                                          \
    };
#else
#define PANEL_FORMS(name, fine, mins, wide)                                                        \
    PANELS(name##_1_1, fine, mins, wide, 1, 1)                                                     \
    PANELS(name##_1_2, fine, mins, wide, 1, 2)                                                     \
    static panels_fn *const name[GEMM_TILES][GEMM_TOKENS] = {{name##_1_1, name##_1_2}};
#endif
PANEL_FORMS(panels_plain, false, false, false)
PANEL_FORMS(panels_mins, false, true, false)
PANEL_FORMS(panels_fine, true, true, false)
#if defined(SIMD_AVX2) && !defined(SIMD_VNNI)
PANEL_FORMS(panels_plain_wide, false, false, true)
PANEL_FORMS(panels_mins_wide, false, true, true)
#else
#define panels_plain_wide panels_plain
#define panels_mins_wide  panels_mins
#endif

/* ---- the table of types ---------------------------------------------------------------------- */

struct kind_ops {
    void (*gemv)(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                 int tile, const struct stretch *in, const struct row *x);
    struct source (*source)(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                            int tile, const struct stretch *in);
    void (*unpack)(struct panel *p, struct source *s, const struct stretch *in, int blocks);
    panels_fn *const (*panels)[GEMM_TOKENS];
    int zero;
};

#define KIND(name)                                                                                 \
    static void gemv_##name(float *out, const struct lade_matrix *m,                               \
                            const struct lade_matrix_layout *l, int tile,                          \
                            const struct stretch *in, const struct row *x)                         \
    {                                                                                              \
        gemv_tile(out, KIND_##name, m, l, tile, in, x);                                            \
    }                                                                                              \
    static struct source source_##name(const struct lade_matrix *m,                                \
                                       const struct lade_matrix_layout *l, int tile,               \
                                       const struct stretch *in)                                   \
    {                                                                                              \
        return source_at(KIND_##name, m, l, tile, in);                                             \
    }                                                                                              \
    static void unpack_##name(struct panel *p, struct source *s, const struct stretch *in,         \
                              int blocks)                                                          \
    {                                                                                              \
        unpack(p, KIND_##name, s, in, blocks);                                                     \
    }
KIND(Q4)
KIND(Q4_ZEROS)
KIND(Q8)
KIND(Q8_ZEROS)
KIND(Q4_1)
KIND(Q5_0)
KIND(Q5_1)
KIND(IQ4_NL)
KIND(MXFP4)
KIND(Q2_K)
KIND(Q3_K)
KIND(Q4_K)
KIND(Q5_K)
KIND(Q6_K)
KIND(IQ4_XS)
#undef KIND

static const struct kind_ops *kind_ops(const struct lade_matrix *m)
{
#define OPS(name, form, zero)                                                                      \
    {                                                                                              \
        gemv_##name, source_##name, unpack_##name, form, zero                                      \
    }
#define WIDE_ZERO(zero) (SIGNED8 ? 0 : (zero))
    static const struct kind_ops tiles[2][2] = {
        {OPS(Q4, panels_plain, 8), OPS(Q4_ZEROS, panels_mins, 0)},
        {OPS(Q8, panels_plain_wide, WIDE_ZERO(128)), OPS(Q8_ZEROS, panels_mins_wide, 0)},
    };
    static const struct kind_ops blocks[LADE_N_BLOCKS] = {
        [LADE_BLOCK_Q4_1] = OPS(Q4_1, panels_mins, 0),
        [LADE_BLOCK_Q5_0] = OPS(Q5_0, panels_plain, 16),
        [LADE_BLOCK_Q5_1] = OPS(Q5_1, panels_mins, 0),
        [LADE_BLOCK_IQ4_NL] = OPS(IQ4_NL, panels_plain_wide, WIDE_ZERO(127)),
        [LADE_BLOCK_MXFP4] = OPS(MXFP4, panels_plain, 12),
        [LADE_BLOCK_Q2_K] = OPS(Q2_K, panels_fine, 0),
        [LADE_BLOCK_Q3_K] = OPS(Q3_K, panels_fine, 0),
        [LADE_BLOCK_Q4_K] = OPS(Q4_K, panels_mins, 0),
        [LADE_BLOCK_Q5_K] = OPS(Q5_K, panels_mins, 0),
        [LADE_BLOCK_Q6_K] = OPS(Q6_K, panels_fine, 0),
        [LADE_BLOCK_IQ4_XS] = OPS(IQ4_XS, panels_plain_wide, WIDE_ZERO(127)),
    };
#undef OPS
    return m->type == LADE_BLOCKS ? &blocks[m->block] : &tiles[m->type == LADE_Q8][m->has_zeros];
}

/* ---- products -------------------------------------------------------------------------------- */

/* The rows of a tile that the matrix has; all of them but at its end. */
ALWAYS_INLINE void copy_rows(float *to, const float *from, const struct lade_matrix *m, int tile)
{
    const int rows = m->rows - tile * LADE_TILE;
    if (rows >= LADE_TILE) /* of constant size: moves instead of a call */
        memcpy(to, from, LADE_TILE * sizeof(*to));
    else
        memcpy(to, from, (size_t)rows * sizeof(*to));
}

/* Few tokens: one after the other; from the second on a tile's weights are in the cache. */
static void int16_gemv(float *y, size_t ldy, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, const void *const *rows, int n,
                       int first, int last, const struct stretch *in)
{
    const struct kind_ops *ops = kind_ops(m);
    for (int t = first; t < last; t++)
        for (int i = 0; i < n; i++) {
            struct row x = row_at(rows[i], cpu_int16_blocks(m->cols));
            _Alignas(64) float out[LADE_TILE];
            ops->gemv(out, m, l, t, in, &x);
            copy_rows(y + (size_t)i * ldy + (size_t)(t - first) * LADE_TILE, out, m, t);
        }
}

/* Tiles [t, t + tiles) of which the panels hold the blocks [b0, b0 + blocks). */
static void panels_product(float *y, size_t ldy, const struct lade_matrix *m,
                           const struct kind_ops *ops, const struct panel *panels,
                           const void *const *rows, int n, int t, int tiles, int b0, int blocks)
{
    const size_t all = cpu_int16_blocks(m->cols);
    for (int at = 0; at < n; at += GEMM_TOKENS, y += GEMM_TOKENS * ldy) {
        struct row x[GEMM_TOKENS];
        vf sums[GEMM_TILES * GEMM_TOKENS * TILE_VECS] = {0};
        float *lanes = (float *)sums;
        const int tokens = cpu_min(GEMM_TOKENS, n - at);
        for (int j = 0; j < tokens; j++)
            x[j] = row_at(rows[at + j], all);
        for (int i = 0; b0 && i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(lanes + (i * tokens + j) * LADE_TILE,
                          y + (size_t)j * ldy + (size_t)i * LADE_TILE, m, t + i);
        ops->panels[tiles - 1][tokens - 1](sums, panels, x, b0, blocks, ops->zero);
        for (int i = 0; i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(y + (size_t)j * ldy + (size_t)i * LADE_TILE,
                          lanes + (i * tokens + j) * LADE_TILE, m, t + i);
    }
}

static void int16_gemm(float *y, size_t ldy, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, const void *const *rows, int n,
                       int first, int last, const void *next)
{
    enum { FEW = 2 };
    const struct stretch in = {cpu_int16_words(m, l, last), next};
    if (n <= FEW) {
        int16_gemv(y, ldy, m, l, rows, n, first, last, &in);
        return;
    }
    const struct kind_ops *ops = kind_ops(m);
    const int all = (m->cols - 1) / CPU_BLOCK + 1;
    for (int t = first; t < last; t += GEMM_TILES) {
        struct panel panels[GEMM_TILES];
        struct source s[GEMM_TILES];
        const int tiles = cpu_min(GEMM_TILES, last - t);
        for (int i = 0; i < tiles; i++)
            s[i] = ops->source(m, l, t + i, &in);
        for (int b = 0; b < all; b += PANEL_BLOCKS) {
            const int blocks = cpu_min(PANEL_BLOCKS, all - b);
            for (int i = 0; i < tiles; i++)
                ops->unpack(&panels[i], &s[i], &in, blocks);
            panels_product(y + (size_t)(t - first) * LADE_TILE, ldy, m, ops, panels, rows, n, t,
                           tiles, b, blocks);
        }
    }
}

static const struct cpu_int16 int16 = {quantize, int16_gemm};
