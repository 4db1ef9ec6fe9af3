/* wrap.h - paragraphs to rows: words stay whole, wide characters break where their scripts do. */
#ifndef LADE_TUI_TEXT_WRAP_H
#define LADE_TUI_TEXT_WRAP_H

#include <stdbool.h>
#include <stddef.h>

#include "tui/roles.h"
#include "tui/text/buf.h"
#include "tui/text/lines.h"

/* What stands before the text: a mark before the first row, usually blanks before the others. */
struct wrap_prefix {
    struct lines *parts; /* exactly one row, borrowed; NULL = nothing */
    int cols;
};

/* A paragraph being collected. Zero-initialised is empty. */
struct wrap {
    struct buf text; /* drawable bytes */
    struct wrap_glyph *at;
    size_t n, cap;
};

/* Adds text in a role. */
void wrap_text(struct wrap *w, enum theme_role role, const char *text, size_t n);

/* Columns of the widest line as it was given, that is without wrapping. */
int wrap_natural(const struct wrap *w);

/* Lays the paragraph out into rows of at most `width` columns, prefix included, and empties it.
 * With `whole` words are not kept together and blanks are kept: for code. An empty paragraph
 * makes one row of prefix. */
void wrap_out(struct wrap *w, struct lines *out, int width, const struct wrap_prefix *first,
              const struct wrap_prefix *rest, bool whole);

/* Adds the whole of `from`. */
void wrap_copy(struct wrap *w, const struct wrap *from);

void wrap_free(struct wrap *w);

#endif
