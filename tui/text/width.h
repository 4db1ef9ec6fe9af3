/* width.h - text as a terminal shows it: safe characters and the columns they take.
 *
 * Nothing a model or a file says reaches the terminal raw. Each step yields one *glyph*: a
 * character with its combining marks, in bytes that are safe to draw, and its columns.
 *
 * Columns are those of the C library's wcwidth, which is what curses counts with. Terminals do not
 * agree about sequences (joined emoji, skin tones, emoji presentation of narrow signs): some show
 * one picture, some show its parts, and where curses and the terminal disagree the rest of the row
 * is garbled. So sequences are drawn as what every terminal shows alike: joiners, variation
 * selectors and skin tones are left out of the drawing (never out of the text itself). */
#ifndef LADE_TUI_TEXT_WIDTH_H
#define LADE_TUI_TEXT_WIDTH_H

#include <stdbool.h>
#include <stddef.h>

enum { WIDTH_GLYPH = 48, WIDTH_TAB = 4 };

enum width_kind {
    WIDTH_CHAR,
    WIDTH_SPACE,   /* a line may break after it */
    WIDTH_NEWLINE, /* "\n", "\r\n"; cols 0, nothing to draw */
    WIDTH_NOTHING, /* takes no columns and is not drawn */
};

struct width_glyph {
    enum width_kind kind;
    char out[WIDTH_GLYPH]; /* what to draw; not NUL-terminated */
    int out_len;
    int cols;
    unsigned ch; /* the base character; 0 for what is shown as an escape */
};

/* Takes the next glyph of s[0..n), n > 0. Returns the bytes it took (> 0). Needs LC_CTYPE set;
 * where its charset is not UTF-8 everything beyond ASCII is drawn as '?'. */
size_t width_next(const char *s, size_t n, struct width_glyph *g);

/* Columns of a text on one line. */
int width_of(const char *s, size_t n);

/* Bytes of s[0..n) that fit into `cols` columns without cutting a glyph. */
size_t width_fit(const char *s, size_t n, int cols);

/* True if the locale's charset is UTF-8; read once, at the first call. */
bool width_utf8(void);

/* Makes LC_ALL the user's locale; in the C locale, where nothing beyond ASCII could be typed or
 * shown, LC_CTYPE becomes C.UTF-8: terminals are UTF-8 even where nobody set a locale. */
void width_locale(void);

#endif
