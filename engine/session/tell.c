#include "engine/session/tell.h"

#include <stdlib.h>
#include <string.h>

static const struct lade_stop_texts no_stops;

void lade_tell_begin(struct lade_tell *t, struct lade_engine *e, const struct lade_request *r,
                     const struct lade_stop_texts *stops)
{
    *t = (struct lade_tell){.e = e, .r = r, .stops.texts = stops ? stops : &no_stops, .trim = true};
}

/* Takes text over, which has `len` bytes. */
static void emit(struct lade_tell *t, char *text, size_t len)
{
    if (!text || !len) {
        free(text);
        return;
    }
    text[len] = '\0';
    struct lade_event ev = {
        .kind = LADE_EV_TEXT, .request = t->r->number, .text = text, .reasoning = t->reasoning};
    lade_worker_emit(t->e, &ev);
}

void lade_tell_text(struct lade_tell *t, const char *text)
{
    if (t->trim)
        text += strspn(text, "\n");
    if (!*text)
        return;
    t->trim = false;
    size_t len = strlen(text), body = len;
    if (!t->reasoning) {
        char *sure = malloc(len + LADE_STOP_SIZE + 1);
        emit(t, sure, sure ? lade_stops_pass(&t->stops, text, len, sure) : 0);
        return;
    }
    while (body > 0 && text[body - 1] == '\n')
        body--;
    if (body) {
        size_t held = (size_t)t->held_newlines;
        char *all = malloc(held + body + 1);
        if (all) {
            memset(all, '\n', held);
            memcpy(all + held, text, body);
        }
        emit(t, all, held + body);
        t->held_newlines = 0;
    }
    t->held_newlines += (int)(len - body);
}

void lade_tell_block(struct lade_tell *t, bool reasoning)
{
    char *held = malloc(LADE_STOP_SIZE + 1);
    emit(t, held, held ? lade_stops_rest(&t->stops, held) : 0);
    t->held_newlines = 0;
    t->reasoning = reasoning;
    t->trim = true;
}

void lade_tell_token(struct lade_tell *t, int context_used)
{
    struct lade_engine *e = t->e;
    double now = lade_now();
    int n = ++t->result.tokens;
    t->times[n % LADE_RATE_WINDOW] = now;
    if (n == 1) {
        t->result.ttft_s = now - t->r->asked_at;
        t->first_at = now;
    }
    int span = n < LADE_RATE_WINDOW ? n - 1 : LADE_RATE_WINDOW - 1;
    double since = now - t->times[(n - span) % LADE_RATE_WINDOW];
    pthread_mutex_lock(&e->lock);
    e->stats.decode_tps = since > 0 ? span / since : 0;
    e->stats.context_used = context_used;
    pthread_mutex_unlock(&e->lock);
}

void lade_tell_end(struct lade_tell *t, const char *failure, int context_used)
{
    struct lade_engine *e = t->e;
    struct lade_result *r = &t->result;
    struct lade_event ev = {.kind = LADE_EV_DONE, .request = t->r->number};
    if (failure) {
        ev.kind = LADE_EV_FAILED;
        ev.text = strdup(failure);
    }
    int fresh = r->prompt_tokens - r->kept_tokens;
    if (r->prefill_s > 0)
        r->prefill_tps = fresh / r->prefill_s;
    if (r->tokens > 0)
        r->decode_s = lade_now() - t->first_at;
    if (r->tokens > 1 && r->decode_s > 0)
        r->decode_tps = (r->tokens - 1) / r->decode_s;
    ev.result = *r;
    pthread_mutex_lock(&e->lock);
    if (!e->broken)
        e->stats.phase = LADE_PHASE_IDLE;
    e->stats.prefill_tps = r->prefill_tps;
    e->stats.decode_tps = r->decode_tps;
    e->stats.context_used = context_used;
    lade_events_put(&e->events, &ev);
    pthread_mutex_unlock(&e->lock);
}
