/* tiers.h - who holds the weights.
 *
 * The tiers own all weight memory and know where each piece is. Today there is one home, RAM:
 * anonymous memory (not page cache, which the kernel may evict), huge pages where allowed. */
#ifndef LADE_TIERS_TIERS_H
#define LADE_TIERS_TIERS_H

#include <stdatomic.h>
#include <stddef.h>

#include "engine/checkpoint/catalog.h"
#include "engine/engine.h"

struct lade_tiers;

/* Reserves memory for all pieces of `cat` (borrowed; must outlive the tiers). Fails, before
 * anything is read, where they do not fit in `ram_cap` bytes (0 = what is available now) less
 * `reserve` bytes that the caller needs for caches and buffers. */
int lade_tiers_open(struct lade_tiers **out, const struct lade_catalog *cat, size_t ram_cap,
                    size_t reserve, char *err);
void lade_tiers_close(struct lade_tiers *t);

/* Reads every shard and packs it into place with `threads` threads; blocks until done, failed or
 * cancelled. Reads go through each file once, front to back. See engine.h for `progress`. */
int lade_tiers_load(struct lade_tiers *t, int threads, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err);

/* The packed bytes of a piece; valid until close. */
const void *lade_tiers_piece(const struct lade_tiers *t, int piece);

/* Bytes held. */
size_t lade_tiers_bytes(const struct lade_tiers *t);

#endif
