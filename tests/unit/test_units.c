/* Numbers as people read them: widths, edges between units, and unknown values. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tui/meters/units.h"

#define GIB 1073741824.0

typedef char *unit_fn(char out[UNITS_MAX], double v);

struct row {
    unit_fn *fn;
    double v;
    const char *want;
};

static const struct row rows[] = {
    {units_memory, 0, "0 KiB"},
    {units_memory, 412 * 1048576.0, "412 MiB"},
    {units_memory, 40.25 * GIB, "40.2 GiB"},
    {units_memory, 1.5 * GIB, "1.5 GiB"},
    {units_memory, 512 * GIB, "512 GiB"},
    {units_memory, 2048 * GIB, "2.0 TiB"},
    {units_file, 4.8e9, "4.80 GB"},
    {units_file, 43.2e9, "43.2 GB"},
    {units_file, 812e6, "812 MB"},
    {units_file, 999.6e6, "1.00 GB"},
    {units_file, 1234, "1 kB"},
    {units_rate, 1.4234, "1.42 GB/s"},
    {units_rate, 12.3, "12.3 GB/s"},
    {units_rate, 0.085, "85 MB/s"},
    {units_rate, 0.0, "0 MB/s"},
    {units_duration, 7, "0:07"},
    {units_duration, 83, "1:23"},
    {units_duration, 59.7, "1:00"},
    {units_duration, 3723, "1:02:03"},
    {units_duration, 4 * 86400 - 3600 * 20, "3d 04h"},
    {units_seconds, 0, "0 ms"},
    {units_seconds, 0.0004, "0.4 ms"},
    {units_seconds, 0.00096, "1 ms"},
    {units_seconds, 0.042, "42 ms"},
    {units_seconds, 0.9999, "1.0 s"},
    {units_seconds, 1.84, "1.8 s"},
    {units_seconds, 95, "95 s"},
    {units_seconds, 700, "11:40"},
    {units_speed, 8.312, "8.31"},
    {units_speed, 12.34, "12.3"},
    {units_speed, 1420.4, "1420"},
    {units_speed, 12345, "12k"},
    {units_count, 512, "512"},
    {units_count, 8192, "8192"},
    {units_count, 32768, "32768"},
    {units_count, 262144, "262k"},
    {units_count, 1.25e6, "1.2M"},
    {units_percent, 0.43, "43%"},
    {units_percent, 0.29, "29%"},
    {units_percent, 0.9999, "99%"},
    {units_percent, 1, "100%"},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[UNITS_MAX];
        assert_string_equal(rows[i].fn(out, rows[i].v), rows[i].want);
    }
}

static void test_unknown_is_never_zero(void **state)
{
    (void)state;
    unit_fn *all[] = {units_memory,  units_file,  units_rate,  units_duration,
                      units_seconds, units_speed, units_count, units_percent};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char out[UNITS_MAX];
        assert_string_equal(all[i](out, NAN), UNITS_UNKNOWN);
        assert_string_equal(all[i](out, -1), UNITS_UNKNOWN);
        assert_string_equal(all[i](out, INFINITY), UNITS_UNKNOWN);
    }
}

static void test_memory_of(void **state)
{
    (void)state;
    char out[UNITS_MAX];
    assert_string_equal(units_memory_of(out, 12.1 * GIB, 62.8 * GIB), "12.1/62.8 GiB");
    assert_string_equal(units_memory_of(out, 0.3 * GIB, 62.8 * GIB), "0.3/62.8 GiB");
    assert_string_equal(units_memory_of(out, NAN, 62.8 * GIB), UNITS_UNKNOWN "/62.8 GiB");
    assert_string_equal(units_memory_of(out, NAN, NAN), UNITS_UNKNOWN);
    assert_string_equal(units_memory_of(out, 100 * 1048576.0, 512 * 1048576.0), "100/512 MiB");
}

static void test_file_of(void **state)
{
    (void)state;
    char out[UNITS_MAX];
    assert_string_equal(units_file_of(out, 26.84e9, 43.2e9), "26.8 of 43.2 GB");
    assert_string_equal(units_file_of(out, 0, 43.2e9), "0.00 of 43.2 GB");
    assert_string_equal(units_file_of(out, 1.5e6, 12e6), "2 of 12 MB");
    assert_string_equal(units_file_of(out, NAN, 12e6), UNITS_UNKNOWN);
}

/* Any finite number fits: the longest text stays below UNITS_MAX. */
static void test_huge(void **state)
{
    (void)state;
    unit_fn *all[] = {units_memory,  units_file,  units_rate,  units_duration,
                      units_seconds, units_speed, units_count, units_percent};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char out[UNITS_MAX];
        all[i](out, 1e300);
        assert_true(strlen(out) < UNITS_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),     cmocka_unit_test(test_unknown_is_never_zero),
        cmocka_unit_test(test_memory_of), cmocka_unit_test(test_file_of),
        cmocka_unit_test(test_huge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
