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

static void of_another_version(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s", test_plugin_path("lade-other.so"));
    refused(path, "other: no device"); /* right as it is, but for its GPUs */
    struct lade_plugin *plugin = test_plugin_symbol(path, "lade_plugin");
    assert_non_null(plugin);
    plugin->sizes.moe++;
    refused(path, "other structures");
    plugin->abi++;
    refused(path, "is for version");
    plugin->abi--;
    plugin->sizes.moe--;
    refused(path, "other: no device");
}

static void opened_twice(void **state)
{
    (void)state;
    char err[LADE_ERR];
    const struct lade_ops *first = lade_plugin_open(test_plugin_path("lade-sim.so"), err);
    assert_non_null(first);
    assert_ptr_equal(lade_plugin_open(test_plugin_path("lade-sim.so"), err), first);
    assert_string_equal(first->name, "sim");
    assert_false(first->host_memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_file),       cmocka_unit_test(not_an_object),
        cmocka_unit_test(without_the_symbol), cmocka_unit_test(of_another_version),
        cmocka_unit_test(opened_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
