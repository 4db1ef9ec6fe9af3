/* look.c - reading ahead: what the next layer will probably ask for, while the drive is idle.
 *
 * The forward pass guesses, by the next layer's router on this layer's activations. The movers read
 * the guessed experts, one at a time and only while no layer waits and no load goes on, to a few
 * *landings*: places of their own beside the slots, so that no guess takes the place of anything
 * but an older guess. When a layer asks for an expert that has landed, its bytes are copied to the
 * slot that it would have been read to. So who is in which slot, and in which order a layer's
 * experts are computed, is the same as without all this, and results are, too. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/tiers/internal.h"

enum { NO_KIND = 255 };

/* ---- open, close ----------------------------------------------------------------------------- */

int lade_look_open(struct lade_tiers *t, int n, char *err)
{
    struct lade_look *l = &t->look;
    lade_governor_open(&l->governor);
    if (n < 1)
        return 0;
    l->landings = malloc((size_t)n * sizeof *l->landings);
    l->queue = malloc((size_t)n * sizeof *l->queue);
    l->bytes = (size_t)n * t->kinds.largest;
    l->memory = mmap(NULL, l->bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (l->memory == MAP_FAILED)
        l->memory = NULL;
    if (!l->landings || !l->queue || !l->memory)
        return lade_fail(err, "%s: out of memory for reading ahead; close other programs",
                         t->cat->path);
    for (int i = 0; i < n; i++)
        l->landings[i] = (struct lade_landing){.expert = -1, .slot = -1, .kind = NO_KIND};
    l->n = n;
    return 0;
}

void lade_look_close(struct lade_tiers *t)
{
    struct lade_look *l = &t->look;
    if (l->memory)
        munmap(l->memory, l->bytes);
    free(l->landings);
    free(l->queue);
    *l = (struct lade_look){0};
}

unsigned char *lade_landing_place(const struct lade_tiers *t, int landing)
{
    return t->look.memory + (size_t)landing * t->kinds.largest;
}

/* ---- guesses (the engine's thread) ----------------------------------------------------------- */

void lade_look_begin(struct lade_tiers *t)
{
    struct lade_look *l = &t->look;
    int in_memory = t->ram.here;
    for (int i = 0; i < t->n_vram; i++)
        in_memory += t->vram[i].cache.here;
    l->n_queue = l->next = 0;
    l->active = t->lookahead && l->n && t->ask.tokens == 1 && t->load.ended &&
                in_memory < t->kinds.n_experts;
}

void lade_look_end(struct lade_tiers *t)
{
    struct lade_look *l = &t->look;
    const struct lade_look_counts now = {
        .layers = l->layers, .right = t->traffic.ahead_right, .wasted = t->traffic.ahead_wasted};
    if (l->active)
        lade_governor_token(&l->governor, &now);
    t->traffic.ahead_on = l->active && l->governor.on;
    l->active = false;
}

bool lade_tiers_looks(struct lade_tiers *t)
{
    pthread_mutex_lock(&t->lock);
    bool looks = t->look.active && t->look.governor.on;
    pthread_mutex_unlock(&t->lock);
    return looks;
}

static int landing_of(const struct lade_look *l, int e)
{
    for (int i = 0; i < l->n; i++)
        if (l->landings[i].expert == e)
            return i;
    return -1;
}

/* Whether an expert is in memory, or on its way there. */
static bool is_near(struct lade_tiers *t, int e)
{
    return t->ram.slot_of[e] >= 0 || lade_vslot(t, e) >= 0 || landing_of(&t->look, e) >= 0;
}

void lade_tiers_guess(struct lade_tiers *t, int layer, const int32_t *ids, int n)
{
    struct lade_look *l = &t->look;
    int experts = t->cat->shape.experts;
    pthread_mutex_lock(&t->lock);
    l->n_queue = l->next = 0;
    l->layers++;
    for (int i = 0; i < n && l->n_queue < l->n; i++)
        if (ids[i] >= 0 && ids[i] < experts && !is_near(t, layer * experts + ids[i]))
            l->queue[l->n_queue++] = layer * experts + ids[i];
    if (l->n_queue)
        pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
}

/* ---- reads (the movers) ---------------------------------------------------------------------- */

/* A landing for another expert: one that is free, or else the oldest; -1 where all are in use. */
static int free_landing(struct lade_tiers *t)
{
    struct lade_look *l = &t->look;
    int best = -1;
    for (int i = 0; i < l->n; i++) {
        const struct lade_landing *at = &l->landings[i];
        if (at->expert >= 0 && (!at->here || at->slot >= 0))
            continue;
        if (best < 0 || at->age < l->landings[best].age)
            best = i;
    }
    if (best >= 0 && l->landings[best].expert >= 0) {
        t->traffic.ahead_wasted++;
        t->traffic.ahead_wasted_bytes += lade_expert_bytes(t, l->landings[best].expert);
    }
    return best;
}

bool lade_look_pick(struct lade_tiers *t, struct lade_job *job)
{
    struct lade_look *l = &t->look;
    if (!l->active || l->flying || !t->load.ended || lade_ask_waits(t))
        return false;
    while (l->next < l->n_queue && is_near(t, l->queue[l->next]))
        l->next++;
    int landing = l->next < l->n_queue ? free_landing(t) : -1;
    if (landing < 0)
        return false;
    int e = l->queue[l->next++];
    struct lade_landing *at = &l->landings[landing];
    at->fresh = at->kind != t->kinds.of[e];
    at->kind = t->kinds.of[e];
    at->expert = e;
    at->slot = -1;
    at->here = false;
    at->age = ++l->ages;
    l->flying = true;
    t->traffic.ahead++;
    job->kind = LADE_JOB_LOOK;
    job->landing = landing;
    job->experts[0] = e;
    job->n = 1;
    return true;
}

int lade_look_claim(struct lade_tiers *t, int e, int slot, bool *here)
{
    struct lade_look *l = &t->look;
    int landing = landing_of(l, e);
    if (landing < 0)
        return -1;
    l->landings[landing].slot = slot;
    *here = l->landings[landing].here;
    t->traffic.ahead_right++;
    return landing;
}

bool lade_look_landed(struct lade_tiers *t, struct lade_job *job, bool failed)
{
    struct lade_look *l = &t->look;
    struct lade_landing *at = &l->landings[job->landing];
    l->flying = false;
    at->here = !failed;
    if (at->slot < 0) {
        if (failed)
            lade_look_taken(t, job->landing); /* whoever asks for it tries again, and tells */
        job->kind = LADE_JOB_NONE;
        return false;
    }
    job->kind = LADE_JOB_DEMAND;
    job->slots[0] = at->slot;
    job->vslots[0] = -1;
    return true;
}

void lade_look_taken(struct lade_tiers *t, int landing)
{
    struct lade_landing *at = &t->look.landings[landing];
    at->expert = at->slot = -1;
    at->age = 0; /* the next to be filled */
}

void lade_landing_prepare(struct lade_tiers *t, int landing)
{
    if (t->look.landings[landing].fresh)
        memset(lade_landing_place(t, landing), 0, t->kinds.largest);
}

void lade_landing_copy(struct lade_tiers *t, const struct lade_job *job)
{
    int e = job->experts[0], slot = job->slots[0];
    lade_slot_prepare(t, slot, e);
    memcpy(lade_store_slot(&t->store, slot), lade_landing_place(t, job->landing),
           lade_expert_bytes(t, e));
}
