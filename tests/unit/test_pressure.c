/* How many experts stay where other programs want memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/plan/pressure.h"

/* Experts give back what the reserve lacks, and no more than they hold; they come back after a
 * while, with a distance between the two so that nothing swings. */
static void test_pressure(void **state)
{
    (void)state;
    enum { RESERVE = 1000 };
    static const struct {
        struct lade_experts_room now;
        uint64_t left;
        bool stalled;
        uint64_t want;
    } cases[] = {
        {{9000, 9000, 9000, 99, 0}, 1000, false, 9000}, /* as planned */
        {{9000, 9000, 9000, 0, 0}, 500, false, 9000}, /* others use some of what was left to them */
        {{9000, 9000, 9000, 0, 0}, 499, false, 8499}, /* they need more */
        {{9000, 9000, 9000, 0, 0}, 999, true, 8999},  /* they wait for it */
        {{9000, 9000, 9000, 0, 0}, 1000, true, 9000}, /* not for ours */
        {{9000, 9000, 300, 0, 0}, 0, false, 0},       /* while it still loads: of what is there */
        {{9000, 9000, 5000, 0, 0}, 0, false, 4000},
        {{9000, 4000, 4000, 99, 0}, 1500, false, 4000}, /* not yet */
        {{9000, 4000, 4000, 99, 0}, 1501, false, 4501}, /* some comes back */
        {{9000, 4000, 4000, 1, 0}, 8000, false, 4000},  /* it has changed just now */
        {{9000, 4000, 4000, 99, 0}, 8000, false, 9000}, /* all */
        {{9000, 4000, 1000, 99, 0}, 2000, false, 4000}, /* the load needs that */
        {{9000, 0, 0, 99, 0}, 0, true, 0},
        {{9000, 9000, 9000, 0, 200}, 800, false, 9000},   /* others take it, but slowly */
        {{9000, 9000, 9000, 0, 201}, 800, false, 7996},   /* so fast that it will soon be gone */
        {{9000, 9000, 9000, 0, 5000}, 1000, false, 9000}, /* they took much; the reserve is there */
        {{9000, 9000, 9000, 0, 5000}, 999, false, 7999},
        {{9000, 9000, 9000, 0, UINT64_MAX}, 0, false, 7000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            lade_pressure_room(&cases[i].now, cases[i].left, RESERVE, cases[i].stalled),
            cases[i].want);
    struct lade_watch *w = lade_watch_open();
    struct lade_pressure p;
    assert_non_null(w);
    assert_true(lade_watch_look(w, &p));
    assert_true(p.ram_total > 0 && p.ram_left <= p.ram_total);
    lade_watch_close(w);
    assert_false(lade_watch_look(NULL, &p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pressure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
