/* The GGUF format: llama.cpp's metadata keys and tensor names of the qwen3next architecture.
 *
 * Its converter has already added 1 to the norms and made A_log to -exp(A_log). Rows of ssm_in and
 * ssm_ba are as in the Hugging Face checkpoint, grouped by key head; attn_qkv and attn_gate, which
 * newer files have instead of ssm_in, are head-major already. */
#include "engine/checkpoint/build.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/scan.h"
#include "kernels/blocks.h"

enum { NAME = 128 };
#define ARCH "qwen3next"

/* ---- metadata -------------------------------------------------------------------------------- */

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

static int gguf_read(struct lade_build *b, const char *path, char *err)
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
    int rc = read_parts(b, &first, err);
    if (!rc)
        rc = read_shape(b, &first, err);
    if (!rc)
        rc = read_name(b, &first, err);
    if (!rc)
        read_generation(&first, &cat->generation);
    lade_gguf_close(&first);
    return rc;
}

/* ---- names ----------------------------------------------------------------------------------- */

static const struct gguf_role {
    const char *name;
    uint8_t f32;  /* becomes F32 */
    uint8_t rows; /* enum lade_row_order */
} roles[LADE_N_ROLES] = {
    [LADE_EMBED] = {.name = "token_embd.weight"},
    [LADE_FINAL_NORM] = {.name = "output_norm.weight", .f32 = 1},
    [LADE_HEAD] = {.name = "output.weight"},
    [LADE_IN_NORM] = {.name = "attn_norm.weight", .f32 = 1},
    [LADE_POST_NORM] = {.name = "post_attention_norm.weight", .f32 = 1},
    [LADE_ATTN_Q] = {.name = "attn_q.weight"},
    [LADE_ATTN_K] = {.name = "attn_k.weight"},
    [LADE_ATTN_V] = {.name = "attn_v.weight"},
    [LADE_ATTN_O] = {.name = "attn_output.weight"},
    [LADE_Q_NORM] = {.name = "attn_q_norm.weight", .f32 = 1},
    [LADE_K_NORM] = {.name = "attn_k_norm.weight", .f32 = 1},
    [LADE_DELTA_QKVZ] = {.name = "ssm_in.weight", .rows = LADE_ROWS_QKVZ},
    [LADE_DELTA_BA] = {.name = "ssm_ba.weight", .rows = LADE_ROWS_BA},
    [LADE_DELTA_CONV] = {.name = "ssm_conv1d.weight", .f32 = 1},
    [LADE_DELTA_DECAY] = {.name = "ssm_a", .f32 = 1},
    [LADE_DELTA_DT_BIAS] = {.name = "ssm_dt.bias", .f32 = 1},
    [LADE_DELTA_NORM] = {.name = "ssm_norm.weight", .f32 = 1},
    [LADE_DELTA_OUT] = {.name = "ssm_out.weight"},
    [LADE_ROUTER] = {.name = "ffn_gate_inp.weight", .f32 = 1},
    [LADE_SHARED_GATE] = {.name = "ffn_gate_inp_shexp.weight", .f32 = 1},
    [LADE_SHARED_FF_GATE] = {.name = "ffn_gate_shexp.weight"},
    [LADE_SHARED_FF_UP] = {.name = "ffn_up_shexp.weight"},
    [LADE_SHARED_FF_DOWN] = {.name = "ffn_down_shexp.weight"},
    [LADE_EXPERT_GATE] = {.name = "ffn_gate_exps.weight"},
    [LADE_EXPERT_UP] = {.name = "ffn_up_exps.weight"},
    [LADE_EXPERT_DOWN] = {.name = "ffn_down_exps.weight"},
};

enum naming {
    NAMING_OWN,   /* the role's own name */
    NAMING_FUSED, /* gate and up, or q, k and v of an attention layer, in one tensor */
    NAMING_SPLIT, /* qkvz in two tensors */
};

static const char fused_qkv[] = "attn_qkv.weight", fused_gate_up[] = "ffn_gate_up_exps.weight";
static const char *const split_qkvz[] = {"attn_qkv.weight", "attn_gate.weight"};

static const char *suffix(enum lade_role role, enum naming naming, int part)
{
    if (naming == NAMING_SPLIT)
        return split_qkvz[part];
    if (naming == NAMING_FUSED)
        return role == LADE_EXPERT_GATE || role == LADE_EXPERT_UP ? fused_gate_up : fused_qkv;
    return roles[role].name;
}

static void gguf_tensor_name(const struct lade_tensor *t, int layer, int expert, int part,
                             char *buf, size_t size)
{
    (void)expert;
    const char *name = suffix(t->role, t->naming, part);
    if (layer < 0)
        snprintf(buf, size, "%s", name);
    else
        snprintf(buf, size, "blk.%d.%s", layer, name);
}

/* ---- binding --------------------------------------------------------------------------------- */

/* How the types of tensors are taken over. All are row-major and may be cut and joined by rows. */
static const struct type {
    uint8_t known, source, packed, group, block;
} types[LADE_N_DTYPES] = {
#define BLOCKS(name) [LADE_DT_##name] = {1, LADE_SRC_BLOCKS, LADE_BLOCKS, 0, LADE_BLOCK_##name}
    [LADE_DT_F32] = {1, LADE_SRC_F32, LADE_F32, 0, 0},
    [LADE_DT_F16] = {1, LADE_SRC_F16, LADE_F16, 0, 0},
    [LADE_DT_BF16] = {1, LADE_SRC_BF16, LADE_BF16, 0, 0},
    [LADE_DT_Q4_0] = {1, LADE_SRC_Q4_0, LADE_Q4, 32, 0},
    [LADE_DT_Q8_0] = {1, LADE_SRC_Q8_0, LADE_Q8, 32, 0},
    BLOCKS(Q4_1),
    BLOCKS(Q5_0),
    BLOCKS(Q5_1),
    BLOCKS(Q2_K),
    BLOCKS(Q3_K),
    BLOCKS(Q4_K),
    BLOCKS(Q5_K),
    BLOCKS(Q6_K),
    BLOCKS(IQ1_S),
    BLOCKS(IQ1_M),
    BLOCKS(IQ2_XXS),
    BLOCKS(IQ2_XS),
    BLOCKS(IQ2_S),
    BLOCKS(IQ3_XXS),
    BLOCKS(IQ3_S),
    BLOCKS(IQ4_NL),
    BLOCKS(IQ4_XS),
    BLOCKS(MXFP4),
#undef BLOCKS
};

static struct lade_raw *find_raw(struct lade_build *b, enum lade_role role, enum naming naming,
                                 int part, int layer, char *name)
{
    struct lade_tensor t = {.role = (uint8_t)role, .naming = (uint8_t)naming};
    gguf_tensor_name(&t, layer, -1, part, name, NAME);
    return lade_raws_find(&b->raws, name, strlen(name));
}

/* Compares dimensions, leaving out those of size one. */
static bool same_dims(const struct lade_raw *raw, const uint64_t *want, int rank)
{
    int i = 0, k = 0;
    for (;;) {
        while (i < raw->rank && raw->dims[i] == 1)
            i++;
        while (k < rank && want[k] == 1)
            k++;
        if (i == raw->rank || k == rank)
            return i == raw->rank && k == rank;
        if (raw->dims[i++] != want[k++])
            return false;
    }
}

static int check_dims(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                      const uint64_t *want, int rank, char *err)
{
    char have_text[96], want_text[96];
    if (same_dims(raw, want, rank))
        return 0;
    return lade_fail(err,
                     "%s: tensor '%s' has shape %s, expected %s by the metadata; download the "
                     "file again",
                     lade_raw_file(b, raw), name,
                     lade_dims_text(have_text, sizeof have_text, raw->dims, raw->rank),
                     lade_dims_text(want_text, sizeof want_text, want, rank));
}

/* Takes `rows` rows from row `first` on, of a tensor's `all` rows, as the next part. */
static int take_rows(struct lade_build *b, struct lade_tensor *t, struct lade_raw *raw,
                     const char *name, uint64_t first, uint64_t rows, uint64_t all, char *err)
{
    const char *dtype = lade_dtypes[raw->dtype].name;
    const struct type *type = &types[raw->dtype];
    bool f32 = roles[t->role].f32, is_float = type->packed <= LADE_BF16;
    if (!type->known || (f32 && !is_float))
        return lade_fail(err,
                         "%s: tensor '%s' has type %s, which is not supported%s; get another "
                         "quantization of the model",
                         lade_raw_file(b, raw), name, dtype, f32 ? " there" : "");
    if (t->n_parts && (t->source != type->source || t->packed.block != type->block))
        return lade_fail(err,
                         "%s: tensor '%s' has type %s, another one than its other half; get "
                         "another quantization of the model",
                         lade_raw_file(b, raw), name, dtype);
    t->source = type->source;
    t->packed.type = f32 ? LADE_F32 : type->packed;
    t->packed.group = type->group;
    t->packed.block = type->block;
    uint64_t row_bytes = raw->bytes / all;
    raw->used = true;
    t->parts[t->n_parts++] =
        (struct lade_span){raw->shard, raw->offset + first * row_bytes, rows * row_bytes};
    return 0;
}

static int missing(const struct lade_build *b, const char *name, char *err)
{
    return lade_fail(err, "%s: tensor '%s' is missing; download the file again", b->list, name);
}

/* One expert of a layer's stacks [experts][rows][cols]; gate and up may share one, gate first. */
static int bind_expert(struct lade_build *b, struct lade_tensor *t, int layer, int expert,
                       char *err)
{
    uint64_t experts = (uint64_t)b->cat->shape.experts, rows = (uint64_t)t->packed.rows;
    char name[NAME];
    struct lade_raw *raw = find_raw(b, t->role, NAMING_OWN, 0, layer, name);
    uint64_t height = rows, slice = 0;
    if (!raw && t->role != LADE_EXPERT_DOWN) {
        raw = find_raw(b, t->role, NAMING_FUSED, 0, layer, name);
        height = 2 * rows;
        slice = t->role == LADE_EXPERT_UP ? rows : 0;
        t->naming = NAMING_FUSED;
    }
    if (!raw)
        return missing(b, (find_raw(b, t->role, NAMING_OWN, 0, layer, name), name), err);
    const uint64_t want[] = {experts, height, (uint64_t)t->packed.cols};
    if (check_dims(b, raw, name, want, 3, err))
        return -1;
    return take_rows(b, t, raw, name, (uint64_t)expert * height + slice, rows, experts * height,
                     err);
}

/* q, k or v of a full-attention layer out of one tensor [q | k | v]. */
static int bind_fused_qkv(struct lade_build *b, struct lade_tensor *t, struct lade_raw *raw,
                          const char *name, char *err)
{
    const struct lade_shape *s = &b->cat->shape;
    uint64_t q = 2 * (uint64_t)s->heads * (uint64_t)s->head_dim;
    uint64_t kv = (uint64_t)s->kv_heads * (uint64_t)s->head_dim;
    uint64_t first = t->role == LADE_ATTN_Q ? 0 : t->role == LADE_ATTN_K ? q : q + kv;
    const uint64_t want[] = {q + 2 * kv, (uint64_t)s->hidden};
    t->naming = NAMING_FUSED;
    if (check_dims(b, raw, name, want, 2, err))
        return -1;
    return take_rows(b, t, raw, name, first, (uint64_t)t->packed.rows, want[0], err);
}

/* qkvz in two tensors, both head-major. */
static int bind_split_qkvz(struct lade_build *b, struct lade_tensor *t, int layer, char *err)
{
    const struct lade_shape *s = &b->cat->shape;
    const uint64_t rows[] = {(uint64_t)lade_shape_channels(s),
                             (uint64_t)(lade_shape_qkvz(s) - lade_shape_channels(s))};
    t->naming = NAMING_SPLIT;
    t->rows = LADE_ROWS_SAME;
    for (int part = 0; part < 2; part++) {
        char name[NAME];
        struct lade_raw *raw = find_raw(b, t->role, NAMING_SPLIT, part, layer, name);
        const uint64_t want[] = {rows[part], (uint64_t)s->hidden};
        if (!raw)
            return missing(b, name, err);
        if (check_dims(b, raw, name, want, 2, err) ||
            take_rows(b, t, raw, name, 0, rows[part], rows[part], err))
            return -1;
    }
    return 0;
}

static int gguf_bind(struct lade_build *b, struct lade_tensor *t, int layer, int expert, char *err)
{
    char name[NAME], fused[NAME];
    if (expert >= 0)
        return bind_expert(b, t, layer, expert, err);
    t->rows = roles[t->role].rows;
    struct lade_raw *raw = find_raw(b, t->role, NAMING_OWN, 0, layer, name);
    if (!raw && t->role == LADE_DELTA_QKVZ)
        return bind_split_qkvz(b, t, layer, err);
    if (!raw && (t->role == LADE_ATTN_Q || t->role == LADE_ATTN_K || t->role == LADE_ATTN_V) &&
        (raw = find_raw(b, t->role, NAMING_FUSED, 0, layer, fused)))
        return bind_fused_qkv(b, t, raw, fused, err);
    if (!raw)
        return missing(b, name, err);
    const uint64_t want[] = {(uint64_t)t->packed.rows, (uint64_t)t->packed.cols};
    if (check_dims(b, raw, name, want, 2, err))
        return -1;
    return take_rows(b, t, raw, name, 0, want[0], want[0], err);
}

const struct lade_format lade_format_gguf = {
    .name = "gguf",
    .read = gguf_read,
    .bind = gguf_bind,
    .tensor_name = gguf_tensor_name,
};
