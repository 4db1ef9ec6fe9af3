/* Products of many tokens with large matrices, which CUDA gives to cuBLAS where that is installed and
 * faster: against sums in double precision, with the emulator's twin of that library or, on a card,
 * with the library itself; and what happens where it is missing or fails. */
#include "kernels_common.h"

#include "tests/support/cuda_emulator/knobs.h"

enum { TOKENS = 257, WIDTH = 440, JOBS = 4 };

/* The last one has too little work and goes another way. Widths that no chunk, step or group divides;
 * rows that fill no slab. */
static const struct {
    enum lade_type type;
    int rows, cols, group;
    bool zeros;
} kinds[JOBS] = {
    {LADE_Q8, 700, WIDTH, 128, false},
    {LADE_Q4, 330, WIDTH, 32, true},
    {LADE_BF16, 360, WIDTH + 1, 0, false},
    {LADE_Q4, 33, WIDTH, 64, false},
};

/* A card has more to do before cuBLAS is worth it than the emulated one. */
static int rows_of(int kind)
{
    return kinds[kind].rows * (given_plugin ? 6 : 1);
}

static int cols_of(int kind)
{
    return kinds[kind].cols + (given_plugin ? 4 * WIDTH : 0);
}

static struct lade_emulator_knobs *knobs_of(const char *device)
{
    return is_emulated(device) ? test_plugin_symbol(plugin_path(device), "lade_emulator") : NULL;
}

/* A device that has taken work space for such batches. */
static struct lade_device *open_prepared(const char *device)
{
    char err[LADE_ERR];
    const struct lade_limits limits = {.batch = TOKENS, .widest = rows_of(0), .hidden = cols_of(0)};
    struct lade_device *dev = open_device(device, 1, false);
    const struct lade_ops *inner = lade_plugin_open(plugin_path(device), err);
    assert_non_null(inner);
    if (inner->prepare(host_view_inner(dev), &limits, err))
        fail_msg("%s", err);
    return dev;
}

/* Tokens of very different sizes: all have one scale. */
static float *some_tokens(int cols)
{
    float *x = random_floats((size_t)TOKENS * (size_t)cols, 1);
    for (int t = 0; t < TOKENS; t++)
        for (int k = 0; k < cols; k++)
            x[t * cols + k] *= (float)pow(10, t % 6 - 3);
    return x;
}

/* Each token's error by itself, in every so-manieth row and the last ones. */
static void check_rows(const struct test_matrix *t, const float *x, const float *y, double limit)
{
    enum { EACH = 97, MOST = 64 };
    const int rows = t->m.rows, cols = t->m.cols;
    for (int token = 0; token < TOKENS; token += token % 16 == 15 ? 17 : 1) {
        float have[MOST];
        double want[MOST], size[MOST];
        size_t n = 0;
        for (int r = 0; r < rows; r += r + EACH < rows || r + 1 == rows ? EACH : rows - 1 - r) {
            double sum = 0, squares = 0;
            for (int k = 0; k < cols; k++) {
                double p = t->w[(size_t)r * (size_t)cols + (size_t)k] * x[token * cols + k];
                sum += p;
                squares += p * p;
            }
            have[n] = y[(size_t)token * (size_t)rows + (size_t)r];
            want[n] = sum;
            size[n++] = sqrt(squares);
        }
        assert_within(lade_matrix_type(&t->m), have, want, size, n, limit);
    }
    for (size_t i = 0; i < (size_t)TOKENS * (size_t)rows; i++)
        assert_true(isfinite(y[i]));
}

struct products {
    struct test_matrix t[JOBS];
    struct lade_matmul jobs[JOBS];
    float *x[2]; /* by width: most jobs share one */
    int n;
};

/* n of the kinds, from `first` on. */
static void make_products(struct products *p, int first, int n)
{
    *p = (struct products){.x = {some_tokens(cols_of(0)), some_tokens(cols_of(0) + 1)}, .n = n};
    for (int j = 0; j < n; j++) {
        const int k = first + j;
        p->t[j] =
            random_matrix(kinds[k].type, rows_of(k), cols_of(k), kinds[k].group, kinds[k].zeros);
        p->jobs[j] = (struct lade_matmul){.x = p->x[cols_of(k) - cols_of(0)], .w = &p->t[j].m};
    }
}

static void run_products(struct products *p, struct lade_device *dev, double limit)
{
    char err[LADE_ERR];
    for (int j = 0; j < p->n; j++)
        p->jobs[j].y = poison((size_t)TOKENS * (size_t)p->t[j].m.rows);
    if (ops->matmul(dev, p->jobs, p->n, TOKENS, err))
        fail_msg("%s", err);
    for (int j = 0; j < p->n; j++) {
        check_rows(&p->t[j], p->jobs[j].x, p->jobs[j].y, limit);
        guard_free(p->jobs[j].y);
    }
}

static void free_products(struct products *p)
{
    for (int j = 0; j < p->n; j++)
        free_matrix(&p->t[j]);
    guard_free(p->x[0]);
    guard_free(p->x[1]);
}

static void products(void **state)
{
    struct products p;
    make_products(&p, 0, JOBS);
    struct lade_device *dev = open_prepared(*state);
    struct lade_emulator_knobs *knobs = knobs_of(*state);
    const unsigned long before = knobs ? knobs->products : 0;
    if (!strstr(ops->describe(dev), "cuBLAS"))
        printf("no cuBLAS: these products are the plug-in's own\n");
    run_products(&p, dev, coarse_limit(*state));
    if (knobs) { /* the first one in two slabs */
        assert_int_equal(knobs->products - before, JOBS);
        assert_non_null(strstr(ops->describe(dev), ", cuBLAS 13.1"));
    }
    free_products(&p);
    close_device(dev);
}

/* Nothing but zeros, and numbers that f16 does not have. */
static void sizes(void **state)
{
    static const float scales[] = {0, 1e25f};
    const int rows = rows_of(1), cols = cols_of(1);
    struct test_matrix t = random_matrix(LADE_Q8, rows, cols, 128, false);
    struct lade_device *dev = open_prepared(*state);
    char err[LADE_ERR];
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++) {
        float *x = random_floats((size_t)TOKENS * (size_t)cols, scales[s]);
        float *y = poison((size_t)TOKENS * (size_t)rows);
        struct lade_matmul job = {y, x, &t.m};
        if (ops->matmul(dev, &job, 1, TOKENS, err))
            fail_msg("%s", err);
        check_rows(&t, x, y, coarse_limit(*state));
        guard_free(x);
        guard_free(y);
    }
    free_matrix(&t);
    close_device(dev);
}

/* Where the library fails, is missing, or is not faster: the other products do it. */
static void without(void **state)
{
    struct lade_emulator_knobs *knobs = knobs_of(*state);
    struct products p;
    if (!knobs)
        skip();
    make_products(&p, 1, 1);
    struct lade_device *dev = open_prepared(*state);
    const unsigned long before = knobs->products;
    knobs->fail_blas = 1;
    run_products(&p, dev, coarse_limit(*state));
    assert_int_equal(knobs->fail_blas, 0);
    assert_int_equal(knobs->products, before);
    assert_null(strstr(ops->describe(dev), "cuBLAS"));
    close_device(dev);
    knobs->no_blas = 1;
    dev = open_prepared(*state);
    knobs->no_blas = 0;
    assert_null(strstr(ops->describe(dev), "cuBLAS"));
    close_device(dev);
    knobs->major = 8; /* where it is not faster */
    dev = open_prepared(*state);
    knobs->major = 9;
    assert_null(strstr(ops->describe(dev), "cuBLAS"));
    close_device(dev);
    free_products(&p);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
#ifdef __SANITIZE_THREAD__ /* which does not follow the emulator's own stacks */
    (void)products, (void)sizes, (void)without;
    return 0;
#else
    const struct CMUnitTest tests[] = {
        ON_DEVICE(products, "CUDA", "lade-cuda-emulated.so"),
        ON_DEVICE(sizes, "CUDA", "lade-cuda-emulated.so"),
        ON_DEVICE(without, "CUDA", "lade-cuda-emulated.so"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#endif
}
