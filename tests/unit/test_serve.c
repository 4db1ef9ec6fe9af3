/* What clients of `lade serve` send: bodies, and the headers that say who they are. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tui/serve/guard.h"
#include "tui/serve/question.h"

static const struct serve_defaults defaults = {
    .model = "name",
    .sampling =
        {.temperature = 0.5F, .top_k = 7, .top_p = 0.25F, .repetition_penalty = 1, .seed = 9},
    .max_tokens = 11,
    .think = true,
};

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void read_body(struct serve_question *q, const char *text)
{
    struct serve_error e;
    if (serve_question_read(q, text, strlen(text), &defaults, &e))
        fail_msg("%s: %s", text, e.message);
    assert_int_equal(e.status, 0);
}

static void test_defaults(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{" HI "}",
        "{" HI ",\"temperature\":null,\"stop\":null,\"stream\":null,\"tools\":null,\"seed\":null,"
        "\"max_tokens\":null,\"stream_options\":null,\"chat_template_kwargs\":null}",
        "{" HI
        ",\"n\":1,\"tools\":[],\"logprobs\":false,\"presence_penalty\":0.0,\"logit_bias\":{},"
        "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],\"model\":\"name\"}",
        "{" HI
        ",\"user\":\"me\",\"metadata\":{\"a\":[1]},\"store\":true,\"parallel_tool_calls\":true}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct serve_question q;
        read_body(&q, bodies[i]);
        assert_int_equal(q.n, 1);
        assert_int_equal(q.messages[0].role, LADE_USER);
        assert_string_equal(q.messages[0].content, "hi");
        assert_memory_equal(&q.sampling, &defaults.sampling, sizeof q.sampling);
        assert_int_equal(q.max_tokens, 11);
        assert_true(q.think && !q.stream && !q.include_usage);
        serve_question_free(&q);
    }
}

static void test_every_field(void **state)
{
    (void)state;
    struct serve_question q;
    read_body(&q,
              "{\"messages\":[{\"role\":\"developer\",\"content\":\"be\"},"
              "{\"role\":\"user\",\"name\":\"me\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
              "{\"type\":\"text\",\"text\":\"\\u00e4\"}]},"
              "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"why\","
              "\"tool_calls\":[],\"refusal\":null},"
              "{\"role\":\"system\",\"content\":\"\",\"reasoning_content\":\"of nobody\"}],"
              "\"temperature\":0,\"top_p\":1,\"top_k\":-1,\"min_p\":0.5,\"seed\":-3,"
              "\"repetition_penalty\":1.5,\"max_tokens\":5,\"max_completion_tokens\":6,"
              "\"stream\":true,\"stream_options\":{\"include_usage\":true},"
              "\"chat_template_kwargs\":{\"enable_thinking\":false,\"x\":1},"
              "\"stop\":[\"one\",\"two\"]}");
    assert_int_equal(q.n, 4);
    assert_int_equal(q.messages[0].role, LADE_SYSTEM);
    assert_string_equal(q.messages[1].content, "a\n\xc3\xa4");
    assert_int_equal(q.messages[2].role, LADE_ASSISTANT);
    assert_string_equal(q.messages[2].content, "");
    assert_string_equal(q.messages[2].reasoning, "why");
    assert_int_equal(q.messages[3].role, LADE_SYSTEM);
    assert_null(q.messages[3].reasoning);
    assert_true(q.sampling.temperature == 0 && q.sampling.top_p == 1);
    assert_true(q.sampling.min_p == 0.5F && q.sampling.repetition_penalty == 1.5F);
    assert_int_equal(q.sampling.top_k, 0);
    assert_true(q.sampling.seed == (uint64_t)-3);
    assert_int_equal(q.max_tokens, 6);
    assert_true(q.stream && q.include_usage && !q.think);
    assert_int_equal(q.sampling.stop.n, 2);
    assert_string_equal(q.sampling.stop.text[1], "two");
    serve_question_free(&q);
    read_body(&q, "{" HI ",\"seed\":0,\"stop\":\"x\",\"max_tokens\":-1}");
    assert_true(q.sampling.seed != 0); /* that is the clock's */
    assert_int_equal(q.sampling.stop.n, 1);
    assert_int_equal(q.max_tokens, 0);
    serve_question_free(&q);
}

static void expect_refused(const char *text, size_t len, const char *param, int status)
{
    struct serve_question q;
    struct serve_error e;
    if (serve_question_read(&q, text, len, &defaults, &e) == 0)
        fail_msg("%.200s: is taken", text);
    if (strcmp(e.param, param) != 0 || e.status != status)
        fail_msg("%.200s: %d, %s: %s", text, e.status, e.param, e.message);
    assert_true(*e.message && !strchr(e.message, '\n'));
    assert_null(q.body);
    assert_null(q.messages);
}

/* With a question that is right, each of these is wrong by itself, and it is named. */
static void test_bad_fields(void **state)
{
    (void)state;
    static const char *const fields[][2] = {
        {"temperature", "-0.1"},
        {"temperature", "101"},
        {"temperature", "\"1\""},
        {"temperature", "1e999"}, /* no number that JSON has: of no field */
        {"top_p", "1.5"},
        {"top_p", "true"},
        {"min_p", "[]"},
        {"top_k", "1.5"},
        {"top_k", "-2"},
        {"top_k", "2000000000"},
        {"repetition_penalty", "0"},
        {"repeat_penalty", "11"},
        {"seed", "1.0"},
        {"seed", "\"1\""},
        {"max_tokens", "1.0"},
        {"max_tokens", "-2"},
        {"max_completion_tokens", "9999999999"},
        {"stream", "1"},
        {"stream", "\"true\""},
        {"stream_options", "true"},
        {"stream_options.include_usage", "1"},
        {"chat_template_kwargs", "[]"},
        {"chat_template_kwargs.enable_thinking", "0"},
        {"stop", "1"},
        {"stop", "[1]"},
        {"stop", "\"\""},
        {"stop", "[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\"]"},
        {"stop", "\"0123456789012345678901234567890123456789012345678901234567890123\""},
        {"model", "1"},
        {"n", "2"},
        {"n", "1.5"},
        {"tools", "{}"},
        {"tools", "\"f\""},
        {"tool_choice", "\"required\""},
        {"tool_choice", "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}"},
        {"tool_choice", "[]"},
        {"parallel_tool_calls", "0"},
        {"functions", "[1]"},
        {"logprobs", "true"},
        {"top_logprobs", "3"},
        {"logit_bias", "{\"1\":2}"},
        {"presence_penalty", "0.5"},
        {"frequency_penalty", "-0.5"},
        {"response_format", "{\"type\":\"json_object\"}"},
        {"response_format", "\"text\""},
        {"modalities", "[\"text\",\"audio\"]"},
        {"audio", "{\"voice\":\"x\"}"},
        {"guided_json", "{\"a\":1}"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char text[512], name[64];
        const char *field = fields[i][0], *value = fields[i][1], *dot = strchr(field, '.');
        snprintf(name, sizeof name, "%.*s", (int)strcspn(field, "."), field);
        int n =
            dot ? snprintf(text, sizeof text, "{" HI ",\"%s\":{\"%s\":%s}}", name, dot + 1, value)
                : snprintf(text, sizeof text, "{" HI ",\"%s\":%s}", name, value);
        expect_refused(text, (size_t)n, strcmp(value, "1e999") ? field : "", 400);
    }
    expect_refused("{" HI ",\"model\":\"other\"}", sizeof "{" HI ",\"model\":\"other\"}" - 1,
                   "model", 404);
}

static void test_bad_messages(void **state)
{
    (void)state;
    static const char *const messages[][2] = {
        {"messages", "[]"},
        {"messages", "null"},
        {"messages", "{}"},
        {"messages", "\"hi\""},
        {"messages[0].role", "[1]"},
        {"messages[0].role", "[{}]"},
        {"messages[0].role", "[{\"role\":1,\"content\":\"\"}]"},
        {"messages[0].role", "[{\"role\":\"function\",\"content\":\"\"}]"},
        {"messages[0].content", "[{\"role\":\"tool\",\"content\":null}]"},
        {"messages[0].role", "[{\"role\":\"User\",\"content\":\"\"}]"},
        {"messages[0].content", "[{\"role\":\"user\"}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":null}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":1}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":{}}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":[1]}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]"},
        {"messages[0].content", "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                                "\"image_url\":{\"url\":\"x\"}}]}]"},
        {"messages[1].tool_calls[0].function.name",
         "[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"assistant\",\"tool_calls\":[{}]}]"},
        {"messages[0].tool_calls", "[{\"role\":\"assistant\",\"tool_calls\":{\"a\":1}}]"},
#define CALL(arguments)                                                                            \
    "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","                      \
    "\"arguments\":" arguments "}}]}]"
        {"messages[0].tool_calls[0].function.arguments", CALL("1")},
        {"messages[0].tool_calls[0].function.arguments", CALL("[]")},
        {"messages[0].tool_calls[0].function.arguments", CALL("\"x\"")},
        {"messages[0].tool_calls[0].function.arguments", CALL("\"[1]\"")},
        {"messages[0].tool_calls[0].function.arguments", CALL("\"{\\\"a\\\":1}}\"")},
        {"messages[0].function_call",
         "[{\"role\":\"assistant\",\"content\":\"\",\"function_call\":{\"name\":\"f\"}}]"},
        {"messages[0].reasoning_content",
         "[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":[]}]"},
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        char text[512];
        int n = snprintf(text, sizeof text, "{\"messages\":%s}", messages[i][1]);
        expect_refused(text, (size_t)n, messages[i][0], 400);
    }
}

static void test_tools(void **state)
{
    (void)state;
    struct serve_question q;
    read_body(
        &q,
        "{\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true}}],"
        "\"tool_choice\":\"auto\",\"parallel_tool_calls\":false,\"messages\":["
        "{\"role\":\"user\",\"content\":\"hi\"},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"why\",\"tool_calls\":["
        "{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{\\\"x\\\":[1]}\"}},{\"function\":{\"name\":\"g\"}},"
        "{\"function\":{\"name\":\"h\",\"arguments\":{\"y\":2}}},"
        "{\"function\":{\"name\":\"i\",\"arguments\":\"\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":["
        "{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}");
    assert_int_equal(q.n, 4);
    assert_true(q.tools && !q.parallel);
    assert_int_equal(q.messages[0].role, LADE_TOOLS);
    assert_string_equal(q.messages[0].content,
                        "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true}}]");
    assert_int_equal(q.messages[2].role, LADE_ASSISTANT);
    assert_string_equal(q.messages[2].content, "");
    assert_string_equal(q.messages[2].reasoning, "why");
    assert_string_equal(
        q.messages[2].calls,
        "[{\"name\":\"f\",\"arguments\":{\"x\":[1]}},{\"name\":\"g\",\"arguments\":{}},"
        "{\"name\":\"h\",\"arguments\":{\"y\":2}},{\"name\":\"i\",\"arguments\":{}}]");
    assert_int_equal(q.messages[3].role, LADE_TOOL);
    assert_string_equal(q.messages[3].content, "a\nb");
    serve_question_free(&q);
    /* None that may be called: the model does not read of them. */
    read_body(&q, "{" HI ",\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\","
                  "\"function\":{\"name\":\"f\"}}]}");
    assert_true(q.n == 1 && !q.tools && q.messages[0].role == LADE_USER);
    serve_question_free(&q);
}

static void test_bad_tools(void **state)
{
    (void)state;
    static const char *const tools[][2] = {
        {"tools[0].type", "[1]"},
        {"tools[0].type", "[{\"function\":{\"name\":\"f\"}}]"},
        {"tools[0].type", "[{\"type\":\"web_search\"}]"},
        {"tools[0].function.name", "[{\"type\":\"function\"}]"},
        {"tools[0].function.name", "[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]"},
        {"tools[0].function.name", "[{\"type\":\"function\",\"function\":{\"name\":1}}]"},
        {"tools[0].function.parameters",
         "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":[1]}}]"},
    };
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
        char text[512];
        int n = snprintf(text, sizeof text, "{" HI ",\"tools\":%s}", tools[i][1]);
        expect_refused(text, (size_t)n, tools[i][0], 400);
    }
}

static void test_hostile(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{}x",
        "{" HI "} {}",
        "{" HI "," HI "}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\xed\xa0\x80\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u0000\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\n\"}]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_refused(texts[i], strlen(texts[i]), "", 400);
    expect_refused("{" HI "}\0", sizeof "{" HI "}\0" - 1, "", 400);
    /* Many values, deep ones; brackets in a text are neither. */
    enum { N = 1 << 20 };
    char *many = malloc(N + 64), *end = stpcpy(many, "{" HI ",\"x\":[");
    struct serve_question q;
    struct serve_error e;
    for (int depth = 40; depth <= 80; depth += 40) {
        memset(end, '[', (size_t)depth);
        memset(end + depth, ']', (size_t)depth + 1);
        end[2 * depth + 1] = '}';
        const size_t n = (size_t)(end - many) + 2 * (size_t)depth + 2;
        if (depth == 80)
            expect_refused(many, n, "", 400);
        else if (serve_question_read(&q, many, n, &defaults, &e) == 0)
            serve_question_free(&q);
        else
            fail_msg("%s", e.message);
    }
    for (char *at = end; at < many + N; at += 2)
        memcpy(at, "1,", 2);
    expect_refused(many, N, "", 400);
    end = stpcpy(many, "{" HI ",\"x\":\"");
    memset(end, '[', N - 64);
    memcpy(end + N - 64, "\\\"\"}", 4);
    assert_int_equal(serve_question_read(&q, many, (size_t)(end - many) + N - 60, &defaults, &e),
                     0);
    serve_question_free(&q);
    free(many);
}

static void test_loopback(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:8080",
                                       "127.9.8.7", "[::1]",       "[::1]:8080"};
    static const char *const bad[] = {"",
                                      ":80",
                                      "localhost.",
                                      "localhost:",
                                      "localhost:x",
                                      "evil",
                                      "127.0.0.1.x",
                                      "localhost.x",
                                      "x.localhost",
                                      "10.0.0.1",
                                      "::1",
                                      "[::2]",
                                      "[::1",
                                      "[::1]x",
                                      "[localhost]",
                                      "128.0.0.1",
                                      "127.1",
                                      "localhost:80/x",
                                      "localhost@evil",
                                      "0.0.0.0",
                                      "2130706433",
                                      "localhost:80 ",
                                      "127.0.0.1:80:80",
                                      "[::ffff:1.2.3.4]"};
    char text[64];
    assert_false(guard_is_loopback(NULL));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "https://%s", good[i]);
        if (!guard_is_loopback(good[i]) || !guard_origin_is_loopback(text))
            fail_msg("%s", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "http://%s", bad[i]);
        if (guard_is_loopback(bad[i]) || guard_origin_is_loopback(text))
            fail_msg("%s", bad[i]);
    }
    assert_false(guard_origin_is_loopback("null"));
    assert_false(guard_origin_is_loopback("localhost"));
    assert_false(guard_origin_is_loopback("file://localhost"));
}

static void test_key(void **state)
{
    (void)state;
    assert_true(guard_key_fits("Bearer abc", "abc"));
    assert_true(guard_key_fits("bearer abc", "abc"));
    static const char *const bad[] = {NULL,        "",           "abc",         "Bearer",
                                      "Bearer ",   "Bearer ab",  "Bearer abcd", "Bearer  abc",
                                      "Basic abc", "Bearer ABC", "Bearer abc "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (guard_key_fits(bad[i], "abc"))
            fail_msg("%s", bad[i] ? bad[i] : "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),   cmocka_unit_test(test_every_field),
        cmocka_unit_test(test_bad_fields), cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_hostile),    cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_key),        cmocka_unit_test(test_tools),
        cmocka_unit_test(test_bad_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
