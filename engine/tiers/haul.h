/* haul.h - one job of a mover: bytes of some tensors, read together and packed into place.
 *
 * Spans that are near each other in a file are read in one run, however many tensors they belong
 * to; all runs of a job are on their way at once. When the last byte is there everything is packed.
 *
 * Bytes that need packing are read to a stage; or to the places themselves, lent for that time. From there
 * they are gathered in a buffer that stays in a core's cache, and packed back. So new pages come into being
 * before a read, not after it, and one of the two memories that bytes pass through is not needed: a load
 * is 1 to 3% faster (tests/bench/LEDGER.md).
 *
 * What the page cache has is not read before it is packed, and then a slice of rows at a time, which
 * stays in the core's own cache from one to the other. */
#ifndef LADE_TIERS_HAUL_H
#define LADE_TIERS_HAUL_H

#include "engine/tiers/files.h"
#include "engine/tiers/io.h"

/* A span, or some rows of it, and where its tensor lies in memory. Or, of a packed file, a block of
 * a piece. */
struct lade_item {
    int tensor, part;
    int first, rows;        /* rows of the part; rows 0: all of it */
    bool block;             /* bytes as they are, to dst; tensor is the piece's first */
    bool padded;            /* of a block: its place is its own up to a multiple of LADE_DIRECT */
    int check;              /* of a block: its checksum in the catalog, or -1 */
    uint64_t offset, bytes; /* in its shard */
    int shard;
    unsigned char *dst; /* start of the tensor's packed bytes */
};

/* The order of items in their files, for qsort. */
int lade_item_order(const void *a, const void *b);

/* Consecutive bytes of one shard. */
struct lade_run {
    int shard, first, n_items;
    uint64_t offset, bytes;
    unsigned char *data; /* where `offset` comes to lie */
    bool in_place;       /* data is already where it belongs */
    bool cached;         /* all of it was in the page cache, of `copy`: read when it is packed */
    int copy, fd;        /* of the file; what reads begin with */
};

/* Calls `add` for every item of a piece whose packed bytes start at `place`: parts of tensors, or
 * slices of rows of large ones where they can be cut. Returns what `add` returned, if not 0. */
typedef int lade_item_fn(void *user, const struct lade_item *item, char *err);
int lade_items_of_piece(const struct lade_catalog *cat, int piece, unsigned char *place,
                        bool padded, lade_item_fn *add, void *user, char *err);

struct lade_chunk {        /* of a run; one read */
    struct lade_read read; /* first: what the queue hands back */
    struct lade_haul *haul;
    int shard, copy; /* copy: which one of the file is being read */
    int failures;    /* copies that have failed */
    size_t need;     /* of read.bytes, which may reach beyond what is wanted */
};

/* Memory that reads may use before packed bytes come to lie in it. */
struct lade_lent {
    unsigned char *at; /* bytes at it, both multiples of LADE_DIRECT */
    size_t bytes;
};

struct lade_haul {
    const struct lade_catalog *cat; /* borrowed, as the next two */
    struct lade_files *files;
    const struct lade_io_ops *ops;
    struct lade_item *items; /* owned, as the three below; they grow and stay */
    struct lade_run *runs;
    struct lade_chunk *chunks;
    struct lade_lent *lent;
    int n_items, n_runs, n_chunks, n_lent;
    int cap_items, cap_runs, cap_chunks, cap_lent;
    int n_counted;        /* runs that count as on their way from their copies */
    size_t stage_bytes;   /* of memory the runs need beside the places and what is lent: */
    size_t slice_bytes;   /* first a slice of what is cached, then what is read through the queue */
    size_t read_bytes;    /* through the queue, to be packed: the first of them to what is lent */
    unsigned char *stage; /* as it was given to start, as the next one */
    unsigned char *gather;
    int pending; /* chunks on their way */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

void lade_haul_close(struct lade_haul *f);

/* Forgets all items. */
void lade_haul_clear(struct lade_haul *f);

/* Adds every span of a piece whose packed bytes start at `place`; for `padded` see lade_item. */
int lade_haul_piece(struct lade_haul *f, int piece, unsigned char *place, bool padded, char *err);
/* Adds one item. */
int lade_haul_item(struct lade_haul *f, const struct lade_item *item, char *err);

/* Orders the items, joins them to runs and chooses which copy each is read from; f->stage_bytes is
 * then known. */
int lade_haul_arrange(struct lade_haul *f, char *err);

/* Lends the haul `bytes` at `place`, where it alone will pack something; what is not aligned is left out.
 * Between arrange and start; f->stage_bytes is less then. What begins where the last one ended is one with
 * it. No block of a packed file may be in the haul. What is lent is zero when packing begins, and after a
 * failure. */
int lade_haul_lend(struct lade_haul *f, unsigned char *place, size_t bytes, char *err);

/* Starts all reads, of which there may be none. `stage` has stage_bytes, aligned to LADE_DIRECT, the
 * haul's until the end. `gather` has read_bytes, of which haul_finish() makes use; only where something is
 * lent. */
int lade_haul_start(struct lade_haul *f, unsigned char *stage, unsigned char *gather,
                    struct lade_io *io, char *err);

/* Takes a chunk that wait() returned, which may start it again for the rest. */
void lade_haul_back(struct lade_chunk *c, struct lade_io *io);

/* When nothing is pending: packs. Fails with the first read error, too. */
int lade_haul_finish(struct lade_haul *f, char *err);

#endif
