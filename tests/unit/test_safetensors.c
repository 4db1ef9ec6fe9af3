/* Headers of safetensors files, the index, and the scanner below them. */
#include "engine/checkpoint/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/checkpoint/scan.h"
#include "tests/support/support_checkpoint.h"

/* Parses a header text as if its file had `data` bytes after it. */
static int parse(struct lade_raws *out, const char *header, uint64_t data, char *err)
{
    size_t n = strlen(header);
    char *text = malloc(n + 1); /* exactly as long as needed, so that ASan sees an overrun */
    assert_non_null(text);
    memcpy(text, header, n + 1);
    *out = (struct lade_raws){0};
    assert_int_equal(lade_raws_own(out, text, err), 0);
    return lade_safetensors_parse(out, text, n, 8 + n + data, 5, "a.safetensors", err);
}

static void reads_a_header(void **state)
{
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b.weight\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},\n"
        "\"a\\u002ebias\":{\"data_offsets\":[0,8],\"shape\":[2],\"dtype\":\"F32\",\"extra\":[{}]},"
        "\"empty\":{\"dtype\":\"BF16\",\"shape\":[0,7],\"data_offsets\":[20,20]},"
        "\"scalar\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[20,21]},"
        "\"odd\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[21,23]}}   ";
    struct lade_raws r;
    char err[LADE_ERR] = "";
    assert_int_equal(parse(&r, header, 23, err), 0);
    assert_int_equal(r.n, 5);
    assert_int_equal(lade_raws_index(&r, NULL, err), 0);
    const struct lade_raw *b = lade_raws_find(&r, "b.weight", 8);
    const struct lade_raw *a = lade_raws_find(&r, "a.bias", 6);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(lade_raws_find(&r, "b.weigh", 7));
    assert_int_equal(b->dtype, LADE_DT_F16);
    assert_int_equal(b->rank, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->shard, 5);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(b->offset, 8 + strlen(header) + 8);
    assert_int_equal(a->dtype, LADE_DT_F32);
    assert_int_equal(a->offset, 8 + strlen(header));
    assert_int_equal(lade_raws_find(&r, "scalar", 6)->rank, 0);
    assert_int_equal(lade_raws_find(&r, "odd", 3)->dtype, LADE_DT_OTHER);
    lade_raws_free(&r);
}

#define T(name, dtype, shape, from, to)                                                            \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to   \
    "]}"

static void bad_headers_name_file_and_tensor(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t data;
        const char *say;
    } cases[] = {
        {"", 0, "not valid JSON"},
        {"[]", 0, "not valid JSON"},
        {"{} x", 0, "not valid JSON"},
        {"{\"x\"", 0, "not valid JSON"},
        {"{\"x\":", 0, "tensor 'x': its entry is not an object"},
        {"{\"x\":7}", 0, "tensor 'x': its entry is not an object"},
        {"{\"x\":{}}", 0, "not valid JSON"},
        {"{\"x\":{\"dtype\":\"F16\"}}", 0, "tensor 'x': it lacks dtype, shape or data_offsets"},
        {"{\"x\":{\"dtype\":7}}", 0, "tensor 'x': its dtype is not a string"},
        {"{\"x\":{\"shape\":[1.5]}}", 0, "tensor 'x': its shape is not a list of sizes"},
        {"{\"x\":{\"shape\":[-1]}}", 0, "tensor 'x': its shape is not a list of sizes"},
        {"{\"x\":{\"shape\":[99999999999999999999]}}", 0, "tensor 'x': its shape"},
        {"{\"x\":{\"data_offsets\":[0]}}", 0, "tensor 'x': its data_offsets"},
        {"{\"x\":{\"data_offsets\":[0,1,2]}}", 0, "tensor 'x': its data_offsets"},
        {"{\"__metadata__\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]", 0, "not valid JSON"},
        {"{\"a\\ud800b\":{}}", 0, "not valid JSON"},
        {"{" T("x", "F16", "[2]", 4, 0) "}", 4, "tensor 'x': it ends before it begins"},
        {"{" T("x", "F16", "[2]", 0, 6) "}", 6, "tensor 'x': F16 of shape [2] takes 4 bytes"},
        {"{" T("x", "F16", "[4294967296,4294967296]", 0, 6) "}", 6,
         "tensor 'x': its size does not fit 64 bits"},
        {"{" T("x", "F16", "[9223372036854775808]", 0, 6) "}", 6,
         "tensor 'x': its size does not fit 64 bits"},
        {"{" T("x", "F16", "[4]", 0, 8) "}", 6, "tensor 'x' ends at byte"},
        {"{" T("x", "F4", "[4]", 0, 18446744073709551615) "}", 6, "do not fit 64 bits"},
        {"{" T("x", "F16", "[2]", 0, 4) "}", 6, "the tensors end at byte"},
        {"{}", 6, "the tensors end at byte"},
        {"{" T("x", "F16", "[2]", 0, 4) "," T("y", "F16", "[2]", 2, 6) "}", 6,
         "tensor 'y' overlaps 'x'"},
        {"{" T("y", "F16", "[2]", 2, 6) "," T("x", "F16", "[2]", 0, 4) "}", 6,
         "tensor 'y' overlaps 'x'"},
        {"{" T("x", "F16", "[2]", 0, 4) "," T("y", "F16", "[1]", 6, 8) "}", 8,
         "tensor 'y' leaves a hole after 'x'"},
        {"{" T("x", "F16", "[2]", 2, 6) "}", 6, "tensor 'x' leaves a hole after 'the header'"},
        {"{" T("x\\u001b[2J\\n", "F16", "[2]", 2, 6) "}", 6, "tensor 'x?[2J?' leaves"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_raws r;
        char err[LADE_ERR] = "";
        int rc = parse(&r, cases[i].header, cases[i].data, err);
        lade_raws_free(&r);
        assert_int_equal(rc, -1);
        if (!strstr(err, "a.safetensors: ") || !strstr(err, cases[i].say))
            fail_msg("%s: expected \"%s\" in: %s", cases[i].header, cases[i].say, err);
    }
}

/* Every cut of a valid header must fail cleanly. */
static void no_prefix_is_accepted(void **state)
{
    (void)state;
    static const char header[] =
        "{" T("x", "F16", "[2]", 0, 4) "," T("\\u00e4\\n", "U8", "[]", 4, 5) "}";
    for (size_t n = 0; n < sizeof header - 1; n++) {
        char cut[sizeof header] = "", err[LADE_ERR] = "";
        struct lade_raws r;
        memcpy(cut, header, n);
        assert_int_equal(parse(&r, cut, 5, err), -1);
        lade_raws_free(&r);
    }
}

static int read_file(struct support_checkpoint *c, const void *data, size_t len, char *err)
{
    struct lade_raws r = {0};
    char *text = NULL;
    uint64_t bytes;
    support_write(c, "x.safetensors", data, len);
    int rc = lade_safetensors_read(&r, support_path(c, "x.safetensors"), 0, &text, &bytes, err);
    free(text);
    lade_raws_free(&r);
    return rc;
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    struct support_checkpoint c;
    char err[LADE_ERR] = "", *text;
    uint64_t bytes;
    struct lade_raws r = {0};
    support_new(&c);

    assert_int_equal(read_file(&c, "abc", 3, err), -1);
    assert_non_null(strstr(err, "x.safetensors: 3 bytes are too few"));
    assert_int_equal(read_file(&c, "\x09\0\0\0\0\0\0\0{}      ", 16, err), -1);
    assert_non_null(
        strstr(err, "x.safetensors: its header claims 9 bytes but only 8 are possible in "));
    assert_int_equal(read_file(&c, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, err), -1);
    assert_non_null(strstr(err, "x.safetensors: its header claims 18446744073709551615 bytes"));
    assert_int_equal(read_file(&c, "\x08\0\0\0\0\0\0\0{}      ", 16, err), 0);

    /* A sparse file as large as the header it claims. */
    const uint64_t huge = LADE_SAFETENSORS_MAX_HEADER + 1;
    support_write(&c, "x.safetensors", &huge, 8);
    assert_int_equal(truncate(support_path(&c, "x.safetensors"), (off_t)huge + 8), 0);
    assert_int_equal(
        lade_safetensors_read(&r, support_path(&c, "x.safetensors"), 0, &text, &bytes, err), -1);
    assert_non_null(strstr(err, "claims 100000001 bytes but only 100000000 are possible"));

    assert_int_equal(lade_safetensors_read(&r, support_path(&c, "no"), 0, &text, &bytes, err), -1);
    assert_non_null(strstr(err, "/no: No such file"));
    assert_int_equal(lade_safetensors_read(&r, c.dir, 0, &text, &bytes, err), -1);
    assert_non_null(strstr(err, "not a regular file"));
    support_free(&c);
}

/* ---- the index ------------------------------------------------------------------------------- */

static int parse_index(const char *json, struct lade_raws *r, char ***files, int *n, char *err)
{
    char *text = strdup(json);
    assert_non_null(text);
    *r = (struct lade_raws){0};
    assert_int_equal(lade_raws_own(r, text, err), 0);
    return lade_index_parse(r, text, strlen(json), files, n, "index.json", err);
}

static void reads_an_index(void **state)
{
    (void)state;
    struct lade_raws r;
    char **files, err[LADE_ERR] = "";
    int n;
    assert_int_equal(parse_index("{\"metadata\": {\"total_size\": 3}, \"weight_map\": {"
                                 "\"x\": \"b.safetensors\", \"y\": \"a.safetensors\", "
                                 "\"z\": \"b.safetensors\"}}",
                                 &r, &files, &n, err),
                     0);
    assert_int_equal(n, 2);
    assert_string_equal(files[0], "a.safetensors");
    assert_string_equal(files[1], "b.safetensors");
    assert_int_equal(r.n, 3);
    assert_int_equal(r.items[0].shard, 1);
    assert_int_equal(r.items[1].shard, 0);
    assert_int_equal(r.items[2].shard, 1);
    assert_false(r.items[0].found);
    free(files);
    lade_raws_free(&r);
}

static void bad_indexes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *say;
    } cases[] = {
        {"", "not valid JSON"},
        {"{}", "lists no tensors"},
        {"{\"weight_map\": {}}", "lists no tensors"},
        {"{\"weight_map\": []}", "weight_map is not an object"},
        {"{\"weight_map\": {\"x\": 7}}", "tensor 'x': weight_map does not give it a file name"},
        {"{\"weight_map\": {\"x\": \"\"}}", "weight_map names the file ''"},
        {"{\"weight_map\": {\"x\": \"../b.safetensors\"}}", "'../b.safetensors', which is not in"},
        {"{\"weight_map\": {\"x\": \"/b.safetensors\"}}", "'/b.safetensors', which is not in"},
        {"{\"weight_map\": {\"x\": \"d/b.safetensors\"}}", "'d/b.safetensors', which is not in"},
        {"{\"weight_map\": {\"x\": \"..\"}}", "'..', which is not in"},
        {"{\"weight_map\": {\"x\": \"b.bin\"}}", "'b.bin', which is no .safetensors file"},
        {"{\"weight_map\": {\"x\": \"b\\u0000.safetensors\"}}", "tensor 'x': weight_map does not"},
        {"{\"weight_map\": {\"x\": \"b.safetensors\"}", "not valid JSON"},
        {"{\"weight_map\": {\"x\": \"b.safetensors\"}} {", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_raws r;
        char **files, err[LADE_ERR] = "";
        int n;
        int rc = parse_index(cases[i].json, &r, &files, &n, err);
        lade_raws_free(&r);
        assert_int_equal(rc, -1);
        if (!strstr(err, "index.json: ") || !strstr(err, cases[i].say))
            fail_msg("%s: expected \"%s\" in: %s", cases[i].json, cases[i].say, err);
    }
}

/* ---- the scanner ----------------------------------------------------------------------------- */

static void strings_are_decoded_in_place(void **state)
{
    (void)state;
    static const struct {
        const char *json, *want; /* NULL: refused */
    } cases[] = {
        {"\"\"", ""},
        {" \"plain\"", "plain"},
        {"\"a\\\"b\\\\c\\/d\\n\\t\"", "a\"b\\c/d\n\t"},
        {"\"\\u0041\\u00e9\\u4e2d\"", "A\xc3\xa9\xe4\xb8\xad"},
        {"\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!"},
        {"\"\\u0000\"", NULL},
        {"\"\\ud83d\"", NULL},
        {"\"\\ude00\"", NULL},
        {"\"\\ud83d\\u0041\"", NULL},
        {"\"\\x41\"", NULL},
        {"\"\\u00g0\"", NULL},
        {"\"a\nb\"", NULL},
        {"\"open", NULL},
        {"\"open\\", NULL},
        {"\"open\\u00", NULL},
        {"7", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].json), len;
        char *copy = malloc(n + 1), *text;
        assert_non_null(copy);
        memcpy(copy, cases[i].json, n);
        struct lade_scan s = {copy, copy + n};
        bool ok = lade_scan_string(&s, &text, &len);
        assert_int_equal(ok, cases[i].want != NULL);
        if (ok) {
            assert_int_equal(len, strlen(cases[i].want));
            assert_memory_equal(text, cases[i].want, len);
        }
        free(copy);
    }
}

static void integers_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool ok;
        uint64_t want;
    } cases[] = {
        {"0", true, 0},    {" 42,", true, 42}, {"18446744073709551615", true, UINT64_MAX},
        {"01", false, 0},  {"-1", false, 0},   {"18446744073709551616", false, 0},
        {"1.0", false, 0}, {"1e3", false, 0},  {"x", false, 0},
        {"", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char copy[32];
        uint64_t value = 0;
        strcpy(copy, cases[i].json);
        struct lade_scan s = {copy, copy + strlen(copy)};
        assert_int_equal(lade_scan_u64(&s, &value), cases[i].ok);
        if (cases[i].ok)
            assert_int_equal(value, cases[i].want);
    }
}

static void printable_never_leaves_its_line(void **state)
{
    (void)state;
    char buf[16];
    assert_string_equal(lade_printable(buf, sizeof buf, "abc", 3), "abc");
    assert_string_equal(lade_printable(buf, sizeof buf, "a\033\n\x7f\xc3", 5), "a????");
    assert_string_equal(lade_printable(buf, sizeof buf, "0123456789abcdefghij", 20),
                        "012345...efghij");
    assert_string_equal(lade_printable(buf, sizeof buf, "0123456789abcde", 15), "0123456789abcde");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_header),
        cmocka_unit_test(bad_headers_name_file_and_tensor),
        cmocka_unit_test(no_prefix_is_accepted),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(reads_an_index),
        cmocka_unit_test(bad_indexes_are_refused),
        cmocka_unit_test(strings_are_decoded_in_place),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(printable_never_leaves_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
