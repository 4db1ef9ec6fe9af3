#include "engine/plan/carry.h"

#include <math.h>
#include <stdlib.h>

/* What is not counted (launches, two that read RAM at once) takes a part of what is saved: less than this
 * part of the time is not worth it. */
static const double WORTH = 1.0 / 8;

static int most_tokens_first(const void *a, const void *b)
{
    const struct lade_carry_expert *x = a, *y = b;
    return x->tokens != y->tokens ? y->tokens - x->tokens : x->expert - y->expert;
}

static double cpu_seconds(const struct lade_carry *c, const struct lade_carry_expert *e)
{
    return fmax(e->bytes * c->cpu_byte, e->tokens * c->cpu_token);
}

int lade_carry_split(const struct lade_carry *c, const struct lade_carry_layer *l, double *seconds)
{
    double cpu = 0, ram = 0, link = 0, card = l->own, best;
    int carried = 0;
    qsort(l->experts, (size_t)l->n, sizeof *l->experts, most_tokens_first);
    for (int i = 0; i < l->n; i++) {
        cpu += cpu_seconds(c, &l->experts[i]);
        ram += l->experts[i].bytes * c->ram_byte;
    }
    best = fmax(l->n ? cpu + l->rows : 0, card);
    const double alone = best;
    for (int i = 0; i < l->n && l->link_byte > 0 && c->cpu_token > 0; i++) {
        const struct lade_carry_expert *e = &l->experts[i];
        link += e->bytes * l->link_byte;
        card += e->tokens * c->card_token;
        cpu -= cpu_seconds(c, e);
        double left = i + 1 < l->n ? cpu + l->rows : 0;
        double both = fmax(fmax(left, ram), fmax(link, card));
        if (both < best && both <= alone * (1 - WORTH)) {
            best = both;
            carried = i + 1;
        }
    }
    if (seconds)
        *seconds = best;
    return carried;
}
