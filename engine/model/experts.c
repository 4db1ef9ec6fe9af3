#include "engine/model/experts.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Versions of tables are never used twice in this process: a table may come to lie where another
 * one was. */
static uint64_t new_version(void)
{
    static atomic_uint_fast64_t last;
    return atomic_fetch_add(&last, 1) + 1;
}

/* ---- open, close ----------------------------------------------------------------------------- */

static size_t round_up(size_t bytes)
{
    return (bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

static int open_gpu(struct lade_experts *x, int batch, char *err)
{
    const struct lade_shape *s = &x->cat->shape;
    size_t layers = (size_t)(x->part->end - x->part->first), experts = (size_t)s->experts;
    size_t routes = round_up((size_t)batch * (size_t)s->experts_used * sizeof(float));
    size_t rows = round_up((size_t)batch * (size_t)s->hidden * sizeof(float));
    x->layers = calloc(layers, sizeof *x->layers);
    x->all = calloc(layers * experts, sizeof *x->all);
    if (!x->layers || !x->all)
        return lade_fail(err, "%s: out of memory for tables of experts; close other programs",
                         x->cat->path);
    for (size_t i = 0; i < layers; i++)
        x->layers[i] =
            (struct lade_expert_table){.experts = x->all + i * experts, .version = new_version()};
    if (lade_part_alloc(x->part, &x->memory, 2 * routes + 2 * rows, true, err))
        return -1;
    char *at = x->memory;
    x->ids = (int32_t *)(void *)at;
    x->weights = (float *)(void *)(at + routes);
    x->x = (float *)(void *)(at + 2 * routes);
    x->y = (float *)(void *)(at + 2 * routes + rows);
    return 0;
}

int lade_experts_open(struct lade_experts *x, const struct lade_catalog *cat,
                      struct lade_tiers *tiers, const struct lade_devices *devices, int part,
                      int batch, char *err)
{
    *x = (struct lade_experts){
        .cat = cat, .tiers = tiers, .devices = devices, .part = &devices->part[part]};
    x->table = calloc((size_t)cat->shape.experts, sizeof *x->table);
    x->named = calloc((size_t)cat->shape.experts, sizeof *x->named);
    if (!x->table || !x->named)
        return lade_fail(err, "%s: out of memory for a table of experts; close other programs",
                         cat->path);
    return devices->gpu ? open_gpu(x, batch, err) : 0;
}

void lade_experts_close(struct lade_experts *x)
{
    if (x->memory)
        lade_part_free(x->part, x->memory, true);
    free(x->table);
    free(x->named);
    free(x->layers);
    free(x->all);
    *x = (struct lade_experts){0};
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* Points an entry of a table at the packed bytes of its piece; NULL takes it out. */
static void point(const struct lade_experts *x, struct lade_expert *table, int layer, int expert,
                  const unsigned char *data)
{
    const struct lade_catalog *cat = x->cat;
    const struct lade_piece *p = &cat->pieces[lade_catalog_expert(cat, layer, expert)];
    struct lade_expert *e = &table[expert];
    /* The order of an expert's tensors is that of the roles (catalog.h). */
    struct lade_matrix *m[] = {&e->gate, &e->up, &e->down};
    for (int i = 0; i < 3; i++) {
        const struct lade_tensor *t = &cat->tensors[p->first + i];
        *m[i] = t->packed;
        m[i]->data = data ? data + t->offset : NULL;
    }
}

/* The table of a layer of this part. */
static struct lade_expert_table *table_of(struct lade_experts *x, int layer)
{
    return &x->layers[layer - x->part->first];
}

/* Has an expert's entry in a table that stays say where it is; counts versions only if it moved. */
static void keep(struct lade_experts *x, int layer, int expert, const unsigned char *data)
{
    struct lade_expert_table *t = table_of(x, layer);
    const struct lade_tensor *first =
        &x->cat->tensors[x->cat->pieces[lade_catalog_expert(x->cat, layer, expert)].first];
    const void *want = data ? data + first->offset : NULL;
    if (t->experts[expert].gate.data == want)
        return;
    point(x, t->experts, layer, expert, data);
    t->version = new_version();
}

/* Computes a wave through the table that is empty between waves. */
static int run_wave(struct lade_experts *x, int layer, const struct lade_wave *wave,
                    const struct lade_moe *moe, const struct lade_ops *ops, struct lade_device *dev,
                    char *err)
{
    struct lade_moe op = *moe;
    op.experts = x->table;
    op.version = new_version();
    for (int i = 0; i < wave->n; i++)
        point(x, x->table, layer, wave->experts[i], wave->data[i]);
    int rc = ops->moe(dev, &op, err);
    for (int i = 0; i < wave->n; i++) /* all that an op looks at */
        x->table[wave->experts[i]].gate.data = NULL;
    return rc;
}

/* ---- the next layer ---------------------------------------------------------------------------- */

/* After this layer has asked: its own reads are on their way meanwhile. */
static int guess_next(struct lade_experts *x, int layer, const struct lade_router *g, char *err)
{
    const struct lade_ops *ops = x->part->ops;
    struct lade_device *dev = x->part->dev;
    int32_t ids[LADE_GUESSED];
    int n = g && g->route.k < LADE_GUESSED ? g->route.k : LADE_GUESSED;
    if (!g || !lade_tiers_looks(x->tiers))
        return 0;
    if (ops->router(dev, g, err) ||
        ops->download(dev, ids, g->route.ids, (size_t)n * sizeof *ids, err))
        return -1;
    lade_tiers_guess(x->tiers, layer + 1, ids, n);
    return 0;
}

/* ---- CPU alone ------------------------------------------------------------------------------- */

static int run_cpu(struct lade_experts *x, int layer, const struct lade_moe *moe,
                   const struct lade_router *guess, char *err)
{
    const struct lade_devices *d = x->devices;
    struct lade_moe rest = *moe;
    struct lade_wave wave;
    lade_tiers_ask(x->tiers, layer, moe->ids, moe->n * moe->k);
    int rc = guess_next(x, layer, guess, err);
    while (!rc && (rc = lade_tiers_wave(x->tiers, &wave, err)) > 0) {
        rc = wave.nothing && !rest.shared
                 ? 0
                 : run_wave(x, layer, &wave, &rest, d->cpu, d->cpu_dev, err);
        if (rc)
            break;
        rest.shared = NULL; /* it went with the first wave, be that empty */
    }
    lade_tiers_done(x->tiers);
    return rc;
}

/* ---- with a GPU ------------------------------------------------------------------------------ */

/* All of them are there: nobody need know which are used. */
static int run_settled(struct lade_experts *x, int layer, const struct lade_moe *moe, char *err)
{
    struct lade_expert_table *t = table_of(x, layer);
    struct lade_moe op = *moe;
    for (int e = 0; !t->complete && e < x->cat->shape.experts; e++)
        keep(x, layer, e, lade_tiers_settled_at(x->tiers, layer, e));
    t->complete = true;
    op.experts = t->experts;
    op.version = t->version;
    lade_tiers_settled_visits(x->tiers, moe->n * moe->k);
    return x->part->ops->moe(x->part->dev, &op, err);
}

/* Brings the routes to the host; *routed is reached when they were computed. */
static int fetch_routes(struct lade_experts *x, const struct lade_moe *moe, lade_fence *routed,
                        char *err)
{
    const struct lade_ops *ops = x->part->ops;
    struct lade_device *dev = x->part->dev;
    size_t bytes = (size_t)moe->n * (size_t)moe->k * sizeof(float);
    lade_fence there;
    return ops->mark(dev, routed, err) ||
                   ops->download_async(dev, x->ids, moe->ids, bytes, *routed, NULL, err) ||
                   ops->download_async(dev, x->weights, moe->weights, bytes, *routed, &there,
                                       err) ||
                   ops->finish(dev, there, err)
               ? -1
               : 0;
}

/* Brings the activations to the CPU, whose sums start at zero. The GPU goes on with what is queued. */
static int fetch_rows(struct lade_experts *x, const struct lade_moe *moe, lade_fence routed,
                      char *err)
{
    const struct lade_ops *ops = x->part->ops;
    struct lade_device *dev = x->part->dev;
    size_t bytes = (size_t)moe->n * (size_t)moe->dim * sizeof(float);
    lade_fence there;
    memset(x->y, 0, bytes);
    return ops->download_async(dev, x->x, moe->x, bytes, routed, &there, err) ||
                   ops->finish(dev, there, err)
               ? -1
               : 0;
}

/* What stays in VRAM goes through the table of the layer, which then mostly is as it was. Of
 * experts that routes name only those of this wave may be in it: the others are computed by other
 * waves. */
static int run_kept(struct lade_experts *x, int layer, const struct lade_wave *wave,
                    const struct lade_moe *moe, char *err)
{
    struct lade_moe op = *moe;
    for (int i = 0; i < moe->n * moe->k; i++)
        x->named[x->ids[i]] = 1;
    for (int i = 0; i < wave->n; i++) {
        keep(x, layer, wave->experts[i], wave->data[i]);
        x->named[wave->experts[i]] = 0;
    }
    for (int i = 0; i < moe->n * moe->k; i++) {
        if (x->named[x->ids[i]])
            keep(x, layer, x->ids[i], NULL);
        x->named[x->ids[i]] = 0;
    }
    op.experts = table_of(x, layer)->experts;
    op.version = table_of(x, layer)->version;
    return x->part->ops->moe(x->part->dev, &op, err);
}

/* ---- GPUs that help ---- */

/* A layer's work on all devices: the same with each one's addresses. */
struct work {
    struct lade_moe gpu, cpu, help;
    lade_fence routed;
    bool fetched, joined;        /* the activations are in RAM; the CPU has computed something */
    int helper;                  /* the part that is at it, -1: none */
    lade_fence back[LADE_CARDS]; /* [part] when what it made is in RAM */
    bool helped[LADE_CARDS];
};

/* Has a part ready for experts of this layer: activations and routes on their way, sums at zero. */
static int begin_help(struct lade_experts *x, struct work *w, int part, char *err)
{
    const struct lade_helper *h = &x->helpers[part];
    const struct lade_ops *ops = h->part->ops;
    struct lade_device *dev = h->part->dev;
    const size_t rows = (size_t)w->gpu.n * (size_t)w->gpu.dim * sizeof(float),
                 routes = (size_t)w->gpu.n * (size_t)w->gpu.k * sizeof(float);
    lade_fence before, there; /* its last layer may still be at work */
    w->help = w->gpu;
    w->help.x = h->x;
    w->help.y = h->y;
    w->help.ids = h->ids;
    w->help.weights = h->weights;
    w->help.shared = NULL;
    w->helper = part;
    w->helped[part] = true;
    return ops->mark(dev, &before, err) ||
                   ops->upload_async(dev, h->x, x->x, rows, before, NULL, err) ||
                   ops->upload_async(dev, h->ids, x->ids, routes, before, NULL, err) ||
                   ops->upload_async(dev, h->weights, x->weights, routes, before, &there, err) ||
                   ops->wait(dev, there, err) || ops->zero(dev, h->y, rows, err)
               ? -1
               : 0;
}

/* All of a part's experts are queued: what it makes of them goes to RAM. */
static int end_help(struct lade_experts *x, struct work *w, char *err)
{
    if (w->helper < 0)
        return 0;
    const struct lade_helper *h = &x->helpers[w->helper];
    const size_t rows = (size_t)w->gpu.n * (size_t)w->gpu.dim * sizeof(float);
    lade_fence done, *back = &w->back[w->helper];
    w->helper = -1;
    return h->part->ops->mark(h->part->dev, &done, err) ||
                   h->part->ops->download_async(h->part->dev, h->back, h->y, rows, done, back, err)
               ? -1
               : 0;
}

/* Adds what other parts made to what this one did, in the order of the parts. */
static int add_helped(struct lade_experts *x, const struct work *w, char *err)
{
    const struct lade_ops *ops = x->part->ops;
    struct lade_device *dev = x->part->dev;
    const size_t count = (size_t)w->gpu.n * (size_t)w->gpu.dim;
    for (int i = 0; i < x->devices->n; i++) {
        if (!w->helped[i])
            continue;
        const struct lade_helper *h = &x->helpers[i];
        float *here = x->helpers[x->part - x->devices->part].y;
        lade_fence before, there;
        if (h->part->ops->finish(h->part->dev, w->back[i], err) || ops->mark(dev, &before, err) ||
            ops->upload_async(dev, here, h->back, count * sizeof(float), before, &there, err) ||
            ops->wait(dev, there, err) || ops->add(dev, w->gpu.y, here, count, err))
            return -1;
    }
    return 0;
}

/* ---- all devices ---- */

static bool is_own(const struct lade_experts *x, const struct lade_wave *wave)
{
    return wave->on_gpu && &x->devices->part[wave->card] == x->part;
}

/* Where a wave needs them, the activations are brought to RAM first. */
static int run_elsewhere(struct lade_experts *x, int layer, const struct lade_wave *wave,
                         struct work *w, char *err)
{
    const struct lade_devices *d = x->devices;
    if (!w->fetched && fetch_rows(x, &w->gpu, w->routed, err))
        return -1;
    w->fetched = true;
    if (!wave->on_gpu) {
        w->joined = true;
        return run_wave(x, layer, wave, &w->cpu, d->cpu, d->cpu_dev, err);
    }
    if (w->helper != wave->card && begin_help(x, w, wave->card, err))
        return -1;
    const struct lade_device_part *p = &d->part[wave->card];
    return run_wave(x, layer, wave, &w->help, p->ops, p->dev, err);
}

/* The waves of one layer. */
static int run_waves(struct lade_experts *x, int layer, struct work *w, char *err)
{
    const struct lade_device_part *p = x->part;
    struct lade_wave wave;
    bool first = true;
    int rc;
    while ((rc = lade_tiers_wave(x->tiers, &wave, err)) > 0) {
        const bool own = is_own(x, &wave);
        /* The first call on the GPU takes the shared expert along, before others start. */
        if (first && !own && w->gpu.shared) {
            struct lade_wave none = {.on_gpu = true};
            if (run_wave(x, layer, &none, &w->gpu, p->ops, p->dev, err))
                return -1;
            w->gpu.shared = NULL;
        }
        first = false;
        if (wave.nothing)
            continue;
        if (w->helper >= 0 && (own || !wave.on_gpu || wave.card != w->helper) &&
            end_help(x, w, err))
            return -1;
        rc = !own         ? run_elsewhere(x, layer, &wave, w, err)
             : wave.stays ? run_kept(x, layer, &wave, &w->gpu, err)
                          : run_wave(x, layer, &wave, &w->gpu, p->ops, p->dev, err);
        if (rc)
            return -1;
        if (own)
            w->gpu.shared = NULL;
    }
    return rc ? rc : end_help(x, w, err);
}

static int run_gpu(struct lade_experts *x, int layer, const struct lade_moe *moe,
                   const struct lade_router *guess, char *err)
{
    const struct lade_device_part *p = x->part;
    struct work w = {.gpu = *moe, .cpu = *moe, .helper = -1};
    if (fetch_routes(x, moe, &w.routed, err))
        return -1;
    w.cpu.x = x->x;
    w.cpu.y = x->y;
    w.cpu.ids = x->ids;
    w.cpu.weights = x->weights;
    w.cpu.shared = NULL;
    lade_tiers_ask(x->tiers, layer, x->ids, moe->n * moe->k);
    int rc = guess_next(x, layer, guess, err);
    rc = rc ? rc : run_waves(x, layer, &w, err);
    lade_tiers_done(x->tiers);
    if (!rc &&
        w.joined) /* the GPU reads what the CPU wrote; nobody writes there before the next layer's
                            routes are down, which come after this in the queue */
        rc = p->ops->add(p->dev, moe->y, x->y, (size_t)moe->n * (size_t)moe->dim, err);
    return rc ? rc : add_helped(x, &w, err);
}

/* What was in VRAM may be elsewhere now, or nowhere. */
static void forget_tables(struct lade_experts *x)
{
    int experts = x->cat->shape.experts;
    x->version = lade_tiers_version(x->tiers);
    for (int layer = x->part->first; layer < x->part->end; layer++) {
        struct lade_expert_table *t = table_of(x, layer);
        for (int e = 0; e < experts; e++)
            point(x, t->experts, layer, e, NULL);
        t->version = new_version();
        t->complete = false;
    }
}

bool lade_experts_moved(const struct lade_experts *x)
{
    return x->version != lade_tiers_version(x->tiers);
}

int lade_experts_run(struct lade_experts *x, int layer, const struct lade_moe *moe,
                     const struct lade_router *guess, char *err)
{
    if (!x->devices->gpu)
        return run_cpu(x, layer, moe, guess, err);
    if (lade_experts_moved(x))
        forget_tables(x);
    return lade_tiers_settled(x->tiers) ? run_settled(x, layer, moe, err)
                                        : run_gpu(x, layer, moe, guess, err);
}

void lade_experts_count(struct lade_experts *x, int n)
{
    for (int i = x->part->first; i < x->part->end; i++)
        lade_tiers_settled_visits(x->tiers, n * x->cat->shape.experts_used);
}
