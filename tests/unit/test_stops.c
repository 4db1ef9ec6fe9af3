/* Texts that end an answer: whatever pieces it comes in, what is before the first of them passes, nothing
 * else does, and whole characters stay whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/stops.h"
#include "tui/stop.h"

static struct lade_stop_texts texts;

static void stop_at(const char *list)
{
    assert_int_equal(stop_read(&texts, list, NULL), 0);
}

/* What passes of `pieces` (NULL at the end), and what the rest adds after a '+'. */
static const char *pass(const char *const *pieces)
{
    static char out[1024];
    struct lade_stops s = {.texts = &texts};
    size_t n = 0;
    for (; *pieces; pieces++)
        n += lade_stops_pass(&s, *pieces, strlen(*pieces), out + n);
    out[n++] = s.hit ? '!' : '+';
    n += lade_stops_rest(&s, out + n);
    out[n] = '\0';
    return out;
}
#define PASS(...) pass((const char *const[]){__VA_ARGS__, NULL})

static void test_pieces(void **state)
{
    (void)state;
    stop_at("END");
    assert_string_equal(PASS("the end"), "the end+");
    assert_string_equal(PASS("the END of it", "more"), "the !");
    assert_string_equal(PASS("the E", "N", "D of it"), "the !");
    assert_string_equal(PASS("the E", "N"), "the +EN");
    assert_string_equal(PASS("E", "EN", "END"), "EEN!");
    assert_string_equal(PASS("EN", "NEND"), "ENN!");
    stop_at("aab|b");
    assert_string_equal(PASS("xaa", "ab"), "xa!"); /* the longer of two that end at one byte */
    stop_at("abcd|bc");
    assert_string_equal(PASS("ab", "cd"), "a!"); /* the first that is complete */
    stop_at("ab|abab");
    assert_string_equal(PASS("xabab"), "x!");
    stop_at("\\n\\n|日本");
    assert_string_equal(PASS("a\n", "b\n", "\nc"), "a\nb!");
    assert_string_equal(PASS("日", "日", "\xe6\x9c\xac"), "日!");
    assert_string_equal(PASS("日", "曜"), "日曜+");
    texts.n = 0;
    assert_string_equal(PASS("any", "thing"), "anything+");
}

/* Texts of few letters in any pieces against a search of the whole. */
static void test_against_a_search(void **state)
{
    (void)state;
    static const char *const lists[] = {"aba", "ab|ba", "aab|abab|bb", "b|aaaa", "abba|bab|aabb"};
    static const char *const letters[] = {"a", "b"};
    srandom(7);
    for (int round = 0; round < 2000; round++) {
        char text[40] = "", want[48], got[48];
        const char *pieces[40];
        char piece[40][8];
        int n = 0, cut = 0;
        stop_at(lists[round % 5]);
        for (int left = (int)(random() % 30); left > 0; n++) {
            piece[n][0] = '\0';
            for (int k = 1 + (int)(random() % 4); k > 0 && left > 0; k--, left--)
                strcat(piece[n], letters[random() % 2]);
            strcat(text, piece[n]);
            pieces[n] = piece[n];
        }
        pieces[n] = NULL;
        size_t end = strlen(text), from = end;
        for (size_t at = 1; at <= strlen(text) && !cut; at++)
            for (int i = 0; i < texts.n; i++) {
                size_t len = strlen(texts.text[i]);
                if (len <= at && !memcmp(text + at - len, texts.text[i], len) && at - len < from) {
                    from = at - len;
                    cut = 1;
                }
            }
        snprintf(want, sizeof want, "%.*s%s", (int)from, text, cut ? "!" : "");
        snprintf(got, sizeof got, "%s", pass(pieces));
        char *plus = strchr(got, '+'); /* held letters are the end of the text */
        if (plus)
            memmove(plus, plus + 1, strlen(plus));
        assert_string_equal(got, want);
    }
}

static void test_lists(void **state)
{
    (void)state;
    char out[STOP_LIST], err[LADE_ERR], line[STOP_LIST];
    stop_at("User:|\\n\\n|a\\|b\\\\n|tab\\t.|c\\d");
    assert_int_equal(texts.n, 5);
    assert_string_equal(texts.text[1], "\n\n");
    assert_string_equal(texts.text[2], "a|b\\n");
    assert_string_equal(texts.text[3], "tab\t.");
    assert_string_equal(texts.text[4], "c\\d");
    snprintf(line, sizeof line, "%s", stop_write(&texts, out, sizeof out));
    struct lade_stop_texts before = texts;
    texts.n = 0;
    stop_at(line);
    assert_memory_equal(&texts, &before, sizeof texts);
    static const struct {
        const char *list, *part;
    } wrong[] = {
        {"a||b", "is empty;"},
        {"a|", "is empty;"},
        {"1|2|3|4|5|6|7|8|9", "8 texts are the most;"},
        {"\xff", "is not UTF-8;"},
        {"0123456789012345678901234567890123456789012345678901234567890123", "has 64 bytes"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(stop_read(&texts, wrong[i].list, err), -1);
        assert_non_null(strstr(err, wrong[i].part));
        assert_memory_equal(&texts, &before, sizeof texts);
    }
    stop_at("");
    assert_int_equal(texts.n, 0);
    for (int i = 0; i < LADE_STOPS; i++) { /* the longest list */
        memset(line, '|', LADE_STOP_SIZE - 1);
        assert_int_equal(stop_add(&texts, "x", line, LADE_STOP_SIZE - 1, err), 0);
    }
    before = texts;
    stop_write(&before, line, sizeof line);
    stop_at(line);
    assert_memory_equal(&texts, &before, sizeof texts);
    assert_string_equal(stop_write(&before, out, 4), "\\|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_against_a_search),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
