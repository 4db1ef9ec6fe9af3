/* products.h - products with weights, as the ops launch them.
 *
 *     few.cu     up to eight tokens at once, exact: each weight is read once (decode)
 *     many.cu    many tokens, operands rounded to f16 (prefill)
 *
 * All matrices have a valid layout; the callers checked. */
#ifndef LADE_CUDA_PRODUCTS_H
#define LADE_CUDA_PRODUCTS_H

#include "kernels/cuda/gpu.h"

enum {
    GPU_JOBS = 8,
    GPU_FEW = 8
}; /* matrices of one launch; most tokens for which gpu_few() is
                                       faster than gpu_many() */

int gpu_few(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err);

#endif
