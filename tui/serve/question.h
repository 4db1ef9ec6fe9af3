/* question.h - what a client asks: the body of POST /v1/chat/completions, read and checked. Pure.
 *
 * Fields are those of OpenAI's API, and of vLLM and llama-server where it has none. One that would
 * change the answer and is not supported is refused by name; what only describes the client is
 * ignored. */
#ifndef LADE_TUI_SERVE_QUESTION_H
#define LADE_TUI_SERVE_QUESTION_H

#include "engine/engine.h"
#include "tui/serve/body.h"

struct serve_question {
    json_t *body, *texts;          /* owned: hold the strings of the messages */
    struct lade_message *messages; /* owned; the tools come first */
    size_t n;
    json_t *tools; /* the body's: the list that the model may call; NULL = it may not */
    bool parallel; /* it may call several at once */
    struct lade_sampling sampling;
    int max_tokens; /* 0 = until it stops */
    bool think;
    bool stream, include_usage;
};

/* What holds where the client says nothing. */
struct serve_defaults {
    const char *model; /* the name that "model" may give; borrowed */
    struct lade_sampling sampling;
    int max_tokens;
    bool think;
};

/* Reads a body. On success *q is the caller's to free; on failure it is empty. */
int serve_question_read(struct serve_question *q, const char *text, size_t len,
                        const struct serve_defaults *defaults, struct serve_error *e);
void serve_question_free(struct serve_question *q);

#endif
