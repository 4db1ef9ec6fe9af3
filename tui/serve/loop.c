/* loop.c - the one place where the server waits: for the engine, for MHD, for clients that go. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "tui/cmd/interrupt.h"
#include "tui/serve/server.h"

/* Nothing new is taken, and what runs is cut short; each client is told. */
static void stop(struct server *s, const sigset_t *open)
{
    s->stopping = true;
    interrupt_let_go(open);
    close(MHD_quiesce_daemon(s->daemon));
    lade_engine_cancel(s->engine, 0);
    lade_engine_cancel_load(s->engine);
    for (struct exchange *x = s->exchanges; x; x = x->next)
        if (!x->request)
            exchange_wake(x);
}

/* Seconds until there is something to do that no descriptor tells: for MHD, at the end, or for a stream
 * that is silent. */
static double patience(const struct server *s, double until)
{
    MHD_UNSIGNED_LONG_LONG ms;
    const double now = lade_now();
    double wait = MHD_get_timeout(s->daemon, &ms) == MHD_YES ? (double)ms * 1e-3 : SERVE_IDLE_S;
    if (s->stopping)
        wait = s->exchanges ? fmin(wait, until - now) : 0;
    for (const struct exchange *x = s->exchanges; x; x = x->next)
        if (answer_is_open(x))
            wait = fmin(wait, x->spoke + SERVE_SILENT_S - now);
    return fmax(wait, 0);
}

static int socket_of(struct exchange *x)
{
    return MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* Waits until there is something to do. MHD does not look at suspended connections: one whose client
 * closes its side is woken, and ends. That a client closes only its own side and still reads looks the same
 * until something is written; an answer that nobody waits for is the dearer mistake. */
static int wait_for(struct server *s, const sigset_t *open, double until, char *err)
{
    const int epoll = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    struct pollfd fds[2 + SERVE_CLIENTS] = {{.fd = lade_engine_fd(s->engine), .events = POLLIN},
                                            {.fd = epoll, .events = POLLIN}};
    struct exchange *of[2 + SERVE_CLIENTS];
    nfds_t n = 2;
    for (struct exchange *x = s->exchanges; x && n < 2 + SERVE_CLIENTS; x = x->next)
        if (x->suspended) {
            fds[n] = (struct pollfd){.fd = socket_of(x), .events = POLLRDHUP};
            of[n++] = x;
        }
    const double wait = patience(s, until);
    const struct timespec limit = {(time_t)wait, (long)((wait - floor(wait)) * 1e9)};
    if (ppoll(fds, n, &limit, open) < 0)
        return errno == EINTR
                   ? 0
                   : lade_fail(err, "waiting for clients: %s; please report this", strerror(errno));
    for (nfds_t i = 2; i < n; i++)
        if (fds[i].revents) {
            of[i]->gone = true;
            exchange_wake(of[i]);
        }
    return 0;
}

static void end(struct server *s, const sigset_t *open)
{
    if (!s->stopping)
        stop(s, open);
    for (struct exchange *x = s->exchanges; x; x = x->next) {
        x->gone = true; /* too slow to take what there is */
        exchange_wake(x);
    }
    MHD_run(s->daemon);
    MHD_stop_daemon(s->daemon);
}

int server_run(struct server *s, const sigset_t *open, char *err)
{
    double until = 0;
    int rc = 0;
    while (rc == 0 && !(s->stopping && (!s->exchanges || lade_now() >= until))) {
        struct lade_event ev;
        if ((interrupted || *s->failure) && !s->stopping) {
            stop(s, open);
            until = lade_now() + SERVE_PATIENCE_S;
        }
        rc = wait_for(s, open, until, err);
        while (rc == 0 && lade_engine_next(s->engine, &ev)) {
            answer_event(s, &ev);
            lade_event_clear(&ev);
        }
        for (struct exchange *x = s->exchanges; x; x = x->next)
            if (answer_is_open(x) && lade_now() >= x->spoke + SERVE_SILENT_S)
                answer_ping(x);
        MHD_run(s->daemon);
    }
    end(s, open);
    return rc == 0 && *s->failure && !interrupted ? lade_fail(err, "%s", s->failure) : rc;
}
