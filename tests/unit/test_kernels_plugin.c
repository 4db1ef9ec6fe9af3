/* What the loader of plug-ins says of files that are none. */
#include "kernels_common.h"

#include "kernels/plugin.h"

static void refused(const char *path, const char *why)
{
    char err[LADE_ERR] = "";
    assert_null(lade_plugin_open(path, err));
    assert_non_null(strstr(err, why));
    assert_null(strchr(err, '\n'));
}

static void missing_file(void **state)
{
    (void)state;
    refused("tests/unit/no-such.so", "no such file");
}

static void not_an_object(void **state)
{
    (void)state;
    refused("tests/unit/kernels_common.h", "cannot be loaded");
    refused("Makefile", "no directory");
}

static void without_the_symbol(void **state)
{
    (void)state;
    char path[4096];
    FILE *maps = fopen("/proc/self/maps", "r"); /* any library will do: this program's own libc */
    assert_non_null(maps);
    bool found = false;
    while (!found && fscanf(maps, "%*s %*s %*s %*s %*s%*[ ]%4095[^\n]", path) != EOF)
        found = strstr(path, "libcmocka") && strchr(path, '/');
    fclose(maps);
    assert_true(found);
    refused(strchr(path, '/'), "is no plug-in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_file),
        cmocka_unit_test(not_an_object),
        cmocka_unit_test(without_the_symbol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
