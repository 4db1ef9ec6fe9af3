#include "tui/theme_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/colour.h"

static const char *const keys[THEME_ROLE_COUNT] = {
#define X(id, key, text) key,
    THEME_ROLES(X)
#undef X
};

static const struct {
    const char *name;
    unsigned bit;
} attributes[] = {{"bold", THEME_BOLD},
                  {"dim", THEME_DIMMED},
                  {"italic", THEME_ITALIC},
                  {"underline", THEME_UNDERLINE},
                  {"reverse", THEME_REVERSE}};

#define COLOUR_HELP                                                                                \
    "use default, #rrggbb, 0..255 or black, red, green, yellow, blue, magenta, cyan, white, "      \
    "bright-black .. bright-white"

/* Where in which file: every message starts with it. */
struct place {
    const char *path;
    int line;
    char *err;
};

static bool number_255(const char *s, int *out)
{
    char *end;
    if (!isdigit((unsigned char)*s))
        return false;
    long v = strtol(s, &end, 10);
    if (*end || v > 255)
        return false;
    *out = (int)v;
    return true;
}

static bool hex_rgb(const char *s, uint32_t *out)
{
    if (*s != '#' || strlen(s) != 7 || strspn(s + 1, "0123456789abcdefABCDEF") != 6)
        return false;
    *out = (uint32_t)strtoul(s + 1, NULL, 16);
    return true;
}

/* The first of up to three parts. */
static bool main_colour(const char *s, struct theme_colour *c)
{
    int index;
    *c = (struct theme_colour){0};
    if (strcmp(s, "default") == 0) {
        *c = (struct theme_colour){.is_default = true, .c256 = -1, .c16 = -1};
        return true;
    }
    if (hex_rgb(s, &c->rgb)) {
        c->c256 = colour_nearest_256(c->rgb, NULL);
        c->c16 = colour_nearest_16(c->rgb);
        return true;
    }
    index = colour_by_name(s);
    if (index < 0 && !number_255(s, &index))
        return false;
    c->rgb = colour_rgb(index);
    c->c256 = index;
    c->c16 = index < 16 ? index : colour_nearest_16(c->rgb);
    return true;
}

static int colour(const struct place *at, const char *word, struct theme_colour *c)
{
    char part[3][32];
    int n = 0;
    for (const char *s = word; n < 3; n++) {
        size_t len = strcspn(s, "/");
        snprintf(part[n], sizeof part[n], "%.*s", (int)len, s);
        s += len;
        if (!*s++) {
            n++;
            break;
        }
        if (n == 2)
            return lade_fail(at->err,
                             "%s:%d: colour '%.40s' has more than three parts; "
                             "write COLOUR/256-COLOUR/16-COLOUR",
                             at->path, at->line, word);
    }
    if (!main_colour(part[0], c))
        return lade_fail(at->err, "%s:%d: unknown colour '%.31s'; " COLOUR_HELP, at->path, at->line,
                         part[0]);
    if (n > 1) {
        if (strcmp(part[1], "default") == 0)
            c->c256 = -1;
        else if (!number_255(part[1], &c->c256))
            return lade_fail(at->err,
                             "%s:%d: '%.31s' is no 256-colour number; use 0..255 or "
                             "default",
                             at->path, at->line, part[1]);
    }
    if (n > 2) {
        c->c16 = strcmp(part[2], "default") == 0 ? -1 : colour_by_name(part[2]);
        if (c->c16 < 0 && strcmp(part[2], "default") != 0)
            return lade_fail(at->err,
                             "%s:%d: '%.31s' is no name of the 16 colours; use default, "
                             "black, red, green, yellow, blue, magenta, cyan, white, bright-black "
                             ".. bright-white",
                             at->path, at->line, part[2]);
    }
    return 0;
}

static int attribute(const struct place *at, const char *word, unsigned *bits)
{
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (strcmp(word, attributes[i].name) == 0) {
            *bits |= attributes[i].bit;
            return 0;
        }
    }
    return lade_fail(at->err,
                     "%s:%d: unknown attribute '%.40s'; use bold, dim, italic, underline "
                     "or reverse",
                     at->path, at->line, word);
}

/* `has_bg` tells whether the line named a background. */
static int style(const struct place *at, char *value, struct theme_style *out, bool *has_bg)
{
    char *save = NULL, *word = strtok_r(value, " \t", &save);
    *has_bg = false;
    if (!word)
        return lade_fail(at->err, "%s:%d: no colour after '='; " COLOUR_HELP, at->path, at->line);
    if (colour(at, word, &out->fg) != 0)
        return -1;
    while ((word = strtok_r(NULL, " \t", &save))) {
        if (strcmp(word, "on") != 0) {
            if (attribute(at, word, &out->attributes) != 0)
                return -1;
            continue;
        }
        word = strtok_r(NULL, " \t", &save);
        if (!word || *has_bg)
            return lade_fail(at->err, "%s:%d: 'on' needs one background colour; " COLOUR_HELP,
                             at->path, at->line);
        if (colour(at, word, &out->bg) != 0)
            return -1;
        *has_bg = true;
    }
    return 0;
}

static int role_of(const struct place *at, const char *key)
{
    for (int i = 0; i < THEME_ROLE_COUNT; i++)
        if (strcmp(key, keys[i]) == 0)
            return i;
    char all[LADE_ERR / 4 * 3] = "";
    for (int i = 0; i < THEME_ROLE_COUNT; i++) {
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i ? " " : "", keys[i]);
    }
    return lade_fail(at->err, "%s:%d: unknown role '%.40s'; use one of %s", at->path, at->line, key,
                     all);
}

static char *trim(char *s)
{
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1]))
        s[--n] = '\0';
    return s;
}

static int line(const struct place *at, char *text, struct theme_file *out, int *seen, bool *bg)
{
    text = trim(text);
    if (!*text || *text == '#')
        return 0;
    char *eq = strchr(text, '=');
    if (!eq)
        return lade_fail(at->err, "%s:%d: '%.40s' is not 'role = colour'; put '#' before a comment",
                         at->path, at->line, text);
    *eq = '\0';
    int role = role_of(at, trim(text));
    if (role < 0)
        return -1;
    if (seen[role])
        return lade_fail(at->err, "%s:%d: role '%s' was given in line %d already; remove one",
                         at->path, at->line, keys[role], seen[role]);
    seen[role] = at->line;
    return style(at, eq + 1, &out->style[role], &bg[role]);
}

int theme_parse(struct theme_file *out, const char *path, const char *text, size_t size, char *err)
{
    int seen[THEME_ROLE_COUNT] = {0};
    bool bg[THEME_ROLE_COUNT] = {0};
    struct place at = {path, 0, err};
    *out = (struct theme_file){0};
    if (memchr(text, '\0', size))
        return lade_fail(err, "%s: holds a zero byte; a theme is a text file", path);
    for (size_t i = 0; i < size;) {
        char copy[256];
        const char *nl = memchr(text + i, '\n', size - i);
        size_t n = nl ? (size_t)(nl - text) - i : size - i;
        at.line++;
        if (n >= sizeof copy)
            return lade_fail(err, "%s:%d: line of %zu bytes; the longest allowed has %zu", path,
                             at.line, n, sizeof copy - 1);
        memcpy(copy, text + i, n);
        copy[n] = '\0';
        if (line(&at, copy, out, seen, bg) != 0)
            return -1;
        i += n + 1;
    }
    for (int r = 0; r < THEME_ROLE_COUNT; r++)
        if (!seen[r])
            return lade_fail(err, "%s: no line for role '%s'; add '%s = COLOUR'", path, keys[r],
                             keys[r]);
    if (!bg[THEME_TEXT])
        out->style[THEME_TEXT].bg =
            (struct theme_colour){.is_default = true, .c256 = -1, .c16 = -1};
    for (int r = 0; r < THEME_ROLE_COUNT; r++)
        if (!bg[r])
            out->style[r].bg = out->style[THEME_TEXT].bg;
    return 0;
}
