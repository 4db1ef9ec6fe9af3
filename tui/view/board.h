/* board.h - the load board: a bar per shard, the whole load, its speed, and where it goes.
 *
 * A plain struct filled from engine events and drawn into any window from 20x1 up. Nothing in it
 * belongs to the engine. UI thread only. */
#ifndef LADE_TUI_VIEW_BOARD_H
#define LADE_TUI_VIEW_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tui/meters/ring.h"
#include "tui/view/cells.h"

struct board_shard {
    char name[128];
    uint64_t bytes, done;
    double gbps;        /* while it is read: smoothed; afterwards its average; NAN before */
    double seconds;     /* of reading it, so far or in all; NAN before it moved */
    uint64_t tick_done; /* private: at the last tick */
    double began;       /* private: time of its first byte */
};

/* One place weights go to: "RAM", "VRAM". Bytes. */
struct board_tier {
    const char *name;
    uint64_t held, target;
};

enum { BOARD_SHARDS = 256, BOARD_TIERS = 2 };

struct board {
    char name[128], detail[160]; /* the model; "int4 mixed · cpu-standard" */
    char waits[200];             /* for a server, and why; "" = for none */
    struct board_shard shard[BOARD_SHARDS];
    int n;
    int n_all;            /* a checkpoint may have more shards than are shown */
    uint64_t done, bytes; /* of all shards */
    double gbps;          /* smoothed; NAN until measured */
    double elapsed, eta;  /* seconds; eta NAN while unknown */
    struct ring speed;    /* GB/s per tick */
    struct board_tier tier[BOARD_TIERS];
    int n_tiers;
    bool usable;        /* answers are given while the rest is read */
    bool ready;         /* loading is over */
    double tick;        /* private: time of the last one; NAN = none */
    double moved;       /* private: time of the last tick that saw new bytes */
    uint64_t tick_done; /* private: done then */
    uint64_t told;      /* private: done, by the last event */
};

/* Empty board: "reading headers". About 40 KB: keep it off the stack. */
void board_init(struct board *b);

/* After LADE_EV_WAITING. */
void board_waiting(struct board *b, const char *text);

/* After LADE_EV_MODEL. */
void board_model(struct board *b, const struct lade_model_info *info);

/* For every LADE_EV_SHARD. `now` is a monotonic clock in seconds. */
void board_event(struct board *b, const struct lade_event *ev, double now);

/* A few times a second while loading (4 is good): speed, ETA and the sparkline move here, so that
 * they are steady whatever the rate of events. */
void board_tick(struct board *b, const struct lade_stats *stats, double now);

/* After LADE_EV_USABLE, and after LADE_EV_STRATEGY: pieces may move again. */
void board_usable(struct board *b);
void board_strategy(struct board *b, const struct lade_model_info *info);

/* After LADE_EV_READY. */
void board_ready(struct board *b, double seconds);

/* Rows the board would like; it draws in fewer, down to 1, which is a line with the same numbers. */
int board_rows(const struct board *b);

/* The pure half: clears and fills the canvas. */
void board_cells(const struct board *b, struct cells *c);

/* Draws the board over the whole of a curses window (WINDOW *); no refresh. */
void board_draw(const struct board *b, void *window);

#endif
