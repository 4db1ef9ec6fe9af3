/* The ops: operands checked and translated when called, computed on the CPU when they must be. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* An operand: replaced by its real address. False with err filled. */
static bool use(struct lade_device *dev, struct sim_command *c, const void *field, size_t bytes,
                bool write, char *err)
{
    const void *addr;
    memcpy(&addr, field, sizeof addr);
    void *real = sim_use(dev, c, addr, bytes, bytes, write, err);
    if (!real)
        return false;
    memcpy((void *)field, &real, sizeof real);
    return true;
}

static bool use_floats(struct lade_device *dev, struct sim_command *c, const void *field,
                       size_t count, bool write, char *err)
{
    return use(dev, c, field, count * sizeof(float), write, err);
}

static bool use_matrix(struct lade_device *dev, struct sim_command *c, struct lade_matrix *m,
                       char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l)) {
        lade_set_error(err, "%s: no layout for type %d, %d x %d, group %d; check the checkpoint",
                       c->what, (int)m->type, m->rows, m->cols, m->group);
        return false;
    }
    return use(dev, c, &m->data, l.bytes, false, err);
}

static struct sim_command *begin(struct lade_device *dev, const char *what, sim_run *run, int n,
                                 char *err)
{
    if (sim_enter(dev, err))
        return NULL;
    lade_sim.beyond_limits += dev->prepared && n > dev->limits.batch;
    struct sim_command *c = sim_command(what, run, err);
    if (!c)
        sim_leave(0);
    return c;
}

static int end(struct lade_device *dev, struct sim_command *c, bool usable, char *err)
{
    if (usable)
        return sim_leave(sim_put(dev, c, SIM_COMPUTE, NULL, err));
    sim_drop(c);
    return sim_leave(-1);
}

/* ---- embedding ---- */

static int run_embed(struct lade_device *dev, struct sim_command *c, char *err)
{
    const struct lade_matrix *table = &c->embed.table;
    const int32_t *ids = c->copy ? c->copy : c->embed.ids;
    for (int i = 0; i < c->embed.n; i++) {
        float *y = c->embed.y + (size_t)i * (size_t)table->cols;
        int32_t id = ids[i];
        if (id < 0 || id >= table->rows)
            memset(y, 0, (size_t)table->cols * sizeof *y);
        else if (dev->cpu->embed(dev->cpu_dev, y, table, &id, 1, err))
            return -1;
    }
    return 0;
}

static bool prepare_embed(struct lade_device *dev, struct sim_command *c, float *y,
                          const struct lade_matrix *table, int n, char *err)
{
    size_t out = (size_t)n * (size_t)table->cols;
    c->embed.y = y;
    c->embed.table = *table;
    c->embed.n = n;
    if (!use_matrix(dev, c, &c->embed.table, err))
        return false;
    c->device_bytes = out * sizeof(float); /* rows, not the table */
    return use_floats(dev, c, &c->embed.y, out, true, err);
}

int sim_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err)
{
    struct sim_command *c = begin(dev, "embed", run_embed, n, err);
    if (!c)
        return -1;
    bool good = prepare_embed(dev, c, y, table, n, err) && sim_is_host("embed", ids, err);
    for (int i = 0; good && i < n; i++)
        if (ids[i] < 0 || ids[i] >= table->rows) {
            lade_set_error(err, "embed: token %d is not below %d; check the tokenizer", ids[i],
                           table->rows);
            good = false;
        }
    c->copy_bytes = (size_t)n * sizeof *ids;
    if (good && n && !(c->copy = malloc(c->copy_bytes))) {
        lade_set_error(err, "sim: out of memory; close other programs");
        good = false;
    }
    if (good && n)
        memcpy(c->copy, ids, c->copy_bytes);
    return end(dev, c, good, err);
}

int sim_embed_at(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err)
{
    struct sim_command *c = begin(dev, "embed_at", run_embed, n, err);
    if (!c)
        return -1;
    c->embed.ids = ids;
    bool good = prepare_embed(dev, c, y, table, n, err) &&
                use(dev, c, &c->embed.ids, (size_t)n * sizeof *ids, false, err);
    return end(dev, c, good, err);
}

/* ---- rows ---- */

static int run_rmsnorm(struct lade_device *dev, struct sim_command *c, char *err)
{
    return dev->cpu->rmsnorm(dev->cpu_dev, c->rows.y, c->rows.x, c->rows.add, c->rows.w, c->rows.n,
                             c->rows.dim, c->rows.eps, err);
}

int sim_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err)
{
    struct sim_command *c = begin(dev, "rmsnorm", run_rmsnorm, n, err);
    if (!c)
        return -1;
    size_t all = (size_t)n * (size_t)dim;
    c->rows.y = y, c->rows.x = x, c->rows.add = add, c->rows.w = w;
    c->rows.n = n, c->rows.dim = dim, c->rows.eps = eps;
    bool good = use_floats(dev, c, &c->rows.y, all, true, err) &&
                use_floats(dev, c, &c->rows.x, all, add != NULL, err) &&
                (!add || use_floats(dev, c, &c->rows.add, all, false, err)) &&
                use_floats(dev, c, &c->rows.w, (size_t)dim, false, err);
    return end(dev, c, good, err);
}

static int run_add(struct lade_device *dev, struct sim_command *c, char *err)
{
    return dev->cpu->add(dev->cpu_dev, c->rows.y, c->rows.x, c->rows.count, err);
}

int sim_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err)
{
    struct sim_command *c = begin(dev, "add", run_add, 0, err);
    if (!c)
        return -1;
    c->rows.y = y, c->rows.x = (float *)x, c->rows.count = count;
    bool good = use_floats(dev, c, &c->rows.y, count, true, err) &&
                use_floats(dev, c, &c->rows.x, count, false, err);
    return end(dev, c, good, err);
}

static int run_topk(struct lade_device *dev, struct sim_command *c, char *err)
{
    return dev->cpu->topk(dev->cpu_dev, &c->topk, err);
}

int sim_topk(struct lade_device *dev, const struct lade_topk *t, char *err)
{
    struct sim_command *c = begin(dev, "topk", run_topk, 0, err);
    if (!c)
        return -1;
    c->topk = *t;
    bool good = t->k >= 1 && t->k <= t->n && t->k <= LADE_TOPK_MAX;
    if (!good)
        lade_set_error(err, "topk: %d of %d logits; ask for at most %d", t->k, t->n, LADE_TOPK_MAX);
    good = good && use_floats(dev, c, &c->topk.logits, (size_t)t->n, false, err) &&
           use_floats(dev, c, &c->topk.values, (size_t)t->k, true, err) &&
           use_floats(dev, c, &c->topk.ids, (size_t)t->k, true, err);
    return end(dev, c, good, err);
}

/* ---- products ---- */

struct job {
    struct lade_matmul job;
    struct lade_matrix w;
};

static int run_matmul(struct lade_device *dev, struct sim_command *c, char *err)
{
    struct job *jobs = c->copy;
    for (int i = 0; i < c->matmul.n_jobs; i++) {
        jobs[i].job.w = &jobs[i].w;
        if (dev->cpu->matmul(dev->cpu_dev, &jobs[i].job, 1, c->matmul.n, err))
            return -1;
    }
    return 0;
}

/* The operands of jobs, copied into the command. */
static bool use_jobs(struct lade_device *dev, struct sim_command *c, const struct lade_matmul *jobs,
                     int n_jobs, int n, char *err)
{
    c->copy_bytes = (size_t)n_jobs * sizeof(struct job);
    c->copy = malloc(c->copy_bytes);
    bool good = c->copy != NULL;
    if (!good)
        lade_set_error(err, "sim: out of memory; close other programs");
    for (int i = 0; good && i < n_jobs; i++) {
        struct job *j = (struct job *)c->copy + i;
        *j = (struct job){jobs[i], *jobs[i].w};
        good = use_matrix(dev, c, &j->w, err) &&
               use_floats(dev, c, &j->job.x, (size_t)n * (size_t)j->w.cols, false, err) &&
               use_floats(dev, c, &j->job.y, (size_t)n * (size_t)j->w.rows, true, err);
    }
    return good;
}

/* As many jobs as a command has room for. */
static int some_jobs(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                     char *err)
{
    struct sim_command *c = begin(dev, "matmul", run_matmul, n, err);
    if (!c)
        return -1;
    c->matmul.n_jobs = n_jobs;
    c->matmul.n = n;
    return end(dev, c, use_jobs(dev, c, jobs, n_jobs, n, err), err);
}

int sim_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err)
{
    enum { AT_ONCE = SIM_RANGES / 3 };
    for (int i = 0; i < n_jobs; i += AT_ONCE)
        if (some_jobs(dev, jobs + i, n_jobs - i < AT_ONCE ? n_jobs - i : AT_ONCE, n, err))
            return -1;
    return 0;
}

/* What a GPU leaves in the work space, nobody may count on. */
static int run_project(struct lade_device *dev, struct sim_command *c, char *err)
{
    const struct lade_project *p = &c->project;
    struct job *jobs = c->copy;
    if (dev->cpu->rmsnorm(dev->cpu_dev, p->h, (float *)p->x, NULL, p->norm, p->n, p->dim, p->eps,
                          err))
        return -1;
    for (int i = 0; i < p->n_jobs; i++) {
        jobs[i].job.w = &jobs[i].w;
        if (dev->cpu->matmul(dev->cpu_dev, &jobs[i].job, 1, p->n, err))
            return -1;
    }
    memset(p->h, 0xff, (size_t)p->n * (size_t)p->dim * sizeof *p->h);
    return 0;
}

int sim_project(struct lade_device *dev, const struct lade_project *op, char *err)
{
    struct sim_command *c = begin(dev, "project", run_project, op->n, err);
    if (!c)
        return -1;
    struct lade_project *p = &c->project;
    *p = *op;
    size_t all = (size_t)p->n * (size_t)p->dim;
    bool good = use_floats(dev, c, &p->x, all, false, err) &&
                use_floats(dev, c, &p->norm, (size_t)p->dim, false, err) &&
                use_floats(dev, c, &p->h, all, true, err) &&
                use_jobs(dev, c, op->jobs, op->n_jobs, op->n, err);
    return end(dev, c, good, err);
}

/* ---- mixers ---- */

static int run_attention(struct lade_device *dev, struct sim_command *c, char *err)
{
    if (c->attention.pos_at && *c->attention.pos_at > c->attention.pos)
        return lade_fail(err,
                         "sim: attention at position %d, above the largest that was told, "
                         "%d; fix the caller",
                         *c->attention.pos_at, c->attention.pos);
    return dev->cpu->attention(dev->cpu_dev, &c->attention, err);
}

int sim_attention(struct lade_device *dev, const struct lade_attention *op, char *err)
{
    struct sim_command *c = begin(dev, "attention", run_attention, op->n, err);
    if (!c)
        return -1;
    struct lade_attention *a = &c->attention;
    *a = *op;
    bool good = a->n >= 0 && a->pos >= 0 && a->pos <= a->capacity - a->n && a->skip >= 0 &&
                a->skip <= a->n && (a->cache_type == LADE_F16 || a->cache_type == LADE_F32);
    if (!good)
        lade_set_error(err,
                       "attention: positions %d to %d do not fit in a cache of %d; start a "
                       "new conversation or use a larger context",
                       a->pos, a->pos + a->n - 1, a->capacity);
    size_t n = (size_t)a->n, d = (size_t)a->head_dim;
    size_t q = (size_t)(a->n - a->skip) * (size_t)a->heads * d;
    size_t kv = n * (size_t)a->kv_heads * d, value = a->cache_type == LADE_F16 ? 2 : 4;
    size_t cache = (size_t)a->kv_heads * (size_t)a->capacity * d * value;
    size_t seen = (size_t)a->kv_heads * (size_t)(a->pos + a->n) * d * value;
    good = good && use_floats(dev, c, &a->q, 2 * q, false, err) &&
           use_floats(dev, c, &a->k, kv, false, err) && use_floats(dev, c, &a->v, kv, false, err) &&
           use_floats(dev, c, &a->q_norm, d, false, err) &&
           use_floats(dev, c, &a->k_norm, d, false, err) &&
           use_floats(dev, c, &a->inv_freq, (size_t)a->rotary_dim / 2, false, err) &&
           use_floats(dev, c, &a->out, q, true, err) &&
           (!a->pos_at || use(dev, c, &a->pos_at, sizeof(int32_t), false, err)) &&
           (a->k_cache = sim_use(dev, c, a->k_cache, cache, seen, true, err)) &&
           (a->v_cache = sim_use(dev, c, a->v_cache, cache, seen, true, err));
    return end(dev, c, good, err);
}

static int run_deltanet(struct lade_device *dev, struct sim_command *c, char *err)
{
    return dev->cpu->deltanet(dev->cpu_dev, &c->deltanet, err);
}

int sim_deltanet(struct lade_device *dev, const struct lade_deltanet *op, char *err)
{
    struct sim_command *c = begin(dev, "deltanet", run_deltanet, op->n, err);
    if (!c)
        return -1;
    struct lade_deltanet *d = &c->deltanet;
    *d = *op;
    size_t n = (size_t)d->n, keys = (size_t)d->key_heads * (size_t)d->key_dim;
    size_t heads = (size_t)d->value_heads, values = heads * (size_t)d->value_dim;
    size_t channels = 2 * keys + values;
    bool good = use_floats(dev, c, &d->qkvz, n * (channels + (d->z ? 0 : values)), false, err) &&
                (!d->z || use_floats(dev, c, &d->z, n * values, false, err)) &&
                use_floats(dev, c, &d->ba, n * 2 * heads, false, err) &&
                use_floats(dev, c, &d->conv, channels * (size_t)d->kernel, false, err) &&
                use_floats(dev, c, &d->decay, heads, false, err) &&
                use_floats(dev, c, &d->dt_bias, heads, false, err) &&
                use_floats(dev, c, &d->norm, (size_t)d->value_dim, false, err) &&
                use_floats(dev, c, &d->conv_state, channels * (size_t)(d->kernel - 1), true, err) &&
                use_floats(dev, c, &d->state, values * (size_t)d->key_dim, true, err) &&
                use_floats(dev, c, &d->out, n * values, true, err);
    return end(dev, c, good, err);
}

/* ---- experts ---- */

static int run_route(struct lade_device *dev, struct sim_command *c, char *err)
{
    return dev->cpu->route(dev->cpu_dev, &c->route, err);
}

int sim_route(struct lade_device *dev, const struct lade_route *op, char *err)
{
    struct sim_command *c = begin(dev, "route", run_route, op->n, err);
    if (!c)
        return -1;
    struct lade_route *r = &c->route;
    *r = *op;
    size_t n = (size_t)r->n, picked = n * (size_t)r->k;
    bool good = use_floats(dev, c, &r->logits, n * (size_t)r->experts, false, err) &&
                use_floats(dev, c, &r->ids, picked, true, err) &&
                use_floats(dev, c, &r->weights, picked, true, err);
    return end(dev, c, good, err);
}

static int run_router(struct lade_device *dev, struct sim_command *c, char *err)
{
    c->router.op.w = &c->router.w;
    return dev->cpu->router(dev->cpu_dev, &c->router.op, err);
}

int sim_router(struct lade_device *dev, const struct lade_router *op, char *err)
{
    struct sim_command *c = begin(dev, "router", run_router, op->n, err);
    if (!c)
        return -1;
    struct lade_router *r = &c->router.op;
    *r = *op;
    c->router.w = *op->w;
    size_t n = (size_t)r->n, all = n * (size_t)r->dim, picked = n * (size_t)r->route.k;
    bool good = use_floats(dev, c, &r->x, all, r->add != NULL, err) &&
                (!r->add || use_floats(dev, c, &r->add, all, false, err)) &&
                use_floats(dev, c, &r->norm, (size_t)r->dim, false, err) &&
                use_floats(dev, c, &r->h, all, true, err) &&
                use_matrix(dev, c, &c->router.w, err) &&
                use_floats(dev, c, &r->logits, n * (size_t)r->route.experts, true, err) &&
                use_floats(dev, c, &r->route.ids, picked, true, err) &&
                use_floats(dev, c, &r->route.weights, picked, true, err);
    return end(dev, c, good, err);
}

/* The bytes of the experts that the routes use; which, only the run knows. */
static int run_moe(struct lade_device *dev, struct sim_command *c, char *err)
{
    struct lade_moe *m = &c->moe.op;
    m->experts = c->table->real;
    m->shared = m->shared ? &c->moe.shared : NULL;
    unsigned char *seen = calloc((size_t)m->n_experts, 1);
    if (!seen)
        return lade_fail(err, "sim: out of memory; close other programs");
    for (int i = 0; i < m->n * m->k; i++) {
        int32_t id = m->ids[i];
        if (id < 0 || id >= m->n_experts || seen[id]++ || !m->experts[id].gate.data)
            continue;
        struct lade_matrix_layout gate, up, down;
        if (!lade_matrix_layout(&m->experts[id].gate, &gate) &&
            !lade_matrix_layout(&m->experts[id].up, &up) &&
            !lade_matrix_layout(&m->experts[id].down, &down))
            c->device_bytes += gate.bytes + up.bytes + down.bytes;
    }
    free(seen);
    return dev->cpu->moe(dev->cpu_dev, m, err);
}

int sim_moe(struct lade_device *dev, const struct lade_moe *op, char *err)
{
    struct sim_command *c = begin(dev, "moe", run_moe, op->n, err);
    if (!c)
        return -1;
    struct lade_moe *m = &c->moe.op;
    *m = *op;
    c->table_key = m->experts;
    size_t n = (size_t)m->n, dim = (size_t)m->dim, routes = n * (size_t)m->k;
    bool good = !sim_table_update(dev, m->experts, m->n_experts, m->version, err) &&
                use_floats(dev, c, &m->x, n * dim, false, err) &&
                use_floats(dev, c, &m->ids, routes, false, err) &&
                use_floats(dev, c, &m->weights, routes, false, err) &&
                use_floats(dev, c, &m->y, n * dim, true, err);
    if (good && m->shared) {
        c->moe.shared = *m->shared;
        good = use_matrix(dev, c, &c->moe.shared.gate, err) &&
               use_matrix(dev, c, &c->moe.shared.up, err) &&
               use_matrix(dev, c, &c->moe.shared.down, err) &&
               (!m->shared_gate || use_floats(dev, c, &m->shared_gate, dim, false, err));
    }
    return end(dev, c, good, err);
}
