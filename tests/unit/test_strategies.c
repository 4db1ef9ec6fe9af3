/* The panel of /plan: order, keys, and its picture at several sizes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cells_common.h"
#include "tui/view/strategies.h"

static struct strategies view;

static void plan_for(double vram, double ram, const char *running)
{
    struct lade_plan plan;
    struct lade_plan_model model;
    struct lade_plan_machine pc;
    lade_plan_model_80b(&model);
    lade_plan_machine_typical(&pc, (uint64_t)(vram * 0x1p30), (uint64_t)(ram * 0x1p30),
                              LADE_STORAGE_NVME);
    assert_int_equal(lade_plan(&plan, &model, &pc, NULL, 0, NULL), 0);
    strategies_open(&view, &plan, running);
}

static const char *picture(int rows, int cols, bool utf8, bool colour)
{
    struct cells c;
    assert_int_equal(cells_init(&c, rows, cols, utf8, colour), 0);
    strategies_cells(&view, &c);
    return picture_of(&c);
}

static void has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("'%s' is not in\n%s", what, text);
}

static enum strategies_answer key(enum keys_kind kind)
{
    return strategies_key(&view, &(struct keys_event){.kind = kind});
}

static void test_order(void **state)
{
    (void)state;
    plan_for(10, 40, "mmap");
    assert_true(view.open);
    assert_string_equal(strategies_row(&view)->strategy->name, "mmap"); /* not the plan's choice */
    int status = LADE_PLAN_CHOSEN, running = 0;
    for (int i = 0; i < view.plan.n; i++) {
        const struct lade_plan_row *r = &view.plan.rows[view.order[i]];
        assert_true((int)r->status >= status);
        status = r->status;
        running += r->status == LADE_PLAN_CHOSEN;
    }
    assert_int_equal(running, 1);
    strategies_close(&view);
    assert_false(view.open);
}

static void test_keys(void **state)
{
    (void)state;
    plan_for(10, 40, "stream-aggressive");
    assert_int_equal(key(KEYS_UP), STRATEGIES_MOVED);
    assert_int_equal(view.chosen, 0);
    for (int i = 0; i < 40; i++)
        key(KEYS_DOWN);
    assert_int_equal(view.chosen, view.plan.n - 1);
    key(KEYS_HOME);
    key(KEYS_TAB);
    assert_int_equal(view.chosen, 1);
    assert_int_equal(key(KEYS_BYTES), STRATEGIES_NOTHING);
    assert_int_equal(key(KEYS_ENTER), STRATEGIES_TAKEN);
    assert_int_equal(key(KEYS_ESC), STRATEGIES_CLOSED);
}

static void test_picture(void **state)
{
    (void)state;
    plan_for(10, 40, "stream-aggressive");
    const char *p = picture(22, 80, true, true);
    has(p, "for 10.0 GiB of VRAM, 40.0 GiB of RAM");
    has(p, " ✓ stream-aggressive");
    has(p, " · cached-mmap");
    has(p, " × full-gpu           needs 41.4 GiB of VRAM");
    has(p, "prefill  decode");
    has(p, "Now running. Experts: 14% in VRAM");
    key(KEYS_DOWN);
    has(picture(22, 80, true, true), "tokens/s instead of");
    key(KEYS_END);
    has(picture(22, 80, true, true), "Not here: it needs a server that has the model");
    key(KEYS_UP);
    has(picture(22, 80, true, true), "Not here: it needs several drives");
    /* Narrow: speed and load stay longest. The chosen row is always in sight. */
    key(KEYS_HOME);
    p = picture(22, 40, true, true);
    has(p, "decode");
    has(p, "load");
    assert_null(strstr(p, "prefill"));
    key(KEYS_END);
    has(picture(8, 80, true, true), "remote");
    for (int i = 0; i < view.plan.n; i++) {
        view.chosen = i;
        for (int rows = 1; rows < 30; rows += 3)
            for (int cols = 1; cols < 210; cols += 7)
                picture(rows, cols, cols % 2, rows % 2);
    }
}

static void test_a_server(void **state)
{
    (void)state;
    struct lade_plan plan;
    lade_plan_remote(&plan);
    strategies_open(&view, &plan, "remote");
    const char *p = picture(22, 80, true, true);
    has(p, "a server has the model");
    has(p, " ✓ remote                    –         –");
    has(p, " × full-gpu           needs the files of the model");
    has(p, "only that server can tell");
}

static void test_a_machine_that_fits_nothing(void **state)
{
    (void)state;
    plan_for(0, 4, "");
    has(picture(24, 80, true, true), "Not here: it needs");
    assert_int_equal(strategies_row(&view)->status, LADE_PLAN_IMPOSSIBLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_picture),
        cmocka_unit_test(test_a_server),
        cmocka_unit_test(test_a_machine_that_fits_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
