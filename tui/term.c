#include "tui/term.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

#include "kernels/error.h"
#include "tui/term_guard.h"
#include "tui/theme.h"

/* Modes beyond those of curses: bracketed paste, wheel reports in SGR form. */
#define PASTE_ON    "\033[?2004h"
#define PASTE_OFF   "\033[?2004l"
#define MOUSE_ON    "\033[?1000h\033[?1006h"
#define MOUSE_OFF   "\033[?1006l\033[?1000l"
#define FRAME_BEGIN "\033[?2026h"
#define FRAME_END   "\033[?2026l"

static struct {
    SCREEN *screen;
    struct termios saved; /* as we found it */
    bool active, mouse;
} term = {.mouse = true};

static void send(const char *text, size_t n)
{
    fflush(stdout);
    while (n > 0) {
        ssize_t w = write(STDOUT_FILENO, text, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return;
        text += w;
        n -= (size_t)w;
    }
}

static void modes(bool on)
{
    send(on ? PASTE_ON : PASTE_OFF, strlen(PASTE_ON));
    if (term.mouse)
        send(on ? MOUSE_ON : MOUSE_OFF, strlen(MOUSE_ON));
}

static void curses_modes(void)
{
    raw();
    noecho();
    nonl();
    keypad(stdscr, FALSE); /* keys are decoded in keys.c, from the bytes readline gets too */
    leaveok(stdscr, FALSE);
}

int term_start(const char *log, char *err)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return lade_fail(err, "terminal: the chat needs one on input and output; use `lade run` "
                              "in pipes");
    if (tcgetattr(STDIN_FILENO, &term.saved) != 0)
        return lade_fail(err, "terminal: %s; use another one", strerror(errno));
    const char *name = getenv("TERM");
    int status = 0;
    if (setupterm(name, STDOUT_FILENO, &status) != 0)
        return lade_fail(err,
                         "terminal: TERM is '%.32s', which is not known here; set TERM to "
                         "xterm-256color",
                         name ? name : "");
    bool can_move = cursor_address != NULL;
    del_curterm(cur_term);
    term.screen = can_move ? newterm(NULL, stdout, stdin) : NULL;
    if (!term.screen)
        return lade_fail(err,
                         "terminal: '%.32s' cannot show a full screen; set TERM to "
                         "xterm-256color",
                         name ? name : "");
    set_term(term.screen);
    term.active = true;
    curses_modes();
    modes(true);
    guard_stderr(log);
    guard_start(&term.saved, FRAME_END MOUSE_OFF PASTE_OFF);
    return 0;
}

void term_stop(void)
{
    if (!term.active)
        return;
    term.active = false;
    guard_stop();
    modes(false);
    endwin();
    delscreen(term.screen);
    term.screen = NULL;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &term.saved);
    guard_stderr_back();
}

static void leave(void)
{
    modes(false);
    guard_signals(false); /* before Ctrl-C is a signal */
    endwin();
    tcsetattr(STDIN_FILENO, TCSADRAIN, &term.saved);
}

static void come_back(void)
{
    refresh();
    curses_modes();
    guard_signals(true); /* when it is a key again */
    modes(true);
    term_resize();
}

void term_suspend(void)
{
    leave();
    raise(SIGTSTP);
    /* Here the shell has continued us. */
    tcgetattr(STDIN_FILENO, &term.saved);
    come_back();
}

void term_lend(void)
{
    leave();
}

void term_take_back(void)
{
    tcsetattr(STDIN_FILENO, TCSADRAIN, &term.saved);
    come_back();
}

void term_resize(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
        resizeterm(size.ws_row, size.ws_col);
    clearok(curscr, TRUE);
}

int term_signal_fd(void)
{
    return guard_fd();
}

int term_signal(void)
{
    return guard_next();
}

void term_frame(bool begin)
{
    send(begin ? FRAME_BEGIN : FRAME_END, strlen(FRAME_BEGIN));
}

void term_mouse(bool on)
{
    if (on == term.mouse)
        return;
    if (term.active)
        send(on ? MOUSE_ON : MOUSE_OFF, strlen(MOUSE_ON));
    term.mouse = on;
}

bool term_has_mouse(void)
{
    return term.mouse;
}

void term_clipboard(const char *text, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t groups = (n + 2) / 3, at = 0;
    char *out = malloc(groups * 4 + 16);
    if (!out || !term.active) {
        free(out);
        return;
    }
    at += (size_t)sprintf(out, "\033]52;c;");
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < n ? (unsigned char)text[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            out[at++] = k <= n - i ? digits[v >> (18 - 6 * k) & 63] : '=';
    }
    out[at++] = '\a';
    send(out, at);
    free(out);
}
