#include "tests/support/host_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 256 };

struct operand {
    char *host, *device; /* the device's, guards included */
    size_t bytes;
    bool out;
};

struct lade_device {
    struct lade_device *inner;
    struct operand *operands; /* of the op that runs */
    size_t n, room;
    bool failed;
    char *err;
    uint64_t version;
};

static const struct lade_ops *ops;

/* ---- operands ---- */

static void *grow(struct lade_device *v)
{
    if (v->n < v->room)
        return &v->operands[v->n++];
    v->room = v->room ? 2 * v->room : 64;
    v->operands = realloc(v->operands, v->room * sizeof *v->operands);
    if (!v->operands)
        abort();
    return &v->operands[v->n++];
}

/* A copy on the device, between guards. NULL for NULL, and after a failure. */
static void *bring(struct lade_device *v, const void *host, size_t bytes, bool out)
{
    if (!host || v->failed)
        return NULL;
    for (size_t i = 0; i < v->n; i++)
        if (v->operands[i].host == host && v->operands[i].bytes == bytes) {
            v->operands[i].out |= out;
            return v->operands[i].device + GUARD;
        }
    char *staged = malloc(bytes + 2 * GUARD);
    void *device = NULL;
    if (!staged)
        abort();
    memset(staged, 0xa5, bytes + 2 * GUARD);
    memcpy(staged + GUARD, host, bytes);
    v->failed = ops->alloc(v->inner, &device, bytes + 2 * GUARD, v->err) ||
                ops->upload(v->inner, device, staged, bytes + 2 * GUARD, v->err);
    free(staged);
    if (device)
        *(struct operand *)grow(v) = (struct operand){(char *)host, device, bytes, out};
    return v->failed ? NULL : (char *)device + GUARD;
}

static const void *in(struct lade_device *v, const void *host, size_t bytes)
{
    return bring(v, host, bytes, false);
}

static void *out(struct lade_device *v, void *host, size_t bytes)
{
    return bring(v, host, bytes, true);
}

static const float *in_floats(struct lade_device *v, const float *host, size_t n)
{
    return in(v, host, n * sizeof(float));
}

static float *out_floats(struct lade_device *v, float *host, size_t n)
{
    return out(v, host, n * sizeof(float));
}

/* A matrix without a layout stays as it is: the op shall refuse it. */
static struct lade_matrix in_matrix(struct lade_device *v, const struct lade_matrix *m)
{
    struct lade_matrix copy = *m;
    struct lade_matrix_layout l;
    if (!lade_matrix_layout(m, &l))
        copy.data = in(v, m->data, l.bytes);
    return copy;
}

static void fetch(struct lade_device *v, const struct operand *o)
{
    size_t total = o->bytes + 2 * GUARD;
    char *staged = malloc(total);
    if (!staged)
        abort();
    if (!v->failed && ops->download(v->inner, staged, o->device, total, v->err))
        v->failed = true;
    for (size_t i = 0; !v->failed && i < GUARD; i++)
        if (staged[i] != (char)0xa5 || staged[GUARD + o->bytes + i] != (char)0xa5) {
            lade_set_error(v->err, "an op wrote beyond its operand of %zu bytes", o->bytes);
            v->failed = true;
        }
    if (!v->failed && o->out)
        memcpy(o->host, staged + GUARD, o->bytes);
    if (!v->failed && memcmp(o->host, staged + GUARD, o->bytes)) {
        lade_set_error(v->err, "an op changed an input of %zu bytes", o->bytes);
        v->failed = true;
    }
    free(staged);
}

static struct lade_device *begin(struct lade_device *v, char *err)
{
    v->n = 0;
    v->failed = false;
    v->err = err;
    return v;
}

/* Ends an op whose call returned `result`. */
static int end(struct lade_device *v, int result)
{
    if (result)
        v->failed = true;
    for (size_t i = 0; i < v->n; i++)
        fetch(v, &v->operands[i]);
    if (v->failed)
        ops->sync(v->inner, NULL); /* uploads may still be queued */
    for (size_t i = 0; i < v->n; i++)
        ops->free(v->inner, v->operands[i].device);
    v->n = 0;
    return v->failed ? -1 : 0;
}

/* ---- the table ---- */

static int view_open(struct lade_device **dev, const struct lade_device_config *cfg, char *err)
{
    *dev = calloc(1, sizeof **dev);
    if (!*dev)
        abort();
    if (ops->open(&(*dev)->inner, cfg, err)) {
        free(*dev);
        *dev = NULL;
        return -1;
    }
    return 0;
}

static void view_close(struct lade_device *v)
{
    ops->close(v->inner);
    free(v->operands);
    free(v);
}

static const char *view_describe(const struct lade_device *v)
{
    return ops->describe(v->inner);
}

struct lade_device *host_view_inner(struct lade_device *v)
{
    return v->inner;
}

static int view_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
                      const int32_t *ids, int n, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_matrix t = in_matrix(v, table);
    float *yd = out_floats(v, y, (size_t)n * (size_t)table->cols);
    return end(v, v->failed || ops->embed(v->inner, yd, &t, ids, n, err));
}

static int view_embed_at(struct lade_device *dev, float *y, const struct lade_matrix *table,
                         const int32_t *ids, int n, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_matrix t = in_matrix(v, table);
    float *yd = out_floats(v, y, (size_t)n * (size_t)table->cols);
    const int32_t *at = in(v, ids, (size_t)n * sizeof *ids);
    return end(v, v->failed || ops->embed_at(v->inner, yd, &t, at, n, err));
}

static int view_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add,
                        const float *w, int n, int dim, float eps, char *err)
{
    struct lade_device *v = begin(dev, err);
    size_t all = (size_t)n * (size_t)dim;
    float *yd = out_floats(v, y, all), *xd = bring(v, x, all * sizeof *x, add != NULL);
    const float *ad = in_floats(v, add, all), *wd = in_floats(v, w, (size_t)dim);
    return end(v, v->failed || ops->rmsnorm(v->inner, yd, xd, ad, wd, n, dim, eps, err));
}

static int view_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err)
{
    struct lade_device *v = begin(dev, err);
    float *yd = out_floats(v, y, count);
    const float *xd = in_floats(v, x, count);
    return end(v, v->failed || ops->add(v->inner, yd, xd, count, err));
}

static int view_project(struct lade_device *dev, const struct lade_project *p, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_project d = *p;
    struct lade_matmul *j = calloc((size_t)p->n_jobs, sizeof *j);
    struct lade_matrix *w = calloc((size_t)p->n_jobs, sizeof *w);
    size_t all = (size_t)p->n * (size_t)p->dim;
    if (!j || !w)
        abort();
    d.x = in_floats(v, p->x, all);
    d.norm = in_floats(v, p->norm, (size_t)p->dim);
    d.h = out_floats(v, p->h, all);
    d.jobs = j;
    for (int i = 0; i < p->n_jobs; i++) {
        w[i] = in_matrix(v, p->jobs[i].w);
        j[i].w = &w[i];
        j[i].x = d.h;
        j[i].y = out_floats(v, p->jobs[i].y, (size_t)p->n * (size_t)w[i].rows);
    }
    int failed = v->failed || ops->project(v->inner, &d, err);
    free(j);
    free(w);
    return end(v, failed);
}

static int view_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                       char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_matmul *j = calloc((size_t)n_jobs, sizeof *j);
    struct lade_matrix *w = calloc((size_t)n_jobs, sizeof *w);
    if (!j || !w)
        abort();
    for (int i = 0; i < n_jobs; i++) {
        w[i] = in_matrix(v, jobs[i].w);
        j[i].w = &w[i];
        j[i].x = in_floats(v, jobs[i].x, (size_t)n * (size_t)w[i].cols);
        j[i].y = out_floats(v, jobs[i].y, (size_t)n * (size_t)w[i].rows);
    }
    int failed = v->failed || ops->matmul(v->inner, j, n_jobs, n, err);
    free(j);
    free(w);
    return end(v, failed);
}

static int view_attention(struct lade_device *dev, const struct lade_attention *a, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_attention d = *a;
    size_t asked = (size_t)(a->n - a->skip), dim = (size_t)a->head_dim;
    size_t kv = (size_t)a->n * (size_t)a->kv_heads * dim;
    size_t cache = (size_t)a->kv_heads * (size_t)a->capacity * dim *
                   (size_t)lade_types[a->cache_type].bits / 8;
    d.pos_at = in(v, a->pos_at, sizeof *a->pos_at);
    d.q = in_floats(v, a->q, asked * (size_t)a->heads * 2 * dim);
    d.k = in_floats(v, a->k, kv);
    d.v = in_floats(v, a->v, kv);
    d.q_norm = in_floats(v, a->q_norm, dim);
    d.k_norm = in_floats(v, a->k_norm, dim);
    d.inv_freq = in_floats(v, a->inv_freq, (size_t)a->rotary_dim / 2);
    d.k_cache = out(v, a->k_cache, cache);
    d.v_cache = out(v, a->v_cache, cache);
    d.out = out_floats(v, a->out, asked * (size_t)a->heads * dim);
    return end(v, v->failed || ops->attention(v->inner, &d, err));
}

static int view_deltanet(struct lade_device *dev, const struct lade_deltanet *a, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_deltanet d = *a;
    size_t n = (size_t)a->n, heads = (size_t)a->value_heads;
    size_t values = heads * (size_t)a->value_dim;
    size_t channels = 2 * (size_t)a->key_heads * (size_t)a->key_dim + values;
    d.qkvz = in_floats(v, a->qkvz, n * (channels + (a->z ? 0 : values)));
    d.z = in_floats(v, a->z, n * values);
    d.ba = in_floats(v, a->ba, n * 2 * heads);
    d.conv = in_floats(v, a->conv, channels * (size_t)a->kernel);
    d.decay = in_floats(v, a->decay, heads);
    d.dt_bias = in_floats(v, a->dt_bias, heads);
    d.norm = in_floats(v, a->norm, (size_t)a->value_dim);
    d.conv_state = out_floats(v, a->conv_state, channels * (size_t)(a->kernel - 1));
    d.state = out_floats(v, a->state, values * (size_t)a->key_dim);
    d.out = out_floats(v, a->out, n * values);
    return end(v, v->failed || ops->deltanet(v->inner, &d, err));
}

static int view_route(struct lade_device *dev, const struct lade_route *r, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_route d = *r;
    size_t n = (size_t)r->n, picked = n * (size_t)r->k;
    d.logits = in_floats(v, r->logits, n * (size_t)r->experts);
    d.ids = out(v, r->ids, picked * sizeof *r->ids);
    d.weights = out_floats(v, r->weights, picked);
    return end(v, v->failed || ops->route(v->inner, &d, err));
}

static int view_router(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_router d = *r;
    struct lade_matrix w = in_matrix(v, r->w);
    size_t n = (size_t)r->n, all = n * (size_t)r->dim, picked = n * (size_t)r->route.k;
    d.x = bring(v, r->x, all * sizeof *r->x, r->add != NULL);
    d.add = in_floats(v, r->add, all);
    d.norm = in_floats(v, r->norm, (size_t)r->dim);
    d.h = out_floats(v, r->h, all);
    d.w = &w;
    d.logits = out_floats(v, r->logits, n * (size_t)r->route.experts);
    d.route.ids = out(v, r->route.ids, picked * sizeof *r->route.ids);
    d.route.weights = out_floats(v, r->route.weights, picked);
    return end(v, v->failed || ops->router(v->inner, &d, err));
}

static struct lade_expert in_expert(struct lade_device *v, const struct lade_expert *e)
{
    return (struct lade_expert){in_matrix(v, &e->gate), in_matrix(v, &e->up),
                                in_matrix(v, &e->down)};
}

static int view_moe(struct lade_device *dev, const struct lade_moe *m, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_moe d = *m;
    struct lade_expert shared, *experts = calloc((size_t)m->n_experts, sizeof *experts);
    size_t n = (size_t)m->n, dim = (size_t)m->dim, routes = n * (size_t)m->k;
    if (!experts)
        abort();
    for (int e = 0; e < m->n_experts; e++)
        experts[e] = in_expert(v, &m->experts[e]);
    if (m->shared)
        shared = in_expert(v, m->shared);
    d.experts = experts;
    d.version = ++v->version;
    d.shared = m->shared ? &shared : NULL;
    d.shared_gate = in_floats(v, m->shared_gate, dim);
    d.x = in_floats(v, m->x, n * dim);
    d.ids = in(v, m->ids, routes * sizeof *m->ids);
    d.weights = in_floats(v, m->weights, routes);
    d.y = out_floats(v, m->y, n * dim);
    int failed = v->failed || ops->moe(v->inner, &d, err);
    free(experts);
    return end(v, failed);
}

static int view_topk(struct lade_device *dev, const struct lade_topk *t, char *err)
{
    struct lade_device *v = begin(dev, err);
    struct lade_topk d = *t;
    d.logits = in_floats(v, t->logits, (size_t)t->n);
    d.values = out_floats(v, t->values, (size_t)t->k);
    d.ids = out(v, t->ids, (size_t)t->k * sizeof *t->ids);
    return end(v, v->failed || ops->topk(v->inner, &d, err));
}

const struct lade_ops *host_view(const struct lade_ops *inner)
{
    static const struct lade_ops table = {
        .name = "host view",
        .open = view_open,
        .close = view_close,
        .describe = view_describe,
        .embed = view_embed,
        .embed_at = view_embed_at,
        .rmsnorm = view_rmsnorm,
        .add = view_add,
        .matmul = view_matmul,
        .project = view_project,
        .attention = view_attention,
        .deltanet = view_deltanet,
        .route = view_route,
        .router = view_router,
        .moe = view_moe,
        .topk = view_topk,
    };
    ops = inner;
    return &table;
}
