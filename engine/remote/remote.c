/* remote.c - the engine's thread where a server has the model: waits for it, asks which models it has,
 * sends conversations, and tells what comes back. */
#include "engine/remote/remote.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/scan.h"
#include "engine/remote/ask.h"
#include "engine/remote/http.h"
#include "engine/remote/reply.h"
#include "engine/remote/sse.h"
#include "engine/remote/think.h"

struct lade_remote {
    struct lade_remote_http http;
    struct lade_reply_model model;
    int context_used;  /* tokens of the last prompt and its answer */
    size_t n_messages; /* that it had */
};

/* ---- the server and its models ---------------------------------------------------------------- */

/* False where it was cancelled. */
static bool rest(const struct lade_engine *e)
{
    enum { LOOKS = 5 };
    for (int i = 0; i < LOOKS && !atomic_load(&e->cancel_load); i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    return !atomic_load(&e->cancel_load);
}

static void tell_waiting(struct lade_engine *e, const char *what, double share)
{
    struct lade_event ev = {.kind = LADE_EV_WAITING};
    char done[32] = "";
    if (share >= 0)
        snprintf(done, sizeof done, " (%.0f%%)", 100 * share);
    if (asprintf(&ev.text, "%s %s%s", e->remote->http.address.host, what, done) >= 0)
        lade_worker_emit(e, &ev);
}

/* GETs a text. A server that says 503 is waited for. */
static int get(struct lade_engine *e, const char *base, const char *path,
               struct lade_remote_call *c, char *err)
{
    struct lade_remote_http *h = &e->remote->http;
    double told = -2;
    for (;;) {
        *c = (struct lade_remote_call){.base = base, .path = path, .cancel = &e->cancel_load};
        lade_remote_call(h, c);
        if (c->rc || c->status != 503)
            break;
        double share = lade_reply_progress(c->text.at ? c->text.at : "", c->text.n);
        lade_remote_end(c);
        if (share != told)
            tell_waiting(e, "is still loading its model", share);
        told = share;
        if (!rest(e))
            c->cancelled = true;
        if (c->cancelled)
            break;
    }
    if (!c->cancelled)
        return 0;
    lade_remote_end(c);
    return lade_fail(err, "%.100s: cancelled; open it again", h->address.host);
}

/* "a, b, c" as far as it fits. */
static void list_names(const struct lade_reply_model *m, int n, char *out, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < n && used < size; i++) {
        char name[64];
        lade_printable(name, sizeof name, m[i].name, strlen(m[i].name));
        int k = snprintf(out + used, size - used, "%s%s", i ? ", " : "", name);
        used += k > 0 ? (size_t)k : 0;
    }
}

static int choose(struct lade_remote *s, const struct lade_reply_model *m, int n, char *err)
{
    enum { SHOWN = 16 };
    const struct lade_remote_address *a = &s->http.address;
    char names[256] = "";
    const struct lade_reply_model *found = n == 1 && !*a->name ? m : NULL;
    for (int i = 0; i < n && !found; i++)
        found = !strcmp(m[i].name, a->name) ? &m[i] : NULL;
    if (found) {
        s->model = *found;
        return 0;
    }
    list_names(m, n < SHOWN ? n : SHOWN, names, sizeof names);
    if (*a->name)
        return lade_fail(err, "%.100s: has no model %.64s; it has %s", a->host, a->name,
                         n ? names : "none");
    if (!n)
        return lade_fail(err, "%.100s: has no model; have it load one", a->host);
    return lade_fail(err, "%.100s: has %d models; choose one with #NAME at the end of -m: %s",
                     a->host, n, names);
}

/* Asks for the models. A server without such a list is believed that it has the one that was named. */
static int find_model(struct lade_engine *e, char *err)
{
    enum { MOST = 256 };
    struct lade_remote *s = e->remote;
    struct lade_remote_call c;
    tell_waiting(e, "is asked for its models", -1);
    if (get(e, s->http.address.root, "/health", &c, err))
        return -1;
    lade_remote_end(&c);
    if (c.rc)
        return lade_remote_failure(&s->http, &c, err);
    if (get(e, s->http.address.base, "/models", &c, err))
        return -1;
    struct lade_reply_model *m = calloc(MOST, sizeof *m);
    int n = -1, rc = 0;
    if (m && !c.rc && c.status == 200)
        n = lade_reply_models(m, MOST, c.text.at ? c.text.at : "", c.text.n);
    if (n >= 0)
        rc = choose(s, m, n < MOST ? n : MOST, err);
    else if (!c.rc && c.status == 404 && *s->http.address.name)
        snprintf(s->model.name, sizeof s->model.name, "%s", s->http.address.name);
    else
        rc = lade_remote_failure(&s->http, &c, err);
    free(m);
    lade_remote_end(&c);
    return rc;
}

static void describe(struct lade_engine *e)
{
    const struct lade_remote *s = e->remote;
    const struct lade_remote_address *a = &s->http.address;
    const struct lade_reply_model *m = &s->model;
    struct lade_model_info *info = calloc(1, sizeof *info);
    if (!info)
        return;
    const char *base = m->name[0] == '/' ? strrchr(m->name, '/') + 1 : m->name;
    lade_printable(info->name, sizeof info->name, base, strlen(base));
    snprintf(info->path, sizeof info->path, "%s%s%s", a->base, *a->name ? "#" : "", a->name);
    snprintf(info->format, sizeof info->format, "%.15s", *m->server ? m->server : "server");
    snprintf(info->strategy, sizeof info->strategy, "remote");
    snprintf(info->device, sizeof info->device, "%.127s", a->host);
    info->remote = true;
    info->thinking = true; /* for all that is known */
    info->max_context = m->context;
    info->sampling = (struct lade_sampling){
        .temperature = NAN, .top_k = -1, .top_p = NAN, .min_p = NAN, .repetition_penalty = NAN};
    pthread_mutex_lock(&e->lock);
    e->info = *info;
    lade_plan_remote(&e->plan);
    e->has_info = true;
    e->stats.context_size = m->context;
    pthread_mutex_unlock(&e->lock);
    free(info);
}

static int open_remote(struct lade_engine *e, char *err)
{
    struct lade_remote_address address;
    if (lade_remote_address(&address, e->opt.model, err))
        return -1;
    e->remote = calloc(1, sizeof *e->remote);
    if (!e->remote)
        return lade_fail(err, "%s: out of memory; close other programs", address.host);
    if (lade_remote_open(&e->remote->http, &address, e->opt.key, err) || find_model(e, err))
        return -1;
    describe(e);
    struct lade_event model = {.kind = LADE_EV_MODEL};
    lade_worker_emit(e, &model);
    pthread_mutex_lock(&e->lock);
    e->stats.phase = LADE_PHASE_IDLE;
    e->stats.loading = false;
    e->stats.load_s = lade_now() - e->load_started;
    struct lade_event usable = {.kind = LADE_EV_USABLE, .seconds = e->stats.load_s},
                      ready = {.kind = LADE_EV_READY, .seconds = e->stats.load_s};
    lade_events_put(&e->events, &usable);
    lade_events_put(&e->events, &ready);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static void close_remote(struct lade_engine *e)
{
    if (e->remote)
        lade_remote_close(&e->remote->http);
    free(e->remote);
}

/* ---- one answer ------------------------------------------------------------------------------- */

enum { LADE_REMOTE_ANSWER = 256 << 20 }; /* bytes of a stream: more is no answer of a model */

struct answer {
    struct lade_engine *e;
    const struct lade_request *r;
    struct lade_tell tell;
    struct lade_think think;
    struct lade_sse sse;
    enum lade_sse_end sse_end;
    size_t bytes; /* of the stream so far */
    enum lade_reply_finish finish;
    bool over;              /* "[DONE]" came */
    bool garbage;           /* an event was no JSON */
    char error[LADE_ERR];   /* what the server said in the stream */
    struct lade_reply last; /* of its numbers, those that were told last */
};

static void take_numbers(struct lade_reply *to, const struct lade_reply *from)
{
    to->prompt_tokens = from->prompt_tokens >= 0 ? from->prompt_tokens : to->prompt_tokens;
    to->tokens = from->tokens >= 0 ? from->tokens : to->tokens;
    to->kept_tokens = from->kept_tokens >= 0 ? from->kept_tokens : to->kept_tokens;
}

/* A piece with text counts as a token until the server's own count comes. */
static void take_text(struct answer *a, const struct lade_reply *reply)
{
    struct lade_engine *e = a->e;
    if (!reply->text && !reply->reasoning)
        return;
    if (a->tell.result.tokens == 0) {
        pthread_mutex_lock(&e->lock);
        e->stats.phase = LADE_PHASE_DECODE;
        pthread_mutex_unlock(&e->lock);
    }
    lade_tell_token(&a->tell, e->remote->context_used + a->tell.result.tokens + 1);
    if (reply->reasoning)
        lade_think_reasoning(&a->think, reply->reasoning);
    if (reply->text)
        lade_think_content(&a->think, reply->text);
}

/* How far a server is with the prompt, where it says so. */
static void take_progress(struct answer *a, const struct lade_reply *reply)
{
    struct lade_engine *e = a->e;
    struct lade_event ev = {.kind = LADE_EV_PREFILL,
                            .request = a->r->number,
                            .done = reply->read,
                            .total = reply->to_read};
    double seconds = lade_now() - a->r->asked_at;
    if (!reply->to_read)
        return;
    pthread_mutex_lock(&e->lock);
    e->stats.prefill_tps = seconds > 0 ? reply->read / seconds : 0;
    lade_events_put(&e->events, &ev);
    pthread_mutex_unlock(&e->lock);
}

static bool take_event(void *user, const char *data, size_t n)
{
    struct answer *a = user;
    struct lade_reply reply;
    if (n >= 6 && !strncmp(data, "[DONE]", 6)) {
        a->over = true;
        return false;
    }
    a->garbage = !lade_reply_read(&reply, data, n);
    if (reply.error)
        lade_printable(a->error, 256, reply.error, strlen(reply.error));
    take_progress(a, &reply);
    take_text(a, &reply);
    take_numbers(&a->last, &reply);
    if (reply.finish != LADE_REPLY_GOES_ON)
        a->finish = reply.finish;
    lade_reply_clear(&reply);
    return !a->garbage && !*a->error;
}

static bool take_bytes(void *user, const char *data, size_t n)
{
    struct answer *a = user;
    a->bytes += n;
    if (a->bytes > LADE_REMOTE_ANSWER)
        return false;
    a->sse_end = lade_sse_feed(&a->sse, data, n, take_event, a);
    return a->sse_end == LADE_SSE_MORE;
}

/* Whether the server says that the conversation is too long for it. */
static bool is_too_long(const struct lade_remote_call *c)
{
    static const char *const words[] = {"context length", "context size", "context_length"};
    char said[512];
    lade_reply_failure(c->text.at ? c->text.at : "", c->text.n, said, sizeof said);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (c->status == 400 && strstr(said, words[i]))
            return true;
    return false;
}

/* 0 where the answer is whole, or was cancelled. */
static int outcome(struct answer *a, const struct lade_remote_call *c, char *err)
{
    const struct lade_remote_http *h = &a->e->remote->http;
    const char *host = h->address.host;
    if (c->cancelled) {
        a->tell.result.stop = LADE_STOP_CANCELLED;
        return 0;
    }
    if (*a->error)
        return lade_fail(err, "%.100s: %s; ask again, or look at the server", host, a->error);
    if (a->over || a->finish != LADE_REPLY_GOES_ON)
        return 0;
    if (a->bytes > LADE_REMOTE_ANSWER)
        return lade_fail(err, "%.100s: the answer does not end within %d MiB; limit it with -n",
                         host, LADE_REMOTE_ANSWER >> 20);
    if (a->sse_end == LADE_SSE_TOO_LONG)
        return lade_fail(err, "%.100s: sent a piece of more than %d bytes; look at the server",
                         host, LADE_SSE_MOST);
    if (a->sse_end == LADE_SSE_NO_MEMORY)
        return lade_fail(err, "%.100s: out of memory; close other programs", host);
    if (a->garbage)
        return lade_fail(err, "%.100s: sent what is no JSON; look at the server", host);
    if (c->rc == CURLE_OK && c->status == 200 && c->streams)
        return lade_fail(
            err, "%.100s: ended before the answer did; ask again, or look at the server", host);
    if (is_too_long(c))
        a->tell.result.stop = LADE_STOP_CONTEXT;
    return lade_remote_failure(h, c, err);
}

static enum lade_stop stop_of(const struct answer *a)
{
    const struct lade_result *r = &a->tell.result;
    const int context = a->e->remote->model.context;
    if (a->finish == LADE_REPLY_STOP_TEXT)
        return LADE_STOP_TEXT;
    if (a->finish != LADE_REPLY_LENGTH)
        return LADE_STOP_END;
    bool limited = a->r->max_tokens > 0 && r->tokens >= a->r->max_tokens;
    return !limited && context && r->prompt_tokens + r->tokens >= context ? LADE_STOP_CONTEXT
                                                                          : LADE_STOP_LENGTH;
}

/* Reading the prompt took what came before the first token; how fast it was is only known where the server
 * tells how much of it it had already. */
static void take_result(struct answer *a)
{
    struct lade_result *r = &a->tell.result;
    if (a->last.tokens >= 0)
        r->tokens = a->last.tokens;
    if (a->last.prompt_tokens >= 0)
        r->prompt_tokens = a->last.prompt_tokens;
    if (a->last.kept_tokens >= 0 && a->last.kept_tokens <= r->prompt_tokens) {
        r->kept_tokens = a->last.kept_tokens;
        r->prefill_s = r->ttft_s;
    }
    a->e->remote->context_used =
        r->tokens + (a->last.prompt_tokens >= 0 ? r->prompt_tokens : a->e->remote->context_used);
}

static int ask(struct answer *a, char *err)
{
    struct lade_engine *e = a->e;
    struct lade_remote_http *h = &e->remote->http;
    bool tells = !strcmp(e->remote->model.server, "llamacpp");
    char *json = lade_remote_ask(e->remote->model.name, tells, a->r);
    if (!json)
        return lade_fail(err, "%.100s: out of memory; close other programs", h->address.host);
    struct lade_remote_call c = {.base = h->address.base,
                                 .path = "/chat/completions",
                                 .json = json,
                                 .cancel = &e->cancel_answer,
                                 .take = take_bytes,
                                 .user = a};
    lade_remote_call(h, &c);
    lade_think_end(&a->think);
    int rc = outcome(a, &c, err);
    if (!rc && !c.cancelled)
        a->tell.result.stop = stop_of(a);
    lade_remote_end(&c);
    free(json);
    return rc;
}

static void answer_remote(struct lade_engine *e, const struct lade_request *r)
{
    struct answer a = {
        .e = e, .r = r, .last = {.prompt_tokens = -1, .tokens = -1, .kept_tokens = -1}};
    char err[LADE_ERR] = "";
    lade_tell_begin(&a.tell, e, r, NULL);
    a.think.tell = &a.tell;
    if (r->n <= e->remote->n_messages) /* no longer than the last: another conversation */
        e->remote->context_used = 0;
    e->remote->n_messages = r->n;
    pthread_mutex_lock(&e->lock);
    e->stats.phase = LADE_PHASE_PREFILL;
    pthread_mutex_unlock(&e->lock);
    int failed = ask(&a, err);
    if (failed && a.tell.result.stop != LADE_STOP_CONTEXT)
        a.tell.result.stop = LADE_STOP_ERROR;
    take_result(&a);
    lade_tell_end(&a.tell, failed ? err : NULL, e->remote->context_used);
    lade_sse_close(&a.sse);
}

const struct lade_worker lade_worker_remote = {
    .open = open_remote,
    .answer = answer_remote,
    .close = close_remote,
};
