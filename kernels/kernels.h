/* kernels.h - the op table of a device.
 *
 * The forward pass is written once against this table. The CPU is built in (kernels/cpu); a GPU
 * is a plug-in with the same table (kernels/plugin.h). Both may be live at once, because hybrid
 * placement computes some experts on each.
 *
 * Activations are fp32, row-major, one row per token.
 *
 * Memory. Pointers in op arguments are device addresses unless called `host`: on the CPU ordinary
 * memory, on a GPU memory of its card, which the host must not touch. Structures themselves,
 * matrix descriptions, job arrays and tables of experts are the host's and may be reused when the
 * call returns. Memory from host_alloc() serves as both: the host reads and writes it, and every
 * op takes it in place of device memory, at the speed of the link (KV caches in RAM, tokens and
 * positions that the host writes, routes that it reads).
 *
 * Order. A device has one compute queue and two copy queues, up and down. Ops, upload(),
 * download(), copy() and zero() go through the compute queue in the order of the calls and the
 * host does not wait for them, except in download() and sync(). upload_async() and
 * download_async() go through the copy queues beside it. A *fence* is a point in a queue; it is
 * reached when all that was queued there before has been done. What a queue shall not overtake is
 * said with fences: nothing else orders copies and compute. On the CPU every op has finished when
 * it returns and every fence is 0, the fence that is always reached.
 *
 * Threads. A device is used by one thread at a time (the engine thread); what it runs in parallel
 * is its own business. Functions marked [any thread] may be called by others meanwhile.
 *
 * Every function that returns int returns 0, or -1 with the caller's err filled. A lost device (a
 * fault of the card or of a kernel after which the driver refuses all) fails every call from then
 * on, with the same line; only lost(), describe(), close() and the free functions still do their
 * work, whatever the driver says to them. */
#ifndef LADE_KERNELS_KERNELS_H
#define LADE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/error.h"
#include "kernels/matrix.h"

struct lade_device; /* opaque, one per open device */

struct lade_device_config {
    int threads;       /* CPU: worker threads including the caller's; 0 = physical cores */
    const char *isa;   /* CPU: "portable", "neon", "avx2", "avxvnni", "avx512"; NULL = the best
                           this machine has */
    bool exact;        /* fp32 activations everywhere; false allows 16-bit activations where
                           faster (relative L2 error of a product about 4e-5) */
    int gpu;           /* GPU: which one, as numbered by list() */
    size_t memory_cap; /* GPU: most bytes of the card this device may ever hold, all included
                           (lade_device_memory.used); 0 = what the card has free */
    size_t reserve;    /* GPU: bytes to take at open for work space and alloc(), so that later no
                           other program can have them and nobody asks the driver; see reserve() */
};

/* One GPU, as list() finds it. */
struct lade_gpu {
    char name[80];      /* "NVIDIA H200" */
    char bus[24];       /* PCI address, "0000:3b:00.0"; "" where unknown */
    int major, minor;   /* compute capability */
    size_t total, free; /* bytes of memory, of all programs */
    size_t own; /* bytes that open() takes for itself: the driver's context and code, about */
    double memory_rate, link_rate; /* bytes per second by data sheet; 0 where unknown */
};

/* Bytes of device memory. */
struct lade_device_memory {
    size_t total, free; /* of the card, counting all programs */
    size_t cap;         /* memory_cap, or what was free at open */
    size_t used, peak;  /* held by this device now and at most so far: the driver's context and
                           code, work space, the reserve (taken or not) and allocations beyond it */
    size_t fixed;       /* the part of `used` that was there after open, less the reserve */
};

/* What was measured, bytes per second. */
struct lade_device_rates {
    double memory;           /* read by kernels, from the card */
    double upload, download; /* over the link, host_alloc() memory, 16 MiB at a time */
    char library[24];        /* what multiplies large batches beside the device's own kernels:
                                "cuBLAS 13.1", "no cuBLAS" where it would; "" where none is of use */
};

/* The largest work that ops will be asked for. */
struct lade_limits {
    int batch;   /* tokens of one call */
    int context; /* positions of a KV cache */
    int hidden;  /* lade_moe.dim, lade_rmsnorm dim */
    int widest;  /* most rows or columns of a matrix, the head's rows not counted */
    int vocab;
    int heads, kv_heads, head_dim;
    int key_heads, value_heads, key_dim, value_dim, kernel;
    int experts, experts_used;
    int expert_rows; /* most rows of gate or up of an expert, the shared one too */
    int tables;      /* of experts, in use at once: addresses of lade_moe.experts */
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
    int n, pos; /* tokens in this batch; position of the first */
    int skip;   /* the first of them, of which only keys and values are wanted: up to n */
    const int32_t *pos_at; /* NULL, or where the position is read when the op runs; `pos` is
                                    then the largest that may stand there */
    int heads, kv_heads, head_dim, rotary_dim;
    const float *q;               /* [n - skip][heads][2 * head_dim]: query, then gate */
    const float *k, *v;           /* [n][kv_heads][head_dim] */
    const float *q_norm, *k_norm; /* [head_dim] */
    float eps;
    const float *inv_freq;     /* [rotary_dim / 2], angle = position * inv_freq */
    float rope_scale;          /* factor on cos and sin (1 unless YaRN) */
    enum lade_type cache_type; /* LADE_F16 or LADE_F32; on the CPU LADE_Q16 and LADE_Q8, too */
    void *k_cache, *v_cache;   /* [kv_heads][capacity] rows of lade_cache_row() bytes */
    int capacity;              /* positions */
    float *out; /* [n - skip][heads * head_dim] = softmax(qk/sqrt(head_dim)) v * sigmoid(gate) */
};

/* Gated DeltaNet from projections to the gated norm: causal convolution + SiLU, L2 norms, delta
 * rule, gated RMS norm. Formulas: the Qwen3-Next modelling code of transformers, fp32 throughout.
 * Value head h uses key head h / (value_heads / key_heads). */
struct lade_deltanet {
    int n;
    int key_heads, value_heads, key_dim, value_dim, kernel;
    /* [n][2 * key_heads * key_dim + 2 * value_heads * value_dim]: q|k|v|z, each head-major */
    const float *qkvz;
    const float *z;     /* NULL; or [n][value_heads*value_dim], and qkvz is q|k|v alone */
    const float *ba;    /* [n][2 * value_heads]: b | a */
    const float *conv;  /* [channels][kernel], channels = q|k|v; last column is the current token */
    const float *decay; /* [value_heads] = -exp(A_log) */
    const float *dt_bias; /* [value_heads] */
    const float *norm;    /* [value_dim], plain factor */
    float eps;            /* of the gated norm; the L2 norms use 1e-6 inside the root */
    float *conv_state;    /* [kernel - 1][channels], raw inputs, oldest first; updated */
    float *state;         /* [value_heads][key_dim][value_dim]; updated */
    float *out;           /* [n][value_heads * value_dim] */
};

/* p = softmax(logits) over all experts; the k largest, divided by their sum if `renormalize`.
 * Equal logits: the lower id wins. ids are in descending order of probability. */
struct lade_route {
    int n, experts, k;
    bool renormalize;
    const float *logits; /* [n][experts] */
    int32_t *ids;        /* [n][k] */
    float *weights;      /* [n][k] */
};

/* A norm and the products of what it gives, as rmsnorm() and matmul() after each other would. One
 * launch of a GPU where it can. */
struct lade_project {
    int n, dim;
    const float *x;    /* [n][dim] */
    const float *norm; /* [dim] */
    float eps;
    float *h;                       /* [n][dim], work space: may hold anything afterwards */
    const struct lade_matmul *jobs; /* the x of each is h */
    int n_jobs;
};

/* Beside a router's F32 weights, so that a token need not read all of them: the weights rounded to
 * 16 bits, and how far that can move a logit. By these the CPU knows which experts cannot be among
 * the k largest; of the others it reads the weights. The caller owns the memory. */
struct lade_router_sketch {
    struct lade_matrix high; /* LADE_BF16, of the weights' shape */
    float *far;              /* [rows]: most that a logit can be off, for inputs of length 1; 0
                                    where rounding changed no weight */
    bool ready;              /* false: the op fills both, when it needs them */
};

/* From a layer's mixer to its routes: the residual sum, the norm, the product with the router's
 * weights and the choice, as rmsnorm(), matmul() and route() after each other would. One launch of
 * a GPU where it can. */
struct lade_router {
    int n, dim;
    float *x;          /* [n][dim]; x += add */
    const float *add;  /* [n][dim], or NULL */
    const float *norm; /* [dim] */
    float eps;
    float *h;                    /* [n][dim] = x / sqrt(mean(x^2) + eps) * norm */
    const struct lade_matrix *w; /* [route.experts][dim] */
    /* [n][route.experts] = h * w^T; of experts out of the question they may be rough, on the CPU with a
     * sketch or where it need not be exact */
    float *logits;
    struct lade_route route; /* its n and logits are not read */
    /* NULL; or of an F32 w, for one token on the CPU: same routes */
    struct lade_router_sketch *sketch;
};

/* One routed or shared expert: down(silu(gate x) * up x). data == NULL: not on this device. */
struct lade_expert {
    struct lade_matrix gate, up, down;
};

/* y[n][d] += sum_j weights[j] * expert[ids[j]](x) + sigmoid(shared_gate . x) * shared(x).
 * Routes whose expert is not on this device (gate.data == NULL) are skipped: another device adds
 * them. shared == NULL leaves the shared expert out. Ids that are no experts fail on the CPU; a
 * GPU skips them.
 *
 * A GPU may keep a copy of the table, found by the table's address. It copies again only where
 * `version` is not the one it has: whoever changes an entry, or puts another table at the same
 * address, passes a version that this address never had. Types may differ from entry to entry;
 * a GPU may be slow there. */
struct lade_moe {
    int n, dim, k, n_experts;
    const float *x;                    /* [n][dim] */
    const int32_t *ids;                /* [n][k] */
    const float *weights;              /* [n][k] */
    const struct lade_expert *experts; /* host table [n_experts] */
    uint64_t version;                  /* of the table; the CPU reads the table each time */
    const struct lade_expert *shared;  /* may be NULL */
    const float *shared_gate;          /* [dim], may be NULL: the shared expert then has weight 1 */
    float *y;                          /* [n][dim] */
};

enum { LADE_TOPK_MAX = 1024, LADE_GPU_ALIGN = 256 };

/* The k largest of n logits, largest first; equal ones: the lower index first. */
struct lade_topk {
    int n, k;            /* 1 <= k <= n, at most LADE_TOPK_MAX */
    const float *logits; /* [n] */
    float *values;       /* [k] */
    int32_t *ids;        /* [k] */
};

typedef uint64_t lade_fence;

struct lade_recording; /* opaque, owned by the device that made it */

/* "NULL on the CPU" below: callers test the pointer and do without. All else is always there. */
struct lade_ops {
    const char *name; /* "cpu", "cuda" */
    bool host_memory; /* device addresses may be read and written by the host */

    /* ---- devices ---- */

    /* The GPUs of this machine: the first `max` to gpus[], how many there are to *n. Fails with
     * one sentence where there is no driver, a driver too old, or no GPU. Needs no open device.
     * [any thread] NULL on the CPU. */
    int (*list)(struct lade_gpu *gpus, int max, int *n, char *err);
    /* Fails where the device is missing or `memory_cap` or the free memory is too small for what
     * it needs itself and the reserve. */
    int (*open)(struct lade_device **dev, const struct lade_device_config *cfg, char *err);
    void (*close)(struct lade_device *dev); /* frees all; NULL is allowed */
    /* One line for people: "AVX-512, 2 threads". Valid until close. [any thread] */
    const char *(*describe)(const struct lade_device *dev);
    /* Whether a call has found the device lost. [any thread] NULL on the CPU. */
    bool (*lost)(struct lade_device *dev);
    /* [any thread] NULL on the CPU: engine/plan/machine.h knows RAM. */
    int (*memory)(struct lade_device *dev, struct lade_device_memory *out, char *err);
    /* Measures, in about 50 ms; takes 16 MiB to 1 GiB of device memory for that time. NULL on the
     * CPU. */
    int (*measure)(struct lade_device *dev, struct lade_device_rates *out, char *err);
    /* Bytes of work space that ops within the limits need, copies of tables included; needs no
     * device. Never too low. On the CPU it is what grows with the tokens of a prompt's batch: that of
     * threads and of a few tokens is some MiB and not counted. */
    size_t (*workspace)(const struct lade_limits *limits);
    /* Takes that work space, so that ops within the limits allocate nothing; frees what an earlier
     * call took. Without it, or beyond the limits, work space grows when an op needs it. NULL on
     * the CPU. */
    int (*prepare)(struct lade_device *dev, const struct lade_limits *limits, char *err);
    /* Changes the reserve of a device that was opened with one. More is there when this returns, or
     * on failure nothing has changed; of less, what is free goes back to the driver at once and the
     * rest when it is freed. Where a GPU cannot reserve memory this does nothing: alloc() and free()
     * then ask the driver each time. NULL on the CPU. */
    int (*reserve)(struct lade_device *dev, size_t bytes, char *err);

    /* ---- memory ---- */

    /* Device memory, zeroed, aligned to LADE_GPU_ALIGN bytes on a GPU, of which it takes whole ones
     * of the reserve; to LADE_ALIGN on the CPU. Fails with one line where the cap or the card has
     * no room. free(NULL) is allowed; free() on a GPU does not wait: no queued work may still use
     * the memory. [any thread] */
    int (*alloc)(struct lade_device *dev, void **addr, size_t bytes, char *err);
    void (*free)(struct lade_device *dev, void *addr);
    /* Memory of the host that copies need not stage (pinned, on CUDA) and ops can use as device
     * memory; zeroed, aligned to 4096 bytes on a GPU. [any thread] */
    int (*host_alloc)(struct lade_device *dev, void **host, size_t bytes, char *err);
    void (*host_free)(struct lade_device *dev, void *host);
    /* Whole pages of other memory of the host, which may hold anything: until unpin() copies need not
     * stage them either. Fails where the system allows no more of it, which nothing depends on; no page
     * may be in two such ranges. unpin(), which needs the address alone, comes before the memory goes and
     * after the copies. NULL on the CPU, both. */
    int (*pin)(struct lade_device *dev, void *host, size_t bytes, char *err);
    void (*unpin)(struct lade_device *dev, void *host);

    /* In the compute queue. `host` may be reused when upload() returns; small uploads (64 KiB)
     * from any memory do not wait for the device. Ranges of copy() do not overlap. */
    int (*upload)(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err);
    int (*download)(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err);
    int (*copy)(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err);
    int (*zero)(struct lade_device *dev, void *dst, size_t bytes, char *err);
    int (*sync)(struct lade_device *dev, char *err); /* waits for all three queues */

    /* ---- beside compute ---- */

    /* A fence in the compute queue, after all that was queued so far. */
    int (*mark)(struct lade_device *dev, lade_fence *fence, char *err);
    /* Copies in the up or down queue, not before `after` is reached (0 = at once); *fence (may be
     * NULL) is reached when it is done. Until then `host` and the device memory belong to the
     * copy. `host` should be of host_alloc() or pin(), of any device of the plug-in; other memory makes
     * the call wait. [any thread] */
    int (*upload_async)(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                        lade_fence after, lade_fence *fence, char *err);
    int (*download_async)(struct lade_device *dev, void *host, const void *src, size_t bytes,
                          lade_fence after, lade_fence *fence, char *err);
    /* What is queued for compute from now on waits for the fence; the host does not. */
    int (*wait)(struct lade_device *dev, lade_fence fence, char *err);
    /* Whether a fence is reached, at once; or waits until it is. [any thread] */
    int (*reached)(struct lade_device *dev, lade_fence fence, bool *yes, char *err);
    int (*finish)(struct lade_device *dev, lade_fence fence, char *err);

    /* ---- recordings: the ops of a token queued with one call (CUDA graphs) ---- */

    /* Between begin and end, the ops below, copy() and zero() are recorded and not run; no other
     * function of the device may be called. A recording holds the addresses and numbers that it
     * was given; of expert tables only the address: it uses what table() or moe() saw last. What
     * changes from token to token is read when it runs: `pos_at`, ids of embed_at(). All tables
     * and work space must have been in use before (run the ops once, or prepare() and table()).
     * A failure in between ends the recording. NULL on the CPU, all four. */
    int (*record_begin)(struct lade_device *dev, char *err);
    int (*record_end)(struct lade_device *dev, struct lade_recording **out, char *err);
    int (*replay)(struct lade_device *dev, struct lade_recording *r, char *err);
    void (*record_free)(struct lade_device *dev, struct lade_recording *r); /* NULL is allowed */
    /* Brings the device's copy of a table of experts up to date, in the compute queue, as moe()
     * does; see struct lade_moe. NULL on the CPU. */
    int (*table)(struct lade_device *dev, const struct lade_expert *experts, int n_experts,
                 uint64_t version, char *err);

    /* ---- ops ---- */

    /* The products that are asked for after the op that is called next: while that one ends, and until
     * they are asked for, threads that wait fetch what they will read first. Changes no result; for
     * tokens that go one by one. NULL on a GPU. */
    void (*soon)(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs);

    /* y[n][table.cols] = rows `ids` (host array, each < table.rows) of the table */
    int (*embed)(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err);
    /* The same with ids in device memory, read when the op runs. An id outside the table gives a
     * row of zeros on a GPU and fails on the CPU. */
    int (*embed_at)(struct lade_device *dev, float *y, const struct lade_matrix *table,
                    const int32_t *ids, int n, char *err);
    /* if (add) x += add; y = x / sqrt(mean(x^2) + eps) * w   per row of `dim` */
    int (*rmsnorm)(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                   int n, int dim, float eps, char *err);
    /* y += x, `count` floats: joins the parts of two devices */
    int (*add)(struct lade_device *dev, float *y, const float *x, size_t count, char *err);
    /* Several products of n rows at once, so that they share threads and inputs. */
    int (*matmul)(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                  char *err);
    int (*project)(struct lade_device *dev, const struct lade_project *p, char *err);
    int (*attention)(struct lade_device *dev, const struct lade_attention *a, char *err);
    int (*deltanet)(struct lade_device *dev, const struct lade_deltanet *d, char *err);
    int (*route)(struct lade_device *dev, const struct lade_route *r, char *err);
    int (*router)(struct lade_device *dev, const struct lade_router *r, char *err);
    int (*moe)(struct lade_device *dev, const struct lade_moe *m, char *err);
    int (*topk)(struct lade_device *dev, const struct lade_topk *t, char *err);
};

/* Physical cores this process may run on, at least 1: what `threads` 0 stands for. Any thread. */
int lade_cpu_cores(void);

/* The built-in CPU device. */
const struct lade_ops *lade_cpu_ops(void);

/* Reads memory with all threads of a CPU device, as plainly as can be: in pieces that they take as they
 * come, as kernels do. The sum of its 8-byte words, the last one filled up with 0: somebody must want
 * what is read. Less than 2 PiB. The device's thread. */
uint64_t lade_cpu_read(struct lade_device *cpu, const void *data, size_t bytes);

#endif
