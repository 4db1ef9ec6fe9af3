/* A norm with the products after it, and all from a mixer's output to the routes: the ops that a GPU
 * does in one launch for one token, against sums in double precision. */
#include "kernels_common.h"

static const double eps = 1e-6;

/* norm(x) per row, of sum = x + add where that is given. */
static void norm_rows(double *h, double *sum, const float *x, const float *add, const float *w,
                      int n, int dim)
{
    for (size_t t = 0; t < (size_t)n * (size_t)dim; t += (size_t)dim) {
        double mean = 0;
        for (size_t i = t; i < t + (size_t)dim; i++) {
            sum[i] = x[i] + (add ? (double)add[i] : 0);
            mean += sum[i] * sum[i] / dim;
        }
        for (size_t i = 0; i < (size_t)dim; i++)
            h[t + i] = sum[t + i] / sqrt(mean + eps) * w[i];
    }
}

static double *doubles(size_t n)
{
    double *d = malloc(n * sizeof *d);
    assert_non_null(d);
    return d;
}

/* ---- norm and products ---- */

/* More jobs than one launch takes; widths that packs of inputs do not divide, and that need more
 * than one stretch of them; matrices that a GPU multiplies in its other ways. */
enum { JOBS = 12 };

static const struct {
    enum lade_type type;
    int rows, group;
    bool zeros;
} kinds[JOBS] = {
    {LADE_Q8, 37, 128, false}, {LADE_Q4, 50, 32, true},     {LADE_BF16, 9, 0, false},
    {LADE_F32, 21, 0, false},  {LADE_Q4, 16, 128, false},   {LADE_Q8, 3, 64, true},
    {LADE_BF16, 70, 0, false}, {LADE_Q8, 16, 256, false},   {LADE_Q8, 1, 32, true},
    {LADE_F16, 5, 0, false},   {LADE_BLOCKS, 35, 0, false}, {LADE_Q4, 19, 24, false},
};

/* The first n_jobs kinds. */
static void check_project(struct lade_device *dev, int n_jobs, int dim, int n)
{
    char err[LADE_ERR] = "";
    size_t all = (size_t)n * (size_t)dim;
    struct test_matrix m[JOBS];
    struct lade_matmul jobs[JOBS];
    float *x = random_floats(all, 3), *w = random_floats((size_t)dim, 1), *h = poison(all);
    double *hd = doubles(all), *sum = doubles(all);
    norm_rows(hd, sum, x, NULL, w, n, dim);
    for (int j = 0; j < n_jobs; j++) {
        m[j] = random_matrix(kinds[j].type, kinds[j].rows, dim, kinds[j].group, kinds[j].zeros);
        jobs[j] = (struct lade_matmul){poison((size_t)(n * kinds[j].rows)), h, &m[j].m};
    }
    struct lade_project op = {.n = n,
                              .dim = dim,
                              .x = x,
                              .norm = w,
                              .eps = (float)eps,
                              .h = h,
                              .jobs = jobs,
                              .n_jobs = n_jobs};
    assert_int_equal(ops->project(dev, &op, err), 0);
    for (int j = 0; j < n_jobs; j++) {
        size_t rows = (size_t)kinds[j].rows;
        double *want = doubles((size_t)n * rows), *size = doubles((size_t)n * rows);
        for (int t = 0; t < n; t++)
            multiply_size(want + (size_t)t * rows, size + (size_t)t * rows, &m[j],
                          hd + (size_t)t * (size_t)dim);
        assert_within("product", jobs[j].y, want, size, (size_t)n * rows, 2e-6);
        guard_free(jobs[j].y);
        free_matrix(&m[j]);
        free(want);
        free(size);
    }
    guard_free(x);
    guard_free(w);
    guard_free(h);
    free(hd);
    free(sum);
}

static void project(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    static const int dims[] = {8, 96, 523, 2048, 2600, 4160};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
        check_project(dev, JOBS, dims[d], 1);
        check_project(dev, JOBS, dims[d], 2 + (int)d % 2);
    }
    check_project(dev, 2, 64, 19);
    close_device(dev);
}

/* Numbers that are large or nothing: the norm takes a row's size away. */
static void check_sizes(struct lade_device *dev, enum lade_type type)
{
    char err[LADE_ERR];
    static const float scales[] = {0, 1e-12f, 1e15f};
    enum { DIM = 256, ROWS = 20 };
    struct test_matrix m = random_matrix(type, ROWS, DIM, type == LADE_Q8 ? 128 : 0, false);
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        float *x = random_floats(DIM, 1), *w = random_floats(DIM, 1), *h = poison(DIM);
        float *y = poison(ROWS);
        for (int i = 0; i < DIM; i++)
            x[i] *= scales[s];
        double hd[DIM], sum[DIM], want[ROWS], size[ROWS];
        norm_rows(hd, sum, x, NULL, w, 1, DIM);
        multiply_size(want, size, &m, hd);
        struct lade_matmul job = {y, h, &m.m};
        struct lade_project op = {.n = 1,
                                  .dim = DIM,
                                  .x = x,
                                  .norm = w,
                                  .eps = (float)eps,
                                  .h = h,
                                  .jobs = &job,
                                  .n_jobs = 1};
        assert_int_equal(ops->project(dev, &op, err), 0);
        assert_within("product", y, want, size, ROWS, 2e-6);
        guard_free(x);
        guard_free(w);
        guard_free(h);
        guard_free(y);
    }
    free_matrix(&m);
}

static void project_sizes(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    check_sizes(dev, LADE_Q8);
    check_sizes(dev, LADE_F16);
    close_device(dev);
}

/* ---- the router ---- */

struct router_test {
    enum lade_type type;
    int n, dim, experts, k;
    bool add, renormalize;
};

static void check_routes(const struct router_test *c, const float *logits, const int32_t *ids,
                         const float *weights)
{
    double sum = 0, picked = 0, max = -INFINITY;
    for (int e = 0; e < c->experts; e++)
        max = fmax(max, logits[e]);
    for (int e = 0; e < c->experts; e++)
        sum += exp(logits[e] - max);
    for (int j = 0; j < c->k; j++) {
        int id = ids[j], better = 0;
        assert_in_range(id, 0, c->experts - 1);
        for (int e = 0; e < c->experts; e++)
            better += logits[e] > logits[id] || (logits[e] == logits[id] && e < id);
        assert_int_equal(better, j); /* exactly j experts come before the j-th */
        picked += exp(logits[id] - max) / sum;
    }
    for (int j = 0; j < c->k; j++) {
        double want = exp(logits[ids[j]] - max) / sum / (c->renormalize ? picked : 1);
        assert_true(fabs(weights[j] - want) <= 2e-6 * want + 1e-30);
    }
}

/* Runs the op on copies of the same inputs; bits must be the same each time. */
static void check_router(struct lade_device *dev, const struct router_test *c)
{
    char err[LADE_ERR] = "";
    size_t n = (size_t)c->n, all = n * (size_t)c->dim, logits_n = n * (size_t)c->experts;
    size_t picked = n * (size_t)c->k;
    struct test_matrix m = random_matrix(c->type, c->experts, c->dim, 32, false);
    float *x = random_floats(all, 2), *add = c->add ? random_floats(all, 1) : NULL;
    float *w = random_floats((size_t)c->dim, 1), *first = NULL;
    double *hd = doubles(all), *sum = doubles(all);
    double *want = doubles(logits_n), *size = doubles(logits_n);
    norm_rows(hd, sum, x, add, w, c->n, c->dim);
    for (size_t t = 0; t < n; t++)
        multiply_size(want + t * (size_t)c->experts, size + t * (size_t)c->experts, &m,
                      hd + t * (size_t)c->dim);
    for (int again = 0; again < 2; again++) {
        float *xs = copy_of(x, all * sizeof *x), *h = poison(all), *logits = poison(logits_n);
        float *weights = poison(picked);
        int32_t *ids = guard_alloc(picked * sizeof *ids);
        struct lade_router op = {.n = c->n,
                                 .dim = c->dim,
                                 .x = xs,
                                 .add = add,
                                 .norm = w,
                                 .eps = (float)eps,
                                 .h = h,
                                 .w = &m.m,
                                 .logits = logits,
                                 .route = {.experts = c->experts,
                                           .k = c->k,
                                           .renormalize = c->renormalize,
                                           .ids = ids,
                                           .weights = weights}};
        assert_int_equal(ops->router(dev, &op, err), 0);
        assert_near("residual", xs, sum, all, 1e-6);
        assert_near("norm", h, hd, all, 1e-6);
        assert_within("logits", logits, want, size, logits_n, 2e-6);
        for (int t = 0; t < c->n; t++)
            check_routes(c, logits + t * c->experts, ids + t * c->k, weights + t * c->k);
        if (first) {
            assert_memory_equal(first, logits, logits_n * sizeof *first);
            guard_free(first);
        }
        first = logits;
        guard_free(xs);
        guard_free(h);
        guard_free(weights);
        guard_free(ids);
    }
    guard_free(first);
    guard_free(x);
    if (add)
        guard_free(add);
    guard_free(w);
    free_matrix(&m);
    free(hd);
    free(sum);
    free(want);
    free(size);
}

static void router(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    static const struct router_test cases[] = {
        {LADE_BF16, 1, 2048, 512, 10, true, true}, {LADE_F32, 1, 96, 60, 4, true, false},
        {LADE_BF16, 1, 40, 8, 8, false, true},     {LADE_F32, 1, 2048, 33, 1, true, true},
        {LADE_BF16, 1, 2056, 16, 3, true, true},   {LADE_BF16, 1, 77, 16, 3, true, true},
        {LADE_Q8, 1, 128, 40, 10, true, true},     {LADE_BF16, 5, 64, 40, 10, true, true},
        {LADE_F32, 19, 64, 40, 3, false, false},   {LADE_BF16, 1, 64, 1, 1, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_router(dev, &cases[i]);
    close_device(dev);
}

/* What is asked of a router with a sketch: routes as from all weights. */
enum { DIM = 2051, EXPERTS = 75, CHOSEN = 10 };

static void run_router(struct lade_device *dev, const struct lade_matrix *w, const float *x,
                       struct lade_router_sketch *sketch, float *logits, int32_t *ids,
                       float *weights)
{
    char err[LADE_ERR] = "";
    float *xs = copy_of(x, DIM * sizeof *x), *h = poison(DIM), *ones = guard_alloc(DIM * sizeof *h);
    for (int i = 0; i < DIM; i++)
        ones[i] = 1;
    struct lade_router op = {
        .n = 1,
        .dim = DIM,
        .x = xs,
        .norm = ones,
        .eps = (float)eps,
        .h = h,
        .w = w,
        .logits = logits,
        .sketch = sketch,
        .route = {
            .experts = EXPERTS, .k = CHOSEN, .renormalize = true, .ids = ids, .weights = weights}};
    assert_int_equal(ops->router(dev, &op, err), 0);
    guard_free(xs);
    guard_free(h);
    guard_free(ones);
}

/* Runs both; returns how many logits are other ones. */
static int same_routes(struct lade_device *dev, const struct lade_matrix *w, const float *x,
                       struct lade_router_sketch *sketch)
{
    float *logits = poison(EXPERTS), *of_sketch = poison(EXPERTS);
    float *weights = poison(CHOSEN), *some_weights = poison(CHOSEN);
    int32_t *ids = guard_alloc(CHOSEN * sizeof *ids), *some_ids = guard_alloc(CHOSEN * sizeof *ids);
    int others = 0;
    run_router(dev, w, x, NULL, logits, ids, weights);
    run_router(dev, w, x, sketch, of_sketch, some_ids, some_weights);
    assert_memory_equal(ids, some_ids, CHOSEN * sizeof *ids);
    for (int j = 0; j < CHOSEN; j++) {
        assert_memory_equal(&logits[ids[j]], &of_sketch[ids[j]], sizeof *logits);
        assert_true(fabsf(weights[j] - some_weights[j]) <= 1e-6f * weights[j]);
    }
    for (int e = 0; e < EXPERTS; e++)
        others += memcmp(&logits[e], &of_sketch[e], sizeof *logits) != 0;
    guard_free(logits);
    guard_free(of_sketch);
    guard_free(weights);
    guard_free(some_weights);
    guard_free(ids);
    guard_free(some_ids);
    return others;
}

static void router_sketch(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    struct test_matrix m = random_matrix(LADE_F32, EXPERTS, DIM, 0, false);
    float *w = (float *)m.m.data, *far = guard_alloc(EXPERTS * sizeof *far);
    uint16_t *high = guard_alloc((size_t)EXPERTS * DIM * sizeof *high);
    struct lade_router_sketch sketch = {
        {.type = LADE_BF16, .rows = EXPERTS, .cols = DIM, .data = high}, far, false};
    for (int again = 0; again < 3; again++) {
        float *x = random_floats(DIM, 1);
        assert_in_range(same_routes(dev, &m.m, x, &sketch), 1, EXPERTS - CHOSEN);
        assert_true(sketch.ready);
        guard_free(x);
    }
    /* Rows that differ by less than rounding moves them; a pair of equal ones. */
    float *x = random_floats(DIM, 1);
    for (size_t at = DIM; at < (size_t)EXPERTS * DIM; at++)
        w[at] = w[at % DIM] * (1 + 1e-5f * (float)rng_int(-9, 9));
    memcpy(w + 40 * DIM, w + 7 * DIM, DIM * sizeof *w);
    sketch.ready = false;
    same_routes(dev, &m.m, x, &sketch);
    /* Weights that have 16 bits: rounding moves nothing, and logits are the very same. */
    for (size_t at = 0; at < (size_t)EXPERTS * DIM; at++) {
        uint32_t bits = (uint32_t)high[at] << 16;
        memcpy(&w[at], &bits, sizeof bits);
    }
    sketch.ready = false;
    assert_int_equal(same_routes(dev, &m.m, x, &sketch), 0);
    for (int e = 0; e < EXPERTS; e++)
        assert_true(far[e] == 0);
    /* The largest number, which no 16 bits hold; x is zero there, so that its logit is a number. */
    w[3 * DIM + 5] = -3.4028235e38f;
    x[5] = 0;
    sketch.ready = false;
    same_routes(dev, &m.m, x, &sketch);
    guard_free(x);
    guard_free(far);
    guard_free(high);
    free_matrix(&m);
    close_device(dev);
}

/* Many tokens, on a device that need not be exact. */
enum { MANY = 140, FEW = 17, MANY_DIM = 515 };

struct routes {
    float *h, *logits, *weights;
    int32_t *ids;
};

static struct routes route_many(struct lade_device *dev, const struct lade_matrix *w,
                                const float *x, int n)
{
    char err[LADE_ERR] = "";
    const size_t rows = (size_t)n;
    struct routes r = {poison(rows * MANY_DIM), poison(rows * EXPERTS), poison(rows * CHOSEN),
                       guard_alloc(rows * CHOSEN * sizeof *r.ids)};
    float *xs = copy_of(x, rows * MANY_DIM * sizeof *x), *ones = poison(MANY_DIM);
    for (int i = 0; i < MANY_DIM; i++)
        ones[i] = 1;
    struct lade_router op = {.n = n,
                             .dim = MANY_DIM,
                             .x = xs,
                             .norm = ones,
                             .eps = (float)eps,
                             .h = r.h,
                             .w = w,
                             .logits = r.logits,
                             .route = {.experts = EXPERTS,
                                       .k = CHOSEN,
                                       .renormalize = true,
                                       .ids = r.ids,
                                       .weights = r.weights}};
    assert_int_equal(ops->router(dev, &op, err), 0);
    guard_free(xs);
    guard_free(ones);
    return r;
}

static void free_routes(struct routes *r)
{
    guard_free(r->h);
    guard_free(r->logits);
    guard_free(r->weights);
    guard_free(r->ids);
}

/* A token's experts are those with the largest logits, and these are as exact as floats are. */
static void check_chosen(const struct test_matrix *m, const struct routes *r, int t)
{
    const float *logits = r->logits + t * EXPERTS, *weights = r->weights + t * CHOSEN;
    const int32_t *ids = r->ids + t * CHOSEN;
    double h[MANY_DIM], want[EXPERTS], size[EXPERTS], picked = 0;
    const double sums = 1e-5; /* what rounding of weights does is ten times that */
    bool chosen[EXPERTS] = {false};
    for (int i = 0; i < MANY_DIM; i++)
        h[i] = r->h[t * MANY_DIM + i];
    multiply_size(want, size, m, h);
    for (int j = 0; j < CHOSEN; j++) {
        assert_in_range(ids[j], 0, EXPERTS - 1);
        assert_false(chosen[ids[j]]);
        chosen[ids[j]] = true;
        assert_true(fabs(logits[ids[j]] - want[ids[j]]) <= sums * size[ids[j]]);
        assert_true(!j || logits[ids[j]] < logits[ids[j - 1]] ||
                    (logits[ids[j]] == logits[ids[j - 1]] && ids[j] > ids[j - 1]));
        picked += exp(logits[ids[j]] - logits[ids[0]]);
    }
    const int last = ids[CHOSEN - 1];
    for (int e = 0; e < EXPERTS; e++)
        assert_true(chosen[e] || want[e] <= want[last] + sums * (size[e] + size[last]));
    for (int j = 0; j < CHOSEN; j++) {
        const double p = exp(logits[ids[j]] - logits[ids[0]]) / picked;
        assert_true(fabs(weights[j] - p) <= 2e-6 * p);
    }
}

/* What a token chooses is right, and does not depend on the tokens beside it. */
static void check_many(struct lade_device *dev, const struct test_matrix *m, const float *x)
{
    struct routes all = route_many(dev, &m->m, x, MANY), some = route_many(dev, &m->m, x, FEW);
    for (int t = 0; t < MANY; t++)
        check_chosen(m, &all, t);
    assert_memory_equal(all.ids, some.ids, FEW * CHOSEN * sizeof *all.ids);
    assert_memory_equal(all.weights, some.weights, FEW * CHOSEN * sizeof *all.weights);
    free_routes(&all);
    free_routes(&some);
}

static void router_many(void **state)
{
    struct lade_device *dev = open_device(*state, 2, false);
    struct test_matrix m = random_matrix(LADE_F32, EXPERTS, MANY_DIM, 0, false);
    float *w = (float *)m.m.data, *x = random_floats((size_t)MANY * MANY_DIM, 1);
    memset(x + 3 * MANY_DIM, 0, MANY_DIM * sizeof *x); /* any expert is as good as another */
    x[4 * MANY_DIM + 9] = 1e4f;                        /* beside it nothing is left of the others */
    check_many(dev, &m, x);
    /* Rows that differ by less than rounding moves them; a pair of equal ones; the largest number where inputs are 0. */
    for (size_t at = MANY_DIM; at < (size_t)EXPERTS * MANY_DIM; at++)
        w[at] = w[at % MANY_DIM] * (1 + 1e-5f * (float)rng_int(-9, 9));
    memcpy(w + 40 * MANY_DIM, w + 7 * MANY_DIM, MANY_DIM * sizeof *w);
    w[3 * MANY_DIM + 5] = -3.4028235e38f;
    for (size_t at = 0; at < (size_t)EXPERTS * MANY_DIM; at++)
        m.w[at] = w[at];
    for (int t = 0; t < MANY; t++)
        x[t * MANY_DIM + 5] = 0;
    check_many(dev, &m, x);
    guard_free(x);
    free_matrix(&m);
    close_device(dev);
}

static void router_refuses(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    char err[LADE_ERR] = "";
    struct test_matrix m = random_matrix(LADE_BF16, 4, 8, 0, false);
    float *f = random_floats(8, 1), *h = poison(8), *logits = poison(4), *weights = poison(5);
    int32_t *ids = guard_alloc(5 * sizeof *ids);
    struct lade_router op = {.n = 1,
                             .dim = 8,
                             .x = f,
                             .norm = f,
                             .eps = (float)eps,
                             .h = h,
                             .w = &m.m,
                             .logits = logits,
                             .route = {.experts = 4, .k = 5, .ids = ids, .weights = weights}};
    assert_int_equal(ops->router(dev, &op, err), -1);
    assert_non_null(strstr(err, "5 of 4"));
    guard_free(f);
    guard_free(h);
    guard_free(logits);
    guard_free(weights);
    guard_free(ids);
    free_matrix(&m);
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_DEVICE(project),    EACH_DEVICE(project_sizes), EACH_DEVICE(router),
        EACH_ISA(router_sketch), EACH_ISA(router_many),      EACH_DEVICE(router_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
