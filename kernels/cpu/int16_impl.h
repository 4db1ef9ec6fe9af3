/* int16_impl.h - products with inputs of 16 bits; included once by each isa_*.c that has dot4().
 *
 * GEMV: one token. Codes go from memory to registers and into the products.
 * GEMM: more tokens. Tiles are unpacked to *panels* first, bytes of codes and floats of scales that
 * stay in the first cache, and one product serves all types. */
#include "kernels/cpu/int16.h"
#include "kernels/cpu/int16_codes.h"

enum { BLOCKS = CPU_ROW_STEP / CPU_BLOCK };

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
    const int32_t *minus, *half_minus;
    const float *sum, *half_sum;
};

ALWAYS_INLINE struct row row_at(const void *data, size_t blocks)
{
    struct row r = {.q = data};
    r.scale = (const float *)(r.q + blocks * (2 * CPU_BLOCK / 4));
    r.minus = (const int32_t *)(r.scale + blocks / BLOCKS);
    r.sum = (const float *)(r.minus + blocks);
    r.half_minus = (const int32_t *)(r.sum + blocks);
    r.half_sum = (const float *)(r.half_minus + 2 * blocks);
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

/* One block; sums are those of its two halves. */
ALWAYS_INLINE void quantize_block(int8_t *q, int32_t sums[2], const float *x, vf inverse,
                                  const enum cpu_order order)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
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
}

/* CPU_ROW_STEP inputs, the n-th of their row. */
static void quantize_step(const struct row *r, size_t n, const float *x, enum cpu_order order)
{
    vf most = {0};
    for (int i = 0; i < CPU_ROW_STEP; i += VL)
        most = vf_max((vf)((vu)vf_load(x + i) & 0x7fffffffu), most);
    const float largest = vf_hmax(most);
    const vf inverse = vf_set1(largest > 0 ? LARGEST / largest : 0);
    ((float *)r->scale)[n] = largest / LARGEST;
    for (size_t b = n * BLOCKS; b < (n + 1) * BLOCKS; b++, x += CPU_BLOCK) {
        int8_t *q = (int8_t *)r->q + b * 2 * CPU_BLOCK;
        int32_t sums[2];
        if (order == CPU_ORDER_Q4)
            quantize_block(q, sums, x, inverse, CPU_ORDER_Q4);
        else
            quantize_block(q, sums, x, inverse, CPU_ORDER_PLAIN);
        ((int32_t *)r->minus)[b] = -(sums[0] + sums[1]);
        ((float *)r->sum)[b] = (float)(sums[0] + sums[1]);
        for (int i = 0; i < 2; i++) {
            ((int32_t *)r->half_minus)[2 * b + (size_t)i] = -sums[i];
            ((float *)r->half_sum)[2 * b + (size_t)i] = (float)sums[i];
        }
    }
}

static void quantize(void *data, const float *x, int k, enum cpu_order order)
{
    const struct row r = row_at(data, cpu_int16_blocks(k));
    const size_t full = (size_t)k / CPU_ROW_STEP, rest = (size_t)k % CPU_ROW_STEP;
    for (size_t n = 0; n < full; n++)
        quantize_step(&r, n, x + n * CPU_ROW_STEP, order);
    if (rest) {
        float part[CPU_ROW_STEP] = {0};
        memcpy(part, x + full * CPU_ROW_STEP, rest * sizeof(float));
        quantize_step(&r, full, part, order);
    }
}

/* ---- one tile -------------------------------------------------------------------------------- */

/* Memory answers so late that what is read must be asked for this many bytes before. */
enum { WORDS_AHEAD = 12 << 10, REST_AHEAD = 512 };

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
        .rest = cpu_int16_rest(m, l, tile),
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

/* sum += block b of the inputs times group g of a block. */
ALWAYS_INLINE void group_times(vf *sum, const enum kind kind, const uint32_t *w,
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
            low[v] = (vi){0};
            if (zero >= 0)
                low[v] = ((vi){0} + (parts == 2 ? x->half_minus[2 * b + p] : x->minus[b])) << zero;
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
            sum[v] = vf_fma(vf_from_int((high[v] << 7) + low[v]), sc.s[p][v], sum[v]);
            if (kind_mins(kind))
                sum[v] = vf_fma(sc.m[p][v],
                                vf_set1(parts == 2 ? -x->half_sum[2 * b + p] : -x->sum[b]), sum[v]);
        }
    }
}

ALWAYS_INLINE void gemv_tile(float *out, const enum kind kind, const struct lade_matrix *m,
                             const struct lade_matrix_layout *l, int tile, const struct stretch *in,
                             const struct row *x)
{
    const int span = kind_span(kind), blocks = (m->cols - 1) / CPU_BLOCK + 1;
    struct source s = source_at(kind, m, l, tile, in);
    vf total[TILE_VECS] = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks;) {
        const vf scale = vf_set1(x->scale[b / BLOCKS]);
        vf sum[TILE_VECS] = {0};
        for (int last = cpu_min(b + BLOCKS, blocks); b < last; b += span) {
            struct head h = {0};
            const uint32_t *w = next_words(kind, &s, spare);
            EACH_VEC read_head(&h, kind, w + v * VL, s.rest, v);
            __builtin_prefetch(s.rest + REST_AHEAD);
            UNROLL(8)
            for (int g = 0; g < span; g++) {
                fetch_ahead(kind, &s, g);
                group_times(sum, kind, w, &h, s.zeros, x, b + g, g);
            }
            next_scales(kind, &s, in);
        }
        EACH_VEC total[v] = vf_fma(sum[v], scale, total[v]);
    }
    EACH_VEC vf_store(out + v * VL, total[v]);
}

/* ---- panels ---------------------------------------------------------------------------------- */

/* Up to PANEL_K inputs of one tile, of a type that is not multiplied as it lies. */
enum { PANEL_K = 1024, PANEL_BLOCKS = PANEL_K / CPU_BLOCK };

struct panel {
    _Alignas(64) uint32_t codes[PANEL_K / 4][LADE_TILE];
    float s[PANEL_BLOCKS * 2][LADE_TILE], m[PANEL_BLOCKS * 2][LADE_TILE];
};

/* Unpacks the next `blocks` blocks of inputs. */
ALWAYS_INLINE void unpack(struct panel *p, const enum kind kind, struct source *s, int blocks)
{
    const int span = kind_span(kind), parts = kind_fine(kind) ? 2 : 1;
    const struct stretch none = {0};
    uint32_t spare[8 * LADE_TILE];
    for (int b = 0; b < blocks; b += span) {
        struct head h = {0};
        const uint32_t *w = next_words(kind, s, spare);
        EACH_VEC read_head(&h, kind, w + v * VL, s->rest, v);
        __builtin_prefetch(s->rest + REST_AHEAD);
        UNROLL(8)
        for (int g = 0; g < span; g++) {
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
        next_scales(kind, s, &none);
    }
}

/* ---- many tokens ----------------------------------------------------------------------------- */

#if defined(SIMD_AVX512)
enum { GEMM_TILES = 2, GEMM_TOKENS = 4 };
#else
enum { GEMM_TILES = 1, GEMM_TOKENS = 2 };
#endif
enum { GEMM_SUMS = GEMM_TILES * GEMM_TOKENS * TILE_VECS };

/* Where codes come from: a panel, or tiles as they lie. */
enum from { FROM_PANEL, FROM_Q4, FROM_Q8 };

/* What a product does, apart from its size. Constant where it is used. */
struct form {
    enum from from;
    bool fine, mins, wide;
    int blocks; /* that share scales: their products are summed as integers */
};

/* One tile, from the first of some blocks on. */
struct operand {
    const uint32_t *codes;
    const float *s, *m;     /* panels: of each block, twice where they are fine */
    const uint16_t *scales; /* tiles: of each group */
    const uint8_t *zeros;
};

/* A product of `tiles` operands with some tokens. */
struct product {
    struct operand w[GEMM_TILES];
    const struct row *x;
    int b0, blocks; /* of the inputs */
    int step;       /* tiles: blocks of a group */
    int zero;       /* binary logarithm, or -1 */
    float *sums;    /* [tiles][tokens][LADE_TILE], added to */
    /* Memory that comes next, fetched meanwhile: so many lines for each block of inputs. */
    const char *ahead[GEMM_TILES];
    int ahead_lines;
};

ALWAYS_INLINE vu codes_at(const struct operand *w, const enum from from, int b, const int i,
                          const int v)
{
    if (from == FROM_Q4)
        return nibbles(vu_load(w->codes + (b * 4 + i / 2) * LADE_TILE + v * VL), i % 2);
    vu c = vu_load(w->codes + (b * 8 + i) * LADE_TILE + v * VL);
    return from == FROM_Q8 && SIGNED8 ? c ^ 0x80808080u : c;
}

/* Scales of block b, those of `part` where they are fine. */
ALWAYS_INLINE void scales_at(vf *s, vf *m, const struct operand *w, const struct form f, int b,
                             int group, const int part, const int v)
{
    if (f.from == FROM_PANEL) {
        const int at = (f.fine ? 2 * b + part : b) * LADE_TILE + v * VL;
        *s = vf_load(w->s + at);
        if (f.mins)
            *m = vf_load(w->m + at);
        return;
    }
    *s = vf_load_f16(w->scales + group * LADE_TILE + v * VL);
    if (f.mins)
        *m = *s * (vf_load_u8(w->zeros + group * LADE_TILE + v * VL) -
                   (f.from == FROM_Q8 && SIGNED8 ? 128.0f : 0.0f));
}

/* sum += blocks [b, b + form.blocks) of all operands and tokens, counted from the product's first. */
ALWAYS_INLINE void operands_times(vf *sum, const struct product *p, const struct form f, int b,
                                  int group, const int T, const int M)
{
    const int parts = f.fine ? 2 : 1, quads = 8 / parts;
    const struct row *x = p->x;
    UNROLL(2)
    for (int part = 0; part < parts; part++) {
        vi high[GEMM_SUMS], low[GEMM_SUMS];
        UNROLL(4)
        for (int j = 0; j < M; j++) {
            vi zero = {0};
            if (!f.mins && p->zero >= 0) {
                int minus = 0;
                for (int i = 0; i < f.blocks; i++)
                    minus += f.fine ? x[j].half_minus[2 * (p->b0 + b + i) + part]
                                    : x[j].minus[p->b0 + b + i];
                zero = ((vi){0} + minus) << p->zero;
            }
            UNROLL(4)
            for (int t = 0; t < T; t++)
                EACH_VEC
                {
                    high[(t * M + j) * TILE_VECS + v] = (vi){0};
                    low[(t * M + j) * TILE_VECS + v] = zero;
                }
        }
        for (int n = 0; n < f.blocks; n++) {
            UNROLL(8)
            for (int k = 0; k < quads; k++) {
                const int i = part * quads + k;
                vu c[GEMM_TILES * TILE_VECS];
                UNROLL(4)
                for (int t = 0; t < T; t++)
                    EACH_VEC c[t * TILE_VECS + v] = codes_at(&p->w[t], f.from, b + n, i, v);
                UNROLL(4)
                for (int j = 0; j < M; j++) {
                    const int32_t *q = x[j].q + ((size_t)(p->b0 + b + n) * 8 + (size_t)i) * 2;
                    vi qh = (vi){0} + q[0], ql = (vi){0} + q[1];
                    UNROLL(4)
                    for (int t = 0; t < T; t++)
                        EACH_VEC
                        {
                            const int at = (t * M + j) * TILE_VECS + v;
                            high[at] = dot4(high[at], c[t * TILE_VECS + v], qh, f.wide);
                            low[at] = dot4(low[at], c[t * TILE_VECS + v], ql, f.wide);
                        }
                }
            }
        }
        UNROLL(4)
        for (int t = 0; t < T; t++)
            EACH_VEC
            {
                vf s, m = {0};
                scales_at(&s, &m, &p->w[t], f, b, group, part, v);
                UNROLL(4)
                for (int j = 0; j < M; j++) {
                    const int at = (t * M + j) * TILE_VECS + v;
                    sum[at] = vf_fma(vf_from_int((high[at] << 7) + low[at]), s, sum[at]);
                    if (f.mins) {
                        float total = 0;
                        for (int i = 0; i < f.blocks; i++)
                            total += f.fine ? x[j].half_sum[2 * (p->b0 + b + i) + part]
                                            : x[j].sum[p->b0 + b + i];
                        sum[at] = vf_fma(m, vf_set1(-total), sum[at]);
                    }
                }
            }
    }
}

ALWAYS_INLINE void product_of(const struct product *p, const struct form f, const int T,
                              const int M)
{
    for (int b = 0, group = 0, until = p->step; b < p->blocks;) {
        vf sum[GEMM_SUMS];
        UNROLL(16)
        for (int i = 0; i < T * M * TILE_VECS; i++)
            sum[i] = (vf){0};
        const int first = b;
        for (int last = cpu_min(b + BLOCKS, p->blocks); b < last; b += f.blocks) {
            for (int i = 0; i < p->ahead_lines * f.blocks; i++)
                UNROLL(2)
            for (int t = 0; t < T; t++)
                __builtin_prefetch(p->ahead[t] + (size_t)(p->ahead_lines * b + i) * 64, 0, 3);
            operands_times(sum, p, f, b, group, T, M);
            if (f.from != FROM_PANEL && (until -= f.blocks) <= 0) {
                until = p->step;
                group++;
            }
        }
        UNROLL(4)
        for (int t = 0; t < T; t++)
            UNROLL(4)
        for (int j = 0; j < M; j++)
            EACH_VEC
            {
                float *to = p->sums + (t * M + j) * LADE_TILE + v * VL;
                vf scale = vf_set1(p->x[j].scale[(p->b0 + first) / BLOCKS]);
                vf_store(to, vf_fma(sum[(t * M + j) * TILE_VECS + v], scale, vf_load(to)));
            }
    }
}

typedef void product_fn(const struct product *p);

#define PRODUCT(name, T, M, ...)                                                                   \
    static void name##_##T##_##M(const struct product *p)                                          \
    {                                                                                              \
        product_of(p, (struct form){__VA_ARGS__}, T, M);                                           \
    }
#if defined(SIMD_AVX512)
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 1, 1, __VA_ARGS__)                                                               \
    PRODUCT(name, 1, 2, __VA_ARGS__)                                                               \
    PRODUCT(name, 1, 3, __VA_ARGS__)                                                               \
    PRODUCT(name, 1, 4, __VA_ARGS__)                                                               \
    PRODUCT(name, 2, 1, __VA_ARGS__)                                                               \
    PRODUCT(name, 2, 2, __VA_ARGS__)                                                               \
    PRODUCT(name, 2, 3, __VA_ARGS__)                                                               \
    PRODUCT(name, 2, 4, __VA_ARGS__)                                                               \
    static product_fn *const name[GEMM_TILES][GEMM_TOKENS] = {                                     \
        {name##_1_1, name##_1_2, name##_1_3, name##_1_4},                                          \
        {name##_2_1, name##_2_2, name##_2_3, name##_2_4},                                          \
    };
#else
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 1, 1, __VA_ARGS__)                                                               \
    PRODUCT(name, 1, 2, __VA_ARGS__)                                                               \
    static product_fn *const name[GEMM_TILES][GEMM_TOKENS] = {{name##_1_1, name##_1_2}};
#endif
#if defined(SIMD_AVX2) && !defined(SIMD_VNNI)
#define WIDE true
#else
#define WIDE false
#endif
/* from, fine, mins, wide, blocks */
PRODUCTS(panel_plain, FROM_PANEL, false, false, false, 1)
PRODUCTS(panel_mins, FROM_PANEL, false, true, false, 1)
PRODUCTS(panel_fine, FROM_PANEL, true, false, false, 1)
PRODUCTS(panel_fine_mins, FROM_PANEL, true, true, false, 1)
PRODUCTS(q4_plain, FROM_Q4, false, false, false, 1)
PRODUCTS(q4_mins, FROM_Q4, false, true, false, 1)
PRODUCTS(q8_plain, FROM_Q8, false, false, WIDE, 1)
PRODUCTS(q8_mins, FROM_Q8, false, true, WIDE, 1)
PRODUCTS(q4_plain_long, FROM_Q4, false, false, false, 4)
PRODUCTS(q8_plain_long, FROM_Q8, false, false, WIDE, 4)
#if defined(SIMD_AVX2) && !defined(SIMD_VNNI)
PRODUCTS(panel_plain_wide, FROM_PANEL, false, false, true, 1)
PRODUCTS(panel_mins_wide, FROM_PANEL, false, true, true, 1)
#else
#define panel_plain_wide panel_plain
#define panel_mins_wide  panel_mins
#endif

/* ---- the table of types ---------------------------------------------------------------------- */

typedef product_fn *const product_table[GEMM_TOKENS];

struct kind_ops {
    void (*gemv)(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                 int tile, const struct stretch *in, const struct row *x);
    struct source (*source)(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                            int tile, const struct stretch *in);
    void (*unpack)(struct panel *p, struct source *s, int blocks);
    product_table *panel;          /* product with unpacked codes */
    product_table *direct, *whole; /* with codes as they lie; with those of whole groups of 128 */
    int words, span, zero;
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
    static void unpack_##name(struct panel *p, struct source *s, int blocks)                       \
    {                                                                                              \
        unpack(p, KIND_##name, s, blocks);                                                         \
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

static struct kind_ops kind_ops(const struct lade_matrix *m)
{
#define OPS(name, panel, direct, whole)                                                            \
    {                                                                                              \
        gemv_##name, source_##name, unpack_##name, panel, direct, whole, kind_words(KIND_##name),  \
            kind_span(KIND_##name), kind_zero(KIND_##name)                                         \
    }
#define CASE(name, panel)                                                                          \
    case LADE_BLOCK_##name:                                                                        \
        return (struct kind_ops)OPS(name, panel, NULL, NULL)
    if (m->type == LADE_Q4)
        return m->has_zeros ? (struct kind_ops)OPS(Q4_ZEROS, panel_mins, q4_mins, NULL)
                            : (struct kind_ops)OPS(Q4, panel_plain, q4_plain, q4_plain_long);
    if (m->type == LADE_Q8)
        return m->has_zeros ? (struct kind_ops)OPS(Q8_ZEROS, panel_mins_wide, q8_mins, NULL)
                            : (struct kind_ops)OPS(Q8, panel_plain_wide, q8_plain, q8_plain_long);
    switch (m->block) {
        CASE(Q4_1, panel_mins);
        CASE(Q5_0, panel_plain);
        CASE(Q5_1, panel_mins);
        CASE(IQ4_NL, panel_plain_wide);
        CASE(MXFP4, panel_plain);
        CASE(Q2_K, panel_fine_mins);
        CASE(Q3_K, panel_fine);
        CASE(Q5_K, panel_mins);
        CASE(Q6_K, panel_fine);
        CASE(IQ4_XS, panel_plain_wide);
    default:
        return (struct kind_ops)OPS(Q4_K, panel_mins, NULL, NULL);
    }
#undef CASE
#undef OPS
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

/* One call of int16_gemm(). */
struct call {
    const struct lade_matrix *m;
    const struct lade_matrix_layout *l;
    struct kind_ops ops;
    const void *const *rows;
    int n, first, last;
    float *y;
    size_t ldy;
    struct stretch in;
};

/* Few tokens: one after the other; from the second on a tile's weights are in the cache. */
static void call_gemv(const struct call *c)
{
    for (int t = c->first; t < c->last; t++)
        for (int i = 0; i < c->n; i++) {
            struct row x = row_at(c->rows[i], cpu_int16_blocks(c->m->cols));
            _Alignas(64) float out[LADE_TILE];
            c->ops.gemv(out, c->m, c->l, t, &c->in, &x);
            copy_rows(c->y + (size_t)i * c->ldy + (size_t)(t - c->first) * LADE_TILE, out, c->m, t);
        }
}

/* All tokens times some blocks of the tiles [t, t + tiles). The first tokens bring in what comes
 * after. */
static void call_product(const struct call *c, struct product *p, product_table *table, int t,
                         int tiles)
{
    const size_t all = cpu_int16_blocks(c->m->cols);
    const int turns =
        (c->n - 1) / GEMM_TOKENS + 1; /* of about the same size: single tokens are slow */
    p->ahead_lines = (p->ahead_lines - 1) / turns + 1;
    for (int turn = 0; turn < turns; turn++) {
        const int at = c->n * turn / turns, tokens = c->n * (turn + 1) / turns - at;
        _Alignas(64) float sums[GEMM_TILES * GEMM_TOKENS * LADE_TILE] = {0};
        struct row x[GEMM_TOKENS];
        float *y = c->y + (size_t)at * c->ldy + (size_t)(t - c->first) * LADE_TILE;
        for (int j = 0; j < tokens; j++)
            x[j] = row_at(c->rows[at + j], all);
        for (int i = 0; p->b0 && i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(sums + (i * tokens + j) * LADE_TILE,
                          y + (size_t)j * c->ldy + (size_t)i * LADE_TILE, c->m, t + i);
        p->x = x;
        p->sums = sums;
        table[tiles - 1][tokens - 1](p);
        for (int i = 0; i < tiles; i++)
            p->ahead[i] += (size_t)(p->ahead_lines * p->blocks) * 64;
        for (int i = 0; i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(y + (size_t)j * c->ldy + (size_t)i * LADE_TILE,
                          sums + (i * tokens + j) * LADE_TILE, c->m, t + i);
    }
}

/* What will be read when the tiles from t on are done, tile i of them. */
static const char *words_after(const struct call *c, int t, int i)
{
    const char *words = cpu_int16_words(c->m, c->l, t + i);
    if (t < c->last)
        return words;
    return c->in.next ? c->in.next + (words - c->in.end) : words;
}

static void call_direct(const struct call *c, product_table *table, int step)
{
    for (int t = c->first; t < c->last; t += GEMM_TILES) {
        const int tiles = cpu_min(GEMM_TILES, c->last - t);
        struct product p = {.blocks = c->m->cols / CPU_BLOCK,
                            .step = step,
                            .zero = c->ops.zero,
                            .ahead_lines = c->ops.words};
        for (int i = 0; i < tiles; i++) {
            const struct source s = c->ops.source(c->m, c->l, t + i, &c->in);
            p.w[i] = (struct operand){.codes = s.words,
                                      .scales = (const uint16_t *)(const void *)s.rest,
                                      .zeros = s.zeros};
            p.ahead[i] = words_after(c, t + GEMM_TILES, i);
        }
        call_product(c, &p, table, t, tiles);
    }
}

static void call_panels(const struct call *c)
{
    const int all = (c->m->cols - 1) / CPU_BLOCK + 1;
    for (int t = c->first; t < c->last; t += GEMM_TILES) {
        struct panel panels[GEMM_TILES];
        struct source s[GEMM_TILES];
        const int tiles = cpu_min(GEMM_TILES, c->last - t);
        for (int i = 0; i < tiles; i++)
            s[i] = c->ops.source(c->m, c->l, t + i, &c->in);
        for (int b = 0; b < all; b += PANEL_BLOCKS) {
            struct product p = {.b0 = b,
                                .blocks = cpu_min(PANEL_BLOCKS, all - b),
                                .zero = c->ops.zero,
                                .ahead_lines = (c->ops.words - 1) / c->ops.span + 1};
            for (int i = 0; i < tiles; i++) {
                c->ops.unpack(&panels[i], &s[i], p.blocks);
                p.w[i] = (struct operand){
                    .codes = panels[i].codes[0], .s = panels[i].s[0], .m = panels[i].m[0]};
                p.ahead[i] = b + PANEL_BLOCKS < all ? (const char *)s[i].words
                                                    : words_after(c, t + GEMM_TILES, i);
            }
            call_product(c, &p, c->ops.panel, t, tiles);
        }
    }
}

/* Asks for the first scales of what comes next; its words are asked for in turn. */
static const char *begin_of(struct cpu_int16_next next)
{
    if (!next.w)
        return NULL;
    const char *rest = cpu_int16_rest(next.w, next.l, next.tile);
    for (int i = 0; i < REST_AHEAD; i += 64)
        __builtin_prefetch(rest + i);
    return cpu_int16_words(next.w, next.l, next.tile);
}

static void int16_gemm(float *y, size_t ldy, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, const void *const *rows, int n,
                       int first, int last, struct cpu_int16_next next)
{
    enum { FEW = 2, WHOLE = 4 * CPU_BLOCK };
    const struct call c = {.m = m,
                           .l = l,
                           .ops = kind_ops(m),
                           .rows = rows,
                           .n = n,
                           .first = first,
                           .last = last,
                           .y = y,
                           .ldy = ldy,
                           .in = {cpu_int16_words(m, l, last), begin_of(next)}};
    const bool one_group = m->group >= m->cols;
    if (n <= FEW)
        call_gemv(&c);
    else if (c.ops.whole && m->cols % WHOLE == 0 && (one_group || m->group % WHOLE == 0))
        call_direct(&c, c.ops.whole, one_group ? INT32_MAX : m->group / CPU_BLOCK);
    else if (c.ops.direct && m->cols % CPU_BLOCK == 0)
        call_direct(&c, c.ops.direct, one_group ? INT32_MAX : m->group / CPU_BLOCK);
    else
        call_panels(&c);
}

static const struct cpu_int16 int16 = {quantize, int16_gemm};
