/* Embedding rows, RMS norm alone and before products, sums. */
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/cpu/cpu.h"

enum { WORDS_AHEAD = 16 }; /* each lies in a line of its own */

static void tiled_row(float *y, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                      int row)
{
    const struct lade_type_info *info = &lade_types[m->type];
    const char *base = m->data;
    size_t tile = (size_t)(row / LADE_TILE), lane = (size_t)(row % LADE_TILE);
    const uint32_t *codes = (const uint32_t *)base + tile * (size_t)l->words * LADE_TILE + lane;
    const uint16_t *scales =
        (const uint16_t *)(base + l->scales) + tile * (size_t)l->groups * LADE_TILE + lane;
    const uint8_t *zeros =
        (const uint8_t *)(base + l->zeros) + tile * (size_t)l->groups * LADE_TILE + lane;
    const uint16_t *order = m->has_order ? (const uint16_t *)(base + l->order) : NULL;
    const uint32_t mask = (1u << info->bits) - 1;
    for (int k = 0, w = 0; k < m->cols; w++) { /* a group is whole words */
        uint32_t word = codes[(size_t)w * LADE_TILE];
        __builtin_prefetch(codes + (size_t)(w + WORDS_AHEAD) * LADE_TILE);
        const int last = cpu_min(k + info->per_word, m->cols);
        size_t g = (size_t)(k / m->group) * LADE_TILE;
        for (; k < last; k++, word >>= info->bits) {
            g = order ? (size_t)order[k] * LADE_TILE : g;
            int zero = m->has_zeros ? zeros[g] : info->zero;
            y[k] = cpu_half(scales[g]) * (float)((int)(word & mask) - zero);
        }
    }
}

static void block_row(float *y, const struct lade_matrix *m, const struct lade_matrix_layout *l,
                      int row)
{
    const struct lade_block_info *b = &lade_blocks[m->block];
    for (int g = 0; g < l->groups; g++) {
        uint8_t block[LADE_BLOCK_BYTES];
        float values[LADE_BLOCK_MAX];
        int k = g * b->n, n = cpu_min(b->n, m->cols - k);
        lade_blocks_get(m, l, row, g, block);
        b->dequantize(block, values);
        memcpy(y + k, values, (size_t)n * sizeof *y);
    }
}

struct embed_run {
    const struct lade_matrix *table;
    const struct lade_matrix_layout *l;
    const int32_t *ids;
    float *y;
    int n;
};

enum { EMBED_ROWS = 4 }; /* of one unit */

static void embed_row(float *y, const struct lade_matrix *table, const struct lade_matrix_layout *l,
                      int row)
{
    const size_t cols = (size_t)table->cols, at = (size_t)row * cols;
    switch (table->type) {
    case LADE_F32:
        memcpy(y, (const float *)table->data + at, cols * sizeof(float));
        break;
    case LADE_F16:
        for (size_t k = 0; k < cols; k++)
            y[k] = cpu_half(((const uint16_t *)table->data)[at + k]);
        break;
    case LADE_BF16:
        for (size_t k = 0; k < cols; k++)
            y[k] = cpu_bf16(((const uint16_t *)table->data)[at + k]);
        break;
    case LADE_BLOCKS:
        block_row(y, table, l, row);
        break;
    default:
        tiled_row(y, table, l, row);
    }
}

static void embed_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct embed_run *r = ctx;
    const int last = cpu_min(r->n, (unit + 1) * EMBED_ROWS);
    for (int t = unit * EMBED_ROWS; t < last; t++)
        embed_row(r->y + (size_t)t * (size_t)r->table->cols, r->table, r->l, r->ids[t]);
}

int cpu_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(table, &l))
        return lade_matrix_bad("embed", table, err);
    for (int t = 0; t < n; t++)
        if (ids[t] < 0 || ids[t] >= table->rows)
            return lade_fail(err, "embed: token %d is not below %d; check the tokenizer", ids[t],
                             table->rows);
    struct embed_run r = {table, &l, ids, y, n};
    cpu_pool_run(dev->pool, (n + EMBED_ROWS - 1) / EMBED_ROWS, embed_unit, &r);
    return 0;
}

struct norm_run {
    const struct cpu_isa *isa;
    float *y, *x;
    const float *add, *w;
    int n, dim;
    float eps;
};

void cpu_norm_row(const struct cpu_isa *isa, float *y, float *x, const float *add, const float *w,
                  int dim, float eps)
{
    if (add)
        isa->axpy(x, 1.0f, add, dim);
    isa->rmsnorm(y, x, w, dim, eps);
}

enum { NORM_ROWS = 8 }; /* of one unit */

static void norm_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct norm_run *r = ctx;
    int last = cpu_min(r->n, (unit + 1) * NORM_ROWS);
    for (int t = unit * NORM_ROWS; t < last; t++) {
        size_t at = (size_t)t * (size_t)r->dim;
        cpu_norm_row(r->isa, r->y + at, r->x + at, r->add ? r->add + at : NULL, r->w, r->dim,
                     r->eps);
    }
}

static void run_norm(struct lade_device *dev, struct norm_run *r)
{
    cpu_pool_run(dev->pool, (r->n + NORM_ROWS - 1) / NORM_ROWS, norm_unit, r);
}

int cpu_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err)
{
    (void)err;
    struct norm_run r = {dev->isa, y, x, add, w, n, dim, eps};
    run_norm(dev, &r);
    return 0;
}

int cpu_project(struct lade_device *dev, const struct lade_project *p, char *err)
{
    struct norm_run r = {dev->isa, p->h, (float *)p->x, NULL, p->norm, p->n, p->dim, p->eps};
    run_norm(dev, &r); /* without `add` it only reads x */
    return cpu_matmul(dev, p->jobs, p->n_jobs, p->n, err);
}

int cpu_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err)
{
    (void)dev, (void)err;
    for (size_t i = 0; i < count; i++)
        y[i] += x[i];
    return 0;
}
