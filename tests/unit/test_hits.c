/* What ages tell of the hits of a cache, against caches that are played through. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/plan/hits.h"

enum { EXPERTS = 200, TOP = 8, POINTS = 20 };

static uint32_t rng = 1;

static double uniform(void)
{
    rng = rng * 1664525u + 1013904223u;
    return (double)(rng >> 8) / (1 << 24);
}

/* Routes, a token's TOP of them different. */
struct routes {
    int n;
    int (*of)[TOP];
};

/* The next token keeps each expert with probability `stay`; others come with a frequency that falls
 * with their number, by `skew`: 1 = all alike. */
static struct routes make_routes(int n, double stay, double skew)
{
    struct routes r = {n, calloc((size_t)n, sizeof *r.of)};
    assert_non_null(r.of);
    for (int i = 0; i < n; i++) {
        bool has[EXPERTS] = {false};
        for (int k = 0; k < TOP; k++) {
            int e = i && uniform() < stay ? r.of[i - 1][k] : -1;
            while (e < 0 || has[e])
                e = (int)(EXPERTS * pow(uniform(), skew));
            r.of[i][k] = e;
            has[e] = true;
        }
    }
    return r;
}

/* The hits of a cache of the most recently used. */
static double play(const struct routes *r, int room)
{
    int last[EXPERTS], hits = 0;
    for (int e = 0; e < EXPERTS; e++)
        last[e] = -1 - e; /* a cache is full from the start */
    for (int i = 0; i < r->n; i++)
        for (int k = 0; k < TOP; k++) {
            int newer = 0, e = r->of[i][k];
            for (int x = 0; x < EXPERTS; x++)
                newer += last[x] > last[e];
            hits += newer < room;
            last[e] = i * TOP + k;
        }
    return (double)hits / (r->n * TOP);
}

static void tell(const struct routes *r, double *curve)
{
    double again[LADE_AGES] = {0}, first[LADE_AGES] = {0};
    int last[EXPERTS];
    memset(last, -1, sizeof last);
    for (int i = 0; i < r->n; i++)
        for (int k = 0; k < TOP; k++) {
            int e = r->of[i][k];
            if (last[e] >= 0)
                again[lade_hits_class(i - last[e])]++;
            else if (i > 0)
                first[lade_hits_class(i)]++;
            last[e] = i;
        }
    lade_hits_curve(curve, POINTS, &(struct lade_hits_ages){again, first}, TOP, EXPERTS);
}

static void test_caches(void **state)
{
    (void)state;
    static const struct {
        int tokens;
        double stay, skew;
    } cases[] = {{3000, 0, 1}, {3000, 0, 3}, {3000, 0.6, 1}, {3000, 0.5, 2}, {60, 0, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct routes r = make_routes(cases[c].tokens, cases[c].stay, cases[c].skew);
        double curve[POINTS + 1];
        tell(&r, curve);
        assert_true(curve[0] == 0 && curve[POINTS] > 0.97 && curve[POINTS] <= 1);
        for (int i = 2; i < POINTS; i++) { /* from what two tokens ask for */
            double seen = play(&r, EXPERTS * i / POINTS);
            assert_true(curve[i] >= curve[i - 1]);
            /* A short run tells less. */
            if (fabs(curve[i] - seen) > (r.n < 1000 ? 0.08 : 0.04))
                fail_msg("case %zu, %d of %d: %.3f, seen %.3f", c, i, POINTS, curve[i], seen);
        }
        free(r.of);
    }
}

static void test_nothing_known(void **state)
{
    (void)state;
    double none[LADE_AGES] = {0}, curve[POINTS + 1];
    lade_hits_curve(curve, POINTS, &(struct lade_hits_ages){none, none}, TOP, EXPERTS);
    for (int i = 0; i <= POINTS; i++)
        assert_true(curve[i] == 0);
    double first[LADE_AGES] = {[0] = 5}; /* nothing has come again: any is as likely as another */
    lade_hits_curve(curve, POINTS, &(struct lade_hits_ages){none, first}, TOP, EXPERTS);
    for (int i = 0; i <= POINTS; i++)
        assert_true(isfinite(curve[i]) && curve[i] >= 0 && curve[i] <= 1);
}

static void test_classes(void **state)
{
    (void)state;
    int before = 0;
    for (int age = 1; age < 20000; age++) {
        int c = lade_hits_class(age);
        assert_true(c == before || c == before + 1 || age == 1);
        assert_true(age > 16 || c == age - 1);
        before = c;
    }
    assert_int_equal(before, LADE_AGES - 1);
    assert_int_equal(lade_hits_class(1e18), LADE_AGES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
