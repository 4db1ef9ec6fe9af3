/* chat.h - conversations as the model reads them.
 *
 * The families' templates are code, not an interpreter of Jinja: the family is recognised from the
 * checkpoint's own template, and each is tested byte for byte against transformers. */
#ifndef LADE_TOKENIZER_CHAT_H
#define LADE_TOKENIZER_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/checkpoint/catalog.h"
#include "engine/tokenizer/tokenizer.h"

enum lade_chat_family { LADE_CHAT_INSTRUCT, LADE_CHAT_THINKING, LADE_CHAT_CODER };

enum lade_chat_role {
    LADE_SYSTEM,
    LADE_USER,
    LADE_ASSISTANT,
    LADE_TOOL, /* the result of a call; those of several follow each other */
    LADE_TOOLS, /* before all others: the content is a JSON list of the tools offered, as OpenAI's API
                   has them. They and calls are for models on this machine only. */
};

struct lade_message {
    enum lade_chat_role role;
    const char *content;   /* UTF-8, never NULL */
    const char *reasoning; /* assistant only, NULL if none was kept apart */
    /* Assistant only: what it called after that, a JSON list of {"name": text, "arguments": object},
     * not empty; NULL if nothing. */
    const char *calls;
};

/* Recognises the family from DIR (chat_template.jinja, else tokenizer_config.json's
 * chat_template) or the metadata of a GGUF file. Without a template, which *found (may be NULL)
 * says: Instruct. Fails where a file is there but cannot be read. */
int lade_chat_detect(enum lade_chat_family *family, bool *found, const char *dir, char *err);
/* The same of an open checkpoint, which may know its template already. */
int lade_chat_family(enum lade_chat_family *family, bool *found, const struct lade_catalog *cat,
                     char *err);

/* Renders the conversation as text (JSON in it is rewritten as Python spaces it, like in training); with `generate` it ends with the generation prompt. Returns
 * malloc'ed text, or NULL with err. */
char *lade_chat_render(enum lade_chat_family family, const struct lade_message *messages, size_t n,
                       bool generate, char *err);

/* How many leading ids come again. */
struct lade_chat_repeats {
    size_t base;   /* where others have these tools and this system text; 0 = has neither */
    size_t stable; /* in later turns of this one, whatever the answer is */
};

/* Renders and encodes. Only the template's own control tokens become control ids: a person who
 * types <|im_end|> has typed ten characters. Tags without control meaning (<tool_call> ...) are
 * ids in what the assistant said, since there the model wrote them. *ids is malloc'ed. `repeats` (may
 * be NULL) says where a snapshot can be reused. */
int lade_chat_encode(const struct lade_tokenizer *tok, enum lade_chat_family family,
                     const struct lade_message *messages, size_t n, bool generate, int32_t **ids,
                     size_t *n_ids, struct lade_chat_repeats *repeats, char *err);

#endif
