#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/checkpoint/quant.h"

#include <jansson.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/json.h"
#include "engine/checkpoint/scan.h"

enum { MAX_REGEXES = 4096, NAME = 160 };

/* The packings that are stored like GPTQ, and what each adds to a stored zero. */
struct packing {
    const char *name;
    int zero_offset;
};
static const struct packing autoround_packings[] = {
    {"auto_round:auto_gptq", 1}, {"auto_round:gptq", 1},      {"auto", 1},
    {"auto_round", 0},           {"auto_round:gptqmodel", 0}, {0},
};
static const struct packing gptq_packings[] = {{"gptq", 1}, {"gptq_v2", 0}, {0}};

/* Who made the checkpoint, and where its config says what. */
static const struct method {
    const char *name;               /* quant_method contains it */
    const char *packing_keys[2];    /* the first one that is there; else the first packing */
    const struct packing *packings; /* up to a nameless one */
    const char *overrides;          /* settings of single modules */
    bool prefixed;                  /* their keys are "+:regex" or "-:regex", which must match from
                                     * the start of the name */
} methods[] = {
    {"auto-round", {"packing_format", NULL}, autoround_packings, "extra_config", false},
    {"gptq", {"checkpoint_format", "format"}, gptq_packings, "dynamic", true},
};

struct regex {
    const char *key; /* in root */
    size_t len;
    json_t *config;   /* in root */
    pcre2_code *code; /* NULL: the key has no operator but '.', see plain_search */
};

struct lade_quant {
    char *file;
    json_t *root;  /* quantization_config */
    json_t *extra; /* its overrides or NULL */
    const struct method *method;
    struct lade_quant_spec base;
    struct regex *regexes;
    size_t n_regexes;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

const char *lade_quant_file(const struct lade_quant *q)
{
    return q->file;
}

void lade_quant_free(struct lade_quant *q)
{
    if (!q)
        return;
    for (size_t i = 0; i < q->n_regexes; i++)
        pcre2_code_free(q->regexes[i].code);
    free(q->regexes);
    pcre2_match_data_free(q->match);
    pcre2_match_context_free(q->limits);
    json_decref(q->root);
    free(q->file);
    free(q);
}

/* Overrides *spec with the keys that an object has. `where` names the object in errors. */
static int read_spec(json_t *config, struct lade_quant_spec *spec, const char *where, char *err)
{
    const int64_t bits = spec->bits, group = spec->group;
    int64_t value;
    if (lade_json_int(config, "bits", 1, 64, bits ? &bits : NULL, &value, where, err))
        return -1;
    spec->bits = (int)value;
    if (lade_json_int(config, "group_size", -1, 1 << 24, group ? &group : NULL, &value, where, err))
        return -1;
    spec->group = (int)value;
    json_t *sym = json_object_get(config, "sym");
    if (sym && !json_is_boolean(sym))
        return lade_fail(err, "%s: sym is neither true nor false; the file is damaged", where);
    if (sym)
        spec->sym = json_is_true(sym);
    const char *type = json_string_value(json_object_get(config, "data_type"));
    if (type && spec->bits < 16 && strcmp(type, "int") != 0)
        return lade_fail(err,
                         "%s: data_type '%s' is not supported; lade reads integer AutoRound "
                         "checkpoints",
                         where, lade_printable((char[64]){0}, 64, type, strlen(type)));
    return 0;
}

/* "a, b, c" of a packing table. */
static void packing_list(const struct packing *p, char *buf, size_t size)
{
    size_t n = 0;
    for (bool first = true; p->name && n < size; p++, first = false)
        n += (size_t)snprintf(buf + n, size - n, "%s%s", first ? "" : ", ", p->name);
}

static int read_packing(struct lade_quant *q, char *err)
{
    const struct method *m = q->method;
    const char *key = m->packing_keys[0];
    json_t *value = json_object_get(q->root, key);
    if (!value && m->packing_keys[1])
        value = json_object_get(q->root, key = m->packing_keys[1]);
    const char *name = value ? json_string_value(value) : m->packings[0].name;
    if (!name)
        name = "?";
    for (const struct packing *p = m->packings; p->name; p++) {
        if (!strcmp(name, p->name)) {
            q->base.zero_offset = p->zero_offset;
            return 0;
        }
    }
    char known[160];
    packing_list(m->packings, known, sizeof known);
    return lade_fail(err, "%s: %s '%s' is not supported; lade reads %s", q->file, key,
                     lade_printable((char[64]){0}, 64, name, strlen(name)), known);
}

static int read_method(struct lade_quant *q, char *err)
{
    const char *name = json_string_value(json_object_get(q->root, "quant_method"));
    if (!name)
        return lade_fail(
            err, "%s: quantization_config has no quant_method; download the file again", q->file);
    for (size_t i = 0; i < sizeof methods / sizeof *methods && !q->method; i++)
        if (strstr(name, methods[i].name))
            q->method = &methods[i];
    if (!q->method)
        return lade_fail(err,
                         "%s: quant_method '%s' is not supported; get a BF16, an AutoRound "
                         "(auto_round:auto_gptq) or a GPTQ checkpoint",
                         q->file, lade_printable((char[64]){0}, 64, name, strlen(name)));
    return read_packing(q, err);
}

/* desc_act gives each input a group of its own choice, which no kernel here can follow. */
static int check_order(const struct lade_quant *q, char *err)
{
    if (json_is_true(json_object_get(q->root, "desc_act")) && q->base.group != -1)
        return lade_fail(err,
                         "%s: desc_act is true, which reorders the inputs and is not supported; "
                         "get a checkpoint without it",
                         q->file);
    return 0;
}

static int read_overrides(struct lade_quant *q, char *err)
{
    q->extra = json_object_get(q->root, q->method->overrides);
    if (q->extra && !json_is_object(q->extra) && !json_is_null(q->extra))
        return lade_fail(err, "%s: %s is not an object; download the file again", q->file,
                         q->method->overrides);
    return 0;
}

int lade_quant_parse(struct lade_quant **out, const char *text, size_t len, bool whole_file,
                     const char *path, char *err)
{
    *out = NULL;
    json_t *root = lade_json_object(text, len, path, err);
    if (!root)
        return -1;
    json_t *config = whole_file ? root : json_object_get(root, "quantization_config");
    if (!config || json_is_null(config)) {
        json_decref(root);
        return 0;
    }
    struct lade_quant *q = calloc(1, sizeof *q);
    if (!q || !(q->file = strdup(path))) {
        free(q);
        json_decref(root);
        return lade_fail(err, "%s: no memory; free some", path);
    }
    q->root = json_incref(config);
    json_decref(root);
    q->base.sym = true;
    if (!json_is_object(config)) {
        lade_fail(err, "%s: quantization_config is not an object; download the file again", path);
    } else if (!read_method(q, err) && !read_overrides(q, err) &&
               !read_spec(config, &q->base, path, err) && !check_order(q, err)) {
        *out = q;
        return 0;
    }
    lade_quant_free(q);
    return -1;
}

/* ---- settings of single modules ------------------------------------------------------------- */

static bool is_module(const struct lade_raws *raws, const char *key, size_t len)
{
    char name[512];
    static const char *const suffixes[] = {".qweight", ".weight"};
    for (size_t i = 0; i < 2; i++) {
        int n = snprintf(name, sizeof name, "%s%s", key, suffixes[i]);
        if (len < sizeof name && n < (int)sizeof name && lade_raws_find(raws, name, (size_t)n))
            return true;
    }
    return false;
}

/* Whether a key has no operator but '.', as module names that this checkpoint lacks have. There
 * may be thousands of these, so they do not go through the regex engine. */
static bool is_plain(const char *key)
{
    return !key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")];
}

/* re.search for a plain key: '.' stands for any byte. */
static bool plain_search(const char *key, size_t key_len, const char *text, size_t len)
{
    for (size_t at = 0; at + key_len <= len; at++) {
        size_t i = 0;
        while (i < key_len && (key[i] == '.' || key[i] == text[at + i]))
            i++;
        if (i == key_len)
            return true;
    }
    return false;
}

/* Keeps a key as a pattern. */
static int add_pattern(struct lade_quant *q, const char *key, json_t *config, char *err)
{
    struct regex r = {.key = key, .len = strlen(key), .config = config};
    if (q->method->prefixed && !strncmp(key, "-:", 2))
        return 0; /* its modules are plain, which their tensors say */
    if (q->method->prefixed || !is_plain(key)) {
        int code;
        PCRE2_SIZE at;
        if (!strncmp(key, "+:", 2))
            key += 2;
        r.code = pcre2_compile((PCRE2_SPTR)key, PCRE2_ZERO_TERMINATED,
                               q->method->prefixed ? PCRE2_ANCHORED : 0, &code, &at, NULL);
        if (!r.code)
            return 0; /* AutoRound ignores what is no regular expression, too */
    }
    struct regex *grown = realloc(q->regexes, (q->n_regexes + 1) * sizeof *grown);
    if (grown)
        q->regexes = grown;
    if (!grown || q->n_regexes == MAX_REGEXES) {
        pcre2_code_free(r.code);
        return lade_fail(err, "%s: %s has more than %d patterns; the file is damaged", q->file,
                         q->method->overrides, MAX_REGEXES);
    }
    q->regexes[q->n_regexes++] = r;
    return 0;
}

int lade_quant_bind(struct lade_quant *q, const struct lade_raws *raws, char *err)
{
    const char *key;
    json_t *config;
    q->match = pcre2_match_data_create(1, NULL);
    q->limits = pcre2_match_context_create(NULL);
    if (!q->match || !q->limits)
        return lade_fail(err, "%s: no memory; free some", q->file);
    pcre2_set_match_limit(q->limits, 20000); /* a hostile pattern must not hang the program */
    json_object_foreach(q->extra, key, config)
    {
        size_t len = strlen(key);
        if (!json_is_object(config))
            return lade_fail(err, "%s: %s '%s' is not an object; download the file again", q->file,
                             q->method->overrides, lade_printable((char[NAME]){0}, NAME, key, len));
        if (!is_module(raws, key, len) && json_object_size(config) &&
            add_pattern(q, key, config, err))
            return -1;
    }
    return 0;
}

/* The first pattern that matches: its config, or NULL. */
static int search(const struct lade_quant *q, const char *module, size_t len, json_t **config,
                  char *err)
{
    *config = NULL;
    for (size_t i = 0; i < q->n_regexes && !*config; i++) {
        const struct regex *r = &q->regexes[i];
        if (!r->code) {
            if (plain_search(r->key, r->len, module, len))
                *config = r->config;
            continue;
        }
        int rc = pcre2_match(r->code, (PCRE2_SPTR)module, len, 0, 0, q->match, q->limits);
        if (rc >= 0)
            *config = r->config;
        else if (rc != PCRE2_ERROR_NOMATCH)
            return lade_fail(err,
                             "%s: %s pattern '%s' takes too long to match; replace it by "
                             "module names",
                             q->file, q->method->overrides,
                             lade_printable((char[NAME]){0}, NAME, r->key, r->len));
    }
    return 0;
}

int lade_quant_module(const struct lade_quant *q, const char *module, size_t len,
                      struct lade_quant_spec *spec, char *err)
{
    *spec = q->base;
    json_t *config = json_object_getn(q->extra, module, len);
    if (!config && search(q, module, len, &config, err))
        return -1;
    if (!config)
        return 0;
    char where[NAME + 256];
    snprintf(where, sizeof where, "%s: %s of %.*s", q->file, q->method->overrides,
             (int)(len < NAME ? len : NAME), module);
    return read_spec(config, spec, where, err);
}
