/* answer.c - what the engine is asked, and what becomes of its events. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/clock.h"
#include "tui/meters/units.h"
#include "tui/report.h"
#include "tui/serve/server.h"

/* ---- asking ---------------------------------------------------------------------------------- */

static void begin(struct exchange *x, const struct serve_question *q)
{
    const struct server *s = x->server;
    x->stream = q->stream;
    x->usage = q->stream && q->include_usage;
    x->head = (struct reply_head){
        .created = (int64_t)time(NULL), .model = s->info.name, .usage = x->usage};
    snprintf(x->head.id, sizeof x->head.id, "chatcmpl-%llx-%d", (unsigned long long)s->created,
             x->request);
    buf_free(&x->body);
    x->one_call = !q->parallel;
    if (q->tools)
        calls_begin(&x->calls, q->tools);
}

enum MHD_Result answer_ask(struct exchange *x)
{
    struct server *s = x->server;
    struct serve_question q;
    char err[LADE_ERR];
    if (serve_question_read(&q, buf_text(&x->body), x->body.n, &s->defaults, &x->error))
        return exchange_refuse(x, &x->error);
    int number =
        lade_engine_ask(s->engine, q.messages, q.n, &q.sampling, q.max_tokens, q.think, err);
    if (number > 0) {
        x->request = number;
        x->spoke = lade_now();
        begin(x, &q);
    }
    serve_question_free(&q);
    if (number > 0)
        return exchange_wait(x);
    serve_refuse(&x->error, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, "%s", err);
    return exchange_refuse(x, &x->error);
}

void answer_drop(struct exchange *x)
{
    if (!x->request || x->over)
        return;
    x->over = true;
    lade_engine_cancel(x->server->engine, x->request);
    progress_clear(&x->server->progress);
    fprintf(stderr, "%d: the client went away\n", x->request);
}

/* ---- events ---------------------------------------------------------------------------------- */

static struct exchange *find(const struct server *s, int request)
{
    struct exchange *x = s->exchanges;
    while (x && (x->request != request || x->over))
        x = x->next;
    return x;
}

/* The first sign of an answer that is streamed: from here on the status is 200. */
static void stream_begin(struct exchange *x)
{
    if (x->stream && !x->responded)
        exchange_send(x, reply_begin(&x->head));
}

bool answer_is_open(const struct exchange *x)
{
    return x->stream && x->request && !x->over;
}

void answer_ping(struct exchange *x)
{
    stream_begin(x);
    exchange_ping(x);
}

static void put_text(struct exchange *x, const char *text, bool reasoning)
{
    if (!x->stream) {
        buf_puts(reasoning ? &x->reasoning : &x->text, text);
        return;
    }
    stream_begin(x);
    exchange_send(x, reply_text(&x->head, text, reasoning));
}

/* What of the text is sure by now, and the calls that are complete. */
static void put_calls(struct exchange *x)
{
    if (x->calls.text.n)
        put_text(x, buf_text(&x->calls.text), false);
    buf_cut(&x->calls.text, 0);
    for (; x->stream && x->told < x->calls.n; x->told++)
        exchange_send(x, reply_call(&x->head, &x->calls, x->told));
}

/* The client wants one call, and there it is. */
static bool is_enough(const struct exchange *x)
{
    return x->one_call && x->calls.n;
}

static void take_text(struct exchange *x, const struct lade_event *ev)
{
    if (ev->reasoning || !x->calls.tools) {
        put_text(x, ev->text, ev->reasoning);
        return;
    }
    for (const char *c = ev->text; *c && !is_enough(x); c++)
        calls_take(&x->calls, c, 1);
    put_calls(x);
    if (is_enough(x))
        lade_engine_cancel(x->server->engine, x->request);
}

static void log_end(const struct exchange *x, const struct lade_result *r)
{
    static const char *const ends[] = {
        [LADE_STOP_END] = "end",           [LADE_STOP_TEXT] = "stop text",
        [LADE_STOP_LENGTH] = "length",     [LADE_STOP_CONTEXT] = "context full",
        [LADE_STOP_CANCELLED] = "stopped", [LADE_STOP_ERROR] = "error",
    };
    char read[UNITS_MAX], wrote[UNITS_MAX];
    fprintf(stderr, "%d: prompt %d tokens, %d of them kept, %s/s; answer %d tokens, %s/s; %s\n",
            x->request, r->prompt_tokens, r->kept_tokens, units_speed(read, r->prefill_tps),
            r->tokens, units_speed(wrote, r->decode_tps), ends[r->stop]);
}

static void take_failure(struct exchange *x, const struct serve_error *e)
{
    fprintf(stderr, "%d: %s\n", x->request, e->message);
    x->over = true;
    if (x->responded)
        exchange_send(x, reply_error(e));
    else
        exchange_refuse(x, e);
}

static void take_end(struct exchange *x, const struct lade_result *r)
{
    struct serve_error stopped;
    if (r->stop == LADE_STOP_CANCELLED &&
        !is_enough(x)) { /* the client is still here: it was not its wish */
        serve_refuse(&stopped, MHD_HTTP_SERVICE_UNAVAILABLE, NULL, NULL,
                     "the server: is ending; start it again");
        take_failure(x, &stopped);
        return;
    }
    log_end(x, r);
    x->over = true;
    calls_end(&x->calls, r->stop == LADE_STOP_END);
    put_calls(x);
    if (!x->stream) {
        exchange_respond(
            x, MHD_HTTP_OK,
            reply_whole(&x->head, buf_text(&x->text), buf_text(&x->reasoning), &x->calls, r));
        return;
    }
    stream_begin(x);
    exchange_send(x, reply_end(&x->head, &x->calls, r));
    if (x->usage)
        exchange_send(x, reply_usage(&x->head, r));
    exchange_send(x, strdup("[DONE]"));
}

static void take_failed(struct exchange *x, const struct lade_event *ev)
{
    struct serve_error e;
    if (ev->result.stop == LADE_STOP_CONTEXT)
        serve_refuse(&e, MHD_HTTP_BAD_REQUEST, "context_length_exceeded", "messages", "%s",
                     ev->text);
    else
        serve_refuse(&e, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, "%s", ev->text);
    take_failure(x, &e);
}

/* Of one answer. */
static void take_answer(struct exchange *x, const struct lade_event *ev)
{
    switch (ev->kind) {
    case LADE_EV_PREFILL:
        stream_begin(x);
        break;
    case LADE_EV_TEXT:
        take_text(x, ev);
        break;
    case LADE_EV_DONE:
        take_end(x, &ev->result);
        break;
    case LADE_EV_FAILED:
        take_failed(x, ev);
        break;
    default:
        break;
    }
}

/* The model's headers are read: those who wait for its name go on. */
static void take_model(struct server *s)
{
    s->known = lade_engine_info(s->engine, &s->info);
    s->defaults = (struct serve_defaults){.model = s->info.name,
                                          .sampling = s->info.sampling,
                                          .max_tokens = s->options->tokens,
                                          .think = s->options->think != THINK_NO};
    options_sampling(s->options, &s->defaults.sampling);
    for (struct exchange *x = s->exchanges; x; x = x->next)
        if (!x->request)
            exchange_wake(x);
}

void answer_event(struct server *s, struct lade_event *ev)
{
    struct exchange *x = ev->request ? find(s, ev->request) : NULL;
    if (ev->kind == LADE_EV_SHARD)
        progress_show(&s->progress, ev);
    else
        progress_clear(&s->progress);
    if (x)
        take_answer(x, ev);
    if (ev->request)
        return;
    if (ev->kind == LADE_EV_MODEL)
        take_model(s);
    else if (ev->kind == LADE_EV_FAILED)
        lade_set_error(s->failure, "%s", ev->text);
    else if (ev->text && ev->kind != LADE_EV_SHARD)
        report_note(ev->text); /* a GPU is lost, memory is given: it goes on */
}
