/* The half of transcript.h that knows curses. */
#include <string.h>

#include "tui/text/width.h"
#include "tui/theme.h"
#include "tui/view/entry_rows.h"

static void mark(WINDOW *w, int y, const struct entry *e)
{
    static const struct {
        const char *utf8, *ascii;
        enum theme_role role;
    } marks[] = {
        [ENTRY_USER] = {"❯", ">", THEME_USER},   [ENTRY_ANSWER] = {"●", "*", THEME_ASSISTANT},
        [ENTRY_NOTICE] = {"·", "-", THEME_DIM},  [ENTRY_INFO] = {"·", "-", THEME_DIM},
        [ENTRY_ERROR] = {"✗", "!", THEME_ERROR},
    };
    wattrset(w, (int)theme_attr(marks[e->kind].role));
    mvwaddstr(w, y, 0, width_utf8() ? marks[e->kind].utf8 : marks[e->kind].ascii);
}

void transcript_draw(struct transcript *t, void *window)
{
    WINDOW *w = window;
    int rows = getmaxy(w), cols = getmaxx(w);
    werase(w);
    transcript_size(t, rows, cols);
    int row = t->top_row;
    for (int i = t->top, y = 0; i < t->n && y < rows; i++, row = 0) {
        const struct lines *l = transcript_lines(t, i);
        for (; row < (int)l->n && y < rows; row++, y++) {
            if (row == 0)
                mark(w, y, t->items[i]);
            lines_draw(l, (size_t)row, w, y, ENTRY_GUTTER, cols - ENTRY_GUTTER);
        }
    }
}
