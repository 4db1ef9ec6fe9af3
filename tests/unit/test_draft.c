/* Where drafts come from, and when they pay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/draft.h"
#include "engine/session/lookup.h"
#include "kernels/error.h"

static char err[LADE_ERR];

static struct lade_lookup open_lookup(void)
{
    struct lade_lookup l;
    if (lade_lookup_open(&l, err))
        fail_msg("%s", err);
    return l;
}

/* ---- lookup ---- */

static void test_what_followed_is_found(void **state)
{
    (void)state;
    const int32_t ids[] = {7, 1, 2, 3, 4, 5, 1, 2, 3};
    struct lade_lookup l = open_lookup();
    int same = -1;
    assert_int_equal(lade_lookup_find(&l, ids, &same), 0);
    for (int n = 1; n < 9; n++) {
        lade_lookup_see(&l, ids, n);
        assert_int_equal(lade_lookup_find(&l, ids, &same), 0);
        assert_int_equal(same, 0);
    }
    lade_lookup_see(&l, ids, 9);
    assert_int_equal(lade_lookup_find(&l, ids, &same), 4);
    assert_int_equal(same, 3);
    lade_lookup_close(&l);
}

/* Of two places the later one, but not if it has less in common. */
static void test_which_place(void **state)
{
    (void)state;
    static const int32_t ids[] = {11, 12, 13, 14, 15, 16, 17, 18, 50, /* eight, then 50 */
                                  16, 17, 18, 60,                     /* three of them, then 60 */
                                  16, 17, 18, 11, 12, 13, 14, 15, 16, 17, 18};
    struct lade_lookup l = open_lookup();
    int same;
    lade_lookup_see(&l, ids, 16);
    assert_int_equal(ids[lade_lookup_find(&l, ids, &same)], 60);
    assert_int_equal(same, 3);
    lade_lookup_see(&l, ids, (int)(sizeof ids / sizeof *ids));
    assert_int_equal(ids[lade_lookup_find(&l, ids, &same)], 50);
    assert_int_equal(same, 8);
    lade_lookup_close(&l);
}

/* A timeline that is longer than the tables: what is found is always right, and mostly found. */
static void test_full_tables(void **state)
{
    (void)state;
    enum { LONG = 3 * LADE_LOOKUP_SIZE, TURN = 1000 };
    static int32_t ids[LONG];
    struct lade_lookup l = open_lookup();
    int found = 0, same;
    uint32_t x = 1;
    for (int i = 0; i < LONG; i++) {
        x = x * 1664525u + 1013904223u;
        ids[i] = i / TURN % 2 ? ids[i - TURN] : (int32_t)(x >> 15); /* each thousand twice */
    }
    for (int n = 1; n <= LONG; n += 7) {
        lade_lookup_see(&l, ids, n);
        const int at = lade_lookup_find(&l, ids, &same);
        assert_in_range(at, 0, n - 1);
        for (int i = 1; at && i <= same; i++)
            assert_int_equal(ids[at - i], ids[n - i]);
        found += at && same == LADE_LOOKUP_MOST;
    }
    assert_true(found > LONG / 7 / 2 * 9 / 10);
    lade_lookup_close(&l);
}

/* ---- what pays ---- */

/* Single tokens of a second, passes of a line, and guesses of each sureness that were right so often. */
static struct lade_draft taught(double pass_of_2, double pass_of_8, int right, int of)
{
    struct lade_draft d = {0};
    for (int i = 0; i < 8; i++)
        lade_draft_took(&d, 0, 1);
    for (int n = 1; n <= LADE_DRAFT_MOST; n++)
        lade_draft_took(&d, n, pass_of_2 + (pass_of_8 - pass_of_2) * (n - 1) / 6);
    for (int sure = 0; sure <= LADE_DRAFT_SURE; sure++)
        for (int i = 0; i < 200; i++)
            lade_draft_heard(&d, sure, i % of < right);
    return d;
}

static void test_nothing_without_knowledge(void **state)
{
    (void)state;
    struct lade_draft d = {0};
    assert_int_equal(lade_draft_worth(&d, LADE_DRAFT_SURE, 7), 0);
    for (int i = 0; i < 100; i++)
        lade_draft_heard(&d, LADE_DRAFT_SURE, true);
    assert_int_equal(lade_draft_worth(&d, LADE_DRAFT_SURE, 7), 0); /* no token was timed */
    for (int i = 0; i < 4; i++)
        lade_draft_took(&d, 0, 0.1);
    assert_true(lade_draft_worth(&d, LADE_DRAFT_SURE, 7) > 0);
    assert_int_equal(lade_draft_worth(&d, 3, 7), 0); /* of this sureness nobody knows */
    assert_int_equal(lade_draft_worth(&d, LADE_DRAFT_SURE, 0), 0);
}

static void test_what_pays(void **state)
{
    (void)state;
    struct lade_draft d = taught(1.3, 3.1, 1, 1);
    assert_int_equal(lade_draft_worth(&d, 3, 7), 7); /* always right: as many as there may be */
    assert_int_equal(lade_draft_worth(&d, 3, 4), 4);
    assert_int_equal(lade_draft_worth(&d, 99, 7), 7);
    d = taught(1.5, 3.5, 0, 1); /* never right */
    assert_int_equal(lade_draft_worth(&d, 3, 7), 0);
    d = taught(1.5, 3.5, 1, 2); /* every second one: 1.5 tokens for 1.5 */
    assert_int_equal(lade_draft_worth(&d, 3, 7), 0);
    d = taught(1.2, 4.5, 7, 10); /* few of them pay, many do not */
    assert_in_range(lade_draft_worth(&d, 3, 7), 1, 3);
    d = taught(2.1, 8.5, 1, 1); /* a pass that costs more than its tokens */
    assert_int_equal(lade_draft_worth(&d, 3, 7), 0);
}

/* Guesses that are wrong again soon end it, right ones soon begin it. */
static void test_it_follows(void **state)
{
    (void)state;
    struct lade_draft d = taught(1.5, 3.5, 1, 1);
    int wrong = 0, right = 0;
    for (; lade_draft_worth(&d, 5, 1) && wrong < 100; wrong++)
        lade_draft_heard(&d, 5, false);
    assert_in_range(wrong, 1, 12);
    assert_int_equal(lade_draft_worth(&d, 6, 1), 1); /* others are as sure as they were */
    for (; !lade_draft_worth(&d, 5, 1) && right < 100; right++)
        lade_draft_heard(&d, 5, true);
    assert_in_range(right, 1, 16);
}

/* A pass that was slow once is tried again after some hundred tokens. */
static void test_a_slow_pass_is_forgotten(void **state)
{
    (void)state;
    struct lade_draft d = taught(1.5, 3.5, 1, 1);
    int tokens = 0;
    for (int n = 1; n <= LADE_DRAFT_MOST; n++)
        lade_draft_took(&d, n, 100);
    assert_int_equal(lade_draft_worth(&d, 9, 7), 0);
    for (; !lade_draft_worth(&d, 9, 7) && tokens < 10000; tokens++)
        lade_draft_took(&d, 0, 1);
    assert_in_range(tokens, 100, 2000);
}

/* Text that was made by somebody, in passes that take what they took for the 80B's layers: how many times as
 * fast as token by token. */
static double speed(const int32_t *ids, int n)
{
    static const double pass[] = {1, 1.4, 1.7, 2.0, 2.4, 2.7, 3.0, 3.4};
    const double settle = 0.05;
    struct lade_draft d = {0};
    struct lade_lookup l = open_lookup();
    double seconds = 0;
    int guess = 0, sure = 0, left = 0; /* left: tokens of the last pass that are right */
    for (int have = 1; have <= n; have++) {
        if (guess)
            lade_draft_heard(&d, sure, ids[guess] == ids[have - 1]);
        lade_lookup_see(&l, ids, have);
        guess = lade_lookup_find(&l, ids, &sure);
        if (left-- > 0)
            continue;
        const int most = n - have < 7 ? n - have : 7;
        const int drafts = guess ? lade_draft_worth(&d, sure, most) : 0;
        const int circle = have - guess; /* what follows the guess follows it again */
        for (left = 0; left < drafts && ids[guess + left % circle] == ids[have + left];)
            left++;
        seconds += pass[drafts] + (drafts ? settle : 0);
        lade_draft_took(&d, drafts, pass[drafts]);
    }
    lade_lookup_close(&l);
    return n / seconds;
}

static void test_what_texts_gain(void **state)
{
    (void)state;
    enum { LONG = 3000, PART = 300 };
    static int32_t ids[LONG];
    uint32_t x = 1;
    /* Words at random: of many, of a few, which seem to come again, and of two. */
    for (int words = 1000; words >= 2; words = words > 8 ? words / 5 : words - 1) {
        for (int i = 0; i < LONG; i++) {
            x = x * 1664525u + 1013904223u;
            ids[i] = (int32_t)((x >> 8) % (uint32_t)words);
        }
        assert_true(speed(ids, LONG) > 0.99);
    }
    /* Copies, with a word in ten that is another one, and without. */
    for (int edited = 1; edited >= 0; edited--) {
        for (int i = 0; i < LONG; i++) {
            x = x * 1664525u + 1013904223u;
            ids[i] = i < PART || (edited && i % 10 == 0) ? (int32_t)(x >> 8) : ids[i - PART];
        }
        assert_true(speed(ids, LONG) > (edited ? 1.1 : 1.5));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_followed_is_found),
        cmocka_unit_test(test_which_place),
        cmocka_unit_test(test_full_tables),
        cmocka_unit_test(test_nothing_without_knowledge),
        cmocka_unit_test(test_what_pays),
        cmocka_unit_test(test_it_follows),
        cmocka_unit_test(test_a_slow_pass_is_forgotten),
        cmocka_unit_test(test_what_texts_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
