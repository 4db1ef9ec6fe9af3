#include "engine/checkpoint/pack.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "kernels/blocks.h"

/* One call of lade_pack. */
struct job {
    const struct lade_catalog *cat;
    const struct lade_tensor *t;
    struct lade_matrix_layout layout;
    int part;
    int first, rows; /* of the packed matrix: what this part holds; all of it for GPTQ */
    const unsigned char *src;
    unsigned char *dst;
    char *err;
};

/* "FILE: tensor 'NAME'" of the part. */
static const char *part_name(const struct job *j, char *buf, size_t size)
{
    char name[256];
    lade_catalog_tensor_name(j->cat, j->t, j->part, name, sizeof name);
    snprintf(buf, size, "%s: tensor '%s'",
             lade_path_base(j->cat->shards[j->t->parts[j->part].shard].path), name);
    return buf;
}

static int bad_value(const struct job *j, const char *why)
{
    return lade_fail(j->err, "%s: %s; download the file again", part_name(j, (char[512]){0}, 512),
                     why);
}

/* ---- row order ------------------------------------------------------------------------------- */

/* Packed rows that follow each other in the source, too. */
struct run {
    int row; /* the first one, in the source */
    int n;
};

/* The run that starts at packed row r. The Hugging Face projections are grouped by key head: each
 * group has the q and k rows of its head, then the v (and z) rows of its value heads; likewise b
 * and a. Packed, all q rows come first, then all k rows and so on. */
static struct run run_at(const struct job *j, int r)
{
    if (j->t->rows == LADE_ROWS_SAME)
        return (struct run){r, j->t->packed.rows - r};
    const struct lade_shape *s = &j->cat->shape;
    const int ratio = s->value_heads / s->key_heads;
    const int kd = s->key_dim, vd = ratio * s->value_dim;
    const bool is_qkvz = j->t->rows == LADE_ROWS_QKVZ;
    const int widths[4] = {is_qkvz ? kd : ratio, is_qkvz ? kd : ratio, vd, vd};
    const int sections = is_qkvz ? 4 : 2, group = is_qkvz ? 2 * kd + 2 * vd : 2 * ratio;
    int i = 0, before = 0; /* the section, and the rows of a group in front of it */
    for (; i < sections - 1 && r >= widths[i] * s->key_heads; i++) {
        r -= widths[i] * s->key_heads;
        before += widths[i];
    }
    return (struct run){r / widths[i] * group + before + r % widths[i], widths[i] - r % widths[i]};
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* From [lines][rows] to [tiles][lines][LADE_TILE], elements of `size` bytes. The source is read
 * by blocks of lines, so that its rows stay in the caches while all tiles take their share. */
static inline __attribute__((always_inline)) void tile(const struct job *j, size_t lines,
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
                const struct run run = run_at(j, (int)(r + lane));
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

/* ---- GPTQ ------------------------------------------------------------------------------------ */

/* qweight u32 [words][rows]: the words are those of the packed layout. */
static int pack_codes(const struct job *j)
{
    tile(j, (size_t)j->layout.words, sizeof(uint32_t), j->dst);
    return 0;
}

/* scales f16 [groups][rows] */
static int pack_scales(const struct job *j)
{
    const size_t n = (size_t)j->layout.groups * (size_t)j->t->packed.rows;
    int bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, j->src + 2 * i, 2);
        bad |= (h & 0x7C00) == 0x7C00;
    }
    if (bad)
        return bad_value(j, "a scale is infinite or not a number");
    tile(j, (size_t)j->layout.groups, sizeof(uint16_t), j->dst + j->layout.scales);
    return 0;
}

/* qzeros u32 [groups][rows / per], packed along the rows, of a symmetric tensor: nothing to
 * store, but each must be the implied zero. */
static int check_zeros(const struct job *j)
{
    const struct lade_type_info *type = &lade_types[j->t->packed.type];
    const size_t n =
        (size_t)j->layout.groups * ((size_t)j->t->packed.rows / (size_t)type->per_word);
    uint32_t stored = (uint32_t)(type->zero - j->t->zero_offset), want = 0, differs = 0;
    for (int i = 0; i < type->per_word; i++)
        want |= stored << (i * type->bits);
    for (size_t i = 0; i < n; i++) {
        uint32_t word;
        memcpy(&word, j->src + 4 * i, 4);
        differs |= word ^ want;
    }
    return differs ? bad_value(j, "quantization_config says it is symmetric, but its zeros differ")
                   : 0;
}

static int pack_zeros(const struct job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    const struct lade_type_info *type = &lade_types[m->type];
    const size_t per = (size_t)type->per_word, words = (size_t)m->rows / per;
    const size_t groups = (size_t)j->layout.groups;
    const uint32_t mask = (1u << type->bits) - 1;
    unsigned char *zeros = j->dst + j->layout.zeros;
    if (!m->has_zeros)
        return check_zeros(j);
    for (size_t r = 0; r < (size_t)m->rows; r++) {
        size_t row = (size_t)run_at(j, (int)r).row;
        const unsigned char *from = j->src + row / per * 4;
        unsigned char *to = zeros + r / LADE_TILE * groups * LADE_TILE + r % LADE_TILE;
        unsigned shift = (unsigned)(row % per) * (unsigned)type->bits;
        for (size_t g = 0; g < groups; g++) {
            uint32_t word;
            memcpy(&word, from + g * words * 4, 4);
            uint32_t zero = (word >> shift & mask) + j->t->zero_offset;
            if (zero > UINT8_MAX)
                return bad_value(j, "a zero point of 256 does not fit 8 bits");
            to[g * LADE_TILE] = (unsigned char)zero;
        }
    }
    return 0;
}

/* g_idx i32 [cols]: the group of each input must be the one it lies in. */
static int check_order(const struct job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    for (int k = 0; k < m->cols; k++) {
        int32_t group;
        memcpy(&group, j->src + 4 * (size_t)k, 4);
        if (group != k / m->group)
            return lade_fail(j->err,
                             "%s: its inputs are reordered (desc_act), which is not supported; get "
                             "a checkpoint without it",
                             part_name(j, (char[512]){0}, 512));
    }
    return 0;
}

static int pack_gptq(const struct job *j)
{
    static int (*const parts[])(const struct job *) = {pack_codes, pack_zeros, pack_scales,
                                                       check_order};
    return parts[j->part](j);
}

/* ---- ggml's blocks of 32 --------------------------------------------------------------------- */

/* The low nibbles of 8 bytes, the first byte's lowest. */
static uint32_t low_nibbles(const unsigned char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    x &= 0x0F0F0F0F0F0F0F0F;
    x = (x | x >> 4) & 0x00FF00FF00FF00FF;
    x = (x | x >> 8) & 0x0000FFFF0000FFFF;
    return (uint32_t)(x | x >> 16);
}

/* f16 scale, 16 bytes: byte i has value i low and value i + 16 high; value = scale * (q - 8). */
static void split_q4_0(const unsigned char *block, uint32_t *words)
{
    unsigned char high[16];
    for (int i = 0; i < 16; i++)
        high[i] = block[2 + i] >> 4;
    words[0] = low_nibbles(block + 2);
    words[1] = low_nibbles(block + 10);
    words[2] = low_nibbles(high);
    words[3] = low_nibbles(high + 8);
}

/* f16 scale, 32 signed bytes; value = scale * q. */
static void split_q8_0(const unsigned char *block, uint32_t *words)
{
    memcpy(words, block + 2, 32);
    for (int i = 0; i < 8; i++)
        words[i] ^= 0x80808080; /* q + 128 */
}

static int pack_blocks(const struct job *j)
{
    const bool q4 = j->t->source == LADE_SRC_Q4_0;
    const size_t block_bytes = q4 ? 18 : 34, n_words = q4 ? 4 : 8;
    const size_t groups = (size_t)j->layout.groups;
    uint32_t *codes = (uint32_t *)(void *)j->dst, words[8];
    uint16_t *scales = (uint16_t *)(void *)(j->dst + j->layout.scales);
    int bad = 0;
    for (int r = j->first; r < j->first + j->rows; r++) {
        const size_t tile_no = (size_t)r / LADE_TILE, lane = (size_t)r % LADE_TILE;
        const unsigned char *block =
            j->src + (size_t)(run_at(j, r).row - j->first) * groups * block_bytes;
        for (size_t g = 0; g < groups; g++, block += block_bytes) {
            uint16_t scale;
            memcpy(&scale, block, 2);
            bad |= (scale & 0x7C00) == 0x7C00;
            scales[(tile_no * groups + g) * LADE_TILE + lane] = scale;
            if (q4)
                split_q4_0(block, words);
            else
                split_q8_0(block, words);
            uint32_t *to = codes + ((tile_no * groups + g) * n_words) * LADE_TILE + lane;
            for (size_t w = 0; w < n_words; w++)
                to[w * LADE_TILE] = words[w];
        }
    }
    return bad ? bad_value(j, "a scale is infinite or not a number") : 0;
}

/* ---- plain ----------------------------------------------------------------------------------- */

static float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7FFF;
    if (rest >= 0x7C00) { /* infinite or not a number */
        uint32_t bits = sign | 0x7F800000 | (rest & 0x3FF) << 13;
        float f;
        memcpy(&f, &bits, 4);
        return f;
    }
    /* Moving the exponent by a multiplication makes subnormals come out right, too. */
    uint32_t bits = rest << 13;
    float f;
    memcpy(&f, &bits, 4);
    f *= 0x1p112f;
    memcpy(&bits, &f, 4);
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}

/* Widens n values of the source to floats. */
static void widen(enum lade_source source, const unsigned char *src, float *to, size_t n)
{
    if (source == LADE_SRC_F32) {
        memcpy(to, src, n * sizeof *to);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, 2);
        uint32_t bits = (uint32_t)h << 16;
        if (source == LADE_SRC_F16)
            to[i] = f32_from_f16(h);
        else
            memcpy(&to[i], &bits, 4);
    }
}

/* Tensors that become F32: small ones (norms, convolution, routers). */
static int pack_to_f32(const struct job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    float *to = (float *)(void *)j->dst;
    int bad = 0;
    widen(j->t->source, j->src, to, n);
    for (size_t i = 0; i < n; i++)
        bad |= !isfinite(to[i]);
    if (bad)
        return bad_value(j, "a value is infinite or not a number");
    if (j->t->value == LADE_VALUE_PLUS_ONE)
        for (size_t i = 0; i < n; i++)
            to[i] += 1;
    if (j->t->value == LADE_VALUE_NEG_EXP)
        for (size_t i = 0; i < n; i++)
            to[i] = (float)-exp((double)to[i]);
    return 0;
}

static bool becomes_f32(const struct lade_tensor *t)
{
    return t->packed.type == LADE_F32 &&
           (t->source != LADE_SRC_F32 || t->value != LADE_VALUE_SAME);
}

/* Rows as they are, in the packed order. */
static int pack_plain(const struct job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    if (becomes_f32(j->t))
        return pack_to_f32(j);
    const size_t row_bytes = j->layout.bytes / (size_t)m->rows;
    for (int r = j->first, end = j->first + j->rows; r < end;) {
        struct run run = run_at(j, r);
        int n = run.n < end - r ? run.n : end - r;
        memcpy(j->dst + (size_t)r * row_bytes, j->src + (size_t)(run.row - j->first) * row_bytes,
               (size_t)n * row_bytes);
        r += n;
    }
    return 0;
}

/* ---- ggml's other blocks --------------------------------------------------------------------- */

/* Their bytes stay; only where they lie changes. */
static int interleave(const struct job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    const size_t row_bytes = (size_t)j->layout.groups * (size_t)lade_blocks[m->block].bytes;
    for (int r = j->first, end = j->first + j->rows; r < end;) {
        struct run run = run_at(j, r);
        int n = run.n < end - r ? run.n : end - r;
        lade_blocks_put(m, &j->layout, j->dst, r, n,
                        j->src + (size_t)(run.row - j->first) * row_bytes);
        r += n;
    }
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct source {
    int (*pack)(const struct job *);
    int same;     /* packed type that has the very bytes of the source, or -1 */
    bool by_rows; /* parts are runs of rows */
} sources[LADE_N_SOURCES] = {
    [LADE_SRC_F32] = {pack_plain, LADE_F32, true},   [LADE_SRC_F16] = {pack_plain, LADE_F16, true},
    [LADE_SRC_BF16] = {pack_plain, LADE_BF16, true}, [LADE_SRC_GPTQ] = {pack_gptq, -1, false},
    [LADE_SRC_Q4_0] = {pack_blocks, -1, true},       [LADE_SRC_Q8_0] = {pack_blocks, -1, true},
    [LADE_SRC_BLOCKS] = {interleave, -1, true},
};

bool lade_pack_is_copy(const struct lade_tensor *t)
{
    return sources[t->source].same == (int)t->packed.type && t->rows == LADE_ROWS_SAME &&
           t->value == LADE_VALUE_SAME && t->n_parts == 1;
}

/* Where the rows of a part begin, and how many it has: as its share of all bytes. */
static void find_rows(struct job *j)
{
    uint64_t all = 0, before = 0, rows = (uint64_t)j->t->packed.rows;
    j->rows = j->t->packed.rows;
    for (int i = 0; i < j->t->n_parts; i++) {
        before += i < j->part ? j->t->parts[i].bytes : 0;
        all += j->t->parts[i].bytes;
    }
    if (!sources[j->t->source].by_rows || j->t->n_parts == 1 || !all)
        return;
    j->first = (int)(before * rows / all);
    j->rows = (int)(j->t->parts[j->part].bytes * rows / all);
}

int lade_pack(const struct lade_catalog *cat, const struct lade_tensor *t, int part,
              const void *src, void *dst, char *err)
{
    struct job j = {.cat = cat, .t = t, .part = part, .src = src, .dst = dst, .err = err};
    if (part < 0 || part >= t->n_parts || lade_matrix_layout(&t->packed, &j.layout))
        return lade_fail(err, "tensor of role %d: no part %d to pack; report this", t->role, part);
    find_rows(&j);
    return sources[t->source].pack(&j);
}

size_t lade_pack_row_bytes(const struct lade_tensor *t, int part)
{
    struct job j = {.t = t, .part = part};
    find_rows(&j);
    if (!sources[t->source].by_rows || t->rows != LADE_ROWS_SAME || becomes_f32(t) || j.rows < 1)
        return 0;
    return t->parts[part].bytes / (uint64_t)j.rows;
}

int lade_pack_rows(const struct lade_catalog *cat, const struct lade_tensor *t, int part, int first,
                   int n, const void *src, void *dst, char *err)
{
    struct job j = {.cat = cat, .t = t, .part = part, .src = src, .dst = dst, .err = err};
    if (part < 0 || part >= t->n_parts || lade_matrix_layout(&t->packed, &j.layout) ||
        !lade_pack_row_bytes(t, part))
        return lade_fail(err, "tensor of role %d: no rows of part %d to pack; report this", t->role,
                         part);
    find_rows(&j);
    if (first < 0 || n < 1 || n > j.rows - first)
        return lade_fail(err, "tensor of role %d: part %d has no rows %d to %d; report this",
                         t->role, part, first, first + n);
    j.first += first;
    j.rows = n;
    return sources[t->source].pack(&j);
}
