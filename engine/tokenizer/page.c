#include "engine/tokenizer/page.h"

#include <stdlib.h>
#include <string.h>

void lade_page_control(struct lade_page *p, const char *token)
{
    if (p->n_marks == p->cap_marks) {
        size_t cap = p->cap_marks ? 2 * p->cap_marks : 32;
        struct lade_mark *grown = realloc(p->marks, cap * sizeof *grown);
        if (!grown) {
            p->text.failed = true;
            return;
        }
        p->marks = grown;
        p->cap_marks = cap;
    }
    p->marks[p->n_marks++] = (struct lade_mark){p->text.n, strlen(token), p->role};
    lade_text_puts(&p->text, token);
}
