#include "tui/view/menu.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tui/text/buf.h"

void menu_clear(struct menu *m)
{
    for (int i = 0; i < m->n; i++) {
        free(m->items[i].text);
        free(m->items[i].help);
    }
    free(m->items);
    *m = (struct menu){.chosen = -1};
}

void menu_offer(struct menu *m, const char *typed, const char *text, const char *help)
{
    if (strncasecmp(typed, text, strlen(typed)) != 0)
        return;
    BUF_GROW(m->items, m->n, m->cap);
    m->items[m->n++] = (struct menu_item){buf_strdup(text), buf_strdup(help ? help : "")};
    m->typed = (int)strlen(typed);
}

void menu_move(struct menu *m, int step)
{
    if (!m->n)
        return;
    if (m->chosen < 0)
        m->chosen = step > 0 ? 0 : m->n - 1;
    else
        m->chosen = (m->chosen + step + m->n) % m->n;
    if (m->chosen < m->top)
        m->top = m->chosen;
    if (m->chosen >= m->top + MENU_ROWS)
        m->top = m->chosen - MENU_ROWS + 1;
}

int menu_common(const struct menu *m)
{
    int common = m->n ? (int)strlen(m->items[0].text) : 0;
    for (int i = 1; i < m->n; i++) {
        int k = 0;
        while (k < common && m->items[i].text[k] == m->items[0].text[k])
            k++;
        common = k;
    }
    return common;
}

int menu_rows(const struct menu *m)
{
    return m->n < MENU_ROWS ? m->n : MENU_ROWS;
}
