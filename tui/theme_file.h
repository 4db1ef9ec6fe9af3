/* theme_file.h - theme files: finding, reading and checking them. Pure of curses.
 *
 *     # a comment is a whole line
 *     user = #7aa2f7/111/bright-blue on default bold
 *
 * FG and BG are `default` (the terminal's own), #rrggbb, a palette number 0..255 or one of the 16
 * names. After a '/' follow what to use with 256 colours (a number or `default`) and with 16 (a
 * name or `default`); without them the nearest is taken. Without `on BG` a role has the background
 * of `text`. Attributes: bold dim italic underline reverse. Every role has exactly one line. */
#ifndef LADE_TUI_THEME_FILE_H
#define LADE_TUI_THEME_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"
#include "tui/roles.h"
#include "tui/theme_entry.h"

enum {
    THEME_BOLD = 1,
    THEME_DIMMED = 2,
    THEME_ITALIC = 4,
    THEME_UNDERLINE = 8,
    THEME_REVERSE = 16
};

/* One colour at three depths; -1 is the terminal's default at that depth. */
struct theme_colour {
    bool is_default; /* the terminal's own, where every colour can be shown */
    uint32_t rgb;
    int c256, c16;
};

struct theme_style {
    struct theme_colour fg, bg;
    unsigned attributes;
};

struct theme_file {
    struct theme_style style[THEME_ROLE_COUNT];
};

/* Parses `text` of `size` bytes; `path` is only for messages. */
int theme_parse(struct theme_file *out, const char *path, const char *text, size_t size, char *err);

/* Reads a theme by name or, if it holds a '/', by path. `name` (64 bytes) gets its name. */
int theme_read(struct theme_file *out, const char *name_or_path, char *name, char *err);

#endif
