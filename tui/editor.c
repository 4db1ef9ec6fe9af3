#include "tui/editor.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/error.h"
#include "tui/output.h"
#include "tui/paths.h"
#include "tui/term.h"

static struct {
    pid_t pid; /* 0 = none runs */
    char path[PATH_MAX];
} editor;

static const char *command(void)
{
    const char *visual = getenv("VISUAL"), *plain = getenv("EDITOR");
    return visual && *visual ? visual : plain && *plain ? plain : "vi";
}

/* A file that only this user reads; the ending tells editors what it is. */
static int write_file(const char *text, char *err)
{
    if (paths_file(PATHS_CACHE, "message-XXXXXX.md", editor.path, err) != 0)
        return -1;
    int fd = mkstemps(editor.path, 3);
    if (fd < 0)
        return lade_fail(err, "editor: %s: %s; make it writable", editor.path, strerror(errno));
    size_t n = strlen(text);
    bool written = write(fd, text, n) == (ssize_t)n;
    if (close(fd) == 0 && written)
        return 0;
    lade_fail(err, "editor: %s: %s; free some space", editor.path, strerror(errno));
    unlink(editor.path);
    return -1;
}

/* The command may have arguments, so a shell reads it; the path is never part of what it reads. */
static void run_editor(void)
{
    char script[PATH_MAX];
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    /* stderr is the log's; an editor's is the terminal, like the rest. */
    dup2(STDOUT_FILENO, STDERR_FILENO);
    if (snprintf(script, sizeof script, "%s \"$1\"", command()) < (int)sizeof script)
        execl("/bin/sh", "sh", "-c", script, "sh", editor.path, (char *)NULL);
    _exit(127);
}

int editor_start(const char *text, char *err)
{
    if (write_file(text, err) != 0)
        return -1;
    term_lend();
    editor.pid = fork();
    if (editor.pid == 0)
        run_editor();
    if (editor.pid > 0)
        return 0;
    editor.pid = 0;
    term_take_back();
    unlink(editor.path);
    return lade_fail(err, "editor: no process: %s; close other programs", strerror(errno));
}

bool editor_runs(void)
{
    return editor.pid > 0;
}

/* Only text, as of a paste, and no newlines at its end. */
static void clean(char *text, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c >= ' ' && c != 0x7f) || c == '\n' || c == '\t')
            text[to++] = text[i];
    }
    while (to > 0 && text[to - 1] == '\n')
        to--;
    text[to] = '\0';
}

bool editor_done(char **text, char *err)
{
    int status = 0;
    size_t n;
    pid_t ended = waitpid(editor.pid, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR))
        return false;
    editor.pid = 0;
    term_take_back();
    *text = NULL;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        lade_fail(err, "editor: %s ended with status %d; the message is as it was", command(),
                  WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    else
        *text = output_read(editor.path, OUTPUT_TEXT_MAX, &n, err);
    if (*text)
        clean(*text, n);
    unlink(editor.path);
    return true;
}
