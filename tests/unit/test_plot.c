/* Samples to characters: bars by eighths, sparklines, braille graphs, rings, and their ASCII. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tui/meters/plot.h"
#include "tui/meters/ring.h"
#include "tui/view/cells.h"

static void test_bar(void **state)
{
    (void)state;
    static const struct {
        double fraction;
        int width, full;
        wchar_t part;
    } rows[] = {{0, 10, 0, 0},         {NAN, 10, 0, 0},   {-1, 10, 0, 0},      {1, 10, 10, 0},
                {2, 10, 10, 0},        {0.5, 10, 5, 0},   {0.55, 10, 5, L'▌'}, {0.001, 10, 0, L'▏'},
                {0.9999, 10, 9, L'▉'}, {0.5, 1, 0, L'▌'}, {0.5, 0, 0, 0},      {0.5, -3, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct plot_fill f = plot_bar(rows[i].fraction, rows[i].width, true);
        assert_int_equal(f.full, rows[i].full);
        assert_int_equal(f.part, rows[i].part);
    }
    struct plot_fill f = plot_bar(0.55, 10, false);
    assert_int_equal(f.full, 6);
    assert_int_equal(f.part, 0);
    assert_int_equal(plot_bar(0.999, 10, false).full, 9);
    assert_int_equal(plot_bar(0.001, 10, false).full, 1);
}

/* A bar that grows never shrinks, and takes every eighth on its way. */
static void test_bar_is_monotonic(void **state)
{
    (void)state;
    int last = 0, steps = 0;
    for (int i = 0; i <= 10000; i++) {
        struct plot_fill f = plot_bar(i / 10000.0, 20, true);
        int eighths = f.full * 8 + (f.part ? 0x2590 - (int)f.part : 0);
        assert_true(eighths >= last && eighths <= last + 1);
        steps += eighths != last;
        last = eighths;
    }
    assert_int_equal(last, 160);
    assert_int_equal(steps, 160);
}

static void test_spark(void **state)
{
    (void)state;
    wchar_t out[9] = {0};
    const float v[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    plot_spark(out, 8, v + 1, 8, 8, true);
    assert_memory_equal(out, L"▁▂▃▄▅▆▇█", 8 * sizeof *out);
    plot_spark(out, 8, v, 3, 0, true);
    assert_memory_equal(out, L"     ▁▄█", 8 * sizeof *out);
    const float gap[] = {1, NAN, 0, 99};
    plot_spark(out, 4, gap, 4, 1, true);
    assert_memory_equal(out, L"█ ▁█", 4 * sizeof *out);
    plot_spark(out, 4, gap, 4, 1, false);
    assert_memory_equal(out, L"# _#", 4 * sizeof *out);
    plot_spark(out, 4, v, 0, 0, true);
    assert_memory_equal(out, L"    ", 4 * sizeof *out);
    const float none[] = {0, 0};
    plot_spark(out, 2, none, 2, 0, true);
    assert_memory_equal(out, L"▁▁", 2 * sizeof *out);
}

static void test_graph(void **state)
{
    (void)state;
    wchar_t out[4];
    const float v[] = {8, 8, 4, 1};
    plot_graph(out, 2, 2, v, 4, 8, true);
    assert_int_equal(out[0], 0x28ff);
    assert_int_equal(out[1], L' ');
    assert_int_equal(out[2], 0x28ff);
    assert_int_equal(out[3], 0x2847 | 0x80);
    plot_graph(out, 2, 2, v, 2, 8, true);
    assert_int_equal(out[0], L' ');
    assert_int_equal(out[1], 0x28ff);
    plot_graph(out, 2, 2, v + 1, 2, 8, false);
    assert_memory_equal(out, L"# ##", 4 * sizeof *out);
}

static void test_nice_top(void **state)
{
    (void)state;
    assert_float_equal(plot_nice_top(0.83f), 1, 1e-6);
    assert_float_equal(plot_nice_top(1.2f), 2, 1e-6);
    assert_float_equal(plot_nice_top(5), 5, 1e-6);
    assert_float_equal(plot_nice_top(51), 100, 1e-4);
    assert_float_equal(plot_nice_top(NAN), 1, 1e-6);
    assert_float_equal(plot_nice_top(0), 1, 1e-6);
}

static void test_ring(void **state)
{
    (void)state;
    static struct ring r;
    float out[RING_SIZE];
    assert_int_equal(ring_tail(&r, out, 5), 0);
    for (int i = 0; i < RING_SIZE + 3; i++)
        ring_push(&r, (float)i);
    assert_int_equal(ring_tail(&r, out, 2), 2);
    assert_float_equal(out[0], RING_SIZE + 1, 0);
    assert_float_equal(out[1], RING_SIZE + 2, 0);
    assert_int_equal(ring_tail(&r, out, RING_SIZE), RING_SIZE);
    assert_float_equal(out[0], 3, 0);
}

static const char *row(const struct cells *c, int y)
{
    static char out[1024];
    return cells_row(c, y, out, sizeof out);
}

static void test_cells_text(void **state)
{
    (void)state;
    struct cells c;
    assert_int_equal(cells_init(&c, 2, 12, true, true), 0);
    assert_int_equal(cells_put(&c, 0, 0, 12, THEME_TEXT,
                               "a你b\x01\xff"
                               "e\xcc\x81"
                               "c"),
                     6);
    assert_string_equal(row(&c, 0), "a你bec");
    assert_int_equal(cells_put(&c, 1, 0, 5, THEME_TEXT, "你好世界"), 5);
    assert_string_equal(row(&c, 1), "你好…");
    cells_clear(&c, THEME_TEXT);
    cells_put_right(&c, 0, 0, 12, THEME_TEXT, "end");
    assert_string_equal(row(&c, 0), "         end");
    /* Outside the canvas nothing happens. */
    assert_int_equal(cells_put(&c, 5, 0, 9, THEME_TEXT, "x"), 0);
    assert_int_equal(cells_put(&c, 0, 12, 9, THEME_TEXT, "x"), 0);
    assert_int_equal(cells_put(&c, 0, -1, 9, THEME_TEXT, "x"), 0);
    cells_free(&c);
    assert_int_equal(cells_init(&c, 1, 12, false, false), 0);
    cells_put(&c, 0, 0, 12, THEME_TEXT, "é–·你…");
    assert_string_equal(row(&c, 0), "?-.? ~");
    cells_free(&c);
}

static void test_cells_bar(void **state)
{
    (void)state;
    struct cells c;
    static const enum theme_role role[] = {THEME_GAUGE_OURS, THEME_GAUGE_USED};
    cells_init(&c, 1, 8, true, true);
    cells_bar(&c, 0, 0, 8, (double[]){0.3125, 0.25}, role, 2, THEME_GAUGE_FREE);
    assert_string_equal(row(&c, 0), "██▌█▌");
    assert_int_equal(c.at[2].role, THEME_GAUGE_OURS);
    assert_int_equal(c.at[2].over, THEME_GAUGE_USED);
    assert_int_equal(c.at[3].role, THEME_GAUGE_USED);
    assert_int_equal(c.at[4].over, THEME_GAUGE_FREE);
    assert_int_equal(c.at[7].over, THEME_GAUGE_FREE);
    cells_bar(&c, 0, 0, 8, (double[]){NAN, NAN}, role, 2, THEME_GAUGE_FREE);
    assert_string_equal(row(&c, 0), "");
    cells_free(&c);
    cells_init(&c, 1, 8, true, false);
    cells_bar(&c, 0, 0, 8, (double[]){0.25, 0.25}, role, 2, THEME_GAUGE_FREE);
    assert_string_equal(row(&c, 0), "██▓▓░░░░");
    cells_free(&c);
    cells_init(&c, 1, 8, false, false);
    cells_bar(&c, 0, 0, 8, (double[]){0.25, 0.25}, role, 2, THEME_GAUGE_FREE);
    assert_string_equal(row(&c, 0), "##==....");
    cells_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bar),        cmocka_unit_test(test_bar_is_monotonic),
        cmocka_unit_test(test_spark),      cmocka_unit_test(test_graph),
        cmocka_unit_test(test_nice_top),   cmocka_unit_test(test_ring),
        cmocka_unit_test(test_cells_text), cmocka_unit_test(test_cells_bar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
