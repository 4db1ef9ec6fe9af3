/* Products of two to eight tokens; several matrices in one launch. */
#include "kernels/cuda/few.h"
#include "kernels/cuda/products.h"

enum { FEW_WARPS = 8, MOST_WARPS = 16, MOST_TOKENS = 8, SHARED_BYTES = 40 << 10 };

/* Blocks find their job by number. Rows of one block: 16 for each group of `split` warps, which
 * share out the inputs. */
struct few_job {
    struct gpu_matrix w;
    const float *x;
    float *y;
    int first_block, split, span; /* batches of a warp whose inputs are staged at once */
};

struct few_jobs {
    struct few_job job[GPU_JOBS];
    int n_jobs, n, area; /* tokens; shared memory of a warp */
};

template <int KIND, int SETS>
__device__ static inline void few_block(const struct few_jobs &jobs, const struct few_job &job,
                                        const uint16_t *books, char *areas)
{
    const int warp = (int)threadIdx.x / GPU_WARP, warps = (int)blockDim.x / GPU_WARP;
    const int groups = warps / job.split, first_row = ((int)blockIdx.x - job.first_block) * groups;
    struct few_source source = {few_view_of(job.w),
                                job.w,
                                books,
                                job.x,
                                jobs.n,
                                (first_row + warp / job.split) * FEW_ROWS,
                                warp % job.split,
                                job.split,
                                0};
    source.mine = (source.v.batches - source.first + job.split - 1) / job.split;
    char *area = areas + warp * jobs.area;
    struct few_sums<SETS> sums = {
    };
    struct few_raw<KIND> raw[few_raw<KIND>::AHEAD];
    few_begin<KIND>(raw, source);
    launch_wait();
    few_run<KIND, SETS>(sums, raw, source, area, job.span);
    few_store<SETS>(area, sums);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < groups * FEW_ROWS * jobs.n; i += (int)blockDim.x) {
        const int row = i % (groups * FEW_ROWS), token = i / (groups * FEW_ROWS);
        const int group = row / FEW_ROWS, at = first_row * FEW_ROWS + row;
        if (at >= job.w.rows)
            continue;
        job.y[(size_t)token * (size_t)job.w.rows + (size_t)at] =
            few_result<SETS>(areas + group * job.split * jobs.area, jobs.area, job.split,
                             row % FEW_ROWS, token);
    }
}

/* The job that this block works for. */
__device__ static inline const struct few_job &find_job(const struct few_jobs &jobs)
{
    int j = jobs.n_jobs - 1;
    while (jobs.job[j].first_block > (int)blockIdx.x)
        j--;
    return jobs.job[j];
}

template <int SETS, bool WIDE>
__global__ static void __launch_bounds__(MOST_WARPS *GPU_WARP)
    few_products(struct few_jobs jobs, const uint16_t *books)
{
    LADE_DYNAMIC_SHARED(char, areas);
    const struct few_job &job = find_job(jobs);
    if (WIDE)
        few_block<GPU_WIDE, SETS>(jobs, job, books, areas);
    else if (job.w.kind == GPU_Q4)
        few_block<GPU_Q4, SETS>(jobs, job, books, areas);
    else if (job.w.kind == GPU_Q8)
        few_block<GPU_Q8, SETS>(jobs, job, books, areas);
    else if (job.w.kind == GPU_BF16)
        few_block<GPU_BF16, SETS>(jobs, job, books, areas);
    else
        few_block<GPU_F32, SETS>(jobs, job, books, areas);
}

/* ---- launches -------------------------------------------------------------------------------- */

/* Gives every job its blocks, and a share of its inputs to stage at once; the blocks. */
static int plan_jobs(struct few_jobs *jobs, int warps, int sets)
{
    int blocks = 0;
    jobs->area = 0;
    for (int j = 0; j < jobs->n_jobs; j++) {
        struct few_job *job = &jobs->job[j];
        const int batches = few_batches(job->w), per = few_batch_steps(job->w);
        job->split = warps;
        while (job->split > batches)
            job->split /= 2;
        job->span = gpu_up(batches, job->split);
        while (job->span > 1 && few_area(jobs->n, job->span, per, sets) > SHARED_BYTES / warps)
            job->span--;
        const int area = few_area(jobs->n, job->span, per, sets);
        jobs->area = area > jobs->area ? area : jobs->area;
        job->first_block = blocks;
        blocks += gpu_up(job->w.rows, warps / job->split * FEW_ROWS);
    }
    return blocks;
}

static bool is_wide(int kind)
{
    return kind == GPU_F16 || kind == GPU_WIDE;
}

static cudaError_t launch_few(struct lade_device *dev, struct few_jobs *jobs, bool wide)
{
    const int sets = jobs->n * FEW_PARTS <= 8 ? 1 : 3;
    int warps = FEW_WARPS, blocks = plan_jobs(jobs, warps, sets);
    if (blocks < dev->sms * 3 / 2) /* too few blocks: more warps in each */
        blocks = plan_jobs(jobs, warps = MOST_WARPS, sets);
    while (warps > 1 && warps * jobs->area > SHARED_BYTES) /* many tokens */
        blocks = plan_jobs(jobs, warps /= 2, sets);
    const size_t shared = (size_t)(warps * jobs->area);
    const int threads = warps * GPU_WARP;
    if (wide && sets == 1)
        return LADE_LAUNCH_EARLY((few_products<1, true>), blocks, threads, shared, dev, *jobs,
                                 dev->books);
    if (wide)
        return LADE_LAUNCH_EARLY((few_products<3, true>), blocks, threads, shared, dev, *jobs,
                                 dev->books);
    if (sets == 1)
        return LADE_LAUNCH_EARLY((few_products<1, false>), blocks, threads, shared, dev, *jobs,
                                 dev->books);
    return LADE_LAUNCH_EARLY((few_products<3, false>), blocks, threads, shared, dev, *jobs,
                             dev->books);
}

/* Two to MOST_TOKENS tokens. */
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
                if (is_wide(job.w.kind) != wide)
                    continue; /* the other turn's */
                job.x = jobs[j].x + (size_t)first * (size_t)w->cols;
                job.y = jobs[j].y + (size_t)first * (size_t)w->rows;
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
    for (int first = 0; first < n; first += MOST_TOKENS) {
        const int count = gpu_min(MOST_TOKENS, n - first);
        if (count == 1 ? gpu_one(dev, jobs, n_jobs, first, NULL, err)
                       : few_pass(dev, jobs, n_jobs, first, count, err))
            return -1;
    }
    return 0;
}
