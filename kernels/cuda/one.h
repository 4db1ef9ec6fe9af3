/* one.h - products of a weight matrix with one token, exact, at the speed of memory.
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

/* ---- tiles of 4- and 8-bit codes --------------------------------------------------------------- */

#define ONE_MAGIC 0x4b000000u /* 2^23 */

/* The sum of a word's codes less `zero`, times inputs; those of v are divided by 16^(i % 4). */
__device__ static inline float one_word4(uint32_t word, const float base[4], const float v[8])
{
    float sum = 0;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t w = half ? word >> 16 : word;
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum += (__uint_as_float((w & 15u << 4 * i) | ONE_MAGIC) - base[i]) * v[half * 4 + i];
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
        float4 v = one_inputs(x, at + from, cols);
        if constexpr (KIND == GPU_Q4)
            v = make_float4(v.x, v.y * 0x1p-4f, v.z * 0x1p-8f, v.w * 0x1p-12f);
        *(float4 *)(area + from) = v;
    }
    __syncwarp();
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
        g.zeros[half] = KIND == GPU_Q4 ? 0x08080808u : 0x80808080u;
        if (zeros && here)
            g.zeros[half] = *(const uint32_t *)(zeros + (size_t)at * LADE_TILE);
    }
}

/* Adds to a lane's rows what `tile` of the matrix has in packs of ONE_LOADS runs: pack `first` and
 * every `step`th after it. Calls launch_wait() after it has asked for the first weights. `area` is
 * shared memory of the warp, of one_pack() floats. */
template <int KIND>
__device__ static inline void one_tile(float sums[4], const struct gpu_matrix &m, const float *x,
                                       float *area, int tile, int first, int step)
{
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
        launch_wait();
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
}

/* The sums of a warp's lanes for the 16 rows of a tile, to out[16]. */
__device__ static inline void one_store(float *out, const float sums[4])
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    const bool second = lane & 16, odd = lane & 8;
    float low = second ? sums[2] : sums[0], high = second ? sums[3] : sums[1];
    low += __shfl_xor_sync(GPU_ALL_LANES, second ? sums[0] : sums[2], 16);
    high += __shfl_xor_sync(GPU_ALL_LANES, second ? sums[1] : sums[3], 16);
    float sum = odd ? high : low;
    sum += __shfl_xor_sync(GPU_ALL_LANES, odd ? low : high, 8);
    sum += __shfl_xor_sync(GPU_ALL_LANES, sum, 4);
    if (!(lane & 4))
        out[lane % 4 * 4 + second * 2 + odd] = sum;
}

/* Row `row` of the sums of `warps` warps that lie one after the other. */
__device__ static inline float one_result(const float (*sums)[ONE_ROWS], int warps, int row)
{
    float sum = 0;
    for (int w = 0; w < warps; w++)
        sum += sums[w][row];
    return sum;
}

/* ---- rows of numbers --------------------------------------------------------------------------- */

/* Inputs of one pack of ONE_LOADS loads of a warp. */
template <int KIND> __host__ __device__ static inline constexpr int one_span(void)
{
    return ONE_LOADS * GPU_WARP * (KIND == GPU_BF16 ? 8 : 4);
}

template <int KIND>
__device__ static inline void one_row_load(uint4 raw[ONE_LOADS], const struct gpu_matrix &m,
                                           int row, int from)
{
    enum { SIZE = KIND == GPU_BF16 ? 2 : 4, PER = 16 / SIZE };
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
    return KIND == GPU_BF16 ? at / 8 * 4 + (at & 4 ? room / 2 : 0) : at;
}

/* All of the block's threads bring inputs [from, from + room) to shared memory, zeros beyond. */
template <int KIND>
__device__ static inline void one_row_stage(float *area, int room, const float *x, int from,
                                            int cols)
{
    __syncthreads(); /* what was there is done with */
    for (int at = (int)threadIdx.x * 4; at < room; at += (int)blockDim.x * 4)
        *(float4 *)(area + one_place<KIND>(at, room)) = one_inputs(x, from + at, cols);
    __syncthreads();
}

/* `at`: the pack's place in shared memory. */
template <int KIND>
__device__ static inline float one_row_multiply(const uint4 raw[ONE_LOADS], const float *area,
                                                int room, int at)
{
    enum { PER = KIND == GPU_BF16 ? 8 : 4 };
    const int lane = (int)threadIdx.x % GPU_WARP;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < ONE_LOADS; i++) {
        const uint32_t w[4] = {raw[i].x, raw[i].y, raw[i].z, raw[i].w};
        const int from = at + (i * GPU_WARP + lane) * PER;
        __align__(16) float v[PER];
#pragma unroll
        for (int j = 0; j < PER; j += 4)
            *(float4 *)(v + j) = *(const float4 *)(area + one_place<KIND>(from + j, room));
#pragma unroll
        for (int j = 0; j < 4; j++)
            if constexpr (KIND == GPU_BF16)
                sum += bf16_low(w[j]) * v[2 * j] + bf16_high(w[j]) * v[2 * j + 1];
            else
                sum += __uint_as_float(w[j]) * v[j];
    }
    return sum;
}

#endif
