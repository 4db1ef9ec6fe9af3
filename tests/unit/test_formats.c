/* Whole models in every Hugging Face packing: their logits against those of the same weights as plain
 * 32-bit floats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/checkpoint/pack.h"
#include "engine/engine.h"
#include "tests/support/support_packed.h"
#include "tests/support/support_packing.h"
#include "tests/support/support_tensor.h"
#include "tests/unit/off_by.h"

enum { VOCAB = 1024, HIDDEN = 128, FF = 64, TOKENS = 40, MAX_MODULES = 64 };
#define TOLERANCE 1e-4

/* Modules whose rows lie packed as in the file, so that their values can be written back. */
struct module {
    char name[128];
    int piece;
    enum lade_role role;
};

static int list_modules(const struct lade_catalog *cat, struct module *list)
{
    static const uint8_t roles[] = {LADE_ATTN_Q,      LADE_ATTN_K,      LADE_ATTN_V,
                                    LADE_ATTN_O,      LADE_EXPERT_UP,   LADE_EXPERT_GATE,
                                    LADE_EXPERT_DOWN, LADE_SHARED_FF_UP};
    int n = 0;
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        if (!memchr(roles, t->role, sizeof roles))
            continue;
        struct module *m = &list[n++];
        lade_catalog_tensor_name(cat, t, 0, m->name, sizeof m->name);
        m->name[strlen(m->name) - strlen(".weight")] = '\0';
        m->piece = t->piece;
        m->role = (enum lade_role)t->role;
    }
    assert_true(n > 20 && n <= MAX_MODULES);
    return n;
}

static struct lade_catalog *open_catalog(const struct support_checkpoint *c)
{
    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    if (lade_catalog_open(&cat, c->dir, err))
        fail_msg("%s", err);
    return cat;
}

static void start(struct support_checkpoint *c)
{
    char command[256];
    support_new(c);
    support_set(c->config, "vocab_size", "1024");
    support_set(c->config, "hidden_size", "128");
    support_set(c->config, "moe_intermediate_size", "64");
    support_add_plain(c, "BF16");
    snprintf(command, sizeof command, "cp tests/fixtures/tiny-bf16/tokenizer*.json '%s'", c->dir);
    assert_int_equal(system(command), 0);
}

/* Makes a module of `to` the plain floats that the packed one of `from` stands for. */
static void unpack(struct support_checkpoint *from, const struct lade_catalog *cat,
                   const struct module *m, struct support_checkpoint *to)
{
    const struct lade_tensor *t = lade_catalog_find(cat, m->piece, m->role);
    unsigned char *packed = support_tensor_packed(from, cat, t);
    char name[256];
    snprintf(name, sizeof name, "%.120s.weight", m->name);
    support_drop(to, name);
    const size_t rows = (size_t)t->packed.rows, cols = (size_t)t->packed.cols;
    float *w = (float *)(void *)support_add(to, name, "F32", 2, (uint64_t[]){rows, cols})->data;
    for (size_t i = 0; i < rows * cols; i++)
        w[i] = support_packed(&t->packed, packed, i / cols, i % cols);
    free(packed);
}

/* The scales are as wild as random bits; weights of this size keep the model tame. */
static void tame(struct support_checkpoint *c)
{
    for (int i = 0; i < c->n; i++) {
        struct support_tensor *t = &c->tensors[i];
        if (!strstr(t->name, "scale"))
            continue;
        for (size_t k = 0; k < t->bytes / 2; k++) {
            uint16_t h;
            memcpy(&h, t->data + 2 * k, 2);
            if (!strcmp(t->dtype, "F16"))
                h = (uint16_t)((h & 0x83FF) | 7 << 10); /* 2^-8 */
            else if (!strcmp(t->dtype, "BF16"))
                h = (uint16_t)((h & 0x807F) | 117 << 7); /* 2^-10 */
            memcpy(t->data + 2 * k, &h, 2);
        }
    }
}

static float *logits_of(const struct support_checkpoint *c, int batch, bool exact)
{
    struct lade_model *m;
    struct lade_session *s = NULL;
    char err[LADE_ERR] = "";
    int32_t ids[TOKENS];
    struct lade_options opt = {.model = c->dir,
                               .exact = exact,
                               .cpu_only = true,
                               .threads = 2,
                               .context = 128,
                               .batch = batch};
    float *logits = malloc(sizeof *logits * TOKENS * VOCAB);
    assert_non_null(logits);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 5) % 900;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(&s, m, err) ||
        lade_session_all_logits(s, ids, TOKENS, logits, err))
        fail_msg("%s", err);
    lade_session_close(s);
    lade_model_close(m);
    return logits;
}

static void check(const struct support_packing *p)
{
    struct support_checkpoint packed, plain;
    struct module modules[MAX_MODULES];
    start(&packed);
    start(&plain);
    support_save(&packed, 1);
    struct lade_catalog *cat = open_catalog(&packed);
    const int n = list_modules(cat, modules);
    lade_catalog_close(cat);
    for (int i = 0; i < n; i++)
        support_pack(&packed, modules[i].name, p);
    tame(&packed);
    support_set(packed.config, "quantization_config", support_packing_config(p));
    support_save(&packed, 1);
    cat = open_catalog(&packed);
    for (int i = 0; i < n; i++)
        unpack(&packed, cat, &modules[i], &plain);
    support_save(&plain, 1);
    float *want = logits_of(&plain, 64, true);
    for (int batch = 1; batch <= 64; batch *= 8) {
        float *have = logits_of(&packed, batch, true);
        double worst = worst_off_by(have, want, TOKENS, VOCAB);
        print_message("  %-18s %-16s batch %2d: relative L2 %.2e\n", p->form, cat->quant, batch,
                      worst);
        assert_true(worst <= TOLERANCE);
        free(have);
    }
    lade_catalog_close(cat);
    free(want);
    support_free(&packed);
    support_free(&plain);
}

static void as_plain_floats(void **state)
{
    (void)state;
    static const struct support_packing list[] = {
        {.form = "gptq", .scales = "F16", .bits = 2, .group = 32, .sym = true, .zero_offset = 1},
        {.form = "gptq", .scales = "F16", .bits = 3, .group = -1},
        {.form = "gptq", .scales = "F16", .bits = 4, .group = 16, .order = true},
        {.form = "gptq", .scales = "F16", .bits = 8, .group = 32, .sym = true, .order = true},
        {.form = "awq", .scales = "F16", .bits = 4, .group = 16},
        {.form = "compressed-tensors", .scales = "BF16", .bits = 4, .group = 32, .sym = true},
        {.form = "compressed-tensors", .scales = "BF16", .bits = 8, .group = -1},
        {.form = "fp8",
         .scales = "BF16",
         .scale_name = "weight_scale_inv",
         .block_rows = 128,
         .block_cols = 128},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        check(&list[i]);
}

/* The family's own sampling, unless a file says another. */
static void sampling_is_the_familys(void **state)
{
    (void)state;
    static const struct {
        const char *template, *generation;
        float temperature;
        int top_k;
    } rows[] = {
        {"hello", "{}", 0.7f, 20},
        {"{%- if add_generation_prompt %}<think>\n{% endif %}", "{}", 0.6f, 20},
        {"<function=", "{\"eos_token_id\": 3}", 1, 40},
        {"<function=", "{\"top_k\": 7}", 0.7f, 7},
        {"<function=", "{\"do_sample\": false}", 0, 20},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct support_checkpoint c;
        struct lade_model *m;
        char err[LADE_ERR] = "";
        start(&c);
        json_decref(c.generation);
        c.generation = json_loads(rows[i].generation, 0, NULL);
        support_save(&c, 1);
        support_write(&c, "chat_template.jinja", rows[i].template, strlen(rows[i].template));
        struct lade_options opt = {.model = c.dir, .cpu_only = true, .context = 128};
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        const struct lade_generation *g = &lade_model_catalog(m)->generation;
        assert_true(g->temperature == rows[i].temperature);
        assert_int_equal(g->top_k, rows[i].top_k);
        lade_model_close(m);
        support_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_plain_floats),
                                       cmocka_unit_test(sampling_is_the_familys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
