/* term.h - the one owner of the terminal: curses, its modes, stderr, and the signals about them.
 *
 * Between term_start and term_stop the terminal is in raw mode on the alternate screen, with
 * bracketed paste and (unless turned off) wheel reports; stderr goes to a log file, because
 * libraries print there; and a crash puts everything back before the process dies. Nobody else
 * calls initscr, endwin or tcsetattr. UI thread only, except that the crash handlers may run in
 * any thread. */
#ifndef LADE_TUI_TERM_H
#define LADE_TUI_TERM_H

#include <stdbool.h>
#include <stddef.h>

/* Takes the terminal. `log` is the file stderr is appended to (copied; NULL = /dev/null); its
 * directory must exist. Fails, changing nothing, if stdin or stdout is no terminal or TERM is
 * unknown. */
int term_start(const char *log, char *err);

/* Gives it back. Harmless when not started. */
void term_stop(void);

/* Gives the terminal back, stops the process as Ctrl-Z does, and takes it again. */
void term_suspend(void);

/* Lends the terminal to a program that this one starts, and takes it again when that has ended. In
 * between Ctrl-C is that program's, and no signal is told. */
void term_lend(void);
void term_take_back(void);

/* A descriptor that is readable when a signal waits for term_signal: SIGWINCH, SIGTSTP, SIGCONT,
 * SIGTERM, SIGHUP, SIGINT, SIGQUIT. */
int term_signal_fd(void);

/* Takes the next signal; 0 if there is none. Several SIGWINCH in a row are one. */
int term_signal(void);

/* Makes curses take over the terminal's size now. */
void term_resize(void);

/* Around the writing of a frame: terminals that know synchronized updates show it at once, the
 * others ignore the request. */
void term_frame(bool begin);

/* Wheel reports on or off. While on, selecting text with the mouse needs the Shift key. May
 * be called before term_start. */
void term_mouse(bool on);
bool term_has_mouse(void);

/* Asks the terminal to put text on the clipboard (OSC 52). Terminals may ignore it. */
void term_clipboard(const char *text, size_t n);

/* Writes to `fd` the end of what libraries printed to stderr since term_start, at most `lines`
 * lines of it. For use after term_stop, when something went wrong. */
void term_replay(int fd, int lines);

#endif
