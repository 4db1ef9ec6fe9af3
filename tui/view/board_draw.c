/* The half of board.h that knows curses. */
#include "tui/view/board.h"

#include "tui/text/width.h"
#include "tui/theme.h"

void board_draw(const struct board *b, void *window)
{
    WINDOW *w = window;
    struct cells c;
    if (cells_init(&c, getmaxy(w), getmaxx(w), width_utf8(), theme_has_shades()) == 0) {
        board_cells(b, &c);
        cells_draw(&c, w, 0, 0);
    }
    cells_free(&c);
}
