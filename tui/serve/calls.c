#include "tui/serve/calls.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/pyjson.h"
#include "tui/serve/typed.h"

#define NO_TAG SIZE_MAX

enum {
    LONGEST_NAME = 256, /* of a function or a parameter */
    TAGS = 3,           /* at most that may come in one state */
};

/* What comes next. */
enum {
    TEXT,   /* something said, or a call */
    FORM,   /* which of the two: after <tool_call> */
    OBJECT, /* the JSON object, up to </tool_call> */
    NAME,   /* of the function, up to > */
    FIRST,  /* a parameter, or the end */
    KEY,    /* of a parameter, up to > */
    VALUE,  /* up to </parameter> */
    NEXT,   /* another parameter, or the end; anything else is still of the value */
    LAST,   /* </tool_call> */
    DONE,   /* the call is complete */
};

static const struct tag {
    const char *text;
    int to;
} tags[][TAGS] = {
    [TEXT] = {{"<tool_call>", FORM}, {"<function=", NAME}},
    [FORM] = {{"<function=", NAME}},
    [OBJECT] = {{"</tool_call>", DONE}},
    [NAME] = {{0}},
    [FIRST] = {{"<parameter=", KEY}, {"</function>", LAST}},
    [KEY] = {{0}},
    [VALUE] = {{"</parameter>", NEXT}},
    [NEXT] = {{"<parameter=", KEY}, {"</function>", LAST}, {"</tool_call>", DONE}},
    [LAST] = {{"</tool_call>", DONE}},
};

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Nothing is held any more. */
static void restart(struct calls *c)
{
    buf_cut(&c->held, 0);
    c->state = TEXT;
    c->tag = NO_TAG;
    c->spaces = 0;
    c->wrapped = c->quoted = c->escaped = false;
    c->n_spans = 0;
}

static void say(struct calls *c, size_t n)
{
    if (!n)
        return;
    buf_add(&c->text, c->held.at, n);
    c->after_call = false;
}

/* ---- a whole call ---------------------------------------------------------------------------- */

static json_t *object_of(const struct call_span *s, const struct calls *c)
{
    json_t *value = json_loadb(c->held.at + s->at, s->end - s->at, 0, NULL);
    return json_is_object(value) ? value : (json_decref(value), NULL);
}

/* The arguments of a call in JSON: an object, the text of one, or none at all. */
static json_t *arguments_of(const json_t *call)
{
    json_t *given = json_object_get(call, "arguments");
    if (!given || json_is_null(given))
        return json_object();
    json_t *value = json_is_string(given)
                        ? json_loadb(json_string_value(given), json_string_length(given), 0, NULL)
                        : json_incref(given);
    return json_is_object(value) ? value : (json_decref(value), NULL);
}

/* A line break belongs to each tag around a value. NULL where it is no UTF-8. */
static json_t *parameters_of(const struct calls *c, const char *name)
{
    json_t *all = json_object();
    for (size_t i = 0; i + 1 < c->n_spans; i += 2) {
        const struct call_span *k = &c->parameters[i], *v = k + 1;
        const char *text = c->held.at + v->at;
        size_t n = v->end - v->at;
        char *key = buf_strndup(c->held.at + k->at, k->end - k->at);
        if (n && *text == '\n')
            text++, n--;
        if (n && text[n - 1] == '\n')
            n--;
        const int failed =
            json_object_set_new(all, key, typed_value(typed_schema(c->tools, name, key), text, n));
        free(key);
        if (failed) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

/* Adds what is held; false where it is no call. */
static bool make(struct calls *c)
{
    const bool json = c->state == OBJECT;
    json_t *object = json ? object_of(&c->value, c) : NULL;
    const char *in_json = json_string_value(json_object_get(object, "name"));
    char *name = json ? (in_json ? buf_strdup(in_json) : NULL)
                      : buf_strndup(c->held.at + c->name.at, c->name.end - c->name.at);
    json_t *arguments = !name ? NULL : json ? arguments_of(object) : parameters_of(c, name);
    char *text = arguments ? lade_pyjson(arguments) : NULL;
    json_decref(object);
    json_decref(arguments);
    if (!text) {
        free(name);
        return false;
    }
    BUF_GROW(c->made, c->n, c->cap);
    c->made[c->n++] = (struct call){name, text};
    return true;
}

/* The call is complete. In JSON one line break before it is the template's, between tags all white
 * space is. */
static void finish(struct calls *c)
{
    const bool json = c->state == OBJECT;
    if (!make(c)) {
        say(c, c->held.n);
        restart(c);
        return;
    }
    if (json && !c->after_call && c->spaces)
        say(c, c->spaces - (c->held.at[c->spaces - 1] == '\n'));
    restart(c);
    c->after_call = true;
}

/* ---- byte by byte ---------------------------------------------------------------------------- */

static void take(struct calls *c, char byte);

/* What is held is no call, or no tag: it is text, but for the bytes from `from` on, which are few. */
static void give_up(struct calls *c, size_t from)
{
    char again[16];
    const size_t n = c->held.n - from;
    memcpy(again, c->held.at + from, n);
    say(c, from);
    restart(c);
    for (size_t i = 0; i < n; i++)
        take(c, again[i]);
}

/* The same where the call before them is complete. */
static void go_on(struct calls *c, size_t from)
{
    char again[16];
    const size_t n = c->held.n - from;
    memcpy(again, c->held.at + from, n);
    buf_cut(&c->held, from);
    finish(c);
    for (size_t i = 0; i < n; i++)
        take(c, again[i]);
}

static void add_span(struct calls *c, size_t at, size_t end)
{
    BUF_GROW(c->parameters, c->n_spans, c->cap_spans);
    c->parameters[c->n_spans++] = (struct call_span){at, end};
}

/* The tag at c->tag is complete. */
static void reach(struct calls *c, int to)
{
    const size_t at = c->tag, end = c->held.n;
    c->tag = NO_TAG;
    switch (c->state) {
    case TEXT:
        c->spaces = at;
        c->wrapped = to == FORM;
        break;
    case OBJECT:
        c->value.end = at;
        finish(c);
        return;
    case VALUE:
        c->value.end = at;
        break;
    case NEXT:
        add_span(c, c->value.at, c->value.end);
        break;
    default:
        break;
    }
    if (to == DONE) {
        finish(c);
        return;
    }
    c->state = to;
    if (to == NAME || to == KEY)
        c->name = to == NAME ? (struct call_span){end, end} : c->name;
    if (to == KEY)
        c->value.at = end; /* until the key is read */
}

static void take_name(struct calls *c, char byte, size_t at)
{
    const size_t from = c->state == NAME ? c->name.at : c->value.at;
    if (byte == '<' || byte == '\n' || at - from > LONGEST_NAME) {
        give_up(c, at);
        return;
    }
    if (byte != '>')
        return;
    if (c->state == KEY) {
        add_span(c, from, at);
        c->value.at = at + 1;
        c->state = VALUE;
        return;
    }
    char *name = buf_strndup(c->held.at + from, at - from);
    const bool known = c->wrapped || typed_is_offered(c->tools, name);
    free(name);
    c->name.end = at;
    c->state = FIRST;
    if (!known || at == from)
        give_up(c, at + 1);
}

/* A byte that is of no tag. */
static void take_other(struct calls *c, char byte, size_t at)
{
    switch (c->state) {
    case NAME:
    case KEY:
        take_name(c, byte, at);
        break;
    case OBJECT:
        if (c->escaped)
            c->escaped = false;
        else if (c->quoted && byte == '\\')
            c->escaped = true;
        else if (byte == '"')
            c->quoted = !c->quoted;
        break;
    case VALUE:
        break;
    case NEXT:
        if (!is_space(byte))
            c->state = VALUE;
        break;
    case TEXT:
        if (!is_space(byte))
            give_up(c, at + 1);
        break;
    case FORM:
        if (byte == '{') {
            c->state = OBJECT;
            c->value.at = at;
        } else if (!is_space(byte)) {
            give_up(c, at);
        }
        break;
    case LAST:
        if (!is_space(byte))
            go_on(c, at);
        break;
    default: /* FIRST */
        if (!is_space(byte))
            give_up(c, at);
        break;
    }
}

/* The tag that what is held from c->tag on is, or begins; NULL = none. */
static const struct tag *find_tag(const struct calls *c)
{
    const size_t n = c->held.n - c->tag;
    for (const struct tag *t = tags[c->state]; t < tags[c->state] + TAGS && t->text; t++)
        if (n <= strlen(t->text) && !memcmp(t->text, c->held.at + c->tag, n))
            return t;
    return NULL;
}

/* What was taken for a tag's beginning is none, and ends with the last byte. */
static void miss(struct calls *c)
{
    const size_t from = c->tag, at = c->held.n - 1;
    c->tag = NO_TAG;
    switch (c->state) {
    case NEXT: /* it may be the one that ends the value */
        c->state = VALUE;
        c->tag = from;
        break;
    case VALUE:
    case OBJECT:
        if (c->held.at[at] == '<')
            c->tag = at;
        break;
    case TEXT:
        give_up(c, at);
        return;
    case LAST:
        go_on(c, from);
        return;
    default:
        give_up(c, from);
        return;
    }
    if (c->tag == NO_TAG)
        take_other(c, c->held.at[at], at);
    else if (!find_tag(c))
        miss(c);
}

static void take(struct calls *c, char byte)
{
    buf_add(&c->held, &byte, 1);
    const size_t at = c->held.n - 1;
    if (c->tag == NO_TAG && byte == '<' && tags[c->state][0].text && !c->quoted)
        c->tag = at;
    if (c->tag == NO_TAG) {
        take_other(c, byte, at);
        return;
    }
    const struct tag *t = find_tag(c);
    if (!t)
        miss(c);
    else if (c->held.n - c->tag == strlen(t->text))
        reach(c, t->to);
}

/* ---- the whole ------------------------------------------------------------------------------- */

void calls_begin(struct calls *c, json_t *tools)
{
    *c = (struct calls){.tools = json_incref(tools)};
    restart(c);
}

void calls_take(struct calls *c, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        take(c, text[i]);
}

void calls_end(struct calls *c, bool whole)
{
    const size_t end = c->tag == NO_TAG ? c->held.n : c->tag;
    if (c->state == NEXT && whole)
        add_span(c, c->value.at, c->value.end);
    if (c->state == OBJECT)
        c->value.end = end;
    if (c->state == LAST || (whole && (c->state == NEXT || c->state == OBJECT)))
        finish(c);
    else if (c->state != TEXT || !c->after_call || c->tag != NO_TAG)
        say(c, c->held.n);
    restart(c);
}

void calls_free(struct calls *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->made[i].name);
        free(c->made[i].arguments);
    }
    free(c->made);
    free(c->parameters);
    buf_free(&c->text);
    buf_free(&c->held);
    json_decref(c->tools);
    *c = (struct calls){0};
}
