/* sse.h - server-sent events out of bytes in any pieces. Untrusted: an event has a size that it may not
 * pass, and bytes that are no UTF-8 are the reader's matter. */
#ifndef LADE_REMOTE_SSE_H
#define LADE_REMOTE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/text.h"

enum { LADE_SSE_MOST = 1 << 20 }; /* bytes of a line, and of the data of an event */

struct lade_sse {
    struct lade_text line, data; /* owned; what came of this line; the event's lines before it */
    bool has_data;               /* of an event */
    bool cr;                     /* the last byte was a CR: a LF now belongs to it */
    bool begun;                  /* a line was read: a byte order mark can no more come */
};

/* The data of one event (n bytes, then a zero byte). False: no more is wanted. */
typedef bool lade_sse_fn(void *user, const char *data, size_t n);

enum lade_sse_end { LADE_SSE_MORE, LADE_SSE_STOPPED, LADE_SSE_TOO_LONG, LADE_SSE_NO_MEMORY };

/* Calls `take` for every event that ends in these bytes. After anything but MORE only close. */
enum lade_sse_end lade_sse_feed(struct lade_sse *s, const char *bytes, size_t n, lade_sse_fn *take,
                                void *user);

void lade_sse_close(struct lade_sse *s);

#endif
