/* The text files of a model out of GGUF metadata: the tokenizer must give the ids that the
 * fixture's own tokenizer.json gives, and the template must choose the same family. */
#include "engine/tokenizer/model_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/tokenizer/chat.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/support_gguf.h"

static const char directory[] = "tests/fixtures/tiny-bf16";
static const char gguf[] = "tests/fixtures/tiny-gguf/tiny-bf16.gguf";

static void gguf_tokenizes_as_the_directory(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "Hello, world!",
        "  two  spaces\n\n\tand\r\nlines ",
        "it's 1234567 o'clock; don't",
        "\xe4\xb8\xad\xe6\x96\x87 \xd0\xbf\xd1\x80\xd0\xb8 \xf0\x9f\x98\x80 e\xcc\x81",
        "<|im_start|>user\nhi<|im_end|>\n<think></think><tool_call>",
        "\x80 broken \xff bytes \xf0\x9f",
        "int main(void) { return a[0] && !b; } // x += 1",
    };
    struct lade_tokenizer *a, *b;
    char err[LADE_ERR] = "";
    assert_int_equal(lade_tokenizer_open(&a, directory, err), 0);
    if (lade_tokenizer_open(&b, gguf, err))
        fail_msg("%s", err);
    assert_int_equal(lade_tokenizer_size(a), lade_tokenizer_size(b));
    for (int32_t id = 0; id < lade_tokenizer_size(a); id++) {
        size_t n, m;
        const char *x = lade_tokenizer_piece(a, id, &n), *y = lade_tokenizer_piece(b, id, &m);
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        /* The converter takes every added token that looks like <|this|> for a special one. */
        bool special = lade_tokenizer_is_special(b, id);
        assert_true(special || !lade_tokenizer_is_special(a, id));
        if (special && !lade_tokenizer_is_special(a, id))
            assert_true(n > 4 && !memcmp(x, "<|", 2));
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (int special = 0; special < 2; special++) {
            int32_t *x, *y;
            size_t n, m, len = strlen(texts[i]);
            assert_int_equal(lade_tokenizer_encode(a, texts[i], len, special, &x, &n, err), 0);
            assert_int_equal(lade_tokenizer_encode(b, texts[i], len, special, &y, &m, err), 0);
            assert_int_equal(n, m);
            if (n)
                assert_memory_equal(x, y, n * sizeof *x);
            free(x);
            free(y);
        }
    lade_tokenizer_close(a);
    lade_tokenizer_close(b);
}

static void the_template_is_the_directorys(void **state)
{
    (void)state;
    enum lade_chat_family a, b;
    char err[LADE_ERR] = "", *text;
    size_t len;
    assert_int_equal(lade_chat_detect(&a, NULL, directory, err), 0);
    assert_int_equal(lade_chat_detect(&b, NULL, gguf, err), 0);
    assert_int_equal(a, b);
    const char *const opened[] = {directory, gguf};
    for (size_t i = 0; i < sizeof opened / sizeof *opened; i++) {
        struct lade_catalog *cat;
        bool found;
        assert_int_equal(lade_catalog_open(&cat, opened[i], err), 0);
        assert_int_equal(lade_chat_family(&b, &found, cat, err), 0);
        assert_true(found);
        assert_int_equal(a, b);
        lade_catalog_close(cat);
    }
    assert_int_equal(lade_model_file(gguf, "chat_template.jinja", 1 << 20, &text, &len, err), 0);
    assert_int_equal(strlen(text), len);
    assert_non_null(strstr(text, "<|im_start|>"));
    free(text);
}

static void absent_files_are_absent(void **state)
{
    (void)state;
    char err[LADE_ERR] = "", *text;
    size_t len;
    assert_int_equal(lade_model_file(gguf, "tokenizer_config.json", 1 << 20, &text, &len, err), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(lade_model_file(directory, "no.json", 1 << 20, &text, &len, err), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(lade_model_file("/no/such", "tokenizer.json", 1 << 20, &text, &len, err), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(lade_model_file("Makefile", "tokenizer.json", 1 << 20, &text, &len, err), -1);
    assert_int_not_equal(errno, ENOENT);
    assert_non_null(strstr(err, "Makefile: not a GGUF file"));
    assert_int_equal(lade_model_file(gguf, "tokenizer.json", 1000, &text, &len, err), -1);
    assert_non_null(strstr(err, "more than 1000 bytes"));
}

/* An array of texts, or of 32-bit integers where texts is NULL. */
static void put_array(struct support_gguf *g, const char *key, const char *const *texts,
                      const int32_t *numbers, uint64_t n)
{
    support_put_text(&g->entries, key);
    support_put_u32(&g->entries, 9);
    support_put_u32(&g->entries, texts ? 8 : 5);
    support_put_u64(&g->entries, n);
    for (uint64_t i = 0; i < n; i++) {
        if (texts)
            support_put_text(&g->entries, texts[i]);
        else
            support_put_u32(&g->entries, (uint32_t)numbers[i]);
    }
    g->n_entries++;
}

static void broken_metadata_names_the_key(void **state)
{
    (void)state;
    static const char *const tokens[] = {"a", "b\"\\\n"};
    static const int32_t types[] = {1, 3, 3};
    enum { NO_TOKENS, NO_MERGES, MODEL, PRE, TYPES, FEW_TYPES, N };
    static const char *const say[N] = {
        [NO_TOKENS] = "'tokenizer.ggml.tokens' is missing",
        [NO_MERGES] = "'tokenizer.ggml.merges' is missing",
        [MODEL] = "tokenizer.ggml.model is 'llama', expected 'gpt2'",
        [PRE] = "tokenizer.ggml.pre is 'default', expected 'qwen2'",
        [TYPES] = "'tokenizer.ggml.token_type' does not fit",
        [FEW_TYPES] = "'tokenizer.ggml.token_type' does not fit",
    };
    for (int i = 0; i <= N; i++) { /* the last one is whole */
        struct support_checkpoint c;
        struct support_gguf g = {0};
        struct support_bytes file;
        char err[LADE_ERR] = "", *text;
        size_t len;
        support_new(&c);
        support_gguf_text(&g, "tokenizer.ggml.model", i == MODEL ? "llama" : "gpt2");
        support_gguf_text(&g, "tokenizer.ggml.pre", i == PRE ? "default" : "qwen2");
        if (i != NO_TOKENS)
            put_array(&g, "tokenizer.ggml.tokens", tokens, NULL, 2);
        if (i != NO_MERGES)
            put_array(&g, "tokenizer.ggml.merges", tokens, NULL, 0);
        if (i == TYPES)
            support_gguf_u32(&g, "tokenizer.ggml.token_type", 1);
        else
            put_array(&g, "tokenizer.ggml.token_type", NULL, types, i == FEW_TYPES ? 1 : 2);
        support_gguf_finish(&g, &file);
        support_write(&c, "t.gguf", file.at, file.len);
        int rc = lade_model_file(support_path(&c, "t.gguf"), "tokenizer.json", 1 << 20, &text, &len,
                                 err);
        assert_int_equal(rc, i == N ? 0 : -1);
        if (i < N && (!strstr(err, "t.gguf: ") || !strstr(err, say[i])))
            fail_msg("expected \"%s\" in: %s", say[i], err);
        if (i == N)
            assert_non_null(strstr(text, "{\"id\":1,\"special\":true,\"content\":"
                                         "\"b\\u0022\\u005c\\u000a\",\"normalized\":false}"));
        free(text);
        free(file.at);
        support_gguf_clear(&g);
        support_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_tokenizes_as_the_directory),
        cmocka_unit_test(the_template_is_the_directorys),
        cmocka_unit_test(absent_files_are_absent),
        cmocka_unit_test(broken_metadata_names_the_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
