/* Quantized tensors of Hugging Face checkpoints: packed integers become tiles of 4 or 8 bits, 8-bit
 * floats become blocks with their scale. Nothing is rounded, but for scales that are wider than 16
 * bits and below 2^-14, see f16(). */
#include "engine/checkpoint/pack_job.h"

#include <math.h>
#include <string.h>

#include "engine/checkpoint/raw.h"
#include "kernels/blocks.h"

static uint32_t load(const unsigned char *p)
{
    uint32_t word;
    memcpy(&word, p, 4);
    return word;
}

static uint32_t *codes_at(const struct lade_pack_job *j, size_t tile, size_t word)
{
    return (uint32_t *)(void *)j->dst + (tile * (size_t)j->layout.words + word) * LADE_TILE;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* From [lines][rows] to [tiles][lines][LADE_TILE], elements of `size` bytes. The source is read
 * by blocks of lines, so that its rows stay in the caches while all tiles take their share. */
static inline __attribute__((always_inline)) void tile(const struct lade_pack_job *j, size_t lines,
                                                       size_t size, unsigned char *dst)
{
    enum { BLOCK = 16 };
    const size_t rows = (size_t)j->t->packed.rows;
    for (size_t first = 0; first < lines; first += BLOCK) {
        size_t n = lines - first < BLOCK ? lines - first : BLOCK;
        for (size_t r = 0; r < rows; r += LADE_TILE) {
            const size_t lanes = rows - r < LADE_TILE ? rows - r : LADE_TILE;
            unsigned char *to = dst + (r / LADE_TILE * lines + first) * LADE_TILE * size;
            for (size_t lane = 0; lane < lanes;) {
                const struct lade_pack_run run = lade_pack_run_at(j, (int)(r + lane));
                const size_t most = lanes - lane;
                const size_t wide = (size_t)run.n < most ? (size_t)run.n : most;
                const unsigned char *from = j->src + (first * rows + (size_t)run.row) * size;
                unsigned char *at = to + lane * size;
                if (wide == LADE_TILE) /* of constant size: a few moves instead of a call */
                    for (size_t i = 0; i < n; i++)
                        memcpy(at + i * LADE_TILE * size, from + i * rows * size, LADE_TILE * size);
                else
                    for (size_t i = 0; i < n; i++)
                        memcpy(at + i * LADE_TILE * size, from + i * rows * size, wide * size);
                lane += wide;
            }
        }
    }
}

/* ---- codes packed along the input ------------------------------------------------------------ */

/* Eight codes of 2 or 3 bits as eight of 4. */
static uint32_t widen_2(uint32_t x)
{
    x = (x | x << 8) & 0x00FF00FF;
    x = (x | x << 4) & 0x0F0F0F0F;
    return (x | x << 2) & 0x33333333;
}

static uint32_t widen_3(uint32_t x)
{
    x = (x & 0xFFF) | (x & 0xFFF000) << 4;
    x = (x & 0x003F003F) | (x & 0x0FC00FC0) << 2;
    return (x & 0x07070707) | (x & 0x38383838) << 1;
}

/* Word w of the packed layout out of a row's stream of codes, whose words are `stride` bytes apart.
 * Codes of 3 bits go over the ends of words: 32 of them are 3 words. */
static uint32_t code_word(const unsigned char *row, size_t stride, size_t w, int bits)
{
    if (bits == 2)
        return widen_2(load(row + w / 2 * stride) >> w % 2 * 16 & 0xFFFF);
    const size_t at = 24 * w;
    const unsigned shift = at % 32;
    const unsigned char *p = row + at / 32 * stride;
    uint32_t x = load(p) >> shift;
    if (shift > 8)
        x |= load(p + stride) << (32 - shift);
    return widen_3(x & 0xFFFFFF);
}

/* What is added to narrow codes in a tile of 4 bits, so that the zero is where the tile has it. */
static uint32_t lift(const struct lade_tensor *t)
{
    const uint32_t by = t->packed.has_zeros || t->bits >= 4 ? 0 : 8 - (1u << (t->bits - 1));
    return by * 0x11111111;
}

/* GPTQ: u32 [words][rows]; compressed-tensors: u32 [rows][words]. */
static int pack_codes(const struct lade_pack_job *j)
{
    const struct lade_tensor *t = j->t;
    const size_t rows = (size_t)t->packed.rows, cols = (size_t)t->packed.cols;
    const bool by_rows = t->source == LADE_SRC_CT, same = t->bits == 4 || t->bits == 8;
    const size_t row_bytes = by_rows ? (cols * t->bits + 31) / 32 * 4 : 4;
    const size_t stride = by_rows ? 4 : rows * 4;
    if (same && !by_rows) {
        tile(j, (size_t)j->layout.words, sizeof(uint32_t), j->dst);
        return 0;
    }
    for (size_t r = 0; r < rows; r += LADE_TILE) {
        const unsigned char *lane[LADE_TILE];
        const size_t lanes = rows - r < LADE_TILE ? rows - r : LADE_TILE;
        for (size_t i = 0; i < lanes; i++)
            lane[i] = j->src + (size_t)lade_pack_run_at(j, (int)(r + i)).row * row_bytes;
        for (size_t w = 0; w < (size_t)j->layout.words; w++) {
            uint32_t *to = codes_at(j, r / LADE_TILE, w);
            for (size_t i = 0; i < lanes; i++)
                to[i] = same ? load(lane[i] + w * stride)
                             : code_word(lane[i], stride, w, t->bits) + lift(t);
        }
    }
    return 0;
}

/* ---- AWQ ------------------------------------------------------------------------------------- */

/* Row i of each eight lies at this nibble. */
static const uint8_t awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/* Nibble k of word i becomes nibble i of word k. */
static void transpose(uint32_t x[8])
{
    static const uint32_t masks[] = {0x0000FFFF, 0x00FF00FF, 0x0F0F0F0F};
    for (unsigned s = 0, d = 4; s < 3; s++, d /= 2) {
        for (unsigned i = 0; i < 8; i++) {
            if (i & d)
                continue;
            uint32_t swap = (x[i] >> 4 * d ^ x[i + d]) & masks[s];
            x[i] ^= swap << 4 * d;
            x[i + d] ^= swap;
        }
    }
}

/* u32 [cols][rows / 8]: each word has one input of eight rows. */
static int pack_awq_codes(const struct lade_pack_job *j)
{
    const size_t rows = (size_t)j->t->packed.rows, line = rows / 8 * 4;
    for (size_t r = 0; r < rows;) {
        const struct lade_pack_run run = lade_pack_run_at(j, (int)r);
        const size_t row = (size_t)run.row, most = 8 - row % 8;
        const size_t n = (size_t)run.n < most ? (size_t)run.n : most; /* rows of one word */
        for (size_t w = 0; w < (size_t)j->layout.words; w++) {
            uint32_t x[8];
            for (size_t k = 0; k < 8; k++)
                x[k] = load(j->src + (8 * w + k) * line + row / 8 * 4);
            transpose(x);
            for (size_t i = 0; i < n; i++)
                codes_at(j, (r + i) / LADE_TILE, w)[(r + i) % LADE_TILE] =
                    x[awq_nibble[(row + i) % 8]];
        }
        r += n;
    }
    return 0;
}

/* ---- scales and zeros ------------------------------------------------------------------------ */

static float scale_value(enum lade_dtype dtype, const unsigned char *p)
{
    uint16_t h;
    uint32_t bits;
    float f;
    memcpy(&h, p, 2);
    if (dtype == LADE_DT_F16)
        return lade_f32_from_f16(h);
    if (dtype == LADE_DT_BF16)
        bits = (uint32_t)h << 16;
    else
        memcpy(&bits, p, 4);
    memcpy(&f, &bits, 4);
    return f;
}

/* The f16 of a value. It must be there exactly, but for values below 2^-14, which f16 has in steps
 * of 2^-24: BF16 has them finer, and there they make a weight of next to nothing. False where it is
 * not, or is infinite or not a number. */
static bool f16(float x, uint16_t *h)
{
    uint32_t bits, sign;
    memcpy(&bits, &x, 4);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits < 0x38800000) { /* 2^-14 */
        *h = (uint16_t)(sign | (uint32_t)lrintf(fabsf(x) * 0x1p24f));
        return true;
    }
    *h = (uint16_t)(sign | (bits - 0x38000000) >> 13);
    return bits < 0x47800000 && !(bits & 0x1FFF);
}

/* [groups][rows], or by rows in compressed-tensors. */
static int pack_scales(const struct lade_pack_job *j)
{
    const struct lade_tensor *t = j->t;
    const size_t rows = (size_t)t->packed.rows, groups = (size_t)j->layout.groups;
    const size_t width = (size_t)lade_dtypes[t->scale].bytes;
    const bool by_rows = t->source == LADE_SRC_CT;
    uint16_t *scales = (uint16_t *)(void *)(j->dst + j->layout.scales);
    for (size_t r = 0; r < rows; r++) {
        const size_t row = (size_t)lade_pack_run_at(j, (int)r).row;
        for (size_t g = 0; g < groups; g++) {
            const unsigned char *p = j->src + (by_rows ? row * groups + g : g * rows + row) * width;
            uint16_t *to = &scales[(r / LADE_TILE * groups + g) * LADE_TILE + r % LADE_TILE];
            if (!f16(scale_value((enum lade_dtype)t->scale, p), to))
                return lade_pack_bad(j, "a scale is infinite, not a number, or needs more than 16 "
                                        "bits");
        }
    }
    return 0;
}

/* The zero of a row in a group, as it is stored. */
static uint32_t stored_zero(const struct lade_pack_job *j, size_t row, size_t g)
{
    const struct lade_tensor *t = j->t;
    const size_t bits = t->bits, groups = (size_t)j->layout.groups;
    const size_t words = (size_t)t->packed.rows * bits / 32;
    const bool ct = t->source == LADE_SRC_CT;
    if (t->source == LADE_SRC_AWQ)
        return load(j->src + (g * words + row / 8) * 4) >> 4 * awq_nibble[row % 8] & 15;
    const size_t at = row * bits, shift = at % 32;
    const unsigned char *p = j->src + (ct ? at / 32 * groups + g : g * words + at / 32) * 4;
    uint32_t x = load(p) >> shift;
    if (shift + bits > 32)
        x |= load(p + (ct ? groups : 1) * 4) << (32 - shift);
    return x & ((1u << bits) - 1);
}

/* Of a symmetric tensor there is nothing to store, but each must be the implied zero. */
static int pack_zeros(const struct lade_pack_job *j)
{
    const struct lade_tensor *t = j->t;
    const size_t groups = (size_t)j->layout.groups;
    const uint32_t implied = 1u << (t->bits - 1);
    for (size_t r = 0; r < (size_t)t->packed.rows; r++) {
        const size_t row = (size_t)lade_pack_run_at(j, (int)r).row;
        for (size_t g = 0; g < groups; g++) {
            const uint32_t zero = stored_zero(j, row, g) + t->zero_offset;
            if (!t->packed.has_zeros && zero != implied)
                return lade_pack_bad(j, "quantization_config says it is symmetric, but its zeros "
                                        "differ");
            if (zero > UINT8_MAX)
                return lade_pack_bad(j, "a zero point of 256 does not fit 8 bits");
            if (t->packed.has_zeros)
                j->dst[j->layout.zeros + (r / LADE_TILE * groups + g) * LADE_TILE + r % LADE_TILE] =
                    (unsigned char)zero;
        }
    }
    return 0;
}

/* ---- the group of each input, and the shape -------------------------------------------------- */

static int pack_order(const struct lade_pack_job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    for (int k = 0; k < m->cols; k++) {
        const uint32_t group = load(j->src + 4 * (size_t)k);
        if (group >= (uint32_t)j->layout.groups)
            return lade_pack_bad(j, "an input is in a group that is not there");
        if (!m->has_order && group != (uint32_t)(k / m->group))
            return lade_pack_bad(j, "its inputs are reordered, which quantization_config denies");
        const uint16_t g = (uint16_t)group;
        if (m->has_order)
            memcpy(j->dst + j->layout.order + 2 * (size_t)k, &g, 2);
    }
    return 0;
}

static int check_shape(const struct lade_pack_job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    int64_t dims[2];
    memcpy(dims, j->src, sizeof dims);
    return dims[0] == m->rows && dims[1] == m->cols
               ? 0
               : lade_pack_bad(j, "it says another shape than config.json");
}

/* ---- 8-bit floats ---------------------------------------------------------------------------- */

/* Blocks are a scale in their first word and the codes in the others; kernels/blocks.h. */
enum { F8_BLOCK = 128 };

static unsigned char *f8_word(const struct lade_pack_job *j, int r, size_t g, size_t w)
{
    const size_t block = (size_t)(r / LADE_TILE) * (size_t)j->layout.groups + g;
    return j->dst + ((block * (size_t)j->layout.words + w) * LADE_TILE + (size_t)r % LADE_TILE) * 4;
}

static int pack_f8_codes(const struct lade_pack_job *j)
{
    const size_t cols = (size_t)j->t->packed.cols;
    uint32_t bad = 0;
    for (int r = 0; r < j->t->packed.rows; r++) {
        const unsigned char *row = j->src + (size_t)lade_pack_run_at(j, r).row * cols;
        for (size_t k = 0; k < cols; k += 4) {
            const size_t n = cols - k < 4 ? cols - k : 4;
            uint32_t x = 0;
            memcpy(&x, row + k, n);
            bad |= (x & 0x7F7F7F7F) + 0x01010101; /* 0x7F and 0xFF are not numbers */
            memcpy(f8_word(j, r, k / F8_BLOCK, 1 + k % F8_BLOCK / 4), &x, 4);
        }
    }
    return bad & 0x80808080 ? lade_pack_bad(j, "a value is not a number") : 0;
}

static int pack_f8_scales(const struct lade_pack_job *j)
{
    const struct lade_tensor *t = j->t;
    const size_t width = (size_t)lade_dtypes[t->scale].bytes, cols = (size_t)t->packed.cols;
    const size_t per_row = t->block_cols > 0 ? (cols - 1) / (size_t)t->block_cols + 1 : 1;
    for (int r = 0; r < t->packed.rows; r++) {
        const size_t row = (size_t)(lade_pack_run_at(j, r).row / t->block_rows);
        for (size_t g = 0; g < (size_t)j->layout.groups; g++) {
            const size_t column = t->block_cols > 0 ? g * F8_BLOCK / (size_t)t->block_cols : 0;
            const float scale =
                scale_value((enum lade_dtype)t->scale, j->src + (row * per_row + column) * width);
            if (!isfinite(scale))
                return lade_pack_bad(j, "a scale is infinite or not a number");
            memcpy(f8_word(j, r, g, 0), &scale, 4);
        }
    }
    return 0;
}

int lade_pack_quant(const struct lade_pack_job *j)
{
    const enum lade_source source = (enum lade_source)j->t->source;
    switch ((enum lade_part)j->t->kinds[j->part]) {
    case LADE_PART_CODES:
        return source == LADE_SRC_F8    ? pack_f8_codes(j)
               : source == LADE_SRC_AWQ ? pack_awq_codes(j)
                                        : pack_codes(j);
    case LADE_PART_ZEROS:
        return pack_zeros(j);
    case LADE_PART_SCALES:
        return source == LADE_SRC_F8 ? pack_f8_scales(j) : pack_scales(j);
    case LADE_PART_ORDER:
        return pack_order(j);
    default:
        return check_shape(j);
    }
}
