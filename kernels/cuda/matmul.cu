/* Products of n tokens, and the norm before them: checks, and which way they go (products.h). */
#include "kernels/cuda/products.h"
#include "kernels/cuda/weights.h"

int gpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err)
{
    struct lade_matrix_layout l;
    for (int j = 0; j < n_jobs; j++)
        if (lade_matrix_layout(jobs[j].w, &l))
            return lade_matrix_bad("matmul", jobs[j].w, err);
    if (gpu_enter(dev, err))
        return -1;
    if (n < 1 || n_jobs < 1)
        return 0;
    return dev->exact || n <= GPU_FEW ? gpu_few(dev, jobs, n_jobs, n, err)
                                      : gpu_many(dev, jobs, n_jobs, n, err);
}

int gpu_project(struct lade_device *dev, const struct lade_project *p, char *err)
{
    struct lade_matrix_layout l;
    for (int j = 0; j < p->n_jobs; j++)
        if (lade_matrix_layout(p->jobs[j].w, &l))
            return lade_matrix_bad("project", p->jobs[j].w, err);
    if (gpu_enter(dev, err))
        return -1;
    if (p->n == 1)
        return gpu_one(dev, p->jobs, p->n_jobs, 0, p, err);
    /* Without anything to add, the norm only reads x. */
    return gpu_rmsnorm(dev, p->h, (float *)p->x, NULL, p->norm, p->n, p->dim, p->eps, err) ||
                   gpu_matmul(dev, p->jobs, p->n_jobs, p->n, err)
               ? -1
               : 0;
}
