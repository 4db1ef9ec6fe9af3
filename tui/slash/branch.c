/* /branch: what else was asked and answered in this conversation. */
#include "tui/slash/slash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The ends of the branches; each is named by what was said last there. */
static int open_branches(struct chat *c, char *err)
{
    struct history_messages leaves;
    if (history_messages_leaves(c->history, c->conversation, &leaves, err) != 0)
        return -1;
    picker_open(&c->picker, "Branches, by what was said last", "nothing was said yet");
    c->picking = CHAT_PICK_BRANCH;
    for (int i = leaves.n - 1; i >= 0; i--) {
        const struct history_message *m = &leaves.items[i];
        size_t n = strcspn(m->content, "\n");
        char *line = buf_strndup(n ? m->content : "(nothing)", n ? n : sizeof "(nothing)" - 1);
        struct picker_item *it = picker_add(&c->picker, m->id, line);
        free(line);
        slash_date(it->cell[0], m->created);
        if (m->versions > 1)
            snprintf(it->cell[1], PICKER_CELL, "%d/%d", m->version, m->versions);
        if (m->role == HISTORY_USER)
            snprintf(it->cell[2], PICKER_CELL, "not answered");
    }
    picker_choose(&c->picker, c->leaf);
    history_messages_clear(&leaves);
    return 0;
}

int slash_branch(struct chat *c, const char *args, char *err)
{
    char *end;
    size_t n = strlen(args);
    if (!c->history || !c->conversation)
        return lade_fail(err, "/branch: nothing is saved yet; send a message first");
    if (!n)
        return open_branches(c, err);
    if (strncmp(args, "next", n) == 0)
        return chat_version(c, 1, 0, err);
    if (strncmp(args, "previous", n) == 0)
        return chat_version(c, -1, 0, err);
    errno = 0;
    long version = strtol(args, &end, 10);
    if (*end || errno || version <= 0 || version > 1000000)
        return lade_fail(err, "/branch %.40s: is not a version; use next, previous or a number",
                         args);
    return chat_version(c, 0, (int)version, err);
}

void slash_branch_complete(struct chat *c, const char *args, struct menu *out)
{
    (void)c;
    menu_offer(out, args, "next", "the version after this one");
    menu_offer(out, args, "previous", "the one before");
}
