#include "engine/remote/reply.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/scan.h"
#include "engine/tokenizer/utf8.h"

/* The code unit of an escape (backslash, u, four digits); -1 where there is none. */
static int unit_at(const char *text, size_t n)
{
    int unit = 0;
    if (n < 6 || text[0] != '\\' || text[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const int c = tolower((unsigned char)text[i]);
        if (!isxdigit(c))
            return -1;
        unit = unit * 16 + (c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return unit;
}

/* An escape of half a character becomes that of U+FFFD: it is as long. */
static void mend_halves(char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        const int unit = unit_at(text + i, n - i);
        const bool half = unit >= 0xD800 && unit < 0xE000;
        const int next = half && unit < 0xDC00 ? unit_at(text + i + 6, n - i - 6) : -1;
        if (next >= 0xDC00 && next < 0xE000) {
            i += 12;
            continue;
        }
        if (half) {
            memset(text + i + 2, 'F', 3);
            text[i + 5] = 'D';
        }
        i += unit >= 0 ? 6 : text[i] == '\\' ? 2 : 1;
    }
}

/* Bytes that are no UTF-8 become U+FFFD, as they do in answers of models that run here, and so do halves of
 * characters. */
static json_t *parse(const char *text, size_t n)
{
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, NULL);
    size_t repaired_n;
    char *repaired = root ? NULL : lade_utf8_repair(text, n, &repaired_n);
    if (repaired)
        mend_halves(repaired, repaired_n);
    if (repaired)
        root = json_loadb(repaired, repaired_n, JSON_ALLOW_NUL, NULL);
    free(repaired);
    return root;
}

/* A copy without zero bytes; NULL where it is no text, or has nothing. */
static char *copy_of(const json_t *string)
{
    size_t n = json_string_length(string), kept = 0;
    char *copy = n ? malloc(n + 1) : NULL;
    if (!copy)
        return NULL;
    const char *from = json_string_value(string);
    for (size_t i = 0; i < n; i++)
        if (from[i])
            copy[kept++] = from[i];
    copy[kept] = '\0';
    return copy;
}

/* -1 where it is no count of tokens: sums of them stay far from what an int holds. */
static int count_of(const json_t *object, const char *key)
{
    enum { MOST = 1 << 28 };
    const json_t *v = json_object_get(object, key);
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    return n < 0 || n > MOST ? -1 : (int)n;
}

/* What went wrong, in the shapes that servers give it: {"error": {"message": TEXT}}, {"error": TEXT},
 * {"message": TEXT}, {"detail": TEXT}. */
static const json_t *error_of(const json_t *root)
{
    const json_t *error = json_object_get(root, "error");
    const json_t *message = json_object_get(error, "message");
    if (json_is_string(message))
        return message;
    if (json_is_string(error))
        return error;
    if (json_object_get(root, "choices"))
        return NULL;
    message = json_object_get(root, "message");
    return json_is_string(message) ? message : json_object_get(root, "detail");
}

static enum lade_reply_finish finish_of(const json_t *choice)
{
    const char *why = json_string_value(json_object_get(choice, "finish_reason"));
    if (!why)
        return LADE_REPLY_GOES_ON;
    if (!strcmp(why, "length"))
        return LADE_REPLY_LENGTH;
    if (strcmp(why, "stop") != 0)
        return LADE_REPLY_OTHER;
    return json_is_string(json_object_get(choice, "stop_reason")) ? LADE_REPLY_STOP_TEXT
                                                                  : LADE_REPLY_STOP;
}

/* llama-server's: what its cache had already is no part of the work. */
static void read_progress(struct lade_reply *r, const json_t *progress)
{
    const int kept = count_of(progress, "cache"), total = count_of(progress, "total");
    const int done = count_of(progress, "processed");
    if (kept >= 0 && done >= kept && total > kept && total >= done) {
        r->read = done - kept;
        r->to_read = total - kept;
    }
}

bool lade_reply_read(struct lade_reply *r, const char *json, size_t n)
{
    json_t *root = parse(json, n);
    *r = (struct lade_reply){.prompt_tokens = -1, .tokens = -1, .kept_tokens = -1};
    if (json_is_object(root)) {
        const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        const json_t *delta = json_object_get(choice, "delta");
        const json_t *usage = json_object_get(root, "usage");
        const json_t *reasoning = json_object_get(delta, "reasoning_content");
        r->text = copy_of(json_object_get(delta, "content"));
        r->reasoning = copy_of(json_string_length(reasoning) ? reasoning
                                                             : json_object_get(delta, "reasoning"));
        r->error = copy_of(error_of(root));
        r->finish = finish_of(choice);
        r->prompt_tokens = count_of(usage, "prompt_tokens");
        r->tokens = count_of(usage, "completion_tokens");
        r->kept_tokens = count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
        read_progress(r, json_object_get(root, "prompt_progress"));
        if (!r->error && json_object_get(root, "error"))
            r->error = strdup("it does not say why");
    }
    bool object = json_is_object(root);
    json_decref(root);
    return object;
}

void lade_reply_clear(struct lade_reply *r)
{
    free(r->text);
    free(r->reasoning);
    free(r->error);
    *r = (struct lade_reply){0};
}

void lade_reply_failure(const char *body, size_t n, char *out, size_t size)
{
    json_t *root = parse(body, n);
    const json_t *error = error_of(root);
    *out = '\0';
    if (json_is_string(error))
        lade_printable(out, size, json_string_value(error), json_string_length(error));
    size_t end = strlen(out); /* more follows it in a line */
    while (end && strchr(" .\n", out[end - 1]))
        out[--end] = '\0';
    json_decref(root);
}

double lade_reply_progress(const char *body, size_t n)
{
    json_t *root = parse(body, n);
    double done = json_number_value(json_object_get(root, "loaded_bytes"));
    double all = json_number_value(json_object_get(root, "bytes"));
    json_decref(root);
    return all > 0 && done >= 0 && done <= all ? done / all : -1;
}

static void read_model(struct lade_reply_model *m, const json_t *entry)
{
    const json_t *meta = json_object_get(entry, "meta");
    const json_t *owner = json_object_get(entry, "owned_by");
    int context = count_of(entry, "max_model_len");
    if (context <= 0)
        context = count_of(meta, "n_ctx");
    if (context <= 0)
        context = count_of(meta, "n_ctx_train");
    const json_t *size = json_object_get(meta, "size");
    *m = (struct lade_reply_model){.context = context > 0 ? context : 0};
    m->bytes = json_integer_value(size) > 0 ? (uint64_t)json_integer_value(size) : 0;
    snprintf(m->name, sizeof m->name, "%s", json_string_value(json_object_get(entry, "id")));
    if (json_is_string(owner))
        lade_printable(m->server, sizeof m->server, json_string_value(owner),
                       json_string_length(owner));
}

int lade_reply_models(struct lade_reply_model *out, int most, const char *body, size_t n)
{
    json_t *root = parse(body, n), *data = json_object_get(root, "data"), *entry;
    size_t i;
    int found = json_is_array(data) ? 0 : -1;
    json_array_foreach(data, i, entry)
    {
        const char *id = json_string_value(json_object_get(entry, "id"));
        if (!id || !*id || strlen(id) >= sizeof out->name)
            continue;
        if (found < most)
            read_model(&out[found], entry);
        found++;
    }
    json_decref(root);
    return found;
}
