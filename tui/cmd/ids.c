#include "tui/cmd/ids.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char separators[] = " \t\r\n,";

static size_t count(const char *text)
{
    size_t n = 0;
    for (const char *s = text + strspn(text, separators); *s; s += strspn(s, separators)) {
        n++;
        s += strcspn(s, separators);
    }
    return n;
}

int ids_parse(const char *text, const char *name, int limit, int32_t **ids, size_t *n, char *err)
{
    *n = 0;
    *ids = calloc(count(text) + 1, sizeof(**ids));
    if (!*ids)
        return lade_fail(err, "%s: too many ids for the memory; give fewer", name);
    for (const char *s = text + strspn(text, separators); *s; s += strspn(s, separators)) {
        char *end;
        errno = 0;
        long id = strtol(s, &end, 10);
        size_t len = strcspn(s, separators);
        if (end != s + len || errno || id < 0 || id >= limit) {
            free(*ids);
            *ids = NULL;
            return lade_fail(err, "%s: '%.*s' is not a token id; they are 0 to %d", name,
                             (int)(len < 40 ? len : 40), s, limit - 1);
        }
        (*ids)[(*n)++] = (int32_t)id;
        s += len;
    }
    return 0;
}
