/* Matrix products, each in the form that suits it:
 *
 * GEMV    a few tokens: each weight is read once from memory and used for all in registers, or, for
 *         twice as many, once more from the cache
 * PACKED  many tokens: panels of the matrix become floats in the cache and go through a
 *         register-blocked product, with the inputs packed once beforehand
 * INT16   devices that need not be exact: inputs are rounded to 16 bits once, products are integer;
 *         ROWS of a few tokens go through a tile one after the other, PACKS all at once
 */
#include "kernels/cpu/cpu.h"

enum {
    MAX_JOBS = 7,          /* jobs of one run; more go in turns */
    GEMV_BYTES = 48 << 10, /* of weights in one unit: long reads, yet many units */
    PACK_ROWS = 48,        /* tokens of one packing unit, a multiple of every nr */
    QUANTIZE_ROWS = 4,
    PANEL_TOKENS = 96,  /* tokens that share one panel where there are few panels */
    INT16_TOKENS = 128, /* most of one unit: their inputs stay in the second cache */
    INT16_TILES = 32,
};

enum form { GEMV, PACKED, INT16_ROWS, INT16_PACKS };

/* Inputs in the form a kernel wants; jobs that read the same ones share them. */
struct input {
    enum form form;
    enum cpu_order order; /* INT16_* */
    const float *x;
    int cols, first_unit;
    char *data; /* PACKED: packed floats; INT16_*: quantized rows, or packs of each unit's tokens */
    const void **rows; /* INT16_ROWS: each one's row in data */
};

struct job {
    struct lade_matmul m;
    struct lade_matrix_layout l;
    enum form form;
    int input;
    int first_unit, tiles, tokens, columns; /* of one unit; units that make a row of units */
};

struct run {
    const struct cpu_isa *isa;
    struct job job[MAX_JOBS];
    struct input input[MAX_JOBS];
    int n_jobs, n_inputs, n, units;
    bool few;     /* tokens */
    int together; /* INT16_PACKS: tokens of one unit */
    float *panel; /* [threads][panel_size] */
    size_t panel_size;
};

static int row_tiles(const struct lade_matrix *w)
{
    return (w->rows - 1) / LADE_TILE + 1;
}

static void quantize_token(const struct run *r, const struct input *in, int t)
{
    const struct cpu_int16 *int16 = r->isa->int16;
    const float *x = in->x + (size_t)t * (size_t)in->cols;
    if (in->form == INT16_ROWS) {
        in->rows[t] = in->data + (size_t)t * cpu_int16_bytes(in->cols);
        int16->quantize((void *)in->rows[t], x, in->cols, in->order);
        return;
    }
    const int begin = t / r->together * r->together, n = cpu_min(r->together, r->n - begin);
    size_t step;
    char *to = cpu_pack_token(in->data + (size_t)begin * cpu_pack_bytes(in->cols), in->cols, n,
                              int16->pack, t - begin, &step);
    int16->quantize_packed(to, step, x, in->cols, in->order);
}

static void prepare_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct input *in = r->input + r->n_inputs - 1;
    while (in->first_unit > unit)
        in--;
    size_t k = (size_t)in->cols;
    if (in->form == PACKED) {
        int first = (unit - in->first_unit) * PACK_ROWS;
        r->isa->pack((float *)in->data + (size_t)first * k, in->x + (size_t)first * k, k, NULL,
                     cpu_min(PACK_ROWS, r->n - first), in->cols);
        return;
    }
    int first = (unit - in->first_unit) * QUANTIZE_ROWS;
    for (int t = first; t < cpu_min(first + QUANTIZE_ROWS, r->n); t++)
        quantize_token(r, in, t);
}

static const struct job *job_of(const struct run *r, int unit)
{
    const struct job *j = r->job + r->n_jobs - 1;
    while (j->first_unit > unit)
        j--;
    return j;
}

/* Some units of a job from `at` on, all in one row of units. */
static void product(const struct run *r, const struct job *j, int at, int units, int thread)
{
    const struct lade_matrix *w = j->m.w;
    const struct input *in = &r->input[j->input];
    size_t rows = (size_t)w->rows, cols = (size_t)w->cols;
    int first = at % j->columns * j->tiles;
    int t = at / j->columns * j->tokens, n = cpu_min(j->tokens, r->n - t);
    int last = cpu_min(first + units * j->tiles, row_tiles(w));
    float *y = j->m.y + (size_t)t * rows + (size_t)first * LADE_TILE;
    if (j->form == GEMV)
        for (int i = 0; i < n; i += CPU_DIRECT_N)
            r->isa->gemv(y + (size_t)i * rows, rows, w, &j->l, j->m.x + (size_t)i * cols, cols,
                         cpu_min(CPU_DIRECT_N, n - i), first, last);
    else if (j->form == INT16_ROWS)
        r->isa->int16->gemv(y, rows, w, &j->l, in->rows + t, n, first, last,
                            (struct cpu_int16_next){0});
    else if (j->form == INT16_PACKS)
        r->isa->int16->gemm((struct cpu_int16_rows){.y = y, .ld = rows}, w, &j->l,
                            in->data + (size_t)t * cpu_pack_bytes(w->cols), n, first, last,
                            (struct cpu_int16_next){0});
    else
        r->isa->gemm(y, rows, w, &j->l, first * LADE_TILE,
                     (const float *)in->data + (size_t)t * cols, n,
                     r->panel + (size_t)thread * r->panel_size);
}

static void product_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct job *j = job_of(r, unit);
    product(r, j, unit - j->first_unit, 1, thread);
}

/* Few tokens: a job has one row of units. */
static void product_range(void *ctx, int first, int last, int thread)
{
    const struct run *r = ctx;
    for (int u = first; u < last;) {
        const struct job *j = job_of(r, u);
        const int at = u - j->first_unit, units = cpu_min(last - u, j->columns - at);
        product(r, j, at, units, thread);
        u += units;
    }
}

/* Finds or adds the inputs of a job. */
static int input_of(struct run *r, const struct job *j)
{
    enum cpu_order order = cpu_int16_order(j->m.w);
    int i = 0;
    for (; i < r->n_inputs; i++) {
        const struct input *in = &r->input[i];
        if (in->x == j->m.x && in->cols == j->m.w->cols && in->form == j->form &&
            (j->form == PACKED || in->order == order))
            return i;
    }
    r->input[r->n_inputs++] =
        (struct input){.form = j->form, .order = order, .x = j->m.x, .cols = j->m.w->cols};
    return i;
}

static enum form form_of(const struct lade_device *dev, const struct run *r,
                         const struct lade_matrix *w)
{
    if (cpu_fast(dev, w))
        return !r->few || r->isa->int16->direct(w, r->n) ? INT16_PACKS : INT16_ROWS;
    return r->n <= 2 * CPU_DIRECT_N ? GEMV : PACKED;
}

/* Decides each job's form and the size of its units. */
static int plan(struct lade_device *dev, struct run *r, const struct lade_matmul *jobs, char *err)
{
    for (int i = 0; i < r->n_jobs; i++) {
        struct job *j = &r->job[i];
        j->m = jobs[i];
        if (lade_matrix_layout(j->m.w, &j->l))
            return lade_matrix_bad("matmul", j->m.w, err);
        int tiles = row_tiles(j->m.w);
        size_t tile_bytes = j->l.bytes / (size_t)tiles + 1;
        int some = tile_bytes >= GEMV_BYTES / 2 ? 2 : (int)(GEMV_BYTES / tile_bytes) / 2 * 2;
        j->form = form_of(dev, r, j->m.w);
        j->input = j->form == GEMV ? 0 : input_of(r, j);
        j->tokens = r->n;
        j->tiles = some;
        if (j->form == INT16_PACKS && !r->few) {
            j->tiles = INT16_TILES;
            j->tokens = r->together;
        } else if (j->form == PACKED) {
            int panels = (j->m.w->rows - 1) / r->isa->pw + 1;
            size_t size = (size_t)j->m.w->cols * (size_t)r->isa->pw;
            r->panel_size = size > r->panel_size ? size : r->panel_size;
            j->tiles = r->isa->pw / LADE_TILE;
            j->tokens = panels >= 4 * dev->threads ? r->n : cpu_min(r->n, PANEL_TOKENS);
        }
        j->columns = (tiles - 1) / j->tiles + 1;
        j->first_unit = r->units;
        r->units += j->columns * ((r->n - 1) / j->tokens + 1);
    }
    return 0;
}

static int prepare_inputs(struct lade_device *dev, struct run *r, char *err)
{
    struct cpu_carve c = {0};
    int units = 0;
    cpu_carve_add(&c, (void **)&r->panel, (size_t)dev->threads * sizeof(float), r->panel_size);
    for (int i = 0; i < r->n_inputs; i++) {
        struct input *in = &r->input[i];
        size_t n = (size_t)r->n, packed = n + (size_t)r->isa->nr; /* whole blocks */
        bool int16 = in->form != PACKED, rows = in->form == INT16_ROWS;
        int step = int16 ? QUANTIZE_ROWS : PACK_ROWS;
        size_t row = rows ? cpu_int16_bytes(in->cols) : cpu_pack_bytes(in->cols);
        cpu_carve_add(&c, (void **)&in->data, int16 ? n : packed * sizeof(float),
                      int16 ? row : (size_t)in->cols);
        cpu_carve_add(&c, (void **)&in->rows, rows ? n : 0, sizeof(*in->rows));
        in->first_unit = units;
        units += (r->n - 1) / step + 1;
    }
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, units, prepare_unit, r);
    return 0;
}

/* ---- what comes next ------------------------------------------------------------------------- */

void cpu_soon(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs)
{
    dev->n_soon = cpu_min(n_jobs, CPU_SOON);
    for (int i = 0; i < dev->n_soon; i++)
        dev->soon[i] = *jobs[i].w;
}

void cpu_soon_tiles(struct lade_device *dev, int thread, const struct lade_matrix *w, int first)
{
    struct lade_matrix_layout l;
    if (!w->data || lade_matrix_layout(w, &l))
        return;
    const size_t tiles = (size_t)row_tiles(w), at = (size_t)first;
    const size_t words = l.scales ? l.scales : l.bytes; /* in front of everything else */
    const size_t rest = l.scales ? (l.zeros ? l.zeros : l.bytes) - l.scales : 0;
    const char *data = w->data;
    cpu_pool_soon(dev->pool, thread,
                  (struct cpu_stretch[CPU_STRETCHES]){
                      {data + words / tiles * at, words / tiles * (tiles - at)},
                      {data + l.scales + rest / tiles * at, rest / tiles * (tiles - at)}});
}

void cpu_soon_now(struct lade_device *dev)
{
    int all = 0;
    for (int i = 0; i < dev->n_soon; i++)
        all += row_tiles(&dev->soon[i]);
    for (int t = 0; t < dev->threads; t++) {
        int tile = cpu_pool_begins(all, dev->threads, t);
        for (int i = 0; i < dev->n_soon; i++) {
            const int tiles = row_tiles(&dev->soon[i]);
            if (tile < tiles) {
                cpu_soon_tiles(dev, t, &dev->soon[i], tile);
                break;
            }
            tile -= tiles;
        }
    }
    dev->n_soon = 0;
}

int cpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err)
{
    for (; n_jobs > MAX_JOBS; jobs += MAX_JOBS, n_jobs -= MAX_JOBS)
        if (cpu_matmul(dev, jobs, MAX_JOBS, n, err))
            return -1;
    if (n_jobs < 1 || n < 1)
        return 0;
    struct run r = {.isa = dev->isa, .n_jobs = n_jobs, .n = n, .few = n <= CPU_DIRECT_N};
    const int turns = (n - 1) / INT16_TOKENS + 1;
    r.together = (n - 1) / turns + 1;
    if (plan(dev, &r, jobs, err) || (r.n_inputs && prepare_inputs(dev, &r, err)))
        return -1;
    cpu_soon_now(dev);
    if (r.few)
        cpu_pool_run_ranges(dev->pool, r.units, product_range, &r);
    else
        cpu_pool_run(dev->pool, r.units, product_unit, &r);
    return 0;
}
