/* input_history.h - the file of typed lines, for input.c.
 *
 * One entry a line; a line break inside an entry is written as \n and a backslash as \\. Every
 * entry is appended at once, so that several running chats share the file. */
#ifndef LADE_TUI_INPUT_HISTORY_H
#define LADE_TUI_INPUT_HISTORY_H

/* Reads the file (copied name; NULL = none) into readline's history. A file that cannot be read
 * is an empty history. */
void input_history_load(const char *path);

/* Adds an entry to both, unless it is empty, begins with a blank, or repeats the last one. */
void input_history_add(const char *text);

#endif
