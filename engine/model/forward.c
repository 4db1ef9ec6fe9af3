#include "engine/model/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/rope.h"

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

/* Widths, in floats per token, of the buffers whose use depends on the mixer. */
struct widths {
    int a, b, c, mixed;
};

static struct widths mixer_widths(const struct lade_shape *s)
{
    return (struct widths){
        .a = max_int(2 * s->heads * s->head_dim, lade_shape_qkvz(s)),
        .b = max_int(s->kv_heads * s->head_dim, 2 * s->value_heads),
        .c = max_int(s->kv_heads * s->head_dim, s->value_heads * s->value_dim),
        .mixed = max_int(s->heads * s->head_dim, s->value_heads * s->value_dim),
    };
}

/* Every buffer with its length in floats; one row a buffer, so that the size and the placement
 * cannot disagree. With f == NULL only the sum is computed. */
static size_t lay_out(struct lade_forward *f, float *arena, const struct lade_shape *s, int batch)
{
    struct widths w = mixer_widths(s);
    struct lade_forward none = {0};
    struct lade_forward *t = f ? f : &none;
    float *route_ids, *guess_ids, *told; /* floats and ids have the same size */
    size_t rows = (size_t)batch;
    struct {
        float **place;
        size_t count;
    } buffers[] = {
        {&t->x, rows * (size_t)s->hidden},
        {&t->h, rows * (size_t)s->hidden},
        {&t->y, rows * (size_t)s->hidden},
        {&t->a, rows * (size_t)w.a},
        {&t->b, rows * (size_t)w.b},
        {&t->c, rows * (size_t)w.c},
        {&t->mixed, rows * (size_t)w.mixed},
        {&t->router, rows * (size_t)s->experts},
        {&t->route_weights, rows * (size_t)s->experts_used},
        {&route_ids, rows * (size_t)s->experts_used},
        {&guess_ids, (size_t)s->experts_used},
        {&t->guess_weights, (size_t)s->experts_used},
        {&t->logits, (size_t)s->vocab},
        {&t->top, (size_t)2 * LADE_TOPK_MAX},
        {&told, 2},
        {&t->inv_freq, (size_t)s->rotary_dim / 2 + 1},
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        if (f)
            *buffers[i].place = arena + total;
        size_t step = LADE_ALIGN / sizeof(float);
        total += (buffers[i].count + step - 1) / step * step;
    }
    if (f) {
        f->route_ids = (int32_t *)route_ids;
        f->guess_ids = (int32_t *)guess_ids;
        f->told = (int32_t *)told;
    }
    return total * sizeof(float);
}

size_t lade_forward_bytes(const struct lade_shape *s, int batch)
{
    return lay_out(NULL, NULL, s, batch);
}

/* Of the router of a layer; 0 where it needs no sketch. What follows `high` is `far`. */
static size_t sketch_bytes(const struct lade_catalog *cat, int layer, size_t *high)
{
    const struct lade_shape *s = &cat->shape;
    const struct lade_tensor *t =
        lade_catalog_find(cat, lade_catalog_base(cat, layer), LADE_ROUTER);
    const size_t rows = (size_t)s->experts, step = LADE_ALIGN;
    *high = (rows * (size_t)s->hidden * sizeof(uint16_t) + step - 1) / step * step;
    if (!t || t->packed.type != LADE_F32 || !s->renormalize)
        return 0;
    return *high + (rows * sizeof(float) + step - 1) / step * step;
}

size_t lade_forward_sketches(const struct lade_catalog *cat)
{
    size_t sum = 0, high;
    for (int i = 0; i < cat->shape.layers; i++)
        sum += sketch_bytes(cat, i, &high);
    return sum;
}

static int open_sketches(struct lade_forward *f, const struct lade_catalog *cat, char *err)
{
    const size_t bytes = lade_forward_sketches(cat);
    if (!bytes)
        return 0;
    f->sketches = calloc((size_t)cat->shape.layers, sizeof *f->sketches);
    if (!f->sketches)
        return lade_fail(err, "%s: out of memory for the routers; close other programs", cat->path);
    if (lade_part_alloc(f->part, &f->sketch_memory, bytes, false, err))
        return -1;
    char *at = f->sketch_memory;
    for (int i = 0; i < cat->shape.layers; i++) {
        struct lade_matrix high = f->weights->layers[i].router;
        size_t size, all = sketch_bytes(cat, i, &size);
        high.type = LADE_BF16;
        high.data = all ? at : NULL;
        f->sketches[i] = (struct lade_router_sketch){high, (float *)(void *)(at + size), false};
        at += all;
    }
    return 0;
}

/* NULL: a layer's router is read as it is. */
static struct lade_router_sketch *sketch_of(const struct lade_forward *f, int layer)
{
    return f->sketches && f->sketches[layer].high.data ? &f->sketches[layer] : NULL;
}

void lade_forward_take(struct lade_forward *f, int n)
{
    const bool near = f->near && n == 1;
    lay_out(f, near ? f->near : f->arena, f->shape, near ? 1 : f->batch);
}

int lade_forward_open(struct lade_forward *f, const struct lade_catalog *cat,
                      const struct lade_weights *weights, struct lade_tiers *tiers,
                      const struct lade_devices *devices, int part, int batch, bool in_ram,
                      bool drafts, char *err)
{
    const struct lade_shape *shape = &cat->shape;
    const struct lade_device_part *p = &devices->part[part];
    const struct lade_ops *ops = p->ops;
    *f = (struct lade_forward){.shape = shape,
                               .weights = weights,
                               .part = p,
                               .ops = ops,
                               .dev = p->dev,
                               .batch = batch,
                               .in_ram = in_ram};
    if (lade_experts_open(&f->experts, cat, tiers, devices, part, batch, err) ||
        lade_part_alloc(p, (void **)&f->arena, lade_forward_bytes(shape, batch), in_ram, err) ||
        (!devices->gpu && (open_sketches(f, cat, err) ||
                           (drafts && lade_drafts_open(&f->drafts, shape, p, batch, err)))) ||
        (in_ram && devices->gpu &&
         lade_part_alloc(p, (void **)&f->near, lade_forward_bytes(shape, 1), false, err))) {
        lade_forward_close(f);
        return -1;
    }
    float *freq = malloc(((size_t)shape->rotary_dim / 2 + 1) * sizeof *freq);
    if (!freq) {
        lade_forward_close(f);
        return lade_fail(err, "rotary embedding: out of memory; close other programs");
    }
    lade_rope_frequencies(shape, freq, &f->rope_scale);
    const size_t bytes = (size_t)shape->rotary_dim / 2 * sizeof *freq;
    int failed = 0;
    for (int n = 2; n >= 1 && !failed; n--) { /* in both arenas, where there are two */
        lade_forward_take(f, n);
        failed = ops->upload(f->dev, f->inv_freq, freq, bytes, err);
    }
    free(freq);
    if (failed) {
        ops->sync(f->dev, NULL); /* the first may be on its way */
        lade_forward_close(f);
    }
    return failed;
}

static void forget_step(struct lade_forward *f)
{
    if (f->step)
        f->ops->record_free(f->dev, f->step);
    f->step = NULL;
    f->step_of = NULL;
}

void lade_forward_close(struct lade_forward *f)
{
    forget_step(f);
    if (f->arena)
        lade_part_free(f->part, f->arena, f->in_ram);
    if (f->near)
        lade_part_free(f->part, f->near, false);
    if (f->sketch_memory)
        lade_part_free(f->part, f->sketch_memory, false);
    free(f->sketches);
    lade_drafts_close(&f->drafts);
    lade_experts_close(&f->experts);
    *f = (struct lade_forward){0};
}

/* For one token: the products after the op that is called next. */
static void soon(struct lade_forward *f, int n, const struct lade_matmul *jobs, int n_jobs)
{
    if (n == 1 && f->ops->soon)
        f->ops->soon(f->dev, jobs, n_jobs);
}

static void soon_one(struct lade_forward *f, int n, const struct lade_matrix *w)
{
    soon(f, n, &(struct lade_matmul){.w = w}, 1);
}

static void soon_router(struct lade_forward *f, int n, int index)
{
    const struct lade_router_sketch *sketch = sketch_of(f, index);
    soon_one(f, n, sketch && sketch->ready ? &sketch->high : &f->weights->layers[index].router);
}

/* The products of a layer's norm, at most 3; how many. */
static int mixer_jobs(const struct lade_forward *f, const struct lade_layer *layer,
                      struct lade_matmul jobs[3])
{
    const struct lade_attention_weights *a = &layer->attention;
    const struct lade_delta_weights *d = &layer->delta;
    jobs[0] = (struct lade_matmul){f->a, f->h, layer->full_attention ? &a->q : &d->qkvz};
    jobs[1] = (struct lade_matmul){f->b, f->h, layer->full_attention ? &a->k : &d->ba};
    jobs[2] = (struct lade_matmul){f->c, f->h, layer->full_attention ? &a->v : &d->z};
    return jobs[2].w->rows > 0 ? 3 : 2;
}

/* What comes after a layer's experts. */
static void soon_after_layer(struct lade_forward *f, int n, int index)
{
    struct lade_matmul jobs[3];
    if (index + 1 < f->part->end)
        soon(f, n, jobs, mixer_jobs(f, &f->weights->layers[index + 1], jobs));
    else
        soon_one(f, n, &f->weights->head);
}

/* Products of the norm of x; their inputs are f->h. */
static int project(struct lade_forward *f, const float *x, const float *norm,
                   const struct lade_matmul *jobs, int n_jobs, int n, char *err)
{
    struct lade_project op = {
        .n = n,
        .dim = f->shape->hidden,
        .x = x,
        .norm = norm,
        .eps = f->shape->norm_eps,
        .h = f->h,
        .jobs = jobs,
        .n_jobs = n_jobs,
    };
    return f->ops->project(f->dev, &op, err);
}

/* Row `row` of those of the residual stream, or of another buffer of the same width. */
static float *row_of(const struct lade_forward *f, float *rows, int row)
{
    return rows + (size_t)row * (size_t)f->shape->hidden;
}

/* What attention is given: queries without those of `skip` tokens, keys and values of all. */
static int project_attention(struct lade_forward *f, int index, int n, int skip, char *err)
{
    const struct lade_layer *layer = &f->weights->layers[index];
    struct lade_matmul in[3];
    const int n_in = mixer_jobs(f, layer, in);
    if (!skip)
        return project(f, f->x, layer->in_norm, in, n_in, n, err);
    return project(f, f->x, layer->in_norm, in + 1, n_in - 1, n, err) ||
                   (skip < n &&
                    project(f, row_of(f, f->x, skip), layer->in_norm, in, 1, n - skip, err))
               ? -1
               : 0;
}

/* `told`: NULL, or where the device finds the position. `skip`: see run_layers, as in the next two. */
static int run_attention(struct lade_forward *f, int index, struct lade_state *st, int n, int skip,
                         int pos, const int32_t *told, char *err)
{
    const struct lade_shape *s = f->shape;
    const struct lade_layer *layer = &f->weights->layers[index];
    const struct lade_layer_state *ls = &st->layer[index];
    const struct lade_attention_weights *w = &layer->attention;
    soon_one(f, n, &w->o);
    if (project_attention(f, index, n, skip, err))
        return -1;
    struct lade_attention op = {
        .n = n,
        .skip = skip,
        .pos = told ? st->capacity - n : pos,
        .pos_at = told ? told + 1 : NULL,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .rotary_dim = s->rotary_dim,
        .q = f->a,
        .k = f->b,
        .v = f->c,
        .q_norm = w->q_norm,
        .k_norm = w->k_norm,
        .eps = s->norm_eps,
        .inv_freq = f->inv_freq,
        .rope_scale = f->rope_scale,
        .cache_type = st->cache_type,
        .k_cache = ls->k,
        .v_cache = ls->v,
        .capacity = st->capacity,
        .out = f->mixed,
    };
    if (f->ops->attention(f->dev, &op, err))
        return -1;
    soon_router(f, n, index);
    struct lade_matmul out = {row_of(f, f->y, skip), f->mixed, &w->o};
    return skip < n ? f->ops->matmul(f->dev, &out, 1, n - skip, err) : 0;
}

/* A delta-net on rows `first` to `end` of those that it is given, with a state of that layer. */
static int delta_rule(struct lade_forward *f, int index, const struct lade_delta_rows *rows,
                      const struct lade_layer_state *ls, int first, int end, char *err)
{
    const struct lade_shape *s = f->shape;
    const struct lade_delta_weights *w = &f->weights->layers[index].delta;
    const size_t at = (size_t)first, heads = (size_t)s->value_heads;
    const size_t values = heads * (size_t)s->value_dim, qkvz = (size_t)w->qkvz.rows;
    struct lade_deltanet op = {
        .n = end - first,
        .key_heads = s->key_heads,
        .value_heads = s->value_heads,
        .key_dim = s->key_dim,
        .value_dim = s->value_dim,
        .kernel = s->conv_kernel,
        .qkvz = rows->qkvz + at * qkvz,
        .z = w->z.rows > 0 ? rows->z + at * values : NULL,
        .ba = rows->ba + at * 2 * heads,
        .conv = w->conv,
        .decay = w->decay,
        .dt_bias = w->dt_bias,
        .norm = w->norm,
        .eps = s->norm_eps,
        .conv_state = ls->conv,
        .state = ls->delta,
        .out = f->mixed + at * values,
    };
    return first < end ? f->ops->deltanet(f->dev, &op, err) : 0;
}

/* A delta-net on all rows, and what is copied of its state on the way. */
static int run_rule(struct lade_forward *f, int index, const struct lade_state *st,
                    const struct lade_tokens *t, const struct lade_delta_rows *rows,
                    const struct lade_layer_state *ls, char *err)
{
    int at = 0;
    for (int i = 0; i < t->n_copies; i++) {
        struct lade_state_copy *c = &t->copies[i];
        if (delta_rule(f, index, rows, ls, at, c->after - t->first, err))
            return -1;
        at = c->after - t->first;
        c->failed = c->failed || lade_state_save_layer(st, f->shape, index, c->to, NULL);
    }
    return delta_rule(f, index, rows, ls, at, t->n, err);
}

/* `drafts`: the state stays as it was, and what it is to be given is kept. */
static int run_delta(struct lade_forward *f, int index, struct lade_state *st,
                     const struct lade_tokens *t, int skip, bool drafts, char *err)
{
    const struct lade_shape *s = f->shape;
    const struct lade_layer *layer = &f->weights->layers[index];
    const struct lade_delta_weights *w = &layer->delta;
    struct lade_layer_state ls = st->layer[index];
    struct lade_delta_rows rows = {f->a, f->b, f->c};
    if (drafts)
        rows = lade_drafts_layer(&f->drafts, s, index);
    struct lade_matmul in[3];
    const int n = t->n, n_in = mixer_jobs(f, layer, in);
    in[0].y = rows.qkvz;
    in[1].y = rows.ba;
    in[2].y = rows.z;
    soon_one(f, n, &w->out);
    if (project(f, f->x, layer->in_norm, in, n_in, n, err) ||
        (drafts && lade_state_copy_layer(st, s, index, f->drafts.state, &ls, err)) ||
        run_rule(f, index, st, t, &rows, &ls, err))
        return -1;
    soon_router(f, n, index);
    const float *mixed = f->mixed + (size_t)skip * (size_t)(s->value_heads * s->value_dim);
    struct lade_matmul out = {row_of(f, f->y, skip), mixed, &w->out};
    return skip < n ? f->ops->matmul(f->dev, &out, 1, n - skip, err) : 0;
}

/* From rows x to the routes of layer `index`; n, h, add and where the routes go are the caller's. */
static struct lade_router router_of(const struct lade_forward *f, int index, float *x)
{
    const struct lade_shape *s = f->shape;
    const struct lade_layer *layer = &f->weights->layers[index];
    return (struct lade_router){
        .dim = s->hidden,
        .x = x,
        .norm = layer->post_norm,
        .eps = s->norm_eps,
        .w = &layer->router,
        .logits = f->router,
        .route = {.experts = s->experts, .k = s->experts_used, .renormalize = s->renormalize},
        .sketch = sketch_of(f, index),
    };
}

/* How to guess what layer `index` will ask for, from x before the experts of the layer before it are
 * added: y is free once it has been added, the logits once the routes are chosen. */
static struct lade_router guess_of(const struct lade_forward *f, int index)
{
    struct lade_router guess = router_of(f, index, f->x);
    guess.n = 1;
    guess.h = f->y;
    guess.route.ids = f->guess_ids;
    guess.route.weights = f->guess_weights;
    return guess;
}

/* Adds the mixer's output to x, then the experts'. */
static int run_experts(struct lade_forward *f, int index, int n, int skip, char *err)
{
    const struct lade_shape *s = f->shape;
    const struct lade_layer *layer = &f->weights->layers[index];
    float *x = row_of(f, f->x, skip);
    struct lade_router router = router_of(f, index, x);
    router.n = n - skip;
    router.add = row_of(f, f->y, skip);
    router.h = f->h;
    router.route.ids = f->route_ids;
    router.route.weights = f->route_weights;
    struct lade_moe moe = {
        .n = n - skip,
        .dim = s->hidden,
        .k = s->experts_used,
        .n_experts = s->experts,
        .x = f->h,
        .ids = f->route_ids,
        .weights = f->route_weights,
        .shared = s->shared_ff ? &layer->shared : NULL,
        .shared_gate = layer->shared_gate,
        .y = x,
    };
    if (moe.shared)
        soon(f, n, (struct lade_matmul[]){{.w = &layer->shared.gate}, {.w = &layer->shared.up}}, 2);
    if (f->ops->router(f->dev, &router, err))
        return -1;
    soon_after_layer(f, n, index);
    bool guesses = n == 1 && index + 1 < f->part->end;
    struct lade_router next = guesses ? guess_of(f, index + 1) : (struct lade_router){0};
    return lade_experts_run(&f->experts, index, &moe, guesses ? &next : NULL, err);
}

/* ids == NULL: id and position are where the device finds them. `drafts`: see run_delta. The last layer is
 * left as soon as the state has what it is given: of tokens that are no outputs nobody asks for more. */
static int run_layers(struct lade_forward *f, struct lade_state *st, const struct lade_tokens *t,
                      int pos, bool drafts, char *err)
{
    const int32_t *told = t->ids ? NULL : f->told;
    const int n = t->n;
    if (f->part->first == 0 &&
        (t->ids ? f->ops->embed(f->dev, f->x, &f->weights->embed, t->ids, n, err)
                : f->ops->embed_at(f->dev, f->x, &f->weights->embed, told, n, err)))
        return -1;
    for (int i = f->part->first; i < f->part->end; i++) {
        const int skip = i + 1 == f->shape->layers ? n - t->outputs : 0;
        if (f->weights->layers[i].full_attention ? run_attention(f, i, st, n, skip, pos, told, err)
                                                 : run_delta(f, i, st, t, skip, drafts, err))
            return -1;
        if (skip < n && run_experts(f, i, n, skip, err))
            return -1;
        if (n > 1 && !drafts && f->layer)
            f->layer(f->layer_user, n);
    }
    return 0;
}

/* ---- one token in one call ---- */

/* Where the GPUs have all experts, every token does the same but for its id and position. The first
 * token of a state goes op by op, so that all has been in use; the second is recorded; from then on
 * the recording is replayed, as long as all experts stay. */

static int record_step(struct lade_forward *f, struct lade_state *st, char *err)
{
    const struct lade_tokens one = {.n = 1, .outputs = 1};
    if (f->ops->record_begin(f->dev, err))
        return -1;
    if (!run_layers(f, st, &one, 0, false, err))
        return f->ops->record_end(f->dev, &f->step, err);
    f->ops->record_end(f->dev, &f->step, NULL); /* fails, too, after what went wrong in it */
    forget_step(f);
    return -1;
}

static int run_step(struct lade_forward *f, struct lade_state *st, const struct lade_tokens *one,
                    int pos, char *err)
{
    int32_t told[2] = {one->ids[0], pos};
    if (!f->step_of || f->step_of != st) {
        forget_step(f);
        f->step_of = st;
        return run_layers(f, st, one, pos, false, err);
    }
    if (f->ops->upload(f->dev, f->told, told, sizeof told, err) ||
        (!f->step && record_step(f, st, err)))
        return -1;
    lade_experts_count(&f->experts, 1);
    return f->ops->replay(f->dev, f->step, err);
}

int lade_forward_run(struct lade_forward *f, struct lade_state *st,
                     const struct lade_tokens *tokens, int pos, bool settled, char *err)
{
    bool records = settled && f->ops->record_begin;
    if (!records || lade_experts_moved(&f->experts))
        forget_step(f);
    return records && tokens->n == 1 && tokens->outputs && !tokens->n_copies
               ? run_step(f, st, tokens, pos, err)
               : run_layers(f, st, tokens, pos, false, err);
}

int lade_forward_head(struct lade_forward *f, int row, char *err)
{
    struct lade_matmul head = {f->logits, f->h, &f->weights->head}, first[3];
    soon(f, 1, first, mixer_jobs(f, &f->weights->layers[f->part->first], first));
    f->asked = f->logits;
    return project(f, row_of(f, f->x, row), f->weights->final_norm, &head, 1, 1, err);
}

/* ---- drafts ---- */

int lade_forward_drafts(struct lade_forward *f, struct lade_state *st, const int32_t *ids, int n,
                        int pos, char *err)
{
    const struct lade_tokens all = {.ids = ids, .n = n, .outputs = n};
    struct lade_matmul head = {f->drafts.logits, f->h, &f->weights->head};
    return run_layers(f, st, &all, pos, true, err) ||
                   project(f, f->x, f->weights->final_norm, &head, 1, n, err)
               ? -1
               : 0;
}

void lade_forward_ask(struct lade_forward *f, int row)
{
    f->asked = f->drafts.logits + (size_t)row * (size_t)f->shape->vocab;
}

int lade_forward_settle(struct lade_forward *f, struct lade_state *st, int n, char *err)
{
    for (int i = f->part->first; i < f->part->end; i++) {
        if (f->weights->layers[i].full_attention)
            continue;
        const struct lade_delta_rows rows = lade_drafts_layer(&f->drafts, f->shape, i);
        if (delta_rule(f, i, &rows, &st->layer[i], 0, n, err))
            return -1;
    }
    return 0;
}

/* ---- logits ---- */

int lade_forward_logits(struct lade_forward *f, float *out, char *err)
{
    return f->ops->download(f->dev, out, f->asked, (size_t)f->shape->vocab * sizeof *out, err);
}

int lade_forward_top(struct lade_forward *f, int k, float *values, int32_t *ids, char *err)
{
    const size_t bytes = (size_t)k * sizeof(float);
    struct lade_topk op = {.n = f->shape->vocab,
                           .k = k,
                           .logits = f->asked,
                           .values = f->top,
                           .ids = (int32_t *)(f->top + k)};
    float both[2 * LADE_TOPK_MAX]; /* one download */
    if (f->ops->topk(f->dev, &op, err) || f->ops->download(f->dev, both, f->top, 2 * bytes, err))
        return -1;
    memcpy(values, both, bytes);
    memcpy(ids, both + k, bytes);
    return 0;
}
