#include "tui/serve/body.h"

#include <stdarg.h>
#include <stdio.h>

enum { BAD_REQUEST = 400, NO_MEMORY = 500 };

int serve_refuse(struct serve_error *e, int status, const char *code, const char *param,
                 const char *fmt, ...)
{
    va_list args;
    *e = (struct serve_error){.status = status, .code = code};
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
    return -1;
}

int body_refuse(struct serve_error *e, const char *field, const char *why)
{
    return serve_refuse(e, BAD_REQUEST, "invalid_value", field, "%s: %s", field, why);
}

int body_no_memory(struct serve_error *e)
{
    return serve_refuse(e, NO_MEMORY, NULL, NULL, "the request: out of memory; try again later");
}

/* Parsed values take up to fifty times the memory of their text, and nested ones take stack: more of
 * them than any conversation has are refused before they are parsed. */
static int check_size(const char *text, size_t len, const char *what, struct serve_error *e)
{
    enum { DEEPEST = 64, MOST = 200000 }; /* tools nest their parameters' parameters */
    int depth = 0, values = 0;
    bool quoted = false;
    for (size_t i = 0; i < len && depth <= DEEPEST && values <= MOST; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '[' || c == '{'))
            depth++, values++;
        else if (!quoted && (c == ']' || c == '}'))
            depth--;
        else if (!quoted && c == ',')
            values++;
    }
    if (depth > DEEPEST)
        return serve_refuse(e, BAD_REQUEST, NULL, NULL,
                            "%s: is nested more than %d deep; send a flat one", what, DEEPEST);
    if (values > MOST)
        return serve_refuse(e, BAD_REQUEST, NULL, NULL,
                            "%s: has more than %d values; send fewer messages", what, MOST);
    return 0;
}

json_t *body_parse(const char *text, size_t len, const char *what, struct serve_error *e)
{
    json_error_t json;
    if (check_size(text, len, what, e))
        return NULL;
    json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &json);
    if (json_is_object(body))
        return body;
    if (body)
        serve_refuse(e, BAD_REQUEST, NULL, NULL, "%s: is no JSON object; send one", what);
    else
        serve_refuse(e, BAD_REQUEST, NULL, NULL, "%s: is no JSON: %s", what, json.text);
    json_decref(body);
    return NULL;
}

json_t *body_field(json_t *of, const char *name)
{
    json_t *v = json_object_get(of, name);
    return json_is_null(v) ? NULL : v;
}

bool body_is_nothing(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(v) == 0;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_ARRAY:
    case JSON_OBJECT:
        return json_array_size(v) + json_object_size(v) == 0;
    case JSON_TRUE:
        break;
    }
    return false;
}
