/* Another try: the last question taken back, asked again, or asked in a copy of the conversation. */
#include "tui/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/input.h"

static bool is_message(const struct entry *e)
{
    return e->kind == ENTRY_USER || e->kind == ENTRY_ANSWER;
}

/* The last message on the screen; NULL if there is none. */
static struct entry *last_message(const struct chat *c)
{
    for (int i = c->transcript.n - 1; i >= 0; i--)
        if (is_message(c->transcript.items[i]))
            return c->transcript.items[i];
    return NULL;
}

static void remove_answer(struct chat *c)
{
    chat_settle(c);
    struct entry *e = last_message(c);
    if (e && e->kind == ENTRY_ANSWER)
        transcript_remove(&c->transcript, e);
}

bool chat_take_back(struct chat *c)
{
    struct buf text = {0};
    remove_answer(c);
    /* Messages that were sent together are one question, the last of them first here. */
    for (struct entry *e; (e = last_message(c)) && e->kind == ENTRY_USER;) {
        struct buf all = {0};
        buf_printf(&all, "%s%s%s", buf_text(&e->text), text.n ? "\n" : "", buf_text(&text));
        buf_free(&text);
        text = all;
        transcript_remove(&c->transcript, e);
    }
    bool found = text.n > 0;
    if (found) {
        chat_save_unsend(c);
        if (input_is_empty())
            input_set(buf_text(&text));
    }
    buf_free(&text);
    c->dirty = true;
    return found;
}

static int check_free(const struct chat *c, const char *what, char *err)
{
    if (c->answer.entry)
        return lade_fail(err, "/%s: an answer is being written; stop it first with Esc", what);
    if (!last_message(c))
        return lade_fail(err, "/%s: nothing was asked yet; type a message", what);
    return 0;
}

int chat_retry(struct chat *c, char *err)
{
    if (check_free(c, "retry", err) != 0)
        return -1;
    if (c->failed)
        return lade_fail(err, "/retry: no model is loaded; open another one with -m");
    remove_answer(c);
    struct entry *e = last_message(c);
    if (!e || e->kind != ENTRY_USER)
        return lade_fail(err, "/retry: there is no question before the answer; type a message");
    chat_save_unsend(c);
    e->state = ENTRY_WAITING;
    entry_changed(e);
    transcript_to_end(&c->transcript);
    chat_send_waiting(c);
    return 0;
}

int chat_branch(struct chat *c, int64_t leaf, char *err)
{
    struct history_messages path;
    int64_t conversation = c->conversation;
    if (check_free(c, "branch", err) != 0)
        return -1;
    if (last_message(c)->state == ENTRY_WAITING)
        return lade_fail(err, "/branch: a message waits to be sent; take it back with Esc");
    if (!c->history || !conversation)
        return lade_fail(err, "/branch: this conversation is not saved; see the message above");
    if (chat_own(c, err) != 0)
        return -1;
    if (c->conversation != conversation) /* it has been said that this is a copy */
        return lade_fail(err, "/branch: a copy has no other branch; /resume %lld has them",
                         (long long)conversation);
    if (history_messages_path(c->history, conversation, leaf, &path, err) != 0)
        return -1;
    int rc = history_leaf_set(c->history, conversation, leaf, err);
    if (rc == 0) {
        transcript_clear(&c->transcript);
        c->pull_entry = NULL;
        c->in_context = false;
        c->tick_now = c->dirty = true;
        chat_show(c, &path);
    }
    history_messages_clear(&path);
    return rc;
}

int chat_version(struct chat *c, int by, int to, char *err)
{
    const struct entry *e = NULL;
    int64_t leaf;
    for (int i = c->transcript.n - 1; i >= 0 && !(e && e->versions > 1); i--)
        e = c->transcript.items[i];
    if (!c->history || !e || e->versions < 2)
        return lade_fail(err,
                         "/branch: there is one version of all that is shown; /retry and /edit "
                         "make others");
    if (to < 0 || to > e->versions)
        return lade_fail(err, "/branch %d: there are %d versions; choose one of them", to,
                         e->versions);
    if (to == 0)
        to = (e->version - 1 + by + e->versions) % e->versions + 1;
    if (history_version_leaf(c->history, e->id, to, &leaf, err) != 0)
        return -1;
    return chat_branch(c, leaf, err);
}

int chat_fork(struct chat *c, char *err)
{
    int64_t copy;
    if (check_free(c, "fork", err) != 0)
        return -1;
    if (!c->history || !c->conversation)
        return lade_fail(err, "/fork: this conversation is not saved; see the message above");
    if (history_conversation_copy(c->history, c->conversation, c->leaf, &copy, err) != 0)
        return -1;
    return chat_resume(c, copy, err);
}
