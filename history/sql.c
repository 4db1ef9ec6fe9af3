#include "history/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

void history_set_error(char *err, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        /* clang-tidy 14 overlooks va_start in all files but its first. */
        vsnprintf(err, HISTORY_ERR, fmt, ap); /* NOLINT(clang-analyzer-valist.Uninitialized) */
        va_end(ap);
    }
}

/* What a person can do about a result code of SQLite. */
static const char *remedy(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another program is writing to it: try again";
    case SQLITE_FULL:
        return "free some disk space";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "move the file away, or put a copy of it back";
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return "make the file and its directory readable and writable for you";
    case SQLITE_IOERR:
        return "check the disk";
    default:
        return "please report this";
    }
}

void history_set_db_error(struct history *h, char *err)
{
    int code = sqlite3_extended_errcode(h->db), system = sqlite3_system_errno(h->db);
    bool full = (code & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT);
    h->failure = code & 0xff;
    history_set_error(err, "%s: %s; %s", h->path, full ? strerror(system) : sqlite3_errmsg(h->db),
                      remedy(full ? SQLITE_FULL : code));
}

static int bind_one(sqlite3_stmt *st, int i, const struct history_bind *b)
{
    switch (b->kind) {
    case BIND_INT:
        return sqlite3_bind_int64(st, i, b->i);
    case BIND_OPTIONAL:
        return b->i < 0 ? sqlite3_bind_null(st, i) : sqlite3_bind_int64(st, i, b->i);
    case BIND_REAL:
        return b->d < 0 ? sqlite3_bind_null(st, i) : sqlite3_bind_double(st, i, b->d);
    case BIND_TEXT:
        return sqlite3_bind_text64(st, i, b->t, b->t ? strlen(b->t) : 0, SQLITE_TRANSIENT,
                                   SQLITE_UTF8);
    case BIND_END:
        break;
    }
    return SQLITE_MISUSE;
}

sqlite3_stmt *history_query(struct history *h, const char *sql, const struct history_bind *binds,
                            char *err)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(h->db, sql, -1, &st, NULL) != SQLITE_OK) {
        history_fail_db(h, err);
        return NULL;
    }
    for (int i = 0; binds && binds[i].kind != BIND_END; i++) {
        if (bind_one(st, i + 1, &binds[i]) != SQLITE_OK) {
            history_fail_db(h, err);
            sqlite3_finalize(st);
            return NULL;
        }
    }
    return st;
}

int history_done(struct history *h, sqlite3_stmt *st, int rc, char *err)
{
    int result = rc == SQLITE_DONE ? 0 : history_fail_db(h, err);
    sqlite3_finalize(st);
    return result;
}

int history_run(struct history *h, const char *sql, const struct history_bind *binds, char *err)
{
    sqlite3_stmt *st = history_query(h, sql, binds, err);
    if (!st)
        return -1;
    int rc = sqlite3_step(st);
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(st);
    return history_done(h, st, rc, err);
}

int history_value(struct history *h, const char *sql, const struct history_bind *binds,
                  int64_t *value, bool *found, char *err)
{
    sqlite3_stmt *st = history_query(h, sql, binds, err);
    if (!st)
        return -1;
    int rc = sqlite3_step(st);
    *value = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : 0;
    if (found)
        *found = rc == SQLITE_ROW;
    return history_done(h, st, rc == SQLITE_ROW ? SQLITE_DONE : rc, err);
}

int history_begin(struct history *h, char *err)
{
    h->failure = SQLITE_OK;
    return history_run(h, "BEGIN IMMEDIATE", NULL, err);
}

int history_end(struct history *h, int rc, char *err)
{
    if (rc == 0 && history_run(h, "COMMIT", NULL, err) == 0)
        return 0;
    /* After some failures SQLite has rolled back already; then there is nothing to do. */
    if (!sqlite3_get_autocommit(h->db))
        history_run(h, "ROLLBACK", NULL, NULL);
    return -1;
}

char *history_column(sqlite3_stmt *st, int column)
{
    const char *text = (const char *)sqlite3_column_text(st, column);
    return history_utf8(text ? text : ""); /* what damage or another hand left there may not be */
}

int64_t history_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

char *history_utf8(const char *text)
{
    size_t len = strlen(text), n = 0;
    char *out = malloc(len * 3 + 1); /* U+FFFD takes three bytes */
    if (!out)
        return NULL;
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t step = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                                 (utf8proc_ssize_t)(len - i), &code);
        if (step < 1) {
            memcpy(out + n, "\xEF\xBF\xBD", 3);
            n += 3;
            i++;
        } else {
            memcpy(out + n, text + i, (size_t)step);
            n += (size_t)step;
            i += (size_t)step;
        }
    }
    out[n] = '\0';
    return out;
}
