/* fetch.h - one job of a mover: bytes of some tensors, read together and packed into place.
 *
 * Spans that are near each other in a file are read in one run, however many tensors they belong
 * to; all runs of a job are on their way at once. When the last byte is there everything is packed. */
#ifndef LADE_TIERS_FETCH_H
#define LADE_TIERS_FETCH_H

#include "engine/tiers/files.h"
#include "engine/tiers/io.h"

/* A span, or some rows of it, and where its tensor lies in memory. */
struct lade_item {
    int tensor, part;
    int first, rows;        /* rows of the part; rows 0: all of it */
    uint64_t offset, bytes; /* in its shard */
    int shard;
    unsigned char *dst; /* start of the tensor's packed bytes */
};

/* Consecutive bytes of one shard. */
struct lade_run {
    int shard, first, n_items;
    uint64_t offset, bytes;
    unsigned char *data; /* where `offset` comes to lie */
    bool in_place;       /* data is already where it belongs */
};

struct lade_chunk {        /* of a run; one read */
    struct lade_read read; /* first: what the queue hands back */
    struct lade_fetch *fetch;
    int shard;
    size_t need; /* of read.bytes, which may reach beyond what is wanted */
};

struct lade_fetch {
    const struct lade_catalog *cat; /* borrowed, as files */
    const struct lade_files *files;
    struct lade_item *items; /* owned, as the two below; they grow and stay */
    struct lade_run *runs;
    struct lade_chunk *chunks;
    int n_items, n_runs, n_chunks;
    int cap_items, cap_runs, cap_chunks;
    size_t stage_bytes; /* of memory the runs need beside the places */
    int pending;        /* chunks on their way */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

void lade_fetch_close(struct lade_fetch *f);

/* Forgets all items. */
void lade_fetch_clear(struct lade_fetch *f);

/* Adds every span of a piece whose packed bytes start at `place`. */
int lade_fetch_piece(struct lade_fetch *f, int piece, unsigned char *place, char *err);
/* Adds one item. */
int lade_fetch_item(struct lade_fetch *f, const struct lade_item *item, char *err);

/* Orders the items and joins them to runs; f->stage_bytes is then known. */
int lade_fetch_arrange(struct lade_fetch *f, char *err);

/* Starts all reads. `stage` has stage_bytes, aligned to LADE_DIRECT, the fetch's until the end. */
int lade_fetch_start(struct lade_fetch *f, unsigned char *stage, const struct lade_io_ops *ops,
                     struct lade_io *io, char *err);

/* Takes a chunk that wait() returned, which may start it again for the rest. */
void lade_fetch_back(struct lade_chunk *c, const struct lade_io_ops *ops, struct lade_io *io);

/* When nothing is pending: packs. Fails with the first read error, too. */
int lade_fetch_finish(struct lade_fetch *f, char *err);

#endif
