/* many.h - products of a weight matrix with many tokens, on tensor cores with f16 operands.
 *
 * A block computes 128 rows of weights for 16 * NT tokens, 64 inputs at a time: weights are
 * dequantized to f16 in shared memory while the step before is multiplied, inputs were made f16
 * before. The rows are two runs of 64, so that a block can hold gate and up of the same outputs.
 *
 * Inputs have a power of two taken out of each row, so that nothing overflows f16 and little is
 * lost below it; sums are floats. Both operands are rounded to 11 bits: relative error about 3e-4.
 *
 * In shared memory a row is 64 numbers, eight chunks of 16 bytes in the order of weights.h; chunk
 * c lies at c ^ (row % 8), so that neither writing rows nor reading columns meets in a bank. */
#ifndef LADE_CUDA_MANY_H
#define LADE_CUDA_MANY_H

#include "kernels/cuda/weights.h"

enum {
    MANY_THREADS = 256,
    MANY_ROWS = 128,
    MANY_RUN = MANY_ROWS / 2,
    MANY_STEP = 64, /* inputs */
    MANY_CHUNKS = MANY_STEP / 8,
    MANY_ROW_BYTES = MANY_STEP * 2,
};

/* Inputs as f16: [rows][stride], padded with zeros to whole steps; value = number * scale[row]. */
struct many_inputs {
    const uint16_t *x;
    const float *scale;
    int stride;
};

__host__ __device__ static inline int many_stride(int cols)
{
    return (cols + MANY_STEP - 1) / MANY_STEP * MANY_STEP;
}

/* Two runs of MANY_RUN rows; each may end early. */
struct many_weights {
    struct gpu_matrix run[2];
    int row[2];
};

template <int NT> struct many_shared {
    unsigned char a[2][MANY_ROWS * MANY_ROW_BYTES];
    unsigned char b[2][16 * NT * MANY_ROW_BYTES];
};

/* c[half][n tile]: row g (+ 8) of a run's 16 with tokens 2t, 2t + 1 of 8. */
template <int NT> struct many_sums {
    float c[2][NT][4];
};

__device__ static inline unsigned char *many_at(unsigned char *tile, int row, int chunk)
{
    return tile + row * MANY_ROW_BYTES + (chunk ^ (row & 7)) * 16;
}

/* ---- weights --------------------------------------------------------------------------------- */

/* One step of weights on its way: this thread's part as it lies in memory. */
struct many_raw {
    uint4 word[4];
    uint32_t scale[2 * 2];
    uint32_t zeros[2];
};

/* Tiled weights: warp w has tile w of eight, its lanes a quad of rows and a chunk of inputs. */
template <bool Q8>
__device__ static inline void many_load_tiled(struct many_raw &raw, const struct many_weights &a,
                                              int k0)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int half = warp / 4, quad = lane % 4, chunk = lane / 4;
    const struct gpu_matrix &m = a.run[half];
    const int words = matrix_words(m), groups = matrix_groups(m);
    const int tile = a.row[half] / LADE_TILE + warp % 4;
    const bool rows = tile * LADE_TILE < m.rows;
    const uint32_t *codes =
        (const uint32_t *)m.data + (size_t)tile * (size_t)words * LADE_TILE + (size_t)(quad * 4);
    const int per = Q8 ? 2 : 1, word = (k0 / 8 + chunk) * per;
#pragma unroll
    for (int i = 0; i < (Q8 ? 2 : 1); i++) {
        const bool inside = rows && word + i < words;
        raw.word[i] =
            inside ? stream16(codes + (size_t)(word + i) * LADE_TILE) : make_uint4(0, 0, 0, 0);
        const int group = inside ? (word + i) * (8 / per) / m.group : 0;
        const size_t at =
            ((size_t)tile * (size_t)groups + (size_t)group) * LADE_TILE + (size_t)(quad * 4);
        const uint2 scale = inside ? *(const uint2 *)(matrix_scales(m) + at) : make_uint2(0, 0);
        raw.scale[2 * i] = scale.x;
        raw.scale[2 * i + 1] = scale.y;
        raw.zeros[i] = !m.has_zeros ? (Q8 ? 0x80808080u : 0x08080808u)
                       : inside     ? *(const uint32_t *)(matrix_zeros(m) + at)
                                    : 0;
    }
}

/* Half of a pair of f16 for row r of a quad. */
__device__ static inline uint32_t many_scale(const uint32_t scale[2], int r)
{
    return (r < 2 ? scale[0] : scale[1]) >> r % 2 * 16 & 0xffff;
}

/* 1024 + code is f16 with the code as its low bits; less 1024 + zero it is exact. */
__device__ static inline uint32_t many_value(uint32_t code, uint32_t minus, uint32_t scale)
{
    return half_fma(half_fma(code | 0x64006400u, 0x3c003c00u, minus), scale, 0);
}

template <bool Q8>
__device__ static inline void many_store_tiled(const struct many_raw &raw, unsigned char *tile)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int quad = lane % 4, chunk = lane / 4;
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const uint32_t words[2] = {r == 0   ? raw.word[0].x
                                   : r == 1 ? raw.word[0].y
                                   : r == 2 ? raw.word[0].z
                                            : raw.word[0].w,
                                   r == 0   ? raw.word[1].x
                                   : r == 1 ? raw.word[1].y
                                   : r == 2 ? raw.word[1].z
                                            : raw.word[1].w};
        uint32_t pair[4];
        /* -(1024 + zero): zeros up to 255 */
        const uint32_t low_zero = raw.zeros[0] >> 8 * r & 255;
        const uint32_t low_scale = many_scale(raw.scale, r);
        if (!Q8) {
            const uint32_t minus = (0xe400u + low_zero) * 0x10001u, scale = low_scale * 0x10001u;
#pragma unroll
            for (int i = 0; i < 4; i++)
                pair[i] = many_value(words[0] >> 4 * i & 0x000f000fu, minus, scale);
        } else {
            const uint32_t high_zero = raw.zeros[1] >> 8 * r & 255;
            const uint32_t minus = (0xe400u + low_zero) | (0xe400u + high_zero) << 16;
            const uint32_t scale = low_scale | many_scale(raw.scale + 2, r) << 16;
            const uint32_t even = __byte_perm(words[0], words[1], 0x5410);
            const uint32_t odd = __byte_perm(words[0], words[1], 0x7632);
            pair[0] = many_value(even & 0x00ff00ffu, minus, scale);
            pair[1] = many_value(even >> 8 & 0x00ff00ffu, minus, scale);
            pair[2] = many_value(odd & 0x00ff00ffu, minus, scale);
            pair[3] = many_value(odd >> 8 & 0x00ff00ffu, minus, scale);
        }
        *(uint4 *)many_at(tile, warp * LADE_TILE + quad * 4 + r, chunk) =
            make_uint4(pair[0], pair[1], pair[2], pair[3]);
    }
}

/* Floats beyond f16 become its largest. */
__device__ static inline uint32_t many_pair(float low, float high)
{
    const float most = 65504;
    return half_pair(fminf(fmaxf(low, -most), most), fminf(fmaxf(high, -most), most));
}

__device__ static inline uint4 many_pack(const float v[8])
{
    return make_uint4(many_pair(v[0], v[4]), many_pair(v[1], v[5]), many_pair(v[2], v[6]),
                      many_pair(v[3], v[7]));
}

/* Row-major weights: a thread has one chunk of each 32nd row. */
__device__ static inline void many_load_bf16(struct many_raw &raw, const struct many_weights &a,
                                             int k0)
{
    const int at = k0 + (int)threadIdx.x % MANY_CHUNKS * 8, first = (int)threadIdx.x / MANY_CHUNKS;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const struct gpu_matrix &m = a.run[i / 2];
        const int row = a.row[i / 2] + first + i % 2 * 32;
        const bool inside = row < m.rows && at < m.cols;
        raw.word[i] = inside ? stream16(m.data + ((size_t)row * (size_t)m.cols + (size_t)at) * 2)
                             : make_uint4(0, 0, 0, 0);
    }
}

__device__ static inline void many_store_bf16(const struct many_raw &raw, unsigned char *tile)
{
    const int chunk = (int)threadIdx.x % MANY_CHUNKS, first = (int)threadIdx.x / MANY_CHUNKS;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint4 w = raw.word[i];
        const float v[8] = {bf16_low(w.x), bf16_high(w.x), bf16_low(w.y), bf16_high(w.y),
                            bf16_low(w.z), bf16_high(w.z), bf16_low(w.w), bf16_high(w.w)};
        *(uint4 *)many_at(tile, first + i * 32, chunk) = many_pack(v);
    }
}

__device__ static inline void many_store_wide(const struct many_weights &a, const uint16_t *books,
                                              int k0, unsigned char *tile)
{
    const int chunk = (int)threadIdx.x % MANY_CHUNKS, first = (int)threadIdx.x / MANY_CHUNKS;
    for (int i = 0; i < 4; i++) {
        const int half = i / 2, row = a.row[half] + first + i % 2 * 32;
        __align__(16) float v[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        if (row < a.run[half].rows)
            matrix_chunk(a.run[half], books, row, k0 / 8 + chunk, v);
        *(uint4 *)many_at(tile, first + i * 32, chunk) = many_pack(v);
    }
}

template <int KIND>
__device__ static inline void many_load(struct many_raw &raw, const struct many_weights &a, int k0)
{
    if (KIND == GPU_Q4 || KIND == GPU_Q8)
        many_load_tiled<KIND == GPU_Q8>(raw, a, k0);
    else if (KIND == GPU_BF16)
        many_load_bf16(raw, a, k0);
}

template <int KIND>
__device__ static inline void many_store(const struct many_raw &raw, const struct many_weights &a,
                                         const uint16_t *books, int k0, unsigned char *tile)
{
    if (KIND == GPU_Q4 || KIND == GPU_Q8)
        many_store_tiled<KIND == GPU_Q8>(raw, tile);
    else if (KIND == GPU_BF16)
        many_store_bf16(raw, tile);
    else
        many_store_wide(a, books, k0, tile);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Rows of the inputs of this block's tokens; `rows` is NULL where they follow each other. */
struct many_tokens {
    const int32_t *rows;
    int first, count;
};

template <int NT>
__device__ static inline void many_fetch(const struct many_inputs &in, const struct many_tokens &t,
                                         int k0, unsigned char *tile)
{
#pragma unroll
    for (int i = 0; i < 16 * NT * MANY_CHUNKS / MANY_THREADS; i++) {
        const int part = (int)threadIdx.x + i * MANY_THREADS;
        const int token = part / MANY_CHUNKS, chunk = part % MANY_CHUNKS;
        const bool valid = token < t.count;
        const int row = !valid ? 0 : t.rows ? t.rows[token] : t.first + token;
        copy_async(many_at(tile, token, chunk),
                   in.x + (size_t)row * (size_t)in.stride + (size_t)(k0 + chunk * 8), valid);
    }
    copy_commit();
}

/* ---- products -------------------------------------------------------------------------------- */

/* Warp w has rows 16 * (w % 4) of both runs and tokens 8 * NT * (w / 4) on. */
template <int NT>
__device__ static inline void many_multiply(struct many_sums<NT> &sums, unsigned char *a,
                                            unsigned char *b)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    const int row0 = warp % 4 * 16, token0 = warp / 4 * (8 * NT);
    const int i = lane / 8, r = lane % 8; /* matrix and row that this lane names */
#pragma unroll
    for (int k = 0; k < MANY_STEP / 16; k++) {
        uint32_t weights[2][4];
#pragma unroll
        for (int half = 0; half < 2; half++)
            load_matrices(weights[half],
                          many_at(a, half * MANY_RUN + row0 + i % 2 * 8 + r, 2 * k + i / 2));
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            uint32_t inputs[4]; /* two tiles of tokens, two chunks each */
            load_matrices(inputs, many_at(b, token0 + n * 8 + i / 2 * 8 + r, 2 * k + i % 2));
#pragma unroll
            for (int half = 0; half < 2; half++) {
                mma_half(sums.c[half][n], weights[half], inputs);
                mma_half(sums.c[half][n + 1], weights[half], inputs + 2);
            }
        }
    }
}

/* All inputs. The kind of the weights is the same for the whole block. */
template <int KIND, int NT>
__device__ static inline void many_run(struct many_sums<NT> &sums, const struct many_weights &a,
                                       const uint16_t *books, const struct many_inputs &in,
                                       const struct many_tokens &t, struct many_shared<NT> *s)
{
    const int cols = a.run[0].cols;
    struct many_raw raw = {};
    many_load<KIND>(raw, a, 0);
    many_fetch<NT>(in, t, 0, s->b[0]);
    many_store<KIND>(raw, a, books, 0, s->a[0]);
    copy_wait<0>();
    __syncthreads();
    for (int k0 = 0, now = 0; k0 < cols; k0 += MANY_STEP, now ^= 1) {
        const bool more = k0 + MANY_STEP < cols;
        if (more) {
            many_load<KIND>(raw, a, k0 + MANY_STEP);
            many_fetch<NT>(in, t, k0 + MANY_STEP, s->b[now ^ 1]);
        }
        many_multiply<NT>(sums, s->a[now], s->b[now]);
        if (more) {
            many_store<KIND>(raw, a, books, k0 + MANY_STEP, s->a[now ^ 1]);
            copy_wait<0>();
        }
        __syncthreads();
    }
}

template <int NT>
__device__ static inline void many_block(struct many_sums<NT> &sums, const struct many_weights &a,
                                         const uint16_t *books, const struct many_inputs &in,
                                         const struct many_tokens &t, struct many_shared<NT> *s)
{
    switch (a.run[0].kind) {
    case GPU_Q4:
        many_run<GPU_Q4, NT>(sums, a, books, in, t, s);
        break;
    case GPU_Q8:
        many_run<GPU_Q8, NT>(sums, a, books, in, t, s);
        break;
    case GPU_BF16:
        many_run<GPU_BF16, NT>(sums, a, books, in, t, s);
        break;
    default:
        many_run<GPU_WIDE, NT>(sums, a, books, in, t, s);
    }
}

/* Where sum i (0 .. 3) of a lane belongs: row within a run, token within the block. */
__device__ static inline int many_sum_row(int i)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    return warp % 4 * 16 + lane / 4 + i / 2 * 8;
}

template <int NT> __device__ static inline int many_sum_token(int n, int i)
{
    const int lane = (int)threadIdx.x % GPU_WARP, warp = (int)threadIdx.x / GPU_WARP;
    return warp / 4 * (8 * NT) + n * 8 + lane % 4 * 2 + i % 2;
}

#endif
