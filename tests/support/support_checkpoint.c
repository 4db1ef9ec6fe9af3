#include "tests/support/support_checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char config_text[] =
    "{\"architectures\": [\"Qwen3NextForCausalLM\"], \"model_type\": \"qwen3_next\","
    " \"hidden_size\": 32, \"num_hidden_layers\": 2, \"vocab_size\": 48,"
    " \"max_position_embeddings\": 512, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"head_dim\": 16, \"partial_rotary_factor\": 0.25, \"rope_theta\": 1000000.0,"
    " \"rope_scaling\": null, \"linear_num_key_heads\": 2, \"linear_num_value_heads\": 4,"
    " \"linear_key_head_dim\": 4, \"linear_value_head_dim\": 12, \"linear_conv_kernel_dim\": 4,"
    " \"num_experts\": 3, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32,"
    " \"shared_expert_intermediate_size\": 32, \"norm_topk_prob\": true, \"rms_norm_eps\": 1e-6,"
    " \"full_attention_interval\": 2, \"hidden_act\": \"silu\", \"attention_bias\": false,"
    " \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], \"tie_word_embeddings\": false}";

static const char generation_text[] =
    "{\"eos_token_id\": [45, 43], \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95}";

void support_new(struct support_checkpoint *c)
{
    *c = (struct support_checkpoint){.seed = 1};
    strcpy(c->dir, "/tmp/lade-test-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    c->config = json_loads(config_text, 0, NULL);
    c->generation = json_loads(generation_text, 0, NULL);
    assert_non_null(c->config);
    assert_non_null(c->generation);
}

void support_free(struct support_checkpoint *c)
{
    char command[128];
    for (int i = 0; i < c->n; i++)
        free(c->tensors[i].data);
    free(c->tensors);
    json_decref(c->config);
    json_decref(c->generation);
    snprintf(command, sizeof command, "rm -rf '%s'", c->dir);
    assert_int_equal(system(command), 0);
    *c = (struct support_checkpoint){0};
}

/* xorshift64*: the values must be the same everywhere. */
static uint32_t next(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return (uint32_t)((*seed * 0x2545F4914F6CDD1Du) >> 32);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static size_t width(const char *dtype)
{
    return !strcmp(dtype, "I64")                            ? 8
           : !strcmp(dtype, "F32") || !strcmp(dtype, "I32") ? 4
           : !strcmp(dtype, "F8_E4M3")                      ? 1
                                                            : 2;
}

static void fill(uint64_t *seed, struct support_tensor *t)
{
    size_t w = width(t->dtype);
    for (size_t i = 0; i < t->bytes / w; i++) {
        uint32_t r = next(seed);
        float f = ((float)(r >> 8) / (1 << 24) - 0.5f) * 2;
        /* An F16 or BF16 of magnitude 2^-5 to 1, of either sign; an F8 that is a number. */
        uint16_t half = (uint16_t)((r & 0x83FF) | (10 + r % 5) << 10);
        uint16_t brain = (uint16_t)((r & 0x807F) | (122 + r % 5) << 7);
        uint8_t byte = (uint8_t)((r & 0x7F) == 0x7F ? r ^ 1 : r);
        uint64_t wide = r;
        const void *value = !strcmp(t->dtype, "F32")    ? (const void *)&f
                            : !strcmp(t->dtype, "F16")  ? (const void *)&half
                            : !strcmp(t->dtype, "BF16") ? (const void *)&brain
                            : w == 1                    ? (const void *)&byte
                            : w == 8                    ? (const void *)&wide
                                                        : (const void *)&r;
        memcpy(t->data + i * w, value, w);
    }
}

void support_refill(struct support_tensor *t, const char *name)
{
    uint64_t seed = 0xCBF29CE484222325u;
    for (const char *p = name; *p; p++)
        seed = (seed ^ (unsigned char)*p) * 0x100000001B3u;
    fill(&seed, t);
}

struct support_tensor *support_add(struct support_checkpoint *c, const char *name,
                                   const char *dtype, int rank, const uint64_t *dims)
{
    struct support_tensor t = {.rank = rank, .bytes = width(dtype)};
    snprintf(t.name, sizeof t.name, "%s", name);
    snprintf(t.dtype, sizeof t.dtype, "%s", dtype);
    for (int i = 0; i < rank; i++) {
        t.dims[i] = dims[i];
        t.bytes *= dims[i];
    }
    t.data = malloc(t.bytes + 1);
    c->tensors = realloc(c->tensors, (size_t)(c->n + 1) * sizeof t);
    assert_non_null(t.data);
    assert_non_null(c->tensors);
    fill(&c->seed, &t);
    c->tensors[c->n] = t;
    return &c->tensors[c->n++];
}

struct support_tensor *support_find(struct support_checkpoint *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->tensors[i].name, name))
            return &c->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

void support_drop(struct support_checkpoint *c, const char *name)
{
    struct support_tensor *t = support_find(c, name);
    free(t->data);
    *t = c->tensors[--c->n];
}

void support_add_plain(struct support_checkpoint *c, const char *dtype)
{
    const uint64_t h = (uint64_t)json_integer_value(json_object_get(c->config, "hidden_size"));
    const uint64_t vocab = (uint64_t)json_integer_value(json_object_get(c->config, "vocab_size"));
    const uint64_t ff =
        (uint64_t)json_integer_value(json_object_get(c->config, "moe_intermediate_size"));
    const struct {
        const char *name;
        uint64_t dims[3];
    } globals[] = {{"model.embed_tokens.weight", {vocab, h}},
                   {"model.norm.weight", {h}},
                   {"lm_head.weight", {vocab, h}}},
      layer[2][9] = {{{"linear_attn.in_proj_qkvz.weight", {112, h}},
                      {"linear_attn.in_proj_ba.weight", {8, h}},
                      {"linear_attn.conv1d.weight", {64, 1, 4}},
                      {"linear_attn.A_log", {4}},
                      {"linear_attn.dt_bias", {4}},
                      {"linear_attn.norm.weight", {12}},
                      {"linear_attn.out_proj.weight", {h, 48}}},
                     {{"self_attn.q_proj.weight", {128, h}},
                      {"self_attn.k_proj.weight", {32, h}},
                      {"self_attn.v_proj.weight", {32, h}},
                      {"self_attn.o_proj.weight", {h, 64}},
                      {"self_attn.q_norm.weight", {16}},
                      {"self_attn.k_norm.weight", {16}}}},
      both[] = {{"input_layernorm.weight", {h}},
                {"post_attention_layernorm.weight", {h}},
                {"mlp.gate.weight", {3, h}},
                {"mlp.shared_expert_gate.weight", {1, h}},
                {"mlp.shared_expert.gate_proj.weight", {32, h}},
                {"mlp.shared_expert.up_proj.weight", {32, h}},
                {"mlp.shared_expert.down_proj.weight", {h, 32}}};
    char name[128];
#define RANK(dims) ((dims)[2] ? 3 : (dims)[1] ? 2 : 1)
    for (size_t i = 0; i < 3; i++)
        support_add(c, globals[i].name, dtype, RANK(globals[i].dims), globals[i].dims);
    for (int l = 0; l < 2; l++) {
        for (size_t i = 0; i < 9 && layer[l][i].name; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[l][i].name);
            support_add(c, name, dtype, RANK(layer[l][i].dims), layer[l][i].dims);
        }
        for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
            snprintf(name, sizeof name, "model.layers.%d.%s", l, both[i].name);
            support_add(c, name, dtype, RANK(both[i].dims), both[i].dims);
        }
        for (int e = 0; e < 9; e++) {
            static const char *const parts[] = {"gate", "up", "down"};
            snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%d.%s_proj.weight", l, e / 3,
                     parts[e % 3]);
            support_add(c, name, dtype, 2, (uint64_t[]){e % 3 < 2 ? ff : h, e % 3 < 2 ? h : ff});
        }
    }
#undef RANK
}

void support_quantize(struct support_checkpoint *c, const char *module, int bits, int group)
{
    char name[128];
    snprintf(name, sizeof name, "%s.weight", module);
    struct support_tensor *w = support_find(c, name);
    uint64_t rows = w->dims[0], cols = w->dims[1], per = 32 / (uint64_t)bits;
    uint64_t groups = group < 0 ? 1 : (cols + (uint64_t)group - 1) / (uint64_t)group;
    support_drop(c, name);
    snprintf(name, sizeof name, "%s.qweight", module);
    support_add(c, name, "I32", 2, (uint64_t[]){cols / per, rows});
    snprintf(name, sizeof name, "%s.qzeros", module);
    struct support_tensor *zeros = support_add(c, name, "I32", 2, (uint64_t[]){groups, rows / per});
    memset(zeros->data, bits == 4 ? 0x77 : 0x7F, zeros->bytes);
    snprintf(name, sizeof name, "%s.scales", module);
    support_add(c, name, "F16", 2, (uint64_t[]){groups, rows});
}

void support_quantize_mixed(struct support_checkpoint *c)
{
    char modules[64][128];
    int n = 0;
    for (int i = 0; i < c->n; i++) {
        const char *name = c->tensors[i].name;
        if (ends_with(name, "_proj.weight") || strstr(name, "in_proj_"))
            snprintf(modules[n++], sizeof modules[0], "%.*s", (int)(strlen(name) - 7), name);
    }
    for (int i = 0; i < n; i++)
        support_quantize(c, modules[i], strstr(modules[i], ".experts.") ? 4 : 8, 16);
    support_set(c->config, "quantization_config",
                "{\"bits\": 4, \"group_size\": 16, \"sym\": true, \"data_type\": \"int\","
                " \"quant_method\": \"auto-round\", \"packing_format\": \"auto_round:auto_gptq\","
                " \"extra_config\": {\".*linear_attn.*\": {\"bits\": 8},"
                " \"self_attn\": {\"bits\": 8}, \"shared_expert\\\\.\": {\"bits\": 8},"
                " \".*mlp\\\\.gate$\": {\"bits\": 16, \"data_type\": \"fp\"}}}");
}

void support_set(json_t *object, const char *key, const char *json)
{
    if (!json) {
        json_object_del(object, key);
        return;
    }
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    assert_int_equal(json_object_set_new(object, key, value), 0);
}

const char *support_path(const struct support_checkpoint *c, const char *file)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", c->dir, file);
    return path;
}

void support_write(const struct support_checkpoint *c, const char *file, const void *data,
                   size_t len)
{
    FILE *f = fopen(support_path(c, file), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void write_json(const struct support_checkpoint *c, const char *file, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(1));
    assert_non_null(text);
    support_write(c, file, text, strlen(text));
    free(text);
}

/* Writes tensors first, first + step, ... to a shard, padding the header to 8 bytes. */
static void write_shard(struct support_checkpoint *c, const char *file, int first, int step)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    uint64_t at = 0;
    for (int i = first; i < c->n; i += step) {
        const struct support_tensor *t = &c->tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->rank; d++)
            json_array_append_new(shape, json_integer((json_int_t)t->dims[d]));
        json_object_set_new(header, t->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", t->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)(at + t->bytes)));
        at += t->bytes;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    assert_non_null(text);
    uint64_t len = (strlen(text) + 7) / 8 * 8;
    FILE *f = fopen(support_path(c, file), "wb");
    assert_non_null(f);
    fwrite(&len, 8, 1, f);
    fprintf(f, "%-*s", (int)len, text);
    for (int i = first; i < c->n; i += step)
        fwrite(c->tensors[i].data, 1, c->tensors[i].bytes, f);
    assert_int_equal(fclose(f), 0);
    free(text);
    json_decref(header);
}

void support_save(struct support_checkpoint *c, int shards)
{
    write_json(c, "config.json", c->config);
    write_json(c, "generation_config.json", c->generation);
    if (shards == 1) {
        write_shard(c, "model.safetensors", 0, 1);
        return;
    }
    json_t *map = json_object();
    for (int s = 0; s < shards; s++) {
        char file[64];
        snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", s + 1, shards);
        write_shard(c, file, s, shards);
        for (int i = s; i < c->n; i += shards)
            json_object_set_new(map, c->tensors[i].name, json_string(file));
    }
    json_t *index = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
    write_json(c, "model.safetensors.index.json", index);
    json_decref(index);
}
