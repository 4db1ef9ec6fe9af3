/* A history that cannot be written can be read: as another user here, whom a read-only file system or
 * a full disk is like. Whatever is beside the file, nothing is made, changed or lost. */
#include "tests/unit/history_common.h"

#include <dirent.h>
#include <sys/prctl.h>

enum { NOBODY = 65534 };

/* A conversation of four messages, the last one being written; the program ends without closing, or
 * waits for `until` (a pipe's end) to be closed first. Returns its process. */
static pid_t write_one(const struct place *p, int until)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct history *h;
        int64_t c, answer;
        if (history_open(&h, p->path, err) || history_conversation_new(h, "", NULL, &c, err) ||
            history_message_add(h, c, 0, HISTORY_USER, "birds\nwhere does a heron wait", NULL,
                                err) ||
            history_message_add(h, c, HISTORY_ACTIVE, HISTORY_ASSISTANT, "in the reeds", NULL,
                                err) ||
            history_message_add(h, c, HISTORY_ACTIVE, HISTORY_USER, "for what", NULL, err) ||
            history_message_begin(h, c, HISTORY_ACTIVE, "tiny", NULL, &answer, err) ||
            history_message_update(h, answer, "for fi", NULL, err))
            _exit(1);
        close(ready[1]);
        while (until >= 0 && read(until, &byte, 1) > 0)
            ;
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 0);
    close(ready[0]);
    return child;
}

static void ended(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void set_modes(const struct place *p, mode_t directory, mode_t file)
{
    char path[512];
    snprintf(path, sizeof path, "%s/a/b", p->dir);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/a/b/%s", p->dir, e->d_name);
        if (e->d_name[0] != '.')
            assert_int_equal(chmod(path, file), 0);
    }
    if (dir)
        closedir(dir);
    static const char *const below[] = {"/a/b", "/a", ""};
    for (size_t i = dir ? 0 : 2; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", p->dir, below[i]);
        assert_int_equal(chmod(path, directory), 0);
    }
}

/* From here on nothing in the folder can be written by us, until `owner`. */
static void stranger(const struct place *p)
{
    set_modes(p, 0555, 0444);
    if (getuid() == 0)
        assert_int_equal(seteuid(NOBODY), 0);
}

static void owner(const struct place *p)
{
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    prctl(PR_SET_DUMPABLE, 1); /* what looks for leaks at the end needs it */
    set_modes(p, 0755, 0644);
}

static int files(const struct place *p)
{
    char path[160];
    snprintf(path, sizeof path, "%s/a/b", p->dir);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int n = 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static struct history *open_as_stranger(const struct place *p)
{
    struct history *h = NULL;
    assert_int_equal(history_open(&h, p->path, err), -1);
    assert_line(err, "Permission denied");
    err[0] = '\0';
    assert_int_equal(history_open_to_read(&h, p->path, err), 0);
    assert_true(history_is_read_only(h));
    assert_line(err, "Permission denied");
    return h;
}

static void reads_all(struct history *h, enum history_state last)
{
    struct history_list list;
    struct history_messages m;
    struct history_hits hits;
    OK(history_conversation_list(h, NULL, 0, -1, &list, err));
    assert_int_equal(list.n, 1);
    int64_t id = list.items[0].id;
    assert_string_equal(list.items[0].title, "birds");
    history_list_clear(&list);
    OK(history_messages_path(h, id, HISTORY_ACTIVE, &m, err));
    assert_int_equal(m.n, 4);
    assert_string_equal(m.items[3].content, "for fi");
    assert_int_equal(m.items[2].state, HISTORY_COMPLETE);
    assert_int_equal(m.items[3].state, last);
    history_messages_clear(&m);
    OK(history_search(h, "heron", 10, &hits, err));
    assert_int_equal(hits.n, 1);
    history_hits_clear(&hits);
    char *text = history_export(h, id, HISTORY_MARKDOWN, err);
    if (!text)
        fail_msg("%s", err);
    assert_non_null(strstr(text, "in the reeds"));
    free(text);

    int64_t made;
    assert_int_equal(history_conversation_new(h, "", NULL, &made, err), -1);
    assert_line(err, "readonly database");
    assert_int_equal(history_message_add(h, id, HISTORY_ACTIVE, HISTORY_USER, "x", NULL, err), -1);
    assert_line(err, "readonly database");
    assert_int_equal(history_conversation_delete(h, id, err), -1);
    assert_line(err, "readonly database");
}

/* The database was closed, its writer was killed, or the file was copied with its log only. */
static void test_reading(void **state)
{
    struct place *p = *state;
    char shm[160], wal[160];
    snprintf(shm, sizeof shm, "%s-shm", p->path);
    snprintf(wal, sizeof wal, "%s-wal", p->path);
    ended(write_one(p, -1));
    assert_int_equal(access(wal, F_OK), 0);
    for (int way = 0; way < 3; way++) {
        if (way == 1)
            assert_int_equal(unlink(shm), 0);
        if (way == 2)
            history_close(open_or_die(p)); /* the log goes into the file */
        int before = files(p);
        size_t size, size_after;
        char *data = slurp(p->path, &size);
        stranger(p);
        struct history *h = open_as_stranger(p);
        reads_all(h, HISTORY_INTERRUPTED);
        history_close(h);
        owner(p);
        char *after = slurp(p->path, &size_after);
        assert_int_equal(size, size_after);
        assert_memory_equal(data, after, size);
        assert_int_equal(before, files(p));
        assert_int_equal(access(wal, F_OK), way == 2 ? -1 : 0);
        free(data);
        free(after);
    }
}

/* While another program, which may write, is in the middle of an answer. */
static void test_reading_beside_a_writer(void **state)
{
    struct place *p = *state;
    int until[2];
    assert_int_equal(pipe(until), 0);
    fcntl(until[1], F_SETFD, FD_CLOEXEC);
    pid_t writer = fork();
    if (writer == 0) {
        close(until[1]);
        ended(write_one(p, until[0]));
        _exit(0);
    }
    close(until[0]);
    struct history *h = NULL;
    for (int i = 0; i < 500; i++) { /* until the message is there */
        struct history_messages m = {0};
        if (access(p->path, F_OK) == 0 && history_open(&h, p->path, err) == 0 &&
            history_messages_path(h, 1, HISTORY_ACTIVE, &m, err) == 0 && m.n == 4 &&
            *m.items[3].content)
            i = 500;
        history_messages_clear(&m);
        history_close(h);
        h = NULL;
        usleep(i < 500 ? 10000 : 0);
    }
    stranger(p);
    h = open_as_stranger(p);
    reads_all(h, HISTORY_STREAMING);
    close(until[1]);
    ended(writer);
    reads_all(h, HISTORY_INTERRUPTED);
    history_close(h);
    owner(p);
}

/* Names that mean something in a URI. */
static void test_names(void **state)
{
    struct place *p = *state;
    ended(write_one(p, -1));
    history_close(open_or_die(p));
    char to[sizeof p->path];
    snprintf(to, sizeof to, "%s/a/b/50%%25?x=1#y", p->dir);
    assert_int_equal(rename(p->path, to), 0);
    stranger(p);
    memcpy(p->path, to, sizeof to);
    struct history *h = open_as_stranger(p);
    reads_all(h, HISTORY_INTERRUPTED);
    history_close(h);
    owner(p);
}

/* What is refused where it can be written is refused here, too, by the same line. */
static void test_refused(void **state)
{
    struct place *p = *state;
    struct history *h = NULL;
    stranger(p);
    assert_int_equal(history_open_to_read(&h, p->path, err), -1);
    assert_line(err, "cannot make the directory");
    assert_null(h);
    owner(p);
    static const char *const changes[] = {"PRAGMA user_version = 99", "PRAGMA user_version = 0",
                                          "PRAGMA application_id = 7"};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        sqlite3 *db;
        history_close(open_or_die(p));
        assert_int_equal(sqlite3_open(p->path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        stranger(p);
        assert_int_equal(history_open_to_read(&h, p->path, err), -1);
        assert_line(err, p->path);
        assert_null(h);
        owner(p);
        assert_int_equal(unlink(p->path), 0);
    }
}

/* Where it can be written it is. */
static void test_writable(void **state)
{
    struct place *p = *state;
    struct history *h = NULL;
    OK(history_open_to_read(&h, p->path, err));
    assert_false(history_is_read_only(h));
    new_conversation(h);
    history_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reading),  TEST(test_reading_beside_a_writer),
        TEST(test_names),    TEST(test_refused),
        TEST(test_writable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
