#include "history/internal.h"

#include <stdio.h>

/* Step i brings a database from version i to i + 1. A released step is never edited: add another.
 *
 * A message's writer is the number of the handle that streams it (writer.c). Costs that are not
 * known are NULL. AUTOINCREMENT, because a deleted number must not come back as something else.
 * Parents are checked at commit and do not cascade: a conversation is deleted as a whole, and a
 * cascade from parent to child would be as deep as the conversation is long. */
const char *const history_schema[] = {
    "CREATE TABLE conversations ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  title TEXT NOT NULL,"
    "  created INTEGER NOT NULL,"
    "  updated INTEGER NOT NULL,"
    "  leaf INTEGER REFERENCES messages(id) DEFERRABLE INITIALLY DEFERRED,"
    "  model TEXT, model_path TEXT, strategy TEXT, parameters TEXT) STRICT;"
    "CREATE INDEX conversations_updated ON conversations(updated);"
    "CREATE INDEX conversations_leaf ON conversations(leaf);"
    "CREATE TABLE messages ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  conversation INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,"
    "  parent INTEGER REFERENCES messages(id) DEFERRABLE INITIALLY DEFERRED,"
    "  role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),"
    "  state TEXT NOT NULL"
    "    CHECK (state IN ('streaming', 'complete', 'stopped', 'interrupted')),"
    "  content TEXT NOT NULL,"
    "  reasoning TEXT,"
    "  created INTEGER NOT NULL,"
    "  finished INTEGER,"
    "  model TEXT, parameters TEXT,"
    "  prompt_tokens INTEGER, kept_tokens INTEGER, tokens INTEGER,"
    "  ttft_s REAL, prefill_tps REAL, decode_tps REAL,"
    "  writer INTEGER) STRICT;"
    "CREATE INDEX messages_conversation ON messages(conversation);"
    "CREATE INDEX messages_parent ON messages(parent);"
    "CREATE INDEX messages_streaming ON messages(writer) WHERE state = 'streaming';",
};
const int history_schema_version = sizeof(history_schema) / sizeof(*history_schema);

static int step(struct history *h, const char *const *steps, int from, char *err)
{
    if (history_begin(h, err))
        return -1;
    /* Another process may have done this step while we waited for the lock. */
    int64_t version;
    int rc = history_value(h, "PRAGMA user_version", NULL, &version, NULL, err);
    if (rc == 0 && version == from) {
        char set[64];
        snprintf(set, sizeof(set), "PRAGMA user_version = %d", from + 1);
        if (sqlite3_exec(h->db, steps[from], NULL, NULL, NULL) != SQLITE_OK) {
            rc = history_fail(err,
                              "%s: bringing it from version %d to %d failed: %s; "
                              "it is unchanged, please report this",
                              h->path, from, from + 1, sqlite3_errmsg(h->db));
        } else {
            rc = history_run(h, set, NULL, err);
        }
    }
    return history_end(h, rc, err);
}

int history_migrate(struct history *h, const char *const *steps, int n, char *err)
{
    int64_t version;
    if (history_value(h, "PRAGMA user_version", NULL, &version, NULL, err))
        return -1;
    for (int i = (int)version; i < n; i++) {
        if (step(h, steps, i, err))
            return -1;
    }
    return 0;
}
