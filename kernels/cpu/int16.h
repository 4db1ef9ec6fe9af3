/* int16.h - products with activations rounded to 16 bits, for devices opened with exact = false.
 *
 * Inputs become integers v of at most 16,256, with one scale for CPU_ROW_STEP of them. Products and
 * sums of CPU_BLOCK inputs are exact.
 *
 * For few tokens v = 128 high + low: instructions multiply codes of 8 bits with inputs of 8 bits; low
 * stays within 64, so that AVX2's sums of two products of bytes fit 16 bits. One half alone would be
 * twice as fast and 128 times less precise. A quantized row of k inputs, kp = k rounded up to a
 * multiple of CPU_ROW_STEP:
 *     int8   q[kp / 4][2][4]          high, then low halves of four inputs
 *     float  scale[kp / CPU_ROW_STEP] x = v * scale
 *     int32  minus[kp / CPU_BLOCK]    -sum of v
 *     float  sum[kp / CPU_BLOCK]      sum of v
 *     int32  half_minus[kp / 16]      the same of each 16 inputs
 *     float  half_sum[kp / 16]
 *
 * For many tokens there are *packs* of M tokens: record[kp / CPU_BLOCK][M], a record being CPU_BLOCK
 * inputs of one token with their sums (int16_rows.h). n tokens make cpu_packs() packs.
 *
 * Past k everything is 0. LADE_Q4 has the codes of eight inputs in the order 0 2 4 6 1 3 5 7, all
 * other types have them as they come, so there are two orders of q. */
#ifndef LADE_KERNELS_CPU_INT16_H
#define LADE_KERNELS_CPU_INT16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/matrix.h"

enum {
    CPU_BLOCK = 32,
    CPU_ROW_STEP = 256,
    CPU_RECORD = 96,     /* bytes */
    CPU_MANY = 128,      /* most tokens of a product */
    CPU_HEAD_MOST = 256, /* of attention: the largest head, */
    CPU_HEAD_STEP = 32,  /* and what heads must be multiples of */
    WORDS_ROWS = 192,    /* most query rows of a unit, and */
    WORDS_KEYS = 96,     /* positions of a step; multiples of every nr and pw */
};

enum cpu_order { CPU_ORDER_PLAIN, CPU_ORDER_Q4, CPU_N_ORDERS };

/* Tiles of a matrix that a thread will read soon: they are fetched in advance. */
struct cpu_int16_next {
    const struct lade_matrix *w; /* NULL: not known */
    const struct lade_matrix_layout *l;
    int tile;
};

/* Row-major matrices of LADE_F32 times many tokens, weights rounded to 16 bits as inputs are: for those who
 * know what to do with products that are off by 1e-4 of a vector's length times the other's. */
struct cpu_int16_floats {
    int rows; /* of a group */
    /* Bytes of panels of whole groups, which hold the rounded weights. */
    size_t (*bytes)(const struct lade_matrix *w);
    /* Makes a tile's part of the panels. The tiles must be those of whole groups; moved[] and length[] of
     * each row, and of those the last group has beyond: most that rounding moves its weights, as
     * the length of a vector, and the most that the rounded row is long. */
    void (*unpack)(void *panels, float *moved, float *length, const struct lade_matrix *w,
                   int tile);
    /* y[t][row] of a group's rows, for n <= CPU_MANY tokens in packs of CPU_ORDER_PLAIN; y has w->rows
     * columns. */
    void (*times)(float *y, const struct lade_matrix *w, const void *panels, int group,
                  const void *packs, int n);
    /* The same as `moved` of a token of a pack (quantize_packed). */
    float (*moved)(const void *x, size_t step, int k);
};

/* Where a product with many tokens goes: token i's part of it to y + i * ld, or to y + row[i] * ld; it is stored
 * there, or added, times weight[i]. */
struct cpu_int16_rows {
    float *y;
    size_t ld;
    const int32_t *row;  /* or NULL */
    const float *weight; /* or NULL */
};

struct cpu_attend_block;
struct cpu_attend_part;

/* Work space of attention with products of words (int16_attention.h). A lane of q and k has dimensions
 * 2 i and 2 i + 1 as words, one of v and p positions 2 j and 2 j + 1. */
struct cpu_words {
    _Alignas(64) uint32_t q[WORDS_ROWS * (CPU_HEAD_MOST / 2)]; /* [WORDS_ROWS / pw][][pw] */
    uint32_t k[WORDS_KEYS * (CPU_HEAD_MOST / 2)];
    uint32_t v[WORDS_KEYS / 2 * CPU_HEAD_MOST]; /* [CPU_HEAD_MOST / pw][][pw] */
    uint32_t p[WORDS_KEYS / 2 * WORDS_ROWS];
    float s[WORDS_KEYS * WORDS_ROWS]; /* scores, then their exponentials */
    float o[WORDS_ROWS * CPU_HEAD_MOST];
    float q_scale[WORDS_ROWS], k_scale[WORDS_KEYS];
    float row_scale[WORDS_KEYS], column_scale[CPU_HEAD_MOST]; /* of values: their product */
    float max[WORDS_ROWS], sum[WORDS_ROWS];                   /* up to this step */
    float keep[WORDS_ROWS], gain[WORDS_ROWS]; /* factors of what was before it, and of its sums */
    int32_t limit[WORDS_ROWS];
};

/* The kernels of one instruction set. Only for matrices cpu_int16_takes(). Products are of the rows
 * of tiles [first, last); y begins with the first of these rows. `next` is what the thread will read
 * after this. */
struct cpu_int16 {
    int pack; /* most tokens of a pack */
    /* One row of k inputs. */
    void (*quantize)(void *row, const float *x, int k, enum cpu_order order);
    /* Few tokens, each a quantized row in the matrix's order. */
    void (*gemv)(float *y, size_t ldy, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, const void *const *x, int n, int first,
                 int last, struct cpu_int16_next next);
    /* One token of a pack: its records, `step` bytes from one to the next. */
    void (*quantize_packed)(void *x, size_t step, const float *from, int k, enum cpu_order order);
    /* The packs of n tokens: of rows[i] of x, which has all tokens' records beside each other. */
    void (*gather)(void *packs, const void *x, const int32_t *rows, int n, int k);
    /* Whether gemm() goes through a tile once for n tokens, of which there are several, and unpacks nothing to
     * memory: then it is the faster one. */
    bool (*direct)(const struct lade_matrix *w, int n);
    /* n <= CPU_MANY tokens, in packs in the matrix's order. */
    void (*gemm)(struct cpu_int16_rows to, const struct lade_matrix *w,
                 const struct lade_matrix_layout *l, const void *x, int n, int first, int last,
                 struct cpu_int16_next next);
    const struct cpu_int16_floats *floats; /* NULL: not for this instruction set */
    /* Attention of heads of a multiple of CPU_HEAD_STEP dimensions, CPU_HEAD_MOST at most; both are NULL where
     * it is not for this instruction set. Of one token, over a cache of LADE_Q16, for multiples of part_heads: */
    void (*attend_part)(const struct cpu_attend_part *a);
    int part_heads;
    /* Flash attention of at most WORDS_ROWS rows over a cache of LADE_F16, LADE_Q16 or LADE_Q8; work space is a
     * struct cpu_words. */
    void (*attend_block)(const struct cpu_attend_block *a);
};

static inline size_t cpu_int16_blocks(int k)
{
    return ((size_t)k + CPU_ROW_STEP - 1) / CPU_ROW_STEP * (CPU_ROW_STEP / CPU_BLOCK);
}

/* Bytes of a quantized row, a multiple of LADE_ALIGN. */
static inline size_t cpu_int16_bytes(int k)
{
    size_t blocks = cpu_int16_blocks(k);
    size_t bytes = blocks * (2 * CPU_BLOCK + 3 * (sizeof(float) + sizeof(int32_t))) +
                   blocks / (CPU_ROW_STEP / CPU_BLOCK) * sizeof(float);
    return (bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

/* Bytes of k inputs of a token in a pack. */
static inline size_t cpu_pack_bytes(int k)
{
    return cpu_int16_blocks(k) * CPU_RECORD;
}

/* n tokens are cut into packs of about the same size; pack i begins with token cpu_pack_begin(). Its
 * records begin where those of the tokens before it end. */
static inline int cpu_packs(int n, int most)
{
    return (n - 1) / most + 1;
}

static inline int cpu_pack_begin(int n, int packs, int i)
{
    return n * i / packs;
}

/* Where the first record of one of n tokens lies; *step: bytes to the token's next one. */
static inline char *cpu_pack_token(void *packs, int k, int n, int most, int token, size_t *step)
{
    const int all = cpu_packs(n, most), i = ((token + 1) * all - 1) / n;
    const int begin = cpu_pack_begin(n, all, i);
    *step = (size_t)(cpu_pack_begin(n, all, i + 1) - begin) * CPU_RECORD;
    return (char *)packs + (size_t)begin * cpu_pack_bytes(k) + (size_t)(token - begin) * CPU_RECORD;
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
