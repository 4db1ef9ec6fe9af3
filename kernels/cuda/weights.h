/* weights.h - a weight matrix as kernels see it, and its values.
 *
 * The unit of all products is a *chunk*: eight consecutive inputs of one row. In tensor core
 * fragments and wherever inputs lie beside weights, the values of a chunk are in the order
 *
 *     0 4 1 5 2 6 3 7
 *
 * because that is what masking a word of 4-bit codes gives: pairs four apart. */
#ifndef LADE_CUDA_WEIGHTS_H
#define LADE_CUDA_WEIGHTS_H

#include "kernels/cuda/blocks.h"

/* struct lade_matrix for the card: 24 bytes, so that tables of experts are small. */
struct gpu_matrix {
    const uint8_t *data; /* NULL: not on this device */
    int rows, cols;
    int group;
    uint8_t type, block, kind, has_zeros : 1, has_order : 1;
};

/* How decode products read a matrix (one.h, run.h, few.h). */
enum gpu_kind {
    GPU_Q4, /* tiles with groups of 32, 64, 128 .. inputs */
    GPU_Q8,
    GPU_BF16, /* rows of a multiple of 8 numbers */
    GPU_F32,  /* rows of a multiple of 4 */
    /* For more tokens than one a chunk at a time, of values of more than 8 bits. */
    GPU_F16,  /* rows of a multiple of 8 */
    GPU_WIDE, /* all others: for one token as runs (run.h), which take any matrix */
};

static inline enum gpu_kind gpu_kind_of(const struct lade_matrix *m)
{
    const bool runs = m->group >= 32 && !(m->group & (m->group - 1)) && !m->has_order;
    if (m->type == LADE_Q4 && runs)
        return GPU_Q4;
    if (m->type == LADE_Q8 && runs)
        return GPU_Q8;
    if ((m->type == LADE_BF16 || m->type == LADE_F16) && m->cols % 8 == 0)
        return m->type == LADE_BF16 ? GPU_BF16 : GPU_F16;
    return m->type == LADE_F32 && m->cols % 4 == 0 ? GPU_F32 : GPU_WIDE;
}

static inline struct gpu_matrix gpu_matrix_of(const struct lade_matrix *m)
{
    struct gpu_matrix g = {};
    g.data = (const uint8_t *)m->data;
    g.rows = m->rows;
    g.cols = m->cols;
    g.group = m->group;
    g.type = (uint8_t)m->type;
    g.block = m->block;
    g.has_zeros = m->has_zeros;
    g.has_order = m->has_order;
    g.kind = (uint8_t)gpu_kind_of(m);
    return g;
}

__host__ __device__ static inline int gpu_least(int a, int b)
{
    return a < b ? a : b;
}

/* ---- where things are (kernels/matrix.h) ----------------------------------------------------- */

__device__ static inline int matrix_words(const struct gpu_matrix &m)
{
    return m.type == LADE_Q4 ? (m.cols + 7) / 8 : (m.cols + 3) / 4;
}

__device__ static inline int matrix_groups(const struct gpu_matrix &m)
{
    return (m.cols - 1) / m.group + 1;
}

/* Codes take whole runs of 64 bytes, so the scales follow at once. */
__device__ static inline const uint16_t *matrix_scales(const struct gpu_matrix &m)
{
    size_t tiles = (size_t)((m.rows - 1) / LADE_TILE + 1);
    return (const uint16_t *)(m.data + tiles * (size_t)matrix_words(m) * LADE_TILE * 4);
}

/* Bytes of a value per row and group, with what fills the last 64. */
__device__ static inline size_t matrix_group_bytes(const struct gpu_matrix &m, int size)
{
    size_t tiles = (size_t)((m.rows - 1) / LADE_TILE + 1);
    size_t bytes = tiles * (size_t)matrix_groups(m) * LADE_TILE * (size_t)size;
    return (bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

__device__ static inline const uint8_t *matrix_zeros(const struct gpu_matrix &m)
{
    return (const uint8_t *)matrix_scales(m) + matrix_group_bytes(m, 2);
}

/* Groups of all inputs, of a matrix that has them. */
__device__ static inline const uint16_t *matrix_order(const struct gpu_matrix &m)
{
    return (const uint16_t *)(matrix_zeros(m) + (m.has_zeros ? matrix_group_bytes(m, 1) : 0));
}

/* Group of input k. */
__device__ static inline int matrix_group(const struct gpu_matrix &m, int k)
{
    return m.has_order ? matrix_order(m)[k] : k / m.group;
}

/* ---- values of one chunk in their own order; zero past the last column ------------------------ */

__device__ static inline void chunk_tiled(const struct gpu_matrix &m, int row, int chunk, float *y)
{
    const bool q4 = m.type == LADE_Q4;
    const int words = matrix_words(m), groups = matrix_groups(m), per = q4 ? 8 : 4;
    const size_t tile = (size_t)(row / LADE_TILE), lane = (size_t)(row % LADE_TILE);
    const uint32_t *codes = (const uint32_t *)m.data + tile * (size_t)words * LADE_TILE + lane;
    const uint16_t *scales = matrix_scales(m) + tile * (size_t)groups * LADE_TILE + lane;
    const uint8_t *zeros = matrix_zeros(m) + tile * (size_t)groups * LADE_TILE + lane;
    for (int i = 0; i < 8; i++) {
        const int k = chunk * 8 + i;
        y[i] = 0;
        if (k >= m.cols)
            continue;
        const size_t group = (size_t)matrix_group(m, k) * LADE_TILE;
        const uint32_t code = codes[(size_t)(k / per) * LADE_TILE] >> k % per * (32 / per);
        const int zero = m.has_zeros ? zeros[group] : q4 ? 8 : 128;
        y[i] = half_value(scales[group]) * (float)((int)(code & (q4 ? 15 : 255)) - zero);
    }
}

__device__ static inline void chunk_plain(const struct gpu_matrix &m, int row, int chunk, float *y)
{
    size_t at = (size_t)row * (size_t)m.cols + (size_t)chunk * 8;
    for (int i = 0; i < 8; i++) {
        if (chunk * 8 + i >= m.cols)
            y[i] = 0;
        else if (m.type == LADE_F32)
            y[i] = ((const float *)m.data)[at + i];
        else if (m.type == LADE_F16)
            y[i] = half_value(((const uint16_t *)m.data)[at + i]);
        else
            y[i] = bf16_low(((const uint16_t *)m.data)[at + i]);
    }
}

__device__ static inline void chunk_blocks(const struct gpu_matrix &m, const uint16_t *books,
                                           int row, int chunk, float *y)
{
    const struct block_shape shape = block_shape_of(m.block);
    const int log2 = shape.log2 - 3; /* of a block's chunks */
    const int groups = ((m.cols - 1) >> shape.log2) + 1, group = chunk >> log2;
    if (group >= groups) {
        for (int i = 0; i < 8; i++)
            y[i] = 0;
        return;
    }
    const size_t tiles = (size_t)((m.rows - 1) / LADE_TILE + 1), lane = (size_t)(row % LADE_TILE);
    const size_t at = ((size_t)(row / LADE_TILE) * (size_t)groups + (size_t)group) * LADE_TILE;
    /* Words take whole runs of 64 bytes, so the rest follows at once. */
    const uint8_t *rest = m.data + tiles * (size_t)groups * LADE_TILE * 4 * shape.words;
    const struct block_lane b = {(const uint32_t *)m.data + at * shape.words + lane,
                                 rest + (at + lane) * shape.rest};
    block_chunk(m.block, b, books, chunk & ((1 << log2) - 1), y);
    for (int i = 0; i < 8; i++)
        y[i] = chunk * 8 + i < m.cols ? y[i] : 0.0f;
}

/* Not inlined: it holds all formats. `row` is below m.rows. */
__device__ static inline __attribute__((noinline)) void
matrix_chunk(const struct gpu_matrix &m, const uint16_t *books, int row, int chunk, float *y)
{
    if (m.type == LADE_BLOCKS)
        chunk_blocks(m, books, row, chunk, y);
    else if (m.type == LADE_Q4 || m.type == LADE_Q8)
        chunk_tiled(m, row, chunk, y);
    else
        chunk_plain(m, row, chunk, y);
}

#endif
