/* screen.h - the chat's state on the terminal: windows by layout.c, one update per frame. */
#ifndef LADE_TUI_SCREEN_H
#define LADE_TUI_SCREEN_H

#include "tui/chat.h"
#include "tui/layout.h"

struct screen {
    struct layout layout;
    void *windows[8]; /* WINDOW *, by part; NULL = not there */
    const char *hint; /* borrowed: shown in the empty input instead of the usual one */
};

void screen_close(struct screen *s);

/* Draws everything that may have changed, in one update. */
void screen_draw(struct screen *s, struct chat *c);

/* Columns of the input, and rows of the transcript, as last drawn. */
int screen_input_cols(const struct screen *s);
int screen_page(const struct screen *s);

#endif
