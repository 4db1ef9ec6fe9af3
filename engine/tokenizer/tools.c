#include "engine/tokenizer/tools.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer/pyjson.h"

static const char call_open[] = "<tool_call>", call_close[] = "</tool_call>";

/* Text of the template: where it speaks of calls these two are control tokens, too. */
static void add_instructions(struct lade_page *p, const char *text)
{
    while (*text) {
        const char *open = strstr(text, call_open), *close = strstr(text, call_close);
        const char *at = open && (!close || open < close) ? open : close;
        if (!at) {
            lade_text_puts(&p->text, text);
            return;
        }
        lade_text_add(&p->text, text, (size_t)(at - text));
        lade_page_control(p, at == open ? call_open : call_close);
        text = at + strlen(at == open ? call_open : call_close);
    }
}

/* Takes text over. */
static void add_owned(struct lade_page *p, char *text)
{
    if (text)
        lade_text_puts(&p->text, text);
    else
        p->text.failed = true;
    free(text);
}

static bool add_json_string(struct lade_page *p, const json_t *value)
{
    if (json_is_string(value))
        lade_text_puts(&p->text, json_string_value(value));
    return json_is_string(value);
}

/* Bytes of the white space, as Python's strip has it, that s begins with; 0 = of none. */
static size_t space_at(const char *s, size_t len)
{
    static const char *const others[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };
    if (len && (*s == ' ' || (*s >= '\t' && *s <= '\r') || (*s >= 0x1c && *s <= 0x1f)))
        return 1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (len >= strlen(others[i]) && !memcmp(s, others[i], strlen(others[i])))
            return strlen(others[i]);
    return 0;
}

/* The text without the white space around it; false where nothing is left. */
static bool add_trimmed(struct lade_page *p, const char *s)
{
    size_t len = strlen(s), n;
    while ((n = space_at(s, len)))
        s += n, len -= n;
    for (size_t back = 1; back <= 3 && back <= len;)
        if (space_at(s + len - back, back) == back)
            len -= back, back = 1;
        else
            back++;
    lade_text_add(&p->text, s, len);
    return len > 0;
}

/* "\n<NAME>VALUE</NAME>" */
static void add_element(struct lade_page *p, const char *name, const char *value)
{
    const char *const parts[] = {"\n<", name, ">", value, "</", name, ">"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        lade_text_puts(&p->text, parts[i]);
}

/* ---- what is offered ------------------------------------------------------------------------- */

static void offer_json(struct lade_page *p, const json_t *tools)
{
    size_t i;
    json_t *tool;
    add_instructions(p, "# Tools\n\nYou may call one or more functions to assist with the user "
                        "query.\n\nYou are provided with function signatures within "
                        "<tools></tools> XML tags:\n<tools>");
    json_array_foreach(tools, i, tool)
    {
        lade_text_puts(&p->text, "\n");
        add_owned(p, lade_pyjson(tool));
    }
    add_instructions(p, "\n</tools>\n\nFor each function call, return a json object with function "
                        "name and arguments within <tool_call></tool_call> XML tags:\n"
                        "<tool_call>\n{\"name\": <function-name>, \"arguments\": "
                        "<args-json-object>}\n</tool_call>");
}

/* What else a schema has than the NULL-ended keys that have their own places. */
static void add_other_keys(struct lade_page *p, json_t *of, const char *const *handled)
{
    const char *key;
    json_t *value;
    json_object_foreach(of, key, value)
    {
        const char *const *h = handled;
        while (*h && strcmp(*h, key) != 0)
            h++;
        char *text = *h                      ? NULL
                     : json_is_string(value) ? strdup(json_string_value(value))
                                             : lade_pyjson(value);
        if (text)
            add_element(p, key, text);
        else if (!*h)
            p->text.failed = true;
        free(text);
    }
}

static void add_description(struct lade_page *p, const json_t *of)
{
    const json_t *value = json_object_get(of, "description");
    char *text = value ? lade_pystr(value) : NULL;
    if (!value)
        return;
    lade_text_puts(&p->text, "\n<description>");
    if (text)
        add_trimmed(p, text);
    else
        p->text.failed = true;
    lade_text_puts(&p->text, "</description>");
    free(text);
}

static void add_parameter(struct lade_page *p, const char *name, json_t *schema)
{
    static const char *const handled[] = {"name", "type", "description", NULL};
    const json_t *type = json_object_get(schema, "type");
    lade_text_puts(&p->text, "\n<parameter>");
    add_element(p, "name", name);
    if (type) {
        lade_text_puts(&p->text, "\n<type>");
        add_owned(p, lade_pystr(type));
        lade_text_puts(&p->text, "</type>");
    }
    add_description(p, schema);
    add_other_keys(p, schema, handled);
    lade_text_puts(&p->text, "\n</parameter>");
}

static void add_function(struct lade_page *p, json_t *function)
{
    static const char *const of_function[] = {"type", "name", "description", "parameters", NULL},
                             *const of_parameters[] = {"type", "properties", NULL};
    json_t *parameters = json_object_get(function, "parameters"), *schema;
    const char *name;
    lade_text_puts(&p->text, "\n<function>\n<name>");
    add_json_string(p, json_object_get(function, "name"));
    lade_text_puts(&p->text, "</name>");
    add_description(p, function);
    lade_text_puts(&p->text, "\n<parameters>");
    json_object_foreach(json_object_get(parameters, "properties"), name, schema)
    {
        add_parameter(p, name, schema);
    }
    add_other_keys(p, parameters, of_parameters);
    lade_text_puts(&p->text, "\n</parameters>");
    add_other_keys(p, function, of_function);
    lade_text_puts(&p->text, "\n</function>");
}

static void offer_tags(struct lade_page *p, const json_t *tools)
{
    size_t i;
    json_t *tool;
    lade_text_puts(&p->text,
                   "\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>");
    json_array_foreach(tools, i, tool)
    {
        add_function(p, json_object_get(tool, "function"));
    }
    add_instructions(
        p, "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with "
           "NO suffix:\n\n<tool_call>\n<function=example_function_name>\n"
           "<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
           "<parameter=example_parameter_2>\nThis is the value for the second parameter\n"
           "that can span\nmultiple lines\n</parameter>\n</function>\n</tool_call>\n\n"
           "<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified format: an inner "
           "<function=...></function> block must be nested within <tool_call></tool_call> XML "
           "tags\n- Required parameters MUST be specified\n- You may provide optional reasoning "
           "for your function call in natural language BEFORE the function call, but NOT after\n"
           "- If there is no function call available, answer the question like normal with your "
           "current knowledge and do not tell the user about function calls\n</IMPORTANT>");
}

void lade_tools_offer(struct lade_page *p, enum lade_chat_family family, const char *system,
                      const char *tools)
{
    json_t *list = json_loads(tools, 0, NULL);
    if (family == LADE_CHAT_CODER) {
        lade_text_puts(&p->text,
                       system ? system
                              : "You are Qwen, a helpful AI assistant that can interact with a "
                                "computer to solve tasks.");
        offer_tags(p, list);
    } else {
        if (system) {
            lade_text_puts(&p->text, system);
            lade_text_puts(&p->text, "\n\n");
        }
        offer_json(p, list);
    }
    p->text.failed |= !list;
    json_decref(list);
}

/* ---- what is called -------------------------------------------------------------------------- */

static void call_json(struct lade_page *p, const json_t *call)
{
    lade_text_puts(&p->text, "\n{\"name\": \"");
    add_json_string(p, json_object_get(call, "name"));
    lade_text_puts(&p->text, "\", \"arguments\": ");
    add_owned(p, lade_pyjson(json_object_get(call, "arguments")));
    lade_text_puts(&p->text, "}\n");
}

static void call_tags(struct lade_page *p, const json_t *call)
{
    const char *key;
    json_t *value;
    lade_text_puts(&p->text, "\n<function=");
    add_json_string(p, json_object_get(call, "name"));
    lade_text_puts(&p->text, ">\n");
    json_object_foreach(json_object_get(call, "arguments"), key, value)
    {
        lade_text_puts(&p->text, "<parameter=");
        lade_text_puts(&p->text, key);
        lade_text_puts(&p->text, ">\n");
        if (!add_json_string(p, value))
            add_owned(p, lade_pyjson(value));
        lade_text_puts(&p->text, "\n</parameter>\n");
    }
    lade_text_puts(&p->text, "</function>\n");
}

void lade_tools_call(struct lade_page *p, enum lade_chat_family family, const char *text,
                     bool separate, const char *calls)
{
    const bool coder = family == LADE_CHAT_CODER;
    json_t *list = json_loads(calls, 0, NULL), *call;
    size_t i;
    if (!coder)
        lade_text_puts(&p->text, text);
    else if (add_trimmed(p, text))
        lade_text_puts(&p->text, "\n\n");
    json_array_foreach(list, i, call)
    {
        if (i || (separate && !coder))
            lade_text_puts(&p->text, "\n");
        lade_page_control(p, call_open);
        if (coder)
            call_tags(p, call);
        else
            call_json(p, call);
        lade_page_control(p, call_close);
    }
    p->text.failed |= !list;
    json_decref(list);
}
