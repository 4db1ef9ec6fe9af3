/* stop.h - texts that end an answer, as they are typed. Pure. */
#ifndef LADE_TUI_STOP_H
#define LADE_TUI_STOP_H

#include "engine/engine.h"

/* Room for any list that stop_write makes. */
enum { STOP_LIST = LADE_STOPS * LADE_STOP_SIZE * 2 };

/* Adds n bytes of text to *t. `what` begins the line that says what is wrong with it. */
int stop_add(struct lade_stop_texts *t, const char *what, const char *text, size_t n, char *err);

/* Reads a list on one line into *t, which stays as it is on failure: | stands between two texts, \n is a
 * new line, \t a tab, and \ takes what | and \ mean away. */
int stop_read(struct lade_stop_texts *t, const char *list, char *err);

/* Such a list of *t, cut where it does not fit; returns out. */
char *stop_write(const struct lade_stop_texts *t, char *out, int size);

#endif
