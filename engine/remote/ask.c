#include "engine/remote/ask.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/utf8.h"

/* What a person types may be no UTF-8, which JSON must be. */
static json_t *text_of(const char *text)
{
    size_t n;
    json_t *value = json_string(text);
    char *repaired = value ? NULL : lade_utf8_repair(text, strlen(text), &n);
    if (repaired)
        value = json_stringn(repaired, n);
    free(repaired);
    return value;
}

/* Adds a text to a message, as a paragraph of its own. */
static void append_text(json_t *message, const char *text)
{
    json_t *more = text_of(text), *content = json_object_get(message, "content");
    json_object_set_new(
        message, "content",
        json_sprintf("%s\n\n%s", json_string_value(content), json_string_value(more)));
    json_decref(more);
}

/* Questions that waited together, or had no answer, are one message: many templates want the roles to take
 * turns. */
static json_t *messages(const struct lade_request *r)
{
    static const char *const roles[] = {[LADE_SYSTEM] = "system",
                                        [LADE_USER] = "user",
                                        [LADE_ASSISTANT] = "assistant",
                                        [LADE_TOOL] = "tool"};
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++)
        if (i && r->messages[i].role == LADE_USER && r->messages[i - 1].role == LADE_USER)
            append_text(json_array_get(list, json_array_size(list) - 1), r->messages[i].content);
        else
            json_array_append_new(list, json_pack("{s:s, s:o}", "role", roles[r->messages[i].role],
                                                  "content", text_of(r->messages[i].content)));
    return list;
}

/* As the shortest decimal that is this float again: 0.7 and not 0.699999988. */
static json_t *number(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return json_real(strtod(text, NULL));
}

static void put_sampling(json_t *ask, const struct lade_sampling *s)
{
    const struct {
        const char *key;
        float value;
    } numbers[] = {
        {"temperature", s->temperature},
        {"top_p", s->top_p},
        {"min_p", s->min_p},
        {"repetition_penalty", s->repetition_penalty},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!isnan(numbers[i].value))
            json_object_set_new(ask, numbers[i].key, number(numbers[i].value));
    if (!isnan(s->repetition_penalty)) /* llama-server's name for it */
        json_object_set_new(ask, "repeat_penalty", number(s->repetition_penalty));
    if (s->top_k >= 0) /* vLLM and SGLang have -1 for "all", llama-server that too */
        json_object_set_new(ask, "top_k", json_integer(s->top_k ? s->top_k : -1));
    if (s->seed) /* JSON's integers end at 2^63 for many */
        json_object_set_new(ask, "seed", json_integer((json_int_t)(s->seed & INT64_MAX)));
    json_t *stop = s->stop.n ? json_array() : NULL;
    for (int i = 0; i < s->stop.n; i++)
        json_array_append_new(stop, text_of(s->stop.text[i]));
    if (stop)
        json_object_set_new(ask, "stop", stop);
}

char *lade_remote_ask(const char *model, bool progress, const struct lade_request *r)
{
    json_t *ask = json_pack("{s:s, s:o, s:b, s:{s:b}}", "model", model, "messages", messages(r),
                            "stream", 1, "stream_options", "include_usage", 1);
    if (!ask)
        return NULL;
    if (progress)
        json_object_set_new(ask, "return_progress", json_true());
    put_sampling(ask, &r->sampling);
    if (r->max_tokens > 0)
        json_object_set_new(ask, "max_tokens", json_integer(r->max_tokens));
    if (!r->think)
        json_object_set_new(ask, "chat_template_kwargs", json_pack("{s:b}", "enable_thinking", 0));
    char *text = json_dumps(ask, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(ask);
    return text;
}
