/* Products of one token: several matrices in one launch, and the norm before them if there is one. */
#include "kernels/cuda/products.h"
#include "kernels/cuda/run.h"

enum {
    ONE_WARPS = 8,  /* of a block, where that is enough to share out a tile */
    ONE_MOST = 16,  /* otherwise */
    ONE_BLOCKS = 3, /* of ONE_WARPS on a multiprocessor: bounds the registers */
};

/* How a job is done. */
enum way { WAY_ROWS, WAY_TILES, WAY_RUNS, WAYS };

struct one_jobs {
    struct one_job job[GPU_JOBS];
    int n;
    struct one_norm norm; /* of kernels that have one */
};

__device__ static inline const struct one_job &find_job(const struct one_jobs &jobs)
{
    int j = jobs.n - 1;
    while (jobs.job[j].first_block > (int)blockIdx.x)
        j--;
    return jobs.job[j];
}

/* The rows of a block's tiles from the sums of its warps, `split` of which share a tile; with a norm from
 * their sums of squares, too. */
__device__ static inline void write_rows(const struct one_jobs &jobs, const struct one_job &job,
                                         int tile0, int groups, const float (*sums)[ONE_ROWS],
                                         const float *squares)
{
    const int i = (int)threadIdx.x, row = tile0 * ONE_ROWS + i, first = i / ONE_ROWS * job.split;
    if (i >= groups * ONE_ROWS || row >= job.w.rows)
        return;
    const float sum = one_result(sums + first, job.split, i % ONE_ROWS);
    job.y[row] = squares ? sum * one_scale(squares + first, job.split, jobs.norm) : sum;
}

/* WARPS / split tiles a block. */
template <int WARPS, int BLOCKS, bool NORM>
__global__ static void __launch_bounds__(WARPS *GPU_WARP, BLOCKS) tiles(struct one_jobs jobs)
{
    __shared__ float sums[WARPS][ONE_ROWS], squares[WARPS];
    __shared__ __align__(16) float areas[WARPS][one_pack<GPU_Q4>()];
    const struct one_job &job = find_job(jobs);
    const int warp = (int)threadIdx.x / GPU_WARP, groups = WARPS / job.split;
    const int tile0 = ((int)blockIdx.x - job.first_block) * groups;
    const int tile = tile0 + warp / job.split, part = warp % job.split;
    float mine[4] = {0, 0, 0, 0}, square;
    if (job.w.kind == GPU_Q4)
        square = one_tile<GPU_Q4, NORM>(mine, job.w, job.x, areas[warp], tile, part, job.split,
                                        jobs.norm.w);
    else
        square = one_tile<GPU_Q8, NORM>(mine, job.w, job.x, areas[warp], tile, part, job.split,
                                        jobs.norm.w);
    launch_wait(); /* who had nothing to do */
    one_store(sums[warp], mine);
    if constexpr (NORM) {
        square = warp_sum(square);
        if (threadIdx.x % GPU_WARP == 0)
            squares[warp] = square;
    }
    __syncthreads();
    write_rows(jobs, job, tile0, groups, sums, NORM ? squares : nullptr);
}

template <bool NORM>
__global__ static void __launch_bounds__(ROW_WARPS *GPU_WARP, ROW_BLOCKS) rows(struct one_jobs jobs)
{
    __shared__ __align__(16) float area[ROW_INPUTS];
    __shared__ float squares[ROW_WARPS];
    const struct one_job &job = find_job(jobs);
    if (job.w.kind == GPU_BF16)
        one_rows<GPU_BF16, NORM>(job, area, jobs.norm, nullptr, squares);
    else if (job.w.kind == GPU_F16)
        one_rows<GPU_F16, NORM>(job, area, jobs.norm, nullptr, squares);
    else
        one_rows<GPU_F32, NORM>(job, area, jobs.norm, nullptr, squares);
}

/* RUN_WARPS / split tiles a block, `area` bytes of shared memory a warp. */
__global__ static void __launch_bounds__(RUN_WARPS *GPU_WARP, RUN_ON_SM)
    runs(struct one_jobs jobs, const uint16_t *books, int area)
{
    LADE_DYNAMIC_SHARED(unsigned char, areas);
    __shared__ float sums[RUN_WARPS][ONE_ROWS], squares[RUN_WARPS];
    const struct one_job &job = find_job(jobs);
    const int warp = (int)threadIdx.x / GPU_WARP, groups = RUN_WARPS / job.split;
    const int tile0 = ((int)blockIdx.x - job.first_block) * groups;
    const int tile = tile0 + warp / job.split, part = warp % job.split;
    struct run_sums mine = {0, 0};
    if (tile * ONE_ROWS < job.w.rows)
        mine =
            run_any(job.w, books, job.x, jobs.norm.w, tile, part, job.split, areas + warp * area);
    launch_wait(); /* who had nothing to do */
    run_store(sums[warp], mine.products);
    const float square = warp_sum(mine.squares);
    if (threadIdx.x % GPU_WARP == 0)
        squares[warp] = square;
    __syncthreads();
    write_rows(jobs, job, tile0, groups, sums, jobs.norm.w ? squares : nullptr);
}

/* ---- launches -------------------------------------------------------------------------------- */

static enum way way_of(const struct gpu_matrix *m)
{
    switch (m->kind) {
    case GPU_Q4:
    case GPU_Q8:
        return WAY_TILES;
    case GPU_WIDE:
        return WAY_RUNS;
    default:
        return WAY_ROWS;
    }
}

static int split_of(const struct gpu_matrix *m)
{
    int split = 1;
    while (split < ONE_MOST && split * ONE_LOADS < one_runs(*m))
        split *= 2;
    return split;
}

template <bool NORM> static cudaError_t launch_tiles(struct lade_device *dev, struct one_jobs *jobs)
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
    return warps == ONE_WARPS ? LADE_LAUNCH_EARLY((tiles<ONE_WARPS, ONE_BLOCKS, NORM>), blocks,
                                                  ONE_WARPS * GPU_WARP, 0, dev, *jobs)
                              : LADE_LAUNCH_EARLY((tiles<ONE_MOST, 1, NORM>), blocks,
                                                  ONE_MOST * GPU_WARP, 0, dev, *jobs);
}

template <bool NORM> static cudaError_t launch_rows(struct lade_device *dev, struct one_jobs *jobs)
{
    int blocks = 0;
    for (int j = 0; j < jobs->n; j++) {
        struct one_job *job = &jobs->job[j];
        job->first_block = blocks;
        job->blocks = gpu_min(gpu_up(job->w.rows, ROW_WARPS), dev->sms * ROW_BLOCKS);
        blocks += job->blocks;
    }
    return LADE_LAUNCH_EARLY(rows<NORM>, blocks, ROW_WARPS * GPU_WARP, 0, dev, *jobs);
}

static cudaError_t launch_runs(struct lade_device *dev, struct one_jobs *jobs)
{
    int blocks = 0, area = 0;
    for (int j = 0; j < jobs->n; j++) {
        struct one_job *job = &jobs->job[j];
        const int needs = run_area(run_bytes(run_format(job->w)));
        area = needs > area ? needs : area;
        job->split = 1;
        while (job->split < RUN_WARPS && job->split * RUN_DEPTH < run_count(job->w))
            job->split *= 2;
        job->first_block = blocks;
        job->blocks = gpu_up(job->w.rows, RUN_WARPS / job->split * ONE_ROWS);
        blocks += job->blocks;
    }
    return LADE_LAUNCH_EARLY(runs, blocks, RUN_WARPS * GPU_WARP, (size_t)(RUN_WARPS * area), dev,
                             *jobs, dev->books, area);
}

static cudaError_t launch(struct lade_device *dev, struct one_jobs *jobs, enum way way, bool norm)
{
    if (way == WAY_RUNS)
        return launch_runs(dev, jobs);
    if (way == WAY_TILES)
        return norm ? launch_tiles<true>(dev, jobs) : launch_tiles<false>(dev, jobs);
    return norm ? launch_rows<true>(dev, jobs) : launch_rows<false>(dev, jobs);
}

int gpu_one(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int token,
            const struct lade_project *norm, char *err)
{
    for (int way = 0; way < WAYS; way++)
        for (int j = 0; j < n_jobs;) {
            struct one_jobs batch = {};
            if (norm)
                batch.norm = {norm->norm, norm->eps, norm->dim};
            for (; j < n_jobs && batch.n < GPU_JOBS; j++) {
                struct one_job job = {};
                job.w = gpu_matrix_of(jobs[j].w);
                job.x = norm ? norm->x : jobs[j].x + (size_t)token * (size_t)job.w.cols;
                job.y = jobs[j].y + (size_t)token * (size_t)job.w.rows;
                if (way_of(&job.w) == way)
                    batch.job[batch.n++] = job;
            }
            if (batch.n && gpu_check(dev, "matmul", launch(dev, &batch, (enum way)way, norm), err))
                return -1;
        }
    return 0;
}
