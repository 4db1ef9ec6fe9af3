/* Whole models in GGUF files: their packed bytes must equal those of the checkpoint they were
 * converted from, and every broken one is refused with a line that names what is wrong. */
#include "engine/checkpoint/gguf.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/checkpoint/pack.h"
#include "kernels/blocks.h"
#include "tests/support/support_gguf.h"
#include "tests/support/support_packed.h"
#include "tests/support/support_tensor.h"

/* ---- models ---------------------------------------------------------------------------------- */

static unsigned char *packed(const struct lade_catalog *cat, const struct lade_tensor *t)
{
    char err[LADE_ERR] = "";
    unsigned char *dst = support_tensor_room(t);
    for (int i = t->n_parts - 1; i >= 0; i--) {
        unsigned char *src = support_tensor_part(cat, t, i);
        if (lade_pack(cat, t, i, src, dst, err))
            fail_msg("%s", err);
        free(src);
    }
    return dst;
}

static struct lade_catalog *open_path(const char *path)
{
    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    if (lade_catalog_open(&cat, path, err))
        fail_msg("%s", err);
    return cat;
}

/* Values of one tensor in two types. */
static void same_values(const struct lade_tensor *t, const unsigned char *x,
                        const struct lade_tensor *u, const unsigned char *y)
{
    assert_int_equal(t->packed.rows, u->packed.rows);
    assert_int_equal(t->packed.cols, u->packed.cols);
    for (size_t row = 0; row < (size_t)t->packed.rows; row++)
        for (size_t col = 0; col < (size_t)t->packed.cols; col++)
            assert_true(support_packed(&t->packed, x, row, col) ==
                        support_packed(&u->packed, y, row, col));
}

/* Bytes are the same, but for routers, which one may have in 16 bits: their values are. */
static void same_model(const struct lade_catalog *a, const struct lade_catalog *b)
{
    uint64_t before = 0; /* what the second one has more of, in this piece so far */
    assert_memory_equal(&a->shape, &b->shape, sizeof a->shape);
    assert_int_equal(a->n_pieces, b->n_pieces);
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (int i = 0; i < a->n_tensors; i++) {
        const struct lade_tensor *t = &a->tensors[i], *u = &b->tensors[i];
        unsigned char *x = packed(a, t), *y = packed(b, u);
        char name[128];
        lade_catalog_tensor_name(b, u, u->n_parts - 1, name, sizeof name);
        before = i && a->tensors[i - 1].piece == t->piece ? before : 0;
        assert_int_equal(t->role, u->role);
        assert_int_equal(t->offset + before, u->offset);
        if (t->role == LADE_ROUTER && t->packed.type != u->packed.type)
            same_values(t, x, u, y);
        else if (t->bytes != u->bytes || memcmp(x, y, t->bytes) != 0)
            fail_msg("%s differs", name);
        before += u->bytes - t->bytes;
        free(x);
        free(y);
    }
}

static void every_layout_equals_the_checkpoint(void **state)
{
    (void)state;
    static const struct {
        enum support_layout layout;
        int parts;
        bool mtp;
        const char *file;
    } cases[] = {
        {SUPPORT_SSM_IN, 1, false, "m.gguf"},
        {SUPPORT_SPLIT, 1, false, "m.gguf"},
        {SUPPORT_SPLIT, 1, true, "m.gguf"},
        {SUPPORT_FUSED, 1, false, "m.gguf"},
        {SUPPORT_SPLIT, 2, false, "m-00001-of-00002.gguf"},
        {SUPPORT_FUSED, 3, true, "m-00002-of-00003.gguf"},
    };
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "F32");
    support_save(&c, 1);
    struct lade_catalog *want = open_path(c.dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        support_gguf_save(&c, "m", cases[i].layout, cases[i].parts, cases[i].mtp);
        struct lade_catalog *cat = open_path(support_path(&c, cases[i].file));
        same_model(want, cat);
        assert_string_equal(cat->format, "gguf");
        assert_string_equal(cat->name, "Tiny ? Model");
        assert_int_equal(cat->n_shards, cases[i].parts);
        assert_int_equal(cat->ignored, cases[i].mtp);
        assert_true(cat->generation.temperature == 0.5f);
        assert_int_equal(cat->generation.n_stop, 1);
        assert_int_equal(cat->generation.stop[0], 45);
        lade_catalog_close(cat);
    }
    lade_catalog_close(want);
    support_free(&c);
}

static float half(uint16_t h)
{
    float f = h & 1023 ? (float)(h & 1023) : 0;
    int e = h >> 10 & 31;
    f = e ? ldexpf(1024 + f, e - 25) : ldexpf(f, -24);
    return h & 0x8000 ? -f : f;
}

/* Real quantizations give attn_qkv and attn_gate types of their own. */
static void z_of_another_type_stays_apart(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "F32");
    support_gguf_save(&c, "joined", SUPPORT_SPLIT, 1, false);
    support_gguf_save(&c, "apart", SUPPORT_MIXED, 1, false);
    char path[512];
    snprintf(path, sizeof path, "%s", support_path(&c, "joined.gguf"));
    struct lade_catalog *joined = open_path(path), *cat = open_path(support_path(&c, "apart.gguf"));
    const struct lade_tensor *all = lade_catalog_find(joined, 2, LADE_DELTA_QKVZ);
    const struct lade_tensor *qkv = lade_catalog_find(cat, 2, LADE_DELTA_QKVZ);
    const struct lade_tensor *z = lade_catalog_find(cat, 2, LADE_DELTA_Z);
    char name[128];
    assert_null(lade_catalog_find(joined, 2, LADE_DELTA_Z));
    assert_non_null(z);
    assert_int_equal(cat->ignored, 0);
    lade_catalog_tensor_name(cat, z, 0, name, sizeof name);
    assert_string_equal(name, "blk.0.attn_gate.weight");
    assert_int_equal(all->packed.rows, 112);
    assert_int_equal(qkv->packed.rows, 64);
    assert_int_equal(z->packed.rows, 48);
    assert_int_equal(z->packed.type, LADE_F16);
    unsigned char *x = packed(joined, all), *y = packed(cat, qkv), *w = packed(cat, z);
    assert_memory_equal(x, y, 64 * 32 * 4);
    for (size_t i = 0; i < 48 * 32; i++) {
        float full;
        memcpy(&full, x + (64 * 32 + i) * 4, 4);
        float rounded = half((uint16_t)(w[2 * i] | w[2 * i + 1] << 8));
        assert_true(fabsf(full - rounded) <= fabsf(full) * 0x1p-10f + 0x1p-14f);
    }
    free(x);
    free(y);
    free(w);
    lade_catalog_close(joined);
    lade_catalog_close(cat);
    support_free(&c);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Value k of a row of blocks, by the formats' definition. */
static float block_value(const unsigned char *row, int k, bool q4)
{
    const unsigned char *block = row + (size_t)(k / 32) * (q4 ? 18 : 34);
    int j = k % 32;
    float d = half((uint16_t)(block[0] | block[1] << 8));
    if (!q4)
        return d * (float)(signed char)block[2 + j];
    return d * (float)((j < 16 ? block[2 + j] & 15 : block[2 + j - 16] >> 4) - 8);
}

static float tile_value(const struct lade_matrix *m, const unsigned char *data, int row, int k)
{
    struct lade_matrix_layout l;
    assert_int_equal(lade_matrix_layout(m, &l), 0);
    int per = m->type == LADE_Q4 ? 8 : 4, bits = 32 / per;
    uint32_t word;
    uint16_t scale;
    memcpy(&word, data + 4 * ((row / 16 * l.words + k / per) * 16 + row % 16), 4);
    memcpy(&scale, data + l.scales + 2 * ((row / 16 * l.groups + k / m->group) * 16 + row % 16), 2);
    int code = (int)(word >> (k % per * bits) & ((1u << bits) - 1));
    return half(scale) * (float)(code - lade_types[m->type].zero);
}

/* A row count that is no multiple of a tile, cut in two parts, as Q4_0 and Q8_0. */
static void blocks_keep_their_values(void **state)
{
    (void)state;
    enum { ROWS = 21, FIRST = 9, COLS = 96 };
    for (int q4 = 0; q4 < 2; q4++) {
        const size_t row_bytes = COLS / 32 * (q4 ? 18 : 34);
        unsigned char *src = malloc(ROWS * row_bytes);
        assert_non_null(src);
        for (size_t i = 0; i < ROWS * row_bytes; i++)
            src[i] = (unsigned char)(i * 167 % 251);
        for (size_t i = 1; i < ROWS * row_bytes; i += q4 ? 18 : 34)
            src[i] = (unsigned char)((i & 1 ? 0x80 : 0) | (src[i] & 0x3F)); /* finite scales */
        struct lade_catalog cat = {0};
        struct lade_tensor t = {
            .source = q4 ? LADE_SRC_Q4_0 : LADE_SRC_Q8_0,
            .n_parts = 2,
            .parts = {{0, 0, FIRST * row_bytes}, {0, 0, (ROWS - FIRST) * row_bytes}},
            .packed = {.type = q4 ? LADE_Q4 : LADE_Q8, .rows = ROWS, .cols = COLS, .group = 32}};
        struct lade_matrix_layout l;
        char err[LADE_ERR] = "";
        assert_int_equal(lade_matrix_layout(&t.packed, &l), 0);
        unsigned char *dst = aligned_alloc(64, (l.bytes + 63) / 64 * 64);
        assert_non_null(dst);
        memset(dst, 0, l.bytes);
        assert_int_equal(lade_pack(&cat, &t, 1, src + FIRST * row_bytes, dst, err), 0);
        assert_int_equal(lade_pack(&cat, &t, 0, src, dst, err), 0);
        assert_false(lade_pack_is_copy(&t));
        for (int r = 0; r < ROWS; r++)
            for (int k = 0; k < COLS; k++)
                assert_true(block_value(src + (size_t)r * row_bytes, k, q4) ==
                            tile_value(&t.packed, dst, r, k));
        free(src);
        free(dst);
    }
}

/* Row r of packed blocks has the bytes of source row from[r]. */
static void same_blocks(const struct lade_tensor *t, const unsigned char *dst,
                        const unsigned char *src, size_t bytes, const int *from)
{
    struct lade_matrix m = t->packed;
    struct lade_matrix_layout l;
    assert_int_equal(lade_matrix_layout(&m, &l), 0);
    m.data = dst;
    for (int r = 0; r < m.rows; r++)
        for (int g = 0; g < l.groups; g++) {
            uint8_t block[LADE_BLOCK_BYTES];
            lade_blocks_get(&m, &l, r, g, block);
            assert_memory_equal(block, src + (size_t)(from[r] * l.groups + g) * bytes, bytes);
        }
}

/* All other blocks keep their bytes, whatever part they come in; their rows may move. */
static void other_blocks_keep_their_bytes(void **state)
{
    (void)state;
    enum { ROWS = 24, COLS = 512 };
    static const struct {
        uint8_t block;
        size_t bytes, per_row;
    } types[] = {{LADE_BLOCK_Q4_K, 144, 2},
                 {LADE_BLOCK_Q6_K, 210, 2},
                 {LADE_BLOCK_Q5_0, 22, 16},
                 {LADE_BLOCK_MXFP4, 17, 16},
                 {LADE_BLOCK_IQ3_S, 110, 2}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        static unsigned char src[ROWS * 2 * 256], dst[2 * 16 * 2 * 256];
        const size_t row = types[i].bytes * types[i].per_row;
        struct lade_catalog cat = {
            .shape = {.key_heads = 2, .value_heads = 4, .key_dim = 2, .value_dim = 2}};
        struct lade_tensor t = {
            .source = LADE_SRC_BLOCKS,
            .n_parts = 2,
            .parts = {{0, 0, 5 * row}, {0, 0, (ROWS - 5) * row}},
            .packed = {.type = LADE_BLOCKS, .block = types[i].block, .rows = ROWS, .cols = COLS}};
        char err[LADE_ERR] = "";
        int same[ROWS];
        for (size_t b = 0; b < sizeof src; b++)
            src[b] = (unsigned char)(b * 31 % 255);
        for (int r = 0; r < ROWS; r++)
            same[r] = r;
        memset(dst, 0, sizeof dst);
        assert_int_equal(lade_pack(&cat, &t, 1, src + 5 * row, dst, err), 0);
        assert_int_equal(lade_pack(&cat, &t, 0, src, dst, err), 0);
        same_blocks(&t, dst, src, types[i].bytes, same);
        assert_false(lade_pack_is_copy(&t));

        t.n_parts = 1;
        t.parts[0].bytes = ROWS * row;
        t.rows = LADE_ROWS_QKVZ; /* per key head q q k k v v v v z z z z */
        static const int from[ROWS] = {0,  1,  12, 13, 2, 3, 14, 15, 4,  5,  6,  7,
                                       16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23};
        assert_int_equal(lade_pack(&cat, &t, 0, src, dst, err), 0);
        same_blocks(&t, dst, src, types[i].bytes, from);
    }
}

/* A value of a packed matrix of any type. */
static float value_at(const struct lade_matrix *m, const unsigned char *data, int row, int k)
{
    size_t at = (size_t)row * (size_t)m->cols + (size_t)k;
    uint32_t bits = 0;
    float f;
    if (m->type == LADE_Q4 || m->type == LADE_Q8)
        return tile_value(m, data, row, k);
    if (m->type == LADE_F16)
        return half((uint16_t)(data[2 * at] | data[2 * at + 1] << 8));
    if (m->type == LADE_BF16)
        memcpy((char *)&bits + 2, data + 2 * at, 2);
    else
        memcpy(&bits, data + 4 * at, 4);
    memcpy(&f, &bits, 4);
    return f;
}

/* The most that a value of a tensor may be off by its type. */
static float allowed(const struct lade_matrix *m, const struct lade_matrix *exact,
                     const unsigned char *data, int row, int k)
{
    float most = 0;
    if (m->type == LADE_F16) /* where 32 does not divide the columns */
        return fabsf(value_at(exact, data, row, k)) * 0x1p-11f + 0x1p-25f;
    if (m->type != LADE_Q8) /* exp() of another library */
        return fabsf(value_at(exact, data, row, k)) * 0x1p-22f;
    for (int i = k / 32 * 32; i < k / 32 * 32 + 32; i++)
        most = fmaxf(most, fabsf(value_at(exact, data, row, i)));
    return most / 127 * 0.56f; /* half a step, and the step's own rounding to f16 */
}

/* What llama.cpp's own converter made of a fixture: BF16 to the last bit, and Q8_0. */
static void the_converter_agrees(void **state)
{
    (void)state;
    struct lade_catalog *want = open_path("tests/fixtures/tiny-bf16");
    struct lade_catalog *cat = open_path("tests/fixtures/tiny-gguf/tiny-bf16.gguf");
    same_model(want, cat);
    assert_string_equal(cat->quant, "bf16");
    assert_int_equal(cat->ignored, 0);
    lade_catalog_close(cat);

    cat = open_path("tests/fixtures/tiny-gguf/tiny-q8_0.gguf");
    assert_memory_equal(&want->shape, &cat->shape, sizeof want->shape);
    assert_int_equal(want->n_tensors, cat->n_tensors);
    assert_string_equal(cat->quant, "int8 g32");
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i], *u = &want->tensors[i];
        unsigned char *x = packed(want, u), *y = packed(cat, t);
        char name[128];
        lade_catalog_tensor_name(cat, t, 0, name, sizeof name);
        for (int r = 0; r < t->packed.rows; r++)
            for (int k = 0; k < t->packed.cols; k++) {
                float error = fabsf(value_at(&t->packed, y, r, k) - value_at(&u->packed, x, r, k));
                if (error > allowed(&t->packed, &u->packed, x, r, k))
                    fail_msg("%s[%d][%d] is off by %g", name, r, k, (double)error);
            }
        free(x);
        free(y);
    }
    lade_catalog_close(want);
    lade_catalog_close(cat);
}

/* ---- broken models --------------------------------------------------------------------------- */

static void refused(struct support_checkpoint *c, const char *file, const char *name,
                    const char *say)
{
    struct lade_catalog *cat = NULL;
    char err[LADE_ERR] = "";
    if (!lade_catalog_open(&cat, support_path(c, file), err)) {
        lade_catalog_close(cat);
        fail_msg("%s: opened", say);
    }
    if (!strstr(err, name) || !strstr(err, say) || strchr(err, '\n') || !strstr(err, "; "))
        fail_msg("expected \"%s\" and \"%s\" in: %s", name, say, err);
}

/* Replaces a text of the file by another of the same length. */
static void replace(struct support_checkpoint *c, const char *file, const char *from,
                    const char *to, size_t n)
{
    FILE *f = fopen(support_path(c, file), "r+b");
    static unsigned char bytes[1 << 18];
    assert_non_null(f);
    size_t len = fread(bytes, 1, sizeof bytes, f);
    unsigned char *at = memmem(bytes, len, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, n);
    rewind(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void broken_models_are_refused(void **state)
{
    (void)state;
#define CASE(from, to, say)                                                                        \
    {                                                                                              \
        from, to, sizeof to - 1, say                                                               \
    }
    static const struct {
        const char *from, *to;
        size_t n;
        const char *say;
    } cases[] = {
        CASE(&"\x09\0\0\0\0\0\0\0qwen3next"[8], "qwen3moe.", "architecture 'qwen3moe.'"),
        CASE("general.architecture", "general.arkitecture?", "'general.architecture' is missing"),
        CASE("qwen3next.block_count", "qwen3next.block_kount",
             "'qwen3next.block_count' is missing"),
        CASE("block_count", "block_count\4\0\0\0\0\0\0\0", "0 layers"),
        CASE("expert_count", "expert_count\6", "'qwen3next.expert_count' is no size"),
        CASE("inner_size", "inner_size\4\0\0\0\x31", "ssm.inner_size is 49"),
        CASE("value_length", "value_length\4\0\0\0\x11", "value_length is 17"),
        CASE("rope.freq_base", "rope.freq_bass", "'qwen3next.rope.freq_base' is missing"),
        CASE("head_count_kv", "head_count_kv\4\0\0\0\3", "not a multiple of num_key_value_heads"),
        CASE("token_embd", "token_embb", "'token_embd.weight' is missing"),
        CASE("blk.1.ffn_up_exps", "blk.1.ffn_up_expz", "'blk.1.ffn_up_exps.weight' is missing"),
        CASE("blk.0.attn_gate", "blk.0.attn_gaga", "'blk.0.attn_gate.weight' is missing"),
        CASE("blk.1.attn_q.", "blk.1.attn_p.", "'blk.1.attn_q.weight' is missing"),
        CASE("expert_used_count", "expert_used_count\4\0\0\0\7", "num_experts_per_tok is 7"),
        CASE("embedding_length", "embedding_length\4\0\0\0\x1f", "has shape [48, 32], expected"),
        CASE("blk.0.ssm_out", "blk.0.ssm_a\0\0", "m.gguf: "),
        CASE("output_norm.weight", "token_embd.weight\0", "m.gguf: "),
    };
#undef CASE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, "F32");
        support_gguf_save(&c, "m", SUPPORT_SPLIT, 1, false);
        replace(&c, "m.gguf", cases[i].from, cases[i].to, cases[i].n);
        refused(&c, "m.gguf", "m.gguf", cases[i].say);
        support_free(&c);
    }
}

static void broken_splits_are_refused(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "F32");
    support_gguf_save(&c, "m", SUPPORT_SPLIT, 3, false);
    char from[128], to[128];
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};
    snprintf(from, sizeof from, "%s", support_path(&c, names[0]));
    snprintf(to, sizeof to, "%s", support_path(&c, "alone.gguf"));
    assert_int_equal(link(from, to), 0);
    refused(&c, "alone.gguf", "alone.gguf", "it is part 1 of 3");
    snprintf(from, sizeof from, "%s", support_path(&c, names[1]));
    snprintf(to, sizeof to, "%s", support_path(&c, names[2]));
    assert_int_equal(unlink(to), 0);
    refused(&c, names[0], names[2], "1 of 3 files is missing: ");
    assert_int_equal(link(from, to), 0);
    refused(&c, names[1], names[2], "it is part 2 of 3, not 3 of 3");
    assert_int_equal(truncate(to, 100), 0);
    /* One file under two names: the second part is read first. */
    refused(&c, names[0], names[1], "its header does not end within the file's 100 bytes");
    support_write(&c, "x.gguf", "GGUX", 4);
    refused(&c, "x.gguf", "x.gguf", "neither a directory nor a GGUF file");
    support_write(&c, "x.gguf", "GGUF", 4);
    refused(&c, "x.gguf", "x.gguf", "its header does not end");
    support_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_equals_the_checkpoint),
        cmocka_unit_test(z_of_another_type_stays_apart),
        cmocka_unit_test(blocks_keep_their_values),
        cmocka_unit_test(other_blocks_keep_their_bytes),
        cmocka_unit_test(the_converter_agrees),
        cmocka_unit_test(broken_models_are_refused),
        cmocka_unit_test(broken_splits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
