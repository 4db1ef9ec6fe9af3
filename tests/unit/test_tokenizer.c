/* Broken tokenizer.json files, each refused with one line that names the key; hard inputs; the
 * streaming detokenizer. Ids are checked in tests/golden/test_golden_tokenizer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/error.h"

#define DIR "tests/fixtures/tiny-bf16"

static struct lade_tokenizer *tok;
static char err[LADE_ERR];

static int open_tokenizer(void **state)
{
    (void)state;
    return lade_tokenizer_open(&tok, DIR, err);
}

static int close_tokenizer(void **state)
{
    (void)state;
    lade_tokenizer_close(tok);
    return 0;
}

/* ---- broken files ---- */

/* The fixture's file with the value at `path` ("model.vocab.a", "added_tokens.0") replaced by JSON
 * text, or removed where it is NULL; parsed, must fail and mention `want`. */
static void refuses(const char *path, const char *value, const char *want)
{
    json_t *root = json_load_file(DIR "/tokenizer.json", 0, NULL), *at = root;
    assert_non_null(root);
    char keys[256], *key = keys, *dot;
    snprintf(keys, sizeof keys, "%s", path);
    while ((dot = strchr(key, '.'))) {
        *dot = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
        assert_non_null(at);
        key = dot + 1;
    }
    json_t *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!value || v);
    if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(key), v);
    else if (v)
        json_object_set_new(at, key, v);
    else
        json_object_del(at, key);
    char *text = json_dumps(root, 0);
    struct lade_tokenizer *t;
    err[0] = '\0';
    if (!lade_tokenizer_parse(&t, text, strlen(text), "x/tokenizer.json", err))
        fail_msg("%s = %s is accepted", path, value ? value : "(removed)");
    assert_null(t);
    if (!strstr(err, "x/tokenizer.json") || !strstr(err, want) || strchr(err, '\n'))
        fail_msg("%s = %s: '%s' does not name the file and '%s'", path, value, err, want);
    free(text);
    json_decref(root);
}

static void test_broken_files(void **state)
{
    (void)state;
    refuses("model", NULL, "model.type");
    refuses("model.type", "\"Unigram\"", "Unigram");
    refuses("model.vocab", NULL, "model.vocab");
    refuses("model.vocab", "[]", "model.vocab");
    refuses("model.vocab", "{}", "model.vocab");
    refuses("model.vocab.a", "\"x\"", "'a'");
    refuses("model.vocab.a", "-1", "'a'");
    refuses("model.vocab.a", "99999999", "'a'");
    refuses("model.vocab.a", "1", "id 1");
    refuses("model.vocab.a", NULL, "byte 97");
    refuses("model.vocab.\xe2\x82\xac", "2000", "character");
    refuses("model.merges", NULL, "model.merges");
    refuses("model.merges.0", "\"nospace\"", "model.merges[0]");
    refuses("model.merges.0", "[\"a\"]", "model.merges[0]");
    refuses("model.merges.0", "[\"a\", 1]", "model.merges[0]");
    refuses("model.merges.0", "\"zzzz qqqq\"", "zzzz");
    refuses("model.dropout", "0.1", "dropout");
    refuses("model.ignore_merges", "true", "ignore_merges");
    refuses("added_tokens", "{}", "added_tokens");
    refuses("added_tokens.0.id", "\"x\"", "added_tokens[0].id");
    refuses("added_tokens.0.id", "5000000", "added_tokens[0].id");
    refuses("added_tokens.0.id", "0", "id 0");
    refuses("added_tokens.0.content", "\"\"", "added_tokens[0].content");
    refuses("added_tokens.0.lstrip", "true", "lstrip");
    refuses("normalizer", "{\"type\": \"Lowercase\"}", "Lowercase");
    refuses("pre_tokenizer", "null", "pre_tokenizer");
    refuses("pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(\"", "Regex");
    refuses("pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", "pre_tokenizer");
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "{", "[1]", "\xff\xfe", "{\"model\": {\"vocab\": {\"a\\u0000\": 1}}}"};
    struct lade_tokenizer *t;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(lade_tokenizer_parse(&t, texts[i], strlen(texts[i]), "f.json", err), -1);
        assert_non_null(strstr(err, "f.json"));
    }
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    assert_int_equal(lade_tokenizer_parse(&t, deep, 200000, "f.json", err), -1);
    free(deep);
    assert_int_equal(lade_tokenizer_open(&t, "tests/fixtures/none", err), -1);
    assert_non_null(strstr(err, "tests/fixtures/none/tokenizer.json"));
}

/* ---- encoding ---- */

static size_t count(const char *text, size_t len, enum lade_added which)
{
    int32_t *ids;
    size_t n;
    if (lade_tokenizer_encode(tok, text, len, which, &ids, &n, err))
        fail_msg("%s", err);
    for (size_t i = 0; i < n; i++)
        assert_in_range(ids[i], 0, lade_tokenizer_size(tok) - 1);
    free(ids);
    return n;
}

static void test_added_tokens_by_choice(void **state)
{
    (void)state;
    static const char text[] = "<|im_end|><think>";
    assert_int_equal(count(text, sizeof text - 1, LADE_ADDED_ALL), 2);
    size_t tags = count(text, sizeof text - 1, LADE_ADDED_TAGS);
    size_t none = count(text, sizeof text - 1, LADE_ADDED_NONE);
    assert_true(tags > 2 && none > tags);
    int32_t *ids;
    size_t n;
    int32_t end = lade_tokenizer_added(tok, "<|im_end|>");
    assert_true(end >= 0 && lade_tokenizer_is_special(tok, end));
    assert_false(lade_tokenizer_is_special(tok, lade_tokenizer_added(tok, "<think>")));
    assert_int_equal(lade_tokenizer_added(tok, "<|no_such|>"), -1);
    assert_int_equal(lade_tokenizer_encode(tok, text, sizeof text - 1, LADE_ADDED_TAGS, &ids, &n,
                                           err), 0);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(ids[i], end);
    free(ids);
}

/* Words of a million bytes: the heap keeps them near linear, the regex must not run out of stack. */
static void test_long_words(void **state)
{
    (void)state;
    enum { LONG = 1000000 };
    char *text = malloc(LONG);
    static const char fillers[] = {'a', ' ', '\n', '7', '!', '\t', (char)0xff, '\0'};
    for (size_t f = 0; f < sizeof fillers; f++) {
        memset(text, fillers[f], LONG);
        assert_true(count(text, LONG, LADE_ADDED_ALL) > 0);
    }
    memset(text, ' ', LONG - 1);
    text[LONG - 1] = 'x';
    assert_true(count(text, LONG, LADE_ADDED_ALL) > 0);
    free(text);
}

static void test_empty(void **state)
{
    (void)state;
    assert_int_equal(count("", 0, LADE_ADDED_ALL), 0);
}

/* ---- decoding ---- */

/* The bytes of `text` one token each through the detokenizer. */
static void streams_as(const char *text, size_t len, const char *want)
{
    struct lade_detok d = {0};
    char piece[LADE_DETOK_MAX], out[256] = "";
    for (size_t i = 0; i < len; i++) {
        int32_t id = -1;
        for (int32_t t = 0; t < lade_tokenizer_size(tok) && id < 0; t++) {
            size_t n;
            const char *bytes = lade_tokenizer_piece(tok, t, &n);
            if (n == 1 && *bytes == text[i])
                id = t;
        }
        assert_true(lade_detok_push(&d, tok, id, piece, sizeof piece) >= 0);
        /* Only whole characters come out. */
        size_t repaired;
        char *same = lade_utf8_repair(piece, strlen(piece), &repaired);
        assert_int_equal(repaired, strlen(piece));
        free(same);
        strcat(out, piece);
    }
    assert_true(lade_detok_flush(&d, piece, sizeof piece) >= 0);
    strcat(out, piece);
    assert_string_equal(out, want);
}

#define STREAMS(text, want) streams_as(text, sizeof(text) - 1, want)
#define BAD "\xef\xbf\xbd"

static void test_streaming(void **state)
{
    (void)state;
    STREAMS("abc", "abc");
    STREAMS("\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!");
    STREAMS("\xe4\xbd\xa0\xe5\xa5\xbd", "\xe4\xbd\xa0\xe5\xa5\xbd");
    STREAMS("\xe4\xbd", BAD);            /* cut off: one mark for the maximal part */
    STREAMS("\xe4\xbdx", BAD "x");
    STREAMS("\xff\xfe", BAD BAD);
    STREAMS("\xc0\xaf", BAD BAD);        /* overlong */
    STREAMS("\xed\xa0\x80", BAD BAD BAD); /* a surrogate */
    STREAMS("\xf4\x90\x80\x80", BAD BAD BAD BAD); /* beyond U+10FFFF */
    STREAMS("\xf0\x9f\x98\xe4\xbd\xa0", BAD "\xe4\xbd\xa0");
}

static void test_pieces_out_of_range(void **state)
{
    (void)state;
    size_t n = 1;
    lade_tokenizer_piece(tok, -1, &n);
    assert_int_equal(n, 0);
    lade_tokenizer_piece(tok, INT32_MAX, &n);
    assert_int_equal(n, 0);
    struct lade_detok d = {0};
    char out[2];
    assert_int_equal(lade_detok_push(&d, tok, INT32_MAX, out, sizeof out), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_files),   cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_added_tokens_by_choice),
        cmocka_unit_test(test_long_words),     cmocka_unit_test(test_empty),
        cmocka_unit_test(test_streaming),      cmocka_unit_test(test_pieces_out_of_range),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
