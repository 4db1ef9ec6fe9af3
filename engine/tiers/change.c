/* change.c - other homes for everything, while a conversation goes on.
 *
 * A slot's number says which expert is in it, whatever kind of memory the slot is. So caches of
 * other sizes, memory of another kind and a GPU that comes or goes are steps of their own, taken in
 * an order in which no memory ever holds more than the larger of what was and what will be:
 * first what must make room, then the base and what others keep (state, caches, buffers), then what
 * may grow. Experts go from memory to memory; only those that neither had are read again. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/tiers/internal.h"

/* ---- rooms ----------------------------------------------------------------------------------- */

struct moving {
    const struct lade_store *store;
    bool failed; /* a slot does not have the bytes that it should */
};

static void move_expert(void *user, int from, int to)
{
    struct moving *m = user;
    const struct lade_store *s = m->store;
    unsigned char *source = lade_store_slot(s, from), *target = lade_store_slot(s, to);
    if (s->where != LADE_STORE_VRAM)
        memcpy(target, source, lade_store_stride(s, from));
    else if (s->ops->copy(s->dev, target, source, lade_store_stride(s, from), NULL))
        m->failed = true;
}

/* Where a move within a cache has failed, all of that kind is read again. */
static void forget(struct lade_cache *c, const struct lade_cache_kind *k)
{
    for (int slot = k->first; slot < k->first + k->room; slot++)
        if (c->state[slot] == LADE_SLOT_HERE)
            lade_cache_evict(c, slot);
}

/* Gives a cache and its store these rooms. Fails where there is memory for less, which they have then. */
static int set_rooms(struct lade_tiers *t, struct lade_cache *c, struct lade_store *s,
                     const int *room, char *err)
{
    struct moving m = {.store = s};
    int failed = 0;
    for (int i = 0; i < t->kinds.n; i++) {
        int reached = lade_cache_resize(c, i, room[i], move_expert, &m);
        if (s->where == LADE_STORE_VRAM)
            s->ops->sync(s->dev, NULL); /* free() does not wait for the copies */
        if (lade_store_resize(s, i, reached, failed ? NULL : err)) {
            lade_cache_resize(c, i, lade_store_reached(s, i), move_expert, &m);
            failed = -1;
        }
        if (m.failed)
            forget(c, &c->kind[i]);
        m.failed = false;
    }
    return failed;
}

static int set_budget(struct lade_tiers *t, struct lade_cache *c, struct lade_store *s,
                      uint64_t budget, char *err)
{
    int room[LADE_MAX_KINDS];
    lade_store_fit(s, budget, room);
    return set_rooms(t, c, s, room, err);
}

/* Like set_budget, but only downwards or only upwards. */
static void shrink(struct lade_tiers *t, struct lade_cache *c, struct lade_store *s,
                   uint64_t budget)
{
    int room[LADE_MAX_KINDS];
    lade_store_fit(s, budget, room);
    for (int i = 0; i < t->kinds.n; i++)
        room[i] = room[i] < c->kind[i].room ? room[i] : c->kind[i].room;
    set_rooms(t, c, s, room, NULL);
}

static void grow(struct lade_tiers *t, struct lade_cache *c, struct lade_store *s, uint64_t budget)
{
    int room[LADE_MAX_KINDS];
    lade_store_fit(s, budget, room);
    for (int i = 0; i < t->kinds.n; i++)
        room[i] = room[i] > c->kind[i].room ? room[i] : c->kind[i].room;
    set_rooms(t, c, s, room, NULL);
}

/* ---- experts from memory to memory ----------------------------------------------------------- */

static bool rests(const struct lade_cache *c, int slot)
{
    return slot >= 0 && !lade_cache_is_stage(c, slot) && c->state[slot] == LADE_SLOT_HERE;
}

/* From RAM to a free slot of VRAM; false where there is none. */
static bool bring_up(struct lade_tiers *t, int e)
{
    struct lade_cache *c = &lade_vram_of(t, e)->cache;
    int vslot = lade_cache_take(c, e, LADE_TAKE_FREE);
    if (vslot < 0)
        return false;
    if (lade_vram_put(t, e, t->ram.slot_of[e], vslot, NULL)) {
        lade_cache_failed(c, vslot);
        return false;
    }
    lade_cache_filled(c, vslot);
    lade_cache_unpin(c, vslot);
    return true;
}

/* From VRAM to a free slot of RAM, if it is not in RAM and there is one. */
static void bring_down(struct lade_tiers *t, int e)
{
    const struct lade_vram *v = lade_vram_of(t, e);
    if (t->ram.slot_of[e] >= 0)
        return;
    int slot = lade_cache_take(&t->ram, e, LADE_TAKE_FREE);
    if (slot < 0)
        return;
    if (v->part.ops->download(v->part.dev, lade_store_slot(&t->store, slot),
                              lade_store_slot(&v->store, v->cache.slot_of[e]),
                              lade_expert_bytes(t, e), NULL)) {
        lade_cache_failed(&t->ram, slot);
        return;
    }
    lade_cache_filled(&t->ram, slot);
    lade_cache_unpin(&t->ram, slot);
}

struct warm {
    int expert;
    double score;
};

static int warmest_first(const void *a, const void *b)
{
    const struct warm *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->expert - y->expert;
}

/* The experts that rest in a cache, the warmest first; NULL without memory. */
static struct warm *list_warm(const struct lade_tiers *t, const struct lade_cache *c, int *n)
{
    struct warm *list = malloc((size_t)t->kinds.n_experts * sizeof *list);
    *n = 0;
    for (int e = 0; list && e < t->kinds.n_experts; e++)
        if (rests(c, c->slot_of[e]))
            list[(*n)++] = (struct warm){e, t->heat.score[e]};
    if (list)
        qsort(list, (size_t)*n, sizeof *list, warmest_first);
    return list;
}

/* Fills VRAM from RAM, which keeps a copy only where the placement says so. */
static void fill_vram(struct lade_tiers *t, const struct lade_placement *to)
{
    int n;
    struct warm *list = list_warm(t, &t->ram, &n);
    for (int i = 0; list && i < n; i++) {
        int e = list[i].expert;
        bool there = lade_vslot(t, e) >= 0 || bring_up(t, e);
        if (there && !to->ram_backs_vram)
            lade_cache_evict(&t->ram, t->ram.slot_of[e]);
    }
    free(list);
}

/* Brings to RAM what a card will not hold any more: of each kind all but the `room` warmest. */
static void save_from_vram(struct lade_tiers *t, const struct lade_vram *v, const int *room)
{
    int n, left[LADE_MAX_KINDS];
    struct warm *list = list_warm(t, &v->cache, &n);
    memcpy(left, room, (size_t)t->kinds.n * sizeof *left);
    for (int i = 0; list && i < n; i++)
        if (left[t->kinds.of[list[i].expert]]-- <= 0)
            bring_down(t, list[i].expert);
    free(list);
}

/* ---- the base -------------------------------------------------------------------------------- */

static int base_to_vram(struct lade_tiers *t, char *err)
{
    int rc = lade_vram_open_base(t, err);
    for (int i = 0; !rc && i < t->cat->n_pieces; i++)
        if (t->cat->pieces[i].kind != LADE_PIECE_EXPERT)
            rc = lade_vram_copy_base(t, i, err);
    if (rc)
        lade_vram_close_base(t);
    else
        madvise(t->base, t->base_bytes, MADV_DONTNEED);
    return rc;
}

static int base_to_ram(struct lade_tiers *t, char *err)
{
    for (int i = 0; i < t->cat->n_pieces; i++) {
        const struct lade_device_part *p = &lade_vram_of_piece(t, i)->part;
        if (t->cat->pieces[i].kind != LADE_PIECE_EXPERT &&
            p->ops->download(p->dev, t->base + t->base_at[i], t->vram_base[i],
                             t->cat->pieces[i].bytes, err)) {
            madvise(t->base, t->base_bytes, MADV_DONTNEED);
            return -1;
        }
    }
    lade_vram_close_base(t);
    return 0;
}

/* ---- stores of another kind ------------------------------------------------------------------ */

/* Cuts a cache to the rooms that have memory, where a move found less than it needed. */
static void cut(struct lade_tiers *t, struct lade_cache *c, const int *room)
{
    for (int i = 0; i < t->kinds.n; i++) {
        const struct lade_cache_kind *k = &c->kind[i];
        for (int slot = k->first + room[i]; slot < k->first + k->room; slot++)
            if (c->state[slot] == LADE_SLOT_HERE)
                lade_cache_evict(c, slot);
        lade_cache_resize(c, i, room[i], NULL, NULL);
    }
}

/* Gives what a cache holds to another kind of memory, on the device or in RAM that it can use. */
static int convert(struct lade_tiers *t, struct lade_cache *c, struct lade_store *s,
                   enum lade_store_kind where, enum lade_store_kind stage_where, uint64_t budget,
                   int n_stage, const struct lade_device_part *part, char *err)
{
    struct lade_store to;
    int room[LADE_MAX_KINDS];
    if (lade_store_open(&to, where, stage_where, s->kinds, budget, n_stage, part->ops, part->dev,
                        err)) {
        lade_store_close(&to);
        return -1;
    }
    for (int i = 0; i < t->kinds.n; i++)
        room[i] = c->kind[i].room;
    lade_store_move(s, &to, room);
    cut(t, c, room);
    return 0;
}

static int convert_vram(struct lade_tiers *t, struct lade_vram *v, const struct lade_placement *to,
                        char *err)
{
    int n_stage = lade_vram_stage(t, v, to);
    uint64_t budget = lade_vram_budget(t, v, to);
    if (n_stage == v->cache.n_stage && lade_store_suits(&v->store, budget))
        return 0;
    if (convert(t, &v->cache, &v->store, LADE_STORE_VRAM, LADE_STORE_VRAM, budget, n_stage,
                &v->part, err))
        return -1;
    return lade_vram_size_stage(t, v, n_stage, err);
}

static int convert_ram(struct lade_tiers *t, const struct lade_placement *to, char *err)
{
    bool gpu = to->n_cards, streams = gpu && to->rest_by == LADE_BY_GPU;
    enum lade_store_kind where = streams ? LADE_STORE_PINNED : LADE_STORE_RAM;
    enum lade_store_kind stage_where = gpu ? LADE_STORE_PINNED : LADE_STORE_RAM;
    if (where == t->store.where && stage_where == t->store.stage_where &&
        lade_store_suits(&t->store, to->ram_experts))
        return 0;
    return convert(t, &t->ram, &t->store, where, stage_where, to->ram_experts, t->ram.n_stage,
                   &t->vram[0].part, err);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Nothing is on its way, nothing is in use: what is being copied ends before. */
static int stand_still(struct lade_tiers *t, char *err)
{
    lade_movers_stop(t);
    t->stop = false;
    for (int i = 0; i < t->n_vram; i++) {
        struct lade_vram *v = &t->vram[i];
        while (v->n_passing)
            if (lade_vram_reap(t, v, true, err))
                return -1;
        if (v->part.ops->sync(v->part.dev, err))
            return -1;
    }
    return 0;
}

/* Whether a placement holds more in one memory beside experts than another does. */
static bool more_beside(const struct lade_placement *a, const struct lade_placement *b,
                        enum lade_tier tier)
{
    return (a->base == tier && b->base != tier) || (a->kv == tier && b->kv != tier) ||
           (a->buffers == tier && b->buffers != tier);
}

/* Before the base moves: what will hold less shrinks, and RAM takes what it can of that. */
static void make_room(struct lade_tiers *t, const struct lade_placement *to)
{
    int room[LADE_MAX_KINDS];
    if (more_beside(to, &t->place, LADE_RAM))
        shrink(t, &t->ram, &t->store, to->ram_experts);
    if (!t->n_vram || !to->n_cards)
        return;
    if (!more_beside(&t->place, to, LADE_RAM) && !more_beside(to, &t->place, LADE_RAM)) {
        if (to->rest_by == t->place.rest_by && to->ram_experts > t->place.ram_experts)
            convert_ram(t, to, NULL); /* to chunks that suit, while there are few */
        grow(t, &t->ram, &t->store, to->ram_experts);
    }
    for (int i = 0; i < t->n_vram; i++) {
        struct lade_vram *v = &t->vram[i];
        lade_store_fit(&v->store, lade_vram_budget(t, v, to), room);
        save_from_vram(t, v, room);
        shrink(t, &v->cache, &v->store, lade_vram_budget(t, v, to));
    }
}

/* What the placement needs is to be read, as far as it is not there. */
static int plan_load(struct lade_tiers *t, bool base_is_home, char *err)
{
    const atomic_bool *cancel = t->load.cancel;
    lade_load_close(t);
    t->base_is_home = base_is_home;
    t->began = 0;
    memset(t->reported, 0, (size_t)t->cat->n_shards * sizeof *t->reported);
    if (lade_load_open(t, err))
        return -1;
    t->load.cancel = cancel;
    return 0;
}

/* And is, in the background. */
static int start_load(struct lade_tiers *t, char *err)
{
    return plan_load(t, true, err) || lade_movers_start(t, err) ? -1 : 0;
}

static int move_base(struct lade_tiers *t, const struct lade_placement *to,
                     const struct lade_devices *devices, char *err)
{
    bool opened = !t->n_vram && to->n_cards;
    if (stand_still(t, err) || (opened && lade_vram_open(t, to, devices, err)))
        return -1;
    make_room(t, to);
    /* Not where the placement says: a step that is taken back has moved it already. */
    if ((to->base == LADE_VRAM) == (t->vram_base != NULL))
        return 0;
    return to->base == LADE_VRAM ? base_to_vram(t, err) : base_to_ram(t, err);
}

int lade_tiers_move_base(struct lade_tiers *t, const struct lade_placement *to,
                         const struct lade_devices *devices, char *err)
{
    bool had_gpu = t->n_vram;
    if (!move_base(t, to, devices, err))
        return 0;
    if (!had_gpu)
        lade_vram_close(t);
    start_load(t, NULL);
    return -1;
}

/* The first of some failures is told. */
static void note(bool *failed, int rc)
{
    *failed = *failed || rc;
}

int lade_tiers_move_experts(struct lade_tiers *t, const struct lade_placement *to, char *err)
{
    int all[LADE_MAX_KINDS] = {0};
    bool failed = false;
    t->version++;
    for (int i = 0; i < to->n_cards; i++) {
        struct lade_vram *v = &t->vram[i];
        note(&failed, convert_vram(t, v, to, failed ? NULL : err));
        note(&failed,
             set_budget(t, &v->cache, &v->store, lade_vram_budget(t, v, to), failed ? NULL : err));
    }
    if (to->n_cards)
        fill_vram(t, to);
    shrink(t, &t->ram, &t->store, to->ram_experts);
    note(&failed, convert_ram(t, to, failed ? NULL : err));
    note(&failed, set_budget(t, &t->ram, &t->store, to->ram_experts, failed ? NULL : err));
    if (t->n_vram && !to->n_cards) {
        for (int i = 0; i < t->n_vram; i++)
            save_from_vram(t, &t->vram[i], all);
        lade_vram_close(t);
        t->store.ops = NULL;
        t->store.dev = NULL;
    }
    t->place = *to;
    return start_load(t, failed ? NULL : err) || failed ? -1 : 0;
}

void lade_tiers_halt(struct lade_tiers *t)
{
    lade_movers_stop(t);
}

/* Nothing of the cards is in use any more. Those that are not lost may still be at work. */
static void leave_cards(struct lade_tiers *t)
{
    for (int i = 0; i < t->n_vram; i++) {
        struct lade_vram *v = &t->vram[i];
        v->part.ops->sync(v->part.dev, NULL);
        for (int k = 0; k < v->n_passing; k++)
            lade_cache_unpin(&t->ram, v->passing[k].slot);
        v->n_passing = 0;
    }
}

/* Memory that the driver gave as pinned is read again, too: one that refuses everything may keep it until
 * the device is closed, and nobody has it twice. Plain RAM stays where it is. */
int lade_tiers_lose(struct lade_tiers *t, const struct lade_placement *to, char *err)
{
    const int none[LADE_MAX_KINDS] = {0};
    bool failed = false;
    lade_movers_stop(t);
    t->stop = false;
    lade_tiers_done(t);
    const bool base_is_home = !t->vram_base && !t->load.base_left;
    leave_cards(t);
    t->version++;
    t->no_pinning = false;
    if (t->store.where == LADE_STORE_PINNED)
        set_rooms(t, &t->ram, &t->store, none, NULL);
    shrink(t, &t->ram, &t->store, to->ram_experts);
    if (t->store.where == LADE_STORE_PINNED)
        note(&failed, convert_ram(t, to, err));
    else
        note(&failed, lade_store_leave(&t->store, err));
    note(&failed, set_budget(t, &t->ram, &t->store, to->ram_experts, failed ? NULL : err));
    lade_vram_close(t);
    t->store.ops = NULL;
    t->store.dev = NULL;
    t->place = *to;
    return plan_load(t, base_is_home, failed ? NULL : err) || failed ? -1 : 0;
}

int lade_tiers_resume(struct lade_tiers *t, char *err)
{
    return t->n_movers ? 0 : lade_movers_start(t, err);
}

int lade_tiers_resize(struct lade_tiers *t, uint64_t ram_experts, const uint64_t *vram_experts,
                      char *err)
{
    const struct lade_placement was = t->place;
    struct lade_placement to = was;
    to.ram_experts = ram_experts;
    for (int i = 0; i < to.n_cards; i++)
        to.card[i].experts = vram_experts[i];
    if (!lade_tiers_move_base(t, &to, NULL, err) && !lade_tiers_move_experts(t, &to, err))
        return 0;
    if (!lade_tiers_move_base(t, &was, NULL, NULL))
        lade_tiers_move_experts(t, &was, NULL);
    return -1;
}

uint64_t lade_tiers_ram_for(const struct lade_tiers *t, const struct lade_placement *plan,
                            const uint64_t *vram_experts)
{
    struct lade_placement to = *plan;
    int home[LADE_MAX_KINDS], before[LADE_MAX_KINDS], room[LADE_MAX_KINDS];
    bool fewer = false;
    lade_store_fit(&t->store, plan->ram_experts, home);
    for (int i = 0; i < plan->n_cards; i++) {
        const struct lade_vram *v = &t->vram[i];
        to.card[i].experts = vram_experts[i];
        lade_store_fit(&v->store, lade_vram_budget(t, v, plan), before);
        lade_store_fit(&v->store, lade_vram_budget(t, v, &to), room);
        for (int k = 0; k < t->kinds.n; k++) {
            const int all = t->kinds.kind[k].experts;
            fewer = fewer || room[k] < before[k];
            home[k] += before[k] - room[k];
            home[k] = home[k] < all ? home[k] : all;
        }
    }
    return plan->ram_backs_vram || !fewer ? plan->ram_experts : lade_store_budget(&t->store, home);
}

uint64_t lade_tiers_version(const struct lade_tiers *t)
{
    return t->version;
}
