/* Where rows are packed that nothing else touches: reads may use it until then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/checkpoint/pack.h"
#include "kernels/blocks.h"
#include "tests/support/support_tensor.h"

/* Rows [first, first + n) of t, of which all others are packed before: what is theirs alone is as it was then, and
 * afterwards as in `whole`. Returns how many bytes that are. */
static size_t check_own(const struct lade_tensor *t, const unsigned char *src,
                        const unsigned char *whole, int first, int n)
{
    const struct lade_catalog cat = {0};
    const size_t row = lade_pack_row_bytes(t, 0);
    const int rows = t->packed.rows, end = first + n;
    unsigned char *packed = support_tensor_room(t);
    char err[LADE_ERR] = "";
    size_t at, bytes = lade_pack_own(t, 0, first, n, &at);
    assert_true(at + bytes <= t->bytes);
    memset(packed + at, 0xA5, bytes);
    if ((first && lade_pack_rows(&cat, t, 0, 0, first, src, packed, err)) ||
        (end < rows &&
         lade_pack_rows(&cat, t, 0, end, rows - end, src + (size_t)end * row, packed, err)))
        fail_msg("%s", err);
    for (size_t i = at; i < at + bytes; i++)
        assert_int_equal(packed[i], 0xA5);
    memset(packed + at, 0, bytes);
    assert_int_equal(lade_pack_rows(&cat, t, 0, first, n, src + (size_t)first * row, packed, err),
                     0);
    assert_memory_equal(packed, whole, t->bytes);
    free(packed);
    return bytes;
}

static void rows_have_places_of_their_own(void **state)
{
    (void)state;
    enum { ROWS = 42, COLS = 512 };
    static const struct {
        uint8_t source, type, group, block;
        size_t row;
        bool tiles;
    } types[] = {
        {LADE_SRC_F32, LADE_F32, 0, 0, 4 * COLS, false},
        {LADE_SRC_BF16, LADE_BF16, 0, 0, 2 * COLS, false},
        {LADE_SRC_Q4_0, LADE_Q4, 32, 0, COLS / 32 * 18, true},
        {LADE_SRC_Q8_0, LADE_Q8, 32, 0, COLS / 32 * 34, true},
        {LADE_SRC_BLOCKS, LADE_BLOCKS, 0, LADE_BLOCK_Q4_K, COLS / 256 * 144, true},
        {LADE_SRC_BLOCKS, LADE_BLOCKS, 0, LADE_BLOCK_Q6_K, COLS / 256 * 210, true},
        {LADE_SRC_BLOCKS, LADE_BLOCKS, 0, LADE_BLOCK_MXFP4, COLS / 32 * 17, true},
    };
    static unsigned char src[ROWS * 4 * COLS];
    for (size_t i = 0; i < sizeof src; i++)
        src[i] = (unsigned char)(i * 31 % 59 + 1); /* no infinite scales */
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct lade_catalog cat = {0};
        struct lade_matrix_layout l;
        struct lade_tensor t = {.source = types[i].source,
                                .n_parts = 1,
                                .parts = {{.bytes = ROWS * types[i].row}},
                                .packed = {.type = types[i].type,
                                           .group = types[i].group,
                                           .block = types[i].block,
                                           .rows = ROWS,
                                           .cols = COLS}};
        char err[LADE_ERR] = "";
        size_t at;
        assert_int_equal(lade_matrix_layout(&t.packed, &l), 0);
        t.bytes = l.bytes;
        unsigned char *whole = support_tensor_room(&t);
        assert_int_equal(lade_pack(&cat, &t, 0, src, whole, err), 0);
        assert_int_equal(lade_pack_row_bytes(&t, 0), types[i].row);
        assert_true(check_own(&t, src, whole, 0, 16) >= 8 * types[i].row); /* half of it at least */
        assert_true(check_own(&t, src, whole, 16, 16) >= 8 * types[i].row);
        assert_true(check_own(&t, src, whole, 32, ROWS - 32) > 0 || types[i].tiles);
        assert_true(check_own(&t, src, whole, 5, 20) > 0 || types[i].tiles);
        assert_int_equal(lade_pack_own(&t, 0, 0, 0, &at), l.bytes);
        assert_int_equal(at, 0);
        t.rows = LADE_ROWS_QKVZ; /* rows that are not together */
        assert_int_equal(lade_pack_own(&t, 0, 16, 16, &at), 0);
        t.rows = LADE_ROWS_SAME;
        t.n_parts = 2; /* each of which has but some of them */
        assert_int_equal(lade_pack_own(&t, 0, 0, 0, &at), 0);
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_places_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
