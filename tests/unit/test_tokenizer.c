/* Broken tokenizer.json files, each refused with one line that names the key; unusual ones that are
 * fine; hard inputs. Ids of many texts are checked in tests/golden/test_golden_tokenizer.c. */
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

/* ---- changed files ---- */

/* The fixture's file with the value at `path` ("model.vocab.a", "added_tokens.0") replaced by JSON
 * text, or removed where it is NULL. An index past the end appends. */
static json_t *change(json_t *root, const char *path, const char *value)
{
    char keys[256], *key = keys, *dot;
    json_t *at = root, *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_non_null(root);
    assert_true(!value || v);
    snprintf(keys, sizeof keys, "%s", path);
    while ((dot = strchr(key, '.'))) {
        *dot = '\0';
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
        assert_non_null(at);
        key = dot + 1;
    }
    if (json_is_array(at) && (size_t)atoi(key) >= json_array_size(at))
        json_array_append_new(at, v);
    else if (json_is_array(at))
        json_array_set_new(at, (size_t)atoi(key), v);
    else if (v)
        json_object_set_new(at, key, v);
    else
        json_object_del(at, key);
    return root;
}

static json_t *fixture(void)
{
    return json_load_file(DIR "/tokenizer.json", 0, NULL);
}

static void refuses_text(const char *text, size_t len, const char *want)
{
    struct lade_tokenizer *t;
    err[0] = '\0';
    if (!lade_tokenizer_parse(&t, text, len, "x/tokenizer.json", err))
        fail_msg("'%s' is accepted", want);
    assert_null(t);
    const char *way_out = strrchr(err, ';');
    if (!strstr(err, "x/tokenizer.json: ") || !strstr(err, want) || strchr(err, '\n') || !way_out)
        fail_msg("'%s' does not name the file, '%s' and a way out in one line", err, want);
}

static void refuses(const char *path, const char *value, const char *want)
{
    json_t *root = change(fixture(), path, value);
    char *text = json_dumps(root, 0);
    refuses_text(text, strlen(text), want);
    free(text);
    json_decref(root);
}

/* Takes the reference to root. */
static struct lade_tokenizer *accepts(json_t *root, size_t flags)
{
    struct lade_tokenizer *t;
    char *text = json_dumps(root, flags);
    if (lade_tokenizer_parse(&t, text, strlen(text), "x/tokenizer.json", err))
        fail_msg("%s", err);
    free(text);
    json_decref(root);
    return t;
}

static void test_broken_models(void **state)
{
    (void)state;
    refuses("model", NULL, "model.type");
    refuses("model", "[]", "model.type");
    refuses("model.type", "\"Unigram\"", "Unigram");
    refuses("model.type", "7", "model.type");
    refuses("model.dropout", "0.1", "dropout");
    refuses("model.ignore_merges", "true", "ignore_merges");
    refuses("model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix");
    refuses("model.vocab", NULL, "model.vocab");
    refuses("model.vocab", "[]", "model.vocab");
    refuses("model.vocab", "{}", "model.vocab");
    refuses("model.vocab.a", "\"x\"", "'a'");
    refuses("model.vocab.a", "-1", "'a'");
    refuses("model.vocab.a", "1.5", "'a'");
    refuses("model.vocab.a", "null", "'a'");
    refuses("model.vocab.a", "99999999", "'a'");
    refuses("model.vocab.a", "4611686018427387904", "'a'");
    refuses("model.vocab.a", "1", "id 1");
    refuses("model.vocab.a", NULL, "byte 97");
    refuses("model.vocab.\xe2\x82\xac", "2000", "character");
    refuses("model.vocab.\xc5\x84", "2000", "character"); /* U+0144, one past the last */
    refuses("model.merges", NULL, "model.merges");
    refuses("model.merges", "{}", "model.merges");
    refuses("model.merges.0", "\"nospace\"", "model.merges[0]");
    refuses("model.merges.0", "\"a b c\"", "model.merges[0]");
    refuses("model.merges.0", "[\"a\"]", "model.merges[0]");
    refuses("model.merges.0", "[\"a\", 1]", "model.merges[0]");
    refuses("model.merges.0", "[\"a\", \"b\", \"c\"]", "model.merges[0]");
    refuses("model.merges.0", "\"zzzz qqqq\"", "zzzz");
    refuses("model.merges.0", "\" a\"", "model.merges[0]");
    refuses("model.merges.0", "\"\\u0001 \\u0002\"", "model.merges[0]");
    refuses("model.merges.0", "\"z q\"", "'z' + 'q'");
}

static void test_broken_parts(void **state)
{
    (void)state;
    static const char regex[] = "pre_tokenizer.pretokenizers.0.pattern.Regex";
    refuses("added_tokens", "{}", "added_tokens");
    refuses("added_tokens.0", "7", "added_tokens[0].content");
    refuses("added_tokens.0.id", "\"x\"", "added_tokens[0].id");
    refuses("added_tokens.0.id", "-1", "added_tokens[0].id");
    refuses("added_tokens.0.id", "5000000", "added_tokens[0].id");
    refuses("added_tokens.0.id", "0", "id 0");
    refuses("added_tokens.0.content", "\"\"", "added_tokens[0].content");
    refuses("added_tokens.0.content", "\"<think>\"", "<think>");
    refuses("added_tokens.0.lstrip", "true", "lstrip");
    refuses("added_tokens.0.special", "\"yes\"", "special");
    refuses("normalizer", "{\"type\": \"Lowercase\"}", "Lowercase");
    refuses("normalizer", "\"NFC\"", "normalizer");
    refuses("decoder", "{\"type\": \"Metaspace\"}", "Metaspace");
    refuses("pre_tokenizer", "null", "pre_tokenizer");
    refuses("pre_tokenizer", "{\"type\": \"Whitespace\"}", "Whitespace");
    refuses("pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", "pre_tokenizer");
    refuses("pre_tokenizer.pretokenizers.0.pattern", "{\"String\": \" \"}", "pre_tokenizer");
    refuses("pre_tokenizer.pretokenizers.1.use_regex", "true", "use_regex");
    refuses("pre_tokenizer.pretokenizers.1.add_prefix_space", NULL, "add_prefix_space");
    refuses(regex, "\"(\"", "Regex");
    refuses(regex, "\"\"", "Regex");
    /* What PCRE2 would read differently, or must never run on UTF-8. */
    refuses(regex, "\"[\\\\S]\"", "\\S");
    refuses(regex, "\"\\\\h\"", "\\h");
    refuses(regex, "\"\\\\C\"", "\\C");
    refuses(regex, "\"a\\\\Kb\"", "\\K");
    refuses(regex, "\"[a[bc]]\"", "class");
    refuses(regex, "\"[a&&b]\"", "&&");
    refuses(regex, "\"(*ACCEPT)a\"", "(*");
}

static void test_not_json(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[1]",
        "\xff\xfe",
        "\xef\xbb\xbf{}",
        "{} x",
        "{\"model\": 1, \"model\": 2}",
        "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\\u0000\": 1}}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refuses_text(texts[i], strlen(texts[i]), "tokenizer.json");
    refuses_text("{\"model\": \0}", 12, "JSON");
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    refuses_text(deep, 200000, "JSON");
    memcpy(deep, "{\"padding\":", 11);
    refuses_text(deep, 200000, "JSON");
    memcpy(deep, "{\"decoder\":", 11);
    refuses_text(deep, 200000, "JSON");
    free(deep);
}

/* Every proper prefix of a file is refused, wherever it ends. */
static void test_truncated(void **state)
{
    (void)state;
    json_t *root = fixture();
    char *text = json_dumps(root, JSON_COMPACT);
    size_t len = strlen(text);
    for (size_t n = 0; n < len; n += n < len - 400 ? 61 : 1)
        refuses_text(text, n, "tokenizer.json");
    free(text);
    json_decref(root);
}

static void test_no_file(void **state)
{
    (void)state;
    struct lade_tokenizer *t;
    assert_int_equal(lade_tokenizer_open(&t, "tests/fixtures/none", err), -1);
    assert_null(t);
    assert_non_null(strstr(err, "tests/fixtures/none/tokenizer.json"));
    assert_int_equal(lade_tokenizer_open(&t, "/dev", err), -1);
}

/* ---- unusual files that are fine ---- */

static void assert_same_ids(const struct lade_tokenizer *a, const struct lade_tokenizer *b,
                            const char *text)
{
    int32_t *x, *y;
    size_t n, m;
    assert_int_equal(lade_tokenizer_encode(a, text, strlen(text), LADE_ADDED_ALL, &x, &n, err), 0);
    assert_int_equal(lade_tokenizer_encode(b, text, strlen(text), LADE_ADDED_ALL, &y, &m, err), 0);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n * sizeof *x);
    free(x);
    free(y);
}

/* The only id of a text. */
static int32_t id_of(const struct lade_tokenizer *t, const char *text)
{
    int32_t *ids;
    size_t n;
    assert_int_equal(lade_tokenizer_encode(t, text, strlen(text), LADE_ADDED_ALL, &ids, &n, err),
                     0);
    int32_t id = n == 1 ? ids[0] : -1;
    free(ids);
    return id;
}

static const char sample[] =
    "The quick brown fox\n\n  can't jump 123 <think>\xe4\xbd\xa0\xe5\xa5\xbd";

/* "merges" sorts before "vocab", and "added_tokens" before both. */
static void test_any_order_of_keys(void **state)
{
    (void)state;
    struct lade_tokenizer *t = accepts(fixture(), JSON_SORT_KEYS | JSON_INDENT(3));
    assert_same_ids(tok, t, sample);
    lade_tokenizer_close(t);
    t = accepts(fixture(), JSON_SORT_KEYS | JSON_ENSURE_ASCII);
    assert_same_ids(tok, t, sample);
    lade_tokenizer_close(t);
}

static void test_merges_as_pairs_or_strings(void **state)
{
    (void)state;
    json_t *root = fixture(), *merges = json_object_get(json_object_get(root, "model"), "merges");
    size_t i, changed = 0;
    json_t *entry;
    json_array_foreach(merges, i, entry)
    {
        json_t *other;
        if (json_is_string(entry)) {
            const char *s = json_string_value(entry), *space = strchr(s, ' ');
            other = json_pack("[s%, s]", s, (size_t)(space - s), space + 1);
        } else {
            other = json_sprintf("%s %s", json_string_value(json_array_get(entry, 0)),
                                 json_string_value(json_array_get(entry, 1)));
        }
        json_array_set_new(merges, i, other);
        changed++;
    }
    assert_true(changed > 700);
    struct lade_tokenizer *t = accepts(root, 0);
    assert_same_ids(tok, t, sample);
    lade_tokenizer_close(t);
}

/* A pair that is listed twice has its last rank, as in the tokenizers library. */
static void test_repeated_merge(void **state)
{
    (void)state;
    struct lade_tokenizer *t;
    static const char *const more[] = {"\"q z\"", "\"z q\"", "\"q z\""};
    for (size_t n = 2; n <= 3; n++) {
        json_t *root = fixture();
        change(root, "model.vocab.qz", "3000");
        change(root, "model.vocab.zq", "3001");
        for (size_t i = 0; i < n; i++)
            change(root, "model.merges.100000", more[i]);
        t = accepts(root, 0);
        int32_t *ids;
        size_t count;
        assert_int_equal(lade_tokenizer_encode(t, "zqz", 3, LADE_ADDED_NONE, &ids, &count, err), 0);
        assert_int_equal(count, 2);
        assert_int_equal(ids[n == 2], n == 2 ? 3000 : 3001);
        free(ids);
        assert_int_equal(lade_tokenizer_size(t), 3002);
        lade_tokenizer_close(t);
    }
}

/* Longest first, leftmost first; found after NFC where they say so; spaces and other characters
 * that are not byte-level; listed in the vocabulary too. */
static void test_unusual_added_tokens(void **state)
{
    (void)state;
    json_t *root = fixture();
    change(root, "added_tokens.99", "{\"id\": 1100, \"content\": \"<thinking>\"}");
    change(root, "added_tokens.99", "{\"id\": 1101, \"content\": \"<t\", \"special\": true}");
    change(root, "added_tokens.99",
           "{\"id\": 1102, \"content\": \"\\u00e9\\u00e9\", \"normalized\": true}");
    change(root, "added_tokens.99", "{\"id\": 1103, \"content\": \"a b\xe2\x82\xac\"}");
    change(root, "model.vocab.a b\xe2\x82\xac", "1103");
    struct lade_tokenizer *t = accepts(root, 0);
    assert_int_equal(id_of(t, "<thinking>"), 1100);
    assert_int_equal(id_of(t, "<think>"), lade_tokenizer_added(tok, "<think>"));
    assert_int_equal(id_of(t, "<t"), 1101);
    assert_int_equal(id_of(t, "\xc3\xa9\xc3\xa9"), 1102);
    assert_int_equal(id_of(t, "e\xcc\x81"
                              "e\xcc\x81"),
                     1102);
    assert_int_equal(id_of(t, "a b\xe2\x82\xac"), 1103);
    assert_int_equal(lade_tokenizer_added(t, "a b\xe2\x82\xac"), 1103);
    assert_int_equal(lade_tokenizer_size(t), 1104);
    size_t n;
    assert_string_equal(lade_tokenizer_piece(t, 1050, &n), ""); /* an id nobody has */
    assert_int_equal(n, 0);
    lade_tokenizer_close(t);
}

/* The bytes of the ids of a text. */
static void assert_normalized(const char *text, const char *want)
{
    int32_t *ids;
    size_t n, at = 0;
    assert_int_equal(lade_tokenizer_encode(tok, text, strlen(text), LADE_ADDED_ALL, &ids, &n, err),
                     0);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *piece = lade_tokenizer_piece(tok, ids[i], &len);
        assert_true(at + len <= strlen(want));
        assert_memory_equal(want + at, piece, len);
        at += len;
    }
    assert_int_equal(at, strlen(want));
    free(ids);
}

/* NFC is that of Unicode 9: what came later neither moves nor composes, nor lets others do so over
 * it, whatever version utf8proc has. */
static void test_normalization(void **state)
{
    (void)state;
    assert_normalized("e\xcc\x81", "\xc3\xa9");
    assert_normalized("e\xcc\xa7\xcc\x81", "\xc8\xa9\xcc\x81");
    assert_normalized("e\xcc\x81\xcc\xa7", "\xc8\xa9\xcc\x81"); /* sorted first */
    assert_normalized("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c");
    assert_normalized("\xe2\x84\xab", "\xc3\x85");                       /* the Angstrom sign */
    assert_normalized("e\xe1\xb7\xb6\xcc\x81", "e\xe1\xb7\xb6\xcc\x81"); /* U+1DF6, of 10 */
    assert_normalized("e\xcc\x81\xe1\xb7\xb6", "\xc3\xa9\xe1\xb7\xb6");
    assert_normalized("\xf0\x91\xa4\xb5\xf0\x91\xa4\xb0", /* U+11935 11930, 13 */
                      "\xf0\x91\xa4\xb5\xf0\x91\xa4\xb0");
    assert_normalized("\xe1\xb7\xb6", "\xe1\xb7\xb6");
    assert_normalized("\xe1\xb7\xb6\xe1\xb7\xb7"
                      "e\xcc\x81\xe1\xb7\xb6", /* at both ends */
                      "\xe1\xb7\xb6\xe1\xb7\xb7\xc3\xa9\xe1\xb7\xb6");
}

/* Letters and digits are those of Unicode 16: "X'll" is cut before the apostrophe where X is a
 * letter, and behind it where it is no letter. */
static void test_newer_letters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool letter;
    } list[] = {
        {"a'll", true},
        {"\xe4\xbd\xa0'll", true},
        {"\xf0\x94\x82\x9b'll", true},  /* U+1409B, of 16 */
        {"\xf0\xae\xaf\xb0'll", true},  /* U+2EBF0, of 15.1 */
        {"\xf0\xb1\x8d\x90'll", true},  /* U+31350, of 15 */
        {"\xf0\x91\xaf\xb0'll", true},  /* U+11BF0, a digit of 16 */
        {"\xf0\x9f\x98\x80'll", false}, /* an emoji */
        {"\xcc\x81'll", false},         /* a mark */
    };
    json_t *root = fixture();
    json_t *model = json_object_get(root, "model");
    json_object_set_new(model, "merges", json_pack("[[ss]]", "'", "l"));
    json_object_set_new(json_object_get(model, "vocab"), "'l", json_integer(3000));
    struct lade_tokenizer *t = accepts(root, 0);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int32_t *ids;
        size_t n;
        assert_int_equal(lade_tokenizer_encode(t, list[i].text, strlen(list[i].text),
                                               LADE_ADDED_ALL, &ids, &n, err),
                         0);
        assert_true(n >= 2);
        if ((ids[n - 2] == 3000) != list[i].letter)
            fail_msg("%s is cut at another place", list[i].text);
        free(ids);
    }
    lade_tokenizer_close(t);
}

/* A regex that could run for years is stopped with an error. */
static void test_slow_regex(void **state)
{
    (void)state;
    struct lade_tokenizer *t = accepts(
        change(fixture(), "pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(x+x+)+[yz]\""), 0);
    char text[61];
    memset(text, 'x', sizeof text);
    int32_t *ids;
    size_t n;
    assert_int_equal(lade_tokenizer_encode(t, text, sizeof text, LADE_ADDED_ALL, &ids, &n, err),
                     -1);
    assert_non_null(strstr(err, "byte 0"));
    assert_null(ids);
    lade_tokenizer_close(t);
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
    assert_int_equal(
        lade_tokenizer_encode(tok, text, sizeof text - 1, LADE_ADDED_TAGS, &ids, &n, err), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_broken_models),
        cmocka_unit_test(test_broken_parts),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_any_order_of_keys),
        cmocka_unit_test(test_merges_as_pairs_or_strings),
        cmocka_unit_test(test_repeated_merge),
        cmocka_unit_test(test_unusual_added_tokens),
        cmocka_unit_test(test_normalization),
        cmocka_unit_test(test_newer_letters),
        cmocka_unit_test(test_slow_regex),
        cmocka_unit_test(test_added_tokens_by_choice),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
