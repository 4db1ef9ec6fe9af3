/* Migrations: each step or nothing, and never twice. */
#include "history/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char err[HISTORY_ERR];
static char path[] = "/tmp/lade-migrate-XXXXXX";

static struct history database(void)
{
    struct history h = {.path = path};
    assert_int_equal(sqlite3_open(path, &h.db), SQLITE_OK);
    return h;
}

static int64_t value(struct history *h, const char *sql)
{
    int64_t v;
    if (history_value(h, sql, NULL, &v, NULL, err))
        fail_msg("%s", err);
    return v;
}

static void test_steps(void **state)
{
    (void)state;
    static const char *const steps[] = {
        "CREATE TABLE t (a); INSERT INTO t VALUES (1);",
        "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = a + 1;",
        "INSERT INTO t VALUES (5, 6); DELETE FROM t WHERE a = 1; INSERT INTO missing VALUES (1);",
    };
    struct history h = database();
    assert_int_equal(history_migrate(&h, steps, 1, err), 0);
    assert_int_equal(value(&h, "PRAGMA user_version"), 1);
    assert_int_equal(history_migrate(&h, steps, 2, err), 0);
    assert_int_equal(value(&h, "PRAGMA user_version"), 2);
    assert_int_equal(value(&h, "SELECT b FROM t"), 2);

    assert_int_equal(history_migrate(&h, steps, 3, err), -1);
    assert_non_null(strstr(err, "from version 2 to 3 failed: no such table: missing"));
    assert_int_equal(value(&h, "PRAGMA user_version"), 2);
    assert_int_equal(value(&h, "SELECT count(*) FROM t"), 1);
    assert_int_equal(value(&h, "SELECT a FROM t"), 1);
    assert_true(sqlite3_get_autocommit(h.db));
    sqlite3_close(h.db);
    unlink(path);
}

/* Two processes migrate at once: the second finds the work done. */
static void test_race(void **state)
{
    (void)state;
    static const char *const steps[] = {"CREATE TABLE t (a);"};
    struct history first = database(), second = database();
    assert_int_equal(history_begin(&first, err), 0);
    assert_int_equal(history_migrate(&second, steps, 1, err), -1);
    assert_non_null(strstr(err, "is locked; another program is writing to it"));
    assert_int_equal(history_end(&first, 0, err), 0);
    assert_int_equal(history_migrate(&first, steps, 1, err), 0);
    assert_int_equal(history_migrate(&second, steps, 1, err), 0);
    sqlite3_close(first.db);
    sqlite3_close(second.db);
    unlink(path);
}

static void test_ours(void **state)
{
    (void)state;
    struct history h = database();
    assert_int_equal(history_migrate(&h, history_schema, history_schema_version, err), 0);
    assert_int_equal(value(&h, "PRAGMA user_version"), history_schema_version);
    assert_int_equal(value(&h, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
    sqlite3_close(h.db);
    unlink(path);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    unlink(path);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_race),
        cmocka_unit_test(test_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
