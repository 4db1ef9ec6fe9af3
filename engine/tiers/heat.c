#include "engine/tiers/heat.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/error.h"

static const double FAR = 400; /* exponents up to here leave room for sums */

int lade_heat_open(struct lade_heat *h, int n, double life, char *err)
{
    *h = (struct lade_heat){
        .n = n, .life = life, .score = calloc(n ? (size_t)n : 1, sizeof(double))};
    return h->score
               ? 0
               : lade_fail(err, "scores of %d experts: out of memory; close other programs", n);
}

void lade_heat_close(struct lade_heat *h)
{
    free(h->score);
    *h = (struct lade_heat){0};
}

void lade_heat_settle(struct lade_heat *h)
{
    double scale = exp(-h->now / h->life);
    for (int i = 0; i < h->n; i++)
        h->score[i] *= scale;
    h->now = 0;
}

void lade_heat_tick(struct lade_heat *h, int tokens)
{
    h->now += tokens;
    if (h->now >= FAR * h->life)
        lade_heat_settle(h);
}

void lade_heat_use(struct lade_heat *h, int e, int uses)
{
    h->score[e] += uses * exp(h->now / h->life);
}
