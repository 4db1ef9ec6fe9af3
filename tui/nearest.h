/* nearest.h - which name was perhaps meant by one that is mistyped. */
#ifndef LADE_TUI_NEAREST_H
#define LADE_TUI_NEAREST_H

enum { NEAREST_LETTERS = 32 }; /* longer names are near nothing */

struct nearest {
    const char *typed;
    const char *name; /* the nearest so far; NULL = none is near */
    int distance;     /* edits from typed to name */
};

#define NEAREST_TO(text) ((struct nearest){.typed = (text), .distance = NEAREST_LETTERS})

/* Keeps `name` (borrowed) if it is nearer than the one before: a third of the letters of the shorter
 * may be wrong, of five or fewer one, or it may be cut short. */
void nearest_consider(struct nearest *n, const char *name);

#endif
