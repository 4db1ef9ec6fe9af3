/* cpu.h - inside of the CPU device: what its files share.
 *
 * Each op is split in two. The op's own file (matmul.c, attention.c ...) checks shapes, carves
 * scratch memory and cuts the work into units for the pool. What a unit computes is a kernel of
 * struct cpu_isa. Kernels are written once with the vectors of simd.h and compiled once per
 * instruction set (isa_portable.c, isa_avx2.c ...). */
#ifndef LADE_KERNELS_CPU_CPU_H
#define LADE_KERNELS_CPU_CPU_H

#include "kernels/cpu/int16.h"
#include "kernels/cpu/pool.h"
#include "kernels/kernels.h"

enum {
    CPU_DIRECT_N = 4, /* most tokens gemv() takes */
    CPU_CHUNK = 32,   /* tokens of one step of the chunked delta rule */
    CPU_SCORES = 8,   /* query heads that attend_part() takes at once, at most */
    CPU_KEYS = 48,    /* positions of one step of flash attention, a multiple of every nr */
    CPU_ROW_PAD = 96, /* query rows are padded to this, a multiple of every nr and pw */
    CPU_MAX_NR = 16,  /* upper bounds of cpu_isa.nr and .pw */
    CPU_MAX_PW = 32,
};

/* One chunk of the value heads of one key head; all arrays row-major and read only except state and
 * out. Work space is cpu_delta_chunk_floats() floats. */
struct cpu_delta_chunk {
    int n, heads, key_dim, value_dim; /* 1 <= n <= CPU_CHUNK */
    const float *q, *k; /* [n][key_dim], normalised, q already scaled; behind k's last row
                              CPU_MAX_NR more may be read */
    const float *v;     /* [n][ldv], of which [heads][value_dim] count */
    size_t ldv;
    const float *g, *beta; /* [heads][CPU_CHUNK]: log decay (<= 0), step size; 0 from token n on */
    float *state;          /* [heads][key_dim][value_dim] */
    float *out;            /* [n][heads][value_dim] */
    float *work;
};

/* Decode attention of `heads` query heads that share one key head, positions [first, last).
 * Leaves max, sum of exp and the unnormalised sum over values. */
struct cpu_attend_part {
    int heads, head_dim, first, last;
    const float *q; /* [heads][head_dim], scaled */
    enum lade_type cache_type;
    const void *k, *v; /* of this key head: [capacity] rows */
    bool more;         /* the positions from `last` on are the thread's next */
    float *max, *sum;  /* [heads] */
    float *acc;        /* [heads][head_dim] */
    float *scores;     /* work space [last - first + 1][CPU_SCORES] */
};

/* Flash attention of `rows` query rows (several tokens times the heads of one key head). Row i
 * sees positions [0, limit[i]); limits do not decrease. */
struct cpu_attend_block {
    int rows, head_dim;
    const float *q;   /* [rows][head_dim], scaled */
    const int *limit; /* [rows] */
    int filled;       /* positions that k and v have, no fewer than any limit */
    enum lade_type cache_type;
    const void *k, *v;
    float *out;  /* [rows][head_dim], normalised */
    float *work; /* cpu_attend_block_floats(rows, head_dim) */
};

/* The kernels of one instruction set. n counts tokens, t tiles, x and y have a row per token. */
struct cpu_isa {
    const char *name;  /* as in lade_device_config.isa */
    const char *title; /* for people */
    int nr, pw;        /* tokens and rows of the matrix product's inner block */

    float (*dot)(const float *a, const float *b, int n);
    /* y[i] = x . row rows[i] of w, each of dim floats */
    void (*dots)(float *y, const float *x, const float *w, const int32_t *rows, int n, int dim);
    /* x - off and x + off; -infinity where the former is no number, the latter where off is 0. */
    void (*bounds)(float *least, float *most, const float *x, const float *off, int n);
    /* Which of x are not below `least`, or no numbers, ascending; returns how many. `ids` has room for n. */
    int (*not_below)(int32_t *ids, const float *x, float least, int n);
    /* The same of some number that k or more are not below, and as a rule not many more. */
    int (*largest)(int32_t *ids, const float *x, int k, int n);
    void (*axpy)(float *y, float a, const float *x, int n); /* y += a * x */
    void (*rmsnorm)(float *y, const float *x, const float *w, int dim, float eps);
    void (*gated_norm)(float *y, const float *x, const float *z, const float *w, int dim,
                       float eps); /* rmsnorm * silu(z) */
    void (*swiglu)(float *h, const float *gate, const float *up, int n);
    void (*mul_sigmoid)(float *y, const float *gate, int n);      /* y *= sigmoid(gate) */
    float (*exp_sum)(float *p, const float *x, float max, int n); /* p = exp(x - max) */

    /* The rows of tiles [first, last) times n <= CPU_DIRECT_N tokens; y begins with the first of
     * these rows. Row-major matrices count tiles of LADE_TILE rows too. */
    void (*gemv)(float *y, size_t ldy, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, const float *x, size_t ldx, int n, int first,
                 int last);
    /* Tokens in blocks of nr: xp[block][k][nr], zero where a block is not full. Row t of the
     * input is x + rows[t] * ldx, or x + t * ldx without rows. */
    void (*pack)(float *xp, const float *x, size_t ldx, const int32_t *rows, int n, int k);
    /* y[t][i] = row (row0 + i) times token t, for i < min(pw, rows - row0); row0 is a multiple
     * of pw. `panel` is work space of cols * pw floats. */
    void (*gemm)(float *y, size_t ldy, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, int row0, const float *xp, int n,
                 float *panel);

    /* out[c] = silu(sum_j taps[j][c] * w[j * ldw + c]) */
    void (*conv_silu)(float *out, const float *const *taps, const float *w, int ldw, int kernel,
                      int n);
    /* One token of the delta rule and one value head; q, k, v as in struct cpu_delta_chunk. */
    void (*delta_step)(float *state, float *out, const float *q, const float *k, const float *v,
                       float decay, float beta, int key_dim, int value_dim);
    void (*delta_chunk)(const struct cpu_delta_chunk *c);

    const struct cpu_int16 *int16; /* NULL: this instruction set is always exact */

    void (*to_f16)(uint16_t *y, const float *x, int n);
    void (*to_q8)(void *row, const float *x, int n);  /* a row of a Q8 cache */
    void (*to_q16)(void *row, const float *x, int n); /* a row of a Q16 cache */
    void (*attend_part)(const struct cpu_attend_part *a);
    void (*attend_block)(const struct cpu_attend_block *a);
};

extern const struct cpu_isa cpu_isa_portable, cpu_isa_neon, cpu_isa_avx2, cpu_isa_avxvnni,
    cpu_isa_avx512;

/* The instruction set called `name`, or the best one this machine has for NULL. NULL with err
 * filled where the name is unknown or the machine lacks it. */
const struct cpu_isa *cpu_isa_find(const char *name, char *err);

size_t cpu_delta_chunk_floats(int key_dim);
size_t cpu_attend_block_floats(int rows, int head_dim);

enum { CPU_SOON = 3 };

struct lade_device {
    const struct cpu_isa *isa;
    struct cpu_pool *pool;
    bool exact;
    int threads;
    void *scratch; /* grows to what the largest op needs, then stays */
    size_t scratch_bytes;
    struct lade_matrix soon[CPU_SOON]; /* what ops->soon() said for the op that comes */
    int n_soon;
    char title[80];
};

/* ops->soon(): remembered; an op hands it to the pool when it begins its last run. */
void cpu_soon(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs);
void cpu_soon_now(struct lade_device *dev);

/* Tiles [first, ...) of a matrix, as a thread will read them. */
void cpu_soon_tiles(struct lade_device *dev, int thread, const struct lade_matrix *w, int first);

/* Cuts pieces out of the device's scratch memory. Describe the pieces first, then commit: the
 * pointers are set there. More may be added and committed; earlier pieces then move and keep what
 * they hold. Pieces are aligned to LADE_ALIGN and live until another table is committed. */
struct cpu_carve {
    struct {
        void **out;
        size_t at;
    } piece[16];
    int n;
    size_t bytes, committed;
    bool overflow;
};
void cpu_carve_add(struct cpu_carve *c, void **out, size_t count, size_t size);
int cpu_carve_commit(struct lade_device *dev, struct cpu_carve *c, char *err);

static inline float cpu_half(uint16_t h)
{
    /* The exponent is rebased by a multiplication, which is exact and handles subnormals. */
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)(h & 0x7fff) << 13};
    v.f *= 0x1p112f;
    if ((h & 0x7c00) == 0x7c00)
        v.u |= 0x7f800000u;
    v.u |= (uint32_t)(h & 0x8000) << 16;
    return v.f;
}

static inline float cpu_bf16(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

/* Whether products with w may round their inputs to 16 bits. */
static inline bool cpu_fast(const struct lade_device *dev, const struct lade_matrix *w)
{
    return !dev->exact && dev->isa->int16 && cpu_int16_takes(w);
}

/* x += add (NULL: nothing); y = x / sqrt(mean(x^2) + eps) * w */
void cpu_norm_row(const struct cpu_isa *isa, float *y, float *x, const float *add, const float *w,
                  int dim, float eps);

static inline int cpu_min(int a, int b)
{
    return a < b ? a : b;
}

static inline int cpu_max(int a, int b)
{
    return a > b ? a : b;
}

/* The ops of lade_cpu_ops(); contracts in kernels.h. */
int cpu_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err);
int cpu_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err);
int cpu_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err);
int cpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err);
int cpu_project(struct lade_device *dev, const struct lade_project *p, char *err);
int cpu_attention(struct lade_device *dev, const struct lade_attention *a, char *err);
int cpu_deltanet(struct lade_device *dev, const struct lade_deltanet *d, char *err);
int cpu_route(struct lade_device *dev, const struct lade_route *r, char *err);
int cpu_router(struct lade_device *dev, const struct lade_router *r, char *err);
int cpu_moe(struct lade_device *dev, const struct lade_moe *m, char *err);
int cpu_topk(struct lade_device *dev, const struct lade_topk *t, char *err);

#endif
