#include "engine/tokenizer/page.h"

#include <stdlib.h>
#include <string.h>

void lade_page_bytes(struct lade_page *p, const char *text, size_t len)
{
    if (p->failed)
        return;
    if (p->len + len + 1 > p->cap) {
        size_t cap = 2 * (p->len + len) + 256;
        char *grown = realloc(p->text, cap);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->text = grown;
        p->cap = cap;
    }
    memcpy(p->text + p->len, text, len);
    p->len += len;
    p->text[p->len] = '\0';
}

void lade_page_text(struct lade_page *p, const char *text)
{
    lade_page_bytes(p, text, strlen(text));
}

void lade_page_control(struct lade_page *p, const char *token)
{
    if (p->n_marks == p->cap_marks) {
        size_t cap = p->cap_marks ? 2 * p->cap_marks : 32;
        struct lade_mark *grown = realloc(p->marks, cap * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->marks = grown;
        p->cap_marks = cap;
    }
    p->marks[p->n_marks++] = (struct lade_mark){p->len, strlen(token), p->role};
    lade_page_text(p, token);
}
