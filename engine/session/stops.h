/* stops.h - texts at which an answer ends. What could be the beginning of one waits until what follows
 * decides. Pure; bytes come in any pieces. */
#ifndef LADE_SESSION_STOPS_H
#define LADE_SESSION_STOPS_H

#include "engine/engine.h"

struct lade_stops {
    const struct lade_stop_texts *texts; /* borrowed */
    char held[LADE_STOP_SIZE];           /* the longest end of what came that begins one of them */
    size_t n_held;
    bool hit; /* one of them came: nothing passes any more */
};

/* Takes n bytes and writes those that are sure to be before a stop, held ones first, to out, which has
 * room for n + LADE_STOP_SIZE. Returns how many. */
size_t lade_stops_pass(struct lade_stops *s, const char *text, size_t n, char *out);

/* No more will come: what is held was no stop. As lade_stops_pass. */
size_t lade_stops_rest(struct lade_stops *s, char *out);

#endif
