/* The metadata and files of a GGUF model: llama.cpp's keys of the qwen3next architecture. */
#include "engine/checkpoint/build.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/scan.h"

enum { NAME = 128 };
#define ARCH "qwen3next"

static const struct key {
    const char *name; /* after ARCH "." */
    size_t at;
    int fallback; /* 0: the key must be there */
} keys[] = {
#define AT(field) offsetof(struct lade_shape, field)
    {"embedding_length", AT(hidden), 0},
    {"block_count", AT(layers), 0},
    {"context_length", AT(max_context), 0},
    {"attention.head_count", AT(heads), 0},
    {"attention.head_count_kv", AT(kv_heads), 0},
    {"attention.key_length", AT(head_dim), 0},
    {"rope.dimension_count", AT(rotary_dim), 0},
    {"ssm.group_count", AT(key_heads), 0},
    {"ssm.time_step_rank", AT(value_heads), 0},
    {"ssm.state_size", AT(key_dim), 0},
    {"ssm.conv_kernel", AT(conv_kernel), 4},
    {"expert_count", AT(experts), 0},
    {"expert_used_count", AT(experts_used), 0},
    {"expert_feed_forward_length", AT(expert_ff), 0},
    {"expert_shared_feed_forward_length", AT(shared_ff), 0},
#undef AT
};

static const struct lade_gguf_entry *find(const struct lade_gguf *g, const char *key)
{
    char name[NAME];
    snprintf(name, sizeof name, ARCH ".%s", key);
    return lade_gguf_find(g, name);
}

/* Reads a positive integer into *value; a fallback of 0 makes the key necessary. */
static int read_int(const struct lade_gguf *g, const char *key, int fallback, int *value, char *err)
{
    const struct lade_gguf_entry *e = find(g, key);
    int64_t v = fallback;
    if (!e && !fallback)
        return lade_fail(err, "%s: key '" ARCH ".%s' is missing; get a newer file of the model",
                         g->file, key);
    if (e && (!lade_gguf_int(e, &v) || v < 0 || v > INT32_MAX))
        return lade_fail(err, "%s: key '" ARCH ".%s' is no size; download the file again", g->file,
                         key);
    *value = (int)v;
    return 0;
}

static int read_real(const struct lade_gguf *g, const char *key, double fallback, double *value,
                     char *err)
{
    const struct lade_gguf_entry *e = find(g, key);
    *value = fallback;
    if (e && !lade_gguf_real(e, value))
        return lade_fail(err, "%s: key '" ARCH ".%s' is no number; download the file again",
                         g->file, key);
    return 0;
}

static bool text_is(const struct lade_gguf_text *t, const char *what)
{
    return t->len == strlen(what) && !memcmp(t->at, what, t->len);
}

static int check_architecture(const struct lade_gguf *g, char *err)
{
    struct lade_gguf_text arch;
    if (!lade_gguf_string(lade_gguf_find(g, "general.architecture"), &arch))
        return lade_fail(err, "%s: key 'general.architecture' is missing; this is no model",
                         g->file);
    if (text_is(&arch, ARCH))
        return 0;
    return lade_fail(err, "%s: architecture '%s' is not supported; lade runs " ARCH " models",
                     g->file, lade_printable((char[64]){0}, 64, arch.at, arch.len));
}

/* YaRN as llama.cpp writes it; the magnitude follows from the factor (see shape.c). */
static int read_rope(const struct lade_gguf *g, struct lade_shape *s, char *err)
{
    struct lade_gguf_text type = {"none", 4};
    double attention;
    if (!find(g, "rope.freq_base"))
        return lade_fail(err,
                         "%s: key '" ARCH ".rope.freq_base' is missing; get a newer file of "
                         "the model",
                         g->file);
    s->yarn_factor = 1;
    lade_gguf_string(find(g, "rope.scaling.type"), &type);
    if (read_real(g, "rope.freq_base", 0, &s->rope_theta, err))
        return -1;
    if (text_is(&type, "none"))
        return 0;
    if (!text_is(&type, "yarn"))
        return lade_fail(err,
                         "%s: rope.scaling.type '%s' is not supported; lade knows 'none' and "
                         "'yarn'",
                         g->file, lade_printable((char[64]){0}, 64, type.at, type.len));
    if (read_real(g, "rope.scaling.factor", 1, &s->yarn_factor, err) ||
        read_int(g, "rope.scaling.original_context_length", s->max_context,
                 &s->yarn_original_context, err) ||
        read_real(g, "rope.scaling.yarn_beta_fast", 32, &s->yarn_beta_fast, err) ||
        read_real(g, "rope.scaling.yarn_beta_slow", 1, &s->yarn_beta_slow, err) ||
        read_real(g, "rope.scaling.attn_factor", 1, &attention, err))
        return -1;
    return lade_shape_yarn(s, attention, g->file, err);
}

static int read_layers(const struct lade_gguf *g, struct lade_shape *s, char *err)
{
    int mtp, interval;
    if (read_int(g, "nextn_predict_layers", 0, &mtp, NULL))
        mtp = 0; /* the key is new */
    if (read_int(g, "full_attention_interval", 4, &interval, err))
        return -1;
    s->layers -= mtp; /* the last blocks are the MTP head */
    if (s->layers < 1 || s->layers > LADE_MAX_LAYERS || interval < 1)
        return lade_fail(err, "%s: %d layers, full attention every %d; download the file again",
                         g->file, s->layers, interval);
    for (int i = 0; i < s->layers; i++)
        s->full_attention[i] = (i + 1) % interval == 0;
    return 0;
}

/* What no key says: the sizes of the embedding and of the value heads. */
static int read_derived(const struct lade_build *b, const struct lade_gguf *g, struct lade_shape *s,
                        char *err)
{
    int inner, value_length;
    const struct lade_raw *embed = lade_raws_find(&b->raws, "token_embd.weight", 17);
    if (!embed || embed->rank != 2 || embed->dims[0] > INT32_MAX)
        return lade_fail(err,
                         "%s: tensor 'token_embd.weight' is missing or has no two dimensions; "
                         "download the file again",
                         g->file);
    s->vocab = (int)embed->dims[0];
    s->tied_embeddings = !lade_raws_find(&b->raws, "output.weight", 13);
    if (read_int(g, "ssm.inner_size", 0, &inner, err) ||
        read_int(g, "attention.value_length", s->head_dim, &value_length, err))
        return -1;
    if (s->value_heads < 1 || inner % s->value_heads)
        return lade_fail(err,
                         "%s: ssm.inner_size is %d, no multiple of ssm.time_step_rank (%d); "
                         "download the file again",
                         g->file, inner, s->value_heads);
    s->value_dim = inner / s->value_heads;
    if (value_length != s->head_dim)
        return lade_fail(err,
                         "%s: attention.value_length is %d but key_length %d; only equal ones "
                         "are supported: get another file",
                         g->file, value_length, s->head_dim);
    return 0;
}

static int read_shape(const struct lade_build *b, const struct lade_gguf *g, char *err)
{
    struct lade_shape *s = &b->cat->shape;
    double eps;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (read_int(g, keys[i].name, keys[i].fallback, (int *)((char *)s + keys[i].at), err))
            return -1;
    if (read_layers(g, s, err) || read_derived(b, g, s, err) ||
        read_real(g, "attention.layer_norm_rms_epsilon", 1e-6, &eps, err) || read_rope(g, s, err))
        return -1;
    s->norm_eps = (float)eps;
    s->renormalize = true;
    return lade_shape_check(s, g->file, err);
}

/* Sampling defaults and the tokens that end an answer. */
static void read_generation(const struct lade_gguf *g, struct lade_generation *gen)
{
    static const char *const stops[] = {"tokenizer.ggml.eos_token_id",
                                        "tokenizer.ggml.eot_token_id",
                                        "tokenizer.ggml.eom_token_id"};
    double real;
    int64_t id;
    lade_generation_defaults(gen);
    gen->sampled = lade_gguf_find(g, "general.sampling.temp") != NULL;
    if (lade_gguf_real(lade_gguf_find(g, "general.sampling.temp"), &real) && real >= 0 &&
        real < 100)
        gen->temperature = (float)real;
    if (lade_gguf_real(lade_gguf_find(g, "general.sampling.top_p"), &real) && real > 0 && real <= 1)
        gen->top_p = (float)real;
    if (lade_gguf_real(lade_gguf_find(g, "general.sampling.min_p"), &real) && real >= 0 &&
        real <= 1)
        gen->min_p = (float)real;
    if (lade_gguf_int(lade_gguf_find(g, "general.sampling.top_k"), &id) && id >= 0 &&
        id <= INT32_MAX)
        gen->top_k = (int)id;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        if (lade_gguf_int(lade_gguf_find(g, stops[i]), &id) && id >= 0 && id <= INT32_MAX)
            gen->stop[gen->n_stop++] = (int)id;
    /* Qwen pads with <|endoftext|>, which ends an answer, too; elsewhere padding is no control
     * token. */
    const struct lade_gguf_entry *types = lade_gguf_find(g, "tokenizer.ggml.token_type");
    enum { CONTROL = 3 };
    if (lade_gguf_int(lade_gguf_find(g, "tokenizer.ggml.padding_token_id"), &id) && types &&
        types->type == LADE_GGUF_ARRAY && types->element == LADE_GGUF_I32 && id >= 0 &&
        (uint64_t)id < types->count && lade_gguf_element(types, (uint64_t)id) == CONTROL)
        gen->stop[gen->n_stop++] = (int)id;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Checks that a part of a split says it is that part. */
static int check_part(const struct lade_gguf *g, int part, int parts, char *err)
{
    int64_t no = part, count = parts;
    lade_gguf_int(lade_gguf_find(g, "split.no"), &no);
    lade_gguf_int(lade_gguf_find(g, "split.count"), &count);
    if (parts == 1 && count > 1)
        return lade_fail(err,
                         "%s: it is part %" PRId64 " of %" PRId64 " but its name does not say "
                         "so; give it its name PREFIX-%05" PRId64 "-of-%05" PRId64 ".gguf back",
                         g->file, no + 1, count, no + 1, count);
    if (no != part || (count != parts && count != 0))
        return lade_fail(err,
                         "%s: it is part %" PRId64 " of %" PRId64 ", not %d of %d; download "
                         "all parts again",
                         g->file, no + 1, count, part + 1, parts);
    return 0;
}

/* Moves the tensors of one file over to the catalog's list, with the texts their names are in. */
static int add_part(struct lade_build *b, struct lade_gguf *g, char *err)
{
    if (lade_raws_own(&b->raws, g->buffer, err))
        return -1;
    g->buffer = NULL;
    for (size_t i = 0; i < g->tensors.n; i++)
        if (lade_raws_add(&b->raws, &g->tensors.items[i], err))
            return -1;
    return 0;
}

static int read_parts(struct lade_build *b, struct lade_gguf *first, char *err)
{
    struct lade_catalog *cat = b->cat;
    for (int i = 0; i < cat->n_shards; i++) {
        struct lade_gguf part = {0}, *g = i ? &part : first;
        int rc = lade_gguf_open(g, cat->shards[i].path, i, err);
        if (!rc)
            rc = i ? 0 : check_architecture(g, err);
        if (!rc)
            rc = check_part(g, i, cat->n_shards, err);
        if (!rc)
            rc = add_part(b, g, err);
        cat->shards[i].bytes = g->file_bytes;
        lade_gguf_close(&part);
        if (rc)
            return -1;
    }
    const struct lade_raw *twice = NULL;
    if (lade_raws_index(&b->raws, &twice, err)) {
        if (twice)
            lade_fail(err, "%s: tensor '%s' occurs twice; download the file again",
                      lade_raw_file(b, twice),
                      lade_printable((char[NAME]){0}, NAME, twice->name, twice->len));
        return -1;
    }
    return 0;
}

static int read_name(struct lade_build *b, const struct lade_gguf *g, char *err)
{
    struct lade_gguf_text name;
    if (!lade_gguf_string(lade_gguf_find(g, "general.name"), &name) || !name.len)
        return 0;
    enum { MOST = 120 };
    char *text = malloc(MOST);
    if (!text)
        return lade_fail(err, "%s: no memory; free some", g->file);
    lade_printable(text, MOST, name.at, name.len);
    free(b->cat->name);
    b->cat->name = text;
    return 0;
}

/* So that the header, of megabytes, is not parsed again for it. */
static int read_template(struct lade_build *b, const struct lade_gguf *g, char *err)
{
    struct lade_gguf_text text;
    b->cat->template_known = true;
    if (!lade_gguf_string(lade_gguf_find(g, "tokenizer.chat_template"), &text))
        return 0;
    b->cat->chat_template = strndup(text.at, text.len);
    return b->cat->chat_template ? 0 : lade_fail(err, "%s: no memory; free some", g->file);
}

int lade_gguf_read(struct lade_build *b, const char *path, char *err)
{
    struct lade_catalog *cat = b->cat;
    struct lade_gguf first = {0};
    char **paths;
    int n;
    if (lade_gguf_parts(path, &paths, &n, err))
        return -1;
    cat->shards = calloc((size_t)n, sizeof *cat->shards);
    b->list = strdup(lade_path_base(path));
    for (int i = 0; i < n; i++) {
        if (cat->shards)
            cat->shards[i].path = paths[i];
        else
            free(paths[i]);
    }
    free(paths);
    if (!cat->shards || !b->list)
        return lade_fail(err, "%s: no memory for %d files; free some", path, n);
    cat->n_shards = n;
    int rc = lade_check_shards(cat, path, err);
    if (!rc)
        rc = read_parts(b, &first, err);
    if (!rc)
        rc = read_shape(b, &first, err);
    if (!rc)
        rc = read_name(b, &first, err);
    if (!rc)
        rc = read_template(b, &first, err);
    if (!rc)
        read_generation(&first, &cat->generation);
    lade_gguf_close(&first);
    return rc;
}
