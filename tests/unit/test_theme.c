/* Theme files: the format, every message, the shipped themes, and binding to terminals of several
 * depths. Terminals are opened on /dev/null; a terminfo entry that is not installed is skipped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <term.h>
#include <unistd.h>

#include <cmocka.h>

#include "tui/colour.h"
#include "tui/theme.h"
#include "tui/theme_file.h"

#define NOWHERE "/nowhere" /* the user's folder: there are no themes of theirs */

static char err[LADE_ERR];

/* A complete theme: `first` is its first line, roles named there are left out below. */
static char *whole(const char *first)
{
    static const char *const keys[] = {
#define X(id, key, text) key,
        THEME_ROLES(X)
#undef X
    };
    static char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "%s\n", first);
    for (int i = 0; i < THEME_ROLE_COUNT; i++)
        if (strncmp(first, keys[i], strlen(keys[i])) != 0 || first[strlen(keys[i])] != ' ')
            n += (size_t)snprintf(text + n, sizeof text - n, "%s = default\n", keys[i]);
    return text;
}

static int parse(struct theme_file *f, const char *text)
{
    *err = '\0';
    return theme_parse(f, "x.theme", text, strlen(text), err);
}

static void test_format(void **state)
{
    (void)state;
    struct theme_file f;
    assert_int_equal(parse(&f, whole("user = #7aa2f7/111/bright-blue on #101010/default/black "
                                     "bold underline")),
                     0);
    const struct theme_style *s = &f.style[THEME_USER];
    assert_int_equal(s->fg.rgb, 0x7aa2f7);
    assert_int_equal(s->fg.c256, 111);
    assert_int_equal(s->fg.c16, 12);
    assert_int_equal(s->bg.rgb, 0x101010);
    assert_int_equal(s->bg.c256, -1);
    assert_int_equal(s->bg.c16, 0);
    assert_int_equal(s->attributes, THEME_BOLD | THEME_UNDERLINE);

    assert_int_equal(parse(&f, whole("user  = \t208 reverse \r")), 0);
    assert_int_equal(f.style[THEME_USER].fg.c256, 208);
    assert_int_equal(f.style[THEME_USER].fg.rgb, 0xff8700);
    assert_true(f.style[THEME_USER].bg.is_default);

    /* No `on`: the ground is text's. */
    assert_int_equal(parse(&f, whole("text = white on blue")), 0);
    assert_int_equal(f.style[THEME_USER].bg.c16, 4);
    assert_int_equal(f.style[THEME_TEXT].fg.c16, 7);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"user = #12345", "x.theme:1: unknown colour '#12345'; use default, #rrggbb"},
        {"user = 256", "unknown colour '256'"},
        {"user = purple", "unknown colour 'purple'"},
        {"user = #112233/300", "'300' is no 256-colour number; use 0..255"},
        {"user = #112233/3/3", "'3' is no name of the 16 colours"},
        {"user = #112233/3/red/red", "more than three parts"},
        {"user = red blinking", "unknown attribute 'blinking'; use bold, dim, italic"},
        {"user = red on", "'on' needs one background colour"},
        {"user = red on blue on blue", "'on' needs one background colour"},
        {"user =", "no colour after '='"},
        {"user red", "'user red' is not 'role = colour'"},
        {"usr = red", "unknown role 'usr'; use one of text dim user"},
        {"user = red\nuser = blue", "x.theme:2: role 'user' was given in line 1 already"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct theme_file f;
        assert_int_equal(parse(&f, whole(rows[i].line)), -1);
        if (!strstr(err, rows[i].says))
            fail_msg("'%s' gives '%s'", rows[i].line, err);
    }
    struct theme_file f;
    assert_int_equal(parse(&f, "text = red\n"), -1);
    assert_string_equal(err, "x.theme: no line for role 'dim'; add 'dim = COLOUR'");
    assert_int_equal(theme_parse(&f, "x.theme", "a\0b", 3, err), -1);
    assert_non_null(strstr(err, "zero byte"));
    char line[600];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    assert_int_equal(parse(&f, line), -1);
    assert_non_null(strstr(err, "line of 599 bytes"));
    assert_int_equal(parse(&f, ""), -1);
}

/* Damaged files of any kind are refused or accepted, never more than that. */
static void test_damage(void **state)
{
    (void)state;
    struct theme_file f;
    char text[4096];
    unsigned seed = 7;
    for (int round = 0; round < 20000; round++) {
        size_t n = strlen(strcpy(text, whole("user = #7aa2f7/111/bright-blue on 3 bold")));
        for (int k = 0; k < 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            text[(seed >> 8) % n] = "=/#\n\0 9o\xff"[(seed >> 3) % 9];
        }
        if (theme_parse(&f, "x", text, seed % 3 ? n : n / 2, err) != 0)
            assert_true(*err != '\0');
    }
}

static void test_nearest(void **state)
{
    (void)state;
    for (int i = 16; i < 256; i++)
        assert_int_equal(colour_rgb(colour_nearest_256(colour_rgb(i), NULL)), colour_rgb(i));
    for (int i = 0; i < 16; i++)
        assert_int_equal(colour_nearest_16(colour_rgb(i)), i);
    bool taken[256] = {0};
    int first = colour_nearest_256(0x7aa2f7, taken);
    taken[first] = true;
    assert_int_not_equal(colour_nearest_256(0x7aa2f7, taken), first);
}

static void test_find(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-theme-XXXXXX", path[64], name[THEME_NAME];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/themes", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/themes/mine.theme", dir);
    FILE *out = fopen(path, "w");
    fputs(whole("text = red"), out);
    fclose(out);
    setenv("LADE_HOME", dir, 1);

    struct theme_entry all[32];
    int n = theme_list(all, 32);
    bool dark = false, mine = false;
    for (int i = 0; i < n; i++) {
        assert_true(i == 0 || strcmp(all[i - 1].name, all[i].name) < 0);
        dark |= strcmp(all[i].name, "dark") == 0;
        mine |= strcmp(all[i].name, "mine") == 0;
    }
    assert_true(dark && mine);

    struct theme_file f;
    assert_int_equal(theme_read(&f, "mine", name, err), 0);
    assert_int_equal(theme_read(&f, path, name, err), 0);
    assert_string_equal(name, "mine");
    assert_int_equal(theme_read(&f, "nosuch", name, err), -1);
    assert_non_null(strstr(err, "theme 'nosuch': there is none of this name; choose "));
    assert_non_null(strstr(err, "mine"));
    assert_int_equal(theme_read(&f, "/nosuch/x.theme", name, err), -1);
    assert_non_null(strstr(err, "/nosuch/x.theme: No such file"));
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(dir);
    setenv("LADE_HOME", NOWHERE, 1);
}

/* Opens a terminal on /dev/null; NULL where its terminfo entry is not installed (newterm itself
 * leaks when it does not find one). */
static SCREEN *open_terminal(const char *name, FILE *null)
{
    int found;
    if (setupterm(name, fileno(null), &found) != OK) {
        print_message("terminal %s is not installed\n", name);
        return NULL;
    }
    del_curterm(cur_term);
    return newterm(name, null, null);
}

/* Relative luminance and contrast, WCAG 2.1. */
static double luminance(uint32_t rgb)
{
    static const double weight[3] = {0.2126, 0.7152, 0.0722};
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        double v = (rgb >> (16 - 8 * i) & 255) / 255.0;
        sum += weight[i] * (v <= 0.03928 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4));
    }
    return sum;
}

static double contrast(uint32_t a, uint32_t b)
{
    double x = luminance(a), y = luminance(b);
    return x > y ? (x + 0.05) / (y + 0.05) : (y + 0.05) / (x + 0.05);
}

/* Every shipped theme can be read, in exact colours and in 256: letters, and the parts of bars. */
static void test_contrast(void **state)
{
    (void)state;
    struct theme_entry all[32];
    int n = theme_list(all, 32);
    for (int i = 0; i < n; i++) {
        struct theme_file f;
        char name[THEME_NAME];
        assert_int_equal(theme_read(&f, all[i].name, name, err), 0);
        for (int r = 0; r < THEME_ROLE_COUNT; r++) {
            const struct theme_colour *fg = &f.style[r].fg, *bg = &f.style[r].bg;
            if (fg->is_default || bg->is_default)
                continue;
            bool rule = r == THEME_BORDER || r >= THEME_GAUGE_OURS;
            double least = r == THEME_TEXT ? 7 : rule ? 1.15 : 3.5;
            double exact = contrast(fg->rgb, bg->rgb);
            double in_256 = contrast(colour_rgb(fg->c256), colour_rgb(bg->c256));
            if (exact < least || in_256 < least)
                fail_msg("%s, role %d: contrast %.2f, with 256 colours %.2f", name, r, exact,
                         in_256);
        }
    }
}

struct terminal {
    const char *name;
    int colours;
    bool shades;
};

static void each_theme(const struct terminal *t)
{
    struct theme_entry all[32];
    int n = theme_list(all, 32);
    assert_true(n >= 3);
    for (int i = 0; i < n; i++) {
        if (theme_load(all[i].name, err) != 0)
            fail_msg("%s", err);
        bool none = t->colours == 0, mono = strcmp(all[i].name, "monochrome") == 0;
        assert_string_equal(theme_name(), none ? "monochrome" : all[i].name);
        assert_int_equal(theme_has_colours(), !none);
        assert_int_equal(theme_has_shades(), t->shades && !mono);
        for (int r = 0; r < THEME_ROLE_COUNT; r++) {
            attr_t a = theme_attr(r);
            if (none)
                assert_int_equal(PAIR_NUMBER(a), 0);
            if (none || mono)
                assert_int_equal(PAIR_NUMBER(theme_over(r, THEME_BAR_TODO)), 0);
        }
        if (theme_has_shades()) {
            int fg, bg, from, to;
            extended_pair_content(PAIR_NUMBER(theme_attr(THEME_BAR_TODO)), &from, &to);
            extended_pair_content(PAIR_NUMBER(theme_over(THEME_BAR_DONE, THEME_BAR_TODO)), &fg,
                                  &bg);
            assert_int_equal(bg, from);
            assert_int_not_equal(fg, bg);
        }
        /* A selection that looks like text is none. */
        assert_int_not_equal(theme_attr(THEME_SELECTION), theme_attr(THEME_TEXT));
    }
}

static void test_terminals(void **state)
{
    (void)state;
    static const struct terminal rows[] = {{"xterm-256color", 256, true},
                                           {"xterm-16color", 16, true},
                                           {"xterm", 8, false},
                                           {"vt100", 0, false},
                                           {"xterm-direct", 1 << 24, true},
                                           {"screen-256color", 256, true}};
    unsetenv("NO_COLOR");
    int run = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *null = fopen("/dev/null", "r+");
        SCREEN *s = open_terminal(rows[i].name, null);
        if (!s) {
            fclose(null);
            continue;
        }
        each_theme(&rows[i]);
        /* A broken theme leaves the old one alone. */
        assert_int_equal(theme_load("nosuch", err), -1);
        assert_true(*theme_name());
        endwin();
        delscreen(s);
        fclose(null);
        run++;
    }
    assert_true(run > 0);
}

static void test_no_color(void **state)
{
    (void)state;
    FILE *null = fopen("/dev/null", "r+");
    SCREEN *s = open_terminal("xterm-256color", null);
    if (!s) {
        fclose(null);
        skip();
    }
    setenv("NO_COLOR", "1", 1);
    each_theme(&(struct terminal){"NO_COLOR", 0, false});
    assert_true(theme_attr(THEME_SELECTION) & A_REVERSE);
    assert_int_equal(theme_load("nosuch", err), -1);
    unsetenv("NO_COLOR");
    endwin();
    delscreen(s);
    fclose(null);
}

static void test_before_load(void **state)
{
    (void)state;
    assert_int_equal(theme_attr(THEME_ERROR), A_NORMAL);
    assert_string_equal(theme_name(), "");
    assert_false(theme_has_colours());
    assert_int_equal(theme_check("dark", err), 0);
    assert_int_equal(theme_check("nosuch", err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_load), cmocka_unit_test(test_format),
        cmocka_unit_test(test_messages),    cmocka_unit_test(test_damage),
        cmocka_unit_test(test_nearest),     cmocka_unit_test(test_find),
        cmocka_unit_test(test_contrast),    cmocka_unit_test(test_terminals),
        cmocka_unit_test(test_no_color),
    };
    setenv("LADE_HOME", NOWHERE, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
