/* Conversations as text, and back: what is written, and what an import refuses. */
#include "tests/unit/history_common.h"

static void test_export_import(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h), id, first;
    int64_t q = add(h, c, HISTORY_USER, "Warum \"so\"? \u2028 \\ \t");
    struct history_cost cost = {30, 12, 5, 0.25, 120.5, 8.25};
    OK(history_message_begin(h, c, HISTORY_ACTIVE, "tiny", "{\"seed\":1}", &id, err));
    OK(history_message_finish(h, id, HISTORY_STOPPED, "Because.", "thinking", &cost, err));
    OK(history_message_add(h, c, q, HISTORY_ASSISTANT, "Another.", NULL, err));
    OK(history_leaf_set(h, c, id, err));
    add(h, new_conversation(h), HISTORY_USER, "second");

    char *markdown = history_export(h, c, HISTORY_MARKDOWN, err);
    assert_non_null(markdown);
    assert_non_null(strstr(markdown, "# Warum"));
    assert_non_null(strstr(markdown, "## You\n"));
    assert_non_null(strstr(markdown, "## tiny\n"));
    assert_non_null(strstr(markdown, "*(stopped)*"));
    assert_null(strstr(markdown, "Another."));
    assert_non_null(strstr(markdown, "*(version 1 of 2)*"));
    assert_non_null(strstr(markdown, "on other branches: 1; lade history show 1 --branches"));
    free(markdown);
    markdown = history_export(h, c, HISTORY_BRANCHES, err);
    assert_non_null(markdown);
    const char *one = strstr(markdown, "*(version 1 of 2)*"),
               *two = strstr(markdown, "*(version 2 of 2)*");
    assert_true(one && two && strstr(one, "Because.") < two && strstr(two, "Another."));
    assert_null(strstr(markdown, "on other branches"));
    free(markdown);

    char *json = history_export(h, 0, HISTORY_JSON, err);
    assert_non_null(json);
    assert_null(strstr(json, "/models/tiny"));
    int n;
    OK(history_import(h, json, strlen(json), "x.json", &n, &first, err));
    assert_int_equal(n, 2);
    assert_int_equal(first, 3);
    struct history_messages was, is;
    OK(history_messages_all(h, c, &was, err));
    OK(history_messages_all(h, first, &is, err));
    assert_int_equal(was.n, is.n);
    for (int i = 0; i < was.n; i++) {
        assert_string_equal(was.items[i].content, is.items[i].content);
        assert_int_equal(was.items[i].state, is.items[i].state);
        assert_int_equal(was.items[i].role, is.items[i].role);
        assert_int_equal(was.items[i].created, is.items[i].created);
        assert_int_equal(was.items[i].finished, is.items[i].finished);
        assert_memory_equal(&was.items[i].cost, &is.items[i].cost, sizeof(cost));
        assert_string_equal(was.items[i].parameters, is.items[i].parameters);
    }
    assert_string_equal(is.items[1].reasoning, "thinking");
    assert_int_equal(is.items[2].parent, is.items[0].id);
    int64_t leaf = is.items[1].id;
    history_messages_clear(&was);
    history_messages_clear(&is);
    struct history_conversation conv;
    OK(history_conversation_get(h, first, &conv, err));
    assert_int_equal(conv.leaf, leaf);
    history_conversation_clear(&conv);
    free(json);
    history_close(h);
}

static void test_import_checks(void **state)
{
    struct history *h = open_or_die(*state);
#define ONE(messages)                                                                              \
    "{\"lade_history\":1,\"conversations\":[{\"title\":\"t\",\"messages\":[" messages "]}]}"
#define M1 "{\"id\":1,\"parent\":0,\"role\":\"user\",\"state\":\"complete\",\"content\":\"a\"}"
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "is not JSON"},
        {"{\"a\":", "is not JSON"},
        {"[]", "is not an export"},
        {"{\"conversations\":[]}", "is not an export"},
        {"{\"lade_history\":2,\"conversations\":[]}", "newer lade"},
        {"{\"lade_history\":1,\"conversations\":[7]}", "'messages' is not a list"},
        {"{\"lade_history\":1,\"conversations\":[{\"messages\":[]}]}", "'title' is missing"},
        {"{\"lade_history\":1,\"conversations\":[{\"title\":\"t\",\"messages\":[],\"leaf\":1}]}",
         "'leaf'"},
        {ONE("7"), "'role' is missing"},
        {ONE(M1 ",{\"id\":2,\"role\":\"user\",\"state\":\"complete\"}"), "message 2: 'content'"},
        {ONE("{\"id\":1,\"role\":\"boss\",\"state\":\"complete\",\"content\":\"\"}"), "'role'"},
        {ONE("{\"id\":1,\"role\":\"user\",\"state\":\"gone\",\"content\":\"\"}"), "'state'"},
        {ONE("{\"id\":1,\"role\":\"user\",\"state\":\"complete\",\"content\":4}"), "'content'"},
        {ONE("{\"id\":1,\"parent\":1,\"role\":\"user\",\"state\":\"complete\",\"content\":\"\"}"),
         "'parent'"},
        {ONE("{\"id\":9,\"role\":\"user\",\"state\":\"complete\",\"content\":\"\"}"), "'id'"},
        {ONE("{\"id\":1,\"tokens\":-4,\"role\":\"user\",\"state\":\"complete\",\"content\":\"\"}"),
         "'tokens'"},
        {ONE("{\"id\":1,\"ttft_s\":\"\",\"role\":\"user\",\"state\":\"complete\",\"content\":"
             "\"\"}"),
         "'ttft_s'"},
        {ONE("{\"id\":1,\"parameters\":3,\"role\":\"user\",\"state\":\"complete\",\"content\":"
             "\"\"}"),
         "'parameters'"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_int_equal(
            history_import(h, bad[i].text, strlen(bad[i].text), "in.json", NULL, NULL, err), -1);
        assert_line(err, bad[i].part);
        assert_line(err, "in.json");
    }
    struct history_facts facts;
    OK(history_check(h, &facts, err));
    assert_int_equal(facts.conversations, 0); /* all or none */
    assert_int_equal(facts.messages, 0);
    history_close(h);
}

/* Counts of which sums would be no numbers are not known. */
static void test_import_counts(void **state)
{
    struct history *h = open_or_die(*state);
    struct history_messages m;
    int64_t first;
    static const char text[] = ONE("{\"id\":1,\"role\":\"assistant\",\"state\":\"complete\","
                                   "\"content\":\"a\",\"tokens\":2147483647,"
                                   "\"prompt_tokens\":2147483647,\"kept_tokens\":5}");
    OK(history_import(h, text, sizeof text - 1, "in.json", NULL, &first, err));
    OK(history_messages_all(h, first, &m, err));
    assert_int_equal(m.items[0].cost.tokens, -1);
    assert_int_equal(m.items[0].cost.prompt_tokens, -1);
    assert_int_equal(m.items[0].cost.kept_tokens, 5);
    history_messages_clear(&m);
    history_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_export_import),
        TEST(test_import_checks),
        TEST(test_import_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
