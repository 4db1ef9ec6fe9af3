/* shape.h - config.json (or GGUF metadata) as one validated, immutable struct.
 *
 * Everything after this header trusts these numbers: each is within its limits, the divisibility
 * rules hold, and every matrix of the model has fewer than 2^31 elements. */
#ifndef LADE_CHECKPOINT_SHAPE_H
#define LADE_CHECKPOINT_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LADE_MAX_LAYERS = 1024, LADE_MAX_EXPERTS = 4096, LADE_MAX_STOP = 8 };

struct lade_shape {
    int hidden, layers, vocab, max_context;
    float norm_eps;
    bool tied_embeddings; /* the head is the embedding */

    /* full attention; heads is a multiple of kv_heads, rotary_dim even and at most head_dim */
    int heads, kv_heads, head_dim, rotary_dim;
    double rope_theta;
    double yarn_factor;                    /* 1 = no YaRN; the others below then mean nothing */
    int yarn_original_context;             /* positions */
    double yarn_beta_fast, yarn_beta_slow; /* rotations that bound the ramp */
    double yarn_attention_factor;          /* multiplies cos and sin */

    /* gated delta-net; value_heads is a multiple of key_heads */
    int key_heads, value_heads, key_dim, value_dim, conv_kernel;

    /* mixture of experts */
    int experts, experts_used, expert_ff, shared_ff;
    bool renormalize; /* norm_topk_prob */

    uint8_t full_attention[LADE_MAX_LAYERS]; /* 1: full attention, 0: delta-net */
};

/* Sampling defaults and stop tokens of generation_config.json. */
struct lade_generation {
    float temperature, top_p, min_p, repetition_penalty; /* temperature 0: greedy */
    int top_k;
    bool sampled;                    /* a file said how to sample */
    int stop[LADE_MAX_STOP], n_stop; /* token ids; n_stop 0 where the files name none */
};

/* Parses `text` (config.json, not necessarily terminated). `path` only names the file in errors. */
int lade_shape_parse(struct lade_shape *shape, const char *text, size_t len, const char *path,
                     char *err);

/* The rules every shape must keep, whatever file it comes from: limits, divisibility, products. */
int lade_shape_check(const struct lade_shape *shape, const char *path, char *err);

/* Completes YaRN from yarn_factor and yarn_original_context: the magnitude, times `attention`, and
 * the context that it reaches. */
int lade_shape_yarn(struct lade_shape *shape, double attention, const char *path, char *err);

/* The published defaults of Qwen3-Next-Instruct, without stop tokens. */
void lade_generation_defaults(struct lade_generation *gen);

/* Parses generation_config.json (or config.json, which may hold some of its keys) over the values
 * already in *gen. */
int lade_generation_parse(struct lade_generation *gen, const char *text, size_t len,
                          const char *path, char *err);

/* Derived sizes, in elements. */
static inline int lade_shape_channels(const struct lade_shape *s) /* of the convolution: q|k|v */
{
    return 2 * s->key_heads * s->key_dim + s->value_heads * s->value_dim;
}
static inline int lade_shape_qkvz(const struct lade_shape *s)
{
    return lade_shape_channels(s) + s->value_heads * s->value_dim;
}

#endif
