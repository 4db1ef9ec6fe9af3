/* kept.h - a timeline on the drive, so that a conversation that goes on in another run of the
 * program is not read again.
 *
 * One file holds one timeline: its tokens, the KV caches, the recurrent state after the last token
 * and the latest snapshot before that. It is a cache: what is damaged, of another model or of other
 * arithmetic counts as nothing, and nothing depends on it. Only the thread that uses the session. */
#ifndef LADE_SESSION_KEPT_H
#define LADE_SESSION_KEPT_H

#include "engine/engine.h"

/* Writes the timeline, which has tokens, over the file at `path`: whoever is killed meanwhile leaves
 * nothing else behind, and a file that is not whole counts as none. False where that cannot be done, or
 * would take more than half of what is free there; no file is there then. */
bool lade_kept_write(struct lade_session *s, const char *path);

/* Fills an empty session with the timeline that is kept at `path`, if that makes less of ids[0..n)
 * to be read. Otherwise the session stays empty. */
void lade_kept_read(struct lade_session *s, const char *path, const int32_t *ids, int n);

#endif
