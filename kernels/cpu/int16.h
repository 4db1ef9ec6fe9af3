/* int16.h - products with activations rounded to integers, for devices opened with exact = false.
 *
 * Instructions multiply codes of 8 bits with inputs of 8 bits. Inputs of 16 bits have two such
 * halves, v = 128 high + low of at most 16,256, with one scale for CPU_ROW_STEP of them; low stays
 * within 64, so that AVX2's sums of two products of bytes fit 16 bits. One half alone, at most 127
 * with a scale for CPU_BLOCK inputs, is nearly twice as fast where multiplying is the bound, and 100
 * times less precise. Products and sums of CPU_BLOCK inputs and more are exact.
 *
 * A quantized row of k inputs is k / CPU_BLOCK blocks, rounded up to a multiple of CPU_ROW_STEP
 * inputs, each
 *     int8   q[CPU_BLOCK / 4][halves][4]   of four inputs the high halves, then the low ones
 *     struct cpu_block_end
 * Past k everything is 0. LADE_Q4 has the codes of eight inputs in the order 0 2 4 6 1 3 5 7, all
 * other types have them as they come, so there are two orders of q. */
#ifndef LADE_KERNELS_CPU_INT16_H
#define LADE_KERNELS_CPU_INT16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/matrix.h"

enum { CPU_BLOCK = 32, CPU_ROW_STEP = 256, CPU_MANY = 3 };

enum cpu_order { CPU_ORDER_PLAIN, CPU_ORDER_Q4, CPU_N_ORDERS };

/* Bits of an input. */
enum cpu_bits { CPU_BITS_16, CPU_BITS_8, CPU_N_BITS };

/* Sums are of v. minus_sum is what mins are multiplied with: 8 bits: times scale; 16 bits: as it is,
 * for products of CPU_ROW_STEP inputs are summed up before the scale. */
struct cpu_block_end {
    float scale, minus_sum;     /* x = v * scale; -sum of v */
    int32_t minus, minus_first; /* -sum of v, of the first 16 */
};

/* Tiles of a matrix that a thread will read soon: they are fetched in advance. */
struct cpu_int16_next {
    const struct lade_matrix *w; /* NULL: not known */
    const struct lade_matrix_layout *l;
    int tile;
};

/* The kernels of one instruction set. */
struct cpu_int16 {
    /* One row of k inputs. */
    void (*quantize)(void *row, const float *x, int k, enum cpu_bits bits, enum cpu_order order);
    /* The rows of tiles [first, last) times n tokens, each a quantized row in the matrix's order;
     * y begins with the first of these rows. Only for matrices cpu_int16_takes(); 8 bits only for
     * CPU_MANY tokens and more. `next` is what the thread will read after this. */
    void (*gemm)(float *y, size_t ldy, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, enum cpu_bits bits, const void *const *x,
                 int n, int first, int last, struct cpu_int16_next next);
};

static inline size_t cpu_int16_blocks(int k)
{
    return ((size_t)k + CPU_ROW_STEP - 1) / CPU_ROW_STEP * (CPU_ROW_STEP / CPU_BLOCK);
}

/* Bytes of a block, of a quantized row. */
static inline size_t cpu_int16_block(enum cpu_bits bits)
{
    return (bits == CPU_BITS_8 ? 1 : 2) * (size_t)CPU_BLOCK + sizeof(struct cpu_block_end);
}

static inline size_t cpu_int16_bytes(int k, enum cpu_bits bits)
{
    return cpu_int16_blocks(k) * cpu_int16_block(bits);
}

static inline enum cpu_order cpu_int16_order(const struct lade_matrix *w)
{
    return w->type == LADE_Q4 ? CPU_ORDER_Q4 : CPU_ORDER_PLAIN;
}

/* Types with a kernel of their own: tiles whose groups are whole blocks, and those of ggml's blocks
 * that need no codebook. */
bool cpu_int16_takes(const struct lade_matrix *w);

/* Where the words of a tile begin. */
static inline const void *cpu_int16_words(const struct lade_matrix *w,
                                          const struct lade_matrix_layout *l, int tile)
{
    size_t words = (size_t)l->words * (w->type == LADE_BLOCKS ? (size_t)l->groups : 1);
    return (const char *)w->data + (size_t)tile * words * LADE_TILE * sizeof(uint32_t);
}

/* Where its scales begin, or what blocks leave over. */
static inline const void *cpu_int16_rest(const struct lade_matrix *w,
                                         const struct lade_matrix_layout *l, int tile)
{
    size_t bytes = w->type == LADE_BLOCKS ? (size_t)l->rest : sizeof(uint16_t);
    return (const char *)w->data + l->scales + (size_t)tile * (size_t)l->groups * LADE_TILE * bytes;
}

#endif
