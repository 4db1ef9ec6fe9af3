/* products.h - products with weights, as the ops launch them.
 *
 *     one.cu     one token, exact (decode), 16 bytes a lane: tiles and rows of numbers as they come (one.h), all
 *                else through shared memory (run.h)
 *     few.cu     two to eight tokens at once, exact: each weight is read once
 *     many.cu    many tokens, operands rounded to f16 (prefill)
 *     dense.cu   the same by cuBLAS, where that is there and faster
 *
 * All matrices have a valid layout; the callers checked. */
#ifndef LADE_CUDA_PRODUCTS_H
#define LADE_CUDA_PRODUCTS_H

#include "kernels/cuda/gpu.h"

/* Matrices of one launch; most tokens for which gpu_few() is the faster way. */
enum { GPU_JOBS = 8, GPU_FEW = 16 };

/* `norm` (may be NULL): the inputs of all jobs are norm->x, normed; then `token` is 0. */
int gpu_one(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int token,
            const struct lade_project *norm, char *err);
int gpu_few(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err);
int gpu_many(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err);

/* Products by cuBLAS: which jobs are for it, and from how many tokens on any are. gpu_dense() is 1
 * where it fails and the others must do it. */
bool gpu_dense_wins(const struct lade_device *dev, const struct lade_matrix *w, int n);
int gpu_dense_tokens(const struct lade_device *dev);
int gpu_dense(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
              char *err);

/* Rows of floats as f16 for gpu_many() and experts: many.h has the form of the result, which takes
 * rows * many_stride(cols) numbers and `rows` scales. */
cudaError_t gpu_half_rows(struct lade_device *dev, const float *x, int rows, int cols,
                          uint16_t *out, float *scale);

/* Lets a kernel have more shared memory than the 48 KiB that all may. */
int gpu_shared_room(struct lade_device *dev, const void *kernel, size_t bytes, char *err);

#endif
