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
    float *weights;  /* [kernel][width] */
    float *conv;     /* [CPU_CHUNK][width]: q | k | v after the convolution */
    float *q, *k;    /* [CPU_CHUNK][key_dim] */
    float *v, *o;    /* [CPU_CHUNK][value_dim], of one value head */
    float *g, *beta; /* [CPU_CHUNK] */
    float *chunk;    /* work space of delta_chunk */
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
    size_t key = (size_t)d->key_dim, value = (size_t)d->value_dim;
    size_t per_token = (size_t)r->width + 2 * key + 2 * value + 2;
    size_t n = (size_t)d->kernel * (size_t)r->width + CPU_CHUNK * per_token +
               cpu_delta_chunk_floats(d->key_dim, d->value_dim);
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
    u.v = u.k + (size_t)CPU_CHUNK * (size_t)d->key_dim;
    u.o = u.v + (size_t)CPU_CHUNK * (size_t)d->value_dim;
    u.g = u.o + (size_t)CPU_CHUNK * (size_t)d->value_dim;
    u.beta = u.g + CPU_CHUNK;
    u.chunk = u.beta + CPU_CHUNK;
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

/* q / |q| / sqrt(key_dim) and k / |k| */
static void unit_keys(const struct unit *u, int n)
{
    const struct lade_deltanet *d = u->r->d;
    for (int t = 0; t < n; t++) {
        const float *in = u->conv + t * u->r->width;
        float *q = u->q + t * d->key_dim, *k = u->k + t * d->key_dim;
        float qs =
            1.0f / sqrtf(u->r->isa->dot(in, in, d->key_dim) + 1e-6f) / sqrtf((float)d->key_dim);
        for (int i = 0; i < d->key_dim; i++)
            q[i] = in[i] * qs;
        in += d->key_dim;
        float ks = 1.0f / sqrtf(u->r->isa->dot(in, in, d->key_dim) + 1e-6f);
        for (int i = 0; i < d->key_dim; i++)
            k[i] = in[i] * ks;
    }
}

static float softplus(float x)
{
    return x > 20 ? x : log1pf(expf(x));
}

static void unit_value_head(const struct unit *u, int s, int t0, int n, bool chunked)
{
    const struct lade_deltanet *d = u->r->d;
    const struct cpu_isa *isa = u->r->isa;
    int h = u->head * u->r->share + s;
    float *state = d->state + (size_t)h * (size_t)d->key_dim * (size_t)d->value_dim;
    for (int t = 0; t < n; t++) {
        const float *ba = d->ba + (size_t)(t0 + t) * 2 * (size_t)d->value_heads;
        u->beta[t] = 1.0f / (1.0f + expf(-ba[h]));
        u->g[t] = d->decay[h] * softplus(ba[d->value_heads + h] + d->dt_bias[h]);
        memcpy(u->v + t * d->value_dim,
               u->conv + t * u->r->width + 2 * d->key_dim + s * d->value_dim,
               (size_t)d->value_dim * sizeof(float));
    }
    if (chunked)
        isa->delta_chunk(&(struct cpu_delta_chunk){.n = n,
                                                   .key_dim = d->key_dim,
                                                   .value_dim = d->value_dim,
                                                   .q = u->q,
                                                   .k = u->k,
                                                   .v = u->v,
                                                   .g = u->g,
                                                   .beta = u->beta,
                                                   .state = state,
                                                   .out = u->o,
                                                   .work = u->chunk});
    else
        for (int t = 0; t < n; t++)
            isa->delta_step(state, u->o + t * d->value_dim, u->q + t * d->key_dim,
                            u->k + t * d->key_dim, u->v + t * d->value_dim, expf(u->g[t]),
                            u->beta[t], d->key_dim, d->value_dim);
    const size_t values = (size_t)d->value_heads * (size_t)d->value_dim;
    for (int t = 0; t < n; t++) {
        const size_t token = (size_t)t0 + (size_t)t;
        const float *z =
            d->z ? d->z + token * values : d->qkvz + token * row_floats(d) + qkv_channels(d);
        size_t at = (size_t)h * (size_t)d->value_dim;
        float *out = d->out + token * values;
        isa->gated_norm(out + at, u->o + t * d->value_dim, z + at, d->norm, d->value_dim, d->eps);
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
        for (int s = 0; s < r->share; s++)
            unit_value_head(&u, s, t, n, n > STEP_TOKENS);
        t += n;
    }
    unit_save(&u);
}

size_t cpu_delta_chunk_floats(int key_dim, int value_dim)
{
    size_t key = (size_t)key_dim + 48, value = (size_t)value_dim + CPU_MAX_PW;
    return 2 * key * 48 + CPU_CHUNK * key + 2 * (size_t)CPU_CHUNK * 48 + 2 * CPU_CHUNK * value +
           key * value;
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
