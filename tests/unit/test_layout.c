/* Rectangles of the screen at every size: inside it, not overlapping, none lost. */
#include "tui/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tui/view/status.h"

static const struct layout_wants usual = {
    .rows = 24, .cols = 80, .input = 1, .status = 2, .transcript = 100};

static void fill(unsigned char *map, const struct layout_wants *w, const struct layout_rect *r)
{
    assert_true(r->rows >= 0 && r->cols >= 0);
    if (!r->rows || !r->cols)
        return;
    assert_true(r->y >= 0 && r->x >= 0);
    assert_true(r->y + r->rows <= w->rows && r->x + r->cols <= w->cols);
    for (int y = 0; y < r->rows; y++)
        for (int x = 0; x < r->cols; x++)
            assert_int_equal(map[(r->y + y) * w->cols + r->x + x]++, 0);
}

static void check(const struct layout_wants *w)
{
    static unsigned char map[300 * 300];
    struct layout l;
    layout_make(&l, w);
    memset(map, 0, sizeof map);
    const struct layout_rect *all[] = {&l.board, &l.transcript, &l.anatomy, &l.rule,
                                       &l.input, &l.status,     &l.panel};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fill(map, w, all[i]);
    if (l.too_small)
        return;
    /* Every cell of the screen belongs to exactly one. */
    for (int i = 0; i < w->rows * w->cols; i++)
        assert_int_equal(map[i], 1);
    assert_true(l.input.rows >= 1);
    assert_int_equal(l.rule.rows, 1);
    assert_true(l.transcript.rows + l.board.rows >= 1);
    assert_true(l.popup.rows <= l.rule.y);
    assert_int_equal(l.popup.y + l.popup.rows, l.popup.rows ? l.rule.y : 0);
}

static void every_size(void **state)
{
    (void)state;
    for (int rows = 1; rows <= 70; rows += rows < 14 ? 1 : 7)
        for (int cols = 1; cols <= 240; cols += cols < 44 ? 1 : 13)
            for (int input = 1; input <= 40; input += 13)
                for (int board = 0; board <= 30; board += 10)
                    for (int panel = 0; panel <= 40; panel += 34)
                        for (int text = 0; text <= 40; text += 20) {
                            struct layout_wants w = {rows,  cols, input,     1 + (rows > 20), panel,
                                                     board, text, input - 1, text / 4};
                            check(&w);
                        }
}

static void smallest(void **state)
{
    (void)state;
    struct layout l;
    struct layout_wants w = usual;
    w.rows = LAYOUT_MIN_ROWS;
    w.cols = LAYOUT_MIN_COLS;
    layout_make(&l, &w);
    assert_false(l.too_small);
    w.rows--;
    layout_make(&l, &w);
    assert_true(l.too_small);
    assert_int_equal(l.input.rows, 0);
    w.rows++;
    w.cols--;
    layout_make(&l, &w);
    assert_true(l.too_small);
}

static void input_grows_to_a_third(void **state)
{
    (void)state;
    struct layout l;
    struct layout_wants w = usual;
    w.input = 100;
    layout_make(&l, &w);
    assert_int_equal(l.input.rows, 8);
    w.rows = 200;
    layout_make(&l, &w);
    assert_int_equal(l.input.rows, 12);
}

static void board_gives_way_to_text(void **state)
{
    (void)state;
    struct layout l;
    struct layout_wants w = usual;
    w.board = 18;
    w.transcript = 0;
    layout_make(&l, &w);
    assert_int_equal(l.board.rows, 18);
    w.transcript = 4;
    layout_make(&l, &w);
    assert_int_equal(l.board.rows, 16);
    assert_int_equal(l.transcript.rows, 4);
    w.transcript = 500;
    layout_make(&l, &w);
    assert_int_equal(l.board.rows, 10);
    w.board = 0;
    layout_make(&l, &w);
    assert_int_equal(l.board.rows, 0);
    assert_int_equal(l.transcript.rows, 20);
}

static void drawer_only_where_there_is_room(void **state)
{
    (void)state;
    struct layout l;
    struct layout_wants w = usual;
    w.anatomy = 5;
    layout_make(&l, &w);
    assert_int_equal(l.anatomy.rows, 5);
    assert_int_equal(l.anatomy.y + 5, l.rule.y);
    assert_int_equal(l.transcript.rows, 15);
    w.rows = STATUS_ANATOMY_FROM; /* from here on it comes, with two lines of status, too */
    w.status = 2;
    layout_make(&l, &w);
    assert_int_equal(l.anatomy.rows, 5);
    w = usual;
    w.anatomy = 5;
    w.rows = LAYOUT_MIN_ROWS;
    layout_make(&l, &w);
    assert_int_equal(l.anatomy.rows, 0);
    assert_int_equal(l.transcript.rows, 6);
}

static void panel_only_where_there_is_room(void **state)
{
    (void)state;
    struct layout l;
    struct layout_wants w = usual;
    w.panel = 30;
    layout_make(&l, &w);
    assert_int_equal(l.panel.rows, 0);
    assert_int_equal(l.transcript.cols, 80);
    w.cols = 160;
    layout_make(&l, &w);
    assert_int_equal(l.panel.cols, 30);
    assert_int_equal(l.transcript.cols, 130);
    assert_int_equal(l.status.cols, 160);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size),
        cmocka_unit_test(smallest),
        cmocka_unit_test(input_grows_to_a_third),
        cmocka_unit_test(board_gives_way_to_text),
        cmocka_unit_test(drawer_only_where_there_is_room),
        cmocka_unit_test(panel_only_where_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
