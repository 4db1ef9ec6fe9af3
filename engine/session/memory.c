/* memory.c - experts give way where other programs need memory, and come back. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session/worker.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* What was seen, the GPUs' part included. */
static bool look(struct lade_engine *e, struct lade_pressure *p)
{
    struct lade_card_memory cards[LADE_CARDS];
    lade_pressure_fn *see = e->opt.pressure ? e->opt.pressure : lade_watch_look;
    if (!see(e->opt.pressure ? e->opt.pressure_user : e->watch, p))
        return false;
    for (int i = p->vram_total[0] ? 0 : lade_model_cards(e->model, cards); i-- > 0;) {
        p->vram_total[i] = cards[i].total;
        p->vram_left[i] = cards[i].free;
    }
    return true;
}

/* What should be left to others: what the plan has left to them, which was free then. */
static uint64_t reserve_of(uint64_t total, uint64_t planned)
{
    return lade_memory_reserve(planned && planned < total ? planned : total);
}

/* One line for people when experts begin to give way, of which `moved` went from VRAM to RAM, and when
 * all have their room again. */
static char *say(uint64_t vram, uint64_t ram, uint64_t moved, bool again)
{
    char *text;
    const char *what = !ram ? "VRAM" : !vram ? "RAM" : "VRAM and RAM";
    double all = (double)(vram + ram) / GIB;
    int n;
    if (again)
        n = asprintf(&text, "Memory is free again: all experts have the room of the plan.");
    else if (!ram && moved >= vram)
        n = asprintf(&text,
                     "Other programs need VRAM: %.1f GiB of experts moved to RAM, and come back "
                     "when there is room.",
                     all);
    else if (moved)
        n = asprintf(
            &text,
            "Other programs need %s: %.1f GiB of experts gave way, %.1f of them to RAM; the "
            "others are read when they are needed, and all come back when there is room.",
            what, all, (double)moved / GIB);
    else
        n = asprintf(
            &text,
            "Other programs need %s: %.1f GiB of experts gave way; they are read when they "
            "are needed, and come back when there is room.",
            what, all);
    return n < 0 ? NULL : text;
}

/* Tells the screen how much of the plan's room others have now. */
static void publish(struct lade_engine *e, uint64_t vram, uint64_t ram, uint64_t moved)
{
    lade_worker_publish(e);
    pthread_mutex_lock(&e->lock);
    bool was = e->stats.vram_given || e->stats.ram_given, is = vram || ram;
    e->stats.vram_given = vram;
    e->stats.ram_given = ram;
    if (was != is) {
        struct lade_event ev = {.kind = LADE_EV_MEMORY, .text = say(vram, ram, moved, was)};
        if (ev.text)
            lade_events_put(&e->events, &ev);
    }
    pthread_mutex_unlock(&e->lock);
}

/* The room that experts should have on a card. Half the reserve of RAM will do: a card has no programs
 * that did not ask for it. */
static uint64_t want_on_card(const struct lade_model *m, int i, const struct lade_pressure *p,
                             double since)
{
    const struct lade_experts_room room = {lade_model_planned(m, i), m->vram_room[i],
                                           m->vram_room[i], since, 0};
    uint64_t planned = 0;
    for (int j = 0; m->plan.n && j < m->plan.machine.n_gpus; j++)
        if (m->plan.machine.gpu[j].gpu == m->place.card[i].gpu)
            planned = m->plan.machine.gpu[j].bytes;
    if (!p->vram_total[i])
        return m->vram_room[i];
    return lade_pressure_room(&room, p->vram_left[i], reserve_of(p->vram_total[i], planned) / 2,
                              false);
}

/* What others have taken since the last look: free memory and that of experts has become less. */
static uint64_t claimed(struct lade_engine *e, uint64_t left, uint64_t held)
{
    uint64_t before = e->free_ram;
    e->free_ram = left + held;
    return lade_without(before, e->free_ram);
}

/* The same in RAM, when the cards have these rooms. What leaves VRAM goes there at once. */
static uint64_t want_in_ram(struct lade_engine *e, const uint64_t *vram,
                            const struct lade_pressure *p, double since)
{
    const struct lade_model *m = e->model;
    struct lade_tiers_stats now;
    lade_tiers_stats(m->tiers, &now);
    struct lade_experts_room room = {lade_model_ram_for(m, vram, e->opt.ram_cap), m->ram_room,
                                     now.ram_experts_held, since,
                                     claimed(e, p->ram_left, now.ram_experts_held)};
    for (int i = 0; i < m->place.n_cards; i++)
        if (vram[i] < m->vram_room[i])
            room.since = INFINITY;
    room.room = lade_smaller(room.room, room.plan); /* what goes back to VRAM */
    return lade_pressure_room(&room, p->ram_left, reserve_of(p->ram_total, m->plan.machine.ram),
                              p->stalled);
}

void lade_worker_watch(void *engine)
{
    struct lade_engine *e = engine;
    struct lade_model *m = e->model;
    struct lade_pressure p = {0};
    uint64_t want_vram[LADE_CARDS] = {0}, given = 0;
    if (!look(e, &p))
        return;
    double since = p.seconds - e->resized;
    bool change = false;
    for (int i = 0; i < m->place.n_cards; i++) {
        want_vram[i] = want_on_card(m, i, &p, since);
        change |= want_vram[i] != m->vram_room[i];
    }
    uint64_t want_ram = want_in_ram(e, want_vram, &p, since);
    if (change || want_ram != m->ram_room) {
        /* Where there is no more RAM after all, VRAM is given back all the same. Another failure is the
         * drive's or a GPU's: the next token says so. */
        if (lade_model_resize(m, want_ram, want_vram, NULL) && want_ram > m->ram_room)
            lade_model_resize(m, m->ram_room, want_vram, NULL);
        e->resized = p.seconds;
    }
    for (int i = 0; i < m->place.n_cards; i++)
        given += lade_without(lade_model_planned(m, i), m->vram_room[i]);
    uint64_t planned = lade_model_planned(m, -1);
    publish(e, given, lade_without(planned, m->ram_room), lade_without(m->ram_room, planned));
}
