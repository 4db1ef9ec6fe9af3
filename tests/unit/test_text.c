/* A text made of pieces: what it says at its limits and without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/text.h"

static void test_pieces(void **state)
{
    (void)state;
    struct lade_text t = {0};
    char want[6 * 400 + 1] = "";
    assert_true(lade_text_add(&t, NULL, 0)); /* an empty text is one */
    assert_string_equal(t.at, "");
    for (int i = 0; i < 400; i++) {
        assert_true(lade_text_puts(&t, "ab"));
        assert_true(lade_text_add(&t, "c\0d!", 4));
        memcpy(want + 6 * i, "abc\0d!", 6);
        assert_int_equal(t.at[t.n], 0);
    }
    assert_int_equal(t.n, sizeof want - 1);
    assert_memory_equal(t.at, want, sizeof want);
    t.n = 0; /* a new one in the same memory */
    const char *at = t.at;
    assert_true(lade_text_puts(&t, "new"));
    assert_string_equal(t.at, "new");
    assert_ptr_equal(t.at, at);
    free(t.at);
}

static void test_most(void **state)
{
    (void)state;
    struct lade_text t = {.most = 5};
    assert_true(lade_text_puts(&t, "abc"));
    assert_true(lade_text_puts(&t, "de")); /* to the byte */
    assert_true(lade_text_puts(&t, ""));
    assert_false(lade_text_puts(&t, "f"));
    assert_true(t.failed && t.too_long);
    assert_false(lade_text_puts(&t, "")); /* sticky */
    assert_string_equal(t.at, "abcde");
    free(t.at);
}

/* More bytes than there can be: no byte of the piece is read, and what was there stays. */
static void test_no_memory(void **state)
{
    (void)state;
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 3, SIZE_MAX - 4, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        struct lade_text t = {0};
        assert_true(lade_text_puts(&t, "abc"));
        assert_false(lade_text_add(&t, "d", huge[i]));
        assert_true(t.failed && !t.too_long);
        assert_false(lade_text_puts(&t, "e"));
        assert_string_equal(t.at, "abc");
        free(t.at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_most),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
