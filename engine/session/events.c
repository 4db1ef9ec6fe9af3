#include "engine/session/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lade_event_node {
    struct lade_event ev;
    struct lade_event_node *next;
};

int lade_events_open(struct lade_events *q, char *err)
{
    *q = (struct lade_events){.wake = {-1, -1}};
    if (pipe2(q->wake, O_CLOEXEC | O_NONBLOCK))
        return lade_fail(err, "engine: cannot make a pipe: %s; close other programs",
                         strerror(errno));
    return 0;
}

void lade_events_close(struct lade_events *q)
{
    struct lade_event ev;
    while (lade_events_take(q, &ev))
        lade_event_clear(&ev);
    for (int i = 0; i < 2; i++)
        if (q->wake[i] >= 0)
            close(q->wake[i]);
}

/* Joins ev into the last waiting event where that loses nothing. */
static bool merge(struct lade_event *last, struct lade_event *ev)
{
    if (last->kind != ev->kind || last->request != ev->request)
        return false;
    if (ev->kind == LADE_EV_SHARD && last->shard != ev->shard)
        return false;
    if (ev->kind == LADE_EV_SHARD || ev->kind == LADE_EV_PREFILL) {
        *last = *ev;
        return true;
    }
    if (ev->kind != LADE_EV_TEXT || last->reasoning != ev->reasoning)
        return false;
    size_t have = strlen(last->text), more = strlen(ev->text);
    char *joined = realloc(last->text, have + more + 1);
    if (!joined)
        return false;
    memcpy(joined + have, ev->text, more + 1);
    last->text = joined;
    free(ev->text);
    return true;
}

void lade_events_put(struct lade_events *q, struct lade_event *ev)
{
    if (q->last && merge(&q->last->ev, ev)) {
        ev->text = NULL;
        return;
    }
    struct lade_event_node *node = malloc(sizeof *node);
    if (!node) {
        lade_event_clear(ev);
        return;
    }
    *node = (struct lade_event_node){.ev = *ev};
    ev->text = NULL;
    if (q->last) {
        q->last->next = node;
    } else {
        q->first = node;
        /* A full pipe cannot be: it holds one byte at most, and only when events wait. */
        while (write(q->wake[1], "", 1) < 0 && errno == EINTR)
            ;
    }
    q->last = node;
}

bool lade_events_take(struct lade_events *q, struct lade_event *ev)
{
    struct lade_event_node *node = q->first;
    if (!node)
        return false;
    *ev = node->ev;
    q->first = node->next;
    free(node);
    if (!q->first) {
        char byte;
        q->last = NULL;
        while (read(q->wake[0], &byte, 1) < 0 && errno == EINTR)
            ;
    }
    return true;
}

void lade_event_clear(struct lade_event *ev)
{
    free(ev->text);
    ev->text = NULL;
}
