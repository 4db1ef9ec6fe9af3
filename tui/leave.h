/* leave.h - the time between the screen and the end of the program. */
#ifndef LADE_TUI_LEAVE_H
#define LADE_TUI_LEAVE_H

#include "engine/engine.h"

/* Waits until an engine that ends (lade_engine_end; NULL is allowed) has ended. Where it writes for more
 * than a moment what the model has read, a line on the terminal says so, and Ctrl-C gives that up. */
void leave_wait(struct lade_engine *e);

#endif
