/* bench_kernels - speed of the CPU kernels on the true shapes of the 80B model.
 *
 *     bench_kernels [--isa NAME] [--threads N] [--fast] [--ab NAME] [--cpu-time] [FILTER]
 *
 * Decode shapes are quoted in GB/s of weights beside the memory's own read speed, prefill shapes
 * in GFLOP/s. Matrices rotate through more memory than any cache holds. Each line is the median
 * of several rounds; --ab alternates rounds with a second instruction set, or with the int16 path
 * for "--ab fast", and adds the ratio, which is what noise of other programs spares. --cpu-time
 * counts the seconds this process computed, for one thread on a machine that others use too. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/blocks.h"
#include "kernels/cpu/pool.h"
#include "kernels/kernels.h"

enum { ROUNDS = 15, DIM = 2048, FF = 512, EXPERTS = 512, TOP = 10 };

static const struct lade_ops *ops;
static struct lade_device *device[2]; /* the second one of --ab, or NULL */
static const char *filter;
static uint32_t rng = 12345;

static clockid_t clock_id = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec t;
    clock_gettime(clock_id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t random32(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 17;
    return rng ^= rng << 5;
}

static void *get(size_t bytes)
{
    void *p;
    char err[LADE_ERR];
    if (ops->alloc(device[0], &p, bytes, err)) {
        fprintf(stderr, "%s\n", err);
        exit(1);
    }
    return p;
}

static float *floats(size_t n)
{
    float *p = get(n * sizeof(float));
    for (size_t i = 0; i < n; i++)
        p[i] = (float)(int32_t)random32() * 0x1p-31f;
    return p;
}

static size_t matrix_bytes(const struct lade_matrix *m)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l))
        abort();
    return l.bytes;
}

/* What weights are made of. */
struct kind {
    const char *name;
    enum lade_type type;
    int group;
    uint8_t block;
};
static const struct kind f32 = {"f32", LADE_F32, 0, 0}, bf16 = {"bf16", LADE_BF16, 0, 0},
                         int4 = {"int4", LADE_Q4, 128, 0}, int8 = {"int8", LADE_Q8, 128, 0},
                         q4_0 = {"Q4_0", LADE_Q4, 32, 0}, q8_0 = {"Q8_0", LADE_Q8, 32, 0},
                         q4_k = {"Q4_K", LADE_BLOCKS, 0, LADE_BLOCK_Q4_K},
                         q3_k = {"Q3_K", LADE_BLOCKS, 0, LADE_BLOCK_Q3_K},
                         q6_k = {"Q6_K", LADE_BLOCKS, 0, LADE_BLOCK_Q6_K},
                         fp8 = {"fp8", LADE_BLOCKS, 0, LADE_BLOCK_F8_E4M3};
static const struct kind lattices[] = {
    {"IQ1_S", LADE_BLOCKS, 0, LADE_BLOCK_IQ1_S},
    {"IQ1_M", LADE_BLOCKS, 0, LADE_BLOCK_IQ1_M},
    {"IQ2_XXS", LADE_BLOCKS, 0, LADE_BLOCK_IQ2_XXS},
    {"IQ2_XS", LADE_BLOCKS, 0, LADE_BLOCK_IQ2_XS},
    {"IQ2_S", LADE_BLOCKS, 0, LADE_BLOCK_IQ2_S},
    {"IQ3_XXS", LADE_BLOCKS, 0, LADE_BLOCK_IQ3_XXS},
    {"IQ3_S", LADE_BLOCKS, 0, LADE_BLOCK_IQ3_S},
};

/* A random matrix, in memory of its own or (arena) in the next bytes of a larger block. */
static struct lade_matrix matrix_in(char **arena, struct kind kind, int rows, int cols)
{
    struct lade_matrix m = {
        .type = kind.type, .rows = rows, .cols = cols, .group = kind.group, .block = kind.block};
    struct lade_matrix_layout l;
    if (lade_matrix_layout(&m, &l))
        abort();
    uint32_t *p = arena ? (uint32_t *)*arena : get(l.bytes);
    if (arena)
        *arena += (l.bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
    for (size_t i = 0; i < l.bytes / 4;
         i++) /* floats, and scales of blocks: small normal numbers */
        p[i] = m.group ? random32() : (random32() & 0x83ff83ffu) | 0x3c003c00u;
    for (size_t i = l.scales / 4; m.group && i < l.bytes / 4; i++)
        p[i] = 0x20002000u;
    m.data = p;
    return m;
}

struct bench {
    const char *name;
    double bytes, flops; /* of one call; either may be 0 */
    void (*call)(struct lade_device *dev, void *ctx, int round);
    void *ctx;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double peak; /* bytes per second */

static void measure(const struct bench *b)
{
    if (filter && !strstr(b->name, filter))
        return;
    double seconds[2][ROUNDS], ratio[ROUNDS];
    int round = 0, sides = device[1] ? 2 : 1;
    for (int s = 0; s < sides; s++)
        b->call(device[s], b->ctx, round++);
    double t = now();
    b->call(device[0], b->ctx, round++);
    int calls = (int)(0.03 / (now() - t)) + 1;
    for (int i = 0; i < ROUNDS; i++) {
        for (int s = 0; s < sides; s++) {
            t = now();
            for (int c = 0; c < calls; c++)
                b->call(device[s], b->ctx, round++);
            seconds[s][i] = (now() - t) / calls;
        }
        if (sides == 2)
            ratio[i] = seconds[0][i] / seconds[1][i];
    }
    for (int s = 0; s < sides; s++)
        qsort(seconds[s], ROUNDS, sizeof(double), by_value);
    printf("%-28s", b->name);
    for (int s = 0; s < sides; s++) {
        double median = seconds[s][ROUNDS / 2];
        printf(" %10.1f us", median * 1e6);
        if (b->bytes > 0)
            printf(" %6.2f GB/s %4.0f%%", b->bytes / median * 1e-9, 100 * b->bytes / median / peak);
        if (b->flops > 0)
            printf(" %7.1f GFLOP/s", b->flops / median * 1e-9);
    }
    if (sides == 2) {
        qsort(ratio, ROUNDS, sizeof(double), by_value);
        printf("  first/second %.2f", ratio[ROUNDS / 2]);
    }
    printf("\n");
    fflush(stdout);
}

/* --- memory ----------------------------------------------------------------------------- */

enum { READ_UNIT = 1 << 20, READ_UNITS = 512 };

typedef uint64_t part __attribute__((vector_size(16)));

struct reading {
    const part *data;
    uint64_t sum[READ_UNITS];
};

static void read_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    struct reading *r = ctx;
    const part *p = r->data + (size_t)unit * (READ_UNIT / sizeof(part));
    part a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < READ_UNIT / sizeof(part); i += 4) {
        __builtin_prefetch((const char *)(p + i) + 4096);
        a += p[i];
        b += p[i + 1];
        c += p[i + 2];
        d += p[i + 3];
    }
    a += b + c + d;
    r->sum[unit] = a[0] + a[1];
}

static void measure_memory(int threads)
{
    struct cpu_pool *pool;
    char err[LADE_ERR];
    static struct reading r;
    if (cpu_pool_open(&pool, threads, err)) {
        fprintf(stderr, "%s\n", err);
        exit(1);
    }
    uint64_t *data = get((size_t)READ_UNIT * READ_UNITS);
    for (size_t i = 0; i < (size_t)READ_UNIT / 8 * READ_UNITS; i++)
        data[i] = i;
    r.data = (const part *)data;
    double rate[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        double t = now();
        cpu_pool_run(pool, READ_UNITS, read_unit, &r);
        rate[i] = (double)READ_UNIT * READ_UNITS / (now() - t);
    }
    qsort(rate, ROUNDS, sizeof(double), by_value);
    peak = rate[ROUNDS - 2];
    printf("memory read: median %.2f GB/s, near best %.2f GB/s (100%%), %d threads\n",
           rate[ROUNDS / 2] * 1e-9, peak * 1e-9, cpu_pool_threads(pool));
    cpu_pool_close(pool);
    ops->free(device[0], data);
}

/* --- products --------------------------------------------------------------------------- */

struct product {
    struct lade_matrix w[8];
    int copies, n;
    float *x, *y;
};

static void call_product(struct lade_device *dev, void *ctx, int round)
{
    struct product *p = ctx;
    char err[LADE_ERR];
    struct lade_matmul job = {p->y, p->x, &p->w[round % p->copies]};
    ops->matmul(dev, &job, 1, p->n, err);
}

static void bench_product(struct kind kind, int rows, int cols, int copies, const int *tokens,
                          int n_tokens)
{
    char name[48];
    snprintf(name, sizeof(name), "%s %dx%d%s", kind.name, rows, cols, copies ? "" : " cached");
    copies = copies ? copies : 1;
    if (filter && !strstr(name, filter))
        return;
    struct product p = {.copies = copies};
    for (int i = 0; i < copies; i++)
        p.w[i] = matrix_in(NULL, kind, rows, cols);
    for (int i = 0; i < n_tokens; i++) {
        char label[64];
        snprintf(label, sizeof(label), "%s n=%d", name, tokens[i]);
        p.n = tokens[i];
        p.x = floats((size_t)p.n * (size_t)cols);
        p.y = floats((size_t)p.n * (size_t)rows);
        struct bench b = {label, (double)matrix_bytes(&p.w[0]),
                          p.n > 4 ? 2.0 * p.n * rows * cols : 0, call_product, &p};
        if (p.n > 16)
            b.bytes = 0;
        measure(&b);
        ops->free(device[0], p.x);
        ops->free(device[0], p.y);
    }
    for (int i = 0; i < copies; i++)
        ops->free(device[0], (void *)p.w[i].data);
}

/* --- experts ---------------------------------------------------------------------------- */

struct experts {
    struct lade_expert expert[EXPERTS], shared;
    float *x, *y, *gate, *weights;
    int32_t *ids; /* [TURNS][n][TOP] */
    int n;
};

enum { TURNS = 64 };

static struct lade_expert one_expert(char **arena, struct kind in, struct kind out)
{
    struct lade_expert e;
    e.gate = matrix_in(arena, in, FF, DIM);
    e.up = matrix_in(arena, in, FF, DIM);
    e.down = matrix_in(arena, out, DIM, FF);
    return e;
}

static void call_experts(struct lade_device *dev, void *ctx, int round)
{
    struct experts *e = ctx;
    char err[LADE_ERR];
    struct lade_moe m = {.n = e->n,
                         .dim = DIM,
                         .k = TOP,
                         .n_experts = EXPERTS,
                         .x = e->x,
                         .ids = e->ids + (size_t)(round % TURNS) * (size_t)(e->n * TOP),
                         .weights = e->weights,
                         .experts = e->expert,
                         .shared = &e->shared,
                         .shared_gate = e->gate,
                         .y = e->y};
    ops->moe(dev, &m, err);
}

static void bench_experts(struct kind in, struct kind out, struct kind shared_kind)
{
    static const int tokens[] = {1, 2, 4, 6, 16, 64, 512};
    char name[32];
    snprintf(name, sizeof(name), "moe %s", in.name);
    if (filter && !strstr(name, filter))
        return;
    static struct experts e;
    char *block = get((size_t)(EXPERTS + 2) * (13 << 18)), *arena = block;
    for (int i = 0; i < EXPERTS; i++)
        e.expert[i] = one_expert(&arena, in, out);
    e.shared = one_expert(&arena, shared_kind, shared_kind);
    double bytes = (double)(2 * matrix_bytes(&e.expert[0].gate) + matrix_bytes(&e.expert[0].down));
    double shared = (double)(2 * matrix_bytes(&e.shared.gate) + matrix_bytes(&e.shared.down));
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        char label[64];
        size_t n = (size_t)tokens[i];
        e.n = tokens[i];
        e.x = floats(n * DIM);
        e.y = floats(n * DIM);
        e.gate = floats(DIM);
        e.weights = floats(n * TOP);
        e.ids = get(TURNS * n * TOP * sizeof(int32_t));
        for (size_t t = 0; t < TURNS * n; t++)
            for (int j = 0; j < TOP; j++) /* distinct by construction */
                e.ids[t * TOP + (size_t)j] = (int32_t)(random32() % (EXPERTS / TOP)) * TOP + j;
        snprintf(label, sizeof(label), "%s n=%d", name, e.n);
        struct bench b = {label, e.n == 1 ? TOP * bytes + shared : 0,
                          e.n > 1 ? 2.0 * e.n * (TOP + 1) * 3 * DIM * FF : 0, call_experts, &e};
        measure(&b);
        ops->free(device[0], e.x);
        ops->free(device[0], e.y);
        ops->free(device[0], e.gate);
        ops->free(device[0], e.weights);
        ops->free(device[0], e.ids);
    }
    ops->free(device[0], block);
}

/* --- mixers ----------------------------------------------------------------------------- */

enum { LAYERS = 36 };

static void call_deltanet(struct lade_device *dev, void *ctx, int round)
{
    struct lade_deltanet d = *(struct lade_deltanet *)ctx;
    char err[LADE_ERR];
    size_t size = (size_t)(d.value_heads * d.key_dim * d.value_dim);
    d.state += (size_t)(round % LAYERS) * size;
    ops->deltanet(dev, &d, err);
}

static void bench_deltanet(int n)
{
    char label[64];
    struct lade_deltanet d = {.n = n,
                              .key_heads = 16,
                              .value_heads = 32,
                              .key_dim = 128,
                              .value_dim = 128,
                              .kernel = 4,
                              .eps = 1e-6f};
    size_t state = 32 * 128 * 128;
    snprintf(label, sizeof(label), "deltanet n=%d", n);
    if (filter && !strstr(label, filter))
        return;
    d.qkvz = floats((size_t)n * 12288);
    d.ba = floats((size_t)n * 64);
    d.conv = floats(8192 * 4);
    float *decay = floats(32);
    for (int i = 0; i < 32; i++)
        decay[i] = -fabsf(decay[i]);
    d.decay = decay;
    d.dt_bias = floats(32);
    d.norm = floats(128);
    d.conv_state = floats(3 * 8192);
    d.state = floats(LAYERS * state);
    d.out = floats((size_t)n * 4096);
    struct bench b = {label, n == 1 ? 2.0 * 4 * (double)state : 0,
                      n > 1 ? 8.0 * n * (double)state : 0, call_deltanet, &d};
    measure(&b);
    const float *all[] = {d.qkvz, d.ba,         d.conv,  d.decay, d.dt_bias,
                          d.norm, d.conv_state, d.state, d.out};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        ops->free(device[0], (void *)all[i]);
}

static void call_attention(struct lade_device *dev, void *ctx, int round)
{
    struct lade_attention a = *(struct lade_attention *)ctx;
    char err[LADE_ERR];
    size_t layer =
        (size_t)a.kv_heads * (size_t)a.capacity * lade_cache_row(a.cache_type, a.head_dim);
    a.k_cache = (char *)a.k_cache + (size_t)(round % 4) * layer;
    a.v_cache = (char *)a.v_cache + (size_t)(round % 4) * layer;
    ops->attention(dev, &a, err);
}

static void bench_attention(int n, int pos)
{
    char label[64];
    struct lade_attention a = {.n = n,
                               .pos = pos,
                               .heads = 16,
                               .kv_heads = 2,
                               .head_dim = 256,
                               .rotary_dim = 64,
                               .eps = 1e-6f,
                               .rope_scale = 1,
                               .cache_type = LADE_Q16,
                               .capacity = pos + n};
    snprintf(label, sizeof(label), "attention n=%d depth=%d", n, pos);
    if (filter && !strstr(label, filter))
        return;
    size_t tokens = (size_t)n, cache = 2 * (size_t)a.capacity * lade_cache_row(LADE_Q16, 256);
    a.q = floats(tokens * 16 * 512);
    a.k = floats(tokens * 512);
    a.v = floats(tokens * 512);
    a.q_norm = floats(256);
    a.k_norm = floats(256);
    a.inv_freq = floats(32);
    a.k_cache = get(4 * cache);
    a.v_cache = get(4 * cache);
    memset(a.k_cache, 4, 4 * cache); /* codes and scales that may be */
    memset(a.v_cache, 4, 4 * cache);
    a.out = floats(tokens * 4096);
    double pairs = n * (pos + (n + 1) / 2.0);
    struct bench b = {label, n == 1 ? 2.0 * (double)cache : 0, n > 1 ? 4.0 * pairs * 4096 : 0,
                      call_attention, &a};
    measure(&b);
    const void *all[] = {a.q,        a.k,       a.v,       a.q_norm, a.k_norm,
                         a.inv_freq, a.k_cache, a.v_cache, a.out};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        ops->free(device[0], (void *)all[i]);
}

static void open_or_exit(struct lade_device **dev, const char *isa, int threads, bool exact)
{
    char err[LADE_ERR];
    struct lade_device_config cfg = {.threads = threads, .isa = isa, .exact = exact};
    if (ops->open(dev, &cfg, err)) {
        fprintf(stderr, "%s\n", err);
        exit(1);
    }
    printf("%s%s\n", ops->describe(*dev), exact ? ", exact" : ", fast");
}

int main(int argc, char **argv)
{
    const char *isa = NULL, *ab = NULL;
    int threads = 0;
    bool exact = true;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--isa") && i + 1 < argc)
            isa = argv[++i];
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--ab") && i + 1 < argc)
            ab = argv[++i];
        else if (!strcmp(argv[i], "--fast"))
            exact = false;
        else if (!strcmp(argv[i], "--cpu-time"))
            clock_id = CLOCK_PROCESS_CPUTIME_ID;
        else
            filter = argv[i];
    }
    ops = lade_cpu_ops();
    open_or_exit(&device[0], isa, threads, exact);
    if (ab && !strcmp(ab, "fast"))
        open_or_exit(&device[1], isa, threads, false);
    else if (ab)
        open_or_exit(&device[1], ab, threads, exact);
    measure_memory(threads);

    static const int few[] = {1, 2, 3, 4, 6, 8, 12}, many[] = {32, 512};
    bench_product(int8, 12288, 2048, 6, few, 7);
    bench_product(int8, 12288, 2048, 1, many, 2);
    bench_product(int4, 12288, 2048, 8, few, 7);
    bench_product(int4, 12288, 2048, 1, many, 2);
    bench_product(q8_0, 12288, 2048, 6, few, 7);
    bench_product(q8_0, 12288, 2048, 1, many, 2);
    bench_product(q4_k, 12288, 2048, 8, few, 7);
    bench_product(q4_k, 12288, 2048, 1, many, 2);
    bench_product(q6_k, 12288, 2048, 8, few, 7);
    bench_product(q6_k, 12288, 2048, 1, many, 2);
    bench_product(int8, 512, 1024, 0, few, 1);
    bench_product(int4, 512, 1024, 0, few, 1);
    bench_product(int8, 2048, 4096, 8, few, 1);
    bench_product(bf16, 64, 2048, 8, few, 1);
    bench_product(bf16, 64, 2048, 8, many, 2);
    bench_product(f32, 512, 2048, 8, few, 1);
    bench_product(f32, 512, 2048, 8, many, 2);
    bench_product(bf16, 151936, 2048, 1, few, 6);
    bench_product(bf16, 12288, 2048, 1, many, 2);
    bench_experts(int4, int4, int8);
    bench_experts(q4_0, q4_0, q8_0);
    bench_experts(q4_k, q6_k, q8_0);
    bench_experts(q3_k, q4_k, q8_0);
    bench_experts(fp8, fp8, fp8);
    for (size_t i = 0; i < sizeof(lattices) / sizeof(lattices[0]); i++)
        bench_experts(lattices[i], lattices[i], q8_0);
    bench_deltanet(1);
    bench_deltanet(8);
    bench_deltanet(512);
    bench_attention(1, 1000);
    bench_attention(1, 16384);
    bench_attention(512, 0);
    bench_attention(512, 4096);
    for (int i = 0; i < 2; i++)
        ops->close(device[i]);
    return 0;
}
