/* run.h - products of blocks (LADE_BLOCKS) with one token.
 *
 * A *run* is 256 inputs of a tile: one block of its 16 rows, or several that follow each other. It lies
 * in memory in a row (kernels/matrix.h), so a warp copies it to shared memory as it is, 16 bytes a lane,
 * each byte once, the next run while it computes this one. There its two halves have a row a lane, and
 * each lane makes every second chunk of its row's values (blocks.h) and multiplies them by the inputs.
 * Sums are floats.
 *
 * With a norm before the product see one.h: inputs are multiplied by its weights as they are staged. */
#ifndef LADE_CUDA_RUN_H
#define LADE_CUDA_RUN_H

#include "kernels/cuda/one.h"

enum {
    RUN_INPUTS = 256,
    RUN_CHUNKS = RUN_INPUTS / 8,
    RUN_DEPTH = 2, /* runs of a warp in shared memory */
    RUN_WARPS = 4, /* of a block; all formats then do with the 48 KiB that each block may have */
    RUN_ON_SM = 5, /* blocks of a multiprocessor: bounds the registers */
};

/* Of a format: blocks of a run, bytes of their words and of what fills none. */
struct run_shape {
    int blocks, words, rest;
};

__host__ __device__ static inline struct run_shape run_shape_of(int format)
{
    const struct block_shape b = block_shape_of(format);
    const int blocks = RUN_INPUTS >> b.log2;
    return {blocks, blocks * b.words * LADE_TILE * 4, blocks * b.rest * LADE_TILE};
}

__host__ __device__ static inline int run_count(const struct gpu_matrix &m)
{
    return (m.cols + RUN_INPUTS - 1) / RUN_INPUTS;
}

/* Bytes of a run in shared memory; of a warp: its runs and its inputs. */
__host__ __device__ static inline int run_bytes(int format)
{
    const struct run_shape s = run_shape_of(format);
    return s.words + s.rest;
}

__host__ __device__ static inline int run_area(int bytes)
{
    return RUN_DEPTH * bytes + RUN_INPUTS * (int)sizeof(float);
}

/* Where a warp's runs come from. */
struct run_source {
    const uint8_t *words, *rest; /* of the tile */
    int groups;                  /* blocks of a row */
};

__device__ static inline struct run_source run_source_of(const struct gpu_matrix &m, int tile)
{
    const struct block_shape b = block_shape_of(m.block);
    const size_t groups = (size_t)(((m.cols - 1) >> b.log2) + 1), row = groups * LADE_TILE;
    const size_t tiles = (size_t)((m.rows - 1) / LADE_TILE + 1), words = row * 4 * b.words;
    return {m.data + (size_t)tile * words, m.data + tiles * words + (size_t)tile * row * b.rest,
            (int)groups};
}

/* Starts the copy of run `i` to `to`; of a last one that is not whole, what is there. */
__device__ static inline void run_fetch(unsigned char *to, const struct run_source &from,
                                        const struct run_shape &s, int i)
{
    const int lane = (int)threadIdx.x % GPU_WARP, left = from.groups - i * s.blocks;
    const int words = left < s.blocks ? s.words / s.blocks * left : s.words;
    const int rest = left < s.blocks ? s.rest / s.blocks * left : s.rest;
    const uint8_t *codes = from.words + (size_t)i * (size_t)s.words;
    const uint8_t *others = from.rest + (size_t)i * (size_t)s.rest;
    for (int at = lane * 16; at < words; at += GPU_WARP * 16)
        copy_async(to + at, codes + at, true);
    for (int at = lane * 16; at < rest; at += GPU_WARP * 16)
        copy_async(to + s.words + at, others + at, true);
}

/* Inputs of run `i` to shared memory, zeros from `cols` on. With a norm returns the squares of the
 * lane's. */
__device__ static inline float run_stage(float *area, const float *x, const float *norm, int i,
                                         int cols)
{
    const int lane = (int)threadIdx.x % GPU_WARP;
    float squares = 0;
#pragma unroll
    for (int part = 0; part < RUN_INPUTS / 4 / GPU_WARP; part++) {
        const int at = (part * GPU_WARP + lane) * 4, from = i * RUN_INPUTS + at;
        float4 v = one_inputs(x, from, cols);
        if (norm) {
            squares += one_square(v);
            v = one_times(v, one_inputs(norm, from, cols));
        }
        *(float4 *)(area + at) = v;
    }
    return squares;
}

/* The sum of this lane's half of its row's products. */
template <int FORMAT>
__device__ static inline float run_multiply(const unsigned char *run, int blocks, const float *x,
                                            const uint16_t *books)
{
    const struct block_shape b = block_shape_of(FORMAT);
    const struct run_shape s = run_shape_of(FORMAT);
    const unsigned row = threadIdx.x % LADE_TILE, half = threadIdx.x / LADE_TILE % 2;
    const int each = 1 << (b.log2 - 3); /* chunks of a block */
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int two = 0; two < RUN_CHUNKS; two += 2) {
        const int chunk = two | (int)half, block = two / each;
        if (block >= blocks)
            break;
        const struct block_lane lane = {(const uint32_t *)run + block * b.words * LADE_TILE + row,
                                        run + s.words + (block * LADE_TILE + (int)row) * b.rest};
        float v[8];
        block_chunk(FORMAT, lane, books, chunk % each, v);
        const float4 low = *(const float4 *)(x + chunk * 8),
                     high = *(const float4 *)(x + chunk * 8 + 4);
        sum[0] += v[0] * low.x;
        sum[1] += v[1] * low.y;
        sum[2] += v[2] * low.z;
        sum[3] += v[3] * low.w;
        sum[0] += v[4] * high.x;
        sum[1] += v[5] * high.y;
        sum[2] += v[6] * high.z;
        sum[3] += v[7] * high.w;
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* Of a lane: its row's and half's products, and with a norm the squares of its inputs. */
struct run_sums {
    float products, squares;
};

/* A warp's part of a tile: run `first` and every `step`th after it. Calls launch_wait() when the first
 * copies are under way. `norm`: NULL or the weights of the norm before. `area`: shared memory of the
 * warp. All by value: this is called, not inlined, and no address of an argument may be taken. */
template <int FORMAT>
__device__ static inline struct run_sums run_tile(const struct gpu_matrix m, const uint16_t *books,
                                                  const float *x, const float *norm, int tile,
                                                  int first, int step, unsigned char *area)
{
    const struct run_shape s = run_shape_of(FORMAT);
    const struct run_source from = run_source_of(m, tile);
    const int runs = run_count(m), bytes = s.words + s.rest;
    float *inputs = (float *)(area + RUN_DEPTH * bytes);
    struct run_sums sums = {0, 0};
#pragma unroll
    for (int d = 0; d < RUN_DEPTH; d++) {
        if (first + d * step < runs)
            run_fetch(area + d * bytes, from, s, first + d * step);
        copy_commit();
    }
    launch_wait();
    for (int i = first, slot = 0; i < runs; i += step, slot = (slot + 1) % RUN_DEPTH) {
        unsigned char *run = area + slot * bytes;
        sums.squares += run_stage(inputs, x, norm, i, m.cols);
        copy_wait<RUN_DEPTH - 1>();
        __syncwarp();
        sums.products += run_multiply<FORMAT>(run, gpu_least(s.blocks, from.groups - i * s.blocks),
                                              inputs, books);
        __syncwarp(); /* both are done with */
        if (i + RUN_DEPTH * step < runs)
            run_fetch(run, from, s, i + RUN_DEPTH * step);
        copy_commit(); /* an empty group, too, so that the wait means the next run */
    }
    return sums;
}

/* The same where the format is known when it runs. Who has no tile must call launch_wait() itself. */
__device__ static inline struct run_sums run_any(const struct gpu_matrix m, const uint16_t *books,
                                                 const float *x, const float *norm, int tile,
                                                 int first, int step, unsigned char *area)
{
    switch (m.block) {
#define RUN_CASE(name)                                                                             \
    case LADE_BLOCK_##name:                                                                        \
        return run_tile<LADE_BLOCK_##name>(m, books, x, norm, tile, first, step, area)
        RUN_CASE(Q4_0);
        RUN_CASE(Q4_1);
        RUN_CASE(Q5_0);
        RUN_CASE(Q5_1);
        RUN_CASE(Q8_0);
        RUN_CASE(Q2_K);
        RUN_CASE(Q3_K);
        RUN_CASE(Q4_K);
        RUN_CASE(Q5_K);
        RUN_CASE(Q6_K);
        RUN_CASE(IQ1_S);
        RUN_CASE(IQ1_M);
        RUN_CASE(IQ2_XXS);
        RUN_CASE(IQ2_XS);
        RUN_CASE(IQ2_S);
        RUN_CASE(IQ3_XXS);
        RUN_CASE(IQ3_S);
        RUN_CASE(IQ4_NL);
        RUN_CASE(IQ4_XS);
        RUN_CASE(F8_E4M3);
#undef RUN_CASE
    default:
        return run_tile<LADE_BLOCK_MXFP4>(m, books, x, norm, tile, first, step, area);
    }
}

/* Both halves' sums of the tile's rows, to out[ONE_ROWS]. */
__device__ static inline void run_store(float *out, float sum)
{
    sum += __shfl_xor_sync(GPU_ALL_LANES, sum, LADE_TILE);
    if (threadIdx.x % GPU_WARP < LADE_TILE)
        out[threadIdx.x % LADE_TILE] = sum;
}

#endif
