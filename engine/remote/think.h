/* think.h - reasoning and answer apart, however a server gives them: in fields of their own, or between
 * <think> and </think> where the answer begins so. */
#ifndef LADE_REMOTE_THINK_H
#define LADE_REMOTE_THINK_H

#include "engine/session/tell.h"

enum lade_think_place { LADE_THINK_START, LADE_THINK_INSIDE, LADE_THINK_AFTER };

struct lade_think {
    struct lade_tell *tell; /* borrowed: takes what is sorted out */
    enum lade_think_place place;
    char held[32]; /* the end of what came, that may be the beginning of a tag */
    size_t n_held;
};

/* A piece of the field for reasoning, of that for the answer; whole characters. */
void lade_think_reasoning(struct lade_think *t, const char *text);
void lade_think_content(struct lade_think *t, const char *text);

/* No more will come: what is held was no tag. */
void lade_think_end(struct lade_think *t);

#endif
