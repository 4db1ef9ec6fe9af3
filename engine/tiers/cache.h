/* cache.h - which expert is in which slot of one memory.
 *
 * Pure bookkeeping: no memory, no threads, no time. Slots are numbered through: kind after kind,
 * each with as many as it has experts, of which the first `room` exist; then the *stage*, slots
 * that fit every kind and keep nothing: what is there leaves when nobody uses it any more.
 *
 * A slot is FREE, FILLING (on its way) or HERE. Pins say that somebody computes with it or waits
 * for it; a pinned slot stays. Of the others the one with the coldest expert makes room first. */
#ifndef LADE_TIERS_CACHE_H
#define LADE_TIERS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/tiers/kinds.h"

enum lade_slot_state { LADE_SLOT_FREE, LADE_SLOT_FILLING, LADE_SLOT_HERE };

/* What may be done to find a slot. */
enum lade_take {
    LADE_TAKE_FREE,    /* only a free one */
    LADE_TAKE_EVICT,   /* or that of the coldest expert */
    LADE_TAKE_STAGE,   /* a free one, or one of the stage */
    LADE_TAKE_PASSING, /* only one of the stage */
    LADE_TAKE_ANY,     /* whatever there is */
};

struct lade_cache_kind {
    int first, count, room; /* slots [first, first + room) exist, of count */
    int *heap, n_heap;      /* evictable slots, coldest first; into the cache's array; empty
                               where room is count */
    int *free, n_free;      /* free ones, the lowest last; into the cache's array */
};

struct lade_cache {
    const struct lade_kinds *kinds; /* borrowed */
    const double *score;            /* [n_experts], borrowed: a larger one stays longer */
    struct lade_cache_kind kind[LADE_MAX_KINDS];
    int n_slots; /* the stage included */
    int first_stage, n_stage;
    /* Free slots of the stage, a ring [n_stage], owned: the one that has been free for longest is taken
     * first, so that a GPU may still be at work on those that were given up last. */
    int *stage, n_stage_free, next_stage;
    int *slot_of;   /* [n_experts] slot or -1 */
    int *expert_in; /* [n_slots] expert or -1 */
    uint8_t *state; /* [n_slots] enum lade_slot_state */
    uint16_t *pins; /* [n_slots] */
    int *heap_at;   /* [n_slots] place in the heap, or -1 */
    int *numbers;   /* owned: what the heaps and free lists of the kinds lie in */
    int here;       /* experts whose slot is HERE, the stage included */
    int evicted;    /* so far */
};

/* room[kinds->n]: slots of each kind. The scores must only grow, and only while the expert's slot
 * is pinned or it has none. */
int lade_cache_open(struct lade_cache *c, const struct lade_kinds *kinds, const int *room,
                    int n_stage, const double *score, char *err);
void lade_cache_close(struct lade_cache *c);

static inline bool lade_cache_is_stage(const struct lade_cache *c, int slot)
{
    return slot >= c->first_stage;
}

/* Whether it is that of an expert that another one may displace: HERE, not pinned, none of the stage. Where
 * all of a kind have room, none is. */
static inline bool lade_cache_may_leave(const struct lade_cache *c, int slot)
{
    return slot >= 0 && c->heap_at[slot] >= 0;
}

/* A slot for an expert that has none: it is then FILLING, with one pin. -1 where there is none. */
int lade_cache_take(struct lade_cache *c, int expert, enum lade_take how);

/* The same instead of an expert of its kind, which may leave its slot. */
int lade_cache_replace(struct lade_cache *c, int slot, int expert);

/* The slot's bytes are there, or will never be. */
void lade_cache_filled(struct lade_cache *c, int slot);
void lade_cache_failed(struct lade_cache *c, int slot);

/* The bytes of a slot that is HERE are not there after all: frees it, whoever has pinned it. */
void lade_cache_lost(struct lade_cache *c, int slot);

void lade_cache_pin(struct lade_cache *c, int slot);
void lade_cache_unpin(struct lade_cache *c, int slot);

/* Another number of slots of the stage, none of which may be in use. On failure nothing changes. */
int lade_cache_set_stage(struct lade_cache *c, int n_stage, char *err);

/* Makes `slot` (HERE, no pins) free. */
void lade_cache_evict(struct lade_cache *c, int slot);

/* Changes the number of slots of a kind. Growing always works. Shrinking empties slots from the
 * end: a warmer expert there is moved (by `move`, which copies the bytes) to the slot of a colder
 * one. Stops at a slot that is in use. Returns the room that was reached. */
typedef void lade_cache_move(void *user, int from, int to);
int lade_cache_resize(struct lade_cache *c, int kind, int room, lade_cache_move *move, void *user);

#endif
