#include <string.h>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

static const char replacement[] = "\xef\xbf\xbd";

/* Takes bytes one by one: at most three wait in the tail for the rest of their character. */
static int take_bytes(struct lade_detok *d, const char *bytes, size_t n, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        d->tail[d->n_tail++] = (unsigned char)bytes[i];
        while (d->n_tail) {
            bool open;
            int step = lade_utf8_next(d->tail, (size_t)d->n_tail, &open);
            if (open)
                break;
            const char *text = step > 0 ? (const char *)d->tail : replacement;
            size_t len = step > 0 ? (size_t)step : sizeof replacement - 1;
            if (used + len >= size)
                return -1;
            memcpy(out + used, text, len);
            used += len;
            int eaten = step > 0 ? step : -step;
            d->n_tail -= eaten;
            memmove(d->tail, d->tail + eaten, (size_t)d->n_tail);
        }
    }
    out[used] = '\0';
    return (int)used;
}

int lade_detok_push(struct lade_detok *d, const struct lade_tokenizer *tok, int32_t id, char *out,
                    size_t size)
{
    size_t len;
    const char *bytes = lade_tokenizer_piece(tok, id, &len);
    struct lade_detok next = *d;
    int used = size ? take_bytes(&next, bytes, len, out, size) : -1;
    if (used >= 0)
        *d = next;
    return used;
}

int lade_detok_flush(struct lade_detok *d, char *out, size_t size)
{
    size_t len = d->n_tail ? sizeof replacement - 1 : 0;
    if (len >= size)
        return -1;
    memcpy(out, replacement, len);
    out[len] = '\0';
    d->n_tail = 0;
    return (int)len;
}
