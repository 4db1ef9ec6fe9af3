/* Products of one to eight tokens, several matrices in one launch. */
#include "kernels/cuda/few.h"
#include "kernels/cuda/products.h"

/* Blocks find their job by number. Rows of one block: 16 * TILES for each of the 8 / split groups
 * of warps; the warps of a group split the inputs. */
struct few_job {
    struct gpu_matrix w;
    const float *x;
    float *y;
    int first_block, split;
};

struct few_jobs {
    struct few_job job[GPU_JOBS];
    int n_jobs, n, stage; /* tokens; inputs staged at once */
};

template <int TILES, int SETS>
__device__ static inline void few_write(const struct few_job &job, int row0, int n,
                                        const struct few_sums<TILES, SETS> &sums, float *work)
{
    const int warp = (int)threadIdx.x / GPU_WARP, groups = FEW_WARPS / job.split;
    few_store<TILES, SETS>(work + warp * (16 * TILES * 8 * SETS), sums);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < groups * 16 * TILES * n; i += FEW_THREADS) {
        int in_group = i % (16 * TILES), group = i / (16 * TILES) % groups;
        int token = i / (16 * TILES) / groups, row = row0 + group * 16 * TILES + in_group;
        if (row < job.w.rows)
            job.y[(size_t)token * (size_t)job.w.rows + (size_t)row] = few_result<TILES, SETS>(
                work + group * job.split * (16 * TILES * 8 * SETS), job.split, in_group, token);
    }
}

template <int KIND, int TILES, int SETS>
__device__ static inline void few_block(const struct few_jobs &jobs, const struct few_job &job,
                                        const uint16_t *books, float *work, char *xs)
{
    const int warp = (int)threadIdx.x / GPU_WARP, groups = FEW_WARPS / job.split;
    const int block_row = ((int)blockIdx.x - job.first_block) * groups * 16 * TILES;
    const int per = few_batch_steps(job.w), steps = (job.w.cols - 1) / FEW_STEP + 1;
    const int all = (steps - 1) / per + 1, per_stage = jobs.stage / FEW_STEP / per;
    struct few_range range = {block_row + warp / job.split * 16 * TILES, warp % job.split,
                              gpu_least(per_stage, all), job.split, 0};
    struct few_sums<TILES, SETS> sums = {
    };
    struct few_raw<KIND, TILES> raw = {
    };
    few_begin(raw, job.w, range); /* on the way while the inputs are staged */
    for (int done = 0; done < all; done += per_stage) {
        int from = done * per * FEW_STEP, inputs = gpu_least(jobs.stage, steps * FEW_STEP - from);
        if (done) {
            __syncthreads();
            range.first = done + warp % job.split;
            range.last = gpu_least(done + per_stage, all);
            range.stage_step = done * per;
            few_begin(raw, job.w, range);
        }
        few_stage(xs, job.x, jobs.n, job.w.cols, from, inputs);
        __syncthreads();
        few_run(sums, raw, job.w, books, range, xs, few_stride(inputs), jobs.n * FEW_PARTS);
    }
    few_write(job, block_row, jobs.n, sums, work);
}

template <int TILES, int SETS, bool WIDE>
__global__ static void __launch_bounds__(FEW_THREADS, 2)
    few_products(struct few_jobs jobs, const uint16_t *books)
{
    __shared__ float work[FEW_WARPS * 16 * TILES * 8 * SETS];
    LADE_DYNAMIC_SHARED(char, xs);
    int j = jobs.n_jobs - 1;
    while (jobs.job[j].first_block > (int)blockIdx.x)
        j--;
    const struct few_job &job = jobs.job[j];
    if (WIDE)
        few_block<GPU_WIDE, TILES, SETS>(jobs, job, books, work, xs);
    else if (job.w.kind == GPU_Q4)
        few_block<GPU_Q4, TILES, SETS>(jobs, job, books, work, xs);
    else if (job.w.kind == GPU_Q8)
        few_block<GPU_Q8, TILES, SETS>(jobs, job, books, work, xs);
    else
        few_block<GPU_BF16, TILES, SETS>(jobs, job, books, work, xs);
}

/* ---- launches -------------------------------------------------------------------------------- */

enum { STAGE_BYTES = 32 << 10, MOST_TOKENS = 8 };

/* Inputs that may be staged at once for n tokens. */
static int stage_inputs(int n)
{
    return STAGE_BYTES / 2 / FEW_PARTS / n / FEW_STAGE * FEW_STAGE;
}

static int split_of(const struct gpu_matrix *w)
{
    int batches = (w->cols - 1) / FEW_STEP / few_batch_steps(*w) + 1, split = FEW_WARPS;
    while (split > batches)
        split /= 2;
    return split;
}

/* Numbers the blocks; how many there are. */
static int number_blocks(struct few_jobs *jobs, int tiles)
{
    int blocks = 0;
    for (int j = 0; j < jobs->n_jobs; j++) {
        jobs->job[j].first_block = blocks;
        blocks += gpu_up(jobs->job[j].w.rows, FEW_WARPS / jobs->job[j].split * 16 * tiles);
    }
    return blocks;
}

static cudaError_t launch_few(struct lade_device *dev, struct few_jobs *jobs, bool wide)
{
    int widest = 0, n = jobs->n;
    for (int j = 0; j < jobs->n_jobs; j++)
        widest = jobs->job[j].w.cols > widest ? jobs->job[j].w.cols : widest;
    jobs->stage = gpu_min(stage_inputs(n), gpu_up(widest, FEW_STAGE) * FEW_STAGE);
    /* A full stage has the longest columns but for the padding of a shorter last one. */
    size_t shared = (size_t)(n * FEW_PARTS) * (size_t)(jobs->stage * 2 + 64);
    bool one_set = n * FEW_PARTS <= 8;
    /* Two tiles a warp load 16 bytes a lane; one tile gives twice the blocks. */
    bool two_tiles = one_set && !wide && number_blocks(jobs, 2) >= 2 * dev->sms;
    int blocks = number_blocks(jobs, two_tiles ? 2 : 1);
    cudaStream_t s = dev->compute;
    if (wide && one_set)
        return LADE_LAUNCH((few_products<1, 1, true>), blocks, FEW_THREADS, shared, s, *jobs,
                           dev->books);
    if (wide)
        return LADE_LAUNCH((few_products<1, 3, true>), blocks, FEW_THREADS, shared, s, *jobs,
                           dev->books);
    if (two_tiles)
        return LADE_LAUNCH((few_products<2, 1, false>), blocks, FEW_THREADS, shared, s, *jobs,
                           dev->books);
    if (one_set)
        return LADE_LAUNCH((few_products<1, 1, false>), blocks, FEW_THREADS, shared, s, *jobs,
                           dev->books);
    return LADE_LAUNCH((few_products<1, 3, false>), blocks, FEW_THREADS, shared, s, *jobs,
                       dev->books);
}

/* At most MOST_TOKENS tokens. */
static int few_pass(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int first,
                    int n, char *err)
{
    for (int wide = 0; wide < 2; wide++) {
        for (int j = 0; j < n_jobs;) {
            struct few_jobs batch = {};
            batch.n = n;
            for (; j < n_jobs && batch.n_jobs < GPU_JOBS; j++) {
                const struct lade_matrix *w = jobs[j].w;
                struct few_job job = {};
                job.w = gpu_matrix_of(w);
                if ((job.w.kind == GPU_WIDE) != wide)
                    continue;
                job.x = jobs[j].x + (size_t)first * (size_t)w->cols;
                job.y = jobs[j].y + (size_t)first * (size_t)w->rows;
                job.split = split_of(&job.w);
                batch.job[batch.n_jobs++] = job;
            }
            if (batch.n_jobs && gpu_check(dev, "matmul", launch_few(dev, &batch, wide), err))
                return -1;
        }
    }
    return 0;
}

int gpu_few(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n, char *err)
{
    for (int first = 0; first < n; first += MOST_TOKENS)
        if (few_pass(dev, jobs, n_jobs, first, gpu_min(MOST_TOKENS, n - first), err))
            return -1;
    return 0;
}
