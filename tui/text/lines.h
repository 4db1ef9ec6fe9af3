/* lines.h - wrapped text: rows of spans, each with a role. Pure.
 *
 * The transcript's messages are the truth; these rows are only a cache of how they look at one
 * width, cheap to throw away. Rows can be cut off at a mark, so that the end of a streaming answer
 * is laid out again without touching what came before it. */
#ifndef LADE_TUI_TEXT_LINES_H
#define LADE_TUI_TEXT_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "tui/roles.h"
#include "tui/text/buf.h"

struct lines_span {
    uint32_t off, len; /* in the text */
    uint16_t cols;
    uint8_t role;
};

struct lines_row {
    uint32_t span, n;
};

/* Zero-initialised is empty. */
struct lines {
    struct buf text;
    struct lines_span *spans;
    struct lines_row *rows;
    size_t n_spans, cap_spans, n, cap;
};

struct lines_mark {
    size_t text, spans, rows;
};

void lines_free(struct lines *l);
void lines_clear(struct lines *l); /* keeps the memory */

/* Begins a row; lines_put adds to the last one. Text must be safe to draw (see width.h). */
void lines_new(struct lines *l);
void lines_put(struct lines *l, enum theme_role role, const char *text, size_t n, int cols);

/* A row of one text, which is made safe and cut at `width` columns. */
void lines_add(struct lines *l, enum theme_role role, const char *text, int width);

struct lines_mark lines_mark(const struct lines *l);
void lines_cut(struct lines *l, struct lines_mark m);

/* Columns of row i. */
int lines_cols(const struct lines *l, size_t i);

/* Row i as text, for tests and for copying; malloc'ed. */
char *lines_text(const struct lines *l, size_t i);

/* Draws row i at (y, x) of a curses window (WINDOW *), clipped to `width` columns. */
void lines_draw(const struct lines *l, size_t i, void *window, int y, int x, int width);

#endif
