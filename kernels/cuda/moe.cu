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
    MATRIX_WARPS = 4, /* of gate, and of up */
    HIDDEN_WARPS = 2 * MATRIX_WARPS,
    DOWN_WARPS = 16,
    DOWN_SLOTS = 32, /* most that are known at once */
    SHARED_BYTES = 40 << 10,
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
    if (g.gate.kind != g.up.kind || g.gate.kind == GPU_F32)
        g.gate.kind = g.up.kind = GPU_WIDE;
    if (g.down.kind == GPU_F32) /* nobody has such experts: no kernel for them */
        g.down.kind = GPU_WIDE;
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

/* A warp's batches of gate or up. */
struct hidden_source {
    struct few_view v;
    const struct gpu_matrix &m;
    const uint16_t *books;
    const float *inputs;
    int tokens, row0, first, mine;

    __device__ const struct few_view &view(int) const
    {
        return v;
    }
    __device__ int batch(int i) const
    {
        return first + i * MATRIX_WARPS;
    }
    __device__ const float *x(int, int) const
    {
        return inputs;
    }
    __device__ int cols(int) const
    {
        return v.cols;
    }
    __device__ void chunk(int, int row, int c, float *values) const
    {
        if (row < v.rows)
            matrix_chunk(m, books, row, c, values);
        else
            for (int i = 0; i < 8; i++)
                values[i] = 0;
    }
};

/* Warps 0 to 3 multiply gate, 4 to 7 up; each every fourth batch. */
template <int KIND>
__device__ static inline void hidden_block(const struct gpu_moe &m, const struct gpu_matrix &w,
                                           int token, int slot, int area_bytes, int span,
                                           float *hidden, char *areas)
{
    __shared__ float work[33];
    const int warp = (int)threadIdx.x / GPU_WARP;
    struct hidden_source source = {few_view_of(w),
                                   w,
                                   m.books,
                                   m.x + (size_t)token * (size_t)m.dim,
                                   1,
                                   (int)blockIdx.x * FEW_ROWS,
                                   warp % MATRIX_WARPS,
                                   0};
    source.mine = (source.v.batches - source.first + MATRIX_WARPS - 1) / MATRIX_WARPS;
    char *area = areas + warp * area_bytes;
    struct few_sums<1> sums = {
    };
    struct few_raw<KIND> raw[few_raw<KIND>::AHEAD];
    few_begin<KIND>(raw, source);
    few_run<KIND, 1>(sums, raw, source, area, span / source.v.per, source.v.per);
    few_store<1>(area, sums);
    const float weight = moe_weight(m, token, slot, work);
    __syncthreads();
    const int in_block = (int)threadIdx.x, row = source.row0 + in_block;
    if (in_block >= FEW_ROWS || row >= w.rows)
        return;
    const float gate = few_result<1>(areas, area_bytes, MATRIX_WARPS, in_block, 0);
    const float up =
        few_result<1>(areas + MATRIX_WARPS * area_bytes, area_bytes, MATRIX_WARPS, in_block, 0);
    size_t at = ((size_t)token * (size_t)(m.k + 1) + (size_t)slot) * (size_t)m.widest;
    hidden[at + (size_t)row] = gate / (1.0f + expf(-gate)) * up * weight;
}

/* Grid: rows, slots, tokens. hidden[token][slot][widest]. `span`: steps staged at once. */
template <bool WIDE>
__global__ static void __launch_bounds__(HIDDEN_WARPS *GPU_WARP, 2)
    moe_hidden(struct gpu_moe m, int area, int span, float *hidden)
{
    LADE_DYNAMIC_SHARED(char, areas);
    const int slot = (int)blockIdx.y, token = (int)blockIdx.z;
    const bool gate = (int)threadIdx.x < MATRIX_WARPS * GPU_WARP;
    const struct gpu_matrix w = moe_matrix(m, token, slot, gate ? MOE_GATE : MOE_UP);
    if (!w.data || (int)blockIdx.x * FEW_ROWS >= w.rows || (w.kind == GPU_WIDE) != WIDE)
        return; /* gate and up agree in all of this: the whole block leaves */
    if (WIDE)
        hidden_block<GPU_WIDE>(m, w, token, slot, area, span, hidden, areas);
    else if (w.kind == GPU_Q4)
        hidden_block<GPU_Q4>(m, w, token, slot, area, span, hidden, areas);
    else if (w.kind == GPU_Q8)
        hidden_block<GPU_Q8>(m, w, token, slot, area, span, hidden, areas);
    else
        hidden_block<GPU_BF16>(m, w, token, slot, area, span, hidden, areas);
}

/* The last matrices of a token's slots. They are multiplied kind by kind; those of a turn have one
 * size of batch, and units are counted slot by slot, `most` of each. */
struct down_slots {
    struct few_view view[DOWN_SLOTS];
    struct gpu_matrix matrix[DOWN_SLOTS];
    bool left[DOWN_SLOTS]; /* not yet multiplied */
    int turn[DOWN_SLOTS];  /* the slots of this turn */
    int n, most, per;
};

struct down_source {
    const struct down_slots &s;
    const uint16_t *books;
    const float *hidden; /* of the first slot */
    int widest, tokens, row0, warp, mine;

    __device__ int slot(int i) const
    {
        return s.turn[(warp + i * DOWN_WARPS) / s.most];
    }
    __device__ const struct few_view &view(int i) const
    {
        return s.view[slot(i)];
    }
    __device__ int batch(int i) const
    {
        return (warp + i * DOWN_WARPS) % s.most;
    }
    __device__ const float *x(int i, int) const
    {
        return hidden + (size_t)slot(i) * (size_t)widest;
    }
    __device__ int cols(int i) const
    {
        return view(i).cols;
    }
    __device__ void chunk(int i, int row, int c, float *values) const
    {
        if (row < view(i).rows && c * 8 < view(i).cols)
            matrix_chunk(s.matrix[slot(i)], books, row, c, values);
        else
            for (int j = 0; j < 8; j++)
                values[j] = 0;
    }
};

/* One thread. */
__device__ static inline void down_choose(struct down_slots &s, int slots, int kind)
{
    s.n = s.most = 0;
    for (int i = 0; i < slots; i++) {
        const struct few_view &v = s.view[i];
        if (!s.left[i] || v.kind != kind || (s.n && v.per != s.per))
            continue;
        s.per = v.per;
        s.most = v.batches > s.most ? v.batches : s.most;
        s.turn[s.n++] = i;
        s.left[i] = false;
    }
}

/* All slots of a kind, whose hidden values begin at `hidden`. */
template <int KIND>
__device__ static inline void down_turns(struct few_sums<1> &sums, struct down_slots &s, int slots,
                                         const struct gpu_moe &m, const float *hidden, int span,
                                         char *area)
{
    for (;;) {
        if (!threadIdx.x)
            down_choose(s, slots, KIND);
        __syncthreads();
        if (!s.n)
            break;
        const int warp = (int)threadIdx.x / GPU_WARP, units = s.n * s.most;
        struct down_source source = {s,      m.books,
                                     hidden, m.widest,
                                     1,      (int)blockIdx.x * FEW_ROWS,
                                     warp,   (units - warp + DOWN_WARPS - 1) / DOWN_WARPS};
        struct few_raw<KIND> raw[few_raw<KIND>::AHEAD];
        few_begin<KIND>(raw, source);
        few_run<KIND, 1>(sums, raw, source, area, span / s.per, s.per);
        __syncthreads();
    }
    __syncthreads();
}

/* Grid: rows, tokens. Adds to y. `span`: steps staged at once. */
template <bool WIDE>
__global__ static void __launch_bounds__(DOWN_WARPS *GPU_WARP, 1)
    moe_down(struct gpu_moe m, int area_bytes, int span, const float *hidden)
{
    __shared__ struct down_slots s;
    LADE_DYNAMIC_SHARED(char, areas);
    const int token = (int)blockIdx.y;
    char *area = areas + (int)threadIdx.x / GPU_WARP * area_bytes;
    hidden += (size_t)token * (size_t)(m.k + 1) * (size_t)m.widest;
    struct few_sums<1> sums = {
    };
    for (int slot0 = 0; slot0 <= m.k; slot0 += DOWN_SLOTS) {
        const int slots = gpu_least(DOWN_SLOTS, m.k + 1 - slot0), i = (int)threadIdx.x;
        const float *from = hidden + (size_t)slot0 * (size_t)m.widest;
        if (i < slots) {
            s.matrix[i] = moe_matrix(m, token, slot0 + i, MOE_DOWN);
            s.view[i] = few_view_of(s.matrix[i]);
            s.left[i] = s.matrix[i].data != nullptr;
        }
        __syncthreads();
        if (WIDE) {
            down_turns<GPU_WIDE>(sums, s, slots, m, from, span, area);
            continue;
        }
        if (m.down_kinds >> GPU_Q4 & 1)
            down_turns<GPU_Q4>(sums, s, slots, m, from, span, area);
        if (m.down_kinds >> GPU_Q8 & 1)
            down_turns<GPU_Q8>(sums, s, slots, m, from, span, area);
        if (m.down_kinds >> GPU_BF16 & 1)
            down_turns<GPU_BF16>(sums, s, slots, m, from, span, area);
    }
    few_store<1>(area, sums);
    __syncthreads();
    const int in_block = (int)threadIdx.x, row = (int)blockIdx.x * FEW_ROWS + in_block;
    if (in_block < FEW_ROWS && row < m.dim)
        m.y[(size_t)token * (size_t)m.dim + (size_t)row] +=
            few_result<1>(areas, area_bytes, DOWN_WARPS, in_block, 0);
}

/* ---- launches -------------------------------------------------------------------------------- */

/* Steps that a warp stages at once: its share of `inputs`, or what its share of memory holds. */
static int span_for(int inputs, int warps)
{
    int span = gpu_up(gpu_up(inputs, FEW_STEP), warps) + 3; /* batches of up to four */
    while (span > 4 && few_area(1, span, 1, 1) > SHARED_BYTES / HIDDEN_WARPS)
        span--;
    return span;
}

static int launch_pass(struct lade_device *dev, const struct gpu_moe *m, float *hidden, char *err)
{
    const unsigned wide = 1u << GPU_WIDE;
    cudaStream_t s = dev->compute;
    const int in = span_for(m->dim, MATRIX_WARPS), in_area = few_area(1, in, 1, 1);
    int out = span_for(m->widest * (m->k + 1), DOWN_WARPS);
    while (out > 4 && few_area(1, out, 1, 1) > SHARED_BYTES / DOWN_WARPS)
        out--;
    const int out_area = few_area(1, out, 1, 1);
    const size_t in_bytes = (size_t)(HIDDEN_WARPS * in_area);
    const size_t out_bytes = (size_t)(DOWN_WARPS * out_area);
    dim3 rows((unsigned)gpu_up(m->widest, FEW_ROWS), (unsigned)m->k + 1, (unsigned)m->n);
    dim3 outs((unsigned)gpu_up(m->dim, FEW_ROWS), (unsigned)m->n);
    cudaError_t code = cudaSuccess;
    if (m->hidden_kinds & ~wide)
        code = LADE_LAUNCH(moe_hidden<false>, rows, HIDDEN_WARPS * GPU_WARP, in_bytes, s, *m,
                           in_area, in, hidden);
    if (code == cudaSuccess && m->hidden_kinds & wide)
        code = LADE_LAUNCH(moe_hidden<true>, rows, HIDDEN_WARPS * GPU_WARP, in_bytes, s, *m,
                           in_area, in, hidden);
    if (code == cudaSuccess && m->down_kinds & ~wide)
        code = LADE_LAUNCH(moe_down<false>, outs, DOWN_WARPS * GPU_WARP, out_bytes, s, *m, out_area,
                           out, hidden);
    if (code == cudaSuccess && m->down_kinds & wide)
        code = LADE_LAUNCH(moe_down<true>, outs, DOWN_WARPS * GPU_WARP, out_bytes, s, *m, out_area,
                           out, hidden);
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
