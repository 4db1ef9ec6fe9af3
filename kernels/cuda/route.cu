/* The router's choice: softmax over all experts, the k largest. */
#include <math.h>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/mma.h"

enum { ROUTE_THREADS = 512, ROUTE_GROUP = 32, ROUTE_MOST = 2048 };

/* Whether logit a of expert i stands before logit b of expert j. */
__device__ static inline bool stands_before(float a, int i, float b, int j)
{
    return a > b || (a == b && i < j);
}

/* One block a token. A value's rank is the number of those before it: first among 32 experts, then
 * the best k of each 32 among each other. No two have the same rank, so all writes are apart. */
__global__ static void __launch_bounds__(ROUTE_THREADS)
    route_token(const float *all_logits, int experts, int k, bool renormalize, int32_t *ids,
                float *weights)
{
    launch_wait();
    __shared__ float logits[ROUTE_MOST], best[ROUTE_MOST], picked[ROUTE_MOST], work[33];
    __shared__ int best_id[ROUTE_MOST];
    const int me = (int)threadIdx.x, keep = k < ROUTE_GROUP ? k : ROUTE_GROUP;
    const float *in = all_logits + (size_t)blockIdx.x * (size_t)experts;
    for (int e = me; e < experts; e += ROUTE_THREADS)
        logits[e] = isnan(in[e]) ? -INFINITY : in[e];
    __syncthreads();
    for (int e = me; e < experts; e += ROUTE_THREADS) {
        int first = e / ROUTE_GROUP * ROUTE_GROUP, rank = 0;
        for (int i = first; i < first + ROUTE_GROUP && i < experts; i++)
            rank += stands_before(logits[i], i, logits[e], e);
        if (rank < keep) {
            best[e / ROUTE_GROUP * keep + rank] = logits[e];
            best_id[e / ROUTE_GROUP * keep + rank] = e;
        }
    }
    __syncthreads();
    const int last = experts % ROUTE_GROUP, full = experts / ROUTE_GROUP * keep;
    const int candidates = full + (last < keep ? last : keep);
    for (int c = me; c < candidates; c += ROUTE_THREADS) {
        int rank = 0;
        for (int i = 0; i < candidates; i++)
            rank += stands_before(best[i], best_id[i], best[c], best_id[c]);
        if (rank < k) {
            ids[(size_t)blockIdx.x * (size_t)k + (size_t)rank] = best_id[c];
            picked[rank] = best[c];
        }
    }
    __syncthreads();
    const float max = picked[0];
    float sum = 0;
    for (int e = me; e < experts; e += ROUTE_THREADS)
        sum += expf(logits[e] - max);
    sum = block_sum(sum, work);
    float of_picked = 0; /* every thread adds in the same order */
    for (int j = 0; renormalize && j < k; j++)
        of_picked += expf(picked[j] - max) / sum;
    for (int j = me; j < k; j += ROUTE_THREADS) {
        float p = expf(picked[j] - max) / sum;
        weights[(size_t)blockIdx.x * (size_t)k + (size_t)j] = renormalize ? p / of_picked : p;
    }
}

int gpu_route(struct lade_device *dev, const struct lade_route *r, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (r->k < 1 || r->k > r->experts || r->experts > ROUTE_MOST)
        return lade_fail(err, "route: %d of %d experts, at most %d can be; check the configuration",
                         r->k, r->experts, ROUTE_MOST);
    if (r->n < 1)
        return 0;
    return gpu_check(dev, "route",
                     LADE_LAUNCH_EARLY(route_token, r->n, ROUTE_THREADS, 0, dev, r->logits,
                                       r->experts, r->k, r->renormalize, r->ids, r->weights),
                     err);
}
