/* int16.h - products with activations rounded to 16 bits, for devices opened with exact = false.
 *
 * A row of inputs is cut into blocks of CPU_BLOCK; each block has one scale. Inputs become integers
 * v = 256 high + low of at most 32,512, both halves of 8 bits, because instructions multiply codes
 * of 8 bits with inputs of 8 bits. Inside a block products and sums are exact. One half alone
 * would be twice as fast and 250 times less precise.
 *
 * A quantized row of k inputs, kp = k rounded up to whole blocks, blocks = kp / CPU_BLOCK:
 *     int8   q[kp / 4][2][4]   high, then low halves of four inputs, in the order in which a word
 *                              of the matrix gives its codes
 *     float  scale[blocks]     x = v * scale
 *     int32  bias[blocks]      -sum(v) * implied zero of the matrix type
 * Q4 words give codes 0 2 4 6 and then 1 3 5 7, so rows depend on the type they will meet. */
#ifndef LADE_KERNELS_CPU_INT16_H
#define LADE_KERNELS_CPU_INT16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/matrix.h"

enum { CPU_BLOCK = 32 };

/* The kernels of one instruction set. */
struct cpu_int16 {
    /* One row of k inputs for a matrix of the given type. */
    void (*quantize)(void *row, const float *x, int k, enum lade_type type);
    /* The rows of tiles [first, last) times n tokens, each a quantized row; y begins with the
     * first of these rows. Only for matrices cpu_int16_takes(). */
    void (*gemm)(float *y, size_t ldy, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, const void *const *x, int n, int first,
                 int last);
};

extern const struct cpu_int16 cpu_int16_avx512;

static inline size_t cpu_int16_blocks(int k)
{
    return ((size_t)k + CPU_BLOCK - 1) / CPU_BLOCK;
}

/* Bytes of a quantized row, a multiple of LADE_ALIGN. */
static inline size_t cpu_int16_bytes(int k)
{
    size_t bytes = cpu_int16_blocks(k) * (2 * CPU_BLOCK + sizeof(float) + sizeof(int32_t));
    return (bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

/* Tiled matrices whose groups are whole blocks. */
static inline bool cpu_int16_takes(const struct lade_matrix *w)
{
    return (w->type == LADE_Q4 || w->type == LADE_Q8) && !w->has_order &&
           (w->group % CPU_BLOCK == 0 || w->group >= w->cols);
}

#endif
