#include "engine/tiers/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/pages.h"

/* A chunk is some MiB, and a small part of what there is, so that little is lost to rounding. */
enum { CHUNK = 64 << 20, PARTS = 32, HUGE_PAGE = 2 << 20, PAGE = 4096 };

/* ---- one block of memory --------------------------------------------------------------------- */

static int take_ram(unsigned char **out, size_t bytes, char *err)
{
    *out = lade_pages_take(bytes);
    return *out ? 0
                : lade_fail(err, "memory: cannot reserve %.2f GiB of RAM: %s; close other programs",
                            (double)bytes / (1 << 30), strerror(errno));
}

static int take(const struct lade_store *s, enum lade_store_kind where, unsigned char **out,
                size_t bytes, char *err)
{
    if (where == LADE_STORE_RAM)
        return take_ram(out, bytes, err);
    return where == LADE_STORE_PINNED ? s->ops->host_alloc(s->dev, (void **)out, bytes, err)
                                      : s->ops->alloc(s->dev, (void **)out, bytes, err);
}

static void give_back(const struct lade_store *s, enum lade_store_kind where, unsigned char *block,
                      size_t bytes)
{
    if (!block)
        return;
    if (where == LADE_STORE_RAM)
        lade_pages_give(block, bytes);
    else if (where == LADE_STORE_PINNED)
        s->ops->host_free(s->dev, block);
    else
        s->ops->free(s->dev, block);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static int slots_per_chunk(const struct lade_kind *k, uint64_t budget)
{
    uint64_t bytes = budget / PARTS < CHUNK ? budget / PARTS : CHUNK;
    int slots = (int)(bytes / k->stride);
    return slots < 1 ? 1 : slots;
}

/* Cuts the rooms that a budget gives to whole chunks; returns the bytes they take. */
static size_t whole_chunks(const struct lade_kinds *k, uint64_t budget, const int *per_chunk,
                           int *room)
{
    size_t taken = lade_kinds_rooms(k, budget, room);
    for (int i = 0; i < k->n; i++) {
        int rest = room[i] == k->kind[i].experts ? 0 : room[i] % per_chunk[i];
        room[i] -= rest;
        taken -= (size_t)rest * k->kind[i].stride;
    }
    return taken;
}

size_t lade_store_rooms(enum lade_store_kind where, const struct lade_kinds *k, uint64_t budget,
                        int *room)
{
    int per_chunk[LADE_MAX_KINDS];
    for (int i = 0; i < k->n; i++)
        per_chunk[i] = where == LADE_STORE_RAM ? 1 : slots_per_chunk(&k->kind[i], budget);
    return whole_chunks(k, budget, per_chunk, room);
}

void lade_store_fit(const struct lade_store *s, uint64_t budget, int *room)
{
    if (s->where == LADE_STORE_RAM)
        lade_kinds_rooms(s->kinds, budget, room);
    else
        whole_chunks(s->kinds, budget, s->per_chunk, room);
}

bool lade_store_suits(const struct lade_store *s, uint64_t budget)
{
    enum { TIMES = 4 };
    for (int i = 0; i < s->kinds->n && s->where != LADE_STORE_RAM; i++) {
        int want = slots_per_chunk(&s->kinds->kind[i], budget), is = s->per_chunk[i];
        if (is > TIMES * want || want > TIMES * is)
            return false;
    }
    return true;
}

/* Whether a budget gives each kind these slots, when the chunks suit it. */
static bool gives(const struct lade_store *s, uint64_t budget, const int *room)
{
    int have[LADE_MAX_KINDS];
    if (lade_store_suits(s, budget))
        lade_store_fit(s, budget, have);
    else
        lade_store_rooms(s->where, s->kinds, budget, have);
    for (int i = 0; i < s->kinds->n; i++)
        if (have[i] < room[i])
            return false;
    return true;
}

uint64_t lade_store_budget(const struct lade_store *s, const int *room)
{
    uint64_t budget = 0;
    for (int i = 0; i < s->kinds->n; i++)
        budget += (uint64_t)room[i] * s->kinds->kind[i].stride;
    while (!gives(s, budget, room)) /* all that there is gives all */
        budget += budget / PARTS + s->kinds->largest;
    return budget;
}

static int chunks_of(const struct lade_store *s, int kind)
{
    int per = s->per_chunk[kind];
    return (s->kinds->kind[kind].experts + per - 1) / per;
}

/* Slots of one chunk: the last of a kind may be smaller. */
static int chunk_slots(const struct lade_store *s, int kind, int chunk)
{
    int left = s->kinds->kind[kind].experts - chunk * s->per_chunk[kind];
    return left < s->per_chunk[kind] ? left : s->per_chunk[kind];
}

static int kind_of(const struct lade_store *s, int slot)
{
    int kind = s->kinds->n - 1;
    while (slot < s->first[kind])
        kind--;
    return kind;
}

/* ---- RAM that copies read in place ----------------------------------------------------------- */

/* Slots of RAM that are pinned together: whole pages, however small a slot is. */
static int slots_per_pin(const struct lade_kind *k)
{
    const int whole = PAGE / LADE_ALIGN; /* a stride is a multiple of LADE_ALIGN */
    return (int)(((size_t)CHUNK / k->stride + (size_t)whole) / (size_t)whole) * whole;
}

/* Where a part that is pinned lies. */
static unsigned char *pin_at(const struct lade_store *s, int kind, int part)
{
    const struct lade_kind *k = &s->kinds->kind[kind];
    return s->arena[kind] + (size_t)part * (size_t)slots_per_pin(k) * k->stride;
}

static void unpin(struct lade_store *s, int kind)
{
    const int per = slots_per_pin(&s->kinds->kind[kind]);
    for (int i = 0; s->pinned[kind] && i * per < s->kinds->kind[kind].experts; i++)
        if (s->pinned[kind][i])
            s->ops->unpin(s->dev, pin_at(s, kind, i));
    free(s->pinned[kind]);
    s->pinned[kind] = NULL;
}

bool lade_store_pin(struct lade_store *s, int slot)
{
    if (s->where != LADE_STORE_RAM || slot >= s->first_stage)
        return true; /* as it was made */
    const int kind = kind_of(s, slot), per = slots_per_pin(&s->kinds->kind[kind]);
    const int part = (slot - s->first[kind]) / per;
    const size_t stride = s->kinds->kind[kind].stride;
    if (!s->pinned[kind])
        s->pinned[kind] = calloc((size_t)(s->kinds->kind[kind].experts / per) + 1, 1);
    if (!s->pinned[kind])
        return false;
    if (!s->pinned[kind][part]) {
        int left = s->room[kind] - part * per;
        size_t bytes = (size_t)(left < per ? left : per) * stride;
        s->pinned[kind][part] =
            !s->ops->pin(s->dev, pin_at(s, kind, part), (bytes + PAGE - 1) / PAGE * PAGE, NULL);
    }
    return s->pinned[kind][part];
}

/* ---- open, close ----------------------------------------------------------------------------- */

int lade_store_open(struct lade_store *s, enum lade_store_kind where,
                    enum lade_store_kind stage_where, const struct lade_kinds *kinds,
                    uint64_t budget, int n_stage, const struct lade_ops *ops,
                    struct lade_device *dev, char *err)
{
    *s = (struct lade_store){.where = where,
                             .stage_where = stage_where,
                             .kinds = kinds,
                             .ops = ops,
                             .dev = dev,
                             .n_stage = n_stage,
                             .first_stage = kinds->n_experts};
    for (int i = 0, first = 0; i < kinds->n; i++) {
        const struct lade_kind *k = &kinds->kind[i];
        s->first[i] = first;
        s->per_chunk[i] = slots_per_chunk(k, budget);
        first += k->experts;
        if (where == LADE_STORE_RAM) {
            if (take_ram(&s->arena[i], (size_t)k->experts * k->stride, err))
                return -1;
            continue;
        }
        s->chunk[i] = calloc((size_t)chunks_of(s, i) + 1, sizeof *s->chunk[i]);
        if (!s->chunk[i])
            return lade_fail(err, "memory: none for a table of chunks; close other programs");
    }
    if (n_stage && take(s, stage_where, &s->stage, (size_t)n_stage * kinds->largest, err))
        return -1;
    s->bytes = (size_t)n_stage * kinds->largest;
    return 0;
}

void lade_store_close(struct lade_store *s)
{
    for (int i = 0; s->kinds && i < s->kinds->n; i++) {
        size_t stride = s->kinds->kind[i].stride;
        unpin(s, i);
        give_back(s, LADE_STORE_RAM, s->arena[i], (size_t)s->kinds->kind[i].experts * stride);
        for (int j = 0; s->chunk[i] && j < chunks_of(s, i); j++)
            give_back(s, s->where, s->chunk[i][j], 0);
        free(s->chunk[i]);
    }
    if (s->kinds)
        give_back(s, s->stage_where, s->stage, (size_t)s->n_stage * s->kinds->largest);
    *s = (struct lade_store){0};
}

int lade_store_leave(struct lade_store *s, char *err)
{
    const size_t bytes = (size_t)s->n_stage * s->kinds->largest;
    if (s->stage_where != LADE_STORE_RAM && s->n_stage) {
        unsigned char *stage;
        if (take_ram(&stage, bytes, err))
            return -1;
        give_back(s, s->stage_where, s->stage, bytes);
        s->stage = stage;
    }
    for (int i = 0; i < s->kinds->n; i++)
        unpin(s, i);
    s->stage_where = LADE_STORE_RAM;
    s->ops = NULL;
    s->dev = NULL;
    return 0;
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* Whole pages beyond the first `room` slots go back to the system. */
static void trim(struct lade_store *s, int kind, int room)
{
    size_t stride = s->kinds->kind[kind].stride;
    size_t from = (size_t)room * stride, end = (size_t)s->kinds->kind[kind].experts * stride;
    from = (from + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (from < end)
        madvise(s->arena[kind] + from, end - from, MADV_DONTNEED);
}

int lade_store_resize(struct lade_store *s, int kind, int room, char *err)
{
    if (s->where == LADE_STORE_RAM) {
        if (room != s->room[kind])
            unpin(s, kind);
        s->room[kind] = room;
        trim(s, kind, room);
        return 0;
    }
    size_t stride = s->kinds->kind[kind].stride;
    int failed = 0;
    for (int i = 0; i < chunks_of(s, kind); i++) {
        unsigned char **chunk = &s->chunk[kind][i];
        size_t bytes = (size_t)chunk_slots(s, kind, i) * stride;
        bool wanted = i * s->per_chunk[kind] < room;
        if (!wanted && *chunk) {
            give_back(s, s->where, *chunk, bytes);
            *chunk = NULL;
            s->bytes -= bytes;
        } else if (wanted && !*chunk && !failed) {
            failed = take(s, s->where, chunk, bytes, err);
            s->bytes += failed ? 0 : bytes;
        }
    }
    return failed;
}

int lade_store_reached(const struct lade_store *s, int kind)
{
    int slots = 0, most = s->kinds->kind[kind].experts;
    if (s->where == LADE_STORE_RAM)
        return most;
    for (int i = 0; i < chunks_of(s, kind) && s->chunk[kind][i]; i++)
        slots += chunk_slots(s, kind, i);
    return slots;
}

size_t lade_store_stride(const struct lade_store *s, int slot)
{
    return slot >= s->first_stage ? s->kinds->largest : s->kinds->kind[kind_of(s, slot)].stride;
}

unsigned char *lade_store_slot(const struct lade_store *s, int slot)
{
    if (slot >= s->first_stage)
        return s->stage + (size_t)(slot - s->first_stage) * s->kinds->largest;
    int kind = kind_of(s, slot), at = slot - s->first[kind];
    size_t stride = s->kinds->kind[kind].stride;
    if (s->where == LADE_STORE_RAM)
        return s->arena[kind] + (size_t)at * stride;
    return s->chunk[kind][at / s->per_chunk[kind]] + (size_t)(at % s->per_chunk[kind]) * stride;
}

/* ---- from one store to another --------------------------------------------------------------- */

static int copy_slot(const struct lade_store *from, const struct lade_store *to, int slot)
{
    size_t bytes = lade_store_stride(from, slot);
    unsigned char *source = lade_store_slot(from, slot), *target = lade_store_slot(to, slot);
    if (from->where == LADE_STORE_VRAM)
        return from->ops->copy(from->dev, target, source, bytes, NULL);
    memcpy(target, source, bytes);
    return 0;
}

/* Slots [0, done) of a kind are not needed any more. */
static void release_before(struct lade_store *s, int kind, int done)
{
    size_t bytes = (size_t)done * s->kinds->kind[kind].stride;
    if (s->where == LADE_STORE_RAM) {
        madvise(s->arena[kind], bytes / PAGE * PAGE, MADV_DONTNEED);
        return;
    }
    for (int i = 0, slots = 0; i < chunks_of(s, kind); i++) {
        slots += chunk_slots(s, kind, i);
        if (slots > done)
            break;
        give_back(s, s->where, s->chunk[kind][i], 0);
        s->chunk[kind][i] = NULL;
    }
}

/* Moves some slots of a kind; false where there is no memory for them, or the GPU is lost. */
static bool move_slots(struct lade_store *s, struct lade_store *to, int kind, int from, int end)
{
    if (lade_store_resize(to, kind, end, NULL))
        return false;
    for (int i = from; i < end; i++)
        if (copy_slot(s, to, s->first[kind] + i))
            return false;
    /* free() does not wait for the copies */
    if (s->where == LADE_STORE_VRAM && s->ops->sync(s->dev, NULL))
        return false;
    release_before(s, kind, end);
    return true;
}

void lade_store_move(struct lade_store *s, struct lade_store *to, int *room)
{
    for (int i = 0; i < s->kinds->n; i++) {
        unpin(s, i);
        const struct lade_store *chunked = to->where == LADE_STORE_RAM ? s : to;
        int per = chunked->per_chunk[i], done = 0;
        for (; done < room[i]; done = done + per < room[i] ? done + per : room[i])
            if (!move_slots(s, to, i, done, done + per < room[i] ? done + per : room[i]))
                break;
        room[i] = done;
    }
    if (s->where == LADE_STORE_VRAM)
        s->ops->sync(s->dev, NULL); /* of a move that stopped in the middle, copies may be queued */
    lade_store_close(s);
    *s = *to;
    *to = (struct lade_store){0};
}
