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

/* Holds c where with what is held it is a tag, a part of one, or blanks before it. Else what is held was none
 * and goes; c, which may begin a character of several bytes, is left to the caller. */
static bool take(struct lade_think *t, char c)
{
    const bool inside = t->place == LADE_THINK_INSIDE;
    const char *tag = inside ? close_tag : open_tag;
    size_t blank = 0;
    t->held[t->n_held] = c;
    while (!inside && blank <= t->n_held && strchr(" \t\r\n", t->held[blank]))
        blank++;
    size_t n = t->n_held + 1 - blank;
    if (t->n_held + 1 == sizeof t->held || strncmp(t->held + blank, tag, n) != 0) {
        let_go(t);
        if (!inside)
            t->place = LADE_THINK_AFTER;
        return false;
    }
    t->n_held++;
    if (n == strlen(tag)) {
        t->n_held = 0;
        lade_tell_block(t->tell, !inside);
        t->place = inside ? LADE_THINK_AFTER : LADE_THINK_INSIDE;
    }
    return true;
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
        } else if (take(t, *text)) {
            text++;
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
