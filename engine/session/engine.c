/* engine.c - the engine thread: opens a model, waits for requests, has them answered in order. */
#include <stdlib.h>
#include <string.h>

#include "engine/plan/machine.h"
#include "engine/remote/address.h"
#include "engine/remote/remote.h"
#include "engine/session/worker.h"

void lade_worker_emit(struct lade_engine *e, struct lade_event *ev)
{
    pthread_mutex_lock(&e->lock);
    lade_events_put(&e->events, ev);
    pthread_mutex_unlock(&e->lock);
}

static void free_request(struct lade_request *r)
{
    for (size_t i = 0; r->messages && i < r->n; i++) {
        free((char *)r->messages[i].content);
        free((char *)r->messages[i].reasoning);
        free((char *)r->messages[i].calls);
    }
    free(r->messages);
    free(r);
}

static struct lade_request *copy_request(const struct lade_message *messages, size_t n)
{
    struct lade_request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->n = n;
    r->messages = calloc(n ? n : 1, sizeof *r->messages);
    for (size_t i = 0; r->messages && i < n; i++) {
        const struct lade_message *m = &messages[i];
        r->messages[i].role = m->role;
        r->messages[i].content = strdup(m->content);
        r->messages[i].reasoning = m->reasoning ? strdup(m->reasoning) : NULL;
        r->messages[i].calls = m->calls ? strdup(m->calls) : NULL;
        if (!r->messages[i].content || (m->reasoning && !r->messages[i].reasoning) ||
            (m->calls && !r->messages[i].calls)) {
            free_request(r);
            return NULL;
        }
    }
    if (r->messages)
        return r;
    free(r);
    return NULL;
}

/* Tells everyone who waits that there will be no model. */
void lade_worker_broken(struct lade_engine *e, const char *text)
{
    pthread_mutex_lock(&e->lock);
    e->broken = true;
    e->stats.phase = LADE_PHASE_FAILED;
    e->stats.loading = false;
    e->stats.load_s = lade_now() - e->load_started;
    struct lade_event ev = {.kind = LADE_EV_FAILED, .text = strdup(text)};
    lade_events_put(&e->events, &ev);
    while (e->first) {
        struct lade_request *r = e->first;
        e->first = r->next;
        ev = (struct lade_event){.kind = LADE_EV_FAILED,
                                 .request = r->number,
                                 .text = strdup("no model is loaded: the load failed; see above")};
        lade_events_put(&e->events, &ev);
        free_request(r);
    }
    e->last = NULL;
    pthread_mutex_unlock(&e->lock);
}

/* ---- the thread ---- */

/* Seconds of quiet after which we look whether others have claimed memory. */
static const double QUIET = 0.5;

/* Waits for the next request; NULL when the engine stops. */
static struct lade_request *next_request(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->running = 0;
    while (!e->stop && !e->first && !e->broken) {
        if (!e->strategy && lade_cond_wait(&e->wake, &e->lock, QUIET))
            continue;
        if (!e->worker->between)
            continue;
        pthread_mutex_unlock(&e->lock);
        e->worker->between(e);
        pthread_mutex_lock(&e->lock);
    }
    struct lade_request *r = e->stop || e->broken ? NULL : e->first;
    if (r) {
        e->first = r->next;
        if (!e->first)
            e->last = NULL;
        e->running = r->number;
        atomic_store(&e->cancel_answer, false);
    }
    pthread_mutex_unlock(&e->lock);
    return r;
}

static void *run(void *arg)
{
    struct lade_engine *e = arg;
    char err[LADE_ERR] = "";
    if (e->worker->open(e, err)) {
        if (!e->broken)
            lade_worker_broken(e, err);
    } else {
        struct lade_request *r;
        while ((r = next_request(e))) {
            e->worker->answer(e, r);
            free_request(r);
        }
    }
    e->worker->close(e);
    struct lade_event ev = {.kind = LADE_EV_ENDED};
    pthread_mutex_lock(&e->lock);
    e->stats.ended = true;
    lade_events_put(&e->events, &ev);
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- calls of the UI thread ---- */

static void free_options(struct lade_options *opt)
{
    free((char *)opt->model);
    free((char *)opt->strategy);
    free((char *)opt->isa);
    free((char *)opt->plugin);
    free((char *)opt->cache_dir);
    free((char *)opt->timelines);
    free((char *)opt->key);
}

/* Copies a text; false without memory. */
static bool copy_text(const char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

static int copy_options(struct lade_options *to, const struct lade_options *from)
{
    *to = *from;
    to->no_draft |= to->exact; /* the last bits of a product depend on how many rows it has */
    bool copied = copy_text(&to->model, from->model);
    copied &= copy_text(&to->strategy, from->strategy);
    copied &= copy_text(&to->isa, from->isa);
    copied &= copy_text(&to->plugin, from->plugin);
    copied &= copy_text(&to->cache_dir, from->cache_dir);
    copied &= copy_text(&to->timelines, from->timelines);
    copied &= copy_text(&to->key, from->key);
    return copied ? 0 : -1;
}

static void free_engine(struct lade_engine *e)
{
    while (e->first) {
        struct lade_request *r = e->first;
        e->first = r->next;
        free_request(r);
    }
    lade_events_close(&e->events);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    free_options(&e->opt);
    free(e->strategy);
    free(e);
}

int lade_engine_start(struct lade_engine **out, const struct lade_options *opt, char *err)
{
    struct lade_engine *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return lade_fail(err, "engine: out of memory; close other programs");
    e->worker = lade_remote_is(opt->model) ? &lade_worker_remote : &lade_worker_local;
    e->load_started = lade_now();
    e->stats.loading = true;
    pthread_mutex_init(&e->lock, NULL);
    lade_cond_init(&e->wake);
    int failed = lade_events_open(&e->events, err);
    if (!failed && copy_options(&e->opt, opt))
        failed = lade_fail(err, "engine: out of memory; close other programs");
    if (!failed && pthread_create(&e->thread, NULL, run, e))
        failed = lade_fail(err, "engine: cannot start a thread; close other programs");
    if (failed) {
        free_engine(e);
        return -1;
    }
    *out = e;
    return 0;
}

void lade_engine_end(struct lade_engine *e, int64_t of)
{
    pthread_mutex_lock(&e->lock);
    if (!e->stop)
        e->of = of;
    e->stop = true;
    atomic_store(&e->cancel_load, true);
    atomic_store(&e->cancel_answer, true);
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void lade_engine_stop(struct lade_engine *e)
{
    if (!e)
        return;
    lade_engine_end(e, 0);
    pthread_join(e->thread, NULL);
    free_engine(e);
}

int lade_engine_fd(const struct lade_engine *e)
{
    return e->events.wake[0];
}

bool lade_engine_next(struct lade_engine *e, struct lade_event *ev)
{
    pthread_mutex_lock(&e->lock);
    bool any = lade_events_take(&e->events, ev);
    pthread_mutex_unlock(&e->lock);
    return any;
}

int lade_engine_ask(struct lade_engine *e, const struct lade_message *messages, size_t n,
                    const struct lade_sampling *sampling, int max_tokens, bool think, char *err)
{
    struct lade_request *r = copy_request(messages, n);
    if (!r)
        return lade_fail(err, "message: out of memory; close other programs");
    r->sampling = *sampling;
    r->max_tokens = max_tokens;
    r->think = think;
    r->asked_at = lade_now();
    pthread_mutex_lock(&e->lock);
    int number = -1;
    if (e->stats.phase == LADE_PHASE_FAILED) {
        lade_fail(err, "no model is loaded: the load failed; open another with -m");
        free_request(r);
    } else {
        number = r->number = ++e->last_number;
        if (e->last)
            e->last->next = r;
        else
            e->first = r;
        e->last = r;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return number;
}

void lade_engine_cancel(struct lade_engine *e, int request)
{
    pthread_mutex_lock(&e->lock);
    if (e->running && (!request || e->running == request))
        atomic_store(&e->cancel_answer, true);
    e->last = NULL;
    for (struct lade_request **at = &e->first, *r; (r = *at);) {
        if (request && r->number != request) {
            e->last = r;
            at = &r->next;
            continue;
        }
        struct lade_event ev = {
            .kind = LADE_EV_DONE, .request = r->number, .result = {.stop = LADE_STOP_CANCELLED}};
        *at = r->next;
        lade_events_put(&e->events, &ev);
        free_request(r);
    }
    pthread_mutex_unlock(&e->lock);
}

void lade_engine_forget(struct lade_engine *e)
{
    atomic_store(&e->forget, true);
}

void lade_engine_cancel_load(struct lade_engine *e)
{
    atomic_store(&e->cancel_load, true);
}

int lade_engine_strategy(struct lade_engine *e, const char *name, char *err)
{
    char *copy = e->worker->between ? strdup(name) : NULL;
    if (!e->worker->between)
        return lade_fail(
            err,
            "%.40s: the model runs behind a server, which decides where it lives; open a "
            "checkpoint with -m",
            name);
    if (!copy)
        return lade_fail(err, "--strategy %s: out of memory; close other programs", name);
    pthread_mutex_lock(&e->lock);
    bool failed = e->stats.phase == LADE_PHASE_FAILED;
    char *unused = copy;
    if (!failed) {
        unused = e->strategy;
        e->strategy = copy;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    free(unused);
    return failed ? lade_fail(err, "no model is loaded: the load failed; open another with -m") : 0;
}

void lade_engine_stats(struct lade_engine *e, struct lade_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    if (out->loading)
        out->load_s = lade_now() - e->load_started;
    pthread_mutex_unlock(&e->lock);
    lade_machine_rss(&out->rss, &out->rss_peak);
}

bool lade_engine_info(struct lade_engine *e, struct lade_model_info *out)
{
    pthread_mutex_lock(&e->lock);
    bool has = e->has_info;
    if (has)
        *out = e->info;
    pthread_mutex_unlock(&e->lock);
    return has;
}

bool lade_engine_plan(struct lade_engine *e, struct lade_plan *out)
{
    pthread_mutex_lock(&e->lock);
    bool has = e->has_info;
    if (has)
        *out = e->plan;
    pthread_mutex_unlock(&e->lock);
    return has;
}
