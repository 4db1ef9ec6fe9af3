#include "engine/session/sampler.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct lade_candidate {
    float logit, p;
    int32_t id;
};

void lade_sampling_defaults(struct lade_sampling *s, const struct lade_catalog *cat)
{
    const struct lade_generation *g = &cat->generation;
    *s = (struct lade_sampling){
        .temperature = g->temperature,
        .top_k = g->top_k,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .repetition_penalty = g->repetition_penalty,
    };
}

/* splitmix64 spreads a small seed over the whole state (Vigna, prng.di.unimi.it). */
static uint64_t split_mix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

/* xoshiro256** (Blackman and Vigna). */
static uint64_t next_random(uint64_t s[4])
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

int lade_sampler_open(struct lade_sampler *s, const struct lade_sampling *p, int vocab, char *err)
{
    *s = (struct lade_sampler){.p = *p, .vocab = vocab};
    s->pool = malloc((size_t)vocab * sizeof *s->pool);
    if (!s->pool)
        return lade_fail(err, "sampling: out of memory for %d candidates; close other programs",
                         vocab);
    uint64_t seed = p->seed;
    if (!seed) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec;
    }
    for (int i = 0; i < 4; i++)
        s->rng[i] = split_mix(&seed);
    return 0;
}

void lade_sampler_close(struct lade_sampler *s)
{
    free(s->pool);
    *s = (struct lade_sampler){0};
}

static bool penalises(const struct lade_sampling *p)
{
    return p->repetition_penalty != 1.0f && p->repetition_penalty > 0.0f;
}

/* A penalty above 1 makes logits smaller. So what is among the k largest afterwards was among the k + r
 * largest before, where r tokens are penalised. */
int lade_sampler_wants(const struct lade_sampler *s)
{
    const int k = s->p.temperature <= 0 ? 1 : s->p.top_k;
    if (k <= 0 || (penalises(&s->p) && s->p.repetition_penalty < 1.0f))
        return 0;
    return !penalises(&s->p) ? k : k <= INT_MAX - LADE_PENALTY_WINDOW ? k + LADE_PENALTY_WINDOW : 0;
}

static float penalised(const struct lade_sampler *s, float logit)
{
    return logit > 0 ? logit / s->p.repetition_penalty : logit * s->p.repetition_penalty;
}

/* Those of `recent` that are penalised. */
static const int32_t *in_window(const int32_t *recent, int *n)
{
    const int skip = *n > LADE_PENALTY_WINDOW ? *n - LADE_PENALTY_WINDOW : 0;
    *n -= skip;
    return recent ? recent + skip : NULL;
}

static void fill_pool(struct lade_sampler *s, const float *logits, const int32_t *recent, int n)
{
    for (int i = 0; i < s->vocab; i++)
        s->pool[i] = (struct lade_candidate){.logit = logits[i], .id = i};
    if (!penalises(&s->p))
        return;
    recent = in_window(recent, &n);
    for (int i = 0; i < n; i++) /* from the original logit: a token seen twice is penalised once */
        s->pool[recent[i]].logit = penalised(s, logits[recent[i]]);
}

/* Best first; equal logits by id, so that the result does not depend on the sort. */
static int compare(const void *a, const void *b)
{
    const struct lade_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int drop_nan(struct lade_candidate *pool, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (!isnan(pool[i].logit))
            pool[kept++] = pool[i];
    return kept;
}

static int32_t best(const struct lade_candidate *pool, int n)
{
    const struct lade_candidate *top = &pool[0];
    for (int i = 1; i < n; i++)
        if (compare(&pool[i], top) < 0)
            top = &pool[i];
    return top->id;
}

static void swap(struct lade_candidate *a, struct lade_candidate *b)
{
    struct lade_candidate t = *a;
    *a = *b;
    *b = t;
}

static void sift_down(struct lade_candidate *heap, int n, int i)
{
    for (;;) {
        int low = i, l = 2 * i + 1;
        for (int child = l; child < l + 2 && child < n; child++)
            if (compare(&heap[child], &heap[low]) > 0)
                low = child;
        if (low == i)
            return;
        swap(&heap[i], &heap[low]);
        i = low;
    }
}

/* Moves the k best to the front, sorted: a heap of k with the worst on top, one pass over the
 * rest. Sorting all 151,936 would cost more than a layer. */
static int keep_top(struct lade_candidate *pool, int n, int k)
{
    if (k <= 0 || k > n)
        k = n;
    if (k < n) {
        for (int i = k / 2 - 1; i >= 0; i--)
            sift_down(pool, k, i);
        for (int i = k; i < n; i++)
            if (compare(&pool[i], &pool[0]) < 0) {
                swap(&pool[i], &pool[0]);
                sift_down(pool, k, 0);
            }
    }
    qsort(pool, (size_t)k, sizeof *pool, compare);
    return k;
}

/* Softmax at the temperature over a sorted pool; returns the sum, the best having weight 1. */
static double soften(struct lade_candidate *pool, int n, float temperature)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        /* -inf - -inf is NaN; nothing is left to choose by then. */
        double d = ((double)pool[i].logit - pool[0].logit) / temperature;
        pool[i].p = isnan(d) ? 1.0f : (float)exp(d);
        sum += pool[i].p;
    }
    return sum;
}

/* Smallest prefix whose probability reaches top_p, then only those with at least min_p of the
 * best's probability. The pool is sorted, so both cut a tail. */
static int cut_tail(const struct lade_candidate *pool, int n, double sum, float top_p, float min_p)
{
    int kept = n;
    if (top_p > 0 && top_p < 1) {
        double reached = 0;
        for (kept = 0; kept < n && reached < top_p * sum; kept++)
            reached += pool[kept].p;
        if (kept < 1)
            kept = 1;
    }
    if (min_p > 0)
        while (kept > 1 && pool[kept - 1].p < min_p)
            kept--;
    return kept;
}

/* From the first n of the pool. */
static int32_t draw_from(struct lade_sampler *s, int n)
{
    n = drop_nan(s->pool, n);
    if (!n)
        return -1;
    if (s->p.temperature <= 0 || s->p.top_k == 1)
        return best(s->pool, n);
    n = keep_top(s->pool, n, s->p.top_k);
    double sum = soften(s->pool, n, s->p.temperature);
    n = cut_tail(s->pool, n, sum, s->p.top_p, s->p.min_p);
    sum = 0;
    for (int i = 0; i < n; i++)
        sum += s->pool[i].p;
    double draw = (double)(next_random(s->rng) >> 11) * 0x1p-53 * sum;
    for (int i = 0; i < n - 1; i++) {
        draw -= s->pool[i].p;
        if (draw < 0)
            return s->pool[i].id;
    }
    return s->pool[n - 1].id;
}

int32_t lade_sample(struct lade_sampler *s, const float *logits, const int32_t *recent,
                    int n_recent)
{
    fill_pool(s, logits, recent, n_recent);
    return draw_from(s, s->vocab);
}

int32_t lade_sample_top(struct lade_sampler *s, const float *logits, const int32_t *ids, int n,
                        const int32_t *recent, int n_recent)
{
    recent = in_window(recent, &n_recent);
    for (int i = 0; i < n; i++) {
        bool seen = false;
        for (int j = 0; penalises(&s->p) && j < n_recent && !seen; j++)
            seen = recent[j] == ids[i];
        s->pool[i] = (struct lade_candidate){.logit = seen ? penalised(s, logits[i]) : logits[i],
                                             .id = ids[i]};
    }
    return draw_from(s, n);
}
