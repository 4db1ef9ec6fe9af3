/* Packing, against the formats' own formulas: every value of every tensor is worked out twice, once
 * from the file's bytes and once from the packed bytes, and must be equal to the last bit. */
#include "engine/checkpoint/pack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/checkpoint/raw.h"
#include "tests/support/support_checkpoint.h"
#include "tests/support/support_packed.h"
#include "tests/support/support_packing.h"
#include "tests/support/support_tensor.h"

/* ---- the file's side ------------------------------------------------------------------------- */

static const unsigned char *part_of(const struct lade_tensor *t, unsigned char *const *parts,
                                    enum lade_part kind)
{
    for (int i = 0; i < t->n_parts; i++)
        if (t->kinds[i] == kind)
            return parts[i];
    return NULL;
}

static float file_scale(const struct lade_tensor *t, unsigned char *const *parts, size_t at)
{
    const unsigned char *scales = part_of(t, parts, LADE_PART_SCALES);
    float f = 0;
    if (t->scale == LADE_DT_F32)
        memcpy(&f, scales + 4 * at, 4);
    return t->scale == LADE_DT_F16    ? support_half(support_u16(scales, at))
           : t->scale == LADE_DT_BF16 ? support_brain(support_u16(scales, at))
                                      : f;
}

/* Code i of a stream of codes, in words `stride` words apart. */
static int code_at(const unsigned char *words, size_t first, size_t stride, size_t i, size_t bits)
{
    int code = 0;
    for (size_t b = 0; b < bits; b++) {
        size_t at = i * bits + b;
        code |= (int)(support_u32(words, first + at / 32 * stride) >> at % 32 & 1) << b;
    }
    return code;
}

static float file_integer(const struct lade_tensor *t, unsigned char *const *parts, size_t row,
                          size_t col)
{
    static const size_t awq[] = {0, 4, 1, 5, 2, 6, 3, 7};
    const struct lade_matrix *m = &t->packed;
    const size_t rows = (size_t)m->rows, cols = (size_t)m->cols, bits = t->bits;
    const size_t groups = (cols - 1) / (size_t)m->group + 1;
    const unsigned char *codes = part_of(t, parts, LADE_PART_CODES);
    const unsigned char *zeros = part_of(t, parts, LADE_PART_ZEROS);
    const unsigned char *order = part_of(t, parts, LADE_PART_ORDER);
    const size_t g = order ? support_u32(order, col) : col / (size_t)m->group;
    if (t->source == LADE_SRC_CT) {
        int z = zeros ? code_at(zeros, g, groups, row, bits) : 1 << (bits - 1);
        int q = code_at(codes, row * ((cols * bits + 31) / 32), 1, col, bits);
        return file_scale(t, parts, row * groups + g) * (float)(q - z);
    }
    const bool is_awq = t->source == LADE_SRC_AWQ;
    const size_t zero_row = is_awq ? row / 8 * 8 + awq[row % 8] : row;
    int z = code_at(zeros, g * (rows * bits / 32), 1, zero_row, bits) + t->zero_offset;
    int q = is_awq ? code_at(codes, col * (rows / 8), 1, zero_row, bits)
                   : code_at(codes, row, rows, col, bits);
    return file_scale(t, parts, g * rows + row) * (float)(q - z);
}

static float file_float(const struct lade_tensor *t, unsigned char *const *parts, size_t row,
                        size_t col)
{
    const size_t cols = (size_t)t->packed.cols;
    const unsigned char c = part_of(t, parts, LADE_PART_CODES)[row * cols + col];
    const int e = c >> 3 & 15, m = c & 7;
    const float value = e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
    const size_t across = t->block_cols < 0 ? cols : (size_t)t->block_cols;
    const size_t at = row / (size_t)t->block_rows * ((cols - 1) / across + 1) + col / across;
    return (c & 0x80 ? -value : value) * file_scale(t, parts, at);
}

/* W[row][col] of the file, rows as the file has them. */
static float file_value(const struct lade_tensor *t, unsigned char *const *parts, size_t row,
                        size_t col)
{
    size_t at = row * (size_t)t->packed.cols + col;
    uint32_t bits;
    float f;
    switch (t->source) {
    case LADE_SRC_F32:
        bits = support_u32(parts[0], at);
        memcpy(&f, &bits, 4);
        return f;
    case LADE_SRC_F16:
        return support_half(support_u16(parts[0], at));
    case LADE_SRC_BF16:
        return support_brain(support_u16(parts[0], at));
    default:
        break;
    }
    return t->source == LADE_SRC_F8 ? file_float(t, parts, row, col)
                                    : file_integer(t, parts, row, col);
}

/* The file's row of each packed row: the projections are [key head][q, k, v.., z..] and
 * [key head][b.., a..]; packed they are [q of all heads][k][v][z] and [b][a]. */
static int *file_rows(const struct lade_shape *s, const struct lade_tensor *t)
{
    int *rows = malloc((size_t)t->packed.rows * sizeof *rows), n = 0;
    int ratio = s->value_heads / s->key_heads;
    assert_non_null(rows);
    if (t->role == LADE_DELTA_QKVZ) {
        int group = 2 * s->key_dim + 2 * ratio * s->value_dim;
        for (int half_no = 0; half_no < 2; half_no++)
            for (int h = 0; h < s->key_heads; h++)
                for (int d = 0; d < s->key_dim; d++)
                    rows[n++] = h * group + half_no * s->key_dim + d;
        for (int part = 0; part < 2; part++)
            for (int h = 0; h < s->value_heads; h++)
                for (int d = 0; d < s->value_dim; d++)
                    rows[n++] = h / ratio * group + 2 * s->key_dim + part * ratio * s->value_dim +
                                h % ratio * s->value_dim + d;
    } else if (t->role == LADE_DELTA_BA) {
        for (int part = 0; part < 2; part++)
            for (int h = 0; h < s->value_heads; h++)
                rows[n++] = h / ratio * 2 * ratio + part * ratio + h % ratio;
    } else {
        while (n < t->packed.rows) {
            rows[n] = n;
            n++;
        }
    }
    assert_int_equal(n, t->packed.rows);
    return rows;
}

static float expected(const struct lade_tensor *t, float f)
{
    switch (t->role) {
    case LADE_FINAL_NORM:
    case LADE_IN_NORM:
    case LADE_POST_NORM:
    case LADE_Q_NORM:
    case LADE_K_NORM:
        return 1 + f;
    case LADE_DELTA_DECAY:
        return (float)-exp((double)f);
    default:
        return f;
    }
}

/* ---- the packed side ------------------------------------------------------------------------- */

/* Rows that fill the last tile up must have scale 0. */
static void check_padding(const struct lade_matrix *m, const unsigned char *data)
{
    struct lade_matrix_layout l;
    assert_int_equal(lade_matrix_layout(m, &l), 0);
    for (int row = m->rows; m->group && row < l.tiles * 16; row++)
        for (size_t g = 0; g < (size_t)l.groups; g++)
            assert_int_equal(
                support_u16(data + l.scales,
                            ((size_t)(row / 16) * (size_t)l.groups + g) * 16 + (size_t)row % 16),
                0);
}

/* Where rows may be packed apart, any cut gives the same bytes. */
static void check_rows(const struct lade_catalog *cat, const struct lade_tensor *t,
                       unsigned char *const *parts, const unsigned char *whole)
{
    size_t room = (t->bytes + 63) / 64 * 64;
    unsigned char *packed = aligned_alloc(LADE_ALIGN, room);
    char err[LADE_ERR] = "";
    assert_non_null(packed);
    memset(packed, 0, room);
    for (int i = 0; i < t->n_parts; i++) {
        size_t row = lade_pack_row_bytes(t, i);
        if (!row) {
            free(packed);
            return;
        }
        int rows = (int)(t->parts[i].bytes / row);
        assert_int_equal((size_t)rows * row, t->parts[i].bytes);
        for (int first = 0, n = 3; first < rows; first += n, n = n * 2 + 1) {
            n = n < rows - first ? n : rows - first;
            if (lade_pack_rows(cat, t, i, first, n, parts[i] + (size_t)first * row, packed, err))
                fail_msg("%s", err);
        }
        assert_int_equal(lade_pack_rows(cat, t, i, 0, rows + 1, parts[i], packed, err), -1);
    }
    assert_memory_equal(packed, whole, t->bytes);
    free(packed);
}

static void check_tensor(const struct lade_catalog *cat, const struct lade_tensor *t)
{
    unsigned char *parts[LADE_MAX_PARTS] = {0};
    unsigned char *packed = support_tensor_room(t);
    char err[LADE_ERR] = "", name[256];
    lade_catalog_tensor_name(cat, t, 0, name, sizeof name);
    for (int i = t->n_parts - 1; i >= 0; i--) {
        parts[i] = support_tensor_part(cat, t, i);
        unsigned char *odd = malloc(t->parts[i].bytes + 1); /* any alignment */
        assert_non_null(odd);
        memcpy(odd + 1, parts[i], t->parts[i].bytes);
        if (lade_pack(cat, t, i, odd + 1, packed, err))
            fail_msg("%s", err);
        free(odd);
    }
    if (lade_pack_is_copy(t)) {
        assert_int_equal(t->bytes, t->parts[0].bytes);
        assert_memory_equal(packed, parts[0], t->bytes);
    }
    int *rows = file_rows(&cat->shape, t);
    for (int r = 0; r < t->packed.rows; r++)
        for (int c = 0; c < t->packed.cols; c++) {
            float want = expected(t, file_value(t, parts, (size_t)rows[r], (size_t)c));
            float have = support_packed(&t->packed, packed, (size_t)r, (size_t)c);
            if (memcmp(&want, &have, sizeof want) && want != have)
                fail_msg("%s[%d][%d] is %.9g, expected %.9g", name, r, c, (double)have,
                         (double)want);
        }
    check_padding(&t->packed, packed);
    check_rows(cat, t, parts, packed);
    for (int i = 0; i < t->n_parts; i++)
        free(parts[i]);
    free(rows);
    free(packed);
}

static void check_directory(const char *dir)
{
    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    if (lade_catalog_open(&cat, dir, err))
        fail_msg("%s", err);
    for (int i = 0; i < cat->n_tensors; i++)
        check_tensor(cat, &cat->tensors[i]);
    lade_catalog_close(cat);
}

static void plain_checkpoints(void **state)
{
    (void)state;
    static const char *const dtypes[] = {"BF16", "F16", "F32"};
    for (int i = 0; i < 3; i++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, dtypes[i]);
        support_save(&c, 1);
        check_directory(c.dir);
        support_free(&c);
    }
}

static void symmetric_checkpoint(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize_mixed(&c);
    support_save(&c, 2);
    check_directory(c.dir);
    support_free(&c);
}

/* Random zeros, among them a stored 15, which means 16; stored unshifted, too. */
static void asymmetric_checkpoints(void **state)
{
    (void)state;
    for (int shifted = 0; shifted < 2; shifted++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, "BF16");
        support_quantize_mixed(&c);
        json_t *config = json_object_get(c.config, "quantization_config");
        support_set(config, "sym", "false");
        if (!shifted)
            support_set(config, "packing_format", "\"auto_round\"");
        for (int i = 0; i < c.n; i++) {
            struct support_tensor *t = &c.tensors[i];
            if (!strstr(t->name, ".qzeros"))
                continue;
            for (size_t k = 0; k < t->bytes; k++) /* never 255: as 8 bits it would mean 256 */
                t->data[k] = strstr(t->name, ".experts.") ? (unsigned char)(k * 37 + 255)
                                                          : (unsigned char)(k * 37 % 255);
        }
        support_save(&c, 1);
        check_directory(c.dir);
        support_free(&c);
    }
}

/* GPTQ's own config: v1 and v2 zeros, patterns of `dynamic`, and g_idx where nothing is reordered. */
static void gptq_checkpoints(void **state)
{
    (void)state;
    for (int version = 1; version <= 2; version++) {
        struct support_checkpoint c;
        char name[128];
        support_new(&c);
        support_add_plain(&c, "F16");
        support_quantize_mixed(&c);
        support_set(c.config, "quantization_config",
                    "{\"bits\": 4, \"group_size\": 16, \"sym\": true, \"desc_act\": false,"
                    " \"quant_method\": \"gptq\", \"dynamic\": {\"-:lm_head\": {},"
                    " \"+:.*(linear_attn|self_attn|shared_expert)\": {\"bits\": 8}}}");
        support_set(json_object_get(c.config, "quantization_config"), "format",
                    version == 1 ? "\"gptq\"" : "\"gptq_v2\"");
        for (int i = 0; i < c.n; i++) {
            struct support_tensor *t = &c.tensors[i];
            if (version == 2 && strstr(t->name, ".qzeros"))
                memset(t->data, strstr(t->name, ".experts.") ? 0x88 : 0x80, t->bytes);
        }
        for (int e = 0; e < 3; e++) {
            snprintf(name, sizeof name, "model.layers.1.mlp.experts.%d.up_proj.g_idx", e);
            struct support_tensor *t = support_add(&c, name, "I32", 1, (uint64_t[]){32});
            for (int32_t k = 0; k < 32; k++) {
                int32_t group = k / 16;
                memcpy(t->data + 4 * k, &group, 4);
            }
        }
        support_save(&c, 1);
        check_directory(c.dir);
        support_free(&c);
    }
}

/* A last group that is shorter than the others, and one group for all inputs. */
static void ragged_groups(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize(&c, "model.layers.0.linear_attn.out_proj", 4, 32); /* 48 inputs */
    support_quantize(&c, "model.layers.0.mlp.shared_expert.up_proj", 8, -1);
    support_set(c.config, "quantization_config",
                "{\"bits\": 4, \"group_size\": 32, \"quant_method\": \"auto-round\","
                " \"extra_config\": {\"up_proj\": {\"bits\": 8, \"group_size\": -1}}}");
    support_save(&c, 1);
    check_directory(c.dir);
    support_free(&c);
}

static void fused_checkpoint(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "F16");
    for (int l = 0; l < 2; l++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.gate_up_proj", l);
        support_add(&c, name, "BF16", 3, (uint64_t[]){3, 64, 32});
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.down_proj", l);
        support_add(&c, name, "BF16", 3, (uint64_t[]){3, 32, 32});
    }
    support_save(&c, 1);
    check_directory(c.dir);
    support_free(&c);
}

/* Every packing on every linear layer, so that rows change places, too; columns that fill no block of
 * 8-bit floats. */
static void packings(void **state)
{
    (void)state;
    static const struct support_packing list[] = {
        {.form = "awq", .scales = "F16", .bits = 4, .group = 16},
        {.form = "awq", .scales = "BF16", .bits = 4, .group = -1, .sym = true},
        {.form = "compressed-tensors", .scales = "BF16", .bits = 4, .group = 16, .sym = true},
        {.form = "compressed-tensors", .scales = "F16", .bits = 3, .group = 8, .order = true},
        {.form = "compressed-tensors", .scales = "BF16", .bits = 8, .group = -1},
        {.form = "compressed-tensors", .scales = "F16", .bits = 2, .group = 16},
        {.form = "fp8",
         .scales = "BF16",
         .scale_name = "weight_scale_inv",
         .block_rows = 128,
         .block_cols = 128},
        {.form = "fp8",
         .scales = "F32",
         .scale_name = "weight_scale",
         .block_rows = 1,
         .block_cols = -1},
        {.form = "fp8",
         .scales = "F16",
         .scale_name = "weight_scale_inv",
         .block_rows = 16,
         .block_cols = 128},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct support_checkpoint c;
        char modules[64][128];
        int n = 0;
        support_new(&c);
        support_add_plain(&c, "F16");
        for (int k = 0; k < c.n; k++) {
            const char *name = c.tensors[k].name;
            if (strstr(name, "_proj.weight") || strstr(name, "in_proj_"))
                snprintf(modules[n++], sizeof modules[0], "%.*s", (int)(strlen(name) - 7), name);
        }
        for (int k = 0; k < n; k++)
            support_pack(&c, modules[k], &list[i]);
        support_set(c.config, "quantization_config", support_packing_config(&list[i]));
        support_save(&c, 2);
        check_directory(c.dir);
        support_free(&c);
    }
}

static void fixtures(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny-bf16", "tiny-thinking", "tiny8-bf16",
                                        "odd-bf16",  "tiny-int4",     "tiny8-int4-mixed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/%s", names[i]);
        check_directory(dir);
    }
}

/* ---- values that only the data can tell ------------------------------------------------------ */

/* Packs every tensor; the first failure's message, or "". */
static const char *pack_all(struct support_checkpoint *c)
{
    static char err[LADE_ERR];
    struct lade_catalog *cat;
    int rc = 0;
    err[0] = 0;
    support_save(c, 2);
    if (lade_catalog_open(&cat, c->dir, err))
        fail_msg("%s", err);
    for (int i = 0; i < cat->n_tensors && !rc; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        unsigned char *packed = support_tensor_room(t);
        for (int part = 0; part < t->n_parts && !rc; part++) {
            unsigned char *bytes = support_tensor_part(cat, t, part);
            rc = lade_pack(cat, t, part, bytes, packed, err);
            free(bytes);
        }
        free(packed);
    }
    lade_catalog_close(cat);
    assert_int_equal(rc != 0, err[0] != 0);
    return err;
}

static void bad_values_name_the_tensor(void **state)
{
    (void)state;
    static const struct {
        const char *tensor;
        size_t at;
        unsigned char low, high;
        const char *say;
    } cases[] = {
        {"model.layers.1.mlp.experts.2.up_proj.scales", 6, 0x00, 0x7C, "a scale is infinite"},
        {"model.layers.1.mlp.experts.2.up_proj.scales", 6, 0x01, 0xFE, "a scale is infinite"},
        {"model.layers.1.mlp.experts.2.up_proj.qzeros", 6, 0x77, 0x67, "says it is symmetric"},
        {"model.layers.0.linear_attn.in_proj_ba.qzeros", 2, 0x7F, 0x7E, "says it is symmetric"},
        {"model.layers.0.input_layernorm.weight", 2, 0xC0, 0x7F, "a value is infinite"},
        {"model.layers.0.linear_attn.A_log", 2, 0x80, 0xFF, "a value is infinite"},
        {"model.layers.1.mlp.shared_expert_gate.weight", 2, 0x80, 0x7F, "a value is infinite"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, "BF16");
        support_quantize_mixed(&c);
        struct support_tensor *t = support_find(&c, cases[i].tensor);
        t->data[cases[i].at] = cases[i].low;
        t->data[cases[i].at + 1] = cases[i].high;
        const char *err = pack_all(&c);
        if (!strstr(err, "model-0000") || !strstr(err, cases[i].tensor) ||
            !strstr(err, cases[i].say))
            fail_msg("%s: expected \"%s\" in: %s", cases[i].tensor, cases[i].say, err);
        support_free(&c);
    }
}

static void reordered_inputs_are_refused(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize_mixed(&c);
    struct support_tensor *t =
        support_add(&c, "model.layers.1.self_attn.o_proj.g_idx", "I32", 1, (uint64_t[]){64});
    for (int32_t k = 0; k < 64; k++) {
        int32_t group = k == 17 ? 3 : k / 16;
        memcpy(t->data + 4 * k, &group, 4);
    }
    const char *err = pack_all(&c);
    assert_non_null(
        strstr(err, "model.layers.1.self_attn.o_proj.g_idx': its inputs are reordered"));
    support_free(&c);
}

static void a_zero_of_256_is_refused(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize_mixed(&c);
    support_set(json_object_get(c.config, "quantization_config"), "sym", "false");
    support_find(&c, "model.layers.1.self_attn.o_proj.qzeros")->data[3] = 0xFF;
    const char *err = pack_all(&c);
    assert_non_null(strstr(err, "model.layers.1.self_attn.o_proj.qzeros"));
    assert_non_null(strstr(err, "a zero point of 256"));
    support_free(&c);
}

static void there_is_no_other_part(void **state)
{
    (void)state;
    struct support_checkpoint c;
    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_save(&c, 1);
    assert_int_equal(lade_catalog_open(&cat, c.dir, err), 0);
    assert_int_equal(lade_pack(cat, &cat->tensors[0], 1, NULL, NULL, err), -1);
    assert_int_equal(lade_pack(cat, &cat->tensors[0], -1, NULL, NULL, err), -1);
    lade_catalog_close(cat);
    support_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_checkpoints),
        cmocka_unit_test(symmetric_checkpoint),
        cmocka_unit_test(asymmetric_checkpoints),
        cmocka_unit_test(gptq_checkpoints),
        cmocka_unit_test(ragged_groups),
        cmocka_unit_test(fused_checkpoint),
        cmocka_unit_test(packings),
        cmocka_unit_test(fixtures),
        cmocka_unit_test(bad_values_name_the_tensor),
        cmocka_unit_test(reordered_inputs_are_refused),
        cmocka_unit_test(a_zero_of_256_is_refused),
        cmocka_unit_test(there_is_no_other_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
