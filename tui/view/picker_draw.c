/* The half of picker.h that knows curses. */
#include "tui/view/picker.h"

#include <string.h>

#include "tui/text/width.h"
#include "tui/theme.h"

enum { GAP = 2, TITLE_MIN = 16 };

static void put(WINDOW *w, int y, int x, int cols, enum theme_role role, const char *text)
{
    struct width_glyph g;
    size_t n = strlen(text);
    wattrset(w, (int)theme_attr(role));
    bool fits = width_of(text, n) <= cols;
    for (size_t i = 0; i < n;) {
        i += width_next(text + i, n - i, &g);
        if (g.kind == WIDTH_NEWLINE)
            break;
        if (g.cols > cols - !fits) {
            if (cols > 0)
                mvwaddstr(w, y, x, width_utf8() ? "…" : "~");
            break;
        }
        if (g.out_len)
            mvwaddnstr(w, y, x, g.out, g.out_len);
        x += g.cols;
        cols -= g.cols;
    }
}

/* Widths of the columns after the title; those that do not fit are left out from the right. */
static int columns(const struct picker *p, int cols, int *width)
{
    int left = cols - GAP;
    for (int c = 0; c < PICKER_COLUMNS - 1; c++) {
        width[c] = 0;
        for (int i = 0; i < p->n; i++) {
            int w = width_of(p->items[i].cell[c], strlen(p->items[i].cell[c]));
            width[c] = w > width[c] ? w : width[c];
        }
    }
    for (int c = 0; c < PICKER_COLUMNS - 1; c++) {
        if (!width[c] || left - width[c] - GAP < TITLE_MIN)
            width[c] = 0;
        else
            left -= width[c] + GAP;
    }
    return left;
}

static void row(WINDOW *w, int y, const struct picker *p, const struct picker_item *it, bool chosen,
                int title, const int *width)
{
    int cols = getmaxx(w), x = GAP + title;
    if (chosen) {
        wattrset(w, (int)theme_attr(THEME_SELECTION));
        mvwhline(w, y, 0, ' ', cols);
        mvwaddstr(w, y, 0, width_utf8() ? "›" : ">");
    }
    enum theme_role text = chosen ? THEME_SELECTION : THEME_TEXT;
    put(w, y, GAP, title, text, it->title);
    const char *hit = p->filter.n && !chosen ? strcasestr(it->title, p->filter.at) : NULL;
    if (hit) {
        int before = width_of(it->title, (size_t)(hit - it->title));
        char found[256];
        snprintf(found, sizeof found, "%.*s", (int)p->filter.n, hit);
        if (before < title - 1)
            put(w, y, GAP + before, title - 1 - before, THEME_MATCH, found);
    }
    for (int c = 0; c < PICKER_COLUMNS - 1; c++) {
        if (!width[c])
            continue;
        int own = width_of(it->cell[c], strlen(it->cell[c]));
        put(w, y, x + GAP + width[c] - own, own, chosen ? THEME_SELECTION : THEME_DIM, it->cell[c]);
        x += GAP + width[c];
    }
}

static void foot(WINDOW *w, int y, const struct picker *p)
{
    /* Each of what there is to do, and in less room the keys that nobody guesses. */
    static const char *const texts[3][2] = {
        {"type to filter   ↑↓ choose   Enter take   Esc back",
         "type to filter, Enter take, Esc back"},
        {"type to filter   ↑↓ choose   Enter open   Del delete   Esc back",
         "Enter open, Del delete, Esc back"},
        {"Delete this conversation for good? y or Enter deletes, any other key keeps it",
         "Delete for good? y yes, Esc no"},
    };
    int cols = getmaxx(w) - GAP, what = p->confirm ? 2 : p->deletes;
    const char *const *text = texts[what];
    put(w, y, GAP, cols, p->confirm ? THEME_WARNING : THEME_DIM,
        text[width_of(text[0], strlen(text[0])) > cols]);
}

void picker_draw(struct picker *p, void *window)
{
    WINDOW *w = window;
    int rows = getmaxy(w), cols = getmaxx(w), page = rows - 4;
    int shown = 0, at = 0, width[PICKER_COLUMNS - 1];
    werase(w);
    for (int i = 0; i < p->n; i++) {
        if (i == p->chosen)
            at = shown;
        shown += !p->items[i].hidden;
    }
    if (at < p->top)
        p->top = at;
    if (at >= p->top + page)
        p->top = at - page + 1;
    char count[64];
    put(w, 0, GAP, cols - GAP, THEME_TITLE, p->title);
    if (p->filter.n)
        snprintf(count, sizeof count, "%d of %d", shown, p->n);
    else
        snprintf(count, sizeof count, "%d", p->n);
    int used = GAP + width_of(p->title, strlen(p->title)) + 2;
    put(w, 0, used, cols - used, THEME_DIM, count);
    if (p->filter.n) {
        used += (int)strlen(count) + 3;
        put(w, 0, used, cols - used, THEME_DIM, "filter: ");
        put(w, 0, used + 8, cols - used - 8, THEME_MATCH, p->filter.at);
    }
    if (!shown)
        put(w, 2, GAP, cols - GAP, THEME_DIM, p->n ? "nothing matches" : p->empty);
    int k = 0, y = 2;
    for (int i = 0; i < p->n && y < 2 + page; i++) {
        struct picker_item *it = &p->items[i];
        if (it->hidden || k++ < p->top)
            continue;
        if (!it->filled && p->fill)
            p->fill(p->user, it);
        it->filled = true;
        y++;
    }
    int title = columns(p, cols, width);
    k = 0;
    y = 2;
    for (int i = 0; i < p->n && y < 2 + page; i++) {
        if (p->items[i].hidden || k++ < p->top)
            continue;
        row(w, y++, p, &p->items[i], i == p->chosen, title, width);
    }
    foot(w, rows - 1, p);
}
