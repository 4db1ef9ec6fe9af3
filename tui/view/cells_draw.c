/* The half of cells.h that knows curses. */
#include "tui/view/cells.h"

#include "tui/theme.h"

void cells_draw(const struct cells *c, void *window, int y, int x)
{
    WINDOW *w = window;
    for (int r = 0; r < c->rows; r++) {
        for (int k = 0; k < c->cols; k++) {
            const struct cell *at = &c->at[(size_t)r * (size_t)c->cols + (size_t)k];
            if (!at->ch)
                continue;
            attr_t a = at->over == CELL_PLAIN ? theme_on(at->role, c->ground)
                       : at->over == CELL_OWN ? theme_attr(at->role)
                                              : theme_over(at->role, at->over);
            wchar_t text[2] = {at->ch, 0};
            cchar_t cell;
            setcchar(&cell, text, a & ~(attr_t)A_COLOR, (short)PAIR_NUMBER(a), NULL);
            mvwadd_wch(w, y + r, x + k, &cell);
        }
    }
}
