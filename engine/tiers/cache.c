#include "engine/tiers/cache.h"

#include <stdlib.h>
#include <string.h>

/* ---- the heap of a kind: coldest expert first ------------------------------------------------ */

/* Of experts of one score, which are many at first, the lower number counts as colder: then who goes
 * does not depend on the order in which they came, which is that of a drive. */
static bool colder(const struct lade_cache *c, int a, int b)
{
    int x = c->expert_in[a], y = c->expert_in[b];
    return c->score[x] != c->score[y] ? c->score[x] < c->score[y] : x < y;
}

static void put(struct lade_cache *c, struct lade_cache_kind *k, int at, int slot)
{
    k->heap[at] = slot;
    c->heap_at[slot] = at;
}

static void sift_up(struct lade_cache *c, struct lade_cache_kind *k, int at)
{
    int slot = k->heap[at];
    while (at > 0 && colder(c, slot, k->heap[(at - 1) / 2])) {
        put(c, k, at, k->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(c, k, at, slot);
}

static void sift_down(struct lade_cache *c, struct lade_cache_kind *k, int at)
{
    int slot = k->heap[at];
    for (;;) {
        int child = 2 * at + 1;
        if (child + 1 < k->n_heap && colder(c, k->heap[child + 1], k->heap[child]))
            child++;
        if (child >= k->n_heap || !colder(c, k->heap[child], slot))
            break;
        put(c, k, at, k->heap[child]);
        at = child;
    }
    put(c, k, at, slot);
}

/* With a slot for every expert nobody ever has to go, and there is no heap: it would be some cache
 * misses for each expert of a token. */
static bool has_heap(const struct lade_cache_kind *k)
{
    return k->room < k->count;
}

static void heap_add(struct lade_cache *c, struct lade_cache_kind *k, int slot)
{
    if (!has_heap(k))
        return;
    put(c, k, k->n_heap, slot);
    sift_up(c, k, k->n_heap++);
}

static void heap_remove(struct lade_cache *c, struct lade_cache_kind *k, int slot)
{
    int at = c->heap_at[slot], last = k->heap[--k->n_heap];
    c->heap_at[slot] = -1;
    if (last == slot)
        return;
    put(c, k, at, last);
    sift_up(c, k, at);
    sift_down(c, k, c->heap_at[last]);
}

/* ---- open ------------------------------------------------------------------------------------ */

static void fill(int *list, int n, int value)
{
    for (int i = 0; i < n; i++)
        list[i] = value;
}

/* The free slots below the room, the lowest last, so that memory is used from its beginning. */
static void list_free(struct lade_cache *c, struct lade_cache_kind *k)
{
    k->n_free = 0;
    for (int slot = k->first + k->room - 1; slot >= k->first; slot--)
        if (c->state[slot] == LADE_SLOT_FREE)
            k->free[k->n_free++] = slot;
}

int lade_cache_set_stage(struct lade_cache *c, int n_stage, char *err)
{
    int slots = c->first_stage + n_stage;
    size_t n = (size_t)slots;
    int *expert_in = realloc(c->expert_in, n * sizeof *expert_in);
    c->expert_in = expert_in ? expert_in : c->expert_in;
    int *heap_at = realloc(c->heap_at, n * sizeof *heap_at);
    c->heap_at = heap_at ? heap_at : c->heap_at;
    uint8_t *state = realloc(c->state, n * sizeof *state);
    c->state = state ? state : c->state;
    uint16_t *pins = realloc(c->pins, n * sizeof *pins);
    c->pins = pins ? pins : c->pins;
    int *stage = realloc(c->stage, (n_stage ? (size_t)n_stage : 1) * sizeof *stage);
    c->stage = stage ? stage : c->stage;
    if (!expert_in || !heap_at || !state || !pins || !stage)
        return lade_fail(err, "a cache of %d experts: out of memory; close other programs", slots);
    c->n_stage = n_stage;
    c->n_slots = slots;
    c->n_stage_free = c->next_stage = 0;
    for (int slot = c->first_stage; slot < slots; slot++) {
        c->expert_in[slot] = c->heap_at[slot] = -1;
        c->state[slot] = LADE_SLOT_FREE;
        c->pins[slot] = 0;
        c->stage[c->n_stage_free++] = slot;
    }
    return 0;
}

int lade_cache_open(struct lade_cache *c, const struct lade_kinds *kinds, const int *room,
                    int n_stage, const double *score, char *err)
{
    int experts = kinds->n_experts;
    size_t n = (size_t)experts;
    *c = (struct lade_cache){.kinds = kinds, .score = score, .first_stage = experts};
    c->slot_of = malloc(n * sizeof *c->slot_of);
    c->numbers = malloc(2 * n * sizeof *c->numbers);
    if (!c->slot_of || !c->numbers || lade_cache_set_stage(c, n_stage, NULL)) {
        lade_cache_close(c);
        return lade_fail(err, "a cache of %d experts: out of memory; close other programs",
                         experts + n_stage);
    }
    memset(c->state, LADE_SLOT_FREE, n * sizeof *c->state);
    memset(c->pins, 0, n * sizeof *c->pins);
    fill(c->slot_of, experts, -1);
    fill(c->expert_in, experts, -1);
    fill(c->heap_at, experts, -1);
    for (int i = 0, first = 0; i < kinds->n; i++) {
        struct lade_cache_kind *k = &c->kind[i];
        *k = (struct lade_cache_kind){.first = first,
                                      .count = kinds->kind[i].experts,
                                      .room = room[i],
                                      .heap = c->numbers + first,
                                      .free = c->numbers + experts + first};
        list_free(c, k);
        first += k->count;
    }
    return 0;
}

void lade_cache_close(struct lade_cache *c)
{
    free(c->slot_of);
    free(c->expert_in);
    free(c->heap_at);
    free(c->state);
    free(c->pins);
    free(c->numbers);
    free(c->stage);
    *c = (struct lade_cache){0};
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Of all slots of a kind that might go. */
static void heap_build(struct lade_cache *c, struct lade_cache_kind *k, int last)
{
    for (int slot = k->first; slot < last; slot++)
        if (c->state[slot] == LADE_SLOT_HERE && !c->pins[slot])
            heap_add(c, k, slot);
}

static void heap_forget(struct lade_cache *c, struct lade_cache_kind *k)
{
    for (int i = 0; i < k->n_heap; i++)
        c->heap_at[k->heap[i]] = -1;
    k->n_heap = 0;
}

static struct lade_cache_kind *kind_of(struct lade_cache *c, int slot)
{
    return &c->kind[c->kinds->of[c->expert_in[slot]]];
}

/* Nobody has the slot any more. */
static void release(struct lade_cache *c, int slot)
{
    struct lade_cache_kind *k = kind_of(c, slot);
    c->slot_of[c->expert_in[slot]] = -1;
    c->expert_in[slot] = -1;
    c->state[slot] = LADE_SLOT_FREE;
    if (lade_cache_is_stage(c, slot))
        c->stage[(c->next_stage + c->n_stage_free++) % c->n_stage] = slot;
    else if (slot < k->first + k->room)
        k->free[k->n_free++] = slot;
}

void lade_cache_evict(struct lade_cache *c, int slot)
{
    if (c->heap_at[slot] >= 0)
        heap_remove(c, kind_of(c, slot), slot);
    c->here--;
    release(c, slot);
}

static void displace(struct lade_cache *c, int slot)
{
    lade_cache_evict(c, slot);
    c->evicted++;
}

static int find_slot(struct lade_cache *c, struct lade_cache_kind *k, enum lade_take how)
{
    bool stage = how == LADE_TAKE_STAGE || how == LADE_TAKE_ANY || how == LADE_TAKE_PASSING;
    bool evict = how == LADE_TAKE_EVICT || how == LADE_TAKE_ANY;
    if (!k->n_free && evict && k->n_heap)
        displace(c, k->heap[0]);
    if (k->n_free && how != LADE_TAKE_PASSING)
        return k->free[--k->n_free];
    if (!stage || !c->n_stage_free)
        return -1;
    const int slot = c->stage[c->next_stage];
    c->next_stage = (c->next_stage + 1) % c->n_stage;
    c->n_stage_free--;
    return slot;
}

int lade_cache_take(struct lade_cache *c, int expert, enum lade_take how)
{
    int slot = find_slot(c, &c->kind[c->kinds->of[expert]], how);
    if (slot < 0)
        return -1;
    c->slot_of[expert] = slot;
    c->expert_in[slot] = expert;
    c->state[slot] = LADE_SLOT_FILLING;
    c->pins[slot] = 1;
    return slot;
}

int lade_cache_replace(struct lade_cache *c, int slot, int expert)
{
    displace(c, slot);
    return lade_cache_take(c, expert, LADE_TAKE_FREE);
}

/* A slot that is HERE has lost its last pin. */
static void rest(struct lade_cache *c, int slot)
{
    struct lade_cache_kind *k = kind_of(c, slot);
    if (lade_cache_is_stage(c, slot) || slot >= k->first + k->room)
        lade_cache_evict(c, slot);
    else
        heap_add(c, k, slot);
}

void lade_cache_filled(struct lade_cache *c, int slot)
{
    c->state[slot] = LADE_SLOT_HERE;
    c->here++;
    if (!c->pins[slot])
        rest(c, slot);
}

void lade_cache_failed(struct lade_cache *c, int slot)
{
    c->pins[slot] = 0;
    release(c, slot);
}

void lade_cache_lost(struct lade_cache *c, int slot)
{
    c->pins[slot] = 0;
    lade_cache_evict(c, slot);
}

void lade_cache_pin(struct lade_cache *c, int slot)
{
    if (c->pins[slot]++ == 0 && c->heap_at[slot] >= 0)
        heap_remove(c, kind_of(c, slot), slot);
}

void lade_cache_unpin(struct lade_cache *c, int slot)
{
    if (--c->pins[slot] == 0 && c->state[slot] == LADE_SLOT_HERE)
        rest(c, slot);
}

/* ---- other sizes ----------------------------------------------------------------------------- */

/* Empties a slot that lies beyond the room to come; false where it is in use. */
static bool vacate(struct lade_cache *c, struct lade_cache_kind *k, int slot, lade_cache_move *move,
                   void *user)
{
    if (c->state[slot] == LADE_SLOT_FREE)
        return true;
    if (c->state[slot] != LADE_SLOT_HERE || c->pins[slot])
        return false;
    int expert = c->expert_in[slot];
    heap_remove(c, k, slot);
    /* The coldest that stays: what lies beyond the room leaves the heap as we go, from the end. */
    int to = k->n_free ? k->free[k->n_free - 1] : k->n_heap ? k->heap[0] : -1;
    bool worth =
        to >= 0 && to < slot && (k->n_free || c->score[c->expert_in[to]] < c->score[expert]);
    if (worth) {
        if (!k->n_free)
            lade_cache_evict(c, to);
        k->n_free--; /* `to` is the last of the list: the lowest, or the one just evicted */
        move(user, slot, to);
        c->expert_in[to] = expert;
        c->slot_of[expert] = to;
        c->state[to] = LADE_SLOT_HERE;
        heap_add(c, k, to);
    } else {
        c->slot_of[expert] = -1;
        c->here--;
    }
    c->expert_in[slot] = -1;
    c->state[slot] = LADE_SLOT_FREE;
    return true;
}

int lade_cache_resize(struct lade_cache *c, int kind, int room, lade_cache_move *move, void *user)
{
    struct lade_cache_kind *k = &c->kind[kind];
    if (room > k->count)
        room = k->count;
    if (room >= k->room) {
        k->room = room;
        if (!has_heap(k))
            heap_forget(c, k);
        list_free(c, k);
        return room;
    }
    while (k->room > room) {
        int last = k->first + k->room - 1;
        bool first = !has_heap(k);
        k->room--;
        if (first)
            heap_build(c, k, last + 1);
        if (c->state[last] == LADE_SLOT_FREE)
            list_free(c, k); /* it is in the list somewhere */
        if (!vacate(c, k, last, move, user)) {
            k->room++;
            if (!has_heap(k))
                heap_forget(c, k);
            break;
        }
    }
    list_free(c, k);
    return k->room;
}
