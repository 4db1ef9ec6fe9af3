/* page.h - a conversation's text under construction, with the places where the template itself put
 * control tokens: what a person typed is text even where it looks like one. */
#ifndef LADE_TOKENIZER_PAGE_H
#define LADE_TOKENIZER_PAGE_H

#include "engine/tokenizer/chat.h"

/* A control token; the text up to the next one belongs to `role`. */
struct lade_mark {
    size_t at, len;
    enum lade_chat_role role;
};

/* Sticky on running out of memory. The owner frees text and marks. */
struct lade_page {
    char *text;
    size_t len, cap;
    struct lade_mark *marks;
    size_t n_marks, cap_marks;
    enum lade_chat_role role; /* of the turn being written */
    bool failed;
};

void lade_page_bytes(struct lade_page *p, const char *text, size_t len);
void lade_page_text(struct lade_page *p, const char *text);
void lade_page_control(struct lade_page *p, const char *token);

#endif
