#include "tui/meters/meter.h"

#include <math.h>
#include <stdio.h>

#include "tui/meters/plot.h"

static double known(uint64_t v)
{
    return v == UINT64_MAX ? NAN : (double)v;
}

static double measured(double v)
{
    return v > 0 ? v : NAN;
}

/* Not fmax: that would make 0 of what is unknown. */
static double positive(double v)
{
    return v < 0 ? 0 : v;
}

/* Pages of mapped files are ours but can be dropped at any time, so the machine counts them as
 * available; taking them out of our share there leaves what other programs hold. */
static void ram_update(const struct meter_sample *s, struct meter_values *v)
{
    double ours = known(s->machine.rss), file = known(s->machine.rss_file);
    v->total = known(s->machine.ram_total);
    v->part[0] = ours;
    v->part[1] = positive(v->total - known(s->machine.ram_available) - (ours - file));
}

static void vram_update(const struct meter_sample *s, struct meter_values *v)
{
    if (!s->have_gpu)
        return;
    double used = known(s->gpu.used), ours = known(s->gpu.ours);
    v->total = known(s->gpu.total);
    v->part[0] = ours;
    v->part[1] = isnan(ours) ? used : positive(used - ours);
}

/* The engine's own numbers: a card is then called as it is everywhere else in lade. */
static void card_update(const struct meter_sample *s, struct meter_values *v)
{
    if (!s->have_engine || v->card >= s->engine.n_cards)
        return;
    const struct lade_card_memory *c = &s->engine.cards[v->card];
    v->total = c->total ? (double)c->total : NAN;
    v->part[0] = (double)c->used;
    v->part[1] = positive(v->total - (double)c->free - v->part[0]);
}

static void context_update(const struct meter_sample *s, struct meter_values *v)
{
    if (!s->have_engine || s->engine.context_size <= 0)
        return;
    v->part[0] = s->engine.context_used;
    v->total = s->engine.context_size;
}

static void speed_update(const struct meter_sample *s, struct meter_values *v)
{
    if (s->have_engine)
        v->part[0] = measured(s->engine.phase == LADE_PHASE_PREFILL ? s->engine.prefill_tps
                                                                    : s->engine.decode_tps);
}

static void load_update(const struct meter_sample *s, struct meter_values *v)
{
    if (s->have_engine)
        v->part[0] = measured(s->engine.load_gbps);
}

static void cpu_update(const struct meter_sample *s, struct meter_values *v)
{
    v->part[0] = s->machine.load;
    v->total = 1;
}

/* Experts that were in VRAM and in RAM; the rest had to be read from the drive. */
static void hits_update(const struct meter_sample *s, struct meter_values *v)
{
    const struct lade_traffic *t = &s->recent;
    double all = (double)t->vram_hits + (double)t->ram_hits + (double)t->disk_reads;
    if (!(all > 0))
        return;
    v->part[0] = (double)t->vram_hits / all;
    v->part[1] = (double)t->ram_hits / all;
    v->total = 1;
}

/* Used by anyone: what is left is what counts before a large load. */
static double used(const struct meter_values *v)
{
    double sum = 0;
    bool any = false;
    for (int i = 0; i < METER_PARTS; i++) {
        if (!isnan(v->part[i])) {
            sum += v->part[i];
            any = true;
        }
    }
    return any ? sum : NAN;
}

static void memory_format(const struct meter_values *v, char out[UNITS_MAX])
{
    units_memory_of(out, used(v), v->total);
}

static void memory_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    units_memory_of(out, v->total, v->total);
}

static void vram_format(const struct meter_values *v, char out[UNITS_MAX])
{
    if (isnan(v->total))
        snprintf(out, UNITS_MAX, "none");
    else
        memory_format(v, out);
}

static void vram_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    if (isnan(v->total))
        snprintf(out, UNITS_MAX, "none");
    else
        memory_widest(v, out);
}

static void context_format(const struct meter_values *v, char out[UNITS_MAX])
{
    char n[UNITS_MAX], of[UNITS_MAX];
    if (isnan(v->total)) {
        units_count(out, NAN);
        return;
    }
    snprintf(out, UNITS_MAX, "%.12s/%.12s", units_count(n, v->part[0]), units_count(of, v->total));
}

static void context_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    /* "99999" is the widest count below a million. */
    char of[UNITS_MAX];
    units_count(of, v->total);
    snprintf(out, UNITS_MAX, "%.12s/%.12s", v->total < 99999.5 ? of : "99999", of);
}

static void speed_format(const struct meter_values *v, char out[UNITS_MAX])
{
    char n[UNITS_MAX];
    snprintf(out, UNITS_MAX, "%.20s tok/s", units_speed(n, v->part[0]));
}

static void speed_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    (void)v;
    snprintf(out, UNITS_MAX, "1000 tok/s");
}

static void load_format(const struct meter_values *v, char out[UNITS_MAX])
{
    units_rate(out, v->part[0]);
}

static void load_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    (void)v;
    snprintf(out, UNITS_MAX, "10.0 GB/s");
}

static void cpu_format(const struct meter_values *v, char out[UNITS_MAX])
{
    units_percent(out, v->part[0]);
}

static void percent_widest(const struct meter_values *v, char out[UNITS_MAX])
{
    (void)v;
    snprintf(out, UNITS_MAX, "100%%");
}

static void hits_format(const struct meter_values *v, char out[UNITS_MAX])
{
    units_percent(out, v->part[0] + v->part[1]);
}

static const struct meter_desc table[METER_COUNT] = {
    [METER_RAM] = {"ram",
                   "RAM",
                   2,
                   {THEME_GAUGE_OURS, THEME_GAUGE_USED},
                   THEME_GAUGE_FREE,
                   ram_update,
                   memory_format,
                   memory_widest},
    [METER_VRAM] = {"vram",
                    "VRAM",
                    2,
                    {THEME_GAUGE_OURS, THEME_GAUGE_USED},
                    THEME_GAUGE_FREE,
                    vram_update,
                    vram_format,
                    vram_widest},
    [METER_CARD] = {"card",
                    "GPU",
                    2,
                    {THEME_GAUGE_OURS, THEME_GAUGE_USED},
                    THEME_GAUGE_FREE,
                    card_update,
                    vram_format,
                    vram_widest},
    [METER_CONTEXT] = {"context",
                       "ctx",
                       1,
                       {THEME_GAUGE_OURS},
                       THEME_GAUGE_FREE,
                       context_update,
                       context_format,
                       context_widest},
    [METER_SPEED] =
        {"speed", "", 1, {THEME_SPARK}, THEME_GAUGE_FREE, speed_update, speed_format, speed_widest},
    [METER_LOAD] =
        {"load", "", 1, {THEME_SPARK}, THEME_GAUGE_FREE, load_update, load_format, load_widest},
    [METER_HITS] = {"hits",
                    "hits",
                    2,
                    {THEME_BAR_DONE, THEME_GAUGE_OURS},
                    THEME_GAUGE_FREE,
                    hits_update,
                    hits_format,
                    percent_widest},
    [METER_CPU] = {"cpu",
                   "CPU",
                   1,
                   {THEME_GAUGE_OURS},
                   THEME_GAUGE_FREE,
                   cpu_update,
                   cpu_format,
                   percent_widest},
};

void meter_init(struct meter *m, enum meter_id id)
{
    *m = (struct meter){.desc = &table[id], .now = {{NAN, NAN}, NAN, 0}};
}

void meter_update(struct meter *m, const struct meter_sample *s, bool remember)
{
    m->now = (struct meter_values){{NAN, NAN}, NAN, m->card};
    m->gpu = s->have_engine ? s->engine.cards[m->card].gpu : 0;
    m->desc->update(s, &m->now);
    if (remember)
        ring_push(&m->history, (float)m->now.part[0]);
}

const char *meter_label(const struct meter *m, char out[UNITS_MAX])
{
    if (m->desc == &table[METER_CARD])
        snprintf(out, UNITS_MAX, "%s %d", m->desc->label, m->gpu);
    else
        snprintf(out, UNITS_MAX, "%s", m->desc->label);
    return out;
}

int meter_width(const struct meter *m)
{
    char now[UNITS_MAX], widest[UNITS_MAX];
    m->desc->format(&m->now, now);
    m->desc->widest(&m->now, widest);
    int a = cells_width(now), b = cells_width(widest);
    return a > b ? a : b;
}

static void draw_bar(const struct meter *m, struct cells *c, int y, int x, int width)
{
    double fraction[METER_PARTS];
    for (int i = 0; i < m->desc->parts; i++)
        fraction[i] = m->now.part[i] / m->now.total;
    cells_bar(c, y, x, width, fraction, m->desc->role, m->desc->parts, m->desc->rest);
}

static void draw_spark(const struct meter *m, struct cells *c, int y, int x, int width)
{
    float v[RING_SIZE];
    wchar_t line[RING_SIZE];
    if (width > RING_SIZE)
        width = RING_SIZE;
    int n = ring_tail(&m->history, v, width);
    plot_spark(line, width, v, n, plot_nice_top(plot_largest(v, n)), c->utf8);
    for (int i = 0; i < width; i++)
        cells_set(c, y, x + i, THEME_SPARK, line[i]);
}

void meter_draw(const struct meter *m, enum meter_mode mode, struct cells *c, int y, int x,
                int width)
{
    char text[UNITS_MAX];
    switch (mode) {
    case METER_TEXT:
        m->desc->format(&m->now, text);
        cells_put_right(c, y, x, width, THEME_STATUS, text);
        break;
    case METER_BAR:
        draw_bar(m, c, y, x, width);
        break;
    case METER_SPARK:
        draw_spark(m, c, y, x, width);
        break;
    }
}
