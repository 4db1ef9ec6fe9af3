#include "kernels/matrix.h"

#include "kernels/blocks.h"

const struct lade_type_info lade_types[LADE_N_TYPES] = {
    [LADE_F32] = {"f32", 32, 0, 0},  [LADE_F16] = {"f16", 16, 0, 0},
    [LADE_BF16] = {"bf16", 16, 0, 0}, [LADE_Q4] = {"int4", 4, 8, 8},
    [LADE_Q8] = {"int8", 8, 4, 128}, [LADE_BLOCKS] = {"ggml", 0, 0, 0},
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

int lade_matrix_layout(const struct lade_matrix *m, struct lade_matrix_layout *out)
{
    *out = (struct lade_matrix_layout){0};
    if (m->rows < 1 || m->cols < 1 || m->type < 0 || m->type >= LADE_N_TYPES)
        return -1;
    const struct lade_type_info *info = &lade_types[m->type];
    if (m->type == LADE_BLOCKS) {
        if (m->block >= LADE_N_BLOCKS)
            return -1;
        const struct lade_block_info *b = &lade_blocks[m->block];
        int per_row = (m->cols - 1) / b->n + 1;
        bool fits = add_region(&out->bytes, (size_t)m->rows, (size_t)per_row, (size_t)b->bytes);
        return fits ? 0 : -1;
    }
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
    out->scales = (end + LADE_ALIGN - 1) & ~(size_t)(LADE_ALIGN - 1);
    if (!add_region(&end, tiles, groups, LADE_TILE * sizeof(uint16_t)))
        return -1;
    if (m->has_zeros) {
        out->zeros = (end + LADE_ALIGN - 1) & ~(size_t)(LADE_ALIGN - 1);
        if (!add_region(&end, tiles, groups, LADE_TILE))
            return -1;
    }
    out->bytes = end;
    return 0;
}
