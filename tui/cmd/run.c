/* lade run: one question, one answer on standard output. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/text.h"
#include "tui/cmd/cmd.h"
#include "tui/cmd/interrupt.h"
#include "tui/cmd/progress.h"
#include "tui/cmd/question.h"
#include "tui/key_file.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

struct run {
    const struct options *o;
    struct lade_engine *engine;
    char *prompt;
    struct lade_model_info info;
    bool asked, done, cancelled;
    struct progress progress;
    bool open_thinking; /* <think> is printed and not closed */
    char last;          /* byte printed */
    struct lade_text answer, reasoning;
    struct lade_result result;
    char *failure; /* malloc'ed, as the next */
    char *notice;  /* what a lost GPU was told with */
};

/* ---- events ---------------------------------------------------------------------------------- */

static int ask(struct run *r, char *err)
{
    const struct options *o = r->o;
    struct lade_message messages[2];
    struct lade_sampling sampling;
    size_t n = 0;
    if (!lade_engine_info(r->engine, &r->info))
        return lade_fail(err, "%s: gave no description of itself; please report this", o->model);
    sampling = r->info.sampling;
    options_sampling(o, &sampling);
    if (o->system)
        messages[n++] = (struct lade_message){LADE_SYSTEM, o->system, NULL, NULL};
    messages[n++] = (struct lade_message){LADE_USER, r->prompt, NULL, NULL};
    r->asked = true;
    return lade_engine_ask(r->engine, messages, n, &sampling, o->tokens, o->think != THINK_NO,
                           err) < 0
               ? -1
               : 0;
}

static void print(struct run *r, const char *text)
{
    output_text(text, strlen(text));
    if (*text)
        r->last = text[strlen(text) - 1];
}

/* Reasoning is printed only when asked for, so that a pipe gets the answer and nothing else. */
static void print_piece(struct run *r, const struct lade_event *ev)
{
    if (ev->reasoning && !r->o->show_thinking)
        return;
    if (ev->reasoning && !r->open_thinking)
        print(r, "<think>\n");
    if (!ev->reasoning && r->open_thinking)
        print(r, r->last == '\n' ? "</think>\n\n" : "\n</think>\n\n");
    r->open_thinking = ev->reasoning;
    print(r, ev->text);
    fflush(stdout);
}

static int take_text(struct run *r, const struct lade_event *ev, char *err)
{
    progress_clear(&r->progress);
    if (!lade_text_puts(ev->reasoning ? &r->reasoning : &r->answer, ev->text))
        return lade_fail(err, "the answer: out of memory; close other programs");
    if (!r->o->json)
        print_piece(r, ev);
    return 0;
}

/* The answer goes on; what it cost is not what the GPU would have cost, so it is said. */
static void gpu_lost(struct run *r, const struct lade_event *ev)
{
    progress_clear(&r->progress);
    lade_engine_info(r->engine, &r->info);
    if (!ev->text)
        return;
    if (!r->o->json && r->last && r->last != '\n' && isatty(STDERR_FILENO))
        fputc('\n', stderr);
    report_note(ev->text);
    free(r->notice);
    r->notice = strdup(ev->text);
}

static int take_event(struct run *r, struct lade_event *ev, char *err)
{
    switch (ev->kind) {
    case LADE_EV_MODEL:
        progress_clear(&r->progress);
        ask(r, NULL); /* where the load has failed already, its event follows */
        return 0;
    case LADE_EV_WAITING:
    case LADE_EV_SHARD:
    case LADE_EV_PREFILL:
        progress_show(&r->progress, ev);
        return 0;
    case LADE_EV_READY:
        progress_clear(&r->progress);
        return r->asked ? 0 : ask(r, err);
    case LADE_EV_USABLE:
        lade_engine_info(r->engine, &r->info); /* only now with the device */
        return 0;
    case LADE_EV_GPU_LOST:
        gpu_lost(r, ev);
        return 0;
    case LADE_EV_STRATEGY:
    case LADE_EV_MEMORY:
    case LADE_EV_ENDED:
        return 0;
    case LADE_EV_TEXT:
        return take_text(r, ev, err);
    case LADE_EV_DONE:
        r->result = ev->result;
        r->done = true;
        return 0;
    case LADE_EV_FAILED:
        r->failure = ev->text;
        ev->text = NULL;
        r->done = true;
        return 0;
    }
    return 0;
}

static int serve(struct run *r, const sigset_t *open, char *err)
{
    struct pollfd fd = {.fd = lade_engine_fd(r->engine), .events = POLLIN};
    while (!r->done) {
        struct lade_event ev;
        if (interrupted && !r->cancelled) {
            r->cancelled = true;
            interrupt_let_go(open);
            lade_engine_cancel(r->engine, 0);
            lade_engine_cancel_load(r->engine);
        }
        if (ppoll(&fd, 1, NULL, open) < 0 && errno != EINTR)
            return lade_fail(err, "waiting for the engine: %s; please report this",
                             strerror(errno));
        while (!r->done && lade_engine_next(r->engine, &ev)) {
            int rc = take_event(r, &ev, err);
            lade_event_clear(&ev);
            if (rc)
                return -1;
        }
    }
    return 0;
}

/* ---- result ---------------------------------------------------------------------------------- */

static json_t *to_json(const struct run *r)
{
    static const char *const stops[] = {
        [LADE_STOP_END] = "end",
        [LADE_STOP_TEXT] = "text",
        [LADE_STOP_LENGTH] = "length",
        [LADE_STOP_CONTEXT] = "context",
        [LADE_STOP_CANCELLED] = "cancelled",
        [LADE_STOP_ERROR] = "error",
    };
    struct lade_stats stats;
    const struct lade_result *d = &r->result;
    struct lade_plan plan = {.chosen = -1};
    lade_engine_stats(r->engine, &stats);
    lade_engine_plan(r->engine, &plan);
    return json_pack(
        "{s:o, s:o, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:I, s:s, s:o, s:s, "
        "s:b, s:o, "
        "s:o, s:o, s:o, s:o}",
        "text", output_string(r->answer.at ? r->answer.at : ""), "reasoning",
        output_string(r->reasoning.at ? r->reasoning.at : ""), "stop", stops[d->stop],
        "prompt_tokens", d->prompt_tokens, "kept_tokens", d->kept_tokens, "tokens", d->tokens,
        "drafted_tokens", d->drafted, "accepted_tokens", d->accepted, "load_s", stats.load_s,
        "ttft_s", d->ttft_s, "prefill_tps", d->prefill_tps, "decode_tps", d->decode_tps,
        "rss_peak_bytes", (json_int_t)stats.rss_peak, "vram_peak_bytes",
        (json_int_t)stats.vram_peak, "strategy", r->info.strategy, "model",
        output_string(r->info.name), "device", r->info.device, "loaded", !stats.loading, "experts",
        output_traffic(&stats.traffic), "last_token", output_traffic(&stats.token), "predicted",
        output_predicted(&plan), "gpus", output_cards(stats.cards, stats.n_cards), "notice",
        r->notice ? output_string(r->notice) : json_null());
}

static int finish(struct run *r, char *err)
{
    progress_clear(&r->progress);
    if (r->failure) {
        if (r->last && r->last != '\n')
            putchar('\n');
        if (!r->cancelled)
            return lade_fail(err, "%s", r->failure);
        r->result.stop = LADE_STOP_CANCELLED; /* while loading */
    }
    if (r->o->json)
        return output_json(to_json(r), err);
    if (r->open_thinking)
        print(r, "\n</think>\n");
    if (r->last != '\n')
        putchar('\n');
    if (!r->answer.n && r->reasoning.n && r->result.stop == LADE_STOP_LENGTH)
        report_note("the answer: all tokens went into reasoning; raise -n, or give --no-think");
    return 0;
}

int cmd_run(const struct options *given)
{
    struct options own = *given, *o = &own;
    struct run r = {.o = o};
    struct lade_options opt;
    char path[PATH_MAX], key[KEY_FILE_MAX], err[LADE_ERR];
    sigset_t open;
    int code = question_model(o, err);
    if (code == EXIT_DONE)
        code = question_read(&r.prompt, o, err);
    if (code != EXIT_DONE)
        return code == EXIT_USAGE ? report_usage(o->json, err) : report_failed(o->json, err);
    int rc = o->key_file ? key_file_read(o->key_file, key, err) : 0;
    if (rc == 0)
        rc = model_path_resolve(o->model, path, err);
    if (rc == 0) {
        options_engine(o, path, false, &opt);
        opt.key = o->key_file ? key : NULL;
        interrupt_catch(&open); /* the engine's thread inherits the blocked ones */
        rc = lade_engine_start(&r.engine, &opt, err);
    }
    if (rc == 0)
        rc = serve(&r, &open, err);
    if (rc == 0)
        rc = finish(&r, err);
    lade_engine_stop(r.engine);
    free(r.prompt);
    free(r.answer.at);
    free(r.reasoning.at);
    free(r.failure);
    free(r.notice);
    if (rc)
        return report_failed(o->json, err);
    return r.cancelled ? EXIT_INTERRUPTED : EXIT_DONE;
}
