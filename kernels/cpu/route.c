/* Which experts a token visits: the largest logits, and their probabilities. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { ROUTE_ROWS = 8 }; /* tokens of one unit */

struct route_run {
    const struct cpu_isa *isa;
    const struct lade_route *r;
    float *p;            /* [threads][experts] */
    int32_t *candidates; /* the same */
};

/* The k largest of x, the ids of candidates ascending. Picks by logit, not by probability: softmax keeps
 * the order but may make near values equal. A scan that replaces only on "greater" leaves the lower
 * id in front. */
static void pick(int32_t *ids, int k, const float *x, const int32_t *candidates, int n)
{
    int have = 0;
    for (int i = 0; i < n; i++) {
        const int32_t e = candidates[i];
        if (have == k && !(x[e] > x[ids[have - 1]]))
            continue;
        int at = have < k ? have++ : have - 1;
        for (; at > 0 && x[e] > x[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = e;
    }
}

static void route_token(const struct cpu_isa *isa, const struct lade_route *r, int t, float *p,
                        int32_t *candidates)
{
    const float *logits = r->logits + (size_t)t * (size_t)r->experts;
    int32_t *ids = r->ids + (size_t)t * (size_t)r->k;
    float *weights = r->weights + (size_t)t * (size_t)r->k;
    pick(ids, r->k, logits, candidates, isa->largest(candidates, logits, r->k, r->experts));
    float sum = isa->exp_sum(p, logits, logits[ids[0]], r->experts);
    float picked = 0;
    for (int j = 0; j < r->k; j++) {
        weights[j] = p[ids[j]] / sum;
        picked += weights[j];
    }
    if (r->renormalize)
        for (int j = 0; j < r->k; j++)
            weights[j] /= picked;
}

static void route_unit(void *ctx, int unit, int thread)
{
    const struct route_run *run = ctx;
    int last = cpu_min(run->r->n, (unit + 1) * ROUTE_ROWS);
    const size_t at = (size_t)thread * (size_t)run->r->experts;
    for (int t = unit * ROUTE_ROWS; t < last; t++)
        route_token(run->isa, run->r, t, run->p + at, run->candidates + at);
}

int cpu_route(struct lade_device *dev, const struct lade_route *r, char *err)
{
    if (r->k < 1 || r->k > r->experts)
        return lade_fail(err, "route: %d of %d experts; check the configuration", r->k, r->experts);
    struct route_run run = {.isa = dev->isa, .r = r};
    struct cpu_carve c = {0};
    const size_t experts = (size_t)dev->threads * (size_t)r->experts;
    cpu_carve_add(&c, (void **)&run.p, experts, sizeof(*run.p));
    cpu_carve_add(&c, (void **)&run.candidates, experts, sizeof(*run.candidates));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, (r->n + ROUTE_ROWS - 1) / ROUTE_ROWS, route_unit, &run);
    return 0;
}

/* ---- who may be chosen ----------------------------------------------------------------------- */

/* Work space for one token. */
struct near {
    float *off;   /* [experts]: most that each logit is off; 0: not at all */
    float *least; /* [experts]: what each logit is at least */
    float *most;  /* [experts]: what those are at most that are off */
    int32_t *ids; /* [experts] */
    int32_t *may; /* [experts]: those that may be chosen, ascending */
};

static void near_carve(struct cpu_carve *c, struct near *s, const struct lade_route *r, int tokens)
{
    const size_t experts = (size_t)tokens * (size_t)r->experts;
    cpu_carve_add(c, (void **)&s->off, experts, sizeof(*s->off));
    cpu_carve_add(c, (void **)&s->least, experts, sizeof(*s->least));
    cpu_carve_add(c, (void **)&s->most, experts, sizeof(*s->most));
    cpu_carve_add(c, (void **)&s->ids, experts, sizeof(*s->ids));
    cpu_carve_add(c, (void **)&s->may, experts, sizeof(*s->may));
}

/* Experts that may be chosen and whose logit is off: no k others are larger for certain. What is no number
 * may be, too. Returns how many. */
static int find_near(const struct cpu_isa *isa, const struct near *s, const struct lade_route *r,
                     const float *logits)
{
    isa->bounds(s->least, s->most, logits, s->off, r->experts);
    pick(s->ids, r->k, s->least, s->may, isa->largest(s->may, s->least, r->k, r->experts));
    return isa->not_below(s->may, s->most, s->least[s->ids[r->k - 1]], r->experts);
}

/* Sums of dim products round in at most dim / 16 + 128 additions that follow each other, of this
 * part of both vectors' lengths each time; here for two such sums. */
static double sums_round(int dim)
{
    return ((double)dim / 8 + 256) * 0x1p-24;
}

static const float *router_row(const struct lade_router *r, int e)
{
    return (const float *)r->w->data + (size_t)e * (size_t)r->dim;
}

/* ---- one token, from a sketch ---------------------------------------------------------------- */

enum { SKETCH_ROWS = 16 }; /* of one unit that makes a sketch */

struct sketch_run {
    const struct cpu_isa *isa;
    const struct lade_router *r;
    struct near near;
};

static void sketch_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct lade_router *r = ctx;
    const size_t dim = (size_t)r->dim;
    const int last = cpu_min((unit + 1) * SKETCH_ROWS, r->w->rows);
    for (int row = unit * SKETCH_ROWS; row < last; row++) {
        const float *w = router_row(r, row);
        uint16_t *high = (uint16_t *)r->sketch->high.data + (size_t)row * dim;
        double off = 0, all = 0;
        for (size_t k = 0; k < dim; k++) {
            uint32_t bits;
            memcpy(&bits, &w[k], sizeof(bits));
            high[k] = (uint16_t)((bits + 0x8000) >> 16); /* to the nearest */
            const double d = (double)w[k] - (double)cpu_bf16(high[k]);
            off += d * d;
            all += (double)w[k] * (double)w[k];
        }
        /* By the inequality of Cauchy and Schwarz. A weight that is no number makes this none, and
         * the row one that may be chosen. */
        r->sketch->far[row] =
            off == 0 ? 0 : (float)(1.001 * sqrt(off) + sums_round(r->dim) * sqrt(all));
    }
}

static void near_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct sketch_run *s = ctx;
    const struct lade_router *r = s->r;
    const int32_t e = s->near.may[unit];
    const struct lade_matrix row = {
        .type = LADE_F32, .rows = 1, .cols = r->dim, .data = (void *)router_row(r, e)};
    const struct lade_matrix_layout none = {0}; /* rows of floats need none */
    s->isa->gemv(r->logits + e, 1, &row, &none, r->h, (size_t)r->dim, 1, 0, 1);
}

/* The logits of those that may be chosen; the others keep what the sketch gave. */
static int sketch_logits(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_router_sketch *sketch = r->sketch;
    struct sketch_run s = {.isa = dev->isa, .r = r};
    if (!sketch->ready)
        cpu_pool_run(dev->pool, (r->w->rows - 1) / SKETCH_ROWS + 1, sketch_unit, (void *)r);
    sketch->ready = true;
    struct lade_matmul product = {r->logits, r->h, &sketch->high};
    if (cpu_matmul(dev, &product, 1, 1, err))
        return -1;
    struct cpu_carve c = {0};
    near_carve(&c, &s.near, &r->route, 1);
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    const float length = 1.001f * sqrtf(dev->isa->dot(r->h, r->h, r->dim));
    for (int e = 0; e < r->route.experts; e++)
        s.near.off[e] = length * sketch->far[e];
    cpu_pool_run(dev->pool, find_near(dev->isa, &s.near, &r->route, r->logits), near_unit, &s);
    return 0;
}

/* ---- many tokens, from rounded weights and inputs --------------------------------------------- */

enum {
    ROUGH_TOKENS = 16, /* fewer are not worth it */
    ROUND_ROWS = 4,    /* of one unit that rounds them */
};

struct rough_run {
    const struct cpu_isa *isa;
    const struct cpu_int16_floats *floats;
    const struct lade_router *r;
    int tiles, columns;    /* of whole groups; units of a row of units */
    int together;          /* tokens of a unit */
    char *packs, *panels;  /* of each unit's tokens; of the weights */
    float *moved, *length; /* [tiles * LADE_TILE], of weights: see struct cpu_int16_floats */
    struct rough_input {
        float moved, length;
    } * inputs;       /* [n] */
    struct near near; /* [threads] of each */
};

static void round_token(const struct rough_run *run, int t)
{
    const struct cpu_int16 *int16 = run->isa->int16;
    const struct lade_router *r = run->r;
    const int dim = r->dim, begin = t / run->together * run->together;
    const size_t at = (size_t)t * (size_t)dim;
    float *h = r->h + at;
    size_t step;
    cpu_norm_row(run->isa, h, r->x + at, r->add ? r->add + at : NULL, r->norm, dim, r->eps);
    char *to = cpu_pack_token(run->packs + (size_t)begin * cpu_pack_bytes(dim), dim,
                              cpu_min(run->together, r->n - begin), int16->pack, t - begin, &step);
    int16->quantize_packed(to, step, h, dim, CPU_ORDER_PLAIN);
    run->inputs[t] = (struct rough_input){1.001f * run->floats->moved(to, step, dim),
                                          1.001f * sqrtf(run->isa->dot(h, h, dim))};
}

static void round_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct rough_run *run = ctx;
    if (unit < run->tiles) {
        run->floats->unpack(run->panels, run->moved, run->length, run->r->w, unit);
        return;
    }
    const int first = (unit - run->tiles) * ROUND_ROWS;
    for (int t = first; t < cpu_min(first + ROUND_ROWS, run->r->n); t++)
        round_token(run, t);
}

static void rough_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct rough_run *run = ctx;
    const struct lade_router *r = run->r;
    const int t = unit / run->columns * run->together;
    run->floats->times(r->logits + (size_t)t * (size_t)r->route.experts, r->w, run->panels,
                       unit % run->columns, run->packs + (size_t)t * cpu_pack_bytes(r->dim),
                       cpu_min(run->together, r->n - t));
}

/* The logits of those that token t may choose, as they are, and its routes. Others take no part: with
 * `renormalize` their probabilities cancel out. */
static void choose(const struct rough_run *run, int t, const struct near *near)
{
    const struct lade_router *r = run->r;
    const size_t k = (size_t)r->route.k;
    const float *h = r->h + (size_t)t * (size_t)r->dim;
    float *logits = r->logits + (size_t)t * (size_t)r->route.experts;
    const float length = run->inputs[t].length, moved = run->inputs[t].moved;
    /* w x - w' x' = (w - w') x + w' (x - x'); never 0 */
    for (int e = 0; e < r->route.experts; e++)
        near->off[e] = 1e-30f;
    run->isa->axpy(near->off, length, run->moved, r->route.experts);
    run->isa->axpy(near->off, moved + (float)sums_round(r->dim) * (length + moved), run->length,
                   r->route.experts);
    const struct lade_route few = {.n = 1,
                                   .experts = find_near(run->isa, near, &r->route, logits),
                                   .k = r->route.k,
                                   .renormalize = true,
                                   .logits = near->least,
                                   .ids = r->route.ids + (size_t)t * k,
                                   .weights = r->route.weights + (size_t)t * k};
    run->isa->dots(near->least, h, r->w->data, near->may, few.experts, r->dim);
    for (int i = 0; i < few.experts; i++)
        logits[near->may[i]] = near->least[i];
    route_token(run->isa, &few, 0, near->off, near->ids);
    for (size_t j = 0; j < k; j++)
        few.ids[j] = near->may[few.ids[j]];
}

static void choose_unit(void *ctx, int unit, int thread)
{
    const struct rough_run *run = ctx;
    const size_t at = (size_t)thread * (size_t)run->r->route.experts;
    const struct near near = {run->near.off + at, run->near.least + at, run->near.most + at,
                              run->near.ids + at, run->near.may + at};
    const int last = cpu_min(run->r->n, (unit + 1) * ROUTE_ROWS);
    for (int t = unit * ROUTE_ROWS; t < last; t++)
        choose(run, t, &near);
}

static int rough_routes(struct lade_device *dev, const struct lade_router *r, char *err)
{
    const struct cpu_int16_floats *floats = dev->isa->int16->floats;
    struct rough_run run = {.isa = dev->isa, .floats = floats, .r = r};
    const int turns = (r->n - 1) / CPU_MANY + 1;
    run.together = (r->n - 1) / turns + 1;
    run.columns = (r->w->rows - 1) / floats->rows + 1;
    run.tiles = run.columns * (floats->rows / LADE_TILE);
    const size_t n = (size_t)r->n, rows = (size_t)run.tiles * LADE_TILE;
    struct cpu_carve c = {0};
    cpu_carve_add(&c, (void **)&run.packs, n, cpu_pack_bytes(r->dim));
    cpu_carve_add(&c, (void **)&run.panels, 1, floats->bytes(r->w));
    cpu_carve_add(&c, (void **)&run.moved, rows, sizeof(*run.moved));
    cpu_carve_add(&c, (void **)&run.length, rows, sizeof(*run.length));
    cpu_carve_add(&c, (void **)&run.inputs, n, sizeof(*run.inputs));
    near_carve(&c, &run.near, &r->route, dev->threads);
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, run.tiles + (r->n - 1) / ROUND_ROWS + 1, round_unit, &run);
    cpu_pool_run(dev->pool, run.columns * ((r->n - 1) / run.together + 1), rough_unit, &run);
    cpu_soon_now(dev);
    cpu_pool_run(dev->pool, (r->n - 1) / ROUTE_ROWS + 1, choose_unit, &run);
    return 0;
}

/* ---- one way or the other --------------------------------------------------------------------- */

/* Whether some logits may stay rough. Without `renormalize` the weights need the sum over all experts. */
static bool may_be_rough(const struct lade_router *r)
{
    const struct lade_route *t = &r->route;
    return t->renormalize && r->w->type == LADE_F32 && t->k >= 1 && t->k <= t->experts;
}

int cpu_router(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_matmul product = {r->logits, r->h, r->w};
    struct lade_route route = r->route;
    route.n = r->n;
    route.logits = r->logits;
    if (may_be_rough(r) && r->n >= ROUGH_TOKENS && !dev->exact && dev->isa->int16 &&
        dev->isa->int16->floats)
        return rough_routes(dev, r, err);
    if (cpu_rmsnorm(dev, r->h, r->x, r->add, r->norm, r->n, r->dim, r->eps, err))
        return -1;
    const bool sketch = may_be_rough(r) && r->n == 1 && r->sketch;
    int rc = sketch ? sketch_logits(dev, r, err) : cpu_matmul(dev, &product, 1, r->n, err);
    return rc ? -1 : cpu_route(dev, &route, err);
}
