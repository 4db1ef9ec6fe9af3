/* Packed weights of every Hugging Face packing, bound and packed as in a checkpoint, against what the
 * formats' own tools make of the same bits: tests/reference/make_packings.py. Equal to the last bit,
 * by their digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/checkpoint/pack.h"
#include "engine/hub/digest.h"
#include "tests/support/support_checkpoint.h"
#include "tests/support/support_packed.h"
#include "tests/support/support_packing.h"
#include "tests/support/support_tensor.h"

enum { ROWS = 64, COLS = 256 };
#define MODULE "model.layers.0.mlp.experts.1.up_proj"

static void check(const struct support_packing *p, const char *want)
{
    struct support_checkpoint c;
    struct lade_catalog *cat;
    struct lade_digest digest;
    char err[LADE_ERR] = "", have[LADE_DIGEST_TEXT];
    const char *config = support_packing_config(p);
    support_new(&c);
    support_set(c.config, "hidden_size", "256");
    support_set(c.config, "moe_intermediate_size", "64");
    support_add_plain(&c, "BF16");
    support_pack(&c, MODULE, p);
    support_set(c.config, "quantization_config", config);
    support_save(&c, 1);
    if (lade_catalog_open(&cat, c.dir, err))
        fail_msg("%s: %s", config, err);
    assert_int_equal(cat->ignored, 0);
    const struct lade_tensor *t =
        lade_catalog_find(cat, lade_catalog_expert(cat, 0, 1), LADE_EXPERT_UP);
    assert_int_equal(t->packed.has_order, p->order);
    unsigned char *packed = support_tensor_packed(&c, cat, t);
    lade_digest_start(&digest, LADE_DIGEST_SHA256, sizeof(float) * ROWS * COLS);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t col = 0; col < COLS; col++) {
            float value = support_packed(&t->packed, packed, row, col) + 0.0F; /* no -0 */
            lade_digest_add(&digest, &value, sizeof value);
        }
    lade_digest_end(&digest, have);
    if (strcmp(have, want) != 0)
        fail_msg("%s, scales %s: other values than its tool has", config, p->scales);
    free(packed);
    lade_catalog_close(cat);
    support_free(&c);
}

static int int_of(json_t *o, const char *key)
{
    return (int)json_integer_value(json_object_get(o, key));
}

static void as_their_tools_have_them(void **state)
{
    (void)state;
    json_t *cases = json_load_file("tests/golden/packings.json", 0, NULL), *o;
    size_t i;
    assert_true(json_array_size(cases) > 50);
    json_array_foreach(cases, i, o)
    {
        json_t *block = json_object_get(o, "block");
        const struct support_packing p = {
            .form = json_string_value(json_object_get(o, "form")),
            .scales = json_string_value(json_object_get(o, "scales")),
            .scale_name = json_string_value(json_object_get(o, "scale_name")),
            .bits = int_of(o, "bits"),
            .group = int_of(o, "group"),
            .zero_offset = int_of(o, "zero_offset"),
            .block_rows = (int)json_integer_value(json_array_get(block, 0)),
            .block_cols = (int)json_integer_value(json_array_get(block, 1)),
            .sym = json_is_true(json_object_get(o, "sym")),
            .order = json_is_true(json_object_get(o, "order")),
        };
        check(&p, json_string_value(json_object_get(o, "sha256")));
    }
    json_decref(cases);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_their_tools_have_them)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
