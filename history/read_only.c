/* Databases that cannot be written.
 *
 * SQLite reads one with a log (-wal) through a third file (-shm). Where that is there, or can be
 * made, what another program writes meanwhile is seen. Where it is not, nobody writes: a log is then
 * read into memory, which SQLite does for an exclusive owner (without locks, since that one needs a
 * file that can be written); and without a log the file alone is all there is. */
#include "history/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum way { SHARED, LOG_IN_MEMORY, FILE_ALONE, N_WAYS };

/* file:PATH?immutable=1, where % ? and # in a path are %XX; malloc'ed. */
static char *immutable(const char *path, char *err)
{
    static const char before[] = "file:", after[] = "?immutable=1";
    char *uri = malloc(sizeof(before) + 3 * strlen(path) + sizeof(after)), *p = uri;
    if (!uri) {
        history_fail_memory(err);
        return NULL;
    }
    p = stpcpy(p, before);
    for (; *path; path++)
        p += sprintf(p, strchr("%?#", *path) ? "%%%02X" : "%c", (unsigned char)*path);
    stpcpy(p, after);
    return uri;
}

static int open_alone(struct history *h, char *err)
{
    char *log, *uri = NULL;
    if (asprintf(&log, "%s-wal", h->path) < 0)
        return history_fail_memory(err);
    int rc = -1;
    if (access(log, F_OK) == 0)
        history_fail(err, "%s: cannot be read; make it readable for you", log);
    else if ((uri = immutable(h->path, err)))
        rc = sqlite3_open_v2(uri, &h->db,
                             SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                             NULL) == SQLITE_OK
                 ? 0
                 : history_fail_db(h, err);
    free(uri);
    free(log);
    return rc;
}

static int open_file(struct history *h, enum way way, char *err)
{
    if (way == FILE_ALONE)
        return open_alone(h, err);
    if (sqlite3_open_v2(h->path, &h->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                        way == LOG_IN_MEMORY ? "unix-none" : NULL) != SQLITE_OK)
        return history_fail_db(h, err);
    return way == LOG_IN_MEMORY ? history_run(h, "PRAGMA locking_mode = EXCLUSIVE", NULL, err) : 0;
}

static int prepare(struct history *h, enum way way, char *err)
{
    int64_t version;
    if (open_file(h, way, err))
        return -1;
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_busy_timeout(h->db, 3000);
    if (history_check_ours(h, err) ||
        history_value(h, "PRAGMA user_version", NULL, &version, NULL, err))
        return -1;
    if (version != history_schema_version)
        return history_fail(err, "%s: is of version %lld, older than this lade; make it writable",
                            h->path, (long long)version);
    return history_index(h, err) || history_writer_open(h, err) ? -1 : 0;
}

int history_open_to_read(struct history **out, const char *path, char *err)
{
    if (history_open(out, path, err) == 0)
        return 0;
    for (enum way way = 0; way < N_WAYS; way++) {
        struct history *h = history_allocate(path, NULL);
        if (!h)
            return -1;
        h->read_only = true;
        if (prepare(h, way, NULL) == 0) {
            *out = h;
            return 0;
        }
        history_close(h);
    }
    return -1;
}

bool history_is_read_only(const struct history *h)
{
    return h->read_only;
}
