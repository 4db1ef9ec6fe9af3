#include <math.h>

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

int cpu_router(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_matmul product = {r->logits, r->h, r->w};
    struct lade_route route = r->route;
    route.n = r->n;
    route.logits = r->logits;
    return cpu_rmsnorm(dev, r->h, r->x, r->add, r->norm, r->n, r->dim, r->eps, err) ||
                   cpu_matmul(dev, &product, 1, r->n, err) || cpu_route(dev, &route, err)
               ? -1
               : 0;
}
