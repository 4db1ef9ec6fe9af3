/* md_render.h - what markdown.c and md_table.c share: the layout in progress. */
#ifndef LADE_TUI_TEXT_MD_RENDER_H
#define LADE_TUI_TEXT_MD_RENDER_H

#include <stdbool.h>

#include "tui/text/lines.h"
#include "tui/text/wrap.h"

enum { MD_DEPTH = 32, MD_COLUMNS = 64 };

enum md_align { MD_LEFT, MD_CENTRE, MD_RIGHT };

/* A quote or an item of a list around the current block. */
struct md_level {
    bool quote;
    int cols;      /* of the mark */
    char mark[24]; /* of an item; "" once it was drawn */
};

struct md_list {
    bool ordered, tight;
    unsigned number;
    char delimiter;
};

struct md_cell {
    struct wrap text;
    bool header;
};

struct md_table {
    struct md_cell *cells; /* row after row */
    int n, cap, columns;
    enum md_align align[MD_COLUMNS];
};

struct md {
    const char *source; /* what is parsed, `end` bytes */
    size_t end;
    struct lines *out;
    int width;
    bool any, gap; /* rows were made; the next block wants a blank row before it */
    struct wrap para;
    struct md_level level[MD_DEPTH];
    int levels;
    struct md_list list[MD_DEPTH];
    int lists;
    bool fresh_quote; /* nothing of the innermost quote was laid out yet */
    int strong, em, code, link, deleted, heading, in_code_block, quotes;
    size_t link_from; /* glyph bytes of the paragraph where the link's text begins */
    struct md_table table;
    bool in_header;
    struct lines first, rest; /* one row each: prefixes of the block being laid out */
};

/* Begins a block: blank row if wanted, prefixes computed. */
void md_begin(struct md *md, struct wrap_prefix *first, struct wrap_prefix *rest);

/* Lays out the collected table and empties it. */
void md_table_out(struct md *md);
void md_table_clear(struct md_table *t);

#endif
