/* What a model behind a server is made of: its address, the question, and what comes back in any pieces. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/remote/address.h"
#include "engine/remote/ask.h"
#include "engine/remote/reply.h"
#include "engine/remote/sse.h"
#include "engine/remote/think.h"

static char err[LADE_ERR];

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *typed, *base, *root, *host, *name;
    } good[] = {
        {"http://a:8000", "http://a:8000/v1", "http://a:8000", "a:8000", ""},
        {"http://a:8000/", "http://a:8000/v1", "http://a:8000", "a:8000", ""},
        {"https://a/v1", "https://a/v1", "https://a", "a", ""},
        {"http://a:1/v1/#org/name:x", "http://a:1/v1", "http://a:1", "a:1", "org/name:x"},
        {"http://a:1#n", "http://a:1/v1", "http://a:1", "a:1", "n"},
        {"HTTP://a:1", "HTTP://a:1/v1", "HTTP://a:1", "a:1", ""},
        {"http://[::1]:1/x/v1", "http://[::1]:1/x/v1", "http://[::1]:1/x", "[::1]:1", ""},
        {"http://a/api/v3", "http://a/api/v3", "http://a/api/v3", "a", ""},
        {"http://a/v1/chat/completions", "http://a/v1", "http://a", "a", ""},
    };
    struct lade_remote_address a;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(lade_remote_is(good[i].typed));
        assert_int_equal(lade_remote_address(&a, good[i].typed, err), 0);
        assert_string_equal(a.base, good[i].base);
        assert_string_equal(a.root, good[i].root);
        assert_string_equal(a.host, good[i].host);
        assert_string_equal(a.name, good[i].name);
    }
    static const char *const bad[] = {"http://",         "http:///v1",      "http://me:pw@a/v1",
                                      "http://a b/v1",   "http://a/v1?x=1", "http://a\\b",
                                      "http://a\x1b/v1", "http://a#b\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(lade_remote_address(&a, bad[i], err), -1);
        assert_null(strchr(err, '\x1b'));
    }
    char big[2 * LADE_REMOTE_URL] = "http://";
    memset(big + 7, 'a', sizeof big - 8);
    assert_int_equal(lade_remote_address(&a, big, err), -1);
    assert_false(lade_remote_is("models/http"));
    assert_false(lade_remote_is(NULL));
}

/* ---- events ----------------------------------------------------------------------------------- */

static char taken[256];

static bool take(void *user, const char *data, size_t n)
{
    assert_int_equal(strlen(data), n);
    strcat(strcat(taken, data), "|");
    return !user || strcmp(data, user) != 0;
}

static void test_events_at_every_cut(void **state)
{
    (void)state;
    static const char text[] = "\xEF\xBB\xBF"
                               ": comment\n\ndata: one\n\ndata:two\r\n\r\n"
                               "event: x\rdata: th\rdata:  ree\rid: 1\r\r"
                               "data\n\nerror: four\n\ndatax: no\n\ndata: left";
    static const char want[] = "one|two|th\n ree||four|";
    const size_t n = sizeof text - 1;
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++) {
            struct lade_sse s = {0};
            *taken = '\0';
            assert_int_equal(lade_sse_feed(&s, text, a, take, NULL), LADE_SSE_MORE);
            assert_int_equal(lade_sse_feed(&s, text + a, b - a, take, NULL), LADE_SSE_MORE);
            assert_int_equal(lade_sse_feed(&s, text + b, n - b, take, NULL), LADE_SSE_MORE);
            assert_string_equal(taken, want);
            lade_sse_close(&s);
        }
}

static void test_events_end(void **state)
{
    (void)state;
    static const char text[] = "data: a\n\ndata: b\n\ndata: c\n\n";
    struct lade_sse s = {0};
    *taken = '\0';
    assert_int_equal(lade_sse_feed(&s, text, sizeof text - 1, take, "b"), LADE_SSE_STOPPED);
    assert_string_equal(taken, "a|b|");
    lade_sse_close(&s);
    /* A line, and lines of one event, that never end. */
    char *much = malloc(LADE_SSE_MOST);
    assert_non_null(much);
    memset(much, 'x', LADE_SSE_MOST);
    assert_int_equal(lade_sse_feed(&s, much, LADE_SSE_MOST, take, NULL), LADE_SSE_MORE);
    assert_int_equal(lade_sse_feed(&s, much, 1, take, NULL), LADE_SSE_TOO_LONG);
    lade_sse_close(&s);
    enum lade_sse_end end = LADE_SSE_MORE;
    int lines = 0;
    for (; end == LADE_SSE_MORE && lines < 100; lines++) {
        lade_sse_feed(&s, "data:", 5, take, NULL);
        lade_sse_feed(&s, much, LADE_SSE_MOST / 8, take, NULL);
        end = lade_sse_feed(&s, "\n", 1, take, NULL);
    }
    assert_int_equal(end, LADE_SSE_TOO_LONG);
    assert_int_equal(lines, 8); /* with the line ends between them */
    lade_sse_close(&s);
    free(much);
}

/* ---- what is asked ---------------------------------------------------------------------------- */

static const struct lade_sampling unset = {
    .temperature = NAN, .top_k = -1, .top_p = NAN, .min_p = NAN, .repetition_penalty = NAN};

static void asks(const struct lade_request *r, const char *want)
{
    char *json = lade_remote_ask("m", false, r);
    assert_non_null(json);
    assert_string_equal(json, want);
    free(json);
}

#define STREAM "\"stream\":true,\"stream_options\":{\"include_usage\":true}"

static void test_requests(void **state)
{
    (void)state;
    struct lade_message talk[] = {
        {LADE_SYSTEM, "Be \"brief\".", NULL, NULL},
        {LADE_USER, "Schiff \xF0\x9F\x9A\xA2 \xFF", NULL, NULL},
        {LADE_ASSISTANT, "Yes.", "it was thought about", NULL},
        {LADE_USER, "Why?", NULL, NULL},
    };
    struct lade_request r = {.messages = talk + 3, .n = 1, .sampling = unset, .think = true};
    asks(&r,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Why?\"}]," STREAM "}");
    r.messages = talk;
    r.n = 4;
    r.think = false;
    r.max_tokens = 7;
    r.sampling = (struct lade_sampling){.temperature = 0.7f,
                                        .top_k = 20,
                                        .top_p = 0.8f,
                                        .min_p = 0.05f,
                                        .repetition_penalty = 1.1f,
                                        .seed = UINT64_MAX,
                                        .stop = {{"\n\n", "END"}, 2}};
    asks(&r,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"Be \\\"brief\\\".\"},"
         "{\"role\":\"user\",\"content\":\"Schiff \xF0\x9F\x9A\xA2 \xEF\xBF\xBD\"},"
         "{\"role\":\"assistant\",\"content\":\"Yes.\"},"
         "{\"role\":\"user\",\"content\":\"Why?\"}]," STREAM
         ",\"temperature\":0.7,\"top_p\":0.8,\"min_p\":0.05,\"repetition_penalty\":1.1,"
         "\"repeat_penalty\":1.1,\"top_k\":20,\"seed\":9223372036854775807,"
         "\"stop\":[\"\\n\\n\",\"END\"],\"max_tokens\":7,"
         "\"chat_template_kwargs\":{\"enable_thinking\":false}}");
    r = (struct lade_request){.messages = talk + 3, .n = 1, .sampling = unset, .think = true};
    char *told = lade_remote_ask("m", true, &r);
    assert_non_null(strstr(told, ",\"return_progress\":true}"));
    free(told);
    struct lade_message twice[] = {{LADE_USER, "One", NULL, NULL},
                                   {LADE_USER, "\"two\"", NULL, NULL}};
    r.messages = twice;
    r.n = 2;
    asks(&r, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
             "\"One\\n\\n\\\"two\\\"\"}]," STREAM "}");
    r.messages = talk + 3;
    r.n = 1;
    r.sampling.temperature = 0;
    r.sampling.top_k = 0;
    asks(&r, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Why?\"}]," STREAM
             ",\"temperature\":0.0,\"top_k\":-1}");
}

/* ---- what comes back -------------------------------------------------------------------------- */

static struct lade_reply reply_of(const char *json)
{
    struct lade_reply r;
    if (!lade_reply_read(&r, json, strlen(json)))
        fail_msg("%s", json);
    return r;
}

static void test_replies(void **state)
{
    (void)state;
    struct lade_reply r = reply_of("{\"choices\":[{\"delta\":{\"content\":\"a\\u0000b\","
                                   "\"reasoning_content\":\"r\"},\"finish_reason\":null}],"
                                   "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":-4}}");
    assert_string_equal(r.text, "ab");
    assert_string_equal(r.reasoning, "r");
    assert_int_equal(r.finish, LADE_REPLY_GOES_ON);
    assert_int_equal(r.prompt_tokens, 3);
    assert_int_equal(r.tokens, -1);
    assert_int_equal(r.kept_tokens, -1);
    assert_null(r.error);
    lade_reply_clear(&r);
    r = reply_of("{\"usage\":{\"prompt_tokens\":2147483647,\"completion_tokens\":2147483647}}");
    assert_int_equal(r.prompt_tokens, -1);
    assert_int_equal(r.tokens, -1);
    lade_reply_clear(&r);
    r = reply_of("{\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":2,\"processed\":4,"
                 "\"time_ms\":1}}");
    assert_int_equal(r.read, 2);
    assert_int_equal(r.to_read, 7);
    lade_reply_clear(&r);
    r = reply_of("{\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":5,\"processed\":4}}");
    assert_int_equal(r.to_read, 0);
    lade_reply_clear(&r);
    static const struct {
        const char *json;
        enum lade_reply_finish finish;
        const char *error;
    } ends[] = {
        {"{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", LADE_REPLY_STOP, NULL},
        {"{\"choices\":[{\"finish_reason\":\"stop\",\"stop_reason\":\"x\"}]}", LADE_REPLY_STOP_TEXT,
         NULL},
        {"{\"choices\":[{\"finish_reason\":\"length\"}]}", LADE_REPLY_LENGTH, NULL},
        {"{\"choices\":[{\"finish_reason\":\"tool_calls\"}]}", LADE_REPLY_OTHER, NULL},
        {"{\"error\":{\"message\":\"m\"}}", LADE_REPLY_GOES_ON, "m"},
        {"{\"error\":\"m\"}", LADE_REPLY_GOES_ON, "m"},
        {"{\"error\":{}}", LADE_REPLY_GOES_ON, "it does not say why"},
        {"{\"code\":500,\"message\":\"m\"}", LADE_REPLY_GOES_ON, "m"},
        {"{\"choices\":[],\"message\":\"m\"}", LADE_REPLY_GOES_ON, NULL},
        {"{\"choices\":{\"delta\":1},\"usage\":[2]}", LADE_REPLY_GOES_ON, NULL},
        {"{\"choices\":[{\"delta\":{\"content\":[1]}}],\"usage\":null}", LADE_REPLY_GOES_ON, NULL},
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        r = reply_of(ends[i].json);
        assert_int_equal(r.finish, ends[i].finish);
        assert_null(r.text);
        if (ends[i].error)
            assert_string_equal(r.error, ends[i].error);
        else
            assert_null(r.error);
        lade_reply_clear(&r);
    }
    /* Halves of characters are no reason to lose what stands around them. */
    r = reply_of("{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\\uDE00 \\ud83d\\\\ud83d \\uDE00."
                 "\\ud83d\\ud83d\\ude00\"}}]}");
    assert_string_equal(r.text, "\xF0\x9F\x98\x80 \xEF\xBF\xBD\\ud83d \xEF\xBF\xBD."
                                "\xEF\xBF\xBD\xF0\x9F\x98\x80");
    lade_reply_clear(&r);
    static const char *const bad[] = {"", "null", "[]", "{\"a\":", "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(lade_reply_read(&r, bad[i], strlen(bad[i])));
        lade_reply_clear(&r);
    }
}

static void test_lists(void **state)
{
    (void)state;
    static const char list[] = "{\"data\":[{\"id\":\"a\",\"owned_by\":\"llama\\u001bcpp\",\"meta\":"
                               "{\"n_ctx_train\":9,\"size\":7}},"
                               "{\"id\":7},{\"id\":\"b\",\"max_model_len\":5},{\"id\":\"c\"}]}";
    struct lade_reply_model m[2];
    assert_int_equal(lade_reply_models(m, 2, list, sizeof list - 1), 3);
    assert_string_equal(m[0].name, "a");
    assert_string_equal(m[0].server, "llama?cpp");
    assert_int_equal(m[0].context, 9);
    assert_string_equal(m[1].name, "b");
    assert_int_equal(m[1].context, 5);
    assert_int_equal(lade_reply_models(m, 2, "{\"data\":3}", 10), -1);
    assert_int_equal(lade_reply_models(m, 2, "<html>", 6), -1);
    static const char slow[] = "{\"loaded_bytes\":1,\"bytes\":4}",
                      odd[] = "{\"loaded_bytes\":5,\"bytes\":4}";
    assert_true(lade_reply_progress(slow, sizeof slow - 1) == 0.25);
    assert_true(lade_reply_progress(odd, sizeof odd - 1) == -1);
    assert_true(lade_reply_progress("Loading", 7) == -1);
}

/* ---- reasoning and answer --------------------------------------------------------------------- */

/* Feeds a text cut in two at every place; returns what was told, reasoning in brackets. */
static void thinks(const char *text, const char *want)
{
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct lade_engine *e = calloc(1, sizeof *e);
        struct lade_request r = {.number = 1};
        struct lade_tell tell;
        struct lade_event ev;
        char told[256] = "", *first = strndup(text, cut);
        assert_non_null(e);
        pthread_mutex_init(&e->lock, NULL);
        assert_int_equal(lade_events_open(&e->events, err), 0);
        lade_tell_begin(&tell, e, &r, NULL);
        struct lade_think t = {.tell = &tell};
        lade_think_content(&t, first);
        lade_think_content(&t, text + cut);
        lade_think_end(&t);
        while (lade_events_take(&e->events, &ev)) {
            assert_int_equal(ev.kind, LADE_EV_TEXT);
            strcat(strcat(strcat(told, ev.reasoning ? "[" : ""), ev.text), ev.reasoning ? "]" : "");
            lade_event_clear(&ev);
        }
        if (strcmp(told, want) != 0)
            fail_msg("'%s' cut at %zu: '%s'", text, cut, told);
        lade_events_close(&e->events);
        pthread_mutex_destroy(&e->lock);
        free(first);
        free(e);
    }
}

static void test_thoughts(void **state)
{
    (void)state;
    thinks("plain", "plain");
    thinks("<think>\nyes\n</think>\n\nso", "[yes]so");
    thinks(" \n<think>a<b></thin</think>c</think>", "[a<b></thin]c</think>");
    thinks("<think><</</think>x", "[<</]x");
    thinks("<think>cut", "[cut]");
    thinks("<think>cut</thi", "[cut</thi]");
    thinks("<thin", "<thin");
    thinks("a <think>b</think>", "a <think>b</think>");
    thinks("<think></think>x", "x");
    thinks("    code", "    code");
    thinks("\n\xC3\xBC", "\xC3\xBC");
    thinks("<think><\xC3\xBC</\xC3\xA4</think>x", "[<\xC3\xBC</\xC3\xA4]x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),

        cmocka_unit_test(test_events_at_every_cut),
        cmocka_unit_test(test_events_end),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_thoughts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
