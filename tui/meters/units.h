/* units.h - numbers as people read them.
 *
 * One rule for the whole screen: memory (RAM, VRAM) in GiB = 2^30 bytes, as tools that show memory
 * do; files and transfer rates in GB = 10^9 bytes, as drives and download pages do. All functions
 * write a NUL-terminated string of at most UNITS_MAX bytes and return `out`. What is not known (a
 * NAN, a negative number) is written as UNITS_UNKNOWN, never as 0. */
#ifndef LADE_TUI_METERS_UNITS_H
#define LADE_TUI_METERS_UNITS_H

#include <stdint.h>

enum { UNITS_MAX = 32 };

#define UNITS_UNKNOWN "–"

char *units_memory(char out[UNITS_MAX], double bytes);     /* "412 MiB", "40.2 GiB" */
char *units_file(char out[UNITS_MAX], double bytes);       /* "812 MB", "4.80 GB", "43.2 GB" */
char *units_rate(char out[UNITS_MAX], double gbps);        /* "0.85 GB/s"; below 0.1 "85 MB/s" */
char *units_duration(char out[UNITS_MAX], double seconds); /* "0:07", "1:23", "1:02:03", "3d 04h" */
char *units_seconds(char out[UNITS_MAX], double seconds);  /* "0.4 ms", "42 ms", "1.8 s", "95 s" */
char *units_speed(char out[UNITS_MAX], double tps); /* tokens/s: "8.31", "12.3", "1420", "12k" */
char *units_count(char out[UNITS_MAX], double n);   /* "512", "32768", "262k", "1.2M" */
char *units_percent(char out[UNITS_MAX], double fraction); /* "43%"; 100% only when it is all */

/* "s" after a number that wants a plural, else "". */
const char *units_s(double n);

/* used/total in the unit of the total: "12.1/62.8 GiB", "–/62.8 GiB". */
char *units_memory_of(char out[UNITS_MAX], double used, double total);

/* done of all in the unit of all: "0.83 of 43.2 GB". */
char *units_file_of(char out[UNITS_MAX], double done, double all);

#endif
