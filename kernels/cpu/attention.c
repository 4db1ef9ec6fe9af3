/* Gated attention: norms and rotary embedding, append to the cache, attend, gate.
 *
 * Few tokens: each unit takes one key head and a stretch of positions, and a second pass joins
 * the stretches, so that one token of a long context occupies all threads. Many tokens: each
 * unit takes one key head and a block of queries through flash attention. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    PART_KEYS = 256,         /* positions of one unit at decode */
    PART_TOKENS = 8,         /* fewer tokens than this attend in parts */
    BLOCK_ROWS = WORDS_ROWS, /* query rows of one unit at prefill, and */
    LEAST_ROWS = 32,         /* of one where threads would have none with more */
    THREAD_UNITS = 2,        /* that a thread should have, because later ones see more */
};

struct run {
    const struct lade_attention *a;
    const struct cpu_isa *isa;
    int group;   /* query heads of one key head */
    float *q;    /* [kv_heads][(n - skip) * group][head_dim], normalised and scaled */
    float *work; /* [threads][work_size] */
    size_t work_size;
    int parts;              /* decode: stretches of positions */
    float *max, *sum, *acc; /* decode: [n][kv_heads][parts][group] (and [head_dim]) */
    int block;              /* prefill: tokens of one unit */
    void (*attend_part)(const struct cpu_attend_part *a);
    void (*attend_block)(const struct cpu_attend_block *a);
    size_t block_floats; /* its work space */
};

static void rope(const struct lade_attention *a, float *x, const float *cs)
{
    int half = a->rotary_dim / 2;
    for (int j = 0; j < half; j++) {
        float c = cs[2 * j], s = cs[2 * j + 1], p = x[j], q = x[j + half];
        x[j] = p * c - q * s;
        x[j + half] = q * c + p * s;
    }
}

static void cache_store(const struct run *r, void *cache, size_t row, const float *x)
{
    const struct lade_attention *a = r->a;
    void *to = (char *)cache + row * lade_cache_row(a->cache_type, a->head_dim);
    if (a->cache_type == LADE_F16)
        r->isa->to_f16(to, x, a->head_dim);
    else if (a->cache_type == LADE_Q8)
        r->isa->to_q8(to, x, a->head_dim);
    else if (a->cache_type == LADE_Q16)
        r->isa->to_q16(to, x, a->head_dim);
    else
        memcpy(to, x, (size_t)a->head_dim * sizeof(float));
}

/* One token and one key head: its key, its value and its queries. */
static void prepare_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct lade_attention *a = r->a;
    int t = unit / a->kv_heads, g = unit % a->kv_heads, d = a->head_dim;
    float *cs = r->work + (size_t)thread * r->work_size, *key = cs + a->rotary_dim;
    for (int j = 0; j < a->rotary_dim / 2; j++) {
        float angle = (float)(a->pos + t) * a->inv_freq[j]; /* rounded to float as transformers */
        cs[2 * j] = cosf(angle) * a->rope_scale;
        cs[2 * j + 1] = sinf(angle) * a->rope_scale;
    }
    size_t kv = ((size_t)t * (size_t)a->kv_heads + (size_t)g) * (size_t)d;
    r->isa->rmsnorm(key, a->k + kv, a->k_norm, d, a->eps);
    rope(a, key, cs);
    size_t at = (size_t)g * (size_t)a->capacity + (size_t)(a->pos + t);
    cache_store(r, a->k_cache, at, key);
    cache_store(r, a->v_cache, at, a->v + kv);

    float scale = 1.0f / sqrtf((float)d);
    size_t asked = (size_t)(a->n - a->skip), own = (size_t)(t - a->skip);
    for (int h = 0; t >= a->skip && h < r->group; h++) {
        size_t head = own * (size_t)a->heads + (size_t)(g * r->group + h);
        size_t row = ((size_t)g * asked + own) * (size_t)r->group + (size_t)h;
        float *q = r->q + row * (size_t)d;
        r->isa->rmsnorm(q, a->q + head * 2 * (size_t)d, a->q_norm, d, a->eps);
        rope(a, q, cs);
        for (int i = 0; i < d; i++)
            q[i] *= scale;
    }
}

static const void *cache_at(const struct lade_attention *a, const void *cache, int g)
{
    return (const char *)cache +
           (size_t)g * (size_t)a->capacity * lade_cache_row(a->cache_type, a->head_dim);
}

static void part_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct lade_attention *a = r->a;
    int part = unit % r->parts, g = unit / r->parts % a->kv_heads;
    int t = unit / r->parts / a->kv_heads, end = a->pos + t + 1;
    int first = part * PART_KEYS;
    if (first >= end)
        return;
    size_t row = ((size_t)g * (size_t)a->n + (size_t)t) * (size_t)r->group;
    size_t out = (size_t)unit * (size_t)r->group;
    r->attend_part(&(struct cpu_attend_part){
        .heads = r->group,
        .head_dim = a->head_dim,
        .first = first,
        .last = cpu_min(first + PART_KEYS, end),
        .q = r->q + row * (size_t)a->head_dim,
        .cache_type = a->cache_type,
        .k = cache_at(a, a->k_cache, g),
        .v = cache_at(a, a->v_cache, g),
        .more = first + PART_KEYS < end,
        .max = r->max + out,
        .sum = r->sum + out,
        .acc = r->acc + out * (size_t)a->head_dim,
        .scores = r->work + (size_t)thread * r->work_size,
    });
}

/* Joins the stretches of one token and head, in order, and applies the gate. */
static void join_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    const struct run *r = ctx;
    const struct lade_attention *a = r->a;
    int t = unit / a->heads, h = unit % a->heads, d = a->head_dim;
    int parts = (a->pos + t) / PART_KEYS + 1;
    size_t first = ((size_t)t * (size_t)a->kv_heads + (size_t)(h / r->group)) * (size_t)r->parts;
    float max = -INFINITY, sum = 0;
    float *out = a->out + (size_t)unit * (size_t)d;
    memset(out, 0, (size_t)d * sizeof(float));
    for (int p = 0; p < parts; p++) {
        float m = r->max[(first + (size_t)p) * (size_t)r->group + (size_t)(h % r->group)];
        max = m > max ? m : max;
    }
    for (int p = 0; p < parts; p++) {
        size_t at = (first + (size_t)p) * (size_t)r->group + (size_t)(h % r->group);
        float scale = expf(r->max[at] - max);
        sum += scale * r->sum[at];
        r->isa->axpy(out, scale, r->acc + at * (size_t)d, d);
    }
    for (int i = 0; i < d; i++)
        out[i] /= sum;
    r->isa->mul_sigmoid(out, a->q + (size_t)unit * 2 * (size_t)d + d, d);
}

static void block_unit(void *ctx, int unit, int thread)
{
    const struct run *r = ctx;
    const struct lade_attention *a = r->a;
    int d = a->head_dim, g = unit % a->kv_heads;
    /* The last tokens see the longest context: they start first. */
    int blocks = (a->n - 1) / r->block + 1, t0 = (blocks - 1 - unit / a->kv_heads) * r->block;
    int tokens = cpu_min(r->block, a->n - t0), rows = tokens * r->group;
    float *out = r->work + (size_t)thread * r->work_size;
    float *work = out + (size_t)(r->block * r->group) * (size_t)d;
    int *limit = (int *)(work + r->block_floats);
    for (int i = 0; i < rows; i++)
        limit[i] = a->pos + t0 + i / r->group + 1;
    size_t row = ((size_t)g * (size_t)a->n + (size_t)t0) * (size_t)r->group;
    r->attend_block(&(struct cpu_attend_block){
        .rows = rows,
        .head_dim = d,
        .q = r->q + row * (size_t)d,
        .limit = limit,
        .filled = a->pos + a->n,
        .cache_type = a->cache_type,
        .k = cache_at(a, a->k_cache, g),
        .v = cache_at(a, a->v_cache, g),
        .out = out,
        .work = work,
    });
    for (int i = 0; i < rows; i++) {
        size_t head =
            (size_t)(t0 + i / r->group) * (size_t)a->heads + (size_t)(g * r->group + i % r->group);
        float *y = a->out + head * (size_t)d;
        memcpy(y, out + (size_t)i * (size_t)d, (size_t)d * sizeof(float));
        r->isa->mul_sigmoid(y, a->q + head * 2 * (size_t)d + d, d);
    }
}

size_t cpu_attend_block_floats(int rows, int head_dim)
{
    size_t r = ((size_t)rows + CPU_ROW_PAD - 1) / CPU_ROW_PAD * CPU_ROW_PAD;
    size_t d = (size_t)head_dim + CPU_MAX_PW;
    return 2 * r * d + 2 * CPU_KEYS * d + CPU_KEYS * r + 4 * r;
}

/* Tokens of one unit at prefill, of so many tokens and key heads. */
static int block_tokens(int tokens, int group, int threads)
{
    const int most = cpu_max(BLOCK_ROWS / group, 1), least = cpu_max(LEAST_ROWS / group, 1);
    return cpu_max(least, cpu_min(most, tokens / (THREAD_UNITS * threads)));
}

/* The kernels that round queries, keys and values to words, or NULL. */
static const struct cpu_int16 *words_of(const struct lade_device *dev,
                                        const struct lade_attention *a)
{
    const struct cpu_int16 *words = dev->exact ? NULL : dev->isa->int16;
    const bool takes = words && words->attend_block && a->cache_type != LADE_F32 &&
                       a->head_dim <= CPU_HEAD_MOST && a->head_dim % CPU_HEAD_STEP == 0;
    return takes ? words : NULL;
}

static void choose_part(struct run *r, const struct cpu_int16 *words)
{
    const bool takes = words && r->a->cache_type == LADE_Q16 && r->group % words->part_heads == 0;
    r->attend_part = takes ? words->attend_part : r->isa->attend_part;
}

static void choose_block(struct run *r, const struct cpu_int16 *words)
{
    const int rows = r->block * r->group;
    const bool takes = words && rows <= WORDS_ROWS;
    r->attend_block = takes ? words->attend_block : r->isa->attend_block;
    r->block_floats = takes ? sizeof(struct cpu_words) / sizeof(float)
                            : cpu_attend_block_floats(rows, r->a->head_dim);
}

static int check(const struct lade_attention *a, char *err)
{
    if (a->n < 0 || a->pos < 0 || a->pos > a->capacity - a->n)
        return lade_fail(err,
                         "attention: positions %d to %d do not fit in a cache of %d; start a "
                         "new conversation or use a larger context",
                         a->pos, a->pos + a->n - 1, a->capacity);
    if (a->skip < 0 || a->skip > a->n)
        return lade_fail(err, "attention: %d of %d tokens without queries; take fewer", a->skip,
                         a->n);
    if (a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1 || a->rotary_dim % 2 ||
        a->rotary_dim > a->head_dim)
        return lade_fail(err,
                         "attention: %d heads, %d key heads of %d, rotary %d; check the "
                         "configuration",
                         a->heads, a->kv_heads, a->head_dim, a->rotary_dim);
    if (!lade_cache_row(a->cache_type, a->head_dim))
        return lade_fail(err, "attention: cache type %d; use f32, f16, q16 or q8",
                         (int)a->cache_type);
    return 0;
}

int cpu_attention(struct lade_device *dev, const struct lade_attention *op, char *err)
{
    struct lade_attention now = *op;
    const struct lade_attention *a = &now;
    if (op->pos_at)
        now.pos = *op->pos_at;
    if (check(a, err))
        return -1;
    if (!a->n)
        return 0;
    struct run r = {.a = a, .isa = dev->isa, .group = a->heads / a->kv_heads};
    const int asked = a->n - a->skip;
    bool in_parts = asked < PART_TOKENS;
    size_t d = (size_t)a->head_dim, work = (size_t)a->rotary_dim + d;
    if (in_parts) {
        choose_part(&r, words_of(dev, a));
        r.parts = (a->pos + a->n - 1) / PART_KEYS + 1;
        size_t scores = (size_t)CPU_SCORES * (PART_KEYS + 1);
        work = scores > work ? scores : work;
    } else {
        r.block = block_tokens(asked * a->kv_heads, r.group, dev->threads);
        size_t rows = (size_t)r.block * (size_t)r.group;
        choose_block(&r, words_of(dev, a));
        work = rows * d + r.block_floats + rows;
    }
    r.work_size = (work + CPU_MAX_NR) / 16 * 16;
    struct cpu_carve c = {0};
    size_t outs = (size_t)asked * (size_t)a->heads * (size_t)r.parts;
    cpu_carve_add(&c, (void **)&r.q, (size_t)asked * (size_t)a->heads, d * sizeof(float));
    cpu_carve_add(&c, (void **)&r.work, (size_t)dev->threads, r.work_size * sizeof(float));
    cpu_carve_add(&c, (void **)&r.max, outs, sizeof(float));
    cpu_carve_add(&c, (void **)&r.sum, outs, sizeof(float));
    cpu_carve_add(&c, (void **)&r.acc, outs, d * sizeof(float));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_pool_run(dev->pool, a->n * a->kv_heads, prepare_unit, &r);
    cpu_soon_now(dev);
    now.n = asked; /* from here on there are only those with queries */
    now.pos += a->skip;
    if (in_parts) {
        cpu_pool_run(dev->pool, a->n * a->kv_heads * r.parts, part_unit, &r);
        cpu_pool_run(dev->pool, a->n * a->heads, join_unit, &r);
    } else {
        cpu_pool_run(dev->pool, ((a->n - 1) / r.block + 1) * a->kv_heads, block_unit, &r);
    }
    return 0;
}
