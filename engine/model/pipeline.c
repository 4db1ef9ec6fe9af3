#include "engine/model/pipeline.h"

/* Batches of one run where parts work at the same time: the more, the less the first and the last
 * part wait for each other at its ends. */
enum { SPAN = 8 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static size_t row_bytes(const struct lade_pipeline *p, int n)
{
    return (size_t)n * (size_t)p->part[0].shape->hidden * sizeof(float);
}

int lade_pipeline_open(struct lade_pipeline *p, const struct lade_catalog *cat,
                       const struct lade_weights *weights, struct lade_tiers *tiers,
                       const struct lade_devices *devices, int batch, bool in_ram, bool drafts,
                       char *err)
{
    *p = (struct lade_pipeline){.devices = devices, .tiers = tiers, .batch = batch};
    for (int i = 0; i < devices->n; i++) {
        if (lade_forward_open(&p->part[i], cat, weights, tiers, devices, i, batch, in_ram, drafts,
                              err)) {
            lade_devices_sync(devices, NULL); /* what was queued to those before */
            lade_pipeline_close(p);
            return -1;
        }
        p->n++;
        if (i && lade_part_alloc(&devices->part[i], (void **)&p->rows[i], row_bytes(p, batch), true,
                                 err)) {
            lade_devices_sync(devices, NULL);
            lade_pipeline_close(p);
            return -1;
        }
    }
    for (int i = 0; i < p->n && p->n > 1 && !in_ram; i++) {
        struct lade_forward *f = &p->part[i];
        p->helper[i] =
            (struct lade_helper){f->part, f->h, f->y, f->route_ids, f->route_weights, f->experts.y};
        f->experts.helpers = p->helper;
    }
    return 0;
}

void lade_pipeline_close(struct lade_pipeline *p)
{
    for (int i = 0; i < p->n; i++) {
        if (p->rows[i])
            lade_part_free(&p->devices->part[i], p->rows[i], true);
        lade_forward_close(&p->part[i]);
    }
    *p = (struct lade_pipeline){0};
}

void lade_pipeline_layers(struct lade_pipeline *p, lade_layer_fn *layer, void *user)
{
    for (int i = 0; i < p->n; i++) {
        p->part[i].layer = layer;
        p->part[i].layer_user = user;
    }
}

int lade_pipeline_span(const struct lade_pipeline *p)
{
    return p->n > 1 && lade_tiers_settled(p->tiers) ? SPAN * p->batch : p->batch;
}

/* Queues a part's work on a batch. */
static int run_part(struct lade_pipeline *p, int i, struct lade_state *st,
                    const struct lade_tokens *batch, int pos, bool settled, char *err)
{
    struct lade_forward *f = &p->part[i];
    lade_fence before;
    lade_forward_take(f, batch->n);
    /* The rows go to where the batch before may still be in use. */
    if (i && (f->ops->mark(f->dev, &before, err) ||
              f->ops->upload_async(f->dev, f->x, p->rows[i], row_bytes(p, batch->n), before,
                                   &p->taken[i], err) ||
              f->ops->wait(f->dev, p->taken[i], err)))
        return -1;
    return lade_forward_run(f, st, batch, pos, settled, err);
}

/* Brings a part's rows to where the next one takes them, when they are there. */
static int hand_on(struct lade_pipeline *p, int i, int n, char *err)
{
    struct lade_forward *f = &p->part[i], *next = &p->part[i + 1];
    lade_fence done, there;
    return next->ops->finish(next->dev, p->taken[i + 1], err) || f->ops->mark(f->dev, &done, err) ||
                   f->ops->download_async(f->dev, p->rows[i + 1], f->x, row_bytes(p, n), done,
                                          &there, err) ||
                   f->ops->finish(f->dev, there, err)
               ? -1
               : 0;
}

/* Those of `all` from `from` on that are one batch. */
static struct lade_tokens batch_of(const struct lade_pipeline *p, const struct lade_tokens *all,
                                   int from)
{
    const int n = min_int(all->n - from, p->batch);
    const int unasked = max_int(all->n - all->outputs - from, 0); /* it may have fewer */
    struct lade_tokens batch = {.ids = all->ids + from,
                                .n = n,
                                .first = from,
                                .outputs = n - min_int(n, unasked),
                                .copies = all->copies};
    for (int i = 0; i < all->n_copies; i++) {
        batch.copies += all->copies[i].after <= from;
        batch.n_copies += all->copies[i].after > from && all->copies[i].after <= from + n;
    }
    return batch;
}

/* In step s part i has batch s - i. The last part is told first, so that it takes its rows before the
 * part before it brings the next ones. */
static int run_steps(struct lade_pipeline *p, struct lade_state *st,
                     const struct lade_tokens *tokens, bool settled, char *err)
{
    const int n = tokens->n, batches = (n + p->batch - 1) / p->batch;
    for (int step = 0; step < batches + p->n - 1; step++) {
        for (int i = p->n - 1; i >= 0; i--) {
            const int from = (step - i) * p->batch;
            if (step < i || from >= n)
                continue;
            const struct lade_tokens batch = batch_of(p, tokens, from);
            if (run_part(p, i, st, &batch, st->length + from, settled, err))
                return -1;
        }
        for (int i = 0; i + 1 < p->n; i++) {
            int left = n - (step - i) * p->batch;
            if (step >= i && left > 0 && hand_on(p, i, min_int(left, p->batch), err))
                return -1;
        }
    }
    return 0;
}

int lade_pipeline_run(struct lade_pipeline *p, struct lade_state *st,
                      const struct lade_tokens *tokens, const atomic_bool *cancel, char *err)
{
    lade_tiers_begin(p->tiers, tokens->n, 0, cancel);
    int rc = run_steps(p, st, tokens, lade_tiers_settled(p->tiers), err);
    lade_tiers_end(p->tiers);
    p->last = (tokens->n - 1) / p->batch * p->batch;
    st->length += rc ? 0 : tokens->n;
    return rc;
}

int lade_pipeline_draft_rows(const struct lade_pipeline *p)
{
    return p->n == 1 ? p->part[0].drafts.rows : 0;
}

int lade_pipeline_drafts(struct lade_pipeline *p, struct lade_state *st, const int32_t *ids, int n,
                         char *err)
{
    lade_tiers_begin(p->tiers, n, n - 1, NULL);
    lade_forward_take(&p->part[0], n);
    int rc = lade_forward_drafts(&p->part[0], st, ids, n, st->length, err);
    lade_tiers_end(p->tiers);
    return rc;
}

void lade_pipeline_ask(struct lade_pipeline *p, int row)
{
    lade_forward_ask(&p->part[0], row);
}

int lade_pipeline_settle(struct lade_pipeline *p, struct lade_state *st, int n, char *err)
{
    return lade_forward_settle(&p->part[0], st, n, err);
}

int lade_pipeline_head(struct lade_pipeline *p, int row, char *err)
{
    return lade_forward_head(&p->part[p->n - 1], row - p->last, err);
}

int lade_pipeline_logits(struct lade_pipeline *p, float *out, char *err)
{
    return lade_forward_logits(&p->part[p->n - 1], out, err);
}

int lade_pipeline_top(struct lade_pipeline *p, int k, float *values, int32_t *ids, char *err)
{
    return lade_forward_top(&p->part[p->n - 1], k, values, ids, err);
}
