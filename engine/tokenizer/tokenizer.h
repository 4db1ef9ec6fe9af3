/* tokenizer.h - byte-level BPE as Qwen uses it: tokenizer.json in, ids out, and back. */
#ifndef LADE_TOKENIZER_TOKENIZER_H
#define LADE_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lade_tokenizer; /* immutable after open: any number of threads may use it */

/* Reads DIR/tokenizer.json, or the metadata where DIR is a GGUF file. The caller owns *out. */
int lade_tokenizer_open(struct lade_tokenizer **out, const char *dir, char *err);

/* The same from the file's text; `path` only names it in errors. */
int lade_tokenizer_parse(struct lade_tokenizer **out, const char *text, size_t len,
                         const char *path, char *err);
void lade_tokenizer_close(struct lade_tokenizer *tok);

/* Number of ids, added tokens included (the model's vocabulary may be larger: padding rows). */
int lade_tokenizer_size(const struct lade_tokenizer *tok);

/* Which added tokens (<|im_start|>, <think> ...) that stand literally in a text become their single
 * ids; the others are ordinary text. Text of a person or of the model must never contain control
 * tokens, so there is a choice. */
enum lade_added {
    LADE_ADDED_NONE,
    LADE_ADDED_ALL,
    LADE_ADDED_TAGS, /* those not marked special: <think>, <tool_call> ... */
};

/* Text to ids. `text` is any bytes: invalid UTF-8 becomes U+FFFD as Python's errors="replace"
 * does. *ids is malloc'ed, the caller frees it. */
int lade_tokenizer_encode(const struct lade_tokenizer *tok, const char *text, size_t len,
                          enum lade_added which, int32_t **ids, size_t *n, char *err);

/* The bytes of one id: not terminated, may be part of a UTF-8 character, owned by the tokenizer.
 * An id out of range or of a padding row gives "" and *len 0. */
const char *lade_tokenizer_piece(const struct lade_tokenizer *tok, int32_t id, size_t *len);

/* The id of an added token by its exact text, or -1. */
int32_t lade_tokenizer_added(const struct lade_tokenizer *tok, const char *text);

/* True for added tokens marked special (they are not shown in answers). */
bool lade_tokenizer_is_special(const struct lade_tokenizer *tok, int32_t id);

/* Streaming detokenizer: hands out only whole UTF-8 characters; bytes that can never become one
 * turn into U+FFFD. Zero-initialise; nothing to free. */
struct lade_detok {
    unsigned char tail[4]; /* the start of a character whose other bytes have not come yet */
    int n_tail;
};

/* Bytes of `out` that suffice for any id of any tokenizer: tokens have 1024 bytes at most, and each
 * of theirs and of the tail becomes three at most. */
enum { LADE_DETOK_MAX = 4096 };

/* Adds the bytes of `id` and writes what is complete to out, terminated. Returns the bytes written
 * without the terminator, or -1, with *d unchanged, where `size` does not hold them. */
int lade_detok_push(struct lade_detok *d, const struct lade_tokenizer *tok, int32_t id, char *out,
                    size_t size);

/* Ends the stream: an incomplete tail becomes U+FFFD. Same result as push. */
int lade_detok_flush(struct lade_detok *d, char *out, size_t size);

#endif
