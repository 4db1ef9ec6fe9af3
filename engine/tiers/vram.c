/* vram.c - what GPUs add to the tiers: their memory, and carrying pieces there. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/tiers/internal.h"

/* Slots that experts on their way through take, in tokens' worth: one wave computes while the next
 * arrives, twice. Of little VRAM, at most a quarter. */
enum { WAVES = 4, PART = 4, LEAST = 2 };

/* ---- open, close ----------------------------------------------------------------------------- */

int lade_vram_stage(const struct lade_tiers *t, const struct lade_vram *v,
                    const struct lade_placement *place)
{
    const uint64_t bytes = place->card[v - t->vram].experts;
    if ((place->rest_by != LADE_BY_GPU && place->carry.cpu_token <= 0) || !v->kinds.largest)
        return 0;
    int rooms[LADE_MAX_KINDS];
    lade_kinds_rooms(&v->kinds, bytes, rooms);
    bool all = true;
    for (int i = 0; i < v->kinds.n; i++)
        all = all && rooms[i] == v->kinds.kind[i].experts;
    if (all)
        return 0;
    size_t most = (size_t)WAVES * (size_t)t->cat->shape.experts_used;
    size_t some = (size_t)(bytes / PART) / v->kinds.largest;
    if (some < LEAST && place->rest_by != LADE_BY_GPU)
        return 0; /* nothing need be carried */
    return (int)(some < LEAST ? LEAST : some > most ? most : some);
}

uint64_t lade_vram_budget(const struct lade_tiers *t, const struct lade_vram *v,
                          const struct lade_placement *place)
{
    const uint64_t bytes = place->card[v - t->vram].experts;
    size_t stage = (size_t)lade_vram_stage(t, v, place) * v->kinds.largest;
    return bytes > stage ? bytes - stage : 0;
}

int lade_vram_size_stage(struct lade_tiers *t, struct lade_vram *v, int n_stage, char *err)
{
    size_t slots = (size_t)v->cache.first_stage + (size_t)n_stage;
    lade_fence *used = realloc(v->used, slots * sizeof *used);
    if (!used)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    v->used = used;
    memset(used, 0, slots * sizeof *used);
    v->wave_limit = n_stage / 2 > 1 ? n_stage / 2 : 1;
    return lade_cache_set_stage(&v->cache, n_stage, err);
}

static int open_slots(struct lade_tiers *t, struct lade_vram *v, const struct lade_placement *place,
                      char *err)
{
    int none[LADE_MAX_KINDS] = {0}, n_stage = lade_vram_stage(t, v, place);
    v->carried = malloc((size_t)t->cat->shape.experts * sizeof *v->carried);
    if (!v->carried)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    return lade_cache_open(&v->cache, &v->kinds, none, 0, t->heat.score, err) ||
                   lade_vram_size_stage(t, v, n_stage, err) ||
                   lade_store_open(&v->store, LADE_STORE_VRAM, LADE_STORE_VRAM, &v->kinds,
                                   lade_vram_budget(t, v, place), n_stage, v->part.ops, v->part.dev,
                                   err)
               ? -1
               : 0;
}

struct lade_vram *lade_vram_of_piece(struct lade_tiers *t, int piece)
{
    const struct lade_piece *p = &t->cat->pieces[piece];
    if (p->kind == LADE_PIECE_EMBED)
        return &t->vram[0];
    if (p->kind == LADE_PIECE_HEAD)
        return &t->vram[t->n_vram - 1];
    return lade_vram_of(t, p->layer * t->cat->shape.experts);
}

/* Whether the head is the embedding, and on another card. */
static bool needs_copy(const struct lade_tiers *t)
{
    return t->cat->shape.tied_embeddings && t->n_vram > 1;
}

int lade_vram_open_base(struct lade_tiers *t, char *err)
{
    const struct lade_device_part *last = &t->vram[t->n_vram - 1].part;
    t->vram_base = calloc((size_t)t->cat->n_pieces, sizeof *t->vram_base);
    if (!t->vram_base)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    for (int i = 0; i < t->cat->n_pieces; i++) {
        const struct lade_device_part *p = &lade_vram_of_piece(t, i)->part;
        if (t->cat->pieces[i].kind != LADE_PIECE_EXPERT &&
            p->ops->alloc(p->dev, (void **)&t->vram_base[i], t->cat->pieces[i].bytes, err))
            return -1;
    }
    return needs_copy(t)
               ? last->ops->alloc(last->dev, (void **)&t->tied, t->cat->pieces[0].bytes, err)
               : 0;
}

void lade_vram_close_base(struct lade_tiers *t)
{
    for (int i = 0; t->vram_base && i < t->cat->n_pieces; i++) {
        const struct lade_device_part *p = &lade_vram_of_piece(t, i)->part;
        p->ops->free(p->dev, t->vram_base[i]);
    }
    if (t->tied) {
        const struct lade_device_part *last = &t->vram[t->n_vram - 1].part;
        last->ops->free(last->dev, t->tied);
    }
    free(t->vram_base);
    t->vram_base = NULL;
    t->tied = NULL;
}

int lade_vram_open(struct lade_tiers *t, const struct lade_placement *place,
                   const struct lade_devices *devices, char *err)
{
    if (!place->n_cards)
        return 0;
    if (!devices || !devices->gpu || devices->n != place->n_cards)
        return lade_fail(err, "%s: the placement needs %d GPUs, which are not open; report this",
                         t->cat->path, place->n_cards);
    for (int i = 0; i < devices->n; i++) {
        struct lade_vram *v = &t->vram[t->n_vram++];
        int experts = t->cat->shape.experts;
        v->part = devices->part[i];
        lade_kinds_of(&v->kinds, &t->kinds, v->part.first * experts, v->part.end * experts);
        if (open_slots(t, v, place, err))
            return -1;
    }
    return 0;
}

void lade_vram_close(struct lade_tiers *t)
{
    lade_vram_close_base(t);
    for (int i = 0; i < t->n_vram; i++) {
        struct lade_vram *v = &t->vram[i];
        lade_store_close(&v->store);
        lade_cache_close(&v->cache);
        free(v->used);
        free(v->passing);
        free(v->carried);
        *v = (struct lade_vram){0};
    }
    t->n_vram = 0;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int put(const struct lade_device_part *p, void *to, const void *from, size_t bytes,
               char *err)
{
    lade_fence there;
    return p->ops->upload_async(p->dev, to, from, bytes, 0, &there, err) ||
                   p->ops->finish(p->dev, there, err)
               ? -1
               : 0;
}

int lade_vram_put(struct lade_tiers *t, int expert, int slot, int vslot, char *err)
{
    struct lade_vram *v = lade_vram_of(t, expert);
    return put(&v->part, lade_store_slot(&v->store, vslot), lade_store_slot(&t->store, slot),
               lade_expert_bytes(t, expert), err);
}

int lade_vram_copy_base(struct lade_tiers *t, int piece, char *err)
{
    const unsigned char *from = t->base + t->base_at[piece];
    size_t bytes = t->cat->pieces[piece].bytes;
    if (put(&lade_vram_of_piece(t, piece)->part, t->vram_base[piece], from, bytes, err))
        return -1;
    return t->tied && piece == 0 ? put(&t->vram[t->n_vram - 1].part, t->tied, from, bytes, err) : 0;
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

/* The bytes of the carried from number `from` on never came: their slots are free again. */
static void drop_carried(struct lade_tiers *t, struct lade_vram *v, int from, int n)
{
    pthread_mutex_lock(&t->lock);
    for (int i = from; i < n; i++) {
        lade_cache_unpin(&t->ram, v->carried[i].slot);
        lade_cache_lost(&v->cache, v->carried[i].vslot);
    }
    lade_ask_lost(t);
    pthread_mutex_unlock(&t->lock);
}

int lade_vram_carry(struct lade_tiers *t, struct lade_vram *v, int n, char *err)
{
    const struct lade_device_part *part = n ? &v->part : NULL;
    lade_fence last = 0;
    for (int i = 0; i < n; i++) {
        const struct lade_carried *c = &v->carried[i];
        if (!lade_store_pin(&t->store, c->slot))
            t->no_pinning = true;
        struct lade_passing *p = add_passing(v, err);
        if (!p || part->ops->upload_async(part->dev, lade_store_slot(&v->store, c->vslot),
                                          lade_store_slot(&t->store, c->slot),
                                          lade_expert_bytes(t, c->expert), v->used[c->vslot], &last,
                                          err)) {
            drop_carried(t, v, i, n);
            return -1;
        }
        *p = (struct lade_passing){c->slot, last};
        v->n_passing++;
    }
    return n ? part->ops->wait(part->dev, last, err) : 0;
}

struct lade_vram *lade_vram_passing(struct lade_tiers *t)
{
    for (int i = 0; i < t->n_vram; i++)
        if (t->vram[i].n_passing)
            return &t->vram[i];
    return NULL;
}

int lade_vram_reap(struct lade_tiers *t, struct lade_vram *v, bool wait, char *err)
{
    const struct lade_device_part *part = &v->part;
    if (!v->n_passing)
        return 0;
    if (wait && part->ops->finish(part->dev, v->passing[0].fence, err))
        return -1;
    int done = 0; /* copies end in the order in which they began */
    bool reached = true;
    while (done < v->n_passing && reached) {
        if (part->ops->reached(part->dev, v->passing[done].fence, &reached, err))
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
    int here = 0;
    if (!t->n_vram || t->place.base != LADE_VRAM)
        return false;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < t->n_vram; i++)
        here += t->vram[i].cache.here;
    pthread_mutex_unlock(&t->lock);
    return here == t->kinds.n_experts;
}

const void *lade_tiers_settled_at(struct lade_tiers *t, int layer, int expert)
{
    int e = layer * t->cat->shape.experts + expert;
    const struct lade_vram *v = lade_vram_of(t, e);
    return lade_store_slot(&v->store, v->cache.slot_of[e]);
}
