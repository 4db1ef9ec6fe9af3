/* off_by.h - how far logits are from others; include after cmocka.h. */
#ifndef LADE_TESTS_OFF_BY_H
#define LADE_TESTS_OFF_BY_H

#include <math.h>

/* Relative L2 error of n values; `want` may not be all 0. */
static inline double off_by(const float *have, const float *want, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)have[i] - want[i]) * ((double)have[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    assert_true(norm > 0);
    return sqrt(diff / norm);
}

/* The largest of so many positions; NaN if one is. */
static inline double worst_off_by(const float *have, const float *want, int positions, size_t vocab)
{
    double most = 0;
    for (int p = 0; p < positions; p++) {
        const double e = off_by(have + (size_t)p * vocab, want + (size_t)p * vocab, vocab);
        if (isnan(e))
            return e;
        most = fmax(most, e);
    }
    return most;
}

#endif
