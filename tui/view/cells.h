/* cells.h - a small canvas of characters with roles.
 *
 * The load board and the status area are computed into cells without curses, so that tests can read
 * them, and then drawn into a window in one pass. */
#ifndef LADE_TUI_VIEW_CELLS_H
#define LADE_TUI_VIEW_CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wchar.h>

#include "tui/roles.h"

/* `ch` 0 is the right half of a wide character. `over` is the role whose letter colour is the
 * background (see theme_over); CELL_PLAIN: that of the canvas; CELL_OWN: that of `role` itself. */
enum { CELL_PLAIN = 0xff, CELL_OWN = 0xfe };
struct cell {
    wchar_t ch;
    uint8_t role, over;
};

struct cells {
    int rows, cols;
    bool utf8;              /* may use characters beyond ASCII */
    bool colour;            /* theme_has_shades: theme_over can be seen */
    enum theme_role ground; /* whose background all cells have that are CELL_PLAIN */
    struct cell *at;        /* rows * cols, owned */
};

/* Blank canvas on the ground of THEME_TEXT. -1 without memory. rows and cols may be 0. */
int cells_init(struct cells *c, int rows, int cols, bool utf8, bool colour);
void cells_free(struct cells *c);
void cells_clear(struct cells *c, enum theme_role ground);

/* Writes UTF-8 text from column x within `width` columns (also clipped by the canvas). Control,
 * combining and invalid characters are left out; a text that is too long ends in an ellipsis.
 * Returns the columns used. */
int cells_put(struct cells *c, int y, int x, int width, enum theme_role role, const char *text);
int cells_printf(struct cells *c, int y, int x, int width, enum theme_role role, const char *fmt,
                 ...) __attribute__((format(printf, 6, 7)));

/* As cells_put, but ending at the right edge of x..x+width. */
int cells_put_right(struct cells *c, int y, int x, int width, enum theme_role role,
                    const char *text);

/* One character. */
void cells_set(struct cells *c, int y, int x, enum theme_role role, wchar_t ch);

/* Fills row y with the background of `role`, and writes what comes there later in that role's
 * colours: the chosen row of a list. */
void cells_select(struct cells *c, int y, enum theme_role role);

/* A bar of up to `n` parts, each a fraction of the width, in its role; the rest in `rest`. The
 * borders between parts fall on eighths of a column where the canvas can show that. */
void cells_bar(struct cells *c, int y, int x, int width, const double *fraction,
               const enum theme_role *role, int n, enum theme_role rest);

/* A thin bar, to half a column: for bars on neighbouring rows, which as blocks would run together
 * into one surface. */
void cells_line(struct cells *c, int y, int x, int width, double fraction, enum theme_role role,
                enum theme_role rest);

/* Columns of a UTF-8 text. */
int cells_width(const char *text);

/* Row y as UTF-8 without trailing blanks, for tests and for logs. Returns out. */
char *cells_row(const struct cells *c, int y, char *out, size_t cap);

/* Draws the canvas at (y, x) of a curses window (`void *` is a WINDOW *, so that pure users of this
 * header need no curses). */
void cells_draw(const struct cells *c, void *window, int y, int x);

#endif
