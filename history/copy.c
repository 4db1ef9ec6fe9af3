#include "history/internal.h"

static int copy_head(struct history *h, int64_t from, int64_t *copy, char *err)
{
    int64_t now = history_now();
    if (history_run(h,
                    "INSERT INTO conversations"
                    " (title, created, updated, model, model_path, strategy, parameters)"
                    " SELECT CASE title WHEN '' THEN '' ELSE title || ' (copy)' END, ?1, ?1, model,"
                    " model_path, strategy, parameters FROM conversations WHERE id = ?2",
                    BINDS(INT(now), INT(from)), err))
        return -1;
    *copy = sqlite3_last_insert_rowid(h->db);
    return 0;
}

/* Each message becomes the child of the one before it. */
static int copy_messages(struct history *h, const struct history_messages *path, int64_t copy,
                         char *err)
{
    int64_t parent = -1;
    for (int i = 0; i < path->n; i++) {
        if (history_run(h,
                        "INSERT INTO messages (conversation, parent, role, state, content,"
                        " reasoning, created, finished, model, parameters, prompt_tokens,"
                        " kept_tokens, tokens, ttft_s, prefill_tps, decode_tps)"
                        " SELECT ?1, ?2, role,"
                        " CASE state WHEN 'streaming' THEN 'interrupted' ELSE state END, content,"
                        " reasoning, created, finished, model, parameters, prompt_tokens,"
                        " kept_tokens, tokens, ttft_s, prefill_tps, decode_tps"
                        " FROM messages WHERE id = ?3",
                        BINDS(INT(copy), OPTIONAL(parent), INT(path->items[i].id)), err))
            return -1;
        parent = sqlite3_last_insert_rowid(h->db);
    }
    return history_run(h, "UPDATE conversations SET leaf = ? WHERE id = ?",
                       BINDS(OPTIONAL(parent), INT(copy)), err);
}

static int copy_once(struct history *h, int64_t from, int64_t leaf, int64_t *copy, char *err)
{
    struct history_messages path = {0};
    if (history_begin(h, err))
        return -1;
    int rc = history_messages_path(h, from, leaf, &path, err);
    if (rc == 0)
        rc = copy_head(h, from, copy, err);
    if (rc == 0)
        rc = copy_messages(h, &path, *copy, err);
    history_messages_clear(&path);
    return history_end(h, rc, err);
}

int history_conversation_copy(struct history *h, int64_t id, int64_t leaf, int64_t *copy, char *err)
{
    return history_mending(h, copy_once(h, id, leaf, copy, err), err);
}
