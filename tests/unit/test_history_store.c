/* What the database holds: conversations, messages, search, other processes. */
#include "tests/unit/history_common.h"

/* ---- conversations and messages -------------------------------------------------------------- */

static void test_round_trip(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h), id;
    int64_t user = add(h, c, HISTORY_USER, "  \n\t What   is a lade?\nSecond line");
    OK(history_message_begin(h, c, HISTORY_ACTIVE, "tiny", "{\"seed\":1}", &id, err));
    OK(history_message_update(h, id, "It is", "hm", err));
    struct history_cost cost = {30, 12, 5, 0.25, 120.5, 8.25};
    OK(history_message_finish(h, id, HISTORY_COMPLETE, "It is to load.", "hmm", &cost, err));
    history_close(h);

    h = open_or_die(p);
    int64_t last;
    OK(history_conversation_last(h, &last, err));
    assert_int_equal(last, c);
    struct history_conversation conv;
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "What is a lade?");
    assert_string_equal(conv.model, "tiny");
    assert_string_equal(conv.model_path, "/models/tiny");
    assert_string_equal(conv.strategy, "cpu-standard");
    assert_int_equal(conv.messages, 2);
    assert_int_equal(conv.leaf, id);
    assert_true(conv.created > 1700000000000 && conv.updated >= conv.created);
    history_conversation_clear(&conv);
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 2);
    assert_int_equal(m.items[0].id, user);
    assert_int_equal(m.items[0].parent, 0);
    assert_int_equal(m.items[0].role, HISTORY_USER);
    assert_null(m.items[0].reasoning);
    assert_int_equal(m.items[0].cost.tokens, -1);
    assert_int_equal(m.items[1].parent, user);
    assert_int_equal(m.items[1].state, HISTORY_COMPLETE);
    assert_string_equal(m.items[1].content, "It is to load.");
    assert_string_equal(m.items[1].reasoning, "hmm");
    assert_string_equal(m.items[1].parameters, "{\"seed\":1}");
    assert_int_equal(m.items[1].cost.prompt_tokens, 30);
    assert_int_equal(m.items[1].cost.kept_tokens, 12);
    assert_true(m.items[1].cost.decode_tps == 8.25 && m.items[1].cost.ttft_s == 0.25);
    assert_true(m.items[1].finished >= m.items[1].created);
    history_messages_clear(&m);
    history_close(h);
}

static void test_titles(void **state)
{
    struct history *h = open_or_die(*state);
    struct history_conversation conv;
    struct history_messages m;
    int64_t c = new_conversation(h);
    char text[1000] = "";
    for (int i = 0; i < 120; i++)
        strcat(text, "语");
    add(h, c, HISTORY_SYSTEM, "Be kind.");
    add(h, c, HISTORY_USER, text);
    add(h, c, HISTORY_USER, "later");
    OK(history_conversation_get(h, c, &conv, err));
    assert_int_equal(strlen(conv.title), 80 * 3 + strlen("…"));
    assert_string_equal(conv.title + 240, "…");
    history_conversation_clear(&conv);
    OK(history_conversation_rename(h, c, "Named \xff by hand", err));
    add(h, c, HISTORY_USER, "even later");
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "Named \xEF\xBF\xBD by hand");
    history_conversation_clear(&conv);
    assert_int_equal(history_conversation_rename(h, c, " \t\n", err), -1);
    assert_non_null(strstr(err, "the title is blank"));
    OK(history_conversation_rename(h, c, "\t two\n\033[31mlines\x7f \n", err));
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "two  [31mlines");
    history_conversation_clear(&conv);
    c = new_conversation(h); /* another first question: its title, unless one was given */
    add(h, c, HISTORY_USER, "wrong one\nmore");
    OK(history_leaf_set(h, c, 0, err));
    add(h, c, HISTORY_USER, "right one");
    add(h, c, HISTORY_USER, "second");
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "right one");
    history_conversation_clear(&conv);
    OK(history_messages_all(h, c, &m, err)); /* and of the branch that is gone back to */
    for (int i = 0; i < 3; i++) {
        static const char *const titles[] = {"wrong one", "right one", "right one"};
        OK(history_leaf_set(h, c, m.items[i].id, err));
        OK(history_conversation_get(h, c, &conv, err));
        assert_string_equal(conv.title, titles[i]);
        history_conversation_clear(&conv);
    }
    OK(history_leaf_set(h, c, m.items[0].id, err));
    OK(history_leaf_set(h, c, 0, err));
    add(h, c, HISTORY_USER, "third one"); /* the title was that of neither the last nor this one */
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "third one");
    history_conversation_clear(&conv);
    OK(history_conversation_rename(h, c, "given", err));
    OK(history_leaf_set(h, c, m.items[0].id, err));
    history_messages_clear(&m);
    OK(history_leaf_set(h, c, 0, err));
    add(h, c, HISTORY_USER, "fourth one");
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "given");
    history_conversation_clear(&conv);
    c = new_conversation(h);
    add(h, c, HISTORY_USER, "\n\033[31m  red \a\n more");
    OK(history_conversation_get(h, c, &conv, err));
    assert_string_equal(conv.title, "[31m red");
    history_conversation_clear(&conv);
    assert_int_equal(history_conversation_rename(h, 77, "x", err), -1);
    assert_line(err, "conversation 77: there is none");
    assert_int_equal(history_conversation_get(h, 77, &conv, err), -1);
    assert_line(err, "conversation 77: there is none");
    assert_int_equal(history_message_add(h, 77, 0, HISTORY_USER, "x", NULL, err), -1);
    assert_line(err, "conversation 77: there is none");
    history_close(h);
}

static void test_tree(void **state)
{
    struct history *h = open_or_die(*state);
    int64_t c = new_conversation(h), other = new_conversation(h), second;
    int64_t q = add(h, c, HISTORY_USER, "question");
    int64_t first = add(h, c, HISTORY_ASSISTANT, "first answer");
    OK(history_message_add(h, c, q, HISTORY_ASSISTANT, "second answer", &second, err));
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 2);
    assert_int_equal(m.items[1].id, second);
    history_messages_clear(&m);
    OK(history_messages_path(h, c, first, &m, err));
    assert_int_equal(m.n, 2);
    assert_int_equal(m.items[1].id, first);
    history_messages_clear(&m);
    OK(history_messages_all(h, c, &m, err));
    assert_int_equal(m.n, 3);
    history_messages_clear(&m);
    OK(history_leaf_set(h, c, first, err));
    int64_t next = add(h, c, HISTORY_USER, "and then?");
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 3);
    assert_int_equal(m.items[1].id, first);
    assert_int_equal(m.items[2].id, next);
    history_messages_clear(&m);
    OK(history_leaf_set(h, c, 0, err));
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 0);
    history_messages_clear(&m);
    assert_int_equal(history_message_add(h, other, q, HISTORY_USER, "x", NULL, err), -1);
    assert_line(err, "is not in conversation");
    assert_int_equal(history_leaf_set(h, other, q, err), -1);
    history_close(h);
}

/* A copy has the path that was asked for, with all that is known of it, and nothing else. */
static void test_copy(void **state)
{
    struct history *h = open_or_die(*state);
    int64_t c = new_conversation(h), id, copy, empty;
    int64_t q = add(h, c, HISTORY_USER, "question");
    add(h, c, HISTORY_ASSISTANT, "first answer");
    OK(history_message_begin(h, c, q, "tiny", "{\"seed\":1}", &id, err));
    struct history_cost cost = {10, 4, 3, 0.5, 20, 30};
    OK(history_message_finish(h, id, HISTORY_STOPPED, "second answer", "thoughts", &cost, err));
    int64_t leaf;
    OK(history_message_begin(h, c, id, NULL, NULL, &leaf, err));
    OK(history_message_update(h, leaf, "so far", NULL, err));
    OK(history_conversation_copy(h, c, HISTORY_ACTIVE, &copy, err));
    OK(history_conversation_copy(h, c, 0, &empty, err));
    struct history_conversation conv;
    OK(history_conversation_get(h, copy, &conv, err));
    assert_string_equal(conv.title, "question (copy)");
    assert_string_equal(conv.model_path, "/models/tiny");
    assert_string_equal(conv.parameters, "{\"temperature\":0.7}");
    assert_int_equal(conv.messages, 3);
    history_conversation_clear(&conv);
    struct history_messages a, b;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &a, err));
    OK(history_messages_path(h, copy, HISTORY_ACTIVE, &b, err));
    assert_int_equal(a.n, 3);
    assert_int_equal(b.n, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_not_equal(a.items[i].id, b.items[i].id);
        assert_string_equal(a.items[i].content, b.items[i].content);
        assert_string_equal(a.items[i].parameters, b.items[i].parameters);
        assert_int_equal(a.items[i].created, b.items[i].created);
        assert_memory_equal(&a.items[i].cost, &b.items[i].cost, sizeof cost);
    }
    assert_string_equal(b.items[1].reasoning, "thoughts");
    assert_int_equal(a.items[2].state, HISTORY_STREAMING);
    assert_int_equal(b.items[2].state, HISTORY_INTERRUPTED);
    history_messages_clear(&a);
    history_messages_clear(&b);
    OK(history_messages_path(h, empty, HISTORY_ACTIVE, &a, err));
    assert_int_equal(a.n, 0);
    history_messages_clear(&a);
    OK(history_message_finish(h, leaf, HISTORY_COMPLETE, "all of it", NULL, NULL, err));
    assert_int_equal(history_conversation_copy(h, 77, HISTORY_ACTIVE, &copy, err), -1);
    assert_line(err, "conversation 77: there is none");
    history_close(h);
}

static void test_unicode_and_big(void **state)
{
    struct history *h = open_or_die(*state);
    int64_t c = new_conversation(h), id;
    const char *mixed =
        "日本語 👩‍👩‍👧 e\u0301 \x1b[31m العربية\r\n'; DROP TABLE messages; "
        "--";
    add(h, c, HISTORY_USER, mixed);
    add(h, c, HISTORY_USER, "broken \xf0\x9f\x98 and \xc0\xaf");
    size_t size = 8 << 20;
    char *big = malloc(size + 1);
    memset(big, 'x', size);
    big[size] = '\0';
    OK(history_message_begin(h, c, HISTORY_ACTIVE, NULL, NULL, &id, err));
    OK(history_message_update(h, id, big, big, err));
    OK(history_message_finish(h, id, HISTORY_STOPPED, big, big, NULL, err));
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 3);
    assert_string_equal(m.items[0].content, mixed);
    assert_string_equal(m.items[1].content,
                        "broken \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD and \xEF\xBF\xBD\xEF\xBF\xBD");
    assert_string_equal(m.items[2].content, big);
    assert_string_equal(m.items[2].reasoning, big);
    history_messages_clear(&m);
    free(big);
    history_close(h);
}

static void test_list(void **state)
{
    struct history *h = open_or_die(*state);
    struct history_list list;
    OK(history_conversation_list(h, NULL, 0, -1, &list, err));
    assert_int_equal(list.n, 0);
    history_list_clear(&list);
    int64_t last;
    OK(history_conversation_last(h, &last, err));
    assert_int_equal(last, 0);
    for (int i = 0; i < 25; i++) {
        char text[32];
        snprintf(text, sizeof(text), "Topic %d", i);
        int64_t c = new_conversation(h);
        assert_int_equal(c, i + 1);
        add(h, c, HISTORY_USER, text);
    }
    usleep(2000);
    add(h, 3, HISTORY_USER, "newest");
    OK(history_conversation_list(h, NULL, 0, 10, &list, err));
    assert_int_equal(list.n, 10);
    assert_int_equal(list.items[0].id, 3);
    assert_int_equal(list.items[1].id, 25);
    history_list_clear(&list);
    OK(history_conversation_list(h, NULL, 20, 10, &list, err));
    assert_int_equal(list.n, 5);
    history_list_clear(&list);
    OK(history_conversation_list(h, "tOPIC 2", 0, -1, &list, err));
    assert_int_equal(list.n, 6); /* 2 and 20..24 */
    history_list_clear(&list);
    OK(history_conversation_list(h, "%", 0, -1, &list, err));
    assert_int_equal(list.n, 0);
    history_list_clear(&list);
    history_close(h);
}

static void test_delete(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h), kept = new_conversation(h);
    add(h, kept, HISTORY_USER, "stays");
    for (int i = 0; i < 3000; i++) /* deeper than SQLite's limit on recursion */
        add(h, c, i % 2 ? HISTORY_ASSISTANT : HISTORY_USER, "my secret Pelikan");
    OK(history_conversation_delete(h, c, err));
    assert_int_equal(history_conversation_delete(h, c, err), -1);
    struct history_facts facts;
    OK(history_check(h, &facts, err));
    assert_int_equal(facts.conversations, 1);
    assert_int_equal(facts.messages, 1);
    assert_true(new_conversation(h) > kept);
    history_close(h);
    size_t size = 0;
    char *data = slurp(p->path, &size);
    assert_null(memmem(data, size, "Pelikan", 7));
    assert_null(memmem(data, size, "pel", 3)); /* a trigram of the index */
    free(data);
}

static void test_search(void **state)
{
    struct history *h = open_or_die(*state);
    struct history_hits hits;
    int64_t a = new_conversation(h), b = new_conversation(h), answer;
    add(h, a, HISTORY_USER, "Wie lädt man ein Schiff?");
    OK(history_message_begin(h, a, HISTORY_ACTIVE, NULL, NULL, &answer, err));
    OK(history_message_update(h, answer, "With a crane", NULL, err));
    OK(history_search(h, "crane", 10, &hits, err));
    assert_int_equal(hits.n, 0); /* still streaming */
    history_hits_clear(&hits);
    OK(history_message_finish(h, answer, HISTORY_COMPLETE, "With a crane, \"slowly\".", "hidden",
                              NULL, err));
    add(h, b, HISTORY_USER, "北京的天气怎么样？");
    OK(history_conversation_rename(h, b, "Weather in Beijing", err));

    static const struct {
        const char *query;
        int n;
    } cases[] = {
        {"CRANE", 1},
        {"slowly crane", 1},
        {"crane ship", 0},
        {"\"slowly\"", 1},
        {"schiff", 2},
        {"LÄDT", 2},
        {"天气怎", 1},
        {"天气", 1},
        {"beijing", 1},
        {"in", 3},
        {"", 0},
        {"  ", 0},
        {"nowhere", 0},
        {"cr*", 0},
        {"crane OR nowhere", 0},
        {"content:crane", 0},
        {"%", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        OK(history_search(h, cases[i].query, 10, &hits, err));
        /* Titles fold ASCII only, so the one of the first message is missed in capitals. */
        int expected = strcmp(cases[i].query, "LÄDT") == 0 ? 1 : cases[i].n;
        if (hits.n != expected)
            fail_msg("\"%s\": %d hits, not %d", cases[i].query, hits.n, expected);
        history_hits_clear(&hits);
    }
    OK(history_search(h, "crane", 10, &hits, err));
    assert_int_equal(hits.items[0].conversation, a);
    assert_int_equal(hits.items[0].message, answer);
    assert_int_equal(hits.items[0].role, HISTORY_ASSISTANT);
    assert_string_equal(hits.items[0].title, "Wie lädt man ein Schiff?");
    assert_string_equal(hits.items[0].excerpt, "With a crane, \"slowly\".");
    history_hits_clear(&hits);
    OK(history_search(h, "a", 1, &hits, err));
    assert_int_equal(hits.n, 1);
    history_hits_clear(&hits);
    history_close(h);
}

/* Branches in the order in which they are read: what was said after a version, then the next one. */
static void test_branches(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h), other = new_conversation(h), leaf;
    int64_t q = add(h, c, HISTORY_USER, "one");
    add(h, other, HISTORY_USER, "one of another conversation");
    int64_t a = add(h, c, HISTORY_ASSISTANT, "a");
    int64_t b, two, changed;
    add(h, c, HISTORY_USER, "two");
    OK(history_message_add(h, c, q, HISTORY_ASSISTANT, "b", &b, err));
    OK(history_message_add(h, c, 0, HISTORY_USER, "one, changed", &changed, err));
    OK(history_message_add(h, c, a, HISTORY_USER, "two, changed", &two, err));
    struct history_messages m;
    static const struct {
        const char *text;
        int version, versions;
    } all[] = {{"one", 1, 2},          {"a", 1, 2},           {"two", 1, 2}, {"b", 2, 2},
               {"one, changed", 2, 2}, {"two, changed", 2, 2}};
    OK(history_messages_all(h, c, &m, err));
    assert_int_equal(m.n, 6);
    for (int i = 0; i < m.n; i++) {
        assert_string_equal(m.items[i].content, all[i].text);
        assert_int_equal(m.items[i].version, all[i].version);
        assert_int_equal(m.items[i].versions, all[i].versions);
    }
    history_messages_clear(&m);
    OK(history_messages_leaves(h, c, &m, err));
    assert_int_equal(m.n, 4);
    assert_string_equal(m.items[0].content, "two");
    assert_string_equal(m.items[3].content, "two, changed");
    history_messages_clear(&m);
    OK(history_version_leaf(h, b, 1, &leaf, err));
    assert_int_equal(leaf, two);
    OK(history_version_leaf(h, b, 2, &leaf, err));
    assert_int_equal(leaf, b);
    OK(history_version_leaf(h, q, 2, &leaf, err));
    assert_int_equal(leaf, changed);
    assert_int_equal(history_version_leaf(h, b, 3, &leaf, err), -1);
    assert_line(err, "no version 3");
    assert_int_equal(history_version_leaf(h, b, 0, &leaf, err), -1);
    assert_int_equal(history_message_get(h, 999, &m, err), -1);
    assert_line(err, "there is none");

    char *text = history_export(h, c, HISTORY_BRANCHES, err);
    static const char *const order[] = {"\none\n",          "\na\n", "\ntwo\n",
                                        "\ntwo, changed\n", "\nb\n", "\none, changed\n"};
    const char *at = strchr(text, 'Y');
    for (int i = 0; i < 6; i++) {
        at = at ? strstr(at, order[i]) : NULL;
        assert_non_null(at);
    }
    free(text);
    /* Damage: a parent that is younger, and one that is not there. Nothing is left out, nothing hangs. */
    sqlite3 *db;
    assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "UPDATE messages SET parent = 7 WHERE id = 1;"
                                  "UPDATE messages SET parent = 99 WHERE content = 'b'",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    text = history_export(h, c, HISTORY_BRANCHES, err);
    for (int i = 0; i < 6; i++)
        assert_non_null(strstr(text, order[i]));
    free(text);
    OK(history_version_leaf(h, q, 1, &leaf, err));
    history_close(h);
}

/* ---- processes ------------------------------------------------------------------------------- */

static enum history_state last_state(struct history *h, int64_t c)
{
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_true(m.n > 0);
    enum history_state s = m.items[m.n - 1].state;
    history_messages_clear(&m);
    return s;
}

static void test_close_interrupts(void **state)
{
    struct history *h = open_or_die(*state);
    int64_t c = new_conversation(h), id;
    add(h, c, HISTORY_USER, "q");
    OK(history_message_begin(h, c, HISTORY_ACTIVE, NULL, NULL, &id, err));
    OK(history_message_update(h, id, "half", NULL, err));
    history_close(h);
    h = open_or_die(*state);
    assert_int_equal(last_state(h, c), HISTORY_INTERRUPTED);
    assert_int_equal(history_message_update(h, id, "x", NULL, err), -1);
    assert_line(err, "not being written");
    assert_int_equal(history_message_finish(h, id, HISTORY_COMPLETE, "x", NULL, NULL, err), -1);
    history_close(h);
}

/* Another process streams: its answer is left alone while it lives and interrupted when it dies,
 * even if the database was opened before that. */
static void test_second_process(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h), shown = 0;
    int ready[2], go[2];
    assert_int_equal(pipe(ready) | pipe(go), 0);
    history_close(h);
    pid_t child = fork();
    if (child == 0) {
        char byte = 0;
        int64_t id;
        if (history_open(&h, p->path, err) ||
            history_message_begin(h, c, HISTORY_ACTIVE, NULL, NULL, &id, err) ||
            history_message_update(h, id, "still here", NULL, err) ||
            write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1 ||
            history_message_update(h, id, "still here and more", NULL, err) ||
            write(ready[1], &byte, 1) != 1)
            _exit(1);
        pause();
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    h = open_or_die(p);
    assert_int_equal(last_state(h, c), HISTORY_STREAMING);
    for (int i = 0; i < 20; i++) /* both write */
        add(h, new_conversation(h), HISTORY_USER, "from the first process");
    assert_int_equal(write(go[1], &byte, 1), 1);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(last_state(h, c), HISTORY_INTERRUPTED);
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_string_equal(m.items[0].content, "still here and more");
    assert_int_equal(m.items[0].finished, shown);
    history_messages_clear(&m);
    history_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_titles),
        TEST(test_tree),
        TEST(test_copy),
        TEST(test_unicode_and_big),
        TEST(test_list),
        TEST(test_delete),
        TEST(test_search),
        TEST(test_branches),
        TEST(test_close_interrupts),
        TEST(test_second_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
