#include "tui/view/strategies.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/meters/units.h"

/* ---- state ----------------------------------------------------------------------------------- */

void strategies_open(struct strategies *s, const struct lade_plan *plan, const char *running)
{
    *s = (struct strategies){.open = true, .plan = *plan};
    int n = 0;
    for (int i = 0; i < s->plan.n; i++) {
        struct lade_plan_row *r = &s->plan.rows[i];
        if (strcmp(r->strategy->name, running) == 0)
            r->status = LADE_PLAN_CHOSEN;
        else if (r->status == LADE_PLAN_CHOSEN)
            r->status = LADE_PLAN_POSSIBLE;
    }
    for (int status = LADE_PLAN_CHOSEN; status <= LADE_PLAN_IMPOSSIBLE; status++)
        for (int i = 0; i < s->plan.n; i++)
            if ((int)s->plan.rows[i].status == status)
                s->order[n++] = i;
}

void strategies_close(struct strategies *s)
{
    s->open = false;
}

const struct lade_plan_row *strategies_row(const struct strategies *s)
{
    return &s->plan.rows[s->order[s->chosen]];
}

static enum strategies_answer move(struct strategies *s, int to)
{
    int last = s->plan.n - 1;
    s->chosen = to < 0 ? 0 : to > last ? last : to;
    return STRATEGIES_MOVED;
}

enum strategies_answer strategies_key(struct strategies *s, const struct keys_event *ev)
{
    switch (ev->kind) {
    case KEYS_UP:
    case KEYS_LINE_UP:
    case KEYS_WHEEL_UP:
    case KEYS_BACKTAB:
        return move(s, s->chosen - 1);
    case KEYS_DOWN:
    case KEYS_LINE_DOWN:
    case KEYS_WHEEL_DOWN:
    case KEYS_TAB:
        return move(s, s->chosen + 1);
    case KEYS_HOME:
    case KEYS_TOP:
    case KEYS_PAGE_UP:
        return move(s, 0);
    case KEYS_END:
    case KEYS_BOTTOM:
    case KEYS_PAGE_DOWN:
        return move(s, s->plan.n - 1);
    case KEYS_ENTER:
        return STRATEGIES_TAKEN;
    case KEYS_ESC:
    case KEYS_CTRL_C:
    case KEYS_CTRL_D:
        return STRATEGIES_CLOSED;
    default:
        return STRATEGIES_NOTHING;
    }
}

/* ---- columns --------------------------------------------------------------------------------- */

static void vram(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_memory(out, r->vram_bytes ? (double)r->vram_bytes : NAN);
}

static void ram(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_memory(out, (double)r->ram_bytes);
}

static void drive(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_memory(out, r->disk_bytes ? (double)r->disk_bytes : NAN);
}

static void load(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_duration(out, r->load_s);
}

static void first(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_seconds(out, r->ttft_s);
}

static void prefill(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_speed(out, r->prefill_tps);
}

static void decode(const struct lade_plan_row *r, char out[UNITS_MAX])
{
    units_speed(out, r->decode_tps);
}

/* From left to right. Where there is no room the least important go. */
static const struct column {
    const char *title;
    int width, importance;
    void (*format)(const struct lade_plan_row *r, char out[UNITS_MAX]);
} columns[] = {
    {"VRAM", 8, 4, vram},     {"RAM", 8, 5, ram},     {"drive", 8, 3, drive},
    {"load", 6, 6, load},     {"first", 6, 1, first}, {"prefill", 7, 2, prefill},
    {"decode", 6, 7, decode},
};
enum { COLUMNS = sizeof columns / sizeof *columns, NAME = 17, GAP = 2, MARK = 3 };

/* The least importance that still fits: with all columns as important or more. */
static int least(int cols)
{
    for (int level = 0;; level++) {
        int w = MARK + NAME + 1;
        for (int i = 0; i < COLUMNS; i++)
            w += columns[i].importance > level ? columns[i].width + GAP : 0;
        if (w <= cols || level == COLUMNS)
            return level;
    }
}

/* ---- drawing --------------------------------------------------------------------------------- */

struct view {
    const struct strategies *s;
    struct cells *c;
    int level;  /* columns of more importance are shown */
    int detail; /* rows below the list */
};

static void titles(const struct view *v, int y)
{
    cells_put(v->c, y, MARK, NAME, THEME_DIM, "strategy");
    int x = MARK + NAME;
    for (int i = 0; i < COLUMNS; i++) {
        if (columns[i].importance <= v->level)
            continue;
        cells_put_right(v->c, y, x, columns[i].width + GAP, THEME_DIM, columns[i].title);
        x += columns[i].width + GAP;
    }
}

static const struct {
    const char *mark;
    enum theme_role role, name, number;
} look[] = {
    [LADE_PLAN_CHOSEN] = {"✓", THEME_OK, THEME_TITLE, THEME_TEXT},
    [LADE_PLAN_POSSIBLE] = {"·", THEME_DIM, THEME_TEXT, THEME_TEXT},
    [LADE_PLAN_IMPOSSIBLE] = {"×", THEME_DIM, THEME_DIM, THEME_DIM},
};

static void row(const struct view *v, int y, int i)
{
    const struct lade_plan_row *r = &v->s->plan.rows[v->s->order[i]];
    struct cells *c = v->c;
    enum theme_role number = look[r->status].number;
    if (i == v->s->chosen)
        cells_select(c, y, THEME_SELECTION);
    cells_put(c, y, 1, 1, look[r->status].role, look[r->status].mark);
    cells_put(c, y, MARK, NAME, look[r->status].name, r->strategy->name);
    int x = MARK + NAME;
    if (r->status == LADE_PLAN_IMPOSSIBLE) {
        cells_put(c, y, x + GAP, c->cols - x - GAP - 1, number, r->reason);
        return;
    }
    for (int k = 0; k < COLUMNS; k++) {
        char text[UNITS_MAX];
        if (columns[k].importance <= v->level)
            continue;
        if (r->strategy->remote)
            snprintf(text, sizeof text, "%s", UNITS_UNKNOWN);
        else
            columns[k].format(r, text);
        cells_put_right(c, y, x, columns[k].width + GAP, number, text);
        x += columns[k].width + GAP;
    }
}

/* Puts a text on up to `rows` rows, broken at blanks. Returns the rows used. */
static int paragraph(struct cells *c, int y, int rows, enum theme_role role, const char *text)
{
    int w = c->cols - 2, used = 0;
    while (*text && used < rows && w > 0) {
        char line[256];
        size_t n = strlen(text);
        n = n < sizeof line ? n : sizeof line - 1;
        snprintf(line, n + 1, "%s", text);
        while (cells_width(line) > w && used < rows - 1) {
            char *blank = strrchr(line, ' ');
            if (!blank)
                break;
            *blank = '\0';
        }
        cells_put(c, y + used++, 1, w, role, line);
        text += strlen(line);
        text += strspn(text, " ");
    }
    return used;
}

/* "hybrid-balanced: base in VRAM ..."; where it differs from what runs, by how much. */
static void detail(const struct view *v, int y)
{
    const struct lade_plan_row *r = strategies_row(v->s), *now = &v->s->plan.rows[v->s->order[0]];
    char text[512], a[UNITS_MAX], b[UNITS_MAX];
    bool other = r != now && now->status == LADE_PLAN_CHOSEN;
    snprintf(text, sizeof text, "%s: %s.", r->strategy->name, r->strategy->summary);
    y += paragraph(v->c, y, v->detail - 1, THEME_TEXT, text);
    if (r->status == LADE_PLAN_IMPOSSIBLE)
        snprintf(text, sizeof text, "Not here: it %s.", r->reason);
    else if (other)
        snprintf(text, sizeof text,
                 "%s tokens/s instead of %s. Enter changes to it, the "
                 "conversation stays.",
                 units_speed(a, r->decode_tps), units_speed(b, now->decode_tps));
    else if (r->strategy->remote)
        snprintf(text, sizeof text,
                 "Now running. What it takes and how fast it is, only that server "
                 "can tell.");
    else
        snprintf(text, sizeof text, "Now running. %c%s; context %d tokens.",
                 r->reason[0] - ('a' <= r->reason[0] && r->reason[0] <= 'z' ? 32 : 0),
                 r->reason + 1, r->place.context);
    paragraph(v->c, y, 2, r->status == LADE_PLAN_IMPOSSIBLE ? THEME_WARNING : THEME_DIM, text);
}

static void heading(const struct view *v)
{
    const struct lade_plan_machine *m = &v->s->plan.machine;
    char vram_text[UNITS_MAX], ram_text[UNITS_MAX], several[32] = "", text[200];
    double vram = (double)lade_plan_machine_vram(m);
    int used = cells_put(v->c, 0, 1, v->c->cols - 2, THEME_TITLE, "Strategies");
    if (m->n_gpus > 1)
        snprintf(several, sizeof several, " on %d GPUs", m->n_gpus);
    snprintf(text, sizeof text, "for %s%s VRAM%s, %s of RAM · %s speeds",
             m->n_gpus ? units_memory(vram_text, vram) : "no", m->n_gpus ? " of" : "", several,
             units_memory(ram_text, (double)m->ram), m->measured ? "measured" : "typical");
    if (!m->ram) /* nothing was planned for this machine: a server has the model */
        snprintf(text, sizeof text, "a server has the model");
    else if (cells_width(text) + used + 4 > v->c->cols)
        *strstr(text, " · ") = '\0';
    cells_put_right(v->c, 0, used + 3, v->c->cols - used - 4, THEME_DIM, text);
}

void strategies_cells(const struct strategies *s, struct cells *c)
{
    struct view v = {s, c, least(c->cols), c->rows >= 10 ? 4 : 0};
    cells_clear(c, THEME_TEXT);
    if (s->plan.n == 0)
        return;
    heading(&v);
    bool air = c->rows >= s->plan.n + v.detail + 4;
    int y = air ? 2 : 1, room = c->rows - y - 1 - v.detail;
    titles(&v, y++);
    int shown = s->plan.n < room ? s->plan.n : room > 0 ? room : 0;
    int top = s->chosen >= shown ? s->chosen - shown + 1 : 0;
    for (int i = 0; i < shown; i++)
        row(&v, y++, top + i);
    if (v.detail)
        detail(&v, y + 1);
}
