/* The streaming detokenizer and the UTF-8 reader below it: only whole characters come out, and
 * broken bytes become what Python's errors="replace" makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <utf8proc.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/error.h"

#define DIR "tests/fixtures/tiny-bf16"

static struct lade_tokenizer *tok;
static int32_t byte_id[256];
static char err[LADE_ERR];

static int open_tokenizer(void **state)
{
    (void)state;
    if (lade_tokenizer_open(&tok, DIR, err))
        return -1;
    for (int32_t t = 0; t < lade_tokenizer_size(tok); t++) {
        size_t n;
        const char *bytes = lade_tokenizer_piece(tok, t, &n);
        if (n == 1)
            byte_id[(unsigned char)*bytes] = t;
    }
    return 0;
}

static int close_tokenizer(void **state)
{
    (void)state;
    lade_tokenizer_close(tok);
    return 0;
}

/* True where the first n bytes are whole characters, by utf8proc. */
static bool is_whole(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t step =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &c);
        if (step <= 0)
            return false;
        i += (size_t)step;
    }
    return true;
}

/* The bytes of `text`, one token each, through the detokenizer. */
static void streams_as(const char *text, size_t len, const char *want, size_t want_len)
{
    struct lade_detok d = {0};
    char piece[LADE_DETOK_MAX], out[1024];
    size_t at = 0;
    assert_true(3 * len < sizeof out);
    for (size_t i = 0; i <= len; i++) {
        int n = i < len
                    ? lade_detok_push(&d, tok, byte_id[(unsigned char)text[i]], piece, sizeof piece)
                    : lade_detok_flush(&d, piece, sizeof piece);
        assert_true(n >= 0);
        assert_true(is_whole(piece, (size_t)n));
        assert_int_equal(piece[n], '\0');
        memcpy(out + at, piece, (size_t)n);
        at += (size_t)n;
    }
    assert_int_equal(at, want_len);
    assert_memory_equal(out, want, at);
}

#define STREAMS(text, want) streams_as(text, sizeof(text) - 1, want, sizeof(want) - 1)
#define BAD                 "\xef\xbf\xbd"

static void test_streaming(void **state)
{
    (void)state;
    STREAMS("", "");
    STREAMS("abc\0def", "abc\0def");
    STREAMS("\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!");
    STREAMS("\xe4\xbd\xa0\xe5\xa5\xbd", "\xe4\xbd\xa0\xe5\xa5\xbd");
    STREAMS("\xe4\xbd", BAD); /* cut off: one mark for the maximal part */
    STREAMS("\xe4\xbdx", BAD "x");
    STREAMS("\xff\xfe", BAD BAD);
    STREAMS("\x80", BAD);
    STREAMS("\xc0\xaf", BAD BAD);                 /* overlong */
    STREAMS("\xe0\x80\xaf", BAD BAD BAD);         /* overlong */
    STREAMS("\xf0\x8f\xbf\xbf", BAD BAD BAD BAD); /* overlong */
    STREAMS("\xed\xa0\x80", BAD BAD BAD);         /* a surrogate */
    STREAMS("\xed\x9f\xbf", "\xed\x9f\xbf");      /* the last character before them */
    STREAMS("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");
    STREAMS("\xf4\x90\x80\x80", BAD BAD BAD BAD); /* beyond U+10FFFF */
    STREAMS("\xf5\x80\x80\x80", BAD BAD BAD BAD);
    STREAMS("\xf0\x9f\x98\xe4\xbd\xa0", BAD "\xe4\xbd\xa0");
    STREAMS("\xf0\x9f\xf0\x9f\x98\x80", BAD "\xf0\x9f\x98\x80");
    STREAMS("\xf0\x9f\x98", BAD);
    STREAMS("\xf0", BAD);
}

/* Streaming gives what repairing the whole text gives. */
static void test_random_bytes(void **state)
{
    (void)state;
    static const unsigned char often[] = {0xe4, 0xbd, 0xa0, 0xf0, 0x9f, 0x98, 0x80, 0xed,
                                          0xc2, 0xf4, 0x8f, 0xbf, 0xe0, 0x41, 0xff, 0x90};
    uint32_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        char text[40];
        size_t len = (size_t)(round % (int)sizeof text), want_len;
        for (size_t i = 0; i < len; i++) {
            seed = seed * 1664525u + 1013904223u;
            text[i] = (char)(seed >> 28 ? often[seed >> 20 & 15] : seed >> 12);
        }
        char *want = lade_utf8_repair(text, len, &want_len);
        assert_non_null(want);
        assert_true(is_whole(want, want_len));
        streams_as(text, len, want, want_len);
        free(want);
    }
}

/* Valid or not, for everything of up to three bytes and a sweep of four, as utf8proc judges. */
static void test_reader_against_utf8proc(void **state)
{
    (void)state;
    for (uint32_t x = 0; x < 1u << 24; x += x < 0xc00000 ? 251 : 1) {
        unsigned char s[4] = {(unsigned char)(x >> 16), (unsigned char)(x >> 8), (unsigned char)x,
                              0x80 | (x & 0x3f)};
        utf8proc_int32_t c;
        utf8proc_ssize_t want = utf8proc_iterate(s, 4, &c);
        int got = lade_utf8_next(s, 4, NULL);
        if (want > 0 ? got != want : got >= 0)
            fail_msg("%02x %02x %02x %02x: %d", s[0], s[1], s[2], s[3], got);
    }
}

/* A buffer that is too short loses nothing. */
static void test_short_buffer(void **state)
{
    (void)state;
    struct lade_detok d = {0};
    char out[8];
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xe4], out, sizeof out), 0);
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xbd], out, 1), 0);
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xa0], out, 3), -1);
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xa0], out, 0), -1);
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xa0], out, 4), 3);
    assert_string_equal(out, "\xe4\xbd\xa0");
    assert_int_equal(lade_detok_push(&d, tok, byte_id[0xe4], out, 1), 0);
    assert_int_equal(lade_detok_flush(&d, out, 3), -1);
    assert_int_equal(lade_detok_flush(&d, out, 4), 3);
    assert_string_equal(out, BAD);
    assert_int_equal(lade_detok_flush(&d, out, 1), 0);
}

/* The longest token a file may have, all of it broken, after the start of a character. */
static void test_longest_token(void **state)
{
    (void)state;
    json_t *root = json_load_file(DIR "/tokenizer.json", 0, NULL);
    assert_non_null(root);
    for (int len = 1024; len <= 1025; len++) {
        char key[2 * 1025 + 1] = "";
        for (int i = 0; i < len; i++)
            memcpy(key + 2 * i, "\xc3\xbf", 3); /* the character of byte 255 */
        json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"), key,
                            json_integer(4000));
        char *text = json_dumps(root, 0), out[LADE_DETOK_MAX];
        struct lade_tokenizer *t;
        assert_int_equal(lade_tokenizer_parse(&t, text, strlen(text), "x", err),
                         len == 1024 ? 0 : -1);
        if (len == 1024) {
            struct lade_detok d = {{0xf0, 0x9f, 0x98}, 3};
            assert_int_equal(lade_detok_push(&d, t, 4000, out, sizeof out), 3 * 1025);
        }
        lade_tokenizer_close(t);
        free(text);
    }
    json_decref(root);
}

static void test_ids_out_of_range(void **state)
{
    (void)state;
    static const int32_t ids[] = {-1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct lade_detok d = {0};
        char out[2];
        size_t n = 1;
        assert_string_equal(lade_tokenizer_piece(tok, ids[i], &n), "");
        assert_int_equal(n, 0);
        assert_int_equal(lade_detok_push(&d, tok, ids[i], out, sizeof out), 0);
        assert_false(lade_tokenizer_is_special(tok, ids[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_reader_against_utf8proc),
        cmocka_unit_test(test_short_buffer),
        cmocka_unit_test(test_longest_token),
        cmocka_unit_test(test_ids_out_of_range),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
