/* Gated DeltaNet, checks and the step of few tokens: everything from the projections to the gated
 * norm in one launch, the state in registers from the first token to the last.
 *
 * With S the state before a token and e its decay, the token needs only sums over S itself:
 *
 *     m = e S'k    d = beta (v - m)    o = e S'q + (q . k) d    S <- e S + k d'
 *
 * so one pass over the state gives both sums, and the second one updates it. */
#include <math.h>

#include "kernels/cuda/delta.h"

enum { STEP_WARPS = 16, STEP_THREADS = STEP_WARPS * GPU_WARP };

/* ---- few tokens ------------------------------------------------------------------------------ */

/* Channels of a value head: its key head's q and k, then its own v. */
struct step_shared {
    float x[3 * DELTA_DIM]; /* q | k | v after the convolution */
    /* Read and written four at a time. */
    alignas(16) float m[STEP_WARPS][DELTA_DIM]; /* parts of S'k */
    alignas(16) float o[STEP_WARPS][DELTA_DIM]; /* parts of S'q */
    alignas(16) float d[DELTA_DIM];
    float work[33];
    float norm_q, norm_k, qk, decay, beta;
    bool last;
};

__device__ static inline int step_channel(const struct gpu_delta &a, int h, int i)
{
    const int g = h / a.share, keys = a.key_heads * a.key_dim;
    if (i < a.key_dim)
        return g * a.key_dim + i;
    if (i < 2 * a.key_dim)
        return keys + g * a.key_dim + (i - a.key_dim);
    return 2 * keys + h * a.value_dim + (i - 2 * a.key_dim);
}

/* The convolution of token t, and what the recurrence needs of it: of the latter, what is not x is
 * there after the next barrier. */
__device__ static inline void step_inputs(const struct gpu_delta &a, int h, int t,
                                          struct step_shared *s)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    for (int i = (int)threadIdx.x; i < 2 * a.key_dim + a.value_dim; i += STEP_THREADS)
        s->x[i] = delta_conv(a, t, step_channel(a, h, i));
    __syncthreads();
    if (warp < 3) { /* q . q, k . k, q . k */
        const float *u = warp == 1 ? s->x + a.key_dim : s->x;
        const float *v = warp == 0 ? s->x : s->x + a.key_dim;
        float sum = 0;
        for (int i = lane; i < a.key_dim; i += GPU_WARP)
            sum += u[i] * v[i];
        sum = warp_sum(sum);
        if (!lane && warp == 0)
            s->norm_q = delta_query_scale(a, sum);
        if (!lane && warp == 1)
            s->norm_k = delta_key_scale(sum);
        if (!lane && warp == 2)
            s->qk = sum;
    } else if (warp == 3 && !lane) {
        s->decay = delta_decay(a, t, h);
        s->beta = delta_beta(a, t, h);
    }
}

/* Moves on the convolution's state of value head h; the last block of key head g to have read that of
 * its queries and keys moves these, too. */
__device__ static inline void step_shift(const struct gpu_delta &a, int h, int g,
                                         struct step_shared *s)
{
    if (!threadIdx.x) {
        __threadfence();
        s->last = atomicAdd(&a.counters[g], 1u) + 1 == (unsigned)a.share;
        if (s->last)
            a.counters[g] = 0;
    }
    __syncthreads();
    const int first = s->last ? 0 : 2 * a.key_dim;
    for (int i = first + (int)threadIdx.x; i < 2 * a.key_dim + a.value_dim; i += STEP_THREADS)
        delta_shift(a, step_channel(a, h, i));
}

/* One block a value head. A warp has key rows warp, warp + 16 ..; a lane columns 4 * lane on, of
 * each 128. */
template <int ROWS, int STRIPES>
__global__ static void __launch_bounds__(STEP_THREADS) delta_steps(struct gpu_delta a)
{
    __shared__ struct step_shared s;
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int h = (int)blockIdx.x, g = h / a.share;
    float *state = a.state + (size_t)h * (size_t)a.key_dim * (size_t)a.value_dim;
    float x[ROWS][STRIPES][4];
    if (!a.early)
        launch_wait();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int stripe = 0; stripe < STRIPES; stripe++)
            delta_get(x[r][stripe], state, a, warp + r * STEP_WARPS,
                      (stripe * GPU_WARP + lane) * 4);
    if (a.early)
        launch_wait();
    for (int t = 0; t < a.n; t++) {
        step_inputs(a, h, t, &s);
        const float *q = s.x, *k = s.x + a.key_dim, *v = s.x + 2 * a.key_dim;
#pragma unroll
        for (int stripe = 0; stripe < STRIPES; stripe++) {
            float m[4] = {0, 0, 0, 0}, o[4] = {0, 0, 0, 0};
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                const int row = warp + r * STEP_WARPS;
                const float kr = row < a.key_dim ? k[row] : 0, qr = row < a.key_dim ? q[row] : 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    m[i] += kr * x[r][stripe][i];
                    o[i] += qr * x[r][stripe][i];
                }
            }
            *(float4 *)&s.m[warp][(stripe * GPU_WARP + lane) * 4] =
                make_float4(m[0], m[1], m[2], m[3]);
            *(float4 *)&s.o[warp][(stripe * GPU_WARP + lane) * 4] =
                make_float4(o[0], o[1], o[2], o[3]);
        }
        __syncthreads();
        float y = 0;
        const int c = (int)threadIdx.x;
        if (c < a.value_dim) {
            float m = 0, o = 0;
            for (int w = 0; w < STEP_WARPS; w++) {
                m += s.m[w][c];
                o += s.o[w][c];
            }
            float d = s.beta * (v[c] - s.decay * s.norm_k * m);
            y = s.norm_q * (s.decay * o + s.qk * s.norm_k * d);
            s.d[c] = s.norm_k * d;
        }
        const float scale = 1.0f / sqrtf(block_sum(y * y, s.work) / (float)a.value_dim + a.eps);
        if (c < a.value_dim)
            delta_write(a, t, h, c, y * scale);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int row = warp + r * STEP_WARPS;
            const float kr = row < a.key_dim ? k[row] : 0;
#pragma unroll
            for (int stripe = 0; stripe < STRIPES; stripe++) {
                const float4 d = *(const float4 *)&s.d[(stripe * GPU_WARP + lane) * 4];
                x[r][stripe][0] = s.decay * x[r][stripe][0] + kr * d.x;
                x[r][stripe][1] = s.decay * x[r][stripe][1] + kr * d.y;
                x[r][stripe][2] = s.decay * x[r][stripe][2] + kr * d.z;
                x[r][stripe][3] = s.decay * x[r][stripe][3] + kr * d.w;
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int stripe = 0; stripe < STRIPES; stripe++)
            delta_put(state, x[r][stripe], a, warp + r * STEP_WARPS,
                      (stripe * GPU_WARP + lane) * 4);
    step_shift(a, h, g, &s);
}

/* ---- launches -------------------------------------------------------------------------------- */

static int check(const struct lade_deltanet *d, char *err)
{
    if (d->key_heads < 1 || d->value_heads < 1 || d->value_heads % d->key_heads ||
        d->key_heads > GPU_COUNTERS || d->key_dim < 1 || d->value_dim < 1 ||
        d->key_dim > DELTA_DIM || d->value_dim > DELTA_DIM || d->kernel < 1 ||
        d->kernel > DELTA_KERNEL)
        return lade_fail(err,
                         "deltanet: %d key heads of %d, %d value heads of %d (at most %d), kernel "
                         "%d (at most %d); check the configuration",
                         d->key_heads, d->key_dim, d->value_heads, d->value_dim, (int)DELTA_DIM,
                         d->kernel, (int)DELTA_KERNEL);
    return 0;
}

int gpu_deltanet(struct lade_device *dev, const struct lade_deltanet *d, char *err)
{
    if (gpu_enter(dev, err) || check(d, err))
        return -1;
    if (d->n < 1)
        return 0;
    struct gpu_delta a = {};
    a.n = d->n;
    a.key_heads = d->key_heads;
    a.value_heads = d->value_heads;
    a.share = d->value_heads / d->key_heads;
    a.key_dim = d->key_dim;
    a.value_dim = d->value_dim;
    a.kernel = d->kernel;
    const size_t channels = (size_t)(2 * d->key_heads * d->key_dim + d->value_heads * d->value_dim);
    const size_t values = (size_t)(d->value_heads * d->value_dim);
    a.qkvz = d->qkvz;
    a.qkvz_row = channels + (d->z ? 0 : values);
    a.z = d->z ? d->z : d->qkvz + channels;
    a.z_row = d->z ? values : a.qkvz_row;
    a.ba = d->ba;
    a.conv = d->conv;
    a.decay = d->decay;
    a.dt_bias = d->dt_bias;
    a.norm = d->norm;
    a.eps = d->eps;
    a.conv_state = d->conv_state;
    a.state = d->state;
    a.out = d->out;
    a.counters = dev->counters;
    a.early = dev->launches > dev->last_delta && a.value_dim % 4 == 0;
    if (d->n > DELTA_FEW) {
        int failed = gpu_delta_many(dev, &a, err);
        dev->last_delta = dev->launches;
        return failed;
    }
    const bool small = a.key_dim <= DELTA_DIM / 2 && a.value_dim <= DELTA_DIM / 2;
    cudaError_t code = small ? LADE_LAUNCH_EARLY((delta_steps<DELTA_DIM / 2 / STEP_WARPS, 1>),
                                                 a.value_heads, STEP_THREADS, 0, dev, a)
                             : LADE_LAUNCH_EARLY((delta_steps<DELTA_DIM / STEP_WARPS, 2>),
                                                 a.value_heads, STEP_THREADS, 0, dev, a);
    dev->last_delta = dev->launches;
    return gpu_check(dev, "deltanet", code, err);
}
