#include "tui/serve/reply.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/output.h"

static char *text_of(json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    return text;
}

static const char *finish_reason(const struct lade_result *r, const struct calls *calls)
{
    if (r->stop == LADE_STOP_LENGTH || r->stop == LADE_STOP_CONTEXT)
        return "length";
    return calls->n ? "tool_calls" : "stop";
}

/* Clients tell calls apart by their ids, in all of a conversation: the answer's own and a number. */
static json_t *call_of(const struct reply_head *h, const struct calls *calls, size_t i)
{
    char id[sizeof h->id + 32];
    const char *own = strchr(h->id, '-');
    snprintf(id, sizeof id, "call%s-%zu", own ? own : "", i);
    return json_pack("{s:s, s:s, s:{s:o, s:s}}", "id", id, "type", "function", "function", "name",
                     output_string(calls->made[i].name), "arguments", calls->made[i].arguments);
}

static json_t *usage(const struct lade_result *r)
{
    return json_pack("{s:i, s:i, s:i, s:{s:i}}", "prompt_tokens", r->prompt_tokens,
                     "completion_tokens", r->tokens, "total_tokens", r->prompt_tokens + r->tokens,
                     "prompt_tokens_details", "cached_tokens", r->kept_tokens);
}

/* The fields of llama-server: milliseconds, tokens per second, drafts. */
static json_t *timings(const struct lade_result *r)
{
    return json_pack("{s:i, s:f, s:f, s:i, s:f, s:f, s:i, s:i}", "prompt_n",
                     r->prompt_tokens - r->kept_tokens, "prompt_ms", r->prefill_s * 1e3,
                     "prompt_per_second", r->prefill_tps, "predicted_n", r->tokens, "predicted_ms",
                     r->decode_s * 1e3, "predicted_per_second", r->decode_tps, "draft_n",
                     r->drafted, "draft_n_accepted", r->accepted);
}

char *reply_error(const struct serve_error *e)
{
    return text_of(json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message",
                             output_string(e->message), "type",
                             e->status >= 500 ? "server_error" : "invalid_request_error", "param",
                             *e->param ? output_string(e->param) : json_null(), "code", e->code));
}

char *reply_health(const struct lade_stats *stats)
{
    const bool usable = stats->phase != LADE_PHASE_LOADING;
    return text_of(json_pack("{s:s, s:b, s:I, s:I}", "status", usable ? "ok" : "loading", "loaded",
                             !stats->loading, "loaded_bytes", (json_int_t)stats->load_done, "bytes",
                             (json_int_t)stats->load_bytes));
}

char *reply_models(const char *name, int64_t created, int context, bool alone)
{
    json_t *model =
        json_pack("{s:o, s:s, s:I, s:s, s:i}", "id", output_string(name), "object", "model",
                  "created", (json_int_t)created, "owned_by", "lade", "max_model_len", context);
    return text_of(alone ? model : json_pack("{s:s, s:[o]}", "object", "list", "data", model));
}

char *reply_whole(const struct reply_head *h, const char *text, const char *reasoning,
                  const struct calls *calls, const struct lade_result *r)
{
    json_t *list = calls->n ? json_array() : NULL;
    json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content",
                                list && !*text ? json_null() : output_string(text));
    if (message && *reasoning)
        json_object_set_new(message, "reasoning_content", output_string(reasoning));
    for (size_t i = 0; i < calls->n; i++)
        json_array_append_new(list, call_of(h, calls, i));
    if (list)
        json_object_set_new(message, "tool_calls", list);
    return text_of(json_pack("{s:s, s:s, s:I, s:o, s:[{s:i, s:o, s:n, s:s}], s:o, s:o}", "id",
                             h->id, "object", "chat.completion", "created", (json_int_t)h->created,
                             "model", output_string(h->model), "choices", "index", 0, "message",
                             message, "logprobs", "finish_reason", finish_reason(r, calls), "usage",
                             usage(r), "timings", timings(r)));
}

/* A piece; `choices` and `cost` (NULL: none) are taken over. */
static json_t *piece(const struct reply_head *h, json_t *choices, json_t *cost)
{
    json_t *p = json_pack("{s:s, s:s, s:I, s:o, s:o}", "id", h->id, "object",
                          "chat.completion.chunk", "created", (json_int_t)h->created, "model",
                          output_string(h->model), "choices", choices);
    if (p && (cost || h->usage))
        json_object_set_new(p, "usage", cost ? cost : json_null());
    return p;
}

static json_t *choice(json_t *delta, const char *reason)
{
    return json_pack("[{s:i, s:o, s:n, s:s?}]", "index", 0, "delta", delta, "logprobs",
                     "finish_reason", reason);
}

char *reply_begin(const struct reply_head *h)
{
    json_t *delta = json_pack("{s:s, s:s}", "role", "assistant", "content", "");
    return text_of(piece(h, choice(delta, NULL), NULL));
}

char *reply_text(const struct reply_head *h, const char *text, bool reasoning)
{
    json_t *delta =
        json_pack("{s:o}", reasoning ? "reasoning_content" : "content", output_string(text));
    return text_of(piece(h, choice(delta, NULL), NULL));
}

char *reply_call(const struct reply_head *h, const struct calls *calls, size_t i)
{
    json_t *call = call_of(h, calls, i);
    if (call)
        json_object_set_new(call, "index", json_integer((json_int_t)i));
    return text_of(piece(h, choice(json_pack("{s:[o]}", "tool_calls", call), NULL), NULL));
}

char *reply_end(const struct reply_head *h, const struct calls *calls, const struct lade_result *r)
{
    json_t *p = piece(h, choice(json_object(), finish_reason(r, calls)), NULL);
    if (p)
        json_object_set_new(p, "timings", timings(r));
    return text_of(p);
}

char *reply_usage(const struct reply_head *h, const struct lade_result *r)
{
    return text_of(piece(h, json_array(), usage(r)));
}
