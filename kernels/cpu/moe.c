/* Mixture of experts.
 *
 * The shared expert is one more expert that every token visits. Routes are sorted into groups,
 * one per expert in use (cut where they are large). The first run computes the hidden values of
 * each group. In the second a unit owns a range of output columns and adds the groups in order,
 * so that no sum depends on the threads. Each group takes the form of product that suits it, as
 * in matmul.c; its weights are read once in each run.
 *
 * With few tokens only the reading counts, and memory reads long stretches faster: units then
 * follow the weights of each expert, all of gate, all of up, all of down, and what belongs
 * together (gate and up, the outputs of a token) is joined in small runs of its own.
 *
 * With many tokens and integer products a unit of the first run is all of a group: its tokens' inputs
 * are copied to packs once, and what it leaves are packs of hidden values. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    PACKED_TOKENS = 48, /* most tokens of a group: a multiple of every nr; the packed inputs stay */
    INT16_TOKENS = 60,  /* in the second cache; a multiple of most packs */
    HIDDEN_TILES = 8,   /* of gate and up in one unit of the first run; few tokens: of either */
    OUT_TILES = 16,     /* few tokens: of down in one unit */
    JOIN_ROWS = 512,    /* few tokens: output columns of one unit that adds them up */
    OUT_ROWS = 512,     /* most output columns of one unit of the second run */
    OUT_STEP = 64,      /* they are a multiple of this, which is one of every pw */
    OUT_UNITS = 2,      /* such units of a thread at least, where there are columns enough */
    INPUT_ROWS = 4,
};

enum form { GEMV, PACKED, INT16 };

struct group {
    const struct lade_expert *e;
    struct lade_matrix_layout gate, up, down;
    enum form form;
    int first, n;   /* its routes: [first, first + n) of the sorted ones */
    int first_unit; /* of the first run */
    size_t hidden;  /* where its hidden values begin, in floats */
};

struct run {
    const struct lade_moe *m;
    const struct cpu_isa *isa;
    struct group *group;
    int n_groups, units, n_routes;
    int32_t *token;         /* [routes], sorted by group */
    float *weight;          /* [routes] */
    int32_t *count, *place; /* [n_experts + 1]: routes and next free place of each */
    bool few;               /* tokens */
    int out_rows;           /* many tokens: output columns of one unit */
    float *hidden;          /* rows of each group; PACKED: packed; few tokens: gate */
    float *up, *out;        /* few tokens: rows of each group, [routes][dim] */
    size_t hidden_floats;
    bool needs[CPU_N_ORDERS];      /* INT16: which orders of the inputs */
    char *x[CPU_N_ORDERS];         /* INT16: [n] quantized inputs */
    char *h;                       /* INT16: [routes] quantized hidden values; many: packs */
    size_t h_bytes;                /* of one row of h */
    const void **x_rows, **h_rows; /* INT16, few tokens: [routes] */
    float *work;                   /* [threads][work_size] */
    size_t work_size;
};

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
    for (int i = 0; i < m->n * m->k; i++) { /* entries far apart: asked for all at once */
        const char *entry = (const char *)&m->experts[m->ids[i]];
        for (size_t at = 0; at < sizeof(struct lade_expert); at += LADE_ALIGN)
            __builtin_prefetch(entry + at);
    }
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
        r->token[r->place[m->n_experts]++] = t; /* with the weight that inputs_unit() finds */
    }
}

static int check_expert(const struct lade_moe *m, struct group *g, char *err)
{
    struct lade_matrix_layout layout[3];
    if (lade_matrix_expert(&g->e->gate, &g->e->up, &g->e->down, m->dim, layout, err))
        return -1;
    g->gate = layout[0];
    g->up = layout[1];
    g->down = layout[2];
    return 0;
}

/* Units of the first run: ranges of hidden values, or with few tokens of one of gate and up. */
static int hidden_units(const struct group *g)
{
    return (tiles(g->e->gate.rows) - 1) / HIDDEN_TILES + 1;
}

/* Cuts the routes of one expert into groups and adds up the memory they need. */
static int add_groups(struct lade_device *dev, struct run *r, int id, char *err)
{
    const struct lade_moe *m = r->m;
    struct group g = {.e = expert(m, id)};
    if (!g.e)
        return 0; /* no shared expert */
    if (check_expert(m, &g, err))
        return -1;
    const struct lade_expert *e = g.e;
    size_t ff = (size_t)e->gate.rows, dim = (size_t)m->dim, pw = (size_t)r->isa->pw, work = 0;
    bool fast = cpu_fast(dev, &e->gate) && cpu_fast(dev, &e->up) && cpu_fast(dev, &e->down) &&
                cpu_int16_order(&e->gate) == cpu_int16_order(&e->up);
    g.form = fast ? INT16 : r->count[id] <= CPU_DIRECT_N ? GEMV : PACKED;
    const bool whole = g.form == PACKED || (fast && !r->few); /* one unit in the first run */
    int most = fast ? INT16_TOKENS : PACKED_TOKENS;
    most = (r->count[id] - 1) / ((r->count[id] - 1) / most + 1) + 1; /* of about the same size */
    int nr = g.form == PACKED ? r->isa->nr : 1;
    for (int done = 0; done < r->count[id]; done += most) {
        g.first = r->place[id] - r->count[id] + done;
        g.n = cpu_min(most, r->count[id] - done);
        g.first_unit = r->units;
        g.hidden = r->hidden_floats;
        if (!fast || r->few)
            r->hidden_floats += (size_t)((g.n + nr - 1) / nr * nr) * ff;
        r->units += whole ? 1 : hidden_units(&g) << r->few;
        r->n_routes += g.n;
        r->group[r->n_groups++] = g;
    }
    if (fast) {
        r->needs[cpu_int16_order(&e->gate)] = true;
        size_t bytes = r->few ? cpu_int16_bytes(e->gate.rows) : cpu_pack_bytes(e->gate.rows);
        r->h_bytes = bytes > r->h_bytes ? bytes : r->h_bytes;
        work = r->few ? 0 : INT16_TOKENS * (cpu_pack_bytes(m->dim) / sizeof(float) + 2 * ff);
    } else if (g.form == GEMV) { /* hidden_rows() and copies of tokens */
        work = CPU_DIRECT_N * (HIDDEN_TILES * LADE_TILE + dim);
    } else { /* hidden_packed() and out_group() */
        size_t n = PACKED_TOKENS, first = n * dim + (dim + 2 * n) * pw + n * ff;
        size_t second = ff * pw + n * (size_t)r->out_rows;
        work = first > second ? first : second;
    }
    r->work_size = work > r->work_size ? work : r->work_size;
    return 0;
}

/* The begin of a group's gate, of the next group's where g is the one before. */
static struct cpu_int16_next gate_of(const struct run *r, const struct group *g)
{
    if (g < r->group + r->n_groups)
        return (struct cpu_int16_next){&g->e->gate, &g->gate, 0};
    return (struct cpu_int16_next){0};
}

/* Tiles [first, last) of gate or up times the tokens of a group, which is not packed. */
static void rows_of(const struct run *r, const struct group *g, bool up, int first, int last,
                    float *y, size_t ldy, float *work, struct cpu_int16_next next)
{
    const struct lade_matrix *w = up ? &g->e->up : &g->e->gate;
    const struct lade_matrix_layout *l = up ? &g->up : &g->gate;
    const size_t dim = (size_t)r->m->dim;
    if (g->form == INT16) {
        r->isa->int16->gemv(y, ldy, w, l, r->x_rows + g->first, g->n, first, last, next);
        return;
    }
    const float *x = r->m->x + (size_t)r->token[g->first] * dim;
    for (int i = 0; g->n > 1 && i < g->n; i++)
        memcpy(work + (size_t)i * dim, r->m->x + (size_t)r->token[g->first + i] * dim,
               dim * sizeof(float));
    r->isa->gemv(y, ldy, w, l, g->n > 1 ? work : x, dim, g->n, first, last);
}

/* GEMV: some rows of gate and up of one group. */
static void hidden_rows(const struct run *r, const struct group *g, int unit, float *work)
{
    const int ff = g->e->gate.rows, first = unit * HIDDEN_TILES;
    const int last = cpu_min(first + HIDDEN_TILES, tiles(ff)), row0 = first * LADE_TILE;
    const int rows = cpu_min(HIDDEN_TILES * LADE_TILE, ff - row0);
    float *gate = r->hidden + g->hidden + row0, *up = work;
    work += CPU_DIRECT_N * HIDDEN_TILES * LADE_TILE;
    rows_of(r, g, false, first, last, gate, (size_t)ff, work, (struct cpu_int16_next){0});
    rows_of(r, g, true, first, last, up, (size_t)rows, work, (struct cpu_int16_next){0});
    for (int i = 0; i < g->n; i++, gate += ff, up += rows)
        r->isa->swiglu(gate, gate, up, rows);
}

/* INT16, many tokens: all hidden values of one group. */
static void hidden_int16(const struct run *r, const struct group *g, float *work)
{
    const struct cpu_int16 *int16 = r->isa->int16;
    const struct lade_expert *e = g->e;
    const int ff = e->gate.rows, dim = r->m->dim;
    char *packs = (char *)work;
    float *gate = work + INT16_TOKENS * cpu_pack_bytes(dim) / sizeof(*work);
    float *up = gate + (size_t)g->n * (size_t)ff;
    int16->gather(packs, r->x[cpu_int16_order(&e->gate)], r->token + g->first, g->n, dim);
    int16->gemm((struct cpu_int16_rows){.y = gate, .ld = (size_t)ff}, &e->gate, &g->gate, packs,
                g->n, 0, tiles(ff), (struct cpu_int16_next){&e->up, &g->up, 0});
    int16->gemm((struct cpu_int16_rows){.y = up, .ld = (size_t)ff}, &e->up, &g->up, packs, g->n, 0,
                tiles(ff), gate_of(r, g + 1));
    for (int i = 0; i < g->n; i++, gate += ff, up += ff) {
        size_t step;
        char *to =
            cpu_pack_token(r->h + (size_t)g->first * r->h_bytes, ff, g->n, int16->pack, i, &step);
        r->isa->swiglu(gate, gate, up, ff);
        int16->quantize_packed(to, step, gate, ff, cpu_int16_order(&e->down));
    }
}

/* Few tokens: some rows of either gate or up; finish_hidden() joins them. */
static void hidden_few(const struct run *r, const struct group *g, int unit, float *work)
{
    const bool up = unit >= hidden_units(g);
    const int ff = g->e->gate.rows, first = unit % hidden_units(g) * HIDDEN_TILES;
    const int last = cpu_min(first + HIDDEN_TILES, tiles(ff));
    const struct cpu_int16_next after = {up ? &g->e->up : &g->e->gate, up ? &g->up : &g->gate,
                                         last};
    const struct cpu_int16_next then =
        up ? gate_of(r, g + 1) : (struct cpu_int16_next){&g->e->up, &g->up, 0};
    rows_of(r, g, up, first, last, (up ? r->up : r->hidden) + g->hidden + first * LADE_TILE,
            (size_t)ff, work, last < tiles(ff) ? after : then);
}

/* Many tokens: all hidden values of one group, packed for the second run. */
static void hidden_packed(const struct run *r, const struct group *g, float *work)
{
    const struct lade_moe *m = r->m;
    int ff = g->e->gate.rows, pw = r->isa->pw;
    float *xp = work, *panel = xp + (size_t)PACKED_TOKENS * (size_t)m->dim;
    float *gate = panel + (size_t)m->dim * (size_t)pw, *up = gate + PACKED_TOKENS * pw;
    float *h = up + PACKED_TOKENS * pw;
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

static void hidden_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct group *g = r->group + r->n_groups - 1;
    while (g->first_unit > unit)
        g--;
    float *work = r->work + (size_t)thread * r->work_size;
    if (r->few)
        hidden_few(r, g, unit - g->first_unit, work);
    else if (g->form == PACKED)
        hidden_packed(r, g, work);
    else if (g->form == INT16)
        hidden_int16(r, g, work);
    else
        hidden_rows(r, g, unit - g->first_unit, work);
}

static void hidden_range(void *ctx, int first, int last, int thread)
{
    for (int u = first; u < last; u++)
        hidden_unit(ctx, u, thread);
}

/* What a thread reads after tiles [first, last) of a group's `down`: the same ones of the next group,
 * at last those that follow in the first. */
static struct cpu_int16_next next_down(const struct run *r, const struct group *g, int first,
                                       int last)
{
    bool more = g + 1 < r->group + r->n_groups;
    const struct group *next = more ? g + 1 : r->group;
    if (!more && last >= tiles(next->e->down.rows))
        return (struct cpu_int16_next){0};
    return (struct cpu_int16_next){&next->e->down, &next->down, more ? first : last};
}

/* Output columns [row0, row0 + rows) of one group's routes, added to y. */
static void out_group(const struct run *r, const struct group *g, int row0, int rows, float *work)
{
    const struct lade_matrix *down = &g->e->down;
    const float *h = r->hidden + g->hidden;
    const int first = row0 / LADE_TILE, last = first + tiles(rows);
    const size_t dim = (size_t)r->m->dim, ldy = (size_t)rows;
    const struct cpu_int16_rows to = {r->m->y + row0, dim, r->token + g->first,
                                      r->weight + g->first};
    if (g->form == INT16) {
        r->isa->int16->gemm(to, down, &g->down, r->h + (size_t)g->first * r->h_bytes, g->n, first,
                            last, next_down(r, g, first, last));
        return;
    }
    if (g->form == GEMV)
        r->isa->gemv(work, ldy, down, &g->down, h, (size_t)down->cols, g->n, first, last);
    else
        for (int at = 0; at < rows; at += r->isa->pw)
            r->isa->gemm(work + at, ldy, down, &g->down, row0 + at, h, g->n,
                         work + PACKED_TOKENS * r->out_rows);
    for (int t = 0; t < g->n; t++)
        r->isa->axpy(to.y + (size_t)to.row[t] * dim, to.weight[t], work + (size_t)t * ldy, rows);
}

static void out_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const int row0 = unit * r->out_rows, rows = cpu_min(r->out_rows, r->m->dim - row0);
    for (int i = 0; i < r->n_groups; i++)
        out_group(r, &r->group[i], row0, rows, r->work + (size_t)thread * r->work_size);
}

/* Few tokens: some rows of one group's `down`. */
static void out_few(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const int dim = r->m->dim, all = tiles(dim), per = (all - 1) / OUT_TILES + 1;
    const struct group *g = &r->group[unit / per];
    const struct lade_matrix *down = &g->e->down;
    const int first = unit % per * OUT_TILES, last = cpu_min(first + OUT_TILES, all);
    float *out = r->out + (size_t)g->first * (size_t)dim + first * LADE_TILE;
    struct cpu_int16_next next = {down, &g->down, last};
    if (last == all && g + 1 < r->group + r->n_groups)
        next = (struct cpu_int16_next){&g[1].e->down, &g[1].down, 0};
    else if (last == all)
        next.w = NULL;
    if (g->form == INT16)
        r->isa->int16->gemv(out, (size_t)dim, down, &g->down, r->h_rows + g->first, g->n, first,
                            last, next);
    else
        r->isa->gemv(out, (size_t)dim, down, &g->down, r->hidden + g->hidden, (size_t)down->cols,
                     g->n, first, last);
}

static void out_range(void *ctx, int first, int last, int thread)
{
    for (int u = first; u < last; u++)
        out_few(ctx, u, thread);
}

/* Few tokens: adds up some columns, in the order of the experts. */
static void join_few(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const size_t dim = (size_t)r->m->dim, col = (size_t)unit * JOIN_ROWS;
    for (int i = 0; i < r->n_routes; i++)
        r->isa->axpy(r->m->y + (size_t)r->token[i] * dim + col, r->weight[i],
                     r->out + (size_t)i * dim + col, cpu_min(JOIN_ROWS, (int)(dim - col)));
}

/* What some tokens need before the first run: weights of the shared expert, rounded inputs. */
static void inputs_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct lade_moe *m = r->m;
    const struct cpu_int16 *int16 = r->isa->int16;
    const size_t bytes = r->few ? cpu_int16_bytes(m->dim) : cpu_pack_bytes(m->dim);
    const int shared = r->place[m->n_experts] - r->count[m->n_experts];
    for (int t = unit * INPUT_ROWS; t < cpu_min(m->n, (unit + 1) * INPUT_ROWS); t++) {
        const float *x = m->x + (size_t)t * (size_t)m->dim;
        if (r->count[m->n_experts]) /* by all tokens, in order */
            r->weight[shared + t] =
                m->shared_gate ? 1.0f / (1.0f + expf(-r->isa->dot(m->shared_gate, x, m->dim)))
                               : 1.0f;
        for (int o = 0; o < CPU_N_ORDERS; o++) {
            char *to = r->x[o] + (size_t)t * bytes;
            if (r->needs[o] && r->few)
                int16->quantize(to, x, m->dim, (enum cpu_order)o);
            else if (r->needs[o])
                int16->quantize_packed(to, CPU_RECORD, x, m->dim, (enum cpu_order)o);
        }
    }
}

/* Few tokens: what the second run needs of a group. */
static void finish_hidden(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct group *g = &r->group[unit];
    int ff = g->e->gate.rows;
    float *gate = r->hidden + g->hidden;
    for (int i = 0; i < g->n; i++, gate += ff) {
        char *row = r->h + (size_t)(g->first + i) * r->h_bytes;
        r->isa->swiglu(gate, gate, r->up + (gate - r->hidden), ff);
        if (g->form != INT16)
            continue;
        r->isa->int16->quantize(row, gate, ff, cpu_int16_order(&g->e->down));
        r->h_rows[g->first + i] = row;
    }
}

static int check_ids(const struct lade_moe *m, char *err)
{
    if (m->k < 0 || m->n_experts < 0 || m->dim < 1 || m->n > INT32_MAX / (m->k + 1))
        return lade_fail(err, "moe: %d tokens of %d with %d of %d experts; check the configuration",
                         m->n, m->dim, m->k, m->n_experts);
    for (int i = 0; i < m->n * m->k; i++)
        if (m->ids[i] < 0 || m->ids[i] >= m->n_experts)
            return lade_fail(err, "moe: expert %d is not below %d; check the router", m->ids[i],
                             m->n_experts);
    return 0;
}

static bool is_fast(const struct run *r)
{
    return r->needs[CPU_ORDER_PLAIN] || r->needs[CPU_ORDER_Q4];
}

/* Few tokens, two threads: the second one begins with the shared expert, which it can fetch while the
 * first one still finds out which others are used (engine/model/forward.c tells). */
static void shared_in_the_middle(struct run *r)
{
    const int last = r->n_groups - 1, at = last / 2;
    const struct group shared = r->group[last];
    memmove(r->group + at + 1, r->group + at, (size_t)(last - at) * sizeof(shared));
    r->group[at] = shared;
    for (int i = at, unit = r->group[cpu_min(at + 1, last)].first_unit; i <= last; i++) {
        r->group[i].first_unit = unit;
        unit += hidden_units(&r->group[i]) << 1;
    }
}

/* Wide units read hidden values less often and weights in longer runs. */
static int out_rows(int dim, int threads)
{
    const int rows = dim / (OUT_UNITS * threads) / OUT_STEP * OUT_STEP;
    return rows < OUT_STEP ? OUT_STEP : cpu_min(rows, OUT_ROWS);
}

static int prepare(struct lade_device *dev, struct run *r, char *err)
{
    const struct lade_moe *m = r->m;
    size_t experts = (size_t)m->n_experts + 1, routes = (size_t)m->n * ((size_t)m->k + 1);
    size_t groups = experts + routes / PACKED_TOKENS, n = (size_t)m->n;
    struct cpu_carve c = {0};
    cpu_carve_add(&c, (void **)&r->group, groups < routes ? groups : routes, sizeof(*r->group));
    cpu_carve_add(&c, (void **)&r->token, routes, sizeof(*r->token));
    cpu_carve_add(&c, (void **)&r->weight, routes, sizeof(*r->weight));
    cpu_carve_add(&c, (void **)&r->count, experts, sizeof(*r->count));
    cpu_carve_add(&c, (void **)&r->place, experts, sizeof(*r->place));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    sort_routes(r);
    r->out_rows = out_rows(m->dim, dev->threads);
    for (int e = 0; e <= m->n_experts; e++)
        if (r->count[e] && add_groups(dev, r, e, err))
            return -1;
    if (r->few && r->count[m->n_experts])
        shared_in_the_middle(r);
    /* The second commit keeps what the first one's pieces hold. */
    bool fast = is_fast(r);
    const size_t x_bytes = r->few ? cpu_int16_bytes(m->dim) : cpu_pack_bytes(m->dim);
    r->work_size = (r->work_size + 15) / 16 * 16;
    cpu_carve_add(&c, (void **)&r->hidden, r->hidden_floats, sizeof(float));
    cpu_carve_add(&c, (void **)&r->up, r->few ? r->hidden_floats : 0, sizeof(float));
    cpu_carve_add(&c, (void **)&r->out, r->few ? routes : 0, (size_t)m->dim * sizeof(float));
    cpu_carve_add(&c, (void **)&r->work, (size_t)dev->threads, r->work_size * sizeof(float));
    for (int o = 0; o < CPU_N_ORDERS; o++)
        cpu_carve_add(&c, (void **)&r->x[o], r->needs[o] ? n : 0, x_bytes);
    cpu_carve_add(&c, (void **)&r->h, fast ? routes : 0, r->h_bytes);
    cpu_carve_add(&c, (void **)&r->x_rows, fast && r->few ? routes : 0, sizeof(*r->x_rows));
    cpu_carve_add(&c, (void **)&r->h_rows, fast && r->few ? routes : 0, sizeof(*r->h_rows));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    for (int i = 0; r->few && i < r->n_groups; i++) {
        const struct group *g = &r->group[i];
        const char *rows = r->x[cpu_int16_order(&g->e->gate)];
        for (int t = g->first; g->form == INT16 && t < g->first + g->n; t++)
            r->x_rows[t] = rows + (size_t)r->token[t] * x_bytes;
    }
    return 0;
}

/* Few tokens: where each thread begins in the run of gate and up, and in that of down. */
static void soon_hidden(struct lade_device *dev, const struct run *r)
{
    for (int t = 0; t < dev->threads; t++) {
        const int unit = cpu_pool_begins(r->units, dev->threads, t);
        const struct group *g = r->group + r->n_groups - 1;
        while (g->first_unit > unit)
            g--;
        const int at = unit - g->first_unit, per = hidden_units(g);
        cpu_soon_tiles(dev, t, at < per ? &g->e->gate : &g->e->up, at % per * HIDDEN_TILES);
    }
}

static void soon_out(struct lade_device *dev, const struct run *r, int per)
{
    for (int t = 0; t < dev->threads; t++) {
        const int unit = cpu_pool_begins(r->n_groups * per, dev->threads, t);
        cpu_soon_tiles(dev, t, &r->group[unit / per].e->down, unit % per * OUT_TILES);
    }
}

int cpu_moe(struct lade_device *dev, const struct lade_moe *m, char *err)
{
    if (m->n < 1)
        return 0;
    struct run r = {.m = m, .isa = dev->isa, .few = m->n <= CPU_DIRECT_N};
    if (check_ids(m, err) || prepare(dev, &r, err))
        return -1;
    const int per = (tiles(m->dim) - 1) / OUT_TILES + 1; /* few tokens: units of a group's down */
    if (r.few && r.n_groups)
        soon_hidden(dev, &r);
    cpu_pool_run(dev->pool, (m->n - 1) / INPUT_ROWS + 1, inputs_unit, &r);
    if (r.few && r.n_groups)
        soon_out(dev, &r, per);
    if (r.few)
        cpu_pool_run_ranges(dev->pool, r.units, hidden_range, &r);
    else
        cpu_pool_run(dev->pool, r.units, hidden_unit, &r);
    if (r.few) {
        cpu_pool_run(dev->pool, r.n_groups, finish_hidden, &r);
        cpu_soon_now(dev);
        cpu_pool_run_ranges(dev->pool, r.n_groups * per, out_range, &r);
        cpu_pool_run(dev->pool, r.n_groups ? (m->dim - 1) / JOIN_ROWS + 1 : 0, join_few, &r);
    } else {
        cpu_pool_run(dev->pool, (m->dim - 1) / r.out_rows + 1, out_unit, &r);
    }
    return 0;
}
