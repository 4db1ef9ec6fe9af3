/* reply.h - what the server says: JSON texts in the shapes of OpenAI's API. Pure.
 *
 * All return malloc'ed text, or NULL without memory. */
#ifndef LADE_TUI_SERVE_REPLY_H
#define LADE_TUI_SERVE_REPLY_H

#include <stdint.h>

#include "engine/engine.h"
#include "tui/serve/body.h"
#include "tui/serve/calls.h"

/* What all texts of one answer repeat. */
struct reply_head {
    char id[48];
    int64_t created;   /* seconds since 1970 */
    const char *model; /* borrowed */
    bool usage;        /* pieces have a field for it */
};

char *reply_error(const struct serve_error *e);
/* Not before the model's headers are read are there an info and stats to speak of. */
char *reply_health(const struct lade_stats *stats);
/* The list of models, or with `alone` its only entry. */
char *reply_models(const char *name, int64_t created, int context, bool alone);

/* An answer that was not streamed, with what it calls. */
char *reply_whole(const struct reply_head *h, const char *text, const char *reasoning,
                  const struct calls *calls, const struct lade_result *r);

/* Pieces of one that is: its beginning; a text; one of its calls; why it ended; what it cost. */
char *reply_begin(const struct reply_head *h);
char *reply_text(const struct reply_head *h, const char *text, bool reasoning);
char *reply_call(const struct reply_head *h, const struct calls *calls, size_t i);
char *reply_end(const struct reply_head *h, const struct calls *calls, const struct lade_result *r);
char *reply_usage(const struct reply_head *h, const struct lade_result *r);

#endif
