/* prefs.h - the few choices kept between runs, a JSON object in the configuration directory. */
#ifndef LADE_TUI_PREFS_H
#define LADE_TUI_PREFS_H

#include <stddef.h>

/* Value of a key; "" if it was never set or the file cannot be read. */
char *prefs_get(const char *key, char *out, size_t n);

/* 0 if the file can be read or is not there; else -1, and what was chosen before is not known. */
int prefs_check(char *err);

/* Keeps a value. The file is replaced as a whole, so that it is never half written; one that is not
 * ours to read (somebody edited it) is left as it is, and named. */
int prefs_set(const char *key, const char *value, char *err);

#endif
