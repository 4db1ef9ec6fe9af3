/* kept.h - a timeline on the drive, so that a conversation that goes on in another run of the
 * program is not read again.
 *
 * One file holds one timeline, the last of its model: the caller's number of its conversation, its
 * tokens, the KV caches, the recurrent state after the last token and the latest snapshot before that.
 * It is a cache: what is damaged, of another model or of other arithmetic counts as nothing, and nothing
 * depends on it. Only the thread that uses the session. */
#ifndef LADE_SESSION_KEPT_H
#define LADE_SESSION_KEPT_H

#include "engine/engine.h"

/* All files together. */
#define LADE_KEPT_MOST ((uint64_t)8 << 30)

/* The file in `dir` for timelines of the session's model and type of caches; malloc'ed, NULL without
 * memory. */
char *lade_kept_path(struct lade_session *s, const char *dir);

/* Bytes of the file that the timeline would make. */
uint64_t lade_kept_bytes(const struct lade_session *s);

/* Has a file with the timeline, which has tokens and is of conversation `of` (0 = of none that has a
 * number), take the place of the one at `path`. False, with the old one as it was, where that cannot be
 * done, takes more than `seconds`, more than half of what is free there or than LADE_KEPT_MOST, or
 * `cancel` (read often; may be NULL) becomes true. Who is killed meanwhile leaves a file beside it, which
 * the next to write takes over. */
bool lade_kept_write(struct lade_session *s, const char *path, int64_t of, double seconds,
                     const atomic_bool *cancel);

/* Removes files of `dir`, those first that were written first, until the others have at most that many
 * bytes. */
void lade_kept_prune(const char *dir, uint64_t most);

/* Removes the files of `dir` with a timeline of conversation `of`, or that do not tell of which theirs is. */
void lade_kept_forget(const char *dir, int64_t of);

/* Fills an empty session with the timeline that is kept at `path`, if that makes less of ids[0..n)
 * to be read. Otherwise the session stays empty. */
void lade_kept_read(struct lade_session *s, const char *path, const int32_t *ids, int n);

#endif
