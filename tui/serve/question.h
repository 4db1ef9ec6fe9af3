/* question.h - what a client asks: the body of POST /v1/chat/completions, read and checked. Pure.
 *
 * Fields are those of OpenAI's API, and of vLLM and llama-server where it has none. One that would
 * change the answer and is not supported is refused by name; what only describes the client is
 * ignored. */
#ifndef LADE_TUI_SERVE_QUESTION_H
#define LADE_TUI_SERVE_QUESTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/engine.h"

/* What a request is refused with. */
struct serve_error {
    int status;       /* of HTTP; 0 = nothing is wrong */
    const char *code; /* static, for programs; NULL = none */
    char param[64];   /* the field it is about; "" = none */
    char message[LADE_ERR];
};

/* Fills *e; is -1. `param` may be NULL. */
int serve_refuse(struct serve_error *e, int status, const char *code, const char *param,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

struct serve_question {
    json_t *body;                  /* owned: holds the texts */
    struct lade_message *messages; /* owned, their strings are the body's */
    size_t n;
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
