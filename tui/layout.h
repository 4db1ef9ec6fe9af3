/* layout.h - where everything goes on the screen. Pure arithmetic on rectangles. */
#ifndef LADE_TUI_LAYOUT_H
#define LADE_TUI_LAYOUT_H

#include <stdbool.h>

enum { LAYOUT_MIN_ROWS = 10, LAYOUT_MIN_COLS = 40, LAYOUT_TEXT_COLS = 100 };

struct layout_rect {
    int y, x, rows, cols;
};

struct layout_wants {
    int rows, cols; /* of the screen */
    int input;      /* rows the input would like, >= 1 */
    int status;     /* rows of the status area */
    int panel;      /* columns of the side panel, 0 = none */
    int board;      /* rows the load board would like, 0 = none */
    int transcript; /* rows of text there are: with a board, what it must leave free */
    int popup;      /* rows of the list over the input, 0 = none */
    int anatomy;    /* rows of the drawer over the rule, 0 = none */
};

/* A rectangle that is not there has rows 0. None overlaps another but `popup`, which lies over the
 * lower end of the transcript. */
struct layout {
    bool too_small; /* only a notice can be shown; all rectangles are empty */
    struct layout_rect board, transcript, anatomy, rule, input, status, panel, popup;
};

void layout_make(struct layout *l, const struct layout_wants *w);

#endif
