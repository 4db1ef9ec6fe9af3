/* The half of menu.h that knows curses. */
#include "tui/view/menu.h"

#include <string.h>

#include "tui/text/width.h"
#include "tui/theme.h"

static void put(WINDOW *w, int y, int x, int cols, attr_t attr, const char *text)
{
    wattrset(w, (int)attr);
    if (cols > 0)
        mvwaddnstr(w, y, x, text, (int)width_fit(text, strlen(text), cols));
}

void menu_draw(struct menu *m, void *window)
{
    WINDOW *w = window;
    int rows = getmaxy(w), cols = getmaxx(w), widest = 0;
    werase(w);
    for (int i = 0; i < m->n; i++) {
        int cw = width_of(m->items[i].text, strlen(m->items[i].text));
        widest = cw > widest ? cw : widest;
    }
    if (m->chosen >= m->top + rows)
        m->top = m->chosen - rows + 1;
    for (int y = 0; y < rows && m->top + y < m->n; y++) {
        struct menu_item *it = &m->items[m->top + y];
        bool chosen = m->top + y == m->chosen;
        attr_t text = theme_attr(chosen ? THEME_SELECTION : THEME_TEXT);
        attr_t help = theme_attr(chosen ? THEME_SELECTION : THEME_DIM);
        if (chosen) {
            wattrset(w, (int)text);
            mvwhline(w, y, 0, ' ', cols);
        }
        put(w, y, 2, cols - 2, text, it->text);
        if (!chosen && m->typed <= (int)strlen(it->text)) {
            wattrset(w, (int)theme_attr(THEME_MATCH));
            mvwaddnstr(w, y, 2, it->text, (int)width_fit(it->text, (size_t)m->typed, cols - 2));
        }
        put(w, y, 2 + widest + 2, cols - widest - 5, help, it->help);
    }
    if (m->n > rows) {
        char more[32];
        int n = m->n - m->top - rows;
        if (n > 0) {
            int len = snprintf(more, sizeof more, " %d more ", n);
            put(w, rows - 1, cols - len, len, theme_attr(THEME_DIM), more);
        }
    }
}
