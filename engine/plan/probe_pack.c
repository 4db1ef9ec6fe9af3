/* probe_pack.c - how fast bytes of the files become weights in memory, the drive left aside. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/checkpoint/pack.h"
#include "engine/pages.h"
#include "engine/plan/probe.h"

enum { MOST_THREADS = 64, MOST_ARENAS = 32, PAGE = 4096 };

/* Memory of a thread: used again, as the slots of a cache are; or for the load one after the other,
 * because what a process gives back and takes again is not new to the machine: the first touch may
 * have to wait for a hypervisor. Then at most MOST_ARENAS and this part of what is free, in all. */
static const size_t ARENA = (size_t)32 << 20;
static const uint64_t PART = 8;
static const double SECONDS = 0.2;

/* An expert as its file has it. */
struct sample {
    const struct lade_catalog *cat;
    const struct lade_piece *piece;
    unsigned char *bytes;
    double end;
    int arenas;                  /* of a thread */
    atomic_uint_fast64_t packed; /* source bytes */
};

static bool read_span(const struct lade_catalog *cat, const struct lade_span *s, unsigned char *to)
{
    int fd = open(cat->shards[s->shard].path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && pread(fd, to, s->bytes, (off_t)s->offset) == (ssize_t)s->bytes;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Reads the first expert's parts, one after the other. */
static bool read_sample(struct sample *s, const struct lade_catalog *cat)
{
    const struct lade_shape *shape = &cat->shape;
    s->cat = cat;
    s->piece = &cat->pieces[lade_catalog_expert(cat, shape->layers / 2, shape->experts / 2)];
    s->bytes = malloc(s->piece->source_bytes ? s->piece->source_bytes : 1);
    unsigned char *next = s->bytes;
    for (int i = 0; s->bytes && i < s->piece->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[s->piece->first + i];
        for (int part = 0; part < t->n_parts; next += t->parts[part++].bytes)
            if (!read_span(cat, &t->parts[part], next))
                return false;
    }
    return s->bytes != NULL;
}

/* What is only copied is read straight to its place: just its pages must come into being. */
static bool pack(const struct sample *s, unsigned char *to)
{
    const unsigned char *from = s->bytes;
    for (int i = 0; i < s->piece->n_tensors; i++) {
        const struct lade_tensor *t = &s->cat->tensors[s->piece->first + i];
        for (int part = 0; part < t->n_parts; from += t->parts[part++].bytes) {
            if (!lade_pack_is_copy(t)) {
                if (lade_pack(s->cat, t, part, from, to + t->offset, NULL))
                    return false;
                continue;
            }
            for (size_t at = 0; at < t->bytes; at += PAGE)
                to[t->offset + at] = 1;
        }
    }
    return true;
}

static void *pack_again(void *arg)
{
    struct sample *s = arg;
    unsigned char *to[MOST_ARENAS] = {0};
    size_t fits = s->piece->bytes ? ARENA / s->piece->bytes : 0;
    for (int at = 0; fits && lade_now() < s->end; at = (at + 1) % s->arenas) {
        if (at == 0 && s->arenas > 1 && to[0])
            break; /* all that is to be had has been touched */
        if (!to[at] && !(to[at] = lade_pages_take(ARENA)))
            break;
        for (size_t i = 0; i < fits && pack(s, to[at] + i * s->piece->bytes); i++)
            atomic_fetch_add(&s->packed, s->piece->source_bytes);
    }
    for (int i = 0; i < s->arenas && to[i]; i++)
        lade_pages_give(to[i], ARENA);
    return NULL;
}

/* GB/s of all threads. */
static double measure(struct sample *s, int arenas, int threads)
{
    pthread_t thread[MOST_THREADS];
    double begin = lade_now();
    int started = 0;
    s->arenas = arenas;
    s->end = begin + SECONDS;
    atomic_store(&s->packed, 0);
    while (started < threads && !pthread_create(&thread[started], NULL, pack_again, s))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    return (double)atomic_load(&s->packed) / (lade_now() - begin) / 1e9;
}

void lade_probe_packing(struct lade_machine_packing *out, const struct lade_catalog *cat,
                        int threads)
{
    struct sample s = {0};
    *out = (struct lade_machine_packing){0};
    threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
    if (cat->shape.experts > 0 && read_sample(&s, cat)) {
        struct lade_memory memory;
        lade_machine_memory(&memory);
        uint64_t arenas = memory.available / PART / ARENA;
        int each = (int)(arenas < MOST_ARENAS ? arenas : MOST_ARENAS) / threads;
        out->fresh_gbps = measure(&s, each < 1 ? 1 : each, threads);
        out->again_gbps = measure(&s, 1, threads);
    }
    free(s.bytes);
}
