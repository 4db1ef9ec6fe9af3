#include "history/internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char *const role_names[] = {"system", "user", "assistant", "tool"};
static const char *const state_names[] = {"streaming", "complete", "stopped", "interrupted"};

const char *history_role_name(enum history_role role)
{
    return role_names[role];
}

const char *history_state_name(enum history_state state)
{
    return state_names[state];
}

static int find_name(const char *const *names, int n, const char *name)
{
    for (int i = 0; name && i < n; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -1;
}

int history_role_parse(const char *name)
{
    return find_name(role_names, 4, name);
}

int history_state_parse(const char *name)
{
    return find_name(state_names, 4, name);
}

/* ---- conversations --------------------------------------------------------------------------- */

/* Blanks and control characters. */
static bool is_blank(unsigned char c)
{
    return c <= ' ' || c == 0x7f;
}

/* UTF-8 on one line: control characters become blanks, and none are left at the ends. malloc'ed. */
static char *clean_title(const char *given)
{
    char *title = history_utf8(given);
    if (!title)
        return NULL;
    for (char *s = title; *s; s++)
        if (is_blank((unsigned char)*s))
            *s = ' ';
    size_t skip = strspn(title, " "), n = strlen(title);
    while (n > skip && title[n - 1] == ' ')
        n--;
    memmove(title, title + skip, n - skip);
    title[n - skip] = '\0';
    return title;
}

int history_conversation_new(struct history *h, const char *title,
                             const struct history_setup *setup, int64_t *id, char *err)
{
    static const struct history_setup none;
    if (!setup)
        setup = &none;
    char *clean = clean_title(title ? title : "");
    if (!clean)
        return history_fail_memory(err);
    int64_t now = history_now();
    int rc =
        history_run(h,
                    "INSERT INTO conversations"
                    " (title, created, updated, model, model_path, strategy, parameters)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    BINDS(TEXT(clean), INT(now), INT(now), TEXT(setup->model),
                          TEXT(setup->model_path), TEXT(setup->strategy), TEXT(setup->parameters)),
                    err);
    free(clean);
    if (rc == 0)
        *id = sqlite3_last_insert_rowid(h->db);
    return rc;
}

/* For statements that must change exactly the conversation `id`. */
static int change(struct history *h, int64_t id, const char *sql, const struct history_bind *binds,
                  char *err)
{
    if (history_run(h, sql, binds, err))
        return -1;
    if (sqlite3_changes(h->db) == 0)
        return history_fail(err, "conversation %lld: there is none; see lade history list",
                            (long long)id);
    return 0;
}

int history_conversation_rename(struct history *h, int64_t id, const char *title, char *err)
{
    char *clean = clean_title(title);
    if (!clean)
        return history_fail_memory(err);
    if (!*clean) {
        free(clean);
        return history_fail(err, "conversation %lld: the title is blank; give one with letters",
                            (long long)id);
    }
    int rc = change(h, id, "UPDATE conversations SET title = ? WHERE id = ?",
                    BINDS(TEXT(clean), INT(id)), err);
    free(clean);
    return rc;
}

int history_conversation_setup(struct history *h, int64_t id, const struct history_setup *setup,
                               char *err)
{
    return change(h, id,
                  "UPDATE conversations SET model = ?, model_path = ?, strategy = ?, parameters = ?"
                  " WHERE id = ?",
                  BINDS(TEXT(setup->model), TEXT(setup->model_path), TEXT(setup->strategy),
                        TEXT(setup->parameters), INT(id)),
                  err);
}

static int delete_once(struct history *h, int64_t id, char *err)
{
    if (history_begin(h, err))
        return -1;
    int rc = change(h, id, "DELETE FROM conversations WHERE id = ?", BINDS(INT(id)), err);
    /* Deleted words would stay in the index: newer SQLite keeps them through an optimize too. */
    if (rc == 0)
        rc = history_index_anew(h, err);
    return history_end(h, rc, err);
}

int history_conversation_delete(struct history *h, int64_t id, char *err)
{
    if (history_mending(h, delete_once(h, id, err), err))
        return -1;
    /* Nor may they stay in the log; if somebody else reads it now, a later checkpoint does it. */
    history_run(h, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL);
    return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* The first line with something on it, blanks and control characters folded, at most 80 characters.
 * malloc'ed. */
static char *title_of(const char *text)
{
    enum { LONGEST = 80 };
    while (*text && is_blank((unsigned char)*text))
        text++;
    size_t line = strcspn(text, "\r\n");
    char *title = malloc(line + sizeof("…"));
    if (!title)
        return NULL;
    size_t n = 0;
    int characters = 0;
    for (size_t i = 0; i < line; i++) {
        unsigned char c = (unsigned char)text[i];
        bool blank = is_blank(c);
        if (blank && (i + 1 == line || is_blank((unsigned char)text[i + 1])))
            continue;
        if ((c & 0xC0) != 0x80 && ++characters > LONGEST) {
            memcpy(title + n, "…", sizeof("…") - 1);
            n += sizeof("…") - 1;
            break;
        }
        title[n++] = blank ? ' ' : (char)c;
    }
    title[n] = '\0';
    return title;
}

static int give_title(struct history *h, int64_t conversation, const char *content, char *err)
{
    char *title = title_of(content);
    if (!title)
        return history_fail_memory(err);
    int rc = history_run(h, "UPDATE conversations SET title = ? WHERE id = ? AND title = ''",
                         BINDS(TEXT(title), INT(conversation)), err);
    free(title);
    return rc;
}

/* A title made of a first question makes room for that of another one. */
static int drop_old_title(struct history *h, int64_t conversation, char *err)
{
    sqlite3_stmt *st = history_query(h,
                                     "SELECT content FROM messages WHERE conversation = ?"
                                     " AND +parent IS NULL AND role = 'user' ORDER BY id DESC",
                                     BINDS(INT(conversation)), err);
    if (!st)
        return -1;
    int rc, result = 0;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW && result == 0) {
        char *content = history_column(st, 0);
        char *title = content ? title_of(content) : NULL;
        result = title ? history_run(h,
                                     "UPDATE conversations SET title = ''"
                                     " WHERE id = ? AND title = ?",
                                     BINDS(INT(conversation), TEXT(title)), err)
                       : history_fail_memory(err);
        free(content);
        free(title);
    }
    return history_done(h, st, result ? SQLITE_DONE : rc, err) || result ? -1 : 0;
}

/* A conversation that goes on at `leaf` has the title of the first question there, if it had that of
 * another. */
static int title_of_branch(struct history *h, int64_t conversation, int64_t leaf, char *err)
{
    sqlite3_stmt *st = history_query(
        h,
        "WITH RECURSIVE path(id, parent) AS ("
        "  SELECT id, parent FROM messages WHERE id = ?"
        "  UNION ALL"
        "  SELECT m.id, m.parent FROM messages m JOIN path p ON m.id = p.parent AND m.id < p.id)"
        " SELECT m.content FROM path JOIN messages m ON m.id = path.id"
        " WHERE path.parent IS NULL AND m.role = 'user'",
        BINDS(INT(leaf)), err);
    if (!st)
        return -1;
    int rc = sqlite3_step(st), result = 0;
    char *content = rc == SQLITE_ROW ? history_column(st, 0) : NULL;
    if (rc == SQLITE_ROW)
        result = content ? 0 : history_fail_memory(err);
    if (history_done(h, st, rc == SQLITE_ROW ? SQLITE_DONE : rc, err))
        result = -1;
    if (result == 0 && content)
        result = drop_old_title(h, conversation, err);
    if (result == 0 && content)
        result = give_title(h, conversation, content, err);
    free(content);
    return result;
}

/* Turns HISTORY_ACTIVE into a message and checks that the parent is of this conversation. */
static int find_parent(struct history *h, int64_t conversation, int64_t *parent, char *err)
{
    int64_t leaf, owner;
    bool found;
    if (history_value(h, "SELECT leaf FROM conversations WHERE id = ?", BINDS(INT(conversation)),
                      &leaf, &found, err))
        return -1;
    if (!found)
        return history_fail(err, "conversation %lld: there is none; see lade history list",
                            (long long)conversation);
    if (*parent == HISTORY_ACTIVE)
        *parent = leaf;
    if (*parent == 0)
        return 0;
    if (history_value(h, "SELECT conversation FROM messages WHERE id = ?", BINDS(INT(*parent)),
                      &owner, &found, err))
        return -1;
    if (!found || owner != conversation)
        return history_fail(err,
                            "message %lld: is not in conversation %lld; reload the "
                            "conversation",
                            (long long)*parent, (long long)conversation);
    return 0;
}

int history_insert(struct history *h, int64_t conversation, const struct history_message *m,
                   int64_t writer, int64_t *id, char *err)
{
    char *content = history_utf8(m->content);
    char *reasoning = m->reasoning ? history_utf8(m->reasoning) : NULL;
    int rc = -1;
    if (!content || (m->reasoning && !reasoning)) {
        history_fail_memory(err);
    } else {
        rc = history_run(
            h,
            "INSERT INTO messages (conversation, parent, role, state, content, reasoning, created,"
            " finished, model, parameters, prompt_tokens, kept_tokens, tokens, ttft_s, prefill_tps,"
            " decode_tps, writer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            BINDS(INT(conversation), OPTIONAL(m->parent > 0 ? m->parent : -1),
                  TEXT(role_names[m->role]), TEXT(state_names[m->state]), TEXT(content),
                  TEXT(reasoning), INT(m->created), OPTIONAL(m->finished > 0 ? m->finished : -1),
                  TEXT(m->model), TEXT(m->parameters), OPTIONAL(m->cost.prompt_tokens),
                  OPTIONAL(m->cost.kept_tokens), OPTIONAL(m->cost.tokens), REAL(m->cost.ttft_s),
                  REAL(m->cost.prefill_tps), REAL(m->cost.decode_tps), OPTIONAL(writer)),
            err);
    }
    if (rc == 0)
        *id = sqlite3_last_insert_rowid(h->db);
    if (rc == 0 && m->role == HISTORY_USER)
        rc = give_title(h, conversation, content, err);
    free(content);
    free(reasoning);
    return rc;
}

static int touch(struct history *h, int64_t conversation, int64_t leaf, char *err)
{
    return history_run(h, "UPDATE conversations SET leaf = ?, updated = ? WHERE id = ?",
                       BINDS(OPTIONAL(leaf > 0 ? leaf : -1), INT(history_now()), INT(conversation)),
                       err);
}

/* One transaction: the message, the leaf, the title. */
static int append_once(struct history *h, int64_t conversation, struct history_message *m,
                       int64_t writer, int64_t *id, char *err)
{
    int64_t parent = m->parent;
    if (history_begin(h, err))
        return -1;
    int rc = find_parent(h, conversation, &m->parent, err);
    if (rc == 0 && m->parent == 0 && m->role == HISTORY_USER)
        rc = drop_old_title(h, conversation, err);
    if (rc == 0)
        rc = history_insert(h, conversation, m, writer, id, err);
    if (rc == 0)
        rc = touch(h, conversation, *id, err);
    m->parent = parent;
    return history_end(h, rc, err);
}

static int append(struct history *h, int64_t conversation, struct history_message *m,
                  int64_t writer, int64_t *id, char *err)
{
    int64_t made = 0;
    if (history_mending(h, append_once(h, conversation, m, writer, &made, err), err))
        return -1;
    if (id)
        *id = made;
    return 0;
}

int history_message_add(struct history *h, int64_t conversation, int64_t parent,
                        enum history_role role, const char *content, int64_t *id, char *err)
{
    int64_t now = history_now();
    struct history_message m = {.parent = parent,
                                .role = role,
                                .state = HISTORY_COMPLETE,
                                .content = (char *)content,
                                .created = now,
                                .finished = now,
                                .cost = HISTORY_COST_UNKNOWN};
    return append(h, conversation, &m, -1, id, err);
}

int history_message_begin(struct history *h, int64_t conversation, int64_t parent,
                          const char *model, const char *parameters, int64_t *id, char *err)
{
    char nothing[] = "";
    struct history_message m = {.parent = parent,
                                .role = HISTORY_ASSISTANT,
                                .state = HISTORY_STREAMING,
                                .content = nothing,
                                .created = history_now(),
                                .model = (char *)model,
                                .parameters = (char *)parameters,
                                .cost = HISTORY_COST_UNKNOWN};
    return append(h, conversation, &m, h->writer, id, err);
}

/* Both kinds of update: they differ in the state they leave and in the cost. */
static int write_text(struct history *h, int64_t id, enum history_state state, const char *content,
                      const char *reasoning, const struct history_cost *cost, char *err)
{
    bool ends = state != HISTORY_STREAMING;
    char *text = history_utf8(content);
    char *thoughts = reasoning ? history_utf8(reasoning) : NULL;
    int rc = -1;
    if (!text || (reasoning && !thoughts)) {
        history_fail_memory(err);
    } else {
        rc = history_run(h,
                         "UPDATE messages SET content = ?, reasoning = ?, state = ?, finished = ?,"
                         " prompt_tokens = ?, kept_tokens = ?, tokens = ?, ttft_s = ?,"
                         " prefill_tps = ?, decode_tps = ?, writer = ?"
                         " WHERE id = ? AND state = 'streaming'",
                         BINDS(TEXT(text), TEXT(thoughts), TEXT(state_names[state]),
                               OPTIONAL(ends ? history_now() : -1), OPTIONAL(cost->prompt_tokens),
                               OPTIONAL(cost->kept_tokens), OPTIONAL(cost->tokens),
                               REAL(cost->ttft_s), REAL(cost->prefill_tps), REAL(cost->decode_tps),
                               OPTIONAL(ends ? -1 : h->writer), INT(id)),
                         err);
    }
    free(text);
    free(thoughts);
    if (rc == 0 && sqlite3_changes(h->db) == 0)
        return history_fail(err,
                            "message %lld: is not being written any more; it was finished or "
                            "deleted elsewhere",
                            (long long)id);
    return rc;
}

int history_message_update(struct history *h, int64_t id, const char *content,
                           const char *reasoning, char *err)
{
    return write_text(h, id, HISTORY_STREAMING, content, reasoning, &HISTORY_COST_UNKNOWN, err);
}

static int finish_once(struct history *h, int64_t id, enum history_state state, const char *content,
                       const char *reasoning, const struct history_cost *cost, char *err)
{
    if (history_begin(h, err))
        return -1;
    int rc = write_text(h, id, state, content, reasoning, cost, err);
    if (rc == 0)
        rc = history_run(h,
                         "UPDATE conversations SET updated = ?"
                         " WHERE id = (SELECT conversation FROM messages WHERE id = ?)",
                         BINDS(INT(history_now()), INT(id)), err);
    return history_end(h, rc, err);
}

int history_message_finish(struct history *h, int64_t id, enum history_state state,
                           const char *content, const char *reasoning,
                           const struct history_cost *cost, char *err)
{
    if (state == HISTORY_STREAMING)
        return history_fail(err, "message %lld: cannot end in state streaming; please report this",
                            (long long)id);
    const struct history_cost unknown = HISTORY_COST_UNKNOWN;
    if (!cost)
        cost = &unknown;
    return history_mending(h, finish_once(h, id, state, content, reasoning, cost, err), err);
}

int history_leaf_set(struct history *h, int64_t conversation, int64_t message, char *err)
{
    if (history_begin(h, err))
        return -1;
    int rc = find_parent(h, conversation, &message, err);
    if (rc == 0)
        rc = touch(h, conversation, message, err);
    if (rc == 0 && message)
        rc = title_of_branch(h, conversation, message, err);
    return history_end(h, rc, err);
}
