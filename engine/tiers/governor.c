#include "engine/tiers/governor.h"

/* In sixteenths of a read. */
enum { SAVED = 16, WASTED = 8, LAYER = 2 };

void lade_governor_open(struct lade_governor *g)
{
    *g =
        (struct lade_governor){.on = true, .left = LADE_GOVERNOR_TRIAL, .rest = LADE_GOVERNOR_REST};
}

static bool pays(const struct lade_look_counts *from, const struct lade_look_counts *to)
{
    uint64_t gain = SAVED * (to->right - from->right);
    uint64_t cost = WASTED * (to->wasted - from->wasted) + LAYER * (to->layers - from->layers);
    return gain > cost;
}

void lade_governor_token(struct lade_governor *g, const struct lade_look_counts *now)
{
    if (--g->left > 0)
        return;
    bool was_on = g->on;
    g->on = !was_on || pays(&g->before, now);
    g->left = g->on ? LADE_GOVERNOR_TRIAL : g->rest;
    if (!g->on)
        g->rest = 2 * g->rest < LADE_GOVERNOR_MOST ? 2 * g->rest : LADE_GOVERNOR_MOST;
    else if (was_on)
        g->rest = LADE_GOVERNOR_REST;
    g->before = *now;
}
