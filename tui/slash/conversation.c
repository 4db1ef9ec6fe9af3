/* Commands about conversations: /new /resume /rename /delete, with the picker; /retry /edit /fork
 * /export. */
#include "tui/slash/slash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tui/meters/units.h"
#include "tui/output.h"
#include "tui/paths.h"
#include "tui/theme.h"

int slash_new(struct chat *c, const char *args, char *err)
{
    (void)args;
    (void)err;
    chat_new(c);
    return 0;
}

int slash_rename(struct chat *c, const char *args, char *err)
{
    if (!*args)
        return lade_fail(err, "/rename: needs a title; /rename TITLE");
    return chat_rename(c, args, err);
}

void slash_date(char out[PICKER_CELL], int64_t ms)
{
    time_t t = (time_t)(ms / 1000), now = time(NULL);
    struct tm then, today;
    localtime_r(&t, &then);
    localtime_r(&now, &today);
    if (then.tm_year == today.tm_year && then.tm_yday == today.tm_yday)
        strftime(out, PICKER_CELL, "today %H:%M", &then);
    else if (then.tm_year == today.tm_year && then.tm_yday == today.tm_yday - 1)
        strftime(out, PICKER_CELL, "yesterday", &then);
    else
        strftime(out, PICKER_CELL, then.tm_year == today.tm_year ? "%e %b" : "%e %b %Y", &then);
}

/* Tokens the conversation takes in the model's context: what its last answer says. Read when the
 * row comes into view, because it needs the messages. */
static void fill(void *user, struct picker_item *item)
{
    struct chat *c = user;
    struct history_messages all;
    if (history_messages_path(c->history, item->id, HISTORY_ACTIVE, &all, NULL) != 0)
        return;
    int tokens = 0;
    for (int i = 0; i < all.n; i++) {
        struct history_cost *k = &all.items[i].cost;
        if (k->tokens > 0)
            tokens = (k->prompt_tokens > 0 ? k->prompt_tokens : 0) + k->tokens;
    }
    char n[UNITS_MAX];
    if (tokens)
        snprintf(item->cell[1], PICKER_CELL, "%s token%s", units_count(n, tokens), units_s(tokens));
    history_messages_clear(&all);
}

static int open_picker(struct chat *c, char *err)
{
    struct history_list list;
    if (history_conversation_list(c->history, NULL, 0, -1, &list, err) != 0)
        return -1;
    picker_open(&c->picker, "Conversations", "nothing is saved yet: type a message to begin");
    c->picking = CHAT_PICK_CONVERSATION;
    c->picker.deletes = true;
    c->picker.fill = fill;
    c->picker.user = c;
    for (int i = 0; i < list.n; i++) {
        struct history_conversation *v = &list.items[i];
        struct picker_item *it = picker_add(&c->picker, v->id, *v->title ? v->title : "(empty)");
        slash_date(it->cell[0], v->updated);
        snprintf(it->cell[2], PICKER_CELL, "%.40s", v->model);
    }
    if (c->conversation)
        picker_choose(&c->picker, c->conversation);
    history_list_clear(&list);
    return 0;
}

int slash_resume(struct chat *c, const char *args, char *err)
{
    if (!c->history)
        return lade_fail(err, "/resume: the history is not open; see the message above");
    if (!*args)
        return open_picker(c, err);
    char *end;
    errno = 0;
    long long id = strtoll(args, &end, 10);
    if (*end || errno || id <= 0)
        return lade_fail(err,
                         "/resume %.40s: not the number of a conversation; /resume alone "
                         "shows them",
                         args);
    return chat_resume(c, id, err);
}

int slash_delete(struct chat *c, const char *args, char *err)
{
    (void)args;
    if (!c->history || !c->conversation)
        return lade_fail(err, "/delete: this conversation is empty; /resume lists the others");
    if (open_picker(c, err) != 0)
        return -1;
    c->picker.confirm = true;
    return 0;
}

int slash_retry(struct chat *c, const char *args, char *err)
{
    (void)args;
    return chat_retry(c, err);
}

int slash_edit(struct chat *c, const char *args, char *err)
{
    (void)args;
    if (c->answer.entry)
        return lade_fail(err, "/edit: an answer is being written; stop it first with Esc");
    if (!chat_take_back(c))
        return lade_fail(err, "/edit: nothing was asked yet; type a message");
    return 0;
}

int slash_fork(struct chat *c, const char *args, char *err)
{
    (void)args;
    if (chat_fork(c, err) != 0)
        return -1;
    chat_say(c, ENTRY_NOTICE, "This is a copy, conversation %lld; /resume has the original.",
             (long long)c->conversation);
    return 0;
}

static int write_new_file(const char *path, const char *text, char *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return lade_fail(err, "/export %.200s: %s; name a file that can be made", path,
                         strerror(errno));
    int why = 0;
    for (size_t n = strlen(text); n && !why;) {
        ssize_t k = write(fd, text, n);
        if (k < 0 && errno != EINTR)
            why = errno;
        text += k < 0 ? 0 : k;
        n -= k < 0 ? 0 : (size_t)k;
    }
    if (close(fd) && !why)
        why = errno;
    if (!why)
        return 0;
    unlink(path);
    return lade_fail(err, "/export %.200s: %s; free some space", path, strerror(why));
}

int slash_export(struct chat *c, const char *args, char *err)
{
    char path[PATH_MAX];
    if (!c->history || !c->conversation)
        return lade_fail(err, "/export: nothing is saved yet; send a message first");
    const char *home = strncmp(args, "~/", 2) == 0 ? paths_home() : NULL;
    int n =
        *args ? snprintf(path, sizeof path, "%s%s", home ? home : "", home ? args + 1 : args) : 0;
    if (n < 0 || (size_t)n >= sizeof path)
        return lade_fail(err, "/export: the name is too long; choose a shorter one");
    if (!*args)
        snprintf(path, sizeof path, "lade-%lld.md", (long long)c->conversation);
    const char *ending = strrchr(path, '.');
    bool json = ending && strcmp(ending, ".json") == 0;
    char *text =
        history_export(c->history, c->conversation, json ? HISTORY_JSON : HISTORY_MARKDOWN, err);
    if (!text)
        return -1;
    if (!json)
        output_calm(text);
    int failed = write_new_file(path, text, err);
    free(text);
    if (!failed)
        chat_say(c, ENTRY_NOTICE, "Written to %s.", path);
    return failed;
}

static void taken(struct chat *c, int64_t id)
{
    char err[LADE_ERR];
    int rc = 0;
    picker_close(&c->picker);
    if (c->picking == CHAT_PICK_BRANCH && id != c->leaf)
        rc = chat_branch(c, id, err);
    else if (c->picking == CHAT_PICK_CONVERSATION && id != c->conversation)
        rc = chat_resume(c, id, err);
    if (rc != 0)
        chat_say(c, ENTRY_ERROR, "%s", err);
}

void slash_picker_key(struct chat *c, const struct keys_event *ev, int page)
{
    char err[LADE_ERR];
    int64_t id = c->picker.chosen >= 0 ? c->picker.items[c->picker.chosen].id : 0;
    c->dirty = true;
    switch (picker_key(&c->picker, ev, page)) {
    case PICKER_TAKEN:
        if (c->picking == CHAT_PICK_THEME)
            slash_theme_keep(c);
        taken(c, id);
        break;
    case PICKER_DELETE:
        if (chat_delete(c, id, err) != 0)
            chat_say(c, ENTRY_ERROR, "%s", err);
        else
            picker_remove(&c->picker, id);
        break;
    case PICKER_CLOSED:
        if (c->picking == CHAT_PICK_THEME)
            slash_theme_show(c, c->theme_before);
        picker_close(&c->picker);
        break;
    case PICKER_MOVED:
        if (c->picking == CHAT_PICK_THEME && c->picker.chosen >= 0)
            slash_theme_show(c, c->picker.items[c->picker.chosen].title);
        break;
    case PICKER_NOTHING:
        break;
    }
}
