/* heat.h - how much each expert has been used lately.
 *
 * Every use adds to an expert's score a weight that grows exponentially with time, counted in
 * tokens: after `life` of them a use is worth e times a new one less. So a score never changes
 * but by a use, and the order of two unused experts never changes: it can be kept in a heap. This
 * is the LRFU policy of Lee et al. (IEEE Trans. Computers 50, 2001), between recency and frequency.
 * A short life suits a cache, because routes repeat soon or not (tests/bench/LEDGER.md has how
 * lives compare); a long one says what a model's conversations are about. */
#ifndef LADE_TIERS_HEAT_H
#define LADE_TIERS_HEAT_H

#include <stdint.h>

enum { LADE_HEAT_CACHE = 16, LADE_HEAT_HABIT = 8192 }; /* lives, in tokens */

struct lade_heat {
    double *score; /* [n], owned */
    int n;
    double life; /* tokens */
    double now;  /* tokens since the scores were last brought back to small numbers */
};

int lade_heat_open(struct lade_heat *h, int n, double life, char *err);
void lade_heat_close(struct lade_heat *h);

/* `tokens` more begin. */
void lade_heat_tick(struct lade_heat *h, int tokens);

/* `uses` uses of expert e by the tokens of now. */
void lade_heat_use(struct lade_heat *h, int e, int uses);

/* Brings the scores back to the number of uses that they are worth now. Their order stays. */
void lade_heat_settle(struct lade_heat *h);

#endif
