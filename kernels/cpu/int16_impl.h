/* int16_impl.h - products with inputs of 16 bits; included once by each isa_*.c that has dot4().
 * int16_rows.h rounds inputs, int16_codes.h knows the types, int16_steps.h has instructions for AVX-512,
 * int16_tile.h multiplies one token, int16_direct.h, int16_stream.h and int16_six.h some, int16_product.h
 * many, int16_floats.h weights that are floats; int16_words.h, int16_attention.h and int16_part.h attend. Here
 * each type gets its functions and a call is cut into them. */
#include "kernels/cpu/int16.h"
#include "kernels/cpu/int16_codes.h"
#include "kernels/cpu/int16_rows.h"

#if defined(SIMD_AVX512)
#include "kernels/cpu/int16_steps.h"
#endif

#include "kernels/cpu/int16_tile.h"

#include "kernels/cpu/int16_product.h"

#include "kernels/cpu/int16_direct.h"

#include "kernels/cpu/int16_stream.h"

#include "kernels/cpu/int16_six.h"

#if defined(SIMD_NEON)
#define products_Q3_K products_fine
#define products_Q4_K products_mins
#define products_Q6_K products_fine
#else
#define products_Q3_K products_plain
#define products_Q4_K products_folded
#define products_Q6_K products_full
#endif

/* ---- the table of types ---------------------------------------------------------------------- */

struct kind_ops {
    void (*gemv)(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                 int tile, const struct stretch *in, const struct row *x);
    struct source (*source)(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                            int tile, const struct stretch *in);
    direct_table direct; /* without a panel: of 1, 2 ... most_direct tokens, in one or two packs */
    int most_direct;
    void (*unpack)(struct panel *p, struct source *s, int blocks);
    product_table products;
};

#define KIND(name, products, ...)                                                                  \
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
    static void direct1_##name(float *out, const struct lade_matrix *m,                            \
                               const struct lade_matrix_layout *l, int tile,                       \
                               const struct stretch *in, const struct record *const x[2])          \
    {                                                                                              \
        direct_tile(out, KIND_##name, m, l, tile, in, x[0], 1);                                    \
    }                                                                                              \
    static void direct2_##name(float *out, const struct lade_matrix *m,                            \
                               const struct lade_matrix_layout *l, int tile,                       \
                               const struct stretch *in, const struct record *const x[2])          \
    {                                                                                              \
        direct_tile(out, KIND_##name, m, l, tile, in, x[0], 2);                                    \
    }                                                                                              \
    static direct_fn *const direct_##name[] = {direct1_##name, direct2_##name, __VA_ARGS__};       \
    static void unpack_##name(struct panel *p, struct source *s, int blocks)                       \
    {                                                                                              \
        unpack(p, KIND_##name, s, blocks);                                                         \
    }                                                                                              \
    static const struct kind_ops ops_##name = {gemv_##name,                                        \
                                               source_##name,                                      \
                                               direct_##name,                                      \
                                               sizeof(direct_##name) / sizeof(*direct_##name),     \
                                               unpack_##name,                                      \
                                               products};
KIND(Q4, products_plain, TABLE_TO_12(Q4))
KIND(Q4_ZEROS, products_mins)
KIND(Q8, products_plain, TABLE_TO_12(Q8))
KIND(Q8_ZEROS, products_mins)
KIND(Q4_1, products_mins)
KIND(Q5_0, products_plain)
KIND(Q5_1, products_mins)
KIND(IQ4_NL, products_plain)
KIND(MXFP4, products_plain)
KIND(Q2_K, products_fine_mins)
KIND(Q3_K, products_Q3_K)
KIND(Q4_K, products_Q4_K, TABLE_TO_12(Q4_K))
KIND(Q5_K, products_mins)
KIND(Q6_K, products_Q6_K, TABLE_TO_7(Q6_K))
KIND(IQ4_XS, products_plain)
KIND(IQ1_S, products_plain)
KIND(IQ1_M, products_fine)
KIND(IQ2_XXS, products_plain)
KIND(IQ2_XS, products_fine)
KIND(IQ2_S, products_fine)
KIND(IQ3_XXS, products_plain)
KIND(IQ3_S, products_plain)
#undef KIND

static const struct kind_ops *kind_ops(const struct lade_matrix *m)
{
#define CASE(name)                                                                                 \
    case LADE_BLOCK_##name:                                                                        \
        return &ops_##name
    if (m->type == LADE_Q4)
        return m->has_zeros ? &ops_Q4_ZEROS : &ops_Q4;
    if (m->type == LADE_Q8)
        return m->has_zeros ? &ops_Q8_ZEROS : &ops_Q8;
    switch (m->block) {
        CASE(Q4_1);
        CASE(Q5_0);
        CASE(Q5_1);
        CASE(IQ4_NL);
        CASE(MXFP4);
        CASE(Q2_K);
        CASE(Q3_K);
        CASE(Q5_K);
        CASE(Q6_K);
        CASE(IQ4_XS);
        CASE(IQ1_S);
        CASE(IQ1_M);
        CASE(IQ2_XXS);
        CASE(IQ2_XS);
        CASE(IQ2_S);
        CASE(IQ3_XXS);
        CASE(IQ3_S);
    default:
        return &ops_Q4_K;
    }
#undef CASE
}

/* ---- few tokens ------------------------------------------------------------------------------ */

/* The rows of a tile that the matrix has; all of them but at its end. */
ALWAYS_INLINE void copy_rows(float *to, const float *from, const struct lade_matrix *m, int tile)
{
    const int rows = m->rows - tile * LADE_TILE;
    if (rows >= LADE_TILE) /* of constant size: moves instead of a call */
        memcpy(to, from, LADE_TILE * sizeof(*to));
    else
        memcpy(to, from, (size_t)rows * sizeof(*to));
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

/* One token after the other; from the second on a tile's weights are in the cache. */
static void int16_gemv(float *y, size_t ldy, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, const void *const *rows, int n,
                       int first, int last, struct cpu_int16_next next)
{
    const struct kind_ops *ops = kind_ops(m);
    const struct stretch in = {cpu_int16_words(m, l, last), begin_of(next)};
    for (int t = first; t < last; t++)
        for (int i = 0; i < n; i++) {
            struct row x = row_at(rows[i], cpu_int16_blocks(m->cols));
            _Alignas(64) float out[LADE_TILE];
            ops->gemv(out, m, l, t, &in, &x);
            copy_rows(y + (size_t)i * ldy + (size_t)(t - first) * LADE_TILE, out, m, t);
        }
}

/* ---- many tokens ----------------------------------------------------------------------------- */

/* One call of int16_gemm(). */
struct call {
    struct cpu_int16_rows to;
    const struct lade_matrix *m;
    const struct lade_matrix_layout *l;
    const struct kind_ops *ops;
    const char *packs;
    int n, first, last;
    struct stretch in;
};

/* Where token j's results of a tile go. */
ALWAYS_INLINE float *row_of(const struct call *c, int j, int tile)
{
    const size_t row = (size_t)(c->to.row ? c->to.row[j] : j);
    return c->to.y + row * c->to.ld + (size_t)(tile - c->first) * LADE_TILE;
}

/* Puts all tokens' results of a tile, `step` floats apart, where they are to be, as far as the matrix has the
 * tile's rows. What they are added to is read for all of them first: rows are so far apart that the processor
 * takes what one load reads for what the store before it wrote, and waits. */
ALWAYS_INLINE void put_rows(const struct call *c, int tile, float *sums, size_t step)
{
    const int rows = cpu_min(LADE_TILE, c->m->rows - tile * LADE_TILE);
    for (int j = 0; c->to.weight && j < c->n; j++) {
        const float *before = row_of(c, j, tile), weight = c->to.weight[j];
        float *sum = sums + (size_t)j * step;
        if (rows == LADE_TILE)
            EACH_VEC vf_store(sum + v * VL, vf_fma(vf_set1(weight), vf_load(sum + v * VL),
                                                   vf_load(before + v * VL)));
        for (int i = 0; rows < LADE_TILE && i < rows; i++)
            sum[i] = fmaf(weight, sum[i], before[i]);
    }
    for (int j = 0; j < c->n; j++)
        copy_rows(row_of(c, j, tile), sums + (size_t)j * step, c->m, tile);
}

/* Whether products of GEMM_TILES tiles can store their results where they are to be. */
ALWAYS_INLINE bool stores_rows(const struct call *c, int tile)
{
    return !c->to.row && !c->to.weight && tile + GEMM_TILES <= c->last &&
           (tile + GEMM_TILES) * LADE_TILE <= c->m->rows;
}

enum { SUMS = GEMM_TILES * LADE_TILE }; /* of a token */

/* All tokens times panel n of the inputs, while `lines` of each tile that comes next are fetched. */
static void times_panels(const struct call *c, struct product *p, int n, int lines, int tile,
                         bool last, float *sums)
{
    static const float none[GEMM_TOKENS * SUMS];
    const size_t row = cpu_pack_bytes(c->m->cols);
    const int packs = cpu_packs(c->n, GEMM_TOKENS);
    const bool stores = last && stores_rows(c, tile);
    p->ahead_lines = (lines + packs * p->blocks - 1) / (packs * p->blocks);
    p->step = stores ? c->to.ld : SUMS;
    for (int i = 0, at = 0, then; i < packs; i++, at = then) {
        then = cpu_pack_begin(c->n, packs, i + 1);
        const int m = then - at;
        const char *x = c->packs + (size_t)at * row + (size_t)(n * BLOCKS * m) * CPU_RECORD;
        p->x = (const struct record *)(const void *)x;
        p->before = n ? sums + at * SUMS : none;
        p->to = stores ? row_of(c, at, tile) : sums + at * SUMS;
        for (int j = at; last && j < then; j++)
            for (int t = 0; t < GEMM_TILES; t++)
                __builtin_prefetch(row_of(c, j, tile + t));
        c->ops->products[m - 1](p);
        for (int t = 0; t < GEMM_TILES; t++)
            p->ahead[t] += (size_t)(p->ahead_lines * p->blocks) * 64;
        lines -= p->ahead_lines * p->blocks;
        if (lines <= 0)
            p->ahead_lines = 0;
    }
}

/* Puts the sums of tiles [t, t + GEMM_TILES), as far as there are so many, where they are to be, if they are not
 * there already. */
static void put_tiles(const struct call *c, int t, float *sums)
{
    const int last = cpu_min(c->last, (c->m->rows - 1) / LADE_TILE + 1);
    for (int i = 0; !stores_rows(c, t) && i < cpu_min(GEMM_TILES, last - t); i++)
        put_rows(c, t + i, sums + i * LADE_TILE, SUMS);
}

/* Panels are unpacked faster than memory answers: what the one so many panels later is made of is
 * asked for. */
enum { PANELS_AHEAD = 3 };

/* The words of the panel of tile t's inputs from `at` bytes on; past the call's tiles those of what
 * comes next. */
static const char *words_of(const struct call *c, int t, size_t at)
{
    const char *words = (const char *)cpu_int16_words(c->m, c->l, t) + at;
    return t >= c->last && c->in.next ? c->in.next + (words - c->in.end) : words;
}

/* Tiles [t, t + GEMM_TILES), as far as there are so many, times all tokens. */
static void times_tiles(const struct call *c, int t, float *sums)
{
    const int all = (c->m->cols - 1) / CPU_BLOCK + 1, steps = (all - 1) / BLOCKS + 1;
    struct panel panels[GEMM_TILES];
    struct source s[GEMM_TILES];
    const int tiles = cpu_min(GEMM_TILES, c->last - t);
    for (int i = 0; i < GEMM_TILES; i++) /* one too many is computed for nobody */
        s[i] = c->ops->source(c->m, c->l, i < tiles ? t + i : t, &c->in);
    for (int n = 0; n < steps; n++) {
        struct product p = {.w = panels, .blocks = cpu_min(BLOCKS, all - n * BLOCKS)};
        const uint32_t *words = s[0].words;
        for (int i = 0; i < GEMM_TILES; i++)
            c->ops->unpack(&panels[i], &s[i], p.blocks);
        const int lines = (int)(s[0].words - words) / LADE_TILE;
        const int then = n + PANELS_AHEAD;
        for (int i = 0; i < GEMM_TILES; i++)
            p.ahead[i] =
                words_of(c, t + i + then / steps * GEMM_TILES, (size_t)(then % steps * lines) * 64);
        times_panels(c, &p, n, lines, t, n == steps - 1, sums);
    }
}

/* Tiles [t, t + GEMM_TILES), as far as there are so many, where tokens are many. */
static void rows_by_panels(const struct call *c, int t)
{
    _Alignas(64) float sums[CPU_MANY * SUMS];
    times_tiles(c, t, sums);
    put_tiles(c, t, sums);
}

/* Tile t, where they are few. */
static void rows_directly(const struct call *c, int t)
{
    _Alignas(64) float out[STREAM_TOKENS * LADE_TILE];
    const int packs = cpu_packs(c->n, GEMM_TOKENS), first = cpu_pack_begin(c->n, packs, 1);
    const char *second = c->packs + (size_t)first * cpu_pack_bytes(c->m->cols);
    const struct record *x[2] = {(const struct record *)(const void *)c->packs,
                                 (const struct record *)(const void *)second};
    for (int j = 0; j < c->n; j++)
        __builtin_prefetch(row_of(c, j, t), 1, 2);
    c->ops->direct[c->n - 1](out, c->m, c->l, t, &c->in, x);
    put_rows(c, t, out, LADE_TILE);
}

static void int16_gemm(struct cpu_int16_rows to, const struct lade_matrix *m,
                       const struct lade_matrix_layout *l, const void *packs, int n, int first,
                       int last, struct cpu_int16_next next)
{
    const struct call c = {.to = to,
                           .m = m,
                           .l = l,
                           .ops = kind_ops(m),
                           .packs = packs,
                           .n = n,
                           .first = first,
                           .last = last,
                           .in = {cpu_int16_words(m, l, last), begin_of(next)}};
    const bool many = n > c.ops->most_direct;
    for (int t = first; t < last; t += many ? GEMM_TILES : 1)
        if (many)
            rows_by_panels(&c, t);
        else
            rows_directly(&c, t);
}

static bool int16_direct(const struct lade_matrix *m, int n)
{
    return n >= 2 && n <= kind_ops(m)->most_direct;
}

#include "kernels/cpu/int16_floats.h"

#include "kernels/cpu/int16_words.h"

#include "kernels/cpu/int16_attention.h"

#include "kernels/cpu/int16_part.h"

static const struct cpu_int16 int16 = {.pack = GEMM_TOKENS,
                                       .quantize = quantize,
                                       .gemv = int16_gemv,
                                       .quantize_packed = quantize_packed,
                                       .gather = gather,
                                       .direct = int16_direct,
                                       .gemm = int16_gemm,
                                       .floats = INT16_FLOATS,
                                       .attend_block = INT16_ATTEND_BLOCK,
                                       .part_heads = HEADS,
                                       .attend_part = INT16_ATTEND_PART};
