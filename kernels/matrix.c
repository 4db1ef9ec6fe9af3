#include "kernels/matrix.h"

#include <string.h>

#include "kernels/blocks.h"
#include "kernels/error.h"
#include "kernels/tile.h"

const struct lade_type_info lade_types[LADE_N_TYPES] = {
    [LADE_F32] = {"f32", 32, 0, 0},   [LADE_F16] = {"f16", 16, 0, 0},
    [LADE_BF16] = {"bf16", 16, 0, 0}, [LADE_Q4] = {"int4", 4, 8, 8},
    [LADE_Q8] = {"int8", 8, 4, 128},  [LADE_BLOCKS] = {"ggml", 0, 0, 0},
};

const char *lade_matrix_type(const struct lade_matrix *m)
{
    return m->type == LADE_BLOCKS ? lade_blocks[m->block].name : lade_types[m->type].name;
}

/* *acc = align_up(*acc, 64) + a * b * c, or false on overflow. */
static bool add_region(size_t *acc, size_t a, size_t b, size_t c)
{
    size_t size, end;
    if (__builtin_mul_overflow(a, b, &size) || __builtin_mul_overflow(size, c, &size) ||
        __builtin_add_overflow(*acc, LADE_ALIGN - 1, &end))
        return false;
    end &= ~(size_t)(LADE_ALIGN - 1);
    return !__builtin_add_overflow(end, size, acc);
}

static size_t aligned(size_t at)
{
    return (at + LADE_ALIGN - 1) & ~(size_t)(LADE_ALIGN - 1);
}

static int blocks_layout(const struct lade_matrix *m, struct lade_matrix_layout *out)
{
    const struct lade_block_info *b = &lade_blocks[m->block];
    out->tiles = (m->rows - 1) / LADE_TILE + 1;
    out->groups = (m->cols - 1) / b->n + 1;
    out->words = b->bytes / 4;
    out->rest = b->bytes % 4;
    size_t tiles = (size_t)out->tiles, groups = (size_t)out->groups, end = 0;
    if (!add_region(&end, tiles, groups, (size_t)out->words * LADE_TILE * sizeof(uint32_t)))
        return -1;
    out->scales = aligned(end);
    if (out->rest && !add_region(&end, tiles, groups, (size_t)out->rest * LADE_TILE))
        return -1;
    out->bytes = end;
    return 0;
}

int lade_matrix_layout(const struct lade_matrix *m, struct lade_matrix_layout *out)
{
    *out = (struct lade_matrix_layout){0};
    if (m->rows < 1 || m->cols < 1 || m->type < 0 || m->type >= LADE_N_TYPES)
        return -1;
    const struct lade_type_info *info = &lade_types[m->type];
    if (m->type == LADE_BLOCKS)
        return m->block < LADE_N_BLOCKS ? blocks_layout(m, out) : -1;
    if (!info->per_word) {
        size_t end = 0;
        if (!add_region(&end, (size_t)m->rows, (size_t)m->cols, (size_t)info->bits / 8))
            return -1;
        out->bytes = end;
        return 0;
    }
    if (m->group < 1 || m->group % info->per_word)
        return -1;
    out->tiles = (m->rows - 1) / LADE_TILE + 1;
    out->words = (m->cols - 1) / info->per_word + 1;
    out->groups = (m->cols - 1) / m->group + 1;
    size_t end = 0;
    size_t tiles = (size_t)out->tiles, groups = (size_t)out->groups;
    if (!add_region(&end, tiles, (size_t)out->words, LADE_TILE * sizeof(uint32_t)))
        return -1;
    out->scales = aligned(end);
    if (!add_region(&end, tiles, groups, LADE_TILE * sizeof(uint16_t)))
        return -1;
    if (m->has_zeros) {
        out->zeros = aligned(end);
        if (!add_region(&end, tiles, groups, LADE_TILE))
            return -1;
    }
    if (m->has_order) {
        out->order = aligned(end);
        if (!add_region(&end, (size_t)m->cols, sizeof(uint16_t), 1))
            return -1;
    }
    out->bytes = end;
    return 0;
}

int lade_matrix_bad(const char *op, const struct lade_matrix *m, char *err)
{
    return lade_fail(err, "%s: no layout for type %d, %d x %d, group %d; check the checkpoint", op,
                     (int)m->type, m->rows, m->cols, m->group);
}

int lade_matrix_expert(const struct lade_matrix *gate, const struct lade_matrix *up,
                       const struct lade_matrix *down, int dim, struct lade_matrix_layout layout[3],
                       char *err)
{
    if (lade_matrix_layout(gate, &layout[0]))
        return lade_matrix_bad("moe gate", gate, err);
    if (lade_matrix_layout(up, &layout[1]))
        return lade_matrix_bad("moe up", up, err);
    if (lade_matrix_layout(down, &layout[2]))
        return lade_matrix_bad("moe down", down, err);
    if ((dim && gate->cols != dim) || up->cols != gate->cols || down->rows != gate->cols ||
        up->rows != gate->rows || down->cols != gate->rows)
        return lade_fail(err,
                         "moe: gate %d x %d, up %d x %d, down %d x %d do not fit; check the "
                         "checkpoint",
                         gate->rows, gate->cols, up->rows, up->cols, down->rows, down->cols);
    return 0;
}

/* Where the lanes of one block of a tile lie, and in a ggml block its words and its rest. */
struct place {
    size_t words, rest;    /* offsets of lane 0 inside the data */
    int words_at, rest_at; /* offsets inside a block */
};

static struct place place_of(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                             int tile, int group)
{
    const bool rest_first = lade_blocks[m->block].rest_first;
    const size_t at = ((size_t)tile * (size_t)l->groups + (size_t)group) * LADE_TILE;
    return (struct place){
        .words = at * (size_t)l->words * 4,
        .rest = l->scales + at * (size_t)l->rest,
        .words_at = rest_first ? l->rest : 0,
        .rest_at = rest_first ? 0 : l->words * 4,
    };
}

/* Lanes [lane, lane + n) of one block of a tile; `at` is where it begins in a row. */
static void put_lanes(const struct lade_matrix_layout *l, const struct place *p,
                      unsigned char *data, size_t lane, size_t n, const uint8_t *const row[],
                      size_t at)
{
    uint32_t *words = (uint32_t *)(void *)(data + p->words);
    uint32_t some[LADE_BLOCK_BYTES / 4 * LADE_TILE];
    const size_t n_words = (size_t)l->words, rest = (size_t)l->rest;
    lade_tile_words(n == LADE_TILE ? words : some, row, at + (size_t)p->words_at, n_words);
    if (n < LADE_TILE)
        lade_tile_some(words, some, n_words, lane, n);
    for (size_t i = lane; i < lane + n; i++)
        for (size_t b = 0; b < rest; b++)
            data[p->rest + i * rest + b] = row[i][at + (size_t)p->rest_at + b];
}

void lade_blocks_put(const struct lade_matrix *m, const struct lade_matrix_layout *l, void *data,
                     int row, int rows, const uint8_t *src)
{
    const size_t block = (size_t)lade_blocks[m->block].bytes, stride = block * (size_t)l->groups;
    const uint8_t *from[LADE_TILE];
    while (rows > 0) {
        const int lane = row % LADE_TILE;
        const int n = rows < LADE_TILE - lane ? rows : LADE_TILE - lane;
        for (int i = 0; i < LADE_TILE; i++) /* any row for lanes that are not ours */
            from[i] = i < lane || i >= lane + n ? src : src + (size_t)(i - lane) * stride;
        for (int g = 0; g < l->groups; g++) {
            const struct place p = place_of(m, l, row / LADE_TILE, g);
            lade_tile_soon(src, (size_t)(l->groups + g) * block * LADE_TILE, block * LADE_TILE);
            lade_tile_soon_written((const char *)data + p.words, (size_t)l->words * LADE_TILE * 4);
            put_lanes(l, &p, data, (size_t)lane, (size_t)n, from, (size_t)g * block);
        }
        src += (size_t)n * stride;
        row += n;
        rows -= n;
    }
}

void lade_blocks_get(const struct lade_matrix *m, const struct lade_matrix_layout *l, int row,
                     int group, uint8_t *block)
{
    const struct place p = place_of(m, l, row / LADE_TILE, group);
    const unsigned char *data = m->data;
    const size_t lane = (size_t)(row % LADE_TILE);
    for (int w = 0; w < l->words; w++)
        memcpy(block + p.words_at + w * 4, data + p.words + ((size_t)w * LADE_TILE + lane) * 4, 4);
    memcpy(block + p.rest_at, data + p.rest + lane * (size_t)l->rest, (size_t)l->rest);
}
