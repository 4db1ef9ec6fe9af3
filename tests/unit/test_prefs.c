/* What is kept between runs: a value comes back, the rest of the file stays, and a file that somebody
 * broke by hand is named instead of replaced. */
#include "tui/prefs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/error.h"

static char err[LADE_ERR], home[64], file[128], value[64];

static int setup(void **state)
{
    (void)state;
    strcpy(home, "/tmp/lade-test-XXXXXX");
    assert_non_null(mkdtemp(home));
    setenv("LADE_HOME", home, 1);
    snprintf(file, sizeof file, "%s/settings.json", home);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(home); /* fails if anything else was left there */
}

static void put(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static const char *content(void)
{
    static char text[256];
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void test_kept(void **state)
{
    (void)state;
    assert_int_equal(prefs_check(err), 0); /* there is no file yet */
    assert_string_equal(prefs_get("theme", value, sizeof value), "");
    assert_int_equal(prefs_set("theme", "paper", err), 0);
    assert_int_equal(prefs_set("mouse", "off", err), 0);
    assert_string_equal(prefs_get("theme", value, sizeof value), "paper");
    assert_string_equal(prefs_get("mouse", value, sizeof value), "off");
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_others_stay(void **state)
{
    (void)state;
    put("{\"later\": {\"deep\": [1, 2]}, \"theme\": \"dusk\"}");
    assert_int_equal(prefs_set("theme", "paper", err), 0);
    assert_non_null(strstr(content(), "\"deep\""));
    assert_int_equal(prefs_check(err), 0);
    assert_string_equal(prefs_get("theme", value, sizeof value), "paper");
}

static void test_broken_is_named(void **state)
{
    (void)state;
    static const char *const broken[] = {"{\"theme\": \"dusk\",}", "[]", ""};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        put(broken[i]);
        assert_string_equal(prefs_get("theme", value, sizeof value), "");
        assert_int_equal(prefs_set("theme", "paper", err), -1);
        assert_non_null(strstr(err, file));
        assert_non_null(strstr(err, "mend it"));
        *err = '\0';
        assert_int_equal(prefs_check(err), -1);
        assert_non_null(strstr(err, file));
        assert_string_equal(content(), broken[i]);
    }
}

static void test_no_place(void **state)
{
    (void)state;
    char nowhere[160];
    snprintf(nowhere, sizeof nowhere, "%s/nobody", file);
    put("{}");
    setenv("LADE_HOME", nowhere, 1); /* below a file */
    assert_int_equal(prefs_set("theme", "paper", err), -1);
    assert_non_null(strstr(err, nowhere));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_others_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_broken_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
