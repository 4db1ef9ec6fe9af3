/* delta.h - the parts of Gated DeltaNet.
 *
 *     deltanet.cu   checks; few tokens, in one launch
 *     scan.cu       many tokens: the convolution of all, then the recurrence column by column
 *     chunks.cu     the same in products of matrices, on tensor cores */
#ifndef LADE_CUDA_DELTA_H
#define LADE_CUDA_DELTA_H

#include <math.h>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/mma.h"

enum {
    DELTA_DIM = 256,   /* most dimensions of a key or value */
    DELTA_KERNEL = 16, /* most taps */
    DELTA_FEW = 8,     /* tokens that deltanet.cu takes */
    DELTA_PASS = 1024, /* most tokens of one pass of scan.cu or chunks.cu: bounds the work space */
};

/* struct lade_deltanet for kernels. */
struct gpu_delta {
    int n, key_heads, value_heads, share, key_dim, value_dim, kernel;
    const float *qkvz, *z;
    size_t qkvz_row, z_row; /* floats from token to token */
    const float *ba, *conv, *decay, *dt_bias, *norm;
    float eps;
    float *conv_state, *state, *out;
    unsigned *counters; /* one a key head */
    bool early;         /* the kernel ahead writes no state: it may be read before launch_wait() */
};

/* More than DELTA_FEW tokens. */
int gpu_delta_many(struct lade_device *dev, const struct gpu_delta *a, char *err);

/* chunks.cu. Work space of a pass; columns are the values' dimensions, padded. */
struct chunk_work {
    int columns;
    struct chunk_keys *keys;  /* [chunks][key_heads] */
    struct chunk_rule *rules; /* [chunks][value_heads] */
    float *v;                 /* [chunks][value_heads][columns][tokens of a chunk] */
};

/* Whether they take it and are faster. */
bool gpu_chunks_win(const struct lade_device *dev, const struct gpu_delta *a);
void gpu_chunks_carve(struct gpu_carve *c, struct chunk_work *w, const struct gpu_delta *a);
/* Tokens [first, first + n): outputs before the norm, and the state. */
int gpu_chunks_pass(struct lade_device *dev, const struct gpu_delta *a, const struct chunk_work *w,
                    int first, int n, char *err);

__device__ static inline int delta_channels(const struct gpu_delta &a)
{
    return 2 * a.key_heads * a.key_dim + a.value_heads * a.value_dim;
}

/* Raw input of token t of this batch; negative t: of the tokens before it. */
__device__ static inline float delta_input(const struct gpu_delta &a, int t, int channel)
{
    const size_t channels = (size_t)delta_channels(a);
    if (t < 0)
        return a.conv_state[(size_t)(t + a.kernel - 1) * channels + (size_t)channel];
    return a.qkvz[(size_t)t * a.qkvz_row + (size_t)channel];
}

/* The convolution of a channel for TOKENS tokens from t on; zero for those that are not there. */
template <int TOKENS>
__device__ static inline void delta_conv_run(const struct gpu_delta &a, int t, int channel,
                                             float y[TOKENS])
{
    for (int i = 0; i < TOKENS; i++)
        y[i] = 0;
#pragma unroll 4
    for (int j = 0; j < a.kernel; j++) {
        const float tap = a.conv[(size_t)channel * (size_t)a.kernel + (size_t)j];
#pragma unroll
        for (int i = 0; i < TOKENS; i++)
            if (t + i < a.n)
                y[i] += delta_input(a, t + i - (a.kernel - 1) + j, channel) * tap;
    }
#pragma unroll
    for (int i = 0; i < TOKENS; i++)
        y[i] = y[i] / (1.0f + expf(-y[i]));
}

__device__ static inline float delta_conv(const struct gpu_delta &a, int t, int channel)
{
    float y[1];
    delta_conv_run<1>(a, t, channel, y);
    return y[0];
}

/* The last kernel - 1 inputs of a channel become its state. */
__device__ static inline void delta_shift(const struct gpu_delta &a, int channel)
{
    const int keep = a.kernel - 1;
    for (int j = 0; j < keep; j++) /* reads what is further on than what it has written */
        a.conv_state[(size_t)j * (size_t)delta_channels(a) + (size_t)channel] =
            delta_input(a, a.n - keep + j, channel);
}

__device__ static inline float delta_key_scale(float squares)
{
    return 1.0f / sqrtf(squares + 1e-6f);
}

__device__ static inline float delta_query_scale(const struct gpu_delta &a, float squares)
{
    return 1.0f / sqrtf(squares + 1e-6f) / sqrtf((float)a.key_dim);
}

__device__ static inline float delta_beta(const struct gpu_delta &a, int t, int h)
{
    return 1.0f / (1.0f + expf(-a.ba[(size_t)t * 2 * (size_t)a.value_heads + (size_t)h]));
}

__device__ static inline float delta_decay(const struct gpu_delta &a, int t, int h)
{
    float x =
        a.ba[(size_t)t * 2 * (size_t)a.value_heads + (size_t)(a.value_heads + h)] + a.dt_bias[h];
    return expf(a.decay[h] * (x > 20 ? x : log1pf(expf(x))));
}

/* Columns c .. c + 3 of a key's row of the state; zero where there are none. */
__device__ static inline void delta_get(float x[4], const float *state, const struct gpu_delta &a,
                                        int row, int c)
{
    const float *from = state + (size_t)row * (size_t)a.value_dim + (size_t)c;
    if (row < a.key_dim && c + 4 <= a.value_dim && a.value_dim % 4 == 0) {
        const float4 v = fresh16(from);
        x[0] = v.x;
        x[1] = v.y;
        x[2] = v.z;
        x[3] = v.w;
        return;
    }
    for (int i = 0; i < 4; i++)
        x[i] = row < a.key_dim && c + i < a.value_dim ? from[i] : 0;
}

__device__ static inline void delta_put(float *state, const float x[4], const struct gpu_delta &a,
                                        int row, int c)
{
    float *to = state + (size_t)row * (size_t)a.value_dim + (size_t)c;
    if (row < a.key_dim && c + 4 <= a.value_dim && a.value_dim % 4 == 0) {
        *(float4 *)to = make_float4(x[0], x[1], x[2], x[3]);
        return;
    }
    for (int i = 0; i < 4; i++)
        if (row < a.key_dim && c + i < a.value_dim)
            to[i] = x[i];
}

/* A normed output with its gate, to where the op leaves it. */
__device__ static inline void delta_write(const struct gpu_delta &a, int t, int h, int c, float y)
{
    const size_t values = (size_t)(a.value_heads * a.value_dim);
    const size_t at = (size_t)(h * a.value_dim + c);
    const float z = a.z[(size_t)t * a.z_row + at];
    a.out[(size_t)t * values + at] = y * a.norm[c] * (z / (1.0f + expf(-z)));
}

#endif
