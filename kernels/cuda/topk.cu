/* The k largest logits, so that a token's logits need not cross the bus.
 *
 * A logit and its index are one key of 64 bits that no other equals, so the result is one and the
 * same however it is found. A block sorts a slice of keys and keeps the k largest; what is kept is
 * sliced again until one slice is left. */
#include "kernels/cuda/gpu.h"

/* Slices are much longer than what is kept of them, and as short as that allows. */
enum { TOPK_SHORT = 1024, TOPK_LONG = 4096, TOPK_SHORT_K = 256 };

/* Larger logit, larger key; of equal ones the lower index. Not-a-numbers come last. */
__device__ static inline uint64_t topk_key(float logit, uint32_t index)
{
    uint32_t bits = __float_as_uint(logit + 0.0f); /* -0 is 0 */
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    if (logit != logit)
        bits = 1; /* below minus infinity, above padding */
    return (uint64_t)bits << 32 | (uint32_t)~index;
}

/* Slice blockIdx.x of n logits or, if `keys` are given, of n keys of them: its `keep` largest,
 * descending, as keys to `out` or, where that is NULL, as the result. */
template <int SLICE>
__global__ static void __launch_bounds__(SLICE / 4 < 512 ? 512 : SLICE / 4)
    topk_slice(const float *logits, const uint64_t *keys, int n, int keep, uint64_t *out,
               float *values, int32_t *ids)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(uint64_t, slice);
    const int from = (int)blockIdx.x * SLICE;
    for (int i = (int)threadIdx.x; i < SLICE; i += (int)blockDim.x) {
        int at = from + i;
        slice[i] = at >= n ? 0 : keys ? keys[at] : topk_key(logits[at], (uint32_t)at);
    }
    __syncthreads();
    for (int size = 2; size <= SLICE; size *= 2) {
        for (int step = size / 2; step; step /= 2) {
            for (int i = (int)threadIdx.x; i < SLICE / 2; i += (int)blockDim.x) {
                int low = i / step * step * 2 + i % step, high = low + step;
                bool descending = !(low & size) || size == SLICE;
                uint64_t a = slice[low], b = slice[high];
                if ((a < b) == descending) {
                    slice[low] = b;
                    slice[high] = a;
                }
            }
            /* Pairs up to 32 apart are a warp's own. The last step ends with the block's barrier. */
            if (step > 32 || (step == 1 && size >= 64))
                __syncthreads();
            else
                __syncwarp();
        }
    }
    for (int i = (int)threadIdx.x; i < keep; i += (int)blockDim.x) {
        const uint32_t index = ~(uint32_t)slice[i];
        if (out) {
            out[(size_t)blockIdx.x * (size_t)keep + (size_t)i] = slice[i];
        } else {
            ids[i] = (int32_t)index;
            values[i] = logits[index];
        }
    }
}

/* At most a quarter of each slice is kept. */
static void carve_topk(struct gpu_carve *c, uint64_t **half, int n)
{
    const size_t most = ((size_t)gpu_up(n, TOPK_LONG) + 1) * (TOPK_LONG / 4);
    gpu_carve_add(c, &half[0], most, sizeof **half);
    gpu_carve_add(c, &half[1], most, sizeof **half);
}

size_t gpu_topk_work(const struct lade_limits *l)
{
    struct gpu_carve c = {};
    uint64_t *half[2];
    if (l->vocab > 0)
        carve_topk(&c, half, l->vocab);
    return gpu_carve_bytes(&c);
}

int gpu_topk(struct lade_device *dev, const struct lade_topk *t, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (t->k < 1 || t->k > t->n || t->k > LADE_TOPK_MAX)
        return lade_fail(err, "topk: %d of %d, at most %d can be; report this", t->k, t->n,
                         (int)LADE_TOPK_MAX);
    uint64_t *half[2];
    struct gpu_carve c = {};
    carve_topk(&c, half, t->n);
    if (gpu_carve_commit(dev, &c, err))
        return -1;
    const int slice = t->k <= TOPK_SHORT_K ? TOPK_SHORT : TOPK_LONG;
    const uint64_t *keys = NULL;
    int n = t->n, to = 0;
    for (;;) {
        const int slices = gpu_up(n, slice), threads = slice / 4 < 512 ? 512 : slice / 4;
        const size_t shared = (size_t)slice * sizeof(uint64_t);
        uint64_t *out = slices > 1 ? half[to] : NULL;
        cudaError_t code =
            slice == TOPK_SHORT
                ? LADE_LAUNCH_EARLY(topk_slice<TOPK_SHORT>, slices, threads, shared, dev, t->logits,
                                    keys, n, t->k, out, t->values, t->ids)
                : LADE_LAUNCH_EARLY(topk_slice<TOPK_LONG>, slices, threads, shared, dev, t->logits,
                                    keys, n, t->k, out, t->values, t->ids);
        if (gpu_check(dev, "topk", code, err))
            return -1;
        if (!out)
            return 0;
        keys = out;
        to ^= 1;
        n = slices * t->k;
    }
}
