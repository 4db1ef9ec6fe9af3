/* Gated attention in fp32: one launch for norms, rotation and the cache, one for parts of the
 * context, one that joins them. */
#include <math.h>

#include "kernels/cuda/attention.h"

enum {
    PREPARE_WARPS = 8,
    ATTEND_WARPS = 8,
    ATTEND_THREADS = ATTEND_WARPS * GPU_WARP,
    ATTEND_HEADS = 8, /* query heads of one block: they share the keys that are read */
    ATTEND_KEYS = 4,  /* positions a warp takes at once; times heads: a lane each */
    LANE_DIM = ATTEND_DIM / GPU_WARP,
    PART_KEYS = 32, /* least positions of a part: one turn of all warps */
    JOIN_THREADS = 64,
    MOST_SMS = 256,
};

/* ---- norms, rotation, cache ------------------------------------------------------------------ */

__device__ static inline void cache_put(const struct gpu_attention &a, void *cache, int g, int pos,
                                        int i, float value)
{
    size_t at = ((size_t)g * (size_t)a.capacity + (size_t)pos) * (size_t)a.dim + (size_t)i;
    if (a.half_cache)
        ((uint16_t *)cache)[at] = (uint16_t)half_bits(value);
    else
        ((float *)cache)[at] = value;
}

/* A row after its norm and rotation: element i of this lane's. `row` is the warp's. */
__device__ static inline float rotated(const struct gpu_attention &a, const float *row, int pos,
                                       int i)
{
    const int half = a.rotary / 2, j = i < half ? i : i - half;
    if (i >= a.rotary)
        return row[i];
    float angle = (float)pos * a.inv_freq[j]; /* rounded to float as transformers */
    float c = cosf(angle) * a.rope_scale, s = sinf(angle) * a.rope_scale;
    return i < half ? row[i] * c - row[i + half] * s : row[i] * c + row[i - half] * s;
}

/* One warp a row: the queries of a token, then its keys, then its values. Grid: tokens, rows. */
__global__ static void __launch_bounds__(PREPARE_WARPS *GPU_WARP)
    attention_prepare(struct gpu_attention a)
{
    launch_wait();
    __shared__ float rows[PREPARE_WARPS][ATTEND_DIM];
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int t = (int)blockIdx.x, r = (int)blockIdx.y * PREPARE_WARPS + warp;
    const int asked = t - a.skip, first = attention_pos(a), pos = first + asked;
    if (r >= a.heads + 2 * a.kv_heads || first < 0 || (r < a.heads && asked < 0))
        return;
    if (r >= a.heads + a.kv_heads) {
        const int g = r - a.heads - a.kv_heads;
        const float *v = a.v + ((size_t)t * (size_t)a.kv_heads + (size_t)g) * (size_t)a.dim;
        for (int i = lane; i < a.dim; i += GPU_WARP)
            cache_put(a, a.v_cache, g, pos, i, v[i]);
        return;
    }
    const bool query = r < a.heads;
    const int g = r - a.heads;
    const size_t head = (size_t)asked * (size_t)a.heads + (size_t)r; /* of a query */
    const float *x = query ? a.q + head * 2 * (size_t)a.dim
                           : a.k + ((size_t)t * (size_t)a.kv_heads + (size_t)g) * (size_t)a.dim;
    const float *norm = query ? a.q_norm : a.k_norm;
    float *row = rows[warp], sum = 0;
    for (int i = lane; i < a.dim; i += GPU_WARP) {
        row[i] = x[i];
        sum += x[i] * x[i];
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / (float)a.dim + a.eps);
    for (int i = lane; i < a.dim; i += GPU_WARP)
        row[i] *= scale * norm[i];
    __syncwarp();
    const float shrink = 1.0f / sqrtf((float)a.dim);
    for (int i = lane; i < a.dim; i += GPU_WARP) {
        float y = rotated(a, row, pos, i);
        if (query)
            a.queries[head * (size_t)a.dim + (size_t)i] = y * shrink;
        else
            cache_put(a, a.k_cache, g, pos, i, y);
    }
}

/* ---- parts of the context -------------------------------------------------------------------- */

/* This lane's dimensions of position `pos` of a cache: 8 * lane on. */
template <bool HALF, bool VECTOR>
__device__ static inline void cache_get(float x[LANE_DIM], const struct gpu_attention &a,
                                        const void *cache, int g, int pos)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const size_t row = ((size_t)g * (size_t)a.capacity + (size_t)pos) * (size_t)a.dim;
    if (VECTOR && lane * LANE_DIM >= a.dim) {
        for (int i = 0; i < LANE_DIM; i++)
            x[i] = 0;
    } else if (VECTOR && HALF) {
        uint4 v = *((const uint4 *)((const uint16_t *)cache + row) + lane);
        const uint32_t pair[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[2 * i] = half_value(pair[i] & 0xffff);
            x[2 * i + 1] = half_value(pair[i] >> 16);
        }
    } else if (VECTOR) {
        const float4 *from = (const float4 *)((const float *)cache + row) + 2 * lane;
        *(float4 *)x = from[0];
        *(float4 *)(x + 4) = from[1];
    } else {
        for (int i = 0; i < LANE_DIM; i++) {
            int d = lane * LANE_DIM + i;
            size_t at = row + (size_t)d;
            x[i] = d >= a.dim ? 0
                   : HALF     ? half_value(((const uint16_t *)cache)[at])
                              : ((const float *)cache)[at];
        }
    }
}

/* Halves the values that a lane has, and doubles the lanes that each is the sum of. */
template <int STEP> __device__ static inline void warp_fold(float v[2 * STEP])
{
    const bool upper = (int)threadIdx.x & STEP;
#pragma unroll
    for (int i = 0; i < STEP; i++) {
        float send = upper ? v[i] : v[i + STEP], keep = upper ? v[i + STEP] : v[i];
        v[i] = keep + __shfl_xor_sync(GPU_ALL_LANES, send, STEP);
    }
}

/* Sums 32 values over the warp at once: lane i receives the sum of value i. */
__device__ static inline float warp_sums(float v[GPU_WARP])
{
    warp_fold<16>(v);
    warp_fold<8>(v);
    warp_fold<4>(v);
    warp_fold<2>(v);
    warp_fold<1>(v);
    return v[0];
}

/* What one warp has seen: lane k * ATTEND_HEADS + h knows max and sum of head h. */
struct attend_state {
    float max, sum;
    float acc[ATTEND_HEADS][LANE_DIM];
};

/* ATTEND_KEYS positions from `pos` on, of which `count` are there. */
template <bool HALF, bool VECTOR>
__device__ static inline void attend_keys(struct attend_state &s, const struct gpu_attention &a,
                                          int g, const float q[ATTEND_HEADS][LANE_DIM], int pos,
                                          int count)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    __align__(16) float x[ATTEND_KEYS][LANE_DIM];
    float score[GPU_WARP];
#pragma unroll
    for (int k = 0; k < ATTEND_KEYS; k++)
        cache_get<HALF, VECTOR>(x[k], a, a.k_cache, g, k < count ? pos + k : pos);
#pragma unroll
    for (int k = 0; k < ATTEND_KEYS; k++)
#pragma unroll
        for (int h = 0; h < ATTEND_HEADS; h++) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < LANE_DIM; i++)
                sum += q[h][i] * x[k][i];
            score[k * ATTEND_HEADS + h] = sum;
        }
#pragma unroll
    for (int k = 0; k < ATTEND_KEYS; k++)
        cache_get<HALF, VECTOR>(x[k], a, a.v_cache, g, k < count ? pos + k : pos);
    float mine = warp_sums(score);
    if (lane / ATTEND_HEADS >= count)
        mine = -INFINITY;
    float max = fmaxf(mine, __shfl_xor_sync(GPU_ALL_LANES, mine, ATTEND_HEADS));
    max = fmaxf(max, __shfl_xor_sync(GPU_ALL_LANES, max, 2 * ATTEND_HEADS));
    max = fmaxf(max, s.max); /* finite: the first position is always there */
    const float shrink = expf(s.max - max), p = expf(mine - max);
    float sum = p + __shfl_xor_sync(GPU_ALL_LANES, p, ATTEND_HEADS);
    sum += __shfl_xor_sync(GPU_ALL_LANES, sum, 2 * ATTEND_HEADS);
    s.max = max;
    s.sum = s.sum * shrink + sum;
#pragma unroll
    for (int h = 0; h < ATTEND_HEADS; h++) {
        const float scale = __shfl_sync(GPU_ALL_LANES, shrink, h);
#pragma unroll
        for (int i = 0; i < LANE_DIM; i++)
            s.acc[h][i] *= scale;
#pragma unroll
        for (int k = 0; k < ATTEND_KEYS; k++) {
            const float weight = __shfl_sync(GPU_ALL_LANES, p, k * ATTEND_HEADS + h);
#pragma unroll
            for (int i = 0; i < LANE_DIM; i++)
                s.acc[h][i] += weight * x[k][i];
        }
    }
}

/* Joins the warps, in order, and writes the part. `heads` of head0 on are there. */
__device__ static inline void attend_finish(const struct gpu_attention &a, int t, int part,
                                            int head0, int heads, struct attend_state &s,
                                            float (*acc)[ATTEND_DIM], float (*max)[ATTEND_HEADS],
                                            float (*sum)[ATTEND_HEADS])
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    if (lane < ATTEND_HEADS) {
        max[warp][lane] = s.max;
        sum[warp][lane] = s.sum;
    }
    for (int i = (int)threadIdx.x; i < ATTEND_HEADS * ATTEND_DIM; i += ATTEND_THREADS)
        (&acc[0][0])[i] = 0;
    __syncthreads();
    for (int w = 0; w < ATTEND_WARPS; w++) {
        if (w == warp) {
#pragma unroll
            for (int h = 0; h < ATTEND_HEADS; h++) {
                float all = -INFINITY;
                for (int i = 0; i < ATTEND_WARPS; i++)
                    all = fmaxf(all, max[i][h]);
                float scale = max[w][h] == -INFINITY ? 0 : expf(max[w][h] - all);
#pragma unroll
                for (int i = 0; i < LANE_DIM; i++)
                    acc[h][lane + i * GPU_WARP] += scale * s.acc[h][i];
            }
        }
        __syncthreads();
    }
    for (int h = warp; h < heads; h += ATTEND_WARPS) {
        float all = -INFINITY, total = 0;
        for (int i = 0; i < ATTEND_WARPS; i++)
            all = fmaxf(all, max[i][h]);
        for (int i = 0; i < ATTEND_WARPS; i++)
            total += max[i][h] == -INFINITY ? 0 : sum[i][h] * expf(max[i][h] - all);
        size_t at =
            ((size_t)t * (size_t)a.heads + (size_t)(head0 + h)) * (size_t)a.parts + (size_t)part;
        if (!lane) {
            a.max[at] = all;
            a.sum[at] = total;
        }
        /* Lane l's dimensions 8l .. 8l + 7 lie 32 apart, so that no two lanes meet in a bank. */
        for (int d = lane; d < a.dim; d += GPU_WARP)
            a.acc[at * (size_t)a.dim + (size_t)d] = acc[h][d / LANE_DIM + d % LANE_DIM * GPU_WARP];
    }
}

/* Grid: tokens, key heads times chunks of their query heads, parts. */
template <bool HALF, bool VECTOR>
__global__ static void __launch_bounds__(ATTEND_THREADS) attention_part(struct gpu_attention a)
{
    launch_wait();
    __shared__ float acc[ATTEND_HEADS][ATTEND_DIM];
    __shared__ float max[ATTEND_WARPS][ATTEND_HEADS], sum[ATTEND_WARPS][ATTEND_HEADS];
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int part = (int)blockIdx.z, t = (int)blockIdx.x;
    const int chunks = (a.group + ATTEND_HEADS - 1) / ATTEND_HEADS;
    const int g = (int)blockIdx.y / chunks, chunk = (int)blockIdx.y % chunks;
    const int head0 = g * a.group + chunk * ATTEND_HEADS;
    const int left = a.group - chunk * ATTEND_HEADS,
              heads = left < ATTEND_HEADS ? left : ATTEND_HEADS;
    const int pos = attention_pos(a), length = pos + t + 1;
    int each = (length + a.parts - 1) / a.parts;
    each = (each + ATTEND_KEYS - 1) / ATTEND_KEYS * ATTEND_KEYS;
    const int first = part * each, last = first + each < length ? first + each : length;
    struct attend_state s;
    float q[ATTEND_HEADS][LANE_DIM];
    s.max = -INFINITY;
    s.sum = 0;
#pragma unroll
    for (int h = 0; h < ATTEND_HEADS; h++) {
        const float *from =
            a.queries + ((size_t)t * (size_t)a.heads + (size_t)(head0 + h)) * (size_t)a.dim;
#pragma unroll
        for (int i = 0; i < LANE_DIM; i++) {
            int d = lane * LANE_DIM + i;
            q[h][i] = h < heads && d < a.dim && pos >= 0 ? from[d] : 0;
            s.acc[h][i] = 0;
        }
    }
    for (int at = first + warp * ATTEND_KEYS; pos >= 0 && at < last;
         at += ATTEND_WARPS * ATTEND_KEYS)
        attend_keys<HALF, VECTOR>(s, a, g, q, at,
                                  last - at < ATTEND_KEYS ? last - at : ATTEND_KEYS);
    attend_finish(a, t, part, head0, heads, s, acc, max, sum);
}

/* Grid: tokens, stretches of dimensions, heads. */
__global__ static void attention_join(struct gpu_attention a)
{
    launch_wait();
    const int h = (int)blockIdx.z, t = (int)blockIdx.x;
    const int d = (int)blockIdx.y * JOIN_THREADS + (int)threadIdx.x;
    if (d >= a.dim)
        return;
    const size_t head = (size_t)t * (size_t)a.heads + (size_t)h;
    const float *max = a.max + head * (size_t)a.parts, *sum = a.sum + head * (size_t)a.parts;
    const float *acc = a.acc + head * (size_t)a.parts * (size_t)a.dim + (size_t)d;
    float all = -INFINITY, total = 0, y = 0;
    for (int p = 0; p < a.parts; p++)
        all = fmaxf(all, max[p]);
    for (int p = 0; p < a.parts; p++) {
        if (max[p] == -INFINITY)
            continue; /* no positions */
        float scale = expf(max[p] - all);
        total += scale * sum[p];
        y += scale * acc[(size_t)p * (size_t)a.dim];
    }
    const float gate = a.q[head * 2 * (size_t)a.dim + (size_t)(a.dim + d)];
    a.out[head * (size_t)a.dim + (size_t)d] = y / total / (1.0f + expf(-gate));
}

/* ---- launches -------------------------------------------------------------------------------- */

static int check(const struct lade_attention *a, char *err)
{
    if (a->n < 0 || a->pos < 0 || a->pos > a->capacity - a->n)
        return lade_fail(err,
                         "attention: positions %d to %d do not fit in a cache of %d; start a new "
                         "conversation or use a larger context",
                         a->pos, a->pos + a->n - 1, a->capacity);
    if (a->skip < 0 || a->skip > a->n)
        return lade_fail(err, "attention: %d of %d tokens without queries; take fewer", a->skip,
                         a->n);
    if (a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1 || a->head_dim > ATTEND_DIM ||
        a->rotary_dim % 2 || a->rotary_dim > a->head_dim)
        return lade_fail(err,
                         "attention: %d heads, %d key heads of %d (at most %d), rotary %d; check "
                         "the configuration",
                         a->heads, a->kv_heads, a->head_dim, (int)ATTEND_DIM, a->rotary_dim);
    if (a->cache_type != LADE_F16 && a->cache_type != LADE_F32)
        return lade_fail(err, "attention: cache type %d; use f16 or f32", (int)a->cache_type);
    return 0;
}

/* Parts that fill the card, but no shorter than PART_KEYS. n times parts is at most n + MOST_SMS. */
static int count_parts(int sms, int n, int kv_heads, int group, int length)
{
    long blocks = (long)n * kv_heads * gpu_up(group, ATTEND_HEADS);
    long wanted = (gpu_min(sms, MOST_SMS) + blocks - 1) / blocks, most = gpu_up(length, PART_KEYS);
    return (int)(wanted < most ? wanted : most);
}

/* `pieces`: parts of all tokens. */
static void carve_attention(struct gpu_carve *c, struct gpu_attention *a, size_t pieces)
{
    size_t heads = (size_t)a->heads;
    gpu_carve_add(c, &a->queries, (size_t)a->n * heads, (size_t)a->dim * sizeof(float));
    gpu_carve_add(c, &a->max, pieces * heads, sizeof(float));
    gpu_carve_add(c, &a->sum, pieces * heads, sizeof(float));
    gpu_carve_add(c, &a->acc, pieces * heads, (size_t)a->dim * sizeof(float));
}

size_t gpu_attention_work(const struct lade_limits *l)
{
    struct gpu_carve c = {};
    struct gpu_attention a = {};
    a.n = l->batch;
    a.heads = l->heads;
    a.dim = l->head_dim;
    carve_attention(&c, &a, (size_t)l->batch + MOST_SMS);
    return gpu_carve_bytes(&c);
}

static cudaError_t launch_parts(struct lade_device *dev, const struct gpu_attention *a)
{
    const bool vector = a->dim % LANE_DIM == 0;
    dim3 grid((unsigned)a->n, (unsigned)(a->kv_heads * gpu_up(a->group, ATTEND_HEADS)),
              (unsigned)a->parts);
    if (a->half_cache && vector)
        return LADE_LAUNCH((attention_part<true, true>), grid, ATTEND_THREADS, 0, dev, *a);
    if (a->half_cache)
        return LADE_LAUNCH((attention_part<true, false>), grid, ATTEND_THREADS, 0, dev, *a);
    if (vector)
        return LADE_LAUNCH((attention_part<false, true>), grid, ATTEND_THREADS, 0, dev, *a);
    return LADE_LAUNCH((attention_part<false, false>), grid, ATTEND_THREADS, 0, dev, *a);
}

int gpu_attention(struct lade_device *dev, const struct lade_attention *op, char *err)
{
    if (gpu_enter(dev, err) || check(op, err))
        return -1;
    if (!op->n)
        return 0;
    struct gpu_attention a = {};
    a.n = op->n - op->skip;
    a.skip = op->skip;
    a.pos = op->pos;
    a.pos_at = op->pos_at;
    a.heads = op->heads;
    a.kv_heads = op->kv_heads;
    a.group = op->heads / op->kv_heads;
    a.dim = op->head_dim;
    a.rotary = op->rotary_dim;
    a.capacity = op->capacity;
    a.q = op->q;
    a.k = op->k;
    a.v = op->v;
    a.q_norm = op->q_norm;
    a.k_norm = op->k_norm;
    a.inv_freq = op->inv_freq;
    a.eps = op->eps;
    a.rope_scale = op->rope_scale;
    a.half_cache = op->cache_type == LADE_F16;
    a.k_cache = op->k_cache;
    a.v_cache = op->v_cache;
    a.out = op->out;
    const bool on_tensor_cores = gpu_flash_takes(dev, &a);
    a.parts = on_tensor_cores || !a.n
                  ? 0
                  : count_parts(dev->sms, a.n, a.kv_heads, a.group, op->pos + op->n);
    struct gpu_carve c = {};
    carve_attention(&c, &a, (size_t)a.n * (size_t)a.parts);
    if (gpu_carve_commit(dev, &c, err))
        return -1;
    dim3 rows((unsigned)op->n, (unsigned)gpu_up(a.heads + 2 * a.kv_heads, PREPARE_WARPS));
    cudaError_t code =
        LADE_LAUNCH_EARLY(attention_prepare, rows, PREPARE_WARPS * GPU_WARP, 0, dev, a);
    if (!a.n)
        return gpu_check(dev, "attention", code, err);
    if (code == cudaSuccess && on_tensor_cores)
        return gpu_flash(dev, &a, err);
    if (code == cudaSuccess)
        code = launch_parts(dev, &a);
    dim3 join((unsigned)a.n, (unsigned)gpu_up(a.dim, JOIN_THREADS), (unsigned)a.heads);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(attention_join, join, JOIN_THREADS, 0, dev, a);
    return gpu_check(dev, "attention", code, err);
}
