/* The load board: numbers from events, and its picture at several sizes and counts of shards. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cells_common.h"
#include "tui/meters/units.h"
#include "tui/view/board.h"

static struct board board;
static struct lade_model_info info;

static void start(int shards, uint64_t bytes)
{
    memset(&info, 0, sizeof info);
    strcpy(info.name, "Qwen3-Next-80B");
    strcpy(info.format, "safetensors");
    strcpy(info.quant, "int4");
    info.n_shards = shards;
    for (int i = 0; i < shards && i < 256; i++) {
        snprintf(info.shards[i].name, sizeof info.shards[i].name, "model-%05d-of-%05d.safetensors",
                 i + 1, shards);
        info.shards[i].bytes = bytes;
    }
    info.bytes = bytes * (uint64_t)shards;
    board_model(&board, &info);
}

static void event(int shard, uint64_t done, uint64_t all_done, double now)
{
    struct lade_event ev = {.kind = LADE_EV_SHARD,
                            .shard = shard,
                            .shard_done = done,
                            .shard_bytes = info.shards[shard < 0 || shard > 255 ? 0 : shard].bytes,
                            .done_bytes = all_done,
                            .total_bytes = info.bytes};
    board_event(&board, &ev, now);
}

static const char *picture(int rows, int cols, bool utf8, bool colour)
{
    struct cells c;
    assert_int_equal(cells_init(&c, rows, cols, utf8, colour), 0);
    board_cells(&board, &c);
    return picture_of(&c);
}

/* A server that is waited for is all there is to show, in any size, until its model is known. */
static void test_waiting(void **state)
{
    (void)state;
    board_init(&board);
    board_waiting(&board, "a:1 is still loading its model (40%)");
    for (int rows = 1; rows < 12; rows++) {
        assert_non_null(
            strstr(picture(rows, 60, true, true), "▸ a:1 is still loading its model (40%)"));
        picture(rows, rows, false, false);
    }
    board_model(&board, &info);
    assert_null(strstr(picture(10, 60, true, true), "still loading"));
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text += strlen(what))
        n++;
    return n;
}

static void test_speed_and_eta(void **state)
{
    (void)state;
    start(2, 10000000000);
    board_tick(&board, NULL, 0);
    assert_true(isnan(board.gbps) && isnan(board.eta));
    /* 1 GB/s: the first shard is read alone. */
    for (int i = 1; i <= 40; i++) {
        uint64_t done = (uint64_t)i * 250000000;
        event(0, done, done, i * 0.25);
        board_tick(&board, NULL, i * 0.25);
    }
    assert_float_equal(board.gbps, 1, 0.01);
    assert_float_equal(board.eta, 10, 0.1);
    assert_float_equal(board.shard[0].seconds, 10, 0.3);
    assert_float_equal(board.shard[0].gbps, 1, 0.05);
    assert_true(isnan(board.shard[1].gbps));
    /* A stall: the speed falls smoothly and the ETA grows, neither jumps. */
    double last = board.gbps;
    for (int i = 41; i < 60; i++) {
        board_tick(&board, NULL, i * 0.25);
        assert_true(board.gbps < last && board.gbps > last * 0.8);
        last = board.gbps;
    }
    assert_true(board.eta > 60);
    /* Called too soon, nothing moves. */
    board_tick(&board, NULL, 14.76);
    assert_float_equal(board.gbps, last, 0);
    /* After five seconds it stands still and says so; then it goes on. */
    board_tick(&board, NULL, 15);
    assert_float_equal(board.gbps, 0, 0);
    assert_true(isnan(board.eta));
    event(1, 250000000, 10250000000, 15.2);
    board_tick(&board, NULL, 15.25);
    assert_true(board.gbps > 0.1 && !isnan(board.eta));
    struct lade_stats st = {.load_s = 15, .weights = 5 << 20};
    board_tick(&board, &st, 15.5);
    assert_float_equal(board.elapsed, 15, 0);
    assert_int_equal(board.n_tiers, 1);
    board_ready(&board, 20);
    assert_float_equal(board.gbps, 1, 1e-6);
    assert_int_equal(board.done, board.bytes);
}

/* Shards that come and go within one batch of events have no speed, rather than an absurd one. */
static void test_batch(void **state)
{
    (void)state;
    start(2, 5000000000);
    board_tick(&board, NULL, 0);
    board_tick(&board, NULL, 0.2);
    event(0, 2500000000, 2500000000, 0.21);
    event(0, 5000000000, 5000000000, 0.21);
    assert_true(isnan(board.shard[0].gbps) && isnan(board.shard[0].seconds));
    event(1, 5000000000, 10000000000, 0.5);
    assert_float_equal(board.shard[1].seconds, 0.3, 1e-6);
    const char *p = picture(12, 90, true, true);
    assert_int_equal(count(p, "16.7 GB/s"), 1);
    assert_int_equal(count(p, "300 ms"), 1);
}

/* Every shard has its line as soon as there is room for it: blank rows go first. */
static void test_lines_before_air(void **state)
{
    (void)state;
    start(9, 1000000000);
    struct lade_stats st = {.weights = 5 << 20};
    board_tick(&board, &st, 0);
    for (int rows = 13; rows < 24; rows++) {
        const char *p = picture(rows, 80, true, true);
        assert_int_equal(count(p, "model-0000"), 9);
        assert_int_equal(count(p, "RAM"), 1);
    }
}

static void test_list(void **state)
{
    (void)state;
    start(3, 4800000000);
    board_tick(&board, NULL, 0);
    event(0, 2400000000, 2400000000, 2);
    board_tick(&board, NULL, 2);
    event(0, 4800000000, 4800000000, 4);
    event(1, 1200000000, 6000000000, 5);
    board_tick(&board, NULL, 5);
    board_tick(&board, NULL, 5.0625);
    const char *p = picture(12, 90, true, true);
    assert_int_equal(count(p, "Qwen3-Next-80B"), 1);
    assert_int_equal(count(p, "safetensors int4"), 1);
    assert_int_equal(count(p, "41%"), 1);
    assert_int_equal(count(p, "6.00 of 14.4 GB"), 1);
    assert_int_equal(count(p, "✓ 1 model-00001-of-00003"), 1);
    assert_int_equal(count(p, "▸ 2 model-00002-of-00003"), 1);
    assert_int_equal(count(p, "· 3 model-00003-of-00003"), 1);
    assert_int_equal(count(p, "4.80 GB"), 3);
    assert_int_equal(count(p, "4.0 s"), 1);
    assert_null(strstr(p, "0 MB/s"));
}

/* Every shard can be found at every size, nothing is written outside, and no row is longer than the
 * canvas. */
static void test_sizes(void **state)
{
    (void)state;
    static const int shards[] = {0, 1, 3, 9, 41, 256, 300};
    static const int size[][2] = {{1, 20},  {2, 30},   {5, 38},  {6, 40},
                                  {18, 80}, {36, 120}, {56, 200}};
    for (size_t s = 0; s < sizeof shards / sizeof *shards; s++) {
        start(shards[s], 1000000000);
        board_tick(&board, NULL, 0);
        for (int i = 0; i < shards[s] / 2; i++)
            event(i, 1000000000, (uint64_t)(i + 1) * 1000000000, i + 1);
        board_tick(&board, NULL, shards[s] + 1);
        for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
            const char *p = picture(size[k][0], size[k][1], true, true);
            int line = 0, lines = 0;
            for (const char *c = p; *c; c++) {
                line += (*c & 0xc0) != 0x80;
                if (*c == '\n') {
                    assert_true(line - 1 <= size[k][1]);
                    line = 0;
                    lines++;
                }
            }
            assert_int_equal(lines, size[k][0]);
            picture(size[k][0], size[k][1], false, false);
        }
    }
    for (int rows = 0; rows < 8; rows++)
        for (int cols = 0; cols < 30; cols++)
            picture(rows, cols, true, false);
}

static void test_columns_and_blocks(void **state)
{
    (void)state;
    start(41, 1000000000);
    board_tick(&board, NULL, 0);
    for (int i = 0; i < 20; i++)
        event(i, 1000000000, (uint64_t)(i + 1) * 1000000000, i + 1);
    event(20, 500000000, 20500000000, 21);
    board_tick(&board, NULL, 21);
    const char *p = picture(20, 80, true, true);
    assert_int_equal(count(p, "✓ "), 20);
    assert_int_equal(count(p, "▸ 21"), 1);
    assert_int_equal(count(p, "· "), 20);
    p = picture(6, 40, true, true);
    assert_int_equal(count(p, "20 done · 1 reading · 20 queued"), 1);
    assert_int_equal(count(p, "▄"), 1);
    p = picture(20, 80, false, false);
    assert_int_equal(count(p, "* "), 20);
    for (const char *c = p; *c; c++)
        assert_true(*c > 0);
}

/* The columns of numbers stay where they are while the values change. */
static void test_no_jitter(void **state)
{
    (void)state;
    start(9, 4800000000);
    board_tick(&board, NULL, 0);
    const char *where = NULL;
    long at = 0;
    for (int i = 1; i < 150; i++) {
        double now = i * 0.25;
        uint64_t done = (uint64_t)(i * 0.25 * (1.1 + 0.2 * sin(i)) * 1e9);
        int shard = (int)(done / 4800000000);
        event(shard, done % 4800000000, done, now);
        board_tick(&board, NULL, now);
        const char *p = picture(20, 100, true, true);
        where = strstr(p, "4.80 GB");
        assert_non_null(where);
        /* Columns, not bytes: count characters from the start of the row. */
        while (where > p && where[-1] != '\n')
            where--;
        long col = 0;
        for (const char *c = where; strncmp(c, "4.80 GB", 7) != 0; c++)
            col += (*c & 0xc0) != 0x80;
        assert_true(i == 1 || col == at);
        at = col;
    }
}

/* Beside a conversation: the same numbers on one line, at every width. */
static void test_one_line(void **state)
{
    (void)state;
    start(9, 4800000000);
    board_tick(&board, NULL, 0);
    for (int i = 1; i <= 60; i++) {
        uint64_t done = (uint64_t)i * 300000000;
        event(done < 4800000000 ? 0 : (int)(done / 4800000000), done % 4800000000, done, i * 0.25);
        board_tick(&board, NULL, i * 0.25);
    }
    board_usable(&board);
    const char *p = picture(1, 100, true, true);
    assert_int_equal(count(p, "41%"), 1);
    assert_int_equal(count(p, "18.0 of 43.2 GB"), 1);
    assert_int_equal(count(p, "1.20 GB/s"), 1);
    assert_int_equal(count(p, "all home in 0:21"), 1);
    p = picture(1, 60, true, true);
    assert_int_equal(count(p, "41%") + count(p, "18.0 of") + count(p, "0:21"), 3);
    assert_int_equal(count(p, "GB/s"), 0);
    p = picture(1, 40, true, true);
    assert_int_equal(count(p, "41%"), 1);
    for (int cols = 1; cols < 220; cols++)
        picture(1, cols, cols % 2, cols % 3 == 0);
    board_ready(&board, 37.5);
    assert_int_equal(count(picture(1, 80, true, true), "all home after 37.5 s"), 1);
}

/* The memories that the engine tells of; and a change of strategy, which reads no shards. */
static void test_homes(void **state)
{
    (void)state;
    start(2, 4000000000);
    board_tick(&board, NULL, 0);
    struct lade_stats st = {.load_s = 3,
                            .load_bytes = 8000000000,
                            .load_done = 1000000000,
                            .in_vram = {.experts = 256, .room = 1024, .bytes = 2ull << 30},
                            .in_ram = {.experts = 512, .room = 4096, .bytes = 8ull << 30}};
    board_tick(&board, &st, 0.25);
    const char *p = picture(30, 100, true, true);
    assert_int_equal(count(p, "VRAM"), 1);
    assert_int_equal(count(p, "0.5/2.0 GiB"), 1);
    assert_int_equal(count(p, "1.0/8.0 GiB"), 1);
    assert_int_equal(board.done, 0); /* shards tell, until answers are given */
    board_usable(&board);
    board_tick(&board, &st, 0.5);
    assert_int_equal(board.done, 1000000000);
    board_ready(&board, 4);
    snprintf(info.strategy, sizeof info.strategy, "hybrid-balanced");
    board_strategy(&board, &info);
    st.load_bytes = 3000000000;
    board_tick(&board, &st, 10);
    assert_int_equal(board.bytes, 3000000000);
    assert_int_equal(count(picture(1, 100, true, true), "1.00 of 3.00 GB"), 1);
    assert_int_equal(count(picture(30, 100, true, true), "hybrid-balanced"), 1);
}

static void test_before_headers(void **state)
{
    (void)state;
    board_init(&board);
    const char *p = picture(6, 80, true, true);
    assert_int_equal(count(p, "Reading the model's headers"), 1);
    assert_int_equal(count(p, UNITS_UNKNOWN), 1);
    assert_int_equal(count(p, "0%"), 0);
    /* An event for a shard that does not exist is ignored. */
    event(-1, 1, 1, 1);
    event(99999, 1, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_speed_and_eta),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_lines_before_air),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_columns_and_blocks),
        cmocka_unit_test(test_no_jitter),
        cmocka_unit_test(test_before_headers),
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_homes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
