/* governor.h - whether reading ahead pays.
 *
 * It decides by counts, not by clocks: what it sees of the same routes is always the same. Time is
 * counted in decoded tokens. While it is on, every TRIAL of them are weighed: an expert that was
 * read ahead and then asked for saves a read that the token would have waited for; one that was
 * not costs half of one, because the drive may be needed while it works on it; and guessing a
 * layer costs the router once more, an eighth of a read on a drive of 1 to 2 GB/s. Where that does
 * not pay it is off for a while, then tried again; after each trial that fails for twice as long. */
#ifndef LADE_TIERS_GOVERNOR_H
#define LADE_TIERS_GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

enum {
    LADE_GOVERNOR_TRIAL = 16, /* tokens */
    LADE_GOVERNOR_REST = 64,  /* tokens off after a first trial that failed */
    LADE_GOVERNOR_MOST = 1024 /* and at most */
};

/* Sums. */
struct lade_look_counts {
    uint64_t layers; /* guessed */
    uint64_t right;  /* experts read ahead, then asked for */
    uint64_t wasted; /* read ahead and given up unasked */
};

struct lade_governor {
    bool on;
    int left, rest; /* tokens until the next decision; how long the next rest will be */
    struct lade_look_counts before; /* at the last decision */
};

/* Begins with a trial. */
void lade_governor_open(struct lade_governor *g);

/* A token has been decoded; `now` are the sums up to here. */
void lade_governor_token(struct lade_governor *g, const struct lade_look_counts *now);

#endif
