/* The database as a file: modes, versions, damage, what cannot be written. */
#include "tests/unit/history_common.h"

static void test_modes(void **state)
{
    struct place *p = *state;
    umask(0);
    struct history *h = open_or_die(p);
    new_conversation(h);
    struct stat st;
    char path[160];
    static const char *const suffixes[] = {"", "-wal", "-shm", "-lock"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s%s", p->path, suffixes[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    snprintf(path, sizeof(path), "%s/a", p->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    history_close(h);

    chmod(p->path, 0644);
    history_close(open_or_die(p));
    assert_int_equal(stat(p->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void refused(const struct place *p, const char *part)
{
    size_t before_size, after_size;
    char *before = slurp(p->path, &before_size);
    struct history *h = NULL;
    assert_int_equal(history_open(&h, p->path, err), -1);
    assert_null(h);
    assert_line(err, part);
    assert_line(err, p->path);
    char *after = slurp(p->path, &after_size);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, before_size);
    free(before);
    free(after);
}

static void execute(const char *path, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s", why);
    sqlite3_close(db);
}

static void test_newer(void **state)
{
    struct place *p = *state;
    history_close(open_or_die(p));
    execute(p->path, "PRAGMA user_version = 99");
    refused(p, "newer lade (version 99");
}

/* A log left by a killed newer lade must not be written back either. */
static void test_newer_with_log(void **state)
{
    struct place *p = *state;
    history_close(open_or_die(p));
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        if (sqlite3_open(p->path, &db) ||
            sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL))
            _exit(1);
        _exit(0); /* without closing: the log stays */
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    refused(p, "newer lade (version 99");
}

static void test_another_program(void **state)
{
    struct place *p = *state;
    history_close(open_or_die(p));
    unlink(p->path);
    execute(p->path, "CREATE TABLE cookies (x); PRAGMA user_version = 1");
    refused(p, "another program");
}

static void test_not_a_database(void **state)
{
    struct place *p = *state;
    history_close(open_or_die(p));
    char junk[5000];
    for (size_t i = 0; i < sizeof(junk); i++)
        junk[i] = (char)('a' + i % 23);
    spill(p->path, junk, sizeof(junk));
    refused(p, "not a database");
    spill(p->path, "short", 5);
    refused(p, "");
}

static void test_truncated(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    for (int i = 0; i < 50; i++)
        add(h, c, HISTORY_USER, "words that fill some pages of the database, again and again");
    history_close(h);
    size_t size = 0;
    char *data = slurp(p->path, &size);
    spill(p->path, data, size / 2);
    refused(p, "malformed");
    free(data);
}

/* A message whose role or state is none of those that there are is named; others can be read. */
static void test_damaged_message(void **state)
{
    struct place *p = *state;
    static const char *const damages[] = {"role = 'owner'", "state = 'sold'"};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        char sql[160], part[64];
        struct history *h = open_or_die(p);
        int64_t sound = new_conversation(h), c = new_conversation(h);
        add(h, sound, HISTORY_USER, "a sound question");
        int64_t id = add(h, c, HISTORY_USER, "a damaged question");
        history_close(h);
        snprintf(sql, sizeof sql,
                 "PRAGMA ignore_check_constraints = ON; UPDATE messages SET %s WHERE id = %lld",
                 damages[i], (long long)id);
        execute(p->path, sql);

        h = open_or_die(p);
        struct history_messages m;
        assert_int_equal(history_messages_path(h, c, HISTORY_ACTIVE, &m, err), -1);
        snprintf(part, sizeof part, "message %lld is damaged", (long long)id);
        assert_line(err, part);
        assert_line(err, p->path);
        assert_null(history_export(h, c, HISTORY_MARKDOWN, err));
        assert_line(err, part);
        struct history_hits hits;
        OK(history_search(h, "damaged", 10, &hits, err));
        assert_true(hits.n > 0);
        history_hits_clear(&hits);
        OK(history_messages_path(h, sound, HISTORY_ACTIVE, &m, err));
        assert_int_equal(m.n, 1);
        history_messages_clear(&m);
        history_close(h);
    }
}

/* Damage in the middle cannot be seen on opening; it is found when it is read. */
static void test_damaged_page(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    for (int i = 0; i < 200; i++)
        add(h, c, HISTORY_USER, "words that fill some pages of the database, again and again");
    history_close(h);
    size_t size = 0;
    char *data = slurp(p->path, &size);
    memset(data + size / 3 / 4096 * 4096, 0x5a, size / 3 / 4096 * 4096);
    spill(p->path, data, size);
    free(data);
    h = NULL;
    struct history_facts facts;
    if (history_open(&h, p->path, err) == 0)
        assert_int_equal(history_check(h, &facts, err), -1);
    assert_line(err, p->path);
    history_close(h);
}

static void test_unwritable(void **state)
{
    struct place *p = *state;
    char path[160];
    struct history *h;
    snprintf(path, sizeof(path), "%s/file", p->dir);
    spill(path, "x", 1);
    snprintf(path, sizeof(path), "%s/file/history.db", p->dir);
    assert_int_equal(history_open(&h, path, err), -1);
    assert_line(err, "Not a directory");
    assert_int_equal(history_open(&h, p->dir, err), -1);
    assert_line(err, p->dir);
}

/* Closes h; the test is skipped where the history has no index. */
static void close_indexed(struct history *h)
{
    struct history_facts facts;
    OK(history_check(h, &facts, err));
    history_close(h);
    if (!facts.indexed) {
        print_message("skipped: this SQLite has no FTS5\n");
        skip();
    }
}

/* A database whose index was dropped (a library without FTS5 wrote to it) gets a new one. */
static void test_index_is_rebuilt(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    add(h, c, HISTORY_USER, "the heron waits");
    close_indexed(h);
    execute(p->path, "DROP TRIGGER search_insert; DROP TRIGGER search_finish;"
                     "DROP TRIGGER search_edit; DROP TRIGGER search_delete;"
                     "UPDATE messages SET content = 'the kingfisher dives'");
    h = open_or_die(p);
    struct history_hits hits;
    OK(history_search(h, "heron", 10, &hits, err));
    assert_int_equal(hits.n, 1); /* the title, made from the first line */
    assert_int_equal(hits.items[0].message, 0);
    history_hits_clear(&hits);
    OK(history_search(h, "kingfisher", 10, &hits, err));
    assert_int_equal(hits.n, 1);
    history_hits_clear(&hits);
    history_close(h);
    execute(p->path, "INSERT INTO search(search) VALUES ('integrity-check')");
}

/* Ways to damage the index, and what is done then: it is made anew, and nothing is lost. */
static void test_damaged_index(void **state)
{
    struct place *p = *state;
    static const char *const damages[] = {
        "UPDATE search_data SET block = x'00'",
        "DELETE FROM search_data",
        "UPDATE search_data SET block = x'ffffffff' WHERE id > 1",
        "DROP TABLE search_idx",
        "UPDATE search_config SET v = 99 WHERE k = 'version'",
    };
    struct history *h = open_or_die(p);
    close_indexed(h);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++)
        for (int way = 0; way < 4; way++) {
            h = open_or_die(p);
            int64_t c = new_conversation(h), doomed = new_conversation(h), answer;
            add(h, c, HISTORY_USER, "the heron waits");
            add(h, doomed, HISTORY_USER, "a bittern booms");
            OK(history_message_begin(h, c, HISTORY_ACTIVE, "tiny", NULL, &answer, err));
            execute(p->path, damages[i]);
            struct history_hits hits;
            if (way == 0)
                OK(history_message_finish(h, answer, HISTORY_COMPLETE, "for fish", NULL, NULL,
                                          err));
            else if (way == 1)
                add(h, c, HISTORY_USER, "the kingfisher dives");
            else if (way == 2)
                OK(history_conversation_delete(h, doomed, err));
            else if (history_search(h, "heron", 10, &hits, err) == 0)
                history_hits_clear(&hits); /* it may find too little without noticing */
            if (way != 0)
                OK(history_message_finish(h, answer, HISTORY_COMPLETE, "for fish", NULL, NULL,
                                          err));
            if (way != 2)
                OK(history_conversation_delete(h, doomed, err));
            history_close(h);

            execute(p->path, "INSERT INTO search(search) VALUES ('integrity-check')");
            h = open_or_die(p); /* defended again, as it was before */
            struct history_messages m;
            OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
            assert_int_equal(m.n, way == 1 ? 3 : 2);
            history_messages_clear(&m);
            OK(history_search(h, "bittern", 10, &hits, err));
            assert_int_equal(hits.n, 0);
            history_hits_clear(&hits);
            OK(history_search(h, "for fish", 10, &hits, err));
            assert_int_equal(hits.n, 1);
            history_hits_clear(&hits);
            OK(history_conversation_delete(h, c, err));
            history_close(h);
        }
}

static int found(struct history *h, const char *words)
{
    struct history_hits hits;
    OK(history_search(h, words, 10, &hits, err));
    int n = hits.n;
    history_hits_clear(&hits);
    return n;
}

static int keep_number(void *to, int n, char **values, char **names)
{
    (void)n, (void)names;
    *(size_t *)to = (size_t)atol(values[0]);
    return 0;
}

/* Fills the first page of a table with garbage. */
static void spoil(const char *path, const char *table)
{
    sqlite3 *db;
    char sql[128];
    size_t page = 0, size = 0;
    snprintf(sql, sizeof sql, "SELECT rootpage FROM sqlite_schema WHERE name = '%s'", table);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, sql, keep_number, &page, NULL);
    sqlite3_close(db);
    char *data = slurp(path, &size);
    assert_true(page > 1 && page * 4096 <= size);
    memset(data + (page - 1) * 4096, 0x5a, 4096);
    spill(path, data, size);
    free(data);
}

/* An index whose pages are garbage can be neither opened nor dropped: it is forgotten and made anew,
 * whatever is done first. */
static void test_index_of_garbage(void **state)
{
    struct place *p = *state;
    static const char *const tables[] = {"search_data", "search_idx", "search_docsize",
                                         "search_config"};
    struct history *h = open_or_die(p);
    close_indexed(h);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (int way = 0; way < 4; way++) {
            struct history_facts facts;
            h = open_or_die(p);
            int64_t c = new_conversation(h), doomed = new_conversation(h);
            add(h, c, HISTORY_USER, "birds\nthe heron waits");
            add(h, doomed, HISTORY_USER, "reeds\na bittern booms");
            history_close(h);
            spoil(p->path, tables[i]);
            h = open_or_die(p);
            if (way == 0)
                OK(history_conversation_delete(h, doomed, err));
            else if (way == 1)
                add(h, c, HISTORY_USER, "the kingfisher dives");
            else if (way == 2)
                assert_int_equal(found(h, "waits"), 1);
            OK(history_check(h, &facts, err));
            assert_int_equal(found(h, "waits"), 1);
            if (way != 0)
                OK(history_conversation_delete(h, doomed, err));
            assert_int_equal(found(h, "booms"), 0);
            OK(history_conversation_delete(h, c, err));
            history_close(h);
            execute(p->path, "INSERT INTO search(search) VALUES ('integrity-check')");
        }
}

/* The same where its triggers are gone, too: opening it finds that out. */
static void test_index_of_garbage_without_triggers(void **state)
{
    struct place *p = *state;
    static const char *const tables[] = {"search_data", "search_idx", "search_docsize",
                                         "search_config"};
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    add(h, c, HISTORY_USER, "birds\nthe heron waits");
    close_indexed(h);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct history_facts facts;
        execute(p->path, "DROP TRIGGER search_insert; DROP TRIGGER search_finish;"
                         "DROP TRIGGER search_edit; DROP TRIGGER search_delete;");
        spoil(p->path, tables[i]);
        h = open_or_die(p);
        assert_int_equal(found(h, "waits"), 1);
        OK(history_check(h, &facts, err));
        history_close(h);
        execute(p->path, "INSERT INTO search(search) VALUES ('integrity-check')");
    }
}

/* Where messages are garbage the reason is said, and the index is not blamed. */
static void test_messages_of_garbage(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    add(h, c, HISTORY_USER, "the heron waits");
    close_indexed(h);
    spoil(p->path, "messages");
    h = open_or_die(p);
    assert_int_equal(history_conversation_delete(h, c, err), -1);
    assert_line(err, "malformed");
    assert_line(err, p->path);
    struct history_facts facts;
    assert_int_equal(history_check(h, &facts, err), -1);
    assert_line(err, "is damaged");
    history_close(h);
}

/* Bytes that are no UTF-8 came there by damage: all that reads them says U+FFFD instead. */
static void test_bytes_that_are_no_text(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    add(h, c, HISTORY_USER, "a question");
    history_close(h);
    execute(p->path, "UPDATE messages SET content = CAST(x'61ff62' AS TEXT)");
    h = open_or_die(p);
    struct history_messages m;
    OK(history_messages_path(h, c, HISTORY_ACTIVE, &m, err));
    assert_string_equal(m.items[0].content, "a\xEF\xBF\xBD"
                                            "b");
    history_messages_clear(&m);
    char *text = history_export(h, 0, HISTORY_JSON, err);
    if (!text)
        fail_msg("%s", err);
    free(text);
    history_close(h);
}

/* An index that can be read and lacks messages: what it says is not believed where it says
 * "nothing", and a check makes it anew. Titles are not searched by it. */
static void test_index_lacks_messages(void **state)
{
    struct place *p = *state;
    struct history *h = open_or_die(p);
    int64_t c = new_conversation(h);
    add(h, c, HISTORY_USER, "birds\nthe heron waits");
    add(h, c, HISTORY_USER, "the kingfisher and the heron");
    close_indexed(h);
    static const char all[] = "INSERT INTO search(search) VALUES ('delete-all')";
    static const char first[] = "INSERT INTO search(search, rowid, content)"
                                " SELECT 'delete', id, content FROM messages WHERE id = 1";
    execute(p->path, all);
    h = open_or_die(p);
    assert_int_equal(found(h, "waits"), 1);
    assert_int_equal(found(h, "bittern"), 0);
    assert_int_equal(found(h, "heron"), 2);
    history_close(h);
    execute(p->path, "INSERT INTO search(search, rank) VALUES ('integrity-check', 1)");

    execute(p->path, first);
    h = open_or_die(p);
    assert_int_equal(found(h, "heron"), 1); /* it has one, and is believed */
    struct history_facts facts;
    OK(history_check(h, &facts, err));
    assert_int_equal(found(h, "heron"), 2);
    /* What is being written is not in the index and no damage. */
    int64_t answer;
    OK(history_message_begin(h, c, HISTORY_ACTIVE, "tiny", NULL, &answer, err));
    OK(history_check(h, &facts, err));
    OK(history_message_finish(h, answer, HISTORY_COMPLETE, "for fish", NULL, NULL, err));
    assert_int_equal(found(h, "for fish"), 1);
    history_close(h);
    execute(p->path, "INSERT INTO search(search, rank) VALUES ('integrity-check', 1)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_modes),
        TEST(test_newer),
        TEST(test_newer_with_log),
        TEST(test_another_program),
        TEST(test_not_a_database),
        TEST(test_truncated),
        TEST(test_damaged_message),
        TEST(test_damaged_page),
        TEST(test_unwritable),
        TEST(test_index_is_rebuilt),
        TEST(test_damaged_index),
        TEST(test_index_lacks_messages),
        TEST(test_bytes_that_are_no_text),
        TEST(test_index_of_garbage),
        TEST(test_index_of_garbage_without_triggers),
        TEST(test_messages_of_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
