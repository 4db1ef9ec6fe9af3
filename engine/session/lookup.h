/* lookup.h - where drafts come from: what followed the last time that a timeline came by here.
 *
 * Answers repeat what was said: code that is edited, names, lists, quotations. Tables tell for the last few
 * tokens where the same ones stood before; the more tokens before that place are the same, too, the
 * likelier so is the next one. Entries are hints, which are checked: a later place takes that of an
 * earlier one with the same hash. Pure; allocates when it is opened. */
#ifndef LADE_SESSION_LOOKUP_H
#define LADE_SESSION_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

enum {
    LADE_LOOKUP_LEAST = 3, /* tokens that must be the same */
    LADE_LOOKUP_MOST = 15, /* more are not counted */
    LADE_LOOKUP_TABLES = 2,
    LADE_LOOKUP_SIZE = 1 << 17, /* entries of a table */
    LADE_LOOKUP_BYTES = LADE_LOOKUP_TABLES * LADE_LOOKUP_SIZE * 4
};

struct lade_lookup {
    int32_t *next; /* [tables][size]: where the token after them stands; 0: nowhere. Owned */
    int n;         /* tokens of the timeline that were seen */
};

int lade_lookup_open(struct lade_lookup *l, char *err);
void lade_lookup_close(struct lade_lookup *l);

/* The timeline is ids[0..n), which begins with what it was before. */
void lade_lookup_see(struct lade_lookup *l, const int32_t *ids, int n);

/* Where in the timeline that was seen something stands that probably comes next; 0: nowhere. *same: how
 * many tokens before it are those at the end, LEAST to MOST. */
int lade_lookup_find(const struct lade_lookup *l, const int32_t *ids, int *same);

#endif
