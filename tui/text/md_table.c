/* Tables in answers: columns as wide as they need, shrunk fairly when the screen is narrow; on a
 * screen too narrow for columns each row becomes lines "header: value". */
#include "tui/text/md_render.h"

#include <stdlib.h>
#include <string.h>

#include "tui/text/width.h"

enum { SEPARATOR = 3, NARROWEST = 5 };

void md_table_clear(struct md_table *t)
{
    for (int i = 0; i < t->n; i++)
        wrap_free(&t->cells[i].text);
    free(t->cells);
    *t = (struct md_table){0};
}

/* Columns of each table column: natural, or the largest common limit under which all fit. */
static void widths(const struct md_table *t, int available, int *w)
{
    int most = 0;
    for (int c = 0; c < t->columns; c++) {
        w[c] = 1;
        for (int i = c; i < t->n; i += t->columns) {
            int natural = wrap_natural(&t->cells[i].text);
            w[c] = natural > w[c] ? natural : w[c];
        }
        most = w[c] > most ? w[c] : most;
    }
    for (int limit = most;; limit--) {
        int sum = 0;
        for (int c = 0; c < t->columns; c++)
            sum += w[c] < limit ? w[c] : limit;
        if (sum > available && limit > 1)
            continue;
        /* What rounding left goes to the first column that wants it. */
        for (int c = 0; c < t->columns; c++) {
            int want = w[c];
            w[c] = want < limit ? want : limit;
            int more = available - sum;
            if (want > w[c] && more > 0) {
                more = more < want - w[c] ? more : want - w[c];
                w[c] += more;
                sum += more;
            }
        }
        return;
    }
}

static void blanks(struct lines *out, int n)
{
    static const char spaces[] = "                                ";
    for (; n > 0; n -= 32)
        lines_put(out, THEME_TEXT, spaces, (size_t)(n < 32 ? n : 32), n < 32 ? n : 32);
}

static void put_row(struct lines *out, const struct lines *from, size_t row)
{
    for (uint32_t s = 0; s < from->rows[row].n; s++) {
        const struct lines_span *span = &from->spans[from->rows[row].span + s];
        lines_put(out, span->role, from->text.at + span->off, span->len, span->cols);
    }
}

static void put_sign(struct lines *out, const char *utf8, const char *plain, int cols)
{
    const char *s = width_utf8() ? utf8 : plain;
    lines_put(out, THEME_BORDER, s, strlen(s), cols);
}

/* One row of cells, as many screen rows as its tallest cell. */
static void row_out(struct md *md, int row, const int *w, const struct wrap_prefix *p)
{
    struct md_table *t = &md->table;
    struct lines cell[MD_COLUMNS] = {0};
    size_t rows = 1;
    for (int c = 0; c < t->columns; c++) {
        wrap_out(&t->cells[row * t->columns + c].text, &cell[c], w[c], NULL, NULL, false);
        rows = cell[c].n > rows ? cell[c].n : rows;
    }
    for (size_t r = 0; r < rows; r++) {
        lines_new(md->out);
        if (p->parts && p->parts->n)
            put_row(md->out, p->parts, 0);
        for (int c = 0; c < t->columns; c++) {
            if (c)
                put_sign(md->out, " │ ", " | ", SEPARATOR);
            int cols = r < cell[c].n ? lines_cols(&cell[c], r) : 0, pad = w[c] - cols;
            int left = t->align[c] == MD_RIGHT ? pad : t->align[c] == MD_CENTRE ? pad / 2 : 0;
            blanks(md->out, left);
            if (cols)
                put_row(md->out, &cell[c], r);
            if (c + 1 < t->columns)
                blanks(md->out, pad - left);
        }
    }
    for (int c = 0; c < t->columns; c++)
        lines_free(&cell[c]);
}

static void rule_out(struct md *md, const int *w, const struct wrap_prefix *p)
{
    lines_new(md->out);
    if (p->parts && p->parts->n)
        put_row(md->out, p->parts, 0);
    for (int c = 0; c < md->table.columns; c++) {
        if (c)
            put_sign(md->out, "─┼─", "-+-", SEPARATOR);
        for (int i = 0; i < w[c]; i++)
            put_sign(md->out, "─", "-", 1);
    }
}

/* "header: value" lines, an empty line between rows. */
static void list_out(struct md *md, const struct wrap_prefix *p)
{
    struct md_table *t = &md->table;
    for (int row = 1; row * t->columns < t->n; row++) {
        for (int c = 0; c < t->columns; c++) {
            struct md_cell *value = &t->cells[row * t->columns + c];
            struct lines head = {0};
            /* Laying a paragraph out empties it, and the header is needed for every row. */
            struct wrap copy = {0};
            wrap_copy(&copy, &t->cells[c].text);
            wrap_out(&copy, &head, md->width, NULL, NULL, false);
            wrap_free(&copy);
            if (head.n)
                lines_put(&head, THEME_DIM, ": ", 2, 2);
            struct wrap_prefix first = {&head, head.n ? lines_cols(&head, 0) : 0};
            wrap_out(&value->text, md->out, md->width, first.cols < md->width / 2 ? &first : p, p,
                     false);
            lines_free(&head);
        }
        if ((row + 1) * t->columns < t->n)
            lines_new(md->out);
    }
}

void md_table_out(struct md *md)
{
    struct md_table *t = &md->table;
    struct wrap_prefix first, rest;
    int w[MD_COLUMNS] = {0};
    if (t->columns > 0 && t->n >= t->columns) {
        md_begin(md, &first, &rest);
        int available = md->width - rest.cols - SEPARATOR * (t->columns - 1);
        if (available < NARROWEST * t->columns && t->n > t->columns) {
            list_out(md, &rest);
        } else {
            widths(t, available, w);
            for (int row = 0; row * t->columns < t->n; row++) {
                row_out(md, row, w, row ? &rest : &first);
                if (row == 0)
                    rule_out(md, w, &rest);
            }
        }
        md->any = md->gap = true;
    }
    md_table_clear(t);
}
