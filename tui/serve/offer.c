#include "tui/serve/offer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tools ----------------------------------------------------------------------------------- */

static int check_tool(json_t *tool, size_t i, struct serve_error *e)
{
    char name[64];
    const char *type = json_string_value(json_object_get(tool, "type"));
    json_t *function = json_object_get(tool, "function"),
           *parameters = body_field(function, "parameters");
    snprintf(name, sizeof name, "tools[%zu].type", i);
    if (!type || strcmp(type, "function") != 0)
        return body_refuse(e, name, "is not function; lade has no tools of its own");
    snprintf(name, sizeof name, "tools[%zu].function.name", i);
    if (!json_string_length(json_object_get(function, "name")))
        return body_refuse(e, name, "is missing; send objects with a name and parameters");
    snprintf(name, sizeof name, "tools[%zu].function.parameters", i);
    if (parameters && !json_is_object(parameters))
        return body_refuse(e, name, "is no object; send a JSON schema, or leave it out");
    return 0;
}

/* Whether the model may call any. */
static int read_choice(json_t *body, bool *may, struct serve_error *e)
{
    const json_t *choice = body_field(body, "tool_choice");
    const char *text = json_string_value(choice);
    *may = !text || strcmp(text, "none") != 0;
    if (!choice || (text && (!*may || !strcmp(text, "auto"))))
        return 0;
    return serve_refuse(e, 400, "unsupported_parameter", "tool_choice",
                        "tool_choice: lade cannot make the model call a tool; send auto or none");
}

int offer_tools(json_t *body, json_t **tools, struct serve_error *e)
{
    json_t *list = body_field(body, "tools"), *tool;
    bool may;
    size_t i;
    *tools = NULL;
    if (list && !json_is_array(list))
        return body_refuse(e, "tools", "is no list; send one, or leave it out");
    json_array_foreach(list, i, tool)
    {
        if (check_tool(tool, i, e))
            return -1;
    }
    if (read_choice(body, &may, e))
        return -1;
    *tools = may && json_array_size(list) ? list : NULL;
    return 0;
}

/* ---- calls ----------------------------------------------------------------------------------- */

const char *offer_text(json_t *texts, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    json_t *kept = text ? json_string(text) : NULL;
    free(text);
    return json_array_append_new(texts, kept) ? NULL : json_string_value(kept);
}

/* {"name", "arguments"} of one call; NULL with *e. Clients send the arguments as a text of JSON. */
static json_t *read_call(json_t *call, const char *path, struct serve_error *e)
{
    char field[64];
    json_t *function = json_object_get(call, "function"), *name = json_object_get(function, "name"),
           *arguments = body_field(function, "arguments");
    snprintf(field, sizeof field, "%.40s.function.name", path);
    if (!json_string_length(name)) {
        body_refuse(e, field, "is missing; send the calls as they were answered");
        return NULL;
    }
    const char *text = json_string_value(arguments);
    snprintf(field, sizeof field, "%.40s.function.arguments", path);
    if (!arguments || (text && !*text))
        arguments = json_object();
    else
        arguments = text ? body_parse(text, strlen(text), field, e) : json_incref(arguments);
    if (arguments && !json_is_object(arguments))
        body_refuse(e, field, "is neither the JSON text of an object nor one; send that");
    if (json_is_object(arguments))
        return json_pack("{s:O, s:o}", "name", name, "arguments", arguments);
    snprintf(e->param, sizeof e->param, "%s", field);
    json_decref(arguments);
    return NULL;
}

int offer_calls(json_t *message, size_t number, json_t *texts, const char **calls,
                struct serve_error *e)
{
    char path[64];
    json_t *given = body_field(message, "tool_calls"), *call, *read;
    size_t i;
    *calls = NULL;
    snprintf(path, sizeof path, "messages[%zu].tool_calls", number);
    if (!given || body_is_nothing(given))
        return 0;
    if (!json_is_array(given))
        return body_refuse(e, path, "is no list; send one, or leave it out");
    json_t *list = json_array();
    json_array_foreach(given, i, call)
    {
        snprintf(path, sizeof path, "messages[%zu].tool_calls[%zu]", number, i);
        if (!(read = read_call(call, path, e))) {
            json_decref(list);
            return -1;
        }
        json_array_append_new(list, read);
    }
    *calls = offer_text(texts, list);
    json_decref(list);
    return *calls ? 0 : body_no_memory(e);
}
