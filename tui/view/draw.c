/* The curses half of the views that are computed into cells: board.h, status.h, strategies.h. */
#include "tui/text/width.h"
#include "tui/theme.h"
#include "tui/view/board.h"
#include "tui/view/status.h"
#include "tui/view/strategies.h"

/* Shows on the whole of a window what `fill` makes of a view. */
static void show(void *window, void (*fill)(const void *view, struct cells *c), const void *view)
{
    WINDOW *w = window;
    struct cells c;
    if (cells_init(&c, getmaxy(w), getmaxx(w), width_utf8(), theme_has_shades()) == 0) {
        fill(view, &c);
        cells_draw(&c, w, 0, 0);
    }
    cells_free(&c);
}

static void fill_board(const void *view, struct cells *c)
{
    board_cells(view, c);
}

static void fill_status(const void *view, struct cells *c)
{
    status_cells(view, c);
}

static void fill_panel(const void *view, struct cells *c)
{
    status_panel_cells(view, c);
}

static void fill_anatomy(const void *view, struct cells *c)
{
    status_anatomy_cells(view, c);
}

static void fill_strategies(const void *view, struct cells *c)
{
    strategies_cells(view, c);
}

void board_draw(const struct board *b, void *window)
{
    show(window, fill_board, b);
}

void status_draw(const struct status *s, void *window)
{
    show(window, fill_status, s);
}

void status_panel_draw(const struct status *s, void *window)
{
    show(window, fill_panel, s);
}

void status_anatomy_draw(const struct status *s, void *window)
{
    show(window, fill_anatomy, s);
}

void strategies_draw(const struct strategies *s, void *window)
{
    show(window, fill_strategies, s);
}
