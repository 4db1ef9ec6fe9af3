/* attention.h - the parts of gated attention.
 *
 *     attention.cu   checks; norms, rotation and the cache; fp32 attention of any shape, the context
 *                    split over blocks
 *     flash.cu       attention of many tokens on tensor cores */
#ifndef LADE_CUDA_ATTENTION_H
#define LADE_CUDA_ATTENTION_H

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/mma.h"

enum { ATTEND_DIM = 256, FLASH_FEW = 16 }; /* most dimensions of a head; least tokens of flash.cu */

/* struct lade_attention with work space. */
struct gpu_attention {
    int n, skip; /* tokens with queries, and those before them without */
    int pos;     /* of the first of all */
    const int32_t *pos_at;
    int heads, kv_heads, group, dim, rotary, capacity;
    const float *q, *k, *v, *q_norm, *k_norm, *inv_freq;
    float eps, rope_scale;
    bool half_cache;
    void *k_cache, *v_cache;
    float *out;
    float *queries;         /* [n][heads][dim]: normed, rotated, scaled by 1 / sqrt(dim) */
    int parts;              /* of the context */
    float *max, *sum, *acc; /* [n][heads][parts], acc with [dim] */
};

/* Whether flash.cu can take what attention_prepare() left, and its launch. */
bool gpu_flash_takes(const struct lade_device *dev, const struct gpu_attention *a);
int gpu_flash(struct lade_device *dev, const struct gpu_attention *a, char *err);

/* The position of the first token with a query; -1: there is no room in the cache for all tokens. */
__device__ static inline int attention_pos(const struct gpu_attention &a)
{
    int pos = a.pos_at ? *a.pos_at : a.pos;
    return pos >= 0 && pos <= a.capacity - a.skip - a.n ? pos + a.skip : -1;
}

#endif
