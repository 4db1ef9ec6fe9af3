/* Gated DeltaNet of many tokens: convolution and norms of all tokens at once, the recurrence token
 * by token (or in chunks, chunks.cu), the gated norms at once.
 *
 * A column of a head's state needs nothing from other columns. Eight lanes share one: each holds
 * an eighth of its keys in registers for all tokens, so the state is read and written once. The
 * inputs of the next tokens are copied to shared memory meanwhile. */
#include "kernels/cuda/delta.h"

enum {
    PREPARE_WARPS = 8,
    LANE_ROWS = DELTA_DIM / GPU_WARP,
    SCAN_THREADS = 256,
    SCAN_LANES = 8, /* of a column */
    SCAN_COLUMNS = SCAN_THREADS / SCAN_LANES,
};

/* Inputs of the recurrence, tokens of one pass. Keys are padded with zeros to `keys` floats,
 * values to a multiple of SCAN_COLUMNS. */
struct scan_work {
    int keys, values;
    float *qk;     /* [n][key_heads][2][keys]: q and k, normed */
    float *v;      /* [n][value_heads][values] */
    float4 *gates; /* [n][value_heads]: decay, beta, q . k */
};

/* One warp a key head, then one a value head, of token `first` + blockIdx.x. */
__global__ static void __launch_bounds__(PREPARE_WARPS *GPU_WARP)
    scan_prepare(struct gpu_delta a, struct scan_work w, int first)
{
    launch_wait();
    const int lane = (int)threadIdx.x % GPU_WARP, t = (int)blockIdx.x;
    const int r = (int)blockIdx.y * PREPARE_WARPS + (int)threadIdx.x / GPU_WARP;
    if (r >= a.key_heads + a.value_heads)
        return;
    if (r >= a.key_heads) {
        const int h = r - a.key_heads, from = 2 * a.key_heads * a.key_dim + h * a.value_dim;
        float *v = w.v + ((size_t)t * (size_t)a.value_heads + (size_t)h) * (size_t)w.values;
        for (int i = lane; i < w.values; i += GPU_WARP)
            v[i] = i < a.value_dim ? delta_conv(a, first + t, from + i) : 0;
        return;
    }
    float q[LANE_ROWS], k[LANE_ROWS], qq = 0, kk = 0, qk = 0;
#pragma unroll
    for (int j = 0; j < LANE_ROWS; j++) {
        const int i = lane + j * GPU_WARP, channel = r * a.key_dim + i;
        q[j] = i < a.key_dim ? delta_conv(a, first + t, channel) : 0;
        k[j] = i < a.key_dim ? delta_conv(a, first + t, a.key_heads * a.key_dim + channel) : 0;
        qq += q[j] * q[j];
        kk += k[j] * k[j];
        qk += q[j] * k[j];
    }
    const float qs = delta_query_scale(a, warp_sum(qq)), ks = delta_key_scale(warp_sum(kk));
    qk = warp_sum(qk) * qs * ks;
    float *to = w.qk + ((size_t)t * (size_t)a.key_heads + (size_t)r) * 2 * (size_t)w.keys;
#pragma unroll
    for (int j = 0; j < LANE_ROWS; j++) {
        const int i = lane + j * GPU_WARP;
        if (i < w.keys) {
            to[i] = q[j] * qs;
            to[w.keys + i] = k[j] * ks;
        }
    }
    for (int s = lane; s < a.share; s += GPU_WARP) {
        const int h = r * a.share + s;
        w.gates[(size_t)t * (size_t)a.value_heads + (size_t)h] =
            make_float4(delta_decay(a, first + t, h), delta_beta(a, first + t, h), qk, 0);
    }
}

/* Inputs of some tokens of one head and its columns. */
template <int KEYS, int TOKENS> struct scan_stage {
    float qk[TOKENS][2 * KEYS];
    float v[TOKENS][SCAN_COLUMNS];
    float4 gates[TOKENS];
};

template <int KEYS, int TOKENS>
__device__ static inline void scan_fetch(struct scan_stage<KEYS, TOKENS> *s,
                                         const struct gpu_delta &a, const struct scan_work &w,
                                         int h, int column, int t0, int n)
{
    enum { QK = 2 * KEYS / 4, V = SCAN_COLUMNS / 4, ALL = QK + V + 1 }; /* of 16 bytes, a token */
    for (int i = (int)threadIdx.x; i < TOKENS * ALL; i += SCAN_THREADS) {
        const int token = i / ALL, part = i % ALL;
        const bool valid = t0 + token < n;
        const size_t t = valid ? (size_t)(t0 + token) : 0;
        const size_t row = t * (size_t)a.value_heads + (size_t)h;
        if (part < QK)
            copy_async(&s->qk[token][part * 4],
                       w.qk + (t * (size_t)a.key_heads + (size_t)(h / a.share)) * 2 * KEYS +
                           (size_t)part * 4,
                       valid);
        else if (part < QK + V)
            copy_async(&s->v[token][(part - QK) * 4],
                       w.v + row * (size_t)w.values + (size_t)(column + (part - QK) * 4), valid);
        else
            copy_async(&s->gates[token], w.gates + row, valid);
    }
    copy_commit();
}

/* Lane j of a column has keys 4j .. 4j + 3 of each 32. Grid: stretches of columns, value heads. */
template <int KEYS, int TOKENS>
__global__ static void __launch_bounds__(SCAN_THREADS)
    scan_columns(struct gpu_delta a, struct scan_work w, int first, int n)
{
    launch_wait();
    enum { RUNS = KEYS / 32 };
    __shared__ __align__(16) struct scan_stage<KEYS, TOKENS> stage[2];
    const int j = (int)threadIdx.x % SCAN_LANES, in_block = (int)threadIdx.x / SCAN_LANES;
    const int h = (int)blockIdx.y, column0 = (int)blockIdx.x * SCAN_COLUMNS;
    const int column = column0 + in_block;
    const bool there = column < a.value_dim;
    float *state = a.state + (size_t)h * (size_t)a.key_dim * (size_t)a.value_dim + (size_t)column;
    float *out = a.out + (size_t)(h * a.value_dim + column);
    const size_t out_row = (size_t)(a.value_heads * a.value_dim);
    float x[RUNS][4];
#pragma unroll
    for (int r = 0; r < RUNS; r++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int key = r * 32 + j * 4 + i;
            x[r][i] = there && key < a.key_dim ? state[(size_t)key * (size_t)a.value_dim] : 0;
        }
    scan_fetch(&stage[0], a, w, h, column0, 0, n);
    for (int t0 = 0, now = 0; t0 < n; t0 += TOKENS, now ^= 1) {
        scan_fetch(&stage[now ^ 1], a, w, h, column0, t0 + TOKENS, n);
        copy_wait<1>();
        __syncthreads();
        const struct scan_stage<KEYS, TOKENS> *s = &stage[now];
        for (int t = 0; t < TOKENS && t0 + t < n; t++) {
            const float4 gate = s->gates[t];
            const float v = s->v[t][in_block];
            float4 k[RUNS];
            float m[4] = {0, 0, 0, 0}, o[4] = {0, 0, 0, 0};
#pragma unroll
            for (int r = 0; r < RUNS; r++) {
                const float4 q = *(const float4 *)&s->qk[t][r * 32 + j * 4];
                k[r] = *(const float4 *)&s->qk[t][KEYS + r * 32 + j * 4];
                m[0] += k[r].x * x[r][0];
                m[1] += k[r].y * x[r][1];
                m[2] += k[r].z * x[r][2];
                m[3] += k[r].w * x[r][3];
                o[0] += q.x * x[r][0];
                o[1] += q.y * x[r][1];
                o[2] += q.z * x[r][2];
                o[3] += q.w * x[r][3];
            }
            float sum_m = m[0] + m[1] + (m[2] + m[3]), sum_o = o[0] + o[1] + (o[2] + o[3]);
#pragma unroll
            for (int step = 1; step < SCAN_LANES; step *= 2) {
                sum_m += __shfl_xor_sync(GPU_ALL_LANES, sum_m, step);
                sum_o += __shfl_xor_sync(GPU_ALL_LANES, sum_o, step);
            }
            const float d = gate.y * (v - gate.x * sum_m);
            if (!j && there)
                out[(size_t)(first + t0 + t) * out_row] = gate.x * sum_o + gate.z * d;
#pragma unroll
            for (int r = 0; r < RUNS; r++) {
                x[r][0] = gate.x * x[r][0] + k[r].x * d;
                x[r][1] = gate.x * x[r][1] + k[r].y * d;
                x[r][2] = gate.x * x[r][2] + k[r].z * d;
                x[r][3] = gate.x * x[r][3] + k[r].w * d;
            }
        }
        __syncthreads();
    }
    copy_wait<0>();
#pragma unroll
    for (int r = 0; r < RUNS; r++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int key = r * 32 + j * 4 + i;
            if (there && key < a.key_dim)
                state[(size_t)key * (size_t)a.value_dim] = x[r][i];
        }
}

/* One warp a head of a token. */
__global__ static void __launch_bounds__(PREPARE_WARPS *GPU_WARP) scan_norm(struct gpu_delta a)
{
    launch_wait();
    const int lane = (int)threadIdx.x % GPU_WARP, t = (int)blockIdx.x;
    const int h = (int)blockIdx.y * PREPARE_WARPS + (int)threadIdx.x / GPU_WARP;
    if (h >= a.value_heads)
        return;
    const float *y = a.out + ((size_t)t * (size_t)a.value_heads + (size_t)h) * (size_t)a.value_dim;
    float v[LANE_ROWS], sum = 0;
#pragma unroll
    for (int j = 0; j < LANE_ROWS; j++) {
        const int i = lane + j * GPU_WARP;
        v[j] = i < a.value_dim ? y[i] : 0;
        sum += v[j] * v[j];
    }
    const float scale = 1.0f / sqrtf(warp_sum(sum) / (float)a.value_dim + a.eps);
#pragma unroll
    for (int j = 0; j < LANE_ROWS; j++)
        if (lane + j * GPU_WARP < a.value_dim)
            delta_write(a, t, h, lane + j * GPU_WARP, v[j] * scale);
}

__global__ static void scan_shift(struct gpu_delta a)
{
    launch_wait();
    int channel = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (channel < delta_channels(a))
        delta_shift(a, channel);
}

/* ---- launches -------------------------------------------------------------------------------- */

static void carve_scan(struct gpu_carve *c, struct scan_work *w, const struct gpu_delta *a)
{
    size_t n = (size_t)gpu_min(a->n, DELTA_PASS);
    w->keys = a->key_dim <= DELTA_DIM / 2 ? DELTA_DIM / 2 : DELTA_DIM;
    w->values = gpu_up(a->value_dim, SCAN_COLUMNS) * SCAN_COLUMNS;
    gpu_carve_add(c, &w->qk, n * (size_t)a->key_heads, 2 * (size_t)w->keys * sizeof(float));
    gpu_carve_add(c, &w->v, n * (size_t)a->value_heads, (size_t)w->values * sizeof(float));
    gpu_carve_add(c, &w->gates, n * (size_t)a->value_heads, sizeof(float4));
}

size_t gpu_deltanet_work(const struct lade_limits *l)
{
    struct gpu_carve scan = {}, chunks = {};
    struct scan_work w;
    struct chunk_work in_chunks;
    struct gpu_delta a = {};
    a.n = l->batch;
    a.key_heads = l->key_heads;
    a.value_heads = l->value_heads;
    a.key_dim = l->key_dim;
    a.value_dim = l->value_dim;
    if (l->batch < 1 || l->key_heads < 1 || l->value_dim < 1)
        return 0;
    carve_scan(&scan, &w, &a);
    gpu_chunks_carve(&chunks, &in_chunks, &a);
    const size_t one = gpu_carve_bytes(&scan), other = gpu_carve_bytes(&chunks);
    return one > other ? one : other;
}

static cudaError_t scan_pass(struct lade_device *dev, const struct gpu_delta *a,
                             const struct scan_work *w, int first, int n)
{
    dim3 rows((unsigned)n, (unsigned)gpu_up(a->key_heads + a->value_heads, PREPARE_WARPS));
    dim3 columns((unsigned)(w->values / SCAN_COLUMNS), (unsigned)a->value_heads);
    cudaError_t code =
        LADE_LAUNCH(scan_prepare, rows, PREPARE_WARPS * GPU_WARP, 0, dev, *a, *w, first);
    if (code != cudaSuccess)
        return code;
    if (w->keys == DELTA_DIM / 2)
        return LADE_LAUNCH((scan_columns<DELTA_DIM / 2, 16>), columns, SCAN_THREADS, 0, dev, *a, *w,
                           first, n);
    return LADE_LAUNCH((scan_columns<DELTA_DIM, 8>), columns, SCAN_THREADS, 0, dev, *a, *w, first,
                       n);
}

int gpu_delta_many(struct lade_device *dev, const struct gpu_delta *a, char *err)
{
    const bool in_chunks = gpu_chunks_win(dev, a);
    struct scan_work scan = {};
    struct chunk_work chunks = {};
    struct gpu_carve c = {};
    if (in_chunks)
        gpu_chunks_carve(&c, &chunks, a);
    else
        carve_scan(&c, &scan, a);
    if (gpu_carve_commit(dev, &c, err))
        return -1;
    for (int first = 0; first < a->n; first += DELTA_PASS) {
        const int n = gpu_min(DELTA_PASS, a->n - first);
        if (in_chunks ? gpu_chunks_pass(dev, a, &chunks, first, n, err)
                      : gpu_check(dev, "deltanet", scan_pass(dev, a, &scan, first, n), err))
            return -1;
    }
    dim3 heads((unsigned)a->n, (unsigned)gpu_up(a->value_heads, PREPARE_WARPS));
    cudaError_t code = LADE_LAUNCH(scan_norm, heads, PREPARE_WARPS * GPU_WARP, 0, dev, *a);
    int channels = 2 * a->key_heads * a->key_dim + a->value_heads * a->value_dim;
    if (code == cudaSuccess)
        code = LADE_LAUNCH(scan_shift, gpu_up(channels, 256), 256, 0, dev, *a);
    return gpu_check(dev, "deltanet", code, err);
}
