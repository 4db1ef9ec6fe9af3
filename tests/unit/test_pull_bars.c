/* Lines of a download: never wider than the terminal, names cut at their beginning, rates. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tui/output.h"
#include "tui/pull_bars.h"
#include "tui/view/cells.h"

static void test_lines(void **state)
{
    (void)state;
    char line[PULL_LINE];
    struct lade_fetch_file f = {.name = "model-00003-of-00009.safetensors",
                                .bytes = 5000000000,
                                .done = 2500000000,
                                .state = LADE_FETCH_RUNNING};
    pull_file_line(line, &f, 100, false);
    assert_non_null(strstr(line, "model-00003-of-00009.safetensors"));
    assert_non_null(strstr(line, "##############"));
    assert_non_null(strstr(line, "2.50 of 5.00 GB"));
    pull_file_line(line, &f, 100, true);
    assert_non_null(strstr(line, "\u2588\u2588\u2588"));
    assert_non_null(strstr(line, "\u2591"));
    f.state = LADE_FETCH_CHECKING;
    pull_file_line(line, &f, 60, false);
    assert_non_null(strstr(line, "checking"));
    assert_non_null(strstr(line, "00003-of-00009.safetensors")); /* the end stays */
}

static void test_widths(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a", "model-00003-of-00009.safetensors",
        "Qwen3-Next-80B-A3B-Instruct-UD-Q4_K_XL-00001-of-00003.gguf",
        "北京北京北京北京北京北京北京北京北京北京北京北京.json"};
    char line[PULL_LINE];
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int width = 40; width <= 300; width++)
            for (int utf8 = 0; utf8 < 2; utf8++) {
                struct lade_fetch_file f = {.name = names[n],
                                            .bytes = 99900000000,
                                            .done = 12300000000,
                                            .state = LADE_FETCH_WAITING};
                struct lade_fetch_progress p = {
                    .files = &f, .n_files = 1, .bytes = f.bytes, .done = f.done};
                pull_file_line(line, &f, width, utf8);
                assert_true(cells_width(line) <= width);
                pull_sum_line(line, &p, 123456789, width, utf8);
                assert_true(cells_width(line) <= width);
                assert_non_null(strstr(line, "1 files"));
            }
}

static void test_empty_file(void **state)
{
    (void)state;
    char line[PULL_LINE];
    struct lade_fetch_file f = {.name = "empty", .state = LADE_FETCH_DONE};
    pull_file_line(line, &f, 80, false);
    assert_null(strchr(line, '-')); /* all of nothing is done */
}

static void test_clean(void **state)
{
    (void)state;
    char text[] = "a\033[2Jb\302\233c\u00e9\n";
    output_clean(text);
    assert_string_equal(text, "a?[2Jb??c\u00e9?");
    char turned[] = "\u202e\u202aa\u2066\u2069b\u2026";
    output_clean(turned);
    assert_string_equal(turned, "??????a??????b\u2026");
    char cut[] = "\xe2\x80";
    output_clean(cut);
    assert_string_equal(cut, "\xe2\x80");
}

static void test_rate(void **state)
{
    (void)state;
    struct pull_rate r = {0};
    assert_true(pull_rate_add(&r, 0, 100) == 0);
    double rate = 0;
    for (int i = 1; i <= 300; i++)
        rate = pull_rate_add(&r, (uint64_t)i * 1000000, 100 + i * 0.1);
    assert_true(rate > 9.9e6 && rate < 10.1e6);
    for (int i = 301; i <= 600; i++) /* it stalls */
        rate = pull_rate_add(&r, 300000000, 100 + i * 0.1);
    assert_true(rate < 0.1e6);
    assert_true(pull_rate_add(&r, 5, 200) == 0); /* another download */
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),      cmocka_unit_test(test_widths),
        cmocka_unit_test(test_empty_file), cmocka_unit_test(test_clean),
        cmocka_unit_test(test_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
