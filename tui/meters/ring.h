/* ring.h - the last samples of one number, oldest dropped first. */
#ifndef LADE_TUI_METERS_RING_H
#define LADE_TUI_METERS_RING_H

enum { RING_SIZE = 512 };

/* Zero-initialised is empty. A sample may be NAN: nothing was measured then. */
struct ring {
    float at[RING_SIZE];
    int n;    /* samples held */
    int next; /* where the next one goes */
};

void ring_push(struct ring *r, float sample);

/* Copies the newest min(n, held) samples to `out`, oldest first, and returns how many. */
int ring_tail(const struct ring *r, float *out, int n);

#endif
