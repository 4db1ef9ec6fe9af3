#include "engine/text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Room for n bytes: twice that, so that many small pieces are copied about once. */
static bool grow(struct lade_text *t, size_t n)
{
    char *at = n < SIZE_MAX / 2 - 256 ? realloc(t->at, 2 * n + 256) : NULL;
    if (!at)
        return false;
    t->at = at;
    t->room = 2 * n + 256;
    return true;
}

bool lade_text_add(struct lade_text *t, const void *bytes, size_t n)
{
    const size_t most = t->most ? t->most : SIZE_MAX - 1;
    if (t->failed)
        return false;
    t->too_long = t->most && n > most - t->n;
    t->failed = n > most - t->n || (t->n + n >= t->room && !grow(t, t->n + n));
    if (t->failed)
        return false;
    if (n)
        memcpy(t->at + t->n, bytes, n);
    t->n += n;
    t->at[t->n] = '\0';
    return true;
}

bool lade_text_puts(struct lade_text *t, const char *string)
{
    return lade_text_add(t, string, strlen(string));
}
