/* Speeds of loads by size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/plan/loads.h"

/* Of one size later ones count more; others count where none is nearer. */
static void test_speeds(void **state)
{
    (void)state;
    struct lade_loads seen = {0};
    assert_true(lade_loads_speed(&seen, 8e9) == 0);
    lade_loads_note(&seen, 8e9, 8);
    lade_loads_note(&seen, 8e9, 2);
    assert_float_equal(lade_loads_speed(&seen, 8e9), 8 / 5.0, 1e-9);
    assert_float_equal(lade_loads_speed(&seen, 5e9), 8 / 5.0, 1e-9);
    assert_float_equal(lade_loads_speed(&seen, 14e9), 8 / 5.0, 1e-9);
    assert_true(lade_loads_speed(&seen, 2e9) == 0 && lade_loads_speed(&seen, 40e9) == 0);
    lade_loads_note(&seen, 4e9, 1);
    assert_float_equal(lade_loads_speed(&seen, 4.1e9), 4, 1e-9);
    assert_float_equal(lade_loads_speed(&seen, 5.7e9), 2 / (1 / 4.0 + 5 / 8.0), 1e-9);
    lade_loads_note(&seen, 1e5, 1); /* too small, no time, none at all, more than anybody has */
    lade_loads_note(&seen, 4e9, 0);
    lade_loads_note(&seen, 0, 1);
    assert_float_equal(lade_loads_speed(&seen, 4.1e9), 4, 1e-9);
    assert_true(lade_loads_speed(&seen, 1e5) == 0 && lade_loads_speed(&seen, 0) == 0);
    lade_loads_note(&seen, 1e16, 1e7);
    assert_float_equal(lade_loads_speed(&seen, 1e16), 1, 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_speeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
