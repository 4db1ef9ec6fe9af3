#include "tui/stop.h"

#include <stdio.h>
#include <string.h>

#include "engine/tokenizer/utf8.h"

/* What a byte is in a list, and the letter that stands for it after a backslash. */
static const char special[][2] = {{'\n', 'n'}, {'\t', 't'}, {'|', '|'}, {'\\', '\\'}};
enum { SPECIAL = sizeof special / sizeof *special };

static bool is_text(const char *text, size_t n)
{
    int step;
    for (size_t i = 0; i < n; i += (size_t)step)
        if ((step = lade_utf8_next((const unsigned char *)text + i, n - i, NULL)) < 0)
            return false;
    return true;
}

int stop_add(struct lade_stop_texts *t, const char *what, const char *text, size_t n, char *err)
{
    if (!n)
        return lade_fail(err, "%s: a text is empty; give what the answer shall end before", what);
    if (n >= LADE_STOP_SIZE)
        return lade_fail(err, "%s: a text has %zu bytes and may have %d; give its beginning", what,
                         n, LADE_STOP_SIZE - 1);
    if (!is_text(text, n))
        return lade_fail(err, "%s: is not UTF-8; give text", what);
    if (t->n == LADE_STOPS)
        return lade_fail(err, "%s: %d texts are the most; leave one out", what, LADE_STOPS);
    memcpy(t->text[t->n], text, n);
    t->text[t->n++][n] = '\0';
    return 0;
}

/* What stands at *at of a list, which moves on. */
static char next_byte(const char **at)
{
    char c = *(*at)++;
    for (int i = 0; c == '\\' && i < SPECIAL; i++)
        if (**at == special[i][1]) {
            (*at)++;
            return special[i][0];
        }
    return c;
}

int stop_read(struct lade_stop_texts *t, const char *list, char *err)
{
    struct lade_stop_texts all = {.n = 0};
    char one[LADE_STOP_SIZE];
    for (const char *at = list; *list; at++) { /* past the bar */
        size_t n = 0;
        while (*at && *at != '|') {
            char c = next_byte(&at);
            if (n < sizeof one)
                one[n] = c;
            n++;
        }
        if (stop_add(&all, "stop", one, n, err))
            return -1;
        if (!*at)
            break;
    }
    *t = all;
    return 0;
}

char *stop_write(const struct lade_stop_texts *t, char *out, int size)
{
    int used = 0;
    *out = '\0';
    for (int i = 0; i < t->n; i++)
        for (const char *p = t->text[i]; *p; p++) {
            char piece[4];
            int k = 0;
            while (k < SPECIAL && special[k][0] != *p)
                k++;
            const char *bar = i && p == t->text[i] ? "|" : "";
            if (k < SPECIAL)
                snprintf(piece, sizeof piece, "%s\\%c", bar, special[k][1]);
            else
                snprintf(piece, sizeof piece, "%s%c", bar, *p);
            if (used + (int)strlen(piece) < size)
                used += snprintf(out + used, (size_t)(size - used), "%s", piece);
        }
    return out;
}
