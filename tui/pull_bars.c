#include "tui/pull_bars.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tui/meters/plot.h"
#include "tui/meters/units.h"
#include "tui/output.h"
#include "tui/view/cells.h"

enum {
    LEAST_BAR = 6,
    MOST_BAR = 30,
    LEAST_NAME = 26,
    MOST_NAME = 44,
    NARROW = 64,
    MOST_LINES = 16
};

/* The end of a name in at most `columns`: shards differ there. */
static void cut_name(char out[PULL_LINE], const char *name, int columns)
{
    snprintf(out, PULL_LINE, "%s", name);
    output_clean(out);
    char *from = out;
    if (cells_width(out) <= columns)
        return;
    while (*from && cells_width(from) > columns - 2)
        do
            from++;
        while (((unsigned char)*from & 0xC0) == 0x80);
    memmove(out + 2, from, strlen(from) + 1);
    out[0] = out[1] = '.';
}

/* Appends a character of the basic plane. */
static char *put(char *to, wchar_t ch)
{
    if (ch < 0x80) {
        *to++ = (char)ch;
        return to;
    }
    *to++ = (char)(0xE0 | (ch >> 12));
    *to++ = (char)(0x80 | (ch >> 6 & 0x3F));
    *to++ = (char)(0x80 | (ch & 0x3F));
    return to;
}

static void put_bar(char *to, double fraction, int width, bool utf8)
{
    struct plot_fill fill = plot_bar(fraction, width, utf8);
    for (int i = 0; i < width; i++)
        to = put(to, i < fill.full                 ? (utf8 ? L'\u2588' : L'#')
                     : i == fill.full && fill.part ? fill.part
                                                   : (utf8 ? L'\u2591' : L'-'));
    *to = '\0';
}

static void put_line(char out[PULL_LINE], const char *name, double fraction, const char *right,
                     int width, bool utf8)
{
    char shown[PULL_LINE], bar[3 * MOST_BAR + 1] = "";
    int room = width - cells_width(right) - 2, columns = room - LEAST_BAR - 2;
    columns = columns < LEAST_NAME ? room : columns; /* the name before the bar */
    columns = columns > MOST_NAME ? MOST_NAME : columns < 2 ? 2 : columns;
    cut_name(shown, name, columns);
    int pad = columns - cells_width(shown);
    int rest = room - columns - 2;
    if (rest >= LEAST_BAR)
        put_bar(bar, fraction, rest > MOST_BAR ? MOST_BAR : rest, utf8);
    snprintf(out, PULL_LINE, "%.200s%*s  %s%s%s", shown, pad, "", bar, *bar ? "  " : "", right);
}

static double fraction_of(uint64_t done, uint64_t bytes)
{
    return bytes ? (double)done / (double)bytes : 1;
}

void pull_file_line(char out[PULL_LINE], const struct lade_fetch_file *f, int width, bool utf8)
{
    char size[UNITS_MAX], right[96];
    units_file_of(size, (double)f->done, (double)f->bytes);
    snprintf(right, sizeof right, "%s%s", size,
             f->state == LADE_FETCH_CHECKING  ? ", checking"
             : f->state == LADE_FETCH_WAITING ? ", waiting"
                                              : "");
    put_line(out, f->name, fraction_of(f->done, f->bytes), right, width, utf8);
}

void pull_sum_line(char out[PULL_LINE], const struct lade_fetch_progress *p, double rate, int width,
                   bool utf8)
{
    char size[UNITS_MAX], speed[UNITS_MAX], left[UNITS_MAX], right[128], name[64];
    int done = 0;
    for (int i = 0; i < p->n_files; i++)
        done += p->files[i].state == LADE_FETCH_DONE;
    snprintf(name, sizeof name, "%d of %d files", done, p->n_files);
    units_file_of(size, (double)p->done, (double)p->bytes);
    if (rate > 0 && width >= NARROW)
        snprintf(right, sizeof right, "%s  %s  %s left", size, units_rate(speed, rate / 1e9),
                 units_duration(left, (double)(p->bytes - p->done) / rate));
    else
        snprintf(right, sizeof right, "%s", size);
    put_line(out, name, fraction_of(p->done, p->bytes), right, width, utf8);
}

int pull_lines(char *out, size_t size, const struct lade_fetch_progress *p, double rate, int width,
               bool utf8)
{
    char line[PULL_LINE];
    size_t used = 0;
    int n = 0;
    for (int i = 0; i < p->n_files && n < MOST_LINES; i++) {
        const struct lade_fetch_file *f = &p->files[i];
        bool paused = f->state == LADE_FETCH_WAITING && f->done;
        if (f->state != LADE_FETCH_RUNNING && f->state != LADE_FETCH_CHECKING && !paused)
            continue;
        pull_file_line(line, f, width, utf8);
        if (used + strlen(line) + 1 + PULL_LINE >= size)
            break;
        used += (size_t)snprintf(out + used, size - used, "%s\n", line);
        n++;
    }
    pull_sum_line(line, p, rate, width, utf8);
    snprintf(out + used, size - used, "%s", line);
    return n + 1;
}

double pull_rate_add(struct pull_rate *r, uint64_t bytes, double now)
{
    const double memory = 4; /* seconds */
    double passed = now - r->at;
    if (r->at == 0 || bytes < r->bytes) {
        *r = (struct pull_rate){.at = now, .bytes = bytes};
    } else if (passed >= 0.2) {
        double current = (double)(bytes - r->bytes) / passed;
        double weight = r->rate > 0 ? 1 - exp(-passed / memory) : 1;
        *r = (struct pull_rate){
            .at = now, .bytes = bytes, .rate = r->rate + weight * (current - r->rate)};
    }
    return r->rate;
}
