#include "tests/support/support_gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum {
    TYPE_U16 = 2,
    TYPE_U32 = 4,
    TYPE_F32 = 6,
    TYPE_TEXT = 8,
    GGML_F32 = 0,
    GGML_F16 = 1,
    ALIGN = 32
};

void support_put(struct support_bytes *b, const void *data, size_t len)
{
    b->at = realloc(b->at, b->len + len + 1);
    assert_non_null(b->at);
    memcpy(b->at + b->len, data, len);
    b->len += len;
}

void support_put_u32(struct support_bytes *b, uint32_t v)
{
    support_put(b, &v, 4);
}

void support_put_u64(struct support_bytes *b, uint64_t v)
{
    support_put(b, &v, 8);
}

void support_put_text(struct support_bytes *b, const char *text)
{
    support_put_u64(b, strlen(text));
    support_put(b, text, strlen(text));
}

static void entry(struct support_gguf *g, const char *key, uint32_t type)
{
    support_put_text(&g->entries, key);
    support_put_u32(&g->entries, type);
    g->n_entries++;
}

void support_gguf_u32(struct support_gguf *g, const char *key, uint32_t value)
{
    entry(g, key, TYPE_U32);
    support_put_u32(&g->entries, value);
}

void support_gguf_u16(struct support_gguf *g, const char *key, uint16_t value)
{
    entry(g, key, TYPE_U16);
    support_put(&g->entries, &value, 2);
}

void support_gguf_f32(struct support_gguf *g, const char *key, float value)
{
    entry(g, key, TYPE_F32);
    support_put(&g->entries, &value, 4);
}

void support_gguf_text(struct support_gguf *g, const char *key, const char *value)
{
    entry(g, key, TYPE_TEXT);
    support_put_text(&g->entries, value);
}

static void align(struct support_bytes *b, size_t before)
{
    static const char zeros[ALIGN];
    support_put(b, zeros, (ALIGN - (before + b->len) % ALIGN) % ALIGN);
}

void support_gguf_tensor(struct support_gguf *g, const char *name, uint32_t type, int rank,
                         const uint64_t *dims, const void *data, size_t len)
{
    align(&g->data, 0);
    support_put_text(&g->infos, name);
    support_put_u32(&g->infos, (uint32_t)rank);
    for (int i = 0; i < rank; i++)
        support_put_u64(&g->infos, dims[i]);
    support_put_u32(&g->infos, type);
    support_put_u64(&g->infos, g->data.len);
    support_put(&g->data, data, len);
    g->n_tensors++;
}

void support_gguf_finish(struct support_gguf *g, struct support_bytes *out)
{
    *out = (struct support_bytes){0};
    support_put(out, "GGUF", 4);
    support_put_u32(out, g->version ? g->version : 3);
    support_put_u64(out, g->n_tensors);
    support_put_u64(out, g->n_entries);
    support_put(out, g->entries.at ? g->entries.at : (unsigned char *)"", g->entries.len);
    support_put(out, g->infos.at ? g->infos.at : (unsigned char *)"", g->infos.len);
    align(out, 0);
    support_put(out, g->data.at ? g->data.at : (unsigned char *)"", g->data.len);
}

void support_gguf_clear(struct support_gguf *g)
{
    free(g->entries.at);
    free(g->infos.at);
    free(g->data.at);
    *g = (struct support_gguf){0};
}

/* ---- a model --------------------------------------------------------------------------------- */

static void metadata(struct support_gguf *g, bool mtp)
{
    static const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        {"context_length", 512},        {"embedding_length", 32},
        {"attention.head_count", 4},    {"attention.head_count_kv", 2},
        {"attention.key_length", 16},   {"attention.value_length", 16},
        {"rope.dimension_count", 4},    {"expert_count", 3},
        {"expert_used_count", 2},       {"expert_feed_forward_length", 32},
        {"ssm.conv_kernel", 4},         {"expert_shared_feed_forward_length", 32},
        {"ssm.state_size", 4},          {"ssm.group_count", 2},
        {"ssm.time_step_rank", 4},      {"ssm.inner_size", 48},
        {"full_attention_interval", 2},
    };
    char key[96];
    support_gguf_text(g, "general.architecture", "qwen3next");
    support_gguf_text(g, "general.name", "Tiny \033 Model");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        snprintf(key, sizeof key, "qwen3next.%s", keys[i].key);
        support_gguf_u32(g, key, keys[i].value);
    }
    support_gguf_u32(g, "qwen3next.block_count", mtp ? 3 : 2);
    if (mtp)
        support_gguf_u32(g, "qwen3next.nextn_predict_layers", 1);
    support_gguf_f32(g, "qwen3next.rope.freq_base", 1e6f);
    support_gguf_f32(g, "qwen3next.attention.layer_norm_rms_epsilon", 1e-6f);
    support_gguf_f32(g, "general.sampling.temp", 0.5f);
    support_gguf_u32(g, "tokenizer.ggml.eos_token_id", 45);
}

static float *floats(struct support_checkpoint *c, const char *name)
{
    struct support_tensor *t = support_find(c, name);
    float *copy = malloc(t->bytes);
    assert_string_equal(t->dtype, "F32");
    assert_non_null(copy);
    memcpy(copy, t->data, t->bytes);
    return copy;
}

/* The tensor `from` under the name `to`, with the transforms of the converter. */
static void convert(struct support_gguf *g, struct support_checkpoint *c, const char *from,
                    const char *to)
{
    struct support_tensor *t = support_find(c, from);
    float *values = floats(c, from);
    uint64_t dims[SUPPORT_DIMS];
    size_t n = t->bytes / 4;
    int rank = 0;
    for (int i = t->rank - 1; i >= 0; i--)
        if (t->dims[i] != 1 || t->rank == 1)
            dims[rank++] = t->dims[i];
    bool norm = strstr(from, "norm.weight") && !strstr(from, "linear_attn.norm");
    for (size_t i = 0; i < n; i++) {
        values[i] += norm ? 1 : 0;
        if (strstr(from, "A_log"))
            values[i] = (float)-exp((double)values[i]);
    }
    support_gguf_tensor(g, to, GGML_F32, rank, dims, values, t->bytes);
    free(values);
}

/* Of a value below 2, rounded towards zero. */
static uint16_t half_of(float x)
{
    int e;
    float m = frexpf(fabsf(x), &e); /* [0.5, 1) */
    uint16_t sign = x < 0 ? 0x8000 : 0;
    return e < -13 ? sign
                   : (uint16_t)(sign | (unsigned)(e + 14) << 10 | ((unsigned)(m * 2048) & 1023));
}

/* in_proj_qkvz of 2 key heads [q 4 | k 4 | v 24 | z 24] regrouped to q|k|v and z. */
static void split_projection(struct support_gguf *g, struct support_checkpoint *c, int layer,
                             bool mixed)
{
    static const int widths[] = {4, 4, 24, 24};
    char name[96];
    snprintf(name, sizeof name, "model.layers.%d.linear_attn.in_proj_qkvz.weight", layer);
    float *from = floats(c, name), *to = malloc(112 * 32 * sizeof *to), *at = to;
    assert_non_null(to);
    for (int part = 0, before = 0; part < 4; before += widths[part++])
        for (int head = 0; head < 2; head++, at += widths[part] * 32)
            memcpy(at, from + (head * 56 + before) * 32, (size_t)widths[part] * 32 * sizeof *to);
    snprintf(name, sizeof name, "blk.%d.attn_qkv.weight", layer);
    support_gguf_tensor(g, name, GGML_F32, 2, (uint64_t[]){32, 64}, to, 64 * 32 * sizeof *to);
    snprintf(name, sizeof name, "blk.%d.attn_gate.weight", layer);
    uint16_t halves[48 * 32];
    for (size_t i = 0; i < 48 * 32; i++)
        halves[i] = half_of(to[64 * 32 + i]);
    if (mixed)
        support_gguf_tensor(g, name, GGML_F16, 2, (uint64_t[]){32, 48}, halves, sizeof halves);
    else
        support_gguf_tensor(g, name, GGML_F32, 2, (uint64_t[]){32, 48}, to + 64 * 32,
                            48 * 32 * sizeof *to);
    free(from);
    free(to);
}

/* The concatenation of tensors of one width. */
static void join(struct support_gguf *g, struct support_checkpoint *c, char (*names)[96], int n,
                 const char *to, int rank, uint64_t experts)
{
    struct support_bytes all = {0};
    uint64_t cols = 0;
    for (int i = 0; i < n; i++) {
        struct support_tensor *t = support_find(c, names[i]);
        support_put(&all, t->data, t->bytes);
        cols = t->dims[1];
    }
    uint64_t rows = all.len / 4 / cols / experts;
    support_gguf_tensor(g, to, GGML_F32, rank, (uint64_t[]){cols, rows, experts}, all.at, all.len);
    free(all.at);
}

static void experts(struct support_gguf *g, struct support_checkpoint *c, int layer, bool fused)
{
    static const char *const parts[] = {"gate", "up", "down"};
    char names[6][96], to[96];
    for (int part = 0; part < 3; part++) {
        bool both = fused && part == 0;
        int n = 0;
        if (fused && part == 1)
            continue;
        for (int e = 0; e < 3; e++)
            for (int p = part; p < part + (both ? 2 : 1); p++)
                snprintf(names[n++], sizeof names[0],
                         "model.layers.%d.mlp.experts.%d.%s_proj.weight", layer, e, parts[p]);
        snprintf(to, sizeof to, "blk.%d.ffn_%s_exps.weight", layer, both ? "gate_up" : parts[part]);
        join(g, c, names, n, to, 3, 3);
    }
}

static void block(struct support_gguf *g, struct support_checkpoint *c, int layer,
                  enum support_layout layout)
{
    static const char *const common[][2] = {
        {"input_layernorm.weight", "attn_norm.weight"},
        {"post_attention_layernorm.weight", "post_attention_norm.weight"},
        {"mlp.gate.weight", "ffn_gate_inp.weight"},
        {"mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"},
        {"mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"},
        {"mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"},
        {"mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"},
    };
    static const char *const mixers[2][8][2] = {
        {{"linear_attn.in_proj_ba.weight", "ssm_ba.weight"},
         {"linear_attn.conv1d.weight", "ssm_conv1d.weight"},
         {"linear_attn.dt_bias", "ssm_dt.bias"},
         {"linear_attn.A_log", "ssm_a"},
         {"linear_attn.norm.weight", "ssm_norm.weight"},
         {"linear_attn.out_proj.weight", "ssm_out.weight"},
         {"linear_attn.in_proj_qkvz.weight", "ssm_in.weight"}},
        {{"self_attn.o_proj.weight", "attn_output.weight"},
         {"self_attn.q_norm.weight", "attn_q_norm.weight"},
         {"self_attn.k_norm.weight", "attn_k_norm.weight"},
         {"self_attn.q_proj.weight", "attn_q.weight"},
         {"self_attn.k_proj.weight", "attn_k.weight"},
         {"self_attn.v_proj.weight", "attn_v.weight"}}};
    char from[96], to[96], names[3][96];
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        snprintf(from, sizeof from, "model.layers.%d.%s", layer, common[i][0]);
        snprintf(to, sizeof to, "blk.%d.%s", layer, common[i][1]);
        convert(g, c, from, to);
    }
    bool attention = layer % 2 == 1;
    int n = attention ? (layout == SUPPORT_FUSED ? 3 : 6) : (layout == SUPPORT_SSM_IN ? 7 : 6);
    for (int i = 0; i < n; i++) {
        snprintf(from, sizeof from, "model.layers.%d.%s", layer, mixers[attention][i][0]);
        snprintf(to, sizeof to, "blk.%d.%s", layer, mixers[attention][i][1]);
        convert(g, c, from, to);
    }
    if (!attention && layout != SUPPORT_SSM_IN)
        split_projection(g, c, layer, layout == SUPPORT_MIXED);
    if (attention && layout == SUPPORT_FUSED) {
        for (int i = 0; i < 3; i++)
            snprintf(names[i], sizeof names[i], "model.layers.%d.%s", layer, mixers[1][3 + i][0]);
        snprintf(to, sizeof to, "blk.%d.attn_qkv.weight", layer);
        join(g, c, names, 3, to, 2, 1);
    }
    experts(g, c, layer, layout == SUPPORT_FUSED);
}

static void write_part(struct support_checkpoint *c, struct support_gguf *g, const char *prefix,
                       int part, int parts)
{
    struct support_bytes file;
    char name[128];
    if (parts > 1) {
        support_gguf_u16(g, "split.no", (uint16_t)part);
        support_gguf_u16(g, "split.count", (uint16_t)parts);
        snprintf(name, sizeof name, "%s-%05d-of-%05d.gguf", prefix, part + 1, parts);
    } else {
        snprintf(name, sizeof name, "%s.gguf", prefix);
    }
    support_gguf_finish(g, &file);
    support_write(c, name, file.at, file.len);
    free(file.at);
    support_gguf_clear(g);
}

void support_gguf_save(struct support_checkpoint *c, const char *prefix, enum support_layout layout,
                       int parts, bool mtp)
{
    struct support_gguf g = {0};
    metadata(&g, mtp);
    if (parts > 2) /* a first part without tensors */
        write_part(c, &g, prefix, 0, parts);
    convert(&g, c, "model.embed_tokens.weight", "token_embd.weight");
    convert(&g, c, "model.norm.weight", "output_norm.weight");
    convert(&g, c, "lm_head.weight", "output.weight");
    block(&g, c, 0, layout);
    if (parts > 1)
        write_part(c, &g, prefix, parts > 2, parts);
    block(&g, c, 1, layout);
    if (mtp)
        support_gguf_tensor(&g, "blk.2.nextn.eh_proj.weight", GGML_F32, 2, (uint64_t[]){64, 32},
                            (float[64 * 32]){0}, 64 * 32 * 4);
    write_part(c, &g, prefix, parts - 1, parts);
}
