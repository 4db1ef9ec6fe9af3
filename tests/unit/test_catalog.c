/* Whole checkpoints: what lands in the catalog. Broken ones: test_catalog_broken.c. */
#include "engine/checkpoint/catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/support/support_checkpoint.h"
#include "tests/support/support_tensor.h"

enum { SHARDS = 3 };

static struct lade_catalog *open_ok(struct support_checkpoint *c)
{
    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    if (lade_catalog_open(&cat, c->dir, err))
        fail_msg("%s", err);
    return cat;
}

/* The bytes of a part must be those of the tensor it is named after (plus `at` for slices). */
static void check_span(struct support_checkpoint *c, const struct lade_catalog *cat,
                       const struct lade_tensor *t, int part)
{
    char name[256];
    const struct lade_span *span = &t->parts[part];
    lade_catalog_tensor_name(cat, t, part, name, sizeof name);
    const struct support_tensor *want = support_find(c, name);
    unsigned char *have = support_tensor_part(cat, t, part);
    size_t at = 0;
    if (strstr(name, "mlp.experts.gate_up_proj"))
        at = ((size_t)cat->pieces[t->piece].expert * 2 + (t->role == LADE_EXPERT_UP)) * span->bytes;
    else if (strstr(name, "mlp.experts.down_proj"))
        at = (size_t)cat->pieces[t->piece].expert * span->bytes;
    else
        assert_int_equal(span->bytes, want->bytes);
    assert_true(at + span->bytes <= want->bytes);
    assert_memory_equal(have, want->data + at, span->bytes);
    free(have);
}

/* What must hold for every catalog. */
static void check_catalog(struct support_checkpoint *c, const struct lade_catalog *cat)
{
    uint64_t source = 0, wanted = 0;
    size_t packed = 0;
    assert_int_equal(cat->n_pieces, 2 + 2 * (1 + 3));
    assert_int_equal(lade_catalog_base(cat, 1), 6);
    assert_int_equal(lade_catalog_expert(cat, 1, 2), 9);
    for (int p = 0; p < cat->n_pieces; p++) {
        const struct lade_piece *piece = &cat->pieces[p];
        size_t end = 0;
        for (int i = 0; i < piece->n_tensors; i++) {
            const struct lade_tensor *t = &cat->tensors[piece->first + i];
            struct lade_matrix_layout layout;
            int rows, cols;
            assert_int_equal(t->piece, p);
            assert_ptr_equal(lade_catalog_find(cat, p, t->role), t);
            assert_int_equal(t->offset % LADE_ALIGN, 0);
            assert_true(t->offset >= end);
            end = t->offset + t->bytes;
            assert_int_equal(lade_matrix_layout(&t->packed, &layout), 0);
            assert_int_equal(layout.bytes, t->bytes);
            lade_role_dims(&cat->shape, t->role, &rows, &cols);
            assert_int_equal(rows, t->packed.rows);
            assert_int_equal(cols, t->packed.cols);
            for (int part = 0; part < t->n_parts; part++)
                check_span(c, cat, t, part);
        }
        assert_true(end <= piece->bytes && piece->bytes % LADE_ALIGN == 0);
        source += piece->source_bytes;
        packed += piece->bytes;
    }
    for (int i = 0; i < cat->n_shards; i++)
        wanted += cat->shards[i].wanted;
    assert_int_equal(source, cat->source_bytes);
    assert_int_equal(wanted, cat->source_bytes);
    assert_int_equal(packed, cat->packed_bytes);
}

static void plain_of_each_type(void **state)
{
    (void)state;
    static const struct {
        const char *dtype, *quant;
        enum lade_type type;
    } cases[] = {{"BF16", "bf16", LADE_BF16}, {"F16", "f16", LADE_F16}, {"F32", "f32", LADE_F32}};
    for (int i = 0; i < 3; i++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, cases[i].dtype);
        support_save(&c, i == 1 ? SHARDS : 1);
        struct lade_catalog *cat = open_ok(&c);
        check_catalog(&c, cat);
        assert_int_equal(cat->n_shards, i == 1 ? SHARDS : 1);
        assert_string_equal(cat->quant, cases[i].quant);
        assert_string_equal(cat->format, "safetensors");
        assert_string_equal(cat->name, strrchr(c.dir, '/') + 1);
        assert_int_equal(cat->ignored, 0);
        assert_int_equal(cat->generation.stop[0], 45);
        assert_int_equal(lade_catalog_find(cat, 2, LADE_DELTA_QKVZ)->packed.type, cases[i].type);
        assert_int_equal(lade_catalog_find(cat, 2, LADE_ROUTER)->packed.type,
                         cases[i].type == LADE_BF16 ? LADE_BF16 : LADE_F32);
        assert_int_equal(lade_catalog_find(cat, 2, LADE_IN_NORM)->packed.type, LADE_F32);
        assert_null(lade_catalog_find(cat, 2, LADE_ATTN_Q));
        assert_non_null(lade_catalog_find(cat, 6, LADE_ATTN_Q));
        assert_null(lade_catalog_find(cat, -1, LADE_ATTN_Q));
        assert_null(lade_catalog_find(cat, cat->n_pieces, LADE_ATTN_Q));
        lade_catalog_close(cat);
        support_free(&c);
    }
}

static void autoround_mixed(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize_mixed(&c);
    support_save(&c, SHARDS);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    assert_string_equal(cat->quant, "int4+int8 g16");
    const struct lade_tensor *t = lade_catalog_find(cat, 2, LADE_DELTA_QKVZ);
    assert_int_equal(t->packed.type, LADE_Q8);
    assert_int_equal(t->packed.group, 16);
    assert_false(t->packed.has_zeros);
    assert_int_equal(t->zero_offset, 1);
    assert_int_equal(t->rows, LADE_ROWS_QKVZ);
    t = lade_catalog_find(cat, 3, LADE_EXPERT_DOWN);
    assert_int_equal(t->packed.type, LADE_Q4);
    char name[256];
    lade_catalog_tensor_name(cat, t, 1, name, sizeof name);
    assert_string_equal(name, "model.layers.0.mlp.experts.0.down_proj.qzeros");
    assert_int_equal(lade_catalog_find(cat, 0, LADE_EMBED)->packed.type, LADE_BF16);
    lade_catalog_close(cat);
    support_free(&c);
}

/* The tensors decide what is plain; exact names win over patterns, the first pattern over later
 * ones; what a module does not override it inherits. */
static void modules_choose_their_own_quantization(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize(&c, "model.layers.0.mlp.experts.0.gate_proj", 4, 16);
    support_quantize(&c, "model.layers.0.mlp.experts.0.up_proj", 8, 32);
    support_quantize(&c, "model.layers.0.mlp.experts.1.up_proj", 8, 16);
    support_quantize(&c, "model.layers.0.mlp.experts.2.up_proj", 4, -1);
    support_set(c.config, "quantization_config",
                "{\"bits\": 4, \"group_size\": 16, \"sym\": true, \"data_type\": \"int\","
                " \"quant_method\": \"auto-round\", \"packing_format\": \"auto_round\","
                " \"extra_config\": {"
                "  \"experts.1\": {\"bits\": 8}, \"experts\\\\.[1]\": {\"bits\": 2},"
                "  \"(unclosed\": {\"bits\": 2}, \"experts.2.up\": {},"
                "  \"0\\\\.up_proj\": {\"bits\": 3},"
                "  \"model.layers.0.mlp.experts.0.up_proj\":"
                "    {\"bits\": 8, \"group_size\": 32, \"sym\": false},"
                "  \"experts.2\": {\"group_size\": -1},"
                "  \"experts\\\\.2\": {\"bits\": 5}}}");
    support_save(&c, 1);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    const struct lade_tensor *t = lade_catalog_find(cat, 3, LADE_EXPERT_GATE);
    assert_int_equal(t->packed.type, LADE_Q4);
    assert_int_equal(t->zero_offset, 0);
    t = lade_catalog_find(cat, 3, LADE_EXPERT_UP);
    assert_int_equal(t->packed.type, LADE_Q8);
    assert_int_equal(t->packed.group, 32);
    assert_true(t->packed.has_zeros);
    t = lade_catalog_find(cat, 4, LADE_EXPERT_UP);
    assert_int_equal(t->packed.type, LADE_Q8);
    assert_int_equal(t->packed.group, 16);
    t = lade_catalog_find(cat, 5, LADE_EXPERT_UP);
    assert_int_equal(t->packed.type, LADE_Q4);
    assert_int_equal(t->packed.group, 32);
    assert_int_equal(lade_catalog_find(cat, 4, LADE_EXPERT_GATE)->packed.type, LADE_BF16);
    lade_catalog_close(cat);
    support_free(&c);
}

static void quantization_config_may_be_its_own_file(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_quantize_mixed(&c);
    char *text = json_dumps(json_object_get(c.config, "quantization_config"), 0);
    support_set(c.config, "quantization_config", NULL);
    support_write(&c, "quantization_config.json", text, strlen(text));
    support_save(&c, 1);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    assert_string_equal(cat->quant, "int4+int8 g16");
    lade_catalog_close(cat);
    free(text);
    support_free(&c);
}

static void fused_experts_are_slices(void **state)
{
    (void)state;
    struct support_checkpoint c;
    char name[128];
    support_new(&c);
    support_add_plain(&c, "BF16");
    for (int e = 0; e < 9; e++) {
        static const char *const parts[] = {"gate", "up", "down"};
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.%d.%s_proj.weight", e / 3,
                 parts[e % 3]);
        support_drop(&c, name);
    }
    support_add(&c, "model.layers.1.mlp.experts.gate_up_proj", "BF16", 3, (uint64_t[]){3, 64, 32});
    support_add(&c, "model.layers.1.mlp.experts.down_proj", "F16", 3, (uint64_t[]){3, 32, 32});
    support_save(&c, 2);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    assert_int_equal(lade_catalog_find(cat, 8, LADE_EXPERT_DOWN)->packed.type, LADE_F16);
    assert_int_equal(cat->ignored, 0);
    lade_catalog_close(cat);
    support_free(&c);
}

static void extras_are_counted_and_left_alone(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_add(&c, "mtp.fc.weight", "BF16", 2, (uint64_t[]){32, 64});
    support_add(&c, "mtp.layers.0.mlp.gate.weight", "F8_E4M3", 2, (uint64_t[]){3, 32});
    support_add(&c, "model.rotary_emb.inv_freq", "F32", 1, (uint64_t[]){2});
    support_save(&c, 2);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    assert_int_equal(cat->ignored, 3);
    lade_catalog_close(cat);
    support_free(&c);
}

static void tied_embeddings_have_no_head(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_drop(&c, "lm_head.weight");
    support_set(c.config, "tie_word_embeddings", "true");
    support_save(&c, 1);
    struct lade_catalog *cat = open_ok(&c);
    check_catalog(&c, cat);
    assert_true(cat->shape.tied_embeddings);
    assert_null(lade_catalog_find(cat, 1, LADE_HEAD));
    assert_non_null(lade_catalog_find(cat, 1, LADE_FINAL_NORM));
    lade_catalog_close(cat);
    support_free(&c);
}

static void fixtures_open(void **state)
{
    (void)state;
    static const struct {
        const char *name, *quant;
        int shards;
    } fixtures[] = {
        {"tiny-bf16", "bf16", 1},  {"tiny-thinking", "bf16", 1},
        {"tiny8-bf16", "bf16", 4}, {"tiny-int4", "int4+int8", 2},
        {"odd-bf16", "bf16", 1},   {"tiny8-int4-mixed", "int4+int8", 4},
    };
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        struct lade_catalog *cat;
        char path[128], err[LADE_ERR] = "";
        snprintf(path, sizeof path, "tests/fixtures/%s/", fixtures[i].name);
        if (lade_catalog_open(&cat, path, err))
            fail_msg("%s", err);
        assert_string_equal(cat->name, fixtures[i].name);
        assert_int_equal(cat->n_shards, fixtures[i].shards);
        assert_memory_equal(cat->quant, fixtures[i].quant, strlen(fixtures[i].quant));
        lade_catalog_close(cat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_of_each_type),
        cmocka_unit_test(autoround_mixed),
        cmocka_unit_test(modules_choose_their_own_quantization),
        cmocka_unit_test(quantization_config_may_be_its_own_file),
        cmocka_unit_test(fused_experts_are_slices),
        cmocka_unit_test(extras_are_counted_and_left_alone),
        cmocka_unit_test(tied_embeddings_have_no_head),
        cmocka_unit_test(fixtures_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
