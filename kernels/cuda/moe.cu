/* Mixture of experts: all routes of few tokens in two launches.
 *
 * The first launch computes what the experts hold inside, silu(gate x) * up x, for every route and
 * the shared expert as one route more, and multiplies it by the route's weight. The second adds up
 * what the experts' last matrices make of that. The host never learns the routes. */
#include <math.h>

#include "kernels/cuda/moe.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/run.h"
#include "kernels/cuda/sorted.h"

enum {
    MATRIX_WARPS = 4, /* of gate, and of up */
    HIDDEN_WARPS = 2 * MATRIX_WARPS,
    HIDDEN_BLOCKS = 3, /* of a multiprocessor: all 11 x 32 of a token at once */
    DOWN_WARPS = 16,   /* at most, and at least as many threads as ONE_ROWS */
    ALL_MAY = 48 << 10,    /* shared memory that a block has for the asking */
    RUN_SHARED = 96 << 10, /* at most, of run_down() */
    MOST_TOKENS = 64,      /* of one pass: bounds the work space */
};

/* ---- kernels --------------------------------------------------------------------------------- */

enum moe_part { MOE_GATE, MOE_UP, MOE_DOWN };

/* A matrix of the expert of a token's slot; the slot after the routes is the shared one. Its data
 * is NULL where the expert is not here. By value: no address of an argument is taken. */
__device__ static inline struct gpu_matrix moe_matrix(const struct gpu_moe &m, int token, int slot,
                                                      enum moe_part part)
{
    if (slot == m.k)
        return part == MOE_GATE ? m.shared.gate : part == MOE_UP ? m.shared.up : m.shared.down;
    int id = fresh4(m.ids + (size_t)token * (size_t)m.k + (size_t)slot);
    if (id < 0 || id >= m.n_experts)
        return gpu_matrix();
    const struct gpu_expert *e = m.experts + id;
    union {
        uint2 word[sizeof(struct gpu_matrix) / sizeof(uint2)];
        struct gpu_matrix matrix;
    } u;
    const struct gpu_matrix *from = part == MOE_GATE ? &e->gate
                                    : part == MOE_UP ? &e->up
                                                     : &e->down;
#pragma unroll
    for (int i = 0; i < (int)(sizeof u.word / sizeof *u.word); i++)
        u.word[i] = fresh8((const uint2 *)from + i);
    return u.matrix;
}

/* Weight of a slot. All threads must call; every one receives it. */
__device__ static inline float moe_weight(const struct gpu_moe &m, int token, int slot, float *work)
{
    if (slot < m.k)
        return m.weights[(size_t)token * (size_t)m.k + (size_t)slot];
    if (!m.shared_gate)
        return 1;
    const float *x = m.x + (size_t)token * (size_t)m.dim;
    float sum = 0;
    for (int i = (int)threadIdx.x; i < m.dim; i += (int)blockDim.x)
        sum += m.shared_gate[i] * x[i];
    return 1.0f / (1.0f + expf(-block_sum(sum, work)));
}

/* What a tile's rows hold inside, of the sums of `warps` warps that had gate and as many that had up. */
__device__ static inline void hidden_out(const struct gpu_moe &m, const struct gpu_matrix &w,
                                         int token, int slot, const float (*sums)[ONE_ROWS],
                                         int warps, float weight, float *hidden)
{
    const int i = (int)threadIdx.x, row = (int)blockIdx.x * ONE_ROWS + i;
    if (i >= ONE_ROWS || row >= w.rows)
        return;
    const float gate = one_result(sums, warps, i), up = one_result(sums + warps, warps, i);
    const size_t at = ((size_t)token * (size_t)(m.k + 1) + (size_t)slot) * (size_t)m.widest;
    hidden[at + (size_t)row] = gate / (1.0f + expf(-gate)) * up * weight;
}

/* Grid: rows, slots from the last on (the shared one may be the largest), tokens.
 * hidden[token][slot][widest]. Of tiles: warps 0 to 3 multiply gate, 4 to 7 up. The shared expert's
 * weights are known before the routes are. */
__global__ static void __launch_bounds__(HIDDEN_WARPS *GPU_WARP, HIDDEN_BLOCKS)
    moe_hidden(struct gpu_moe m, float *hidden)
{
    __shared__ float sums[HIDDEN_WARPS][ONE_ROWS], work[33];
    __shared__ __align__(16) float areas[HIDDEN_WARPS][one_pack<GPU_Q4>()];
    const int slot = m.k - (int)blockIdx.y, token = (int)blockIdx.z, tile = (int)blockIdx.x;
    const int warp = (int)threadIdx.x / GPU_WARP, part = warp % MATRIX_WARPS;
    if (slot < m.k)
        launch_wait();
    const struct gpu_matrix w = moe_matrix(m, token, slot, warp < MATRIX_WARPS ? MOE_GATE : MOE_UP);
    if (!w.data || tile * ONE_ROWS >= w.rows || !moe_is_tiled(w.kind)) {
        launch_wait();
        return; /* gate and up agree in all of this: the whole block leaves */
    }
    const float *x = m.x + (size_t)token * (size_t)m.dim;
    float mine[4] = {0, 0, 0, 0};
    if (w.kind == GPU_Q4)
        one_tile<GPU_Q4>(mine, w, x, areas[warp], tile, part, MATRIX_WARPS);
    else
        one_tile<GPU_Q8>(mine, w, x, areas[warp], tile, part, MATRIX_WARPS);
    launch_wait(); /* who had nothing to do */
    const float weight = moe_weight(m, token, slot, work);
    one_store(sums[warp], mine);
    __syncthreads();
    hidden_out(m, w, token, slot, sums, MATRIX_WARPS, weight, hidden);
}

/* The same for runs: half of the warps multiply gate, half up. `area`: shared memory of a warp. */
__global__ static void __launch_bounds__(RUN_WARPS *GPU_WARP, RUN_ON_SM)
    run_hidden(struct gpu_moe m, int area, float *hidden)
{
    enum { HALF = RUN_WARPS / 2 };
    LADE_DYNAMIC_SHARED(unsigned char, areas);
    __shared__ float sums[RUN_WARPS][ONE_ROWS], work[33];
    const int slot = m.k - (int)blockIdx.y, token = (int)blockIdx.z, tile = (int)blockIdx.x;
    const int warp = (int)threadIdx.x / GPU_WARP;
    if (slot < m.k)
        launch_wait();
    const struct gpu_matrix w = moe_matrix(m, token, slot, warp < HALF ? MOE_GATE : MOE_UP);
    if (!w.data || tile * ONE_ROWS >= w.rows || moe_is_tiled(w.kind)) {
        launch_wait();
        return; /* the whole block, as above */
    }
    const struct run_sums mine = run_any(w, m.books, m.x + (size_t)token * (size_t)m.dim, nullptr,
                                         tile, warp % HALF, HALF, areas + warp * area);
    const float weight = moe_weight(m, token, slot, work);
    run_store(sums[warp], mine.products);
    __syncthreads();
    hidden_out(m, w, token, slot, sums, HALF, weight, hidden);
}

/* Adds a tile's rows of all warps to y. */
__device__ static inline void down_out(const struct gpu_moe &m, int token,
                                       const float (*sums)[ONE_ROWS], int warps)
{
    const int i = (int)threadIdx.x, row = (int)blockIdx.x * ONE_ROWS + i;
    if (i < ONE_ROWS && row < m.dim)
        m.y[(size_t)token * (size_t)m.dim + (size_t)row] += one_result(sums, warps, i);
}

/* Grid: rows, tokens. A warp takes whole slots, of tiles. Adds to y. What tells the experts was there
 * before moe_hidden began, so their weights may be on their way while that one runs. */
__global__ static void __launch_bounds__(DOWN_WARPS *GPU_WARP, 1)
    moe_down(struct gpu_moe m, const float *hidden)
{
    __shared__ float sums[DOWN_WARPS][ONE_ROWS];
    __shared__ __align__(16) float areas[DOWN_WARPS][one_pack<GPU_Q4>()];
    const int token = (int)blockIdx.y, warps = (int)blockDim.x / GPU_WARP;
    const int warp = (int)threadIdx.x / GPU_WARP, tile = (int)blockIdx.x;
    hidden += (size_t)token * (size_t)(m.k + 1) * (size_t)m.widest;
    float mine[4] = {0, 0, 0, 0};
    for (int slot = m.k - warp; slot >= 0; slot -= warps) {
        const struct gpu_matrix w = moe_matrix(m, token, slot, MOE_DOWN);
        const float *from = hidden + (size_t)slot * (size_t)m.widest;
        if (!w.data || !moe_is_tiled(w.kind))
            continue;
        if (w.kind == GPU_Q4)
            one_tile<GPU_Q4>(mine, w, from, areas[warp], tile, 0, 1);
        else
            one_tile<GPU_Q8>(mine, w, from, areas[warp], tile, 0, 1);
    }
    launch_wait(); /* who had no slot */
    one_store(sums[warp], mine);
    __syncthreads();
    down_out(m, token, sums, warps);
}

/* The same for runs. */
__global__ static void __launch_bounds__(DOWN_WARPS *GPU_WARP, 1)
    run_down(struct gpu_moe m, int area, const float *hidden)
{
    LADE_DYNAMIC_SHARED(unsigned char, areas);
    __shared__ float sums[DOWN_WARPS][ONE_ROWS];
    const int token = (int)blockIdx.y, warps = (int)blockDim.x / GPU_WARP;
    const int warp = (int)threadIdx.x / GPU_WARP, tile = (int)blockIdx.x;
    hidden += (size_t)token * (size_t)(m.k + 1) * (size_t)m.widest;
    float sum = 0;
    for (int slot = m.k - warp; slot >= 0; slot -= warps) {
        const struct gpu_matrix w = moe_matrix(m, token, slot, MOE_DOWN);
        if (w.data && !moe_is_tiled(w.kind))
            sum += run_any(w, m.books, hidden + (size_t)slot * (size_t)m.widest, nullptr, tile, 0,
                           1, areas + warp * area)
                       .products;
    }
    launch_wait(); /* who had no slot */
    run_store(sums[warp], sum);
    __syncthreads();
    down_out(m, token, sums, warps);
}

/* ---- launches -------------------------------------------------------------------------------- */

static bool has_tiled(unsigned kinds)
{
    return kinds & (1u << GPU_Q4 | 1u << GPU_Q8);
}

static bool has_runs(unsigned kinds)
{
    return kinds & ~(1u << GPU_Q4 | 1u << GPU_Q8);
}

/* What the routes' experts hold inside. */
static cudaError_t launch_hidden(struct lade_device *dev, const struct gpu_moe *m, float *hidden)
{
    const int run = run_area(m->run);
    dim3 rows((unsigned)gpu_up(m->widest, ONE_ROWS), (unsigned)m->k + 1, (unsigned)m->n);
    cudaError_t code = cudaSuccess;
    if (has_tiled(m->hidden_kinds))
        code = LADE_LAUNCH_EARLY(moe_hidden, rows, HIDDEN_WARPS * GPU_WARP, 0, dev, *m, hidden);
    if (code == cudaSuccess && has_runs(m->hidden_kinds))
        code = LADE_LAUNCH_EARLY(run_hidden, rows, RUN_WARPS * GPU_WARP, (size_t)(RUN_WARPS * run),
                                 dev, *m, run, hidden);
    return code;
}

/* A warp a slot, where a block may have the shared memory. */
static cudaError_t launch_run_down(struct lade_device *dev, const struct gpu_moe *m, dim3 outs,
                                   const float *hidden)
{
    const int area = run_area(m->run), most = gpu_min((int)dev->shared_max, RUN_SHARED);
    const int warps = gpu_min(gpu_min(m->k + 1, DOWN_WARPS), most / area);
    const size_t shared = (size_t)(warps * area);
    cudaError_t code = cudaSuccess;
    if (shared > ALL_MAY)
        code = cudaFuncSetAttribute((const void *)run_down,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    return code != cudaSuccess
               ? code
               : LADE_LAUNCH_EARLY(run_down, outs, warps * GPU_WARP, shared, dev, *m, area, hidden);
}

static cudaError_t launch_down(struct lade_device *dev, const struct gpu_moe *m,
                               const float *hidden)
{
    const int warps = gpu_min(m->k + 1, DOWN_WARPS);
    dim3 outs((unsigned)gpu_up(m->dim, ONE_ROWS), (unsigned)m->n);
    cudaError_t code = cudaSuccess;
    if (has_tiled(m->down_kinds))
        code = LADE_LAUNCH_EARLY(moe_down, outs, warps * GPU_WARP, 0, dev, *m, hidden);
    if (code == cudaSuccess && has_runs(m->down_kinds))
        code = launch_run_down(dev, m, outs, hidden);
    return code;
}

static int launch_pass(struct lade_device *dev, const struct gpu_moe *m, float *hidden, char *err)
{
    cudaError_t code = launch_hidden(dev, m, hidden);
    if (code == cudaSuccess)
        code = launch_down(dev, m, hidden);
    return gpu_check(dev, "moe", code, err);
}

static void carve_few(struct gpu_carve *c, float **hidden, int n, int k, int widest)
{
    gpu_carve_add(c, hidden, (size_t)gpu_min(n, MOST_TOKENS) * (size_t)(k + 1),
                  (size_t)widest * sizeof **hidden);
}

static int run_few(struct lade_device *dev, const struct gpu_moe *m, char *err)
{
    float *hidden;
    struct gpu_carve c = {};
    carve_few(&c, &hidden, m->n, m->k, m->widest);
    if (gpu_carve_commit(dev, &c, err))
        return -1;
    for (int first = 0; first < m->n; first += MOST_TOKENS) {
        struct gpu_moe part = *m;
        part.n = gpu_min(MOST_TOKENS, m->n - first);
        part.x += (size_t)first * (size_t)m->dim;
        part.ids += (size_t)first * (size_t)m->k;
        part.weights += (size_t)first * (size_t)m->k;
        part.y += (size_t)first * (size_t)m->dim;
        if (launch_pass(dev, &part, hidden, err))
            return -1;
    }
    return 0;
}

size_t gpu_moe_work(const struct lade_limits *l)
{
    float *hidden;
    struct gpu_carve c = {};
    carve_few(&c, &hidden, l->batch, l->experts_used, l->expert_rows);
    size_t few = gpu_carve_bytes(&c), sorted = gpu_sorted_work(l);
    return few > sorted ? few : sorted;
}

int gpu_moe(struct lade_device *dev, const struct lade_moe *op, char *err)
{
    if (gpu_table(dev, op->experts, op->n_experts, op->version, err))
        return -1;
    struct gpu_moe m = {};
    m.n = op->n;
    m.dim = op->dim;
    m.k = op->k;
    m.n_experts = op->n_experts;
    m.x = op->x;
    m.ids = op->ids;
    m.weights = op->weights;
    m.shared_gate = op->shared_gate;
    m.y = op->y;
    m.books = dev->books;
    const struct gpu_table *t = gpu_find_table(dev, op->experts);
    if (t) {
        m.experts = t->card;
        m.widest = t->widest;
        m.hidden_kinds = t->hidden_kinds;
        m.down_kinds = t->down_kinds;
        m.run = t->run;
    }
    if (op->shared && op->shared->gate.data) {
        if (gpu_check_expert(op->shared, op->dim, err))
            return -1;
        m.shared = gpu_expert_of(op->shared);
        m.widest = m.shared.gate.rows > m.widest ? m.shared.gate.rows : m.widest;
        m.hidden_kinds |= 1u << m.shared.gate.kind;
        m.down_kinds |= 1u << m.shared.down.kind;
        const int run = gpu_expert_run(&m.shared);
        m.run = run > m.run ? run : m.run;
    }
    if (m.n < 1 || !m.hidden_kinds)
        return 0;
    return !dev->exact && m.n >= GPU_SORTED ? gpu_sorted(dev, &m, err) : run_few(dev, &m, err);
}
