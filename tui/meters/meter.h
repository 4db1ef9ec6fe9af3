/* meter.h - a meter is a row of a table: how to get its values, and which roles draw them.
 *
 * The three ways to show any meter (text, bar, spark) are written once, here. A view names a meter
 * and a mode and gives a place; adding a meter is adding a row to the table in meter.c. */
#ifndef LADE_TUI_METERS_METER_H
#define LADE_TUI_METERS_METER_H

#include <stdbool.h>

#include "engine/engine.h"
#include "tui/meters/machine.h"
#include "engine/plan/nvml.h"
#include "tui/meters/ring.h"
#include "tui/meters/units.h"
#include "tui/roles.h"
#include "tui/view/cells.h"

/* Everything a meter may look at. */
struct meter_sample {
    struct lade_stats engine; /* valid if have_engine */
    bool have_engine;
    struct machine machine;
    struct lade_nvml_gpu gpu; /* the sum of all GPUs; valid if have_gpu */
    bool have_gpu;
    struct lade_traffic recent; /* of the tokens between the last samples that saw any */
};

enum meter_id {
    METER_RAM,
    METER_VRAM,
    METER_CONTEXT,
    METER_SPEED,
    METER_LOAD,
    METER_CPU,
    METER_HITS,
    METER_CARD, /* one of several GPUs that the model is on; one meter for each */
    METER_COUNT
};

enum meter_mode {
    METER_TEXT,  /* "40.2/62.8 GiB" */
    METER_BAR,   /* a bar, its parts in the descriptor's roles */
    METER_SPARK, /* the history */
};

enum { METER_PARTS = 2 };

/* NAN is unknown; a meter without a fixed end has total NAN. */
struct meter_values {
    double part[METER_PARTS];
    double total;
    int card; /* METER_CARD: which one, of the engine's; set before the update */
};

struct meter_desc {
    const char *name;  /* "ram": for options and tests */
    const char *label; /* "RAM" */
    int parts;
    enum theme_role role[METER_PARTS]; /* of each part in a bar */
    enum theme_role rest;              /* of what no part fills */
    void (*update)(const struct meter_sample *s, struct meter_values *v);
    void (*format)(const struct meter_values *v, char out[UNITS_MAX]);
    /* The widest text of this meter now: its columns are reserved, so that nothing jumps. */
    void (*widest)(const struct meter_values *v, char out[UNITS_MAX]);
};

struct meter {
    const struct meter_desc *desc;
    int card; /* METER_CARD: which one, of the engine's */
    int gpu;  /* and its number */
    struct meter_values now;
    struct ring history; /* of part 0 */
};

void meter_init(struct meter *m, enum meter_id id);

/* Takes the values of a sample; `remember` also appends part 0 to the history. */
void meter_update(struct meter *m, const struct meter_sample *s, bool remember);

/* "RAM", "GPU 1". */
const char *meter_label(const struct meter *m, char out[UNITS_MAX]);

/* Columns of the text mode. */
int meter_width(const struct meter *m);

/* Draws into `width` columns at (y, x); text is right-aligned. */
void meter_draw(const struct meter *m, enum meter_mode mode, struct cells *c, int y, int x,
                int width);

#endif
