/* The k largest logits, so that a token's logits need not cross the bus.
 *
 * A logit and its index are one key of 64 bits that no other equals, so the result is one and the
 * same however it is found. A block sorts a slice of keys and keeps the k largest; what is kept is
 * sliced again until one slice is left. */
#include "kernels/cuda/gpu.h"

enum { TOPK_THREADS = 1024, TOPK_SLICE = 4096 };

/* Larger logit, larger key; of equal ones the lower index. Not-a-numbers come last. */
__device__ static inline uint64_t topk_key(float logit, uint32_t index)
{
    uint32_t bits = __float_as_uint(logit + 0.0f); /* -0 is 0 */
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    if (logit != logit)
        bits = 1; /* below minus infinity, above padding */
    return (uint64_t)bits << 32 | (uint32_t)~index;
}

/* Slice blockIdx.x of n logits or, if there are none, of n keys: its `keep` largest, descending. */
__global__ static void __launch_bounds__(TOPK_THREADS)
    topk_slice(const float *logits, const uint64_t *keys, int n, int keep, uint64_t *out)
{
    LADE_DYNAMIC_SHARED(uint64_t, slice);
    const int from = (int)blockIdx.x * TOPK_SLICE;
    for (int i = (int)threadIdx.x; i < TOPK_SLICE; i += TOPK_THREADS) {
        int at = from + i;
        slice[i] = at >= n ? 0 : logits ? topk_key(logits[at], (uint32_t)at) : keys[at];
    }
    __syncthreads();
    for (int size = 2; size <= TOPK_SLICE; size *= 2) {
        for (int step = size / 2; step; step /= 2) {
            for (int i = (int)threadIdx.x; i < TOPK_SLICE / 2; i += TOPK_THREADS) {
                int low = i / step * step * 2 + i % step, high = low + step;
                bool descending = !(low & size) || size == TOPK_SLICE;
                uint64_t a = slice[low], b = slice[high];
                if ((a < b) == descending) {
                    slice[low] = b;
                    slice[high] = a;
                }
            }
            __syncthreads();
        }
    }
    for (int i = (int)threadIdx.x; i < keep; i += TOPK_THREADS)
        out[(size_t)blockIdx.x * (size_t)keep + (size_t)i] = slice[i];
}

__global__ static void topk_write(const uint64_t *keys, const float *logits, int k, float *values,
                                  int32_t *ids)
{
    for (int i = (int)threadIdx.x; i < k; i += (int)blockDim.x) {
        uint32_t index = ~(uint32_t)keys[i];
        ids[i] = (int32_t)index;
        values[i] = logits[index];
    }
}

static void carve_topk(struct gpu_carve *c, uint64_t **half, int n)
{
    /* At most LADE_TOPK_MAX of each slice are kept, then fewer. */
    size_t slices = (size_t)gpu_up(n, TOPK_SLICE);
    gpu_carve_add(c, &half[0], slices * LADE_TOPK_MAX, sizeof **half);
    gpu_carve_add(c, &half[1], slices * LADE_TOPK_MAX, sizeof **half);
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
    const float *logits = t->logits;
    int n = t->n, from = 1;
    for (;;) {
        int slices = gpu_up(n, TOPK_SLICE);
        if (gpu_check(dev, "topk",
                      LADE_LAUNCH(topk_slice, slices, TOPK_THREADS, TOPK_SLICE * sizeof(uint64_t),
                                  dev->compute, logits, half[from], n, t->k, half[from ^ 1]),
                      err))
            return -1;
        from ^= 1;
        logits = NULL;
        n = slices * t->k;
        if (slices == 1)
            break;
    }
    return gpu_check(dev, "topk",
                     LADE_LAUNCH(topk_write, 1, 256, 0, dev->compute, half[from], t->logits, t->k,
                                 t->values, t->ids),
                     err);
}
