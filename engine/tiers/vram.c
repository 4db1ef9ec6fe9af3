/* vram.c - what a GPU adds to the tiers: its memory, and carrying pieces there. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/tiers/internal.h"

/* Slots that experts on their way through take, in tokens' worth: one wave computes while the next
 * arrives, twice. Of little VRAM, at most a quarter. */
enum { WAVES = 4, PART = 4, LEAST = 2 };

/* ---- open, close ----------------------------------------------------------------------------- */

int lade_vram_stage(const struct lade_tiers *t, const struct lade_placement *place)
{
    if (place->rest_by != LADE_BY_GPU || !t->kinds.largest)
        return 0;
    int rooms[LADE_MAX_KINDS];
    lade_kinds_rooms(&t->kinds, place->vram_experts, rooms);
    bool all = true;
    for (int i = 0; i < t->kinds.n; i++)
        all = all && rooms[i] == t->kinds.kind[i].experts;
    if (all)
        return 0;
    size_t most = (size_t)WAVES * (size_t)t->cat->shape.experts_used;
    size_t some = (size_t)(place->vram_experts / PART) / t->kinds.largest;
    return (int)(some < LEAST ? LEAST : some > most ? most : some);
}

uint64_t lade_vram_budget(const struct lade_tiers *t, const struct lade_placement *place)
{
    size_t stage = (size_t)lade_vram_stage(t, place) * t->kinds.largest;
    return place->vram_experts > stage ? place->vram_experts - stage : 0;
}

int lade_vram_size_stage(struct lade_tiers *t, int n_stage, char *err)
{
    struct lade_vram *v = &t->vram;
    size_t slots = (size_t)v->cache.first_stage + (size_t)n_stage;
    lade_fence *used = realloc(v->used, slots * sizeof *used);
    if (!used)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    v->used = used;
    memset(used, 0, slots * sizeof *used);
    v->wave_limit = n_stage / 2 > 1 ? n_stage / 2 : 1;
    return lade_cache_set_stage(&v->cache, n_stage, err);
}

static int open_slots(struct lade_tiers *t, const struct lade_placement *place, char *err)
{
    struct lade_vram *v = &t->vram;
    int none[LADE_MAX_KINDS] = {0}, n_stage = lade_vram_stage(t, place);
    v->carried = malloc((size_t)t->cat->shape.experts * sizeof *v->carried);
    if (!v->carried)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    return lade_cache_open(&v->cache, &t->kinds, none, 0, t->heat.score, err) ||
                   lade_vram_size_stage(t, n_stage, err) ||
                   lade_store_open(&v->store, LADE_STORE_VRAM, LADE_STORE_VRAM, &t->kinds,
                                   lade_vram_budget(t, place), n_stage, v->ops, v->dev, err)
               ? -1
               : 0;
}

int lade_vram_open_base(struct lade_tiers *t, char *err)
{
    struct lade_vram *v = &t->vram;
    v->base = calloc((size_t)t->cat->n_pieces, sizeof *v->base);
    if (!v->base)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    for (int i = 0; i < t->cat->n_pieces; i++)
        if (t->cat->pieces[i].kind != LADE_PIECE_EXPERT &&
            v->ops->alloc(v->dev, (void **)&v->base[i], t->cat->pieces[i].bytes, err))
            return -1;
    return 0;
}

void lade_vram_close_base(struct lade_tiers *t)
{
    struct lade_vram *v = &t->vram;
    for (int i = 0; v->base && i < t->cat->n_pieces; i++)
        v->ops->free(v->dev, v->base[i]);
    free(v->base);
    v->base = NULL;
}

int lade_vram_open(struct lade_tiers *t, const struct lade_placement *place,
                   const struct lade_ops *gpu, struct lade_device *dev, char *err)
{
    if (!lade_on_gpu(place))
        return 0;
    if (!dev)
        return lade_fail(err, "%s: the placement needs a GPU, none is open; report this",
                         t->cat->path);
    t->vram.ops = gpu;
    t->vram.dev = dev;
    return open_slots(t, place, err);
}

void lade_vram_close(struct lade_tiers *t)
{
    struct lade_vram *v = &t->vram;
    lade_vram_close_base(t);
    lade_store_close(&v->store);
    lade_cache_close(&v->cache);
    free(v->used);
    free(v->passing);
    free(v->carried);
    *v = (struct lade_vram){0};
}

/* ---- loading --------------------------------------------------------------------------------- */

int lade_vram_put(struct lade_tiers *t, int expert, int slot, int vslot, char *err)
{
    const struct lade_vram *v = &t->vram;
    lade_fence there;
    return v->ops->upload_async(v->dev, lade_store_slot(&v->store, vslot),
                                lade_store_slot(&t->store, slot), lade_expert_bytes(t, expert), 0,
                                &there, err) ||
                   v->ops->finish(v->dev, there, err)
               ? -1
               : 0;
}

int lade_vram_copy_base(struct lade_tiers *t, int piece, char *err)
{
    const struct lade_vram *v = &t->vram;
    lade_fence there;
    return v->ops->upload_async(v->dev, v->base[piece], t->base + t->base_at[piece],
                                t->cat->pieces[piece].bytes, 0, &there, err) ||
                   v->ops->finish(v->dev, there, err)
               ? -1
               : 0;
}

int lade_vram_put_base(struct lade_tiers *t, int piece, char *err)
{
    if (lade_vram_copy_base(t, piece, err))
        return -1;
    madvise(t->base + t->base_at[piece], t->cat->pieces[piece].bytes, MADV_DONTNEED);
    return 0;
}

/* ---- streaming ------------------------------------------------------------------------------- */

static struct lade_passing *add_passing(struct lade_vram *v, char *err)
{
    if (v->n_passing == v->cap_passing) {
        int cap = v->cap_passing ? 2 * v->cap_passing : 64;
        struct lade_passing *grown = realloc(v->passing, (size_t)cap * sizeof *grown);
        if (!grown) {
            lade_fail(err, "streaming: out of memory; close other programs");
            return NULL;
        }
        v->passing = grown;
        v->cap_passing = cap;
    }
    return &v->passing[v->n_passing];
}

int lade_vram_carry(struct lade_tiers *t, int n, char *err)
{
    struct lade_vram *v = &t->vram;
    lade_fence last = 0;
    for (int i = 0; i < n; i++) {
        const struct lade_carried *c = &v->carried[i];
        struct lade_passing *p = add_passing(v, err);
        if (!p ||
            v->ops->upload_async(v->dev, lade_store_slot(&v->store, c->vslot),
                                 lade_store_slot(&t->store, c->slot),
                                 lade_expert_bytes(t, c->expert), v->used[c->vslot], &last, err))
            return -1;
        *p = (struct lade_passing){c->slot, last};
        v->n_passing++;
    }
    return n ? v->ops->wait(v->dev, last, err) : 0;
}

int lade_vram_reap(struct lade_tiers *t, bool wait, char *err)
{
    struct lade_vram *v = &t->vram;
    if (!v->n_passing)
        return 0;
    if (wait && v->ops->finish(v->dev, v->passing[0].fence, err))
        return -1;
    int done = 0; /* copies end in the order in which they began */
    bool reached = true;
    while (done < v->n_passing && reached) {
        if (v->ops->reached(v->dev, v->passing[done].fence, &reached, err))
            return -1;
        done += reached;
    }
    if (!done)
        return 0;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < done; i++)
        lade_cache_unpin(&t->ram, v->passing[i].slot);
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    v->n_passing -= done;
    memmove(v->passing, v->passing + done, (size_t)v->n_passing * sizeof *v->passing);
    return 0;
}

/* ---- when all is there ----------------------------------------------------------------------- */

bool lade_tiers_settled(struct lade_tiers *t)
{
    const struct lade_cache *c = &t->vram.cache;
    if (!t->vram.ops || t->place.base != LADE_VRAM)
        return false;
    pthread_mutex_lock(&t->lock);
    bool settled = c->here == t->kinds.n_experts;
    pthread_mutex_unlock(&t->lock);
    return settled;
}

const void *lade_tiers_settled_at(const struct lade_tiers *t, int layer, int expert)
{
    int e = layer * t->cat->shape.experts + expert;
    return lade_store_slot(&t->vram.store, t->vram.cache.slot_of[e]);
}
