/* The device itself, its memory and threads, and the small ops: embed, rmsnorm, route. */
#include "kernels_common.h"

#include <dirent.h>
#include <pthread.h>

#include "kernels/cpu/pool.h"

static void open_and_describe(void **state)
{
    struct lade_device *dev = open_device(*state, 3, true);
    const char *title = ops->describe(dev);
    assert_non_null(strstr(title, "3 threads"));
    close_device(dev);
}

static void unknown_isa(void **state)
{
    (void)state;
    char err[LADE_ERR] = "";
    struct lade_device *dev = (void *)state;
    struct lade_device_config cfg = {.threads = 1, .isa = "mmx"};
    assert_int_equal(lade_cpu_ops()->open(&dev, &cfg, err), -1);
    assert_null(dev);
    assert_non_null(strstr(err, "'mmx'"));
    cfg.isa = NULL;
    cfg.threads = 1 << 20;
    assert_int_equal(lade_cpu_ops()->open(&dev, &cfg, err), -1);
    assert_non_null(strstr(err, "1048576"));
}

static void memory(void **state)
{
    struct lade_device *dev = open_device(*state, 0, true);
    const struct lade_ops *cpu = lade_cpu_ops();
    static const size_t sizes[] = {0, 1, 63, 64, 4096, (2 << 20) - 1, 2 << 20, (9 << 20) + 5};
    char err[LADE_ERR] = "";
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *p, *q;
        assert_int_equal(cpu->alloc(dev, &p, sizes[i], err), 0);
        assert_int_equal(cpu->alloc(dev, &q, sizes[i], err), 0);
        assert_int_equal((uintptr_t)p % LADE_ALIGN, 0);
        for (size_t b = 0; b < sizes[i]; b++)
            assert_int_equal(((char *)p)[b], 0);
        memset(p, 0x5a, sizes[i]);
        assert_int_equal(cpu->upload(dev, q, p, sizes[i], err), 0);
        assert_memory_equal(p, q, sizes[i]);
        cpu->free(dev, p);
        cpu->free(dev, q);
    }
    void *p = dev;
    assert_int_equal(cpu->alloc(dev, &p, SIZE_MAX - 100, err), -1);
    assert_null(p);
    assert_non_null(strstr(err, "GiB"));
    assert_int_equal(cpu->alloc(dev, &p, (size_t)1 << 60, err), -1);
    cpu->free(dev, NULL);
    close_device(dev);
}

static void plain_reads(void **state)
{
    (void)state;
    struct lade_device *dev = open_device("portable", 3, true);
    static const size_t sizes[] = {0, 1, 7, 8, 63, 64, 200, 1 << 20, (1 << 20) + 1, (5 << 20) + 77};
    const size_t most = (5 << 20) + 77;
    unsigned char *data = malloc(most + 1);
    assert_non_null(data);
    for (size_t i = 0; i <= most; i++)
        data[i] = (unsigned char)(i * 2654435761U >> 13);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t bytes = sizes[i], from = i % 2; /* some are not aligned */
        uint64_t sum = 0;
        for (size_t b = 0; b < bytes; b++)
            sum += (uint64_t)data[from + b] << b % 8 * 8;
        if (lade_cpu_read(dev, data + from, bytes) != sum)
            fail_msg("%zu bytes: another sum", bytes);
    }
    free(data);
    close_device(dev);
}

enum { UNITS = 997 };

struct tally {
    int calls[UNITS];
    int threads;
};

static void count_unit(void *ctx, int unit, int thread)
{
    struct tally *t = ctx;
    t->calls[unit]++;
    if (thread < 0 || thread >= t->threads)
        t->calls[unit] += 1000;
}

static void count_range(void *ctx, int first, int last, int thread)
{
    struct tally *t = ctx;
    if (first >= last)
        t->calls[0] += 1000;
    for (int u = first; u < last; u++)
        count_unit(ctx, u, thread);
}

/* Unit by unit, and in ranges. */
static void pool_calls_each_unit_once(void **state)
{
    (void)state;
    char err[LADE_ERR];
    for (int threads = 1; threads <= 5; threads++) {
        struct cpu_pool *pool;
        assert_int_equal(cpu_pool_open(&pool, threads, err), 0);
        struct tally t = {.threads = threads};
        for (int round = 1; round <= 2000; round++) {
            int units = round % 50 ? round % 7 : UNITS;
            memset(t.calls, 0, sizeof(t.calls));
            if (round / 50 % 2)
                cpu_pool_run(pool, units, count_unit, &t);
            else
                cpu_pool_run_ranges(pool, units, count_range, &t);
            for (int u = 0; u < UNITS; u++)
                assert_int_equal(t.calls[u], u < units);
        }
        cpu_pool_close(pool);
    }
}

enum { MOST_TASKS = 64 };

/* Threads of this process as the kernel sees them, but those of `not_these`. */
struct tasks {
    int ids[MOST_TASKS], n, awake;
    long switches; /* how often they went to sleep */
};

static bool is_among(const struct tasks *t, int id)
{
    for (int i = 0; i < t->n; i++)
        if (t->ids[i] == id)
            return true;
    return false;
}

static void look_at_task(struct tasks *t, int id)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/status", id);
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    assert_true(t->n < MOST_TASKS);
    t->ids[t->n++] = id;
    for (long n; fgets(line, sizeof line, f);) {
        if (!strncmp(line, "State:", 6))
            t->awake += !strchr(line, 'S');
        else if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
            t->switches += n;
    }
    fclose(f);
}

static struct tasks look_at_tasks(const struct tasks *not_these)
{
    struct tasks t = {0};
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        if (*d->d_name != '.' && !is_among(not_these, atoi(d->d_name)))
            look_at_task(&t, atoi(d->d_name));
    closedir(dir);
    return t;
}

/* Sleeping is a state, not an amount of time: on any machine the workers get there. They sleep when
 * they were asleep, and not once awake in between, for a tenth of a second. */
static void pool_sleeps_when_idle(void **state)
{
    (void)state;
    char err[LADE_ERR];
    struct cpu_pool *pool;
    struct tally t = {.threads = 4};
    const struct tasks nobody = {0}, before = look_at_tasks(&nobody);
    assert_int_equal(cpu_pool_open(&pool, 4, err), 0);
    cpu_pool_run(pool, UNITS, count_unit, &t);
    bool asleep = false;
    for (int i = 0; i < 1200 && !asleep; i++) {
        struct tasks a = look_at_tasks(&before);
        usleep(100000);
        struct tasks b = look_at_tasks(&before);
        asleep = b.n == 3 && !a.awake && !b.awake && a.switches == b.switches;
    }
    assert_true(asleep);
    cpu_pool_run(pool, UNITS, count_unit, &t);
    assert_int_equal(t.calls[UNITS - 1], 2);
    cpu_pool_close(pool);
}

static void embed(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    char err[LADE_ERR] = "";
    for (int i = 0; i < 2 * LADE_N_TYPES; i++) {
        enum lade_type type = (enum lade_type)(i / 2);
        struct test_matrix t = random_matrix(type, 37, 45, 16, type >= LADE_Q4);
        if (i % 2 && lade_types[type].per_word)
            order_inputs(&t);
        int32_t ids[5] = {0, 36, 7, 7, 16};
        float *y = poison(5 * 45);
        assert_int_equal(ops->embed(dev, y, &t.m, ids, 5, err), 0);
        for (int k = 0; k < 5 * 45; k++)
            assert_true((double)y[k] == t.w[ids[k / 45] * 45 + k % 45]);
        ids[3] = 37;
        assert_int_equal(ops->embed(dev, y, &t.m, ids, 5, err), -1);
        assert_non_null(strstr(err, "token 37"));
        guard_free(y);
        free_matrix(&t);
    }
    close_device(dev);
}

static void rmsnorm(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    char err[LADE_ERR];
    static const int dims[] = {1, 7, 16, 100, 2048};
    for (size_t s = 0; s < sizeof(dims) / sizeof(dims[0]); s++) {
        for (int n = 1; n <= 21; n += 10) {
            size_t dim = (size_t)dims[s], all = (size_t)n * dim;
            float *x = random_floats(all, 3), *add = random_floats(all, 2);
            float *w = random_floats(dim, 1), *y = poison(all);
            double *want = malloc(all * sizeof(double)), *sum = malloc(all * sizeof(double));
            assert_true(want && sum);
            for (int with = 0; with < 2; with++) {
                for (size_t t = 0; t < all; t += dim) {
                    double mean = 0;
                    for (size_t i = t; i < t + dim; i++) {
                        sum[i] = x[i] + (with ? (double)add[i] : 0);
                        mean += sum[i] * sum[i] / (double)dim;
                    }
                    for (size_t i = 0; i < dim; i++)
                        want[t + i] = sum[t + i] / sqrt(mean + 1e-6) * w[i];
                }
                assert_int_equal(
                    ops->rmsnorm(dev, y, x, with ? add : NULL, w, n, dims[s], 1e-6f, err), 0);
                assert_near("norm", y, want, all, 1e-6);
                assert_near("residual", x, sum, all, 1e-6);
            }
            guard_free(x);
            guard_free(add);
            guard_free(w);
            guard_free(y);
            free(want);
            free(sum);
        }
    }
    close_device(dev);
}

static void check_route(struct lade_device *dev, const struct lade_route *r)
{
    char err[LADE_ERR];
    assert_int_equal(ops->route(dev, r, err), 0);
    for (int t = 0; t < r->n; t++) {
        const float *x = r->logits + (size_t)t * (size_t)r->experts;
        double sum = 0, picked = 0, max = -INFINITY;
        for (int e = 0; e < r->experts; e++)
            max = fmax(max, x[e]);
        for (int e = 0; e < r->experts; e++)
            sum += exp(x[e] - max);
        for (int j = 0; j < r->k; j++) {
            int id = r->ids[t * r->k + j], better = 0;
            assert_in_range(id, 0, r->experts - 1);
            for (int e = 0; e < r->experts; e++)
                better += x[e] > x[id] || (x[e] == x[id] && e < id);
            assert_int_equal(better, j); /* exactly j experts come before the j-th */
            picked += exp(x[id] - max) / sum;
        }
        for (int j = 0; j < r->k; j++) {
            double want = exp(x[r->ids[t * r->k + j]] - max) / sum / (r->renormalize ? picked : 1);
            assert_true(fabs(r->weights[t * r->k + j] - want) <= 2e-6 * want + 1e-30);
        }
    }
}

static void route(void **state)
{
    struct lade_device *dev = open_device(*state, 3, true);
    static const struct {
        int n, experts, k;
    } sizes[] = {{1, 1, 1}, {3, 8, 2}, {33, 512, 10}, {5, 7, 7}, {20, 60, 4}};
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        size_t n = (size_t)sizes[s].n;
        float *logits = random_floats(n * (size_t)sizes[s].experts, 4);
        for (size_t i = 0; i < n * (size_t)sizes[s].experts; i += 2)
            logits[i] = roundf(logits[i]); /* many equal values */
        float *weights = poison(n * (size_t)sizes[s].k);
        int32_t *ids = guard_alloc(n * (size_t)sizes[s].k * sizeof(*ids));
        for (int renormalize = 0; renormalize < 2; renormalize++) {
            check_route(dev, &(struct lade_route){.n = sizes[s].n,
                                                  .experts = sizes[s].experts,
                                                  .k = sizes[s].k,
                                                  .renormalize = renormalize,
                                                  .logits = logits,
                                                  .ids = ids,
                                                  .weights = weights});
        }
        guard_free(logits);
        guard_free(weights);
        guard_free(ids);
    }
    close_device(dev);
}

/* Broken logits must not become wild ids. */
static void route_not_a_number(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    float logits[6] = {NAN, 1, NAN, 2, NAN, NAN}, weights[7];
    int32_t ids[7] = {-1, -1, -1};
    char err[LADE_ERR];
    struct lade_route r = {
        .n = 1, .experts = 6, .k = 3, .logits = logits, .ids = ids, .weights = weights};
    assert_int_equal(ops->route(dev, &r, err), 0);
    for (int j = 0; j < 3; j++)
        assert_in_range(ids[j], 0, 5);
    r.k = 7;
    assert_int_equal(ops->route(dev, &r, err), -1);
    close_device(dev);
}

static void add(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    char err[LADE_ERR];
    for (size_t n = 1; n < 5000; n = n * 3 + 1) {
        float *x = random_floats(n, 1), *y = random_floats(n, 1);
        double *want = to_double(y, n);
        for (size_t i = 0; i < n; i++)
            want[i] += x[i];
        assert_int_equal(ops->add(dev, y, x, n, err), 0);
        assert_near("sum", y, want, n, 1e-7);
        guard_free(x);
        guard_free(y);
        free(want);
    }
    close_device(dev);
}

/* Every id that is not among the k comes after the last of them. */
static void topk(void **state)
{
    struct lade_device *dev = open_device(*state, 2, true);
    static const struct {
        int n, k;
    } sizes[] = {{1, 1}, {7, 7}, {1000, 40}, {5003, 1024}, {151936, 64}};
    char err[LADE_ERR] = "";
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        int n = sizes[s].n, k = sizes[s].k;
        float *x = random_floats((size_t)n, 4), *values = poison((size_t)k);
        int32_t *ids = guard_alloc((size_t)k * sizeof(*ids));
        for (int i = 0; i < n; i += 2)
            x[i] = roundf(x[i]); /* many equal values */
        struct lade_topk t = {.n = n, .k = k, .logits = x, .values = values, .ids = ids};
        assert_int_equal(ops->topk(dev, &t, err), 0);
        int last = ids[k - 1], not_after = 0;
        for (int i = 0; i < k; i++) {
            assert_in_range(ids[i], 0, n - 1);
            assert_true(values[i] == x[ids[i]]);
            if (i)
                assert_true(values[i] < values[i - 1] ||
                            (values[i] == values[i - 1] && ids[i] > ids[i - 1]));
        }
        for (int i = 0; i < n; i++)
            not_after += x[i] > x[last] || (x[i] == x[last] && i <= last);
        assert_int_equal(not_after, k);
        guard_free(x);
        guard_free(values);
        guard_free(ids);
    }
    struct lade_topk t = {.n = 4, .k = 5};
    assert_int_equal(ops->topk(dev, &t, err), -1);
    assert_non_null(strstr(err, "5 of 4"));
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_ISA(open_and_describe),
        cmocka_unit_test(unknown_isa),
        EACH_ISA(memory),
        cmocka_unit_test(plain_reads),
        cmocka_unit_test(pool_calls_each_unit_once),
        cmocka_unit_test(pool_sleeps_when_idle),
        EACH_DEVICE(embed),
        EACH_DEVICE(rmsnorm),
        EACH_DEVICE(route),
        EACH_DEVICE(route_not_a_number),
        EACH_DEVICE(add),
        EACH_DEVICE(topk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
