/* packed.h - a checkpoint that lade has written: pieces as they lie in memory.
 *
 * A packed directory holds
 *
 *     lade.pack            the index: everything but the weights; written last, so that a directory
 *                          with an index is whole
 *     SHARD.lade           one file per shard of the source: its pieces one after the other, each
 *                          from a multiple of 4096 bytes on and padded with zeros to one
 *     tokenizer.json, ...  the texts of the model, as a Hugging Face directory has them
 *
 * and is opened like any model. Several directories, on several drives, hold one model together:
 * *striped*, each with a part of every shard's pieces, or *mirrored*, each with all of them. The
 * index is in all of them and names the others.
 *
 * A checksum (XXH3, 64 bits) of every LADE_PACKED_BLOCK bytes of a piece is verified whenever it is
 * read from a drive. The index remembers the files it was made of by size, time and a hash of
 * their headers: where one is there and differs, the directory is stale and not opened.
 *
 * Numbers in the index are little-endian. Machines that are not do not read it. */
#ifndef LADE_CHECKPOINT_PACKED_H
#define LADE_CHECKPOINT_PACKED_H

#include "engine/checkpoint/catalog.h"

enum {
    LADE_PACKED_VERSION = 1,
    LADE_PACKED_ALIGN = 4096,
    LADE_PACKED_BLOCK = 4 << 20, /* bytes that share a checksum */
    LADE_PACKED_DRIVES = 8,
};

#define LADE_PACKED_INDEX "lade.pack"
/* In its place while it is written, or where that was stopped (engine/tiers/journal.h). */
#define LADE_PACKED_JOURNAL LADE_PACKED_INDEX ".journal"

/* One file of the source. */
struct lade_packed_source {
    char *path; /* absolute, owned */
    uint64_t bytes;
    int64_t time_ns; /* of its last change */
    uint64_t hash;   /* of its first MiB */
};

struct lade_packed_file {
    char *name; /* without directory, owned */
    int drive;  /* striped: in which directory; mirrored: 0 */
    uint64_t bytes;
};

struct lade_packed_piece {
    int file;
    uint64_t offset;
};

struct lade_packed {
    char *name, *format; /* of the source, owned */
    struct lade_shape shape;
    struct lade_generation generation;
    bool mirrored;
    char *drives[LADE_PACKED_DRIVES]; /* absolute directories, owned */
    int n_drives;
    struct lade_packed_source *sources; /* owned, as all lists here */
    int n_sources;
    struct lade_packed_file *files;
    int n_files;
    struct lade_matrix *tensors; /* type, group, has_zeros, block of each, in catalog order; the
                                        rest follows from the shape */
    int n_tensors;
    struct lade_packed_piece *pieces; /* in catalog order */
    int n_pieces;
    uint64_t *checks; /* of all blocks of all pieces, in order */
    int n_checks;
};

void lade_packed_free(struct lade_packed *p);

/* Blocks of a piece of that many bytes. */
static inline int lade_packed_blocks(size_t bytes)
{
    return (int)((bytes + LADE_PACKED_BLOCK - 1) / LADE_PACKED_BLOCK);
}

/* The checksum of n bytes. */
uint64_t lade_packed_check(const void *data, size_t n);

/* Takes down what a file of the source is now. */
int lade_packed_look(struct lade_packed_source *s, const char *path, char *err);

/* A number that tells this work from any other: sources, files, places. Never 0 but without memory. */
uint64_t lade_packed_signature(struct lade_packed *p);

/* Reads DIR/lade.pack, checks it and the sources that are still there. */
int lade_packed_read(struct lade_packed *p, const char *dir, char *err);

/* Writes DIR/lade.pack in one step: it is there whole or not at all. */
int lade_packed_write(struct lade_packed *p, const char *dir, char *err);

#endif
