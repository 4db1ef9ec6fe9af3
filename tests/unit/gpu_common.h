/* gpu_common.h - what the tests of GPUs share: the device of a test, operands on it, a few experts. */
#ifndef LADE_TESTS_GPU_COMMON_H
#define LADE_TESTS_GPU_COMMON_H

#include "kernels_common.h"

/* Of the test that runs. */
static char err[LADE_ERR];
static const struct lade_ops *gpu;
static struct lade_device *dev;

#define good(call) assert_int_equal(gpu->call, 0)
#define bad(why, call)                                                                             \
    do {                                                                                           \
        err[0] = '\0';                                                                             \
        assert_int_equal(gpu->call, -1);                                                           \
        if (!strstr(err, why))                                                                     \
            fail_msg("'%s' does not say '%s'", err, why);                                          \
    } while (0)

static inline int start(void **state)
{
    rng_restart(state);
    gpu = lade_plugin_open(plugin_path(*state), err);
    if (!gpu)
        fail_msg("%s", err);
    struct lade_device_config cfg = {.threads = 2, .exact = true, .memory_cap = (size_t)1 << 30};
    good(open(&dev, &cfg, err));
    return 0;
}

static inline int stop(void **state)
{
    (void)state;
    gpu->close(dev);
    dev = NULL;
    return 0;
}

static inline void *device_floats(const float *host, size_t n)
{
    void *p;
    good(alloc(dev, &p, n * sizeof *host, err));
    if (host)
        good(upload(dev, p, host, n * sizeof *host, err));
    return p;
}

static inline void assert_floats(const void *at, const float *want, size_t n)
{
    float *have = poison(n);
    good(download(dev, have, at, n * sizeof *have, err));
    assert_memory_equal(have, want, n * sizeof *have);
    guard_free(have);
}

static inline struct lade_matrix place(const struct test_matrix *t)
{
    struct lade_matrix m = t->m;
    struct lade_matrix_layout l;
    void *p;
    assert_int_equal(lade_matrix_layout(&m, &l), 0);
    good(alloc(dev, &p, l.bytes, err));
    good(upload(dev, p, m.data, l.bytes, err));
    m.data = p;
    return m;
}

enum { EXPERTS = 6, USED = 2, WIDE = 32, FF = 16 };

struct experts {
    struct test_matrix t[3 * EXPERTS];
    struct lade_expert all[EXPERTS], table[EXPERTS];
    float *x, *y, *weights;
    int32_t *ids;
};

static inline struct experts *make_experts(void)
{
    struct experts *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (int e = 0; e < EXPERTS; e++) {
        struct test_matrix *t = &m->t[3 * e];
        t[0] = random_matrix(LADE_Q4, FF, WIDE, 32, false);
        t[1] = random_matrix(LADE_Q4, FF, WIDE, 32, false);
        t[2] = random_matrix(LADE_Q4, WIDE, FF, 16, false);
        m->all[e] = (struct lade_expert){place(&t[0]), place(&t[1]), place(&t[2])};
        m->table[e] = m->all[e];
        m->table[e].gate.data = m->table[e].up.data = m->table[e].down.data = NULL;
    }
    float *x = random_floats(WIDE, 1), weights[USED] = {0.75f, 0.25f};
    int32_t ids[USED] = {1, 4};
    m->x = device_floats(x, WIDE);
    m->y = device_floats(NULL, WIDE);
    m->weights = device_floats(weights, USED);
    m->ids = device_floats((float *)ids, USED);
    guard_free(x);
    return m;
}

static inline void free_experts(struct experts *m)
{
    for (int e = 0; e < EXPERTS; e++) {
        gpu->free(dev, (void *)m->all[e].gate.data);
        gpu->free(dev, (void *)m->all[e].up.data);
        gpu->free(dev, (void *)m->all[e].down.data);
    }
    for (int i = 0; i < 3 * EXPERTS; i++)
        free_matrix(&m->t[i]);
    gpu->free(dev, m->x);
    gpu->free(dev, m->y);
    gpu->free(dev, m->weights);
    gpu->free(dev, m->ids);
    free(m);
}

static inline struct lade_moe moe_of(const struct experts *m, uint64_t version)
{
    return (struct lade_moe){.n = 1,
                             .dim = WIDE,
                             .k = USED,
                             .n_experts = EXPERTS,
                             .x = m->x,
                             .ids = m->ids,
                             .weights = m->weights,
                             .experts = m->table,
                             .version = version,
                             .y = m->y};
}

/* One token of attention with operands of its own on the device: norms of ones, caches of 32-bit
 * floats for `capacity` tokens. Its position, and what it rotates by, is the caller's. */
static inline struct lade_attention make_attention(int heads, int kv_heads, int head_dim,
                                                   int capacity)
{
    size_t head = (size_t)head_dim, kv = (size_t)kv_heads * head, q = (size_t)heads * head;
    float *ones = random_floats(head, 1);
    for (size_t i = 0; i < head; i++)
        ones[i] = 1;
    const float *norm = device_floats(ones, head);
    guard_free(ones);
    return (struct lade_attention){.n = 1,
                                   .heads = heads,
                                   .kv_heads = kv_heads,
                                   .head_dim = head_dim,
                                   .q = device_floats(NULL, 2 * q),
                                   .k = device_floats(NULL, kv),
                                   .v = device_floats(NULL, kv),
                                   .q_norm = norm,
                                   .k_norm = norm,
                                   .eps = 1e-6f,
                                   .inv_freq = norm,
                                   .rope_scale = 1,
                                   .cache_type = LADE_F32,
                                   .k_cache = device_floats(NULL, kv * (size_t)capacity),
                                   .v_cache = device_floats(NULL, kv * (size_t)capacity),
                                   .capacity = capacity,
                                   .out = device_floats(NULL, q)};
}

static inline void free_attention(const struct lade_attention *a)
{
    const void *all[] = {a->q, a->k, a->v, a->q_norm, a->k_cache, a->v_cache, a->out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        gpu->free(dev, (void *)all[i]);
}

/* clang-format off */
#define ON(title, plugin, fn) {#fn " " title, fn, start, stop, (void *)plugin}
/* clang-format on */
#define ON_SIM(fn) ON("simulated GPU", "lade-sim.so", fn)
#ifdef __SANITIZE_THREAD__ /* see kernels_common.h */
#define ON_CUDA(fn)  ON_SIM(fn)
#define EACH_GPU(fn) ON_SIM(fn)
#else
#define ON_CUDA(fn)  ON("CUDA", "lade-cuda-emulated.so", fn)
#define EACH_GPU(fn) ON_SIM(fn), ON_CUDA(fn)
#endif

#endif
