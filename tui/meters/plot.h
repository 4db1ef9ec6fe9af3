/* plot.h - numbers to characters. Pure: no curses, no colours, no allocation.
 *
 * Everything writes one wide character per screen column. With `utf8` false only ASCII is used. */
#ifndef LADE_TUI_METERS_PLOT_H
#define LADE_TUI_METERS_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <wchar.h>

/* A filled part of `width` columns, to an eighth of a column (to a whole one in ASCII). `full`
 * columns are filled and, if `part` is not 0, the next one holds that character. `fraction` is
 * clamped to 0..1 and NAN fills nothing. Anything above 0 shows at least the smallest part, and
 * anything below 1 leaves at least the smallest part empty: a bar is full only when it is done. */
struct plot_fill {
    int full;
    wchar_t part;
};
struct plot_fill plot_bar(double fraction, int width, bool utf8);

/* A line of `width` columns out of the newest samples, right-aligned: missing samples are blanks on
 * the left, NAN is a blank. Values map to eight heights between 0 and `top`; top <= 0 takes the
 * largest sample shown. */
void plot_spark(wchar_t *out, int width, const float *samples, int n, float top, bool utf8);

/* A filled graph of rows x cols (out is row-major, row 0 on top), two samples per column and four
 * dots per row in braille; one sample per column and '#' in ASCII. Scaling as plot_spark. */
void plot_graph(wchar_t *out, int rows, int cols, const float *samples, int n, float top,
                bool utf8);

/* The largest finite sample; 0 of none. */
float plot_largest(const float *samples, int n);

/* The smallest of 1, 2, 5 x 10^k that is >= value: a scale that does not jump at every sample. */
float plot_nice_top(float value);

#endif
