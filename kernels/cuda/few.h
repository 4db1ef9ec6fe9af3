/* few.h - products of a weight matrix with few tokens: each weight is read once.
 *
 * Tensor cores multiply 16 rows by 8 columns, and a token needs but one. The spare columns buy
 * precision: an input is the sum of three bf16 numbers (8 bits each, so all 24 of a float), each
 * in its own column, and integer codes are bf16 numbers as they are. All products are then exact
 * and the sums are those of floats.
 *
 * A warp owns 16 * TILES rows; its lane 4g + t holds rows 2 * TILES * g + [0, 2 * TILES) and, in a
 * step of 32 inputs, chunk t of four. With two tiles a lane's load is 16 bytes of codes: four rows
 * of one word. A *batch* is some steps that share a scale; its weights are on the way while the
 * batch before is multiplied. The warps of a block share out the batches of the same rows. */
#ifndef LADE_CUDA_FEW_H
#define LADE_CUDA_FEW_H

#include "kernels/cuda/weights.h"

enum {
    FEW_WARPS = 8,
    FEW_THREADS = FEW_WARPS * GPU_WARP,
    FEW_PARTS = 3,             /* columns of a token */
    FEW_STEP = 32,             /* inputs */
    FEW_STAGE = 12 * FEW_STEP, /* inputs are staged in multiples: whole batches of 1 to 4 steps */
};

/* ---- inputs in shared memory ----------------------------------------------------------------- */

/* Bytes from one column to the next, for `inputs` of them (a multiple of 32). Odd multiples of 64
 * keep two columns' halves in different banks. */
__host__ __device__ static inline int few_stride(int inputs)
{
    int bytes = inputs * 2;
    return bytes % 128 ? bytes : bytes + 64;
}

/* The leading bf16 of eight floats as pairs in the order of weights.h; v keeps the rest. */
__device__ static inline void few_take(float v[8], uint32_t pair[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pair[i] = bf16_pair(v[i], v[i + 4]);
        v[i] -= bf16_low(pair[i]);
        v[i + 4] -= bf16_high(pair[i]);
    }
}

/* v is used up. */
__device__ static inline void few_put(char *xs, int stride, int token, int chunk, float v[8])
{
#pragma unroll
    for (int p = 0; p < FEW_PARTS; p++) {
        uint32_t pair[4];
        few_take(v, pair);
        *(uint4 *)(xs + (size_t)(token * FEW_PARTS + p) * (size_t)stride + (size_t)chunk * 16) =
            make_uint4(pair[0], pair[1], pair[2], pair[3]);
    }
}

/* Values [at, at + 8) of a row of `cols` floats, zero past its end. */
__device__ static inline void few_get(float v[8], const float *x, int at, int cols)
{
    if (at + 8 <= cols && ((uintptr_t)(x + at) & 15) == 0) {
        *(float4 *)v = *(const float4 *)(x + at);
        *(float4 *)(v + 4) = *(const float4 *)(x + at + 4);
        return;
    }
    for (int i = 0; i < 8; i++)
        v[i] = at + i < cols ? x[at + i] : 0.0f;
}

/* Inputs [from, from + inputs) of n rows of x, by all threads. `inputs` is a multiple of 32. */
__device__ static inline void few_stage(char *xs, const float *x, int n, int cols, int from,
                                        int inputs)
{
    const int stride = few_stride(inputs), chunks = inputs / 8;
    for (int i = (int)threadIdx.x; i < n * chunks; i += (int)blockDim.x) {
        int token = i / chunks, chunk = i % chunks;
        __align__(16) float v[8];
        few_get(v, x + (size_t)token * (size_t)cols, from + chunk * 8, cols);
        few_put(xs, stride, token, chunk, v);
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* Steps of one batch, 16 words a lane at most with two tiles: a divisor of the group's, so that a
 * batch has one scale. */
__host__ __device__ static inline int few_batch_steps(const struct gpu_matrix &m)
{
    if (m.kind == GPU_BF16 || m.kind == GPU_WIDE)
        return 1;
    int steps = m.group / FEW_STEP;
    if (m.kind == GPU_Q8)
        return steps % 2 == 0 ? 2 : 1;
    return steps % 4 == 0 ? 4 : steps % 3 == 0 ? 3 : steps % 2 == 0 ? 2 : 1;
}

/* One batch as it lies in memory. */
template <int KIND, int TILES> struct few_raw {
    enum {
        STEPS = KIND == GPU_Q4   ? 4
                : KIND == GPU_Q8 ? 2
                                 : 1,
        WORDS = KIND == GPU_Q4     ? 1
                : KIND == GPU_BF16 ? 4
                                   : 2
    };
    uint32_t word[STEPS][2 * TILES][WORDS]; /* of a row's chunk */
    uint32_t scale[TILES];                  /* pairs of f16 */
    uint32_t zeros;                         /* a byte a row */
};

/* A word of each of a lane's rows: `from` is word w of the lane's first row. */
template <int TILES>
__device__ static inline void few_rows(uint32_t row[2 * TILES], const uint32_t *from, bool inside)
{
    if (TILES == 2) {
        uint4 v = inside ? stream16(from) : make_uint4(0, 0, 0, 0);
        row[0] = v.x;
        row[1] = v.y;
        row[2 * TILES - 2] = v.z;
        row[2 * TILES - 1] = v.w;
    } else {
        uint2 v = inside ? stream8(from) : make_uint2(0, 0);
        row[0] = v.x;
        row[1] = v.y;
    }
}

template <int KIND, int TILES>
__device__ static inline void few_load(struct few_raw<KIND, TILES> &raw, const struct gpu_matrix &m,
                                       int row0, int step0, int steps)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    const int first = row0 + 2 * TILES * g; /* row of this lane */
    if (KIND == GPU_BF16) {
#pragma unroll
        for (int s = 0; s < raw.STEPS; s++) {
            int at = (step0 + s) * FEW_STEP + t * 8;
#pragma unroll
            for (int r = 0; r < 2 * TILES; r++) {
                bool inside = s < steps && at < m.cols && first + r < m.rows;
                size_t where = (size_t)(first + r) * (size_t)m.cols + (size_t)at;
                uint4 v = inside ? stream16(m.data + where * 2) : make_uint4(0, 0, 0, 0);
                raw.word[s][r][0] = v.x;
                raw.word[s][r][raw.WORDS - 3] = v.y;
                raw.word[s][r][raw.WORDS - 2] = v.z;
                raw.word[s][r][raw.WORDS - 1] = v.w;
            }
        }
        return;
    }
    const int words = matrix_words(m), tiles = (m.rows - 1) / LADE_TILE + 1;
    const int tile = first / LADE_TILE, in_tile = first % LADE_TILE;
    const bool mine = tile < tiles;
    const uint32_t *codes =
        (const uint32_t *)m.data + (size_t)tile * (size_t)words * LADE_TILE + (size_t)in_tile;
#pragma unroll
    for (int s = 0; s < raw.STEPS; s++) {
#pragma unroll
        for (int i = 0; i < raw.WORDS; i++) {
            int w = ((step0 + s) * 4 + t) * raw.WORDS + i;
            uint32_t row[2 * TILES];
            few_rows<TILES>(row, codes + (size_t)w * LADE_TILE, mine && s < steps && w < words);
#pragma unroll
            for (int r = 0; r < 2 * TILES; r++)
                raw.word[s][r][i] = row[r];
        }
    }
    const int group = step0 * FEW_STEP / m.group, groups = matrix_groups(m);
    const size_t at = ((size_t)tile * (size_t)groups + (size_t)group) * LADE_TILE + (size_t)in_tile;
    for (int i = 0; i < TILES; i++)
        raw.scale[i] = mine ? ((const uint32_t *)(matrix_scales(m) + at))[i] : 0;
    if (m.has_zeros && mine) {
        const uint8_t *z = matrix_zeros(m) + at;
        raw.zeros = TILES == 2 ? *(const uint32_t *)z : *(const uint16_t *)z;
    }
}

/* A chunk of codes less their zero as four pairs of bf16, exact. `zero` is a pair. */
__device__ static inline void few_codes4(uint32_t word, uint32_t zero, uint32_t a[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) /* 128 + code has the code as its low bits */
        a[i] = bf16_sub((word >> 4 * i & 0x000f000fu) | 0x43004300u, zero);
}

/* Seven bits as above; the eighth chooses whether 256 or 128 is taken off. `zero` is off 128. */
__device__ static inline void few_codes8(uint32_t low, uint32_t high, uint32_t zero, bool has_zeros,
                                         uint32_t a[4])
{
    const uint32_t even = __byte_perm(low, high, 0x5410), odd = __byte_perm(low, high, 0x7632);
    const uint32_t pairs[4] = {even, even >> 8, odd, odd >> 8};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        a[i] = bf16_sub((pairs[i] & 0x007f007fu) | 0x43004300u,
                        (pairs[i] & 0x00800080u) ^ 0x43804380u);
        if (has_zeros)
            a[i] = bf16_sub(a[i], zero);
    }
}

/* Row r's chunk of step s as pairs of bf16. */
template <int KIND, int TILES>
__device__ static inline void few_decode(const struct few_raw<KIND, TILES> &raw, bool has_zeros,
                                         int s, int r, uint32_t a[4])
{
    if (KIND == GPU_BF16) {
        const uint32_t *w = raw.word[s][r];
        a[0] = __byte_perm(w[0], w[raw.WORDS - 2], 0x5410);
        a[1] = __byte_perm(w[0], w[raw.WORDS - 2], 0x7632);
        a[2] = __byte_perm(w[raw.WORDS - 3], w[raw.WORDS - 1], 0x5410);
        a[3] = __byte_perm(w[raw.WORDS - 3], w[raw.WORDS - 1], 0x7632);
        return;
    }
    const float z = has_zeros ? (float)(raw.zeros >> 8 * r & 255) : 0.0f;
    if (KIND == GPU_Q4) {
        uint32_t zero = has_zeros ? bf16_bits(128.0f + z) * 0x10001u : 0x43084308u; /* 136 */
        few_codes4(raw.word[s][r][0], zero, a);
    } else {
        uint32_t zero = has_zeros ? bf16_bits(z - 128.0f) * 0x10001u : 0;
        few_codes8(raw.word[s][r][0], raw.word[s][r][raw.WORDS - 1], zero, has_zeros, a);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* c[set][i]: the fragment of rows 2i and 2i + 1 of a lane with columns 8 * set + [0, 8). */
template <int TILES, int SETS> struct few_sums {
    float c[SETS][TILES][4];
};

template <int TILES, int SETS>
__device__ static inline void few_multiply(struct few_sums<TILES, SETS> &sums,
                                           const uint32_t a[2 * TILES][4], const uint4 x[SETS])
{
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        const uint32_t *even = a[2 * i], *odd = a[2 * i + 1];
        const uint32_t first[4] = {even[0], odd[0], even[1], odd[1]};
        const uint32_t second[4] = {even[2], odd[2], even[3], odd[3]};
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            const uint32_t low[2] = {x[set].x, x[set].y}, high[2] = {x[set].z, x[set].w};
            mma_bf16(sums.c[set][i], first, low);
            mma_bf16(sums.c[set][i], second, high);
        }
    }
}

/* This lane's inputs of the chunk at `chunk` of the stage. */
template <int SETS>
__device__ static inline void few_inputs(uint4 x[SETS], const char *xs, int stride, int columns,
                                         int chunk)
{
    const int g = (int)threadIdx.x % GPU_WARP / 4;
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        int column = set * 8 + g;
        x[set] = column < columns
                     ? *(const uint4 *)(xs + (size_t)column * (size_t)stride + (size_t)chunk * 16)
                     : make_uint4(0, 0, 0, 0);
    }
}

template <int KIND, int TILES, int SETS>
__device__ static inline void
few_batch(struct few_sums<TILES, SETS> &sums, const struct few_raw<KIND, TILES> &raw,
          bool has_zeros, int steps, const char *xs, int stride, int columns, int chunk0)
{
    const int t = (int)threadIdx.x % 4;
    struct few_sums<TILES, SETS> part = {
    };
#pragma unroll
    for (int s = 0; s < raw.STEPS; s++) {
        if (s >= steps)
            break;
        uint32_t a[2 * TILES][4];
        uint4 x[SETS];
        few_inputs<SETS>(x, xs, stride, columns, chunk0 + s * 4 + t);
#pragma unroll
        for (int r = 0; r < 2 * TILES; r++)
            few_decode<KIND, TILES>(raw, has_zeros, s, r, a[r]);
        few_multiply<TILES, SETS>(part, a, x);
    }
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        float even = 1, odd = 1;
        if (KIND != GPU_BF16) {
            even = half_value(raw.scale[i] & 0xffff);
            odd = half_value(raw.scale[i] >> 16);
        }
#pragma unroll
        for (int set = 0; set < SETS; set++) {
            sums.c[set][i][0] += even * part.c[set][i][0];
            sums.c[set][i][1] += even * part.c[set][i][1];
            sums.c[set][i][2] += odd * part.c[set][i][2];
            sums.c[set][i][3] += odd * part.c[set][i][3];
        }
    }
}

/* What a warp multiplies: rows from row0; of the batches every `every`-th from `first` on, below
 * `last`. The stage begins with the inputs of step `stage_step`. */
struct few_range {
    int row0, first, last, every, stage_step;
};

template <int KIND, int TILES>
__device__ static inline void few_begin(struct few_raw<KIND, TILES> &raw,
                                        const struct gpu_matrix &m, const struct few_range &range)
{
    const int per = few_batch_steps(m), all = (m.cols - 1) / FEW_STEP + 1;
    if (KIND != GPU_WIDE && range.first < range.last)
        few_load<KIND, TILES>(raw, m, range.row0, range.first * per,
                              gpu_least(per, all - range.first * per));
}

/* Weights of more than 8 bits are sums of three bf16 numbers, as inputs are. */
template <int TILES, int SETS>
__device__ static inline void few_wide(struct few_sums<TILES, SETS> &sums,
                                       const struct gpu_matrix &m, const uint16_t *books, int row0,
                                       int chunk, const uint4 x[SETS])
{
    const int g = (int)threadIdx.x % GPU_WARP / 4;
    __align__(16) float v[2 * TILES][8];
    for (int r = 0; r < 2 * TILES; r++) {
        int row = row0 + 2 * TILES * g + r;
        for (int i = 0; i < 8; i++)
            v[r][i] = 0;
        if (row < m.rows)
            matrix_chunk(m, books, row, chunk, v[r]);
    }
    for (int p = 0; p < FEW_PARTS; p++) {
        uint32_t a[2 * TILES][4];
#pragma unroll
        for (int r = 0; r < 2 * TILES; r++)
            few_take(v[r], a[r]);
        few_multiply<TILES, SETS>(sums, a, x);
    }
}

/* The batches of one matrix; raw holds the first one if there is any. */
template <int KIND, int TILES, int SETS>
__device__ static inline void few_run(struct few_sums<TILES, SETS> &sums,
                                      struct few_raw<KIND, TILES> &raw, const struct gpu_matrix &m,
                                      const uint16_t *books, const struct few_range &range,
                                      const char *xs, int stride, int columns)
{
    const int per = few_batch_steps(m), all = (m.cols - 1) / FEW_STEP + 1;
    for (int b = range.first; b < range.last; b += range.every) {
        const int chunk0 = (b * per - range.stage_step) * 4, steps = gpu_least(per, all - b * per);
        if (KIND == GPU_WIDE) {
            for (int s = 0; s < steps; s++) {
                const int t = (int)threadIdx.x % 4;
                uint4 x[SETS];
                few_inputs<SETS>(x, xs, stride, columns, chunk0 + s * 4 + t);
                few_wide<TILES, SETS>(sums, m, books, range.row0, (b * per + s) * 4 + t, x);
            }
            continue;
        }
        struct few_raw<KIND, TILES> next = raw;
        const int after = b + range.every;
        if (after < range.last)
            few_load<KIND, TILES>(next, m, range.row0, after * per,
                                  gpu_least(per, all - after * per));
        few_batch<KIND, TILES, SETS>(sums, raw, m.has_zeros, steps, xs, stride, columns, chunk0);
        raw = next;
    }
}

/* ---- results --------------------------------------------------------------------------------- */

/* A warp's sums to shared memory: [16 * TILES rows][8 * SETS columns]. */
template <int TILES, int SETS>
__device__ static inline void few_store(float *to, const struct few_sums<TILES, SETS> &sums)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int set = 0; set < SETS; set++)
            for (int odd = 0; odd < 2; odd++) {
                int row = 2 * TILES * g + 2 * i + odd;
                float *at = to + row * (8 * SETS) + set * 8 + 2 * t;
                at[0] = sums.c[set][i][2 * odd];
                at[1] = sums.c[set][i][2 * odd + 1];
            }
}

/* Row `row` times token `token`: the sum over `warps` warps, in order, and the token's columns. */
template <int TILES, int SETS>
__device__ static inline float few_result(const float *from, int warps, int row, int token)
{
    float sum = 0;
    for (int p = FEW_PARTS - 1; p >= 0; p--)
        for (int w = 0; w < warps; w++)
            sum += from[(w * 16 * TILES + row) * (8 * SETS) + token * FEW_PARTS + p];
    return sum;
}

#endif
