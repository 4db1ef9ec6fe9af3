/* run.h - products of any matrix with one token.
 *
 * A *run* is some inputs of a tile's 16 rows, 256 of most formats. A warp copies it to shared memory as it
 * is, 16 bytes a lane, each byte once, the next run while it computes this one. Its parts:
 *
 *     blocks (LADE_BLOCKS)   words and what fills none, each in a row (kernels/matrix.h)
 *     codes (Q4, Q8)         words, in a row; scales and zeros of the groups they are of. With groups of
 *                            the inputs' choice (has_order) which ones these are, instead: scales then come
 *                            through the first cache, where a tile's soon are
 *     numbers                256 bytes of each row, and what fills the units of 16 at their ends: rows begin
 *                            anywhere
 *
 * Of blocks and numbers the run's two halves have a row a lane: a lane makes every second chunk of its row's
 * values (blocks.h), or takes every second unit, and multiplies by the inputs. Of codes lane 4p + q has rows
 * 4q .. 4q + 3 of every eighth word from p on, as in one.h. Sums are floats.
 *
 * With a norm before the product see one.h: inputs are multiplied by its weights as they are staged. */
#ifndef LADE_CUDA_RUN_H
#define LADE_CUDA_RUN_H

#include "kernels/cuda/one.h"

enum {
    RUN_MOST = 256,  /* inputs of a run */
    RUN_WORDS = 32,  /* of a row of codes, and groups at most */
    RUN_BYTES = 256, /* of a row of numbers */
    RUN_UNITS = RUN_BYTES / 16 + 1,
    RUN_PITCH = RUN_UNITS * 16,
    RUN_DEPTH = 2, /* runs of a warp in shared memory */
    RUN_WARPS = 4, /* of a block; all formats then do with the 48 KiB that each block may have */
    RUN_ON_SM = 5, /* blocks of a multiprocessor: bounds the registers */
};

/* Where the parts of a run of codes begin. Scales are f16, zeros bytes; `order` is for the scales' place. */
enum {
    RUN_SCALES = RUN_WORDS * LADE_TILE * 4,
    RUN_ORDER = RUN_SCALES,
    RUN_ZEROS = RUN_SCALES + RUN_WORDS * LADE_TILE * 2,
    RUN_GROUPS = RUN_ZEROS + RUN_WORDS * LADE_TILE, /* of each word, counted from the run's first */
    RUN_CODES = RUN_GROUPS + RUN_WORDS * (int)sizeof(int),
};

/* A format: one of ggml's (enum lade_block), or LADE_N_BLOCKS and the type of all others. */
__host__ __device__ static inline int run_format(const struct gpu_matrix &m)
{
    return m.type == LADE_BLOCKS ? m.block : LADE_N_BLOCKS + m.type;
}

__host__ __device__ static inline constexpr int run_type(int format)
{
    return format < LADE_N_BLOCKS ? LADE_BLOCKS : format - LADE_N_BLOCKS;
}

__host__ __device__ static inline constexpr int run_inputs(int format)
{
    switch (run_type(format)) {
    case LADE_F32:
        return RUN_BYTES / 4;
    case LADE_F16:
    case LADE_BF16:
        return RUN_BYTES / 2;
    case LADE_Q8:
        return RUN_WORDS * 4;
    default: /* Q4 and blocks */
        return RUN_MOST;
    }
}

__host__ __device__ static inline int run_count(const struct gpu_matrix &m)
{
    const int inputs = run_inputs(run_format(m));
    return (m.cols - 1) / inputs + 1;
}

/* Of blocks: how many a run has, bytes of their words and of what fills none. */
struct run_shape {
    int blocks, words, rest;
};

__host__ __device__ static inline struct run_shape run_shape_of(int format)
{
    const struct block_shape b = block_shape_of(format);
    const int blocks = RUN_MOST >> b.log2;
    return {blocks, blocks * b.words * LADE_TILE * 4, blocks * b.rest * LADE_TILE};
}

/* Bytes of a run in shared memory; of a warp: its runs and its inputs. */
__host__ __device__ static inline int run_bytes(int format)
{
    const int type = run_type(format);
    if (type == LADE_Q4 || type == LADE_Q8)
        return RUN_CODES;
    if (type != LADE_BLOCKS)
        return LADE_TILE * RUN_PITCH;
    const struct run_shape s = run_shape_of(format);
    return s.words + s.rest;
}

__host__ __device__ static inline int run_area(int bytes)
{
    return RUN_DEPTH * bytes + RUN_MOST * (int)sizeof(float);
}

/* ---- blocks ------------------------------------------------------------------------------------ */

/* Where a warp's runs come from. */
struct run_source {
    const uint8_t *words, *rest; /* of the tile; of codes the scales are the rest */
    const uint8_t *zeros;        /* NULL: none */
    const uint16_t *order;       /* NULL: none */
    int groups;                  /* of a row */
};

__device__ static inline struct run_source run_of_blocks(const struct gpu_matrix &m, int tile)
{
    const struct block_shape b = block_shape_of(m.block);
    const size_t groups = (size_t)(((m.cols - 1) >> b.log2) + 1), row = groups * LADE_TILE;
    const size_t tiles = (size_t)((m.rows - 1) / LADE_TILE + 1), words = row * 4 * b.words;
    return {m.data + (size_t)tile * words, m.data + tiles * words + (size_t)tile * row * b.rest,
            nullptr, nullptr, (int)groups};
}

/* Starts the copy of `bytes` bytes, all of a warp's lanes. */
__device__ static inline void run_copy(unsigned char *to, const uint8_t *from, int bytes)
{
    for (int at = (int)threadIdx.x % GPU_WARP * 16; at < bytes; at += GPU_WARP * 16)
        copy_async(to + at, from + at, true);
}

/* Starts the copy of run `i` to `to`; of a last one that is not whole, what is there. */
template <int FORMAT>
__device__ static inline void run_fetch_blocks(unsigned char *to, const struct run_source &from,
                                               int i)
{
    const struct run_shape s = run_shape_of(FORMAT);
    const int left = from.groups - i * s.blocks;
    run_copy(to, from.words + (size_t)i * (size_t)s.words,
             left < s.blocks ? s.words / s.blocks * left : s.words);
    run_copy(to + s.words, from.rest + (size_t)i * (size_t)s.rest,
             left < s.blocks ? s.rest / s.blocks * left : s.rest);
}

/* The sum of this lane's half of its row's products. */
template <int FORMAT>
__device__ static inline float run_multiply_blocks(const unsigned char *run,
                                                   const struct run_source &from, int i,
                                                   const float *x, const uint16_t *books)
{
    enum { CHUNKS = RUN_MOST / 8 };
    const struct block_shape b = block_shape_of(FORMAT);
    const struct run_shape s = run_shape_of(FORMAT);
    const unsigned row = threadIdx.x % LADE_TILE, half = threadIdx.x / LADE_TILE % 2;
    const int each = 1 << (b.log2 - 3); /* chunks of a block */
    const int blocks = from.groups - i * s.blocks;
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int two = 0; two < CHUNKS; two += 2) {
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

/* ---- codes ------------------------------------------------------------------------------------- */

__device__ static inline struct run_source run_of_codes(const struct gpu_matrix &m, int tile)
{
    const size_t groups = (size_t)matrix_groups(m) * LADE_TILE * (size_t)tile;
    const size_t words = (size_t)matrix_words(m) * LADE_TILE * 4;
    return {m.data + (size_t)tile * words, (const uint8_t *)(matrix_scales(m) + groups),
            m.has_zeros ? matrix_zeros(m) + groups : nullptr,
            m.has_order ? matrix_order(m) : nullptr, matrix_groups(m)};
}

template <int KIND>
__device__ static inline void run_fetch_codes(unsigned char *to, const struct run_source &from,
                                              const struct gpu_matrix &m, int i)
{
    enum { PER = KIND == GPU_Q4 ? 8 : 4, INPUTS = RUN_WORDS * PER };
    const int lane = (int)threadIdx.x % GPU_WARP, words = matrix_words(m);
    const int left = gpu_least(RUN_WORDS, words - i * RUN_WORDS);
    run_copy(to, from.words + (size_t)i * RUN_SCALES, left * LADE_TILE * 4);
    if (from.order) {
        const int bytes = (m.cols - i * INPUTS) * 2 - lane * 16; /* from this lane's on */
        if (bytes > 0 && lane * 16 < INPUTS * 2)
            copy_some(to + RUN_ORDER + lane * 16, from.order + i * INPUTS + lane * 8,
                      gpu_least(bytes, 16));
        return;
    }
    const int group = (i * RUN_WORDS + gpu_least(lane, left - 1)) * PER / m.group;
    const int first = __shfl_sync(GPU_ALL_LANES, group, 0);
    const int count = __shfl_sync(GPU_ALL_LANES, group, GPU_WARP - 1) - first + 1;
    ((int *)(to + RUN_GROUPS))[lane] = group - first;
    run_copy(to + RUN_SCALES, from.rest + (size_t)first * LADE_TILE * 2, count * LADE_TILE * 2);
    if (from.zeros)
        run_copy(to + RUN_ZEROS, from.zeros + (size_t)first * LADE_TILE, count * LADE_TILE);
}

/* One word of four rows whose inputs have groups of their own. `order`: of these inputs, `scales` and, if
 * there are any, `zeros` those of a lane's rows for group 0. */
template <int KIND, bool ZEROS>
__device__ static inline void run_ordered(float sums[4], const uint4 code, const uint16_t *order,
                                          const uint16_t *scales, const uint8_t *zeros,
                                          const float *inputs)
{
    enum { PER = KIND == GPU_Q4 ? 8 : 4 };
    const uint32_t w[4] = {code.x, code.y, code.z, code.w};
#pragma unroll
    for (int k = 0; k < PER; k++) {
        const size_t at = (size_t)order[k] * LADE_TILE;
        const uint2 scale = *(const uint2 *)(scales + at);
        const float s[4] = {half_value(scale.x & 0xffff), half_value(scale.x >> 16),
                            half_value(scale.y & 0xffff), half_value(scale.y >> 16)};
        const uint32_t zero = ZEROS ? *(const uint32_t *)(zeros + at) : one_zeros<KIND>();
        const float power = KIND == GPU_Q4 ? (float)(1 << k % 4 * 4) : 1.0f; /* of its place */
#pragma unroll
        for (int r = 0; r < 4; r++) {
            const float base = 0x1p23f + power * (float)(zero >> 8 * r & 255);
            const uint32_t bits = KIND == GPU_Q4 ? one_bits(w[r] >> k / 4 * 16, 15u << k % 4 * 4)
                                                 : __byte_perm(w[r], ONE_MAGIC, 0x7540 | k);
            sums[r] += (__uint_as_float(bits) - base) * s[r] * inputs[k];
        }
    }
}

/* The sum of a row's products, in the lane of its number. */
template <int KIND>
__device__ static inline float run_multiply_codes(const unsigned char *run,
                                                  const struct run_source &from, int words,
                                                  const float *x)
{
    enum { PER = KIND == GPU_Q4 ? 8 : 4 };
    const int lane = (int)threadIdx.x % GPU_WARP, p = lane / 4, q = lane % 4;
    const uint16_t *scales = (const uint16_t *)from.rest + 4 * q;
    const uint8_t *zeros = from.zeros ? from.zeros + 4 * q : nullptr;
    float sums[4] = {0, 0, 0, 0};
#pragma unroll
    for (int n = 0; n < RUN_WORDS / 8; n++) {
        const int word = n * 8 + p;
        if (word >= words)
            break;
        const uint4 code = *(const uint4 *)(run + (word * 4 + q) * 16);
        if (from.order) {
            const uint16_t *order = (const uint16_t *)(run + RUN_ORDER) + word * PER;
            if (zeros)
                run_ordered<KIND, true>(sums, code, order, scales, zeros, x + word * PER);
            else
                run_ordered<KIND, false>(sums, code, order, scales, zeros, x + word * PER);
            continue;
        }
        const int group = ((const int *)(run + RUN_GROUPS))[word];
        const uint2 scale = *(const uint2 *)(run + RUN_SCALES + (group * 4 + q) * 8);
        const uint32_t zero =
            zeros ? *(const uint32_t *)(run + RUN_ZEROS + (group * 4 + q) * 4) : one_zeros<KIND>();
        one_run<KIND>(sums, code, scale, zero, x + word * PER);
    }
    const float sum = __shfl_sync(GPU_ALL_LANES, one_sum(sums), one_lane(lane % LADE_TILE));
    return lane < LADE_TILE ? sum : 0;
}

/* ---- numbers ----------------------------------------------------------------------------------- */

/* A row's part of a run begins where it does in memory, counted from a multiple of 16 on; behind it are
 * zeros to the unit's end. A lane has every fourth unit of two rows. */
template <int SIZE>
__device__ static inline void run_fetch_numbers(unsigned char *to, const struct gpu_matrix &m,
                                                int tile, int i)
{
    enum { INPUTS = RUN_BYTES / SIZE };
    const int lane = (int)threadIdx.x % GPU_WARP;
    const int bytes = gpu_least(INPUTS, m.cols - i * INPUTS) * SIZE;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = half * LADE_TILE / 2 + lane / 4, of_matrix = tile * LADE_TILE + row;
        const size_t at = ((size_t)of_matrix * (size_t)m.cols + (size_t)(i * INPUTS)) * SIZE;
        const int before = (int)(at % 16), end = of_matrix < m.rows ? before + bytes : 0;
#pragma unroll
        for (int unit = lane % 4; unit < RUN_UNITS; unit += 4)
            if (unit * 16 < end)
                copy_some(to + row * RUN_PITCH + unit * 16, m.data + (at - before) + unit * 16,
                          gpu_least(16, end - unit * 16));
    }
}

/* The sum of this lane's half of its row's products. */
template <int KIND>
__device__ static inline float run_multiply_numbers(const unsigned char *run,
                                                    const struct gpu_matrix &m, int tile, int i,
                                                    const float *x)
{
    enum { PER = KIND == GPU_F32 ? 4 : 8, INPUTS = RUN_BYTES / 16 * PER };
    const int row = (int)threadIdx.x % LADE_TILE, half = (int)threadIdx.x / LADE_TILE % 2;
    const int whole = tile * LADE_TILE + row;
    const int left = whole < m.rows ? gpu_least(INPUTS, m.cols - i * INPUTS) : 0;
    const int before = (int)((unsigned)whole * (unsigned)m.cols % PER); /* in the first unit */
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int two = 0; two < RUN_UNITS; two += 2) {
        const int unit = two + half, at = unit * PER - before;
        if (at >= left)
            break;
        const uint4 raw = *(const uint4 *)(run + row * RUN_PITCH + unit * 16);
        const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int j = 0; j < PER; j++)
            if (two || at + j >= 0) /* before are another row's; behind, zeros */
                sum[j % 4] += one_number<KIND>(w, j) * x[at + j];
    }
    return sum[0] + sum[1] + (sum[2] + sum[3]);
}

/* ---- all of them ------------------------------------------------------------------------------- */

__host__ __device__ static inline constexpr enum gpu_kind run_kind(int format)
{
    switch (run_type(format)) {
    case LADE_Q4:
        return GPU_Q4;
    case LADE_Q8:
        return GPU_Q8;
    case LADE_F32:
        return GPU_F32;
    case LADE_F16:
        return GPU_F16;
    case LADE_BF16:
        return GPU_BF16;
    default:
        return GPU_WIDE;
    }
}

/* Inputs of run `i` to shared memory, zeros from `cols` on, and behind those of numbers, whose last unit may
 * reach further. With a norm returns the squares of the lane's. Of codes of 4 bits as one_run() takes
 * them. */
template <int FORMAT>
__device__ static inline float run_stage(float *area, const float *x, const float *norm, int i,
                                         int cols)
{
    constexpr int inputs = run_inputs(FORMAT), all = inputs == RUN_MOST ? inputs : inputs + 8;
    float squares = 0;
#pragma unroll
    for (int at = 0; at < all; at += GPU_WARP * 4) {
        const int in_run = at + (int)threadIdx.x % GPU_WARP * 4, from = i * inputs + in_run;
        if (in_run >= all)
            break;
        const int end = in_run < inputs ? cols : 0;
        float4 v = one_inputs(x, from, end);
        if (norm) {
            squares += one_square(v);
            v = one_times(v, one_inputs(norm, from, end));
        }
        *(float4 *)(area + in_run) = one_scaled<run_kind(FORMAT)>(v);
    }
    return squares;
}

template <int FORMAT>
__device__ static inline struct run_source run_source_of(const struct gpu_matrix &m, int tile)
{
    constexpr enum gpu_kind kind = run_kind(FORMAT);
    if constexpr (kind == GPU_WIDE)
        return run_of_blocks(m, tile);
    else if constexpr (kind == GPU_Q4 || kind == GPU_Q8)
        return run_of_codes(m, tile);
    else
        return {};
}

template <int FORMAT>
__device__ static inline void run_fetch(unsigned char *to, const struct run_source &from,
                                        const struct gpu_matrix &m, int tile, int i)
{
    constexpr enum gpu_kind kind = run_kind(FORMAT);
    if constexpr (kind == GPU_WIDE)
        run_fetch_blocks<FORMAT>(to, from, i);
    else if constexpr (kind == GPU_Q4 || kind == GPU_Q8)
        run_fetch_codes<kind>(to, from, m, i);
    else
        run_fetch_numbers<kind == GPU_F32 ? 4 : 2>(to, m, tile, i);
}

/* Both halves' sums of a row together are those of its products. */
template <int FORMAT>
__device__ static inline float run_multiply(const unsigned char *run, const struct run_source &from,
                                            const struct gpu_matrix &m, int tile, int i,
                                            const float *x, const uint16_t *books)
{
    constexpr enum gpu_kind kind = run_kind(FORMAT);
    if constexpr (kind == GPU_WIDE)
        return run_multiply_blocks<FORMAT>(run, from, i, x, books);
    else if constexpr (kind == GPU_Q4 || kind == GPU_Q8)
        return run_multiply_codes<kind>(run, from, matrix_words(m) - i * RUN_WORDS, x);
    else
        return run_multiply_numbers<kind>(run, m, tile, i, x);
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
    const struct run_source from = run_source_of<FORMAT>(m, tile);
    const int runs = (m.cols - 1) / run_inputs(FORMAT) + 1, bytes = run_bytes(FORMAT);
    float *inputs = (float *)(area + RUN_DEPTH * bytes);
    struct run_sums sums = {0, 0};
#pragma unroll
    for (int d = 0; d < RUN_DEPTH; d++) {
        if (first + d * step < runs)
            run_fetch<FORMAT>(area + d * bytes, from, m, tile, first + d * step);
        copy_commit();
    }
    launch_wait();
    for (int i = first, slot = 0; i < runs; i += step, slot = (slot + 1) % RUN_DEPTH) {
        unsigned char *run = area + slot * bytes;
        sums.squares += run_stage<FORMAT>(inputs, x, norm, i, m.cols);
        copy_wait<RUN_DEPTH - 1>();
        __syncwarp();
        sums.products += run_multiply<FORMAT>(run, from, m, tile, i, inputs, books);
        __syncwarp(); /* both are done with */
        if (i + RUN_DEPTH * step < runs)
            run_fetch<FORMAT>(run, from, m, tile, i + RUN_DEPTH * step);
        copy_commit(); /* an empty group, too, so that the wait means the next run */
    }
    return sums;
}

/* The same, called: what it keeps in registers is then nothing to the other formats. */
template <int FORMAT>
__device__ static __attribute__((noinline)) struct run_sums
run_apart(const struct gpu_matrix m, const uint16_t *books, const float *x, const float *norm,
          int tile, int first, int step, unsigned char *area)
{
    return run_tile<FORMAT>(m, books, x, norm, tile, first, step, area);
}

/* The same where the format is known when it runs. Who has no tile must call launch_wait() itself. */
__device__ static inline struct run_sums run_any(const struct gpu_matrix m, const uint16_t *books,
                                                 const float *x, const float *norm, int tile,
                                                 int first, int step, unsigned char *area)
{
    switch (run_format(m)) {
#define RUN_CASE_TYPE(name)                                                                        \
    case LADE_N_BLOCKS + LADE_##name:                                                              \
        return run_apart<LADE_N_BLOCKS + LADE_##name>(m, books, x, norm, tile, first, step, area)
#define RUN_CASE(name)                                                                             \
    case LADE_BLOCK_##name:                                                                        \
        return run_tile<LADE_BLOCK_##name>(m, books, x, norm, tile, first, step, area)
        RUN_CASE_TYPE(F32);
        RUN_CASE_TYPE(F16);
        RUN_CASE_TYPE(BF16);
        RUN_CASE_TYPE(Q4);
        RUN_CASE_TYPE(Q8);
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
#undef RUN_CASE_TYPE
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
