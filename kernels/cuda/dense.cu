/* Products of many tokens by cuBLAS, whose kernels reach more of the tensor cores of compute
 * capability 9.0 and 10.0 than mma instructions do: these are the old way there.
 *
 * Weights are made f16, some rows at a time, so that the second cache still has them when they are
 * multiplied; inputs are f16 with one power of two taken out of all, which is the product's alpha. So
 * operands are rounded to 11 bits as in many.cu, and sums are floats.
 *
 * Time of a product of n tokens, by weight: many.cu 2n / 173 TFLOP/s (measured on an H200, GPU.md);
 * here 2n / 600 (what cuBLAS reaches there by others' measurements) and for at most 2 bytes read and
 * 4 written and read again 1.3 ps: even at about 160 tokens, 0.3 of the time at 2,048. Besides there
 * are three launches more. Not measured on a card. */
#include <limits.h>
#include <math.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/many.h"
#include "kernels/cuda/products.h"

enum {
    MOST_BYTES = 32 << 20, /* of weights at a time */
    LEAST_WORK = 1 << 23,  /* multiplications of a multiprocessor that are worth three launches */
    STEPS = 4,             /* of a block that makes weights f16 */
};

/* From how many tokens on, by compute capability. bench_gpu shows on a card which is faster. */
static const struct {
    int major, tokens;
} wins[] = {{9, 256}, {10, 256}};

static int tokens_of(int major)
{
    for (size_t i = 0; i < sizeof wins / sizeof *wins; i++)
        if (wins[i].major == major)
            return wins[i].tokens;
    return INT_MAX;
}

int gpu_dense_tokens(const struct lade_device *dev)
{
    return tokens_of(dev->major);
}

/* Of all cards of this machine: work space is asked for before one is open. */
static int least_tokens(void)
{
    int n = 0, major, least = INT_MAX;
    if (cudaGetDeviceCount(&n) != cudaSuccess)
        gpu_forget_error();
    for (int i = 0; i < n; i++)
        if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i) == cudaSuccess)
            least = gpu_min(least, tokens_of(major));
    return least;
}

/* ---- operands as f16 -------------------------------------------------------------------------- */

/* On the card: what the inputs are multiplied by afterwards, and what is added to. */
struct dense_numbers {
    float alpha, beta;
    unsigned most; /* the largest magnitude, as bits */
};

enum { HALF_THREADS = 256 };

__global__ static void __launch_bounds__(HALF_THREADS)
    dense_most(const float *x, size_t count, struct dense_numbers *numbers)
{
    launch_wait();
    float most = 0;
    const size_t step = (size_t)gridDim.x * HALF_THREADS;
    for (size_t i = (size_t)blockIdx.x * HALF_THREADS + threadIdx.x; i < count; i += step)
        most = fmaxf(most, fabsf(x[i]));
    most = warp_max(most);
    if (threadIdx.x % GPU_WARP == 0)
        atomicMax(&numbers->most, __float_as_uint(most));
}

/* One block a row. The largest magnitude of all goes to 2^8 .. 2^9. */
__global__ static void __launch_bounds__(HALF_THREADS)
    dense_inputs(const float *x, int cols, uint16_t *out, int stride, struct dense_numbers *numbers)
{
    launch_wait();
    int exponent = (int)(numbers->most >> 23) - 127 - 8;
    exponent = exponent < -100 ? -100 : exponent > 100 ? 100 : exponent;
    const float shrink = __uint_as_float((uint32_t)(127 - exponent) << 23);
    if (!blockIdx.x && !threadIdx.x) {
        numbers->alpha = __uint_as_float((uint32_t)(127 + exponent) << 23);
        numbers->beta = 0;
    }
    x += (size_t)blockIdx.x * (size_t)cols;
    out += (size_t)blockIdx.x * (size_t)stride;
    for (int c = (int)threadIdx.x; c < stride / 8; c += HALF_THREADS) {
        float v[8];
        for (int i = 0; i < 8; i++)
            v[i] = c * 8 + i < cols ? x[c * 8 + i] * shrink : 0.0f;
        ((uint4 *)out)[c] = many_pack(v);
    }
}

/* Rows [first, first + rows) of w: STEPS * MANY_STEP inputs of MANY_ROWS rows a block. */
template <int KIND>
__device__ static inline void dense_block(const struct gpu_matrix &w, const uint16_t *books,
                                          int first, int rows, uint16_t *out, int stride,
                                          unsigned char *tile)
{
    const int row0 = (int)blockIdx.x * MANY_ROWS, chunk = (int)threadIdx.x % MANY_CHUNKS;
    const struct many_weights a = {{w, w}, {first + row0, first + row0 + MANY_RUN}};
    for (int step = 0; step < STEPS; step++) {
        const int k0 = ((int)blockIdx.y * STEPS + step) * MANY_STEP;
        if (k0 >= stride)
            break;
        struct many_raw raw = {};
        many_load<KIND>(raw, a, k0);
        many_store<KIND>(raw, a, books, k0, tile);
        __syncthreads();
        for (int r = (int)threadIdx.x / MANY_CHUNKS; r < MANY_ROWS; r += MANY_THREADS / MANY_CHUNKS)
            if (row0 + r < rows)
                ((uint4 *)(out + (size_t)(row0 + r) * (size_t)stride + (size_t)k0))[chunk] =
                    *(const uint4 *)many_at(tile, r, chunk);
        __syncthreads();
    }
}

__global__ static void __launch_bounds__(MANY_THREADS)
    dense_weights(struct gpu_matrix w, const uint16_t *books, int first, int rows, uint16_t *out,
                  int stride)
{
    launch_wait();
    __shared__ __align__(16) unsigned char tile[MANY_ROWS * MANY_ROW_BYTES];
    if (w.kind == GPU_Q4)
        dense_block<GPU_Q4>(w, books, first, rows, out, stride, tile);
    else if (w.kind == GPU_Q8)
        dense_block<GPU_Q8>(w, books, first, rows, out, stride, tile);
    else if (w.kind == GPU_BF16)
        dense_block<GPU_BF16>(w, books, first, rows, out, stride, tile);
    else
        dense_block<GPU_WIDE>(w, books, first, rows, out, stride, tile);
}

/* ---- products --------------------------------------------------------------------------------- */

/* Rows at a time: whole MANY_ROWS, as many as half of the second cache holds. */
static int slab_rows(const struct lade_device *dev, const struct lade_matrix *w)
{
    const size_t row = (size_t)many_stride(w->cols) * sizeof(uint16_t);
    const size_t most_bytes = MOST_BYTES, half = dev->cache / 2;
    const size_t bytes = half < most_bytes ? half : most_bytes;
    const int most = (int)(bytes / row) / MANY_ROWS * MANY_ROWS;
    return most ? gpu_up(gpu_up(w->rows, gpu_up(w->rows, most)), MANY_ROWS) * MANY_ROWS : 0;
}

bool gpu_dense_wins(const struct lade_device *dev, const struct lade_matrix *w, int n)
{
    return dev->blas && !dev->recording && n >= gpu_dense_tokens(dev) &&
           (double)w->rows * w->cols * n >= (double)LEAST_WORK * dev->sms && slab_rows(dev, w);
}

/* The pieces of a call. */
struct dense_work {
    uint16_t *x, *w;
    struct dense_numbers *numbers;
    void *space;
};

static void carve(struct gpu_carve *c, struct dense_work *work, size_t n, int cols)
{
    gpu_carve_add(c, &work->x, n, (size_t)many_stride(cols) * sizeof *work->x);
    gpu_carve_add(c, &work->numbers, 1, sizeof *work->numbers);
    gpu_carve_add(c, &work->w, 1, MOST_BYTES);
    gpu_carve_add(c, &work->space, 1, GPU_BLAS_SPACE);
}

size_t gpu_dense_work(const struct lade_limits *l)
{
    struct dense_work work;
    struct gpu_carve c = {};
    if (l->batch < least_tokens())
        return 0;
    carve(&c, &work, (size_t)l->batch, l->widest);
    return gpu_carve_bytes(&c);
}

static cudaError_t make_inputs(struct lade_device *dev, const struct dense_work *work,
                               const struct lade_matmul *job, int n)
{
    const int cols = job->w->cols;
    const size_t count = (size_t)n * (size_t)cols;
    cudaError_t code = cudaMemsetAsync(work->numbers, 0, sizeof *work->numbers, dev->compute);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(dense_most, gpu_min(dev->sms * 4, gpu_up(n, 8)), HALF_THREADS, 0, dev,
                           job->x, count, work->numbers);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(dense_inputs, n, HALF_THREADS, 0, dev, job->x, cols, work->x,
                           many_stride(cols), work->numbers);
    return code;
}

/* y of all rows: 1 where cuBLAS fails. */
static int multiply(struct lade_device *dev, const struct dense_work *work,
                    const struct lade_matmul *job, int n, char *err)
{
    const struct gpu_blas *b = dev->blas;
    const struct gpu_matrix w = gpu_matrix_of(job->w);
    const int stride = many_stride(w.cols), most = slab_rows(dev, job->w);
    for (int first = 0; first < w.rows; first += most) {
        const int rows = gpu_min(most, w.rows - first);
        const dim3 blocks(gpu_up(rows, MANY_ROWS), gpu_up(stride, STEPS * MANY_STEP));
        if (gpu_check(dev, "matmul",
                      LADE_LAUNCH(dense_weights, blocks, MANY_THREADS, 0, dev, w, dev->books, first,
                                  rows, work->w, stride),
                      err))
            return -1;
        /* By columns, rows of ours are columns: y^T [rows][n] = W [rows][cols] x^T [cols][n]. */
        if (b->gemm(b->handle, BLAS_TURNED, BLAS_PLAIN, rows, n, stride, &work->numbers->alpha,
                    work->w, BLAS_F16, stride, work->x, BLAS_F16, stride, &work->numbers->beta,
                    job->y + first, BLAS_F32, w.rows, BLAS_SUMS_F32, BLAS_CHOOSES) != BLAS_OK)
            return 1;
    }
    return 0;
}

int gpu_dense(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err)
{
    struct dense_work work;
    struct gpu_carve c = {};
    int cols = 0;
    for (int j = 0; j < n_jobs; j++)
        cols = jobs[j].w->cols > cols ? jobs[j].w->cols : cols;
    carve(&c, &work, (size_t)n, cols);
    if (gpu_carve_commit(dev, &c, err))
        return -1;
    if (dev->blas->set_workspace(dev->blas->handle, work.space, GPU_BLAS_SPACE) != BLAS_OK)
        return 1;
    for (int j = 0; j < n_jobs; j++) {
        const bool same = j && jobs[j].x == jobs[j - 1].x && jobs[j].w->cols == jobs[j - 1].w->cols;
        if (!same && gpu_check(dev, "matmul", make_inputs(dev, &work, &jobs[j], n), err))
            return -1;
        int rc = multiply(dev, &work, &jobs[j], n, err);
        if (rc)
            return rc;
    }
    return 0;
}
