/* ask.c - what a layer asks for, given out in waves.
 *
 * Experts at hand come first, in the order of their numbers, then the others in the order of their
 * files, each when it has arrived. That order does not depend on time, so sums of experts' outputs
 * do not either, once the load is over. */
#include <stdlib.h>

#include "engine/tiers/internal.h"

/* More tokens than this are a prompt: it visits most experts once, and would only push out what
 * the conversation uses. */
enum { PROMPT = 4 };

int lade_ask_open(struct lade_tiers *t, char *err)
{
    size_t n = (size_t)t->cat->shape.experts;
    struct lade_ask *a = &t->ask;
    a->wants = malloc(n * sizeof *a->wants);
    a->ids = malloc(n * sizeof *a->ids);
    a->data = malloc(n * sizeof *a->data);
    a->uses = calloc(n, sizeof *a->uses);
    return a->wants && a->ids && a->data && a->uses
               ? 0
               : lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
}

void lade_ask_close(struct lade_tiers *t)
{
    free(t->ask.wants);
    free(t->ask.ids);
    free(t->ask.data);
    free(t->ask.uses);
}

void lade_tiers_begin(struct lade_tiers *t, int tokens, const atomic_bool *cancel)
{
    pthread_mutex_lock(&t->lock);
    t->ask.tokens = tokens;
    t->ask.cancel = cancel;
    t->ask.wait_s = 0;
    t->ask.began = lade_tiers_now();
    t->before = t->traffic;
    lade_heat_tick(&t->heat, tokens);
    pthread_mutex_unlock(&t->lock);
}

/* What was added between two sums. */
static struct lade_traffic difference(const struct lade_traffic *to,
                                      const struct lade_traffic *from)
{
    return (struct lade_traffic){
        .tokens = to->tokens - from->tokens,
        .vram_hits = to->vram_hits - from->vram_hits,
        .ram_hits = to->ram_hits - from->ram_hits,
        .disk_reads = to->disk_reads - from->disk_reads,
        .vram_bytes = to->vram_bytes - from->vram_bytes,
        .ram_bytes = to->ram_bytes - from->ram_bytes,
        .disk_bytes = to->disk_bytes - from->disk_bytes,
        .link_bytes = to->link_bytes - from->link_bytes,
        .wait_s = to->wait_s - from->wait_s,
        .compute_s = to->compute_s - from->compute_s,
    };
}

void lade_tiers_end(struct lade_tiers *t)
{
    pthread_mutex_lock(&t->lock);
    t->traffic.tokens += (uint64_t)t->ask.tokens;
    t->traffic.wait_s += t->ask.wait_s;
    t->traffic.compute_s += lade_tiers_now() - t->ask.began - t->ask.wait_s;
    if (t->ask.tokens == 1)
        t->token = difference(&t->traffic, &t->before);
    t->ask.tokens = 0;
    pthread_cond_broadcast(&t->work); /* the load may go at full speed again */
    pthread_mutex_unlock(&t->lock);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int by_hand_then_place(const void *a, const void *b)
{
    const struct lade_want *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->expert - y->expert;
}

/* Where an expert lies: shards do not overlap, so the order of their numbers will do. */
static uint64_t place_of(const struct lade_tiers *t, int e)
{
    const struct lade_piece *p = &t->cat->pieces[lade_expert_piece(t, e)];
    const struct lade_span *s = &t->cat->tensors[p->first].parts[0];
    return 1 + ((uint64_t)s->shard << 48) + s->offset;
}

static void want(struct lade_tiers *t, int e)
{
    struct lade_ask *a = &t->ask;
    struct lade_want *w = &a->wants[a->n++];
    size_t bytes = t->kinds.kind[t->kinds.of[e]].bytes;
    int slot = t->ram.slot_of[e];
    bool here = slot >= 0 && t->ram.state[slot] == LADE_SLOT_HERE;
    if (slot >= 0)
        lade_cache_pin(&t->ram, slot);
    *w = (struct lade_want){.expert = e, .slot = slot, .at = here ? 0 : place_of(t, e)};
    *(here ? &t->traffic.ram_hits : &t->traffic.disk_reads) += 1;
    *(here ? &t->traffic.ram_bytes : &t->traffic.disk_bytes) += bytes;
}

void lade_tiers_ask(struct lade_tiers *t, int layer, const int32_t *ids, int n)
{
    struct lade_ask *a = &t->ask;
    int experts = t->cat->shape.experts;
    pthread_mutex_lock(&t->lock);
    a->n = a->next = a->wave_first = a->next_demand = 0;
    a->failed = false;
    for (int i = 0; i < n; i++)
        a->uses[ids[i]]++;
    for (int i = 0; i < experts; i++) {
        if (!a->uses[i])
            continue;
        int e = layer * experts + i;
        want(t, e);
        lade_heat_use(&t->heat, e, a->uses[i]);
        a->uses[i] = 0;
    }
    qsort(a->wants, (size_t)a->n, sizeof *a->wants, by_hand_then_place);
    if (a->n && a->wants[a->n - 1].at)
        pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
}

bool lade_ask_pick(struct lade_tiers *t, struct lade_job *job)
{
    struct lade_ask *a = &t->ask;
    for (; a->next_demand < a->n && !a->failed; a->next_demand++) {
        struct lade_want *w = &a->wants[a->next_demand];
        if (w->slot >= 0)
            continue;
        /* On its way by now? Then its slot has a pin for us, too. */
        w->slot = t->ram.slot_of[w->expert];
        if (w->slot >= 0) {
            lade_cache_pin(&t->ram, w->slot);
            continue;
        }
        w->slot = lade_cache_take(&t->ram, w->expert,
                                  a->tokens > PROMPT ? LADE_TAKE_STAGE : LADE_TAKE_ANY);
        if (w->slot < 0)
            return false; /* until a wave gives one back */
        a->next_demand++;
        job->kind = LADE_JOB_DEMAND;
        job->experts[0] = w->expert;
        job->n = 1;
        return true;
    }
    return false;
}

void lade_ask_failed(struct lade_tiers *t, int e, const char *err)
{
    struct lade_ask *a = &t->ask;
    for (int i = a->next; i < a->n; i++) {
        if (a->wants[i].expert != e || a->wants[i].slot < 0)
            continue;
        a->wants[i].slot = -1;
        a->failed = true;
        lade_fail(a->err, "%s", err);
    }
}

/* ---- waves ----------------------------------------------------------------------------------- */

/* Gives back the slots of wants [from, to). */
static void give_up(struct lade_tiers *t, int from, int to)
{
    bool freed = false;
    for (int i = from; i < to; i++) {
        if (t->ask.wants[i].slot < 0)
            continue;
        lade_cache_unpin(&t->ram, t->ask.wants[i].slot);
        t->ask.wants[i].slot = -1;
        freed = true;
    }
    if (freed && t->ask.next_demand < t->ask.n)
        pthread_cond_broadcast(&t->work);
}

/* Wants from `next` on that are there, without a gap. */
static int count_ready(const struct lade_tiers *t)
{
    const struct lade_ask *a = &t->ask;
    int n = 0;
    while (a->next + n < a->n) {
        int slot = a->wants[a->next + n].slot;
        if (slot < 0 || t->ram.state[slot] != LADE_SLOT_HERE)
            break;
        n++;
    }
    return n;
}

/* Under the lock: how many are ready, at least one, or -1. */
static int wait_ready(struct lade_tiers *t, char *err)
{
    struct lade_ask *a = &t->ask;
    int n = count_ready(t);
    double from = n ? 0 : lade_tiers_now();
    while (!n && !a->failed) {
        if (a->cancel && atomic_load(a->cancel))
            return lade_fail(err, "answer: cancelled; ask again");
        lade_wait_a_while(t);
        n = count_ready(t);
    }
    a->wait_s += from > 0 ? lade_tiers_now() - from : 0;
    return n ? n : lade_fail(err, "%s", a->err);
}

int lade_tiers_wave(struct lade_tiers *t, struct lade_wave *wave, char *err)
{
    struct lade_ask *a = &t->ask;
    pthread_mutex_lock(&t->lock);
    give_up(t, a->wave_first, a->next);
    a->wave_first = a->next;
    int n = a->next < a->n ? wait_ready(t, err) : 0;
    for (int i = 0; i < n; i++) {
        const struct lade_want *w = &a->wants[a->next + i];
        a->ids[i] = w->expert % t->cat->shape.experts;
        a->data[i] = lade_slot_memory(t, w->slot);
    }
    a->next += n > 0 ? n : 0;
    pthread_mutex_unlock(&t->lock);
    *wave = (struct lade_wave){.n = n, .experts = a->ids, .data = a->data};
    return n < 0 ? -1 : n > 0;
}

void lade_tiers_done(struct lade_tiers *t)
{
    pthread_mutex_lock(&t->lock);
    t->ask.next_demand = t->ask.n; /* what no mover has begun, none will */
    give_up(t, t->ask.wave_first, t->ask.n);
    t->ask.n = t->ask.next = t->ask.wave_first = t->ask.next_demand = 0;
    pthread_mutex_unlock(&t->lock);
}
