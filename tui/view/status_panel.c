/* The side panel: the same numbers as the line, one below the other, with a graph. */
#include "tui/view/status.h"

#include <math.h>
#include <stdio.h>

#include "tui/meters/plot.h"

/* Where the next row goes; rows below the canvas are clipped by the cells. */
struct panel {
    const struct status *s;
    struct cells *c;
    int y, x, w;
};

static void heading(struct panel *p, const char *text, const char *right)
{
    p->y += p->y > 0;
    cells_put(p->c, p->y, p->x, p->w, THEME_DIM, text);
    if (right)
        cells_put_right(p->c, p->y, p->x, p->w, THEME_TEXT, right);
    p->y++;
}

/* "label  value" */
static void pair(struct panel *p, enum theme_role mark, const char *label, const char *value)
{
    int x = p->x;
    if (mark != THEME_TEXT) {
        cells_put(p->c, p->y, x, 1, mark, p->c->utf8 ? "■" : "*");
        x += 2;
    }
    cells_put(p->c, p->y, x, p->w, THEME_DIM, label);
    cells_put_right(p->c, p->y, p->x, p->w, THEME_TEXT, value);
    p->y++;
}

static void model(struct panel *p)
{
    const struct status *s = p->s;
    cells_put(p->c, p->y++, p->x, p->w, THEME_TITLE, *s->model ? s->model : "no model");
    if (*s->detail)
        cells_put(p->c, p->y++, p->x, p->w, THEME_DIM, s->detail);
    if (*s->strategy)
        cells_put(p->c, p->y++, p->x, p->w, THEME_DIM, s->strategy);
}

static void graph(struct panel *p, const struct meter *m, int rows)
{
    float v[RING_SIZE];
    wchar_t dots[4 * 64];
    int w = p->w < 64 ? p->w : 64;
    rows = rows < 4 ? rows : 4;
    int n = ring_tail(&m->history, v, w * 2);
    plot_graph(dots, rows, w, v, n, plot_nice_top(plot_largest(v, n)), p->c->utf8);
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < w; x++)
            cells_set(p->c, p->y + y, p->x + x, THEME_SPARK, dots[y * w + x]);
    p->y += rows;
}

static void phase(struct panel *p)
{
    char text[UNITS_MAX], speed[UNITS_MAX];
    const struct status *s = p->s;
    bool loading = s->sample.have_engine && s->sample.engine.phase == LADE_PHASE_LOADING;
    const struct meter *m = &s->meter[loading ? METER_LOAD : METER_SPEED];
    p->y++;
    cells_put(p->c, p->y, p->x, 1, status_phase_role(s), p->c->utf8 ? "●" : "*");
    cells_put(p->c, p->y, p->x + 2, p->w - 2, THEME_TEXT, status_phase(s, text));
    m->desc->format(&m->now, speed);
    cells_put_right(p->c, p->y, p->x, p->w, THEME_TEXT, speed);
    p->y++;
    if (p->c->rows >= 26)
        graph(p, m, p->c->rows >= 40 ? 4 : 3);
}

static void memory(struct panel *p, const struct meter *m)
{
    char text[UNITS_MAX];
    char label[UNITS_MAX];
    m->desc->format(&m->now, text);
    heading(p, meter_label(m, label), text);
    if (isnan(m->now.total))
        return;
    meter_draw(m, METER_BAR, p->c, p->y++, p->x, p->w);
    double ours = m->now.part[0], others = m->now.part[1];
    pair(p, m->desc->role[0], "lade", units_memory(text, ours));
    pair(p, m->desc->role[1], "others", units_memory(text, others));
    /* What cannot be told apart from the others is still not free. */
    double used = (isnan(ours) ? 0 : ours) + others;
    pair(p, m->desc->rest, "free",
         units_memory(text, used > m->now.total ? 0 : m->now.total - used));
}

static void single(struct panel *p, const struct meter *m, const char *label)
{
    char text[UNITS_MAX];
    m->desc->format(&m->now, text);
    heading(p, label, text);
    meter_draw(m, METER_BAR, p->c, p->y++, p->x, p->w);
}

/* Where the experts of the last tokens were. */
static void anatomy(struct panel *p)
{
    const struct lade_traffic *t = &p->s->sample.recent;
    const struct meter *hits = &p->s->meter[METER_HITS];
    char text[UNITS_MAX], line[64];
    if (!t->tokens)
        return;
    double n = (double)t->tokens;
    const struct {
        enum theme_role role;
        const char *label;
        uint64_t visits;
    } tier[] = {{hits->desc->role[0], "VRAM", t->vram_hits},
                {hits->desc->role[1], "RAM", t->ram_hits},
                {hits->desc->rest, "drive", t->disk_reads}};
    hits->desc->format(&hits->now, text);
    snprintf(line, sizeof line, "%s at home", text);
    heading(p, "Experts of a token", line);
    meter_draw(hits, METER_BAR, p->c, p->y++, p->x, p->w);
    for (size_t i = 0; i < sizeof tier / sizeof *tier; i++) {
        if (!tier[i].visits)
            continue;
        snprintf(line, sizeof line, "%.0f", (double)tier[i].visits / n);
        pair(p, tier[i].role, tier[i].label, line);
    }
    if (t->ahead) {
        snprintf(line, sizeof line, "%.0f, %.0f right", (double)t->ahead / n,
                 (double)t->ahead_right / n);
        pair(p, THEME_TEXT, "read ahead", line);
    }
    heading(p, "Time of a token", units_seconds(text, (t->compute_s + t->wait_s) / n));
    pair(p, THEME_TEXT, "computing", units_seconds(text, t->compute_s / n));
    pair(p, THEME_TEXT, "waiting for experts", units_seconds(text, t->wait_s / n));
}

static void engine_memory(struct panel *p)
{
    const struct lade_stats *e = &p->s->sample.engine;
    char text[UNITS_MAX];
    if (!p->s->sample.have_engine || !e->weights)
        return;
    heading(p, "Model in memory", NULL);
    pair(p, THEME_TEXT, "weights", units_memory(text, (double)e->weights));
    if (e->kv)
        pair(p, THEME_TEXT, "context and state", units_memory(text, (double)e->kv));
}

void status_panel_cells(const struct status *s, struct cells *c)
{
    struct panel p = {s, c, c->rows >= 30, 2, c->cols - 3};
    cells_clear(c, THEME_TEXT);
    for (int y = 0; y < c->rows; y++)
        cells_set(c, y, 0, THEME_BORDER, L'│');
    model(&p);
    phase(&p);
    anatomy(&p);
    if (!s->remote || s->meter[METER_CONTEXT].now.total > 0)
        single(&p, &s->meter[METER_CONTEXT], "Context");
    if (s->remote)
        return;
    memory(&p, &s->meter[METER_RAM]);
    if (!status_cards(s))
        memory(&p, &s->meter[METER_VRAM]);
    for (int i = 0; i < status_cards(s); i++)
        memory(&p, &s->card[i]);
    single(&p, &s->meter[METER_CPU], "CPU");
    engine_memory(&p);
}
