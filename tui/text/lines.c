#include "tui/text/lines.h"

#include <stdlib.h>
#include <string.h>

#include "tui/text/width.h"

void lines_free(struct lines *l)
{
    buf_free(&l->text);
    free(l->spans);
    free(l->rows);
    *l = (struct lines){0};
}

void lines_clear(struct lines *l)
{
    lines_cut(l, (struct lines_mark){0});
}

void lines_new(struct lines *l)
{
    BUF_GROW(l->rows, l->n, l->cap);
    l->rows[l->n++] = (struct lines_row){(uint32_t)l->n_spans, 0};
}

void lines_put(struct lines *l, enum theme_role role, const char *text, size_t n, int cols)
{
    if (!n)
        return;
    if (!l->n)
        lines_new(l);
    struct lines_row *row = &l->rows[l->n - 1];
    uint32_t off = (uint32_t)l->text.n;
    buf_add(&l->text, text, n);
    if (row->n && l->spans[l->n_spans - 1].role == role) {
        struct lines_span *last = &l->spans[l->n_spans - 1];
        last->len += (uint32_t)n;
        last->cols = (uint16_t)(last->cols + cols);
        return;
    }
    BUF_GROW(l->spans, l->n_spans, l->cap_spans);
    l->spans[l->n_spans++] = (struct lines_span){off, (uint32_t)n, (uint16_t)cols, (uint8_t)role};
    row->n++;
}

void lines_add(struct lines *l, enum theme_role role, const char *text, int width)
{
    size_t n = strlen(text);
    struct width_glyph g;
    lines_new(l);
    for (size_t i = 0; i < n;) {
        i += width_next(text + i, n - i, &g);
        if (g.kind == WIDTH_NEWLINE)
            g = (struct width_glyph){.kind = WIDTH_SPACE, .out = " ", .out_len = 1, .cols = 1};
        if ((width -= g.cols) < 0)
            break;
        lines_put(l, role, g.out, (size_t)g.out_len, g.cols);
    }
}

struct lines_mark lines_mark(const struct lines *l)
{
    return (struct lines_mark){l->text.n, l->n_spans, l->n};
}

void lines_cut(struct lines *l, struct lines_mark m)
{
    buf_cut(&l->text, m.text);
    l->n_spans = m.spans;
    l->n = m.rows;
}

int lines_cols(const struct lines *l, size_t i)
{
    int cols = 0;
    for (uint32_t s = 0; s < l->rows[i].n; s++)
        cols += l->spans[l->rows[i].span + s].cols;
    return cols;
}

char *lines_text(const struct lines *l, size_t i)
{
    struct buf out = {0};
    buf_add(&out, "", 0);
    for (uint32_t s = 0; s < l->rows[i].n; s++) {
        const struct lines_span *span = &l->spans[l->rows[i].span + s];
        buf_add(&out, l->text.at + span->off, span->len);
    }
    return out.at;
}
