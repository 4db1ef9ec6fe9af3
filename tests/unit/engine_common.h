/* engine_common.h - what tests of a running engine share: events added up, and waiting for them. */
#ifndef LADE_TESTS_ENGINE_COMMON_H
#define LADE_TESTS_ENGINE_COMMON_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

#define MODEL "tests/fixtures/tiny8-bf16"
enum { PATIENCE_MS = 600000 }; /* for the slowest machine under the slowest sanitizer */

#ifndef LADE_TESTS_PLACES_COMMON_H
static char err[LADE_ERR];
#endif

/* What came out of an engine, added up. */
struct seen {
    int waiting, model, usable, ready, strategies, memory, lost, found, prefills, texts, done,
        failed;
    int ended_answers; /* done or failed */
    uint64_t shard_done[16], shard_bytes[16], done_bytes;
    char text[1 << 16], reasoning[1 << 16], error[LADE_ERR], told[LADE_ERR];
    struct lade_result result;
    int request;
    bool may_begin_again; /* a load that is not over, because a GPU is lost */
};

static inline void note(struct seen *s, const struct lade_event *ev)
{
    switch (ev->kind) {
    case LADE_EV_WAITING:
        s->waiting++;
        snprintf(s->told, sizeof s->told, "%s", ev->text);
        break;
    case LADE_EV_MODEL:
        s->model++;
        break;
    case LADE_EV_SHARD:
        assert_in_range(ev->shard, 0, 15);
        if (s->may_begin_again && ev->done_bytes < s->done_bytes) {
            memset(s->shard_done, 0, sizeof s->shard_done);
            s->done_bytes = 0;
        }
        assert_true(ev->shard_done >= s->shard_done[ev->shard]);
        assert_true(ev->done_bytes >= s->done_bytes);
        s->shard_done[ev->shard] = ev->shard_done;
        s->shard_bytes[ev->shard] = ev->shard_bytes;
        s->done_bytes = ev->done_bytes;
        break;
    case LADE_EV_USABLE:
        s->usable++;
        break;
    case LADE_EV_READY:
        assert_int_equal(s->usable, 1);
        s->ready++;
        break;
    case LADE_EV_STRATEGY:
        s->strategies++;
        snprintf(s->error, sizeof s->error, "%s", ev->text ? ev->text : "");
        break;
    case LADE_EV_ENDED:
        break;
    case LADE_EV_MEMORY:
        s->memory++;
        snprintf(s->told, sizeof s->told, "%s", ev->text);
        break;
    case LADE_EV_GPU_LOST:
        s->lost += ev->text != NULL;
        s->found += ev->text == NULL;
        if (ev->text)
            snprintf(s->told, sizeof s->told, "%s", ev->text);
        break;
    case LADE_EV_PREFILL:
        s->prefills++;
        break;
    case LADE_EV_TEXT:
        s->texts++;
        strncat(ev->reasoning ? s->reasoning : s->text, ev->text,
                sizeof s->text - strlen(ev->reasoning ? s->reasoning : s->text) - 1);
        break;
    case LADE_EV_DONE:
        s->done++;
        s->ended_answers++;
        s->result = ev->result;
        s->request = ev->request;
        break;
    case LADE_EV_FAILED:
        s->failed++;
        s->ended_answers++;
        s->request = ev->request;
        s->result = ev->result;
        snprintf(s->error, sizeof s->error, "%s", ev->text);
        break;
    }
}

/* Takes events until *counter grows; the wake descriptor must announce every one. */
static inline void wait_for(struct lade_engine *e, struct seen *s, const int *counter)
{
    int before = *counter;
    while (*counter == before) {
        struct pollfd p = {.fd = lade_engine_fd(e), .events = POLLIN};
        int n = poll(&p, 1, PATIENCE_MS);
        if (n != 1)
            fail_msg("no event for %d ms", PATIENCE_MS);
        struct lade_event ev;
        assert_true(lade_engine_next(e, &ev));
        note(s, &ev);
        if (ev.kind == LADE_EV_FAILED && !ev.request && counter != &s->failed)
            fail_msg("no model: %s", s->error);
        if (ev.kind == LADE_EV_FAILED && ev.request && counter == &s->done)
            fail_msg("no answer: %s", s->error);
        lade_event_clear(&ev);
    }
}

static inline struct lade_engine *start(const char *path)
{
    struct lade_engine *e;
    struct lade_options opt = {.model = path, .threads = 2, .context = 512, .exact = true};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

static const struct lade_sampling greedy = {.top_p = 1, .repetition_penalty = 1};

static inline int ask(struct lade_engine *e, const char *text, int max_tokens)
{
    struct lade_message m = {.role = LADE_USER, .content = text};
    int number = lade_engine_ask(e, &m, 1, &greedy, max_tokens, true, err);
    if (number < 1)
        fail_msg("%s", err);
    return number;
}

#endif
