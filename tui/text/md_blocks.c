/* Where an answer that still grows can be cut: the pure scan behind markdown_stable. */
#include "tui/text/markdown.h"

#include <stdbool.h>
#include <string.h>

/* Length of the fence that begins the line, or 0; *rest is where the text after it begins. */
static int fence(const char *line, size_t n, char *kind, size_t *rest)
{
    size_t i = 0, len = 0;
    while (i < n && (line[i] == ' ' || line[i] == '\t' || line[i] == '>'))
        i++;
    if (i < n && (line[i] == '`' || line[i] == '~')) {
        *kind = line[i];
        while (i + len < n && line[i + len] == *kind)
            len++;
    }
    *rest = i + len;
    return len >= 3 ? (int)len : 0;
}

static bool only(const char *line, size_t n, const char *allowed)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(allowed, line[i]))
            return false;
    return true;
}

/* Begins an item of a list at column 0, or might once more of the line is there. */
static bool is_item(const char *line, size_t n)
{
    size_t i = 0;
    if (n && strchr("-*+", line[0]))
        return n == 1 || line[1] == ' ' || line[1] == '\t';
    while (i < n && line[i] >= '0' && line[i] <= '9')
        i++;
    return i > 0 && (i == n || line[i] == '.' || line[i] == ')');
}

size_t markdown_stable(const char *text, size_t n, size_t from)
{
    size_t stable = from;
    bool blank = false, list = false, begun = false;
    int open = 0;
    char kind = 0, k = 0;
    for (size_t i = from; i < n;) {
        const char *line = text + i;
        const char *end = memchr(line, '\n', n - i);
        size_t len = end ? (size_t)(end - line) : n - i;
        bool first = len && line[0] != ' ' && line[0] != '\t' && line[0] != '\r';
        bool item = is_item(line, len);
        /* The line after a blank one begins a block, unless it may continue a list; while it is
         * unfinished a sign at its begin may still become anything. */
        if (!open && blank && first && !(item && list) &&
            (end || (unsigned char)line[0] >= 0x80 || (line[0] | 32) >= 'a')) {
            stable = i;
            list = item;
        } else if (!begun && first) {
            list = item;
        }
        begun |= len > 0;
        size_t rest;
        int f = fence(line, len, &k, &rest);
        if (open) {
            if (f >= open && k == kind && only(line + rest, len - rest, " \t\r"))
                open = 0;
        } else if (f && end) {
            open = f;
            kind = k;
        }
        blank = only(line, len, " \t\r");
        i += len + (end != NULL);
    }
    return stable;
}
