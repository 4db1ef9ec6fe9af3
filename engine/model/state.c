#include "engine/model/state.h"

#include <stdlib.h>
#include <string.h>

static size_t round_up(size_t bytes)
{
    return (bytes + LADE_ALIGN - 1) & ~(size_t)(LADE_ALIGN - 1);
}

static size_t conv_bytes(const struct lade_shape *s)
{
    return round_up((size_t)(s->conv_kernel - 1) * (size_t)lade_shape_channels(s) * sizeof(float));
}

static size_t delta_bytes(const struct lade_shape *s)
{
    return round_up((size_t)s->value_heads * (size_t)s->key_dim * (size_t)s->value_dim *
                    sizeof(float));
}

static size_t cache_bytes(const struct lade_shape *s, int capacity, enum lade_type type)
{
    size_t bytes;
    const size_t row = lade_cache_row(type, s->head_dim);
    return __builtin_mul_overflow((size_t)s->kv_heads * row, (size_t)capacity, &bytes) ? 0 : bytes;
}

enum lade_type lade_state_cache_type(bool exact, bool kv_q8, bool gpu)
{
    return exact ? LADE_F32 : kv_q8 ? LADE_Q8 : gpu ? LADE_F16 : LADE_Q16;
}

static int count_attention(const struct lade_shape *s)
{
    int n = 0;
    for (int i = 0; i < s->layers; i++)
        n += s->full_attention[i];
    return n;
}

size_t lade_state_layer_bytes(const struct lade_shape *s)
{
    return conv_bytes(s) + delta_bytes(s);
}

size_t lade_state_recurrent_bytes(const struct lade_shape *s)
{
    return (size_t)(s->layers - count_attention(s)) * lade_state_layer_bytes(s);
}

size_t lade_state_bytes(const struct lade_shape *s, int capacity, enum lade_type cache_type)
{
    size_t total, one = cache_bytes(s, capacity, cache_type);
    if (!one || __builtin_mul_overflow(one, 2 * (size_t)count_attention(s), &total) ||
        __builtin_add_overflow(total, lade_state_recurrent_bytes(s), &total))
        return 0;
    return total;
}

/* Where the recurrent states of the layers lie in the runs of their parts. */
static void point_layers(struct lade_state *st, const struct lade_shape *s)
{
    for (int i = 0; i < st->devices.n; i++) {
        unsigned char *next = st->recurrent[i];
        for (int l = st->devices.part[i].first; l < st->devices.part[i].end; l++) {
            if (s->full_attention[l])
                continue;
            st->layer[l].conv = (float *)next;
            st->layer[l].delta = (float *)(next + conv_bytes(s));
            next += lade_state_layer_bytes(s);
        }
    }
}

/* The recurrent run of each part. On failure none is there. */
static int alloc_recurrent(struct lade_state *st, const struct lade_shape *s, char *err)
{
    const struct lade_devices *d = &st->devices;
    for (int i = 0; i < d->n; i++) {
        int layers = 0;
        for (int l = d->part[i].first; l < d->part[i].end; l++)
            layers += !s->full_attention[l];
        st->part_bytes[i] = (size_t)layers * lade_state_layer_bytes(s);
        st->recurrent[i] = NULL;
    }
    for (int i = 0; i < d->n; i++) {
        if (!st->part_bytes[i] || !lade_part_alloc(&d->part[i], (void **)&st->recurrent[i],
                                                   st->part_bytes[i], false, err))
            continue;
        for (st->recurrent[i] = NULL; i-- > 0; st->recurrent[i] = NULL)
            lade_part_free(&d->part[i], st->recurrent[i], false);
        return -1;
    }
    return 0;
}

static int alloc_caches(struct lade_state *st, const struct lade_shape *s, char *err)
{
    for (int i = 0; i < s->layers; i++) {
        struct lade_layer_state *l = &st->layer[i];
        const struct lade_device_part *p = lade_devices_part(&st->devices, i);
        if (s->full_attention[i] && (lade_part_alloc(p, &l->k, st->kv_bytes, st->kv_in_ram, err) ||
                                     lade_part_alloc(p, &l->v, st->kv_bytes, st->kv_in_ram, err)))
            return -1;
    }
    return 0;
}

int lade_state_open(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *devices, int capacity, enum lade_type cache_type,
                    bool kv_in_ram, char *err)
{
    *st = (struct lade_state){.devices = *devices,
                              .kv_in_ram = kv_in_ram,
                              .cache_type = cache_type,
                              .layers = shape->layers,
                              .capacity = capacity};
    st->kv_bytes = cache_bytes(shape, capacity, cache_type);
    st->recurrent_bytes = lade_state_recurrent_bytes(shape);
    st->layer = calloc((size_t)shape->layers, sizeof *st->layer);
    if (!st->layer || !st->kv_bytes) {
        lade_state_close(st);
        return lade_fail(err, "--context %d: out of memory for its caches; use a shorter context",
                         capacity);
    }
    if (alloc_recurrent(st, shape, err) || alloc_caches(st, shape, err)) {
        lade_state_close(st);
        return -1;
    }
    point_layers(st, shape);
    return 0;
}

static void free_recurrent(const struct lade_state *st)
{
    for (int i = 0; i < st->devices.n; i++)
        if (st->recurrent[i])
            lade_part_free(&st->devices.part[i], st->recurrent[i], false);
}

void lade_state_close(struct lade_state *st)
{
    for (int i = 0; st->layer && i < st->layers; i++) {
        const struct lade_device_part *p = lade_devices_part(&st->devices, i);
        lade_part_free(p, st->layer[i].k, st->kv_in_ram);
        lade_part_free(p, st->layer[i].v, st->kv_in_ram);
    }
    free_recurrent(st);
    free(st->layer);
    *st = (struct lade_state){0};
}

int lade_state_reset(struct lade_state *st, char *err)
{
    st->length = 0;
    for (int i = 0; i < st->devices.n; i++) {
        const struct lade_device_part *p = &st->devices.part[i];
        if (st->part_bytes[i] && p->ops->zero(p->dev, st->recurrent[i], st->part_bytes[i], err))
            return -1;
    }
    return 0;
}

int lade_state_save(struct lade_state *st, void *host, char *err)
{
    unsigned char *to = host;
    for (int i = 0; i < st->devices.n; i++) {
        const struct lade_device_part *p = &st->devices.part[i];
        if (st->part_bytes[i] &&
            p->ops->download(p->dev, to, st->recurrent[i], st->part_bytes[i], err))
            return -1;
        to += st->part_bytes[i];
    }
    return 0;
}

int lade_state_restore(struct lade_state *st, const void *host, int length, char *err)
{
    const unsigned char *from = host;
    st->length = length;
    for (int i = 0; i < st->devices.n; i++) {
        const struct lade_device_part *p = &st->devices.part[i];
        if (st->part_bytes[i] &&
            p->ops->upload(p->dev, st->recurrent[i], from, st->part_bytes[i], err))
            return -1;
        from += st->part_bytes[i];
    }
    return 0;
}

int lade_state_save_layer(const struct lade_state *st, const struct lade_shape *shape, int layer,
                          void *host, char *err)
{
    const struct lade_device_part *p = lade_devices_part(&st->devices, layer);
    const size_t bytes = lade_state_layer_bytes(shape);
    unsigned char *to = host;
    for (int i = 0; i < layer; i++) /* parts have layers in order */
        to += shape->full_attention[i] ? 0 : bytes;
    return p->ops->download(p->dev, to, st->layer[layer].conv, bytes, err);
}

int lade_state_copy_layer(const struct lade_state *st, const struct lade_shape *shape, int layer,
                          void *to, struct lade_layer_state *there, char *err)
{
    const struct lade_device_part *p = lade_devices_part(&st->devices, layer);
    *there = (struct lade_layer_state){
        .conv = to, .delta = (float *)(void *)((unsigned char *)to + conv_bytes(shape))};
    return p->ops->copy(p->dev, to, st->layer[layer].conv, lade_state_layer_bytes(shape), err);
}

/* ---- to other memory ------------------------------------------------------------------------- */

/* One kind of memory that a part of the state can be in. */
struct memory {
    const struct lade_device_part *part;
    bool in_ram; /* of the GPU's: RAM that it can use */
};

static bool host_sees(const struct memory *m)
{
    return m->part->ops->host_memory || m->in_ram;
}

static int copy(const struct memory *to, void *dst, const struct memory *from, const void *src,
                size_t bytes, char *err)
{
    const struct lade_device_part *a = from->part, *b = to->part;
    if (host_sees(from) && host_sees(to)) {
        memcpy(dst, src, bytes);
        return 0;
    }
    if (host_sees(from))
        return b->ops->upload(b->dev, dst, src, bytes, err);
    return host_sees(to) ? a->ops->download(a->dev, dst, src, bytes, err)
                         : a->ops->copy(a->dev, dst, src, bytes, err);
}

/* ---- runs of the caches ----------------------------------------------------------------------- */

int lade_state_runs(const struct lade_shape *shape)
{
    return count_attention(shape) * 2 * shape->kv_heads;
}

size_t lade_state_run_bytes(const struct lade_state *st, const struct lade_shape *shape, int length)
{
    return lade_cache_row(st->cache_type, shape->head_dim) * (size_t)length;
}

/* Where a run begins, and in which memory. */
static char *find_run(const struct lade_state *st, const struct lade_shape *s, int run,
                      struct memory *where)
{
    int cache = run / s->kv_heads, layer = 0;
    for (int before = cache / 2; !s->full_attention[layer] || before-- > 0; layer++)
        continue;
    *where = (struct memory){lade_devices_part(&st->devices, layer), st->kv_in_ram};
    char *begin = cache % 2 ? st->layer[layer].v : st->layer[layer].k;
    return begin + st->kv_bytes / (size_t)s->kv_heads * (size_t)(run % s->kv_heads);
}

int lade_state_save_run(const struct lade_state *st, const struct lade_shape *shape, int run,
                        void *host, int length, char *err)
{
    struct memory where;
    const char *from = find_run(st, shape, run, &where);
    const struct memory ram = {where.part, true};
    return copy(&ram, host, &where, from, lade_state_run_bytes(st, shape, length), err);
}

int lade_state_restore_run(const struct lade_state *st, const struct lade_shape *shape, int run,
                           const void *host, int length, char *err)
{
    struct memory where;
    char *to = find_run(st, shape, run, &where);
    const struct memory ram = {where.part, true};
    return copy(&where, to, &ram, host, lade_state_run_bytes(st, shape, length), err);
}

/* ---- moving ----------------------------------------------------------------------------------- */

/* The first `length` positions of every head of a cache. */
static int copy_cache(const struct lade_state *st, const struct lade_shape *s,
                      const struct memory *to, char *dst, const struct memory *from,
                      const char *src, char *err)
{
    size_t head = st->kv_bytes / (size_t)s->kv_heads;
    size_t used = head / (size_t)st->capacity * (size_t)st->length;
    for (size_t at = 0; used && at < st->kv_bytes; at += head)
        if (copy(to, dst + at, from, src + at, used, err))
            return -1;
    return 0;
}

static int sync_part(const struct lade_device_part *p, char *err)
{
    return p->ops->sync(p->dev, err);
}

static int move_cache(const struct lade_state *st, const struct lade_shape *s,
                      const struct memory *to, void **cache, const struct memory *from, char *err)
{
    void *there;
    if (lade_part_alloc(to->part, &there, st->kv_bytes, to->in_ram, err))
        return -1;
    if (copy_cache(st, s, to, there, from, *cache, err) || sync_part(from->part, err) ||
        sync_part(to->part, err)) {
        sync_part(to->part, NULL); /* what was copied before that may be on its way */
        lade_part_free(to->part, there, to->in_ram);
        return -1;
    }
    lade_part_free(from->part, *cache, from->in_ram);
    *cache = there;
    return 0;
}

/* The recurrent states, to the devices of `to`. */
static int move_recurrent(struct lade_state *st, const struct lade_shape *s,
                          const struct lade_devices *to, char *err)
{
    struct lade_state next = *st;
    if (to->part[0].dev == st->devices.part[0].dev)
        return 0;
    next.devices = *to;
    next.layer = calloc((size_t)s->layers, sizeof *next.layer);
    if (!next.layer)
        return lade_fail(err, "the conversation's state: out of memory; close other programs");
    int rc = alloc_recurrent(&next, s, err);
    if (!rc) {
        point_layers(&next, s);
        for (int i = 0; i < s->layers && !rc; i++) {
            const struct memory there = {lade_devices_part(to, i), false};
            const struct memory here = {lade_devices_part(&st->devices, i), false};
            if (!s->full_attention[i]) /* delta lies behind conv */
                rc = copy(&there, next.layer[i].conv, &here, st->layer[i].conv,
                          lade_state_layer_bytes(s), err);
        }
        if (!rc)
            rc = lade_devices_sync(to, err);
        else
            lade_devices_sync(to, NULL); /* what was copied before that may be on its way */
        free_recurrent(rc ? &next : st);
    }
    for (int i = 0; i < s->layers && !rc; i++) {
        st->layer[i].conv = next.layer[i].conv;
        st->layer[i].delta = next.layer[i].delta;
    }
    free(next.layer);
    next.layer = st->layer;
    if (!rc)
        *st = next;
    return rc;
}

/* Of a layer's caches: those that are with the other devices of a move. */
enum { AWAY_K = 1, AWAY_V = 2 };

/* Moves the caches of layers [0, end): how many layers were moved whole. Of a layer half of which
 * could not be moved the other half is moved back, if that is possible. */
static int move_caches(struct lade_state *st, const struct lade_shape *s,
                       const struct lade_devices *to, bool to_ram, const struct lade_devices *from,
                       bool from_ram, int end, char *err)
{
    for (int i = 0; i < end; i++) {
        struct lade_layer_state *l = &st->layer[i];
        const struct memory there = {lade_devices_part(to, i), to_ram};
        const struct memory here = {lade_devices_part(from, i), from_ram};
        if (!s->full_attention[i])
            continue;
        if (move_cache(st, s, &there, &l->k, &here, err))
            return i;
        l->away ^= AWAY_K;
        if (move_cache(st, s, &there, &l->v, &here, err)) {
            if (move_cache(st, s, &here, &l->k, &there, NULL))
                return -1;
            l->away ^= AWAY_K;
            return i;
        }
        l->away ^= AWAY_V;
    }
    return end;
}

/* Neither here nor there: frees each cache where it is. */
static void lose(struct lade_state *st, const struct lade_devices *to, bool to_ram)
{
    for (int i = 0; i < st->layers; i++) {
        const struct lade_layer_state *l = &st->layer[i];
        const struct lade_device_part *there = lade_devices_part(to, i);
        const struct lade_device_part *here = lade_devices_part(&st->devices, i);
        lade_part_free(l->away & AWAY_K ? there : here, l->k,
                       l->away & AWAY_K ? to_ram : st->kv_in_ram);
        lade_part_free(l->away & AWAY_V ? there : here, l->v,
                       l->away & AWAY_V ? to_ram : st->kv_in_ram);
    }
    free_recurrent(st);
    free(st->layer);
    *st = (struct lade_state){0};
}

int lade_state_move(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *to, bool kv_in_ram, char *err)
{
    const struct lade_devices from = st->devices;
    const bool was = st->kv_in_ram;
    bool same = to->part[0].dev == from.part[0].dev && kv_in_ram == was;
    int end = shape->layers;
    int moved = same ? end : move_caches(st, shape, to, kv_in_ram, &from, was, end, err);
    if (moved == end && !move_recurrent(st, shape, to, err)) {
        st->devices = *to;
        st->kv_in_ram = kv_in_ram;
        for (int i = 0; i < end; i++)
            st->layer[i].away = 0;
        return 0;
    }
    if (moved < 0 ||
        (!same && move_caches(st, shape, &from, was, to, kv_in_ram, moved, NULL) != moved))
        lose(st, to, kv_in_ram);
    return -1;
}
