/* pull_bars.h - a download as lines of text: a bar for each file under way, and their sum. */
#ifndef LADE_TUI_PULL_BARS_H
#define LADE_TUI_PULL_BARS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/hub/fetch.h"

enum { PULL_LINE = 512 };

/* "model-00003-of-00009.safetensors  ████▌░░░░  1.21 of 4.98 GB" in at most `width` columns
 * (40 or more): a long name loses its beginning, a narrow line its bar. Without utf8 only ASCII. */
void pull_file_line(char out[PULL_LINE], const struct lade_fetch_file *f, int width, bool utf8);

/* The same for all files, with the rate (bytes/s over the network; 0 = not known) and the time that
 * is left. */
void pull_sum_line(char out[PULL_LINE], const struct lade_fetch_progress *p, double rate, int width,
                   bool utf8);

/* A line for each file that is under way (16 at most) and the sum, joined by newlines. Returns how
 * many lines. */
int pull_lines(char *out, size_t size, const struct lade_fetch_progress *p, double rate, int width,
               bool utf8);

/* Bytes per second over the last seconds. Zero it; add the counter with the time in seconds. */
struct pull_rate {
    double at, rate;
    uint64_t bytes;
};
double pull_rate_add(struct pull_rate *r, uint64_t bytes, double now);

#endif
