/* one.h - products of a weight matrix with one token, exact, at the speed of memory.
 *
 * With a norm before the product, inputs are x times the norm's weights, which lie in shared memory
 * before the kernel ahead has ended; who stages x sums up its squares as well, and what they
 * make of the row is one factor of each result. So the norm costs no launch and no pass of its own.
 *
 * A lane asks for ONE_LOADS times 16 bytes at once and multiplies when they are there: weights of
 * the whole card are then on their way together. Inputs are floats, read from the first cache.
 * Codes become floats without conversion: as the low bits of 2^23 they are integers, less
 * 2^23 + zero they are weights, and what lies 4 or 8 bits higher is 16 or 256 times as much, for
 * which the input is made smaller. All of that is exact.
 *
 * Tiles (kernels/matrix.h): lane 4p + q reads rows 4q .. 4q + 3 of a tile's word p, so that a warp
 * reads 512 bytes in a row, a *run* of 8 words. */
#ifndef LADE_CUDA_ONE_H
#define LADE_CUDA_ONE_H

#include "kernels/cuda/weights.h"

enum { ONE_LOADS = 8, ONE_WORDS = 8 /* of a run */, ONE_ROWS = LADE_TILE };

/* The norm before a product. */
struct one_norm {
    const float *w; /* [dim] */
    float eps;
    int dim; /* columns of the products */
};

__host__ __device__ static inline int one_words(const struct gpu_matrix &m)
{
    return m.type == LADE_Q4 ? (m.cols + 7) / 8 : (m.cols + 3) / 4;
}

/* Runs of a tile. */
__host__ __device__ static inline int one_runs(const struct gpu_matrix &m)
{
    return (one_words(m) + ONE_WORDS - 1) / ONE_WORDS;
}

/* Four inputs from x[at] on; zeros from `cols` on. */
__device__ static inline float4 one_inputs(const float *x, int at, int cols)
{
    if (at + 4 <= cols && ((uintptr_t)(x + at) & 15) == 0)
        return *(const float4 *)(x + at);
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = at + i < cols ? x[at + i] : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

/* What a norm multiplies by, of the sums of squares of `parts` parts of a row. */
__device__ static inline float one_scale(const float *squares, int parts,
                                         const struct one_norm &norm)
{
    float sum = 0;
    for (int i = 0; i < parts; i++)
        sum += squares[i];
    return 1.0f / sqrtf(sum / (float)norm.dim + norm.eps);
}

__device__ static inline float4 one_times(const float4 a, const float4 b)
{
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

__device__ static inline float one_square(const float4 a)
{
    return a.x * a.x + a.y * a.y + a.z * a.z + a.w * a.w;
}

/* ---- tiles of 4- and 8-bit codes --------------------------------------------------------------- */

#define ONE_MAGIC 0x4b000000u /* 2^23 */

/* 2^23 and what `mask` leaves of a word, in one instruction: left alone the compiler takes two, as both are
 * constants. */
__device__ static inline uint32_t one_bits(uint32_t word, uint32_t mask)
{
#ifdef __CUDACC__
    uint32_t bits;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(bits) : "r"(word), "r"(mask), "r"(ONE_MAGIC));
    return bits;
#else
    return (word & mask) | ONE_MAGIC;
#endif
}

/* Zeros of four rows where a matrix has none of its own. */
template <int KIND> __device__ static inline constexpr uint32_t one_zeros(void)
{
    return KIND == GPU_Q4 ? 0x08080808u : 0x80808080u;
}

/* Four inputs, of words of 4-bit codes as one_word4() takes them. */
template <int KIND> __device__ static inline float4 one_scaled(const float4 v)
{
    return KIND == GPU_Q4 ? make_float4(v.x, v.y * 0x1p-4f, v.z * 0x1p-8f, v.w * 0x1p-12f) : v;
}

/* The sum of a word's codes less `zero`, times inputs; those of v are divided by 16^(i % 4). */
__device__ static inline float one_word4(uint32_t word, const float base[4], const float v[8])
{
    float sum = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t w = half ? word >> 16 : word;
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum += (__uint_as_float(one_bits(w, 15u << 4 * i)) - base[i]) * v[half * 4 + i];
    }
    return sum;
}

__device__ static inline float one_word8(uint32_t word, float base, const float v[4])
{
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum += (__uint_as_float(__byte_perm(word, ONE_MAGIC, 0x7540 | i)) - base) * v[i];
    return sum;
}

/* Inputs of a pack. */
template <int KIND> __host__ __device__ static inline constexpr int one_pack(void)
{
    return ONE_LOADS * ONE_WORDS * (KIND == GPU_Q4 ? 8 : 4);
}

/* Brings a pack's inputs, from x[at] on, to the warp's shared memory. */
template <int KIND>
__device__ static inline void one_stage(float *area, const float *x, int at, int cols)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    __syncwarp(); /* the last pack is done */
#pragma unroll
    for (int i = 0; i < one_pack<KIND>() / 4 / GPU_WARP; i++) {
        const int from = (i * GPU_WARP + lane) * 4;
        *(float4 *)(area + from) = one_scaled<KIND>(one_inputs(x, at + from, cols));
    }
    __syncwarp();
}

/* With a norm: first its weights to the same places, then each lane multiplies what it put there.
 * Returns the squares of the lane's inputs. */
template <int KIND>
__device__ static inline float one_stage_normed(float *area, const float *x, int at, int cols)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < one_pack<KIND>() / 4 / GPU_WARP; i++) {
        float4 *place = (float4 *)(area + (i * GPU_WARP + lane) * 4);
        const float4 v = one_inputs(x, at + (i * GPU_WARP + lane) * 4, cols);
        squares += one_square(v);
        *place = one_times(v, *place);
    }
    __syncwarp();
    return squares;
}

/* A lane's share of one run, times inputs, added to its four rows. */
template <int KIND>
__device__ static inline void one_run(float sums[4], const uint4 code, const uint2 scale,
                                      uint32_t zeros, const float *inputs)
{
    enum { PER = KIND == GPU_Q4 ? 8 : 4 };
    const uint32_t w[4] = {code.x, code.y, code.z, code.w};
    const float s[4] = {half_value(scale.x & 0xffff), half_value(scale.x >> 16),
                        half_value(scale.y & 0xffff), half_value(scale.y >> 16)};
    __align__(16) float v[PER];
#pragma unroll
    for (int i = 0; i < PER; i += 4)
        *(float4 *)(v + i) = *(const float4 *)(inputs + i);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const float zero = (float)(zeros >> 8 * r & 255);
        float part;
        if constexpr (KIND == GPU_Q4) {
            const float base[4] = {0x1p23f + zero, 0x1p23f + 16 * zero, 0x1p23f + 256 * zero,
                                   0x1p23f + 4096 * zero};
            part = one_word4(w[r], base, v);
        } else {
            part = one_word8(w[r], 0x1p23f + zero, v);
        }
        sums[r] += s[r] * part;
    }
}

/* Scales and zeros of a pack's groups: at most 8 of runs, 16 where a run has two. Lane 4p + q holds
 * those of its rows for groups p and 8 + p. */
struct one_groups {
    uint2 scale[2];
    uint32_t zeros[2];
};

template <int KIND>
__device__ static inline void one_groups_load(struct one_groups &g, const struct gpu_matrix &m,
                                              const uint16_t *scales, const uint8_t *zeros,
                                              int first, int shift)
{
    const int p = (int)threadIdx.x % GPU_WARP / 4, groups = matrix_groups(m);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int at = first + half * 8 + p;
        const bool here = at < groups && (!half || (KIND == GPU_Q4 && shift == 5));
        g.scale[half] = here ? stream8(scales + (size_t)at * LADE_TILE) : make_uint2(0, 0);
        g.zeros[half] = one_zeros<KIND>();
        if (zeros && here)
            g.zeros[half] = *(const uint32_t *)(zeros + (size_t)at * LADE_TILE);
    }
}

/* Adds to a lane's rows what `tile` of the matrix has in packs of ONE_LOADS runs: pack `first` and
 * every `step`th after it. Calls launch_wait() after it has asked for the first weights. `area` is
 * shared memory of the warp, of one_pack() floats. With a norm, of which `norm` are the weights,
 * returns the squares of the lane's inputs of these packs. */
template <int KIND, bool NORM = false>
__device__ static inline float one_tile(float sums[4], const struct gpu_matrix &m, const float *x,
                                        float *area, int tile, int first, int step,
                                        const float *norm = nullptr)
{
    float squares = 0;
    enum { PER = KIND == GPU_Q4 ? 8 : 4 };
    const int lane = (int)threadIdx.x % GPU_WARP, p = lane / 4, q = lane % 4;
    const int words = one_words(m), runs = one_runs(m), shift = 31 - __clz(m.group);
    const bool here = tile * ONE_ROWS < m.rows;
    const uint32_t *codes =
        (const uint32_t *)m.data + (size_t)tile * (size_t)words * LADE_TILE + (size_t)(4 * q);
    const size_t tiles = (size_t)tile * (size_t)matrix_groups(m) * LADE_TILE + (size_t)(4 * q);
    const uint16_t *scales = matrix_scales(m) + tiles;
    const uint8_t *zeros = m.has_zeros ? matrix_zeros(m) + tiles : nullptr;
    for (int run0 = first * ONE_LOADS; here && run0 < runs; run0 += step * ONE_LOADS) {
        const int group0 = run0 * ONE_WORDS * PER >> shift;
        struct one_groups groups;
        uint4 code[ONE_LOADS];
        one_groups_load<KIND>(groups, m, scales, zeros, group0, shift);
#pragma unroll
        for (int i = 0; i < ONE_LOADS; i++) {
            const int word = (run0 + i) * ONE_WORDS + p;
            code[i] =
                word < words ? stream16(codes + (size_t)word * LADE_TILE) : make_uint4(0, 0, 0, 0);
        }
        if constexpr (NORM)
            one_stage<KIND>(area, norm, run0 * ONE_WORDS * PER, m.cols);
        launch_wait();
        if constexpr (NORM)
            squares += one_stage_normed<KIND>(area, x, run0 * ONE_WORDS * PER, m.cols);
        else
            one_stage<KIND>(area, x, run0 * ONE_WORDS * PER, m.cols);
#pragma unroll
        for (int i = 0; i < ONE_LOADS; i++) {
            const int word = (run0 + i) * ONE_WORDS + p;
            const int from = ((word * PER >> shift) - group0) % 8 * 4 + q;
            const int half = KIND == GPU_Q4 && shift == 5 && i >= ONE_LOADS / 2;
            const uint2 scale = half ? groups.scale[1] : groups.scale[0];
            const uint32_t zero = half ? groups.zeros[1] : groups.zeros[0];
            one_run<KIND>(sums, code[i],
                          make_uint2(__shfl_sync(GPU_ALL_LANES, scale.x, from),
                                     __shfl_sync(GPU_ALL_LANES, scale.y, from)),
                          __shfl_sync(GPU_ALL_LANES, zero, from), area + (i * ONE_WORDS + p) * PER);
        }
    }
    return squares;
}

/* The sums of a warp's lanes for the 16 rows of a tile: a lane's is that of the row whose one_lane() it is,
 * or 4 before it. */
__device__ static inline float one_sum(const float sums[4])
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const bool second = lane & 16, odd = lane & 8;
    float low = second ? sums[2] : sums[0], high = second ? sums[3] : sums[1];
    low += __shfl_xor_sync(GPU_ALL_LANES, second ? sums[0] : sums[2], 16);
    high += __shfl_xor_sync(GPU_ALL_LANES, second ? sums[1] : sums[3], 16);
    float sum = odd ? high : low;
    sum += __shfl_xor_sync(GPU_ALL_LANES, odd ? low : high, 8);
    return sum + __shfl_xor_sync(GPU_ALL_LANES, sum, 4);
}

__device__ static inline int one_lane(int row)
{
    return row / 4 + row / 2 % 2 * 16 + row % 2 * 8;
}

/* The same to out[16]. */
__device__ static inline void one_store(float *out, const float sums[4])
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const float sum = one_sum(sums);
    if (!(lane & 4))
        out[lane % 4 * 4 + lane / 16 * 2 + lane / 8 % 2] = sum;
}

/* Row `row` of the sums of `warps` warps that lie one after the other. */
__device__ static inline float one_result(const float (*sums)[ONE_ROWS], int warps, int row)
{
    float sum = 0;
    for (int w = 0; w < warps; w++)
        sum += sums[w][row];
    return sum;
}

/* One product of a launch of several. */
struct one_job {
    struct gpu_matrix w;
    const float *x;
    float *y;
    int first_block, blocks, split; /* split: warps of a tile */
};

/* ---- rows of numbers --------------------------------------------------------------------------- */

enum {
    ROW_WARPS = 8,
    ROW_BLOCKS = 2,    /* on a multiprocessor: bounds the registers */
    ROW_INPUTS = 2048, /* in shared memory: a pack of 16-bit numbers, two of f32 */
};

/* Inputs of one pack of ONE_LOADS loads of a warp. */
template <int KIND> __host__ __device__ static inline constexpr int one_span(void)
{
    return ONE_LOADS * GPU_WARP * (KIND == GPU_F32 ? 4 : 8);
}

template <int KIND>
__device__ static inline void one_row_load(uint4 raw[ONE_LOADS], const struct gpu_matrix &m,
                                           int row, int from)
{
    enum { SIZE = KIND == GPU_F32 ? 4 : 2, PER = 16 / SIZE };
    const int lane = (int)threadIdx.x % GPU_WARP;
#pragma unroll
    for (int i = 0; i < ONE_LOADS; i++) {
        const int at = from + (i * GPU_WARP + lane) * PER;
        const size_t where = ((size_t)row * (size_t)m.cols + (size_t)at) * SIZE;
        raw[i] = row < m.rows && at < m.cols ? stream16(m.data + where) : make_uint4(0, 0, 0, 0);
    }
}

/* Where four inputs that begin at `at` lie in the block's shared memory of `room` floats: of eight
 * in a row, which a lane needs, the second four come later, so that lanes meet in no bank. */
template <int KIND> __device__ static inline int one_place(int at, int room)
{
    return KIND == GPU_F32 ? at : at / 8 * 4 + (at & 4 ? room / 2 : 0);
}

/* All of the block's threads bring inputs [from, from + ROW_INPUTS) to shared memory, zeros beyond.
 * A barrier must follow. */
template <int KIND>
__device__ static inline void one_row_stage(float *area, const float *x, int from, int cols)
{
    for (int at = (int)threadIdx.x * 4; at < ROW_INPUTS; at += (int)blockDim.x * 4)
        *(float4 *)(area + one_place<KIND>(at, ROW_INPUTS)) = one_inputs(x, from + at, cols);
}

/* With a norm: each thread multiplies what it put there, the norm's weights, by x + add. Returns
 * the squares of what it multiplied by. */
template <int KIND>
__device__ static inline float one_row_normed(float *area, const float *x, const float *add,
                                              int from, int cols)
{
    float squares = 0;
    for (int at = (int)threadIdx.x * 4; at < ROW_INPUTS; at += (int)blockDim.x * 4) {
        float4 *place = (float4 *)(area + one_place<KIND>(at, ROW_INPUTS));
        float4 v = one_inputs(x, from + at, cols);
        if (add) {
            const float4 more = one_inputs(add, from + at, cols);
            v = make_float4(v.x + more.x, v.y + more.y, v.z + more.z, v.w + more.w);
        }
        squares += one_square(v);
        *place = one_times(v, *place);
    }
    return squares;
}

/* Number j of 16 bytes. */
template <int KIND> __device__ static inline float one_number(const uint32_t w[4], int j)
{
    if constexpr (KIND == GPU_F32)
        return __uint_as_float(w[j]);
    else if constexpr (KIND == GPU_F16)
        return half_value(w[j / 2] >> j % 2 * 16 & 0xffff);
    else
        return j % 2 ? bf16_high(w[j / 2]) : bf16_low(w[j / 2]);
}

/* `at`: the pack's place in shared memory. */
template <int KIND>
__device__ static inline float one_row_multiply(const uint4 raw[ONE_LOADS], const float *area,
                                                int at)
{
    enum { PER = KIND == GPU_F32 ? 4 : 8 };
    const int lane = (int)threadIdx.x % GPU_WARP;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < ONE_LOADS; i++) {
        const uint32_t w[4] = {raw[i].x, raw[i].y, raw[i].z, raw[i].w};
        const int from = at + (i * GPU_WARP + lane) * PER;
        __align__(16) float v[PER];
#pragma unroll
        for (int j = 0; j < PER; j += 4)
            *(float4 *)(v + j) = *(const float4 *)(area + one_place<KIND>(from + j, ROW_INPUTS));
#pragma unroll
        for (int j = 0; j < PER; j += PER / 4)
            if constexpr (KIND == GPU_F32)
                sum += one_number<KIND>(w, j) * v[j];
            else
                sum += one_number<KIND>(w, j) * v[j] + one_number<KIND>(w, j + 1) * v[j + 1];
    }
    return sum;
}

/* A block's part of a job: a warp takes every so-manieth row; the next weights are on their way while
 * it multiplies. Columns go in stretches of ROW_INPUTS, of which the inputs are in `area`; a
 * stretch after the first adds to what is in y. With a norm inputs are those of x + add, `squares`
 * holds a number for each warp, and what the norm multiplies by is returned. */
template <int KIND, bool NORM>
__device__ static inline float one_rows(const struct one_job &job, float *area,
                                        const struct one_norm &norm, const float *add,
                                        float *squares)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int step = job.blocks * ROW_WARPS, cols = job.w.cols, span = one_span<KIND>();
    const int row0 = ((int)blockIdx.x - job.first_block) * ROW_WARPS + warp;
    uint4 raw[ONE_LOADS];
    float square = 0, scale = 1;
    one_row_load<KIND>(raw, job.w, row0, 0);
    if (NORM)
        one_row_stage<KIND>(area, norm.w, 0, cols);
    launch_wait();
    for (int stretch = 0; stretch < cols; stretch += ROW_INPUTS) {
        const int end = gpu_least(cols, stretch + ROW_INPUTS);
        int row = row0, from = stretch;
        float sum = 0;
        if (stretch) {
            one_row_load<KIND>(raw, job.w, row, from);
            __syncthreads(); /* what was there is done with */
            if (NORM)
                one_row_stage<KIND>(area, norm.w, stretch, cols);
        }
        if constexpr (NORM) {
            square += one_row_normed<KIND>(area, job.x, add, stretch, cols);
            const float of_warp = warp_sum(square);
            if (!lane)
                squares[warp] = of_warp;
        } else {
            one_row_stage<KIND>(area, job.x, stretch, cols);
        }
        __syncthreads();
        if (NORM && end == cols)
            scale = one_scale(squares, ROW_WARPS, norm);
        while (row < job.w.rows) {
            const bool last = from + span >= end;
            const int next_row = last ? row + step : row, next = last ? stretch : from + span;
            uint4 ahead[ONE_LOADS];
            one_row_load<KIND>(ahead, job.w, next_row, next);
            sum += one_row_multiply<KIND>(raw, area, from - stretch);
            if (last) {
                sum = warp_sum(sum);
                if (!lane)
                    job.y[row] = (stretch ? job.y[row] + sum : sum) * scale;
                sum = 0;
            }
#pragma unroll
            for (int i = 0; i < ONE_LOADS; i++)
                raw[i] = ahead[i];
            row = next_row;
            from = next;
        }
    }
    return scale;
}

#endif
