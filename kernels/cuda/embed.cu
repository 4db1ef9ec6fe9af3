/* Embedding rows, RMS norm, sums. */
#include "kernels/cuda/weights.h"

enum { EMBED_THREADS = 256, NORM_THREADS = 1024, NORM_EACH = 16, ADD_THREADS = 256 };

__global__ static void embed_rows(float *y, struct gpu_matrix table, const uint16_t *books,
                                  const int32_t *ids)
{
    launch_wait();
    const int t = (int)blockIdx.x, id = ids[t];
    const bool known = id >= 0 && id < table.rows;
    for (int c = (int)threadIdx.x; c * 8 < table.cols; c += (int)blockDim.x) {
        float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (known)
            matrix_chunk(table, books, id, c, v);
        for (int i = 0; i < 8 && c * 8 + i < table.cols; i++)
            y[(size_t)t * (size_t)table.cols + (size_t)(c * 8 + i)] = v[i];
    }
}

static int launch_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
                        const int32_t *ids, int n, char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(table, &l))
        return lade_matrix_bad("embed", table, err);
    if (!n)
        return 0;
    return gpu_check(dev, "embed",
                     LADE_LAUNCH_EARLY(embed_rows, n, EMBED_THREADS, 0, dev, y,
                                       gpu_matrix_of(table), dev->books, ids),
                     err);
}

int gpu_embed_at(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err)
{
    return gpu_enter(dev, err) || launch_embed(dev, y, table, ids, n, err) ? -1 : 0;
}

int gpu_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err)
{
    for (int t = 0; t < n; t++)
        if (ids[t] < 0 || ids[t] >= table->rows)
            return lade_fail(err, "embed: token %d is not below %d; check the tokenizer", ids[t],
                             table->rows);
    int32_t *on_card = NULL;
    struct gpu_carve c = {};
    gpu_carve_add(&c, &on_card, (size_t)n, sizeof *on_card);
    if (gpu_enter(dev, err) || gpu_carve_commit(dev, &c, err) ||
        gpu_upload(dev, on_card, ids, (size_t)n * sizeof *ids, err))
        return -1;
    return launch_embed(dev, y, table, on_card, n, err);
}

size_t gpu_embed_work(const struct lade_limits *l)
{
    return ((size_t)l->batch * sizeof(int32_t) + 255) / 256 * 256;
}

/* One block a row; each thread keeps its values, so that x is read once. */
__global__ static void __launch_bounds__(NORM_THREADS)
    norm_rows(float *y, float *x, const float *add, const float *w, int dim, float eps)
{
    __shared__ float work[33];
    const size_t row = (size_t)blockIdx.x * (size_t)dim;
    float v[NORM_EACH], factor[NORM_EACH], sum = 0;
#pragma unroll
    for (int j = 0; j < NORM_EACH; j++) {
        int i = (int)threadIdx.x + j * NORM_THREADS;
        factor[j] = i < dim ? w[i] : 0;
    }
    launch_wait();
#pragma unroll
    for (int j = 0; j < NORM_EACH; j++) {
        int i = (int)threadIdx.x + j * NORM_THREADS;
        v[j] = 0;
        if (i >= dim)
            continue;
        v[j] = x[row + (size_t)i];
        if (add) {
            v[j] += add[row + (size_t)i];
            x[row + (size_t)i] = v[j];
        }
        sum += v[j] * v[j];
    }
    float scale = 1.0f / sqrtf(block_sum(sum, work) / (float)dim + eps);
#pragma unroll
    for (int j = 0; j < NORM_EACH; j++) {
        int i = (int)threadIdx.x + j * NORM_THREADS;
        if (i < dim)
            y[row + (size_t)i] = v[j] * scale * factor[j];
    }
}

int gpu_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (dim < 1 || dim > NORM_THREADS * NORM_EACH)
        return lade_fail(err, "rmsnorm: rows of %d, at most %d can be; check the configuration",
                         dim, NORM_THREADS * NORM_EACH);
    if (!n)
        return 0;
    return gpu_check(dev, "rmsnorm",
                     LADE_LAUNCH_EARLY(norm_rows, n, NORM_THREADS, 0, dev, y, x, add, w, dim, eps),
                     err);
}

__global__ static void add_floats(float *y, const float *x, size_t count)
{
    launch_wait();
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        y[i] += x[i];
}

int gpu_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (!count)
        return 0;
    size_t blocks = (count - 1) / ADD_THREADS + 1, most = (size_t)dev->sms * 8;
    return gpu_check(dev, "add",
                     LADE_LAUNCH_EARLY(add_floats, (unsigned)(blocks < most ? blocks : most),
                                       ADD_THREADS, 0, dev, y, x, count),
                     err);
}
