/* markdown.h - answers as rows: Markdown parsed by md4c, laid out for one width. Pure.
 *
 * An answer grows at its end. What lies before the last place where a new block must begin can no
 * longer change, so its rows stay; only the block at the end is parsed again. Finished answers take
 * the same path, so that nothing moves when streaming ends. */
#ifndef LADE_TUI_TEXT_MARKDOWN_H
#define LADE_TUI_TEXT_MARKDOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "tui/text/lines.h"

/* Zero-initialised: nothing laid out yet. */
struct markdown {
    bool begun;
    size_t stable;          /* bytes of the text whose rows are final */
    size_t base;            /* rows that were there before the first call */
    struct lines_mark mark; /* the rows up to `stable` */
};

/* Brings `out` (rows of at most `width` columns) up to text[0..n). The text must begin with what it
 * was at the last call; after a change of width start with both structs cleared. Rows that `out`
 * holds at the first call stay before those of the text. */
void markdown_update(struct markdown *m, struct lines *out, const char *text, size_t n, int width);

/* Length of the part of text[0..n) that what may follow cannot change, searched from `from`, which
 * is an earlier result (or 0). */
size_t markdown_stable(const char *text, size_t n, size_t from);

#endif
