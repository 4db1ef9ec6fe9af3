/* tile.h - from rows to the lanes of a tile (kernels/matrix.h), for whoever lays out matrices.
 *
 * Four rows at a time in vectors of 16 bytes, which every 64-bit machine has. */
#ifndef LADE_KERNELS_TILE_H
#define LADE_KERNELS_TILE_H

#include <stdint.h>
#include <string.h>

#include "kernels/matrix.h"

typedef uint32_t lade_quad __attribute__((vector_size(16)));
typedef uint16_t lade_halves __attribute__((vector_size(16)));
typedef uint8_t lade_bytes __attribute__((vector_size(16)));

static inline lade_quad lade_quad_load(const void *p)
{
    lade_quad x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void lade_quad_store(void *p, lade_quad x)
{
    memcpy(p, &x, sizeof x);
}

enum { LADE_TILE_AHEAD = 4096 }; /* bytes from what is written to what is asked for to be written */

/* Asks for bytes that are read, or written, a little later. A tile's 16 rows are too many streams for
 * the processor to foresee. What lies beyond the end is asked for in vain. */
static inline void lade_tile_soon(const void *from, size_t ahead, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += LADE_ALIGN)
        __builtin_prefetch((const char *)from + ahead + i, 0, 2);
}

static inline void lade_tile_soon_written(const void *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += LADE_ALIGN)
        __builtin_prefetch((const char *)to + LADE_TILE_AHEAD + i, 1, 3);
}

/* Word w of row i, x[i][w], becomes lane `lane` + i of line w of a tile. */
static inline void lade_tile_put4(uint32_t *line, size_t lane, const lade_quad x[4])
{
    const lade_quad a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
    const lade_quad b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
    const lade_quad c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
    const lade_quad d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
    /* One by one: gcc keeps an array of four in memory. */
    lade_quad_store(line + lane, __builtin_shufflevector(a, b, 0, 1, 4, 5));
    lade_quad_store(line + LADE_TILE + lane, __builtin_shufflevector(a, b, 2, 3, 6, 7));
    lade_quad_store(line + 2 * LADE_TILE + lane, __builtin_shufflevector(c, d, 0, 1, 4, 5));
    lade_quad_store(line + 3 * LADE_TILE + lane, __builtin_shufflevector(c, d, 2, 3, 6, 7));
}

/* The words of 16 rows, which begin `at` bytes from row[i], to lines of a tile. */
static inline void lade_tile_words(uint32_t *line, const uint8_t *const row[LADE_TILE], size_t at,
                                   size_t words)
{
    size_t w = 0;
    for (; w + 4 <= words; w += 4)
        for (size_t i = 0; i < LADE_TILE; i += 4) {
            const lade_quad x[4] = {
                lade_quad_load(row[i] + at + w * 4), lade_quad_load(row[i + 1] + at + w * 4),
                lade_quad_load(row[i + 2] + at + w * 4), lade_quad_load(row[i + 3] + at + w * 4)};
            lade_tile_put4(line + w * LADE_TILE, i, x);
        }
    for (; w < words; w++)
        for (size_t i = 0; i < LADE_TILE; i++)
            memcpy(line + w * LADE_TILE + i, row[i] + at + w * 4, 4);
}

/* Lanes [lane, lane + n) alone of `words` lines of a tile: the others may be another thread's. */
static inline void lade_tile_some(uint32_t *to, const uint32_t *line, size_t words, size_t lane,
                                  size_t n)
{
    for (size_t w = 0; w < words; w++)
        memcpy(to + w * LADE_TILE + lane, line + w * LADE_TILE + lane, n * 4);
}

#endif
