#include "engine/checkpoint/pack_job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "kernels/blocks.h"
#include "kernels/tile.h"

/* "FILE: tensor 'NAME'" of the part. */
static const char *part_name(const struct lade_pack_job *j, char *buf, size_t size)
{
    char name[256];
    lade_catalog_tensor_name(j->cat, j->t, j->part, name, sizeof name);
    snprintf(buf, size, "%s: tensor '%s'",
             lade_path_base(j->cat->shards[j->t->parts[j->part].shard].path), name);
    return buf;
}

int lade_pack_bad(const struct lade_pack_job *j, const char *why)
{
    return lade_fail(j->err, "%s: %s; download the file again", part_name(j, (char[512]){0}, 512),
                     why);
}

/* ---- row order ------------------------------------------------------------------------------- */

struct lade_pack_run lade_pack_run_at(const struct lade_pack_job *j, int r)
{
    if (j->t->rows == LADE_ROWS_SAME)
        return (struct lade_pack_run){r, j->t->packed.rows - r};
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
    return (struct lade_pack_run){r / widths[i] * group + before + r % widths[i],
                                  widths[i] - r % widths[i]};
}

/* ---- ggml's blocks of 32 --------------------------------------------------------------------- */

/* Nibbles in the low halves of 16 bytes, next to each other: 8 bytes in the even ones. */
static lade_halves join(lade_bytes nibbles)
{
    const lade_halves x = (lade_halves)nibbles;
    return (x | x >> 4) & 0xFF;
}

/* f16 scale, 16 bytes: byte i has value i low and value i + 16 high; value = scale * (q - 8). */
static lade_quad words_q4_0(const unsigned char *codes)
{
    const lade_bytes x = (lade_bytes)lade_quad_load(codes);
    const lade_bytes low = (lade_bytes)join(x & 15), high = (lade_bytes)join(x >> 4);
    return (lade_quad)__builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22,
                                              24, 26, 28, 30);
}

/* f16 scale, 32 signed bytes; value = scale * q. */
static lade_quad words_q8_0(const unsigned char *codes)
{
    return lade_quad_load(codes) ^ 0x80808080; /* q + 128 */
}

static inline lade_quad words_of(const unsigned char *codes, bool q4)
{
    return q4 ? words_q4_0(codes) : words_q8_0(codes);
}

/* A block of 16 rows, their codes and scales. */
static inline __attribute__((always_inline)) void
put_blocks(const unsigned char *const row[], size_t at, bool q4, uint32_t *line, uint16_t *scales)
{
    for (size_t i = 0; i < LADE_TILE; i++)
        memcpy(&scales[i], row[i] + at, 2);
    at += 2;
    for (size_t w = 0; w < (q4 ? 4 : 8); w += 4, at += 16)
        for (size_t i = 0; i < LADE_TILE; i += 4) {
            const lade_quad x[4] = {words_of(row[i] + at, q4), words_of(row[i + 1] + at, q4),
                                    words_of(row[i + 2] + at, q4), words_of(row[i + 3] + at, q4)};
            lade_tile_put4(line + w * LADE_TILE, i, x);
        }
}

/* Whether a scale, of a multiple of 16 of them, is infinite or not a number. */
static bool any_bad(const uint16_t *scales, size_t n)
{
    lade_halves sums = {0};
    for (size_t i = 0; i < n; i += 8)
        sums |= ((lade_halves)lade_quad_load(scales + i) & 0x7C00) + 0x400;
    const lade_quad bad = (lade_quad)sums & 0x80008000;
    return bad[0] | bad[1] | bad[2] | bad[3];
}

static inline __attribute__((always_inline)) bool pack_tile(const struct lade_pack_job *j,
                                                            const unsigned char *const row[],
                                                            int tile, size_t lane, size_t n,
                                                            bool q4)
{
    const size_t block = q4 ? 18 : 34, words = q4 ? 4 : 8, groups = (size_t)j->layout.groups;
    const size_t line = (size_t)tile * groups * LADE_TILE;
    uint32_t *codes = (uint32_t *)(void *)j->dst + line * words, some[8 * LADE_TILE];
    uint16_t *scales = (uint16_t *)(void *)(j->dst + j->layout.scales) + line, few[LADE_TILE];
    const uint16_t *const first = scales;
    bool bad = false;
    for (size_t g = 0; g < groups; g++, codes += words * LADE_TILE, scales += LADE_TILE) {
        lade_tile_soon(row[LADE_TILE - 1], (groups + g * LADE_TILE) * block, block * LADE_TILE);
        lade_tile_soon_written(codes, words * LADE_TILE * 4);
        if (n == LADE_TILE) {
            put_blocks(row, g * block, q4, codes, scales);
            continue;
        }
        put_blocks(row, g * block, q4, some, few);
        bad |= any_bad(few, LADE_TILE);
        lade_tile_some(codes, some, words, lane, n);
        memcpy(scales + lane, few + lane, n * sizeof *few);
    }
    return bad || (n == LADE_TILE && any_bad(first, groups * LADE_TILE));
}

static int pack_blocks(const struct lade_pack_job *j)
{
    const bool q4 = j->t->source == LADE_SRC_Q4_0;
    const size_t row_bytes = (size_t)j->layout.groups * (q4 ? 18 : 34);
    const unsigned char *row[LADE_TILE];
    bool bad = false;
    for (int r = j->first, end = j->first + j->rows; r < end;) {
        const int lane = r % LADE_TILE, most = LADE_TILE - lane;
        const int n = most < end - r ? most : end - r;
        for (int i = 0; i < LADE_TILE; i++) {
            const int k =
                i < lane || i >= lane + n ? r : r + i - lane; /* any row for lanes of others */
            row[i] = j->src + (size_t)(lade_pack_run_at(j, k).row - j->first) * row_bytes;
        }
        bad |= q4 ? pack_tile(j, row, r / LADE_TILE, (size_t)lane, (size_t)n, true)
                  : pack_tile(j, row, r / LADE_TILE, (size_t)lane, (size_t)n, false);
        r += n;
    }
    return bad ? lade_pack_bad(j, "a scale is infinite or not a number") : 0;
}

/* ---- plain ----------------------------------------------------------------------------------- */

float lade_f32_from_f16(uint16_t h)
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
            to[i] = lade_f32_from_f16(h);
        else
            memcpy(&to[i], &bits, 4);
    }
}

/* Tensors that become F32: small ones (norms, convolution, routers in F16). */
static int pack_to_f32(const struct lade_pack_job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    float *to = (float *)(void *)j->dst;
    int bad = 0;
    widen(j->t->source, j->src, to, n);
    for (size_t i = 0; i < n; i++)
        bad |= !isfinite(to[i]);
    if (bad)
        return lade_pack_bad(j, "a value is infinite or not a number");
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
    return t->packed.type == LADE_F32 && (t->source != LADE_SRC_F32 || t->value != LADE_VALUE_SAME);
}

/* Rows as they are, in the packed order. */
static int pack_plain(const struct lade_pack_job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    if (becomes_f32(j->t))
        return pack_to_f32(j);
    const size_t row_bytes = j->layout.bytes / (size_t)m->rows;
    for (int r = j->first, end = j->first + j->rows; r < end;) {
        struct lade_pack_run run = lade_pack_run_at(j, r);
        int n = run.n < end - r ? run.n : end - r;
        memcpy(j->dst + (size_t)r * row_bytes, j->src + (size_t)(run.row - j->first) * row_bytes,
               (size_t)n * row_bytes);
        r += n;
    }
    return 0;
}

/* ---- ggml's other blocks --------------------------------------------------------------------- */

/* Their bytes stay; only where they lie changes. */
static int interleave(const struct lade_pack_job *j)
{
    const struct lade_matrix *m = &j->t->packed;
    const size_t row_bytes = (size_t)j->layout.groups * (size_t)lade_blocks[m->block].bytes;
    for (int r = j->first, end = j->first + j->rows; r < end;) {
        struct lade_pack_run run = lade_pack_run_at(j, r);
        int n = run.n < end - r ? run.n : end - r;
        lade_blocks_put(m, &j->layout, j->dst, r, n,
                        j->src + (size_t)(run.row - j->first) * row_bytes);
        r += n;
    }
    return 0;
}

/* ---- already packed -------------------------------------------------------------------------- */

static int copy(const struct lade_pack_job *j)
{
    memcpy(j->dst, j->src, j->layout.bytes);
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct source {
    int (*pack)(const struct lade_pack_job *);
    int same;     /* packed type that has the very bytes of the source, or -1 */
    bool by_rows; /* parts are runs of rows */
} sources[LADE_N_SOURCES] = {
    [LADE_SRC_F32] = {pack_plain, LADE_F32, true},   [LADE_SRC_F16] = {pack_plain, LADE_F16, true},
    [LADE_SRC_BF16] = {pack_plain, LADE_BF16, true}, [LADE_SRC_GPTQ] = {lade_pack_quant, -1, false},
    [LADE_SRC_AWQ] = {lade_pack_quant, -1, false},   [LADE_SRC_CT] = {lade_pack_quant, -1, false},
    [LADE_SRC_F8] = {lade_pack_quant, -1, false},    [LADE_SRC_Q4_0] = {pack_blocks, -1, true},
    [LADE_SRC_Q8_0] = {pack_blocks, -1, true},       [LADE_SRC_BLOCKS] = {interleave, -1, true},
    [LADE_SRC_PACKED] = {copy, -1, false},
};

bool lade_pack_is_copy(const struct lade_tensor *t)
{
    if (t->source == LADE_SRC_PACKED)
        return true;
    return sources[t->source].same == (int)t->packed.type && t->rows == LADE_ROWS_SAME &&
           t->value == LADE_VALUE_SAME && t->n_parts == 1;
}

/* Where the rows of a part begin, and how many it has: as its share of all bytes. */
static void find_rows(struct lade_pack_job *j)
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
    struct lade_pack_job j = {.cat = cat, .t = t, .part = part, .src = src, .dst = dst, .err = err};
    if (part < 0 || part >= t->n_parts || lade_matrix_layout(&t->packed, &j.layout))
        return lade_fail(err, "tensor of role %d: no part %d to pack; report this", t->role, part);
    find_rows(&j);
    return sources[t->source].pack(&j);
}

size_t lade_pack_row_bytes(const struct lade_tensor *t, int part)
{
    struct lade_pack_job j = {.t = t, .part = part};
    find_rows(&j);
    if (!sources[t->source].by_rows || t->rows != LADE_ROWS_SAME || becomes_f32(t) || j.rows < 1)
        return 0;
    return t->parts[part].bytes / (uint64_t)j.rows;
}

int lade_pack_rows(const struct lade_catalog *cat, const struct lade_tensor *t, int part, int first,
                   int n, const void *src, void *dst, char *err)
{
    struct lade_pack_job j = {.cat = cat, .t = t, .part = part, .src = src, .dst = dst, .err = err};
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

size_t lade_pack_own(const struct lade_tensor *t, int part, int first, int n, size_t *at)
{
    struct lade_matrix_layout l;
    *at = 0;
    if (t->n_parts > 1 || lade_matrix_layout(&t->packed, &l) ||
        (n && !lade_pack_row_bytes(t, part)))
        return 0;
    if (!n)
        return l.bytes;
    const bool tiles = l.tiles > 0; /* of codes, which come first; rows of a tile lie together */
    const size_t of_tile = (size_t)l.words * LADE_TILE * sizeof(uint32_t);
    const size_t unit = tiles ? of_tile * (t->packed.type == LADE_BLOCKS ? (size_t)l.groups : 1)
                              : l.bytes / (size_t)t->packed.rows;
    const int per_unit = tiles ? LADE_TILE : 1;
    *at = (size_t)(first / per_unit) * unit;
    return first % per_unit ? 0 : (size_t)(n / per_unit) * unit;
}
