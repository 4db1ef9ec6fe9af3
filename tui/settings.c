#include "tui/settings.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/error.h"
#include "tui/stop.h"
#include "tui/text/buf.h"

#define AT(field) (unsigned)offsetof(struct settings, field)

const struct settings_row settings_rows[] = {
    {"temperature", NULL, "randomness; 0 always takes the likeliest token", SETTINGS_FLOAT, 0, 100,
     AT(sampling.temperature)},
    {"top-p", NULL, "keep the likeliest tokens up to this share; 1 = off", SETTINGS_FLOAT, 0, 1,
     AT(sampling.top_p)},
    {"top-k", NULL, "keep this many of the likeliest tokens; 0 = off", SETTINGS_INT, 0, 1e9,
     AT(sampling.top_k)},
    {"min-p", NULL, "drop tokens below this share of the likeliest; 0 = off", SETTINGS_FLOAT, 0, 1,
     AT(sampling.min_p)},
    {"repetition-penalty", "repeat-penalty", "make repetitions less likely; 1 = off",
     SETTINGS_FLOAT, 0.1, 10, AT(sampling.repetition_penalty)},
    {"seed", NULL, "the same seed gives the same answer; 0 = from the clock", SETTINGS_SEED, 0,
     1.8446744073709552e19, AT(sampling.seed)},
    {"max-tokens", "tokens", "end an answer after so many tokens; 0 = no limit", SETTINGS_INT, 0,
     1e9, AT(max_tokens)},
    {"system", NULL, "text the model reads before the conversation; none removes it", SETTINGS_TEXT,
     0, 0, AT(system)},
    {"stop", NULL,
     "text that ends an answer; \\n is a new line, | stands between several; none removes it",
     SETTINGS_STOP, 0, 0, AT(sampling.stop)},
};
const int settings_count = sizeof settings_rows / sizeof *settings_rows;

static void *field(struct settings *s, int i)
{
    return (char *)s + settings_rows[i].offset;
}

/* Whether a number is a server's to choose. */
static bool is_open(struct settings *s, int i)
{
    return (settings_rows[i].type == SETTINGS_FLOAT && isnan(*(float *)field(s, i))) ||
           (settings_rows[i].type == SETTINGS_INT && *(int *)field(s, i) < 0);
}

void settings_defaults(struct settings *s, const struct lade_sampling *of_model)
{
    struct settings d = {.sampling = *of_model};
    for (int i = 0; i < settings_count; i++) {
        if (s->set & 1u << i)
            continue;
        switch (settings_rows[i].type) {
        case SETTINGS_FLOAT:
            *(float *)field(s, i) = *(float *)field(&d, i);
            break;
        case SETTINGS_INT:
            *(int *)field(s, i) = *(int *)field(&d, i);
            break;
        case SETTINGS_SEED:
            *(uint64_t *)field(s, i) = *(uint64_t *)field(&d, i);
            break;
        default:
            break;
        }
    }
}

/* '_' stands for '-'. */
static bool same_name(const char *name, const char *typed)
{
    while (*name && (*name == *typed || (*name == '-' && *typed == '_'))) {
        name++;
        typed++;
    }
    return !*name && !*typed;
}

static int find(const char *typed)
{
    for (int i = 0; i < settings_count; i++) {
        const struct settings_row *r = &settings_rows[i];
        if (same_name(r->name, typed) || (r->also && same_name(r->also, typed)))
            return i;
    }
    return -1;
}

static int out_of_range(const struct settings_row *r, const char *value, char *err)
{
    if (r->type == SETTINGS_SEED)
        return lade_fail(err,
                         "%s: '%.40s' is not a whole number from 0 to %llu; /help set explains "
                         "it",
                         r->name, value, (unsigned long long)UINT64_MAX);
    return lade_fail(err, "%s: '%.40s' is not a %s from %.10g to %.10g; /help set explains it",
                     r->name, value, r->type == SETTINGS_INT ? "whole number" : "number", r->min,
                     r->max);
}

static bool is_number(const struct settings_row *r)
{
    return r->type != SETTINGS_TEXT && r->type != SETTINGS_STOP;
}

static int set_text(struct settings *s, int i, const char *value, char *err)
{
    bool none = strcmp(value, "none") == 0;
    if (settings_rows[i].type == SETTINGS_STOP)
        return stop_read(field(s, i), none ? "" : value, err);
    char **text = field(s, i);
    free(*text);
    *text = none ? NULL : buf_strdup(value);
    return 0;
}

int settings_set(struct settings *s, const char *name, const char *value, char *err)
{
    int i = find(name);
    if (i < 0) {
        char all[256] = "";
        for (int k = 0; k < settings_count; k++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", k ? ", " : "",
                     settings_rows[k].name);
        return lade_fail(err, "/set %.40s: there is no such setting; choose %s", name, all);
    }
    const struct settings_row *r = &settings_rows[i];
    if (strcmp(value, "default") == 0) {
        s->set &= ~(1u << i);
        if (!is_number(r))
            set_text(s, i, "none", NULL);
        return i;
    }
    char *end;
    uint64_t whole;
    errno = 0;
    double number = strtod(value, &end);
    if (is_number(r) &&
        (end == value || *end || !isfinite(number) || number < r->min || number > r->max))
        return out_of_range(r, value, err);
    switch (r->type) {
    case SETTINGS_FLOAT:
        *(float *)field(s, i) = (float)number;
        break;
    case SETTINGS_INT:
        if (number != floor(number))
            return out_of_range(r, value, err);
        *(int *)field(s, i) = (int)number;
        break;
    case SETTINGS_SEED:
        whole = strtoull(value, &end, 10);
        if (*end || errno)
            return out_of_range(r, value, err);
        *(uint64_t *)field(s, i) = whole;
        break;
    default:
        if (set_text(s, i, value, err))
            return -1;
        break;
    }
    s->set |= 1u << i;
    return i;
}

char *settings_value(struct settings *s, int i, char *out, int n)
{
    const char *text;
    if (is_open(s, i)) {
        snprintf(out, (size_t)n, "the server's");
        return out;
    }
    switch (settings_rows[i].type) {
    case SETTINGS_FLOAT:
        snprintf(out, (size_t)n, "%.4g", (double)*(float *)field(s, i));
        break;
    case SETTINGS_INT:
        snprintf(out, (size_t)n, "%d", *(int *)field(s, i));
        break;
    case SETTINGS_SEED:
        snprintf(out, (size_t)n, "%llu", (unsigned long long)*(uint64_t *)field(s, i));
        break;
    case SETTINGS_STOP:
        stop_write(field(s, i), out, n);
        break;
    default:
        text = *(char **)field(s, i);
        snprintf(out, (size_t)n, "%s", text ? text : "");
        break;
    }
    return out;
}

char *settings_json(struct settings *s)
{
    json_t *all = json_object(), *by_user = json_array();
    for (int i = 0; i < settings_count; i++) {
        const struct settings_row *r = &settings_rows[i];
        char seed[24], stops[STOP_LIST];
        json_t *v;
        if (is_open(s, i))
            v = json_null();
        else if (r->type == SETTINGS_FLOAT)
            v = json_real(round((double)*(float *)field(s, i) * 1e6) / 1e6);
        else if (r->type == SETTINGS_INT)
            v = json_integer(*(int *)field(s, i));
        else if (r->type == SETTINGS_SEED) /* JSON's numbers end at 2^63 */
            v = json_string(settings_value(s, i, seed, sizeof seed));
        else if (r->type == SETTINGS_STOP)
            v = json_string(settings_value(s, i, stops, sizeof stops));
        else
            v = json_string(*(char **)field(s, i) ? *(char **)field(s, i) : "");
        json_object_set_new(all, r->name, v);
        if (s->set & 1u << i)
            json_array_append_new(by_user, json_string(r->name));
    }
    json_object_set_new(all, "set", by_user);
    json_object_set_new(all, "think", json_boolean(s->think));
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

void settings_from_json(struct settings *s, const char *json)
{
    json_t *all = json_loads(json, 0, NULL), *name;
    size_t k;
    const json_t *think = json_object_get(all, "think");
    if (json_is_boolean(think))
        s->think = json_is_true(think);
    json_array_foreach(json_object_get(all, "set"), k, name)
    {
        const char *key = json_string_value(name);
        json_t *v = key ? json_object_get(all, key) : NULL;
        char number[64];
        const char *value = json_string_value(v);
        if (json_is_integer(v))
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        else
            snprintf(number, sizeof number, "%.9g", json_number_value(v));
        if (json_is_number(v))
            value = number;
        if (key && value)
            settings_set(s, key, value, NULL);
    }
    json_decref(all);
}

void settings_free(struct settings *s)
{
    free(s->system);
    *s = (struct settings){.think = s->think};
}
