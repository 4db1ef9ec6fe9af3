/* What a server sends: events in any pieces (the first byte says how long they are), each read as a piece of
 * an answer. The pieces make no difference, and every text is whole characters. */
#include <stdlib.h>
#include <string.h>

#include "engine/remote/reply.h"
#include "engine/remote/sse.h"
#include "engine/tokenizer/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t sum; /* of all events and where they end */
    int events;
};

static void check_text(const char *text)
{
    for (size_t n = text ? strlen(text) : 0, i = 0; i < n;) {
        int step = lade_utf8_next((const unsigned char *)text + i, n - i, NULL);
        if (step <= 0)
            abort();
        i += (size_t)step;
    }
}

static bool take(void *user, const char *data, size_t n)
{
    struct seen *s = user;
    struct lade_reply r;
    if (data[n])
        abort();
    for (size_t i = 0; i <= n; i++)
        s->sum = (s->sum ^ (unsigned char)data[i]) * 0x100000001b3u;
    s->events++;
    lade_reply_read(&r, data, n);
    check_text(r.text);
    check_text(r.reasoning);
    check_text(r.error);
    lade_reply_clear(&r);
    return s->events < 1000;
}

static struct seen feed(const char *text, size_t n, size_t piece, enum lade_sse_end *end)
{
    struct lade_sse s = {0};
    struct seen seen = {0};
    *end = LADE_SSE_MORE;
    for (size_t i = 0; i < n && !*end; i += piece)
        *end = lade_sse_feed(&s, text + i, n - i < piece ? n - i : piece, take, &seen);
    lade_sse_close(&s);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 4 };
    struct lade_reply_model models[MOST];
    char said[64];
    if (!size)
        return 0;
    const char *text = (const char *)data + 1;
    const size_t n = size - 1, piece = data[0] ? data[0] : 1;
    enum lade_sse_end one, other;
    struct seen a = feed(text, n, n ? n : 1, &one), b = feed(text, n, piece, &other);
    if (one != other || a.events != b.events || a.sum != b.sum)
        abort();
    int found = lade_reply_models(models, MOST, text, n);
    for (int i = 0; i < found && i < MOST; i++)
        if (!*models[i].name || models[i].context < 0)
            abort();
    lade_reply_failure(text, n, said, sizeof said);
    double share = lade_reply_progress(text, n);
    if (strpbrk(said, "\x1b\n") || !(share == -1 || (share >= 0 && share <= 1)))
        abort();
    return 0;
}
