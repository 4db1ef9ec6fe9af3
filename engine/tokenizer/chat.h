/* chat.h - conversations as the model reads them.
 *
 * The three families' templates are code, not an interpreter of Jinja: the family is recognised
 * from the checkpoint's own template, and each is tested byte for byte against transformers. */
#ifndef LADE_TOKENIZER_CHAT_H
#define LADE_TOKENIZER_CHAT_H

#include <stdbool.h>
#include <stddef.h>

enum lade_chat_family { LADE_CHAT_INSTRUCT, LADE_CHAT_THINKING, LADE_CHAT_CODER };

enum lade_chat_role { LADE_SYSTEM, LADE_USER, LADE_ASSISTANT, LADE_TOOL };

struct lade_message {
    enum lade_chat_role role;
    const char *content;    /* UTF-8, never NULL */
    const char *reasoning;  /* assistant only, NULL if none was kept apart */
};

/* Recognises the family from DIR (chat_template.jinja, else tokenizer_config.json's
 * chat_template). Without a template: Instruct. */
int lade_chat_detect(enum lade_chat_family *family, const char *dir, char *err);

/* Renders the conversation. With `generate` it ends with the generation prompt; *stable (may be
 * NULL) is then the byte length of the part that later turns repeat unchanged, so that a snapshot
 * of the recurrent state taken there can be reused. Returns malloc'ed text, or NULL with err. */
char *lade_chat_render(enum lade_chat_family family, const struct lade_message *messages,
                       size_t n, bool generate, size_t *stable, char *err);

#endif
