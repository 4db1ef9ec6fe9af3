/* Search over messages and titles.
 *
 * The index is FTS5's with the trigram tokenizer: it finds parts of words in any script, which
 * word-based tokenizers cannot do for Chinese or Japanese. It is derived data and not part of the
 * schema's versions: a library without FTS5 drops the triggers that feed it, and the next one with
 * FTS5 sees that they are missing and builds it anew. Only finished messages are in it, so that an
 * answer is not indexed again with every piece of it. */
#include "history/internal.h"

#include <stdlib.h>
#include <string.h>

static const char *const triggers[] = {"search_insert", "search_finish", "search_edit",
                                       "search_delete"};
enum { N_TRIGGERS = sizeof(triggers) / sizeof(*triggers) };

static const char *const make_index =
    "CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5("
    "  content, content = 'messages', content_rowid = 'id', tokenize = 'trigram');"
    "CREATE TRIGGER search_insert AFTER INSERT ON messages WHEN new.state <> 'streaming' BEGIN"
    "  INSERT INTO search(rowid, content) VALUES (new.id, new.content); END;"
    "CREATE TRIGGER search_finish AFTER UPDATE OF content, state ON messages"
    "  WHEN old.state = 'streaming' AND new.state <> 'streaming' BEGIN"
    "  INSERT INTO search(rowid, content) VALUES (new.id, new.content); END;"
    "CREATE TRIGGER search_edit AFTER UPDATE OF content ON messages"
    "  WHEN old.state <> 'streaming' AND new.state <> 'streaming' BEGIN"
    "  INSERT INTO search(search, rowid, content) VALUES ('delete', old.id, old.content);"
    "  INSERT INTO search(rowid, content) VALUES (new.id, new.content); END;"
    "CREATE TRIGGER search_delete AFTER DELETE ON messages WHEN old.state <> 'streaming' BEGIN"
    "  INSERT INTO search(search, rowid, content) VALUES ('delete', old.id, old.content); END;";

static const char *const fill_index =
    "INSERT INTO search(search) VALUES ('delete-all');"
    "INSERT INTO search(rowid, content)"
    "  SELECT id, content FROM messages WHERE state <> 'streaming';";

static const char *const drop_triggers =
    "DROP TRIGGER IF EXISTS search_insert; DROP TRIGGER IF EXISTS search_finish;"
    "DROP TRIGGER IF EXISTS search_edit; DROP TRIGGER IF EXISTS search_delete;";

static int count_triggers(struct history *h, int64_t *n, char *err)
{
    return history_value(
        h,
        "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"
        " AND name IN (?, ?, ?, ?)",
        BINDS(TEXT(triggers[0]), TEXT(triggers[1]), TEXT(triggers[2]), TEXT(triggers[3])), n, NULL,
        err);
}

int history_index_anew(struct history *h, char *err)
{
    if (!h->indexed || sqlite3_exec(h->db, fill_index, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return history_fail_db(h, err);
}

static int make_index_once(struct history *h, char *err)
{
    int64_t n;
    h->indexed = sqlite3_compileoption_used("ENABLE_FTS5") != 0;
    if (count_triggers(h, &n, err))
        return -1;
    if (h->read_only)
        h->indexed &= n == N_TRIGGERS;
    if (h->read_only || n == (h->indexed ? N_TRIGGERS : 0))
        return 0;
    if (history_begin(h, err))
        return -1;
    int rc = 0;
    if (sqlite3_exec(h->db, drop_triggers, NULL, NULL, NULL) != SQLITE_OK ||
        (h->indexed && sqlite3_exec(h->db, make_index, NULL, NULL, NULL) != SQLITE_OK))
        rc = history_fail_db(h, err);
    if (rc == 0)
        rc = history_index_anew(h, err);
    return history_end(h, rc, err);
}

int history_index(struct history *h, char *err)
{
    /* An index without its triggers may be damaged as one with them. */
    return history_mending(h, make_index_once(h, err), err);
}

/* Whether what SQLite said last may come from a damaged index: it is not always called corrupt. */
static bool may_be_damaged(const struct history *h)
{
    return h->failure == SQLITE_CORRUPT || h->failure == SQLITE_CONSTRAINT ||
           h->failure == SQLITE_ERROR;
}

/* An index whose pages are garbage can neither be opened nor dropped: its tables are taken out of the
 * schema, and VACUUM leaves behind the pages that nothing names any more. */
static const char *const forget_index =
    "PRAGMA writable_schema = ON;"
    "DELETE FROM sqlite_schema WHERE tbl_name IN"
    "  ('search', 'search_data', 'search_idx', 'search_docsize', 'search_config');"
    "PRAGMA writable_schema = RESET;";

bool history_index_mend(struct history *h, char *err)
{
    const char *const steps[] = {drop_triggers, forget_index, make_index, fill_index};
    int rc = 0;
    if (!h->indexed || h->read_only || !may_be_damaged(h) || history_begin(h, err))
        return false;
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps) && rc == 0; i++)
        if (sqlite3_exec(h->db, steps[i], NULL, NULL, NULL) != SQLITE_OK)
            rc = history_fail_db(h, err);
    rc = history_end(h, rc, err);
    sqlite3_exec(h->db, "PRAGMA writable_schema = RESET", NULL, NULL, NULL);
    sqlite3_db_config(h->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (rc == 0)
        history_run(h, "VACUUM", NULL, NULL);
    return rc == 0;
}

void history_index_check(struct history *h)
{
    int64_t one;
    bool streaming;
    h->failure = SQLITE_OK;
    if (!h->indexed || history_value(h, "SELECT 1 FROM messages WHERE state = 'streaming' LIMIT 1",
                                     NULL, &one, &streaming, NULL))
        return;
    /* All messages are compared; one that is being written is rightly not in the index. */
    if (!streaming &&
        history_run(h, "INSERT INTO search(search, rank) VALUES ('integrity-check', 1)", NULL,
                    NULL))
        history_index_mend(h, NULL);
}

/* ---- queries --------------------------------------------------------------------------------- */

/* Words of the query, cut at blanks. */
struct words {
    char *text; /* owned, cut by NULs */
    const char **word;
    int n;
    bool short_word; /* one has fewer characters than the index has in a piece */
};

static int characters(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void words_clear(struct words *w)
{
    free(w->text);
    free(w->word);
}

static int words_split(struct words *w, const char *query, char *err)
{
    *w = (struct words){.text = history_utf8(query)};
    w->word = w->text ? calloc(strlen(w->text) / 2 + 1, sizeof(*w->word)) : NULL;
    if (!w->word) {
        words_clear(w);
        return history_fail_memory(err);
    }
    char *at = NULL;
    for (char *s = strtok_r(w->text, " \t\r\n", &at); s; s = strtok_r(NULL, " \t\r\n", &at)) {
        w->word[w->n++] = s;
        w->short_word |= characters(s) < 3;
    }
    return 0;
}

/* "word" AND "word": FTS5's syntax, where a quote inside quotes is doubled. malloc'ed. */
static char *match_expression(const struct words *w)
{
    size_t size = 1;
    for (int i = 0; i < w->n; i++)
        size += 2 * strlen(w->word[i]) + sizeof("\"\" AND ");
    char *out = malloc(size), *p = out;
    for (int i = 0; out && i < w->n; i++) {
        if (i)
            p = stpcpy(p, " AND ");
        *p++ = '"';
        for (const char *s = w->word[i]; *s; s++) {
            if (*s == '"')
                *p++ = '"';
            *p++ = *s;
        }
        *p++ = '"';
    }
    if (out)
        *p = '\0';
    return out;
}

/* Byte offset of the first place of `needle` without regard to ASCII case, or -1. */
static long find(const char *text, const char *needle)
{
    const char *at = strcasestr(text, needle);
    return at ? at - text : -1;
}

/* One line of about `around` bytes on both sides of byte `at`. malloc'ed. */
static char *excerpt(const char *text, long at, size_t found)
{
    enum { AROUND = 60 };
    long size = (long)strlen(text);
    long from = at > AROUND ? at - AROUND : 0;
    long to = at + (long)found + AROUND < size ? at + (long)found + AROUND : size;
    while (from > 0 && ((unsigned char)text[from] & 0xC0) == 0x80)
        from--;
    while (to < size && ((unsigned char)text[to] & 0xC0) == 0x80)
        to++;
    char *out = malloc((size_t)(to - from) + 2 * sizeof("…"));
    if (!out)
        return NULL;
    char *p = out;
    if (from > 0)
        p = stpcpy(p, "…");
    for (long i = from; i < to; i++)
        *p++ = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? ' ' : text[i];
    stpcpy(p, to < size ? "…" : "");
    return out;
}

/* FTS5 folds case for all scripts, strcasestr for ASCII only: without a place, show the start. */
static char *excerpt_of(const char *text, const struct words *w)
{
    for (int i = 0; i < w->n; i++) {
        long at = find(text, w->word[i]);
        if (at >= 0)
            return excerpt(text, at, strlen(w->word[i]));
    }
    return excerpt(text, 0, 0);
}

static bool holds_all(const char *text, const struct words *w)
{
    for (int i = 0; i < w->n; i++) {
        if (find(text, w->word[i]) < 0)
            return false;
    }
    return true;
}

static int add_hit(struct history_hits *out, sqlite3_stmt *st, const struct words *w, char *err)
{
    const char *text = (const char *)sqlite3_column_text(st, 4);
    text = text ? text : ""; /* damaged, or without memory */
    int role = history_role_parse((const char *)sqlite3_column_text(st, 2));
    struct history_hit *grown = realloc(out->items, ((size_t)out->n + 1) * sizeof(*grown));
    if (!grown)
        return history_fail_memory(err);
    out->items = grown;
    struct history_hit *hit = &out->items[out->n++];
    *hit = (struct history_hit){
        .conversation = sqlite3_column_int64(st, 0),
        .message = sqlite3_column_int64(st, 1),
        .role = role < 0 ? HISTORY_USER : (enum history_role)role, /* damaged: still found */
        .at = sqlite3_column_int64(st, 3),
        .title = history_column(st, 5),
        .excerpt = excerpt_of(text, w),
    };
    return hit->title && hit->excerpt ? 0 : history_fail_memory(err);
}

/* Rows: conversation, message, role, time, text, title. `filter` looks at the text here, because
 * the statement cannot. */
static int collect(struct history *h, const char *sql, const struct history_bind *binds,
                   const struct words *w, bool filter, int limit, struct history_hits *out,
                   char *err)
{
    sqlite3_stmt *st = history_query(h, sql, binds, err);
    if (!st)
        return -1;
    int rc = SQLITE_DONE, result = 0;
    while (result == 0 && out->n < limit && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 4);
        if (!filter || holds_all(text ? text : "", w))
            result = add_hit(out, st, w, err);
    }
    bool ended = result || rc == SQLITE_ROW;
    return history_done(h, st, ended ? SQLITE_DONE : rc, err) || result ? -1 : 0;
}

static const char *const titles_sql =
    "SELECT id, 0, 'user', updated, title, title FROM conversations ORDER BY updated DESC";
static const char *const scan_sql =
    "SELECT m.conversation, m.id, m.role, m.created, m.content, c.title FROM messages m"
    " JOIN conversations c ON c.id = m.conversation WHERE m.state <> 'streaming'"
    " ORDER BY m.id DESC";
static const char *const index_sql =
    "SELECT m.conversation, m.id, m.role, m.created, m.content, c.title FROM search"
    " JOIN messages m ON m.id = search.rowid JOIN conversations c ON c.id = m.conversation"
    " WHERE search MATCH ? ORDER BY search.rowid DESC";

static int ask_index(struct history *h, const struct words *w, int limit, struct history_hits *out,
                     char *err)
{
    char *expression = match_expression(w);
    if (!expression)
        return history_fail_memory(err);
    int rc = collect(h, index_sql, BINDS(TEXT(expression)), w, false, limit, out, err);
    free(expression);
    return rc;
}

static int search(struct history *h, const struct words *w, bool ask, int limit,
                  struct history_hits *out, char *err)
{
    int rc = collect(h, titles_sql, NULL, w, true, limit, out, err), titles = out->n;
    if (rc == 0 && ask)
        rc = ask_index(h, w, limit, out, err);
    /* An index that knows nothing of these words may have lost them. It folds more cases than a
     * scan does, and so what a scan finds it must know. */
    if (rc == 0 && out->n == titles) {
        rc = collect(h, scan_sql, NULL, w, true, limit, out, err);
        if (ask && out->n > titles) {
            h->failure = SQLITE_CORRUPT;
            history_index_mend(h, NULL);
        }
    }
    if (rc)
        history_hits_clear(out);
    return rc;
}

int history_search(struct history *h, const char *query, int limit, struct history_hits *out,
                   char *err)
{
    struct words w;
    *out = (struct history_hits){0};
    if (words_split(&w, query, err))
        return -1;
    h->failure = SQLITE_OK;
    bool ask = h->indexed && !w.short_word;
    int rc = w.n ? search(h, &w, ask, limit, out, err) : 0;
    if (rc && ask) { /* the messages are there whether the index can be mended or not */
        history_index_mend(h, NULL);
        rc = search(h, &w, false, limit, out, err);
    }
    words_clear(&w);
    return rc;
}

void history_hits_clear(struct history_hits *hits)
{
    for (int i = 0; i < hits->n; i++) {
        free(hits->items[i].title);
        free(hits->items[i].excerpt);
    }
    free(hits->items);
    *hits = (struct history_hits){0};
}
