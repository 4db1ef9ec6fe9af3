/* picker.h - a list that fills the screen's main area: choose a conversation, a theme.
 *
 * Typing filters, arrows move, Enter takes, Esc leaves; Del or Ctrl-D deletes an item where the owner
 * allows it, after a second key. What happens then is the owner's business: picker_key only says
 * what was asked for. UI thread only. */
#ifndef LADE_TUI_VIEW_PICKER_H
#define LADE_TUI_VIEW_PICKER_H

#include <stdbool.h>
#include <stdint.h>

#include "tui/keys.h"
#include "tui/text/buf.h"

enum { PICKER_COLUMNS = 4, PICKER_CELL = 64 };

/* The first column takes the place the others leave. */
struct picker_item {
    int64_t id;
    char *title; /* owned; what typing filters by */
    char cell[PICKER_COLUMNS - 1][PICKER_CELL];
    bool filled; /* the owner's mark for cells made on demand */
    bool hidden; /* private: filtered out */
};

struct picker {
    bool open;
    const char *title, *empty; /* borrowed: heading, and what to say of no items */
    bool deletes;
    struct picker_item *items;
    int n, cap;
    int chosen; /* index into items; -1 = none */
    int top;    /* first shown, counted in items that are not hidden */
    struct buf filter;
    bool confirm; /* asks whether to delete the chosen one */
    /* Fills the cells of an item that comes into view; may be NULL. */
    void (*fill)(void *user, struct picker_item *item);
    void *user;
};

enum picker_answer { PICKER_NOTHING, PICKER_MOVED, PICKER_TAKEN, PICKER_DELETE, PICKER_CLOSED };

void picker_open(struct picker *p, const char *title, const char *empty);
void picker_close(struct picker *p);
struct picker_item *picker_add(struct picker *p, int64_t id, const char *title);
void picker_remove(struct picker *p, int64_t id);
void picker_choose(struct picker *p, int64_t id);

/* `page` is the number of rows shown. */
enum picker_answer picker_key(struct picker *p, const struct keys_event *ev, int page);

/* Draws it over the whole of a curses window (WINDOW *). */
void picker_draw(struct picker *p, void *window);

#endif
