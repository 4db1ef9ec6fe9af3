/* status.h - the status area: model, strategy, phase, speed, context, memory.
 *
 * One line or two at the bottom, or a panel at the side of wide screens. What is dropped when a
 * line is short is a table of priorities in status_cells.c. An unknown value prints as a dash,
 * never as 0. UI thread only. */
#ifndef LADE_TUI_VIEW_STATUS_H
#define LADE_TUI_VIEW_STATUS_H

#include <stdbool.h>

#include "engine/engine.h"
#include "tui/meters/meter.h"
#include "tui/view/cells.h"

struct status {
    struct meter_sample sample;
    struct meter meter[METER_COUNT];
    struct meter card[LADE_CARDS]; /* METER_CARD, of each GPU that the model is on */
    struct machine_probe probe;
    struct lade_nvml *nvml;                     /* owned; NULL = no GPU */
    char gpu_reason[LADE_ERR];                  /* why there is none */
    char model[128], detail[96], strategy[160]; /* strategy: with the server, where there is one */
    bool remote; /* a server has the model: this machine's memory does not matter */
    int prefill_done, prefill_total;
    struct lade_traffic traffic; /* of the engine at the last sample */
    bool panel;                  /* set by the layout: the side panel is on the screen, so that the
                                  line leaves out what stands there */
    double tick;                 /* time of the last sample; NAN = none */
};

/* Opens NVML; status_close releases it. */
void status_init(struct status *s);
void status_close(struct status *s);

/* After LADE_EV_MODEL, and again after LADE_EV_READY (the strategy is then known). */
void status_model(struct status *s, const struct lade_model_info *info);

/* For LADE_EV_PREFILL. */
void status_prefill(struct status *s, int done, int total);

/* With fresh engine numbers (NULL = no engine). Cheap to call often: the machine is sampled and
 * the sparklines move at most four times a second while something runs, once a second when idle.
 * Returns true if a sample was taken, that is, if it should be drawn again. `now`: monotonic
 * seconds. */
bool status_tick(struct status *s, const struct lade_stats *stats, double now);

/* How the area should be laid out on a screen of rows x cols: lines at the bottom (1 or 2) and
 * columns of the side panel (0 = none). */
void status_wants(int rows, int cols, int *lines, int *panel_cols);

/* Rows that the anatomy of a token takes on a screen of so many; 0 where it does not fit. */
enum { STATUS_ANATOMY_FROM = 16 };
int status_anatomy_rows(int rows);

/* The pure half. All take the canvas as it is and clear it. */
void status_cells(const struct status *s, struct cells *c);         /* 1 or 2 rows */
void status_panel_cells(const struct status *s, struct cells *c);   /* from 20 columns up */
void status_anatomy_cells(const struct status *s, struct cells *c); /* 5 rows, from 40 columns up */

/* Draw over the whole of a curses window (WINDOW *); no refresh. */
void status_draw(const struct status *s, void *window);
void status_panel_draw(const struct status *s, void *window);
void status_anatomy_draw(const struct status *s, void *window);

/* How many GPUs have a gauge of their own: those that the model is on, if there are several. */
int status_cards(const struct status *s);

/* True if experts were found in more than one place, so that the shares say something. */
bool status_has_shares(const struct status *s);

/* "idle", "loading 43%", "prefill 120/512", ...: also for a terminal title or a log. */
char *status_phase(const struct status *s, char out[UNITS_MAX]);

/* The role that colours the phase. */
enum theme_role status_phase_role(const struct status *s);

#endif
