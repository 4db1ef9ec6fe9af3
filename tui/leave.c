#include "tui/leave.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tui/meters/units.h"

enum { MOMENT = 400 }; /* milliseconds */

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* Lets the signals in only while waiting; *open is the mask that does. */
static void catch_signals(sigset_t *open)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t mask;
    sigemptyset(&mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&mask, numbers[i]);
    sigprocmask(SIG_BLOCK, &mask, open);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaction(numbers[i], &action, NULL);
}

/* Takes the events that wake us; the last of them may have been taken before. */
static bool has_ended(struct lade_engine *e)
{
    struct lade_event ev;
    struct lade_stats stats;
    while (lade_engine_next(e, &ev))
        lade_event_clear(&ev);
    lade_engine_stats(e, &stats);
    return stats.ended;
}

/* True if a line was written. */
static bool tell(struct lade_engine *e)
{
    struct lade_stats stats;
    char size[UNITS_MAX];
    lade_engine_stats(e, &stats);
    if (!stats.keeping || !isatty(STDERR_FILENO))
        return false;
    fprintf(stderr, "Keeping what the model has read, %s; Ctrl-C leaves without it.",
            units_file(size, (double)stats.keeping));
    fflush(stderr);
    return true;
}

void leave_wait(struct lade_engine *e)
{
    sigset_t open;
    bool told = false;
    if (!e)
        return;
    catch_signals(&open);
    struct pollfd fd = {.fd = lade_engine_fd(e), .events = POLLIN};
    const struct timespec moment = {.tv_nsec = MOMENT * 1000000L};
    while (!has_ended(e)) {
        if (ppoll(&fd, 1, told ? NULL : &moment, &open) == 0)
            told = tell(e);
        if (interrupted)
            lade_engine_forget(e);
    }
    if (told)
        fputs("\r\033[K", stderr);
}
