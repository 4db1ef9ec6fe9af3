/* Markdown laid out as rows, at once and while it grows. */
#include "tui/text/markdown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tui/text/width.h"

static char *all_rows(const struct lines *l)
{
    struct buf out = {0};
    buf_add(&out, "", 0);
    for (size_t i = 0; i < l->n; i++) {
        char *row = lines_text(l, i);
        buf_printf(&out, "%s\n", row);
        free(row);
    }
    return out.at;
}

static char *rendered(const char *text, int width)
{
    struct markdown m = {0};
    struct lines l = {0};
    markdown_update(&m, &l, text, strlen(text), width);
    for (size_t i = 0; i < l.n; i++)
        assert_true(lines_cols(&l, i) <= width);
    char *out = all_rows(&l);
    lines_free(&l);
    return out;
}

static void assert_rendered(const char *text, int width, const char *expected)
{
    char *got = rendered(text, width);
    assert_string_equal(got, expected);
    free(got);
}

static void blocks(void **state)
{
    (void)state;
    assert_rendered("# Title\n\ntext\n", 40, "Title\n\ntext\n");
    assert_rendered("one\ntwo", 40, "one\ntwo\n"); /* a line the model ended stays ended */
    assert_rendered("a\n\n---\n\nb", 5, "a\n\n─────\n\nb\n");
    assert_rendered("> quoted text\n> more", 40, "│ quoted text\n│ more\n");
    assert_rendered("text\n\n> a\n>\n> b", 40, "text\n\n│ a\n│\n│ b\n");
}

static void lists(void **state)
{
    (void)state;
    assert_rendered("- a\n- b\n  - c\n- d", 40, "• a\n• b\n  • c\n• d\n");
    assert_rendered("9. nine\n10. ten", 40, "9. nine\n10. ten\n");
    assert_rendered("- one two three", 9, "• one two\n  three\n");
    assert_rendered("- [ ] todo\n- [x] done", 40, "[ ] todo\n[x] done\n");
    assert_rendered("- a\n\n- b", 40, "• a\n\n• b\n");
    assert_rendered("- a\n\n  ```\n  x\n  ```\n", 40, "• a\n\n  │ x\n");
    assert_rendered("text\n- a", 40, "text\n\n• a\n");
}

static void code(void **state)
{
    (void)state;
    assert_rendered("```c\nint x;\n\n  y\n```\n", 40, "╭ c\n│ int x;\n│ \n│   y\n");
    assert_rendered("```\nopen", 40, "│ open\n"); /* a fence that is not closed yet */
    assert_rendered("```\n**not bold** &amp;\n```", 40, "│ **not bold** &amp;\n");
    assert_rendered("use `a  b` here", 40, "use a  b here\n");
}

static void tables(void **state)
{
    (void)state;
    assert_rendered("| a | bb |\n|---|---:|\n| 日本 | 1 |\n| x | 22 |\n", 40,
                    "a    │ bb\n─────┼───\n日本 │  1\nx    │ 22\n");
    /* Narrower than its text: cells become several rows. */
    assert_rendered("| key | text |\n|---|---|\n| k | one two three four |\n", 20,
                    "key │ text\n────┼───────────────\nk   │ one two three\n    │ four\n");
    /* Too narrow for columns. */
    assert_rendered("| a | b | c |\n|---|---|---|\n| 1 | 2 | 3 |\n| 4 | 5 | 6 |\n", 16,
                    "a: 1\nb: 2\nc: 3\n\na: 4\nb: 5\nc: 6\n");
}

static void inline_text(void **state)
{
    (void)state;
    assert_rendered("[text](http://x.y)", 40, "text (http://x.y)\n");
    assert_rendered("<http://x.y>", 40, "http://x.y\n");
    assert_rendered("&lt;b&gt; &#233; &#x1F6A2; &nope;", 40, "<b> é 🚢 &nope;\n");
    assert_rendered("<script>alert(1)</script>", 40, "<script>alert(1)</script>\n");
    assert_rendered("\033]0;title\007", 40, "␛]0;title␇\n");
}

static void roles(void **state)
{
    (void)state;
    const char *text = "**b** *i* `c`";
    struct markdown m = {0};
    struct lines l = {0};
    markdown_update(&m, &l, text, strlen(text), 40);
    const enum theme_role expected[] = {THEME_STRONG, THEME_TEXT, THEME_EMPHASIS, THEME_TEXT,
                                        THEME_CODE};
    assert_int_equal(l.rows[0].n, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(l.spans[i].role, expected[i]);
    lines_free(&l);
}

static void stable_places(void **state)
{
    (void)state;
    const struct {
        const char *text;
        size_t stable;
    } cases[] = {
        {"para", 0},
        {"para\n\n", 0},
        {"para\n\nnext", 6},
        {"para\n\n-", 0}, /* may become a list, a rule, a heading above */
        {"para\n\n- item\n", 6},
        {"- a\n\n- b\n", 0}, /* one list */
        {"- a\n\ntext\n", 5},
        {"1. a\n\n2", 0},
        {"```\na\n\nb\n", 0}, /* inside a fence */
        {"```\na\n```\n\nb", 11},
        {"````\n```\n\nb\n", 0}, /* a shorter fence does not close */
        {"- a\n\n  more\n", 0},  /* belongs to the item */
        {"a\n\nb\n\nc", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(markdown_stable(cases[i].text, strlen(cases[i].text), 0), cases[i].stable);
}

/* What was laid out piece by piece looks as if it had been laid out at once. */
static void growing(void **state)
{
    (void)state;
    static const char text[] =
        "# Why\n\nA *long* paragraph of **text** that wraps.\n\n1. one\n2. two\n\n3. three\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```c\nint main(void)\n\n{\n}\n```\n\n> quote\n\n"
        "- x\n- y\n\n日本語 🚢 end.\n\n---\n\nlast";
    struct markdown m = {0};
    struct lines l = {0};
    size_t most = 0;
    lines_add(&l, THEME_DIM, "before", 30);
    for (size_t n = 1; n <= strlen(text); n++) {
        markdown_update(&m, &l, text, n, 30);
        assert_true(m.stable >= most);
        most = m.stable;
    }
    assert_true(most > strlen(text) - 10);
    char *step = all_rows(&l), *once = rendered(text, 30);
    assert_true(strncmp(step, "before\n", 7) == 0);
    assert_string_equal(step + 7, once);
    free(step);
    free(once);
    lines_free(&l);
}

/* Any width and any bytes: no crash, no row too wide. */
static void hostile(void **state)
{
    (void)state;
    static const char signs[] = "ab \n\n#*_`~>-+1.|[](){}<&;!\\\t\xe6\x97\xa5\xff\033";
    unsigned seed = 1;
    char text[400];
    for (int turn = 0; turn < 3000; turn++) {
        size_t n = 0;
        while (n < sizeof text - 1)
            text[n++] = signs[((seed = seed * 1664525 + 1013904223) >> 8) % (sizeof signs - 1)];
        text[n] = '\0';
        int width = 1 + (int)(seed >> 16 & 63);
        struct markdown m = {0};
        struct lines l = {0};
        for (size_t k = 1; k < n; k += 40)
            markdown_update(&m, &l, text, k, width);
        markdown_update(&m, &l, text, n, width);
        for (size_t i = 0; i < l.n; i++)
            assert_true(lines_cols(&l, i) <= (width > 8 ? width : 12));
        lines_free(&l);
    }
}

int main(void)
{
    width_locale();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),        cmocka_unit_test(lists),       cmocka_unit_test(code),
        cmocka_unit_test(tables),        cmocka_unit_test(inline_text), cmocka_unit_test(roles),
        cmocka_unit_test(stable_places), cmocka_unit_test(growing),     cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
