#include "tui/input_history.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <readline/history.h>

#include "engine/checkpoint/file.h"
#include "tui/input.h"
#include "tui/text/buf.h"

static char file[PATH_MAX];

static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (*s == '\\' && s[1])
            *to++ = *++s == 'n' ? '\n' : *s;
        else
            *to++ = *s;
    }
    *to = '\0';
}

static void escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            buf_puts(out, "\\n");
        else if (*text == '\\')
            buf_puts(out, "\\\\");
        else
            buf_add(out, text, 1);
    }
    buf_puts(out, "\n");
}

/* Writes what readline kept over a file that has grown to more than twice of it; where that does not
 * work, the file goes on growing. */
static void shorten(void)
{
    struct buf all = {0};
    HIST_ENTRY **list = history_list();
    for (int i = 0; list && list[i]; i++)
        escaped(&all, list[i]->line);
    lade_file_replace(file, buf_text(&all), all.n, NULL);
    buf_free(&all);
}

void input_history_load(const char *path)
{
    snprintf(file, sizeof file, "%s", path ? path : "");
    FILE *f = *file ? fopen(file, "re") : NULL;
    if (!f)
        return;
    char *line = NULL;
    size_t cap = 0;
    int n = 0;
    for (ssize_t len; (len = getline(&line, &cap, f)) > 0; n++) {
        if (line[len - 1] == '\n')
            line[len - 1] = '\0';
        unescape(line);
        if (*line)
            add_history(line);
    }
    free(line);
    fclose(f);
    if (n > 2 * INPUT_HISTORY)
        shorten();
}

void input_history_add(const char *text)
{
    HIST_ENTRY *last = history_length > 0 ? history_get(history_base + history_length - 1) : NULL;
    if (!*text || *text == ' ' || (last && strcmp(last->line, text) == 0))
        return;
    add_history(text);
    int fd = *file ? open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (fd < 0)
        return;
    struct buf line = {0};
    escaped(&line, text);
    if (write(fd, line.at, line.n) < 0)
        *file = '\0'; /* a full disk: do not try again at every line */
    buf_free(&line);
    close(fd);
}
