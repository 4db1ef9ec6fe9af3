#include "tui/term_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tui/term.h"
#include "tui/theme.h"

/* Attributes off, cursor shown, keypad mode off, alternate screen left. */
#define RESET "\033[0m\033[?25h\033[?1l\033>\033[?1049l\r"

/* Not SIGINT from the keyboard: in raw mode Ctrl-C is a byte. */
static const int told[] = {SIGWINCH, SIGTSTP, SIGCONT, SIGTERM, SIGHUP, SIGINT, SIGQUIT};
static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};

enum { N_TOLD = sizeof told / sizeof *told, N_FATAL = sizeof fatal / sizeof *fatal };

static struct {
    int pipe[2];
    int err_fd; /* the real stderr; -1 = not redirected */
    int log_fd;
    off_t log_from;
    const struct termios *saved;
    const char *off;
    volatile sig_atomic_t active;
    struct sigaction was_told[N_TOLD], was_fatal[N_FATAL];
} guard = {.pipe = {-1, -1}, .err_fd = -1, .log_fd = -1};

/* ---- stderr ---------------------------------------------------------------------------------- */

void guard_stderr(const char *log)
{
    int fd = log ? open(log, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    guard.log_from = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    guard.log_fd = fd;
    int sink = fd >= 0 ? fd : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (sink < 0)
        return;
    fflush(stderr);
    guard.err_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(sink, STDERR_FILENO);
    if (sink != fd)
        close(sink);
}

void guard_stderr_back(void)
{
    if (guard.err_fd < 0)
        return;
    fflush(stderr);
    dup2(guard.err_fd, STDERR_FILENO);
    close(guard.err_fd);
    guard.err_fd = -1;
}

void term_replay(int fd, int lines)
{
    char text[8192];
    if (guard.log_fd < 0)
        return;
    off_t end = lseek(guard.log_fd, 0, SEEK_END), from = guard.log_from;
    if (end - from > (off_t)sizeof text)
        from = end - (off_t)sizeof text;
    ssize_t n = end > from ? pread(guard.log_fd, text, (size_t)(end - from), from) : 0;
    ssize_t at = n;
    while (at > 0 && lines >= 0)
        if (text[--at] == '\n' && at + 1 < n && --lines < 0)
            break;
    at += at > 0;
    for (ssize_t i = at; i < n; i++)
        if ((unsigned char)text[i] < 0x20 && text[i] != '\n' && text[i] != '\t')
            text[i] = '?';
    if (n > at && write(fd, text + at, (size_t)(n - at)) < 0)
        return;
}

/* ---- crashes --------------------------------------------------------------------------------- */

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        return;
}

/* Only async-signal-safe calls. The signal is raised again with its default action on return. */
static void on_crash(int sig)
{
    if (guard.active) {
        guard.active = 0;
        put(STDOUT_FILENO, guard.off);
        put(STDOUT_FILENO, theme_reset_sequence());
        put(STDOUT_FILENO, RESET);
        tcsetattr(STDIN_FILENO, TCSANOW, guard.saved);
        int fd = guard.err_fd >= 0 ? guard.err_fd : STDERR_FILENO;
        put(fd, "lade: the program failed (signal ");
        char digits[3] = {(char)('0' + sig / 10), (char)('0' + sig % 10), 0};
        put(fd, sig < 10 ? digits + 1 : digits);
        put(fd, "); the conversation is saved; go on with `lade chat --resume`\n");
    }
    raise(sig);
}

/* ---- signals the loop is told ---------------------------------------------------------------- */

static void on_signal(int sig)
{
    int saved = errno;
    unsigned char byte = (unsigned char)sig;
    /* A full pipe holds wake-ups enough. */
    if (write(guard.pipe[1], &byte, 1) < 0)
        errno = saved;
    errno = saved;
}

void guard_signals(bool on)
{
    for (int i = 0; i < N_TOLD; i++) {
        if (on) {
            struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
            sigaction(told[i], &act, NULL);
        } else {
            const bool typed = told[i] == SIGINT || told[i] == SIGQUIT;
            const struct sigaction none = {.sa_handler = SIG_IGN};
            sigaction(told[i], typed ? &none : &guard.was_told[i], NULL);
        }
    }
    if (!on)
        signal(SIGTSTP, SIG_DFL);
}

void guard_start(const struct termios *saved, const char *off)
{
    static char stack[32768]; /* a stack overflow must find another stack */
    guard.saved = saved;
    guard.off = off;
    if (guard.pipe[0] < 0 && pipe2(guard.pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        guard.pipe[0] = guard.pipe[1] = -1;
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alt, NULL);
    for (int i = 0; i < N_TOLD; i++)
        sigaction(told[i], NULL, &guard.was_told[i]);
    guard_signals(true);
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)(SA_RESETHAND | SA_ONSTACK)};
    for (int i = 0; i < N_FATAL; i++)
        sigaction(fatal[i], &crash, &guard.was_fatal[i]);
    guard.active = 1;
}

void guard_stop(void)
{
    guard.active = 0;
    for (int i = 0; i < N_TOLD; i++)
        sigaction(told[i], &guard.was_told[i], NULL);
    for (int i = 0; i < N_FATAL; i++)
        sigaction(fatal[i], &guard.was_fatal[i], NULL);
    /* curses had put its own window handler there before ours. */
    signal(SIGWINCH, SIG_DFL);
    /* A terminal that is closed says so more than once, and what is left to be saved is saved now. */
    signal(SIGHUP, SIG_IGN);
}

int guard_fd(void)
{
    return guard.pipe[0];
}

int guard_next(void)
{
    unsigned char byte;
    static int kept;
    if (kept) {
        int sig = kept;
        kept = 0;
        return sig;
    }
    bool winch = false;
    while (read(guard.pipe[0], &byte, 1) == 1) {
        if (byte != SIGWINCH) {
            kept = winch ? byte : 0;
            return winch ? SIGWINCH : byte;
        }
        winch = true;
    }
    return winch ? SIGWINCH : 0;
}
