#include "engine/tokenizer/pyjson.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The two ways to write a value differ in words and in texts. */
struct form {
    const char *null, *yes, *no;
    void (*text)(FILE *to, const char *s);
};

static void put_json_text(FILE *to, const char *s)
{
    static const char short_of[][3] = {
        ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n",  ['\f'] = "\\f",
        ['\r'] = "\\r", ['"'] = "\\\"", ['\\'] = "\\\\",
    };
    fputc('"', to);
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c < sizeof short_of / sizeof *short_of && *short_of[c])
            fputs(short_of[c], to);
        else if (c < 0x20)
            fprintf(to, "\\u%04x", c);
        else
            fputc(c, to);
    }
    fputc('"', to);
}

/* In single quotes, but for a text that has these and no double ones. */
static void put_repr_text(FILE *to, const char *s)
{
    const char quote = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';
    fputc(quote, to);
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '\n' || c == '\r' || c == '\t')
            fprintf(to, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < 0x20 || c == 0x7f)
            fprintf(to, "\\x%02x", c);
        else if (c == (unsigned char)quote || c == '\\')
            fprintf(to, "\\%c", c);
        else
            fputc(c, to);
    }
    fputc(quote, to);
}

static const struct form json_form = {"null", "true", "false", put_json_text},
                         repr_form = {"None", "True", "False", put_repr_text};

/* repr of a float: the fewest digits that are it again, with an exponent below 1e-4 and from 1e16. */
static void put_real(FILE *to, double v)
{
    char text[40], digits[24] = "";
    int n = 0, used = 1;
    do
        snprintf(text, sizeof text, "%.*e", used - 1, fabs(v));
    while (strtod(text, NULL) != fabs(v) && ++used <= 17);
    const char *e = strchr(text, 'e');
    for (const char *p = text; p < e; p++) /* between them may be a locale's point */
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    const int exponent = atoi(e + 1);
    if (signbit(v))
        fputc('-', to);
    if (exponent < -4 || exponent >= 16) {
        fprintf(to, n > 1 ? "%c.%.*se%c%02d" : "%c%.*se%c%02d", digits[0], n - 1, digits + 1,
                exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0)
        fprintf(to, "0.%.*s", -exponent - 1, "000");
    for (int i = 0; i < n || i <= exponent + 1; i++) {
        if (exponent >= 0 && i == exponent + 1)
            fputc('.', to);
        if (i < n || exponent >= 0)
            fputc(i < n ? digits[i] : '0', to);
    }
}

static void put(FILE *to, const json_t *v, const struct form *f)
{
    const char *key, *between = "";
    json_t *item;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_NULL:
        fputs(f->null, to);
        break;
    case JSON_TRUE:
        fputs(f->yes, to);
        break;
    case JSON_FALSE:
        fputs(f->no, to);
        break;
    case JSON_INTEGER:
        fprintf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        put_real(to, json_real_value(v));
        break;
    case JSON_STRING:
        f->text(to, json_string_value(v));
        break;
    case JSON_ARRAY:
        fputc('[', to);
        json_array_foreach(v, i, item)
        {
            fputs(between, to);
            put(to, item, f);
            between = ", ";
        }
        fputc(']', to);
        break;
    case JSON_OBJECT:
        fputc('{', to);
        json_object_foreach((json_t *)v, key, item)
        {
            fputs(between, to);
            f->text(to, key);
            fputs(": ", to);
            put(to, item, f);
            between = ", ";
        }
        fputc('}', to);
        break;
    }
}

static char *written(const json_t *v, const struct form *f)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);
    if (!to)
        return NULL;
    put(to, v, f);
    const bool failed = ferror(to) != 0;
    if (!fclose(to) && !failed)
        return text;
    free(text);
    return NULL;
}

char *lade_pyjson(const json_t *value)
{
    return written(value, &json_form);
}

char *lade_pystr(const json_t *value)
{
    return json_is_string(value) ? strdup(json_string_value(value)) : written(value, &repr_form);
}
