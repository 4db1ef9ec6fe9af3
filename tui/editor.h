/* editor.h - the message in the person's own editor ($VISUAL, $EDITOR, or vi).
 *
 * The editor runs on the lent terminal while the loop goes on: an answer that streams meanwhile is
 * received and saved. The text goes through a private file in the cache directory. UI thread
 * only. */
#ifndef LADE_TUI_EDITOR_H
#define LADE_TUI_EDITOR_H

#include <stdbool.h>

/* Starts the editor on `text`. The terminal is lent until editor_done. */
int editor_start(const char *text, char *err);
bool editor_runs(void);

/* False while the editor runs. When it has ended: takes the terminal back and sets *text to what
 * was written (malloc'ed, without newlines at its end), or NULL with a line in err. */
bool editor_done(char **text, char *err);

#endif
