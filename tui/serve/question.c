#include "tui/serve/question.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/serve/offer.h"
#include "tui/stop.h"

enum { BAD_REQUEST = 400, NOT_FOUND = 404 };

/* ---- what is not supported ------------------------------------------------------------------- */

/* Fields that would change the answer, and besides nothing (null, false, 0, empty) the value that asks
 * for no change. */
static const struct {
    const char *name, *neutral;
} unsupported[] = {
    {"n", "1"},
    {"response_format", "{\"type\":\"text\"}"},
    {"modalities", "[\"text\"]"},
    {"functions", NULL},
    {"logprobs", NULL},
    {"top_logprobs", NULL},
    {"logit_bias", NULL},
    {"presence_penalty", NULL},
    {"frequency_penalty", NULL},
    {"audio", NULL},
    {"prediction", NULL},
    {"web_search_options", NULL},
    {"grammar", NULL},
    {"json_schema", NULL},
    {"guided_json", NULL},
    {"guided_regex", NULL},
    {"guided_choice", NULL},
    {"guided_grammar", NULL},
    {"structured_outputs", NULL},
};

static bool equals(const json_t *v, const char *text)
{
    json_t *other = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    bool same = other && json_equal(v, other);
    json_decref(other);
    return same;
}

static int refuse_unsupported(json_t *body, struct serve_error *e)
{
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const json_t *v = json_object_get(body, unsupported[i].name);
        if (v && !body_is_nothing(v) && !equals(v, unsupported[i].neutral))
            return serve_refuse(e, BAD_REQUEST, "unsupported_parameter", unsupported[i].name,
                                "%s: lade cannot do that; leave it out", unsupported[i].name);
    }
    return 0;
}

/* ---- numbers and switches -------------------------------------------------------------------- */

enum kind { REAL, WHOLE, SEED, SWITCH };

/* A later row of two that are given wins. */
static const struct row {
    const char *name;
    enum kind kind;
    double low, high;
    size_t offset; /* in struct serve_question */
} rows[] = {
#define IN(f) offsetof(struct serve_question, f)
    {"temperature", REAL, 0, 100, IN(sampling.temperature)},
    {"top_p", REAL, 0, 1, IN(sampling.top_p)},
    {"min_p", REAL, 0, 1, IN(sampling.min_p)},
    {"top_k", WHOLE, -1, 1e9, IN(sampling.top_k)},
    {"repeat_penalty", REAL, 0.1, 10, IN(sampling.repetition_penalty)},
    {"repetition_penalty", REAL, 0.1, 10, IN(sampling.repetition_penalty)},
    {"seed", SEED, 0, 0, IN(sampling.seed)},
    {"max_tokens", WHOLE, -1, 1e9, IN(max_tokens)},
    {"max_completion_tokens", WHOLE, -1, 1e9, IN(max_tokens)},
    {"stream", SWITCH, 0, 0, IN(stream)},
    {"parallel_tool_calls", SWITCH, 0, 0, IN(parallel)},
#undef IN
};

static int refuse_number(const struct row *r, struct serve_error *e)
{
    return serve_refuse(e, BAD_REQUEST, "invalid_value", r->name,
                        "%s: is no %s from %.10g to %.10g; give one, or leave it out", r->name,
                        r->kind == WHOLE ? "whole number" : "number", r->low, r->high);
}

static int read_switch(json_t *of, const char *name, const char *path, bool *out,
                       struct serve_error *e)
{
    const json_t *v = body_field(of, name);
    if (v && !json_is_boolean(v))
        return body_refuse(e, path, "is neither true nor false; give one of these");
    if (v)
        *out = json_is_true(v);
    return 0;
}

static int read_row(struct serve_question *q, const struct row *r, struct serve_error *e)
{
    const json_t *v = body_field(q->body, r->name);
    void *to = (char *)q + r->offset;
    if (!v)
        return 0;
    const double number = json_number_value(v);
    switch (r->kind) {
    case REAL:
        if (!json_is_number(v) || !(number >= r->low && number <= r->high))
            return refuse_number(r, e);
        *(float *)to = (float)number;
        return 0;
    case WHOLE: /* -1 is how several programs say "as many as there are", which is 0 here */
        if (!json_is_integer(v) || !(number >= r->low && number <= r->high))
            return refuse_number(r, e);
        *(int *)to = number < 0 ? 0 : (int)number;
        return 0;
    case SEED: /* 0, the clock's here, is a seed as any other there */
        if (!json_is_integer(v))
            return body_refuse(e, r->name,
                               "is no whole number of 64 bits; give one, or leave it out");
        *(uint64_t *)to = json_integer_value(v) ? (uint64_t)json_integer_value(v) : UINT64_MAX;
        return 0;
    case SWITCH:
        return read_switch(q->body, r->name, r->name, to, e);
    }
    return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum lade_chat_role role;
} roles[] = {
    {"system", LADE_SYSTEM},       {"developer", LADE_SYSTEM}, {"user", LADE_USER},
    {"assistant", LADE_ASSISTANT}, {"tool", LADE_TOOL},
};

/* "messages[3].FIELD" */
static const char *name_of(char out[64], size_t message, const char *of)
{
    snprintf(out, 64, "messages[%zu].%.32s", message, of);
    return out;
}

static int read_role(struct lade_message *m, json_t *from, size_t i, struct serve_error *e)
{
    char name[64];
    const char *role = json_string_value(json_object_get(from, "role"));
    for (size_t k = 0; role && k < sizeof roles / sizeof *roles; k++)
        if (!strcmp(role, roles[k].name)) {
            m->role = roles[k].role;
            return 0;
        }
    return body_refuse(e, name_of(name, i, "role"),
                       "is none of system, developer, user, assistant, tool; send one of these");
}

/* Texts of an array of parts, a line break between two, become one text of the body. */
static int join_parts(json_t *message, json_t *parts, size_t i, struct serve_error *e)
{
    char name[64];
    size_t k, size = 1;
    json_t *part;
    json_array_foreach(parts, k, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type || strcmp(type, "text") != 0 || !json_is_string(json_object_get(part, "text")))
            return body_refuse(e, name_of(name, i, "content"),
                               "has a part that is no text; lade reads text alone");
        size += json_string_length(json_object_get(part, "text")) + 1;
    }
    char *joined = malloc(size), *end = joined;
    if (!joined)
        return body_no_memory(e);
    *end = '\0';
    json_array_foreach(parts, k, part)
    {
        if (k)
            *end++ = '\n';
        end = stpcpy(end, json_string_value(json_object_get(part, "text")));
    }
    int failed = json_object_set_new(message, "content", json_string(joined));
    free(joined);
    return failed ? body_no_memory(e) : 0;
}

static int read_message(struct lade_message *m, json_t *from, size_t i, json_t *texts,
                        struct serve_error *e)
{
    char name[64];
    if (!json_is_object(from))
        return body_refuse(e, name_of(name, i, "role"),
                           "is missing; send objects with role, content");
    if (read_role(m, from, i, e))
        return -1;
    static const char *const unread[] = {"function_call", "audio"};
    for (size_t k = 0; k < sizeof unread / sizeof *unread; k++) {
        const json_t *v = json_object_get(from, unread[k]);
        if (v && !body_is_nothing(v))
            return body_refuse(e, name_of(name, i, unread[k]),
                               "lade cannot read that; leave it out");
    }
    if (json_is_array(body_field(from, "content")) &&
        join_parts(from, body_field(from, "content"), i, e))
        return -1;
    const json_t *content = body_field(from, "content"),
                 *reasoning = body_field(from, "reasoning_content");
    if (content ? !json_is_string(content) : m->role != LADE_ASSISTANT)
        return body_refuse(e, name_of(name, i, "content"),
                           "is no text; send a text, or text parts");
    if (reasoning && !json_is_string(reasoning))
        return body_refuse(e, name_of(name, i, "reasoning_content"),
                           "is no text; send one, or none");
    m->content = content ? json_string_value(content) : "";
    if (m->role != LADE_ASSISTANT)
        return 0;
    m->reasoning = json_string_value(reasoning);
    return offer_calls(from, i, texts, &m->calls, e);
}

static int read_messages(struct serve_question *q, struct serve_error *e)
{
    json_t *list = body_field(q->body, "messages");
    const size_t n = json_array_size(list);
    if (!n)
        return body_refuse(e, "messages", "is no list with a message in it; send one");
    if (offer_tools(q->body, &q->tools, e))
        return -1;
    q->messages = calloc(n + 1, sizeof *q->messages);
    q->texts = json_array();
    if (!q->messages || !q->texts)
        return body_no_memory(e);
    if (q->tools) {
        const char *tools = offer_text(q->texts, q->tools);
        if (!tools)
            return body_no_memory(e);
        q->messages[q->n++] = (struct lade_message){.role = LADE_TOOLS, .content = tools};
    }
    for (size_t i = 0; i < n; i++)
        if (read_message(&q->messages[q->n++], json_array_get(list, i), i, q->texts, e))
            return -1;
    return 0;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static int read_stop(struct serve_question *q, struct serve_error *e)
{
    char why[LADE_ERR];
    json_t *given = body_field(q->body, "stop"), *text;
    size_t i;
    if (!given)
        return 0;
    q->sampling.stop.n = 0;
    json_t *list = json_is_array(given) ? json_incref(given) : json_pack("[O]", given);
    int rc = list ? 0 : body_no_memory(e);
    json_array_foreach(list, i, text)
    {
        if (!json_is_string(text))
            rc = body_refuse(e, "stop", "is neither a text nor a list of texts; send one of these");
        else if (stop_add(&q->sampling.stop, "stop", json_string_value(text),
                          json_string_length(text), why))
            rc = serve_refuse(e, BAD_REQUEST, "invalid_value", "stop", "%s", why);
        if (rc)
            break;
    }
    json_decref(list);
    return rc;
}

static int read_model(struct serve_question *q, const char *name, struct serve_error *e)
{
    const json_t *model = body_field(q->body, "model");
    if (model && !json_is_string(model))
        return body_refuse(e, "model",
                           "is no text; leave it out, or give a name that /v1/models lists");
    if (model && strcmp(json_string_value(model), name) != 0)
        return serve_refuse(e, NOT_FOUND, "model_not_found", "model",
                            "model: there is none of this name; leave it out, or give %s", name);
    return 0;
}

/* An object of switches, of which one is known here. */
static int read_nested(struct serve_question *q, const char *object, const char *name, bool *out,
                       struct serve_error *e)
{
    char path[64];
    json_t *of = body_field(q->body, object);
    if (of && !json_is_object(of))
        return body_refuse(e, object, "is no object; send one, or leave it out");
    snprintf(path, sizeof path, "%s.%s", object, name);
    return read_switch(of, name, path, out, e);
}

static int read_all(struct serve_question *q, const char *model, struct serve_error *e)
{
    if (refuse_unsupported(q->body, e) || read_model(q, model, e) || read_messages(q, e) ||
        read_stop(q, e) ||
        read_nested(q, "chat_template_kwargs", "enable_thinking", &q->think, e) ||
        read_nested(q, "stream_options", "include_usage", &q->include_usage, e))
        return -1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (read_row(q, &rows[i], e))
            return -1;
    return 0;
}

int serve_question_read(struct serve_question *q, const char *text, size_t len,
                        const struct serve_defaults *defaults, struct serve_error *e)
{
    *e = (struct serve_error){0};
    *q = (struct serve_question){.sampling = defaults->sampling,
                                 .max_tokens = defaults->max_tokens,
                                 .think = defaults->think,
                                 .parallel = true};
    q->body = body_parse(text, len, "the body", e);
    if (q->body && read_all(q, defaults->model, e) == 0)
        return 0;
    serve_question_free(q);
    return -1;
}

void serve_question_free(struct serve_question *q)
{
    json_decref(q->body);
    json_decref(q->texts);
    free(q->messages);
    *q = (struct serve_question){0};
}
