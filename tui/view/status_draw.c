/* The half of status.h that knows curses. */
#include "tui/view/status.h"

#include "tui/text/width.h"
#include "tui/theme.h"

static void draw(const struct status *s, WINDOW *w,
                 void (*fill)(const struct status *, struct cells *))
{
    struct cells c;
    if (cells_init(&c, getmaxy(w), getmaxx(w), width_utf8(), theme_has_shades()) == 0) {
        fill(s, &c);
        cells_draw(&c, w, 0, 0);
    }
    cells_free(&c);
}

void status_draw(const struct status *s, void *window)
{
    draw(s, window, status_cells);
}

void status_panel_draw(const struct status *s, void *window)
{
    draw(s, window, status_panel_cells);
}
