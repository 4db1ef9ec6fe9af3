#include "tui/theme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>

#include "tui/colour.h"
#include "tui/theme_file.h"

enum { DIRECT = 1 << 24, PAIRS = 255 };

/* How many colours the terminal shows; decides which of a colour's three depths is used. */
enum depth { DEPTH_NONE, DEPTH_8, DEPTH_16, DEPTH_256, DEPTH_DIRECT };

/* The one active theme. Pairs are made on first use; pair 0 is curses' own. */
static struct {
    struct theme_file file;
    char name[THEME_NAME];
    enum depth depth;
    bool loaded;
    int fg[THEME_ROLE_COUNT], bg[THEME_ROLE_COUNT]; /* curses colours; -1 default */
    int pair_fg[PAIRS + 1], pair_bg[PAIRS + 1], pairs;
    char reset[64];
} theme;

static enum depth depth_of_terminal(void)
{
    const char *no = getenv("NO_COLOR");
    if ((no && *no) || !has_colors())
        return DEPTH_NONE;
    start_color();
    use_default_colors();
    return COLORS >= DIRECT ? DEPTH_DIRECT
           : COLORS >= 256  ? DEPTH_256
           : COLORS >= 16   ? DEPTH_16
           : COLORS >= 8    ? DEPTH_8
                            : DEPTH_NONE;
}

/* Where the palette can be changed, the nearest entry is redefined to be exact: a terminal that
 * ignores the request still shows the nearest. Two colours never share an entry. */
static int exact_entry(const struct theme_colour *c, bool *taken, uint32_t *is)
{
    for (int i = 16; i < 256; i++)
        if (taken[i] && is[i] == c->rgb)
            return i;
    int i = c->c256 >= 16 && !taken[c->c256] ? c->c256 : colour_nearest_256(c->rgb, taken);
    taken[i] = true;
    is[i] = c->rgb;
    /* curses wants thousandths and cuts them to 8 bits again: rounded up, they come back whole. */
    short part[3];
    for (int k = 0; k < 3; k++)
        part[k] = (short)(((c->rgb >> (16 - 8 * k) & 255) * 1000 + 254) / 255);
    if (c->rgb != colour_rgb(i) || *theme.reset)
        init_color((short)i, part[0], part[1], part[2]);
    return i;
}

static int curses_colour(const struct theme_colour *c, bool *taken, uint32_t *is)
{
    switch (theme.depth) {
    case DEPTH_NONE:
        return -1;
    case DEPTH_8:
        /* Bright is bold's business (see theme_attr); bright black would be black on black. */
        return c->c16 == 8 ? -1 : c->c16 > 7 ? c->c16 - 8 : c->c16;
    case DEPTH_16:
        return c->c16;
    case DEPTH_256:
        /* Without a number of its own (0..15 is the user's palette: leave it alone). */
        return c->is_default || c->c256 < 16 || !can_change_color() ? c->c256
                                                                    : exact_entry(c, taken, is);
    default:
        /* Direct colour keeps 0..7 for the named ones: nearly black is black. */
        if (!c->is_default && c->c256 >= 0 && c->c256 < 8)
            return c->c256;
        return c->is_default ? -1 : c->rgb < 8 ? 0 : (int)c->rgb;
    }
}

static void bind_colours(void)
{
    bool taken[256] = {0};
    uint32_t is[256];
    if (theme.depth == DEPTH_256 && can_change_color() && !*theme.reset) {
        /* orig_colors is NULL where the entry lacks it. */
        if (orig_colors && strlen(orig_colors) < sizeof theme.reset)
            snprintf(theme.reset, sizeof theme.reset, "%s", orig_colors);
    }
    for (int r = 0; r < THEME_ROLE_COUNT; r++) {
        theme.fg[r] = curses_colour(&theme.file.style[r].fg, taken, is);
        theme.bg[r] = curses_colour(&theme.file.style[r].bg, taken, is);
    }
    theme.pairs = 0;
}

static int pair(int fg, int bg)
{
    if (theme.depth == DEPTH_NONE || (fg < 0 && bg < 0))
        return 0;
    for (int i = 1; i <= theme.pairs; i++)
        if (theme.pair_fg[i] == fg && theme.pair_bg[i] == bg)
            return i;
    if (theme.pairs + 1 > PAIRS || theme.pairs + 1 >= COLOR_PAIRS)
        return 0;
    int i = ++theme.pairs;
    theme.pair_fg[i] = fg;
    theme.pair_bg[i] = bg;
    init_extended_pair(i, fg, bg);
    return i;
}

static attr_t attributes_of(enum theme_role role)
{
    static const struct {
        unsigned bit;
        attr_t attr;
    } map[] = {{THEME_BOLD, A_BOLD},
               {THEME_DIMMED, A_DIM},
               {THEME_ITALIC, A_ITALIC},
               {THEME_UNDERLINE, A_UNDERLINE},
               {THEME_REVERSE, A_REVERSE}};
    const struct theme_style *s = &theme.file.style[role];
    attr_t a = A_NORMAL;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (s->attributes & map[i].bit)
            a |= map[i].attr;
    if (theme.depth == DEPTH_8 && s->fg.c16 > 8)
        a |= A_BOLD;
    if (theme.depth == DEPTH_8 && s->fg.c16 == 8)
        a |= A_DIM;
    return a;
}

/* What is left of any theme without colours, when not even monochrome.theme can be found. */
static void plain(struct theme_file *f)
{
    static const struct {
        enum theme_role role;
        unsigned attributes;
    } table[] = {{THEME_DIM, THEME_DIMMED},         {THEME_USER, THEME_BOLD},
                 {THEME_ASSISTANT, THEME_BOLD},     {THEME_THINKING, THEME_DIMMED},
                 {THEME_HEADING, THEME_BOLD},       {THEME_STRONG, THEME_BOLD},
                 {THEME_EMPHASIS, THEME_UNDERLINE}, {THEME_SELECTION, THEME_REVERSE},
                 {THEME_MATCH, THEME_UNDERLINE},    {THEME_ERROR, THEME_BOLD},
                 {THEME_TITLE, THEME_BOLD},         {THEME_STATUS_LABEL, THEME_DIMMED}};
    *f = (struct theme_file){0};
    for (int r = 0; r < THEME_ROLE_COUNT; r++)
        f->style[r].fg = f->style[r].bg =
            (struct theme_colour){.is_default = true, .c256 = -1, .c16 = -1};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        f->style[table[i].role].attributes = table[i].attributes;
}

int theme_load(const char *name_or_path, char *err)
{
    struct theme_file file;
    char name[THEME_NAME];
    if (theme_read(&file, name_or_path, name, err) != 0)
        return -1;
    theme.depth = depth_of_terminal();
    if (theme.depth == DEPTH_NONE && theme_read(&file, "monochrome", name, NULL) != 0) {
        plain(&file);
        snprintf(name, sizeof name, "monochrome");
    }
    theme.file = file;
    snprintf(theme.name, sizeof theme.name, "%s", name);
    theme.loaded = true;
    bind_colours();
    return 0;
}

int theme_check(const char *name_or_path, char *err)
{
    struct theme_file file;
    char name[THEME_NAME];
    return theme_read(&file, name_or_path, name, err);
}

attr_t theme_attr(enum theme_role role)
{
    if (!theme.loaded || (unsigned)role >= THEME_ROLE_COUNT)
        return A_NORMAL;
    return attributes_of(role) | COLOR_PAIR(pair(theme.fg[role], theme.bg[role]));
}

attr_t theme_over(enum theme_role fg, enum theme_role bg)
{
    if (!theme_has_shades() || (unsigned)fg >= THEME_ROLE_COUNT || (unsigned)bg >= THEME_ROLE_COUNT)
        return theme_attr(fg);
    return attributes_of(fg) | COLOR_PAIR(pair(theme.fg[fg], theme.fg[bg]));
}

attr_t theme_on(enum theme_role role, enum theme_role ground)
{
    if (!theme.loaded || (unsigned)role >= THEME_ROLE_COUNT || (unsigned)ground >= THEME_ROLE_COUNT)
        return theme_attr(role);
    /* A ground shown by reversing (no colours) reverses what stands on it. */
    return attributes_of(role) | (attributes_of(ground) & A_REVERSE) |
           COLOR_PAIR(pair(theme.fg[role], theme.bg[ground]));
}

const char *theme_name(void)
{
    return theme.name;
}

bool theme_has_colours(void)
{
    return theme.loaded && theme.depth != DEPTH_NONE;
}

bool theme_has_shades(void)
{
    return theme.loaded && theme.depth >= DEPTH_16 && theme.fg[THEME_BAR_TODO] >= 0 &&
           theme.fg[THEME_GAUGE_FREE] >= 0;
}

const char *theme_reset_sequence(void)
{
    return theme.reset;
}
