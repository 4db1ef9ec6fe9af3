/* packing.h - inside lade pack: the state that its files share.
 *
 * packer.c does the work; packer_layout.c decides where everything lies; packer_files.c writes. */
#ifndef LADE_TIERS_PACKING_H
#define LADE_TIERS_PACKING_H

#include <pthread.h>

#include "engine/checkpoint/packed.h"
#include "engine/tiers/haul.h"
#include "engine/tiers/journal.h"
#include "engine/tiers/packer.h"

/* One file that is written, on one drive. */
struct output {
    int file, drive; /* of the index */
    char *path;      /* final; written as path.part */
    int fd;
};

struct packer {
    const struct lade_catalog *cat;
    struct lade_packed index;
    struct lade_files source;
    struct output *outputs;
    int n_outputs;
    int *order;       /* [n_pieces] as they lie in the source */
    int *first_check; /* [n_pieces] */
    const atomic_bool *cancel;

    pthread_mutex_t lock; /* guards everything below */
    bool *noted;          /* [n_pieces] the journal has it */
    bool *written;        /* [n_pieces] but not synced */
    int next;             /* into order */
    uint64_t done, bytes, unsynced;
    struct lade_journal journal;
    lade_pack_progress_fn *progress;
    void *user;
    bool failed;
    char err[LADE_ERR];
};

static inline uint64_t lade_packing_align(uint64_t n)
{
    return (n + LADE_PACKED_ALIGN - 1) / LADE_PACKED_ALIGN * LADE_PACKED_ALIGN;
}

static inline int lade_packing_no_memory(char *err)
{
    return lade_fail(err, "packing: out of memory; close other programs");
}

/* ---- packer_layout.c ---- */

/* Makes the directories, takes down the source, orders the pieces as they lie there, and gives each
 * its place: everything of the index but the checksums. */
int lade_packing_lay_out(struct packer *p, const struct lade_pack_options *opt, char *err);

/* ---- packer_files.c ---- */

/* Opens all outputs at their full sizes; the journal's word for files that are gone is forgotten. */
int lade_packing_open(struct packer *p, char *err);
void lade_packing_close(struct packer *p);
int lade_packing_sync(struct packer *p, char *err);
/* Writes a piece to all its outputs. */
int lade_packing_write(const struct packer *p, int piece, const unsigned char *data, size_t padded,
                       char *err);
/* Gives the outputs their final names. */
int lade_packing_rename(struct packer *p, char *err);

#endif
