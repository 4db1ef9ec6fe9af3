/* answer.c - one request from messages to the DONE event. */
#include <stdlib.h>
#include <string.h>

#include "engine/session/kept.h"
#include "engine/session/lookup.h"
#include "engine/session/sampler.h"
#include "engine/session/tell.h"

struct answer {
    struct lade_engine *e;
    const struct lade_request *r;
    const struct lade_tokenizer *tok;
    struct lade_sampler sampler;
    int32_t *ids; /* [context] the prompt and what was said so far */
    size_t n_ids;
    struct lade_chat_repeats repeats;
    int32_t think_open, think_close;
    int32_t stop[LADE_MAX_STOP];
    int n_stop;
    struct lade_detok detok;
    struct lade_tell tell;
    double prefill_from;
    int kept;                  /* tokens of the last reading that the session had already */
    struct lade_lookup lookup; /* open where there may be drafts */
    int guess, sure;           /* where in ids one of the next token stands, 0 = there is none */
    const struct lade_strategy *strategy; /* that it began with, everything being home; or NULL */
};

/* For a family that thinks, the prompt ends with an open reasoning block. Closing it at once makes
 * the model answer directly; the text is the one the family was trained with for that. */
static int close_thinking(struct answer *a, char *err)
{
    static const char closing[] = "\n\n</think>\n\n";
    size_t end = a->n_ids;
    while (end > 0 && a->ids[end - 1] != a->think_open)
        end--;
    int32_t *more, *grown;
    size_t n;
    if (lade_tokenizer_encode(a->tok, closing, sizeof closing - 1, LADE_ADDED_ALL, &more, &n, err))
        return -1;
    grown = realloc(a->ids, (end + n) * sizeof *grown);
    if (!grown) {
        free(more);
        return lade_fail(err, "prompt: out of memory; close other programs");
    }
    memcpy(grown + end, more, n * sizeof *more);
    free(more);
    a->ids = grown;
    a->n_ids = end + n;
    return 0;
}

static int make_prompt(struct answer *a, char *err)
{
    const struct lade_request *r = a->r;
    enum lade_chat_family family = a->e->model->family;
    if (lade_chat_encode(a->tok, family, r->messages, r->n, true, &a->ids, &a->n_ids, &a->repeats,
                         err))
        return -1;
    a->think_open = lade_tokenizer_added(a->tok, "<think>");
    a->think_close = lade_tokenizer_added(a->tok, "</think>");
    if (family == LADE_CHAT_THINKING && a->think_open >= 0) {
        if (!r->think && close_thinking(a, err))
            return -1;
        a->tell.reasoning = r->think;
    }
    if (a->n_ids > (size_t)a->e->model->context) {
        a->tell.result.stop = LADE_STOP_CONTEXT;
        return lade_fail(err,
                         "prompt: has %zu tokens but the context holds %d; shorten it, start "
                         "a new conversation, or raise --context",
                         a->n_ids, a->e->model->context);
    }
    a->tell.result.prompt_tokens = (int)a->n_ids;
    int32_t *all = realloc(a->ids, (size_t)a->e->model->context * sizeof *all);
    if (!all)
        return lade_fail(err, "prompt: out of memory; close other programs");
    a->ids = all;
    return 0;
}

static void on_prefill(void *user, int done, int total)
{
    struct answer *a = user;
    struct lade_engine *e = a->e;
    double seconds = lade_now() - a->prefill_from;
    lade_worker_publish(e);
    pthread_mutex_lock(&e->lock);
    e->stats.prefill_tps = seconds > 0 ? done / seconds : 0;
    e->stats.context_used = lade_session_length(e->session);
    pthread_mutex_unlock(&e->lock);
    struct lade_event ev = {
        .kind = LADE_EV_PREFILL, .request = a->r->number, .done = done, .total = total};
    lade_worker_emit(e, &ev);
}

static void start_block(struct answer *a, bool reasoning)
{
    char rest[LADE_DETOK_MAX];
    if (lade_detok_flush(&a->detok, rest, sizeof rest) > 0)
        lade_tell_text(&a->tell, rest);
    lade_tell_block(&a->tell, reasoning);
}

static int send_token(struct answer *a, int32_t id, char *err)
{
    if (id == a->think_close || id == a->think_open) {
        start_block(a, id == a->think_open);
        return 0;
    }
    if (lade_tokenizer_is_special(a->tok, id))
        return 0;
    char text[LADE_DETOK_MAX];
    if (lade_detok_push(&a->detok, a->tok, id, text, sizeof text) < 0)
        return lade_fail(err, "token %d: is longer than %d bytes; use the model's own tokenizer",
                         id, LADE_DETOK_MAX);
    lade_tell_text(&a->tell, text);
    return 0;
}

/* The checkpoint's stop tokens; where it names none, those of the chat format. */
static void find_stops(struct answer *a)
{
    static const char *const usual[] = {"<|im_end|>", "<|endoftext|>"};
    const struct lade_generation *g = &a->e->model->cat->generation;
    for (int i = 0; i < g->n_stop; i++)
        a->stop[a->n_stop++] = g->stop[i];
    for (size_t i = 0; !g->n_stop && i < sizeof usual / sizeof *usual; i++)
        a->stop[a->n_stop++] = lade_tokenizer_added(a->tok, usual[i]);
}

static bool is_stop(const struct answer *a, int32_t id)
{
    for (int i = 0; i < a->n_stop; i++)
        if (a->stop[i] == id)
            return true;
    return false;
}

static int32_t sample(struct answer *a)
{
    struct lade_session *s = a->e->session;
    const float *values;
    const int32_t *ids;
    int n = lade_session_top(s, &values, &ids);
    const int32_t *recent = lade_session_ids(s);
    const int length = lade_session_length(s);
    return n ? lade_sample_top(&a->sampler, values, ids, n, recent, length)
             : lade_sample(&a->sampler, lade_session_logits(s), recent, length);
}

static void set_phase(struct lade_engine *e, enum lade_phase phase)
{
    pthread_mutex_lock(&e->lock);
    e->stats.phase = phase;
    pthread_mutex_unlock(&e->lock);
}

/* Before the first prompt: what an earlier run has read of it need not be read again. */
static void recall(struct answer *a)
{
    struct lade_engine *e = a->e;
    char *path =
        e->opt.timelines && !e->recalled ? lade_kept_path(e->session, e->opt.timelines) : NULL;
    if (path)
        lade_kept_read(e->session, path, a->ids, (int)a->n_ids);
    free(path);
    e->recalled = true;
}

/* Has the session read all that was said so far: the prompt, or after the loss of a GPU everything. */
static int read_all(struct answer *a, char *err)
{
    struct lade_engine *e = a->e;
    set_phase(e, LADE_PHASE_PREFILL);
    recall(a);
    a->prefill_from = lade_now();
    lade_session_expect(e->session, (int)a->repeats.base);
    while (lade_session_sync(e->session, a->ids, (int)a->n_ids, (int)a->repeats.stable, on_prefill,
                             a, &e->cancel_answer, &a->kept, err)) {
        if (!lade_model_lost(e->model) || lade_worker_recover(e, err))
            return -1;
        a->prefill_from = lade_now();
    }
    pthread_mutex_lock(&e->lock);
    e->stats.phase = LADE_PHASE_DECODE;
    atomic_store(&e->forget, false); /* the session holds this conversation now */
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static int open_drafts(struct answer *a, char *err)
{
    return lade_session_most_drafts(a->e->session) ? lade_lookup_open(&a->lookup, err) : 0;
}

/* Drafts are for the CPU with all experts in memory: else each would ask for more of them. */
static bool all_in_memory(const struct answer *a)
{
    const struct lade_shape *s = &a->e->model->cat->shape;
    struct lade_tiers_stats now;
    lade_tiers_stats(a->e->model->tiers, &now);
    return now.in_ram.experts >= (uint64_t)s->layers * (uint64_t)s->experts;
}

/* What the last token says of the guess that there was, and where the next one is. */
static void look_up(struct answer *a)
{
    const int n = (int)a->n_ids;
    if (!a->lookup.next)
        return;
    if (a->guess)
        lade_draft_heard(&a->e->draft, a->sure, a->ids[a->guess] == a->ids[n - 1]);
    lade_lookup_see(&a->lookup, a->ids, n);
    a->guess = lade_lookup_find(&a->lookup, a->ids, &a->sure);
}

/* How many guesses should be evaluated with the last token. */
static int count_drafts(const struct answer *a)
{
    const int n = (int)a->n_ids, limit = a->r->max_tokens;
    int most = lade_session_most_drafts(a->e->session);
    if (!a->guess || !all_in_memory(a))
        return 0;
    if (limit > 0 && most > limit - a->tell.result.tokens - 1)
        most = limit - a->tell.result.tokens - 1;
    if (most > a->e->model->context - n)
        most = a->e->model->context - n;
    return lade_draft_worth(&a->e->draft, a->sure, most);
}

/* What follows the guess follows it again: where it comes to the end of the timeline, in a circle. */
static void fill_drafts(const struct answer *a, int32_t *drafts, int n)
{
    const int end = (int)a->n_ids;
    for (int i = 0; i < n; i++)
        drafts[i] = a->guess + i < end ? a->ids[a->guess + i] : drafts[a->guess + i - end];
}

/* The timeline goes on by the last of ids. */
static int append(struct answer *a, char *err)
{
    struct lade_session *s = a->e->session;
    const int32_t id = a->ids[a->n_ids - 1];
    look_up(a);
    if (lade_session_foreseen(s, id)) {
        a->tell.result.accepted++;
        return lade_session_push(s, id, err);
    }
    int32_t drafts[LADE_DRAFT_MOST];
    const int n = count_drafts(a);
    fill_drafts(a, drafts, n);
    const double began = lade_now();
    if (n ? lade_session_push_drafts(s, id, drafts, n, err) : lade_session_push(s, id, err))
        return -1;
    lade_draft_took(&a->e->draft, n, lade_now() - began);
    a->tell.result.drafted += n;
    return 0;
}

static int decode(struct answer *a, char *err)
{
    struct lade_session *s = a->e->session;
    int limit = a->r->max_tokens;
    for (;;) {
        if (atomic_load(&a->e->cancel_answer)) {
            a->tell.result.stop = LADE_STOP_CANCELLED;
            return 0;
        }
        lade_worker_between(a->e);
        if (lade_session_length(s) != (int)a->n_ids && read_all(a, err))
            return -1;
        int32_t id = sample(a);
        if (id < 0)
            return lade_fail(err,
                             "answer: every logit is NaN; the weights of %s are damaged, "
                             "download them again",
                             a->e->model->cat->path);
        lade_worker_publish(a->e);
        lade_tell_token(&a->tell, lade_session_length(s));
        if (is_stop(a, id)) {
            a->tell.result.stop = LADE_STOP_END;
            return 0;
        }
        if (send_token(a, id, err))
            return -1;
        if (a->tell.stops.hit) {
            a->tell.result.stop = LADE_STOP_TEXT;
            return 0;
        }
        if (limit > 0 && a->tell.result.tokens >= limit) {
            a->tell.result.stop = LADE_STOP_LENGTH;
            return 0;
        }
        if (lade_session_length(s) >= a->e->model->context) {
            a->tell.result.stop = LADE_STOP_CONTEXT;
            return 0;
        }
        a->ids[a->n_ids++] = id;
        if (append(a, err) && (!lade_model_lost(a->e->model) || read_all(a, err)))
            return -1;
    }
}

static int generate(struct answer *a, char *err)
{
    struct lade_engine *e = a->e;
    find_stops(a);
    if (make_prompt(a, err) || open_drafts(a, err) ||
        lade_sampler_open(&a->sampler, &a->r->sampling, e->model->cat->shape.vocab, err))
        return -1;
    lade_session_want(e->session, lade_sampler_wants(&a->sampler));
    if (read_all(a, err))
        return -1;
    a->tell.result.kept_tokens = a->kept;
    a->tell.result.prefill_s = lade_now() - a->prefill_from;
    int failed = decode(a, err);
    start_block(a, false); /* sends what the detokenizer still holds */
    return failed;
}

/* The strategy that the model runs with, where everything is home; else NULL. */
static const struct lade_strategy *settled(struct lade_engine *e)
{
    const struct lade_plan *plan = &e->model->plan;
    pthread_mutex_lock(&e->lock);
    bool home = e->load_ended && !e->load_error[0] && !e->broken && !e->stats.ram_given &&
                !e->stats.vram_given;
    pthread_mutex_unlock(&e->lock);
    return home && plan->n && plan->chosen >= 0 ? plan->rows[plan->chosen].strategy : NULL;
}

/* Tells later plans how fast this was: what is long enough to tell anything, of no more context than
 * plans count with, and of no tokens that came at no cost. */
static void note(const struct answer *a)
{
    enum { LEAST_TOKENS = 32, LEAST_PROMPT = 256, MOST_CONTEXT = 8192 };
    const struct lade_result *r = &a->tell.result;
    const int read = r->prompt_tokens - r->kept_tokens;
    struct lade_tokens_per_s measured = {
        .decode = r->tokens >= LEAST_TOKENS && !r->accepted ? r->decode_tps : 0,
        .prefill = read >= LEAST_PROMPT ? r->prefill_tps : 0,
        .prompt = read,
    };
    if (a->strategy && a->strategy == settled(a->e) && r->stop != LADE_STOP_ERROR &&
        r->prompt_tokens + r->tokens <= MOST_CONTEXT && (measured.decode || measured.prefill))
        lade_model_note_answer(a->e->model, &a->e->opt, &measured);
}

void lade_worker_answer(struct lade_engine *e, const struct lade_request *r)
{
    struct answer a = {.e = e, .r = r, .tok = e->model->tok, .think_open = -1, .think_close = -1};
    char err[LADE_ERR] = "";
    const char *failure = NULL;
    lade_tell_begin(&a.tell, e, r, &r->sampling.stop);
    a.strategy = settled(e);
    if (generate(&a, err)) {
        if (atomic_load(&e->cancel_answer)) {
            a.tell.result.stop = LADE_STOP_CANCELLED;
        } else {
            failure = e->broken ? "no model is loaded any more; see above" : err;
            if (a.tell.result.stop != LADE_STOP_CONTEXT)
                a.tell.result.stop = LADE_STOP_ERROR;
        }
    }
    lade_tell_end(&a.tell, failure, lade_session_length(e->session));
    note(&a);
    lade_sampler_close(&a.sampler);
    lade_lookup_close(&a.lookup);
    free(a.ids);
}
