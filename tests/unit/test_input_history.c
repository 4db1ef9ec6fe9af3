/* The file of typed lines: what comes back in the next chat, what is never kept, and its length. */
#include "tui/input_history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <readline/history.h>

#include "tui/input.h"

static char dir[64], file[96];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/lade-test-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(file, sizeof file, "%s/input.history", dir);
    stifle_history(INPUT_HISTORY);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clear_history();
    unlink(file);
    return rmdir(dir); /* fails if anything else was left there */
}

/* As the next chat finds it. */
static void load(void)
{
    clear_history();
    input_history_load(file);
}

static const char *line(int i)
{
    HIST_ENTRY *e = history_get(history_base + i);
    return e ? e->line : "";
}

static void test_lines_come_back(void **state)
{
    (void)state;
    static const char *const lines[] = {"plain", "two\nlines\n", "a \\n that is none", "\\",
                                        "船 é"};
    enum { N = sizeof lines / sizeof *lines };
    load(); /* there is no file yet */
    assert_int_equal(history_length, 0);
    for (int i = 0; i < N; i++)
        input_history_add(lines[i]);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    load();
    assert_int_equal(history_length, N);
    for (int i = 0; i < N; i++)
        assert_string_equal(line(i), lines[i]);
}

static void test_what_is_not_kept(void **state)
{
    (void)state;
    load();
    input_history_add("once");
    input_history_add("once"); /* the last one again */
    input_history_add(" a line that nobody shall find");
    input_history_add("");
    input_history_add("other");
    input_history_add("once");
    load();
    assert_int_equal(history_length, 3);
    assert_string_equal(line(0), "once");
    assert_string_equal(line(1), "other");
    assert_string_equal(line(2), "once");
}

/* A file that has grown to more than twice of what is kept is written anew, with the last lines. */
static void test_file_is_shortened(void **state)
{
    (void)state;
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    for (int i = 0; i <= 2 * INPUT_HISTORY; i++)
        fprintf(f, "line\\n%d\n", i);
    assert_int_equal(fclose(f), 0);
    load();
    load();
    char last[32];
    snprintf(last, sizeof last, "line\n%d", 2 * INPUT_HISTORY);
    assert_int_equal(history_length, INPUT_HISTORY);
    assert_string_equal(line(INPUT_HISTORY - 1), last);
    int n = 0;
    f = fopen(file, "r");
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    assert_int_equal(n, INPUT_HISTORY);
}

/* Nothing is written through a link that somebody put there. */
static void test_links_are_not_followed(void **state)
{
    (void)state;
    char other[96];
    snprintf(other, sizeof other, "%s/other", dir);
    assert_int_equal(symlink(other, file), 0);
    load();
    input_history_add("secret");
    assert_int_equal(access(other, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_is_shortened, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_are_not_followed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
