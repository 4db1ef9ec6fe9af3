/* page.h - a conversation's text under construction, with the places where the template itself put
 * control tokens: what a person typed is text even where it looks like one. */
#ifndef LADE_TOKENIZER_PAGE_H
#define LADE_TOKENIZER_PAGE_H

#include "engine/text.h"
#include "engine/tokenizer/chat.h"

/* A control token; the text up to the next one belongs to `role`. */
struct lade_mark {
    size_t at, len;
    enum lade_chat_role role;
};

/* The owner frees text.at and marks. */
struct lade_page {
    struct lade_text text; /* failed: for want of memory, for a mark also */
    struct lade_mark *marks;
    size_t n_marks, cap_marks;
    enum lade_chat_role role; /* of the turn being written */
};

/* Text goes into p->text; this adds a control token and its mark. */
void lade_page_control(struct lade_page *p, const char *token);

#endif
