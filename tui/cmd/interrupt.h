/* interrupt.h - Ctrl-C and SIGTERM for commands that wait in ppoll. */
#ifndef LADE_TUI_CMD_INTERRUPT_H
#define LADE_TUI_CMD_INTERRUPT_H

#include <signal.h>

/* One of them came. */
extern volatile sig_atomic_t interrupted;

/* Catches both, and lets them in only while ppoll waits with *open, so that none is lost between the
 * check and the wait. Threads that begin after it never get them. */
void interrupt_catch(sigset_t *open);

/* One came and is acted upon: from now on another ends the program at once, wherever it waits. `open` is of
 * interrupt_catch. */
void interrupt_let_go(const sigset_t *open);

#endif
