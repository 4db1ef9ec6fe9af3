/* events.h - the queue between the engine thread and the UI thread.
 *
 * Not locked by itself: the engine's mutex guards it. The wake pipe holds at most one byte, which
 * is there exactly while events wait, so the UI can sleep in poll(). */
#ifndef LADE_SESSION_EVENTS_H
#define LADE_SESSION_EVENTS_H

#include "engine/engine.h"

struct lade_event_node;

struct lade_events {
    struct lade_event_node *first, *last;
    int wake[2]; /* read end, write end */
};

int lade_events_open(struct lade_events *q, char *err);
void lade_events_close(struct lade_events *q);

/* Appends a copy of ev; takes over ev->text. Progress of the same shard or prompt replaces the
 * one still waiting, and text of the same answer joins it, so a slow reader costs no memory but
 * that of the text. Out of memory drops the event. */
void lade_events_put(struct lade_events *q, struct lade_event *ev);
bool lade_events_take(struct lade_events *q, struct lade_event *ev);

#endif
