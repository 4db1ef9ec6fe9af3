/* session.c - one timeline of tokens: prefix reuse, batches, snapshots. */
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/session/timeline.h"

/* A large batch may take a minute: its layers count, too, where they are computed when they are asked for
 * instead of queued. */
static void after_layer(void *user, int n)
{
    static const double often = 0.1; /* seconds */
    struct lade_session *s = user;
    struct lade_reading *r = &s->reading;
    if (s->between)
        s->between(s->between_user);
    if (!r->progress || (s->model->devices.gpu && lade_tiers_settled(s->model->tiers)))
        return;
    r->layers += n;
    const double now = lade_now();
    const int done = s->state.length - r->from + (int)(r->layers / s->model->cat->shape.layers);
    if (now - r->told < often || done >= r->total)
        return;
    r->told = now;
    r->progress(r->user, done, r->total);
}

static int open_pipeline(struct lade_session *s, char *err)
{
    struct lade_model *m = s->model;
    if (lade_pipeline_open(&s->pipeline, m->cat, &m->weights, m->tiers, &m->devices, m->batch,
                           m->place.buffers == LADE_RAM, m->sizes.drafts > 0, err))
        return -1;
    lade_pipeline_layers(&s->pipeline, after_layer, s);
    return 0;
}

void lade_session_between(struct lade_session *s, lade_between_fn *between, void *user)
{
    s->between = between;
    s->between_user = user;
}

int lade_session_open(struct lade_session **out, struct lade_model *m, char *err)
{
    const struct lade_shape *shape = &m->cat->shape;
    struct lade_session *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return lade_fail(err, "%s: out of memory; close other programs", m->cat->path);
    s->model = m;
    s->ids = malloc((size_t)m->context * sizeof *s->ids);
    s->logits = malloc((size_t)shape->vocab * sizeof *s->logits);
    s->top_ids = malloc(LADE_TOPK_MAX * sizeof *s->top_ids);
    if (!s->ids || !s->logits || !s->top_ids)
        lade_fail(err, "%s: out of memory; close other programs", m->cat->path);
    else if (!lade_state_open(&s->state, shape, &m->devices, m->context, m->cache_type,
                              m->place.kv == LADE_RAM, err) &&
             !open_pipeline(s, err)) {
        *out = s;
        return 0;
    }
    lade_session_close(s);
    return -1;
}

void lade_session_close(struct lade_session *s)
{
    if (!s)
        return;
    if (s->pipeline.n) /* after a cancel GPUs may still be at work with what is freed below */
        lade_devices_sync(&s->model->devices, NULL);
    for (int i = 0; i < LADE_SNAPSHOTS; i++)
        free(s->snapshots[i].data);
    lade_pipeline_close(&s->pipeline);
    if (s->state.layer)
        lade_state_close(&s->state);
    free(s->ids);
    free(s->logits);
    free(s->top_ids);
    free(s);
}

void lade_session_leave(struct lade_session *s)
{
    lade_session_settle(s, NULL);
    if (s->pipeline.n) {
        lade_devices_sync(&s->model->devices, NULL);
        lade_pipeline_close(&s->pipeline);
    }
    s->has_logits = false;
}

int lade_session_arrive(struct lade_session *s, char *err)
{
    struct lade_model *m = s->model;
    if (!s->state.layer)
        return lade_fail(err, "%s: the conversation's memory is lost; start again", m->cat->path);
    return lade_state_move(&s->state, &m->cat->shape, &m->devices, m->place.kv == LADE_RAM, err) ||
                   open_pipeline(s, err)
               ? -1
               : 0;
}

/* Forgets snapshots beyond `length` tokens: the timeline they describe is gone. */
static void drop_snapshots(struct lade_session *s, int length)
{
    for (int i = 0; i < LADE_SNAPSHOTS; i++)
        if (s->snapshots[i].length > length)
            s->snapshots[i].length = 0;
}

void lade_session_lose(struct lade_session *s)
{
    s->drafted = s->taken = 0;
    lade_session_leave(s);
    drop_snapshots(s, 0);
    if (s->state.layer)
        lade_state_close(&s->state);
}

int lade_session_renew(struct lade_session *s, char *err)
{
    struct lade_model *m = s->model;
    return lade_state_open(&s->state, &m->cat->shape, &m->devices, m->context, m->cache_type,
                           m->place.kv == LADE_RAM, err) ||
                   open_pipeline(s, err)
               ? -1
               : 0;
}

void lade_session_reset(struct lade_session *s)
{
    drop_snapshots(s, 0);
    s->has_logits = false;
    s->drafted = s->taken = 0;
    lade_state_reset(&s->state, NULL);
}

/* Whether timelines part at this snapshot, so that it stays. */
static bool stays(const struct lade_session *s, const struct lade_snapshot *one)
{
    return one->length && (one->length == s->fork || one->length == s->expected);
}

/* Where a copy of the state after `length` tokens goes, in the place of the oldest but those that stay and
 * `other` (may be NULL). NULL: there is one, or no memory, which only costs a later re-read of the prompt, so it is
 * not an error. */
static struct lade_snapshot *snapshot_for(struct lade_session *s, int length,
                                          const struct lade_snapshot *other)
{
    struct lade_snapshot *slot = NULL;
    for (int i = 0; i < LADE_SNAPSHOTS; i++) {
        struct lade_snapshot *one = &s->snapshots[i];
        if (one->length == length)
            return NULL;
        if (one != other && !stays(s, one) && (!slot || one->length < slot->length))
            slot = one;
    }
    if (!slot->data)
        slot->data = malloc(s->state.recurrent_bytes ? s->state.recurrent_bytes : 1);
    slot->length = 0;
    return slot->data ? slot : NULL;
}

/* Copies the state after the current token. */
static void take_snapshot(struct lade_session *s)
{
    struct lade_snapshot *slot = snapshot_for(s, s->state.length, NULL);
    if (slot && !lade_state_save(&s->state, slot->data, NULL))
        slot->length = s->state.length;
}

/* Brings the state back to its latest snapshot, or to no tokens. */
static int restore(struct lade_session *s, char *err)
{
    const struct lade_snapshot *best = NULL;
    for (int i = 0; i < LADE_SNAPSHOTS; i++)
        if (s->snapshots[i].length && (!best || s->snapshots[i].length > best->length))
            best = &s->snapshots[i];
    if (!best)
        return lade_state_reset(&s->state, err);
    return lade_state_restore(&s->state, best->data, best->length, err);
}

/* The recurrent state is undefined: the timeline goes back to where a snapshot was taken. */
static void go_back(struct lade_session *s)
{
    if (s->state.recurrent_bytes && restore(s, NULL))
        lade_session_reset(s);
}

int lade_session_settle(struct lade_session *s, char *err)
{
    const int taken = s->taken;
    s->drafted = s->taken = 0;
    if (!taken || !lade_pipeline_settle(&s->pipeline, &s->state, taken, err))
        return 0;
    s->has_logits = false;
    go_back(s);
    return -1;
}

/* Brings the state back to at most `keep` tokens. */
static int rewind_to(struct lade_session *s, int keep, char *err)
{
    if (keep == s->state.length)
        return 0;
    s->has_logits = false;
    s->drafted = s->taken = 0;
    drop_snapshots(s, keep);
    if (s->state.recurrent_bytes)
        return restore(s, err);
    s->state.length = keep;
    return 0;
}

static int check_ids(const struct lade_session *s, const int32_t *ids, int n, char *err)
{
    int vocab = s->model->cat->shape.vocab;
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return lade_fail(err,
                             "token %d: id %d is not below the model's vocab_size %d; check "
                             "the ids",
                             i, ids[i], vocab);
    return 0;
}

/* Evaluates some tokens. May fail (a drive that is gone, a cancel while experts were read). */
static int evaluate(struct lade_session *s, const struct lade_tokens *t, const atomic_bool *cancel,
                    char *err)
{
    if (!s->pipeline.n || !s->state.layer)
        return lade_fail(err, "%s: its memory was lost in a change of strategy; start again",
                         s->model->cat->path);
    if (lade_session_settle(s, err))
        return -1;
    memcpy(s->ids + s->state.length, t->ids, (size_t)t->n * sizeof *t->ids);
    s->has_logits = false;
    if (!lade_pipeline_run(&s->pipeline, &s->state, t, cancel, err))
        return 0;
    lade_devices_sync(&s->model->devices, NULL); /* what was queued before the failure */
    go_back(s);
    return -1;
}

/* The same, and takes snapshots at two lengths of the timeline, if it comes to them: a pass of its own for the few
 * tokens that follow would read the weights twice. */
static int evaluate_to_keep(struct lade_session *s, struct lade_tokens t, int early, int late,
                            const atomic_bool *cancel, char *err)
{
    const int from = s->state.length, at[] = {early, late};
    struct lade_snapshot *slots[2];
    struct lade_state_copy copies[2];
    t.copies = copies;
    for (int i = 0; i < 2; i++) {
        if (at[i] <= from || at[i] > from + t.n || (i && late <= early))
            continue;
        struct lade_snapshot *slot = snapshot_for(s, at[i], t.n_copies ? slots[0] : NULL);
        if (!slot)
            continue;
        slots[t.n_copies] = slot;
        copies[t.n_copies++] = (struct lade_state_copy){.after = at[i] - from, .to = slot->data};
    }
    if (evaluate(s, &t, cancel, err))
        return -1;
    for (int i = 0; i < t.n_copies; i++)
        slots[i]->length = copies[i].failed ? 0 : from + copies[i].after;
    return 0;
}

/* Computes the logits of a token of the last run. */
static int finish_batch(struct lade_session *s, int row, char *err)
{
    if (lade_pipeline_head(&s->pipeline, row, err))
        return -1;
    s->has_logits = true;
    s->fetched = -1;
    return 0;
}

/* Brings what is wanted of the logits. */
static int fetch(struct lade_session *s, char *err)
{
    if (s->fetched == s->wanted)
        return 0;
    if (s->wanted ? lade_pipeline_top(&s->pipeline, s->wanted, s->logits, s->top_ids, err)
                  : lade_pipeline_logits(&s->pipeline, s->logits, err))
        return -1;
    s->fetched = s->wanted;
    return 0;
}

void lade_session_want(struct lade_session *s, int k)
{
    int vocab = s->model->cat->shape.vocab;
    s->wanted = k < 0 || k > LADE_TOPK_MAX || k >= vocab ? 0 : k;
}

void lade_session_expect(struct lade_session *s, int n)
{
    s->expected = n;
}

/* Evaluates ids[length .. n), with a snapshot of whole batches of the first `fork` (0: none). */
static int read_on(struct lade_session *s, const int32_t *ids, int n, int stable, int fork,
                   const atomic_bool *cancel, char *err)
{
    while (s->state.length < n) {
        if (cancel && atomic_load(cancel))
            return lade_fail(err, "prompt: cancelled after %d of %d tokens; ask again",
                             s->state.length, n);
        int done = s->state.length;
        int span = s->pipeline.n ? lade_pipeline_span(&s->pipeline) : 1;
        int count = n - done < span ? n - done : span;
        const struct lade_tokens t = {.ids = ids + done, .n = count, .outputs = done + count == n};
        s->reading.layers = 0;
        if (evaluate_to_keep(s, t, s->expected, stable, cancel, err))
            return -1;
        if (s->state.length <= fork && s->state.length + span > fork)
            s->fork = s->state.length;
        if (s->state.length == s->fork)
            take_snapshot(s);
        if (s->reading.progress)
            s->reading.progress(s->reading.user, s->state.length - s->reading.from,
                                s->reading.total);
        if (s->state.length == n && finish_batch(s, count - 1, err))
            return -1;
    }
    return 0;
}

int lade_session_sync(struct lade_session *s, const int32_t *ids, int n, int stable,
                      lade_prefill_fn *progress, void *user, const atomic_bool *cancel, int *kept,
                      char *err)
{
    if (n < 1 || n > s->model->context)
        return lade_fail(err,
                         "prompt: has %d tokens but the context holds %d; shorten it, start "
                         "a new conversation, or raise --context",
                         n, s->model->context);
    if (check_ids(s, ids, n, err))
        return -1;
    int common = 0;
    while (common < s->state.length && common < n && s->ids[common] == ids[common])
        common++;
    /* The last token must be evaluated for its logits, unless they are still there. */
    if (common == n && !(s->has_logits && s->state.length == n))
        common = n - 1;
    if (rewind_to(s, common, err))
        return -1;
    int start = s->state.length;
    /* What is read again up to here a third conversation may begin with, too: there is a snapshot of as many whole
     * batches of it. */
    const int fork = common > start && common > s->expected ? common : 0;
    if (kept)
        *kept = start;
    s->reading = (struct lade_reading){
        .progress = progress, .user = user, .from = start, .total = n - start};
    const int failed = read_on(s, ids, n, stable, fork, cancel, err);
    s->reading = (struct lade_reading){0};
    return failed ? -1 : fetch(s, err);
}

int lade_session_most_drafts(const struct lade_session *s)
{
    const int rows = lade_pipeline_draft_rows(&s->pipeline);
    return rows ? rows - 1 : 0;
}

bool lade_session_foreseen(const struct lade_session *s, int32_t id)
{
    return s->taken < s->drafted && s->ids[s->state.length] == id;
}

/* The timeline goes on by one row of a pass over drafts, which has the logits, too. */
static int take_row(struct lade_session *s, char *err)
{
    lade_pipeline_ask(&s->pipeline, s->taken++);
    s->state.length++;
    s->has_logits = true;
    s->fetched = -1;
    return fetch(s, err);
}

int lade_session_push_drafts(struct lade_session *s, int32_t id, const int32_t *drafts, int n,
                             char *err)
{
    int32_t ids[LADE_DRAFT_ROWS] = {id};
    if (n < 1 || n > lade_session_most_drafts(s) || s->state.length + n >= s->model->context)
        return lade_session_push(s, id, err);
    memcpy(ids + 1, drafts, (size_t)n * sizeof *drafts);
    if (check_ids(s, ids, n + 1, err) || lade_session_settle(s, err))
        return -1;
    s->has_logits = false;
    if (lade_pipeline_drafts(&s->pipeline, &s->state, ids, n + 1, err))
        return -1;
    memcpy(s->ids + s->state.length, ids, (size_t)(n + 1) * sizeof *ids);
    s->drafted = n + 1;
    return take_row(s, err);
}

int lade_session_push(struct lade_session *s, int32_t id, char *err)
{
    if (lade_session_foreseen(s, id)) {
        lade_tiers_accept(s->model->tiers);
        return take_row(s, err);
    }
    if (s->state.length >= s->model->context)
        return lade_fail(err,
                         "context: all %d tokens are used; start a new conversation or raise "
                         "--context",
                         s->model->context);
    const struct lade_tokens one = {.ids = &id, .n = 1, .outputs = 1};
    return check_ids(s, &id, 1, err) || evaluate(s, &one, NULL, err) || finish_batch(s, 0, err) ||
                   fetch(s, err)
               ? -1
               : 0;
}

const float *lade_session_logits(const struct lade_session *s)
{
    return s->logits;
}

int lade_session_top(const struct lade_session *s, const float **values, const int32_t **ids)
{
    *values = s->logits;
    *ids = s->top_ids;
    return s->fetched > 0 ? s->fetched : 0;
}

int lade_session_length(const struct lade_session *s)
{
    return s->state.length;
}

const int32_t *lade_session_ids(const struct lade_session *s)
{
    return s->ids;
}

int lade_session_all_logits(struct lade_session *s, const int32_t *ids, int n, float *out,
                            char *err)
{
    size_t vocab = (size_t)s->model->cat->shape.vocab;
    lade_session_reset(s);
    if (n < 1 || n > s->model->context)
        return lade_fail(err, "--ids: %d tokens but the context holds 1 to %d; give fewer", n,
                         s->model->context);
    if (check_ids(s, ids, n, err))
        return -1;
    for (int done = 0; done < n;) {
        int count = n - done < s->model->batch ? n - done : s->model->batch;
        const struct lade_tokens t = {.ids = ids + done, .n = count, .outputs = count};
        if (evaluate(s, &t, NULL, err))
            return -1;
        for (int i = 0; i < count; i++)
            if (lade_pipeline_head(&s->pipeline, i, err) ||
                lade_pipeline_logits(&s->pipeline, out + (size_t)(done + i) * vocab, err))
                return -1;
        done += count;
    }
    return 0;
}
