/* app.h - the chat: one loop that waits for keys, the engine and signals. */
#ifndef LADE_TUI_APP_H
#define LADE_TUI_APP_H

#include "tui/options.h"

/* Runs the chat until the person leaves it. Returns an exit code. */
int chat_main(const struct options *opt);

#endif
