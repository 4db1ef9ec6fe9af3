#include "engine/remote/sse.h"

#include <stdlib.h>
#include <string.h>

static enum lade_sse_end append(struct lade_text *t, const char *bytes, size_t n)
{
    t->most = LADE_SSE_MOST;
    if (lade_text_add(t, bytes, n))
        return LADE_SSE_MORE;
    return t->too_long ? LADE_SSE_TOO_LONG : LADE_SSE_NO_MEMORY;
}

/* The value of a line that has this field; NULL where it has another. */
static const char *value_of(const char *line, size_t n, const char *field)
{
    size_t k = strlen(field);
    if (n < k || memcmp(line, field, k) != 0 || (n > k && line[k] != ':'))
        return NULL;
    line += n > k ? k + 1 : k;
    return *line == ' ' ? line + 1 : line;
}

/* A line is whole. "error" is no field of the standard: llama-server's, for what "data" is elsewhere. */
static enum lade_sse_end take_line(struct lade_sse *s, lade_sse_fn *take, void *user)
{
    const char *line = s->line.at ? s->line.at : "";
    size_t n = s->line.n;
    s->line.n = 0;
    if (!s->begun && n >= 3 && !memcmp(line, "\xEF\xBB\xBF", 3)) {
        line += 3;
        n -= 3;
    }
    s->begun = true;
    if (n == 0) {
        bool any = s->has_data;
        size_t len = s->data.n;
        s->has_data = false;
        s->data.n = 0;
        return !any || take(user, s->data.at, len) ? LADE_SSE_MORE : LADE_SSE_STOPPED;
    }
    const char *value = value_of(line, n, "data");
    if (!value && !(value = value_of(line, n, "error")))
        return LADE_SSE_MORE;
    enum lade_sse_end rc = LADE_SSE_MORE;
    if (s->has_data)
        rc = append(&s->data, "\n", 1);
    s->has_data = true;
    return rc ? rc : append(&s->data, value, (size_t)(line + n - value));
}

enum lade_sse_end lade_sse_feed(struct lade_sse *s, const char *bytes, size_t n, lade_sse_fn *take,
                                void *user)
{
    const char *end = bytes + n;
    enum lade_sse_end rc = LADE_SSE_MORE;
    while (bytes < end && !rc) {
        if (s->cr && *bytes == '\n')
            bytes++;
        s->cr = false;
        const char *stop = bytes;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        rc = append(&s->line, bytes, (size_t)(stop - bytes));
        bytes = stop;
        if (!rc && stop < end) {
            s->cr = *stop == '\r';
            bytes++;
            rc = take_line(s, take, user);
        }
    }
    return rc;
}

void lade_sse_close(struct lade_sse *s)
{
    free(s->line.at);
    free(s->data.at);
    *s = (struct lade_sse){0};
}
