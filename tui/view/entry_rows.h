/* entry_rows.h - one message as rows, for transcript.c. */
#ifndef LADE_TUI_VIEW_ENTRY_ROWS_H
#define LADE_TUI_VIEW_ENTRY_ROWS_H

#include "tui/view/transcript.h"

enum { ENTRY_GUTTER = 2, ENTRY_PEEK = 3 };

/* Brings the rows of `e` up to date for a window of `cols` columns. */
void entry_layout(struct entry *e, int cols, bool fold);

#endif
