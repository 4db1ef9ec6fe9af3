/* Which experts a token visits: the largest logits, and their probabilities. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { ROUTE_ROWS = 8 }; /* tokens of one unit */

struct route_run {
    const struct cpu_isa *isa;
    const struct lade_route *r;
    float *p; /* [threads][experts] */
};

/* Picks by logit, not by probability: softmax keeps the order but may make near values equal. A
 * scan that replaces only on "greater" leaves the lower id in front. */
static void pick(const struct lade_route *r, const float *logits, int32_t *ids)
{
    int have = 0;
    for (int e = 0; e < r->experts; e++) {
        if (have == r->k && !(logits[e] > logits[ids[have - 1]]))
            continue;
        int at = have < r->k ? have++ : have - 1;
        for (; at > 0 && logits[e] > logits[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = e;
    }
}

static void route_token(const struct route_run *run, int t, float *p)
{
    const struct lade_route *r = run->r;
    const float *logits = r->logits + (size_t)t * (size_t)r->experts;
    int32_t *ids = r->ids + (size_t)t * (size_t)r->k;
    float *weights = r->weights + (size_t)t * (size_t)r->k;
    pick(r, logits, ids);
    float sum = run->isa->exp_sum(p, logits, logits[ids[0]], r->experts);
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
    for (int t = unit * ROUTE_ROWS; t < last; t++)
        route_token(run, t, run->p + (size_t)thread * (size_t)run->r->experts);
}

int cpu_route(struct lade_device *dev, const struct lade_route *r, char *err)
{
    if (r->k < 1 || r->k > r->experts)
        return lade_fail(err, "route: %d of %d experts; check the configuration", r->k, r->experts);
    struct route_run run = {.isa = dev->isa, .r = r};
    struct cpu_carve c = {0};
    cpu_carve_add(&c, (void **)&run.p, (size_t)dev->threads * (size_t)r->experts, sizeof(float));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, (r->n + ROUTE_ROWS - 1) / ROUTE_ROWS, route_unit, &run);
    return 0;
}

/* ---- one token, from a sketch ---------------------------------------------------------------- */

enum { SKETCH_ROWS = 16 }; /* of one unit that makes a sketch */

struct sketch_run {
    const struct cpu_isa *isa;
    const struct lade_router *r;
    float *least;  /* [experts]: what each logit is at least */
    int32_t *ids;  /* [k] of the largest of these */
    int32_t *near; /* [experts]: those that may be chosen */
};

static void sketch_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct lade_router *r = ctx;
    const size_t dim = (size_t)r->dim;
    const int last = cpu_min((unit + 1) * SKETCH_ROWS, r->w->rows);
    for (int row = unit * SKETCH_ROWS; row < last; row++) {
        const float *w = (const float *)r->w->data + (size_t)row * dim;
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
        /* By the inequality of Cauchy and Schwarz; and both sums of products round, at most in
         * dim / 16 + 128 additions that follow each other. A weight that is no number makes this
         * none, and the row one that may be chosen. */
        const double rounds = ((double)dim / 8 + 256) * 0x1p-24;
        r->sketch->far[row] = off == 0 ? 0 : (float)(1.001 * sqrt(off) + rounds * sqrt(all));
    }
}

static void near_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct sketch_run *s = ctx;
    const struct lade_router *r = s->r;
    const int32_t e = s->near[unit];
    const struct lade_matrix row = {.type = LADE_F32,
                                    .rows = 1,
                                    .cols = r->dim,
                                    .data = (const float *)r->w->data + (size_t)e * (size_t)r->dim};
    const struct lade_matrix_layout none = {0}; /* rows of floats need none */
    s->isa->gemv(r->logits + e, 1, &row, &none, r->h, (size_t)r->dim, 1, 0, 1);
}

/* Experts that may be chosen: no k others are larger for certain. What is no number may be, too. */
static int find_near(const struct sketch_run *s)
{
    const struct lade_router *r = s->r;
    const struct lade_route largest = {.experts = r->route.experts, .k = r->route.k};
    const float length = 1.001f * sqrtf(s->isa->dot(r->h, r->h, r->dim)), *far = r->sketch->far;
    int n = 0;
    for (int e = 0; e < largest.experts; e++)
        s->least[e] = r->logits[e] - length * far[e];
    pick(&largest, s->least, s->ids);
    const float least = s->least[s->ids[largest.k - 1]];
    for (int e = 0; e < largest.experts; e++)
        if (far[e] != 0 && !(r->logits[e] + length * far[e] < least))
            s->near[n++] = e;
    return n;
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
    cpu_carve_add(&c, (void **)&s.least, (size_t)r->route.experts, sizeof(*s.least));
    cpu_carve_add(&c, (void **)&s.ids, (size_t)r->route.k, sizeof(*s.ids));
    cpu_carve_add(&c, (void **)&s.near, (size_t)r->route.experts, sizeof(*s.near));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, find_near(&s), near_unit, &s);
    return 0;
}

/* Without `renormalize` the weights need the sum over all experts. */
static bool from_sketch(const struct lade_router *r)
{
    const struct lade_route *t = &r->route;
    return r->sketch && r->n == 1 && t->renormalize && r->w->type == LADE_F32 && t->k >= 1 &&
           t->k <= t->experts;
}

int cpu_router(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_matmul product = {r->logits, r->h, r->w};
    struct lade_route route = r->route;
    route.n = r->n;
    route.logits = r->logits;
    if (cpu_rmsnorm(dev, r->h, r->x, r->add, r->norm, r->n, r->dim, r->eps, err))
        return -1;
    int rc = from_sketch(r) ? sketch_logits(dev, r, err) : cpu_matmul(dev, &product, 1, r->n, err);
    return rc ? -1 : cpu_route(dev, &route, err);
}
