/* matrix.h - how a weight matrix lies in memory.
 *
 * Weights stay quantized in memory. A checkpoint's own order suits no kernel, so the loader lays
 * every matrix out once, in one contiguous run of bytes made for the kernels and equal on every
 * device; that run is also what a packed cache file holds.
 *
 * Row-major types (F32, F16, BF16): rows x cols values, nothing else.
 *
 * Tiled types (Q4, Q8): W[r][k] = scale[r][k / group] * (code[r][k] - zero[r][k / group]).
 * Rows go in tiles of LADE_TILE = 16, one 32-bit SIMD lane per row; the last tile is padded with
 * rows of scale 0. With per = 8 (Q4) or 4 (Q8) codes in a 32-bit word and
 * words = ceil(cols / per), groups = ceil(cols / group), tiles = ceil(rows / 16):
 *
 *     codes   u32 [tiles][words][16]    code of input w*per + i is bits [b*i, b*i + b) of word w
 *     scales  f16 [tiles][groups][16]   starts at the next multiple of 64
 *     zeros   u8  [tiles][groups][16]   starts at the next multiple of 64; only if has_zeros,
 *                                       else the zero is 8 (Q4) or 128 (Q8) everywhere;
 *                                       values 0..16 (Q4) or 0..255 (Q8; 256 is not used)
 *     order   u16 [cols]                starts at the next multiple of 64; only if has_order: the
 *                                       group of each input, any of them, instead of k / group
 *
 * Codes past the last column hold the zero of their group, so that they contribute nothing.
 * A group is a multiple of `per`; the last group of a row may be shorter.
 *
 * Blocks (LADE_BLOCKS): the bytes of ggml's blocks, interleaved over the same tiles of 16 rows, so
 * that a SIMD lane or a GPU thread meets one row. A row is `groups` whole blocks of `block`
 * (kernels/blocks.h); values of the last block past the last column do not count. A block is
 * `words` 32-bit words and 0 to 3 bytes left over, which lie in front of its words where the
 * format's rest_first says so, else behind:
 *
 *     words     u32 [tiles][groups][words][16]
 *     rest      u8  [tiles][groups][16][rest]  starts at the next multiple of 64; at `scales`
 *
 * Rows past the last one are zero bytes.
 *
 * KV caches have types of this list too, their rows being one head's key or value of one position:
 * F32 and F16 are values; Q16 and Q8 are what lade_cache_row says. */
#ifndef LADE_KERNELS_MATRIX_H
#define LADE_KERNELS_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LADE_TILE = 16, LADE_ALIGN = 64 };

enum lade_type {
    LADE_F32,
    LADE_F16,
    LADE_BF16,
    LADE_Q4,
    LADE_Q8,
    LADE_BLOCKS,
    LADE_N_TYPES,
    LADE_Q16 = LADE_N_TYPES, /* of KV caches alone */
};

/* One entry per type; the table is lade_types[]. */
struct lade_type_info {
    const char *name; /* as shown to people: "int4" */
    int bits;         /* of one code or value; 0 for LADE_BLOCKS */
    int per_word;     /* codes in a 32-bit word; 0 for row-major types and blocks */
    int zero;         /* the implied zero of a symmetric matrix */
};
extern const struct lade_type_info lade_types[LADE_N_TYPES];

/* A matrix as kernels see it. Does not own `data`. */
struct lade_matrix {
    enum lade_type type;
    int rows;  /* output features */
    int cols;  /* input features */
    int group; /* inputs that share a scale; 0 for row-major types */
    bool has_zeros;
    bool has_order;   /* tiled types: inputs have groups of their own choice (GPTQ's act order) */
    uint8_t block;    /* LADE_BLOCKS: enum lade_block */
    const void *data; /* on the device that computes; aligned to LADE_ALIGN */
};

/* Byte offsets inside `data`, and the whole size. Row-major types use only `bytes`. */
struct lade_matrix_layout {
    size_t scales, zeros, order, bytes;
    int tiles, words, groups; /* words: of a row; LADE_BLOCKS: of a block */
    int rest;                 /* LADE_BLOCKS */
};

/* Values of a row of a Q8 cache that share a scale. */
enum { LADE_CACHE_GROUP = 32 };

/* What codes of a Q16 cache are at most, and the length of all codes of a row: so sums of their products with
 * others of that length fit 32 bits. */
#define LADE_CODE_MOST   8191.0f
#define LADE_CODE_LENGTH 32700.0f

/* Bytes of a row of a KV cache; 0 where there are no such caches. Q8: groups of LADE_CACHE_GROUP
 * signed codes, the last one filled up with 0, then an f32 scale for each; value = scale * code. Q16: codes of
 * 16 bits, an even number of them, and an f32 scale for all. */
static inline size_t lade_cache_row(enum lade_type type, int head_dim)
{
    const size_t n = head_dim < 1 ? 0 : (size_t)head_dim;
    if (type == LADE_Q16 && n)
        return (n + 1) / 2 * 4 + sizeof(float);
    if (type == LADE_Q8)
        return (n + LADE_CACHE_GROUP - 1) / LADE_CACHE_GROUP * (LADE_CACHE_GROUP + sizeof(float));
    return type == LADE_F32 ? 4 * n : type == LADE_F16 ? 2 * n : 0;
}

/* Computes the layout of m (m->data is not read). Returns -1 where the shape is not valid
 * (sizes below 1, a group that is not a multiple of per_word) or the size overflows. */
int lade_matrix_layout(const struct lade_matrix *m, struct lade_matrix_layout *out);

/* What an op says of a matrix without a valid layout. Fills err, is -1. */
int lade_matrix_bad(const char *op, const struct lade_matrix *m, char *err);

/* The layouts of the matrices of an expert to layout[3]: gate, up and down. Fails where one is not
 * valid, or they do not fit each other and inputs of `dim` (0: of any length). */
int lade_matrix_expert(const struct lade_matrix *gate, const struct lade_matrix *up,
                       const struct lade_matrix *down, int dim, struct lade_matrix_layout layout[3],
                       char *err);

/* LADE_BLOCKS: copies `rows` rows of ggml's blocks to rows `row`.. of `data`, whose layout is l. In
 * the source a row is whole blocks and rows follow each other; any alignment. Two threads may put
 * different rows at the same time. */
void lade_blocks_put(const struct lade_matrix *m, const struct lade_matrix_layout *l, void *data,
                     int row, int rows, const uint8_t *src);

/* LADE_BLOCKS: block `group` of a row, as ggml has it. */
void lade_blocks_get(const struct lade_matrix *m, const struct lade_matrix_layout *l, int row,
                     int group, uint8_t *block);

/* The type for people: "int4", "bf16", "Q4_K". */
const char *lade_matrix_type(const struct lade_matrix *m);

#endif
