/* tell.h - what an answer tells while it comes: its text, as it should be read, and its numbers. The
 * same wherever the model runs. Of the engine's thread. */
#ifndef LADE_SESSION_TELL_H
#define LADE_SESSION_TELL_H

#include "engine/session/stops.h"
#include "engine/session/worker.h"

/* Tokens over which the live speed is taken: short enough to follow a change, long enough to be
 * readable. */
enum { LADE_RATE_WINDOW = 32 };

struct lade_tell {
    struct lade_engine *e;
    const struct lade_request *r;
    struct lade_stops stops;        /* of the answer; its reasoning may have them */
    bool reasoning;                 /* what comes is between <think> and </think> */
    bool trim;                      /* the next text starts a block: drop its leading newlines */
    int held_newlines;              /* not sent yet: dropped if the block ends after them */
    double times[LADE_RATE_WINDOW]; /* private: of the last tokens */
    double first_at;                /* when the first token came */
    struct lade_result result;
};

/* `stops` are the texts that end the answer here; NULL = none does. */
void lade_tell_begin(struct lade_tell *t, struct lade_engine *e, const struct lade_request *r,
                     const struct lade_stop_texts *stops);

/* Sends text (whole characters) without the newlines that only separate the reasoning from the
 * answer: the first of a block, and those that turn out to be the last of the reasoning. */
void lade_tell_text(struct lade_tell *t, const char *text);

/* The reasoning begins or ends here. */
void lade_tell_block(struct lade_tell *t, bool reasoning);

/* One more token came: counts it, and publishes the live speed and that the context holds so many. */
void lade_tell_token(struct lade_tell *t, int context_used);

/* The last event of the answer: DONE, or with `failure` (copied) FAILED, for which result.stop says
 * why. */
void lade_tell_end(struct lade_tell *t, const char *failure, int context_used);

#endif
