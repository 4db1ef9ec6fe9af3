/* Products of one token: several matrices in one launch. */
#include "kernels/cuda/one.h"
#include "kernels/cuda/products.h"

enum {
    ONE_WARPS = 8,     /* of a block, where that is enough to share out a tile */
    ONE_MOST = 16,     /* otherwise */
    ONE_BLOCKS = 3,    /* of ONE_WARPS on a multiprocessor: bounds the registers */
    ROW_BLOCKS = 2,    /* of those that take whole rows */
    ROW_INPUTS = 2048, /* in shared memory: a pack of bf16, two of f32 */
};

struct one_job {
    struct gpu_matrix w;
    const float *x;
    float *y;
    int first_block, blocks, split; /* split: warps of a tile */
};

struct one_jobs {
    struct one_job job[GPU_JOBS];
    int n;
};

__device__ static inline const struct one_job &find_job(const struct one_jobs &jobs)
{
    int j = jobs.n - 1;
    while (jobs.job[j].first_block > (int)blockIdx.x)
        j--;
    return jobs.job[j];
}

/* WARPS / split tiles a block. */
template <int WARPS, int BLOCKS>
__global__ static void __launch_bounds__(WARPS *GPU_WARP, BLOCKS) one_tiles(struct one_jobs jobs)
{
    __shared__ float sums[WARPS][ONE_ROWS];
    __shared__ __align__(16) float areas[WARPS][one_pack<GPU_Q4>()];
    const struct one_job &job = find_job(jobs);
    const int warp = (int)threadIdx.x / GPU_WARP, groups = WARPS / job.split;
    const int tile0 = ((int)blockIdx.x - job.first_block) * groups;
    const int tile = tile0 + warp / job.split, part = warp % job.split;
    float mine[4] = {0, 0, 0, 0};
    if (job.w.kind == GPU_Q4)
        one_tile<GPU_Q4>(mine, job.w, job.x, areas[warp], tile, part, job.split);
    else
        one_tile<GPU_Q8>(mine, job.w, job.x, areas[warp], tile, part, job.split);
    launch_wait(); /* who had nothing to do */
    one_store(sums[warp], mine);
    __syncthreads();
    const int i = (int)threadIdx.x, row = tile0 * ONE_ROWS + i;
    if (i < groups * ONE_ROWS && row < job.w.rows)
        job.y[row] = one_result(sums + i / ONE_ROWS * job.split, job.split, i % ONE_ROWS);
}

/* A warp takes every so-manieth row; the next weights are on their way while it multiplies. Columns
 * go in stretches of `room`, of which the inputs are in shared memory; a stretch after the first adds
 * to what is in y. */
template <int KIND>
__device__ static inline void multiply_rows(const struct one_job &job, float *area, int room)
{
    const int lane = (int)threadIdx.x % GPU_WARP, span = one_span<KIND>();
    const int step = job.blocks * ONE_WARPS, cols = job.w.cols;
    const int row0 = ((int)blockIdx.x - job.first_block) * ONE_WARPS + (int)threadIdx.x / GPU_WARP;
    uint4 raw[ONE_LOADS];
    one_row_load<KIND>(raw, job.w, row0, 0);
    launch_wait();
    for (int stretch = 0; stretch < cols; stretch += room) {
        const int end = gpu_least(cols, stretch + room);
        int row = row0, from = stretch;
        float sum = 0;
        if (stretch)
            one_row_load<KIND>(raw, job.w, row, from);
        one_row_stage<KIND>(area, room, job.x, stretch, cols);
        while (row < job.w.rows) {
            const bool last = from + span >= end;
            const int next_row = last ? row + step : row, next = last ? stretch : from + span;
            uint4 ahead[ONE_LOADS];
            one_row_load<KIND>(ahead, job.w, next_row, next);
            sum += one_row_multiply<KIND>(raw, area, room, from - stretch);
            if (last) {
                sum = warp_sum(sum);
                if (!lane)
                    job.y[row] = stretch ? job.y[row] + sum : sum;
                sum = 0;
            }
#pragma unroll
            for (int i = 0; i < ONE_LOADS; i++)
                raw[i] = ahead[i];
            row = next_row;
            from = next;
        }
    }
}

__global__ static void __launch_bounds__(ONE_WARPS *GPU_WARP, ROW_BLOCKS)
    one_rows(struct one_jobs jobs)
{
    __shared__ __align__(16) float area[ROW_INPUTS];
    const struct one_job &job = find_job(jobs);
    if (job.w.kind == GPU_BF16)
        multiply_rows<GPU_BF16>(job, area, ROW_INPUTS);
    else
        multiply_rows<GPU_F32>(job, area, ROW_INPUTS);
}

/* ---- launches -------------------------------------------------------------------------------- */

static bool is_tiled(const struct gpu_matrix *m)
{
    return m->kind == GPU_Q4 || m->kind == GPU_Q8;
}

static int split_of(const struct gpu_matrix *m)
{
    int split = 1;
    while (split < ONE_MOST && split * ONE_LOADS < one_runs(*m))
        split *= 2;
    return split;
}

static cudaError_t launch_tiles(struct lade_device *dev, struct one_jobs *jobs)
{
    int warps = ONE_WARPS, blocks = 0;
    for (int j = 0; j < jobs->n; j++) {
        jobs->job[j].split = split_of(&jobs->job[j].w);
        warps = jobs->job[j].split > warps ? ONE_MOST : warps;
    }
    for (int j = 0; j < jobs->n; j++) {
        struct one_job *job = &jobs->job[j];
        job->first_block = blocks;
        job->blocks = gpu_up(job->w.rows, warps / job->split * ONE_ROWS);
        blocks += job->blocks;
    }
    return warps == ONE_WARPS ? LADE_LAUNCH_EARLY((one_tiles<ONE_WARPS, ONE_BLOCKS>), blocks,
                                                  ONE_WARPS * GPU_WARP, 0, dev, *jobs)
                              : LADE_LAUNCH_EARLY((one_tiles<ONE_MOST, 1>), blocks,
                                                  ONE_MOST * GPU_WARP, 0, dev, *jobs);
}

static cudaError_t launch_rows(struct lade_device *dev, struct one_jobs *jobs)
{
    int blocks = 0;
    for (int j = 0; j < jobs->n; j++) {
        struct one_job *job = &jobs->job[j];
        job->first_block = blocks;
        job->blocks = gpu_min(gpu_up(job->w.rows, ONE_WARPS), dev->sms * ROW_BLOCKS);
        blocks += job->blocks;
    }
    return LADE_LAUNCH_EARLY(one_rows, blocks, ONE_WARPS * GPU_WARP, 0, dev, *jobs);
}

int gpu_one(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int token,
            char *err)
{
    for (int tiled = 0; tiled < 2; tiled++)
        for (int j = 0; j < n_jobs;) {
            struct one_jobs batch = {};
            for (; j < n_jobs && batch.n < GPU_JOBS; j++) {
                struct one_job job = {};
                job.w = gpu_matrix_of(jobs[j].w);
                job.x = jobs[j].x + (size_t)token * (size_t)job.w.cols;
                job.y = jobs[j].y + (size_t)token * (size_t)job.w.rows;
                if (job.w.kind != GPU_WIDE && is_tiled(&job.w) == tiled)
                    batch.job[batch.n++] = job;
            }
            if (batch.n &&
                gpu_check(dev, "matmul",
                          tiled ? launch_tiles(dev, &batch) : launch_rows(dev, &batch), err))
                return -1;
        }
    return 0;
}
