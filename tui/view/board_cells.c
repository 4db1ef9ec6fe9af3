/* What the load board looks like: one table of rows from top to bottom, and three ways to show the
 * shards - a line each, several columns, or one block each - of which the roomiest that fits is
 * taken. */
#include "tui/view/board.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/meters/plot.h"
#include "tui/meters/units.h"

/* Content is never wider than WIDE: longer bars are no easier to read. */
enum { WIDE = 104, COLUMN_MIN = 16, COLUMN_GAP = 3 };

/* Widths of the numbers: "4.80 GB", "0.35 GB/s", "1:02:03". */
enum { SIZE_W = 7, RATE_W = 9, TIME_W = 8 };

enum shard_state { QUEUED, READING, DONE };

static enum shard_state state_of(const struct board *b, const struct board_shard *s)
{
    if (b->ready || (s->bytes && s->done >= s->bytes))
        return DONE;
    return s->done ? READING : QUEUED;
}

/* A rectangle of the canvas. */
struct area {
    struct cells *c;
    int y, x, rows, cols;
};

static double fraction(uint64_t done, uint64_t all)
{
    return all ? (double)done / (double)all : 0;
}

static void bar(struct area *a, int y, int x, int w, double f, enum theme_role role)
{
    cells_bar(a->c, y, x, w, &f, &role, 1, THEME_BAR_TODO);
}

/* ---- shards: a line each ---------------------------------------------------------------------- */

static const struct {
    enum theme_role mark, bar, number;
    const char *sign;
} look[] = {
    [QUEUED] = {THEME_DIM, THEME_BAR_TODO, THEME_DIM, "·"},
    [READING] = {THEME_ACCENT, THEME_BAR_ACTIVE, THEME_TEXT, "▸"},
    [DONE] = {THEME_OK, THEME_BAR_DONE, THEME_DIM, "✓"},
};

static int digits(int n)
{
    return n < 10 ? 1 : n < 100 ? 2 : 3;
}

/* "model-00003-of-00009.safetensors" without the suffix, which says nothing here. */
static void short_name(const char *name, char out[128])
{
    size_t n = strlen(name), cut = strlen(".safetensors");
    if (n > cut && strcmp(name + n - cut, ".safetensors") == 0)
        n -= cut;
    snprintf(out, 128, "%.*s", (int)n, name);
}

static int longest_name(const struct board *b)
{
    int w = 0;
    for (int i = 0; i < b->n; i++) {
        char name[128];
        short_name(b->shard[i].name, name);
        int k = cells_width(name);
        w = k > w ? k : w;
    }
    return w;
}

static void times(const struct board_shard *s, enum shard_state st, char rate[UNITS_MAX],
                  char time[UNITS_MAX])
{
    *rate = *time = '\0';
    if (st == QUEUED)
        return;
    if (st == DONE && isnan(s->gbps))
        return;
    units_rate(rate, s->gbps);
    if (st == DONE)
        units_seconds(time, s->seconds);
    else
        units_duration(time, s->gbps > 1e-6 ? (double)(s->bytes - s->done) / s->gbps * 1e-9 : NAN);
}

/* mark number [name] bar size [rate] [time] */
static void shard_line(const struct board *b, int i, struct area *a, int y, int x, int w,
                       int name_w)
{
    const struct board_shard *s = &b->shard[i];
    enum shard_state st = state_of(b, s);
    char text[UNITS_MAX], rate[UNITS_MAX], time[UNITS_MAX], name[128];
    int end = x + w, iw = digits(b->n);
    times(s, st, rate, time);
    cells_put(a->c, y, x, 1, look[st].mark, look[st].sign);
    snprintf(text, sizeof text, "%*d", iw, i + 1);
    cells_put(a->c, y, x + 2, iw, look[st].number, text);
    x += 3 + iw;
    if (name_w) {
        short_name(s->name, name);
        cells_put(a->c, y, x, name_w, look[st].number, name);
        x += name_w + 2;
    }
    if (w >= 36) {
        end -= TIME_W;
        cells_put_right(a->c, y, end, TIME_W, look[st].number, time);
    }
    if (w >= 52) {
        end -= RATE_W + 2;
        cells_put_right(a->c, y, end, RATE_W + 2, look[st].number, rate);
    }
    if (w >= 30) {
        end -= SIZE_W + 1;
        cells_put_right(a->c, y, end, SIZE_W + 1, look[st].number,
                        units_file(text, (double)s->bytes));
    } else {
        end -= 5;
        cells_put_right(a->c, y, end, 5, look[st].number,
                        st == QUEUED ? "" : units_percent(text, fraction(s->done, s->bytes)));
    }
    double f = st == DONE ? 1 : fraction(s->done, s->bytes);
    cells_line(a->c, y, x, end - x - (w >= 30), f, look[st].bar, THEME_BAR_TODO);
}

/* ---- shards: one block each ------------------------------------------------------------------- */

static wchar_t block(const struct cells *c, double f)
{
    static const wchar_t lower[] = L"▁▂▃▄▅▆▇█";
    int h = (int)lround(f * 8);
    h = h < 1 ? 1 : h > 7 ? 7 : h;
    return c->utf8 ? lower[h - 1] : L'+';
}

static void shard_block(const struct board *b, int i, struct area *a, int y, int x)
{
    const struct board_shard *s = &b->shard[i];
    enum shard_state st = state_of(b, s);
    bool empty = st == QUEUED;
    bar(a, y, x, 1, st == DONE, look[st].bar);
    if (st == READING) {
        struct cell *at = x < a->c->cols && y < a->c->rows
                              ? &a->c->at[(size_t)y * (size_t)a->c->cols + (size_t)x]
                              : NULL;
        if (at)
            *at = (struct cell){block(a->c, fraction(s->done, s->bytes)), (uint8_t)look[st].bar,
                                a->c->colour ? THEME_BAR_TODO : CELL_PLAIN};
    } else if (empty && !a->c->colour) {
        cells_set(a->c, y, x, THEME_BAR_TODO, a->c->utf8 ? L'░' : L'.');
    }
}

static void shard_blocks(const struct board *b, struct area *a)
{
    int step = b->n * 2 <= a->cols * (a->rows > 1 ? a->rows - 1 : 1) ? 2 : 1;
    int per = a->cols / step > 0 ? a->cols / step : 1, used = (b->n + per - 1) / per;
    for (int i = 0; i < b->n; i++)
        if (i / per < a->rows)
            shard_block(b, i, a, a->y + i / per, a->x + i % per * step);
    if (used >= a->rows)
        return;
    int count[3] = {0};
    for (int i = 0; i < b->n; i++)
        count[state_of(b, &b->shard[i])]++;
    cells_printf(a->c, a->y + used, a->x, a->cols, THEME_DIM, "%d done · %d reading · %d queued",
                 count[DONE], count[READING], count[QUEUED]);
    int y = used + 2;
    for (int i = 0; i < b->n && y < a->rows; i++)
        if (state_of(b, &b->shard[i]) == READING)
            shard_line(b, i, a, a->y + y++, a->x, a->cols, 0);
}

/* ---- shards ----------------------------------------------------------------------------------- */

static void shards(const struct board *b, struct area *a)
{
    if (b->n == 0 || a->rows <= 0)
        return;
    int columns = (b->n + a->rows - 1) / a->rows;
    int w = (a->cols + COLUMN_GAP) / columns - COLUMN_GAP;
    if (columns > 1 && w < COLUMN_MIN) {
        shard_blocks(b, a);
        return;
    }
    /* Even columns: 41 shards in 3 columns are 14, 14 and 13. */
    int rows = (b->n + columns - 1) / columns, name_w = columns == 1 ? longest_name(b) : 0;
    if (w < 49 + name_w)
        name_w = w >= 64 ? w - 49 : 0;
    for (int i = 0; i < b->n; i++)
        shard_line(b, i, a, a->y + i % rows, a->x + i / rows * (w + COLUMN_GAP), w, name_w);
}

/* ---- the rows above and below ----------------------------------------------------------------- */

static void title(const struct board *b, struct area *a, int y)
{
    const char *name = *b->name ? b->name : "Reading the model's headers";
    int used = cells_put(a->c, y, a->x, a->cols, THEME_TITLE, name);
    int left = a->cols - used - 2;
    if (left >= cells_width(b->detail))
        cells_put_right(a->c, y, a->x + used + 2, left, THEME_DIM, b->detail);
}

static void whole(const struct board *b, struct area *a, int y)
{
    char text[UNITS_MAX];
    double f = b->ready ? 1 : fraction(b->done, b->bytes);
    bar(a, y, a->x, a->cols - 6, f, b->ready ? THEME_BAR_DONE : THEME_BAR_ACTIVE);
    cells_put_right(a->c, y, a->x + a->cols - 5, 5, THEME_TITLE,
                    b->bytes || b->ready ? units_percent(text, f) : UNITS_UNKNOWN);
}

static void spark(const struct board *b, struct area *a, int y, int x, int w)
{
    float v[RING_SIZE];
    wchar_t line[RING_SIZE];
    int n = ring_tail(&b->speed, v, w);
    plot_spark(line, w, v, n, plot_nice_top(plot_largest(v, n)), a->c->utf8);
    for (int i = 0; i < w; i++)
        cells_set(a->c, y, x + i, THEME_SPARK, line[i]);
}

/* "26.8 of 43.2 GB   1.42 GB/s ▂▃▅▆▆▇   0:19 elapsed   ready in 0:12" */
static void numbers(const struct board *b, struct area *a, int y)
{
    char text[UNITS_MAX], end[64];
    bool wide = a->cols >= 64;
    if (!b->bytes)
        return;
    if (b->ready)
        snprintf(end, sizeof end, "ready after %s", units_seconds(text, b->elapsed));
    else
        snprintf(end, sizeof end, wide ? "ready in %s" : "%s left", units_duration(text, b->eta));
    cells_put_right(a->c, y, a->x, a->cols, b->ready ? THEME_OK : THEME_TEXT, end);
    /* Where it can be afforded the last two stand in slots as wide as they ever get. */
    int stop = a->x + a->cols - (wide ? 17 : cells_width(end) + 1);
    if (wide && !b->ready) {
        stop -= 17;
        snprintf(end, sizeof end, "%s elapsed", units_duration(text, b->elapsed));
        cells_put_right(a->c, y, stop, 16, THEME_DIM, end);
    }
    int x = a->x + 2 +
            cells_put(a->c, y, a->x, stop - a->x, THEME_TEXT,
                      units_file_of(text, (double)b->done, (double)b->bytes));
    if (stop - x < RATE_W)
        return;
    cells_put_right(a->c, y, x, RATE_W, THEME_TEXT, units_rate(text, b->gbps));
    x += RATE_W + 1;
    int w = stop - x - 2;
    if (w >= 4)
        spark(b, a, y, x, w < 40 ? w : 40);
}

static void tiers(const struct board *b, struct area *a, int y)
{
    for (int i = 0; i < b->n_tiers; i++, y++) {
        char text[UNITS_MAX];
        const struct board_tier *t = &b->tier[i];
        int w = cells_width(units_memory_of(text, (double)t->target, (double)t->target));
        cells_put(a->c, y, a->x, 6, THEME_DIM, t->name);
        cells_put_right(a->c, y, a->x + a->cols - w, w, THEME_TEXT,
                        units_memory_of(text, (double)t->held, (double)t->target));
        double f = fraction(t->held, t->target);
        enum theme_role ours = THEME_GAUGE_OURS;
        cells_bar(a->c, y, a->x + 6, a->cols - w - 8, &f, &ours, 1, THEME_GAUGE_FREE);
    }
}

/* ---- all -------------------------------------------------------------------------------------- */

/* What a board of `rows` rows shows besides the shards. Room goes first to the whole, then to the
 * shards, then to the title, at last to air. */
struct plan {
    bool title, numbers, tiers, air, margin;
};

static struct plan plan(const struct board *b, int rows, int shard_rows)
{
    struct plan p = {.numbers = rows >= 2, .title = rows >= 4};
    int need = 3 + shard_rows;
    p.tiers = b->n_tiers > 0 && rows >= need + b->n_tiers;
    need += p.tiers ? b->n_tiers : 0;
    int air = p.tiers ? 3 : 2; /* below the title, the numbers, and above the tiers */
    p.air = rows >= need + air;
    p.margin = rows >= need + air + 2;
    return p;
}

static int content_cols(int cols)
{
    int w = cols >= 44 ? cols - 4 : cols - 2;
    return w > WIDE ? WIDE : w > 0 ? w : 0;
}

int board_rows(const struct board *b)
{
    return 7 + b->n + (b->n_tiers ? b->n_tiers + 1 : 0);
}

/* "▸ ━━━━━━━━╸──────  45%  19.5 of 43.1 GB  1.29 GB/s  ready in 0:18": the board beside a
 * conversation. What matters least goes first where there is no room. */
static void one_line(const struct board *b, struct cells *c)
{
    char text[UNITS_MAX], size[UNITS_MAX], rate[UNITS_MAX], end[64];
    double f = b->ready ? 1 : fraction(b->done, b->bytes);
    enum shard_state st = b->ready ? DONE : READING;
    int cols = c->cols < WIDE ? c->cols : WIDE, x = 3, stop = cols - 1;
    if (b->ready)
        snprintf(end, sizeof end, "all home after %s", units_seconds(text, b->elapsed));
    else
        snprintf(end, sizeof end, "all home in %s", units_duration(text, b->eta));
    const struct {
        const char *text;
        int width, least; /* least: columns of the screen from which it is shown */
        enum theme_role role;
    } parts[] = {
        {end, b->ready ? cells_width(end) : 19, 56, b->ready ? THEME_OK : THEME_TEXT},
        {units_rate(rate, b->gbps), RATE_W, 70, THEME_DIM},
        {units_file_of(size, (double)b->done, (double)b->bytes), 15, 44, THEME_DIM},
    };
    cells_put(c, 0, 1, 1, look[st].mark, look[st].sign);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (cols < parts[i].least)
            continue;
        cells_put_right(c, 0, stop - parts[i].width, parts[i].width, parts[i].role, parts[i].text);
        stop -= parts[i].width + 2;
    }
    cells_put_right(c, 0, stop - 4, 4, THEME_TITLE,
                    b->bytes || b->ready ? units_percent(text, f) : UNITS_UNKNOWN);
    cells_line(c, 0, x, stop - 6 - x, f, look[st].bar, THEME_BAR_TODO);
}

void board_cells(const struct board *b, struct cells *c)
{
    cells_clear(c, THEME_TEXT);
    if (*b->waits) {
        cells_put(c, c->rows > 2, 1, 1, look[READING].mark, look[READING].sign);
        cells_put(c, c->rows > 2, 3, c->cols - 4, THEME_TITLE, b->waits);
        return;
    }
    if (c->rows == 1) {
        one_line(b, c);
        return;
    }
    int w = content_cols(c->cols), y = 0;
    struct area a = {c, 0, (c->cols - w) / 2, 0, w};
    /* Shards that cannot have a line each leave the room to the rest that much sooner. */
    int lines = b->n < c->rows - 3 ? b->n : c->rows / 2;
    struct plan p = plan(b, c->rows, lines);
    y += p.margin;
    if (p.title) {
        title(b, &a, y++);
        y += p.air;
    }
    whole(b, &a, y++);
    if (p.numbers)
        numbers(b, &a, y++);
    y += p.air;
    a.y = y;
    a.rows = c->rows - y - (p.tiers ? b->n_tiers + p.air : 0) - p.margin;
    if (a.rows > b->n)
        a.rows = b->n;
    shards(b, &a);
    if (p.tiers)
        tiers(b, &a, a.y + a.rows + p.air);
}
