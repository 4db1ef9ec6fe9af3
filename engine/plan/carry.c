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

/* What links and cards have to do so far, in seconds. */
struct sides {
    double link[LADE_MACHINE_GPUS], card[LADE_MACHINE_GPUS], longest;
};

/* A card that helps gets a batch's rows by way of RAM, and gives back as many. */
static struct sides before_any(const struct lade_carry_layer *l)
{
    struct sides s = {.card = {l->own}, .longest = l->own};
    for (int i = 1; i < l->n_links; i++)
        s.link[i] = l->rows * (1 + l->link_byte[i] / l->link_byte[0]);
    return s;
}

/* Gives an expert to the link that will have it across first. */
static void give(struct sides *s, const struct lade_carry_layer *l, struct lade_carry_expert *e,
                 double card_token)
{
    double best = INFINITY;
    for (int i = 0; i < l->n_links; i++) {
        double end = s->link[i] + e->bytes * l->link_byte[i];
        if (l->link_byte[i] > 0 && end < best) {
            best = end;
            e->link = i;
        }
    }
    s->link[e->link] = best;
    s->card[e->link] += e->tokens * card_token;
    s->longest = fmax(s->longest, fmax(best, s->card[e->link]));
}

int lade_carry_split(const struct lade_carry *c, const struct lade_carry_layer *l, double *seconds)
{
    double cpu = 0, ram = 0, best;
    struct sides sides = before_any(l);
    int carried = 0;
    qsort(l->experts, (size_t)l->n, sizeof *l->experts, most_tokens_first);
    for (int i = 0; i < l->n; i++) {
        cpu += cpu_seconds(c, &l->experts[i]);
        ram += l->experts[i].bytes * c->ram_byte;
    }
    best = fmax(l->n ? cpu + l->rows : 0, l->own);
    const double alone = best;
    for (int i = 0; i < l->n && l->link_byte[0] > 0 && c->cpu_token > 0; i++) {
        give(&sides, l, &l->experts[i], c->card_token);
        cpu -= cpu_seconds(c, &l->experts[i]);
        double left = i + 1 < l->n ? cpu + l->rows : 0;
        double all = fmax(fmax(left, ram), sides.longest);
        if (all < best && all <= alone * (1 - WORTH)) {
            best = all;
            carried = i + 1;
        }
    }
    if (seconds)
        *seconds = best;
    return carried;
}

void lade_carry_deal(const struct lade_carry_layer *l)
{
    struct sides sides = before_any(l);
    for (int i = 0; i < l->n; i++)
        give(&sides, l, &l->experts[i], 0);
}
