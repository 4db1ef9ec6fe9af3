/* Gated DeltaNet of many tokens on tensor cores: the recurrence CHUNK tokens at a time, as products
 * of matrices (gated DeltaNet, arXiv 2412.06464, section 3.3).
 *
 * Of a chunk, with S the state before it, e_i the decays, M_ij = e_(j+1) .. e_i for i >= j, and E_i =
 * e_0 .. e_i:
 *
 *     A_ij = beta_i M_ij (k_i . k_j) below the diagonal, T = (I + A)^-1 diag(beta), P_ij = M_ij (q_i . k_j)
 *     D = T (V - E K S)    O = E Q S + P D    S <- E_last S + K' (M_last,j D)
 *
 * Products of decays need no logarithms: what is forgotten becomes zero, and nothing is divided by it.
 * T is no larger than 1, because a step of the rule shrinks the state.
 *
 * chunk_prepare() makes K, Q, T and P of all chunks at once. chunk_scan() goes from chunk to chunk; two
 * warps share 16 columns of a head's state, half of the keys each, in the accumulators of the products.
 * These are turned: columns are rows, keys and tokens are columns. So a sum is the next product's
 * operand where it is, and only K, Q, T and P come from shared memory.
 *
 * Operands are sums of two bf16 numbers, of which all but the product of the two lower ones are
 * multiplied: about 17 bits. Sums are floats, and the state stays a float, to which each chunk adds
 * once.
 *
 * In shared memory a row is the upper parts, then the lower ones, in chunks of 16 bytes; chunk c lies at
 * c ^ (row % 8). In memory all is as it will be there. */
#include <limits.h>

#include "kernels/cuda/delta.h"
#include "kernels/cuda/products.h"

enum {
    CHUNK = 32,                      /* tokens */
    CHUNK_KEYS = 128,                /* most dimensions of a key; fewer are padded with zeros */
    KEY_PIECES = 2 * CHUNK_KEYS / 8, /* of 16 bytes, a row of K and Q */
    RULE_PIECES = 2 * CHUNK / 8,     /* of T and P */
    TILES = CHUNK / 8,
    PREPARE_WARPS = 8,
    PREPARE_THREADS = PREPARE_WARPS * GPU_WARP,
    RUN = CHUNK / PREPARE_WARPS, /* tokens that a thread convolves at a time */
    LANE_KEYS = CHUNK_KEYS / GPU_WARP,
    CHUNK_WARPS = 4,
    CHUNK_THREADS = CHUNK_WARPS * GPU_WARP,
    CHUNK_COLUMNS = CHUNK_WARPS / 2 * 16,
    HALF_KEYS = CHUNK_KEYS / 2,
    KEY_TILES = HALF_KEYS / 8,
};
static_assert((int)CHUNK == (int)GPU_WARP, "a lane is a token of the chunk");
static_assert((int)DELTA_PASS % (int)CHUNK == 0, "only the last chunk is not full");

/* From how many tokens on, by compute capability: below there is no product of bf16. Not measured;
 * bench_gpu shows on a card which is faster. */
static const struct {
    int major, tokens;
} wins[] = {{8, 64}, {9, 64}, {10, 64}, {11, 64}, {12, 64}};

/* Of a key head. */
struct chunk_keys {
    unsigned char k[CHUNK * KEY_PIECES * 16], q[CHUNK * KEY_PIECES * 16];
};

/* Of a value head. */
struct chunk_rule {
    unsigned char t[CHUNK * RULE_PIECES * 16], p[CHUNK * RULE_PIECES * 16];
    float since[CHUNK], until[CHUNK]; /* E_i, M_last,j */
};

__device__ static inline unsigned char *piece_at(unsigned char *tile, int pieces, int row,
                                                 int piece)
{
    return tile + (row * pieces + (piece ^ (row & 7))) * 16;
}

/* ---- operands in two parts ------------------------------------------------------------------- */

struct split {
    uint32_t high[4], low[4];
};

__device__ static inline void split_pair(float x, float y, uint32_t *high, uint32_t *low)
{
    *high = bf16_pair(x, y);
    *low = bf16_pair(x - bf16_low(*high), y - bf16_high(*high));
}

/* Sums of 16 x 8, two beside each other, as an operand of 16 x 16. */
__device__ static inline struct split split_sums(const float left[4], const float right[4])
{
    struct split s;
    split_pair(left[0], left[1], &s.high[0], &s.low[0]);
    split_pair(left[2], left[3], &s.high[1], &s.low[1]);
    split_pair(right[0], right[1], &s.high[2], &s.low[2]);
    split_pair(right[2], right[3], &s.high[3], &s.low[3]);
    return s;
}

/* c[0] and c[1] += a * (b[0 .. 1] and b[2 .. 3]) */
__device__ static inline void mma_split(float c[2][4], const struct split &a, const struct split &b)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        mma_bf16(c[i], a.low, b.high + 2 * i);
        mma_bf16(c[i], a.high, b.low + 2 * i);
        mma_bf16(c[i], a.high, b.high + 2 * i);
    }
}

/* 16 rows and 16 columns of a tile; where they are the product's columns (b of mma_split), `turned` or
 * not, and where they are its rows. `half` is the pieces from an upper part to its lower one. */
__device__ static inline struct split load_columns(unsigned char *tile, int pieces, int row,
                                                   int piece)
{
    const int lane = (int)threadIdx.x % GPU_WARP, i = lane / 8, r = row + i / 2 * 8 + lane % 8;
    struct split s;
    load_matrices(s.high, piece_at(tile, pieces, r, piece + i % 2));
    load_matrices(s.low, piece_at(tile, pieces, r, pieces / 2 + piece + i % 2));
    return s;
}

__device__ static inline struct split load_turned(unsigned char *tile, int pieces, int row,
                                                  int piece)
{
    const int lane = (int)threadIdx.x % GPU_WARP, i = lane / 8, r = row + i % 2 * 8 + lane % 8;
    struct split s;
    load_transposed(s.high, piece_at(tile, pieces, r, piece + i / 2));
    load_transposed(s.low, piece_at(tile, pieces, r, pieces / 2 + piece + i / 2));
    return s;
}

__device__ static inline struct split load_rows(unsigned char *tile, int pieces, int row, int piece)
{
    const int lane = (int)threadIdx.x % GPU_WARP, i = lane / 8, r = row + i % 2 * 8 + lane % 8;
    struct split s;
    load_matrices(s.high, piece_at(tile, pieces, r, piece + i / 2));
    load_matrices(s.low, piece_at(tile, pieces, r, pieces / 2 + piece + i / 2));
    return s;
}

/* One number of a tile. */
__device__ static inline void put(unsigned char *tile, int pieces, int row, int column, float x)
{
    const uint32_t high = bf16_bits(x), low = bf16_bits(x - bf16_low(high));
    const int at = column % 8 * 2;
    *(uint16_t *)(piece_at(tile, pieces, row, column / 8) + at) = (uint16_t)high;
    *(uint16_t *)(piece_at(tile, pieces, row, pieces / 2 + column / 8) + at) = (uint16_t)low;
}

/* ---- all chunks at once ---------------------------------------------------------------------- */

struct prepare_shared {
    union { /* a warp's, when the keys are done with */
        struct chunk_keys keys;
        unsigned char room[PREPARE_WARPS][CHUNK * RULE_PIECES * 16];
    };
    float dots[2][CHUNK][CHUNK + 1]; /* k_i . k_j, q_i . k_j */
};

/* Convolution and norm of q or k, whose channels begin at `channel`: RUN tokens a warp, a lane every
 * 32nd channel. */
__device__ static inline void prepare_keys(const struct gpu_delta &a, int t0, int channel,
                                           bool query, unsigned char *tile)
{
    const int lane = (int)threadIdx.x % GPU_WARP, row = (int)threadIdx.x / GPU_WARP * RUN;
    float x[LANE_KEYS][RUN] = {};
#pragma unroll
    for (int j = 0; j < LANE_KEYS; j++)
        if (lane + j * GPU_WARP < a.key_dim)
            delta_conv_run<RUN>(a, t0 + row, channel + lane + j * GPU_WARP, x[j]);
#pragma unroll
    for (int t = 0; t < RUN; t++) {
        float squares = 0;
#pragma unroll
        for (int j = 0; j < LANE_KEYS; j++)
            squares += x[j][t] * x[j][t];
        squares = warp_sum(squares);
        const float scale = query ? delta_query_scale(a, squares) : delta_key_scale(squares);
#pragma unroll
        for (int j = 0; j < LANE_KEYS; j++)
            put(tile, KEY_PIECES, row + t, lane + j * GPU_WARP, x[j][t] * scale);
    }
}

/* Values of the key head's value heads, turned: a thread has RUN tokens of a column. */
__device__ static inline void prepare_values(const struct gpu_delta &a, const struct chunk_work &w,
                                             int t0)
{
    enum { RUNS = CHUNK / RUN };
    const int h0 = (int)blockIdx.y * a.share, v0 = 2 * a.key_heads * a.key_dim;
    for (int i = (int)threadIdx.x; i < a.share * RUNS * w.columns; i += PREPARE_THREADS) {
        const int c = i % w.columns, run = i / w.columns % RUNS, h = h0 + i / w.columns / RUNS;
        float v[RUN] = {};
        if (c < a.value_dim)
            delta_conv_run<RUN>(a, t0 + run * RUN, v0 + h * a.value_dim + c, v);
        float *to = w.v + ((size_t)blockIdx.x * (size_t)a.value_heads + (size_t)h) *
                              (size_t)w.columns * CHUNK;
        *(float4 *)(to + c * CHUNK + run * RUN) = make_float4(v[0], v[1], v[2], v[3]);
    }
}

/* A warp has 16 rows of q or k and 16 tokens that they meet. */
__device__ static inline void prepare_dots(struct prepare_shared *s)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int query = warp / 4, row = warp / 2 % 2 * 16, column = warp % 2 * 16;
    float c[2][4] = {};
#pragma unroll 2
    for (int step = 0; step < CHUNK_KEYS / 16; step++)
        mma_split(c, load_rows(query ? s->keys.q : s->keys.k, KEY_PIECES, row, 2 * step),
                  load_columns(s->keys.k, KEY_PIECES, column, 2 * step));
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            s->dots[query][row + lane / 4 + j / 2 * 8][column + i * 8 + lane % 4 * 2 + j % 2] =
                c[i][j];
}

/* A tile of a warp to memory. */
__device__ static inline void prepare_out(unsigned char *to, const unsigned char *tile)
{
    enum { PARTS = CHUNK * RULE_PIECES / GPU_WARP };
    const int lane = (int)threadIdx.x % GPU_WARP;
    __syncwarp();
    for (int i = lane; i < PARTS * GPU_WARP; i += GPU_WARP)
        ((uint4 *)to)[i] = ((const uint4 *)tile)[i];
    __syncwarp();
}

/* One warp; lane j has column j of M, A, P and T. Tokens from a.n on change nothing. `room` is a tile's,
 * or A's as floats. */
__device__ static inline void prepare_rule(const struct gpu_delta &a, int t0, int h,
                                           unsigned char *room,
                                           const float dots[2][CHUNK][CHUNK + 1],
                                           struct chunk_rule *to)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const bool there = t0 + lane < a.n;
    const float decay = there ? delta_decay(a, t0 + lane, h) : 1;
    const float beta = there ? delta_beta(a, t0 + lane, h) : 0;
    float since = 1, m = 0;
    for (int i = 0; i < CHUNK; i++) {
        const float e = __shfl_sync(GPU_ALL_LANES, decay, i);
        since *= i <= lane ? e : 1;
        m = i == lane ? 1 : m * e;
        put(room, RULE_PIECES, i, lane, i >= lane ? m * dots[1][i][lane] : 0);
    }
    to->since[lane] = since;
    to->until[lane] = m;
    prepare_out(to->p, room);
    float *lower = (float *)room;
    for (int i = 0; i < CHUNK; i++) {
        const float e = __shfl_sync(GPU_ALL_LANES, decay, i);
        const float b = __shfl_sync(GPU_ALL_LANES, beta, i);
        m = i == lane ? 1 : m * e;
        lower[i * CHUNK + lane] = i > lane ? b * m * dots[0][i][lane] : 0;
    }
    __syncwarp();
    float t[CHUNK] = {}; /* of (I + A)^-1: row after row, each from those above */
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < i; j += 4) {
            const float4 row = *(const float4 *)&lower[i * CHUNK + j];
            sum += row.x * t[j] + row.y * t[j + 1] + (row.z * t[j + 2] + row.w * t[j + 3]);
        }
        t[i] = (i == lane ? 1.0f : 0.0f) - sum;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        put(room, RULE_PIECES, i, lane, t[i] * beta);
    prepare_out(to->t, room);
}

/* Grid: chunks of the pass, key heads. */
__global__ static void __launch_bounds__(PREPARE_THREADS, 2)
    chunk_prepare(struct gpu_delta a, struct chunk_work w, int first)
{
    launch_wait();
    __shared__ __align__(16) struct prepare_shared s;
    const int warp = (int)threadIdx.x / GPU_WARP, g = (int)blockIdx.y;
    const int t0 = first + (int)blockIdx.x * CHUNK;
    prepare_keys(a, t0, g * a.key_dim, true, s.keys.q);
    prepare_keys(a, t0, (a.key_heads + g) * a.key_dim, false, s.keys.k);
    prepare_values(a, w, t0);
    __syncthreads();
    prepare_dots(&s);
    uint4 *to = (uint4 *)&w.keys[(size_t)blockIdx.x * (size_t)a.key_heads + (size_t)g];
    for (int i = (int)threadIdx.x; i < (int)(sizeof s.keys / sizeof *to); i += PREPARE_THREADS)
        to[i] = ((const uint4 *)&s.keys)[i];
    __syncthreads();
    struct chunk_rule *rules =
        w.rules + (size_t)blockIdx.x * (size_t)a.value_heads + (size_t)(g * a.share);
    for (int i = warp; i < a.share; i += PREPARE_WARPS)
        prepare_rule(a, t0, g * a.share + i, s.room[warp], s.dots, rules + i);
}

/* ---- chunk after chunk ----------------------------------------------------------------------- */

struct chunk_shared {
    struct {
        struct chunk_keys keys;
        struct chunk_rule rule;
    } stage[2];
    float part[CHUNK_WARPS][TILES + TILES / 2][4][GPU_WARP]; /* sums over keys for the other warp */
};

__device__ static inline void chunk_fetch(struct chunk_shared *s, int stage,
                                          const struct gpu_delta &a, const struct chunk_work &w,
                                          int h, int chunk)
{
    enum { KEYS = sizeof(struct chunk_keys) / 16, ALL = KEYS + sizeof(struct chunk_rule) / 16 };
    const uint4 *keys =
        (const uint4 *)&w.keys[(size_t)chunk * (size_t)a.key_heads + (size_t)(h / a.share)];
    const uint4 *rule = (const uint4 *)&w.rules[(size_t)chunk * (size_t)a.value_heads + (size_t)h];
    uint4 *to = (uint4 *)&s->stage[stage];
    for (int i = (int)threadIdx.x; i < ALL; i += CHUNK_THREADS)
        copy_async(to + i, i < KEYS ? keys + i : rule + (i - KEYS), true);
    copy_commit();
}

/* K S and Q S of this warp's keys. */
__device__ static inline void chunk_products(const float x[KEY_TILES][4], struct chunk_keys *keys,
                                             int key0, float ks[TILES][4], float qs[TILES][4])
{
#pragma unroll
    for (int step = 0; step < HALF_KEYS / 16; step++) {
        const struct split state = split_sums(x[2 * step], x[2 * step + 1]);
#pragma unroll
        for (int n = 0; n < TILES; n += 2) {
            mma_split(ks + n, state, load_columns(keys->k, KEY_PIECES, n * 8, key0 / 8 + 2 * step));
            mma_split(qs + n, state, load_columns(keys->q, KEY_PIECES, n * 8, key0 / 8 + 2 * step));
        }
    }
}

/* x = last * x + K' d, of this warp's keys. */
__device__ static inline void chunk_update(float x[KEY_TILES][4], float d[TILES][4],
                                           struct chunk_keys *keys, int key0, float last)
{
    const struct split low = split_sums(d[0], d[1]), high = split_sums(d[2], d[3]);
#pragma unroll
    for (int n = 0; n < KEY_TILES; n += 2) {
        float sum[2][4] = {};
        mma_split(sum, low, load_turned(keys->k, KEY_PIECES, 0, key0 / 8 + n));
        mma_split(sum, high, load_turned(keys->k, KEY_PIECES, 16, key0 / 8 + n));
#pragma unroll
        for (int j = 0; j < 4; j++) {
            x[n][j] = last * x[n][j] + sum[0][j];
            x[n + 1][j] = last * x[n + 1][j] + sum[1][j];
        }
    }
}

/* Sums over the keys of both warps of a pair: of all K S, and of Q S for the tokens that this warp
 * writes. One barrier. */
__device__ static inline void chunk_join(struct chunk_shared *s, int half, float ks[TILES][4],
                                         const float qs[TILES][4], float o[2][4])
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int n = 0; n < TILES; n++)
            s->part[warp][n][j][lane] = ks[n][j];
#pragma unroll
        for (int n = 0; n < 2; n++) {
            s->part[warp][TILES + n][j][lane] = half ? qs[n][j] : qs[2 + n][j];
            o[n][j] = half ? qs[2 + n][j] : qs[n][j];
        }
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int n = 0; n < TILES; n++)
            ks[n][j] += s->part[warp ^ 1][n][j][lane];
#pragma unroll
        for (int n = 0; n < 2; n++)
            o[n][j] += s->part[warp ^ 1][TILES + n][j][lane];
    }
}

/* What a chunk gives: d, and o of this warp's tokens, 16 * half on. ks: E K S, v - E K S after. */
__device__ static inline void chunk_solve(struct chunk_rule *rule, int half,
                                          const float r[TILES][4], float d[TILES][4], float o[2][4])
{
    const struct split low = split_sums(r[0], r[1]), high = split_sums(r[2], r[3]);
    mma_split(d, low, load_columns(rule->t, RULE_PIECES, 0, 0));
    mma_split(d + 2, low, load_columns(rule->t, RULE_PIECES, 16, 0));
    mma_split(d + 2, high, load_columns(rule->t, RULE_PIECES, 16, 2));
    mma_split(o, split_sums(d[0], d[1]), load_columns(rule->p, RULE_PIECES, 16 * half, 0));
    if (half)
        mma_split(o, split_sums(d[2], d[3]), load_columns(rule->p, RULE_PIECES, 16, 2));
}

/* Grid: stretches of columns, value heads. Of a warp's sums, row g is column c + g of the state, and
 * row g + 8 column c + 8 + g. */
__global__ static void __launch_bounds__(CHUNK_THREADS)
    chunk_scan(struct gpu_delta a, struct chunk_work w, int first, int n)
{
    launch_wait();
    LADE_DYNAMIC_SHARED(struct chunk_shared, s);
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int pair = lane % 4 * 2, h = (int)blockIdx.y, half = warp % 2, key0 = half * HALF_KEYS;
    const int column = (int)blockIdx.x * CHUNK_COLUMNS + warp / 2 * 16 + lane / 4;
    const size_t values = (size_t)a.value_dim, out_row = (size_t)a.value_heads * values;
    float *state = a.state + (size_t)h * (size_t)a.key_dim * values;
    float x[KEY_TILES][4];
#pragma unroll
    for (int i = 0; i < KEY_TILES; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int key = key0 + i * 8 + pair + j % 2, c = column + j / 2 * 8;
            x[i][j] =
                key < a.key_dim && c < a.value_dim ? state[(size_t)key * values + (size_t)c] : 0;
        }
    const int chunks = (n - 1) / CHUNK + 1;
    chunk_fetch(s, 0, a, w, h, 0);
    for (int chunk = 0, now = 0; chunk < chunks; chunk++, now ^= 1) {
        struct chunk_keys *keys = &s->stage[now].keys;
        struct chunk_rule *rule = &s->stage[now].rule;
        copy_wait<0>();
        __syncthreads();
        if (chunk + 1 < chunks)
            chunk_fetch(s, now ^ 1, a, w, h, chunk + 1);
        float r[TILES][4], ks[TILES][4] = {}, qs[TILES][4] = {}, d[TILES][4] = {}, o[2][4];
        const float *v =
            w.v + (((size_t)chunk * (size_t)a.value_heads + (size_t)h) * (size_t)w.columns +
                   (size_t)column) *
                      CHUNK;
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                const float2 two = *(const float2 *)(v + j / 2 * 8 * CHUNK + i * 8 + pair);
                r[i][j] = two.x;
                r[i][j + 1] = two.y;
            }
        chunk_products(x, keys, key0, ks, qs);
        chunk_join(s, half, ks, qs, o);
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int i = 0; i < TILES; i++)
                r[i][j] -= rule->since[i * 8 + pair + j % 2] * ks[i][j];
#pragma unroll
            for (int i = 0; i < 2; i++)
                o[i][j] *= rule->since[half * 16 + i * 8 + pair + j % 2];
        }
        chunk_solve(rule, half, r, d, o);
#pragma unroll
        for (int i = 0; i < TILES; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                d[i][j] *= rule->until[i * 8 + pair + j % 2];
        chunk_update(x, d, keys, key0, rule->since[CHUNK - 1]);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int t = chunk * CHUNK + half * 16 + i * 8 + pair + j % 2,
                          c = column + j / 2 * 8;
                if (t < n && c < a.value_dim)
                    a.out[(size_t)(first + t) * out_row + (size_t)h * values + (size_t)c] = o[i][j];
            }
    }
#pragma unroll
    for (int i = 0; i < KEY_TILES; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int key = key0 + i * 8 + pair + j % 2, c = column + j / 2 * 8;
            if (key < a.key_dim && c < a.value_dim)
                state[(size_t)key * values + (size_t)c] = x[i][j];
        }
}

/* ---- launches -------------------------------------------------------------------------------- */

bool gpu_chunks_win(const struct lade_device *dev, const struct gpu_delta *a)
{
    int least = INT_MAX;
    for (size_t i = 0; i < sizeof wins / sizeof *wins; i++)
        if (wins[i].major == dev->major)
            least = wins[i].tokens;
    return !dev->exact && a->n >= least && a->key_dim <= CHUNK_KEYS &&
           dev->shared_max >= sizeof(struct chunk_shared);
}

void gpu_chunks_carve(struct gpu_carve *c, struct chunk_work *w, const struct gpu_delta *a)
{
    const size_t chunks = (size_t)gpu_up(gpu_min(a->n, DELTA_PASS), CHUNK);
    w->columns = gpu_up(a->value_dim, CHUNK_COLUMNS) * CHUNK_COLUMNS;
    gpu_carve_add(c, &w->keys, chunks * (size_t)a->key_heads, sizeof *w->keys);
    gpu_carve_add(c, &w->rules, chunks * (size_t)a->value_heads, sizeof *w->rules);
    gpu_carve_add(c, &w->v, chunks * (size_t)a->value_heads,
                  (size_t)w->columns * CHUNK * sizeof *w->v);
}

int gpu_chunks_pass(struct lade_device *dev, const struct gpu_delta *a, const struct chunk_work *w,
                    int first, int n, char *err)
{
    const size_t shared = sizeof(struct chunk_shared);
    const dim3 chunks((unsigned)gpu_up(n, CHUNK), (unsigned)a->key_heads);
    const dim3 columns((unsigned)(w->columns / CHUNK_COLUMNS), (unsigned)a->value_heads);
    if (gpu_shared_room(dev, (const void *)chunk_scan, shared, err))
        return -1;
    cudaError_t code = LADE_LAUNCH(chunk_prepare, chunks, PREPARE_THREADS, 0, dev, *a, *w, first);
    if (code == cudaSuccess)
        code = LADE_LAUNCH(chunk_scan, columns, CHUNK_THREADS, shared, dev, *a, *w, first, n);
    return gpu_check(dev, "deltanet", code, err);
}
