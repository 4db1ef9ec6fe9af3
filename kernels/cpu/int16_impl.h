/* int16_impl.h - products with inputs of 16 bits; included once by each isa_*.c that has dot4().
 * int16_rows.h rounds inputs, int16_codes.h knows the types, int16_tile.h multiplies one
 * token, int16_product.h several; here each type gets its functions and a call is cut into them. */
#include "kernels/cpu/int16.h"
#include "kernels/cpu/int16_codes.h"
#include "kernels/cpu/int16_rows.h"

#include "kernels/cpu/int16_tile.h"

#include "kernels/cpu/int16_product.h"

/* ---- the table of types ---------------------------------------------------------------------- */

struct kind_ops {
    void (*gemv)(float *out, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                 int tile, const struct stretch *in, const struct row *x);
    struct source (*source)(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                            int tile, const struct stretch *in);
    void (*unpack)(struct panel *p, struct source *s, int blocks);
    product_table panel;         /* product with unpacked codes */
    product_table direct, whole; /* with codes as they lie; with those of whole groups of 128 */
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
static void call_product(const struct call *c, struct product *p, product_table table, int t,
                         int tiles)
{
    const size_t all = cpu_int16_blocks(c->m->cols);
    for (int i = tiles; i < GEMM_TILES; i++) { /* computed again, for nobody */
        p->w[i] = p->w[0];
        p->ahead[i] = p->ahead[0];
    }
    const int turns =
        (c->n - 1) / GEMM_TOKENS + 1; /* of about the same size: single tokens are slow */
    p->ahead_lines = (p->ahead_lines - 1) / turns + 1;
    for (int turn = 0; turn < turns; turn++) {
        const int at = c->n * turn / turns, tokens = c->n * (turn + 1) / turns - at;
        const int m = tokens > 2 ? tokens : 2;
        _Alignas(64) float sums[GEMM_TILES * GEMM_TOKENS * LADE_TILE] = {0};
        struct row x[GEMM_TOKENS];
        float *y = c->y + (size_t)at * c->ldy + (size_t)(t - c->first) * LADE_TILE;
        for (int j = 0; j < m; j++) {
            const void *row = c->rows[at + (j < tokens ? j : 0)];
            x[j] = row_at(row, all);
        }
        for (int i = 0; p->b0 && i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(sums + (i * m + j) * LADE_TILE,
                          y + (size_t)j * c->ldy + (size_t)i * LADE_TILE, c->m, t + i);
        p->x = x;
        p->sums = sums;
        table[m - 2](p);
        for (int i = 0; i < GEMM_TILES; i++)
            p->ahead[i] += (size_t)(p->ahead_lines * p->blocks) * 64;
        for (int i = 0; i < tiles; i++)
            for (int j = 0; j < tokens; j++)
                copy_rows(y + (size_t)j * c->ldy + (size_t)i * LADE_TILE,
                          sums + (i * m + j) * LADE_TILE, c->m, t + i);
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

static void call_direct(const struct call *c, product_table table, int step)
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
