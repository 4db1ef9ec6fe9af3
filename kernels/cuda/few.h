/* few.h - products of a weight matrix with few tokens: each weight is read once.
 *
 * Tensor cores multiply 16 rows by 8 columns, and a token needs but one. The spare columns buy
 * precision: an input is the sum of three bf16 numbers (8 bits each, so all 24 of a float), each
 * in its own column, and integer codes are bf16 numbers as they are. All products are then exact
 * and the sums are those of floats.
 *
 * A warp owns 16 rows; its lane 4g + t holds rows 2g and 2g + 1 and, in a step of 32 inputs, chunk
 * t of four. A *batch* is some steps that share a scale, eight registers a lane. Several batches
 * are on their way at any time; with nothing else to wait for, that is what fills the memory bus.
 * Warps that share rows take batches in turn and need no barrier before their sums are joined:
 * each brings the inputs of its own batches to shared memory itself.
 *
 * Which inputs make a chunk depends on the weights: eight in a row, or where a load then covers
 * twice the run of memory, four and the four that come 16 later. */
#ifndef LADE_CUDA_FEW_H
#define LADE_CUDA_FEW_H

#include "kernels/cuda/weights.h"

enum {
    FEW_ROWS = 16,  /* of a warp */
    FEW_PARTS = 3,  /* columns of a token */
    FEW_STEP = 32,  /* inputs */
    FEW_CHUNKS = 4, /* of a step */
};

/* ---- a matrix, ready to be read -------------------------------------------------------------- */

struct few_view {
    const uint8_t *data;
    const uint16_t *scales;
    const uint8_t *zeros; /* NULL: symmetric */
    int rows, cols, words, groups;
    int per, batches; /* steps of a batch, batches of a row */
    int per_group;    /* batches that share a scale */
};

/* Steps of one batch: a divisor of the group's. */
__host__ __device__ static inline int few_batch_steps(const struct gpu_matrix &m)
{
    if (m.kind != GPU_Q4 && m.kind != GPU_Q8)
        return 1;
    int steps = m.group / FEW_STEP;
    if (m.kind == GPU_Q8)
        return steps % 2 == 0 ? 2 : 1;
    return steps % 4 == 0 ? 4 : steps % 3 == 0 ? 3 : steps % 2 == 0 ? 2 : 1;
}

__host__ __device__ static inline int few_batches(const struct gpu_matrix &m)
{
    return ((m.cols - 1) / FEW_STEP + few_batch_steps(m)) / few_batch_steps(m);
}

__device__ static inline struct few_view few_view_of(const struct gpu_matrix &m)
{
    struct few_view v = {};
    v.data = m.data;
    v.rows = m.rows;
    v.cols = m.cols;
    v.per = few_batch_steps(m);
    v.batches = few_batches(m);
    if (m.kind == GPU_Q4 || m.kind == GPU_Q8) {
        v.words = matrix_words(m);
        v.groups = matrix_groups(m);
        v.scales = matrix_scales(m);
        v.zeros = m.has_zeros ? matrix_zeros(m) : nullptr;
        v.per_group = m.group / (FEW_STEP * v.per);
    }
    return v;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Bytes from one column to the next, for `steps` steps. Odd multiples of 64 keep two columns'
 * halves in different banks. */
__host__ __device__ static inline int few_stride(int steps)
{
    return steps % 2 ? steps * 64 : steps * 64 + 64;
}

/* Where the two halves of chunk t begin in a step. */
__device__ static inline int few_half(int kind, int t, int half)
{
    return kind == GPU_Q8 || kind == GPU_F32 ? half * 16 + t * 4 : t * 8 + half * 4;
}

/* Chunk t of the step at x, of which `left` inputs are there: zeros beyond. */
__device__ static inline void few_get(float v[8], const float *x, int kind, int t, int left)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int at = few_half(kind, t, half);
        if (at + 4 <= left && ((uintptr_t)(x + at) & 15) == 0) {
            *(float4 *)(v + 4 * half) = *(const float4 *)(x + at);
            continue;
        }
        for (int i = 0; i < 4; i++)
            v[4 * half + i] = at + i < left ? x[at + i] : 0.0f;
    }
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

/* Splits a chunk; v is used up. `column` is the token's first. */
__device__ static inline void few_put(char *xs, int stride, int column, int chunk, float v[8])
{
#pragma unroll
    for (int p = 0; p < FEW_PARTS; p++) {
        uint32_t pair[4];
        few_take(v, pair);
        *(uint4 *)(xs + (column + p) * stride + chunk * 16) =
            make_uint4(pair[0], pair[1], pair[2], pair[3]);
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* One batch as it lies in memory: [step][row][word]. */
template <int KIND> struct few_raw {
    enum {
        STEPS = KIND == GPU_Q4   ? 4
                : KIND == GPU_Q8 ? 2
                                 : 1,
        WORDS = KIND == GPU_Q4    ? 1
                : KIND == GPU_Q8  ? 2
                : KIND == GPU_F32 ? 8
                                  : 4,
        AHEAD = KIND == GPU_F32 ? 2 : 4, /* batches on their way */
    };
    uint32_t word[STEPS][2][WORDS];
    uint32_t scale; /* a pair of f16 */
    uint32_t zeros; /* a byte a row */
};

/* Words of both rows of a lane: rows lie beside each other in every word. */
template <int KIND>
__device__ static inline void few_load_tiled(struct few_raw<KIND> &raw, const struct few_view &m,
                                             int row0, int batch)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    const int tile = row0 / LADE_TILE, step0 = batch * m.per;
    const bool mine = row0 < m.rows && batch < m.batches;
    const uint32_t *codes =
        (const uint32_t *)m.data + (size_t)tile * (size_t)m.words * LADE_TILE + (size_t)(2 * g);
#pragma unroll
    for (int s = 0; s < raw.STEPS; s++)
#pragma unroll
        for (int i = 0; i < raw.WORDS; i++) {
            const int w = ((step0 + s) * raw.WORDS + i) * FEW_CHUNKS + t;
            const bool inside = mine && s < m.per && w < m.words;
            const uint2 v = inside ? stream8(codes + (size_t)w * LADE_TILE) : make_uint2(0, 0);
            raw.word[s][0][i] = v.x;
            raw.word[s][1][i] = v.y;
        }
    const size_t at =
        ((size_t)tile * (size_t)m.groups + (size_t)(batch / m.per_group)) * LADE_TILE +
        (size_t)(2 * g);
    raw.scale = mine ? *(const uint32_t *)(m.scales + at) : 0;
    raw.zeros = mine && m.zeros ? *(const uint16_t *)(m.zeros + at) : 0;
}

/* Row-major numbers of SIZE bytes. */
template <int KIND, int SIZE>
__device__ static inline void few_load_plain(struct few_raw<KIND> &raw, const struct few_view &m,
                                             int row0, int batch)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    enum { LOADS = SIZE / 2 }; /* of 16 bytes */
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int row = row0 + 2 * g + r;
            const int at = batch * FEW_STEP + (LOADS == 1 ? t * 8 : few_half(KIND, t, i));
            const bool inside = row < m.rows && at < m.cols;
            const size_t where = ((size_t)row * (size_t)m.cols + (size_t)at) * SIZE;
            const uint4 v = inside ? stream16(m.data + where) : make_uint4(0, 0, 0, 0);
            raw.word[0][r][i * 4 % raw.WORDS] = v.x;
            raw.word[0][r][(i * 4 + 1) % raw.WORDS] = v.y;
            raw.word[0][r][(i * 4 + 2) % raw.WORDS] = v.z;
            raw.word[0][r][(i * 4 + 3) % raw.WORDS] = v.w;
        }
}

template <int KIND>
__device__ static inline void few_load(struct few_raw<KIND> &raw, const struct few_view &m,
                                       int row0, int batch)
{
    if constexpr (KIND == GPU_Q4 || KIND == GPU_Q8)
        few_load_tiled<KIND>(raw, m, row0, batch);
    else if constexpr (KIND == GPU_BF16)
        few_load_plain<KIND, 2>(raw, m, row0, batch);
    else if constexpr (KIND == GPU_F32)
        few_load_plain<KIND, 4>(raw, m, row0, batch);
}

/* A chunk of codes less their zero as four pairs of bf16, exact. `zero` is a pair. */
__device__ static inline void few_codes4(uint32_t word, uint32_t zero, uint32_t a[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) /* 128 + code has the code as its low bits */
        a[i] = bf16_sub((word >> 4 * i & 0x000f000fu) | 0x43004300u, zero);
}

/* Seven bits as above; the eighth chooses whether 256 or 128 is taken off. `zero` is off 128. */
__device__ static inline void few_codes8(const uint32_t word[2], uint32_t zero, bool has_zeros,
                                         uint32_t a[4])
{
    const uint32_t even = __byte_perm(word[0], word[1], 0x5410);
    const uint32_t odd = __byte_perm(word[0], word[1], 0x7632);
    const uint32_t pairs[4] = {even, even >> 8, odd, odd >> 8};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        a[i] = bf16_sub((pairs[i] & 0x007f007fu) | 0x43004300u,
                        (pairs[i] & 0x00800080u) ^ 0x43804380u);
        if (has_zeros)
            a[i] = bf16_sub(a[i], zero);
    }
}

/* Row r's chunk of step s as pairs of bf16, where these are exact. */
template <int KIND>
__device__ static inline void few_decode(const struct few_raw<KIND> &raw, bool has_zeros, int s,
                                         int r, uint32_t a[4])
{
    const uint32_t *w = raw.word[s][r];
    if constexpr (KIND == GPU_BF16) {
        a[0] = __byte_perm(w[0], w[2], 0x5410);
        a[1] = __byte_perm(w[0], w[2], 0x7632);
        a[2] = __byte_perm(w[1], w[3], 0x5410);
        a[3] = __byte_perm(w[1], w[3], 0x7632);
    } else {
        const float z = (float)(raw.zeros >> 8 * r & 255);
        if constexpr (KIND == GPU_Q4)
            few_codes4(w[0], has_zeros ? bf16_bits(128.0f + z) * 0x10001u : 0x43084308u, a);
        else
            few_codes8(w, bf16_bits(z - 128.0f) * 0x10001u, has_zeros, a);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

/* c[set]: the fragment of a lane's two rows with columns 8 * set + [0, 8). */
template <int SETS> struct few_sums {
    float c[SETS][4];
};

template <int SETS>
__device__ static inline void few_multiply(struct few_sums<SETS> &sums, const uint32_t even[4],
                                           const uint32_t odd[4], const uint4 x[SETS])
{
    const uint32_t first[4] = {even[0], odd[0], even[1], odd[1]};
    const uint32_t second[4] = {even[2], odd[2], even[3], odd[3]};
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        const uint32_t low[2] = {x[set].x, x[set].y}, high[2] = {x[set].z, x[set].w};
        mma_bf16(sums.c[set], first, low);
        mma_bf16(sums.c[set], second, high);
    }
}

/* This lane's inputs of a staged chunk. */
template <int SETS>
__device__ static inline void few_inputs(uint4 x[SETS], const char *xs, int stride, int columns,
                                         int chunk)
{
    const int g = (int)threadIdx.x % GPU_WARP / 4;
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        int column = set * 8 + g;
        x[set] = column < columns ? *(const uint4 *)(xs + column * stride + chunk * 16)
                                  : make_uint4(0, 0, 0, 0);
    }
}

/* Weights of more than 8 bits are sums of three bf16 numbers, as inputs are. */
template <int SETS>
__device__ static inline void few_wide(struct few_sums<SETS> &sums, float v[2][8],
                                       const uint4 x[SETS])
{
#pragma unroll
    for (int p = 0; p < FEW_PARTS; p++) {
        uint32_t even[4], odd[4];
        few_take(v[0], even);
        few_take(v[1], odd);
        few_multiply<SETS>(sums, even, odd, x);
    }
}

/* A batch whose inputs begin at `chunk0` of the stage. */
template <int KIND, int SETS>
__device__ static inline void few_batch(struct few_sums<SETS> &sums,
                                        const struct few_raw<KIND> &raw, const struct few_view &m,
                                        const char *xs, int stride, int columns, int chunk0)
{
    const int t = (int)threadIdx.x % 4;
    struct few_sums<SETS> part = {
    };
#pragma unroll
    for (int s = 0; s < raw.STEPS; s++) {
        if (s >= m.per)
            break;
        uint4 x[SETS];
        few_inputs<SETS>(x, xs, stride, columns, chunk0 + s * FEW_CHUNKS + t);
        if constexpr (KIND == GPU_F32) {
            float v[2][8];
#pragma unroll
            for (int r = 0; r < 2; r++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    v[r][i] = __uint_as_float(raw.word[0][r][i % raw.WORDS]);
            few_wide<SETS>(part, v, x);
        } else {
            uint32_t even[4], odd[4];
            few_decode<KIND>(raw, m.zeros, s, 0, even);
            few_decode<KIND>(raw, m.zeros, s, 1, odd);
            few_multiply<SETS>(part, even, odd, x);
        }
    }
    const bool scaled = KIND == GPU_Q4 || KIND == GPU_Q8;
    const float even = scaled ? half_value(raw.scale & 0xffff) : 1.0f;
    const float odd = scaled ? half_value(raw.scale >> 16) : 1.0f;
#pragma unroll
    for (int set = 0; set < SETS; set++) {
        sums.c[set][0] += even * part.c[set][0];
        sums.c[set][1] += even * part.c[set][1];
        sums.c[set][2] += odd * part.c[set][2];
        sums.c[set][3] += odd * part.c[set][3];
    }
}

/* A warp's work: `mine` batches of a matrix, every `every`th from `first` on. */
struct few_source {
    struct few_view v;
    const struct gpu_matrix &m;
    const uint16_t *books;
    const float *inputs; /* [tokens][columns] */
    int tokens, row0, first, every, mine;
};

__device__ static inline int few_number(const struct few_source &source, int i)
{
    return source.first + i * source.every;
}

/* Inputs of `count` batches from `from` on to the warp's shared memory. */
__device__ static inline void few_stage(const struct few_source &source, int kind, int from,
                                        int count, char *area, int stride)
{
    const int lane = (int)threadIdx.x % GPU_WARP, per = source.v.per, chunks = per * FEW_CHUNKS;
    for (int i = lane; i < source.tokens * count * chunks; i += GPU_WARP) {
        const int token = i / (count * chunks), unit = i / chunks % count, chunk = i % chunks;
        const int at = (few_number(source, from + unit) * per + chunk / FEW_CHUNKS) * FEW_STEP;
        __align__(16) float v[8];
        few_get(v, source.inputs + (size_t)token * (size_t)source.v.cols + at, kind,
                chunk % FEW_CHUNKS, source.v.cols - at);
        few_put(area, stride, token * FEW_PARTS, unit * chunks + chunk, v);
    }
    __syncwarp();
}

/* The weights that may be on their way before the inputs are there. */
template <int KIND>
__device__ static inline void few_begin(struct few_raw<KIND> raw[few_raw<KIND>::AHEAD],
                                        const struct few_source &source)
{
#pragma unroll
    for (int d = 0; d < few_raw<KIND>::AHEAD; d++)
        if (KIND != GPU_WIDE && d < source.mine)
            few_load<KIND>(raw[d], source.v, source.row0, few_number(source, d));
}

/* A batch of values that are made when they are needed. */
template <int SETS>
__device__ static inline void few_made(struct few_sums<SETS> &sums, const struct few_source &source,
                                       int batch, const char *area, int stride, int chunk0)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    __align__(16) float v[2][8];
    for (int r = 0; r < 2; r++) {
        const int row = source.row0 + 2 * g + r;
        if (row < source.v.rows)
            matrix_chunk(source.m, source.books, row, batch * FEW_CHUNKS + t, v[r]);
        else
            for (int i = 0; i < 8; i++)
                v[r][i] = 0;
    }
    uint4 x[SETS];
    few_inputs<SETS>(x, area, stride, source.tokens * FEW_PARTS, chunk0 + t);
    few_wide<SETS>(sums, v, x);
}

/* `area` is shared memory for the inputs of `span` batches. */
template <int KIND, int SETS>
__device__ static inline void few_run(struct few_sums<SETS> &sums,
                                      struct few_raw<KIND> raw[few_raw<KIND>::AHEAD],
                                      const struct few_source &source, char *area, int span)
{
    enum { AHEAD = few_raw<KIND>::AHEAD };
    const int per = source.v.per, stride = few_stride(span * per);
    int staged = 0; /* batches whose inputs have been staged, the last `span` are there */
    for (int i0 = 0; i0 < source.mine; i0 += AHEAD) {
#pragma unroll
        for (int d = 0; d < AHEAD; d++) {
            const int i = i0 + d;
            if (i >= source.mine)
                break;
            if (i == staged) {
                const int count = gpu_least(span, source.mine - i);
                __syncwarp();
                few_stage(source, KIND, i, count, area, stride);
                staged += count;
            }
            const int chunk0 = (i % span) * per * FEW_CHUNKS;
            if constexpr (KIND == GPU_WIDE) {
                few_made<SETS>(sums, source, few_number(source, i), area, stride, chunk0);
            } else {
                few_batch<KIND, SETS>(sums, raw[d], source.v, area, stride,
                                      source.tokens * FEW_PARTS, chunk0);
                if (i + AHEAD < source.mine)
                    few_load<KIND>(raw[d], source.v, source.row0, few_number(source, i + AHEAD));
            }
        }
    }
    __syncwarp(); /* the area is free */
}

/* ---- results --------------------------------------------------------------------------------- */

/* A warp's sums to its area: [16 rows][8 * SETS columns]. */
template <int SETS>
__device__ static inline void few_store(char *area, const struct few_sums<SETS> &sums)
{
    const int lane = (int)threadIdx.x % GPU_WARP, g = lane / 4, t = lane % 4;
    float *to = (float *)area;
#pragma unroll
    for (int set = 0; set < SETS; set++)
        for (int odd = 0; odd < 2; odd++) {
            float *at = to + (2 * g + odd) * (8 * SETS) + set * 8 + 2 * t;
            at[0] = sums.c[set][2 * odd];
            at[1] = sums.c[set][2 * odd + 1];
        }
}

/* Row `row` times token `token`: the sum over `warps` areas, in order, and the token's columns. */
template <int SETS>
__device__ static inline float few_result(const char *area, int bytes, int warps, int row,
                                          int token)
{
    float sum = 0;
    for (int w = 0; w < warps; w++) {
        const float *at = (const float *)(area + w * bytes) + row * (8 * SETS) + token * FEW_PARTS;
        sum += at[2] + at[1] + at[0];
    }
    return sum;
}

/* Shared memory of a warp: inputs of `span` units of `per` steps, later its sums. */
__host__ __device__ static inline int few_area(int tokens, int span, int per, int sets)
{
    int inputs = tokens * FEW_PARTS * few_stride(span * per), sums = FEW_ROWS * 8 * sets * 4;
    return inputs > sums ? inputs : sums;
}

#endif
