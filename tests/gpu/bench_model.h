/* bench_model.h - a model with the shapes of Qwen3-Next-80B, int4 experts and int8 for the rest, on
 * the device of a plug-in: random weights, the ops of its layers, whole passes. Any error ends the
 * program. */
#ifndef LADE_TESTS_BENCH_MODEL_H
#define LADE_TESTS_BENCH_MODEL_H

#include "kernels/plugin.h"

enum {
    HIDDEN = 2048,
    FF = 512,
    USED = 10,
    HEADS = 16,
    KV_HEADS = 2,
    HEAD = 256,
    ROTARY = 64,
    KEY_HEADS = 16,
    VALUE_HEADS = 32,
    DIM = 128,
    KERNEL = 4,
    QKVZ = 12288,
    CHANNELS = 8192,
    MIXED = 4096,
    QUERY = 8192,
    GROUP = 128,
    TOP = 20,
};

struct layer {
    bool attention;
    struct lade_matrix in, second, third, out, router; /* qkvz, ba; or q, k, v */
    struct lade_expert shared, *experts;
    float *in_norm, *post_norm, *shared_gate;
    float *conv, *decay, *dt_bias, *norm, *conv_state, *state;
    float *q_norm, *k_norm;
    void *k_cache, *v_cache;
};

/* The plug-in and its device, set before the rest is called. */
extern const struct lade_ops *ops;
extern struct lade_device *dev;
extern char err[LADE_ERR];

/* Sizes, set before make_model(). */
extern int layers, experts, vocab, batch, context;

extern struct layer *layer; /* [layers] */
extern struct lade_matrix embed, head;
extern size_t expert_bytes, weight_bytes; /* of one expert, of all weights */
extern int32_t *told; /* [2], of the host: id and position of a recorded token */
extern float *x, *a;  /* activations: the residual stream, the widest products */

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define DO(call)                                                                                   \
    do {                                                                                           \
        if (ops->call)                                                                             \
            die("%s", err);                                                                        \
    } while (0)

uint32_t rng(void);
void *get(size_t bytes); /* device memory */
struct lade_matrix_layout layout_of(const struct lade_matrix *m);

void make_model(void);
void make_buffers(void);

/* The parts of a layer for n tokens, on the activations as they are. */
void do_in(struct layer *l, int n); /* norm, projections */
void do_attention(struct layer *l, int n, int pos, const int32_t *pos_at);
void do_delta(struct layer *l, int n);
void do_out(struct layer *l, int n);
void do_router(struct layer *l, int n); /* sum, norm, product, choice */
void do_moe(struct layer *l, int n);
void do_head(int token); /* norm, logits */
void do_topk(void);

/* n tokens from `pos` on; recorded ones take id and position from `told` when they run. */
void pass(const int32_t *host_ids, int n, int pos, bool recorded);

#endif
