/* Mixture of experts.
 *
 * The shared expert is one more expert that every token visits. Routes are sorted into groups,
 * one per expert in use; groups larger than GROUP_TOKENS are cut. A first run computes the hidden
 * values of each group, a second one the output columns: a unit of it owns a range of columns and
 * adds the groups in order, so that nothing is added by two threads. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    GROUP_TOKENS = 48,  /* a multiple of every nr; packed inputs stay in the second cache */
    HIDDEN_TILES = 8,   /* few tokens: tiles of gate and up in one unit */
    OUT_TILES = 4,      /* few tokens: tiles of down in one unit */
};

struct group {
    const struct lade_expert *e;
    struct lade_matrix_layout gate, up, down;
    int first, n;       /* its routes in run.token and run.weight */
    int first_unit;     /* few tokens: of the first run */
    size_t hidden;      /* where its hidden values begin */
};

struct run {
    const struct lade_moe *m;
    const struct cpu_isa *isa;
    bool many;                  /* through packed inputs */
    struct group *group;
    int n_groups, units;
    int32_t *token;             /* [routes], sorted by group */
    float *weight;              /* [routes] */
    int32_t *count, *place;     /* [n_experts + 1]: routes and next free place of each */
    float *hidden;
    float *work;                /* [threads][work_size] */
    size_t work_size;
};

/* Rows of hidden values of n tokens: packed blocks are whole. */
static int padded(const struct run *r, int n)
{
    return !r->many ? n : (n + r->isa->nr - 1) / r->isa->nr * r->isa->nr;
}

static int tiles(int rows)
{
    return (rows - 1) / LADE_TILE + 1;
}

static const struct lade_expert *expert(const struct lade_moe *m, int id)
{
    return id == m->n_experts ? m->shared : &m->experts[id];
}

/* Counting sort of the routes by expert; the shared expert comes last. */
static void sort_routes(struct run *r)
{
    const struct lade_moe *m = r->m;
    memset(r->count, 0, ((size_t)m->n_experts + 1) * sizeof(*r->count));
    for (int i = 0; i < m->n * m->k; i++)
        r->count[m->ids[i]] += m->experts[m->ids[i]].gate.data != NULL;
    if (m->shared && m->shared->gate.data)
        r->count[m->n_experts] = m->n;
    for (int e = 0, sum = 0; e <= m->n_experts; e++) {
        r->place[e] = sum;
        sum += r->count[e];
    }
    for (int t = 0; t < m->n; t++) {
        for (int j = 0; j < m->k; j++) {
            int id = m->ids[t * m->k + j];
            if (!r->count[id])
                continue;
            r->token[r->place[id]] = t;
            r->weight[r->place[id]++] = m->weights[t * m->k + j];
        }
        if (!r->count[m->n_experts])
            continue;
        const float *x = m->x + (size_t)t * (size_t)m->dim;
        float gate = m->shared_gate ? r->isa->dot(m->shared_gate, x, m->dim) : 0;
        r->token[r->place[m->n_experts]] = t;
        r->weight[r->place[m->n_experts]++] = m->shared_gate ? 1.0f / (1.0f + expf(-gate)) : 1.0f;
    }
}

static int check_expert(const struct lade_moe *m, struct group *g, char *err)
{
    const struct lade_expert *e = g->e;
    if (lade_matrix_layout(&e->gate, &g->gate))
        return cpu_bad_matrix("moe gate", &e->gate, err);
    if (lade_matrix_layout(&e->up, &g->up))
        return cpu_bad_matrix("moe up", &e->up, err);
    if (lade_matrix_layout(&e->down, &g->down))
        return cpu_bad_matrix("moe down", &e->down, err);
    if (e->gate.cols != m->dim || e->up.cols != m->dim || e->down.rows != m->dim ||
        e->up.rows != e->gate.rows || e->down.cols != e->gate.rows)
        return lade_fail(err, "moe: gate %d x %d, up %d x %d, down %d x %d do not fit; check the "
                         "checkpoint",
                         e->gate.rows, e->gate.cols, e->up.rows, e->up.cols, e->down.rows,
                         e->down.cols);
    return 0;
}

static int make_groups(struct run *r, char *err)
{
    const struct lade_moe *m = r->m;
    size_t hidden = 0;
    for (int e = 0; e <= m->n_experts; e++) {
        for (int done = 0; done < r->count[e]; done += GROUP_TOKENS) {
            struct group *g = &r->group[r->n_groups++];
            *g = (struct group){.e = expert(m, e),
                                .first = r->place[e] - r->count[e] + done,
                                .n = cpu_min(GROUP_TOKENS, r->count[e] - done),
                                .first_unit = r->units,
                                .hidden = hidden};
            if (check_expert(m, g, err))
                return -1;
            r->units += r->many ? 1 : (tiles(g->e->gate.rows) - 1) / HIDDEN_TILES + 1;
            hidden += (size_t)padded(r, g->n) * (size_t)g->e->gate.rows;
        }
    }
    return 0;
}

/* Few tokens, first run: some rows of gate and up of one group. */
static void hidden_few(void *ctx, int unit, int thread)
{
    enum { ROWS = HIDDEN_TILES * LADE_TILE };
    const struct run *r = ctx;
    const struct group *g = r->group + r->n_groups - 1;
    while (g->first_unit > unit)
        g--;
    const struct lade_moe *m = r->m;
    int first = (unit - g->first_unit) * HIDDEN_TILES, ff = g->e->gate.rows;
    int last = cpu_min(first + HIDDEN_TILES, tiles(ff)), row0 = first * LADE_TILE;
    int rows = cpu_min(ROWS, ff - row0);
    float *gate = r->work + (size_t)thread * r->work_size, *up = gate + ROWS;
    for (int i = 0; i < g->n; i++) {
        const float *x = m->x + (size_t)r->token[g->first + i] * (size_t)m->dim;
        r->isa->gemv(gate, 0, &g->e->gate, &g->gate, x, 0, 1, first, last);
        r->isa->gemv(up, 0, &g->e->up, &g->up, x, 0, 1, first, last);
        r->isa->swiglu(r->hidden + g->hidden + (size_t)i * (size_t)ff + row0, gate, up, rows);
    }
}

/* Few tokens, second run: some output columns of all groups. */
static void out_few(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct lade_moe *m = r->m;
    int first = unit * OUT_TILES, last = cpu_min(first + OUT_TILES, tiles(m->dim));
    int row0 = first * LADE_TILE, rows = cpu_min(OUT_TILES * LADE_TILE, m->dim - row0);
    float *out = r->work + (size_t)thread * r->work_size;
    for (int i = 0; i < r->n_groups; i++) {
        const struct group *g = &r->group[i];
        for (int j = 0; j < g->n; j++) {
            const float *h = r->hidden + g->hidden + (size_t)j * (size_t)g->e->gate.rows;
            r->isa->gemv(out, 0, &g->e->down, &g->down, h, 0, 1, first, last);
            r->isa->axpy(m->y + (size_t)r->token[g->first + j] * (size_t)m->dim + row0,
                         r->weight[g->first + j], out, rows);
        }
    }
}

/* Many tokens, first run: all hidden values of one group, packed for the second. */
static void hidden_many(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct group *g = &r->group[unit];
    const struct lade_moe *m = r->m;
    int ff = g->e->gate.rows, pw = r->isa->pw;
    size_t rows = (size_t)padded(r, g->n);
    float *xp = r->work + (size_t)thread * r->work_size, *panel = xp + rows * (size_t)m->dim;
    float *gate = panel + (size_t)m->dim * (size_t)pw, *up = gate + rows * (size_t)pw;
    float *h = up + rows * (size_t)pw;
    r->isa->pack(xp, m->x, (size_t)m->dim, r->token + g->first, g->n, m->dim);
    for (int row0 = 0; row0 < ff; row0 += pw) {
        r->isa->gemm(gate, (size_t)pw, &g->e->gate, &g->gate, row0, xp, g->n, panel);
        r->isa->gemm(up, (size_t)pw, &g->e->up, &g->up, row0, xp, g->n, panel);
        for (int t = 0; t < g->n; t++)
            r->isa->swiglu(h + (size_t)t * (size_t)ff + row0, gate + t * pw, up + t * pw,
                           cpu_min(pw, ff - row0));
    }
    r->isa->pack(r->hidden + g->hidden, h, (size_t)ff, NULL, g->n, ff);
}

/* Many tokens, second run: pw output columns of all groups. */
static void out_many(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct lade_moe *m = r->m;
    int pw = r->isa->pw, row0 = unit * pw, rows = cpu_min(pw, m->dim - row0);
    for (int i = 0; i < r->n_groups; i++) {
        const struct group *g = &r->group[i];
        float *panel = r->work + (size_t)thread * r->work_size;
        float *out = panel + (size_t)g->e->gate.rows * (size_t)pw;
        r->isa->gemm(out, (size_t)pw, &g->e->down, &g->down, row0, r->hidden + g->hidden, g->n,
                     panel);
        for (int t = 0; t < g->n; t++)
            r->isa->axpy(m->y + (size_t)r->token[g->first + t] * (size_t)m->dim + row0,
                         r->weight[g->first + t], out + t * pw, rows);
    }
}

/* Upper bounds, so that one commit serves the groups and what they need. */
static int prepare(struct lade_device *dev, struct run *r, char *err)
{
    const struct lade_moe *m = r->m;
    int ff = m->shared && m->shared->gate.data ? m->shared->gate.rows : 0;
    for (int i = 0; i < m->n * m->k; i++) {
        if (m->ids[i] < 0 || m->ids[i] >= m->n_experts)
            return lade_fail(err, "moe: expert %d is not below %d; check the router", m->ids[i],
                             m->n_experts);
        const struct lade_matrix *gate = &m->experts[m->ids[i]].gate;
        ff = gate->data && gate->rows > ff ? gate->rows : ff;
    }
    size_t experts = (size_t)m->n_experts + 1, routes = (size_t)m->n * ((size_t)m->k + 1);
    size_t groups = experts + routes / GROUP_TOKENS;
    groups = groups < routes ? groups : routes;
    size_t rows = routes + (r->many ? groups * (size_t)r->isa->nr : 0);
    size_t dim = (size_t)m->dim, hidden = (size_t)ff, pw = (size_t)r->isa->pw;
    if (r->many) { /* hidden_many() and out_many() */
        size_t first = GROUP_TOKENS * dim + (dim + 2 * GROUP_TOKENS) * pw + GROUP_TOKENS * hidden;
        size_t second = (hidden + GROUP_TOKENS) * pw;
        r->work_size = (first > second ? first : second) / 16 * 16 + 16;
    } else {
        r->work_size = (2 * HIDDEN_TILES + OUT_TILES) * LADE_TILE;
    }
    struct cpu_carve c = {0};
    cpu_carve_add(&c, (void **)&r->group, groups, sizeof(*r->group));
    cpu_carve_add(&c, (void **)&r->token, routes, sizeof(*r->token));
    cpu_carve_add(&c, (void **)&r->weight, routes, sizeof(*r->weight));
    cpu_carve_add(&c, (void **)&r->count, experts, sizeof(*r->count));
    cpu_carve_add(&c, (void **)&r->place, experts, sizeof(*r->place));
    cpu_carve_add(&c, (void **)&r->hidden, rows, hidden * sizeof(float));
    cpu_carve_add(&c, (void **)&r->work, (size_t)dev->threads, r->work_size * sizeof(float));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    sort_routes(r);
    return make_groups(r, err);
}

int cpu_moe(struct lade_device *dev, const struct lade_moe *m, char *err)
{
    if (m->n < 1)
        return 0;
    if (m->k < 0 || m->n_experts < 0 || m->dim < 1 || m->n > INT32_MAX / (m->k + 1))
        return lade_fail(err, "moe: %d tokens of %d with %d of %d experts; check the configuration",
                         m->n, m->dim, m->k, m->n_experts);
    struct run r = {.m = m, .isa = dev->isa, .many = m->n > CPU_DIRECT_N};
    if (prepare(dev, &r, err))
        return -1;
    cpu_pool_run(dev->pool, r.units, r.many ? hidden_many : hidden_few, &r);
    if (r.many)
        cpu_pool_run(dev->pool, (m->dim - 1) / r.isa->pw + 1, out_many, &r);
    else
        cpu_pool_run(dev->pool, (tiles(m->dim) - 1) / OUT_TILES + 1, out_few, &r);
    return 0;
}
