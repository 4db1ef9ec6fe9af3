#include "tui/text/wrap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tui/text/width.h"

/* What the layout needs to know of a glyph. */
struct wrap_glyph {
    uint32_t off, ch;
    uint8_t len, cols, role, kind;
};

static void wrap_clear(struct wrap *w)
{
    buf_cut(&w->text, 0);
    w->n = 0;
}

void wrap_free(struct wrap *w)
{
    buf_free(&w->text);
    free(w->at);
    *w = (struct wrap){0};
}

static bool in_list(unsigned ch, const unsigned *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == ch)
            return true;
    return false;
}

/* Closing signs that must not begin a line, and opening ones that must not end it. */
static bool is_closing(unsigned ch)
{
    static const unsigned list[] = {0x3001, 0x3002, 0xff0c, 0xff0e, 0xff01, 0xff1f, 0xff1b, 0xff1a,
                                    0xff09, 0x300d, 0x300f, 0x3011, 0x300b, 0x3009, 0x201d, 0x2019,
                                    0x30fc, 0x3005, 0xff05, ',',    '.',    '!',    '?',    ':',
                                    ';',    ')',    ']',    '}',    0x2026};
    return in_list(ch, list, sizeof list / sizeof *list);
}

static bool is_opening(unsigned ch)
{
    static const unsigned list[] = {0xff08, 0x300c, 0x300e, 0x3010, 0x300a, 0x3008,
                                    0x201c, 0x2018, '(',    '[',    '{'};
    return in_list(ch, list, sizeof list / sizeof *list);
}

static bool is_word(const struct wrap_glyph *g)
{
    return g->ch >= 0x80 || (g->ch >= '0' && g->ch <= '9') ||
           ((g->ch | 32) >= 'a' && (g->ch | 32) <= 'z');
}

/* May a line end between at[i - 1] and at[i]? */
static bool may_break(const struct wrap *w, size_t i)
{
    const struct wrap_glyph *a = &w->at[i - 1], *b = &w->at[i];
    if (a->kind == WIDTH_SPACE)
        return b->kind != WIDTH_SPACE;
    if (b->kind != WIDTH_CHAR || is_closing(b->ch) || is_opening(a->ch))
        return false;
    if (a->cols == 2 || b->cols == 2)
        return a->ch && b->ch;
    return (a->ch == '-' || a->ch == '/' || a->ch == 0x2014) && i > 1 && is_word(&w->at[i - 2]) &&
           is_word(b);
}

void wrap_text(struct wrap *w, enum theme_role role, const char *text, size_t n)
{
    struct width_glyph g;
    for (size_t i = 0; i < n;) {
        i += width_next(text + i, n - i, &g);
        if (g.kind == WIDTH_NOTHING)
            continue;
        BUF_GROW(w->at, w->n, w->cap);
        w->at[w->n++] = (struct wrap_glyph){(uint32_t)w->text.n, g.ch,          (uint8_t)g.out_len,
                                            (uint8_t)g.cols,     (uint8_t)role, (uint8_t)g.kind};
        buf_add(&w->text, g.out, (size_t)g.out_len);
    }
}

void wrap_copy(struct wrap *w, const struct wrap *from)
{
    uint32_t off = (uint32_t)w->text.n;
    for (size_t i = 0; i < from->n; i++) {
        BUF_GROW(w->at, w->n, w->cap);
        w->at[w->n] = from->at[i];
        w->at[w->n++].off += off;
    }
    buf_add(&w->text, buf_text(&from->text), from->text.n);
}

int wrap_natural(const struct wrap *w)
{
    int most = 0, cols = 0;
    for (size_t i = 0; i < w->n; i++) {
        cols = w->at[i].kind == WIDTH_NEWLINE ? 0 : cols + w->at[i].cols;
        most = cols > most ? cols : most;
    }
    return most;
}

/* First glyph of the next line: the line [start, end) fits into `cols`. */
static size_t line_end(const struct wrap *w, size_t start, int cols, bool whole, size_t *end)
{
    size_t at_break = start, i = start;
    for (; i < w->n && w->at[i].kind != WIDTH_NEWLINE; i++) {
        if (i > start && !whole && may_break(w, i))
            at_break = i;
        if (w->at[i].cols > cols)
            break;
        cols -= w->at[i].cols;
    }
    if (i == w->n) {
        *end = i;
        return i;
    }
    if (w->at[i].kind == WIDTH_NEWLINE) {
        *end = i;
        return i + 1;
    }
    if (whole) {
        *end = i > start ? i : start + 1;
        return *end;
    }
    /* Blanks that do not fit vanish at the break. */
    if (w->at[i].kind == WIDTH_SPACE) {
        *end = i;
    } else {
        *end = at_break > start ? at_break : i > start ? i : start + 1;
        i = *end;
    }
    while (i < w->n && w->at[i].kind == WIDTH_SPACE)
        i++;
    /* A line break right there is this one. */
    return i < w->n && w->at[i].kind == WIDTH_NEWLINE ? i + 1 : i;
}

static void put_prefix(struct lines *out, const struct wrap_prefix *p)
{
    if (!p || !p->parts || !p->parts->n)
        return;
    for (uint32_t s = 0; s < p->parts->rows[0].n; s++) {
        const struct lines_span *span = &p->parts->spans[p->parts->rows[0].span + s];
        lines_put(out, span->role, p->parts->text.at + span->off, span->len, span->cols);
    }
}

void wrap_out(struct wrap *w, struct lines *out, int width, const struct wrap_prefix *first,
              const struct wrap_prefix *rest, bool whole)
{
    size_t i = 0;
    bool more = true;
    for (const struct wrap_prefix *p = first; more; p = rest) {
        int cols = width - (p ? p->cols : 0);
        size_t end, start = i;
        i = line_end(w, start, cols > 1 ? cols : 1, whole, &end);
        /* A line break at the very end ends the last row; it does not begin another. */
        more = i < w->n;
        if (!whole)
            while (end > start && w->at[end - 1].kind == WIDTH_SPACE)
                end--;
        lines_new(out);
        put_prefix(out, p);
        for (size_t k = start; k < end; k++)
            lines_put(out, w->at[k].role, w->text.at + w->at[k].off, w->at[k].len, w->at[k].cols);
    }
    wrap_clear(w);
}
