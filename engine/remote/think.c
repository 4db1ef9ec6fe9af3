#include "engine/remote/think.h"

#include <stdlib.h>
#include <string.h>

static const char open_tag[] = "<think>", close_tag[] = "</think>";

static void let_go(struct lade_think *t)
{
    char text[sizeof t->held + 1];
    memcpy(text, t->held, t->n_held);
    text[t->n_held] = '\0';
    t->n_held = 0;
    lade_tell_text(t->tell, text);
}

void lade_think_reasoning(struct lade_think *t, const char *text)
{
    if (!t->tell->reasoning) {
        let_go(t);
        lade_tell_block(t->tell, true);
    }
    t->place = LADE_THINK_AFTER; /* tags in the answer are text then */
    lade_tell_text(t->tell, text);
}

/* One character more of what is held, which may be a tag as a whole, a part of one, or none. */
static void take(struct lade_think *t, char c)
{
    const bool inside = t->place == LADE_THINK_INSIDE;
    const char *tag = inside ? close_tag : open_tag;
    if (inside && t->n_held && c != tag[t->n_held])
        let_go(t); /* c may begin the tag */
    t->held[t->n_held++] = c;
    size_t blank = 0;
    while (!inside && blank < t->n_held && strchr(" \t\r\n", t->held[blank]))
        blank++;
    size_t n = t->n_held - blank;
    if (t->n_held == sizeof t->held || strncmp(t->held + blank, tag, n) != 0) {
        let_go(t);
        if (!inside)
            t->place = LADE_THINK_AFTER;
    } else if (n == strlen(tag)) {
        t->n_held = 0;
        lade_tell_block(t->tell, !inside);
        t->place = inside ? LADE_THINK_AFTER : LADE_THINK_INSIDE;
    }
}

void lade_think_content(struct lade_think *t, const char *text)
{
    if (t->place == LADE_THINK_AFTER && t->tell->reasoning)
        lade_tell_block(t->tell, false);
    while (*text && t->place != LADE_THINK_AFTER) {
        /* What has no tag in it goes as a whole. */
        size_t plain = t->place == LADE_THINK_INSIDE && !t->n_held ? strcspn(text, "<") : 0;
        if (plain) {
            char *piece = strndup(text, plain);
            if (piece)
                lade_tell_text(t->tell, piece);
            free(piece);
            text += plain;
        } else {
            take(t, *text++);
        }
    }
    if (*text)
        lade_tell_text(t->tell, text);
}

void lade_think_end(struct lade_think *t)
{
    let_go(t);
    lade_tell_block(t->tell, false);
}
