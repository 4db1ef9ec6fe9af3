/* fake_engine.c - an engine that plays a script, for tests of the screen.
 *
 * It defines the functions of engine/engine.h that the screen calls, and is linked before the
 * engine's library into $(BUILD)/lade-fake: the same program with a scripted model instead of a
 * real one, so that what the screen shows is the same at every run. It computes nothing. The model
 * given with -m is the script: fake_script.h. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/fake_script.h"

enum { PENDING = 64 };

struct lade_engine {
    struct lade_model_info info; /* the script's, but for the strategy */
    struct lade_stats stats;
    struct fake_script script;
    int next_reply;

    pthread_t thread, loader;
    pthread_mutex_t lock;
    int pipe[2];
    struct lade_event *events;
    size_t n, cap, taken;
    int requests[PENDING], n_requests, last_request;
    bool stop, cancel, have_info, can_answer, failed;
};

static void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- the thread ------------------------------------------------------------------------------- */

/* Takes ownership of ev.text. */
static void put(struct lade_engine *e, struct lade_event ev)
{
    pthread_mutex_lock(&e->lock);
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 64;
        e->events = realloc(e->events, e->cap * sizeof *e->events);
    }
    e->events[e->n++] = ev;
    pthread_mutex_unlock(&e->lock);
    if (write(e->pipe[1], "", 1) < 0)
        abort();
}

static bool stopped(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool yes = e->stop;
    pthread_mutex_unlock(&e->lock);
    return yes;
}

static bool cancelled(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool yes = e->cancel || e->stop;
    pthread_mutex_unlock(&e->lock);
    return yes;
}

static void phase(struct lade_engine *e, enum lade_phase p)
{
    pthread_mutex_lock(&e->lock);
    e->stats.phase = p;
    pthread_mutex_unlock(&e->lock);
}

/* Answers are given from now on. */
static void begin_answers(struct lade_engine *e, double began)
{
    pthread_mutex_lock(&e->lock);
    bool already = e->can_answer;
    e->can_answer = true;
    if (!already)
        e->stats.phase = LADE_PHASE_IDLE;
    pthread_mutex_unlock(&e->lock);
    if (!already)
        put(e, (struct lade_event){.kind = LADE_EV_USABLE, .seconds = now() - began});
}

/* One step of the load: three shards are read at once, as the real loader's threads do. */
static uint64_t load_step(struct lade_engine *e, uint64_t *done, uint64_t all, uint64_t step)
{
    int first = 0;
    while (first < e->info.n_shards && done[first] == e->info.shards[first].bytes)
        first++;
    for (int i = first; i < e->info.n_shards && i < first + 3; i++) {
        uint64_t n = e->info.shards[i].bytes - done[i], share = step / (3 - (unsigned)(i - first));
        n = n < share ? n : share;
        done[i] += n;
        all += n;
        put(e, (struct lade_event){.kind = LADE_EV_SHARD,
                                   .shard = i,
                                   .n_shards = e->info.n_shards,
                                   .shard_done = done[i],
                                   .shard_bytes = e->info.shards[i].bytes,
                                   .done_bytes = all,
                                   .total_bytes = e->info.bytes});
    }
    return all;
}

enum { EXPERT = 1622016 };

static void fill(struct lade_residence *r, int room, double home)
{
    *r = (struct lade_residence){(uint64_t)(room * home), (uint64_t)room, (uint64_t)room * EXPERT};
}

static void *load(void *arg)
{
    struct lade_engine *e = arg;
    uint64_t done[256] = {0}, all = 0;
    const double began = now(), step = 0.02, bytes = (double)e->info.bytes;
    while (all < e->info.bytes && (double)all < e->script.hold * bytes && !stopped(e)) {
        nap(step);
        all = load_step(e, done, all, (uint64_t)(e->script.speed * 1e9 * step));
        pthread_mutex_lock(&e->lock);
        e->stats.load_done = e->stats.weights = all;
        fill(&e->stats.in_vram, e->script.room[LADE_VRAM], (double)all / bytes);
        fill(&e->stats.in_ram, e->script.room[LADE_RAM], (double)all / bytes);
        e->stats.load_s = now() - began;
        e->stats.load_gbps = e->script.speed;
        pthread_mutex_unlock(&e->lock);
        if ((double)all >= e->script.usable * bytes)
            begin_answers(e, began);
    }
    while (all < e->info.bytes && !e->script.fail && !stopped(e))
        nap(0.05);
    if (e->script.fail) {
        pthread_mutex_lock(&e->lock);
        e->failed = true;
        e->stats.phase = LADE_PHASE_FAILED;
        pthread_mutex_unlock(&e->lock);
        put(e, (struct lade_event){.kind = LADE_EV_FAILED, .text = strdup(e->script.fail)});
    } else if (!stopped(e)) {
        begin_answers(e, began);
        pthread_mutex_lock(&e->lock);
        e->stats.loading = false;
        pthread_mutex_unlock(&e->lock);
        put(e, (struct lade_event){.kind = LADE_EV_READY, .seconds = now() - began});
    }
    return NULL;
}

/* Length of the next token of s. */
static size_t token(const char *s)
{
    size_t n = (unsigned char)*s < 0x80 ? strnlen(s, 4) : 1;
    while (((unsigned char)s[n] & 0xc0) == 0x80)
        n++;
    return n;
}

/* True if the line at s holds the stream up: "pause" or "gate NAME". */
static bool is_stop(const char *s)
{
    return strncmp(s, "pause\n", 6) == 0 || strcmp(s, "pause") == 0 || strncmp(s, "gate ", 5) == 0;
}

/* Waits as that line says; the text goes on after it. */
static const char *wait_at(struct lade_engine *e, const char *s)
{
    const char *end = s + strcspn(s, "\n"), *home = getenv("LADE_HOME");
    char path[4096] = "";
    if (*s == 'g')
        snprintf(path, sizeof path, "%s/%.*s", home ? home : ".", (int)(end - s - 5), s + 5);
    while (!cancelled(e) && (!*path || access(path, F_OK) != 0))
        nap(0.02);
    return *end ? end + 1 : end;
}

/* Counts a token, and where its experts were: what is not loaded yet is on the drive. Returns its
 * tokens per second. */
static double count_token(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct lade_traffic *t = &e->stats.token, *all = &e->stats.traffic;
    double home = e->info.bytes ? (double)e->stats.load_done / (double)e->info.bytes : 1;
    int vram = (int)(e->script.found[LADE_VRAM] * home),
        ram = (int)(e->script.found[LADE_RAM] * home);
    int drive = e->script.found[LADE_VRAM] + e->script.found[LADE_RAM] +
                e->script.found[LADE_DRIVE] - vram - ram;
    double rate = e->script.rate * (0.1 + 0.9 * home);
    *t = (struct lade_traffic){
        .tokens = 1,
        .vram_hits = (uint64_t)vram,
        .ram_hits = (uint64_t)ram,
        .disk_reads = (uint64_t)drive,
        .vram_bytes = (uint64_t)vram * EXPERT,
        .ram_bytes = (uint64_t)ram * EXPERT,
        .disk_bytes = (uint64_t)drive * EXPERT,
        .wait_s = e->script.wait_s + e->script.compute_s * (1 / (0.1 + 0.9 * home) - 1),
        .compute_s = e->script.compute_s,
    };
    all->tokens++;
    all->vram_hits += t->vram_hits;
    all->ram_hits += t->ram_hits;
    all->disk_reads += t->disk_reads;
    all->vram_bytes += t->vram_bytes;
    all->ram_bytes += t->ram_bytes;
    all->disk_bytes += t->disk_bytes;
    all->wait_s += t->wait_s;
    all->compute_s += t->compute_s;
    e->stats.context_used++;
    e->stats.decode_tps = rate;
    pthread_mutex_unlock(&e->lock);
    return rate;
}

/* Streams a text; false if it was cancelled. */
static bool stream(struct lade_engine *e, int request, const char *s, bool reasoning, int *tokens)
{
    for (bool line_start = true; *s;) {
        if (line_start && is_stop(s)) {
            s = wait_at(e, s);
            continue;
        }
        if (cancelled(e))
            return false;
        size_t n = token(s);
        for (size_t i = 1; i < n; i++)
            if (s[i - 1] == '\n' && is_stop(s + i))
                n = i;
        line_start = s[n - 1] == '\n';
        put(e, (struct lade_event){.kind = LADE_EV_TEXT,
                                   .request = request,
                                   .text = strndup(s, n),
                                   .reasoning = reasoning});
        s += n;
        ++*tokens;
        nap(1 / count_token(e));
    }
    return !cancelled(e);
}

static void reply(struct lade_engine *e, int request)
{
    struct fake_reply none = {.text = (char *)"The script has no answer."};
    struct fake_reply *r =
        e->script.n_replies ? &e->script.replies[e->next_reply++ % e->script.n_replies] : &none;
    struct lade_event done = {.kind = LADE_EV_DONE, .request = request};
    phase(e, LADE_PHASE_PREFILL);
    bool ok = true;
    for (int i = 1; i <= 10 && ok; i++) {
        nap(e->script.prefill_s / 10);
        ok = !cancelled(e);
        put(e, (struct lade_event){.kind = LADE_EV_PREFILL,
                                   .request = request,
                                   .done = e->script.prefill * i / 10,
                                   .total = e->script.prefill});
    }
    phase(e, LADE_PHASE_DECODE);
    pthread_mutex_lock(&e->lock);
    e->stats.context_used += e->script.prefill;
    pthread_mutex_unlock(&e->lock);
    int tokens = 0;
    if (ok && r->error) {
        done.kind = LADE_EV_FAILED;
        done.text = strdup(r->text);
        done.result.stop = LADE_STOP_ERROR;
    } else {
        ok = ok && (!r->think || stream(e, request, r->think, true, &tokens)) &&
             stream(e, request, r->text, false, &tokens);
        done.result.stop = ok ? LADE_STOP_END : LADE_STOP_CANCELLED;
    }
    done.result.prompt_tokens = e->script.prefill;
    done.result.tokens = tokens;
    done.result.ttft_s = e->script.prefill_s;
    done.result.prefill_tps = e->script.prefill_s > 0 ? e->script.prefill / e->script.prefill_s : 0;
    done.result.decode_tps = e->script.rate;
    phase(e, LADE_PHASE_IDLE);
    put(e, done);
}

static bool waits_for_load(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    bool waits = !e->can_answer && !e->failed && !e->stop;
    pthread_mutex_unlock(&e->lock);
    return waits;
}

static void *run(void *arg)
{
    struct lade_engine *e = arg;
    pthread_mutex_lock(&e->lock);
    e->have_info = e->info.n_shards > 0;
    e->stats.loading = true;
    e->stats.load_bytes = e->info.bytes;
    pthread_mutex_unlock(&e->lock);
    if (e->have_info)
        put(e, (struct lade_event){.kind = LADE_EV_MODEL, .n_shards = e->info.n_shards});
    if (e->script.noise)
        fprintf(stderr, "%s\n", e->script.noise);
    pthread_create(&e->loader, NULL, load, e);
    while (waits_for_load(e))
        nap(0.01);
    while (!stopped(e)) {
        int request = 0;
        pthread_mutex_lock(&e->lock);
        if (e->n_requests) {
            request = e->requests[0];
            memmove(e->requests, e->requests + 1, (size_t)--e->n_requests * sizeof(int));
            e->cancel = false;
        }
        pthread_mutex_unlock(&e->lock);
        if (request)
            reply(e, request);
        else
            nap(0.01);
    }
    pthread_join(e->loader, NULL);
    return NULL;
}

/* ---- engine.h --------------------------------------------------------------------------------- */

int lade_engine_start(struct lade_engine **out, const struct lade_options *opt, char *err)
{
    struct lade_engine *e = calloc(1, sizeof *e);
    if (!e || pipe(e->pipe) != 0 || fake_script_read(&e->script, opt->model, err) != 0) {
        free(e);
        return -1;
    }
    e->info = e->script.info;
    snprintf(e->info.path, sizeof e->info.path, "%s", opt->model);
    e->stats.context_size = e->info.max_context;
    pthread_mutex_init(&e->lock, NULL);
    pthread_create(&e->thread, NULL, run, e);
    *out = e;
    return 0;
}

void lade_engine_end(struct lade_engine *e, int64_t of)
{
    (void)of;
    struct lade_event ev = {.kind = LADE_EV_ENDED};
    pthread_mutex_lock(&e->lock);
    e->stop = e->stats.ended = true;
    pthread_mutex_unlock(&e->lock);
    put(e, ev);
}

void lade_engine_stop(struct lade_engine *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    for (size_t i = e->taken; i < e->n; i++)
        free(e->events[i].text);
    free(e->events);
    fake_script_free(&e->script);
    close(e->pipe[0]);
    close(e->pipe[1]);
    free(e);
}

int lade_engine_fd(const struct lade_engine *e)
{
    return e->pipe[0];
}

bool lade_engine_next(struct lade_engine *e, struct lade_event *ev)
{
    char byte;
    pthread_mutex_lock(&e->lock);
    bool any = e->taken < e->n;
    if (any)
        *ev = e->events[e->taken++];
    else
        e->taken = e->n = 0;
    pthread_mutex_unlock(&e->lock);
    if (any && read(e->pipe[0], &byte, 1) < 0)
        abort();
    return any;
}

void lade_event_clear(struct lade_event *ev)
{
    free(ev->text);
    ev->text = NULL;
}

int lade_engine_ask(struct lade_engine *e, const struct lade_message *messages, size_t n,
                    const struct lade_sampling *sampling, int max_tokens, bool think, char *err)
{
    (void)messages;
    (void)n;
    (void)sampling;
    (void)max_tokens;
    (void)think;
    pthread_mutex_lock(&e->lock);
    int request = e->n_requests < PENDING ? ++e->last_request : -1;
    if (request > 0)
        e->requests[e->n_requests++] = request;
    pthread_mutex_unlock(&e->lock);
    return request > 0 ? request : lade_fail(err, "engine: too many requests; wait");
}

void lade_engine_cancel(struct lade_engine *e, int request)
{
    (void)request; /* of a screen, which has one at a time */
    int dropped[PENDING], n;
    pthread_mutex_lock(&e->lock);
    e->cancel = true;
    n = e->n_requests;
    memcpy(dropped, e->requests, (size_t)n * sizeof *dropped);
    e->n_requests = 0;
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < n; i++)
        put(e, (struct lade_event){.kind = LADE_EV_DONE,
                                   .request = dropped[i],
                                   .result = {.stop = LADE_STOP_CANCELLED}});
}

void lade_engine_forget(struct lade_engine *e)
{
    (void)e; /* keeps nothing */
}

void lade_engine_cancel_load(struct lade_engine *e)
{
    lade_engine_cancel(e, 0);
}

void lade_engine_stats(struct lade_engine *e, struct lade_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
}

bool lade_engine_info(struct lade_engine *e, struct lade_model_info *out)
{
    pthread_mutex_lock(&e->lock);
    bool have = e->have_info;
    if (have)
        *out = e->info;
    pthread_mutex_unlock(&e->lock);
    return have;
}

bool lade_engine_plan(struct lade_engine *e, struct lade_plan *out)
{
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    const double gib = 1024.0 * 1024 * 1024;
    lade_plan_model_80b(&model);
    lade_plan_machine_typical(&machine, (uint64_t)(e->script.vram * gib),
                              (uint64_t)(e->script.ram * gib), LADE_STORAGE_NVME);
    pthread_mutex_lock(&e->lock);
    bool known = e->have_info && !lade_plan(out, &model, &machine, e->info.strategy, 0, NULL);
    pthread_mutex_unlock(&e->lock);
    return known;
}

/* Takes effect at once, if the machine of the script allows it. */
int lade_engine_strategy(struct lade_engine *e, const char *name, char *err)
{
    struct lade_plan_model model;
    struct lade_plan plan;
    struct lade_event ev = {.kind = LADE_EV_STRATEGY};
    char why[LADE_ERR];
    if (e->failed)
        return lade_fail(err, "no model is loaded: the load failed; open another with -m");
    lade_engine_plan(e, &plan);
    lade_plan_model_80b(&model);
    if (lade_plan(&plan, &model, &plan.machine, name, 0, why)) {
        ev.text = strdup(why);
    } else {
        pthread_mutex_lock(&e->lock);
        snprintf(e->info.strategy, sizeof e->info.strategy, "%s",
                 plan.rows[plan.chosen].strategy->name);
        pthread_mutex_unlock(&e->lock);
    }
    put(e, ev);
    return 0;
}
