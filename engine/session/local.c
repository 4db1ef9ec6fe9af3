/* local.c - an engine whose model is on this machine: the load, changes of strategy, and what is kept of
 * the session at the end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/session/kept.h"
#include "engine/session/worker.h"

/* ---- loading ---- */

/* What the model is and what is to be loaded. */
static void describe(struct lade_engine *e)
{
    const struct lade_model *m = e->model;
    const struct lade_catalog *cat = m->cat;
    struct lade_model_info *info = calloc(1, sizeof *info);
    if (!info)
        return;
    snprintf(info->name, sizeof info->name, "%s", cat->name);
    snprintf(info->path, sizeof info->path, "%s", cat->path);
    snprintf(info->format, sizeof info->format, "%s", cat->format);
    snprintf(info->quant, sizeof info->quant, "%s", cat->quant);
    snprintf(info->strategy, sizeof info->strategy, "%s", lade_model_strategy(m));
    snprintf(info->device, sizeof info->device, "%s", m->device);
    info->n_shards = cat->n_shards;
    info->layers = cat->shape.layers;
    info->experts = cat->shape.experts;
    info->experts_used = cat->shape.experts_used;
    info->hidden = cat->shape.hidden;
    info->vocab = cat->shape.vocab;
    info->max_context = cat->shape.max_context;
    info->bytes = lade_tiers_to_load(m->tiers);
    info->thinking = m->family == LADE_CHAT_THINKING;
    lade_sampling_defaults(&info->sampling, cat);
    int shown = (int)(sizeof info->shards / sizeof *info->shards);
    for (int i = 0; i < cat->n_shards && i < shown; i++) {
        snprintf(info->shards[i].name, sizeof info->shards[i].name, "%s",
                 lade_path_base(cat->shards[i].path));
        info->shards[i].bytes = lade_tiers_shard_to_load(m->tiers, i);
    }
    pthread_mutex_lock(&e->lock);
    e->info = *info;
    e->plan = m->plan;
    e->has_info = true;
    e->stats.load_bytes = info->bytes;
    e->stats.context_size = m->context;
    pthread_mutex_unlock(&e->lock);
    free(info);
}

void lade_worker_publish(struct lade_engine *e)
{
    struct lade_tiers_stats now;
    struct lade_card_memory cards[LADE_CARDS];
    int n_cards = lade_model_cards(e->model, cards);
    pthread_mutex_lock(&e->lock); /* first, so that what is older is never put over what is newer */
    lade_tiers_stats(e->model->tiers, &now);
    e->stats.traffic = now.traffic;
    e->stats.token = now.token;
    e->stats.in_ram = now.in_ram;
    e->stats.in_vram = now.in_vram;
    e->stats.weights = now.weights;
    e->stats.n_cards = n_cards;
    e->stats.vram = e->stats.vram_peak = 0;
    for (int i = 0; i < n_cards; i++) {
        e->stats.cards[i] = cards[i];
        e->stats.vram += cards[i].used;
        e->stats.vram_peak += cards[i].peak;
    }
    if (e->ready)
        e->stats.loading = now.loading;
    pthread_mutex_unlock(&e->lock);
}

/* Under the lock: the load is over and asks are answered. */
static void announce_ready(struct lade_engine *e)
{
    e->stats.loading = false;
    bool again = e->ready; /* a load after a change of strategy, of which only failures are news */
    if (again && !e->load_error[0])
        return;
    e->ready = true;
    if (!again)
        e->stats.load_s = lade_now() - e->load_started;
    struct lade_event ev = {.kind = LADE_EV_READY,
                            .seconds = e->stats.load_s,
                            .text = e->load_error[0] ? strdup(e->load_error) : NULL};
    lade_events_put(&e->events, &ev);
}

/* On a thread of the tiers. */
static void on_load(void *user, const struct lade_load_progress *p)
{
    struct lade_engine *e = user;
    double now = lade_now();
    struct lade_event ev = {
        .kind = LADE_EV_SHARD,
        .shard = p->shard,
        .n_shards = p->n_shards,
        .shard_done = p->shard_done,
        .shard_bytes = p->shard_bytes,
        .done_bytes = p->done,
        .total_bytes = p->bytes,
    };
    lade_worker_publish(e);
    pthread_mutex_lock(&e->lock);
    e->stats.load_done = p->done;
    if (now - e->rate_at >= 0.5 || p->done == p->bytes) {
        double seconds = now - e->rate_at;
        e->stats.load_gbps = seconds > 0 ? (double)(p->done - e->rate_done) / seconds * 1e-9 : 0;
        e->rate_at = now;
        e->rate_done = p->done;
    }
    if (!e->ready)
        lade_events_put(&e->events, &ev);
    if (p->ended && !lade_model_lost(e->model)) { /* else there will be another load */
        e->load_ended = true;
        lade_set_error(e->load_error, "%s", p->error ? p->error : "");
        if (e->stats.phase != LADE_PHASE_LOADING)
            announce_ready(e);
    }
    pthread_mutex_unlock(&e->lock);
}

/* The base and a session; a GPU may be lost meanwhile. */
static int load_base(struct lade_engine *e, char *err)
{
    if (lade_model_load(e->model, on_load, e, &e->cancel_load, err) &&
        (!e->model->tok || !lade_model_lost(e->model) || lade_worker_recover(e, err)))
        return -1;
    while (lade_session_open(&e->session, e->model, err))
        if (!lade_model_lost(e->model) || lade_worker_recover(e, err))
            return -1;
    return 0;
}

static int load(struct lade_engine *e, char *err)
{
    if (lade_model_prepare(&e->model, &e->opt, err))
        return -1;
    describe(e);
    struct lade_event model = {.kind = LADE_EV_MODEL,
                               .n_shards = e->model->cat->n_shards,
                               .total_bytes = lade_tiers_to_load(e->model->tiers)};
    lade_worker_emit(e, &model);
    if (e->model->notice[0])
        lade_worker_told(e, NULL, &e->model->plan, e->model->notice);
    pthread_mutex_lock(&e->lock);
    e->rate_at = lade_now();
    pthread_mutex_unlock(&e->lock);
    if (load_base(e, err))
        return -1;
    lade_session_between(e->session, lade_worker_watch, e);
    lade_worker_publish(e);
    pthread_mutex_lock(&e->lock);
    e->stats.kv = lade_state_bytes(&e->model->cat->shape, e->model->context, e->model->cache_type);
    e->stats.phase = LADE_PHASE_IDLE;
    struct lade_event ev = {.kind = LADE_EV_USABLE, .seconds = lade_now() - e->load_started};
    lade_events_put(&e->events, &ev);
    if (e->load_ended)
        announce_ready(e);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

/* ---- a change of strategy ---- */

void lade_worker_changed(struct lade_engine *e, const struct lade_plan *plan, struct lade_event *ev)
{
    const char *name = plan->n ? lade_strategy_name(plan->rows[plan->chosen].strategy)
                               : lade_model_strategy(e->model);
    lade_worker_publish(e);
    if (!e->ready) /* of a load that has begun anew */
        describe(e);
    pthread_mutex_lock(&e->lock);
    snprintf(e->info.strategy, sizeof e->info.strategy, "%s", name);
    snprintf(e->info.device, sizeof e->info.device, "%s", e->model->device);
    e->plan = *plan;
    lade_events_put(&e->events, ev);
    pthread_mutex_unlock(&e->lock);
}

void lade_worker_between(struct lade_engine *e)
{
    char err[LADE_ERR] = "", why[LADE_ERR];
    pthread_mutex_lock(&e->lock);
    char *name = e->strategy;
    e->strategy = NULL;
    pthread_mutex_unlock(&e->lock);
    if (name) {
        struct lade_event ev = {.kind = LADE_EV_STRATEGY};
        if (lade_model_change(e->model, e->session, &e->opt, name, why, err))
            ev.text = strdup(err);
        else if (*why)
            lade_worker_told(e, NULL, &e->model->plan, why);
        lade_worker_changed(e, &e->model->plan, &ev);
        free(name);
    } else {
        lade_worker_watch(e);
    }
    if (lade_model_lost(e->model))
        lade_worker_recover(e, err);
}

/* ---- the end ---- */

/* Tokens from which on a timeline is kept: fewer are soon read again. */
enum { KEEP_FROM = 256 };

static void set_keeping(struct lade_engine *e, uint64_t bytes)
{
    pthread_mutex_lock(&e->lock);
    e->stats.keeping = bytes;
    pthread_mutex_unlock(&e->lock);
}

/* Seconds that writing a timeline may take: no more than reading it again would, by the plan. */
static double worth_of(const struct lade_engine *e, uint64_t bytes)
{
    enum { A_MOMENT = 64 << 20 }; /* bytes that are written before one could wish to leave */
    const struct lade_plan *plan = lade_model_plan(e->model);
    double tps = plan->n ? plan->rows[plan->chosen].prefill_tps : 0;
    return bytes > A_MOMENT && tps > 0 ? lade_session_length(e->session) / tps : HUGE_VAL;
}

static void keep(struct lade_engine *e)
{
    char *path = NULL;
    if (e->opt.timelines && !atomic_load(&e->forget) && e->session && !e->broken &&
        !lade_model_lost(e->model) && lade_session_length(e->session) >= KEEP_FROM)
        path = lade_kept_path(e->session, e->opt.timelines);
    if (path) {
        uint64_t bytes = lade_kept_bytes(e->session);
        set_keeping(e, bytes);
        lade_kept_write(e->session, path, e->of, worth_of(e, bytes), &e->forget);
        lade_kept_prune(e->opt.timelines, LADE_KEPT_MOST);
        set_keeping(e, 0);
    }
    free(path);
}

static int open_local(struct lade_engine *e, char *err)
{
    e->watch = e->opt.pressure ? NULL : lade_watch_open();
    return load(e, err);
}

static void close_local(struct lade_engine *e)
{
    keep(e);
    lade_watch_close(e->watch);
    lade_session_close(e->session);
    lade_model_close(e->model);
}

const struct lade_worker lade_worker_local = {
    .open = open_local,
    .answer = lade_worker_answer,
    .between = lade_worker_between,
    .close = close_local,
};
