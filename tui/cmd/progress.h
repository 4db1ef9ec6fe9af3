/* progress.h - a line on the terminal's stderr that says how far a load or a prompt is. */
#ifndef LADE_TUI_CMD_PROGRESS_H
#define LADE_TUI_CMD_PROGRESS_H

#include <stdbool.h>

#include "engine/engine.h"

struct progress {
    bool shown; /* the line is there */
};

/* Shows a WAITING, SHARD or PREFILL event in place of what was shown; nothing where stderr is no terminal. */
void progress_show(struct progress *p, const struct lade_event *ev);
/* Before anything else is printed. */
void progress_clear(struct progress *p);

#endif
