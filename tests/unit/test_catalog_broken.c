/* Broken checkpoints: every one is refused with a line that names the file and the tensor or key. */
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

enum { SHARDS = 3 };

typedef void breaker(struct support_checkpoint *c);

static void drop_norm(struct support_checkpoint *c)
{
    support_drop(c, "model.norm.weight");
}
static void drop_expert(struct support_checkpoint *c)
{
    support_drop(c, "model.layers.1.mlp.experts.2.up_proj.qweight");
    support_drop(c, "model.layers.1.mlp.experts.2.up_proj.qzeros");
    support_drop(c, "model.layers.1.mlp.experts.2.up_proj.scales");
}
static void drop_scales(struct support_checkpoint *c)
{
    support_drop(c, "model.layers.0.mlp.experts.0.up_proj.scales");
}
static void wrong_rows(struct support_checkpoint *c)
{
    support_drop(c, "lm_head.weight");
    support_add(c, "lm_head.weight", "BF16", 2, (uint64_t[]){47, 32});
}
static void wrong_rank(struct support_checkpoint *c)
{
    support_drop(c, "model.norm.weight");
    support_add(c, "model.norm.weight", "BF16", 2, (uint64_t[]){32, 1});
}
static void wrong_conv(struct support_checkpoint *c)
{
    support_drop(c, "model.layers.0.linear_attn.conv1d.weight");
    support_add(c, "model.layers.0.linear_attn.conv1d.weight", "BF16", 3, (uint64_t[]){64, 1, 3});
}
static void integer_weight(struct support_checkpoint *c)
{
    support_drop(c, "lm_head.weight");
    support_add(c, "lm_head.weight", "I32", 2, (uint64_t[]){48, 32});
}
static void fp8_weight(struct support_checkpoint *c)
{
    support_drop(c, "lm_head.weight");
    support_add(c, "lm_head.weight", "F8_E4M3", 2, (uint64_t[]){48, 32});
}
static void integer_scales(struct support_checkpoint *c)
{
    support_drop(c, "model.layers.0.mlp.experts.0.up_proj.scales");
    support_add(c, "model.layers.0.mlp.experts.0.up_proj.scales", "I32", 2, (uint64_t[]){2, 32});
}
static void other_bits(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "bits", json_integer(8));
}
static void other_group(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "group_size",
                        json_integer(32));
}
static void five_bits(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "bits", json_integer(5));
}
static void odd_group(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "group_size",
                        json_integer(10));
}
static void no_bits(struct support_checkpoint *c)
{
    json_object_del(json_object_get(c->config, "quantization_config"), "bits");
}
static void packing(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "packing_format",
                        json_string("auto_round:exllamav2"));
}
static void method(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "quant_method",
                        json_string("bitsandbytes"));
}
static void float_type(struct support_checkpoint *c)
{
    json_object_set_new(json_object_get(c->config, "quantization_config"), "data_type",
                        json_string("nv_fp"));
}
static void no_quantization(struct support_checkpoint *c)
{
    support_set(c->config, "quantization_config", NULL);
}
static void strange_quantization(struct support_checkpoint *c)
{
    support_set(c->config, "quantization_config", "7");
}
static void strange_extra(struct support_checkpoint *c)
{
    support_set(json_object_get(c->config, "quantization_config"), "extra_config",
                "{\"model.layers.0.mlp.experts.0.up_proj\": 4}");
}
static void slow_pattern(struct support_checkpoint *c)
{
    support_set(json_object_get(c->config, "quantization_config"), "extra_config",
                "{\"^([a-z_.0-9]+)+[A-Z]\": {\"bits\": 8}}");
}
static void gptq(struct support_checkpoint *c)
{
    json_t *config = json_object_get(c->config, "quantization_config");
    support_set(config, "quant_method", "\"gptq\"");
    support_set(config, "checkpoint_format", "\"gptq\"");
    support_set(config, "dynamic",
                "{\"+:.*(linear_attn|self_attn|shared_expert)\": {\"bits\": 8}}");
}
static void act_order(struct support_checkpoint *c)
{
    gptq(c);
    support_set(json_object_get(c->config, "quantization_config"), "desc_act", "1");
}
static void short_order(struct support_checkpoint *c)
{
    gptq(c);
    support_add(c, "model.layers.0.mlp.experts.0.up_proj.g_idx", "I32", 1, (uint64_t[]){31});
}
static void marlin(struct support_checkpoint *c)
{
    gptq(c);
    support_set(json_object_get(c->config, "quantization_config"), "checkpoint_format",
                "\"marlin\"");
}
static void strange_dynamic(struct support_checkpoint *c)
{
    gptq(c);
    support_set(json_object_get(c->config, "quantization_config"), "dynamic", "[1]");
}
static void anchored_dynamic(struct support_checkpoint *c)
{
    gptq(c);
    support_set(json_object_get(c->config, "quantization_config"), "dynamic",
                "{\"linear_attn\": {\"bits\": 8}}");
}
static void unknown_packing(struct support_checkpoint *c)
{
    drop_expert(c);
    support_add(c, "model.layers.1.mlp.experts.2.up_proj.weight_packed", "I32", 2,
                (uint64_t[]){32, 4});
}
/* The quantization_config of another method over the same tensors. */
static void config_is(struct support_checkpoint *c, const char *json)
{
    support_set(c->config, "quantization_config", json);
}
static void awq_gemv(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 128,"
                 " \"version\": \"gemv\"}");
}
static void awq_8(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"awq\", \"bits\": 8, \"group_size\": 128}");
}
static void awq_shape(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"awq\", \"w_bit\": 4, \"q_group_size\": 16}");
}
static void fp8_format(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}");
}
static void fp8_block(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}");
}
static void fp8_narrow(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 64]}");
    fp8_weight(c);
}
static void fp8_scales(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}");
    fp8_weight(c);
}
static void fp8_other(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"fp8\"}");
}
static void nvfp4(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"modelopt\", \"quant_algo\": \"NVFP4\"}");
}
#define GROUP(weights)                                                                             \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"mixed-precision\","                  \
    " \"config_groups\": {\"group_0\": {\"targets\": [\"re:nothing\"], \"weights\": " weights      \
    "}}}"
static void ct_nvfp4(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"compressed-tensors\","
                 " \"format\": \"nvfp4-pack-quantized\"}");
}
static void ct_float4(struct support_checkpoint *c)
{
    config_is(c, GROUP("{\"num_bits\": 4, \"type\": \"float\", \"strategy\": \"tensor_group\"}"));
}
static void ct_token(struct support_checkpoint *c)
{
    config_is(c, GROUP("{\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"token\"}"));
}
static void ct_no_groups(struct support_checkpoint *c)
{
    config_is(c, "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}");
}
static void ct_no_target(struct support_checkpoint *c)
{
    config_is(c, GROUP("{\"num_bits\": 4, \"type\": \"int\", \"strategy\": \"channel\"}"));
}
static void half_fused(struct support_checkpoint *c)
{
    support_add(c, "model.layers.0.mlp.experts.down_proj", "BF16", 3, (uint64_t[]){3, 32, 32});
}
static void short_fused(struct support_checkpoint *c)
{
    half_fused(c);
    support_add(c, "model.layers.0.mlp.experts.gate_up_proj", "BF16", 3, (uint64_t[]){2, 64, 32});
}
static void architecture(struct support_checkpoint *c)
{
    support_set(c->config, "model_type", "\"qwen3_moe\"");
}
static void twice(struct support_checkpoint *c)
{
    support_add(c, "model.norm.weight", "BF16", 1, (uint64_t[]){32});
    /* The second copy lands in the shard of the first; jansson keeps one name per object, so a
     * different one of the same length is written and patched below. */
    strcpy(c->tensors[c->n - 1].name, "model.norm.weighT");
}

static const struct bad_model {
    const char *name;
    breaker *breaks;
    const char *file, *say;
} bad_models[] = {
    {"missing tensor", drop_norm, "index.json", "tensor 'model.norm.weight' is missing"},
    {"missing expert", drop_expert, "index.json",
     "tensor 'model.layers.1.mlp.experts.2.up_proj.weight' is missing"},
    {"missing scales", drop_scales, "index.json", "experts.0.up_proj.scales' is missing"},
    {"wrong shape", wrong_rows, "model-0000",
     "tensor 'lm_head.weight' has shape [47, 32], expected [48, 32]"},
    {"wrong rank", wrong_rank, "model-0000",
     "tensor 'model.norm.weight' has shape [32, 1], expected [32]"},
    {"wrong convolution", wrong_conv, "model-0000", "has shape [64, 1, 3], expected [64, 1, 4]"},
    {"integer weight", integer_weight, "model-0000", "tensor 'lm_head.weight' has dtype I32"},
    {"fp8 weight", fp8_weight, "model-0000", "tensor 'lm_head.weight' has dtype F8_E4M3"},
    {"integer scales", integer_scales, "model-0000",
     "up_proj.scales' has dtype I32, expected F16, BF16 or F32"},
    {"bits do not fit", other_bits, "model-0000", "by 8 bits and group_size 16 of config.json"},
    {"group does not fit", other_group, "model-0000", "group_size 32 of config.json"},
    {"5 bits", five_bits, "config.json", "5 bits for 'model.layers.0.mlp.experts.0.gate_proj'"},
    {"odd group", odd_group, "config.json", "group_size 10 for 'model.layers.0."},
    {"no bits", no_bits, "config.json", "key 'bits' is missing"},
    {"unknown packing", packing, "config.json", "packing_format 'auto_round:exllamav2'"},
    {"unknown method", method, "config.json", "quant_method 'bitsandbytes'"},
    {"unknown data type", float_type, "config.json", "data_type 'nv_fp'"},
    {"no quantization_config", no_quantization, "model-0000",
     ".qweight' is quantized but config.json has no quantization_config"},
    {"strange quantization_config", strange_quantization, "config.json", "not an object"},
    {"strange extra_config", strange_extra, "config.json",
     "extra_config 'model.layers.0.mlp.experts.0.up_proj' is not an object"},
    {"slow pattern", slow_pattern, "config.json", "takes too long to match"},
    {"act order", act_order, "config.json", "desc_act is neither true nor false"},
    {"order of other inputs", short_order, "model-0000", "up_proj.g_idx' has shape [31]"},
    {"marlin", marlin, "config.json", "checkpoint_format 'marlin' is not supported"},
    {"strange dynamic", strange_dynamic, "config.json", "dynamic is not an object"},
    {"dynamic matches from the start", anchored_dynamic, "model-0000", "by 4 bits"},
    {"packing of another config", unknown_packing, "index.json",
     "tensor 'model.layers.1.mlp.experts.2.up_proj.qweight' is missing"},
    {"AWQ GEMV", awq_gemv, "config.json", "version 'gemv' is not supported; lade reads gemm"},
    {"AWQ with 8 bits", awq_8, "config.json", "only 4 bits of AWQ are supported"},
    {"AWQ of other tensors", awq_shape, "model-0000", ".qweight' has shape [8, 112], expected"},
    {"FP8 of another format", fp8_format, "config.json", "fmt 'e5m2' is not supported"},
    {"FP8 with half a block", fp8_block, "config.json", "block of weights is not two sizes"},
    {"FP8 with narrow blocks", fp8_narrow, "config.json", "blocks of 128 x 64 for 'lm_head'"},
    {"FP8 without scales", fp8_scales, "index.json", "'lm_head.weight_scale_inv' is missing"},
    {"FP8 that is not", fp8_other, "model-0000",
     ".qweight' has dtype I32, expected that of its quantization_config"},
    {"NVFP4", nvfp4, "config.json", "quant_method 'modelopt' with NVFP4 is not supported"},
    {"NVFP4 of compressed-tensors", ct_nvfp4, "config.json",
     "format 'nvfp4-pack-quantized' is not supported; lade reads pack-quantized"},
    {"4-bit floats in a group", ct_float4, "config.json", "4-bit floats (NVFP4, MXFP4)"},
    {"scales by token", ct_token, "config.json", "weights with token are not supported"},
    {"no groups", ct_no_groups, "config.json", "config_groups is not an object"},
    {"no group for a module", ct_no_target, "config.json", "no group of config_groups targets"},
    {"half a fused layer", half_fused, "index.json",
     "tensor 'model.layers.0.mlp.experts.gate_up_proj' is missing"},
    {"fused layer of another size", short_fused, "model-0000", "has shape [2, 64, 32], expected"},
    {"another architecture", architecture, "config.json", "model_type qwen3_moe"},
};

static void refused(struct support_checkpoint *c, const char *what, const char *file,
                    const char *say)
{
    struct lade_catalog *cat = NULL;
    char err[LADE_ERR] = "";
    if (!lade_catalog_open(&cat, c->dir, err)) {
        lade_catalog_close(cat);
        fail_msg("%s: opened", what);
    }
    assert_null(cat);
    if (!strstr(err, file) || !strstr(err, say) || strchr(err, '\n') || !strstr(err, "; "))
        fail_msg("%s: expected \"%s\" and \"%s\" in: %s", what, file, say, err);
}

static void broken_models_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_models / sizeof *bad_models; i++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, "BF16");
        support_quantize_mixed(&c);
        bad_models[i].breaks(&c);
        support_save(&c, SHARDS);
        refused(&c, bad_models[i].name, bad_models[i].file, bad_models[i].say);
        support_free(&c);
    }
}

/* It is a vector to the kernels. */
static void a_quantized_shared_gate_is_refused(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_drop(&c, "model.layers.0.mlp.shared_expert_gate.weight");
    support_add(&c, "model.layers.0.mlp.shared_expert_gate.weight", "F8_E4M3", 2,
                (uint64_t[]){1, 32});
    fp8_other(&c);
    support_save(&c, 1);
    refused(&c, "quantized shared gate", "model.safetensors",
            "shared_expert_gate.weight' is quantized, which is not supported there");
    support_free(&c);
}

static void broken_files_are_refused(void **state)
{
    (void)state;
    static const char second[] = "model-00002-of-00003.safetensors";
    struct support_checkpoint c;
    struct stat st;
    support_new(&c);
    refused(&c, "empty directory", c.dir, "no config.json there");
    support_save(&c, 1);
    unlink(support_path(&c, "model.safetensors"));
    refused(&c, "no weights", c.dir, "neither model.safetensors.index.json nor model.safetensors");
    support_add_plain(&c, "BF16");
    support_save(&c, SHARDS);
    assert_int_equal(stat(support_path(&c, second), &st), 0);
    assert_int_equal(truncate(support_path(&c, second), st.st_size - 7), 0);
    refused(&c, "truncated shard", second, "ends at byte");
    assert_int_equal(truncate(support_path(&c, second), 100), 0);
    refused(&c, "shard cut in its header", second, "its header claims");
    unlink(support_path(&c, second));
    refused(&c, "missing shard", second, "1 of 3 files is missing: model-00002");
    assert_int_equal(mkfifo(support_path(&c, second), 0600), 0); /* nobody writes to it */
    refused(&c, "a pipe for a shard", second, "not a regular file");
    unlink(support_path(&c, second));
    support_write(&c, "generation_config.json", "{", 1);
    refused(&c, "broken generation config", "generation_config.json", "not valid JSON");
    support_write(&c, "config.json",
                  "\x7f"
                  "ELF",
                  4);
    refused(&c, "broken config", "config.json", "not valid JSON");
    /* Nobody writes to these pipes: who waits for that waits for ever. */
    unlink(support_path(&c, "config.json"));
    assert_int_equal(mkfifo(support_path(&c, "config.json"), 0600), 0);
    refused(&c, "a pipe for the config", "config.json", "not a regular file");

    struct lade_catalog *cat;
    char err[LADE_ERR] = "";
    assert_int_equal(lade_catalog_open(&cat, "/no/such/model", err), -1);
    assert_non_null(strstr(err, "/no/such/model: No such file"));
    assert_int_equal(lade_catalog_open(&cat, "Makefile", err), -1);
    assert_non_null(strstr(err, "Makefile: neither a directory nor a GGUF file"));
    const char *pipe = support_path(&c, "config.json");
    assert_int_equal(lade_catalog_open(&cat, pipe, err), -1);
    assert_non_null(strstr(err, "neither a directory nor a GGUF file"));
    support_free(&c);
}

static void the_index_must_tell_the_truth(void **state)
{
    (void)state;
    struct support_checkpoint c;
    support_new(&c);
    support_add_plain(&c, "BF16");
    support_save(&c, 2);
    char *text = NULL;
    json_t *index = json_load_file(support_path(&c, "model.safetensors.index.json"), 0, NULL);
    json_t *map = json_object_get(index, "weight_map");
    json_object_set_new(map, "ghost", json_string("model-00002-of-00002.safetensors"));
    text = json_dumps(index, 0);
    support_write(&c, "model.safetensors.index.json", text, strlen(text));
    free(text);
    refused(&c, "ghost tensor", "model-00002-of-00002.safetensors",
            "tensor 'ghost' is not in the file");
    json_object_del(map, "ghost");
    json_object_set_new(map, "model.norm.weight", json_string("model-00001-of-00002.safetensors"));
    text = json_dumps(index, 0);
    support_write(&c, "model.safetensors.index.json", text, strlen(text));
    free(text);
    refused(&c, "wrong shard", "model-00001-of-00002.safetensors",
            "tensor 'model.norm.weight' is not in the file");
    json_decref(index);
    support_free(&c);
}

static void names_must_be_unique(void **state)
{
    (void)state;
    for (int shards = 1; shards <= 2; shards++) {
        struct support_checkpoint c;
        support_new(&c);
        support_add_plain(&c, "BF16");
        if (shards == 2 && c.n % 2 == 0) /* so that the copy meets the original in one shard */
            support_add(&c, "extra", "F32", 1, (uint64_t[]){1});
        twice(&c);
        support_save(&c, shards);
        /* model.norm.weight is tensor 1: shard 2 of 2. */
        const char *file = shards == 1 ? "model.safetensors" : "model-00002-of-00002.safetensors";
        FILE *f = fopen(support_path(&c, file), "r+b");
        assert_non_null(f);
        static char header[1 << 16];
        size_t n = fread(header, 1, sizeof header, f);
        char *at = memmem(header, n, "model.norm.weighT", 17);
        assert_non_null(at);
        assert_int_equal(fseek(f, at - header + 16, SEEK_SET), 0);
        assert_int_equal(fputc('t', f), 't');
        assert_int_equal(fclose(f), 0);
        refused(&c, "two of a name", file, "tensor 'model.norm.weight' occurs twice");
        support_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_models_are_refused),
        cmocka_unit_test(a_quantized_shared_gate_is_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(the_index_must_tell_the_truth),
        cmocka_unit_test(names_must_be_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
