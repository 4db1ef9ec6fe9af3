/* strategies.h - the panel of /plan: every strategy with what it would be like here.
 *
 * The one that runs comes first, then those that are possible, then the others with what they lack.
 * Arrows choose, Enter asks for the chosen one, Esc leaves. Below the list stands what the chosen
 * one does. UI thread only. */
#ifndef LADE_TUI_VIEW_STRATEGIES_H
#define LADE_TUI_VIEW_STRATEGIES_H

#include <stdbool.h>

#include "engine/plan/plan.h"
#include "tui/keys.h"
#include "tui/view/cells.h"

struct strategies {
    bool open;
    struct lade_plan plan;
    int order[LADE_MAX_STRATEGIES]; /* rows of the plan, as they are shown */
    int chosen;                     /* into order */
};

/* `running` is the name of the strategy in force; it is marked and chosen. */
void strategies_open(struct strategies *s, const struct lade_plan *plan, const char *running);
void strategies_close(struct strategies *s);

enum strategies_answer {
    STRATEGIES_NOTHING,
    STRATEGIES_MOVED,
    STRATEGIES_TAKEN,
    STRATEGIES_CLOSED
};

enum strategies_answer strategies_key(struct strategies *s, const struct keys_event *ev);

/* The chosen row. */
const struct lade_plan_row *strategies_row(const struct strategies *s);

/* The pure half: clears and fills the canvas, from 40x6 up. */
void strategies_cells(const struct strategies *s, struct cells *c);

/* Draws over the whole of a curses window (WINDOW *); no refresh. */
void strategies_draw(const struct strategies *s, void *window);

#endif
