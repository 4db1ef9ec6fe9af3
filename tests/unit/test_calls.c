/* What a model says is taken apart into text and calls, however it comes in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tui/serve/calls.h"

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"s\":{\"type\":\"string\"},\"i\":{\"type\":\"integer\"},"
    "\"n\":{\"type\":\"number\"},\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},"
    "\"l\":{\"type\":\"array\"},\"sn\":{\"type\":[\"string\",\"null\"]},"
    "\"any\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"array\"}]},"
    "\"e\":{\"enum\":[1,2]}}}}},{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]";

/* Text, then calls as NAME(ARGUMENTS), each ended by a bar. */
static char *outcome(const char *said, size_t from, size_t to, bool whole)
{
    struct calls c;
    struct buf out = {0};
    json_t *list = json_loads(tools, 0, NULL);
    calls_begin(&c, list);
    json_decref(list);
    calls_take(&c, said, from);
    for (size_t i = from; i < to; i++)
        calls_take(&c, said + i, 1);
    calls_take(&c, said + to, strlen(said) - to);
    calls_end(&c, whole);
    buf_puts(&out, buf_text(&c.text));
    buf_puts(&out, "|");
    for (size_t i = 0; i < c.n; i++)
        buf_printf(&out, "%s(%s)|", c.made[i].name, c.made[i].arguments);
    calls_free(&c);
    return out.at;
}

static void check(const char *said, const char *want, bool whole)
{
    const size_t n = strlen(said);
    for (size_t cut = 0; cut <= n + 1; cut++) { /* in two pieces, and byte by byte */
        char *got = outcome(said, cut <= n ? cut : 0, cut <= n ? cut : n, whole);
        if (strcmp(got, want) != 0)
            fail_msg("%s\n-- is\n%s\n-- not\n%s", said, got, want);
        free(got);
    }
}

#define F(parameters) "<tool_call>\n<function=f>\n" parameters "</function>\n</tool_call>"
#define P(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"
#define J(object)     "<tool_call>\n" object "\n</tool_call>"

static void test_calls(void **state)
{
    (void)state;
    static const char *const list[][2] = {
        /* JSON */
        {J("{\"name\": \"f\", \"arguments\": {\"s\": \"x\"}}"), "|f({\"s\": \"x\"})|"},
        {"Look.\n" J("{\"name\": \"f\", \"arguments\": {}}"), "Look.|f({})|"},
        {"Look.\n\n" J("{\"name\": \"f\", \"arguments\": {}}"), "Look.\n|f({})|"},
        {J("{\"name\":\"f\",\"arguments\":{\"a\":[1,2.50,null]}}") "\n" J("{\"name\":\"z\"}") "\n",
         "|f({\"a\": [1, 2.5, null]})|z({})|"},
        {J("{\"name\": \"f\", \"arguments\": \"{\\\"i\\\":1}\"}"), "|f({\"i\": 1})|"},
        {J("{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call>\\\"</tool_call>\"}}"),
         "|f({\"s\": \"</tool_call>\\\"</tool_call>\"})|"},
        {"<tool_call>{\"name\": \"f\"}</tool_call> and more", " and more|f({})|"},
        /* Tags */
        {F(P("s", "x")), "|f({\"s\": \"x\"})|"},
        {"Look.\n\n" F(P("s", "a\n\nb\n")), "Look.|f({\"s\": \"a\\n\\nb\\n\"})|"},
        {F(""), "|f({})|"},
        {"<tool_call><function=g></function></tool_call>", "|g({})|"},
        {F(P("s", "12") P("i", "12") P("n", "1e3") P("b", "true") P("o", "{\"x\":1}")
               P("l", "[1]")),
         "|f({\"s\": \"12\", \"i\": 12, \"n\": 1000.0, \"b\": true, \"o\": {\"x\": 1}, "
         "\"l\": [1]})|"},
        {F(P("i", "twelve") P("b", "True") P("e", "2") P("sn", "null") P("any", "[1]")),
         "|f({\"i\": \"twelve\", \"b\": true, \"e\": 2, \"sn\": null, \"any\": [1]})|"},
        {F(P("sn", "1") P("any", "1") P("new", "1") P("more", "{}")),
         "|f({\"sn\": \"1\", \"any\": \"1\", \"new\": \"1\", \"more\": {}})|"},
        {F(P("s", "</parameter>\n<b></parameter>\n</tool_cal </function> </tool_call>")),
         "|f({\"s\": \"</parameter>\\n<b></parameter>\\n</tool_cal </function> "
         "</tool_call>\"})|"},
        {F(P("s", "<parameter=s>x</parameter")), "|f({\"s\": \"<parameter=s>x</parameter\"})|"},
        {F(P("s", "")) " \n" F(P("s", "2")), "|f({\"s\": \"\"})|f({\"s\": \"2\"})|"},
        {"<tool_call>\n<function=f>\n<parameter=s>x</parameter></tool_call>",
         "|f({\"s\": \"x\"})|"},
        /* Tags that were forgotten. */
        {"So:\n<function=f>\n" P("s", "x") "</function>\n</tool_call>", "So:|f({\"s\": \"x\"})|"},
        {"<function=f>\n" P("s", "x") "</function>\n\nDone.", "Done.|f({\"s\": \"x\"})|"},
        {"<tool_call>\n<function=f>\n</function>\n<function=g>\n</function>\n</tool_call>",
         "|f({})|g({})|"},
        {"<tool_call>\n" J("{\"name\": \"f\"}"), "<tool_call>\n|f({})|"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        check(list[i][0], list[i][1], true);
        check(list[i][0], list[i][1], false);
    }
}

/* What is no call is text, byte for byte. */
static void test_no_calls(void **state)
{
    (void)state;
    static const char *const list[] = {
        "",
        " \n",
        "a < b <<tool_cal <tool_cal\n",
        "<tool_call",
        "<tool_call>",
        "<tool_call>\n ",
        "<tool_call> f()</tool_call>",
        "<tool_call></tool_call>",
        J("{\"name\": \"f\", \"arguments\": {}"),
        J("{\"name\": \"f\", \"arguments\": [1]}"),
        J("{\"name\": \"f\", \"arguments\": \"[1]\"}"),
        J("{\"name\": 1}"),
        J("{\"arguments\": {}}"),
        J("{\"name\": \"f\", \"arguments\": {\"s\": \"x}}"),
        "<tool_call>\n<function=f\n>",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=f>\nx</function>\n</tool_call>",
        "<tool_call>\n<function=f>\n<parameter=s\n",
        "<tool_call>\n<function=f>\n" P("s", "x") "y",
        "<function=h>\n</function>\n", /* which is not offered */
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char want[256];
        snprintf(want, sizeof want, "%s|", list[i]);
        check(list[i], want, true);
        check(list[i], want, false);
    }
}

/* An answer that was cut off has no call that is not complete; one that ended has. */
static void test_cut_off(void **state)
{
    (void)state;
    static const char *const list[][2] = {
        {"<tool_call>\n{\"name\": \"f\"}\n", "|f({})|"},
        {"<tool_call>\n{\"name\": \"f\"}\n</tool", "|f({})|"},
        {"<tool_call>\n<function=f>\n" P("s", "x"), "|f({\"s\": \"x\"})|"},
        {"<tool_call>\n<function=f>\n" P("s", "x") "</func", "|f({\"s\": \"x\"})|"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s|", list[i][0]);
        check(list[i][0], list[i][1], true);
        check(list[i][0], text, false);
    }
}

/* Text is there at once; only what may belong to a call waits. */
static void test_text_is_not_held(void **state)
{
    (void)state;
    static const char *const steps[][2] = {
        {"Hello", "Hello"},        {" the", "Hello the"},    {"re \n", "Hello there"},
        {"x<", "Hello there \nx"}, {"t", "Hello there \nx"}, {"d>", "Hello there \nx<td>"},
    };
    struct calls c;
    calls_begin(&c, NULL);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        calls_take(&c, steps[i][0], strlen(steps[i][0]));
        assert_string_equal(buf_text(&c.text), steps[i][1]);
    }
    calls_free(&c);
}

int main(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_no_calls),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_text_is_not_held),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}
