/* The conversation on disk: saved as it happens, brought back on resume. */
#include "tui/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/remote/address.h"
#include "engine/session/kept.h"
#include "tui/paths.h"

/* Seconds until a save that failed is tried again: each may wait for a lock, and the screen with it. */
#define SAVE_AGAIN 15.0

/* Says once that saving does not work; the chat itself goes on. */
static void trouble(struct chat *c, const char *err)
{
    if (!c->history_failed)
        chat_say(c, ENTRY_ERROR, "not saved: %s", err);
    c->history_failed = true;
}

static void read_title(struct chat *c)
{
    struct history_conversation info;
    if (history_conversation_get(c->history, c->conversation, &info, NULL) != 0)
        return;
    size_t n = strlen(info.title);
    const bool cut = n >= sizeof c->title;
    if (cut)
        n = sizeof c->title - sizeof "…";
    while (cut && ((unsigned char)info.title[n] & 0xC0) == 0x80) /* inside a character */
        n--;
    snprintf(c->title, sizeof c->title, "%.*s%s", (int)n, info.title, cut ? "…" : "");
    history_conversation_clear(&info);
}

static int begin_conversation(struct chat *c, char *err)
{
    char *parameters = settings_json(&c->settings);
    struct history_setup setup = {
        .model = c->have_info ? c->info.name : NULL,
        .model_path = c->have_info ? c->info.path : NULL,
        .strategy = c->usable ? c->info.strategy : NULL,
        .parameters = parameters,
    };
    int rc = history_conversation_new(c->history, "", &setup, &c->conversation, err);
    free(parameters);
    return rc;
}

/* Which of how many answers to its question it is. */
static void read_version(struct chat *c, struct entry *e)
{
    struct history_messages m;
    if (!e->id || history_message_get(c->history, e->id, &m, NULL) != 0)
        return;
    e->version = m.items[0].version;
    e->versions = m.items[0].versions;
    entry_changed(e);
    history_messages_clear(&m);
}

static void show_answer(struct entry *e, const struct history_message *m)
{
    static const enum entry_state states[] = {
        [HISTORY_STREAMING] = ENTRY_ELSEWHERE,
        [HISTORY_COMPLETE] = ENTRY_DONE,
        [HISTORY_STOPPED] = ENTRY_STOPPED,
        [HISTORY_INTERRUPTED] = ENTRY_INTERRUPTED,
    };
    e->state = states[m->state];
    buf_cut(&e->text, 0);
    buf_puts(&e->text, m->content);
    buf_cut(&e->reasoning, 0);
    buf_puts(&e->reasoning, m->reasoning ? m->reasoning : "");
    if (m->cost.tokens > 0) {
        e->has_cost = true;
        e->cost = (struct lade_result){
            .prompt_tokens = m->cost.prompt_tokens > 0 ? m->cost.prompt_tokens : 0,
            .kept_tokens = m->cost.kept_tokens > 0 ? m->cost.kept_tokens : 0,
            .tokens = m->cost.tokens,
            .ttft_s = m->cost.ttft_s,
            .prefill_tps = m->cost.prefill_tps,
            .decode_tps = m->cost.decode_tps,
        };
    }
    entry_changed(e);
}

static struct entry *entry_of(const struct chat *c, int64_t id)
{
    for (int i = c->transcript.n - 1; i >= 0; i--)
        if (c->transcript.items[i]->id == id)
            return c->transcript.items[i];
    return NULL;
}

/* Takes the conversation's messages up to the leaf from the history, `from` first: those of its
 * entries get the ids of `to`, which is the same path or a copy of it, and what another program was
 * writing is shown as far as it has come. */
static void adopt(struct chat *c, const struct history_messages *from,
                  const struct history_messages *to)
{
    for (int i = 0; i < from->n && i < to->n; i++) {
        struct entry *e = entry_of(c, from->items[i].id);
        if (e && e->state == ENTRY_ELSEWHERE)
            show_answer(e, &to->items[i]);
        if (e)
            e->id = to->items[i].id;
    }
    c->leaf = to->n ? to->items[to->n - 1].id : 0;
}

static int go_on_in_copy(struct chat *c, const struct history_messages *path, char *err)
{
    int64_t copy, original = c->conversation;
    struct history_messages copied;
    if (history_conversation_copy(c->history, original, c->leaf, &copy, err) != 0 ||
        history_messages_path(c->history, copy, HISTORY_ACTIVE, &copied, err) != 0)
        return -1;
    adopt(c, path, &copied);
    history_messages_clear(&copied);
    c->conversation = copy;
    read_title(c);
    chat_say(c, ENTRY_NOTICE,
             "Another lade goes on with conversation %lld. From here on this is a copy of it, "
             "conversation %lld; /resume has both.",
             (long long)original, (long long)copy);
    return 0;
}

/* Before the conversation is changed: if it is not as we left it, or is being written elsewhere,
 * it is another program's, and we go on in a copy of what is on our screen. Nothing that two
 * programs say is mixed, whatever happens between this and the change, because every message is
 * saved as the child of the one before it on its screen. */
int chat_own(struct chat *c, char *err)
{
    struct history_conversation now;
    struct history_messages path;
    if (!c->conversation)
        return begin_conversation(c, err);
    if (c->answer.entry && c->answer.entry->id)
        return 0; /* we are writing in it */
    const struct entry *last = c->leaf ? entry_of(c, c->leaf) : NULL;
    if (history_conversation_get(c->history, c->conversation, &now, err) != 0)
        return -1;
    bool moved = now.leaf != c->leaf;
    history_conversation_clear(&now);
    if (!moved && !(last && last->state == ENTRY_ELSEWHERE))
        return 0;
    if (history_messages_path(c->history, c->conversation, c->leaf, &path, err) != 0)
        return -1;
    int rc = 0;
    if (moved || (path.n && path.items[path.n - 1].state == HISTORY_STREAMING))
        rc = go_on_in_copy(c, &path, err);
    else
        adopt(c, &path, &path);
    history_messages_clear(&path);
    return rc;
}

/* False if another program has ended it. */
static bool is_being_written(struct chat *c, int64_t id)
{
    struct history_messages m;
    if (history_message_get(c->history, id, &m, NULL) != 0)
        return true;
    bool is = m.items[0].state == HISTORY_STREAMING;
    history_messages_clear(&m);
    return is;
}

static int save_end(struct chat *c, struct entry *e, char *err)
{
    enum history_state state = e->state == ENTRY_STOPPED       ? HISTORY_STOPPED
                               : e->state == ENTRY_INTERRUPTED ? HISTORY_INTERRUPTED
                                                               : HISTORY_COMPLETE;
    struct history_cost cost = HISTORY_COST_UNKNOWN;
    if (e->has_cost)
        cost =
            (struct history_cost){e->cost.prompt_tokens, e->cost.kept_tokens, e->cost.tokens,
                                  e->cost.ttft_s,        e->cost.prefill_tps, e->cost.decode_tps};
    int rc = history_message_finish(c->history, e->id, state, buf_text(&e->text),
                                    e->reasoning.n ? e->reasoning.at : NULL, &cost, err);
    e->end_unsaved = rc != 0 && is_being_written(c, e->id);
    return rc;
}

static int save_answer(struct chat *c, struct entry *e, char *err)
{
    if (history_message_begin(c->history, c->conversation, c->leaf, c->info.name, NULL, &e->id,
                              err) != 0)
        return -1;
    c->leaf = e->id;
    return e == c->answer.entry ? 0 : save_end(c, e, err);
}

/* What of it the history lacks. */
static bool is_missing(const struct entry *e)
{
    return (e->kind == ENTRY_USER && !e->id) ||
           (e->kind == ENTRY_ANSWER && (e->end_unsaved || (!e->id && e->text.n)));
}

static int save_one(struct chat *c, struct entry *e, char *err)
{
    if (e->id)
        return save_end(c, e, err);
    if (e->kind == ENTRY_ANSWER)
        return save_answer(c, e, err);
    if (history_message_add(c->history, c->conversation, c->leaf, HISTORY_USER, buf_text(&e->text),
                            &e->id, err) != 0)
        return -1;
    c->leaf = e->id;
    return 0;
}

/* Messages up to `last` that could not be saved when they came: a full disk has space again. */
static int save_missing(struct chat *c, const struct entry *last, char *err)
{
    for (int i = 0; i < c->transcript.n; i++) {
        struct entry *e = c->transcript.items[i];
        int rc = is_missing(e) ? save_one(c, e, err) : 0;
        if (rc != 0 || e == last)
            return rc;
    }
    return 0;
}

void chat_save_user(struct chat *c, struct entry *e)
{
    char err[HISTORY_ERR];
    if (!c->history)
        return;
    if (chat_own(c, err) != 0 || save_missing(c, e, err) != 0) {
        trouble(c, err);
        return;
    }
    if (c->history_failed)
        chat_say(c, ENTRY_NOTICE, "The conversation is saved again.");
    c->history_failed = false;
    read_version(c, e);
    read_title(c); /* the first question may be another one than before */
}

/* The last saved message that is still on the screen is where the conversation goes on. */
void chat_save_unsend(struct chat *c)
{
    char err[HISTORY_ERR];
    int64_t leaf = 0;
    if (!c->history || !c->conversation)
        return;
    int rc = chat_own(c, err);
    for (int i = 0; i < c->transcript.n; i++)
        if (c->transcript.items[i]->id)
            leaf = c->transcript.items[i]->id;
    if (rc != 0 || history_leaf_set(c->history, c->conversation, leaf, err) != 0)
        trouble(c, err);
    else
        c->leaf = leaf;
}

void chat_save_begin(struct chat *c)
{
    char err[HISTORY_ERR];
    struct entry *e = c->answer.entry;
    c->read = 0; /* until something of it is read, the model may still hold another one */
    if (!c->history || !c->conversation)
        return;
    char *parameters = settings_json(&c->settings);
    struct history_setup setup = {c->info.name, c->info.path, c->info.strategy, parameters};
    if (chat_own(c, err) != 0 || save_missing(c, e, err) != 0 ||
        history_conversation_setup(c->history, c->conversation, &setup, err) != 0 ||
        history_message_begin(c->history, c->conversation, c->leaf, c->info.name, parameters,
                              &e->id, err) != 0)
        trouble(c, err);
    else
        c->leaf = e->id;
    read_version(c, e);
    free(parameters);
}

void chat_save_progress(struct chat *c, double now)
{
    char err[HISTORY_ERR];
    struct chat_answer *a = &c->answer;
    struct entry *e = a->entry;
    if (!c->history || !e->id ||
        (a->saved_text == e->text.n && a->saved_reasoning == e->reasoning.n))
        return;
    a->saved = now;
    a->saved_text = e->text.n;
    a->saved_reasoning = e->reasoning.n;
    if (history_message_update(c->history, e->id, buf_text(&e->text),
                               e->reasoning.n ? e->reasoning.at : NULL, err) != 0) {
        trouble(c, err);
        a->saved = now + SAVE_AGAIN;
        a->saved_text = a->saved_reasoning = 0;
    }
}

void chat_save_end(struct chat *c, struct entry *e)
{
    char err[HISTORY_ERR];
    if (c->history && e->id && save_end(c, e, err) != 0)
        trouble(c, err);
}

/* ---- conversations --------------------------------------------------------------------------- */

static void save_rest(struct chat *c)
{
    const struct entry *last = NULL;
    for (int i = 0; i < c->transcript.n; i++)
        if (is_missing(c->transcript.items[i]))
            last = c->transcript.items[i];
    if (c->history && last && chat_own(c, NULL) == 0 && save_missing(c, last, NULL) == 0)
        c->history_failed = false;
}

void chat_settle(struct chat *c)
{
    if (c->answer.entry) {
        if (c->engine)
            lade_engine_cancel(c->engine, 0);
        c->answer.entry->state = ENTRY_STOPPED;
        chat_save_end(c, c->answer.entry);
        c->answer = (struct chat_answer){0};
    }
    save_rest(c);
}

void chat_new(struct chat *c)
{
    chat_settle(c);
    transcript_clear(&c->transcript);
    c->pull_entry = NULL;
    c->conversation = c->leaf = 0;
    c->in_context = false;
    c->tick_now = true;
    c->title[0] = '\0';
    c->dirty = true;
}

static void show_message(struct chat *c, const struct history_message *m)
{
    if (m->role != HISTORY_USER && m->role != HISTORY_ASSISTANT)
        return;
    bool user = m->role == HISTORY_USER;
    struct entry *e =
        transcript_add(&c->transcript, user ? ENTRY_USER : ENTRY_ANSWER, user ? m->content : NULL);
    e->id = m->id;
    e->version = m->version;
    e->versions = m->versions;
    if (!user)
        show_answer(e, m);
}

void chat_show(struct chat *c, const struct history_messages *path)
{
    c->leaf = path->n ? path->items[path->n - 1].id : 0;
    read_title(c);
    for (int i = 0; i < path->n; i++)
        show_message(c, &path->items[i]);
    transcript_to_end(&c->transcript);
}

char *chat_held_with(struct history *h, int64_t id)
{
    struct history_conversation info;
    char *path = NULL;
    if (!h || (id == 0 && history_conversation_last(h, &id, NULL) != 0) ||
        history_conversation_get(h, id, &info, NULL) != 0)
        return NULL;
    /* The bundled one moves with the program, but where a server has it. */
    if (*info.model_path && (strcmp(info.model, "bundled") != 0 || lade_remote_is(info.model_path)))
        path = buf_strdup(info.model_path);
    history_conversation_clear(&info);
    return path;
}

int chat_resume(struct chat *c, int64_t id, char *err)
{
    struct history_conversation info;
    struct history_messages all;
    if (!c->history)
        return lade_fail(err, "resume: the history is not open; see the message above");
    if (id == 0 && history_conversation_last(c->history, &id, err) != 0)
        return -1;
    if (id == 0)
        return lade_fail(err, "resume: no conversation is saved yet; begin one");
    if (history_conversation_get(c->history, id, &info, err) != 0)
        return -1;
    if (id == c->conversation)
        chat_settle(c); /* its end is read, too */
    if (history_messages_path(c->history, id, HISTORY_ACTIVE, &all, err) != 0) {
        history_conversation_clear(&info);
        return -1;
    }
    chat_new(c);
    c->conversation = id;
    settings_free(&c->settings);
    settings_from_json(&c->settings, info.parameters);
    if (c->have_info)
        settings_defaults(&c->settings, &c->info.sampling);
    chat_show(c, &all);
    if (c->have_info && *info.model && strcmp(info.model, c->info.name) != 0)
        chat_say(c, ENTRY_NOTICE, "This conversation was held with %s; it goes on with %s.",
                 info.model, c->info.name);
    history_messages_clear(&all);
    history_conversation_clear(&info);
    transcript_to_end(&c->transcript);
    return 0;
}

int chat_rename(struct chat *c, const char *title, char *err)
{
    if (!c->history || !c->conversation)
        return lade_fail(err, "/rename: nothing is saved yet; send a message first");
    if (history_conversation_rename(c->history, c->conversation, title, err) != 0)
        return -1;
    read_title(c);
    return 0;
}

/* What the engine keeps between runs of a conversation that is deleted. */
static void forget_timelines(struct chat *c, int64_t id)
{
    char dir[PATH_MAX];
    if (c->engine && (id == c->read || !c->read))
        lade_engine_forget(c->engine);
    if (paths_timelines(dir, NULL) == 0)
        lade_kept_forget(dir, id);
}

bool chat_was_deleted(const struct chat *c)
{
    struct history_conversation info;
    if (!c->read || !c->history)
        return false;
    if (history_conversation_get(c->history, c->read, &info, NULL) != 0)
        return true;
    history_conversation_clear(&info);
    return false;
}

int chat_delete(struct chat *c, int64_t id, char *err)
{
    if (!c->history)
        return lade_fail(err, "delete: the history is not open; see the message above");
    if (id == c->conversation && c->answer.entry)
        return lade_fail(err, "delete: an answer is being written; stop it first with Esc");
    if (history_conversation_delete(c->history, id, err) != 0)
        return -1;
    forget_timelines(c, id);
    if (id == c->conversation)
        chat_new(c);
    return 0;
}
