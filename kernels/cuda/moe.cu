/* Mixture of experts: tables on the card, and all routes of few tokens in two launches.
 *
 * The first launch computes what the experts hold inside, silu(gate x) * up x, for every route and
 * the shared expert as one route more, and multiplies it by the route's weight. The second adds up
 * what the experts' last matrices make of that. The host never learns the routes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/few.h"
#include "kernels/cuda/moe.h"
#include "kernels/cuda/sorted.h"

enum {
    MATRIX_WARPS = FEW_WARPS / 2, /* of gate, and of up */
    HIDDEN_TILES = 2,
    HIDDEN_ROWS = 16 * HIDDEN_TILES,
    DOWN_WARPS = 16,
    DOWN_THREADS = DOWN_WARPS * GPU_WARP,
    DOWN_ROWS = 16,
    STAGE_BYTES = 36 << 10,
    MOST_TOKENS = 64, /* of one pass: bounds the work space */
};

/* ---- tables ---------------------------------------------------------------------------------- */

static int check_expert(const struct lade_expert *e, int dim, char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(&e->gate, &l))
        return gpu_bad_matrix("moe gate", &e->gate, err);
    if (lade_matrix_layout(&e->up, &l))
        return gpu_bad_matrix("moe up", &e->up, err);
    if (lade_matrix_layout(&e->down, &l))
        return gpu_bad_matrix("moe down", &e->down, err);
    if (e->up.cols != e->gate.cols || e->down.rows != e->gate.cols || e->up.rows != e->gate.rows ||
        e->down.cols != e->gate.rows || (dim && e->gate.cols != dim))
        return lade_fail(err,
                         "moe: gate %d x %d, up %d x %d, down %d x %d do not fit; check the "
                         "checkpoint",
                         e->gate.rows, e->gate.cols, e->up.rows, e->up.cols, e->down.rows,
                         e->down.cols);
    return 0;
}

static struct gpu_expert expert_of(const struct lade_expert *e)
{
    struct gpu_expert g = {gpu_matrix_of(&e->gate), gpu_matrix_of(&e->up), gpu_matrix_of(&e->down)};
    if (g.gate.kind != g.up.kind)
        g.gate.kind = g.up.kind = GPU_WIDE;
    return g;
}

static struct gpu_table *find_table(struct lade_device *dev, const struct lade_expert *experts)
{
    struct gpu_table *t = dev->tables;
    while (t && t->host != experts)
        t = t->next;
    return t;
}

/* A table with room for n experts; recordings keep its address as long as n does not grow. */
static struct gpu_table *make_table(struct lade_device *dev, const struct lade_expert *experts,
                                    int n, char *err)
{
    struct gpu_table *t = find_table(dev, experts);
    if (t && t->capacity >= n)
        return t;
    void *card;
    if (gpu_alloc(dev, &card, (size_t)n * sizeof *t->card, err))
        return NULL;
    if (!t) {
        t = (struct gpu_table *)calloc(1, sizeof *t);
        if (!t) {
            gpu_free(dev, card);
            lade_set_error(err, "GPU %d: out of memory; close other programs", dev->gpu);
            return NULL;
        }
        t->host = experts;
        t->next = dev->tables;
        dev->tables = t;
    } else if (gpu_sync(dev, err)) { /* queued work may use the old one */
        gpu_free(dev, card);
        return NULL;
    }
    gpu_free(dev, t->card);
    t->card = (struct gpu_expert *)card;
    t->capacity = n;
    t->n = 0; /* holds nothing yet */
    return t;
}

static int fill_table(struct lade_device *dev, struct gpu_table *t,
                      const struct lade_expert *experts, int n, char *err)
{
    struct gpu_expert *all = (struct gpu_expert *)calloc((size_t)n, sizeof *all);
    if (!all)
        return lade_fail(err, "GPU %d: out of memory; close other programs", dev->gpu);
    t->n = t->widest = 0;
    t->hidden_kinds = t->down_kinds = 0;
    int dim = 0, failed = 0;
    for (int i = 0; i < n && !failed; i++) {
        if (!experts[i].gate.data && experts[i].gate.rows < 1)
            continue; /* not here, and never to be */
        failed = check_expert(&experts[i], dim, err);
        dim = experts[i].gate.cols;
        all[i] = expert_of(&experts[i]);
        if (!experts[i].gate.data)
            all[i].gate.data = all[i].up.data = all[i].down.data = NULL;
        t->widest = all[i].gate.rows > t->widest ? all[i].gate.rows : t->widest;
        t->hidden_kinds |= 1u << all[i].gate.kind;
        t->down_kinds |= 1u << all[i].down.kind;
    }
    failed = failed || gpu_upload(dev, t->card, all, (size_t)n * sizeof *all, err);
    free(all);
    if (failed)
        return -1;
    t->n = n;
    return 0;
}

int gpu_table(struct lade_device *dev, const struct lade_expert *experts, int n_experts,
              uint64_t version, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (n_experts < 1)
        return 0;
    struct gpu_table *t = find_table(dev, experts);
    if (t && t->n == n_experts && (t->version == version || dev->recording))
        return 0;
    if (dev->recording)
        return lade_fail(err,
                         "moe: the table of experts was never copied to GPU %d before a "
                         "recording; report this",
                         dev->gpu);
    t = make_table(dev, experts, n_experts, err);
    if (!t || fill_table(dev, t, experts, n_experts, err))
        return -1;
    t->version = version;
    return 0;
}

void gpu_tables_close(struct lade_device *dev)
{
    while (dev->tables) {
        struct gpu_table *t = dev->tables;
        dev->tables = t->next;
        gpu_free(dev, t->card);
        free(t);
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

enum moe_part { MOE_GATE, MOE_UP, MOE_DOWN };

/* A matrix of the expert of a token's slot; the slot after the routes is the shared one. Its data
 * is NULL where the expert is not here. By value: no address of an argument is taken. */
__device__ static inline struct gpu_matrix moe_matrix(const struct gpu_moe &m, int token, int slot,
                                                      enum moe_part part)
{
    if (slot == m.k)
        return part == MOE_GATE ? m.shared.gate : part == MOE_UP ? m.shared.up : m.shared.down;
    int id = m.ids[(size_t)token * (size_t)m.k + (size_t)slot];
    if (id < 0 || id >= m.n_experts)
        return gpu_matrix();
    const struct gpu_expert *e = m.experts + id;
    return part == MOE_GATE ? e->gate : part == MOE_UP ? e->up : e->down;
}

__device__ static inline float moe_weight(const struct gpu_moe &m, int token, int slot,
                                          const float *x, float *work)
{
    if (slot < m.k)
        return m.weights[(size_t)token * (size_t)m.k + (size_t)slot];
    if (!m.shared_gate)
        return 1;
    float sum = 0;
    for (int i = (int)threadIdx.x; i < m.dim; i += (int)blockDim.x)
        sum += m.shared_gate[i] * x[i];
    return 1.0f / (1.0f + expf(-block_sum(sum, work)));
}

/* Warps 0 to 3 multiply gate, 4 to 7 up; each quarter of a matrix's inputs. */
template <int KIND>
__device__ static inline void moe_hidden_block(const struct gpu_moe &m, const struct gpu_matrix &w,
                                               int token, int slot, int stage, float *hidden,
                                               float *work, char *xs)
{
    __shared__ float sum_work[33];
    const int warp = (int)threadIdx.x / GPU_WARP, quarter = warp % MATRIX_WARPS;
    const int row0 = (int)blockIdx.x * HIDDEN_ROWS, per = few_batch_steps(w);
    const int steps = (w.cols - 1) / FEW_STEP + 1, all = (steps - 1) / per + 1;
    const float *x = m.x + (size_t)token * (size_t)m.dim;
    struct few_sums<HIDDEN_TILES, 1> sums = {
    };
    struct few_raw<KIND, HIDDEN_TILES> raw = {
    };
    float weight = 0;
    for (int from = 0; from < steps * FEW_STEP; from += stage) {
        int inputs = gpu_least(stage, steps * FEW_STEP - from);
        int done = from / FEW_STEP / per;
        struct few_range range = {row0, done + quarter,
                                  gpu_least(all, done + stage / FEW_STEP / per), MATRIX_WARPS,
                                  from / FEW_STEP};
        few_begin(raw, w, range);
        if (!from)
            weight = moe_weight(m, token, slot, x, sum_work);
        else
            __syncthreads();
        few_stage(xs, x, 1, m.dim, from, inputs);
        __syncthreads();
        few_run(sums, raw, w, m.books, range, xs, few_stride(inputs), FEW_PARTS);
    }
    few_store<HIDDEN_TILES, 1>(work + warp * (HIDDEN_ROWS * 8), sums);
    __syncthreads();
    const int row = (int)threadIdx.x;
    if (row >= HIDDEN_ROWS || row0 + row >= w.rows)
        return;
    float gate = few_result<HIDDEN_TILES, 1>(work, MATRIX_WARPS, row, 0);
    float up =
        few_result<HIDDEN_TILES, 1>(work + MATRIX_WARPS * HIDDEN_ROWS * 8, MATRIX_WARPS, row, 0);
    size_t at = ((size_t)token * (size_t)(m.k + 1) + (size_t)slot) * (size_t)m.widest;
    hidden[at + (size_t)(row0 + row)] = gate / (1.0f + expf(-gate)) * up * weight;
}

/* Grid: rows, slots, tokens. hidden[token][slot][widest]. */
template <bool WIDE>
__global__ static void __launch_bounds__(FEW_THREADS, 2)
    moe_hidden(struct gpu_moe m, int stage, float *hidden)
{
    __shared__ float work[FEW_WARPS * HIDDEN_ROWS * 8];
    LADE_DYNAMIC_SHARED(char, xs);
    const int slot = (int)blockIdx.y, token = (int)blockIdx.z;
    const enum moe_part part = (int)threadIdx.x < FEW_THREADS / 2 ? MOE_GATE : MOE_UP;
    const struct gpu_matrix w = moe_matrix(m, token, slot, part);
    if (!w.data || (int)blockIdx.x * HIDDEN_ROWS >= w.rows || (w.kind == GPU_WIDE) != WIDE)
        return; /* gate and up agree in all of this: the whole block leaves */
    if (WIDE)
        moe_hidden_block<GPU_WIDE>(m, w, token, slot, stage, hidden, work, xs);
    else if (w.kind == GPU_Q4)
        moe_hidden_block<GPU_Q4>(m, w, token, slot, stage, hidden, work, xs);
    else if (w.kind == GPU_Q8)
        moe_hidden_block<GPU_Q8>(m, w, token, slot, stage, hidden, work, xs);
    else
        moe_hidden_block<GPU_BF16>(m, w, token, slot, stage, hidden, work, xs);
}

/* Some slots' hidden values in shared memory: from slot `first`, inputs from `from`. */
struct down_pass {
    int first, slots, from, inputs;
};

/* Unit u of a pass: slot and batch, counted slot by slot. */
template <int KIND>
__device__ static inline void down_units(struct few_sums<1, 1> &sums, const struct gpu_moe &m,
                                         const struct gpu_matrix *down, const struct down_pass &p,
                                         const char *xs)
{
    const int warp = (int)threadIdx.x / GPU_WARP, stride = few_stride(p.inputs);
    int before = 0; /* units of the slots before */
    for (int i = 0; i < p.slots; i++) {
        const struct gpu_matrix &w = down[p.first + i];
        if (!w.data || w.kind != KIND || w.cols <= p.from)
            continue;
        const int per = few_batch_steps(w), all = ((w.cols - 1) / FEW_STEP + per) / per;
        const int done = p.from / FEW_STEP / per;
        const int last = gpu_least(all, (p.from + p.inputs) / FEW_STEP / per +
                                            ((p.from + p.inputs) / FEW_STEP % per != 0));
        const int start = (warp + DOWN_WARPS - before % DOWN_WARPS) % DOWN_WARPS;
        struct few_range range = {(int)blockIdx.x * DOWN_ROWS, done + start, last, DOWN_WARPS,
                                  p.from / FEW_STEP};
        struct few_raw<KIND, 1> raw = {
        };
        few_begin(raw, w, range);
        few_run(sums, raw, w, m.books, range, xs + (size_t)(i * FEW_PARTS) * (size_t)stride, stride,
                FEW_PARTS);
        before += last - done;
    }
}

/* Grid: rows, tokens. Adds to y. */
template <bool WIDE>
__global__ static void __launch_bounds__(DOWN_THREADS)
    moe_down(struct gpu_moe m, int stage, const float *hidden)
{
    enum { SLOTS = 33 };
    __shared__ float work[DOWN_WARPS * DOWN_ROWS * 8];
    __shared__ struct gpu_matrix down[SLOTS];
    LADE_DYNAMIC_SHARED(char, xs);
    const int token = (int)blockIdx.y, at_once = STAGE_BYTES / FEW_PARTS / few_stride(stage);
    struct few_sums<1, 1> sums = {
    };
    for (int slot0 = 0; slot0 <= m.k; slot0 += at_once < SLOTS ? at_once : SLOTS) {
        struct down_pass p = {0, gpu_least(gpu_least(at_once, SLOTS), m.k + 1 - slot0), 0, 0};
        __syncthreads();
        for (int i = (int)threadIdx.x; i < p.slots; i += DOWN_THREADS)
            down[i] = moe_matrix(m, token, slot0 + i, MOE_DOWN);
        for (p.from = 0; p.from < m.widest; p.from += stage) {
            p.inputs = gpu_least(stage, (m.widest - p.from + FEW_STEP - 1) / FEW_STEP * FEW_STEP);
            __syncthreads();
            for (int i = 0; i < p.slots; i++) {
                size_t at =
                    ((size_t)token * (size_t)(m.k + 1) + (size_t)(slot0 + i)) * (size_t)m.widest;
                if (down[i].data)
                    few_stage(xs + (size_t)(i * FEW_PARTS) * (size_t)few_stride(p.inputs),
                              hidden + at, 1, down[i].cols, p.from, p.inputs);
            }
            __syncthreads();
            if (WIDE) {
                down_units<GPU_WIDE>(sums, m, down, p, xs);
                continue;
            }
            down_units<GPU_Q4>(sums, m, down, p, xs);
            down_units<GPU_Q8>(sums, m, down, p, xs);
            down_units<GPU_BF16>(sums, m, down, p, xs);
        }
    }
    few_store<1, 1>(work + (int)threadIdx.x / GPU_WARP * (DOWN_ROWS * 8), sums);
    __syncthreads();
    const int row = (int)blockIdx.x * DOWN_ROWS + (int)threadIdx.x;
    if ((int)threadIdx.x < DOWN_ROWS && row < m.dim)
        m.y[(size_t)token * (size_t)m.dim + (size_t)row] +=
            few_result<1, 1>(work, DOWN_WARPS, (int)threadIdx.x, 0);
}

/* ---- launches -------------------------------------------------------------------------------- */

/* Inputs staged at once: those of one slot, if they fit. */
static int stage_for(int inputs)
{
    int most = STAGE_BYTES / FEW_PARTS / 2 / FEW_STAGE * FEW_STAGE, need = gpu_up(inputs, FEW_STEP);
    return gpu_min(most, need * FEW_STEP);
}

static int launch_pass(struct lade_device *dev, const struct gpu_moe *m, float *hidden, char *err)
{
    const unsigned wide = 1u << GPU_WIDE;
    cudaStream_t s = dev->compute;
    int in = stage_for(m->dim), inside = stage_for(m->widest);
    size_t in_bytes = (size_t)(FEW_PARTS * (in * 2 + 64));
    int slots = STAGE_BYTES / FEW_PARTS / few_stride(inside);
    slots = gpu_min(slots, m->k + 1);
    size_t inside_bytes = (size_t)(slots * FEW_PARTS * few_stride(inside));
    dim3 rows((unsigned)gpu_up(m->widest, HIDDEN_ROWS), (unsigned)m->k + 1, (unsigned)m->n);
    dim3 outs((unsigned)gpu_up(m->dim, DOWN_ROWS), (unsigned)m->n);
    cudaError_t code = cudaSuccess;
    if (m->hidden_kinds & ~wide)
        code = LADE_LAUNCH(moe_hidden<false>, rows, FEW_THREADS, in_bytes, s, *m, in, hidden);
    if (code == cudaSuccess && m->hidden_kinds & wide)
        code = LADE_LAUNCH(moe_hidden<true>, rows, FEW_THREADS, in_bytes, s, *m, in, hidden);
    if (code == cudaSuccess && m->down_kinds & ~wide)
        code =
            LADE_LAUNCH(moe_down<false>, outs, DOWN_THREADS, inside_bytes, s, *m, inside, hidden);
    if (code == cudaSuccess && m->down_kinds & wide)
        code = LADE_LAUNCH(moe_down<true>, outs, DOWN_THREADS, inside_bytes, s, *m, inside, hidden);
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
    const struct gpu_table *t = find_table(dev, op->experts);
    if (t) {
        m.experts = t->card;
        m.widest = t->widest;
        m.hidden_kinds = t->hidden_kinds;
        m.down_kinds = t->down_kinds;
    }
    if (op->shared && op->shared->gate.data) {
        if (check_expert(op->shared, op->dim, err))
            return -1;
        m.shared = expert_of(op->shared);
        m.widest = m.shared.gate.rows > m.widest ? m.shared.gate.rows : m.widest;
        m.hidden_kinds |= 1u << m.shared.gate.kind;
        m.down_kinds |= 1u << m.shared.down.kind;
    }
    if (m.n < 1 || !m.hidden_kinds)
        return 0;
    return !dev->exact && m.n >= GPU_SORTED ? gpu_sorted(dev, &m, err) : run_few(dev, &m, err);
}
