/* The largest logits: a heap of k with the smallest on top, then sorted by taking it apart. Nearly all
 * logits are smaller than that one and are passed by in steps. */
#include "kernels/cpu/cpu.h"

/* Whether logit a comes after b: smaller, or equal with the higher index. */
static bool after(const float *x, int32_t a, int32_t b)
{
    return x[a] < x[b] || (!(x[a] > x[b]) && a > b);
}

/* Restores the heap of n ids below `at`. */
static void sink(const float *x, int32_t *ids, int n, int at)
{
    int32_t id = ids[at];
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && after(x, ids[child + 1], ids[child]))
            child++;
        if (!after(x, ids[child], id))
            break;
        ids[at] = ids[child];
    }
    ids[at] = id;
}

enum { STEP = 64 };

/* Whether one of STEP logits is larger; without branches, for the compiler's vectors. */
static bool any_above(const float *x, float least)
{
    int any = 0;
    for (int i = 0; i < STEP; i++)
        any |= x[i] > least;
    return any;
}

/* The first logit from i on that is larger than `least`, or n. */
static int next_above(const float *x, int i, int n, float least)
{
    while (i + STEP <= n && !any_above(x + i, least))
        i += STEP;
    while (i < n && !(x[i] > least))
        i++;
    return i;
}

int cpu_topk(struct lade_device *dev, const struct lade_topk *t, char *err)
{
    (void)dev;
    if (t->k < 1 || t->k > t->n || t->k > LADE_TOPK_MAX)
        return lade_fail(err, "topk: %d of %d logits; ask for at most %d", t->k, t->n,
                         LADE_TOPK_MAX);
    const float *x = t->logits;
    int32_t *ids = t->ids;
    for (int i = 0; i < t->k; i++)
        ids[i] = i;
    for (int i = t->k / 2 - 1; i >= 0; i--)
        sink(x, ids, t->k, i);
    for (int i = t->k; (i = next_above(x, i, t->n, x[ids[0]])) < t->n; i++) {
        ids[0] = i; /* of equal ones the lower index stays */
        sink(x, ids, t->k, 0);
    }
    for (int last = t->k - 1; last > 0; last--) {
        int32_t least = ids[0];
        ids[0] = ids[last];
        ids[last] = least;
        sink(x, ids, last, 0);
    }
    for (int i = 0; i < t->k; i++)
        t->values[i] = x[ids[i]];
    return 0;
}
