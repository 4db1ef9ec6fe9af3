/* What calls cost beside many other conversations, in steps of SQLite's: those of one conversation must
 * not depend on how many others there are. */
#include "tests/unit/history_common.h"

#include "history/internal.h"

static int64_t steps;

static int count_steps(unsigned event, void *user, void *statement, void *ns)
{
    (void)event;
    (void)user;
    (void)ns;
    steps += sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_VM_STEP, 1);
    return 0;
}

/* A question asked in two forms, the second of which has two answers; *first: its first form. */
static int64_t converse(struct history *h, int64_t *first)
{
    int64_t c = new_conversation(h);
    *first = add(h, c, HISTORY_USER, "one");
    add(h, c, HISTORY_ASSISTANT, "a");
    OK(history_leaf_set(h, c, 0, err));
    int64_t q = add(h, c, HISTORY_USER, "one, changed");
    add(h, c, HISTORY_ASSISTANT, "b");
    OK(history_message_add(h, c, q, HISTORY_ASSISTANT, "c", NULL, err));
    return c;
}

/* The calls that are counted, on conversation c whose first question is q. */
static void path(struct history *h, int64_t c, int64_t q)
{
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 2);
    assert_int_equal(m.items[0].id, q + 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(m.items[i].version, 2);
        assert_int_equal(m.items[i].versions, 2);
    }
    history_messages_clear(&m);
}

static void all(struct history *h, int64_t c, int64_t q)
{
    struct history_messages m;
    (void)q;
    OK(history_messages_all(h, c, &m, err));
    assert_int_equal(m.n, 5);
    history_messages_clear(&m);
}

static void leaves(struct history *h, int64_t c, int64_t q)
{
    struct history_messages m;
    (void)q;
    OK(history_messages_leaves(h, c, &m, err));
    assert_int_equal(m.n, 3);
    history_messages_clear(&m);
}

static void one(struct history *h, int64_t c, int64_t q)
{
    struct history_messages m;
    (void)c;
    OK(history_message_get(h, q, &m, err));
    assert_int_equal(m.items[0].versions, 2);
    history_messages_clear(&m);
}

static void version(struct history *h, int64_t c, int64_t q)
{
    int64_t leaf;
    (void)c;
    OK(history_version_leaf(h, q, 2, &leaf, err));
    assert_int_equal(leaf, q + 4);
}

static void branch(struct history *h, int64_t c, int64_t q)
{
    OK(history_leaf_set(h, c, q + 4, err));
}

static void copy(struct history *h, int64_t c, int64_t q)
{
    int64_t made;
    (void)q;
    OK(history_conversation_copy(h, c, HISTORY_ACTIVE, &made, err));
}

static void ask(struct history *h, int64_t c, int64_t q)
{
    (void)q;
    OK(history_message_add(h, c, 0, HISTORY_USER, "another first question", NULL, err));
}

static const struct {
    const char *name;
    void (*call)(struct history *h, int64_t c, int64_t q);
} calls[] = {
    {"path", path},       {"all", all},       {"leaves", leaves}, {"one message", one},
    {"version", version}, {"branch", branch}, {"copy", copy},     {"first question", ask},
};
enum { N_CALLS = sizeof(calls) / sizeof(*calls) };

static void measure(struct history *h, int64_t out[N_CALLS])
{
    int64_t q, c = converse(h, &q);
    for (int i = 0; i < N_CALLS; i++) {
        steps = 0;
        calls[i].call(h, c, q);
        out[i] = steps;
        assert_true(steps > 0);
    }
}

static void test_other_conversations_cost_nothing(void **state)
{
    struct history *h = open_or_die(*state);
    int64_t before[N_CALLS], after[N_CALLS], q;
    sqlite3_trace_v2(h->db, SQLITE_TRACE_PROFILE, count_steps, NULL);
    measure(h, before);
    for (int i = 0; i < 200; i++)
        converse(h, &q);
    measure(h, after);
    for (int i = 0; i < N_CALLS; i++) {
        print_message("%-14s %4lld steps\n", calls[i].name, (long long)before[i]);
        if (after[i] * 10 > before[i] * 11) /* a step more or less depends on the clock */
            fail_msg("%s: %lld steps in a small database, %lld in a large one", calls[i].name,
                     (long long)before[i], (long long)after[i]);
    }
    history_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_other_conversations_cost_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
