/* Matrix products of every type, against sums in double precision. */
#include "kernels_common.h"

static const struct {
    enum lade_type type;
    int rows, cols, group;
    bool zeros;
} shapes[] = {
    {LADE_F32, 1, 1, 0, false},      {LADE_F32, 37, 100, 0, false},  {LADE_F16, 33, 129, 0, false},
    {LADE_BF16, 64, 256, 0, false},  {LADE_BF16, 5, 77, 0, false},   {LADE_Q4, 16, 128, 128, false},
    {LADE_Q4, 48, 256, 32, true},    {LADE_Q4, 21, 131, 32, true},   {LADE_Q4, 50, 96, 96, false},
    {LADE_Q4, 3, 5, 8, true},        {LADE_Q4, 100, 520, 128, true}, {LADE_Q8, 16, 128, 128, false},
    {LADE_Q8, 35, 130, 64, true},    {LADE_Q8, 64, 384, 128, false}, {LADE_Q8, 1, 3, 4, true},
    {LADE_Q8, 130, 250, 252, false},
};
static const int tokens[] = {1, 2, 3, 4, 5, 7, 12, 13, 30, 100};

/* Outputs of one shape for n tokens, as one batch. Returns the outputs. */
static float *run(struct lade_device *dev, const struct test_matrix *t, const float *x, int n)
{
    char err[LADE_ERR];
    float *y = poison((size_t)n * (size_t)t->m.rows);
    struct lade_matmul job = {y, x, &t->m};
    assert_int_equal(ops->matmul(dev, &job, 1, n, err), 0);
    return y;
}

/* What the error of an input of 16 bits is proportional to: one scale serves 256 inputs, so each may
 * be off by half a step of the largest. Rounding errors are independent of each other, therefore the
 * root of the sum of squares. */
static void coarse_size(double *size, const struct test_matrix *t, const double *x)
{
    enum { GROUP = 256 };
    for (int r = 0; r < t->m.rows; r++) {
        const double *w = t->w + (size_t)r * (size_t)t->m.cols;
        double squares = 0;
        for (int g = 0; g < t->m.cols; g += GROUP) {
            int end = g + GROUP < t->m.cols ? g + GROUP : t->m.cols;
            double largest = 0;
            for (int k = g; k < end; k++)
                largest = fmax(largest, fabs(x[k]));
            for (int k = g; k < end; k++)
                squares += w[k] * w[k] * largest * largest;
        }
        size[r] = sqrt(squares);
    }
}

/* A step is 1/16256 of the largest: its error has a deviation of 1.8e-5. A sum of many is beyond
 * 5.7 deviations once in 10^8, a sum of up to ten never. */
static const double all_digits = 1e-6; /* of a float */

static void check_shape(struct lade_device *dev, const struct test_matrix *t, int n, double limit)
{
    size_t rows = (size_t)t->m.rows, cols = (size_t)t->m.cols, all = (size_t)n * rows;
    float *x = random_floats((size_t)n * cols, 1);
    double *xd = to_double(x, (size_t)n * cols);
    double *want = malloc(all * sizeof(*want)), *size = malloc(all * sizeof(*size));
    assert_true(want && size);
    for (int i = 0; i < n; i++) {
        multiply_size(want + (size_t)i * rows, size + (size_t)i * rows, t, xd + (size_t)i * cols);
        if (limit > all_digits)
            coarse_size(size + (size_t)i * rows, t, xd + (size_t)i * cols);
    }
    float *y = run(dev, t, x, n);
    char what[100];
    snprintf(what, sizeof(what), "%s %dx%d group %d zeros %d, n=%d", lade_matrix_type(&t->m),
             t->m.rows, t->m.cols, t->m.group, t->m.has_zeros, n);
    assert_within(what, y, want, size, all, limit);
    /* The same tokens in two parts. */
    int first = n / 3;
    if (first) {
        size_t head = (size_t)first * rows;
        float *a = run(dev, t, x, first), *b = run(dev, t, x + (size_t)first * cols, n - first);
        assert_within("split, first", a, want, size, head, limit);
        assert_within("split, rest", b, want + head, size + head, all - head, limit);
        guard_free(a);
        guard_free(b);
    }
    guard_free(y);
    guard_free(x);
    free(xd);
    free(want);
    free(size);
}

static void each_type(void **state)
{
    for (int threads = 1; threads <= most_threads(*state); threads++) {
        struct lade_device *dev = open_device(*state, threads, true);
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            struct test_matrix t = random_matrix(shapes[s].type, shapes[s].rows, shapes[s].cols,
                                                 shapes[s].group, shapes[s].zeros);
            for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
                check_shape(dev, &t, tokens[i], all_digits);
            free_matrix(&t);
        }
        close_device(dev);
    }
}

static void random_shapes(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    for (int i = 0; i < 40; i++) {
        enum lade_type type = (enum lade_type)rng_int(0, LADE_N_TYPES - 1);
        int per = lade_types[type].per_word;
        struct test_matrix t = random_matrix(type, rng_int(1, 200), rng_int(1, 400),
                                             per * rng_int(1, 20), per && rng_int(0, 1));
        check_shape(dev, &t, rng_int(1, 50), all_digits);
        free_matrix(&t);
    }
    close_device(dev);
}

/* Inputs with groups of their own choice. */
static void ordered(void **state)
{
    for (int exact = 0; exact < 2; exact++) {
        struct lade_device *dev = open_device(*state, 2, exact);
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            if (!shapes[s].group)
                continue;
            struct test_matrix t = random_matrix(shapes[s].type, shapes[s].rows, shapes[s].cols,
                                                 shapes[s].group, shapes[s].zeros);
            order_inputs(&t);
            for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
                check_shape(dev, &t, tokens[i], exact ? all_digits : coarse_limit(*state));
            free_matrix(&t);
        }
        close_device(dev);
    }
}

/* Devices that need not be exact: inputs of 16 bits, one scale per 32 of them. */
static void fast(void **state)
{
    for (int threads = 1; threads <= most_threads(*state); threads++) {
        struct lade_device *dev = open_device(*state, threads, false);
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
            struct test_matrix t = random_matrix(shapes[s].type, shapes[s].rows, shapes[s].cols,
                                                 shapes[s].group, shapes[s].zeros);
            for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
                check_shape(dev, &t, tokens[i], coarse_limit(*state));
            free_matrix(&t);
        }
        for (int i = 0; i < 30; i++) {
            static const enum lade_type types[] = {LADE_Q4, LADE_Q8, LADE_BLOCKS};
            enum lade_type type = types[i % 3];
            struct test_matrix t = random_matrix(type, rng_int(1, 200), rng_int(1, 600),
                                                 32 * rng_int(1, 10), rng_int(0, 1));
            check_shape(dev, &t, rng_int(1, 300), coarse_limit(*state));
            free_matrix(&t);
        }
        close_device(dev);
    }
}

/* Every format of blocks, a last block that is not whole among them. */
static void each_block(void **state)
{
    static const int several[] = {1, 40, 2, 3, 4};
    const int n = is_cuda(*state) ? 2 : 5; /* of the emulator each takes long */
    for (int exact = 0; exact < 2; exact++) {
        struct lade_device *dev = open_device(*state, 2, exact);
        for (int block = 0; block < LADE_N_BLOCKS; block++) {
            struct test_matrix t = random_weights((struct lade_matrix){.type = LADE_BLOCKS,
                                                                       .block = (uint8_t)block,
                                                                       .rows = 37,
                                                                       .cols = exact ? 130 : 840});
            for (int i = 0; i < n; i++)
                check_shape(dev, &t, several[i], exact ? all_digits : coarse_limit(*state));
            free_matrix(&t);
        }
        close_device(dev);
    }
}

/* One token and rows so long that a warp of a GPU goes through several runs of them; the last is one block
 * or part of one. */
static void long_blocks(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    for (int block = 0; block < LADE_N_BLOCKS; block++) {
        struct test_matrix t = random_weights((struct lade_matrix){
            .type = LADE_BLOCKS, .block = (uint8_t)block, .rows = 19, .cols = 2370 + block});
        check_shape(dev, &t, 1, all_digits);
        free_matrix(&t);
    }
    close_device(dev);
}

/* The same of all other types that a GPU has no tiles or whole rows for: groups of any size and order, rows
 * that begin anywhere. */
static void long_others(void **state)
{
    static const struct {
        struct lade_matrix m;
        bool order;
    } kinds[] = {
        {{.type = LADE_F32, .rows = 19, .cols = 1201}, false},
        {{.type = LADE_F32, .rows = 1, .cols = 66}, false},
        {{.type = LADE_F16, .rows = 37, .cols = 2117}, false},
        {{.type = LADE_F16, .rows = 5, .cols = 1}, false},
        {{.type = LADE_BF16, .rows = 16, .cols = 1999}, false},
        {{.type = LADE_BF16, .rows = 33, .cols = 514}, false},
        {{.type = LADE_Q4, .rows = 19, .cols = 2603, .group = 8, .has_zeros = true}, false},
        {{.type = LADE_Q4, .rows = 33, .cols = 2500, .group = 24}, false},
        {{.type = LADE_Q4, .rows = 1, .cols = 2300, .group = 4096, .has_zeros = true}, true},
        {{.type = LADE_Q4, .rows = 20, .cols = 2603, .group = 128}, true},
        {{.type = LADE_Q4, .rows = 35, .cols = 2061, .group = 32, .has_zeros = true}, true},
        {{.type = LADE_Q8, .rows = 19, .cols = 1603, .group = 4, .has_zeros = true}, false},
        {{.type = LADE_Q8, .rows = 40, .cols = 1500, .group = 12}, false},
        {{.type = LADE_Q8, .rows = 17, .cols = 1301, .group = 64, .has_zeros = true}, true},
    };
    struct lade_device *dev = open_device(*state, 2, true);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct test_matrix t = random_weights(kinds[i].m);
        if (kinds[i].order)
            order_inputs(&t);
        check_shape(dev, &t, 1, all_digits);
        free_matrix(&t);
    }
    close_device(dev);
}

/* Codes, scales and inputs as large as they can be, all of one sign: integers of sums nearly overflow. */
static void largest_sums(void **state)
{
    enum { ROWS = 40, COLS = 512, N = 12 };
    static const struct {
        enum lade_block block;
        uint8_t codes, scales;
        int scales_at, n_scales, d_at;
    } kinds[] = {{LADE_BLOCK_Q3_K, 0, 0, 96, 12, 108},
                 {LADE_BLOCK_Q4_K, 0xff, 0xff, 4, 12, 0},
                 {LADE_BLOCK_Q6_K, 0, 0x80, 192, 16, 208}};
    struct lade_device *dev = open_device(*state, 1, false);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct lade_block_info *b = &lade_blocks[kinds[i].block];
        struct test_matrix t = random_weights((struct lade_matrix){
            .type = LADE_BLOCKS, .block = (uint8_t)kinds[i].block, .rows = ROWS, .cols = COLS});
        struct lade_matrix_layout l;
        assert_int_equal(lade_matrix_layout(&t.m, &l), 0);
        uint8_t row[2 * 256] = {0};
        assert_true(2 * b->bytes <= (int)sizeof(row) && 2 * b->n == COLS);
        float values[COLS];
        for (int k = 0; k < 2; k++) {
            uint8_t *block = row + k * b->bytes;
            memset(block, kinds[i].codes, (size_t)b->bytes);
            memset(block + kinds[i].scales_at, kinds[i].scales, (size_t)kinds[i].n_scales);
            memset(block + kinds[i].d_at, 0, kinds[i].block == LADE_BLOCK_Q4_K ? 4 : 2);
            block[kinds[i].d_at + 1] = 0x10; /* 2^-11 */
            b->dequantize(block, values + k * b->n);
        }
        for (int r = 0; r < ROWS; r++) {
            lade_blocks_put(&t.m, &l, (void *)t.m.data, r, 1, row);
            for (int k = 0; k < COLS; k++)
                t.w[r * COLS + k] = (double)values[k];
        }
        float *x = guard_alloc(sizeof(float[N * COLS]));
        for (int k = 0; k < N * COLS; k++)
            x[k] = k / COLS % 2 ? -1.0f : 1.0f;
        double *xd = to_double(x, (size_t)N * COLS), want[N * ROWS];
        for (int j = 0; j < N; j++)
            multiply(want + (size_t)j * ROWS, &t, xd + (size_t)j * COLS);
        float *y = run(dev, &t, x, N);
        assert_near("largest", y, want, (size_t)N * ROWS, 1e-6);
        guard_free(x), guard_free(y), free(xd);
        free_matrix(&t);
    }
    close_device(dev);
}

/* More jobs than one turn takes, of different types, some sharing their input. */
static void many_jobs(void **state)
{
    enum { JOBS = 20 };
    struct lade_device *dev = open_device(*state, 2, true);
    for (int n = 1; n <= 30; n += 29) {
        struct test_matrix t[JOBS];
        struct lade_matmul jobs[JOBS];
        float *shared = random_floats((size_t)n * 64, 1), *own = random_floats((size_t)n * 64, 1);
        char err[LADE_ERR];
        for (int j = 0; j < JOBS; j++) {
            t[j] = random_matrix((enum lade_type)(j % LADE_N_TYPES), 10 + 7 * j, 64, 32, j % 2);
            jobs[j] = (struct lade_matmul){poison((size_t)n * (size_t)t[j].m.rows),
                                           j % 3 ? shared : own, &t[j].m};
        }
        assert_int_equal(ops->matmul(dev, jobs, JOBS, n, err), 0);
        for (int j = 0; j < JOBS; j++) {
            double *xd = to_double(jobs[j].x, (size_t)n * 64);
            double *want = malloc((size_t)n * (size_t)t[j].m.rows * sizeof(double));
            assert_non_null(want);
            for (int i = 0; i < n; i++)
                multiply(want + i * t[j].m.rows, &t[j], xd + i * 64);
            assert_near("job", jobs[j].y, want, (size_t)n * (size_t)t[j].m.rows, 2e-6);
            guard_free(jobs[j].y);
            free_matrix(&t[j]);
            free(want);
            free(xd);
        }
        guard_free(shared);
        guard_free(own);
    }
    close_device(dev);
}

/* The same bits whatever the number of threads. */
static void same_bits(void **state)
{
    need_device(*state);
    struct test_matrix t = random_matrix(LADE_Q4, 500, 256, 64, false);
    for (int n = 1; n <= 40; n += 39) {
        float *x = random_floats((size_t)n * 256, 1), *first = NULL;
        for (int threads = 1; threads <= 4; threads++) {
            struct lade_device *dev = open_device(*state, threads, true);
            float *y = run(dev, &t, x, n);
            if (first) {
                assert_memory_equal(y, first, (size_t)n * 500 * sizeof(float));
                guard_free(y);
            } else {
                first = y;
            }
            close_device(dev);
        }
        guard_free(first);
        guard_free(x);
    }
    free_matrix(&t);
}

/* A token whose inputs are no numbers costs the others nothing, and nothing overflows. */
static void no_numbers(void **state)
{
    enum { N = 3, LONG = 30 };
    static const float none[] = {NAN, INFINITY, -INFINITY, 3e38f};
    struct lade_device *dev = open_device(*state, 1, false);
    struct test_matrix t = random_matrix(LADE_Q8, 64, 384, 128, false);
    const size_t rows = (size_t)t.m.rows, cols = (size_t)t.m.cols;
    for (int n = N; n <= LONG; n += LONG - N) {
        float *x = random_floats((size_t)n * cols, 1), *want = run(dev, &t, x, n);
        for (size_t k = 0; k < cols; k++)
            x[cols + k] = none[k % 4];
        float *y = run(dev, &t, x, n);
        assert_memory_equal(y, want, rows * sizeof *y);
        assert_memory_equal(y + 2 * rows, want + 2 * rows, (size_t)(n - 2) * rows * sizeof *y);
        guard_free(x), guard_free(y), guard_free(want);
    }
    free_matrix(&t);
    close_device(dev);
}

static void bad_matrix(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    float x[8] = {0}, y[8];
    char err[LADE_ERR] = "";
    struct lade_matrix m = {.type = LADE_Q4, .rows = 4, .cols = 8, .group = 3, .data = x};
    struct lade_matmul job = {y, x, &m};
    assert_int_equal(ops->matmul(dev, &job, 1, 1, err), -1);
    assert_non_null(strstr(err, "group 3"));
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_DEVICE(each_type),   EACH_DEVICE(random_shapes), EACH_DEVICE(ordered),
        EACH_DEVICE(fast),        EACH_DEVICE(each_block),    EACH_DEVICE(long_blocks),
        EACH_DEVICE(long_others), EACH_DEVICE(many_jobs),     EACH_ISA(largest_sums),
        EACH_ISA(same_bits),      EACH_ISA(no_numbers),       EACH_DEVICE(bad_matrix)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
