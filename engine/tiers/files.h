/* files.h - the shards of a checkpoint, open for reading.
 *
 * Each is opened twice. What the page cache holds is taken from there; the rest is read past it,
 * which is faster where the drive is not (no copy, no read-ahead to guess) and leaves the cache to
 * others. */
#ifndef LADE_TIERS_FILES_H
#define LADE_TIERS_FILES_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/checkpoint/catalog.h"

/* Direct reads start, end and land on multiples of this: it suits all drives known. */
enum { LADE_DIRECT = 4096 };

struct lade_copy {
    const char *path;   /* the catalog's */
    int cached, direct; /* direct: -1 where the file system knows no direct reads */
    void *map;          /* never read: only asked which of its pages are in memory; or NULL */
    uint64_t bytes;     /* of the map */
    atomic_long flying; /* bytes of runs that are on their way, or will be at once */
};

/* A shard, with its copies on other drives. */
struct lade_file {
    struct lade_copy copy[1 + LADE_MAX_COPIES];
    int n;
};

struct lade_files {
    struct lade_file *file; /* [n], by shard */
    int n;
    atomic_uint_fast64_t from_cache; /* bytes that were asked of the page cache, not of the drive */
};

int lade_files_open(struct lade_files *f, const struct lade_catalog *cat, char *err);
void lade_files_close(struct lade_files *f);

/* Whether all of a range is in the page cache, as far as the system tells. Any thread. */
bool lade_copy_is_cached(const struct lade_copy *c, uint64_t offset, size_t bytes);

/* The copy whose drive has least to do. Any thread. */
int lade_file_choose(const struct lade_file *f);

#endif
