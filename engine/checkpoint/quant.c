#include "engine/checkpoint/quant.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/json.h"
#include "engine/checkpoint/patterns.h"
#include "engine/checkpoint/scan.h"

enum { NAME = 160 };

#define QUOTE(text) lade_printable((char[64]){0}, 64, text, strlen(text))

/* The packings of a method, and what each adds to a stored zero. */
struct packing {
    const char *name;
    uint8_t source, zero_offset;
};
static const struct packing autoround_packings[] = {
    {"auto_round:auto_gptq", LADE_SRC_GPTQ, 1},
    {"auto_round:gptq", LADE_SRC_GPTQ, 1},
    {"auto", LADE_SRC_GPTQ, 1},
    {"auto_round", LADE_SRC_GPTQ, 0},
    {"auto_round:gptqmodel", LADE_SRC_GPTQ, 0},
    {"auto_round:auto_awq", LADE_SRC_AWQ, 0},
    {"auto_round:awq", LADE_SRC_AWQ, 0},
    {0},
};
static const struct packing gptq_packings[] = {
    {"gptq", LADE_SRC_GPTQ, 1}, {"gptq_v2", LADE_SRC_GPTQ, 0}, {0}};
static const struct packing awq_packings[] = {{"gemm", LADE_SRC_AWQ, 0}, {0}};
static const struct packing fp8_packings[] = {{"e4m3", LADE_SRC_F8, 0}, {0}};

/* compressed-tensors: a group says what it is by its numbers, and which layers by their names. */
static const struct packing ct_packings[] = {{"pack-quantized", LADE_SRC_CT, 0},
                                             {"float-quantized", LADE_SRC_F8, 0},
                                             {"naive-quantized", LADE_SRC_F8, 0},
                                             {"mixed-precision", LADE_SRC_CT, 0},
                                             {0}};

struct method;
static int read_integer_base(struct lade_quant *q, char *err);
static int read_awq_base(struct lade_quant *q, char *err);
static int read_fp8_base(struct lade_quant *q, char *err);
static int read_groups(struct lade_quant *q, char *err);
static int read_spec(json_t *config, struct lade_quant_spec *spec, const char *where, char *err);
static int read_group(json_t *config, struct lade_quant_spec *spec, const char *where, char *err);

/* Who made the checkpoint, and where its config says what. */
static const struct method {
    const char *name;               /* quant_method contains it */
    const char *packing_keys[2];    /* the first one that is there; else the first packing */
    const struct packing *packings; /* up to a nameless one */
    const char *overrides;          /* settings of single modules, or NULL */
    bool prefixed;                  /* their keys are "+:regex" or "-:regex", which must match from
                                     * the start of the name */
    int (*base)(struct lade_quant *q, char *err);
    /* A module's own settings over the base. */
    int (*spec)(json_t *config, struct lade_quant_spec *spec, const char *where, char *err);
} methods[] = {
    {"auto-round",
     {"packing_format", NULL},
     autoround_packings,
     "extra_config",
     false,
     read_integer_base,
     read_spec},
    {"gptq",
     {"checkpoint_format", "format"},
     gptq_packings,
     "dynamic",
     true,
     read_integer_base,
     read_spec},
    {"awq", {"version", NULL}, awq_packings, NULL, false, read_awq_base, read_spec},
    {"fp8", {"fmt", NULL}, fp8_packings, NULL, false, read_fp8_base, read_spec},
    {"compressed-tensors", {"format", NULL}, ct_packings, NULL, false, read_groups, read_group},
};

struct lade_quant {
    char *file;
    json_t *root; /* quantization_config */
    const struct method *method;
    struct lade_quant_spec base;
    json_t *names;                  /* settings by exact name of a module, or NULL */
    json_t *all;                    /* compressed-tensors: of every other linear layer, or NULL */
    struct lade_patterns *patterns; /* settings by pattern */
};

const char *lade_quant_file(const struct lade_quant *q)
{
    return q->file;
}

void lade_quant_free(struct lade_quant *q)
{
    if (!q)
        return;
    lade_patterns_free(q->patterns);
    json_decref(q->names);
    json_decref(q->root);
    free(q->file);
    free(q);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Overrides *value with obj[key]. Where `value` is 0 there is nothing to keep: the key is needed. */
static int override(json_t *obj, const char *key, int64_t min, int64_t max, int *value,
                    const char *where, char *err)
{
    const int64_t before = *value;
    int64_t now;
    if (lade_json_int(obj, key, min, max, before ? &before : NULL, &now, where, err))
        return -1;
    *value = (int)now;
    return 0;
}

static int override_bool(json_t *obj, const char *key, bool *value, const char *where, char *err)
{
    json_t *v = json_object_get(obj, key);
    if (v && !json_is_boolean(v))
        return lade_fail(err, "%s: %s is neither true nor false; the file is damaged", where, key);
    if (v)
        *value = json_is_true(v);
    return 0;
}

/* Overrides *spec with the keys that an object has. `where` names the object in errors. */
static int read_spec(json_t *config, struct lade_quant_spec *spec, const char *where, char *err)
{
    if (override(config, "bits", 1, 64, &spec->bits, where, err) ||
        override(config, "group_size", -1, 1 << 24, &spec->group, where, err) ||
        override_bool(config, "sym", &spec->sym, where, err))
        return -1;
    const char *type = json_string_value(json_object_get(config, "data_type"));
    if (type && spec->bits < 16 && strcmp(type, "int") != 0)
        return lade_fail(err,
                         "%s: data_type '%s' is not supported; lade reads integer AutoRound "
                         "checkpoints",
                         where, QUOTE(type));
    return 0;
}

/* desc_act may be true while every g_idx is as without it (static groups); still each input's is
 * looked at. With one group for all inputs there is nothing to reorder. */
static int read_integer_base(struct lade_quant *q, char *err)
{
    bool *reordered = &q->base.reordered;
    if (read_spec(q->root, &q->base, q->file, err) ||
        override_bool(q->root, "desc_act", reordered, q->file, err))
        return -1;
    return 0;
}

/* Older files say w_bit and q_group_size. */
static int read_awq_base(struct lade_quant *q, char *err)
{
    bool zero_point = true;
    const char *bits = json_object_get(q->root, "bits") ? "bits" : "w_bit";
    const char *group = json_object_get(q->root, "group_size") ? "group_size" : "q_group_size";
    if (override(q->root, bits, 1, 64, &q->base.bits, q->file, err) ||
        override(q->root, group, -1, 1 << 24, &q->base.group, q->file, err) ||
        override_bool(q->root, "zero_point", &zero_point, q->file, err))
        return -1;
    q->base.sym = !zero_point;
    return 0;
}

/* "weight_block_size": [rows, cols]; one scale for all without it. */
static int read_block(json_t *pair, struct lade_quant_spec *spec, const char *where, char *err)
{
    int *const sides[] = {&spec->block_rows, &spec->block_cols};
    spec->block_rows = spec->block_cols = -1;
    if (!pair || json_is_null(pair))
        return 0;
    for (size_t i = 0; i < 2; i++) {
        json_t *side = json_array_get(pair, i);
        json_int_t n = json_integer_value(side);
        if (json_array_size(pair) != 2 || n < 1 || n > 1 << 24)
            return lade_fail(err, "%s: its block of weights is not two sizes; the file is damaged",
                             where);
        *sides[i] = (int)n;
    }
    return 0;
}

static int read_fp8_base(struct lade_quant *q, char *err)
{
    q->base.bits = 8;
    return read_block(json_object_get(q->root, "weight_block_size"), &q->base, q->file, err);
}

/* ---- compressed-tensors ---------------------------------------------------------------------- */

static int no_such_group(const char *where, const char *what, char *err)
{
    return lade_fail(err,
                     "%s: weights with %s are not supported; lade reads packed integers and "
                     "8-bit floats",
                     where, what);
}

/* "weights" of a group: integers with a scale per group or row, 8-bit floats with one per block,
 * row or tensor. */
static int read_group(json_t *weights, struct lade_quant_spec *spec, const char *where, char *err)
{
    const char *type = json_string_value(json_object_get(weights, "type"));
    const char *strategy = json_string_value(json_object_get(weights, "strategy"));
    bool is_float = type && !strcmp(type, "float");
    *spec = (struct lade_quant_spec){.source = is_float ? LADE_SRC_F8 : LADE_SRC_CT, .sym = true};
    if (override(weights, "num_bits", 1, 64, &spec->bits, where, err) ||
        override_bool(weights, "symmetric", &spec->sym, where, err))
        return -1;
    strategy = strategy ? strategy : json_object_get(weights, "group_size") ? "group" : "tensor";
    if (is_float && spec->bits != 8)
        return no_such_group(where, spec->bits == 4 ? "4-bit floats (NVFP4, MXFP4)" : "such floats",
                             err);
    if (is_float && !strcmp(strategy, "block"))
        return read_block(json_object_get(weights, "block_structure"), spec, where, err);
    spec->group = -1;
    spec->block_rows = strcmp(strategy, "channel") != 0 ? -1 : 1;
    spec->block_cols = -1;
    if (!is_float && !strcmp(strategy, "group")) {
        spec->group = 0;
        const char *order = json_string_value(json_object_get(weights, "actorder"));
        spec->reordered = order && strcmp(order, "group") == 0;
        return override(weights, "group_size", 1, 1 << 24, &spec->group, where, err);
    }
    if (!strcmp(strategy, "channel") || (is_float && !strcmp(strategy, "tensor")))
        return 0;
    return no_such_group(where, QUOTE(strategy), err);
}

/* "targets": names of modules, "re:" and a pattern, or classes of layers, of which quantized
 * checkpoints have only one. */
static int read_targets(struct lade_quant *q, json_t *group, const char *where, char *err)
{
    size_t i;
    json_t *target, *targets = json_object_get(group, "targets");
    json_t *weights = json_object_get(group, "weights");
    if (!json_is_object(weights)) /* only activations: nothing to read differently */
        return 0;
    struct lade_quant_spec spec;
    if (read_group(weights, &spec, where, err))
        return -1;
    json_array_foreach(targets, i, target)
    {
        const char *name = json_string_value(target);
        if (!name)
            return lade_fail(err, "%s: a target is no text; the file is damaged", where);
        if (!strncmp(name, "re:", 3)) {
            if (lade_patterns_add(q->patterns, name + 3, true, weights, err))
                return -1;
        } else if (!strchr(name, '.') && strcmp(name, "lm_head") != 0) {
            q->all = weights;
        } else if (json_object_set(q->names, name, weights)) {
            return lade_fail(err, "%s: no memory; free some", where);
        }
    }
    return 0;
}

static int read_groups(struct lade_quant *q, char *err)
{
    json_t *groups = json_object_get(q->root, "config_groups"), *group;
    const char *key;
    q->names = json_object();
    q->patterns = lade_patterns_new(q->file);
    if (!q->names || !q->patterns)
        return lade_fail(err, "%s: no memory; free some", q->file);
    if (!json_is_object(groups))
        return lade_fail(err, "%s: config_groups is not an object; download the file again",
                         q->file);
    json_object_foreach(groups, key, group)
    {
        char where[NAME + 256];
        snprintf(where, sizeof where, "%.200s: %s", q->file, QUOTE(key));
        if (read_targets(q, group, where, err))
            return -1;
    }
    return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

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
        if (!strcasecmp(name, p->name)) {
            q->base.source = p->source;
            q->base.zero_offset = p->zero_offset;
            return 0;
        }
    }
    char known[160];
    packing_list(m->packings, known, sizeof known);
    return lade_fail(err, "%s: %s '%s' is not supported; lade reads %s", q->file, key, QUOTE(name),
                     known);
}

static int read_method(struct lade_quant *q, char *err)
{
    const char *name = json_string_value(json_object_get(q->root, "quant_method"));
    const char *algorithm = json_string_value(json_object_get(q->root, "quant_algo"));
    if (!name)
        return lade_fail(
            err, "%s: quantization_config has no quant_method; download the file again", q->file);
    for (size_t i = 0; i < sizeof methods / sizeof *methods && !q->method; i++)
        if (strstr(name, methods[i].name))
            q->method = &methods[i];
    if (!q->method)
        return lade_fail(err,
                         "%s: quant_method '%s'%s%s is not supported; get a BF16, FP8, AutoRound, "
                         "GPTQ or AWQ checkpoint, or a GGUF file",
                         q->file, QUOTE(name), algorithm ? " with " : "",
                         algorithm ? QUOTE(algorithm) : "");
    return read_packing(q, err);
}

/* Where the settings of single modules are. */
static int find_overrides(struct lade_quant *q, char *err)
{
    const char *key = q->method->overrides;
    json_t *extra = key ? json_object_get(q->root, key) : NULL;
    if (!extra || json_is_null(extra))
        return 0;
    if (!json_is_object(extra))
        return lade_fail(err, "%s: %s is not an object; download the file again", q->file, key);
    q->names = json_incref(extra);
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
    } else if (!read_method(q, err) && !find_overrides(q, err) && !q->method->base(q, err)) {
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

/* Keeps a key of the overrides as a pattern. */
static int add_pattern(struct lade_quant *q, const char *key, json_t *config, char *err)
{
    if (q->method->prefixed && !strncmp(key, "-:", 2))
        return 0; /* its modules are plain, which their tensors say */
    if (!strncmp(key, "+:", 2))
        key += 2;
    return lade_patterns_add(q->patterns, key, q->method->prefixed, config, err);
}

int lade_quant_bind(struct lade_quant *q, const struct lade_raws *raws, char *err)
{
    const char *key, *list = q->method->overrides;
    json_t *config;
    if (!list)
        return 0;
    char where[NAME + 256];
    snprintf(where, sizeof where, "%.200s: %s", q->file, list);
    q->patterns = lade_patterns_new(where);
    if (!q->patterns)
        return lade_fail(err, "%s: no memory; free some", q->file);
    json_object_foreach(q->names, key, config)
    {
        size_t len = strlen(key);
        if (!json_is_object(config))
            return lade_fail(err, "%s: %s '%s' is not an object; download the file again", q->file,
                             list, lade_printable((char[NAME]){0}, NAME, key, len));
        if (!is_module(raws, key, len) && json_object_size(config) &&
            add_pattern(q, key, config, err))
            return -1;
    }
    return 0;
}

int lade_quant_module(const struct lade_quant *q, const char *module, size_t len,
                      struct lade_quant_spec *spec, char *err)
{
    *spec = q->base;
    json_t *config = json_object_getn(q->names, module, len);
    if (!config && q->patterns && lade_patterns_find(q->patterns, module, len, &config, err))
        return -1;
    config = config ? config : q->all;
    const int shown = (int)(len < NAME ? len : NAME);
    if (!config && q->method->spec == read_group)
        return lade_fail(err,
                         "%s: no group of config_groups targets '%.*s', which is quantized; "
                         "download the file again",
                         q->file, shown, module);
    if (!config)
        return 0;
    char where[NAME + 256];
    snprintf(where, sizeof where, "%.200s: %s of %.*s", q->file,
             q->method->overrides ? q->method->overrides : "config_groups", shown, module);
    return q->method->spec(config, spec, where, err);
}
