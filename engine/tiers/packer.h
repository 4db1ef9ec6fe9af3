/* packer.h - writes a packed directory (engine/checkpoint/packed.h) from any checkpoint. */
#ifndef LADE_TIERS_PACKER_H
#define LADE_TIERS_PACKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/error.h"

struct lade_pack_options {
    const char *model;       /* as for lade_catalog_open */
    const char *const *dirs; /* [n_dirs] made where they do not exist; one for each drive */
    int n_dirs;
    bool mirror; /* every directory has everything; else each has its part */
    int threads; /* 0 = physical cores, at most 4 */
};

struct lade_pack_progress {
    uint64_t done, bytes; /* packed bytes written, in all */
    const char *path;     /* of the file that was written to; valid during the call */
};
typedef void lade_pack_progress_fn(void *user, const struct lade_pack_progress *p);

/* Packs. What was written by an earlier call that was stopped, or that failed or died at any
 * moment, is kept where it is still the same model and the same directories. A directory that is
 * up to date already is left alone. `progress` (may be NULL) is called from threads, one at a time;
 * `cancel` (may be NULL) stops it. */
int lade_pack_model(const struct lade_pack_options *opt, lade_pack_progress_fn *progress,
                    void *user, const atomic_bool *cancel, char *err);

#endif
