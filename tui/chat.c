#include "tui/chat.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "tui/input.h"
#include "tui/slash/slash.h"
#include "tui/text/width.h"

/* Seconds; with ticks of a quarter of a second nothing older than half a second is unsaved. */
#define SAVE_EVERY 0.2

/* Seconds the finished board stays beside a conversation, so that its end is seen. */
#define BOARD_STAYS 4.0

void chat_init(struct chat *c, struct lade_engine *engine, struct history *history)
{
    *c = (struct chat){.engine = engine, .history = history, .dirty = true};
    c->settings.think = true;
    c->failed = !engine;
    menu_clear(&c->menu);
    picker_close(&c->picker);
    transcript_init(&c->transcript);
    board_init(&c->board);
    status_init(&c->status);
}

void chat_end(struct chat *c)
{
    chat_settle(c);
    slash_pull_end(c);
    if (!c->engine)
        return;
    /* What is not saved leaves nothing else, either. */
    if (c->history_failed || !c->read || chat_was_deleted(c))
        lade_engine_forget(c->engine);
    lade_engine_end(c->engine, c->read);
}

void chat_close(struct chat *c)
{
    chat_end(c);
    lade_engine_stop(c->engine);
    history_close(c->history);
    status_close(&c->status);
    transcript_clear(&c->transcript);
    menu_clear(&c->menu);
    free(c->menu_for);
    picker_close(&c->picker);
    settings_free(&c->settings);
}

void chat_say(struct chat *c, enum entry_kind kind, const char *fmt, ...)
{
    struct buf text = {0};
    va_list ap;
    va_start(ap, fmt);
    char *formatted = NULL;
    if (vasprintf(&formatted, fmt, ap) >= 0) {
        buf_puts(&text, formatted);
        free(formatted);
    }
    va_end(ap);
    transcript_add(&c->transcript, kind, buf_text(&text));
    buf_free(&text);
    c->dirty = true;
}

bool chat_is_loading(const struct chat *c)
{
    return !c->failed && (!c->ready || c->moving || c->board_until > 0);
}

bool chat_board_is_line(const struct chat *c)
{
    return c->asked || c->ready;
}

bool chat_is_busy(const struct chat *c)
{
    return chat_is_loading(c) || c->answer.entry || c->pull;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int waiting(const struct chat *c)
{
    int n = 0;
    for (int i = 0; i < c->transcript.n; i++)
        n += c->transcript.items[i]->kind == ENTRY_USER &&
             c->transcript.items[i]->state == ENTRY_WAITING;
    return n;
}

/* The conversation as the model reads it: what the program itself said is not part of it. */
static size_t messages(const struct chat *c, struct lade_message *out)
{
    size_t n = 0;
    if (c->settings.system && *c->settings.system)
        out[n++] = (struct lade_message){LADE_SYSTEM, c->settings.system, NULL, NULL};
    for (int i = 0; i < c->transcript.n; i++) {
        const struct entry *e = c->transcript.items[i];
        if (e->kind == ENTRY_USER)
            out[n++] = (struct lade_message){LADE_USER, buf_text(&e->text), NULL, NULL};
        else if (e->kind == ENTRY_ANSWER && e->text.n)
            out[n++] = (struct lade_message){LADE_ASSISTANT, buf_text(&e->text),
                                             e->reasoning.n ? e->reasoning.at : NULL, NULL};
    }
    return n;
}

void chat_send_waiting(struct chat *c)
{
    char err[LADE_ERR];
    if (!c->usable || c->answer.entry || !waiting(c))
        return;
    for (int i = 0; i < c->transcript.n; i++) {
        struct entry *e = c->transcript.items[i];
        if (e->kind == ENTRY_USER && e->state == ENTRY_WAITING) {
            e->state = ENTRY_DONE;
            entry_changed(e);
        }
    }
    struct lade_message *list = buf_realloc(NULL, (size_t)c->transcript.n + 1, sizeof *list);
    size_t n = messages(c, list);
    int request = lade_engine_ask(c->engine, list, n, &c->settings.sampling, c->settings.max_tokens,
                                  c->settings.think, err);
    free(list);
    if (request < 0) {
        chat_say(c, ENTRY_ERROR, "%s", err);
        return;
    }
    struct entry *e = transcript_add(&c->transcript, ENTRY_ANSWER, NULL);
    e->state = ENTRY_WAITING;
    snprintf(e->progress, sizeof e->progress, "reading");
    c->answer =
        (struct chat_answer){.entry = e, .request = request, .began = lade_now(), .think_base = -1};
    c->asked = c->in_context = true;
    status_prefill(&c->status, 0, 0);
    chat_save_begin(c);
}

void chat_submit(struct chat *c, const char *text)
{
    const char *end = text + strlen(text);
    while (end > text && strchr(" \t\n", end[-1]))
        end--;
    text += strspn(text, "\n");
    if (end <= text || strspn(text, " \t\n") >= (size_t)(end - text))
        return;
    char *line = buf_strndup(text, (size_t)(end - text));
    input_remember(line);
    c->dirty = true;
    transcript_to_end(&c->transcript);
    if (slash_is_command(line)) {
        slash_run(c, line);
    } else if (c->failed) {
        chat_say(c, ENTRY_ERROR,
                 "no model is loaded: the load failed; quit and open another one with -m");
        input_set(line);
    } else {
        /* "//x" sends "/x". */
        struct entry *e = transcript_add(&c->transcript, ENTRY_USER,
                                         line[0] == '/' && line[1] == '/' ? line + 1 : line);
        e->state = ENTRY_WAITING;
        chat_save_user(c, e);
        chat_send_waiting(c);
    }
    free(line);
}

bool chat_cancel(struct chat *c, void (*restore)(const char *text))
{
    for (int i = c->transcript.n - 1; i >= 0; i--) {
        struct entry *e = c->transcript.items[i];
        if (e->kind != ENTRY_USER || e->state != ENTRY_WAITING)
            continue;
        if (restore)
            restore(buf_text(&e->text));
        transcript_remove(&c->transcript, e);
        chat_save_unsend(c);
        c->dirty = true;
        return true;
    }
    if (!c->answer.entry)
        return false;
    lade_engine_cancel(c->engine, 0);
    return true;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void finish(struct chat *c, enum entry_state state, const struct lade_result *cost)
{
    struct entry *e = c->answer.entry;
    e->state = state;
    e->thinking = false;
    if (cost) {
        e->cost = *cost;
        e->has_cost = true;
        if (cost->tokens > 0) {
            c->last = *cost;
            c->have_last = true;
        }
    }
    entry_changed(e);
    chat_save_end(c, e);
    c->answer = (struct chat_answer){0};
    /* What was stopped before it began is no message. */
    if (!e->text.n && !e->reasoning.n && state != ENTRY_DONE && !e->id)
        transcript_remove(&c->transcript, e);
}

static void done(struct chat *c, const struct lade_event *ev)
{
    static const enum entry_state states[] = {
        [LADE_STOP_END] = ENTRY_DONE,          [LADE_STOP_TEXT] = ENTRY_DONE,
        [LADE_STOP_LENGTH] = ENTRY_AT_LIMIT,   [LADE_STOP_CONTEXT] = ENTRY_FULL,
        [LADE_STOP_CANCELLED] = ENTRY_STOPPED, [LADE_STOP_ERROR] = ENTRY_INTERRUPTED,
    };
    finish(c, states[ev->result.stop], &ev->result);
    chat_send_waiting(c);
}

/* Tokens of the reasoning, from what the context grew by: about right, because the engine may be a
 * token ahead of what we were told. The first piece starts the clock; what came at once has no time
 * of its own. */
static void think_clock(struct chat *c, struct entry *e, double now)
{
    struct lade_stats stats;
    lade_engine_stats(c->engine, &stats);
    if (c->answer.think_base < 0) {
        c->answer.think_base = stats.context_used;
        c->answer.think_began = now;
    }
    if (now - c->answer.think_began < 1e-3)
        return;
    e->think_s = now - c->answer.think_began;
    e->think_tokens = stats.context_used - c->answer.think_base + 1;
    entry_changed(e);
}

static void text_event(struct chat *c, const struct lade_event *ev)
{
    struct entry *e = c->answer.entry;
    double now = lade_now();
    if (e->state == ENTRY_WAITING) {
        e->state = ENTRY_STREAMING;
        entry_changed(e);
    }
    if (ev->reasoning || e->thinking)
        think_clock(c, e, now);
    e->thinking = ev->reasoning;
    buf_puts(ev->reasoning ? &e->reasoning : &e->text, ev->text ? ev->text : "");
}

static void prefill_event(struct chat *c, const struct lade_event *ev)
{
    struct entry *e = c->answer.entry;
    status_prefill(&c->status, ev->done, ev->total);
    if (!e || e->state != ENTRY_WAITING || ev->total <= 0)
        return;
    double share = (double)ev->done / ev->total, so_far = lade_now() - c->answer.began;
    int n =
        snprintf(e->progress, sizeof e->progress, "reading %d of %d tokens", ev->done, ev->total);
    char left[UNITS_MAX];
    if (share > 0.02 && share < 1 && so_far > 2)
        snprintf(e->progress + n, sizeof e->progress - (size_t)n, ", %s left",
                 units_duration(left, so_far / share - so_far));
    entry_changed(e);
}

static void failed_event(struct chat *c, const struct lade_event *ev)
{
    const char *why = ev->text ? ev->text : "the engine failed";
    if (ev->request == 0) {
        c->failed = true;
        chat_say(c, ENTRY_ERROR, "%s", why);
        chat_say(c, ENTRY_NOTICE,
                 "No model is loaded. /resume shows saved conversations, /quit "
                 "leaves.");
    } else if (c->answer.entry && ev->request == c->answer.request) {
        finish(c, ENTRY_INTERRUPTED, &ev->result);
        /* A question that does not fit would be in the way of every later one. */
        if (ev->result.stop == LADE_STOP_CONTEXT)
            chat_take_back(c);
        chat_say(c, ENTRY_ERROR, "%s", why);
        chat_send_waiting(c);
    } else {
        chat_say(c, ENTRY_ERROR, "%s", why);
    }
}

/* What a person who opened no model of their own should know. */
static const char about_bundled[] =
    "This is the small model that comes with lade. It was made to talk about lade and to name a "
    "strategy for your VRAM and RAM, and knows little else. For a real one: `lade models` lists "
    "what is on this machine, `lade pull REPO` fetches one, `lade -m NAME` opens it.\n\n";

static void greet(struct chat *c, double seconds)
{
    char time[UNITS_MAX], size[UNITS_MAX];
    const char *dot = width_utf8() ? " · " : ", ";
    c->greeted = true;
    const char *hint = c->transcript.n
                           ? ""
                           : "Type a message. / shows the commands, /resume the earlier "
                             "conversations.";
    if (c->info.remote) {
        chat_say(c, ENTRY_INFO, "**%s** is ready\n%s at %s%s%s\n\n%s", c->info.name, c->info.format,
                 c->info.device, dot, c->info.strategy, hint);
        return;
    }
    chat_say(c, ENTRY_INFO, "**%s** is ready\n%s in %s%s%s%s%s\n\n%s%s", c->info.name,
             units_file(size, (double)c->info.bytes), units_seconds(time, seconds), dot,
             c->info.strategy, dot, c->info.device, c->bundled ? about_bundled : "", hint);
}

/* Answers are given from now on, as fast as what is home allows. */
static void usable_event(struct chat *c, const struct lade_event *ev)
{
    c->usable = true;
    c->have_info = lade_engine_info(c->engine, &c->info);
    board_usable(&c->board);
    status_model(&c->status, &c->info);
    if (c->bundled) /* it is all there in a moment, and is not what people expect */
        greet(c, ev->seconds);
    chat_send_waiting(c);
}

/* Where a conversation runs already the board's line is greeting enough. */
static void ready_event(struct chat *c, const struct lade_event *ev)
{
    bool again = c->ready; /* a load after a change of strategy has failed */
    if (ev->text)
        chat_say(c, ENTRY_ERROR, "%s", ev->text);
    c->ready = c->usable = true;
    c->have_info = lade_engine_info(c->engine, &c->info);
    board_ready(&c->board, ev->seconds);
    status_model(&c->status, &c->info);
    if (c->info.remote && c->asked)
        c->greeted = true; /* nothing came home */
    else if (c->asked || again)
        c->board_until = lade_now() + BOARD_STAYS;
    else if (!c->greeted)
        greet(c, ev->seconds);
    chat_send_waiting(c);
}

static void strategy_event(struct chat *c, const struct lade_event *ev)
{
    if (ev->text) {
        chat_say(c, ENTRY_ERROR, "%s", ev->text);
        return;
    }
    c->have_info = lade_engine_info(c->engine, &c->info);
    status_model(&c->status, &c->info);
    board_strategy(&c->board, &c->info);
    chat_say(c, ENTRY_NOTICE, "The strategy is now %s.", c->info.strategy);
}

/* Without its GPU the model goes on, and an answer with it: what was said stays. */
static void gpu_lost_event(struct chat *c, const struct lade_event *ev)
{
    c->have_info = lade_engine_info(c->engine, &c->info);
    status_model(&c->status, &c->info);
    board_strategy(&c->board, &c->info);
    if (ev->text)
        chat_say(c, ENTRY_ERROR, "%s", ev->text);
}

void chat_event(struct chat *c, const struct lade_event *ev)
{
    bool mine = c->answer.entry && ev->request == c->answer.request;
    c->dirty = true;
    c->tick_now |= ev->kind != LADE_EV_TEXT && ev->kind != LADE_EV_SHARD;
    if (mine && (ev->kind == LADE_EV_PREFILL || ev->kind == LADE_EV_TEXT))
        c->read = c->conversation;
    switch (ev->kind) {
    case LADE_EV_WAITING:
        board_waiting(&c->board, ev->text ? ev->text : "");
        break;
    case LADE_EV_MODEL:
        c->have_info = lade_engine_info(c->engine, &c->info);
        board_model(&c->board, &c->info);
        status_model(&c->status, &c->info);
        settings_defaults(&c->settings, &c->info.sampling);
        break;
    case LADE_EV_SHARD:
        board_event(&c->board, ev, lade_now());
        break;
    case LADE_EV_READY:
        ready_event(c, ev);
        break;
    case LADE_EV_USABLE:
        usable_event(c, ev);
        break;
    case LADE_EV_STRATEGY:
        strategy_event(c, ev);
        break;
    case LADE_EV_GPU_LOST:
        gpu_lost_event(c, ev);
        break;
    case LADE_EV_ENDED:
        break;
    case LADE_EV_MEMORY:
        chat_say(c, ENTRY_NOTICE, "%s", ev->text);
        break;
    case LADE_EV_PREFILL:
        prefill_event(c, ev);
        break;
    case LADE_EV_TEXT:
        if (mine)
            text_event(c, ev);
        break;
    case LADE_EV_DONE:
        if (mine)
            done(c, ev);
        break;
    case LADE_EV_FAILED:
        failed_event(c, ev);
        break;
    }
}

/* Tokens that the conversation on the screen takes, by its last answer; the engine still holds the
 * one before it until something is asked. */
static int tokens_shown(const struct chat *c)
{
    int tokens = 0;
    for (int i = 0; i < c->transcript.n; i++) {
        const struct entry *e = c->transcript.items[i];
        if (e->kind == ENTRY_ANSWER && e->has_cost)
            tokens = e->cost.prompt_tokens + e->cost.tokens;
    }
    return tokens;
}

void chat_tick(struct chat *c, double now)
{
    struct lade_stats stats;
    if (c->engine) {
        lade_engine_stats(c->engine, &stats);
        if (!c->in_context)
            stats.context_used = tokens_shown(c);
        c->moving = c->ready && stats.loading;
        if (c->board_until > 0 && now >= c->board_until) {
            c->board_until = 0;
            c->dirty = true;
        }
    }
    if (c->engine && chat_is_loading(c)) {
        board_tick(&c->board, &stats, now);
        c->dirty = true;
    }
    if (c->tick_now)
        c->status.tick = NAN;
    c->tick_now = false;
    c->dirty |= status_tick(&c->status, c->engine ? &stats : NULL, now);
    slash_pull_tick(c);
    struct entry *e = c->answer.entry;
    if (!e)
        return;
    if (e->thinking)
        think_clock(c, e, now);
    if (now - c->answer.saved >= SAVE_EVERY)
        chat_save_progress(c, now);
    c->dirty = true;
}
