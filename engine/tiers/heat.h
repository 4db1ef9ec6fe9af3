/* heat.h - how much each expert has been used lately.
 *
 * Every use adds to an expert's score a weight that grows exponentially with time, counted in
 * tokens: after LADE_HEAT_TOKENS of them a use is worth e times a new one less. So a score never changes
 * but by a use, and the order of two unused experts never changes: it can be kept in a heap. This
 * is the LRFU policy of Lee et al. (IEEE Trans. Computers 50, 2001), between recency and frequency;
 * tests/bench/LEDGER.md has how it compares. */
#ifndef LADE_TIERS_HEAT_H
#define LADE_TIERS_HEAT_H

#include <stdint.h>

enum { LADE_HEAT_TOKENS = 256 };

struct lade_heat {
    double *score; /* [n], owned */
    int n;
    double now; /* tokens since the scores were last brought back to small numbers */
};

int lade_heat_open(struct lade_heat *h, int n, char *err);
void lade_heat_close(struct lade_heat *h);

/* One more token begins. */
void lade_heat_tick(struct lade_heat *h, int tokens);

/* `uses` uses of expert e by the tokens of now. */
void lade_heat_use(struct lade_heat *h, int e, int uses);

#endif
