/* theme.h - colours and attributes of the screen.
 *
 * A theme is a file of lines `role = FG [on BG] [attribute ...]`; roles.h lists the roles and
 * themes/dark.theme explains the format. Reading a file is pure (theme_file.h); this half binds the
 * result to the terminal: direct colour, 256 colours (redefined where the terminal allows it), 16,
 * 8, or none. With NO_COLOR set, or on a terminal without colours, every theme becomes
 * `monochrome`: attributes only.
 *
 * One theme is active in the process, like the one terminal it describes. UI thread only. */
#ifndef LADE_TUI_THEME_H
#define LADE_TUI_THEME_H

#include <curses.h>
#include <stdbool.h>
#include <stddef.h>

#include "tui/roles.h"
#include "tui/theme_entry.h"

#define THEME_DEFAULT "dark"

/* Reads a theme and makes it the active one. `name_or_path` is a name ("dark") or, if it holds a
 * '/', a file. Needs curses started (initscr or newterm); calls start_color itself. On failure the
 * active theme stays as it was and `err` says file, line, value and what is allowed. Afterwards the
 * caller sets the background of its windows again (wbkgd with THEME_TEXT) and redraws all. */
int theme_load(const char *name_or_path, char *err);

/* Reads and checks a theme without touching the terminal: for options given before curses runs. */
int theme_check(const char *name_or_path, char *err);

/* Attributes and colour pair of a role, for wattrset, wbkgd and the like. Before the first
 * theme_load, and for roles a broken caller makes up, plain text. */
attr_t theme_attr(enum theme_role role);

/* The colour of `fg`'s letters on a background of the colour that `bg` uses for its letters: the
 * cell where the filled part of a bar meets the empty one. Without colours: theme_attr(fg). */
attr_t theme_over(enum theme_role fg, enum theme_role bg);

/* The letters of `role` on the background of `ground`: a coloured word in the status line. */
attr_t theme_on(enum theme_role role, enum theme_role ground);

/* Name of the active theme ("dark"); "" before the first load. */
const char *theme_name(void);

/* False on a terminal without colours and under NO_COLOR: what a view wants to show by background
 * alone must then be shown by characters. */
bool theme_has_colours(void);

/* True if theme_over shows more than letters: enough colours, and a theme that gives bars and
 * gauges colours of their own. Otherwise the empty part of a bar is drawn with characters. */
bool theme_has_shades(void);

/* What must be written to the terminal to give it back its own palette when the program dies
 * without endwin; "" if nothing was changed. Safe to read in a signal handler. */
const char *theme_reset_sequence(void);

#endif
