/* kernels.h - the op table of a device.
 *
 * The forward pass is written once against this table. The CPU is built in (kernels/cpu); a GPU
 * is a plug-in with the same table. Both may be live at once, because hybrid placement computes
 * some experts on each.
 *
 * Addresses named `dev` below are device addresses: on the CPU they are ordinary memory.
 * Activations are fp32, row-major, one row per token. Work is queued in order; results are there
 * after download() or sync(). A device is used by one thread at a time (the engine thread); what
 * it runs in parallel is its own business.
 *
 * Every function that returns int returns 0, or -1 with the caller's err filled. */
#ifndef LADE_KERNELS_KERNELS_H
#define LADE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"
#include "kernels/matrix.h"

struct lade_device; /* opaque, one per open device */

struct lade_device_config {
    int threads;        /* CPU: worker threads including the caller's; 0 = physical cores */
    const char *isa;    /* CPU: "portable", "avx2", "avx512"; NULL = the best this machine has */
    bool exact;         /* fp32 activations everywhere; false allows 16-bit activations where
                           faster (relative L2 error of a product about 2e-5) */
};

/* y[n][w.rows] = x[n][w.cols] * W^T */
struct lade_matmul {
    float *y;
    const float *x;
    const struct lade_matrix *w;
};

/* Gated grouped-query attention with its norms and rotary embedding (q_norm and k_norm are the
 * full factors: 1 + w is already applied). Appends n positions to the cache, then attends. */
struct lade_attention {
    int n, pos;                  /* tokens in this batch; position of the first */
    int heads, kv_heads, head_dim, rotary_dim;
    const float *q;              /* [n][heads][2 * head_dim]: query, then gate */
    const float *k, *v;          /* [n][kv_heads][head_dim] */
    const float *q_norm, *k_norm; /* [head_dim] */
    float eps;
    const float *inv_freq;       /* [rotary_dim / 2], angle = position * inv_freq */
    float rope_scale;            /* factor on cos and sin (1 unless YaRN) */
    enum lade_type cache_type;   /* LADE_F16 or LADE_F32 */
    void *k_cache, *v_cache;     /* [kv_heads][capacity][head_dim] */
    int capacity;                /* positions */
    float *out;                  /* [n][heads * head_dim] = softmax(qk/sqrt(head_dim)) v * sigmoid(gate) */
};

/* Gated DeltaNet from projections to the gated norm: causal convolution + SiLU, L2 norms, delta
 * rule, gated RMS norm. Formulas: the Qwen3-Next modelling code of transformers, fp32 throughout.
 * Value head h uses key head h / (value_heads / key_heads). */
struct lade_deltanet {
    int n;
    int key_heads, value_heads, key_dim, value_dim, kernel;
    const float *qkvz;           /* [n][2*key_heads*key_dim + 2*value_heads*value_dim]: q|k|v|z, each head-major */
    const float *ba;             /* [n][2 * value_heads]: b | a */
    const float *conv;           /* [channels][kernel], channels = q|k|v; last column is the current token */
    const float *decay;          /* [value_heads] = -exp(A_log) */
    const float *dt_bias;        /* [value_heads] */
    const float *norm;           /* [value_dim], plain factor */
    float eps;                   /* of the gated norm; the L2 norms use 1e-6 inside the root */
    float *conv_state;           /* [kernel - 1][channels], raw inputs, oldest first; updated */
    float *state;                /* [value_heads][key_dim][value_dim]; updated */
    float *out;                  /* [n][value_heads * value_dim] */
};

/* p = softmax(logits) over all experts; the k largest, divided by their sum if `renormalize`.
 * Equal logits: the lower id wins. ids are in descending order of probability. */
struct lade_route {
    int n, experts, k;
    bool renormalize;
    const float *logits;         /* [n][experts] */
    int32_t *ids;                /* [n][k] */
    float *weights;              /* [n][k] */
};

/* One routed or shared expert: down(silu(gate x) * up x). data == NULL: not on this device. */
struct lade_expert {
    struct lade_matrix gate, up, down;
};

/* y[n][d] += sum_j weights[j] * expert[ids[j]](x) + sigmoid(shared_gate . x) * shared(x).
 * Routes whose expert is not on this device (gate.data == NULL) are skipped: another device adds
 * them. shared == NULL leaves the shared expert out. */
struct lade_moe {
    int n, dim, k, n_experts;
    const float *x;              /* [n][dim] */
    const int32_t *ids;          /* [n][k] */
    const float *weights;        /* [n][k] */
    const struct lade_expert *experts; /* host table [n_experts] */
    const struct lade_expert *shared;  /* may be NULL */
    const float *shared_gate;    /* [dim], may be NULL: the shared expert then has weight 1 */
    float *y;                    /* [n][dim] */
};

struct lade_ops {
    const char *name;            /* "cpu", "cuda" */
    bool host_memory;            /* device addresses may be read and written by the host */

    int (*open)(struct lade_device **dev, const struct lade_device_config *cfg, char *err);
    void (*close)(struct lade_device *dev);
    /* One line for people: "AVX-512, 2 threads". Valid until close. */
    const char *(*describe)(const struct lade_device *dev);

    int (*alloc)(struct lade_device *dev, void **addr, size_t bytes, char *err); /* zeroed */
    void (*free)(struct lade_device *dev, void *addr);
    int (*upload)(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err);
    int (*download)(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err);
    int (*copy)(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err);
    int (*zero)(struct lade_device *dev, void *dst, size_t bytes, char *err);
    int (*sync)(struct lade_device *dev, char *err);

    /* y[n][table.cols] = rows `ids` (host array, each < table.rows) of the table */
    int (*embed)(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err);
    /* if (add) x += add; y = x / sqrt(mean(x^2) + eps) * w   per row of `dim` */
    int (*rmsnorm)(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                   int n, int dim, float eps, char *err);
    /* Several products of n rows at once, so that they share threads and inputs. */
    int (*matmul)(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                  char *err);
    int (*attention)(struct lade_device *dev, const struct lade_attention *a, char *err);
    int (*deltanet)(struct lade_device *dev, const struct lade_deltanet *d, char *err);
    int (*route)(struct lade_device *dev, const struct lade_route *r, char *err);
    int (*moe)(struct lade_device *dev, const struct lade_moe *m, char *err);
};

/* Physical cores this process may run on, at least 1: what `threads` 0 stands for. Any thread. */
int lade_cpu_cores(void);

/* The built-in CPU device. */
const struct lade_ops *lade_cpu_ops(void);

#endif
