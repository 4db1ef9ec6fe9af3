/* Products of n tokens: checks, and which of the two ways they go (products.h). */
#include "kernels/cuda/products.h"
#include "kernels/cuda/weights.h"

int gpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err)
{
    struct lade_matrix_layout l;
    for (int j = 0; j < n_jobs; j++)
        if (lade_matrix_layout(jobs[j].w, &l))
            return gpu_bad_matrix("matmul", jobs[j].w, err);
    if (gpu_enter(dev, err))
        return -1;
    if (n < 1 || n_jobs < 1)
        return 0;
    return dev->exact || n <= GPU_FEW ? gpu_few(dev, jobs, n_jobs, n, err)
                                      : gpu_many(dev, jobs, n_jobs, n, err);
}
