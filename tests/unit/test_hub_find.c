/* The models of a machine: caches of other programs in temporary directories, names, what is
 * complete, and which model a short name means. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/hub/find.h"
#include "engine/hub/names.h"

static char home[64], own[128];

/* ---- making trees ---------------------------------------------------------------------------- */

static const char *at(const char *path)
{
    static char full[2][1024];
    static int turn;
    turn ^= 1;
    snprintf(full[turn], sizeof full[turn], "%s/%s", home, path);
    return full[turn];
}

static void make_parents(const char *path)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", path);
    for (char *p = dir + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(dir, 0777);
        *p = '/';
    }
}

static void put(const char *path, const void *data, size_t len)
{
    const char *full = at(path);
    make_parents(full);
    FILE *f = fopen(full, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *path, const char *text)
{
    put(path, text, strlen(text));
}

/* A link to a file of the tree, or to one of a fixture where `to` has a slash in front. */
static void put_link(const char *path, const char *to)
{
    const char *full = at(path);
    make_parents(full);
    assert_int_equal(symlink(to, full), 0);
}

/* The files of a fixture, copied. */
static void put_fixture(const char *dir, const char *fixture)
{
    static const char *const files[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors",
                                        "model-00001-of-00003.safetensors",
                                        "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[256], to[512];
        snprintf(from, sizeof from, "tests/fixtures/%s/%s", fixture, files[i]);
        snprintf(to, sizeof to, "%s/%s", dir, files[i]);
        FILE *f = fopen(from, "rb");
        if (!f)
            continue;
        fseek(f, 0, SEEK_END);
        size_t len = (size_t)ftell(f);
        char *data = malloc(len);
        rewind(f);
        assert_int_equal(fread(data, 1, len, f), len);
        fclose(f);
        put(to, data, len);
        free(data);
    }
}

/* A GGUF header without tensors: architecture and file type. */
static size_t gguf_header(unsigned char *out, const char *architecture, uint32_t type)
{
    unsigned char *p = out;
#define NUMBER(value, n)                                                                           \
    for (int i_ = 0; i_ < (n); i_++)                                                               \
    *p++ = (unsigned char)((uint64_t)(value) >> (8 * i_))
#define TEXT(text)                                                                                 \
    do {                                                                                           \
        NUMBER(strlen(text), 8);                                                                   \
        memcpy(p, text, strlen(text));                                                             \
        p += strlen(text);                                                                         \
    } while (0)
    memcpy(p, "GGUF", 4);
    p += 4;
    NUMBER(3, 4);
    NUMBER(0, 8);
    NUMBER(2, 8);
    TEXT("general.architecture");
    NUMBER(8, 4);
    TEXT(architecture);
    TEXT("general.file_type");
    NUMBER(4, 4);
    NUMBER(type, 4);
    while ((p - out) % 32)
        *p++ = 0;
    return (size_t)(p - out);
}

static void put_gguf(const char *path, const char *architecture, uint32_t type)
{
    unsigned char data[256];
    put(path, data, gguf_header(data, architecture, type));
}

static int setup(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/lade-find-XXXXXX");
    assert_non_null(mkdtemp(home));
    snprintf(own, sizeof own, "%s/own/models", home);
    setenv("HOME", home, 1);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static struct lade_found_list find(void)
{
    struct lade_found_list list;
    char err[LADE_ERR];
    assert_int_equal(lade_find_models(&list, own, err), 0);
    return list;
}

static struct lade_found *named(struct lade_found_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->items[i].name, name))
            return &list->items[i];
    fail_msg("%s was not found", name);
    return NULL;
}

/* ---- names ----------------------------------------------------------------------------------- */

static void test_labels(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Qwen3-Next-80B-A3B-Instruct-Q4_K_M", "Q4_K_M"},
        {"Qwen3-Next-80B-A3B-Instruct-UD-IQ2_XXS", "UD-IQ2_XXS"},
        {"Qwen3-Next-80B-A3B-Instruct.Q8_0", "Q8_0"},
        {"Qwen3-Next-80B-A3B-Instruct-q4_0-mtp", "q4_0"},
        {"model-MXFP4_MOE", "MXFP4_MOE"},
        {"model-bf16", "bf16"},
        {"F16", "F16"},
        {"Qwen3-Next-80B-A3B-Instruct", NULL},
        {"Q-and-A", NULL},
        {"Qwen3_Next", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char label[64];
        bool found = lade_quant_label(rows[i][0], label, sizeof label);
        assert_int_equal(found, rows[i][1] != NULL);
        if (found)
            assert_string_equal(label, rows[i][1]);
    }
    assert_true(lade_stem_has_label("m-UD-Q4_K_XL", "q4_k_xl"));
    assert_true(lade_stem_has_label("m-UD-Q4_K_XL", "ud-q4_k_xl"));
    assert_false(lade_stem_has_label("m-IQ4_XS", "Q4_XS"));
    assert_false(lade_stem_has_label("m-Q4_K_M", "Q4_K"));
    assert_false(lade_stem_has_label("Q4_K_M", "Q4_K_M"));
}

static void test_stems(void **state)
{
    (void)state;
    char stem[32];
    int part, parts;
    assert_true(lade_gguf_stem("dir/m-Q4_0-00002-of-00003.gguf", stem, sizeof stem, &part, &parts));
    assert_string_equal(stem, "m-Q4_0");
    assert_int_equal(part, 2);
    assert_int_equal(parts, 3);
    assert_true(lade_gguf_stem("m.GGUF", stem, sizeof stem, &part, &parts));
    assert_string_equal(stem, "m");
    assert_int_equal(parts, 1);
    static const char *const no_parts[] = {"m-00004-of-00003.gguf", "m-00000-of-00003.gguf"};
    for (size_t i = 0; i < 2; i++) {
        assert_true(lade_gguf_stem(no_parts[i], stem, sizeof stem, &part, &parts));
        assert_int_equal(part, 1);
        assert_int_equal(parts, 1);
    }
    assert_false(lade_gguf_stem("m.safetensors", stem, sizeof stem, NULL, NULL));
    assert_false(lade_gguf_stem("a-name-that-is-longer-than-the-buffer.gguf", stem, sizeof stem,
                                NULL, NULL));
}

/* ---- places ---------------------------------------------------------------------------------- */

static void test_nothing(void **state)
{
    (void)state;
    struct lade_found_list list = find();
    char err[LADE_ERR];
    assert_int_equal(list.n, 0);
    assert_null(lade_found_resolve(&list, "qwen", err));
    assert_non_null(strstr(err, "lade pull"));
    assert_null(lade_found_resolve(&list, "", err));
    lade_found_free(&list);
}

/* The hub cache as huggingface_hub lays it out: links from a snapshot into blobs. */
static void put_hub(const char *cache)
{
    char path[512], dir[128];
    snprintf(dir, sizeof dir, "%s/models--Qwen--Tiny-Next", cache);
    snprintf(path, sizeof path, "%s/blobs", dir);
    put_fixture(path, "tiny-bf16");
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        char to[64];
        snprintf(path, sizeof path, "%s/snapshots/abc123/%s", dir, files[i]);
        snprintf(to, sizeof to, "../../blobs/%s", files[i]);
        put_link(path, to);
    }
    snprintf(path, sizeof path, "%s/snapshots/zzz/config.json", dir);
    put_text(path, "{}");
    snprintf(path, sizeof path, "%s/refs/main", dir);
    put_text(path, "abc123");
    snprintf(path, sizeof path, "%s/datasets--Qwen--Other/snapshots/a/config.json", cache);
    put_text(path, "{}");
}

static void check_hub(void)
{
    struct lade_found_list list = find();
    assert_int_equal(list.n, 1);
    struct lade_found *f = named(&list, "Qwen/Tiny-Next");
    assert_string_equal(f->place, "huggingface");
    assert_string_equal(f->format, "safetensors");
    assert_non_null(strstr(f->path, "/snapshots/abc123"));
    struct stat st;
    assert_int_equal(stat("tests/fixtures/tiny-bf16/model.safetensors", &st), 0);
    assert_int_equal(f->bytes, st.st_size);
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_string_equal(f->problem, "");
    assert_string_equal(f->architecture, "qwen3_next");
    assert_string_equal(f->quant, "bf16");
    assert_true(f->runs && f->complete && f->opens);
    lade_found_free(&list);
}

static void test_hub_at_home(void **state)
{
    (void)state;
    put_hub(".cache/huggingface/hub");
    check_hub();
}

static void test_hub_by_variables(void **state)
{
    (void)state;
    put_hub("elsewhere/hub");
    put_text(".cache/huggingface/hub/models--A--Hidden/snapshots/x/config.json", "{}");
    put_text(".cache/huggingface/hub/models--A--Hidden/snapshots/x/model.safetensors", "");
    setenv("HF_HOME", at("elsewhere"), 1);
    check_hub();
    setenv("HF_HOME", at("not-there"), 1);
    setenv("HF_HUB_CACHE", at("elsewhere/hub"), 1);
    check_hub();
    unsetenv("HF_HOME");
    unsetenv("HF_HUB_CACHE");
    put_link("xdg/huggingface", at("elsewhere"));
    setenv("XDG_CACHE_HOME", at("xdg"), 1);
    check_hub();
}

static void test_hub_incomplete(void **state)
{
    (void)state;
    const char *const repo = ".cache/huggingface/hub/models--Qwen--Big";
    char path[256];
    snprintf(path, sizeof path, "%s/snapshots/c0/config.json", repo);
    put_text(path, "{\"model_type\": \"qwen3_next\", \"quantization_config\": {\"quant_method\": "
                   "\"auto-round\", \"bits\": 4, \"group_size\": 128}}");
    snprintf(path, sizeof path, "%s/snapshots/c0/model.safetensors.index.json", repo);
    put_text(path, "{\"weight_map\": {\"a\": \"model-1.safetensors\", \"b\": "
                   "\"model-2.safetensors\"}}");
    snprintf(path, sizeof path, "%s/snapshots/c0/model-1.safetensors", repo);
    put_text(path, "12345");
    snprintf(path, sizeof path, "%s/snapshots/c0/model-2.safetensors", repo);
    put_link(path, "../../blobs/gone");
    snprintf(path, sizeof path, "%s/blobs/gone.incomplete", repo);
    put_text(path, "123");
    struct lade_found_list list = find();
    struct lade_found *f = named(&list, "Qwen/Big");
    assert_true(f->unfinished);
    assert_int_equal(f->bytes, 5);
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_true(f->runs && !f->complete && !f->opens);
    assert_int_equal(f->files, 2);
    assert_int_equal(f->missing, 1);
    assert_string_equal(f->quant, "auto-round int4 g128");
    assert_non_null(strstr(f->problem, "model-2.safetensors"));
    char err[LADE_ERR];
    assert_null(lade_found_resolve(&list, "qwen/big", err));
    assert_non_null(strstr(err, "not complete"));
    lade_found_free(&list);
}

/* A shard that ends too early is not complete, though every name is there. */
static void test_truncated(void **state)
{
    (void)state;
    put_fixture("own/models/Org/Cut", "tiny-bf16");
    assert_int_equal(truncate(at("own/models/Org/Cut/model.safetensors"), 4096 * 16), 0);
    struct lade_found_list list = find();
    struct lade_found *f = named(&list, "Org/Cut");
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_true(f->runs && !f->complete && !f->opens);
    assert_non_null(strstr(f->problem, "model.safetensors"));
    lade_found_free(&list);
}

/* Weights alone are not a model to chat with. */
static void test_no_tokenizer(void **state)
{
    (void)state;
    put_fixture("own/models/Org/Mute", "tiny-bf16");
    assert_int_equal(unlink(at("own/models/Org/Mute/tokenizer.json")), 0);
    struct lade_found_list list = find();
    struct lade_found *f = named(&list, "Org/Mute");
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_true(f->runs && !f->complete && !f->opens);
    assert_int_equal(f->files, 2);
    assert_int_equal(f->missing, 1);
    assert_non_null(strstr(f->problem, "tokenizer.json: is missing; "));
    lade_found_free(&list);
}

static void test_other_architectures(void **state)
{
    (void)state;
    put_text("own/models/Org/Llama/config.json",
             "{\"model_type\": \"llama\", \"torch_dtype\": \"bfloat16\"}");
    static const char shard[] = "\x08\0\0\0\0\0\0\0{}      ";
    put("own/models/Org/Llama/model.safetensors", shard, sizeof shard - 1);
    put_text("own/models/Org/Hurt/config.json", "{\"model_type\": ");
    put_text("own/models/Org/Hurt/model.safetensors", "");
    struct lade_found_list list = find();
    struct lade_found *f = named(&list, "Org/Llama");
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_string_equal(f->problem, "");
    assert_true(!f->runs && f->complete && !f->opens);
    assert_string_equal(f->quant, "bfloat16");
    char err[LADE_ERR];
    assert_null(lade_found_resolve(&list, "llama", err));
    assert_non_null(strstr(err, "'llama'"));
    f = named(&list, "Org/Hurt");
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_true(!f->runs && !f->complete);
    assert_non_null(strstr(f->problem, "config.json"));
    lade_found_free(&list);
}

static void test_gguf_places(void **state)
{
    (void)state;
    put_gguf(".cache/llama.cpp/unsloth_Next-GGUF_Next-Q4_K_M.gguf", "qwen3next", 15);
    put_text(".cache/llama.cpp/manifest=unsloth=Next.json", "{}");
    put_gguf(".lmstudio/models/lm/Next-GGUF/Next-Instruct-UD-Q2_K_XL-00001-of-00002.gguf",
             "qwen3next", 10);
    put_gguf(".lmstudio/models/lm/Next-GGUF/Next-Instruct-UD-Q2_K_XL-00002-of-00002.gguf",
             "qwen3next", 10);
    put_gguf(".lmstudio/models/lm/Next-GGUF/Next-Instruct-Q8_0-00002-of-00002.gguf", "qwen3next",
             7);
    put_gguf(".lmstudio/models/lm/Next-GGUF/mmproj-F16.gguf", "clip", 1);
    put_gguf(".cache/lm-studio/models/lm/Llama/llama-strange.gguf", "llama", 18);
    put_gguf(".cache/lm-studio/models/lm/Twins/a-Q4_0.gguf", "llama", 2);
    put_gguf(".cache/lm-studio/models/lm/Twins/b-Q4_0.gguf", "llama", 2);
    put_gguf(".cache/huggingface/hub/models--h--R/snapshots/1/Q5_K_M/r-Q5_K_M.gguf", "qwen3next",
             17);
    struct lade_found_list list = find();
    assert_int_equal(list.n, 7);
    assert_string_equal(named(&list, "unsloth_Next-GGUF_Next-Q4_K_M")->place, "llama.cpp");
    struct lade_found *f = named(&list, "lm/Next-GGUF:UD-Q2_K_XL");
    assert_int_equal(f->bytes, 2 * 128);
    lade_found_probe(f, LADE_PROBE_FILES);
    assert_true(f->runs && f->complete);
    assert_int_equal(f->files, 2);
    assert_string_equal(f->quant, "UD-Q2_K_XL");
    f = named(&list, "lm/Next-GGUF:Q8_0");
    lade_found_probe(f, LADE_PROBE_FILES);
    assert_true(!f->complete);
    assert_int_equal(f->missing, 1);
    assert_non_null(strstr(f->problem, "Next-Instruct-Q8_0-00001-of-00002.gguf"));
    f = named(&list, "lm/Llama:llama-strange");
    lade_found_probe(f, LADE_PROBE_FILES);
    assert_string_equal(f->quant, "Q6_K");
    assert_string_equal(f->architecture, "llama");
    assert_false(f->runs);
    named(&list, "lm/Twins:a-Q4_0");
    named(&list, "lm/Twins:b-Q4_0");
    assert_string_equal(named(&list, "h/R:Q5_K_M")->place, "huggingface");
    lade_found_free(&list);
}

static void test_ollama(void **state)
{
    (void)state;
    static const char blob[] =
        "sha256-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    char path[256], text[512];
    unsigned char data[256];
    size_t len = gguf_header(data, "qwen3next", 15);
    snprintf(path, sizeof path, ".ollama/models/blobs/%s", blob);
    put(path, data, len);
    snprintf(text, sizeof text,
             "{\"layers\": [{\"mediaType\": \"application/vnd.ollama.image.license\", \"digest\": "
             "\"sha256:00\", \"size\": 2}, {\"mediaType\": "
             "\"application/vnd.ollama.image.model\", \"digest\": \"sha256:%s\", \"size\": %zu}]}",
             blob + 7, len);
    put_text(".ollama/models/manifests/registry.ollama.ai/library/qwen3-next/80b", text);
    put_text(".ollama/models/manifests/hf.co/org/Next/Q4_K_M", text);
    put_text(".ollama/models/manifests/registry.ollama.ai/me/broken/latest", "{\"layers\": [");
    put_text(".ollama/models/manifests/registry.ollama.ai/me/escape/latest",
             "{\"layers\": [{\"mediaType\": \"application/vnd.ollama.image.model\", \"digest\": "
             "\"sha256:../../../etc/passwd\"}]}");
    struct lade_found_list list = find();
    assert_int_equal(list.n, 2);
    struct lade_found *f = named(&list, "qwen3-next:80b");
    assert_string_equal(f->place, "ollama");
    assert_int_equal(f->bytes, len);
    lade_found_probe(f, LADE_PROBE_FILES);
    assert_true(f->runs && f->complete);
    assert_string_equal(f->quant, "Q4_K_M");
    named(&list, "hf.co/org/Next:Q4_K_M");
    lade_found_free(&list);
}

static void test_own(void **state)
{
    (void)state;
    put_fixture("own/models/Qwen/Next-int4", "tiny-int4");
    put_gguf("own/models/unsloth/Next-GGUF@Q4_K_M/Next-Q4_K_M.gguf", "qwen3next", 15);
    put_text("own/models/Qwen/Next-fp8.partial/model.safetensors.part", "1234");
    put_text("own/models/unsloth/Next-GGUF@Q8_0.partial/Next-Q8_0.gguf.part", "12");
    struct lade_found_list list = find();
    assert_int_equal(list.n, 4);
    struct lade_found *f = named(&list, "Qwen/Next-int4");
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_string_equal(f->problem, "");
    assert_true(f->opens);
    assert_non_null(strstr(f->quant, "int4"));
    named(&list, "unsloth/Next-GGUF:Q4_K_M");
    f = named(&list, "unsloth/Next-GGUF:Q8_0");
    assert_string_equal(f->format, "gguf");
    assert_int_equal(f->bytes, 2);
    f = named(&list, "Qwen/Next-fp8");
    assert_true(f->unfinished);
    assert_int_equal(f->bytes, 4);
    lade_found_probe(f, LADE_PROBE_OPEN);
    assert_true(f->runs && !f->complete && !f->opens);
    assert_non_null(strstr(f->problem, "lade pull Qwen/Next-fp8"));
    lade_found_free(&list);
}

/* Loops of links and names with control bytes do no harm. */
static void test_hostile_tree(void **state)
{
    (void)state;
    put_link("own/models/a/loop", "..");
    put_gguf("own/models/a/b\033[2J-Q4_0.gguf", "llama", 2);
    struct lade_found_list list = find();
    assert_true(list.n >= 1 && list.n <= 4);
    for (size_t i = 0; i < list.n; i++)
        assert_null(strchr(list.items[i].name, '\033'));
    lade_found_free(&list);
}

/* ---- which one a name means ------------------------------------------------------------------ */

static void test_resolve(void **state)
{
    (void)state;
    char err[LADE_ERR];
    put_fixture("own/models/Qwen/Next-Instruct", "tiny-bf16");
    put_fixture("own/models/Qwen/Next-Instruct-int4", "tiny-int4");
    put_fixture("own/models/Qwen/Next-Thinking", "tiny-thinking");
    put_hub(".cache/huggingface/hub"); /* Qwen/Tiny-Next */
    put_fixture(".lmstudio/models/Qwen/Next-Thinking", "tiny-thinking");
    put_gguf(".lmstudio/models/hf.co/unsloth/Tiny-GGUF/Tiny-Q8_0.gguf", "qwen3next", 7);
    struct lade_found_list list = find();
    assert_int_equal(list.n, 6);
    static const struct {
        const char *name, *found, *says;
    } rows[] = {
        {"Qwen/Next-Instruct", "Qwen/Next-Instruct", NULL}, /* exact before prefix */
        {"qwen/next-instruct", "Qwen/Next-Instruct", NULL},
        {"next-instruct-", "Qwen/Next-Instruct-int4", NULL},
        {"qwen/next-t", "Qwen/Next-Thinking", NULL},
        {"tiny-n", "Qwen/Tiny-Next", NULL},
        {"unsloth/tiny", "hf.co/unsloth/Tiny-GGUF:Q8_0", NULL}, /* after any slash */
        {"next-i", NULL, "Qwen/Next-Instruct, Qwen/Next-Instruct-int4"},
        {"qwen/", NULL, "several models"},
        {"tiny-", NULL, "Qwen/Tiny-Next, hf.co/unsloth/Tiny-GGUF:Q8_0"},
        {"nothing", NULL, "no model of this name"},
        {"\033[2J", NULL, "no model of this name"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct lade_found *f = lade_found_resolve(&list, rows[i].name, err);
        if (rows[i].found) {
            assert_non_null(f);
            assert_string_equal(f->name, rows[i].found);
            assert_true(f->complete && f->runs);
        } else {
            assert_null(f);
            assert_non_null(strstr(err, rows[i].says));
            assert_null(strchr(err, '\033'));
        }
    }
    /* Two places have it: ours comes first. */
    assert_string_equal(lade_found_resolve(&list, "next-thinking", err)->place, "lade");
    lade_found_free(&list);
    assert_int_equal(unlink(at("own/models/Qwen/Next-Thinking/model.safetensors")), 0);
    list = find();
    assert_string_equal(lade_found_resolve(&list, "next-thinking", err)->place, "lmstudio");
    lade_found_free(&list);
}

int main(void)
{
#define IN_TREE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_stems),
        IN_TREE(test_nothing),
        IN_TREE(test_hub_at_home),
        IN_TREE(test_hub_by_variables),
        IN_TREE(test_hub_incomplete),
        IN_TREE(test_truncated),
        IN_TREE(test_no_tokenizer),
        IN_TREE(test_other_architectures),
        IN_TREE(test_gguf_places),
        IN_TREE(test_ollama),
        IN_TREE(test_own),
        IN_TREE(test_hostile_tree),
        IN_TREE(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
