/* kernels_common.h - what the kernel tests share: random inputs from a printed seed, matrices in
 * the layout of kernels/matrix.h together with their exact values, outputs between guards.
 *
 * Every test runs once per device: each instruction set of the CPU, and each plug-in of
 * build/tests seen through tests/support/host_view.h. The name of the device is the test's
 * state. */
#ifndef LADE_TESTS_KERNELS_COMMON_H
#define LADE_TESTS_KERNELS_COMMON_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/blocks.h"
#include "kernels/kernels.h"
#include "kernels/plugin.h"
#include "tests/support/host_view.h"
#include "tests/support/plugins.h"

/* clang-format off */
#define ON_DEVICE(fn, title, device) {#fn " " title, fn, rng_restart, NULL, (void *)device}
/* clang-format on */
#define EACH_ISA(fn)                                                                               \
    ON_DEVICE(fn, "portable", "portable"), ON_DEVICE(fn, "avx2", "avx2"),                          \
        ON_DEVICE(fn, "avxvnni", "avxvnni"), ON_DEVICE(fn, "avx512", "avx512")
#define EACH_BUT_CUDA(fn) EACH_ISA(fn), ON_DEVICE(fn, "simulated GPU", "lade-sim.so")
/* ThreadSanitizer does not follow the emulator's own stacks. */
#ifdef __SANITIZE_THREAD__
#define EACH_DEVICE(fn) EACH_BUT_CUDA(fn)
#else
#define EACH_DEVICE(fn) EACH_BUT_CUDA(fn), ON_DEVICE(fn, "CUDA", "lade-cuda-emulated.so")
#endif

/* The table of the device under test, set by open_device(). */
static const struct lade_ops *ops;

static inline bool is_plugin(const char *device)
{
    return strstr(device, ".so") != NULL;
}

/* The plug-in under test in place of the emulated one: the program's second argument, so that the
 * same tests run on a GPU. */
static const char *given_plugin;

static inline bool is_cuda(const char *device)
{
    return strstr(device, "cuda") != NULL;
}

static inline const char *plugin_path(const char *device)
{
    return given_plugin && is_cuda(device) ? given_plugin : test_plugin_path(device);
}

/* Relative error of products that need not be exact: inputs of 16 bits on the CPU; inputs and
 * weights rounded to f16 (11 bits) with CUDA. */
static inline double coarse_limit(const char *device)
{
    return is_cuda(device) ? 1e-3 : 1e-4;
}

/* Threads to try: they are the CPU's business. One alone meets nobody, which is all that ThreadSanitizer
 * looks for. */
static inline int least_threads(const char *device)
{
#ifdef __SANITIZE_THREAD__
    return is_plugin(device) ? 1 : 2;
#else
    (void)device;
    return 1;
#endif
}

static inline int most_threads(const char *device)
{
    return is_plugin(device) ? 1 : 3;
}

/* Whether sizes shall be small: the emulator runs each thread of a GPU in turn. */
static inline bool is_emulated(const char *device)
{
    return is_cuda(device) && !given_plugin;
}

static uint64_t rng_seed, rng_state;

/* Every run draws the same inputs, so that it passes or fails for what was changed. Others come
 * from a seed as the program's argument: "new" for one that was never used. */
static inline void rng_start(int argc, char **argv)
{
    given_plugin = argc > 2 ? argv[2] : NULL;
    if (given_plugin)
        cmocka_set_test_filter("*CUDA"); /* the CPU is tested elsewhere */
    rng_seed = argc < 2 ? 1 : strtoull(argv[1], NULL, 0);
    if (argc > 1 && !strcmp(argv[1], "new"))
        rng_seed = (uint64_t)time(NULL) * 1000003u + (uint64_t)getpid();
    rng_state = rng_seed;
    printf("seed %llu\n", (unsigned long long)rng_seed);
}

/* A test's setup: its inputs do not depend on the tests before it. */
static inline int rng_restart(void **state)
{
    (void)state;
    rng_state = rng_seed;
    return 0;
}

static inline uint64_t rng_next(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline double rng_uniform(void)
{
    return (double)(rng_next() >> 11) * 0x1p-53;
}

static inline int rng_int(int low, int high)
{
    return low + (int)(rng_next() % (uint64_t)(high - low + 1));
}

static inline float rng_normal(void)
{
    return (float)(sqrt(-2 * log(1 - rng_uniform())) * cos(6.283185307179586 * rng_uniform()));
}

/* [n] floats: random, or for outputs a pattern that no result equals. Free with guard_free(),
 * which fails the test where something wrote beyond either end. */
enum { GUARD = 64 };

static inline void *guard_alloc(size_t bytes)
{
    size_t total = (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD + sizeof(size_t);
    unsigned char *p = aligned_alloc(GUARD, (total + GUARD - 1) / GUARD * GUARD);
    assert_non_null(p);
    memset(p, 0xa5, total);
    memcpy(p, &bytes, sizeof(bytes));
    return p + GUARD;
}

static inline void guard_free(void *data)
{
    unsigned char *p = (unsigned char *)data - GUARD;
    size_t bytes;
    memcpy(&bytes, p, sizeof(bytes));
    for (size_t i = sizeof(bytes); i < GUARD; i++)
        assert_int_equal(p[i], 0xa5);
    for (size_t i = 0; i < GUARD; i++)
        assert_int_equal(p[GUARD + bytes + i], 0xa5);
    free(p);
}

static inline float *poison(size_t n)
{
    float *p = guard_alloc(n * sizeof(float));
    memset(p, 0xff, n * sizeof(float)); /* not a number */
    return p;
}

static inline float *random_floats(size_t n, float scale)
{
    float *p = guard_alloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = scale * rng_normal();
    return p;
}

static inline void *copy_of(const void *from, size_t bytes)
{
    void *p = guard_alloc(bytes);
    memcpy(p, from, bytes);
    return p;
}

/* |got - want| / |size|; infinite where got is not finite. `size` is what rounding errors are
 * proportional to: the wanted values themselves, unless these may cancel. */
static inline double error_of(const float *got, const double *want, const double *size, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        norm += size[i] * size[i];
    }
    return norm > 0 ? sqrt(diff / norm) : sqrt(diff);
}

static inline void assert_within(const char *what, const float *got, const double *want,
                                 const double *size, size_t n, double limit)
{
    double e = error_of(got, want, size, n);
    if (!(e <= limit))
        fail_msg("%s: relative error %.3g is above %.3g", what, e, limit);
}

static inline void assert_near(const char *what, const float *got, const double *want, size_t n,
                               double limit)
{
    assert_within(what, got, want, want, n, limit);
}

static inline double *to_double(const float *x, size_t n)
{
    double *d = malloc((n ? n : 1) * sizeof(*d));
    assert_non_null(d);
    for (size_t i = 0; i < n; i++)
        d[i] = x[i];
    return d;
}

/* Skips the test where this machine lacks the instruction set; see need_device(). */
static inline struct lade_device *open_device(const char *device, int threads, bool exact)
{
    char err[LADE_ERR] = "";
    struct lade_device *dev = NULL;
    struct lade_device_config cfg = {.threads = threads, .exact = exact};
    ops = lade_cpu_ops();
    if (is_plugin(device)) {
        const struct lade_ops *inner = lade_plugin_open(plugin_path(device), err);
        if (!inner)
            fail_msg("%s", err);
        ops = host_view(inner);
    } else {
        cfg.isa = device;
    }
    if (ops->open(&dev, &cfg, err)) {
        assert_non_null(strstr(err, "this machine has no"));
        printf("skipped: %s\n", err);
        skip();
    }
    return dev;
}

static inline void close_device(struct lade_device *dev)
{
    ops->close(dev);
}

/* For tests that allocate before they open a device: skips them while there is nothing to free. */
static inline void need_device(const char *device)
{
    close_device(open_device(device, 1, true));
}

static inline float half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return (float)(h & 0x8000 ? -v : v);
}

/* The nearest half float of |x| < 65,504. */
static inline uint16_t nearest_half(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    int exponent;
    const double fraction = frexp(fabs(x), &exponent); /* [0.5, 1), or 0 */
    if (exponent < -13)                                /* less precise, too */
        return sign | (uint16_t)nearbyint(ldexp(fabs(x), 24));
    /* a mantissa that is rounded up to 1,024 adds one to the exponent */
    return sign | (uint16_t)(((exponent + 14) << 10) + (int)nearbyint(fraction * 2048) - 1024);
}

static inline uint16_t random_half(double scale)
{
    const uint16_t h = nearest_half(scale * (0.5 + rng_uniform()));
    return rng_int(0, 3) ? h : h | 0x8000; /* scales may be negative */
}

/* A random matrix and its values. */
struct test_matrix {
    struct lade_matrix m;
    double *w; /* [rows][cols] */
};

static inline void fill_tiled(struct test_matrix *t, const struct lade_matrix_layout *l, char *data)
{
    struct lade_matrix *m = &t->m;
    const struct lade_type_info *info = &lade_types[m->type];
    uint32_t *codes = (uint32_t *)data;
    uint16_t *scales = (uint16_t *)(data + l->scales);
    uint8_t *zeros = (uint8_t *)(data + l->zeros);
    int top = (1 << info->bits) - 1;
    for (int r = 0; r < l->tiles * LADE_TILE; r++) {
        size_t tile = (size_t)(r / LADE_TILE), lane = (size_t)(r % LADE_TILE);
        for (int g = 0; g < l->groups; g++) {
            size_t at = (tile * (size_t)l->groups + (size_t)g) * LADE_TILE + lane;
            scales[at] = r < m->rows ? random_half(0.02) : 0;
            if (m->has_zeros)
                zeros[at] = (uint8_t)rng_int(0, m->type == LADE_Q4 ? 16 : 255);
        }
        for (int k = 0; k < l->words * info->per_word; k++) {
            size_t at = (tile * (size_t)l->groups + (size_t)(k / m->group)) * LADE_TILE + lane;
            int zero = m->has_zeros ? zeros[at] : info->zero;
            /* A zero of 16 has no code: past the end any code stands there, times no input. */
            int code = k < m->cols ? rng_int(0, top) : zero > top ? top : zero;
            uint32_t *word =
                &codes[(tile * (size_t)l->words + (size_t)(k / info->per_word)) * LADE_TILE + lane];
            *word |= (uint32_t)code << k % info->per_word * info->bits;
            if (r < m->rows && k < m->cols)
                t->w[(size_t)r * (size_t)m->cols + (size_t)k] =
                    (double)half_value(scales[at]) * (code - zero);
        }
    }
}

/* Gives each input of a tiled matrix a group of its own choice. */
static inline void order_inputs(struct test_matrix *t)
{
    struct lade_matrix *m = &t->m;
    const struct lade_type_info *info = &lade_types[m->type];
    struct lade_matrix_layout before, l;
    assert_int_equal(lade_matrix_layout(m, &before), 0);
    m->has_order = true;
    assert_int_equal(lade_matrix_layout(m, &l), 0);
    char *data = guard_alloc(l.bytes);
    memcpy(data, m->data, before.bytes);
    guard_free((void *)m->data);
    m->data = data;
    const uint32_t *codes = (const uint32_t *)data;
    const uint16_t *scales = (const uint16_t *)(data + l.scales);
    const uint8_t *zeros = (const uint8_t *)(data + l.zeros);
    uint16_t *order = (uint16_t *)(data + l.order);
    for (int k = 0; k < m->cols; k++) {
        order[k] = (uint16_t)rng_int(0, l.groups - 1);
        for (int r = 0; r < m->rows; r++) {
            size_t tile = (size_t)(r / LADE_TILE), lane = (size_t)(r % LADE_TILE);
            size_t at = (tile * (size_t)l.groups + order[k]) * LADE_TILE + lane;
            size_t word = tile * (size_t)l.words + (size_t)(k / info->per_word);
            int code = (int)(codes[word * LADE_TILE + lane] >> k % info->per_word * info->bits &
                             ((1u << info->bits) - 1));
            int zero = m->has_zeros ? zeros[at] : info->zero;
            t->w[(size_t)r * (size_t)m->cols + (size_t)k] =
                (double)half_value(scales[at]) * (code - zero);
        }
    }
}

/* Random blocks whose largest value is of the size that weights have. */
static inline void fill_blocks(struct test_matrix *t, const struct lade_matrix_layout *l,
                               void *data)
{
    const struct lade_block_info *b = &lade_blocks[t->m.block];
    uint8_t *row = malloc((size_t)(l->groups * b->bytes)); /* exact, for the address sanitizer */
    assert_non_null(row);
    for (int r = 0; r < t->m.rows; r++) {
        for (int k = 0; k < t->m.cols; k += b->n) {
            uint8_t *block = row + k / b->n * b->bytes;
            float values[LADE_BLOCK_MAX];
            float most;
            do {
                most = 0;
                for (int i = 0; i < b->bytes; i++)
                    block[i] = (uint8_t)rng_int(0, 255);
                b->dequantize(block, values);
                for (int i = 0; i < b->n; i++)
                    most = isfinite(values[i]) ? fmaxf(most, fabsf(values[i])) : INFINITY;
            } while (!(most > 0.01f && most < 0.2f));
            for (int i = 0; i < b->n && k + i < t->m.cols; i++)
                t->w[(size_t)r * (size_t)t->m.cols + (size_t)(k + i)] = (double)values[i];
        }
        lade_blocks_put(&t->m, l, data, r, 1, row);
    }
    free(row);
}

/* Weights of a matrix whose kind and shape are given. */
static inline struct test_matrix random_weights(struct lade_matrix m)
{
    struct test_matrix t = {.m = m};
    const enum lade_type type = m.type;
    const int rows = m.rows, cols = m.cols;
    struct lade_matrix_layout l;
    assert_int_equal(lade_matrix_layout(&t.m, &l), 0);
    char *data = guard_alloc(l.bytes);
    size_t n = (size_t)rows * (size_t)cols;
    t.w = malloc(n * sizeof(*t.w));
    assert_non_null(t.w);
    memset(data, 0, l.bytes);
    if (type == LADE_BLOCKS)
        fill_blocks(&t, &l, data);
    else if (lade_types[type].per_word)
        fill_tiled(&t, &l, data);
    for (size_t i = 0; lade_types[type].bits >= 16 && i < n; i++) {
        float x = 0.05f * rng_normal();
        uint32_t bits;
        if (type == LADE_F16) {
            ((uint16_t *)data)[i] = random_half(0.05);
            x = half_value(((uint16_t *)data)[i]);
        } else if (type == LADE_BF16) {
            memcpy(&bits, &x, 4);
            bits &= 0xffff0000;
            memcpy(&x, &bits, 4);
            ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        } else {
            ((float *)data)[i] = x;
        }
        t.w[i] = x;
    }
    t.m.data = data;
    return t;
}

/* Blocks are of any format. */
static inline struct test_matrix random_matrix(enum lade_type type, int rows, int cols, int group,
                                               bool has_zeros)
{
    struct lade_matrix m = {
        .type = type, .rows = rows, .cols = cols, .group = group, .has_zeros = has_zeros};
    if (type == LADE_BLOCKS)
        m.block = (uint8_t)rng_int(0, LADE_N_BLOCKS - 1);
    return random_weights(m);
}

static inline void free_matrix(struct test_matrix *t)
{
    guard_free((void *)t->m.data);
    free(t->w);
}

/* y = W x in double; size (may be NULL) is the length of the vector of products of each sum. ThreadSanitizer
 * does not watch each number of what no other thread sees: that was half of its time in some tests. */
__attribute__((no_sanitize("thread"))) static inline void
multiply_size(double *y, double *size, const struct test_matrix *t, const double *x)
{
    for (int r = 0; r < t->m.rows; r++) {
        double sum = 0, squares = 0;
        for (int k = 0; k < t->m.cols; k++) {
            double p = t->w[(size_t)r * (size_t)t->m.cols + (size_t)k] * x[k];
            sum += p;
            squares += p * p;
        }
        y[r] = sum;
        if (size)
            size[r] = sqrt(squares);
    }
}

static inline void multiply(double *y, const struct test_matrix *t, const double *x)
{
    multiply_size(y, NULL, t, x);
}

#endif
