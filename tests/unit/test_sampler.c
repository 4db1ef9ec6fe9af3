#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/session/sampler.h"

static const struct lade_sampling plain = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42};

/* Draws many tokens and returns how often each came. */
static void draw(struct lade_sampling p, const float *logits, int vocab, int draws, int *counts)
{
    struct lade_sampler s;
    char err[LADE_ERR];
    assert_int_equal(lade_sampler_open(&s, &p, vocab, err), 0);
    for (int i = 0; i < vocab; i++)
        counts[i] = 0;
    for (int i = 0; i < draws; i++) {
        int32_t id = lade_sample(&s, logits, NULL, 0);
        assert_in_range(id, 0, vocab - 1);
        counts[id]++;
    }
    lade_sampler_close(&s);
}

static void test_distribution(void **state)
{
    (void)state;
    /* Probabilities 0.5, 0.3, 0.2 at temperature 1; squared and renormalised at 0.5. */
    const float logits[] = {logf(0.3f), logf(0.5f), logf(0.2f)};
    int counts[3];
    draw(plain, logits, 3, 20000, counts);
    assert_in_range(counts[1], 9600, 10400);
    assert_in_range(counts[0], 5650, 6350);
    assert_in_range(counts[2], 3650, 4350);
    struct lade_sampling p = plain;
    p.temperature = 0.5f;
    draw(p, logits, 3, 20000, counts);
    assert_in_range(counts[1], 12700, 13600); /* 0.25 / 0.38 = 0.658 */
}

static void test_cuts(void **state)
{
    (void)state;
    const float logits[] = {logf(0.05f), logf(0.5f), logf(0.3f), logf(0.15f)};
    int counts[4];
    struct lade_sampling p = plain;
    p.top_k = 2;
    draw(p, logits, 4, 2000, counts);
    assert_int_equal(counts[0] + counts[3], 0);
    assert_true(counts[1] > counts[2] && counts[2] > 0);
    p = plain;
    p.top_p = 0.79f; /* 0.5 + 0.3 reaches it */
    draw(p, logits, 4, 2000, counts);
    assert_int_equal(counts[0] + counts[3], 0);
    assert_true(counts[2] > 0);
    p.top_p = 0.45f; /* the first alone reaches it */
    draw(p, logits, 4, 200, counts);
    assert_int_equal(counts[1], 200);
    p = plain;
    p.min_p = 0.25f; /* 0.15 / 0.5 = 0.3 stays, 0.05 / 0.5 = 0.1 goes */
    draw(p, logits, 4, 2000, counts);
    assert_int_equal(counts[0], 0);
    assert_true(counts[3] > 0);
    p.min_p = 0.29f;
    draw(p, logits, 4, 2000, counts);
    assert_true(counts[3] > 0);
    p.min_p = 0.31f;
    draw(p, logits, 4, 2000, counts);
    assert_int_equal(counts[0] + counts[3], 0);
    assert_true(counts[2] > 0);
}

static void test_greedy_and_penalty(void **state)
{
    (void)state;
    float logits[] = {1.0f, 3.0f, 2.9f, -1.0f};
    struct lade_sampling p = plain;
    struct lade_sampler s;
    char err[LADE_ERR];
    p.temperature = 0;
    assert_int_equal(lade_sampler_open(&s, &p, 4, err), 0);
    assert_int_equal(lade_sample(&s, logits, NULL, 0), 1);
    lade_sampler_close(&s);
    p.repetition_penalty = 1.1f;
    assert_int_equal(lade_sampler_open(&s, &p, 4, err), 0);
    const int32_t recent[] = {1, 1, 3};
    assert_int_equal(lade_sample(&s, logits, recent, 3), 2);
    int32_t old[LADE_PENALTY_WINDOW + 1] = {1}; /* 1 is just outside the window, 0 fills it */
    assert_int_equal(lade_sample(&s, logits, old, LADE_PENALTY_WINDOW + 1), 1);
    lade_sampler_close(&s);
}

static void test_seed_repeats(void **state)
{
    (void)state;
    enum { VOCAB = 1000, DRAWS = 50 };
    float *logits = malloc(VOCAB * sizeof *logits);
    for (int i = 0; i < VOCAB; i++)
        logits[i] = sinf((float)i);
    int32_t first[DRAWS];
    for (int run = 0; run < 2; run++) {
        struct lade_sampler s;
        char err[LADE_ERR];
        assert_int_equal(lade_sampler_open(&s, &plain, VOCAB, err), 0);
        for (int i = 0; i < DRAWS; i++) {
            int32_t id = lade_sample(&s, logits, NULL, 0);
            if (run)
                assert_int_equal(id, first[i]);
            first[i] = id;
        }
        lade_sampler_close(&s);
    }
    free(logits);
}

/* top-k by a heap must choose what a full sort chooses. */
static void test_top_k_is_exact(void **state)
{
    (void)state;
    enum { VOCAB = 500 };
    float logits[VOCAB];
    unsigned x = 1;
    for (int i = 0; i < VOCAB; i++) {
        x = x * 1664525u + 1013904223u;
        logits[i] = (float)(x >> 16 & 63); /* many ties */
    }
    struct lade_sampling p = plain;
    p.temperature = 100; /* nearly uniform: every survivor is drawn */
    p.top_k = 40;
    int counts[VOCAB], survivors = 0;
    draw(p, logits, VOCAB, 20000, counts);
    float lowest = INFINITY;
    for (int i = 0; i < VOCAB; i++)
        if (counts[i]) {
            survivors++;
            lowest = fminf(lowest, logits[i]);
        }
    assert_int_equal(survivors, 40);
    for (int i = 0; i < VOCAB; i++)
        if (!counts[i])
            assert_true(logits[i] <= lowest);
}

static void test_not_numbers(void **state)
{
    (void)state;
    float logits[] = {NAN, 1.0f, NAN};
    int counts[3];
    draw(plain, logits, 3, 50, counts);
    assert_int_equal(counts[1], 50);
    logits[1] = -INFINITY;
    draw(plain, logits, 3, 50, counts);
    assert_int_equal(counts[1], 50);
    struct lade_sampler s;
    char err[LADE_ERR];
    const float none[] = {NAN, NAN};
    assert_int_equal(lade_sampler_open(&s, &plain, 2, err), 0);
    assert_int_equal(lade_sample(&s, none, NULL, 0), -1);
    lade_sampler_close(&s);
}

enum { VOCAB = 600, LARGEST = 12 + LADE_PENALTY_WINDOW };

/* The largest of VOCAB logits. */
static void largest(const float *logits, float *values, int32_t *ids)
{
    for (int i = 0; i < VOCAB; i++) {
        int rank = 0;
        for (int j = 0; j < VOCAB; j++)
            rank += logits[j] > logits[i] || (logits[j] == logits[i] && j < i);
        if (rank < LARGEST) {
            values[rank] = logits[i];
            ids[rank] = i;
        }
    }
}

/* The largest logits alone give the same draws as all of them, also where tokens that were seen, up to a
 * whole window of the best ones, are penalised. */
static void test_from_the_largest(void **state)
{
    (void)state;
    enum { K = 12 };
    float logits[VOCAB], values[LARGEST];
    int32_t ids[LARGEST], recent[300];
    char err[LADE_ERR];
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(i * 7919 % 101) / 10 - 5; /* many are equal */
    largest(logits, values, ids);
    for (int i = 0; i < 300; i++)
        recent[i] = ids[i % LARGEST];
    static const struct {
        float temperature, penalty;
        int wants, seen;
    } cases[] = {{2, 1, K, 0},
                 {0, 1, 1, 0},
                 {2, 1.3f, LARGEST, 300},
                 {2, 1.02f, LARGEST, 30},
                 {0, 1.3f, 1 + LADE_PENALTY_WINDOW, 300},
                 {0, 1.05f, 1 + LADE_PENALTY_WINDOW, 3}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct lade_sampling p = plain;
        struct lade_sampler all, top;
        p.top_k = K;
        p.top_p = 0.9f;
        p.temperature = cases[c].temperature;
        p.repetition_penalty = cases[c].penalty;
        assert_int_equal(lade_sampler_open(&all, &p, VOCAB, err), 0);
        assert_int_equal(lade_sampler_open(&top, &p, VOCAB, err), 0);
        const int n = lade_sampler_wants(&top), seen = cases[c].seen;
        assert_int_equal(n, cases[c].wants);
        for (int i = 0; i < 200; i++)
            assert_int_equal(lade_sample_top(&top, values, ids, n, recent, seen),
                             lade_sample(&all, logits, recent, seen));
        lade_sampler_close(&all);
        lade_sampler_close(&top);
    }
    struct lade_sampler raised = {.p = plain};
    raised.p.top_k = K;
    raised.p.repetition_penalty = 0.9f; /* what it raises may have been anywhere */
    assert_int_equal(lade_sampler_wants(&raised), 0);
    raised.p.repetition_penalty = 1.1f;
    raised.p.top_k = 0;
    assert_int_equal(lade_sampler_wants(&raised), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),       cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_greedy_and_penalty), cmocka_unit_test(test_seed_repeats),
        cmocka_unit_test(test_top_k_is_exact),     cmocka_unit_test(test_not_numbers),
        cmocka_unit_test(test_from_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
