/* Attention of many tokens on tensor cores: FlashAttention with f16 operands.
 *
 * A block has 64 query rows, some tokens times the heads that share a key head, 16 to a warp. It
 * goes through the context 64 keys at a time: scores, a running maximum and sum a row, and the
 * weighted values in registers. Keys and values are f16 in the cache already, so only queries and
 * weights are rounded.
 *
 * Rows in shared memory are `DIM` numbers in chunks of 16 bytes; chunk c lies at c ^ (row % 8). */
#include <math.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/products.h"

enum {
    FLASH_WARPS = 4,
    FLASH_THREADS = FLASH_WARPS * 32,
    FLASH_ROWS = FLASH_WARPS * 16,
    FLASH_KEYS = 64,
    KEY_TILES = FLASH_KEYS / 8,
};

template <int DIM> struct flash_shared {
    unsigned char q[FLASH_ROWS * DIM * 2];
    unsigned char k[FLASH_KEYS * DIM * 2];
    unsigned char v[FLASH_KEYS * DIM * 2];
};

template <int DIM>
__device__ static inline unsigned char *flash_at(unsigned char *tile, int row, int chunk)
{
    return tile + row * (DIM * 2) + (chunk ^ (row & 7)) * 16;
}

/* What a warp holds of its rows g and g + 8. */
template <int DIM> struct flash_state {
    float acc[DIM / 8][4];
    float max[2], sum[2];
};

/* Query rows of tokens from t0 on, as f16. Row r: token t0 + r / group, head r % group. */
template <int DIM>
__device__ static inline void flash_queries(const struct gpu_attention &a, int g, int t0,
                                            unsigned char *tile)
{
    for (int i = (int)threadIdx.x; i < FLASH_ROWS * (DIM / 8); i += FLASH_THREADS) {
        const int row = i / (DIM / 8), chunk = i % (DIM / 8);
        const int t = t0 + row / a.group, h = g * a.group + row % a.group;
        const bool there = row < FLASH_ROWS / a.group * a.group && t < a.n && chunk * 8 < a.dim;
        const float *q = a.queries + ((size_t)t * (size_t)a.heads + (size_t)h) * (size_t)a.dim +
                         (size_t)chunk * 8;
        uint32_t pair[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            pair[j] = there ? half_pair(q[2 * j], q[2 * j + 1]) : 0;
        *(uint4 *)flash_at<DIM>(tile, row, chunk) = make_uint4(pair[0], pair[1], pair[2], pair[3]);
    }
}

/* Keys (or values) [first, first + 64) of key head g; zeros from `end` on. */
template <int DIM>
__device__ static inline void flash_fetch(const struct gpu_attention &a, const void *cache, int g,
                                          int first, int end, unsigned char *tile)
{
    const uint16_t *from =
        (const uint16_t *)cache + ((size_t)g * (size_t)a.capacity + (size_t)first) * (size_t)a.dim;
    for (int i = (int)threadIdx.x; i < FLASH_KEYS * (DIM / 8); i += FLASH_THREADS) {
        const int key = i / (DIM / 8), chunk = i % (DIM / 8);
        const bool valid = first + key < end && chunk * 8 < a.dim;
        copy_async(flash_at<DIM>(tile, key, chunk),
                   valid ? from + (size_t)key * (size_t)a.dim + (size_t)chunk * 8 : from, valid);
    }
    copy_commit();
}

/* Scores of 16 rows with 64 keys. */
template <int DIM>
__device__ static inline void flash_scores(float score[KEY_TILES][4], unsigned char *q,
                                           unsigned char *k)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int i = lane / 8, r = lane % 8;
#pragma unroll
    for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            score[n][j] = 0;
#pragma unroll 4
    for (int step = 0; step < DIM / 16; step++) {
        uint32_t rows[4];
        load_matrices(rows, flash_at<DIM>(q, warp * 16 + i % 2 * 8 + r, 2 * step + i / 2));
#pragma unroll
        for (int n = 0; n < KEY_TILES; n += 2) {
            uint32_t keys[4];
            load_matrices(keys, flash_at<DIM>(k, n * 8 + i / 2 * 8 + r, 2 * step + i % 2));
            mma_half(score[n], rows, keys);
            mma_half(score[n + 1], rows, keys + 2);
        }
    }
}

/* Scores to weights; what was summed before shrinks to the new maximum. `limit`: keys that rows g
 * and g + 8 may see, counted from the tile's first. */
template <int DIM>
__device__ static inline void flash_weights(struct flash_state<DIM> &s, float score[KEY_TILES][4],
                                            const int limit[2])
{
    const int t = (int)threadIdx.x % 4;
    float max[2] = {s.max[0], s.max[1]}, sum[2] = {0, 0}, shrink[2];
#pragma unroll
    for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (n * 8 + 2 * t + j % 2 >= limit[j / 2])
                score[n][j] = -INFINITY;
            max[j / 2] = fmaxf(max[j / 2], score[n][j]);
        }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        max[half] = fmaxf(max[half], __shfl_xor_sync(GPU_ALL_LANES, max[half], 1));
        max[half] = fmaxf(max[half], __shfl_xor_sync(GPU_ALL_LANES, max[half], 2));
        /* A row that sees nothing yet keeps its maximum of -infinity and no weights. */
        const float base = max[half] == -INFINITY ? 0 : max[half];
        shrink[half] = expf(s.max[half] - base);
        s.max[half] = max[half];
        max[half] = base;
    }
#pragma unroll
    for (int n = 0; n < KEY_TILES; n++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            score[n][j] = expf(score[n][j] - max[j / 2]);
            sum[j / 2] += score[n][j];
        }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        sum[half] += __shfl_xor_sync(GPU_ALL_LANES, sum[half], 1);
        sum[half] += __shfl_xor_sync(GPU_ALL_LANES, sum[half], 2);
        s.sum[half] = s.sum[half] * shrink[half] + sum[half];
    }
#pragma unroll
    for (int d = 0; d < DIM / 8; d++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            s.acc[d][j] *= shrink[j / 2];
}

template <int DIM>
__device__ static inline void flash_values(struct flash_state<DIM> &s,
                                           const float weight[KEY_TILES][4], unsigned char *v)
{
    const int lane = (int)threadIdx.x % GPU_WARP, i = lane / 8, r = lane % 8;
#pragma unroll
    for (int step = 0; step < FLASH_KEYS / 16; step++) {
        const float *low = weight[2 * step], *high = weight[2 * step + 1];
        const uint32_t rows[4] = {half_pair(low[0], low[1]), half_pair(low[2], low[3]),
                                  half_pair(high[0], high[1]), half_pair(high[2], high[3])};
#pragma unroll
        for (int d = 0; d < DIM / 8; d += 2) {
            uint32_t values[4];
            load_transposed(values, flash_at<DIM>(v, step * 16 + i % 2 * 8 + r, d + i / 2));
            mma_half(s.acc[d], rows, values);
            mma_half(s.acc[d + 1], rows, values + 2);
        }
    }
}

/* Divides by the sums and applies the gate. */
template <int DIM>
__device__ static inline void flash_write(const struct gpu_attention &a,
                                          const struct flash_state<DIM> &s, int g, int t0)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = warp * 16 + lane / 4 + half * 8;
        const int t = t0 + row / a.group, h = g * a.group + row % a.group;
        if (row >= FLASH_ROWS / a.group * a.group || t >= a.n)
            continue;
        const size_t head = (size_t)t * (size_t)a.heads + (size_t)h;
        const float *gate = a.q + head * 2 * (size_t)a.dim + (size_t)a.dim;
        float *out = a.out + head * (size_t)a.dim;
        const float scale = 1.0f / s.sum[half];
#pragma unroll
        for (int d = 0; d < DIM / 8; d++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int at = d * 8 + lane % 4 * 2 + j;
                if (at < a.dim)
                    out[at] = s.acc[d][half * 2 + j] * scale / (1.0f + expf(-gate[at]));
            }
    }
}

/* Grid: runs of tokens, key heads. The last tokens see the longest context: they start first. */
template <int DIM>
__global__ static void __launch_bounds__(FLASH_THREADS) flash(struct gpu_attention a)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(struct flash_shared<DIM>, shared);
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int tokens = FLASH_ROWS / a.group, g = (int)blockIdx.y;
    const int t0 = ((int)gridDim.x - 1 - (int)blockIdx.x) * tokens;
    const int pos = attention_pos(a), last = t0 + tokens < a.n ? t0 + tokens : a.n;
    if (pos < 0)
        return;
    const int end = pos + last; /* keys of the last token */
    struct flash_state<DIM> s = {
    };
    s.max[0] = s.max[1] = -INFINITY;
    flash_queries<DIM>(a, g, t0, shared->q);
    flash_fetch<DIM>(a, a.k_cache, g, 0, end, shared->k);
    for (int first = 0; first < end; first += FLASH_KEYS) {
        float score[KEY_TILES][4];
        flash_fetch<DIM>(a, a.v_cache, g, first, end, shared->v);
        copy_wait<1>();
        __syncthreads();
        flash_scores<DIM>(score, shared->q, shared->k);
        __syncthreads();
        if (first + FLASH_KEYS < end)
            flash_fetch<DIM>(a, a.k_cache, g, first + FLASH_KEYS, end, shared->k);
        else
            copy_commit(); /* an empty group, so that the wait below means the values */
        const int row = warp * 16 + lane / 4;
        const int limit[2] = {pos + t0 + row / a.group + 1 - first,
                              pos + t0 + (row + 8) / a.group + 1 - first};
        flash_weights<DIM>(s, score, limit);
        copy_wait<1>();
        __syncthreads();
        flash_values<DIM>(s, score, shared->v);
        __syncthreads();
    }
    flash_write<DIM>(a, s, g, t0);
}

/* ---- launches -------------------------------------------------------------------------------- */

bool gpu_flash_takes(const struct lade_device *dev, const struct gpu_attention *a)
{
    return !dev->exact && dev->major >= 8 && a->half_cache && a->n >= FLASH_FEW &&
           a->dim % 8 == 0 && a->group <= FLASH_ROWS &&
           dev->shared_max >= sizeof(struct flash_shared<ATTEND_DIM>);
}

template <int DIM>
static int launch_flash(struct lade_device *dev, const struct gpu_attention *a, char *err)
{
    const size_t shared = sizeof(struct flash_shared<DIM>);
    dim3 grid((unsigned)gpu_up(a->n, FLASH_ROWS / a->group), (unsigned)a->kv_heads);
    if (gpu_shared_room(dev, (const void *)flash<DIM>, shared, err))
        return -1;
    return gpu_check(dev, "attention",
                     LADE_LAUNCH(flash<DIM>, grid, FLASH_THREADS, shared, dev, *a), err);
}

int gpu_flash(struct lade_device *dev, const struct gpu_attention *a, char *err)
{
    return a->dim <= 64    ? launch_flash<64>(dev, a, err)
           : a->dim <= 128 ? launch_flash<128>(dev, a, err)
                           : launch_flash<ATTEND_DIM>(dev, a, err);
}
