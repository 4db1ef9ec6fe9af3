/* cells_common.h - what tests of pictures share: a canvas as text. */
#ifndef LADE_TESTS_CELLS_COMMON_H
#define LADE_TESTS_CELLS_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tui/view/cells.h"

/* All rows of a canvas, a line each, until the next call; the canvas goes. */
static inline const char *picture_of(struct cells *c)
{
    static char out[65536];
    char line[2048];
    size_t n = 0;
    for (int y = 0; y < c->rows; y++) {
        cells_row(c, y, line, sizeof line);
        assert_true(cells_width(line) <= c->cols);
        n += (size_t)snprintf(out + n, sizeof out - n, "%s\n", line);
    }
    cells_free(c);
    return out;
}

#endif
