/* config.json and generation_config.json: what is read, and that every bad one is refused with a
 * line that names the file and the key. */
#include "engine/checkpoint/shape.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kernels/error.h"
#include "tests/support/support_checkpoint.h"

static int parse(json_t *config, struct lade_shape *s, char *err)
{
    char *text = json_dumps(config, 0);
    int rc = lade_shape_parse(s, text, strlen(text), "config.json", err);
    free(text);
    return rc;
}

static int setup(void **state)
{
    static struct support_checkpoint c;
    support_new(&c);
    *state = &c;
    return 0;
}

static int teardown(void **state)
{
    support_free(*state);
    return 0;
}

static void reads_every_field(void **state)
{
    struct support_checkpoint *c = *state;
    struct lade_shape s;
    char err[LADE_ERR] = "";
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_int_equal(s.hidden, 32);
    assert_int_equal(s.layers, 2);
    assert_int_equal(s.vocab, 48);
    assert_int_equal(s.max_context, 512);
    assert_int_equal(s.heads, 4);
    assert_int_equal(s.kv_heads, 2);
    assert_int_equal(s.head_dim, 16);
    assert_int_equal(s.rotary_dim, 4);
    assert_true(s.rope_theta == 1e6);
    assert_true(s.yarn_factor == 1);
    assert_int_equal(s.key_heads, 2);
    assert_int_equal(s.value_heads, 4);
    assert_int_equal(s.key_dim, 4);
    assert_int_equal(s.value_dim, 12);
    assert_int_equal(s.conv_kernel, 4);
    assert_int_equal(s.experts, 3);
    assert_int_equal(s.experts_used, 2);
    assert_int_equal(s.expert_ff, 32);
    assert_int_equal(s.shared_ff, 32);
    assert_true(s.renormalize);
    assert_false(s.tied_embeddings);
    assert_true(s.norm_eps == 1e-6f);
    assert_int_equal(s.full_attention[0], 0);
    assert_int_equal(s.full_attention[1], 1);
    assert_int_equal(lade_shape_channels(&s), 64);
    assert_int_equal(lade_shape_qkvz(&s), 112);
}

static void layer_types_win_over_the_interval(void **state)
{
    struct support_checkpoint *c = *state;
    struct lade_shape s;
    char err[LADE_ERR] = "";
    support_set(c->config, "layer_types", "[\"full_attention\", \"linear_attention\"]");
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_int_equal(s.full_attention[0], 1);
    assert_int_equal(s.full_attention[1], 0);
    support_set(c->config, "layer_types", "null");
    support_set(c->config, "full_attention_interval", NULL); /* then it is 4 */
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_int_equal(s.full_attention[1], 0);
}

static void rope_parameters_are_read_in_the_new_place(void **state)
{
    struct support_checkpoint *c = *state;
    struct lade_shape s;
    char err[LADE_ERR] = "";
    support_set(c->config, "rope_theta", NULL);
    support_set(c->config, "partial_rotary_factor", NULL);
    support_set(c->config, "rope_parameters",
                "{\"rope_type\": \"default\", \"rope_theta\": 5000000, "
                "\"partial_rotary_factor\": 0.5}");
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_true(s.rope_theta == 5e6);
    assert_int_equal(s.rotary_dim, 8);
}

static void yarn_is_read_with_its_defaults(void **state)
{
    struct support_checkpoint *c = *state;
    struct lade_shape s;
    char err[LADE_ERR] = "";
    support_set(c->config, "rope_scaling",
                "{\"rope_type\": \"yarn\", \"factor\": 4.0, "
                "\"original_max_position_embeddings\": 512}");
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_true(s.yarn_factor == 4);
    assert_int_equal(s.yarn_original_context, 512);
    assert_int_equal(s.max_context, 2048);
    assert_true(s.yarn_beta_fast == 32 && s.yarn_beta_slow == 1);
    assert_true(fabs(s.yarn_attention_factor - (0.1 * log(4) + 1)) < 1e-12);
    support_set(
        c->config, "rope_scaling",
        "{\"type\": \"yarn\", \"factor\": 2, \"attention_factor\": 1.5, \"beta_fast\": 16}");
    assert_int_equal(parse(c->config, &s, err), 0);
    assert_true(s.yarn_attention_factor == 1.5 && s.yarn_beta_fast == 16);
    assert_int_equal(s.yarn_original_context, 512);
}

static void bad_values_name_the_key(void **state)
{
    static const struct {
        const char *key, *value, *say;
    } cases[] = {
        {"hidden_size", NULL, "key 'hidden_size' is missing"},
        {"hidden_size", "0", "hidden_size is 0"},
        {"hidden_size", "-4", "hidden_size is -4"},
        {"hidden_size", "\"big\"", "'hidden_size' is not an integer"},
        {"hidden_size", "32.5", "'hidden_size' is not an integer"},
        {"num_hidden_layers", "1000000", "num_hidden_layers is 1000000"},
        {"vocab_size", "4611686018427387904", "vocab_size is 4611686018427387904"},
        {"num_key_value_heads", "3", "num_attention_heads is 4, not a multiple of"},
        {"linear_num_value_heads", "3", "linear_num_value_heads is 3, not a multiple of"},
        {"num_experts_per_tok", "4", "num_experts_per_tok is 4"},
        {"num_experts", "4097", "num_experts is 4097"},
        {"partial_rotary_factor", "0.2", "rotary dimensions is 3"},
        {"partial_rotary_factor", "0.01", "partial_rotary_factor rotates 0"},
        {"partial_rotary_factor", "2", "partial_rotary_factor is 2"},
        {"rope_theta", NULL, "key 'rope_theta' is missing"},
        {"rope_theta", "0", "rope_theta is 0"},
        {"rms_norm_eps", "0", "rms_norm_eps is 0"},
        {"rms_norm_eps", "\"x\"", "'rms_norm_eps' is not a number"},
        {"model_type", "\"llama\"", "model_type llama"},
        {"architectures", "[\"LlamaForCausalLM\"]", "architecture LlamaForCausalLM"},
        {"architectures", "[\"Evil\\u001b[2J\"]", "architecture Evil?[2J"},
        {"hidden_act", "\"gelu\"", "hidden_act"},
        {"attention_bias", "true", "attention_bias"},
        {"mlp_only_layers", "[1]", "mlp_only_layers"},
        {"decoder_sparse_step", "2", "decoder_sparse_step"},
        {"layer_types", "[\"full_attention\"]", "layer_types has 1 entries"},
        {"layer_types", "[\"full_attention\", \"mamba\"]", "layer_types[1] is 'mamba'"},
        {"layer_types", "[\"full_attention\", 7]", "layer_types[1]"},
        {"rope_scaling", "{\"rope_type\": \"longrope\"}", "rope_type 'longrope'"},
        {"rope_scaling", "{\"rope_type\": \"yarn\"}", "key 'factor' is missing"},
        {"rope_scaling", "{\"rope_type\": 3}", "rope_type '?'"},
    };
    struct support_checkpoint *c = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_shape s;
        char err[LADE_ERR] = "";
        json_t *config = json_deep_copy(c->config);
        support_set(config, cases[i].key, cases[i].value);
        assert_int_equal(parse(config, &s, err), -1);
        json_decref(config);
        if (!strstr(err, "config.json: ") || !strstr(err, cases[i].say))
            fail_msg("%s: expected \"%s\" in: %s", cases[i].key, cases[i].say, err);
    }
}

static void products_stay_below_32_bits(void **state)
{
    struct support_checkpoint *c = *state;
    struct lade_shape s;
    char err[LADE_ERR] = "";
    support_set(c->config, "vocab_size", "2000000");
    support_set(c->config, "hidden_size", "65536");
    assert_int_equal(parse(c->config, &s, err), -1);
    assert_non_null(strstr(err, "vocab_size * hidden_size"));
}

static void no_json_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "[]", "{", "{\"a\": NaN}", "nonsense", "{\"a\": 1} x"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct lade_shape s;
        char err[LADE_ERR] = "";
        assert_int_equal(lade_shape_parse(&s, texts[i], strlen(texts[i]), "config.json", err), -1);
        assert_non_null(strstr(err, "config.json: not "));
    }
    struct lade_shape s;
    char err[LADE_ERR] = "";
    assert_int_equal(lade_shape_parse(&s, "{}", 2, "config.json", err), -1);
    assert_non_null(strstr(err, "neither architectures nor model_type"));
}

static int generation(struct lade_generation *g, const char *text, char *err)
{
    return lade_generation_parse(g, text, strlen(text), "generation_config.json", err);
}

static void generation_reads_over_defaults(void **state)
{
    (void)state;
    struct lade_generation g;
    char err[LADE_ERR] = "";
    lade_generation_defaults(&g);
    assert_int_equal(
        generation(&g, "{\"eos_token_id\": [7, 9], \"temperature\": 0.6, \"min_p\": null}", err),
        0);
    assert_int_equal(g.n_stop, 2);
    assert_int_equal(g.stop[0], 7);
    assert_int_equal(g.stop[1], 9);
    assert_true(g.temperature == 0.6f && g.top_p == 0.8f && g.top_k == 20);
    assert_int_equal(generation(&g, "{\"eos_token_id\": 3, \"top_k\": 0}", err), 0);
    assert_int_equal(g.n_stop, 1);
    assert_int_equal(g.stop[0], 3);
    assert_int_equal(g.top_k, 0);
    assert_int_equal(generation(&g, "{\"do_sample\": false}", err), 0);
    assert_true(g.temperature == 0);
}

static void bad_generation_names_the_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *say;
    } cases[] = {
        {"{\"temperature\": -1}", "temperature is -1"},
        {"{\"top_p\": 2}", "top_p is 2"},
        {"{\"top_k\": -3}", "top_k is -3"},
        {"{\"top_k\": \"a\"}", "'top_k' is not an integer"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty is 0"},
        {"{\"eos_token_id\": -1}", "eos_token_id"},
        {"{\"eos_token_id\": [1,2,3,4,5,6,7,8,9]}", "eos_token_id lists 9"},
        {"{\"eos_token_id\": [\"x\"]}", "eos_token_id"},
        {"{\"eos_token_id\": {}}", "eos_token_id"},
        {"[1]", "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_generation g;
        char err[LADE_ERR] = "";
        lade_generation_defaults(&g);
        assert_int_equal(generation(&g, cases[i].text, err), -1);
        if (!strstr(err, "generation_config.json: ") || !strstr(err, cases[i].say))
            fail_msg("expected \"%s\" in: %s", cases[i].say, err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_every_field, setup, teardown),
        cmocka_unit_test_setup_teardown(layer_types_win_over_the_interval, setup, teardown),
        cmocka_unit_test_setup_teardown(rope_parameters_are_read_in_the_new_place, setup, teardown),
        cmocka_unit_test_setup_teardown(yarn_is_read_with_its_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_values_name_the_key, setup, teardown),
        cmocka_unit_test_setup_teardown(products_stay_below_32_bits, setup, teardown),
        cmocka_unit_test(no_json_is_refused),
        cmocka_unit_test(generation_reads_over_defaults),
        cmocka_unit_test(bad_generation_names_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
