#include "engine/tiers/tiers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/plan/machine.h"
#include "engine/tiers/load.h"

struct lade_tiers {
    const struct lade_catalog *cat;
    unsigned char *arena;
    size_t bytes;
    size_t *place; /* [n_pieces] offset into the arena */
};

static const double gib = 1024.0 * 1024 * 1024;

static int check_room(const struct lade_catalog *cat, size_t ram_cap, size_t reserve, char *err)
{
    struct lade_memory memory;
    lade_machine_memory(&memory);
    size_t room = ram_cap ? ram_cap : memory.available;
    size_t need;
    if (__builtin_add_overflow(cat->packed_bytes, reserve, &need))
        return lade_fail(err, "%s: its weights do not fit in an address space; use a smaller model",
                         cat->path);
    if (need > room)
        return lade_fail(err,
                         "%s: needs %.2f GiB of RAM (%.2f weights, %.2f caches and buffers) but "
                         "%.2f GiB %s; close other programs, lower --context, or use a smaller "
                         "model",
                         cat->path, need / gib, cat->packed_bytes / gib, reserve / gib, room / gib,
                         ram_cap ? "are allowed by --cpu-memory" : "are free");
    return 0;
}

int lade_tiers_open(struct lade_tiers **out, const struct lade_catalog *cat, size_t ram_cap,
                    size_t reserve, char *err)
{
    *out = NULL;
    if (check_room(cat, ram_cap, reserve, err))
        return -1;
    struct lade_tiers *t = calloc(1, sizeof *t);
    if (!t || !(t->place = calloc((size_t)cat->n_pieces, sizeof *t->place))) {
        free(t);
        return lade_fail(err, "%s: out of memory for %d pieces; close other programs", cat->path,
                         cat->n_pieces);
    }
    t->cat = cat;
    for (int i = 0; i < cat->n_pieces; i++) {
        t->place[i] = t->bytes;
        t->bytes += cat->pieces[i].bytes;
    }
    t->arena = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t->arena == MAP_FAILED) {
        t->arena = NULL;
        int code = errno;
        lade_fail(err, "%s: cannot reserve %.2f GiB of RAM: %s; close other programs", cat->path,
                  t->bytes / gib, strerror(code));
        lade_tiers_close(t);
        return -1;
    }
    /* Only advice: without huge pages the same memory works with more TLB misses. */
    madvise(t->arena, t->bytes, MADV_HUGEPAGE);
    *out = t;
    return 0;
}

void lade_tiers_close(struct lade_tiers *t)
{
    if (!t)
        return;
    if (t->arena)
        munmap(t->arena, t->bytes);
    free(t->place);
    free(t);
}

int lade_tiers_load(struct lade_tiers *t, int threads, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err)
{
    return lade_load(t->cat, t->arena, t->place, threads, progress, user, cancel, err);
}

const void *lade_tiers_piece(const struct lade_tiers *t, int piece)
{
    return t->arena + t->place[piece];
}

size_t lade_tiers_bytes(const struct lade_tiers *t)
{
    return t->bytes;
}
