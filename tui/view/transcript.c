#include "tui/view/transcript.h"

#include <stdlib.h>
#include <string.h>

#include "tui/view/entry_rows.h"

void transcript_init(struct transcript *t)
{
    *t = (struct transcript){.follow = true, .fold = true};
}

static void entry_free(struct entry *e)
{
    buf_free(&e->text);
    buf_free(&e->reasoning);
    lines_free(&e->rows);
    free(e);
}

void transcript_clear(struct transcript *t)
{
    for (int i = 0; i < t->n; i++)
        entry_free(t->items[i]);
    free(t->items);
    *t = (struct transcript){.follow = true, .fold = t->fold, .rows = t->rows, .cols = t->cols};
}

struct entry *transcript_add(struct transcript *t, enum entry_kind kind, const char *text)
{
    struct entry *e = buf_realloc(NULL, 1, sizeof *e);
    *e = (struct entry){.kind = kind, .think_s = -1, .think_tokens = -1, .changed = true};
    buf_puts(&e->text, text ? text : "");
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->items = buf_realloc(t->items, (size_t)t->cap, sizeof(void *));
    }
    t->items[t->n++] = e;
    return e;
}

void transcript_remove(struct transcript *t, struct entry *e)
{
    for (int i = 0; i < t->n; i++) {
        if (t->items[i] != e)
            continue;
        entry_free(e);
        t->n--;
        for (int k = i; k < t->n; k++)
            t->items[k] = t->items[k + 1];
        if (t->top > i)
            t->top--;
        else if (t->top == i)
            t->top_row = 0;
        if (t->top >= t->n)
            transcript_to_end(t);
        return;
    }
}

void entry_changed(struct entry *e)
{
    e->changed = true;
}

const struct lines *transcript_lines(struct transcript *t, int i)
{
    entry_layout(t->items[i], t->cols, t->fold);
    return &t->items[i]->rows;
}

static int height(struct transcript *t, int i)
{
    return (int)transcript_lines(t, i)->n;
}

/* Rows from (entry, row) on, counted up to `most`. */
static int rows_from(struct transcript *t, int entry, int row, int most)
{
    int n = -row;
    for (int i = entry; i < t->n && n < most; i++)
        n += height(t, i);
    return n;
}

int transcript_rows(struct transcript *t, int most)
{
    int n = rows_from(t, 0, 0, most + 1);
    return n < most ? n : most;
}

/* Moves the place up by so many rows, at most to the top. */
static void up(struct transcript *t, int rows)
{
    while (rows > t->top_row && t->top > 0) {
        rows -= t->top_row + 1;
        t->top--;
        t->top_row = height(t, t->top) - 1;
        if (t->top_row < 0)
            t->top_row = 0;
    }
    t->top_row = rows < t->top_row ? t->top_row - rows : 0;
}

/* Puts the end of the text at the end of the window. */
static void settle_at_end(struct transcript *t)
{
    t->top = t->n > 0 ? t->n - 1 : 0;
    t->top_row = 0;
    if (t->n > 0) {
        int tall = height(t, t->top);
        if (tall > t->rows)
            t->top_row = tall - t->rows;
        else
            up(t, t->rows - tall);
    }
}

/* Keeps the place inside the text, and the window full where there is text enough. */
static void settle(struct transcript *t)
{
    if (t->follow) {
        settle_at_end(t);
        return;
    }
    if (t->top >= t->n) {
        settle_at_end(t);
        return;
    }
    int tall = height(t, t->top);
    if (t->top_row >= tall)
        t->top_row = tall > 0 ? tall - 1 : 0;
    int there = rows_from(t, t->top, t->top_row, t->rows);
    if (there < t->rows)
        up(t, t->rows - there);
}

void transcript_size(struct transcript *t, int rows, int cols)
{
    if (cols != t->cols && !t->follow && t->top < t->n) {
        /* The row at the top moves with the share of its entry that was above it. */
        int before = height(t, t->top), row = t->top_row;
        t->cols = cols;
        int after = height(t, t->top);
        t->top_row = before > 0 ? (int)((long)row * after / before) : 0;
    }
    t->cols = cols;
    t->rows = rows;
    settle(t);
}

int transcript_below(struct transcript *t, int *fresh)
{
    int below = t->follow ? 0 : rows_from(t, t->top, t->top_row, 1 << 30) - t->rows;
    if (below < 0)
        below = 0;
    *fresh = below > t->rest ? below - t->rest : 0;
    return below;
}

void transcript_scroll(struct transcript *t, int rows)
{
    if (!t->n)
        return;
    settle(t);
    if (rows < 0) {
        int top = t->top, row = t->top_row;
        up(t, -rows);
        if (top == t->top && row == t->top_row)
            return;
        t->follow = false;
    } else if (!t->follow) {
        while (rows > 0) {
            int left = height(t, t->top) - t->top_row;
            if (rows < left) {
                t->top_row += rows;
                break;
            }
            if (t->top + 1 >= t->n) {
                t->top_row += left - 1;
                break;
            }
            rows -= left;
            t->top++;
            t->top_row = 0;
        }
        settle(t);
    }
    int fresh, below = transcript_below(t, &fresh);
    t->rest = below < t->rest || rows < 0 ? below : t->rest;
    if (below <= 0)
        transcript_to_end(t);
}

void transcript_to_top(struct transcript *t)
{
    int fresh;
    t->top = t->top_row = 0;
    t->follow = rows_from(t, 0, 0, t->rows + 1) <= t->rows;
    t->rest = transcript_below(t, &fresh);
}

void transcript_to_end(struct transcript *t)
{
    t->follow = true;
    t->rest = 0;
    settle(t);
}

void transcript_to_last(struct transcript *t)
{
    int fresh;
    transcript_to_end(t);
    if (!t->n || height(t, t->n - 1) <= t->rows)
        return;
    t->follow = false;
    t->top = t->n - 1;
    t->top_row = 0;
    t->rest = transcript_below(t, &fresh);
}

void transcript_fold(struct transcript *t, bool fold)
{
    t->fold = fold;
    for (int i = 0; i < t->n; i++)
        if (t->items[i]->reasoning.n)
            t->items[i]->changed = true;
    settle(t);
}
