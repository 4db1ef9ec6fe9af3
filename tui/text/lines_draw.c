/* The half of lines.h that knows curses. */
#include "tui/text/lines.h"

#include "tui/text/width.h"
#include "tui/theme.h"

void lines_draw(const struct lines *l, size_t i, void *window, int y, int x, int width)
{
    WINDOW *w = window;
    for (uint32_t s = 0; s < l->rows[i].n && width > 0; s++) {
        const struct lines_span *span = &l->spans[l->rows[i].span + s];
        const char *text = l->text.at + span->off;
        size_t n = span->len;
        int cols = span->cols;
        if (cols > width) {
            n = width_fit(text, n, width);
            cols = width;
        }
        wattrset(w, (int)theme_attr(span->role));
        mvwaddnstr(w, y, x, text, (int)n);
        x += cols;
        width -= cols;
    }
    wattrset(w, (int)theme_attr(THEME_TEXT));
}
