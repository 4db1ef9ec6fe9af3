/* Gated DeltaNet. One unit is one key head with its value heads: everything between the
 * projections and the gated norm stays inside it, so an op is a single run of the pool. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    STEP_TOKENS = 8, /* the last tokens of a batch, up to this many, go one by one */
    MAX_KERNEL = 16, /* taps of the convolution */
};

struct run {
    const struct lade_deltanet *d;
    const struct cpu_isa *isa;
    int share;   /* value heads of one key head */
    int width;   /* channels of one unit: q, k and its value heads */
    float *work; /* [threads][work_size] */
    size_t work_size;
};

/* The channels of a unit are three stretches of the input row. */
struct stretch {
    int from, at, n; /* channel, place in the unit, length */
};

struct unit {
    const struct run *r;
    int head;
    struct stretch part[3];
    float *weights;     /* [kernel][width] */
    float *conv;        /* [CPU_CHUNK][width]: q | k | v after the convolution */
    float *q, *k;       /* [CPU_CHUNK][key_dim] */
    float *to_q, *to_k; /* [key_dim]: factors of their norms */
    float *o;           /* [CPU_CHUNK][share][value_dim] */
    float *g, *beta;    /* [share][CPU_CHUNK], 0 behind the last token */
    float *chunk;       /* work space of delta_chunk */
};

static size_t qkv_channels(const struct lade_deltanet *d)
{
    return 2 * (size_t)d->key_heads * (size_t)d->key_dim +
           (size_t)d->value_heads * (size_t)d->value_dim;
}

static size_t row_floats(const struct lade_deltanet *d)
{
    return qkv_channels(d) + (d->z ? 0 : (size_t)d->value_heads * (size_t)d->value_dim);
}

static size_t unit_floats(const struct run *r)
{
    const struct lade_deltanet *d = r->d;
    size_t share = (size_t)r->share, values = share * (size_t)d->value_dim;
    size_t per_token = (size_t)r->width + 2 * (size_t)d->key_dim + values + 2 * share;
    size_t n = (size_t)d->kernel * (size_t)r->width + CPU_CHUNK * per_token +
               2 * (size_t)d->key_dim + cpu_delta_chunk_floats(d->key_dim);
    return (n + 15) / 16 * 16;
}

static struct unit unit_setup(const struct run *r, int head, int thread)
{
    const struct lade_deltanet *d = r->d;
    int keys = d->key_heads * d->key_dim, values = r->share * d->value_dim;
    struct unit u = {
        .r = r,
        .head = head,
        .part = {{head * d->key_dim, 0, d->key_dim},
                 {keys + head * d->key_dim, d->key_dim, d->key_dim},
                 {2 * keys + head * values, 2 * d->key_dim, values}},
    };
    u.weights = r->work + (size_t)thread * r->work_size;
    u.conv = u.weights + (size_t)d->kernel * (size_t)r->width;
    u.q = u.conv + (size_t)CPU_CHUNK * (size_t)r->width;
    u.k = u.q + (size_t)CPU_CHUNK * (size_t)d->key_dim;
    u.o = u.k + (size_t)CPU_CHUNK * (size_t)d->key_dim;
    u.g = u.o + (size_t)CPU_CHUNK * (size_t)values;
    u.beta = u.g + CPU_CHUNK * r->share;
    u.to_q = u.beta + CPU_CHUNK * r->share;
    u.to_k = u.to_q + d->key_dim;
    u.chunk = u.to_k + d->key_dim;
    for (int i = 0; i < d->key_dim; i++) {
        u.to_q[i] = 1.0f / (float)d->key_dim;
        u.to_k[i] = 1.0f / sqrtf((float)d->key_dim);
    }
    for (int p = 0; p < 3; p++) {
        const float *w = d->conv + (size_t)u.part[p].from * (size_t)d->kernel;
        for (int c = 0; c < u.part[p].n; c++)
            for (int j = 0; j < d->kernel; j++)
                u.weights[j * r->width + u.part[p].at + c] = w[c * d->kernel + j];
    }
    return u;
}

/* Raw input of token t of this batch; negative t: the tokens before it. */
static const float *raw_input(const struct lade_deltanet *d, int t)
{
    if (t < 0)
        return d->conv_state + (size_t)(t + d->kernel - 1) * qkv_channels(d);
    return d->qkvz + (size_t)t * row_floats(d);
}

static void unit_conv(const struct unit *u, int t0, int n)
{
    const struct lade_deltanet *d = u->r->d;
    for (int t = 0; t < n; t++) {
        for (int p = 0; p < 3; p++) {
            const float *taps[MAX_KERNEL];
            for (int j = 0; j < d->kernel; j++)
                taps[j] = raw_input(d, t0 + t - (d->kernel - 1) + j) + u->part[p].from;
            u->r->isa->conv_silu(u->conv + t * u->r->width + u->part[p].at, taps,
                                 u->weights + u->part[p].at, u->r->width, d->kernel, u->part[p].n);
        }
    }
}

/* q / |q| / sqrt(key_dim) and k / |k|: norms whose factors are 1 / key_dim and 1 / sqrt(key_dim) */
static void unit_keys(const struct unit *u, int n)
{
    const int dim = u->r->d->key_dim;
    const float eps = 1e-6f / (float)dim;
    for (int t = 0; t < n; t++) {
        const float *in = u->conv + t * u->r->width;
        u->r->isa->rmsnorm(u->q + t * dim, in, u->to_q, dim, eps);
        u->r->isa->rmsnorm(u->k + t * dim, in + dim, u->to_k, dim, eps);
    }
}

static float softplus(float x)
{
    return x > 20 ? x : log1pf(expf(x));
}

static void unit_gates(const struct unit *u, int t0, int n)
{
    const struct lade_deltanet *d = u->r->d;
    const size_t heads = (size_t)d->value_heads;
    for (int s = 0; s < u->r->share; s++) {
        const int h = u->head * u->r->share + s;
        float *g = u->g + s * CPU_CHUNK, *beta = u->beta + s * CPU_CHUNK;
        memset(g, 0, CPU_CHUNK * sizeof(*g));
        memset(beta, 0, CPU_CHUNK * sizeof(*beta));
        for (int t = 0; t < n; t++) {
            const float *ba = d->ba + (size_t)(t0 + t) * 2 * heads + h;
            g[t] = d->decay[h] * softplus(ba[heads] + d->dt_bias[h]);
            beta[t] = 1.0f / (1.0f + expf(-ba[0]));
        }
    }
}

static void unit_rule(const struct unit *u, int n)
{
    const struct lade_deltanet *d = u->r->d;
    const struct cpu_isa *isa = u->r->isa;
    const int share = u->r->share, width = u->r->width;
    const size_t value = (size_t)d->value_dim, head = (size_t)d->key_dim * value;
    const float *v = u->conv + 2 * d->key_dim;
    float *state = d->state + (size_t)(u->head * share) * head;
    if (n > STEP_TOKENS) {
        isa->delta_chunk(&(struct cpu_delta_chunk){.n = n,
                                                   .heads = share,
                                                   .key_dim = d->key_dim,
                                                   .value_dim = d->value_dim,
                                                   .q = u->q,
                                                   .k = u->k,
                                                   .v = v,
                                                   .ldv = (size_t)width,
                                                   .g = u->g,
                                                   .beta = u->beta,
                                                   .state = state,
                                                   .out = u->o,
                                                   .work = u->chunk});
        return;
    }
    for (int s = 0; s < share; s++)
        for (int t = 0; t < n; t++)
            isa->delta_step(state + (size_t)s * head, u->o + (size_t)(t * share + s) * value,
                            u->q + t * d->key_dim, u->k + t * d->key_dim,
                            v + t * width + s * d->value_dim, expf(u->g[s * CPU_CHUNK + t]),
                            u->beta[s * CPU_CHUNK + t], d->key_dim, d->value_dim);
}

/* z of the unit's value heads. */
static const float *gates(const struct unit *u, int t)
{
    const struct lade_deltanet *d = u->r->d;
    const size_t values = (size_t)u->r->share * (size_t)d->value_dim, at = (size_t)u->head * values;
    if (d->z)
        return d->z + (size_t)t * (size_t)d->key_heads * values + at;
    return d->qkvz + (size_t)t * row_floats(d) + qkv_channels(d) + at;
}

static void unit_norm(const struct unit *u, int t0, int n)
{
    const struct lade_deltanet *d = u->r->d;
    const size_t value = (size_t)d->value_dim, values = (size_t)u->r->share * value;
    for (int t = 0; t < n; t++) {
        const float *z = gates(u, t0 + t), *o = u->o + (size_t)t * values;
        float *out = d->out + ((size_t)(t0 + t) * (size_t)d->key_heads + (size_t)u->head) * values;
        for (size_t at = 0; at < values; at += value)
            u->r->isa->gated_norm(out + at, o + at, z + at, d->norm, d->value_dim, d->eps);
    }
}

/* The newest kernel - 1 raw inputs of this unit's channels. Rows move towards the front, so
 * going up never reads what it has overwritten. */
static void unit_save(const struct unit *u)
{
    const struct lade_deltanet *d = u->r->d;
    for (int i = 0; i < d->kernel - 1; i++) {
        const float *from = raw_input(d, d->n - (d->kernel - 1) + i);
        float *to = d->conv_state + (size_t)i * qkv_channels(d);
        for (int p = 0; p < 3; p++)
            memcpy(to + u->part[p].from, from + u->part[p].from,
                   (size_t)u->part[p].n * sizeof(float));
    }
}

static void head_unit(void *ctx, int head, int thread)
{
    const struct run *r = ctx;
    struct unit u = unit_setup(r, head, thread);
    for (int t = 0; t < r->d->n;) {
        int n = cpu_min(CPU_CHUNK, r->d->n - t);
        unit_conv(&u, t, n);
        unit_keys(&u, n);
        unit_gates(&u, t, n);
        unit_rule(&u, n);
        unit_norm(&u, t, n);
        t += n;
    }
    unit_save(&u);
}

size_t cpu_delta_chunk_floats(int key_dim)
{
    return (2 * (size_t)key_dim + 4 * CPU_CHUNK + 3 * CPU_MAX_PW + 2) * CPU_CHUNK +
           (size_t)key_dim * CPU_MAX_PW;
}

int cpu_deltanet(struct lade_device *dev, const struct lade_deltanet *d, char *err)
{
    if (d->key_heads < 1 || d->value_heads % d->key_heads || d->key_dim < 1 || d->value_dim < 1 ||
        d->kernel < 1 || d->kernel > MAX_KERNEL)
        return lade_fail(err,
                         "deltanet: %d key heads of %d, %d value heads of %d, kernel %d; "
                         "check the configuration",
                         d->key_heads, d->key_dim, d->value_heads, d->value_dim, d->kernel);
    if (d->n < 1)
        return 0;
    struct run r = {.d = d, .isa = dev->isa, .share = d->value_heads / d->key_heads};
    r.width = 2 * d->key_dim + r.share * d->value_dim;
    r.work_size = unit_floats(&r);
    struct cpu_carve c = {0};
    cpu_carve_add(&c, (void **)&r.work, (size_t)dev->threads, r.work_size * sizeof(float));
    if (cpu_carve_commit(dev, &c, err))
        return -1;
    cpu_soon_now(dev);
    cpu_pool_run(dev->pool, d->key_heads, head_unit, &r);
    return 0;
}
