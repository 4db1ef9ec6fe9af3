/* internal.h - what the files of history/ share. */
#ifndef LADE_HISTORY_INTERNAL_H
#define LADE_HISTORY_INTERNAL_H

#include <sqlite3.h>

#include "history/history.h"

struct history {
    sqlite3 *db;
    char *path;
    int lock_fd;    /* writer.c */
    int64_t writer; /* this handle's number among the living */
    bool indexed;   /* search.c */
    bool read_only; /* read_only.c */
    int failure; /* what SQLite last failed with in a transaction or a search; SQLITE_OK = nothing */
};

void history_set_error(char *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline int history_failed(void)
{
    return -1;
}

/* Fills `err` and is -1; a macro so that the analyzer sees the constant. */
#define history_fail(...) (history_set_error(__VA_ARGS__), history_failed())

#define history_fail_memory(err) history_fail(err, "history: out of memory; close other programs")

/* The last SQLite error of h, with what to do about it. */
void history_set_db_error(struct history *h, char *err);
#define history_fail_db(h, err) (history_set_db_error(h, err), history_failed())

/* ---- statements (sql.c) ---------------------------------------------------------------------- */

/* A value for a `?`. Text NULL and negative optional numbers are stored as NULL. */
struct history_bind {
    enum { BIND_END, BIND_INT, BIND_OPTIONAL, BIND_REAL, BIND_TEXT } kind;
    int64_t i;
    double d;
    const char *t;
};
#define INT(x)                                                                                     \
    {                                                                                              \
        .kind = BIND_INT, .i = (x)                                                                 \
    }
#define OPTIONAL(x)                                                                                \
    {                                                                                              \
        .kind = BIND_OPTIONAL, .i = (x)                                                            \
    } /* integer, negative = NULL */
#define REAL(x)                                                                                    \
    {                                                                                              \
        .kind = BIND_REAL, .d = (x)                                                                \
    } /* negative = NULL */
#define TEXT(x)                                                                                    \
    {                                                                                              \
        .kind = BIND_TEXT, .t = (x)                                                                \
    }
#define BINDS(...)                                                                                 \
    (const struct history_bind[])                                                                  \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            .kind = BIND_END                                                                       \
        }                                                                                          \
    }

/* Prepares and binds; the caller finalizes. NULL with err. `binds` may be NULL. */
sqlite3_stmt *history_query(struct history *h, const char *sql, const struct history_bind *binds,
                            char *err);

/* Runs a statement that returns no rows, or whose rows do not matter. */
int history_run(struct history *h, const char *sql, const struct history_bind *binds, char *err);

/* The first column of the first row; *found (may be NULL) says whether there was one. */
int history_value(struct history *h, const char *sql, const struct history_bind *binds,
                  int64_t *value, bool *found, char *err);

/* Ends a loop over rows: finalizes, and fails unless `rc` is SQLITE_DONE. */
int history_done(struct history *h, sqlite3_stmt *st, int rc, char *err);

int history_begin(struct history *h, char *err);
/* Commits if rc is 0, else rolls back; returns rc, or -1 if the commit fails. */
int history_end(struct history *h, int rc, char *err);

/* malloc'ed copy of a text column, UTF-8 whatever it holds; "" for NULL. */
char *history_column(sqlite3_stmt *st, int column);

int64_t history_now(void);

/* malloc'ed copy with bytes that are no UTF-8 replaced; NULL without memory. */
char *history_utf8(const char *text);

/* ---- parts ----------------------------------------------------------------------------------- */

/* db.c: a handle without a database, for history_close; NULL with err. And whether the database is
 * lade's and not of a newer one, which only reads. */
struct history *history_allocate(const char *path, char *err);
int history_check_ours(struct history *h, char *err);

/* schema.c: runs steps[user_version .. n), each in a transaction of its own that also raises the
 * version. */
int history_migrate(struct history *h, const char *const *steps, int n, char *err);
extern const char *const history_schema[];
extern const int history_schema_version;

/* writer.c: this handle's mark among the living, and answers of the dead. */
int history_writer_open(struct history *h, char *err);
bool history_writer_lives(const struct history *h, int64_t writer);
void history_writer_close(struct history *h);
int history_recover(struct history *h, char *err);

/* search.c: makes the index where it is missing or out of date; in what can only be read it is used
 * or left alone. */
int history_index(struct history *h, char *err);

/* Empties the index, if there is one, and fills it from the messages: nothing of those that were
 * deleted is left. Inside the caller's transaction. */
int history_index_anew(struct history *h, char *err);

/* After a call that failed: true if that may be the index's fault, which is made anew, so that
 * another try may work. The messages are the truth, and no damage to what is derived of them may
 * cost one. `err` stays as it is unless this was tried and failed. Outside of a transaction. */
bool history_index_mend(struct history *h, char *err);

/* Compares the index with the messages, unless one is being written, and makes it anew if it differs. */
void history_index_check(struct history *h);

/* `call` (0 or -1), and once more if the index was at fault and could be made anew. */
#define history_mending(h, call, err) ((call) && (!history_index_mend(h, err) || (call)) ? -1 : 0)

/* store.c: inserts a message as it is; used by import too. */
int history_insert(struct history *h, int64_t conversation, const struct history_message *m,
                   int64_t writer, int64_t *id, char *err);
int history_role_parse(const char *name); /* -1 unknown; name may be NULL */
int history_state_parse(const char *name);

#endif
