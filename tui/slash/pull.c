/* /pull: fetch a model while the chat goes on. Its bars are a notice in the transcript. */
#include "tui/slash/slash.h"

#include <strings.h>

#include "tui/pull_job.h"
#include "tui/text/width.h"

int slash_pull(struct chat *c, const char *args, char *err)
{
    if (strcasecmp(args, "stop") == 0) {
        if (!c->pull)
            return lade_fail(err, "/pull stop: nothing is being fetched; /pull ORG/NAME begins");
        pull_job_cancel(c->pull);
        return 0;
    }
    if (c->pull)
        return lade_fail(err, "/pull: one at a time; wait for it, or /pull stop");
    if (!*args)
        return lade_fail(err, "/pull: needs a repository; write /pull ORG/NAME or ORG/NAME:Q4_K_M");
    if (pull_job_start(&c->pull, args, err))
        return -1;
    slash_pull_tick(c);
    return 0;
}

/* The notice goes with the conversation that is left; the next one gets its own. */
static struct entry *notice(struct chat *c)
{
    for (int i = 0; c->pull_entry && i < c->transcript.n; i++)
        if (c->transcript.items[i] == c->pull_entry)
            return c->pull_entry;
    return c->pull_entry = transcript_add(&c->transcript, ENTRY_NOTICE, NULL);
}

void slash_pull_tick(struct chat *c)
{
    enum { MARGIN = 4 };
    char text[PULL_TEXT];
    if (!c->pull)
        return;
    enum pull_state state = pull_job_look(
        c->pull, c->transcript.cols > 44 ? c->transcript.cols - MARGIN : 40, width_utf8(), text);
    c->dirty = true;
    if (state == PULL_RUNS) {
        struct entry *e = notice(c);
        buf_cut(&e->text, 0);
        buf_puts(&e->text, text);
        entry_changed(e);
        return;
    }
    slash_pull_end(c);
    if (state == PULL_DONE)
        chat_say(c, ENTRY_NOTICE, "fetched: lade -m %s opens it", text);
    else
        chat_say(c, ENTRY_ERROR, "%s", text);
}

void slash_pull_end(struct chat *c)
{
    if (c->pull && c->pull_entry)
        transcript_remove(&c->transcript, notice(c));
    pull_job_end(c->pull);
    c->pull = NULL;
    c->pull_entry = NULL;
}
