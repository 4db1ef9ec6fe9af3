/* keep.c - which of a prompt's experts stay.
 *
 * A prompt asks for most experts of a layer, many of them once, and would only push out what the
 * conversation uses if each took a place. So what it has read leaves again, but where the layer has
 * experts in RAM that the prompt does not use and that were used less before: the hottest newcomers
 * take the places of the coldest of these. They are read anyway, and what an answer uses is more like
 * its prompt than like what was loaded first. Nothing that this batch is still to use makes room. */
#include <stdlib.h>

#include "engine/tiers/internal.h"

static int coldest_first(const void *a, const void *b)
{
    const struct lade_rank *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return x->at - y->at;
}

/* Wants that would pass through the stage; by their number in the list of wants. */
static int list_newcomers(const struct lade_tiers *t, struct lade_rank *list)
{
    const struct lade_ask *a = &t->ask;
    int n = 0;
    for (int i = 0; i < a->n; i++) {
        const struct lade_want *w = &a->wants[i];
        if (w->slot < 0 && w->vslot < 0 && lade_may_stay(t, w->expert))
            list[n++] = (struct lade_rank){t->heat.score[w->expert], i};
    }
    qsort(list, (size_t)n, sizeof *list, coldest_first);
    return n;
}

/* Experts of a layer that nobody uses now and that have a place; by their number. */
static int list_idle(const struct lade_tiers *t, int layer, struct lade_rank *list)
{
    const int experts = t->cat->shape.experts;
    int n = 0;
    for (int e = layer * experts; e < (layer + 1) * experts; e++)
        if (lade_cache_may_leave(&t->ram, t->ram.slot_of[e]))
            list[n++] = (struct lade_rank){t->heat.score[e], e};
    qsort(list, (size_t)n, sizeof *list, coldest_first);
    return n;
}

void lade_keep_hottest(struct lade_tiers *t, int layer)
{
    struct lade_ask *a = &t->ask;
    struct lade_rank *new = a->rank, *idle = a->rank + t->cat->shape.experts;
    if (!t->load.ended)
        return; /* places that are free yet are taken first, and the load has plans for the others */
    int n_new = list_newcomers(t, new), n_idle = n_new ? list_idle(t, layer, idle) : 0, next = 0;
    while (n_new-- && next < n_idle) {
        struct lade_want *w = &a->wants[new[n_new].at];
        const int e = idle[next].at;
        if (idle[next].score >= new[n_new].score)
            return;
        if (t->kinds.of[e] != t->kinds.of[w->expert])
            continue; /* its bytes would not fit */
        w->slot = lade_cache_replace(&t->ram, t->ram.slot_of[e], w->expert);
        w->begun = false;
        next++;
    }
}
