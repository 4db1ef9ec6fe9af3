/* journal.h - which pieces of a packed directory are safely on the drive, while it is written. */
#ifndef LADE_TIERS_JOURNAL_H
#define LADE_TIERS_JOURNAL_H

#include <stdint.h>

#include "kernels/error.h"

struct lade_journal {
    char *path; /* owned */
    int fd;     /* -1: closed */
};

typedef void lade_journal_fn(void *user, int piece, const uint64_t *checks, int n);

/* Opens DIR's journal. One that belongs to the same work (`signature`) is read: `each` gets its
 * records, as far as they are whole; any other begins anew. */
int lade_journal_open(struct lade_journal *j, const char *dir, uint64_t signature,
                      lade_journal_fn *each, void *user, char *err);
void lade_journal_close(struct lade_journal *j);

/* Adds a record; it counts once lade_journal_sync has returned. */
int lade_journal_note(struct lade_journal *j, int piece, const uint64_t *checks, int n, char *err);
int lade_journal_sync(struct lade_journal *j, char *err);

/* The work is done. */
void lade_journal_remove(struct lade_journal *j);

#endif
