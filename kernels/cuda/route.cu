/* The router's choice: softmax over all experts, the k largest; and, for one token, all from the
 * residual sum to that choice in one launch. */
#include <math.h>

#include "kernels/cuda/one.h"
#include "kernels/cuda/products.h"

enum { ROUTE_THREADS = 512, ROUTE_GROUP = 32, ROUTE_MOST = ROW_INPUTS };

struct route_out {
    int experts, k;
    bool renormalize;
    int32_t *ids;
    float *weights;
};

struct route_shared {
    float best[ROUTE_MOST], picked[ROUTE_MOST], work[33];
    int best_id[ROUTE_MOST];
};

/* Whether logit a of expert i stands before logit b of expert j. */
__device__ static inline bool stands_before(float a, int i, float b, int j)
{
    return a > b || (a == b && i < j);
}

/* One token's choice by one block, from `in`, with `logits` in shared memory. A value's rank is the
 * number of those before it: first among 32 experts, then the best k of each 32 among each other. No
 * two have the same rank, so all writes are apart. */
__device__ static inline void route_pick(const struct route_out &out, const float *in,
                                         float *logits, struct route_shared *s)
{
    const int me = (int)threadIdx.x, threads = (int)blockDim.x;
    const int experts = out.experts, k = out.k, keep = k < ROUTE_GROUP ? k : ROUTE_GROUP;
    for (int e = me; e < experts; e += threads) {
        const float logit = fresh_float(in + e);
        logits[e] = isnan(logit) ? -INFINITY : logit;
    }
    __syncthreads();
    for (int e = me; e < experts; e += threads) {
        int first = e / ROUTE_GROUP * ROUTE_GROUP, rank = 0;
        for (int i = first; i < first + ROUTE_GROUP && i < experts; i++)
            rank += stands_before(logits[i], i, logits[e], e);
        if (rank < keep) {
            s->best[e / ROUTE_GROUP * keep + rank] = logits[e];
            s->best_id[e / ROUTE_GROUP * keep + rank] = e;
        }
    }
    __syncthreads();
    const int last = experts % ROUTE_GROUP, full = experts / ROUTE_GROUP * keep;
    const int candidates = full + (last < keep ? last : keep);
    for (int c = me; c < candidates; c += threads) {
        int rank = 0;
        for (int i = 0; i < candidates; i++)
            rank += stands_before(s->best[i], s->best_id[i], s->best[c], s->best_id[c]);
        if (rank < k) {
            out.ids[rank] = s->best_id[c];
            s->picked[rank] = s->best[c];
        }
    }
    __syncthreads();
    const float max = s->picked[0];
    float sum = 0;
    for (int e = me; e < experts; e += threads)
        sum += expf(logits[e] - max);
    sum = block_sum(sum, s->work);
    float of_picked = 0; /* every thread adds in the same order */
    for (int j = 0; out.renormalize && j < k; j++)
        of_picked += expf(s->picked[j] - max) / sum;
    for (int j = me; j < k; j += threads) {
        float p = expf(s->picked[j] - max) / sum;
        out.weights[j] = out.renormalize ? p / of_picked : p;
    }
}

/* A block a token. */
__global__ static void __launch_bounds__(ROUTE_THREADS)
    route_tokens(struct route_out out, const float *logits)
{
    launch_wait();
    __shared__ float of_block[ROUTE_MOST];
    __shared__ struct route_shared s;
    out.ids += (size_t)blockIdx.x * (size_t)out.k;
    out.weights += (size_t)blockIdx.x * (size_t)out.k;
    route_pick(out, logits + (size_t)blockIdx.x * (size_t)out.experts, of_block, &s);
}

struct router_job {
    struct one_job product; /* its y: the logits; its x and `x` are one */
    struct one_norm norm;
    const float *add;
    float *x, *h;
    struct route_out out;
    unsigned *counter;
};

/* Every block multiplies its rows of the router's weights and writes its part of h. The last one to
 * end has all logits: it makes the choice. It also puts x + add in place of x, which until then all
 * blocks read. */
template <int KIND>
__global__ static void __launch_bounds__(ROW_WARPS *GPU_WARP) router_rows(struct router_job r)
{
    __shared__ __align__(16) float area[ROW_INPUTS];
    __shared__ struct route_shared s;
    __shared__ float squares[ROW_WARPS];
    __shared__ bool last;
    const int dim = r.product.w.cols, threads = ROW_WARPS * GPU_WARP, me = (int)threadIdx.x;
    const float scale = one_rows<KIND, true>(r.product, area, r.norm, r.add, squares);
    for (int i = (int)blockIdx.x * threads + me; i < dim; i += (int)gridDim.x * threads)
        r.h[i] = area[one_place<KIND>(i & ~3, ROW_INPUTS) + (i & 3)] * scale;
    __syncthreads();
    if (!me) {
        __threadfence();
        last = atomicAdd(r.counter, 1u) + 1 == gridDim.x;
        if (last)
            *r.counter = 0;
        __threadfence();
    }
    __syncthreads();
    if (!last)
        return;
    for (int i = me; r.add && i < dim; i += threads)
        r.x[i] += r.add[i];
    route_pick(r.out, r.product.y, area, &s);
}

static int check(const struct lade_route *r, char *err)
{
    if (r->k < 1 || r->k > r->experts || r->experts > ROUTE_MOST)
        return lade_fail(err, "route: %d of %d experts, at most %d can be; check the configuration",
                         r->k, r->experts, (int)ROUTE_MOST);
    return 0;
}

static struct route_out out_of(const struct lade_route *r)
{
    struct route_out out = {}; /* what fills it up, too */
    out.experts = r->experts;
    out.k = r->k;
    out.renormalize = r->renormalize;
    out.ids = r->ids;
    out.weights = r->weights;
    return out;
}

int gpu_route(struct lade_device *dev, const struct lade_route *r, char *err)
{
    if (gpu_enter(dev, err) || check(r, err))
        return -1;
    if (r->n < 1)
        return 0;
    return gpu_check(
        dev, "route",
        LADE_LAUNCH_EARLY(route_tokens, r->n, ROUTE_THREADS, 0, dev, out_of(r), r->logits), err);
}

/* All in one launch, of one token. */
static cudaError_t launch_router(struct lade_device *dev, const struct lade_router *r)
{
    struct router_job job = {};
    job.product.w = gpu_matrix_of(r->w);
    job.product.x = job.x = r->x;
    job.product.y = r->logits;
    job.product.blocks = gpu_min(gpu_up(r->w->rows, ROW_WARPS), dev->sms * ROW_BLOCKS);
    job.norm = {r->norm, r->eps, r->dim};
    job.add = r->add;
    job.h = r->h;
    job.out = out_of(&r->route);
    job.counter = dev->counters;
    const int blocks = job.product.blocks, threads = ROW_WARPS * GPU_WARP;
    return job.product.w.kind == GPU_BF16
               ? LADE_LAUNCH_EARLY(router_rows<GPU_BF16>, blocks, threads, 0, dev, job)
               : LADE_LAUNCH_EARLY(router_rows<GPU_F32>, blocks, threads, 0, dev, job);
}

int gpu_router(struct lade_device *dev, const struct lade_router *r, char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(r->w, &l))
        return lade_matrix_bad("router", r->w, err);
    if (gpu_enter(dev, err) || check(&r->route, err))
        return -1;
    const enum gpu_kind kind = gpu_kind_of(r->w);
    if (r->n == 1 && r->dim <= ROW_INPUTS && (kind == GPU_BF16 || kind == GPU_F32))
        return gpu_check(dev, "router", launch_router(dev, r), err);
    struct lade_matmul product = {r->logits, r->h, r->w};
    struct lade_route route = r->route;
    route.n = r->n;
    route.logits = r->logits;
    return gpu_rmsnorm(dev, r->h, r->x, r->add, r->norm, r->n, r->dim, r->eps, err) ||
                   gpu_matmul(dev, &product, 1, r->n, err) || gpu_route(dev, &route, err)
               ? -1
               : 0;
}
