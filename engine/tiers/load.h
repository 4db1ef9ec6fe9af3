/* load.h - the first load: every span of every shard, once, in file order. */
#ifndef LADE_TIERS_LOAD_H
#define LADE_TIERS_LOAD_H

#include <stdatomic.h>
#include <stddef.h>

#include "engine/checkpoint/catalog.h"
#include "engine/engine.h"

/* Reads all spans of `cat` and packs them to arena + place[piece]. The arena is zeroed memory.
 * Threads take consecutive batches of a few MiB, so that the drive sees one sequential stream per
 * shard however the tensors of a piece are scattered. Blocks; 0, or -1 with err. */
int lade_load(const struct lade_catalog *cat, unsigned char *arena, const size_t *place,
              int threads, lade_load_fn *progress, void *user, const atomic_bool *cancel,
              char *err);

#endif
