#include "tui/text/width.h"

#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <wchar.h>

enum { MARKS = 4 }; /* combining marks a curses cell can hold beside its base */

bool width_utf8(void)
{
    static int utf8 = -1;
    if (utf8 < 0)
        utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    return utf8;
}

void width_locale(void)
{
    setlocale(LC_ALL, "");
    const char *now = setlocale(LC_CTYPE, NULL);
    if (now && (strcmp(now, "C") == 0 || strcmp(now, "POSIX") == 0) &&
        setlocale(LC_CTYPE, "C.UTF-8"))
        setenv("LC_ALL", "C.UTF-8", 1); /* readline asks the environment again */
    /* Numbers are printed and read with a point everywhere in lade. */
    setlocale(LC_NUMERIC, "C");
}

static void show(struct width_glyph *g, const char *text)
{
    g->out_len = (int)strlen(text);
    memcpy(g->out, text, (size_t)g->out_len);
    g->cols = g->out_len;
}

/* A byte or character that must not be sent: pictures for C0, \xNN for the rest. */
static void escape(struct width_glyph *g, unsigned ch)
{
    char text[16];
    g->ch = 0;
    if (ch < 0x20 && width_utf8()) {
        snprintf(text, sizeof text, "\xe2\x90%c", (char)(0x80 + ch));
        show(g, text);
        g->cols = 1;
        return;
    }
    snprintf(text, sizeof text, ch > 0xff ? "\\u%04X" : "\\x%02X", ch);
    show(g, text);
}

/* Left out of the drawing: see width.h. Directional and other format characters could reorder
 * what follows on the row. */
static bool is_left_out(utf8proc_int32_t ch)
{
    return (ch >= 0xfe00 && ch <= 0xfe0f) || (ch >= 0x1f3fb && ch <= 0x1f3ff) ||
           (ch >= 0xe0000 && ch <= 0xe0fff) || ch == 0x2028 || ch == 0x2029 ||
           utf8proc_category(ch) == UTF8PROC_CATEGORY_CF;
}

static size_t ascii(const char *s, size_t n, struct width_glyph *g)
{
    unsigned char c = (unsigned char)*s;
    g->ch = c;
    if (c == '\n' || (c == '\r' && n > 1 && s[1] == '\n')) {
        g->kind = WIDTH_NEWLINE;
        return c == '\n' ? 1 : 2;
    }
    if (c == '\t') {
        memset(g->out, ' ', WIDTH_TAB);
        g->out_len = g->cols = WIDTH_TAB;
        g->kind = WIDTH_SPACE;
        return 1;
    }
    if (c < 0x20 || c == 0x7f) {
        escape(g, c);
        return 1;
    }
    g->out[0] = (char)c;
    g->out_len = g->cols = 1;
    g->kind = c == ' ' ? WIDTH_SPACE : WIDTH_CHAR;
    return 1;
}

/* Adds the marks that follow to the glyph; returns their bytes. */
static size_t marks(const char *s, size_t n, struct width_glyph *g)
{
    size_t took = 0;
    for (int i = 0; took < n;) {
        utf8proc_int32_t ch;
        if ((unsigned char)s[took] < 0x80)
            break;
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)s + took, (utf8proc_ssize_t)(n - took), &ch);
        if (len < 1)
            break;
        if (!is_left_out(ch)) {
            if (wcwidth((wchar_t)ch) != 0)
                break;
            if (i < MARKS && g->out_len + len <= WIDTH_GLYPH) {
                memcpy(g->out + g->out_len, s + took, (size_t)len);
                g->out_len += (int)len;
                i++;
            }
        }
        took += (size_t)len;
    }
    return took;
}

size_t width_next(const char *s, size_t n, struct width_glyph *g)
{
    *g = (struct width_glyph){.kind = WIDTH_CHAR};
    if ((unsigned char)*s < 0x80) {
        size_t took = ascii(s, n, g);
        if (took < n && (unsigned char)s[took] >= 0x80 && g->ch >= 0x20 && width_utf8())
            took += marks(s + took, n - took, g);
        return took;
    }
    utf8proc_int32_t ch;
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &ch);
    if (len < 1) {
        escape(g, (unsigned char)*s);
        return 1;
    }
    g->ch = (unsigned)ch;
    if (!width_utf8()) {
        show(g, "?");
        return (size_t)len;
    }
    if (ch < 0xa0) {
        escape(g, (unsigned)ch);
        return (size_t)len;
    }
    if (is_left_out(ch)) {
        g->kind = WIDTH_NOTHING;
        return (size_t)len;
    }
    int cols = wcwidth((wchar_t)ch);
    if (cols < 0) {
        show(g, "\xef\xbf\xbd");
        g->cols = 1;
    } else {
        /* A mark without a base stands on a space of its own. */
        if (cols == 0)
            show(g, " ");
        memcpy(g->out + g->out_len, s, (size_t)len);
        g->out_len += (int)len;
        g->cols = cols ? cols : 1;
    }
    if (ch == 0x3000)
        g->kind = WIDTH_SPACE;
    return (size_t)len + marks(s + len, n - (size_t)len, g);
}

int width_of(const char *s, size_t n)
{
    int cols = 0;
    struct width_glyph g;
    for (size_t i = 0; i < n;) {
        i += width_next(s + i, n - i, &g);
        cols += g.cols;
    }
    return cols;
}

size_t width_fit(const char *s, size_t n, int cols)
{
    struct width_glyph g;
    size_t i = 0;
    while (i < n) {
        size_t took = width_next(s + i, n - i, &g);
        if (g.cols > cols)
            break;
        cols -= g.cols;
        i += took;
    }
    return i;
}
