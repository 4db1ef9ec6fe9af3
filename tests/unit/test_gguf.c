/* The container of GGUF, with everything that can be wrong in it. Models: test_gguf_model.c. */
#include "engine/checkpoint/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/support/support_gguf.h"

/* Parses the bytes in a buffer that ends where they end, so that ASan sees an overrun. */
static int parse(const void *bytes, size_t len, uint64_t file_bytes, struct lade_gguf *g, char *err)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    int rc = lade_gguf_parse(g, copy, len, file_bytes, 3, "m.gguf", err);
    if (rc)
        free(copy);
    else
        g->buffer = copy;
    return rc;
}

static void sample(struct support_bytes *file)
{
    struct support_gguf g = {0};
    static const unsigned char strings[] = "\x08\0\0\0\x02\0\0\0\0\0\0\0" /* of strings, 2 */
                                           "\x01\0\0\0\0\0\0\0a\0\0\0\0\0\0\0\0";
    static const unsigned char nested[] = "\x09\0\0\0\x01\0\0\0\0\0\0\0" /* of arrays, 1 */
                                          "\x03\0\0\0\x02\0\0\0\0\0\0\0\xff\xff\x02\0";
    float values[4] = {1, 2, 3, 4};
    support_gguf_u32(&g, "a.u32", 4000000000u);
    support_gguf_u16(&g, "a.u16", 65535);
    support_gguf_f32(&g, "a.f32", 0.5f);
    support_gguf_text(&g, "a.text", "t\xc3\xa4xt");
    support_put_text(&g.entries, "a.strings");
    support_put_u32(&g.entries, 9);
    support_put(&g.entries, strings, sizeof strings - 1);
    support_put_text(&g.entries, "a.nested");
    support_put_u32(&g.entries, 9);
    support_put(&g.entries, nested, sizeof nested - 1);
    g.n_entries += 2;
    support_gguf_tensor(&g, "one", 0, 2, (uint64_t[]){4, 1}, values, 16);
    support_gguf_tensor(&g, "two", 0, 1, (uint64_t[]){2}, values, 8);
    support_gguf_finish(&g, file);
    support_gguf_clear(&g);
}

static void reads_the_container(void **state)
{
    (void)state;
    struct support_bytes file;
    struct lade_gguf g;
    struct lade_gguf_text text, rest;
    char err[LADE_ERR] = "";
    int64_t i;
    double d;
    sample(&file);
    for (uint32_t version = 2; version <= 3; version++) {
        memcpy(file.at + 4, &version, 4);
        if (parse(file.at, file.len, file.len, &g, err))
            fail_msg("%s", err);
        assert_int_equal(g.version, version);
        assert_true(lade_gguf_int(lade_gguf_find(&g, "a.u32"), &i) && i == 4000000000);
        assert_true(lade_gguf_int(lade_gguf_find(&g, "a.u16"), &i) && i == 65535);
        assert_true(lade_gguf_real(lade_gguf_find(&g, "a.u16"), &d) && d == 65535);
        assert_true(lade_gguf_real(lade_gguf_find(&g, "a.f32"), &d) && d == 0.5);
        assert_false(lade_gguf_int(lade_gguf_find(&g, "a.f32"), &i));
        assert_false(lade_gguf_int(lade_gguf_find(&g, "a.text"), &i));
        assert_false(lade_gguf_int(lade_gguf_find(&g, "a.none"), &i));
        assert_false(lade_gguf_string(lade_gguf_find(&g, "a.u32"), &text));
        assert_true(lade_gguf_string(lade_gguf_find(&g, "a.text"), &text));
        assert_int_equal(text.len, 5);
        const struct lade_gguf_entry *e = lade_gguf_find(&g, "a.strings");
        assert_int_equal(e->count, 2);
        assert_int_equal(e->element, LADE_GGUF_STRING);
        rest = e->value;
        assert_true(lade_gguf_next_string(&rest, &text));
        assert_memory_equal(text.at, "a", 1);
        assert_true(lade_gguf_next_string(&rest, &text));
        assert_int_equal(text.len, 0);
        assert_false(lade_gguf_next_string(&rest, &text));
        assert_int_equal(g.tensors.n, 2);
        assert_int_equal(g.tensors.items[0].dims[0], 1);
        assert_int_equal(g.tensors.items[0].dims[1], 4);
        assert_int_equal(g.tensors.items[0].shard, 3);
        assert_int_equal(g.tensors.items[1].offset, g.data + 32);
        assert_int_equal(g.data % 32, 0);
        lade_gguf_close(&g);
    }
    free(file.at);
}

/* With a longer file every cut asks for more, without one it fails; no cut of the data passes. */
static void every_cut_is_noticed(void **state)
{
    (void)state;
    struct support_bytes file;
    struct lade_gguf g;
    char err[LADE_ERR] = "";
    sample(&file);
    size_t header = file.len - 32 - 8;
    for (size_t n = 0; n < file.len; n++) {
        int rc = parse(file.at, n, file.len, &g, err);
        if (rc == 0)
            lade_gguf_close(&g);
        assert_true(n < header - 31 ? rc == 1 : rc >= 0);
        assert_int_equal(parse(file.at, n, n, &g, err), -1);
        assert_non_null(strstr(err, "m.gguf: "));
    }
    free(file.at);
}

struct patch {
    const char *what, *find; /* the bytes after this text ... */
    size_t skip;             /* ... and so many more ... */
    const char *bytes;       /* become these */
    size_t n;
    const char *say;
};

static void bad_containers_name_what_is_wrong(void **state)
{
    (void)state;
    static const struct patch patches[] = {
        {"magic", "GGU", 0, "X", 1, "not a GGUF file"},
        {"version 1", "GGUF", 0, "\1", 1, "GGUF version 1 is not supported"},
        {"version 4", "GGUF", 0, "\4", 1, "GGUF version 4 is not supported"},
        {"big-endian", "GGUF", 0, "\0\0\0\3", 4, "a big-endian GGUF file"},
        {"many entries", "GGUF", 12, "\xff\xff\xff\xff\xff", 5, "metadata entries, at most"},
        {"more entries than bytes", "GGUF", 12, "\xff\xff", 2, "header does not end"},
        {"many tensors", "GGUF", 4, "\xff\xff\xff\xff", 4, "m.gguf: "},
        {"entry type", "a.u16", 0, "\x0d", 1, "key 'a.u16' has a value of type 13"},
        {"element type", "a.strings", 4, "\x20", 1, "key 'a.strings' has a value of type 32"},
        {"long array", "a.strings", 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "m.gguf: "},
        {"long text", "a.text", 4, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "header does not end"},
        {"rank", "one", 0, "\5", 1, "tensor 'one': it has more than 4 dimensions"},
        {"huge", "one", 4, "\0\0\0\0\0\0\0\x80\4", 9, "tensor 'one': its size does not fit"},
        {"too long", "one", 4, "\x09", 1, "tensor 'two': it overlaps another"},
        {"truncated", "two", 4, "\xff", 1, "tensor 'two' ends at byte"},
        {"ggml type", "one", 20, "\x29", 1, "tensor 'one' has ggml type 41 (Q1_0)"},
        {"NVFP4", "one", 20, "\x28", 1, "tensor 'one' has ggml type 40 (NVFP4)"},
        {"of a fork", "one", 20, "\x8b", 1, "tensor 'one' has ggml type 139 (IQ4_K)"},
        {"nobody's type", "one", 20, "\xff", 1, "tensor 'one' has ggml type 255 (unknown)"},
        {"block", "one", 20, "\x02", 1, "tensor 'one': its rows are no multiple"},
        {"alignment", "two", 16, "\x21", 1, "tensor 'two': its offset is not aligned"},
        {"overlap", "two", 16, "\0", 1, "it overlaps another"},
        {"far away", "two", 16, "\xe0\xff\xff\xff\xff\xff\xff\xff", 8, "does not fit 64 bits"},
    };
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        const struct patch *p = &patches[i];
        struct support_bytes file;
        struct lade_gguf g;
        char err[LADE_ERR] = "";
        sample(&file);
        unsigned char *at = memmem(file.at, file.len, p->find, strlen(p->find));
        assert_non_null(at);
        memcpy(at + strlen(p->find) + p->skip, p->bytes, p->n);
        int rc = parse(file.at, file.len, file.len, &g, err);
        free(file.at);
        if (rc == 0)
            lade_gguf_close(&g);
        if (rc != -1 || !strstr(err, p->say) || !strstr(err, "m.gguf: ") || !strstr(err, "; "))
            fail_msg("%s: %d, expected \"%s\" in: %s", p->what, rc, p->say, err);
    }
}

static void parts_are_named_by_any_of_them(void **state)
{
    (void)state;
    char **paths, err[LADE_ERR];
    int n;
    assert_int_equal(lade_gguf_parts("d/m-00002-of-00003.gguf", &paths, &n, err), 0);
    assert_int_equal(n, 3);
    assert_string_equal(paths[0], "d/m-00001-of-00003.gguf");
    assert_string_equal(paths[2], "d/m-00003-of-00003.gguf");
    while (n)
        free(paths[--n]);
    free(paths);
    static const char *const single[] = {"m.gguf",
                                         "m-00004-of-00003.gguf",
                                         "m-1-of-2.gguf",
                                         "-00000-of-00000.gguf",
                                         "m-00001-of-00002.ggu",
                                         ""};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++) {
        assert_int_equal(lade_gguf_parts(single[i], &paths, &n, err), 0);
        assert_int_equal(n, 1);
        assert_string_equal(paths[0], single[i]);
        free(paths[0]);
        free(paths);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_container),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(bad_containers_name_what_is_wrong),
        cmocka_unit_test(parts_are_named_by_any_of_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
