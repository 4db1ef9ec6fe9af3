#include "history/internal.h"

#include <stdlib.h>

/* Makes room for one more element of `size` bytes, zeroed; NULL without memory. Capacities are the
 * powers of two, so the count alone says when to grow. */
static void *push(void **items, int n, size_t size)
{
    if ((n & (n - 1)) == 0) {
        void *grown = realloc(*items, (n ? (size_t)n * 2 : 1) * size);
        if (!grown)
            return NULL;
        *items = grown;
    }
    char *slot = (char *)*items + (size_t)n * size;
    for (size_t i = 0; i < size; i++)
        slot[i] = 0;
    return slot;
}

/* ---- conversations --------------------------------------------------------------------------- */

#define CONVERSATION_COLUMNS                                                                       \
    "c.id, c.title, c.created, c.updated, c.leaf,"                                                 \
    " (SELECT count(*) FROM messages m WHERE m.conversation = c.id),"                              \
    " c.model, c.model_path, c.strategy, c.parameters"

static int read_conversation(sqlite3_stmt *st, struct history_conversation *c, char *err)
{
    *c = (struct history_conversation){
        .id = sqlite3_column_int64(st, 0),
        .title = history_column(st, 1),
        .created = sqlite3_column_int64(st, 2),
        .updated = sqlite3_column_int64(st, 3),
        .leaf = sqlite3_column_int64(st, 4),
        .messages = sqlite3_column_int(st, 5),
        .model = history_column(st, 6),
        .model_path = history_column(st, 7),
        .strategy = history_column(st, 8),
        .parameters = history_column(st, 9),
    };
    if (c->title && c->model && c->model_path && c->strategy && c->parameters)
        return 0;
    return history_fail_memory(err);
}

void history_conversation_clear(struct history_conversation *c)
{
    free(c->title);
    free(c->model);
    free(c->model_path);
    free(c->strategy);
    free(c->parameters);
    *c = (struct history_conversation){0};
}

int history_conversation_get(struct history *h, int64_t id, struct history_conversation *out,
                             char *err)
{
    *out = (struct history_conversation){0};
    sqlite3_stmt *st =
        history_query(h, "SELECT " CONVERSATION_COLUMNS " FROM conversations c WHERE c.id = ?",
                      BINDS(INT(id)), err);
    if (!st)
        return -1;
    int rc = sqlite3_step(st);
    int result = 0;
    if (rc == SQLITE_ROW) {
        result = read_conversation(st, out, err);
        rc = SQLITE_DONE;
    } else if (rc == SQLITE_DONE) {
        result = history_fail(err, "conversation %lld: there is none; see lade history list",
                              (long long)id);
    }
    if (history_done(h, st, rc, result ? NULL : err) || result) {
        history_conversation_clear(out);
        return -1;
    }
    return 0;
}

int history_conversation_last(struct history *h, int64_t *id, char *err)
{
    return history_value(h, "SELECT id FROM conversations ORDER BY updated DESC, id DESC LIMIT 1",
                         NULL, id, NULL, err);
}

int history_conversation_list(struct history *h, const char *filter, int offset, int limit,
                              struct history_list *out, char *err)
{
    *out = (struct history_list){0};
    sqlite3_stmt *st = history_query(h,
                                     "SELECT " CONVERSATION_COLUMNS " FROM conversations c"
                                     " WHERE ?1 IS NULL OR instr(lower(c.title), lower(?1)) > 0"
                                     " ORDER BY c.updated DESC, c.id DESC LIMIT ?2 OFFSET ?3",
                                     BINDS(TEXT(filter), INT(limit), INT(offset)), err);
    if (!st)
        return -1;
    int rc, result = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && result == 0) {
        struct history_conversation *c = push((void **)&out->items, out->n, sizeof(*c));
        if (!c) {
            result = history_fail_memory(err);
        } else {
            out->n++;
            result = read_conversation(st, c, err);
        }
    }
    if (history_done(h, st, result ? SQLITE_DONE : rc, err) || result) {
        history_list_clear(out);
        return -1;
    }
    return 0;
}

void history_list_clear(struct history_list *list)
{
    for (int i = 0; i < list->n; i++)
        history_conversation_clear(&list->items[i]);
    free(list->items);
    *list = (struct history_list){0};
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A message has few siblings, but roots are siblings by their lack of a parent, as those of every other
 * conversation: they are looked up by the conversation. The `+` keeps SQLite from the other index. */
#define COUNT(siblings, which)                                                                     \
    "(SELECT count(*) FROM messages v WHERE " siblings " AND v.role = m.role " which ")"
#define VERSIONS(which)                                                                            \
    "CASE WHEN m.parent IS NULL THEN"                                                              \
    " " COUNT("v.conversation = m.conversation AND +v.parent IS NULL", which) " ELSE " COUNT(      \
        "v.parent = m.parent AND +v.conversation = m.conversation", which) " END"
#define MESSAGE_COLUMNS                                                                            \
    "m.id, m.parent, m.role, m.state, m.content, m.reasoning, m.created, m.finished, m.model,"     \
    " m.parameters, m.prompt_tokens, m.kept_tokens, m.tokens, m.ttft_s, m.prefill_tps,"            \
    " m.decode_tps, m.writer, " VERSIONS("AND v.id <= m.id") ", " VERSIONS("")

/* A count of tokens. What cannot be one, in a database from elsewhere, is not known: sums of them stay far
 * from what an int holds. */
static int optional_count(sqlite3_stmt *st, int column)
{
    enum { MOST = 1 << 28 };
    const int64_t n = sqlite3_column_int64(st, column);
    const bool known = sqlite3_column_type(st, column) != SQLITE_NULL && n >= 0 && n <= MOST;
    return known ? (int)n : -1;
}

static double optional_real(sqlite3_stmt *st, int column)
{
    return sqlite3_column_type(st, column) == SQLITE_NULL ? -1 : sqlite3_column_double(st, column);
}

/* A role or state that is none: the checks of the schema were passed by damage, or by another hand. */
static int check_message(const struct history *h, int64_t id, int role, int state, char *err)
{
    if (role >= 0 && state >= 0)
        return 0;
    return history_fail(err, "%s: message %lld is damaged; put a copy of the file back", h->path,
                        (long long)id);
}

static int read_message(const struct history *h, sqlite3_stmt *st, struct history_message *m,
                        char *err)
{
    int role = history_role_parse((const char *)sqlite3_column_text(st, 2));
    int state = history_state_parse((const char *)sqlite3_column_text(st, 3));
    if (check_message(h, sqlite3_column_int64(st, 0), role, state, err))
        return -1;
    bool thinks = sqlite3_column_type(st, 5) != SQLITE_NULL;
    bool written = sqlite3_column_type(st, 16) != SQLITE_NULL;
    if (h->read_only && state == HISTORY_STREAMING &&
        !(written && history_writer_lives(h, sqlite3_column_int64(st, 16))))
        state = HISTORY_INTERRUPTED; /* history_recover would write that */
    *m = (struct history_message){
        .id = sqlite3_column_int64(st, 0),
        .parent = sqlite3_column_int64(st, 1),
        .role = (enum history_role)role,
        .state = (enum history_state)state,
        .content = history_column(st, 4),
        .reasoning = thinks ? history_column(st, 5) : NULL,
        .created = sqlite3_column_int64(st, 6),
        .finished = sqlite3_column_int64(st, 7),
        .model = history_column(st, 8),
        .parameters = history_column(st, 9),
        .cost = {.prompt_tokens = optional_count(st, 10),
                 .kept_tokens = optional_count(st, 11),
                 .tokens = optional_count(st, 12),
                 .ttft_s = optional_real(st, 13),
                 .prefill_tps = optional_real(st, 14),
                 .decode_tps = optional_real(st, 15)},
        .version = sqlite3_column_int(st, 17),
        .versions = sqlite3_column_int(st, 18),
    };
    if (m->content && (m->reasoning || !thinks) && m->model && m->parameters)
        return 0;
    return history_fail_memory(err);
}

static void message_clear(struct history_message *m)
{
    free(m->content);
    free(m->reasoning);
    free(m->model);
    free(m->parameters);
}

void history_messages_clear(struct history_messages *m)
{
    for (int i = 0; i < m->n; i++)
        message_clear(&m->items[i]);
    free(m->items);
    *m = (struct history_messages){0};
}

static int read_messages(struct history *h, const char *sql, const struct history_bind *binds,
                         struct history_messages *out, char *err)
{
    *out = (struct history_messages){0};
    sqlite3_stmt *st = history_query(h, sql, binds, err);
    if (!st)
        return -1;
    int rc, result = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && result == 0) {
        struct history_message *m = push((void **)&out->items, out->n, sizeof(*m));
        if (!m) {
            result = history_fail_memory(err);
        } else {
            out->n++;
            result = read_message(h, st, m, err);
        }
    }
    if (history_done(h, st, result ? SQLITE_DONE : rc, err) || result) {
        history_messages_clear(out);
        return -1;
    }
    return 0;
}

static int check_conversation(struct history *h, int64_t id, char *err)
{
    int64_t value;
    bool found;
    if (history_value(h, "SELECT id FROM conversations WHERE id = ?", BINDS(INT(id)), &value,
                      &found, err))
        return -1;
    return found ? 0
                 : history_fail(err, "conversation %lld: there is none; see lade history list",
                                (long long)id);
}

int history_messages_path(struct history *h, int64_t conversation, int64_t leaf,
                          struct history_messages *out, char *err)
{
    *out = (struct history_messages){0};
    if (check_conversation(h, conversation, err) || history_recover(h, err))
        return -1;
    /* A child is always younger than its parent, so ids order the path; the `<` also ends the walk
     * on a damaged database where parents form a ring. */
    return read_messages(
        h,
        "WITH RECURSIVE path(id, parent) AS ("
        "  SELECT id, parent FROM messages WHERE conversation = ?1 AND id ="
        "    CASE WHEN ?2 = -1 THEN (SELECT leaf FROM conversations WHERE id = ?1) ELSE ?2 END"
        "  UNION ALL"
        "  SELECT m.id, m.parent FROM messages m JOIN path p"
        "    ON m.id = p.parent AND m.id < p.id AND m.conversation = ?1)"
        " SELECT " MESSAGE_COLUMNS " FROM path JOIN messages m ON m.id = path.id ORDER BY m.id",
        BINDS(INT(conversation), INT(leaf)), out, err);
}

int history_messages_all(struct history *h, int64_t conversation, struct history_messages *out,
                         char *err)
{
    *out = (struct history_messages){0};
    if (check_conversation(h, conversation, err) || history_recover(h, err))
        return -1;
    return read_messages(
        h, "SELECT " MESSAGE_COLUMNS " FROM messages m WHERE m.conversation = ? ORDER BY m.id",
        BINDS(INT(conversation)), out, err);
}

int history_messages_leaves(struct history *h, int64_t conversation, struct history_messages *out,
                            char *err)
{
    *out = (struct history_messages){0};
    if (check_conversation(h, conversation, err) || history_recover(h, err))
        return -1;
    return read_messages(h,
                         "SELECT " MESSAGE_COLUMNS " FROM messages m WHERE m.conversation = ?"
                         " AND NOT EXISTS (SELECT 1 FROM messages child WHERE child.parent = m.id)"
                         " ORDER BY m.id",
                         BINDS(INT(conversation)), out, err);
}

int history_message_get(struct history *h, int64_t id, struct history_messages *out, char *err)
{
    if (read_messages(h, "SELECT " MESSAGE_COLUMNS " FROM messages m WHERE m.id = ?",
                      BINDS(INT(id)), out, err))
        return -1;
    return out->n ? 0
                  : history_fail(err, "message %lld: there is none; reload the conversation",
                                 (long long)id);
}

int history_version_leaf(struct history *h, int64_t message, int version, int64_t *leaf, char *err)
{
    /* What is below a message is younger; the `>` also ends the walk on a damaged database. Siblings
     * are looked up by the conversation, as above for roots: this is asked once. */
    if (history_value(h,
                      "WITH RECURSIVE below(id) AS ("
                      "  SELECT * FROM (SELECT v.id FROM messages m JOIN messages v"
                      "    ON v.conversation = m.conversation AND +v.parent IS m.parent"
                      "    AND v.role = m.role"
                      "    WHERE m.id = ?1 ORDER BY v.id LIMIT 1 OFFSET ?2)"
                      "  UNION ALL"
                      "  SELECT m.id FROM messages m JOIN below b"
                      "    ON m.parent = b.id AND m.id > b.id)"
                      " SELECT ifnull(max(id), 0) FROM below",
                      BINDS(INT(message), INT(version - 1)), leaf, NULL, err))
        return -1;
    return version > 0 && *leaf
               ? 0
               : history_fail(err, "message %lld: has no version %d; reload the conversation",
                              (long long)message, version);
}
