#include "tests/support/support_packed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/blocks.h"

float support_half(uint16_t h)
{
    float sign = h & 0x8000 ? -1 : 1;
    int e = h >> 10 & 31, m = h & 1023;
    if (e == 31)
        return m ? NAN : sign * INFINITY;
    return sign * (e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24));
}

float support_brain(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

uint16_t support_u16(const unsigned char *p, size_t i)
{
    return (uint16_t)(p[2 * i] | p[2 * i + 1] << 8);
}

uint32_t support_u32(const unsigned char *p, size_t i)
{
    return support_u16(p, 2 * i) | (uint32_t)support_u16(p, 2 * i + 1) << 16;
}

static float block_value(const struct lade_matrix *m, const struct lade_matrix_layout *l,
                         const unsigned char *data, size_t row, size_t col)
{
    const struct lade_block_info *b = &lade_blocks[m->block];
    struct lade_matrix with = *m;
    uint8_t block[LADE_BLOCK_BYTES];
    float values[LADE_BLOCK_MAX];
    with.data = data;
    lade_blocks_get(&with, l, (int)row, (int)col / b->n, block);
    b->dequantize(block, values);
    return values[col % (size_t)b->n];
}

float support_packed(const struct lade_matrix *m, const unsigned char *data, size_t row, size_t col)
{
    struct lade_matrix_layout l;
    size_t at = row * (size_t)m->cols + col;
    float f;
    assert_int_equal(lade_matrix_layout(m, &l), 0);
    switch (m->type) {
    case LADE_F32:
        memcpy(&f, data + 4 * at, 4);
        return f;
    case LADE_F16:
        return support_half(support_u16(data, at));
    case LADE_BF16:
        return support_brain(support_u16(data, at));
    case LADE_BLOCKS:
        return block_value(m, &l, data, row, col);
    default:
        break;
    }
    int b = m->type == LADE_Q4 ? 4 : 8;
    size_t per = 32 / (size_t)b, tile = row / 16, lane = row % 16;
    size_t g = m->has_order ? support_u16(data + l.order, col) : col / (size_t)m->group;
    uint32_t word = support_u32(data, (tile * (size_t)l.words + col / per) * 16 + lane);
    size_t at_group = (tile * (size_t)l.groups + g) * 16 + lane;
    int q = (int)(word >> (col % per) * (size_t)b & ((1u << b) - 1));
    int z = m->has_zeros ? data[l.zeros + at_group] : b == 4 ? 8 : 128;
    return support_half(support_u16(data + l.scales, at_group)) * (float)(q - z);
}
