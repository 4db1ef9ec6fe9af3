#include "engine/session/stops.h"

#include <string.h>

/* Bytes of the longest text that the held ones end with; 0 if there is none. */
static size_t ends_with(const struct lade_stops *s)
{
    size_t longest = 0;
    for (int i = 0; i < s->texts->n; i++) {
        size_t n = strlen(s->texts->text[i]);
        if (n > longest && n <= s->n_held && !memcmp(s->held + s->n_held - n, s->texts->text[i], n))
            longest = n;
    }
    return longest;
}

static bool begins(const struct lade_stops *s, size_t from)
{
    for (int i = 0; i < s->texts->n; i++)
        if (!strncmp(s->texts->text[i], s->held + from, s->n_held - from))
            return true;
    return false;
}

/* Passes the first n held bytes on. */
static size_t let_go(struct lade_stops *s, size_t n, char *out)
{
    memcpy(out, s->held, n);
    s->n_held -= n;
    memmove(s->held, s->held + n, s->n_held);
    return n;
}

size_t lade_stops_pass(struct lade_stops *s, const char *text, size_t n, char *out)
{
    size_t passed = 0;
    for (size_t i = 0; i < n && !s->hit; i++) {
        s->held[s->n_held++] = text[i];
        size_t stop = ends_with(s), from = 0;
        if (stop) {
            passed += let_go(s, s->n_held - stop, out + passed);
            s->n_held = 0;
            s->hit = true;
            break;
        }
        while (from < s->n_held && !begins(s, from))
            from++;
        passed += let_go(s, from, out + passed);
    }
    return passed;
}

size_t lade_stops_rest(struct lade_stops *s, char *out)
{
    return let_go(s, s->n_held, out);
}
