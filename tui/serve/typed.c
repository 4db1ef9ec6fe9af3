#include "tui/serve/typed.h"

#include <string.h>

static const json_t *function_of(const json_t *tools, const char *name)
{
    size_t i;
    json_t *tool;
    json_array_foreach(tools, i, tool)
    {
        const json_t *function = json_object_get(tool, "function");
        const char *own = json_string_value(json_object_get(function, "name"));
        if (own && !strcmp(own, name))
            return function;
    }
    return NULL;
}

bool typed_is_offered(const json_t *tools, const char *name)
{
    return function_of(tools, name) != NULL;
}

const json_t *typed_schema(const json_t *tools, const char *function, const char *parameter)
{
    const json_t *parameters = json_object_get(function_of(tools, function), "parameters");
    return json_object_get(json_object_get(parameters, "properties"), parameter);
}

/* ---- types ------------------------------------------------------------------------------------- */

enum { TEXT = 1, NOTHING = 2, LIST = 4, OBJECT = 8, OTHER = 16 };

static const struct {
    const char *name;
    unsigned type;
} types[] = {
    {"string", TEXT},  {"null", NOTHING},  {"array", LIST},    {"object", OBJECT},
    {"number", OTHER}, {"integer", OTHER}, {"boolean", OTHER},
};

static unsigned type_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name))
            return types[i].type;
    return 0;
}

static unsigned type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return TEXT;
    case JSON_NULL:
        return NOTHING;
    case JSON_ARRAY:
        return LIST;
    case JSON_OBJECT:
        return OBJECT;
    default:
        return OTHER;
    }
}

/* All that a schema allows, as far as it says it in one of the usual ways; 0 = it does not. */
static unsigned types_of(const json_t *schema, int depth)
{
    static const char *const choices[] = {"anyOf", "oneOf", "allOf"};
    const json_t *type = json_object_get(schema, "type"), *set = json_object_get(schema, "enum");
    unsigned all = type_named(json_string_value(type));
    size_t k;
    json_t *v;
    json_array_foreach(type, k, v)
    {
        all |= type_named(json_string_value(v));
    }
    for (size_t i = 0; !all && depth && i < sizeof choices / sizeof *choices; i++)
        json_array_foreach(json_object_get(schema, choices[i]), k, v)
        {
            all |= types_of(v, depth - 1);
        }
    if (!all)
        json_array_foreach(set, k, v)
        {
            all |= type_of(v);
        }
    return all;
}

/* Some write Python's words. */
static json_t *word(const char *text, size_t n)
{
    static const char *const words[] = {"True", "False", "None"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (n == strlen(words[i]) && !memcmp(text, words[i], n))
            return i == 2 ? json_null() : json_boolean(!i);
    return NULL;
}

json_t *typed_value(const json_t *schema, const char *text, size_t n)
{
    unsigned wanted = types_of(schema, 2);
    json_t *value = wanted == TEXT ? NULL : json_loadb(text, n, JSON_DECODE_ANY, NULL);
    if (!wanted)
        wanted = TEXT | LIST | OBJECT;
    if (!value && !(wanted & TEXT))
        value = word(text, n);
    /* Beside texts only what cannot be meant as one: 12 may be a text, too. */
    if (value && (!(wanted & TEXT) || (type_of(value) & wanted & (NOTHING | LIST | OBJECT))))
        return value;
    json_decref(value);
    return json_stringn(text, n);
}
