/* input.h - the line being typed: readline's editing, our drawing.
 *
 * readline is the only reader of keys: it edits, searches its history, undoes, and obeys the user's
 * inputrc (Emacs or vi keys). Its callback interface is fed the bytes that keys.c did not claim for
 * the screen; its redisplay is replaced by a window of several rows. There is one line in the
 * process, like readline's globals. UI thread only. */
#ifndef LADE_TUI_INPUT_H
#define LADE_TUI_INPUT_H

#include <stdbool.h>
#include <stddef.h>

enum { INPUT_HISTORY = 1000 };

/* `submit` gets each finished line, which may hold several lines of text. `history` is the file of
 * earlier ones (copied; NULL = none are kept). */
void input_start(const char *history, void (*submit)(void *user, const char *text), void *user);
void input_stop(void);

/* Bytes as typed. May call submit. */
void input_feed(const char *bytes, size_t n);

/* Escape sequence that only readline may know: fed if it is bound to something. */
void input_feed_sequence(const char *bytes, size_t n);

/* Text at the cursor, undone in one step. */
void input_insert(const char *text, size_t n);

/* Replaces the line; the cursor stands at its end. */
void input_set(const char *text);

const char *input_text(void);
bool input_is_empty(void);
bool input_at_start(void);
bool input_at_end(void);
bool input_is_vi(void);

/* True while readline asks for something itself (a search): all keys are its own. */
bool input_is_busy(void);

/* Up and down between the rows of the text, and beyond them in the history. */
void input_up(int cols);
void input_down(int cols);
void input_home(void);
void input_end(void);

/* Adds a line to the history and its file, as submit does not by itself. */
void input_remember(const char *text);

/* True if the line changed its looks since the last call. */
bool input_changed(void);

/* Rows it takes in a window of so many columns. */
int input_rows(int cols);

/* Draws it over the whole of a curses window (WINDOW *) and leaves the cursor in its place; `hint`
 * (may be NULL) is shown dimmed while nothing is typed. */
void input_draw(void *window, const char *hint);

#endif
