#include "engine/checkpoint/shape.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/json.h"
#include "engine/checkpoint/scan.h"
#include "kernels/error.h"

/* The integers of a shape: where config.json has them and what they may be. */
static const struct int_key {
    const char *key;
    size_t at;
    int min, max;
    int fallback; /* of the model's own configuration class; 0: the key must be there */
} int_keys[] = {
#define AT(field) offsetof(struct lade_shape, field)
    {"hidden_size", AT(hidden), 1, 65536, 0},
    {"num_hidden_layers", AT(layers), 1, LADE_MAX_LAYERS, 0},
    {"vocab_size", AT(vocab), 1, 1 << 21, 0},
    {"max_position_embeddings", AT(max_context), 1, 1 << 26, 0},
    {"num_attention_heads", AT(heads), 1, 1024, 0},
    {"num_key_value_heads", AT(kv_heads), 1, 1024, 0},
    {"head_dim", AT(head_dim), 2, 1024, 0},
    {"linear_num_key_heads", AT(key_heads), 1, 1024, 0},
    {"linear_num_value_heads", AT(value_heads), 1, 1024, 0},
    {"linear_key_head_dim", AT(key_dim), 1, 1024, 0},
    {"linear_value_head_dim", AT(value_dim), 1, 1024, 0},
    {"linear_conv_kernel_dim", AT(conv_kernel), 1, 16, 4},
    {"num_experts", AT(experts), 1, LADE_MAX_EXPERTS, 0},
    {"num_experts_per_tok", AT(experts_used), 1, LADE_MAX_EXPERTS, 0},
    {"moe_intermediate_size", AT(expert_ff), 1, 65536, 0},
    {"shared_expert_intermediate_size", AT(shared_ff), 1, 65536, 0},
#undef AT
};
enum { N_INT_KEYS = sizeof int_keys / sizeof *int_keys };

static int *int_field(struct lade_shape *s, const struct int_key *k)
{
    return (int *)((char *)s + k->at);
}

static int int_value(const struct lade_shape *s, const struct int_key *k)
{
    return *(const int *)((const char *)s + k->at);
}

/* ---- the rules ------------------------------------------------------------------------------- */

static int check_products(const struct lade_shape *s, const char *path, char *err)
{
    const struct {
        const char *what;
        int64_t rows, cols;
    } matrices[] = {
        {"vocab_size * hidden_size", s->vocab, s->hidden},
        {"2 * num_attention_heads * head_dim * hidden_size", 2LL * s->heads * s->head_dim,
         s->hidden},
        {"the delta-net's input projection", lade_shape_qkvz(s), s->hidden},
        {"the delta-net's state", (int64_t)s->value_heads * s->value_dim, s->key_dim},
        {"num_experts * hidden_size", s->experts, s->hidden},
        {"moe_intermediate_size * hidden_size", s->expert_ff, s->hidden},
        {"shared_expert_intermediate_size * hidden_size", s->shared_ff, s->hidden},
    };
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        if (matrices[i].rows * matrices[i].cols > INT32_MAX)
            return lade_fail(err,
                             "%s: %s is %" PRId64 ", more than 2^31 - 1 elements; the file is "
                             "damaged or not a Qwen3-Next model",
                             path, matrices[i].what, matrices[i].rows * matrices[i].cols);
    return 0;
}

int lade_shape_check(const struct lade_shape *s, const char *path, char *err)
{
    for (int i = 0; i < N_INT_KEYS; i++) {
        int value = int_value(s, &int_keys[i]);
        if (value < int_keys[i].min || value > int_keys[i].max)
            return lade_fail(err,
                             "%s: %s is %d, expected %d to %d; the file is damaged or not a "
                             "Qwen3-Next model",
                             path, int_keys[i].key, value, int_keys[i].min, int_keys[i].max);
    }
    const struct {
        const char *what, *by;
        int value, divisor;
    } multiples[] = {
        {"num_attention_heads", "num_key_value_heads", s->heads, s->kv_heads},
        {"linear_num_value_heads", "linear_num_key_heads", s->value_heads, s->key_heads},
        {"the number of rotary dimensions", "2", s->rotary_dim, 2},
    };
    for (size_t i = 0; i < sizeof multiples / sizeof *multiples; i++)
        if (multiples[i].value % multiples[i].divisor)
            return lade_fail(err, "%s: %s is %d, not a multiple of %s (%d); the file is damaged",
                             path, multiples[i].what, multiples[i].value, multiples[i].by,
                             multiples[i].divisor);
    if (s->rotary_dim < 2 || s->rotary_dim > s->head_dim)
        return lade_fail(err,
                         "%s: partial_rotary_factor rotates %d of head_dim %d dimensions, "
                         "expected 2 to %d; the file is damaged",
                         path, s->rotary_dim, s->head_dim, s->head_dim);
    if (s->experts_used > s->experts)
        return lade_fail(err,
                         "%s: num_experts_per_tok is %d but num_experts %d; the file is damaged",
                         path, s->experts_used, s->experts);
    if (!(s->norm_eps > 0 && s->norm_eps < 1))
        return lade_fail(err,
                         "%s: rms_norm_eps is %g, expected between 0 and 1; the file is damaged",
                         path, (double)s->norm_eps);
    if (!(s->rope_theta >= 1 && s->rope_theta <= 1e15))
        return lade_fail(err, "%s: rope_theta is %g, expected 1 to 1e15; the file is damaged", path,
                         s->rope_theta);
    return check_products(s, path, err);
}

/* The magnitude YaRN gives to cos and sin: 0.1 m ln(factor) + 1 (arXiv:2309.00071, eq. 22), as
 * transformers generalizes it with mscale and mscale_all_dim. */
static double yarn_magnitude(double factor, double m)
{
    return factor > 1 ? 0.1 * m * log(factor) + 1 : 1;
}

int lade_shape_yarn(struct lade_shape *s, double attention, const char *path, char *err)
{
    const struct {
        const char *what;
        double value;
    } positive[] = {{"factor", s->yarn_factor},
                    {"beta_fast", s->yarn_beta_fast},
                    {"beta_slow", s->yarn_beta_slow},
                    {"attention factor", attention},
                    {"original context", s->yarn_original_context}};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (!(positive[i].value > 0 && positive[i].value < 1e9))
            return lade_fail(err, "%s: the %s of YaRN is %g; the file is damaged", path,
                             positive[i].what, positive[i].value);
    if (s->yarn_factor < 1)
        return lade_fail(err, "%s: the factor of YaRN is %g, less than 1; the file is damaged",
                         path, s->yarn_factor);
    s->yarn_attention_factor = attention * yarn_magnitude(s->yarn_factor, 1);
    /* Cards advise to leave max_position_embeddings alone when YaRN is switched on. */
    double reach = s->yarn_factor * s->yarn_original_context;
    if (reach > s->max_context)
        s->max_context = reach < 1 << 26 ? (int)reach : 1 << 26;
    return 0;
}

/* ---- config.json ----------------------------------------------------------------------------- */

static int check_architecture(json_t *root, const char *path, char *err)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    json_t *list = json_object_get(root, "architectures");
    const char *arch = json_string_value(json_is_array(list) ? json_array_get(list, 0) : list);
    if (type && !strcmp(type, "qwen3_next") && (!arch || !strcmp(arch, "Qwen3NextForCausalLM")))
        return 0;
    if (!type && !arch)
        return lade_fail(err,
                         "%s: neither architectures nor model_type is there; this is not the "
                         "config.json of a model",
                         path);
    char a[64] = "none", t[64] = "none";
    if (arch)
        lade_printable(a, sizeof a, arch, strlen(arch));
    if (type)
        lade_printable(t, sizeof t, type, strlen(type));
    return lade_fail(err,
                     "%s: architecture %s (model_type %s) is not supported; lade runs "
                     "Qwen3NextForCausalLM (qwen3_next) models",
                     path, a, t);
}

/* Features of the configuration class that no published Qwen3-Next uses. */
static int check_unsupported(json_t *root, const char *path, char *err)
{
    json_t *act = json_object_get(root, "hidden_act"),
           *mlp = json_object_get(root, "mlp_only_layers");
    json_t *step = json_object_get(root, "decoder_sparse_step");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
        return lade_fail(err, "%s: hidden_act is not 'silu'; get a published Qwen3-Next model",
                         path);
    if (json_is_true(json_object_get(root, "attention_bias")))
        return lade_fail(err, "%s: attention_bias is true; get a published Qwen3-Next model", path);
    if (json_array_size(mlp) > 0 || (mlp && !json_is_array(mlp) && !json_is_null(mlp)))
        return lade_fail(err,
                         "%s: mlp_only_layers is not empty; only models with experts in every "
                         "layer are supported",
                         path);
    if (step && json_integer_value(step) != 1)
        return lade_fail(err,
                         "%s: decoder_sparse_step is not 1; only models with experts in every "
                         "layer are supported",
                         path);
    return 0;
}

static int read_ints(struct lade_shape *s, json_t *root, const char *path, char *err)
{
    for (int i = 0; i < N_INT_KEYS; i++) {
        const struct int_key *k = &int_keys[i];
        int64_t value = k->fallback;
        if (lade_json_int(root, k->key, k->min, k->max, k->fallback ? &value : NULL, &value, path,
                          err))
            return -1;
        *int_field(s, k) = (int)value;
    }
    return 0;
}

static int read_layer_types(struct lade_shape *s, json_t *root, const char *path, char *err)
{
    json_t *types = json_object_get(root, "layer_types");
    if (types && !json_is_null(types)) {
        if ((int)json_array_size(types) != s->layers)
            return lade_fail(err,
                             "%s: layer_types has %zu entries but num_hidden_layers is %d; the "
                             "file is damaged",
                             path, json_array_size(types), s->layers);
        for (int i = 0; i < s->layers; i++) {
            const char *type = json_string_value(json_array_get(types, (size_t)i));
            s->full_attention[i] = type && !strcmp(type, "full_attention");
            if (!s->full_attention[i] && (!type || strcmp(type, "linear_attention") != 0))
                return lade_fail(err,
                                 "%s: layer_types[%d] is '%s', expected 'linear_attention' or "
                                 "'full_attention'; the file is not a Qwen3-Next model's",
                                 path, i,
                                 lade_printable((char[64]){0}, 64, type ? type : "no text",
                                                strlen(type ? type : "no text")));
        }
        return 0;
    }
    int64_t interval = 4;
    if (lade_json_int(root, "full_attention_interval", 1, LADE_MAX_LAYERS, &interval, &interval,
                      path, err))
        return -1;
    for (int i = 0; i < s->layers; i++)
        s->full_attention[i] = (i + 1) % interval == 0;
    return 0;
}

static int read_yarn(struct lade_shape *s, json_t *rope, const char *path, char *err)
{
    const double zero = 0, fast = 32, slow = 1;
    double attention, mscale, mscale_all;
    int64_t original = s->max_context;
    if (lade_json_real(rope, "factor", 1, 1e6, NULL, &s->yarn_factor, path, err) ||
        lade_json_int(rope, "original_max_position_embeddings", 1, 1 << 26, &original, &original,
                      path, err) ||
        lade_json_real(rope, "beta_fast", 1e-3, 1e6, &fast, &s->yarn_beta_fast, path, err) ||
        lade_json_real(rope, "beta_slow", 1e-3, 1e6, &slow, &s->yarn_beta_slow, path, err) ||
        lade_json_real(rope, "attention_factor", 0, 1e6, &zero, &attention, path, err) ||
        lade_json_real(rope, "mscale", 0, 1e6, &zero, &mscale, path, err) ||
        lade_json_real(rope, "mscale_all_dim", 0, 1e6, &zero, &mscale_all, path, err))
        return -1;
    if (json_is_false(json_object_get(rope, "truncate")))
        return lade_fail(err, "%s: rope truncate is false; only the default is supported", path);
    s->yarn_original_context = (int)original;
    if (lade_shape_yarn(s, 1, path, err))
        return -1;
    if (attention > 0)
        s->yarn_attention_factor = attention;
    else if (mscale > 0 && mscale_all > 0)
        s->yarn_attention_factor =
            yarn_magnitude(s->yarn_factor, mscale) / yarn_magnitude(s->yarn_factor, mscale_all);
    return 0;
}

static int read_rope(struct lade_shape *s, json_t *root, const char *path, char *err)
{
    /* Newer exports keep all of it in rope_parameters, older ones have two keys of the root and
     * rope_scaling for what is unusual. */
    json_t *rope = json_object_get(root, "rope_parameters");
    if (!json_is_object(rope))
        rope = json_object_get(root, "rope_scaling");
    json_t *theta_in = json_object_get(rope, "rope_theta") ? rope : root;
    json_t *factor_in = json_object_get(rope, "partial_rotary_factor") ? rope : root;
    const double quarter = 0.25;
    double factor;
    if (lade_json_real(theta_in, "rope_theta", 1, 1e15, NULL, &s->rope_theta, path, err) ||
        lade_json_real(factor_in, "partial_rotary_factor", 0, 1, &quarter, &factor, path, err))
        return -1;
    s->rotary_dim = (int)(s->head_dim * factor);
    s->yarn_factor = 1;
    json_t *type = json_object_get(rope, "rope_type");
    if (!type)
        type = json_object_get(rope, "type");
    if (!json_is_object(rope) || !type || json_is_null(type))
        return 0;
    const char *name = json_string_value(type);
    if (name && !strcmp(name, "default"))
        return 0;
    if (name && !strcmp(name, "yarn"))
        return read_yarn(s, rope, path, err);
    return lade_fail(
        err, "%s: rope_type '%s' is not supported; lade knows 'default' and 'yarn'", path,
        lade_printable((char[64]){0}, 64, name ? name : "?", strlen(name ? name : "?")));
}

static int read_shape(struct lade_shape *s, json_t *root, const char *path, char *err)
{
    const double eps = 1e-6;
    double norm_eps;
    if (check_architecture(root, path, err) || read_ints(s, root, path, err) ||
        check_unsupported(root, path, err) || read_layer_types(s, root, path, err) ||
        lade_json_real(root, "rms_norm_eps", 0, 1, &eps, &norm_eps, path, err) ||
        read_rope(s, root, path, err))
        return -1;
    json_t *renormalize = json_object_get(root, "norm_topk_prob");
    s->norm_eps = (float)norm_eps;
    s->tied_embeddings = json_is_true(json_object_get(root, "tie_word_embeddings"));
    s->renormalize = !renormalize || json_is_true(renormalize);
    return lade_shape_check(s, path, err);
}

int lade_shape_parse(struct lade_shape *s, const char *text, size_t len, const char *path,
                     char *err)
{
    *s = (struct lade_shape){0};
    json_t *root = lade_json_object(text, len, path, err);
    if (!root)
        return -1;
    int rc = read_shape(s, root, path, err);
    json_decref(root);
    return rc;
}

/* ---- generation_config.json ------------------------------------------------------------------ */

void lade_generation_defaults(struct lade_generation *gen)
{
    *gen = (struct lade_generation){
        .temperature = 0.7f, .top_p = 0.8f, .min_p = 0, .repetition_penalty = 1, .top_k = 20};
}

static int read_stops(struct lade_generation *gen, json_t *stop, const char *path, char *err)
{
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (n > LADE_MAX_STOP)
        return lade_fail(err,
                         "%s: eos_token_id lists %zu tokens, at most %d are supported; remove "
                         "some",
                         path, n, LADE_MAX_STOP);
    for (size_t i = 0; i < n; i++) {
        json_t *id = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return lade_fail(err, "%s: eos_token_id is no token number; the file is damaged", path);
        gen->stop[i] = (int)json_integer_value(id);
    }
    gen->n_stop = (int)n;
    return 0;
}

static int read_generation(struct lade_generation *gen, json_t *root, const char *path, char *err)
{
    const struct {
        const char *key;
        double min, max;
        float *value;
    } reals[] = {
        {"temperature", 0, 100, &gen->temperature},
        {"top_p", 0, 1, &gen->top_p},
        {"min_p", 0, 1, &gen->min_p},
        {"repetition_penalty", 0.01, 100, &gen->repetition_penalty},
    };
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        double value = (double)*reals[i].value;
        if (lade_json_real(root, reals[i].key, reals[i].min, reals[i].max, &value, &value, path,
                           err))
            return -1;
        *reals[i].value = (float)value;
    }
    int64_t top_k = gen->top_k;
    if (lade_json_int(root, "top_k", 0, INT32_MAX, &top_k, &top_k, path, err))
        return -1;
    gen->top_k = (int)top_k;
    static const char *const says[] = {"temperature", "top_p", "top_k", "do_sample"};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        gen->sampled |= json_object_get(root, says[i]) != NULL;
    if (json_is_false(json_object_get(root, "do_sample")))
        gen->temperature = 0;
    json_t *stop = json_object_get(root, "eos_token_id");
    return stop && !json_is_null(stop) ? read_stops(gen, stop, path, err) : 0;
}

int lade_generation_parse(struct lade_generation *gen, const char *text, size_t len,
                          const char *path, char *err)
{
    json_t *root = lade_json_object(text, len, path, err);
    if (!root)
        return -1;
    int rc = read_generation(gen, root, path, err);
    json_decref(root);
    return rc;
}
