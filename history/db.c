#include "history/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* In the header of the file, so that a database of another program is known as such. "lade". */
enum { APPLICATION = 0x6c616465 };

/* Makes the directories of `path` that are missing. */
static int make_directories(const char *path, char *err)
{
    char *copy = strdup(path);
    if (!copy)
        return history_fail_memory(err);
    int rc = 0;
    for (char *p = strchr(copy + 1, '/'); p && rc == 0; p = strchr(p + 1, '/')) {
        *p = '\0';
        if (mkdir(copy, 0700) && errno != EEXIST)
            rc = history_fail(err,
                              "%s: cannot make the directory: %s; set LADE_HOME to one that "
                              "is yours",
                              copy, strerror(errno));
        *p = '/';
    }
    free(copy);
    return rc;
}

/* Makes the file before SQLite does, because SQLite would obey the umask only. The files beside it
 * (-wal, -shm) get their mode from it. */
static int make_private(const char *path, char *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return history_fail(err, "%s: %s; make the file and its directory writable for you", path,
                            strerror(errno));
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        rc = history_fail(err, "%s: is not a file; move it away", path);
    else if ((st.st_mode & 077) && fchmod(fd, 0600))
        rc = history_fail(err,
                          "%s: others can read it and its mode cannot be changed: %s; "
                          "run chmod 600",
                          path, strerror(errno));
    close(fd);
    return rc;
}

/* Only reads. An empty file is a new database. */
int history_check_ours(struct history *h, char *err)
{
    int64_t tables, application, version;
    if (history_value(h, "SELECT count(*) FROM sqlite_schema", NULL, &tables, NULL, err) ||
        history_value(h, "PRAGMA application_id", NULL, &application, NULL, err) ||
        history_value(h, "PRAGMA user_version", NULL, &version, NULL, err))
        return -1;
    if ((tables || version) && application != APPLICATION)
        return history_fail(err, "%s: is a database of another program; move it away", h->path);
    if (version > history_schema_version)
        return history_fail(err,
                            "%s: was written by a newer lade (version %lld, this one knows "
                            "%d); update lade",
                            h->path, (long long)version, history_schema_version);
    return 0;
}

static int prepare(struct history *h, char *err)
{
    /* A database that is refused must not even be checkpointed on close. */
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_busy_timeout(h->db, 3000);
    if (history_check_ours(h, err))
        return -1;
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);

    /* NORMAL: a commit survives the end of the process; only a power cut can cost the last ones,
     * and an fsync for every piece of a streamed answer would stall the screen. */
    if (history_run(h, "PRAGMA journal_mode = WAL", NULL, err) ||
        history_run(h, "PRAGMA synchronous = NORMAL", NULL, err) ||
        history_run(h, "PRAGMA foreign_keys = ON", NULL, err) ||
        history_run(h, "PRAGMA secure_delete = ON", NULL, err))
        return -1;
    int64_t application;
    if (history_value(h, "PRAGMA application_id", NULL, &application, NULL, err) ||
        (application != APPLICATION &&
         history_run(h, "PRAGMA application_id = 0x6c616465", NULL, err)))
        return -1;
    return history_migrate(h, history_schema, history_schema_version, err) == 0 &&
                   history_index(h, err) == 0 && history_writer_open(h, err) == 0
               ? history_recover(h, err)
               : -1;
}

struct history *history_allocate(const char *path, char *err)
{
    struct history *h = calloc(1, sizeof(*h));
    char *copy = strdup(path);
    if (!h || !copy) {
        history_fail_memory(err);
        free(copy);
        free(h);
        return NULL;
    }
    *h = (struct history){.path = copy, .lock_fd = -1, .writer = -1};
    return h;
}

int history_open(struct history **out, const char *path, char *err)
{
    *out = NULL;
    if (make_directories(path, err) || make_private(path, err))
        return -1;
    struct history *h = history_allocate(path, err);
    if (!h)
        return -1;
    int rc = 0;
    if (sqlite3_open_v2(path, &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        rc = history_fail_db(h, err);
    if (rc == 0)
        rc = prepare(h, err);
    if (rc) {
        history_close(h);
        return -1;
    }
    *out = h;
    return 0;
}

void history_close(struct history *h)
{
    if (!h)
        return;
    history_writer_close(h);
    sqlite3_close(h->db);
    free(h->path);
    free(h);
}

/* Reads the pages that `pragma` names; its first finding is the reason. */
static int check_pages(struct history *h, const char *pragma, char *err)
{
    sqlite3_stmt *st = history_query(h, pragma, NULL, err);
    if (!st)
        return -1;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW && strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0) {
        const char *finding = (const char *)sqlite3_column_text(st, 0);
        finding += strspn(finding, "*\n"); /* it may begin with a line that names the table */
        history_fail(err, "%s: is damaged: %.*s; put a copy of it back", h->path,
                     (int)strcspn(finding, "\n"), finding);
        sqlite3_finalize(st);
        return -1;
    }
    return history_done(h, st, rc == SQLITE_ROW ? SQLITE_DONE : rc, err);
}

/* True if all that is damaged was the index, which is now made anew. */
static bool mended(struct history *h)
{
    if (check_pages(h, "PRAGMA integrity_check(conversations)", NULL) ||
        check_pages(h, "PRAGMA integrity_check(messages)", NULL))
        return false;
    h->failure = SQLITE_CORRUPT;
    return history_index_mend(h, NULL);
}

int history_check(struct history *h, struct history_facts *out, char *err)
{
    static const char all[] = "PRAGMA integrity_check(1)";
    int64_t version, pages, page;
    *out = (struct history_facts){.library = sqlite3_libversion(), .indexed = h->indexed};
    if ((check_pages(h, all, err) && (!mended(h) || check_pages(h, all, err))) ||
        history_value(h, "PRAGMA user_version", NULL, &version, NULL, err) ||
        history_value(h, "PRAGMA page_count", NULL, &pages, NULL, err) ||
        history_value(h, "PRAGMA page_size", NULL, &page, NULL, err) ||
        history_value(h, "SELECT count(*) FROM conversations", NULL, &out->conversations, NULL,
                      err) ||
        history_value(h, "SELECT count(*) FROM messages", NULL, &out->messages, NULL, err))
        return -1;
    history_index_check(h);
    out->version = (int)version;
    out->bytes = pages * page;
    return 0;
}
