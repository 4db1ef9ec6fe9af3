/* lade inspect: what a checkpoint holds, read from its headers alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "engine/tokenizer/chat.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

enum component {
    COMPONENT_EMBED,
    COMPONENT_HEAD,
    COMPONENT_ATTENTION,
    COMPONENT_DELTA,
    COMPONENT_ROUTER,
    COMPONENT_SHARED,
    COMPONENT_EXPERTS,
    COMPONENT_NORMS,
    N_COMPONENTS
};

static const char *const titles[N_COMPONENTS] = {
    "embedding", "head", "attention", "delta-net", "router", "shared expert", "experts", "norms",
};

static const unsigned char component_of[LADE_N_ROLES] = {
    [LADE_EMBED] = COMPONENT_EMBED,         [LADE_HEAD] = COMPONENT_HEAD,
    [LADE_FINAL_NORM] = COMPONENT_NORMS,    [LADE_IN_NORM] = COMPONENT_NORMS,
    [LADE_POST_NORM] = COMPONENT_NORMS,     [LADE_ATTN_Q] = COMPONENT_ATTENTION,
    [LADE_ATTN_K] = COMPONENT_ATTENTION,    [LADE_ATTN_V] = COMPONENT_ATTENTION,
    [LADE_ATTN_O] = COMPONENT_ATTENTION,    [LADE_Q_NORM] = COMPONENT_NORMS,
    [LADE_K_NORM] = COMPONENT_NORMS,        [LADE_DELTA_QKVZ] = COMPONENT_DELTA,
    [LADE_DELTA_Z] = COMPONENT_DELTA,       [LADE_DELTA_BA] = COMPONENT_DELTA,
    [LADE_DELTA_CONV] = COMPONENT_DELTA,    [LADE_DELTA_DECAY] = COMPONENT_DELTA,
    [LADE_DELTA_DT_BIAS] = COMPONENT_DELTA, [LADE_DELTA_NORM] = COMPONENT_NORMS,
    [LADE_DELTA_OUT] = COMPONENT_DELTA,     [LADE_ROUTER] = COMPONENT_ROUTER,
    [LADE_SHARED_GATE] = COMPONENT_SHARED,  [LADE_SHARED_FF_GATE] = COMPONENT_SHARED,
    [LADE_SHARED_FF_UP] = COMPONENT_SHARED, [LADE_SHARED_FF_DOWN] = COMPONENT_SHARED,
    [LADE_EXPERT_GATE] = COMPONENT_EXPERTS, [LADE_EXPERT_UP] = COMPONENT_EXPERTS,
    [LADE_EXPERT_DOWN] = COMPONENT_EXPERTS,
};

/* Sums over tensors. */
struct sum {
    int tensors;
    uint64_t weights, file, packed;
};

static double bits(const struct sum *s)
{
    return s->weights ? (double)s->file * 8 / (double)s->weights : 0;
}

static void add(struct sum *s, const struct lade_tensor *t)
{
    s->tensors++;
    s->weights += (uint64_t)t->packed.rows * (uint64_t)t->packed.cols;
    s->packed += t->bytes;
    for (int i = 0; i < t->n_parts; i++)
        s->file += t->parts[i].bytes;
}

struct layer {
    struct sum mixer, shared, experts;
};

struct view {
    const struct lade_catalog *cat;
    struct sum all, components[N_COMPONENTS];
    struct layer *layers; /* owned */
    int tokens;           /* of the tokenizer; 0: there is none */
    enum lade_chat_family family;
    bool template_found;
    char no_tokenizer[LADE_ERR], no_template[LADE_ERR]; /* why, or empty */
};

static const char *const families[] = {
    [LADE_CHAT_INSTRUCT] = "instruct",
    [LADE_CHAT_THINKING] = "thinking",
    [LADE_CHAT_CODER] = "coder",
};

/* What belongs to a model besides its weights, and can be missing. */
static void look_beside(struct view *v)
{
    struct lade_tokenizer *tok;
    if (!lade_tokenizer_open(&tok, v->cat->path, v->no_tokenizer)) {
        v->tokens = lade_tokenizer_size(tok);
        *v->no_tokenizer = '\0';
        lade_tokenizer_close(tok);
    }
    if (!lade_chat_family(&v->family, &v->template_found, v->cat, v->no_template))
        snprintf(v->no_template, sizeof v->no_template, "%s",
                 v->template_found ? "" : "the chat template; that of Instruct is taken");
}

enum { N_MISSING = 3 };

/* What is missing, one line each; NULL where nothing is. */
static void list_missing(const struct view *v, const char *lines[N_MISSING])
{
    lines[0] = *v->no_tokenizer ? v->no_tokenizer : NULL;
    lines[1] = *v->no_template ? v->no_template : NULL;
    lines[2] = v->cat->generation.sampled
                   ? NULL
                   : "how to sample (generation_config.json); what the model's card says is taken";
}

static int collect(struct view *v, char *err)
{
    v->layers = calloc((size_t)v->cat->shape.layers, sizeof(*v->layers));
    if (!v->layers)
        return lade_fail(err, "%s: out of memory; close other programs", v->cat->path);
    for (int i = 0; i < v->cat->n_tensors; i++) {
        const struct lade_tensor *t = &v->cat->tensors[i];
        enum component c = (enum component)component_of[t->role];
        int layer = v->cat->pieces[t->piece].layer;
        add(&v->all, t);
        add(&v->components[c], t);
        if (layer < 0)
            continue;
        if (c == COMPONENT_ATTENTION || c == COMPONENT_DELTA)
            add(&v->layers[layer].mixer, t);
        else if (c == COMPONENT_SHARED)
            add(&v->layers[layer].shared, t);
        else if (c == COMPONENT_EXPERTS)
            add(&v->layers[layer].experts, t);
    }
    return 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_shape(const struct lade_shape *s)
{
    int full = 0;
    for (int i = 0; i < s->layers; i++)
        full += s->full_attention[i];
    printf("layers      %d: %d attention, %d delta-net\n", s->layers, full, s->layers - full);
    printf("hidden      %d, vocabulary %d%s, context %d\n", s->hidden, s->vocab,
           s->tied_embeddings ? " (head tied to the embedding)" : "", s->max_context);
    printf("attention   %d heads, %d key heads of %d, %d rotary, theta %g", s->heads, s->kv_heads,
           s->head_dim, s->rotary_dim, s->rope_theta);
    if (s->yarn_factor > 1)
        printf(", YaRN %g x %d", s->yarn_factor, s->yarn_original_context);
    putchar('\n');
    printf("delta-net   %d key heads of %d, %d value heads of %d, convolution %d\n", s->key_heads,
           s->key_dim, s->value_heads, s->value_dim, s->conv_kernel);
    printf("experts     %d of %d, width %d, shared %d\n", s->experts_used, s->experts, s->expert_ff,
           s->shared_ff);
}

static void print_beside(const struct view *v)
{
    const struct lade_generation *g = &v->cat->generation;
    const char *missing[N_MISSING];
    if (v->tokens)
        printf("tokenizer   %d tokens, chat template %s\n", v->tokens, families[v->family]);
    if (g->sampled)
        printf("sampling    temperature %g, top-p %g, top-k %d\n", (double)g->temperature,
               (double)g->top_p, g->top_k);
    list_missing(v, missing);
    for (int i = 0; i < N_MISSING; i++)
        if (missing[i])
            printf("missing     %s\n", missing[i]);
}

static void print_component(const char *title, const struct sum *s)
{
    char file[UNITS_MAX], packed[UNITS_MAX], weights[UNITS_MAX];
    if (s->tensors)
        printf("%-14s %8d %12s %12s %12s %6.2f\n", title, s->tensors,
               units_count(weights, (double)s->weights), units_file(file, (double)s->file),
               units_memory(packed, (double)s->packed), bits(s));
}

static void print_layers(const struct view *v)
{
    printf("\nlayer  mixer       bits  shared bits  experts bits\n");
    for (int i = 0; i < v->cat->shape.layers; i++)
        printf("%5d  %-9s %6.2f  %11.2f  %12.2f\n", i,
               v->cat->shape.full_attention[i] ? "attention" : "delta-net",
               bits(&v->layers[i].mixer), bits(&v->layers[i].shared), bits(&v->layers[i].experts));
}

static void print_shards(const struct lade_catalog *cat)
{
    char size[UNITS_MAX], wanted[UNITS_MAX];
    printf("\nshards\n");
    for (int i = 0; i < cat->n_shards; i++) {
        const struct lade_shard *s = &cat->shards[i];
        output_format("  %s  %s, %s used\n", lade_path_base(s->path),
                      units_file(size, (double)s->bytes), units_file(wanted, (double)s->wanted));
    }
}

static void print_text(const struct view *v)
{
    const struct lade_catalog *cat = v->cat;
    char total[UNITS_MAX];
    output_format("%s\n", cat->name);
    output_format("path        %s\n", cat->path);
    output_format("format      %s, %s, %s in %d shard%s\n", cat->format, cat->quant,
                  units_file(total, (double)cat->source_bytes), cat->n_shards,
                  units_s(cat->n_shards));
    print_shape(&cat->shape);
    print_beside(v);
    printf("\n%-14s %8s %12s %12s %12s %6s\n", "component", "tensors", "weights", "in files",
           "in memory", "bits");
    for (int i = 0; i < N_COMPONENTS; i++)
        print_component(titles[i], &v->components[i]);
    print_component("all", &v->all);
    if (cat->ignored)
        printf("%-14s %8d\n", "not needed", cat->ignored);
    print_layers(v);
    print_shards(cat);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *sum_json(const struct sum *s)
{
    return json_pack("{s:i, s:I, s:I, s:I, s:f}", "tensors", s->tensors, "weights",
                     (json_int_t)s->weights, "file_bytes", (json_int_t)s->file, "memory_bytes",
                     (json_int_t)s->packed, "bits", bits(s));
}

static json_t *shape_json(const struct lade_shape *s)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:b, s:i, s:i, s:i, s:i, s:f, s:f, s:i, s:i, s:i, s:i, "
                     "s:i, s:i, s:i, s:i, s:i}",
                     "layers", s->layers, "hidden", s->hidden, "vocab", s->vocab, "max_context",
                     s->max_context, "tied_embeddings", s->tied_embeddings, "heads", s->heads,
                     "kv_heads", s->kv_heads, "head_dim", s->head_dim, "rotary_dim", s->rotary_dim,
                     "rope_theta", s->rope_theta, "yarn_factor", s->yarn_factor, "key_heads",
                     s->key_heads, "value_heads", s->value_heads, "key_dim", s->key_dim,
                     "value_dim", s->value_dim, "conv_kernel", s->conv_kernel, "experts",
                     s->experts, "experts_used", s->experts_used, "expert_ff", s->expert_ff,
                     "shared_ff", s->shared_ff);
}

static json_t *layers_json(const struct view *v)
{
    json_t *list = json_array();
    for (int i = 0; i < v->cat->shape.layers; i++) {
        const struct layer *l = &v->layers[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:f, s:f, s:f}", "mixer",
                                        v->cat->shape.full_attention[i] ? "attention" : "delta-net",
                                        "mixer_bits", bits(&l->mixer), "shared_bits",
                                        bits(&l->shared), "experts_bits", bits(&l->experts)));
    }
    return list;
}

static json_t *shards_json(const struct lade_catalog *cat)
{
    json_t *list = json_array();
    for (int i = 0; i < cat->n_shards; i++)
        json_array_append_new(list, json_pack("{s:o, s:I, s:I}", "path",
                                              output_string(cat->shards[i].path), "bytes",
                                              (json_int_t)cat->shards[i].bytes, "used_bytes",
                                              (json_int_t)cat->shards[i].wanted));
    return list;
}

static json_t *to_json(const struct view *v)
{
    const struct lade_catalog *cat = v->cat;
    const char *lines[N_MISSING];
    json_t *components = json_object(), *missing = json_array();
    list_missing(v, lines);
    for (int i = 0; i < N_MISSING; i++)
        if (lines[i])
            json_array_append_new(missing, output_string(lines[i]));
    for (int i = 0; i < N_COMPONENTS; i++)
        json_object_set_new(components, titles[i], sum_json(&v->components[i]));
    return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:s, s:o}", "name",
                     output_string(cat->name), "path", output_string(cat->path), "format",
                     cat->format, "quantization", cat->quant, "shape", shape_json(&cat->shape),
                     "all", sum_json(&v->all), "components", components, "layers", layers_json(v),
                     "shards", shards_json(cat), "not_needed", cat->ignored, "tokens", v->tokens,
                     "template", families[v->family], "missing", missing);
}

int cmd_inspect(const struct options *o)
{
    struct lade_catalog *cat = NULL;
    struct view v = {0};
    char path[PATH_MAX], err[LADE_ERR];
    int rc = model_path_resolve(o->model, path, err);
    if (rc == 0)
        rc = lade_catalog_open(&cat, path, err);
    if (rc == 0) {
        v.cat = cat;
        rc = collect(&v, err);
        look_beside(&v);
    }
    if (rc == 0 && o->json)
        rc = output_json(to_json(&v), err);
    else if (rc == 0)
        print_text(&v);
    free(v.layers);
    lade_catalog_close(cat);
    return rc ? report_failed(o->json, err) : EXIT_DONE;
}
