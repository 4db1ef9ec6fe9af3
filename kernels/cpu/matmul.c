/* Matrix products.
 *
 * A few tokens: each weight is read once from memory and used for all of them in registers
 * (gemv). Many tokens: panels of the matrix become floats in the cache and go through a
 * register-blocked product (gemm), with the inputs packed once beforehand. */
#include "kernels/cpu/cpu.h"

enum {
    MAX_JOBS = 16,           /* jobs of one run; more go in turns */
    GEMV_BYTES = 48 << 10,   /* of weights in one unit: long reads, yet many units */
    PACK_ROWS = 48,          /* tokens of one packing unit, a multiple of every nr */
    PANEL_TOKENS = 96,       /* tokens that share one panel where there are few panels */
};

struct job {
    struct lade_matmul m;
    struct lade_matrix_layout l;
    const float *xp;         /* packed inputs */
    int first_unit, step;    /* step: tiles (gemv) or tokens (gemm) of one unit */
};

struct run {
    const struct cpu_isa *isa;
    struct job job[MAX_JOBS];
    int n_jobs, n, units;
    float *panel;            /* [threads][max cols * pw] */
    size_t panel_size;
};

static const struct job *job_of(const struct run *r, int unit)
{
    const struct job *j = r->job + r->n_jobs - 1;
    while (j->first_unit > unit)
        j--;
    return j;
}

static int row_tiles(const struct lade_matrix *w)
{
    return (w->rows - 1) / LADE_TILE + 1;
}

static void gemv_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct job *j = job_of(r, unit);
    const struct lade_matrix *w = j->m.w;
    int first = (unit - j->first_unit) * j->step;
    int last = cpu_min(first + j->step, row_tiles(w));
    r->isa->gemv(j->m.y + (size_t)first * LADE_TILE, (size_t)w->rows, w, &j->l, j->m.x,
                 (size_t)w->cols, r->n, first, last);
}

static void run_gemv(struct lade_device *dev, struct run *r)
{
    for (int i = 0; i < r->n_jobs; i++) {
        struct job *j = &r->job[i];
        int tiles = row_tiles(j->m.w);
        size_t tile_bytes = j->l.bytes / (size_t)tiles + 1;
        j->step = tile_bytes >= GEMV_BYTES ? 1 : (int)(GEMV_BYTES / tile_bytes);
        j->first_unit = r->units;
        r->units += (tiles + j->step - 1) / j->step;
    }
    cpu_pool_run(dev->pool, r->units, gemv_unit, r);
}

static void pack_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct job *j = job_of(r, unit);
    int first = (unit - j->first_unit) * PACK_ROWS, k = j->m.w->cols;
    r->isa->pack((float *)j->xp + (size_t)first * (size_t)k, j->m.x + (size_t)first * (size_t)k,
                 (size_t)k, NULL, cpu_min(PACK_ROWS, r->n - first), k);
}

static void gemm_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct job *j = job_of(r, unit);
    const struct lade_matrix *w = j->m.w;
    int panels = (w->rows - 1) / r->isa->pw + 1, at = unit - j->first_unit;
    int row0 = at % panels * r->isa->pw, first = at / panels * j->step;
    r->isa->gemm(j->m.y + (size_t)first * (size_t)w->rows + row0, (size_t)w->rows, w, &j->l, row0,
                 j->xp + (size_t)first * (size_t)w->cols, cpu_min(j->step, r->n - first),
                 r->panel + (size_t)thread * r->panel_size);
}

/* Shares of the packed inputs: jobs with the same x and width read one copy. */
static int carve_packed(struct run *r, struct cpu_carve *c, void **packed)
{
    int copies = 0, nr = r->isa->nr;
    for (int i = 0; i < r->n_jobs; i++) {
        int twin = 0;
        while (r->job[twin].m.x != r->job[i].m.x || r->job[twin].m.w->cols != r->job[i].m.w->cols)
            twin++;
        r->job[i].step = twin == i ? copies++ : r->job[twin].step;
    }
    for (int i = 0, next = 0; i < r->n_jobs; i++) {
        if (r->job[i].step < next)
            continue;
        cpu_carve_add(c, &packed[next++], ((size_t)r->n + (size_t)nr) * sizeof(float),
                      (size_t)r->job[i].m.w->cols);
    }
    return copies;
}

static int run_gemm(struct lade_device *dev, struct run *r, char *err)
{
    struct cpu_carve c = {0};
    void *packed[MAX_JOBS - 1];
    for (int i = 0; i < r->n_jobs; i++) {
        size_t size = (size_t)r->job[i].m.w->cols * (size_t)r->isa->pw;
        r->panel_size = size > r->panel_size ? size : r->panel_size;
    }
    cpu_carve_add(&c, (void **)&r->panel, (size_t)dev->threads * sizeof(float), r->panel_size);
    int copies = carve_packed(r, &c, packed);
    if (cpu_carve_commit(dev, &c, err))
        return -1;

    struct run packing = {.isa = r->isa, .n = r->n};
    for (int i = 0, next = 0; i < r->n_jobs && next < copies; i++) {
        if (r->job[i].step < next)
            continue;
        struct job *p = &packing.job[packing.n_jobs++];
        *p = r->job[i];
        p->xp = packed[next++];
        p->first_unit = packing.units;
        packing.units += (r->n + PACK_ROWS - 1) / PACK_ROWS;
    }
    cpu_pool_run(dev->pool, packing.units, pack_unit, &packing);

    for (int i = 0; i < r->n_jobs; i++) {
        struct job *j = &r->job[i];
        int panels = (j->m.w->rows - 1) / r->isa->pw + 1;
        j->xp = packed[j->step];
        j->step = panels >= 4 * dev->threads ? r->n : PANEL_TOKENS;
        j->first_unit = r->units;
        r->units += panels * ((r->n + j->step - 1) / j->step);
    }
    cpu_pool_run(dev->pool, r->units, gemm_unit, r);
    return 0;
}

int cpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err)
{
    enum { TURN = MAX_JOBS - 1 }; /* packed inputs and the panel fill the carve table */
    for (; n_jobs > TURN; jobs += TURN, n_jobs -= TURN)
        if (cpu_matmul(dev, jobs, TURN, n, err))
            return -1;
    struct run r = {.isa = dev->isa, .n_jobs = n_jobs, .n = n};
    for (int i = 0; i < n_jobs; i++) {
        r.job[i].m = jobs[i];
        if (lade_matrix_layout(jobs[i].w, &r.job[i].l))
            return cpu_bad_matrix("matmul", jobs[i].w, err);
    }
    if (n_jobs < 1 || n < 1)
        return 0;
    if (n > CPU_DIRECT_N)
        return run_gemm(dev, &r, err);
    run_gemv(dev, &r);
    return 0;
}
