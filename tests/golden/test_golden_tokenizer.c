/* Token ids of a corpus in many scripts against the tokenizers library
 * (tests/reference/dump_tokens.py), for the small tokenizer of the fixtures and, where it is at
 * hand, the real one; and conversations against transformers' chat templates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/tokenizer/chat.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/error.h"

#define SMALL "tests/fixtures/tiny-bf16"

static char err[LADE_ERR];

static char *decode_base64(const char *s, size_t *len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc(strlen(s) + 1);
    unsigned bits = 0;
    int n_bits = 0;
    *len = 0;
    for (; *s && *s != '='; s++) {
        const char *d = strchr(digits, *s);
        assert_non_null(d);
        bits = bits << 6 | (unsigned)(d - digits);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[(*len)++] = (char)(bits >> n_bits);
        }
    }
    return out;
}

static void assert_ids(const char *name, const json_t *want, const int32_t *ids, size_t n)
{
    size_t shared = n < json_array_size(want) ? n : json_array_size(want);
    for (size_t i = 0; i < shared; i++)
        if (json_integer_value(json_array_get(want, i)) != ids[i])
            fail_msg("%s: id %zu is %d, the reference has %lld", name, i, ids[i],
                     (long long)json_integer_value(json_array_get(want, i)));
    if (n != json_array_size(want))
        fail_msg("%s: %zu ids, the reference has %zu", name, n, json_array_size(want));
}

/* Ids back to bytes through the streaming detokenizer. */
static void assert_decodes(const char *name, const struct lade_tokenizer *tok, const int32_t *ids,
                           size_t n, const char *want, size_t want_len)
{
    struct lade_detok d = {0};
    char piece[LADE_DETOK_MAX];
    size_t used = 0;
    for (size_t i = 0; i <= n; i++) {
        int got = i < n ? lade_detok_push(&d, tok, ids[i], piece, sizeof piece)
                        : lade_detok_flush(&d, piece, sizeof piece);
        assert_true(got >= 0);
        if (used + (size_t)got > want_len || memcmp(piece, want + used, (size_t)got))
            fail_msg("%s: the text does not come back after %zu bytes", name, used);
        used += (size_t)got;
    }
    assert_int_equal(used, want_len);
}

static void check_text(const struct lade_tokenizer *tok, const json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *ids_want = json_object_get(entry, "ids"),
                 *plain = json_object_get(entry, "plain");
    const char *decoded = json_string_value(json_object_get(entry, "decoded"));
    size_t len, n, back_len;
    int32_t *ids;
    char *text = decode_base64(json_string_value(json_object_get(entry, "text")), &len);
    if (lade_tokenizer_encode(tok, text, len, LADE_ADDED_NONE, &ids, &n, err))
        fail_msg("%s: %s", name, err);
    assert_ids(name, plain ? plain : ids_want, ids, n);
    free(ids);
    if (lade_tokenizer_encode(tok, text, len, LADE_ADDED_ALL, &ids, &n, err))
        fail_msg("%s: %s", name, err);
    assert_ids(name, ids_want, ids, n);
    char *back = decoded ? decode_base64(decoded, &back_len) : NULL;
    assert_decodes(name, tok, ids, n, back ? back : text, back ? back_len : len);
    free(back);
    free(ids);
    free(text);
}

static void check_corpus(const char *golden, const char *dir)
{
    struct lade_tokenizer *tok;
    if (lade_tokenizer_open(&tok, dir, err))
        fail_msg("%s", err);
    FILE *f = fopen(golden, "r");
    assert_non_null(f);
    char *line = NULL;
    size_t cap = 0, count = 0;
    while (getline(&line, &cap, f) > 0) {
        json_t *entry = json_loads(line, 0, NULL);
        assert_non_null(entry);
        if (!json_object_get(entry, "text")) { /* the head line */
            assert_int_equal(json_integer_value(json_object_get(entry, "size")),
                             lade_tokenizer_size(tok));
            json_decref(entry);
            continue;
        }
        check_text(tok, entry);
        count++;
        json_decref(entry);
    }
    print_message("  %zu texts\n", count);
    assert_true(count >= 500);
    free(line);
    fclose(f);
    lade_tokenizer_close(tok);
}

static void test_small_corpus(void **state)
{
    (void)state;
    check_corpus("tests/golden/tokenizer/small.jsonl", SMALL);
}

static void test_qwen_corpus(void **state)
{
    (void)state;
    static const char dir[] = "../shared/data/qwen3-tokenizer";
    FILE *f = fopen("../shared/data/qwen3-tokenizer/tokenizer.json", "r");
    if (!f) {
        print_message("skip: %s/tokenizer.json, the real Qwen tokenizer, is not at hand\n", dir);
        skip();
    }
    fclose(f);
    check_corpus("tests/golden/tokenizer/qwen3.jsonl", dir);
}

/* ---- conversations ---- */

static const char *const role_names[] = {"system", "user", "assistant", "tool"};

/* The calls of a message as struct lade_message has them, or NULL. */
static char *calls_of(const json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call, *list = json_array();
    size_t i;
    json_array_foreach(calls, i, call)
    {
        json_t *function = json_object_get(call, "function");
        function = function ? function : call;
        json_t *arguments = json_object_get(function, "arguments");
        json_array_append_new(
            list,
            json_pack("{s:O, s:o}", "name", json_object_get(function, "name"), "arguments",
                      json_is_string(arguments) ? json_loads(json_string_value(arguments), 0, NULL)
                                                : json_incref(arguments)));
    }
    char *text = calls ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return text;
}

/* Their tools' and calls' texts are the caller's to free. */
static void read_messages(const json_t *c, struct lade_message *out, size_t *n)
{
    const json_t *list = json_object_get(c, "messages"), *tools = json_object_get(c, "tools");
    *n = 0;
    if (json_is_array(tools))
        out[(*n)++] = (struct lade_message){.role = LADE_TOOLS, .content = json_dumps(tools, 0)};
    assert_true(json_array_size(list) < 64);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        const char *content = json_string_value(json_object_get(m, "content"));
        struct lade_message *to = &out[(*n)++];
        *to = (struct lade_message){.content = content ? content : "", .calls = calls_of(m)};
        for (int r = 0; r < 4; r++)
            if (!strcmp(role, role_names[r]))
                to->role = (enum lade_chat_role)r;
        to->reasoning = json_string_value(json_object_get(m, "reasoning_content"));
    }
}

static void free_messages(struct lade_message *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free((char *)m[i].calls);
        if (m[i].role == LADE_TOOLS)
            free((char *)m[i].content);
    }
}

/* Literal control tokens in a message are text to lade and control tokens to transformers. */
static bool has_control(const struct lade_message *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strstr(m[i].content, "<|im_") || strstr(m[i].content, "<think>") ||
            strstr(m[i].content, "</think>") || strstr(m[i].content, "<tool_"))
            return true;
    return false;
}

static void check_templates(const char *golden, enum lade_chat_family family)
{
    struct lade_tokenizer *tok;
    if (lade_tokenizer_open(&tok, SMALL, err))
        fail_msg("%s", err);
    json_t *root = json_load_file(golden, 0, NULL);
    assert_non_null(root);
    json_t *cases = json_object_get(root, "cases"), *c;
    size_t i, rendered = 0, encoded = 0;
    json_array_foreach(cases, i, c)
    {
        struct lade_message m[64];
        size_t n;
        const char *name = json_string_value(json_object_get(c, "name"));
        read_messages(c, m, &n);
        for (int generate = 0; generate < 2; generate++) {
            json_t *want = json_object_get(c, generate ? "rendered" : "closed");
            char *text = lade_chat_render(family, m, n, generate, err);
            assert_non_null(text);
            if (strcmp(text, json_string_value(want)))
                fail_msg("%s: '%s' is rendered as\n%s\n-- not\n%s", golden, name, text,
                         json_string_value(want));
            free(text);
            rendered++;
        }
        if (has_control(m, n)) {
            free_messages(m, n);
            continue;
        }
        int32_t *ids;
        size_t n_ids;
        struct lade_chat_repeats repeats;
        if (lade_chat_encode(tok, family, m, n, true, &ids, &n_ids, &repeats, err))
            fail_msg("%s", err);
        assert_ids(name, json_object_get(c, "ids"), ids, n_ids);
        assert_true(repeats.base <= repeats.stable && repeats.stable < n_ids);
        free(ids);
        free_messages(m, n);
        encoded++;
    }
    print_message("  %zu renderings, %zu encodings\n", rendered, encoded);
    assert_true(rendered >= 80 && encoded >= 30);
    json_decref(root);
    lade_tokenizer_close(tok);
}

static void test_instruct(void **state)
{
    (void)state;
    check_templates("tests/golden/templates/instruct.json", LADE_CHAT_INSTRUCT);
}

static void test_thinking(void **state)
{
    (void)state;
    check_templates("tests/golden/templates/thinking.json", LADE_CHAT_THINKING);
}

static void test_coder(void **state)
{
    (void)state;
    check_templates("tests/golden/templates/coder.json", LADE_CHAT_CODER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_corpus), cmocka_unit_test(test_qwen_corpus),
        cmocka_unit_test(test_instruct),     cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_coder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
