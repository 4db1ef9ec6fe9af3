/* Mixture of experts for many tokens.
 *
 * Routes are sorted by expert, in the order of their tokens; the shared expert is one more, with a
 * route of every token. One launch then computes what the experts hold inside, tile by tile of an
 * expert's routes, and one what their last matrices make of it; each expert is read once a tile.
 * The outputs of a route lie apart until a token adds up its own, in the order of its routes, so
 * that no sum depends on the order of blocks. This goes through the output columns in slices, so
 * that a slice of all routes is small enough for the second cache. */
#include <math.h>

#include "kernels/cuda/many.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/sorted.h"

enum {
    NT = 4,
    TOKENS = 16 * NT, /* of a tile */
    SORT_THREADS = 256,
    TILE_THREADS = 1024,
    JOIN_THREADS = 256,
    GATE_WARPS = 8,
    SLICE = 512, /* output columns */
    MOST_EXPERTS = 4096,
    MOST_TILES = 65535, /* of a grid's second direction */
};

/* A tile: routes [first, first + count) of the sorted ones, all of one expert. */
struct sorted_tile {
    int32_t expert, first, count;
};

struct sorted {
    struct gpu_moe m;
    int routes, groups, most_tiles; /* the shared expert's included */
    int32_t *start, *count;         /* [groups] */
    int32_t *token;                 /* [routes] of a sorted route */
    float *weight;                  /* [routes] */
    int32_t *place;           /* [routes]: where a route was sorted to; token-major, the shared
                                       expert's after all others */
    struct sorted_tile *tile; /* [most_tiles], what is not used has count 0 */
    uint16_t *x;              /* [n]: inputs, f16 */
    float *x_scale;
    float *hidden; /* [routes][widest] */
    uint16_t *h;   /* [routes]: the same, f16 */
    float *h_scale;
    float *out; /* [routes][slice] */
};

/* ---- sorting --------------------------------------------------------------------------------- */

/* One block an expert: counts the routes of those before it and its own, then lists its own. A
 * thread has a run of consecutive routes, so the order is kept. */
__global__ static void __launch_bounds__(SORT_THREADS) sort_routes(struct sorted s)
{
    launch_wait();
    __shared__ int mine[SORT_THREADS], before[SORT_THREADS];
    const int e = (int)blockIdx.x, me = (int)threadIdx.x, all = s.m.n * s.m.k;
    const int each = (all + SORT_THREADS - 1) / SORT_THREADS;
    const int from = me * each, to = gpu_least(from + each, all);
    int own = 0, less = 0;
    for (int r = from; r < to; r++) {
        own += s.m.ids[r] == e;
        less += s.m.ids[r] < e && s.m.ids[r] >= 0;
    }
    mine[me] = own;
    before[me] = less;
    __syncthreads();
    int at = 0, total = 0;
    for (int i = 0; i < SORT_THREADS; i++) { /* the same in all threads */
        at += before[i] + (i < me ? mine[i] : 0);
        total += mine[i];
    }
    if (me == 0) {
        s.start[e] = at;
        s.count[e] = s.m.experts[e].gate.data ? total : 0;
    }
    const bool here = s.m.experts[e].gate.data;
    for (int r = from; r < to; r++) {
        if (s.m.ids[r] != e)
            continue;
        s.token[at] = r / s.m.k;
        s.weight[at] = s.m.weights[r];
        s.place[r] = here ? at : -1;
        at++;
    }
}

/* Routes to no expert at all. The shared expert's routes: one warp a token. */
__global__ static void __launch_bounds__(GATE_WARPS *GPU_WARP) sort_shared(struct sorted s)
{
    launch_wait();
    const int lane = (int)threadIdx.x % GPU_WARP;
    const int t = (int)blockIdx.x * GATE_WARPS + (int)threadIdx.x / GPU_WARP;
    if (t >= s.m.n)
        return;
    for (int r = t * s.m.k + lane; r < (t + 1) * s.m.k; r += GPU_WARP)
        if (s.m.ids[r] < 0 || s.m.ids[r] >= s.m.n_experts)
            s.place[r] = -1;
    if (!s.m.shared.gate.data)
        return;
    const float *x = s.m.x + (size_t)t * (size_t)s.m.dim;
    float sum = 0;
    for (int i = lane; s.m.shared_gate && i < s.m.dim; i += GPU_WARP)
        sum += s.m.shared_gate[i] * x[i];
    sum = warp_sum(sum);
    if (lane)
        return;
    const int at = s.m.n * s.m.k + t;
    s.token[at] = t;
    s.weight[at] = s.m.shared_gate ? 1.0f / (1.0f + expf(-sum)) : 1.0f;
    s.place[at] = at;
    if (t == 0) {
        s.start[s.m.n_experts] = s.m.n * s.m.k;
        s.count[s.m.n_experts] = s.m.n;
    }
}

/* One block: lists the tiles of all experts, in order. */
__global__ static void __launch_bounds__(TILE_THREADS) sort_tiles(struct sorted s)
{
    launch_wait();
    __shared__ int tiles[MOST_EXPERTS + 1];
    for (int e = (int)threadIdx.x; e < s.groups; e += TILE_THREADS)
        tiles[e] = (s.count[e] + TOKENS - 1) / TOKENS;
    for (int i = (int)threadIdx.x; i < s.most_tiles; i += TILE_THREADS)
        s.tile[i].count = 0;
    __syncthreads();
    for (int e = (int)threadIdx.x; e < s.groups; e += TILE_THREADS) {
        int at = 0;
        for (int i = 0; i < e; i++)
            at += tiles[i];
        for (int i = 0; i < tiles[e]; i++)
            s.tile[at + i] = {e, s.start[e] + i * TOKENS,
                              gpu_least(TOKENS, s.count[e] - i * TOKENS)};
    }
}

/* ---- products -------------------------------------------------------------------------------- */

__device__ static inline struct gpu_matrix sorted_matrix(const struct gpu_moe &m, int e, int part)
{
    if (e == m.n_experts)
        return part == 0 ? m.shared.gate : part == 1 ? m.shared.up : m.shared.down;
    const struct gpu_expert *x = m.experts + e;
    return part == 0 ? x->gate : part == 1 ? x->up : x->down;
}

/* Grid: runs of rows, tiles. */
__global__ static void __launch_bounds__(MANY_THREADS) sorted_hidden(struct sorted s)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(struct many_shared<NT>, shared);
    const struct sorted_tile tile = s.tile[blockIdx.y];
    const int row0 = (int)blockIdx.x * MANY_RUN;
    if (!tile.count)
        return;
    const struct many_weights a = {
        {sorted_matrix(s.m, tile.expert, 0), sorted_matrix(s.m, tile.expert, 1)}, {row0, row0}};
    const struct many_inputs in = {s.x, s.x_scale, many_stride(s.m.dim)};
    const struct many_tokens t = {s.token + tile.first, 0, tile.count};
    struct many_sums<NT> sums = {
    };
    if (row0 < a.run[0].rows) /* else zeros: another expert has more rows */
        many_block<NT>(sums, a, s.m.books, in, t, shared);
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = many_sum_token<NT>(n, i), row = row0 + many_sum_row(i);
            if (token >= tile.count || row >= s.m.widest)
                continue;
            const size_t route = (size_t)(tile.first + token);
            const float scale = s.x_scale[s.token[route]];
            const float gate = sums.c[0][n][i] * scale, up = sums.c[1][n][i] * scale;
            s.hidden[route * (size_t)s.m.widest + (size_t)row] =
                row < a.run[0].rows ? gate / (1.0f + expf(-gate)) * up * s.weight[route] : 0.0f;
        }
}

/* Columns [column, column + SLICE) of the outputs. Grid: rows of the slice, tiles. */
__global__ static void __launch_bounds__(MANY_THREADS) sorted_down(struct sorted s, int column)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(struct many_shared<NT>, shared);
    const struct sorted_tile tile = s.tile[blockIdx.y];
    const int row0 = column + (int)blockIdx.x * MANY_ROWS;
    if (!tile.count || row0 >= s.m.dim)
        return;
    const struct gpu_matrix down = sorted_matrix(s.m, tile.expert, 2);
    const struct many_weights a = {{down, down}, {row0, row0 + MANY_RUN}};
    const struct many_inputs in = {s.h, s.h_scale, many_stride(s.m.widest)};
    const struct many_tokens t = {nullptr, tile.first, tile.count};
    struct many_sums<NT> sums = {
    };
    many_block<NT>(sums, a, s.m.books, in, t, shared);
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = many_sum_token<NT>(n, i);
            if (token >= tile.count)
                continue;
            const size_t route = (size_t)(tile.first + token);
            const float scale = s.h_scale[route];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = row0 + half * MANY_RUN + many_sum_row(i);
                if (row < s.m.dim && row < column + SLICE)
                    s.out[route * SLICE + (size_t)(row - column)] = sums.c[half][n][i] * scale;
            }
        }
}

/* Adds up a token's routes, then the shared expert. Grid: tokens. */
__global__ static void __launch_bounds__(JOIN_THREADS) sorted_join(struct sorted s, int column)
{
    launch_wait();
    const int t = (int)blockIdx.x;
    for (int i = (int)threadIdx.x; i < SLICE && column + i < s.m.dim; i += JOIN_THREADS) {
        float sum = 0;
        for (int j = 0; j < s.m.k; j++) {
            const int at = s.place[t * s.m.k + j];
            if (at >= 0)
                sum += s.out[(size_t)at * SLICE + (size_t)i];
        }
        if (s.m.shared.gate.data)
            sum += s.out[(size_t)(s.m.n * s.m.k + t) * SLICE + (size_t)i];
        s.m.y[(size_t)t * (size_t)s.m.dim + (size_t)(column + i)] += sum;
    }
}

/* ---- launches -------------------------------------------------------------------------------- */

static void carve_sorted(struct gpu_carve *c, struct sorted *s)
{
    const size_t routes = (size_t)s->m.n * ((size_t)s->m.k + 1),
                 groups = (size_t)s->m.n_experts + 1;
    const size_t tiles = routes / TOKENS + groups;
    s->routes = (int)routes;
    s->groups = (int)groups;
    s->most_tiles = (int)tiles;
    gpu_carve_add(c, &s->start, groups, sizeof *s->start);
    gpu_carve_add(c, &s->count, groups, sizeof *s->count);
    gpu_carve_add(c, &s->token, routes, sizeof *s->token);
    gpu_carve_add(c, &s->weight, routes, sizeof *s->weight);
    gpu_carve_add(c, &s->place, routes, sizeof *s->place);
    gpu_carve_add(c, &s->tile, tiles, sizeof *s->tile);
    gpu_carve_add(c, &s->x, (size_t)s->m.n, (size_t)many_stride(s->m.dim) * sizeof *s->x);
    gpu_carve_add(c, &s->x_scale, (size_t)s->m.n, sizeof *s->x_scale);
    gpu_carve_add(c, &s->hidden, routes, (size_t)s->m.widest * sizeof *s->hidden);
    gpu_carve_add(c, &s->h, routes, (size_t)many_stride(s->m.widest) * sizeof *s->h);
    gpu_carve_add(c, &s->h_scale, routes, sizeof *s->h_scale);
    gpu_carve_add(c, &s->out, routes, SLICE * sizeof *s->out);
}

size_t gpu_sorted_work(const struct lade_limits *l)
{
    struct sorted s = {};
    struct gpu_carve c = {};
    s.m.n = l->batch;
    s.m.k = l->experts_used;
    s.m.n_experts = l->experts;
    s.m.dim = l->hidden;
    s.m.widest = l->expert_rows;
    if (l->batch >= GPU_SORTED && l->experts > 0)
        carve_sorted(&c, &s);
    return gpu_carve_bytes(&c);
}

static cudaError_t launch_sort(struct lade_device *dev, const struct sorted *s)
{
    cudaError_t code =
        LADE_LAUNCH(sort_shared, gpu_up(s->m.n, GATE_WARPS), GATE_WARPS * GPU_WARP, 0, dev, *s);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(sort_routes, s->m.n_experts, SORT_THREADS, 0, dev, *s);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(sort_tiles, 1, TILE_THREADS, 0, dev, *s);
    return code;
}

int gpu_sorted(struct lade_device *dev, const struct gpu_moe *m, char *err)
{
    struct sorted s = {};
    struct gpu_carve c = {};
    s.m = *m;
    carve_sorted(&c, &s);
    if (!m->shared.gate.data)
        s.groups--;
    if (s.groups > MOST_EXPERTS)
        return lade_fail(err, "moe: %d experts, at most %d can be; check the configuration",
                         m->n_experts, (int)MOST_EXPERTS);
    if (s.most_tiles > MOST_TILES)
        return lade_fail(err, "moe: %d tokens with %d experts each are too many at once; lower --batch",
                         m->n, m->k);
    const size_t shared = sizeof(struct many_shared<NT>);
    if (gpu_carve_commit(dev, &c, err) ||
        gpu_shared_room(dev, (const void *)sorted_hidden, shared, err) ||
        gpu_shared_room(dev, (const void *)sorted_down, shared, err))
        return -1;
    cudaError_t code = launch_sort(dev, &s);
    if (code == cudaSuccess)
        code = gpu_half_rows(dev, m->x, m->n, m->dim, s.x, s.x_scale);
    dim3 inside((unsigned)gpu_up(m->widest, MANY_RUN), (unsigned)s.most_tiles);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(sorted_hidden, inside, MANY_THREADS, shared, dev, s);
    if (code == cudaSuccess)
        code = gpu_half_rows(dev, s.hidden, s.routes, m->widest, s.h, s.h_scale);
    dim3 slice(SLICE / MANY_ROWS, (unsigned)s.most_tiles);
    for (int column = 0; column < m->dim && code == cudaSuccess; column += SLICE) {
        code = LADE_LAUNCH(sorted_down, slice, MANY_THREADS, shared, dev, s, column);
        if (code == cudaSuccess)
            code = LADE_LAUNCH(sorted_join, m->n, JOIN_THREADS, 0, dev, s, column);
    }
    return gpu_check(dev, "moe", code, err);
}
