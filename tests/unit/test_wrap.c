/* Columns of characters, and paragraphs broken into rows. */
#include "tui/text/wrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tui/text/width.h"

static int cols(const char *s)
{
    return width_of(s, strlen(s));
}

static char *drawn(const char *s, size_t n)
{
    struct buf out = {0};
    struct width_glyph g;
    buf_add(&out, "", 0);
    for (size_t i = 0; i < n;) {
        i += width_next(s + i, n - i, &g);
        buf_add(&out, g.out, (size_t)g.out_len);
    }
    return out.at;
}

static void assert_drawn(const char *s, const char *expected)
{
    char *got = drawn(s, strlen(s));
    assert_string_equal(got, expected);
    free(got);
}

static void widths(void **state)
{
    (void)state;
    assert_int_equal(cols("abc"), 3);
    assert_int_equal(cols("日本語"), 6);
    assert_int_equal(cols("한국"), 4);
    assert_int_equal(cols("e\u0301"), 1); /* combining mark */
    assert_int_equal(cols("🚢"), 2);
    assert_int_equal(cols("\u0301"), 1); /* a mark alone stands on a blank */
    assert_int_equal(cols("\t"), WIDTH_TAB);
    assert_int_equal(cols(""), 0);
}

static void sequences_are_drawn_alike_everywhere(void **state)
{
    (void)state;
    assert_drawn("👩\u200d💻", "👩💻");
    assert_int_equal(cols("👩\u200d💻"), 4);
    assert_drawn("❤\ufe0f", "❤");
    assert_drawn("👍\U0001F3FD", "👍");
    assert_int_equal(cols("👍\U0001F3FD"), 2);
}

static void nothing_dangerous_is_drawn(void **state)
{
    (void)state;
    assert_drawn("\033[31mred", "␛[31mred");
    assert_drawn("a\ab", "a␇b");
    assert_drawn("\x7f", "\\x7F");
    assert_drawn("\302\23331m", "\\x9B31m");    /* the 8-bit CSI */
    assert_drawn("\u202eabc", "abc");           /* right-to-left override */
    assert_drawn("x\xff\xc0y", "x\\xFF\\xC0y"); /* not UTF-8 */
    assert_drawn("\xe6\x97", "\\xE6\\x97");     /* cut in the middle */
    assert_drawn("a\rb", "a␍b");
    /* More marks than a cell of the screen holds. */
    char zalgo[400] = "a";
    for (int i = 0; i < 100; i++)
        strcat(zalgo, "\u0301");
    assert_int_equal(cols(zalgo), 1);
    char *got = drawn(zalgo, strlen(zalgo));
    assert_true(strlen(got) <= 1 + 4 * 2);
    free(got);
}

static void fits_whole_glyphs(void **state)
{
    (void)state;
    assert_int_equal(width_fit("日本", 6, 3), 3);
    assert_int_equal(width_fit("日本", 6, 1), 0);
    assert_int_equal(width_fit("ab", 2, 9), 2);
}

/* Rows joined by '|'. */
static char *wrapped(const char *text, int width, bool whole)
{
    struct wrap w = {0};
    struct lines l = {0};
    struct buf out = {0};
    wrap_text(&w, THEME_TEXT, text, strlen(text));
    wrap_out(&w, &l, width, NULL, NULL, whole);
    for (size_t i = 0; i < l.n; i++) {
        char *row = lines_text(&l, i);
        assert_true(lines_cols(&l, i) <= width);
        assert_int_equal(lines_cols(&l, i), cols(row));
        buf_printf(&out, "%s%s", i ? "|" : "", row);
        free(row);
    }
    wrap_free(&w);
    lines_free(&l);
    return out.at;
}

static void assert_wrapped(const char *text, int width, const char *expected)
{
    char *got = wrapped(text, width, false);
    assert_string_equal(got, expected);
    free(got);
}

static void words(void **state)
{
    (void)state;
    assert_wrapped("the quick brown fox", 10, "the quick|brown fox");
    assert_wrapped("the quick brown fox", 9, "the quick|brown fox");
    assert_wrapped("exactly ten", 7, "exactly|ten");
    assert_wrapped("abcdefghij", 4, "abcd|efgh|ij");
    assert_wrapped("a abcdefghij", 4, "a|abcd|efgh|ij");
    assert_wrapped("one\ntwo\n\nthree", 9, "one|two||three");
    assert_wrapped("end\n", 9, "end");
    assert_wrapped("", 9, "");
    assert_wrapped("a-b well-known", 8, "a-b|well-|known");
    assert_wrapped("  indented", 20, "  indented");
    assert_wrapped("word   \nnext", 20, "word|next");
}

static void wide_scripts(void **state)
{
    (void)state;
    assert_wrapped("日本語日本語", 5, "日本|語日|本語");
    /* A full stop may not begin a row, an opening bracket may not end one. */
    assert_wrapped("日本語。日本", 6, "日本|語。日|本");
    assert_wrapped("日本「語」", 6, "日本|「語」");
    assert_wrapped("abc日本", 4, "abc|日本");
    assert_wrapped("🚢🚢🚢", 4, "🚢🚢|🚢");
}

static void code_keeps_its_blanks(void **state)
{
    (void)state;
    char *got = wrapped("  if (x)\n      y();\n", 8, true);
    assert_string_equal(got, "  if (x)|      y(|);");
    free(got);
}

static void prefixes(void **state)
{
    (void)state;
    struct wrap w = {0};
    struct lines l = {0}, mark = {0}, blank = {0};
    lines_put(&mark, THEME_QUOTE, "• ", strlen("• "), 2);
    lines_put(&blank, THEME_TEXT, "  ", 2, 2);
    struct wrap_prefix first = {&mark, 2}, rest = {&blank, 2};
    wrap_text(&w, THEME_TEXT, "one two three", 13);
    wrap_out(&w, &l, 9, &first, &rest, false);
    const char *expected[] = {"• one two", "  three"};
    assert_int_equal(l.n, 2);
    for (size_t i = 0; i < 2; i++) {
        char *row = lines_text(&l, i);
        assert_string_equal(row, expected[i]);
        free(row);
    }
    wrap_free(&w);
    lines_free(&l);
    lines_free(&mark);
    lines_free(&blank);
}

static void roles_stay_with_their_text(void **state)
{
    (void)state;
    struct wrap w = {0};
    struct lines l = {0};
    wrap_text(&w, THEME_TEXT, "plain ", 6);
    wrap_text(&w, THEME_STRONG, "strong words", 12);
    wrap_out(&w, &l, 12, NULL, NULL, false);
    assert_int_equal(l.n, 2);
    assert_int_equal(l.rows[0].n, 2);
    assert_int_equal(l.spans[l.rows[0].span].role, THEME_TEXT);
    assert_int_equal(l.spans[l.rows[0].span + 1].role, THEME_STRONG);
    assert_int_equal(l.spans[l.rows[1].span].role, THEME_STRONG);
    wrap_free(&w);
    lines_free(&l);
}

int main(void)
{
    width_locale();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(widths),
        cmocka_unit_test(sequences_are_drawn_alike_everywhere),
        cmocka_unit_test(nothing_dangerous_is_drawn),
        cmocka_unit_test(fits_whole_glyphs),
        cmocka_unit_test(words),
        cmocka_unit_test(wide_scripts),
        cmocka_unit_test(code_keeps_its_blanks),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(roles_stay_with_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
