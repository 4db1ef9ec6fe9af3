#include "engine/checkpoint/pack_job.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/checkpoint/file.h"
#include "kernels/blocks.h"

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

static int pack_blocks(const struct lade_pack_job *j)
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
            j->src + (size_t)(lade_pack_run_at(j, r).row - j->first) * groups * block_bytes;
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

/* Tensors that become F32: small ones (norms, convolution, routers). */
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
