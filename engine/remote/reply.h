/* reply.h - what a server says, out of its JSON: a piece of an answer, why a request failed, which models
 * there are. Untrusted; what is not as it should be is left out. Pure. */
#ifndef LADE_REMOTE_REPLY_H
#define LADE_REMOTE_REPLY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lade_reply_finish {
    LADE_REPLY_GOES_ON,
    LADE_REPLY_STOP,
    LADE_REPLY_STOP_TEXT, /* one of the texts that were asked for */
    LADE_REPLY_LENGTH,
    LADE_REPLY_OTHER,
};

/* A piece of an answer. Texts are whole characters without zero bytes, malloc'ed, NULL = there is none. */
struct lade_reply {
    char *text, *reasoning;
    char *error; /* the server's own words */
    enum lade_reply_finish finish;
    int prompt_tokens, tokens, kept_tokens; /* -1 = not told */
    int read, to_read; /* tokens of a prompt that is not read yet; to_read 0 = none */
};

/* False where it is no JSON object, or there is no memory. End with lade_reply_clear in any case. */
bool lade_reply_read(struct lade_reply *r, const char *json, size_t n);
void lade_reply_clear(struct lade_reply *r);

/* What an answer to a request that failed says, printable, "" where it says nothing. */
void lade_reply_failure(const char *body, size_t n, char *out, size_t size);

/* How much of its model a lade that still loads it has (GET /health), 0 to 1; -1 = not told. */
double lade_reply_progress(const char *body, size_t n);

struct lade_reply_model {
    char name[256];  /* to ask for it */
    char server[64]; /* "vllm", "llamacpp", ...; "" = not told */
    int context;     /* tokens; 0 = not told */
    uint64_t bytes;  /* of its files; 0 = not told */
};

/* Reads at most `most` models of a list, and returns how many it has; -1 where it is no such list. */
int lade_reply_models(struct lade_reply_model *out, int most, const char *body, size_t n);

#endif
