/* int16_product.h - products of tiles with several tokens; included by int16_impl.h. Tiles whose
 * codes are dear to get at are unpacked to *panels* first, bytes of codes and floats of scales that
 * stay in the first cache, and one product serves all these types. */

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
/* ---- products -------------------------------------------------------------------------------- */

/* A product is of GEMM_TILES tiles with 2 to GEMM_TOKENS tokens. */
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

/* A product of GEMM_TILES operands with some tokens. */
struct product {
    struct operand w[GEMM_TILES];
    const struct row *x;
    int b0, blocks; /* of the inputs */
    int step;       /* tiles: blocks of a group */
    int zero;       /* binary logarithm, or -1 */
    float *sums;    /* [GEMM_TILES][tokens][LADE_TILE], added to */
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
                                  int group, const int M)
{
    enum { T = GEMM_TILES };
    const int parts = f.fine ? 2 : 1, quads = 8 / parts;
    const struct row *x = p->x;
    UNROLL(2)
    for (int part = 0; part < parts; part++) {
        vi high[GEMM_SUMS], low[GEMM_SUMS];
        UNROLL(4)
        for (int j = 0; j < M; j++) {
            vi zero = {0};
            if (!f.mins && p->zero >= 0) {
                uint32_t minus = 0;
                for (int i = 0; i < f.blocks; i++)
                    minus += (uint32_t)(f.fine ? x[j].half_minus[2 * (p->b0 + b + i) + part]
                                               : x[j].minus[p->b0 + b + i]);
                zero = ((vi){0} + (int32_t)minus) << p->zero;
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

ALWAYS_INLINE void product_of(const struct product *p, const struct form f, const int M)
{
    enum { T = GEMM_TILES };
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
            operands_times(sum, p, f, b, group, M);
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
typedef product_fn *const *product_table; /* of 2, 3 ... tokens */

#define PRODUCT(name, M, ...)                                                                      \
    static void name##_##M(const struct product *p)                                                \
    {                                                                                              \
        product_of(p, (struct form){__VA_ARGS__}, M);                                              \
    }
#if defined(SIMD_AVX512)
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 2, __VA_ARGS__)                                                                  \
    PRODUCT(name, 3, __VA_ARGS__)                                                                  \
    PRODUCT(name, 4, __VA_ARGS__)                                                                  \
    static product_fn *const name[] = {name##_2, name##_3, name##_4};
#else
#define PRODUCTS(name, ...)                                                                        \
    PRODUCT(name, 2, __VA_ARGS__)                                                                  \
    static product_fn *const name[] = {name##_2};
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
