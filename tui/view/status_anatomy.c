/* The anatomy of a token: where its experts were, and what it cost to wait for them. */
#include "tui/view/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/view/cells.h"

/* Content is never wider than WIDE: longer bars are no easier to read. */
enum { LABEL = 7, SHARE = 5, COUNT = 12, SIZE = 9, WIDE = 104 };

static int width(const struct cells *c)
{
    return c->cols < WIDE ? c->cols : WIDE;
}

/* One tier of the mean token. */
struct part {
    const char *label;
    double visits, bytes;
    enum theme_role role;
};

static void parts_of(const struct lade_traffic *t, struct part out[3])
{
    double n = t->tokens ? (double)t->tokens : NAN;
    out[0] =
        (struct part){"VRAM", (double)t->vram_hits / n, (double)t->vram_bytes / n, THEME_BAR_DONE};
    out[1] =
        (struct part){"RAM", (double)t->ram_hits / n, (double)t->ram_bytes / n, THEME_GAUGE_OURS};
    out[2] = (struct part){"drive", (double)t->disk_reads / n, (double)t->disk_bytes / n,
                           THEME_BAR_ACTIVE};
}

/* To the nearest percent, so that tiers add up; all of it only when it is. */
static double nearest(double share)
{
    double percent = round(share * 100);
    return share < 1 && percent > 99 ? 0.99 : percent / 100;
}

/* "RAM  ████████▏  62%   298 experts   483 MB"; columns go from the right where there is no room. */
static void tier_row(struct cells *c, int y, const struct part *p, double all)
{
    char text[64], number[UNITS_MAX];
    int end = width(c) - 1;
    double share = all > 0 ? p->visits / all : NAN;
    cells_put(c, y, 1, LABEL, THEME_DIM, p->label);
    if (width(c) >= 60) {
        end -= SIZE;
        cells_put_right(c, y, end, SIZE, THEME_TEXT, units_file(number, p->bytes));
    }
    if (width(c) >= 50) {
        end -= COUNT;
        if (isnan(p->visits))
            snprintf(text, sizeof text, "%s", UNITS_UNKNOWN);
        else
            snprintf(text, sizeof text, "%.0f expert%s", p->visits, units_s(rint(p->visits)));
        cells_put_right(c, y, end, COUNT, THEME_TEXT, text);
    }
    end -= SHARE;
    cells_put_right(c, y, end, SHARE, THEME_TEXT, units_percent(number, nearest(share)));
    cells_bar(c, y, 1 + LABEL, end - LABEL - 2, &share, &p->role, 1, THEME_GAUGE_FREE);
}

/* "time  ██████████▓▓▓  compute 61 ms, wait 21 ms" */
static void time_row(struct cells *c, int y, const struct lade_traffic *t)
{
    static const enum theme_role roles[] = {THEME_BAR_DONE, THEME_BAR_ACTIVE};
    char text[96], compute[UNITS_MAX], wait[UNITS_MAX];
    double n = t->tokens ? (double)t->tokens : NAN, all = t->compute_s + t->wait_s;
    /* The second part fills what is left, to the last column. */
    double share[] = {t->compute_s / all, all > 0 ? 1 : NAN};
    snprintf(text, sizeof text, "compute %s, wait %s", units_seconds(compute, t->compute_s / n),
             units_seconds(wait, t->wait_s / n));
    /* As wide as it ever gets, so that the bar stands still. */
    int w = width(c) >= 60 ? SIZE + COUNT + SHARE : (int)sizeof "compute 999 ms, wait 999 ms";
    cells_put(c, y, 1, LABEL, THEME_DIM, "time");
    int bar = width(c) - 2 - LABEL - w - 1;
    if (bar >= 8)
        cells_bar(c, y, 1 + LABEL, bar, share, roles, 2, THEME_GAUGE_FREE);
    cells_put_right(c, y, bar >= 8 ? 1 + LABEL + bar : 1 + LABEL,
                    width(c) - 2 - LABEL - (bar >= 8 ? bar : 0), THEME_TEXT, text);
}

/* "experts in VRAM 512/512, RAM 9812/24064, 1.2 GiB of RAM given to others" */
static void residence(char out[160], const struct lade_stats *e)
{
    int n = 0;
    const struct {
        const char *name;
        const struct lade_residence *in;
    } tier[] = {{"VRAM", &e->in_vram}, {"RAM", &e->in_ram}};
    *out = '\0';
    for (int i = 0; i < 2; i++) {
        char there[UNITS_MAX], room[UNITS_MAX];
        if (!tier[i].in->room)
            continue;
        n += snprintf(out + n, 160 - (size_t)n, "%s%s %s/%s", n ? ", " : "experts in ",
                      tier[i].name, units_count(there, (double)tier[i].in->experts),
                      units_count(room, (double)tier[i].in->room));
    }
    const uint64_t given[] = {e->vram_given, e->ram_given};
    for (int i = 0; i < 2; i++) {
        char bytes[UNITS_MAX];
        if (given[i])
            n += snprintf(out + n, 160 - (size_t)n, ", %s of %s given to others",
                          units_memory(bytes, (double)given[i]), tier[i].name);
    }
}

/* ", reading ahead 9 (8 right)", of a token; nothing where nothing comes from the drive. */
static void ahead(char out[64], const struct lade_traffic *t)
{
    double n = (double)t->tokens;
    *out = '\0';
    if (t->ahead)
        snprintf(out, 64, ", reading ahead %.0f (%.0f right)", (double)t->ahead / n,
                 (double)t->ahead_right / n);
    else if (t->disk_reads)
        snprintf(out, 64, ", reading ahead %s", t->ahead_on ? "on" : "off");
}

int status_anatomy_rows(int rows)
{
    return rows >= STATUS_ANATOMY_FROM ? 5 : 0;
}

void status_anatomy_cells(const struct status *s, struct cells *c)
{
    const struct lade_traffic *t = &s->sample.recent;
    struct part part[3];
    char text[160 + 64], more[64], speed[UNITS_MAX];
    double all = 0;
    cells_clear(c, THEME_TEXT);
    parts_of(t, part);
    for (int i = 0; i < 3; i++)
        all += part[i].visits;
    int used = cells_put(c, 0, 1, width(c) - 2, THEME_TITLE, "A token");
    if (t->tokens) {
        snprintf(text, sizeof text, "in %s",
                 units_seconds(speed, (t->compute_s + t->wait_s) / (double)t->tokens));
        used += 1 + cells_put(c, 0, used + 2, width(c) - used - 3, THEME_DIM, text);
    } else {
        used += 1 + cells_put(c, 0, used + 2, width(c) - used - 3, THEME_DIM,
                              "is measured while an answer is written");
    }
    residence(text, &s->sample.engine);
    ahead(more, t);
    if (*text && used + cells_width(text) + cells_width(more) + 4 <= width(c))
        memcpy(text + strlen(text), more, strlen(more) + 1);
    if (used + cells_width(text) + 4 <= width(c))
        cells_put_right(c, 0, used + 2, width(c) - used - 3, THEME_DIM, text);
    for (int i = 0; i < 3; i++)
        tier_row(c, 1 + i, &part[i], all);
    time_row(c, 4, t);
}
