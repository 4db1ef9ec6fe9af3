/* memory.c - experts give way where other programs need memory, and come back. */
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

static uint64_t less(uint64_t plan, uint64_t room)
{
    return plan > room ? plan - room : 0;
}

/* What should be left to others: what the plan has left to them, which was free then. */
static uint64_t reserve_of(uint64_t total, uint64_t planned)
{
    return lade_memory_reserve(planned && planned < total ? planned : total);
}

/* One line for people when experts begin to give way, and when all have their room again. */
static char *say(uint64_t vram, uint64_t ram, bool again)
{
    char *text;
    const char *what = !ram ? "VRAM" : !vram ? "RAM" : "VRAM and RAM";
    int n = again ? asprintf(&text, "Memory is free again: all experts have the room of the plan.")
                  : asprintf(&text,
                             "Other programs need %s: %.1f GiB of experts gave way; they are read "
                             "when they are needed, and come back when there is room.",
                             what, (double)(vram + ram) / GIB);
    return n < 0 ? NULL : text;
}

/* Tells the screen how much of the plan's room others have now. */
static void publish(struct lade_engine *e, uint64_t vram, uint64_t ram)
{
    lade_worker_publish(e);
    pthread_mutex_lock(&e->lock);
    bool was = e->stats.vram_given || e->stats.ram_given, is = vram || ram;
    e->stats.vram_given = vram;
    e->stats.ram_given = ram;
    if (was != is) {
        struct lade_event ev = {.kind = LADE_EV_MEMORY, .text = say(vram, ram, was)};
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
    return less(before, e->free_ram);
}

void lade_worker_watch(void *engine)
{
    struct lade_engine *e = engine;
    struct lade_model *m = e->model;
    struct lade_pressure p = {0};
    struct lade_tiers_stats now;
    uint64_t want_vram[LADE_CARDS], given = 0;
    if (!look(e, &p))
        return;
    lade_tiers_stats(m->tiers, &now);
    double since = p.seconds - e->resized;
    struct lade_experts_room ram = {lade_model_planned(m, -1), m->ram_room, now.ram_experts_held,
                                    since, claimed(e, p.ram_left, now.ram_experts_held)};
    uint64_t want_ram = lade_pressure_room(&ram, p.ram_left,
                                           reserve_of(p.ram_total, m->plan.machine.ram), p.stalled);
    bool change = want_ram != m->ram_room;
    for (int i = 0; i < m->place.n_cards; i++) {
        want_vram[i] = want_on_card(m, i, &p, since);
        change |= want_vram[i] != m->vram_room[i];
    }
    if (change) {
        /* A failure is the drive's or a GPU's: the next token says so. */
        lade_model_resize(m, want_ram, want_vram, NULL);
        e->resized = p.seconds;
    }
    for (int i = 0; i < m->place.n_cards; i++)
        given += less(lade_model_planned(m, i), m->vram_room[i]);
    publish(e, given, less(ram.plan, m->ram_room));
}
