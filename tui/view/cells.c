#include "tui/view/cells.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "tui/meters/plot.h"

int cells_init(struct cells *c, int rows, int cols, bool utf8, bool colour)
{
    *c = (struct cells){
        .rows = rows > 0 ? rows : 0, .cols = cols > 0 ? cols : 0, .utf8 = utf8, .colour = colour};
    size_t n = (size_t)c->rows * (size_t)c->cols;
    c->at = calloc(n ? n : 1, sizeof *c->at);
    if (!c->at) {
        c->rows = c->cols = 0;
        return -1;
    }
    cells_clear(c, THEME_TEXT);
    return 0;
}

void cells_free(struct cells *c)
{
    free(c->at);
    *c = (struct cells){0};
}

void cells_clear(struct cells *c, enum theme_role ground)
{
    c->ground = ground;
    for (size_t i = 0; i < (size_t)c->rows * (size_t)c->cols; i++)
        c->at[i] = (struct cell){L' ', (uint8_t)ground, CELL_PLAIN};
}

static void put(struct cells *c, int y, int x, enum theme_role role, int over, wchar_t ch)
{
    if (y < 0 || y >= c->rows || x < 0 || x >= c->cols)
        return;
    struct cell *at = &c->at[(size_t)y * (size_t)c->cols + (size_t)x];
    if (at->over == CELL_OWN)
        at->ch = ch;
    else
        *at = (struct cell){ch, (uint8_t)role, (uint8_t)over};
}

void cells_select(struct cells *c, int y, enum theme_role role)
{
    for (int x = 0; x < c->cols; x++)
        put(c, y, x, role, CELL_OWN, L' ');
}

/* What a terminal without UTF-8 gets for the characters that views use. */
static wchar_t ascii(wchar_t ch)
{
    static const struct {
        wchar_t from, to;
    } table[] = {{L'–', L'-'}, {L'—', L'-'}, {L'·', L'.'}, {L'…', L'~'}, {L'│', L'|'}, {L'─', L'-'},
                 {L'━', L'='}, {L'✓', L'*'}, {L'→', L'>'}, {L'•', L'*'}, {L'█', L'#'}, {L'░', L'.'},
                 {L'●', L'*'}, {L'■', L'*'}, {L'▸', L'>'}, {L'×', L'x'}};
    if (ch < 0x80)
        return ch;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].from == ch)
            return table[i].to;
    return L'?';
}

void cells_set(struct cells *c, int y, int x, enum theme_role role, wchar_t ch)
{
    put(c, y, x, role, CELL_PLAIN, c->utf8 ? ch : ascii(ch));
}

/* Takes the next character that occupies columns; 0 at the end. */
static int next_char(const char **text, utf8proc_int32_t *ch)
{
    while (**text) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)*text, -1, ch);
        if (n < 1) {
            ++*text;
            continue;
        }
        *text += n;
        int w = *ch < 0x20 || *ch == 0x7f ? 0 : utf8proc_charwidth(*ch);
        if (w > 0)
            return w;
    }
    return 0;
}

int cells_width(const char *text)
{
    utf8proc_int32_t ch;
    int w, all = 0;
    while ((w = next_char(&text, &ch)) > 0)
        all += w;
    return all;
}

int cells_put(struct cells *c, int y, int x, int width, enum theme_role role, const char *text)
{
    if (width > c->cols - x)
        width = c->cols - x;
    if (width <= 0 || y < 0 || y >= c->rows || x < 0)
        return 0;
    int used = 0, w;
    utf8proc_int32_t ch;
    bool fits = cells_width(text) <= width;
    while ((w = next_char(&text, &ch)) > 0) {
        if (used + w > width - !fits) {
            put(c, y, x + used++, role, CELL_PLAIN, c->utf8 ? L'…' : L'~');
            break;
        }
        put(c, y, x + used, role, CELL_PLAIN, c->utf8 ? (wchar_t)ch : ascii((wchar_t)ch));
        if (w == 2) {
            /* Without UTF-8 the '?' is narrow, but the columns were counted as two. */
            put(c, y, x + used + 1, role, CELL_PLAIN, c->utf8 ? 0 : L' ');
        }
        used += w;
    }
    return used;
}

int cells_printf(struct cells *c, int y, int x, int width, enum theme_role role, const char *fmt,
                 ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    /* clang-tidy 14 overlooks va_start in all files but its first. */
    vsnprintf(text, sizeof text, fmt, ap); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(ap);
    return cells_put(c, y, x, width, role, text);
}

int cells_put_right(struct cells *c, int y, int x, int width, enum theme_role role,
                    const char *text)
{
    int w = cells_width(text);
    if (w > width)
        w = width;
    return cells_put(c, y, x + width - w, w, role, text);
}

/* The empty part: where backgrounds can be seen it is a background, elsewhere a light character. */
static void bar_rest(struct cells *c, int y, int x, enum theme_role rest)
{
    if (c->colour)
        put(c, y, x, rest, rest, L' ');
    else
        put(c, y, x, rest, CELL_PLAIN, c->utf8 ? L'░' : L'.');
}

void cells_bar(struct cells *c, int y, int x, int width, const double *fraction,
               const enum theme_role *role, int n, enum theme_role rest)
{
    /* Without colours the parts must differ by character: the first is solid, others are lighter. */
    static const wchar_t solid[] = L"█▓▒", letters[] = L"#=-";
    if (width > c->cols - x)
        width = c->cols - x;
    for (int i = 0; i < width; i++)
        bar_rest(c, y, x + i, rest);
    double end[8] = {0}, sum = 0;
    n = n < 8 ? n : 8; /* no gauge has more parts */
    for (int i = 0; i < n; i++) {
        sum += fraction[i] > 0 ? fraction[i] : 0;
        end[i] = sum;
    }
    /* Last part first: each earlier one covers its own stretch, and the cell where it ends shows
     * what is beneath as its background. */
    for (int i = n - 1; i >= 0; i--) {
        if (!(end[i] > 0) || (i > 0 && !(fraction[i] > 0)))
            continue;
        struct plot_fill f = plot_bar(end[i], width, c->utf8);
        wchar_t full = c->colour ? L'█' : (c->utf8 ? solid : letters)[i < 3 ? i : 2];
        if (!c->utf8 && c->colour)
            full = letters[i < 3 ? i : 2];
        for (int k = 0; k < f.full; k++)
            put(c, y, x + k, role[i], CELL_PLAIN, full);
        if (!f.part || f.full >= width)
            continue;
        int under = i + 1 < n && end[i + 1] > end[i] ? (int)role[i + 1] : (int)rest;
        if (c->colour)
            put(c, y, x + f.full, role[i], under, f.part);
        else if (i == 0 && under == (int)rest)
            put(c, y, x + f.full, role[i], CELL_PLAIN, f.part);
    }
}

void cells_line(struct cells *c, int y, int x, int width, double fraction, enum theme_role role,
                enum theme_role rest)
{
    wchar_t full = c->utf8 ? L'━' : L'=', empty = c->utf8 ? L'─' : L'.';
    struct plot_fill f = plot_bar(fraction, width, true);
    for (int i = 0; i < width; i++)
        put(c, y, x + i, i < f.full ? role : rest, CELL_PLAIN, i < f.full ? full : empty);
    /* Less than a quarter shows only where it is the first sign of life. */
    int eighths = f.part ? L'█' + 8 - (int)f.part : 0;
    if (eighths >= 6 || (eighths && !c->utf8 && f.full == 0))
        put(c, y, x + f.full, role, CELL_PLAIN, f.full == width - 1 && c->utf8 ? L'╸' : full);
    else if (eighths >= 2 || (eighths && f.full == 0))
        put(c, y, x + f.full, c->utf8 ? role : rest, CELL_PLAIN, c->utf8 ? L'╸' : empty);
}

char *cells_row(const struct cells *c, int y, char *out, size_t cap)
{
    size_t n = 0, last = 0;
    for (int x = 0; cap && x < c->cols && y >= 0 && y < c->rows; x++) {
        wchar_t ch = c->at[(size_t)y * (size_t)c->cols + (size_t)x].ch;
        if (!ch)
            continue;
        utf8proc_uint8_t bytes[4];
        size_t w = (size_t)utf8proc_encode_char((utf8proc_int32_t)ch, bytes);
        if (n + w >= cap)
            break;
        memcpy(out + n, bytes, w);
        n += w;
        if (ch != L' ')
            last = n;
    }
    if (cap)
        out[last] = '\0';
    return out;
}
