/* report.h - what commands without a screen say when something went wrong. */
#ifndef LADE_TUI_REPORT_H
#define LADE_TUI_REPORT_H

#include <stdbool.h>

/* Prints `line` (WHAT: WHY; DO) on stderr as "lade: LINE", or with `json` as {"error": LINE}.
 * Control characters, which may come from names of files, become '?'. Returns EXIT_FAILED. */
int report_failed(bool json, const char *line);

/* The same; returns EXIT_USAGE. */
int report_usage(bool json, const char *line);

/* The same of what is no failure, but should be known: always as "lade: LINE". */
void report_note(const char *line);

#endif
