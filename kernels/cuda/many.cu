/* Products of many tokens with several matrices in one launch. */
#include <math.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/many.h"
#include "kernels/cuda/products.h"

enum { NT = 8, TOKENS = 16 * NT, HALF_THREADS = 256 };

/* ---- inputs as f16 --------------------------------------------------------------------------- */

/* One block a row. The largest magnitude goes to 2^8 .. 2^9. */
__global__ static void __launch_bounds__(HALF_THREADS)
    half_rows(const float *x, int cols, uint16_t *out, float *scale, int stride)
{
    launch_wait();
    __shared__ float work[GPU_WARP];
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    x += (size_t)blockIdx.x * (size_t)cols;
    out += (size_t)blockIdx.x * (size_t)stride;
    float most = 0;
    for (int i = (int)threadIdx.x; i < cols; i += HALF_THREADS)
        most = fmaxf(most, fabsf(x[i]));
    most = warp_max(most);
    if (!lane)
        work[warp] = most;
    __syncthreads();
    most = warp_max(lane < HALF_THREADS / GPU_WARP ? work[lane] : 0.0f);
    int exponent = (int)(__float_as_uint(most) >> 23) - 127 - 8;
    exponent = exponent < -100 ? -100 : exponent > 100 ? 100 : exponent;
    const float shrink = __uint_as_float((uint32_t)(127 - exponent) << 23);
    if (!threadIdx.x)
        scale[blockIdx.x] = __uint_as_float((uint32_t)(127 + exponent) << 23);
    for (int c = (int)threadIdx.x; c < stride / 8; c += HALF_THREADS) {
        float v[8];
        for (int i = 0; i < 8; i++)
            v[i] = c * 8 + i < cols ? x[c * 8 + i] * shrink : 0.0f;
        ((uint4 *)out)[c] = many_pack(v);
    }
}

cudaError_t gpu_half_rows(struct lade_device *dev, const float *x, int rows, int cols,
                          uint16_t *out, float *scale)
{
    return LADE_LAUNCH(half_rows, rows, HALF_THREADS, 0, dev, x, cols, out, scale,
                       many_stride(cols));
}

/* ---- products -------------------------------------------------------------------------------- */

struct many_job {
    struct gpu_matrix w;
    struct many_inputs in;
    float *y;
    int first_block;
};

struct many_jobs {
    struct many_job job[GPU_JOBS];
    int n_jobs, n, token_tiles;
};

/* Token tiles of the same rows are neighbours, so that weights come from the second cache. */
__global__ static void __launch_bounds__(MANY_THREADS)
    many_products(struct many_jobs jobs, const uint16_t *books)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(struct many_shared<NT>, shared);
    int j = jobs.n_jobs - 1;
    while (jobs.job[j].first_block > (int)blockIdx.x)
        j--;
    const struct many_job &job = jobs.job[j];
    const int block = (int)blockIdx.x - job.first_block;
    const int row0 = block / jobs.token_tiles * MANY_ROWS;
    const int token0 = block % jobs.token_tiles * TOKENS;
    const struct many_weights a = {{job.w, job.w}, {row0, row0 + MANY_RUN}};
    const struct many_tokens t = {nullptr, token0, gpu_least(TOKENS, jobs.n - token0)};
    struct many_sums<NT> sums = {
    };
    many_block<NT>(sums, a, books, job.in, t, shared);
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = token0 + many_sum_token<NT>(n, i);
            if (token >= jobs.n)
                continue;
            const float scale = job.in.scale[token];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = row0 + half * MANY_RUN + many_sum_row(i);
                if (row < job.w.rows)
                    job.y[(size_t)token * (size_t)job.w.rows + (size_t)row] =
                        sums.c[half][n][i] * scale;
            }
        }
}

/* ---- launches -------------------------------------------------------------------------------- */

int gpu_shared_room(struct lade_device *dev, const void *kernel, size_t bytes, char *err)
{
    return gpu_check(
        dev, "asking for shared memory",
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), err);
}

/* At most GPU_JOBS jobs of the same inputs. */
static int many_pass(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                     char *err)
{
    const int cols = jobs[0].w->cols, stride = many_stride(cols);
    uint16_t *out;
    float *scale;
    struct gpu_carve c = {};
    gpu_carve_add(&c, &out, (size_t)n, (size_t)stride * sizeof *out);
    gpu_carve_add(&c, &scale, (size_t)n, sizeof *scale);
    if (gpu_carve_commit(dev, &c, err) ||
        gpu_check(dev, "matmul", gpu_half_rows(dev, jobs[0].x, n, cols, out, scale), err))
        return -1;
    struct many_jobs all = {};
    all.n_jobs = n_jobs;
    all.n = n;
    all.token_tiles = gpu_up(n, TOKENS);
    int blocks = 0;
    for (int j = 0; j < n_jobs; j++) {
        struct many_job *job = &all.job[j];
        job->w = gpu_matrix_of(jobs[j].w);
        job->in = (struct many_inputs){out, scale, stride};
        job->y = jobs[j].y;
        job->first_block = blocks;
        blocks += gpu_up(job->w.rows, MANY_ROWS) * all.token_tiles;
    }
    size_t shared = sizeof(struct many_shared<NT>);
    if (gpu_shared_room(dev, (const void *)many_products, shared, err))
        return -1;
    return gpu_check(dev, "matmul",
                     LADE_LAUNCH(many_products, blocks, MANY_THREADS, shared, dev, all, dev->books),
                     err);
}

/* Takes those that have the inputs of the first out of some jobs; how many. */
static int take_same(struct lade_matmul *jobs, int *n_jobs, struct lade_matmul *same)
{
    const float *x = jobs[0].x;
    const int cols = jobs[0].w->cols;
    int taken = 0, left = 0;
    for (int j = 0; j < *n_jobs; j++)
        if (jobs[j].x == x && jobs[j].w->cols == cols)
            same[taken++] = jobs[j];
        else
            jobs[left++] = jobs[j];
    *n_jobs = left;
    return taken;
}

/* Those jobs of some that are for cuBLAS, or those that are not; how many to *count. */
static void sort_jobs(const struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs,
                      int n, bool dense, struct lade_matmul *out, int *count)
{
    *count = 0;
    for (int j = 0; j < n_jobs; j++)
        if (gpu_dense_wins(dev, jobs[j].w, n) == dense)
            out[(*count)++] = jobs[j];
}

static int some_jobs(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
                     char *err)
{
    struct lade_matmul own[GPU_JOBS];
    int count;
    sort_jobs(dev, jobs, n_jobs, n, true, own, &count);
    const int rc = count ? gpu_dense(dev, own, count, n, err) : 0;
    if (rc < 0)
        return -1;
    if (rc) /* from now on it is not used */
        gpu_blas_close(dev);
    sort_jobs(dev, jobs, n_jobs, n, false, own, &count);
    while (count) {
        struct lade_matmul same[GPU_JOBS];
        const int taken = take_same(own, &count, same);
        if (many_pass(dev, same, taken, n, err))
            return -1;
    }
    return 0;
}

int gpu_many(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err)
{
    for (int j = 0; j < n_jobs; j += GPU_JOBS)
        if (some_jobs(dev, jobs + j, gpu_min(GPU_JOBS, n_jobs - j), n, err))
            return -1;
    return 0;
}

size_t gpu_matmul_work(const struct lade_limits *l)
{
    uint16_t *out;
    float *scale;
    struct gpu_carve c = {};
    gpu_carve_add(&c, &out, (size_t)l->batch, (size_t)many_stride(l->widest) * sizeof *out);
    gpu_carve_add(&c, &scale, (size_t)l->batch, sizeof *scale);
    return gpu_carve_bytes(&c);
}
