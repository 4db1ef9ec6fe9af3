/* Quantized modules of Hugging Face checkpoints: which tensors each packing has, their shapes, and
 * the packed matrix that they become. */
#include "engine/checkpoint/hf.h"

#include <stdio.h>
#include <string.h>

#include "kernels/blocks.h"

enum { NAME = LADE_HF_NAME };

/* The parts of each packing, in the order of lade_tensor.parts. */
static const struct part {
    uint8_t kind; /* enum lade_part */
    bool optional;
    const char *suffix[2]; /* the second one: another name of the same */
} forms[LADE_N_SOURCES][LADE_MAX_PARTS] = {
    [LADE_SRC_GPTQ] = {{LADE_PART_CODES, false, {".qweight"}},
                       {LADE_PART_ZEROS, false, {".qzeros"}},
                       {LADE_PART_SCALES, false, {".scales"}},
                       {LADE_PART_ORDER, true, {".g_idx"}}},
    [LADE_SRC_AWQ] = {{LADE_PART_CODES, false, {".qweight"}},
                      {LADE_PART_ZEROS, false, {".qzeros"}},
                      {LADE_PART_SCALES, false, {".scales"}}},
    [LADE_SRC_CT] = {{LADE_PART_CODES, false, {".weight_packed"}},
                     {LADE_PART_ZEROS, true, {".weight_zero_point"}},
                     {LADE_PART_SCALES, false, {".weight_scale"}},
                     {LADE_PART_ORDER, true, {".weight_g_idx"}},
                     {LADE_PART_SHAPE, true, {".weight_shape"}}},
    [LADE_SRC_F8] = {{LADE_PART_CODES, false, {".weight"}},
                     {LADE_PART_SCALES, false, {".weight_scale_inv", ".weight_scale"}}},
};

const char *lade_hf_suffix(const struct lade_tensor *t, int part)
{
    for (int i = 0; i < LADE_MAX_PARTS; i++) {
        const struct part *p = &forms[t->source][i];
        if (p->suffix[0] && p->kind == t->kinds[part])
            return p->suffix[t->naming == LADE_HF_OTHER && p->suffix[1]];
    }
    return "";
}

static uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

/* The shape that a part must have; returns its rank. */
static int part_dims(const struct lade_tensor *t, const struct lade_quant_spec *spec,
                     enum lade_part kind, uint64_t dims[2])
{
    const struct lade_matrix *m = &t->packed;
    const uint64_t rows = (uint64_t)m->rows, cols = (uint64_t)m->cols, bits = (uint64_t)spec->bits;
    const uint64_t groups = m->group ? ceil_div(cols, (uint64_t)m->group) : 0;
    const bool ct = t->source == LADE_SRC_CT, awq = t->source == LADE_SRC_AWQ;
    uint64_t first = 0, second = 0;
    switch (kind) {
    case LADE_PART_CODES:
        first = ct || spec->source == LADE_SRC_F8 ? rows : awq ? cols : cols * bits / 32;
        second = ct                            ? ceil_div(cols * bits, 32)
                 : awq                         ? rows * bits / 32
                 : spec->source == LADE_SRC_F8 ? cols
                                               : rows;
        break;
    case LADE_PART_ZEROS:
        first = ct ? ceil_div(rows * bits, 32) : groups;
        second = ct ? groups : rows * bits / 32;
        break;
    case LADE_PART_SCALES:
        first = ct ? rows : groups;
        second = ct ? groups : rows;
        if (spec->source == LADE_SRC_F8) {
            first = ceil_div(rows, (uint64_t)t->block_rows);
            second = spec->block_cols < 0 ? 1 : ceil_div(cols, (uint64_t)spec->block_cols);
        }
        break;
    case LADE_PART_ORDER:
        dims[0] = cols;
        return 1;
    default:
        dims[0] = 2;
        return 1;
    }
    dims[0] = first;
    dims[1] = second;
    return 2;
}

static int check_dtype(const struct lade_build *b, struct lade_tensor *t, enum lade_part kind,
                       const struct lade_raw *raw, const char *name, char *err)
{
    const enum lade_dtype want = kind == LADE_PART_SHAPE    ? LADE_DT_I64
                                 : t->source != LADE_SRC_F8 ? LADE_DT_I32
                                                            : LADE_DT_F8_E4M3;
    if (kind != LADE_PART_SCALES)
        return raw->dtype == want ? 0
                                  : lade_hf_wrong_dtype(b, raw, name, lade_dtypes[want].name, err);
    t->scale = raw->dtype;
    if (raw->dtype == LADE_DT_F32 || raw->dtype == LADE_DT_F16 || raw->dtype == LADE_DT_BF16)
        return 0;
    return lade_hf_wrong_dtype(b, raw, name, "F16, BF16 or F32", err);
}

/* What the config says of a module's numbers, for messages about shapes. */
static void describe(const struct lade_build *b, const struct lade_quant_spec *spec, char *by,
                     size_t size)
{
    const char *file = lade_quant_file(b->quant);
    if (spec->source == LADE_SRC_F8)
        snprintf(by, size, "a scale per %d x %d block of %s", spec->block_rows, spec->block_cols,
                 file);
    else
        snprintf(by, size, "%d bits and group_size %d of %s", spec->bits, spec->group, file);
}

static int bind_part(struct lade_build *b, struct lade_tensor *t, const struct part *p,
                     const struct lade_quant_spec *spec, char *name, size_t module_len, char *err)
{
    uint64_t want[2];
    struct lade_raw *raw = lade_hf_find(b, name, module_len, p->suffix[0]);
    if (!raw && p->suffix[1] && (raw = lade_hf_find(b, name, module_len, p->suffix[1])))
        t->naming = LADE_HF_OTHER;
    if (!raw && p->optional && !(p->kind == LADE_PART_ZEROS && !spec->sym))
        return 0;
    if (!raw) {
        lade_hf_find(b, name, module_len, p->suffix[0]);
        return lade_fail(err, "%s: tensor '%s' is missing; download the checkpoint again", b->list,
                         name);
    }
    if (check_dtype(b, t, p->kind, raw, name, err))
        return -1;
    int rank = part_dims(t, spec, p->kind, want);
    bool one = p->kind == LADE_PART_SCALES &&
               raw->bytes == (uint64_t)lade_dtypes[raw->dtype].bytes && want[0] == 1 &&
               want[1] == 1; /* of a whole tensor: [], [1] or [1, 1] */
    if (!one && !lade_hf_same_dims(raw, want, rank)) {
        char by[NAME];
        describe(b, spec, by, sizeof by);
        return lade_hf_wrong_shape(b, raw, name, want, rank, by, err);
    }
    t->kinds[t->n_parts] = p->kind;
    lade_hf_take(t, t->n_parts++, raw);
    return 0;
}

/* The matrix that packed integers become: 2 to 4 bits go into tiles of 4 bits, 8 into those of 8. */
static int integer_type(const struct lade_build *b, struct lade_tensor *t,
                        const struct lade_quant_spec *spec, const char *name, char *err)
{
    struct lade_matrix *m = &t->packed;
    const char *file = lade_quant_file(b->quant);
    const int bits = spec->bits;
    if ((bits != 2 && bits != 3 && bits != 4 && bits != 8) ||
        (spec->source == LADE_SRC_AWQ && bits != 4))
        return lade_fail(
            err, "%s: %d bits for '%s', which is quantized; only %s supported", file, bits, name,
            spec->source == LADE_SRC_AWQ ? "4 bits of AWQ are" : "2, 3, 4 and 8 bits are");
    m->type = bits == 8 ? LADE_Q8 : LADE_Q4;
    m->has_zeros = !spec->sym;
    const int per = lade_types[m->type].per_word;
    m->group = spec->group == -1 ? m->cols : spec->group;
    if (m->group < 1 || m->group % per)
        return lade_fail(err,
                         "%s: group_size %d for '%s', expected -1 or a multiple of %d; the "
                         "file is damaged",
                         file, spec->group, name, per);
    const int step = bits == 3 ? 32 : 32 / bits; /* values that fill whole words */
    const bool ct = spec->source == LADE_SRC_CT;
    if (m->cols % (ct ? per : step) || (!ct && m->rows % step))
        return lade_fail(err,
                         "%s: '%s' has %d x %d values, which %d bits do not pack evenly; the "
                         "files do not belong together",
                         file, name, m->rows, m->cols, bits);
    return 0;
}

/* 8-bit floats: blocks along the rows, each with its scale; kernels/blocks.h. */
static int float_type(const struct lade_build *b, struct lade_tensor *t,
                      const struct lade_quant_spec *spec, const char *name, char *err)
{
    struct lade_matrix *m = &t->packed;
    m->type = LADE_BLOCKS;
    m->block = LADE_BLOCK_F8_E4M3;
    t->block_rows = spec->block_rows < 0 ? m->rows : spec->block_rows;
    t->block_cols = spec->block_cols;
    const int n = lade_blocks[m->block].n;
    if (spec->block_cols > 0 && spec->block_cols % n)
        return lade_fail(err,
                         "%s: blocks of %d x %d for '%s', expected a multiple of %d columns; get "
                         "another checkpoint",
                         lade_quant_file(b->quant), spec->block_rows, spec->block_cols, name, n);
    return 0;
}

/* The packed matrix keeps the group of each input where the config says that they are reordered. */
static int bind_order(const struct lade_build *b, struct lade_tensor *t,
                      const struct lade_quant_spec *spec, char *name, char *err)
{
    struct lade_matrix *m = &t->packed;
    for (int i = 0; i < t->n_parts; i++)
        m->has_order |= t->kinds[i] == LADE_PART_ORDER && spec->reordered && m->group < m->cols;
    if (m->has_order && m->cols / m->group > UINT16_MAX)
        return lade_fail(err, "%s: '%s' has more than %d groups; the file is damaged",
                         lade_quant_file(b->quant), name, UINT16_MAX);
    return 0;
}

int lade_hf_bind_quantized(struct lade_build *b, struct lade_tensor *t, char *name,
                           size_t module_len, char *err)
{
    struct lade_quant_spec spec;
    struct lade_raw *raw = lade_hf_find(b, name, module_len, ".weight");
    if (raw && raw->dtype != LADE_DT_F8_E4M3)
        return 0;
    if (!raw)
        raw = lade_hf_find(b, name, module_len, ".qweight");
    if (!raw)
        raw = lade_hf_find(b, name, module_len, ".weight_packed");
    if (!raw)
        return 0;
    if (!b->quant)
        return lade_fail(err,
                         "%s: tensor '%s' is quantized but config.json has no "
                         "quantization_config; download config.json again",
                         lade_raw_file(b, raw), name);
    if (lade_quant_module(b->quant, name, module_len, &spec, err))
        return -1;
    if ((raw->dtype == LADE_DT_F8_E4M3) != (spec.source == LADE_SRC_F8))
        return lade_hf_wrong_dtype(b, raw, name, "that of its quantization_config", err);
    if (t->role == LADE_SHARED_GATE)
        return lade_fail(err,
                         "%s: tensor '%s' is quantized, which is not supported there; get another "
                         "checkpoint of the model",
                         lade_raw_file(b, raw), name);
    name[module_len] = '\0';
    if (spec.source == LADE_SRC_F8 ? float_type(b, t, &spec, name, err)
                                   : integer_type(b, t, &spec, name, err))
        return -1;
    t->source = (uint8_t)spec.source;
    t->bits = (uint8_t)spec.bits;
    t->zero_offset = (uint8_t)spec.zero_offset;
    for (int i = 0; i < LADE_MAX_PARTS && forms[t->source][i].suffix[0]; i++)
        if (bind_part(b, t, &forms[t->source][i], &spec, name, module_len, err))
            return -1;
    return bind_order(b, t, &spec, name, err) ? -1 : 1;
}
