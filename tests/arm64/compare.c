/* The NEON kernels against the portable ones, every type and op, on a 64-bit ARM machine or in
 * qemu-user (tests/arm64/run.sh). Prints what differs; 0 where nothing does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blocks.h"
#include "kernels/kernels.h"

static const struct lade_ops *ops;
static struct lade_device *dev[3]; /* portable, exact; NEON, exact; NEON, fast */
static uint32_t rng = 1;
static int failures;

static uint32_t random32(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 17;
    return rng ^= rng << 5;
}

static void *get(size_t bytes)
{
    void *p = NULL;
    char err[LADE_ERR];
    if (ops->alloc(dev[0], &p, bytes, err)) {
        puts(err);
        exit(1);
    }
    return p;
}

static float *floats(size_t n, float size)
{
    float *p = get(n * sizeof(*p));
    for (size_t i = 0; i < n; i++)
        p[i] = size * (float)(int32_t)random32() * 0x1p-31f;
    return p;
}

/* y[1] and y[2] may differ from y[0] by 1e-5, and by 1e-3 of its length. */
static void compare(const char *what, float *const y[3], size_t n)
{
    for (int d = 1; d < 3; d++) {
        double diff = 0, norm = 0;
        for (size_t i = 0; i < n; i++) {
            diff += pow((double)y[d][i] - y[0][i], 2);
            norm += pow(y[0][i], 2);
        }
        if (!(sqrt(diff) <= (d == 1 ? 1e-5 : 1e-3) * sqrt(norm)) || norm == 0) {
            printf("%s, %s: off by %g of %g\n", what, d == 1 ? "exact" : "fast", sqrt(diff),
                   sqrt(norm));
            failures++;
        }
    }
}

static void check(int rc, const char *what, const char *err)
{
    if (rc) {
        printf("%s: %s\n", what, err);
        exit(1);
    }
}

static void product(struct lade_matrix m, int n)
{
    struct lade_matrix_layout l;
    char what[80], err[LADE_ERR] = "";
    if (lade_matrix_layout(&m, &l))
        abort();
    uint32_t *words = get((l.bytes + 3) / 4 * 4);
    /* Halves and floats are normal numbers of moderate size, whatever else the bits are. */
    for (size_t i = 0; i < l.bytes / 4; i++)
        words[i] = m.group ? random32() : (random32() & 0x83ff83ffu) | 0x3c003c00u;
    for (size_t i = l.scales / 4; m.group && i < (m.has_zeros ? l.zeros : l.bytes) / 4; i++)
        words[i] = 0x20002000u;
    for (size_t i = l.zeros / 4; m.has_zeros && i < l.bytes / 4; i++)
        words[i] &= 0x0f0f0f0fu;
    if (m.type == LADE_BLOCKS && m.block == LADE_BLOCK_MXFP4) /* exponents of 8 bits */
        memset((char *)words + l.scales, 0x7a, l.bytes - l.scales);
    m.data = words;
    float *x = floats((size_t)n * (size_t)m.cols, 1), *y[3];
    snprintf(what, sizeof(what), "%s%s, %d x %d, %d tokens", lade_matrix_type(&m),
             m.has_zeros ? " with zeros" : "", m.rows, m.cols, n);
    for (int d = 0; d < 3; d++) {
        y[d] = get((size_t)n * (size_t)m.rows * sizeof(float));
        check(ops->matmul(dev[d], &(struct lade_matmul){y[d], x, &m}, 1, n, err), what, err);
    }
    compare(what, y, (size_t)n * (size_t)m.rows);
}

static void attention(int n, int pos)
{
    enum { HEADS = 4, KV = 2, DIM = 64, CAPACITY = 300 };
    char err[LADE_ERR] = "";
    float *q = floats((size_t)n * HEADS * 2 * DIM, 1), *k = floats((size_t)n * KV * DIM, 1);
    float *v = floats((size_t)n * KV * DIM, 1), *w = floats(DIM, 1), *freq = floats(16, 1), *y[3];
    float *old = floats((size_t)KV * CAPACITY * DIM, 1);
    for (int d = 0; d < 3; d++) {
        void *cache[2];
        for (int c = 0; c < 2; c++)
            cache[c] =
                memcpy(get((size_t)KV * CAPACITY * DIM * 4), old, (size_t)KV * CAPACITY * DIM * 4);
        y[d] = get((size_t)n * HEADS * DIM * sizeof(float));
        struct lade_attention a = {.n = n,
                                   .pos = pos,
                                   .heads = HEADS,
                                   .kv_heads = KV,
                                   .head_dim = DIM,
                                   .rotary_dim = 32,
                                   .q = q,
                                   .k = k,
                                   .v = v,
                                   .q_norm = w,
                                   .k_norm = w,
                                   .eps = 1e-6f,
                                   .inv_freq = freq,
                                   .rope_scale = 1,
                                   .cache_type = LADE_F32,
                                   .k_cache = cache[0],
                                   .v_cache = cache[1],
                                   .capacity = CAPACITY,
                                   .out = y[d]};
        check(ops->attention(dev[d], &a, err), "attention", err);
    }
    compare(n > 1 ? "attention, a prompt" : "attention, one token", y, (size_t)n * HEADS * DIM);
}

static void deltanet(int n)
{
    enum { KEYS = 2, VALUES = 4, KEY = 32, VALUE = 48, KERNEL = 4 };
    enum { CHANNELS = 2 * KEYS * KEY + VALUES * VALUE, ROW = CHANNELS + VALUES * VALUE };
    char err[LADE_ERR] = "";
    float *in = floats((size_t)n * ROW, 1), *ba = floats((size_t)n * 2 * VALUES, 1);
    float *conv = floats(CHANNELS * KERNEL, 1), *dt = floats(VALUES, 1), *norm = floats(VALUE, 1);
    float *decay = floats(VALUES, 1), *tail = floats((KERNEL - 1) * CHANNELS, 1), *y[3];
    float *state = floats((size_t)VALUES * KEY * VALUE, 1);
    for (int h = 0; h < VALUES; h++)
        decay[h] = -fabsf(decay[h]);
    for (int d = 0; d < 3; d++) {
        float *t = memcpy(get((KERNEL - 1) * CHANNELS * 4), tail, (KERNEL - 1) * CHANNELS * 4);
        float *s =
            memcpy(get((size_t)VALUES * KEY * VALUE * 4), state, (size_t)VALUES * KEY * VALUE * 4);
        y[d] = get((size_t)n * VALUES * VALUE * sizeof(float));
        struct lade_deltanet op = {.n = n,
                                   .key_heads = KEYS,
                                   .value_heads = VALUES,
                                   .key_dim = KEY,
                                   .value_dim = VALUE,
                                   .kernel = KERNEL,
                                   .qkvz = in,
                                   .ba = ba,
                                   .conv = conv,
                                   .decay = decay,
                                   .dt_bias = dt,
                                   .norm = norm,
                                   .eps = 1e-6f,
                                   .conv_state = t,
                                   .state = s,
                                   .out = y[d]};
        check(ops->deltanet(dev[d], &op, err), "deltanet", err);
    }
    compare(n > 1 ? "deltanet, a prompt" : "deltanet, one token", y, (size_t)n * VALUES * VALUE);
}

int main(void)
{
    static const int tokens[] = {1, 2, 5, 12};
    char err[LADE_ERR] = "";
    ops = lade_cpu_ops();
    for (int d = 0; d < 3; d++) {
        struct lade_device_config c = {
            .threads = 1, .isa = d ? "neon" : "portable", .exact = d < 2};
        check(ops->open(&dev[d], &c, err), "open", err);
    }
    for (int t = 0; t < (int)(sizeof(tokens) / sizeof(tokens[0])); t++) {
        for (int type = 0; type < LADE_BLOCKS; type++)
            for (int zeros = 0; zeros <= (lade_types[type].per_word > 0); zeros++) {
                const int group = lade_types[type].per_word ? 64 : 0;
                product((struct lade_matrix){.type = (enum lade_type)type,
                                             .rows = 40,
                                             .cols = 200,
                                             .group = group,
                                             .has_zeros = zeros},
                        tokens[t]);
            }
        for (int block = 0; block < LADE_N_BLOCKS; block++)
            product(
                (struct lade_matrix){
                    .type = LADE_BLOCKS, .rows = 40, .cols = 512, .block = (uint8_t)block},
                tokens[t]);
    }
    attention(1, 280);
    attention(20, 30);
    deltanet(1);
    deltanet(40);
    return failures > 0;
}
