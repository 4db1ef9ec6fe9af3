/* term_guard.h - what protects the screen, for term.c: stderr, signals, crashes. */
#ifndef LADE_TUI_TERM_GUARD_H
#define LADE_TUI_TERM_GUARD_H

#include <stdbool.h>
#include <termios.h>

/* Points fd 2 at the end of `log` (NULL or unwritable: /dev/null), and back. */
void guard_stderr(const char *log);
void guard_stderr_back(void);

/* Installs all handlers. `saved` are the modes to restore in a crash, after writing `off` and what
 * leaves the alternate screen; both must stay valid. */
void guard_start(const struct termios *saved, const char *off);
void guard_stop(void);

/* Only the handlers of the job-control and window signals, for suspending. Off, those that a terminal sends by
 * keys do nothing: curses would end the program by its own. */
void guard_signals(bool on);

int guard_fd(void);
int guard_next(void);

#endif
