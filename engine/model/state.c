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
    if (__builtin_mul_overflow((size_t)s->kv_heads * (size_t)s->head_dim, (size_t)capacity, &bytes))
        return 0;
    if (__builtin_mul_overflow(bytes, (size_t)lade_types[type].bits / 8, &bytes))
        return 0;
    return bytes;
}

static int count_attention(const struct lade_shape *s)
{
    int n = 0;
    for (int i = 0; i < s->layers; i++)
        n += s->full_attention[i];
    return n;
}

size_t lade_state_recurrent_bytes(const struct lade_shape *s)
{
    return (size_t)(s->layers - count_attention(s)) * (conv_bytes(s) + delta_bytes(s));
}

size_t lade_state_bytes(const struct lade_shape *s, int capacity, enum lade_type cache_type)
{
    size_t total, one = cache_bytes(s, capacity, cache_type);
    if (!one || __builtin_mul_overflow(one, 2 * (size_t)count_attention(s), &total) ||
        __builtin_add_overflow(total, lade_state_recurrent_bytes(s), &total))
        return 0;
    return total;
}

static int alloc_layers(struct lade_state *st, const struct lade_shape *s, char *err)
{
    unsigned char *next = st->recurrent;
    for (int i = 0; i < s->layers; i++) {
        struct lade_layer_state *l = &st->layer[i];
        if (s->full_attention[i]) {
            if (lade_devices_alloc(st->devices, &l->k, st->kv_bytes, st->kv_in_ram, err) ||
                lade_devices_alloc(st->devices, &l->v, st->kv_bytes, st->kv_in_ram, err))
                return -1;
            continue;
        }
        l->conv = (float *)next;
        l->delta = (float *)(next + conv_bytes(s));
        next += conv_bytes(s) + delta_bytes(s);
    }
    return 0;
}

int lade_state_open(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *devices, int capacity, enum lade_type cache_type,
                    bool kv_in_ram, char *err)
{
    *st = (struct lade_state){.devices = devices,
                              .ops = devices->ops,
                              .dev = devices->dev,
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
    if ((st->recurrent_bytes &&
         st->ops->alloc(st->dev, (void **)&st->recurrent, st->recurrent_bytes, err)) ||
        alloc_layers(st, shape, err)) {
        lade_state_close(st);
        return -1;
    }
    return 0;
}

void lade_state_close(struct lade_state *st)
{
    for (int i = 0; st->layer && i < st->layers; i++) {
        lade_devices_free(st->devices, st->layer[i].k, st->kv_in_ram);
        lade_devices_free(st->devices, st->layer[i].v, st->kv_in_ram);
    }
    if (st->recurrent)
        st->ops->free(st->dev, st->recurrent);
    free(st->layer);
    *st = (struct lade_state){0};
}

int lade_state_reset(struct lade_state *st, char *err)
{
    st->length = 0;
    if (!st->recurrent_bytes)
        return 0;
    return st->ops->zero(st->dev, st->recurrent, st->recurrent_bytes, err);
}

int lade_state_save(struct lade_state *st, void *host, char *err)
{
    if (!st->recurrent_bytes)
        return 0;
    return st->ops->download(st->dev, host, st->recurrent, st->recurrent_bytes, err);
}

int lade_state_restore(struct lade_state *st, const void *host, int length, char *err)
{
    st->length = length;
    if (!st->recurrent_bytes)
        return 0;
    return st->ops->upload(st->dev, st->recurrent, host, st->recurrent_bytes, err);
}

/* ---- to other memory ------------------------------------------------------------------------- */

/* One kind of memory that a part of the state can be in. */
struct memory {
    const struct lade_devices *devices;
    bool in_ram; /* of the GPU's: RAM that it can use */
};

static bool host_sees(const struct memory *m)
{
    return !m->devices->gpu || m->in_ram;
}

static int copy(const struct memory *to, void *dst, const struct memory *from, const void *src,
                size_t bytes, char *err)
{
    const struct lade_devices *a = from->devices, *b = to->devices;
    if (host_sees(from) && host_sees(to)) {
        memcpy(dst, src, bytes);
        return 0;
    }
    if (host_sees(from))
        return b->ops->upload(b->dev, dst, src, bytes, err);
    return host_sees(to) ? a->ops->download(a->dev, dst, src, bytes, err)
                         : a->ops->copy(a->dev, dst, src, bytes, err);
}

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

static int sync_gpu(const struct lade_devices *d, char *err)
{
    return d->gpu ? d->ops->sync(d->dev, err) : 0;
}

static int move_cache(const struct lade_state *st, const struct lade_shape *s,
                      const struct memory *to, void **cache, const struct memory *from, char *err)
{
    void *there;
    if (lade_devices_alloc(to->devices, &there, st->kv_bytes, to->in_ram, err))
        return -1;
    if (copy_cache(st, s, to, there, from, *cache, err) || sync_gpu(from->devices, err) ||
        sync_gpu(to->devices, err)) {
        lade_devices_free(to->devices, there, to->in_ram);
        return -1;
    }
    lade_devices_free(from->devices, *cache, from->in_ram);
    *cache = there;
    return 0;
}

static int move_recurrent(struct lade_state *st, const struct lade_shape *s,
                          const struct lade_devices *to, const struct lade_devices *from, char *err)
{
    const struct memory there = {to, false}, here = {from, false};
    unsigned char *next;
    if (!st->recurrent_bytes || to->dev == from->dev)
        return 0;
    if (to->ops->alloc(to->dev, (void **)&next, st->recurrent_bytes, err))
        return -1;
    if (copy(&there, next, &here, st->recurrent, st->recurrent_bytes, err)) {
        to->ops->free(to->dev, next);
        return -1;
    }
    from->ops->free(from->dev, st->recurrent);
    st->recurrent = next;
    for (int i = 0; i < s->layers; i++) {
        if (s->full_attention[i])
            continue;
        st->layer[i].conv = (float *)next;
        st->layer[i].delta = (float *)(next + conv_bytes(s));
        next += conv_bytes(s) + delta_bytes(s);
    }
    return 0;
}

/* Moves the caches of layers [0, end): how many layers were moved whole. Of a layer half of which
 * could not be moved the other half is moved back, if that is possible. */
static int move_caches(struct lade_state *st, const struct lade_shape *s, const struct memory *to,
                       const struct memory *from, int end, char *err)
{
    for (int i = 0; i < end; i++) {
        struct lade_layer_state *l = &st->layer[i];
        if (!s->full_attention[i])
            continue;
        if (move_cache(st, s, to, &l->k, from, err))
            return i;
        if (move_cache(st, s, to, &l->v, from, err))
            return move_cache(st, s, from, &l->k, to, NULL) ? -1 : i;
    }
    return end;
}

/* Neither here nor there: nothing can be freed with certainty, so all of it is left to the devices'
 * end. */
static void lose(struct lade_state *st)
{
    free(st->layer);
    *st = (struct lade_state){0};
}

int lade_state_move(struct lade_state *st, const struct lade_shape *shape,
                    const struct lade_devices *to, bool kv_in_ram, char *err)
{
    const struct lade_devices from = {.ops = st->ops, .dev = st->dev, .gpu = !st->ops->host_memory};
    const struct memory here = {&from, st->kv_in_ram}, there = {to, kv_in_ram};
    bool same = to->dev == from.dev && kv_in_ram == st->kv_in_ram;
    int moved = same ? shape->layers : move_caches(st, shape, &there, &here, shape->layers, err);
    if (moved == shape->layers && !move_recurrent(st, shape, to, &from, err)) {
        st->devices = to;
        st->ops = to->ops;
        st->dev = to->dev;
        st->kv_in_ram = kv_in_ram;
        return 0;
    }
    if (moved < 0 || (!same && move_caches(st, shape, &here, &there, moved, NULL) != moved))
        lose(st);
    return -1;
}
