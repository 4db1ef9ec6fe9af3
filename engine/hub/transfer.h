/* transfer.h - inside engine/hub: brings the files of a listing into a directory. */
#ifndef LADE_HUB_TRANSFER_H
#define LADE_HUB_TRANSFER_H

#include "engine/hub/fetch.h"
#include "engine/hub/http.h"
#include "engine/hub/listing.h"

struct lade_transfer {
    const struct lade_http *http;
    const struct lade_listing *listing;
    int dirfd;
    int connections;
    struct lade_fetch_file *files;     /* one per file of the listing; DONE ones are left alone */
    struct lade_fetch_progress *shown; /* files, sums: kept current */
    lade_fetch_fn *progress;           /* may be NULL */
    void *user;
};

/* Returns when every file is whole, checked and has its name. A FILE.part that is there is gone on
 * with. On failure the parts stay. */
int lade_transfer_run(struct lade_transfer *t, char *err);

#endif
