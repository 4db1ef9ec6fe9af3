/* machine.h - memory and processors of the machine, as this process may use them. Linux. */
#ifndef LADE_TUI_METERS_MACHINE_H
#define LADE_TUI_METERS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* A number that could not be read. */
#define MACHINE_UNKNOWN UINT64_MAX

/* Bytes, under the limits of the control group where those are lower. */
struct machine {
    uint64_t ram_total;
    uint64_t ram_available; /* what can still be taken without swapping */
    uint64_t rss;           /* of this process, pages of mapped files included */
    uint64_t rss_file;      /* of these, the pages of mapped files: they count as available too */
    double load;            /* busy part of all processors since the last sample, 0..1; NAN first */
};

/* What the next sample needs of the last; zero-initialise. */
struct machine_probe {
    uint64_t busy, all;
};

/* Reads /proc and the control group: some ten microseconds. Any thread, one probe each. */
void machine_sample(struct machine_probe *probe, struct machine *out);

/* The pure part: takes the first line of /proc/stat, returns the load since the last call, NAN if
 * there is none. */
double machine_load(struct machine_probe *probe, const char *stat_line);

#endif
