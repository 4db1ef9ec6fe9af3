#include "tui/model_path.h"
#include "tui/paths.h"

#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char err[LADE_ERR];

static int setup(void **state)
{
    (void)state;
    unsetenv("LADE_HOME");
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_DATA_HOME");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/home/anna", 1);
    return 0;
}

static void expect(enum paths_kind kind, const char *wanted)
{
    char out[PATH_MAX];
    assert_int_equal(paths_dir(kind, out, err), 0);
    assert_string_equal(out, wanted);
}

static void test_home(void **state)
{
    (void)state;
    expect(PATHS_CONFIG, "/home/anna/.config/lade");
    expect(PATHS_DATA, "/home/anna/.local/share/lade");
    expect(PATHS_CACHE, "/home/anna/.cache/lade");
    char out[PATH_MAX];
    assert_int_equal(paths_history(out, err), 0);
    assert_string_equal(out, "/home/anna/.local/share/lade/history.db");
}

static void test_xdg(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", "/c", 1);
    setenv("XDG_DATA_HOME", "relative/is/ignored", 1);
    setenv("XDG_CACHE_HOME", "", 1);
    expect(PATHS_CONFIG, "/c/lade");
    expect(PATHS_DATA, "/home/anna/.local/share/lade");
    expect(PATHS_CACHE, "/home/anna/.cache/lade");
}

static void test_lade_home(void **state)
{
    (void)state;
    setenv("LADE_HOME", "/x y/z//", 1);
    setenv("XDG_CONFIG_HOME", "/c", 1);
    expect(PATHS_CONFIG, "/x y/z");
    expect(PATHS_DATA, "/x y/z");
    expect(PATHS_CACHE, "/x y/z/cache");
    char out[PATH_MAX];
    assert_int_equal(paths_history(out, err), 0);
    assert_string_equal(out, "/x y/z/history.db");
}

static void test_no_home(void **state)
{
    (void)state;
    unsetenv("HOME");
    const struct passwd *user = getpwuid(getuid());
    if (!user) {
        print_message("skipped: this user has no entry in passwd\n");
        skip();
    }
    assert_string_equal(paths_home(), user->pw_dir);
}

static void test_too_long(void **state)
{
    (void)state;
    char *big = malloc(PATH_MAX + 1), out[PATH_MAX];
    memset(big, 'a', PATH_MAX);
    big[0] = '/';
    big[PATH_MAX] = '\0';
    setenv("LADE_HOME", big, 1);
    assert_int_equal(paths_history(out, err), -1);
    assert_non_null(strstr(err, "longer than"));
    unsetenv("LADE_HOME");
    assert_int_equal(model_path_resolve(big, out, err), -1);
    free(big);
}

static void test_models(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-paths-XXXXXX", out[PATH_MAX], wanted[PATH_MAX];
    assert_non_null(mkdtemp(dir));
    setenv("LADE_HOME", dir, 1);
    snprintf(wanted, sizeof(wanted), "%s/models", dir);
    mkdir(wanted, 0700);
    snprintf(wanted, sizeof(wanted), "%s/models/mine", dir);
    mkdir(wanted, 0700);
    assert_int_equal(model_path_resolve("mine", out, err), 0);
    assert_string_equal(out, wanted);
    char with_slashes[PATH_MAX + 4];
    snprintf(with_slashes, sizeof(with_slashes), "%s///", wanted);
    assert_int_equal(model_path_resolve(with_slashes, out, err), 0);
    assert_string_equal(out, wanted);
    static const char *const bad[] = {"yours", "./mine", "", "/nowhere/at/all"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(model_path_resolve(bad[i], out, err), -1);
        assert_non_null(strstr(err, "there is no such file or directory"));
    }
    rmdir(wanted);
    snprintf(wanted, sizeof(wanted), "%s/models", dir);
    rmdir(wanted);
    rmdir(dir);
}

/* A name that `lade models` lists, or its only beginning, is a model too. */
static void test_model_by_name(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-paths-XXXXXX", out[PATH_MAX], wanted[PATH_MAX], fixture[PATH_MAX];
    assert_non_null(mkdtemp(dir));
    assert_non_null(realpath("tests/fixtures/tiny-bf16", fixture));
    setenv("LADE_HOME", dir, 1);
    setenv("HF_HUB_CACHE", dir, 1);
    snprintf(wanted, sizeof(wanted), "%s/models", dir);
    mkdir(wanted, 0700);
    snprintf(wanted, sizeof(wanted), "%s/models/Org", dir);
    mkdir(wanted, 0700);
    snprintf(wanted, sizeof(wanted), "%s/models/Org/Tiny-bf16", dir);
    assert_int_equal(symlink(fixture, wanted), 0);
    static const char *const names[] = {"Org/Tiny-bf16", "org/tiny", "tiny-b", "TINY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        assert_int_equal(model_path_resolve(names[i], out, err), 0);
        assert_string_equal(out, wanted);
    }
    assert_int_equal(model_path_resolve("tiny-c", out, err), -1);
    assert_int_equal(model_path_resolve("./tiny", out, err), -1);
    unlink(wanted);
    for (int i = 0; i < 2; i++) {
        *strrchr(wanted, '/') = '\0';
        rmdir(wanted);
    }
    rmdir(dir);
    unsetenv("HF_HUB_CACHE");
}

static void test_bundled(void **state)
{
    (void)state;
    char out[PATH_MAX], config[PATH_MAX + 16];
    assert_int_equal(model_path_resolve(NULL, out, err), 0);
    assert_int_equal(out[0], '/');
    assert_non_null(strstr(out, "/bundled"));
    snprintf(config, sizeof(config), "%s/config.json", out);
    assert_int_equal(access(config, R_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_home),     TEST(test_xdg),    TEST(test_lade_home),     TEST(test_no_home),
        TEST(test_too_long), TEST(test_models), TEST(test_model_by_name), TEST(test_bundled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
