/* The lines of the status area: which segments fit, and how wide each may be. */
#include "tui/view/status.h"

#include <stdio.h>
#include <string.h>

#include "tui/view/cells.h"

enum { GAP = 2, BAR = 8, SPARK = 10, PHASE = 17, NAME = 16 };

enum segment {
    SEG_MODEL,
    SEG_STRATEGY,
    SEG_PHASE,
    SEG_SPEED,
    SEG_CONTEXT,
    SEG_RAM,
    SEG_VRAM,
    SEG_HITS,
    SEG_COUNT
};

/* How a segment may be shown, each form holding what the one before it has. */
enum form { FORM_NONE, FORM_SHORT, FORM_TEXT, FORM_FULL };

/* A line is filled by taking these steps in order; a step that does not fit is left out. What
 * comes first survives on the narrowest screen. */
struct step {
    enum segment segment;
    enum form form;
};

/* While an answer comes its speed is what people look at: the first step is of then alone. */
static const struct step one_line[] = {
    {SEG_SPEED, FORM_TEXT},   {SEG_PHASE, FORM_SHORT},  {SEG_RAM, FORM_TEXT},
    {SEG_SPEED, FORM_TEXT},   {SEG_PHASE, FORM_TEXT},   {SEG_VRAM, FORM_SHORT},
    {SEG_CONTEXT, FORM_TEXT}, {SEG_HITS, FORM_TEXT},    {SEG_VRAM, FORM_TEXT},
    {SEG_MODEL, FORM_SHORT},  {SEG_RAM, FORM_FULL},     {SEG_SPEED, FORM_FULL},
    {SEG_HITS, FORM_FULL},    {SEG_MODEL, FORM_FULL},   {SEG_STRATEGY, FORM_FULL},
    {SEG_VRAM, FORM_FULL},    {SEG_CONTEXT, FORM_FULL},
};
/* Where the model is elsewhere its place matters more than its name. */
static const struct step at_a_server[] = {
    {SEG_SPEED, FORM_TEXT}, {SEG_PHASE, FORM_SHORT},  {SEG_STRATEGY, FORM_FULL},
    {SEG_PHASE, FORM_TEXT}, {SEG_CONTEXT, FORM_TEXT}, {SEG_MODEL, FORM_SHORT},
    {SEG_SPEED, FORM_FULL}, {SEG_MODEL, FORM_FULL},   {SEG_CONTEXT, FORM_FULL},
};
static const struct step beside_panel[] = {
    {SEG_PHASE, FORM_TEXT},
    {SEG_SPEED, FORM_FULL},
    {SEG_MODEL, FORM_FULL},
    {SEG_STRATEGY, FORM_FULL},
};
static const struct step first_line[] = {
    {SEG_PHASE, FORM_SHORT}, {SEG_SPEED, FORM_TEXT}, {SEG_MODEL, FORM_SHORT},
    {SEG_PHASE, FORM_TEXT},  {SEG_SPEED, FORM_FULL}, {SEG_MODEL, FORM_FULL},
};
static const struct step second_line[] = {
    {SEG_RAM, FORM_TEXT},      {SEG_VRAM, FORM_SHORT},   {SEG_CONTEXT, FORM_TEXT},
    {SEG_HITS, FORM_TEXT},     {SEG_VRAM, FORM_TEXT},    {SEG_RAM, FORM_FULL},
    {SEG_VRAM, FORM_FULL},     {SEG_CONTEXT, FORM_FULL}, {SEG_HITS, FORM_FULL},
    {SEG_STRATEGY, FORM_FULL},
};

static const struct meter *meter_of(const struct status *s, enum segment seg)
{
    switch (seg) {
    case SEG_SPEED:
        return &s->meter[s->sample.have_engine && s->sample.engine.phase == LADE_PHASE_LOADING
                             ? METER_LOAD
                             : METER_SPEED];
    case SEG_CONTEXT:
        return &s->meter[METER_CONTEXT];
    case SEG_VRAM:
        return &s->meter[METER_VRAM];
    case SEG_HITS:
        return &s->meter[METER_HITS];
    default:
        return &s->meter[METER_RAM];
    }
}

/* The meters of a segment that is one or several: a short form of the VRAM is that of all GPUs. */
static int meters_of(const struct status *s, enum segment seg, enum form form,
                     const struct meter **first)
{
    int cards = seg == SEG_VRAM && form != FORM_SHORT ? status_cards(s) : 0;
    *first = cards ? s->card : meter_of(s, seg);
    return cards ? cards : 1;
}

static int meter_columns(const struct meter *m, enum form form)
{
    char label[UNITS_MAX];
    int w = cells_width(meter_label(m, label)) + 1 + meter_width(m);
    return form == FORM_FULL && m->now.total > 0 ? w + BAR + 1 : w;
}

static const char *name(const struct status *s)
{
    return *s->model ? s->model : "no model";
}

static int name_columns(const struct status *s)
{
    return cells_width(name(s));
}

/* Columns of a segment. Phases and speeds get the same room whatever they say, so that the line
 * does not move while they change. */
static int width_of(const struct status *s, enum segment seg, enum form form)
{
    char phase[UNITS_MAX];
    if (form == FORM_NONE)
        return 0;
    switch (seg) {
    case SEG_MODEL:
        return form == FORM_SHORT && name_columns(s) > NAME ? NAME : name_columns(s);
    case SEG_STRATEGY:
        return cells_width(s->strategy);
    case SEG_PHASE:
        return 2 + (form == FORM_SHORT ? cells_width(status_phase(s, phase)) : PHASE);
    case SEG_SPEED:
        return 10 + (form == FORM_FULL ? 1 + SPARK : 0);
    default: {
        const struct meter *m;
        int w = 0;
        for (int n = meters_of(s, seg, form, &m); n > 0; n--, m++)
            w += (w ? GAP : 0) + meter_columns(m, form);
        return w;
    }
    }
}

static void draw_meter(const struct meter *m, enum form form, struct cells *c, int y, int x, int w)
{
    char name[UNITS_MAX];
    int label = cells_put(c, y, x, w, THEME_STATUS_LABEL, meter_label(m, name));
    int text = meter_width(m);
    if (form == FORM_FULL && m->now.total > 0)
        meter_draw(m, METER_BAR, c, y, x + label + 1, BAR);
    meter_draw(m, METER_TEXT, c, y, x + w - text, text);
}

static void draw_segment(const struct status *s, enum segment seg, enum form form, struct cells *c,
                         int y, int x, int w)
{
    char text[UNITS_MAX];
    switch (seg) {
    case SEG_MODEL:
        cells_put(c, y, x, w, THEME_STATUS, name(s));
        break;
    case SEG_STRATEGY:
        cells_put(c, y, x, w, THEME_STATUS_LABEL, s->strategy);
        break;
    case SEG_PHASE:
        cells_put(c, y, x, 1, status_phase_role(s), c->utf8 ? "●" : "*");
        cells_put(c, y, x + 2, w - 2, THEME_STATUS, status_phase(s, text));
        break;
    case SEG_SPEED:
        meter_draw(meter_of(s, seg), METER_TEXT, c, y, x, 10);
        if (form == FORM_FULL)
            meter_draw(meter_of(s, seg), METER_SPARK, c, y, x + 11, SPARK);
        break;
    default: {
        const struct meter *m;
        for (int n = meters_of(s, seg, form, &m); n > 0; n--, m++) {
            draw_meter(m, form, c, y, x, meter_columns(m, form));
            x += meter_columns(m, form) + GAP;
        }
    }
    }
}

/* Columns of all chosen segments with a gap before each but the first. */
static int total(const struct status *s, const enum form *form)
{
    int w = 0;
    for (int i = 0; i < SEG_COUNT; i++)
        if (form[i] != FORM_NONE)
            w += (w ? GAP : 0) + width_of(s, i, form[i]);
    return w;
}

/* Names stand left, numbers right, and what is left over lies between, once the model's name has all
 * that it can use of it; without names it is spread between all. */
static void draw_line(const struct status *s, struct cells *c, int y, const enum form *form,
                      int slack)
{
    int x = 1, shown = 0, gaps = -1;
    bool names = form[SEG_MODEL] != FORM_NONE || form[SEG_STRATEGY] != FORM_NONE;
    for (int i = 0; i < SEG_COUNT; i++)
        gaps += form[i] != FORM_NONE;
    for (int i = 0; i < SEG_COUNT; i++) {
        if (form[i] == FORM_NONE)
            continue;
        x += shown ? GAP : 0;
        int extra = !names && shown             ? slack / (gaps - shown + 1)
                    : names && i > SEG_STRATEGY ? slack
                                                : 0;
        x += extra;
        slack -= extra;
        int w = width_of(s, i, form[i]);
        if (i == SEG_MODEL) {
            int more = name_columns(s) - w < slack ? name_columns(s) - w : slack;
            w += more;
            slack -= more;
        }
        draw_segment(s, i, form[i], c, y, x, w);
        x += w;
        shown++;
    }
}

static bool nothing_to_show(const struct status *s, enum segment seg)
{
    return (seg == SEG_STRATEGY && !*s->strategy) || (seg == SEG_HITS && !status_has_shares(s)) ||
           ((seg == SEG_RAM || seg == SEG_VRAM) && s->remote) ||
           (seg == SEG_CONTEXT && !(s->meter[METER_CONTEXT].now.total > 0));
}

static void fill_line(const struct status *s, struct cells *c, int y, const struct step *step,
                      int n)
{
    enum form form[SEG_COUNT] = {FORM_NONE};
    int room = c->cols - 2;
    for (int i = 0; i < n; i++) {
        enum form before = form[step[i].segment];
        if (nothing_to_show(s, step[i].segment))
            continue;
        form[step[i].segment] = step[i].form;
        if (total(s, form) > room)
            form[step[i].segment] = before;
    }
    draw_line(s, c, y, form, room - total(s, form));
}

void status_cells(const struct status *s, struct cells *c)
{
#define FILL(y, table) FILL_FROM(y, table, 0)
#define FILL_FROM(y, table, i)                                                                     \
    fill_line(s, c, y, (table) + (i), (int)(sizeof table / sizeof *table) - (i))
    const struct lade_stats *e = &s->sample.engine;
    bool answering =
        s->sample.have_engine && (e->phase == LADE_PHASE_PREFILL || e->phase == LADE_PHASE_DECODE);
    cells_clear(c, THEME_STATUS);
    if (c->rows >= 2) {
        FILL(0, first_line);
        FILL(1, second_line);
    } else if (s->panel) {
        FILL(0, beside_panel);
    } else if (s->remote) {
        FILL(0, at_a_server);
    } else {
        FILL_FROM(0, one_line, answering ? 0 : 1);
    }
#undef FILL_FROM
#undef FILL
}

void status_wants(int rows, int cols, int *lines, int *panel_cols)
{
    *panel_cols = cols >= 132 && rows >= 24 ? 34 : 0;
    *lines = !*panel_cols && rows >= (cols < 80 ? 16 : 24) ? 2 : 1;
}
