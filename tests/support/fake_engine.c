/* fake_engine.c - an engine that plays a script, for tests of the screen.
 *
 * It defines the functions of engine/engine.h that the screen calls, and is linked before the
 * engine's library into $(BUILD)/lade-fake: the same program with a scripted model instead of a
 * real one, so that what the screen shows is the same at every run. It computes nothing. The model
 * given with -m is the script, a text file:
 *
 *     name NAME            strategy NAME        device TEXT       thinking
 *     shard NAME BYTES     (one line each)      speed GB/s        context TOKENS
 *     hold FRACTION        the load stops there and waits for ever
 *     fail TEXT            the load fails with this line when it gets to `hold` or the end
 *     prefill TOKENS SECONDS                    rate TOKENS/S
 *     stderr TEXT          printed there while loading, as libraries do
 *     think / answer / error                    blocks of text up to a line "."
 *     pause                (inside a block) waits there until cancelled
 *     gate NAME            (inside a block) waits there until $LADE_HOME/NAME exists, or cancelled
 *
 * Each `answer` or `error` block, with the `think` before it, is one reply; replies repeat from the
 * first when they run out. A token is four bytes or a whole character. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"

enum { REPLIES = 32, PENDING = 64 };

struct reply {
    char *think, *text;
    bool error;
};

struct lade_engine {
    struct lade_model_info info;
    struct lade_stats stats;
    double speed, hold, rate, prefill_s;
    int prefill;
    char *fail, *noise;
    struct reply replies[REPLIES];
    int n_replies, next_reply;

    pthread_t thread;
    pthread_mutex_t lock;
    int pipe[2];
    struct lade_event *events;
    size_t n, cap, taken;
    int requests[PENDING], n_requests, last_request;
    bool stop, cancel, have_info;
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

/* ---- the script ------------------------------------------------------------------------------- */

static char *block(FILE *f)
{
    char *all = strdup(""), *line = NULL;
    size_t n = 0, cap = 0;
    for (ssize_t len; (len = getline(&line, &cap, f)) > 0 && strcmp(line, ".\n") != 0;) {
        all = realloc(all, n + (size_t)len + 1);
        memcpy(all + n, line, (size_t)len + 1);
        n += (size_t)len;
    }
    if (n)
        all[n - 1] = '\0';
    free(line);
    return all;
}

static void directive(struct lade_engine *e, FILE *f, char *line)
{
    char *rest = line + strcspn(line, " \n");
    if (*rest)
        *rest++ = '\0';
    rest[strcspn(rest, "\n")] = '\0';
    struct reply *r = &e->replies[e->n_replies];
    if (!strcmp(line, "name"))
        snprintf(e->info.name, sizeof e->info.name, "%s", rest);
    else if (!strcmp(line, "strategy"))
        snprintf(e->info.strategy, sizeof e->info.strategy, "%s", rest);
    else if (!strcmp(line, "device"))
        snprintf(e->info.device, sizeof e->info.device, "%s", rest);
    else if (!strcmp(line, "thinking"))
        e->info.thinking = true;
    else if (!strcmp(line, "context"))
        e->info.max_context = e->stats.context_size = atoi(rest);
    else if (!strcmp(line, "speed"))
        e->speed = strtod(rest, NULL);
    else if (!strcmp(line, "rate"))
        e->rate = strtod(rest, NULL);
    else if (!strcmp(line, "hold"))
        e->hold = strtod(rest, NULL);
    else if (!strcmp(line, "stderr"))
        e->noise = strdup(rest);
    else if (!strcmp(line, "fail"))
        e->fail = strdup(rest);
    else if (!strcmp(line, "prefill"))
        sscanf(rest, "%d %lf", &e->prefill, &e->prefill_s);
    else if (!strcmp(line, "shard") && e->info.n_shards < 256) {
        unsigned long long bytes = 0;
        sscanf(rest, "%127s %llu", e->info.shards[e->info.n_shards].name, &bytes);
        e->info.shards[e->info.n_shards++].bytes = bytes;
        e->info.bytes += bytes;
    } else if (e->n_replies < REPLIES - 1 && !strcmp(line, "think")) {
        r->think = block(f);
    } else if (e->n_replies < REPLIES - 1 && (!strcmp(line, "answer") || !strcmp(line, "error"))) {
        r->error = *line == 'e';
        r->text = block(f);
        e->n_replies++;
    }
}

static int read_script(struct lade_engine *e, const char *path, char *err)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return lade_fail(err, "%s: %s; name a script", path, strerror(errno));
    snprintf(e->info.path, sizeof e->info.path, "%s", path);
    snprintf(e->info.format, sizeof e->info.format, "safetensors");
    snprintf(e->info.quant, sizeof e->info.quant, "int4 mixed");
    e->info.layers = 48;
    e->info.experts = 512;
    e->info.experts_used = 10;
    e->info.hidden = 2048;
    e->info.vocab = 151936;
    e->info.sampling = (struct lade_sampling){0.7f, 20, 0.8f, 0, 1, 0};
    e->hold = 2;
    e->speed = e->rate = 1000;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0)
        directive(e, f, line);
    free(line);
    fclose(f);
    return 0;
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

/* Three shards are read at once, as the real loader's threads do. */
static bool load(struct lade_engine *e)
{
    uint64_t done[256] = {0}, all = 0;
    double began = now(), step = 0.02;
    int first = 0;
    e->stats.load_bytes = e->info.bytes;
    while (all < e->info.bytes && (double)all < e->hold * (double)e->info.bytes && !stopped(e)) {
        nap(step);
        uint64_t left = (uint64_t)(e->speed * 1e9 * step);
        for (int i = first; i < e->info.n_shards && i < first + 3; i++) {
            uint64_t n = e->info.shards[i].bytes - done[i], share = left / (3 - (i - first));
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
        while (first < e->info.n_shards && done[first] == e->info.shards[first].bytes)
            first++;
        pthread_mutex_lock(&e->lock);
        e->stats.load_done = all;
        e->stats.weights = all;
        e->stats.load_s = now() - began;
        e->stats.load_gbps = e->speed;
        pthread_mutex_unlock(&e->lock);
    }
    while (all < e->info.bytes && !e->fail && !stopped(e))
        nap(0.05);
    return !e->fail;
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
        pthread_mutex_lock(&e->lock);
        e->stats.context_used++;
        e->stats.decode_tps = e->rate;
        pthread_mutex_unlock(&e->lock);
        nap(1 / e->rate);
    }
    return !cancelled(e);
}

static void phase(struct lade_engine *e, enum lade_phase p)
{
    pthread_mutex_lock(&e->lock);
    e->stats.phase = p;
    pthread_mutex_unlock(&e->lock);
}

static void reply(struct lade_engine *e, int request)
{
    struct reply none = {.text = (char *)"The script has no answer."};
    struct reply *r = e->n_replies ? &e->replies[e->next_reply++ % e->n_replies] : &none;
    struct lade_event done = {.kind = LADE_EV_DONE, .request = request};
    phase(e, LADE_PHASE_PREFILL);
    bool ok = true;
    for (int i = 1; i <= 10 && ok; i++) {
        nap(e->prefill_s / 10);
        ok = !cancelled(e);
        put(e, (struct lade_event){.kind = LADE_EV_PREFILL,
                                   .request = request,
                                   .done = e->prefill * i / 10,
                                   .total = e->prefill});
    }
    phase(e, LADE_PHASE_DECODE);
    pthread_mutex_lock(&e->lock);
    e->stats.context_used += e->prefill;
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
    done.result.prompt_tokens = e->prefill;
    done.result.tokens = tokens;
    done.result.ttft_s = e->prefill_s;
    done.result.prefill_tps = e->prefill_s > 0 ? e->prefill / e->prefill_s : 0;
    done.result.decode_tps = e->rate;
    phase(e, LADE_PHASE_IDLE);
    put(e, done);
}

static void *run(void *arg)
{
    struct lade_engine *e = arg;
    double began = now();
    pthread_mutex_lock(&e->lock);
    e->have_info = e->info.n_shards > 0;
    pthread_mutex_unlock(&e->lock);
    if (e->have_info)
        put(e, (struct lade_event){.kind = LADE_EV_MODEL, .n_shards = e->info.n_shards});
    if (e->noise)
        fprintf(stderr, "%s\n", e->noise);
    if (!load(e)) {
        phase(e, LADE_PHASE_FAILED);
        put(e, (struct lade_event){.kind = LADE_EV_FAILED, .text = strdup(e->fail)});
        return NULL;
    }
    phase(e, LADE_PHASE_IDLE);
    if (!stopped(e)) {
        put(e, (struct lade_event){.kind = LADE_EV_USABLE, .seconds = now() - began});
        put(e, (struct lade_event){.kind = LADE_EV_READY, .seconds = now() - began});
    }
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
    return NULL;
}

/* ---- engine.h --------------------------------------------------------------------------------- */

int lade_engine_start(struct lade_engine **out, const struct lade_options *opt, char *err)
{
    struct lade_engine *e = calloc(1, sizeof *e);
    if (!e || pipe(e->pipe) != 0 || read_script(e, opt->model, err) != 0) {
        free(e);
        return -1;
    }
    pthread_mutex_init(&e->lock, NULL);
    pthread_create(&e->thread, NULL, run, e);
    *out = e;
    return 0;
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
    for (int i = 0; i <= e->n_replies; i++) {
        free(e->replies[i].think);
        free(e->replies[i].text);
    }
    free(e->events);
    free(e->fail);
    free(e->noise);
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

void lade_engine_cancel(struct lade_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->cancel = true;
    pthread_mutex_unlock(&e->lock);
}

void lade_engine_cancel_load(struct lade_engine *e)
{
    lade_engine_cancel(e);
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

/* Every name is taken; the plan is the one of a typical machine. */
int lade_engine_strategy(struct lade_engine *e, const char *name, char *err)
{
    (void)err;
    pthread_mutex_lock(&e->lock);
    snprintf(e->info.strategy, sizeof e->info.strategy, "%s", name);
    pthread_mutex_unlock(&e->lock);
    put(e, (struct lade_event){.kind = LADE_EV_STRATEGY});
    return 0;
}

bool lade_engine_plan(struct lade_engine *e, struct lade_plan *out)
{
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    (void)e;
    lade_plan_model_80b(&model);
    lade_plan_machine_typical(&machine, 0, (uint64_t)64 << 30, LADE_STORAGE_NVME);
    return lade_plan(out, &model, &machine, NULL, 0, NULL) == 0;
}
