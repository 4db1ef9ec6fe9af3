/* menu.h - a short list over the input: what a command could become. */
#ifndef LADE_TUI_VIEW_MENU_H
#define LADE_TUI_VIEW_MENU_H

#include <stdbool.h>

enum { MENU_ROWS = 8 };

struct menu_item {
    char *text, *help; /* owned; help may be "" */
};

/* Zero-initialised is closed. */
struct menu {
    struct menu_item *items;
    int n, cap;
    int chosen; /* -1 = none */
    int top;
    int typed; /* bytes of every item's text that are typed already */
};

void menu_clear(struct menu *m);

/* Adds an item if its text begins with `typed` (ASCII case is ignored). */
void menu_offer(struct menu *m, const char *typed, const char *text, const char *help);

/* Moves the choice by `step`, around the ends. */
void menu_move(struct menu *m, int step);

/* Bytes that the texts of all items have in common. */
int menu_common(const struct menu *m);

/* Rows it wants. */
int menu_rows(const struct menu *m);

/* Draws it over the whole of a curses window (WINDOW *). */
void menu_draw(struct menu *m, void *window);

#endif
