#include "tui/cmd/bandwidth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/plan/probe.h"

struct bandwidth {
    pid_t child;
    int ask, answer; /* pipes: a byte asks, a double answers */
};

/* The process: one measurement for each byte, until the other end closes. */
static void serve(int ask, int answer, int threads)
{
    char byte;
    while (read(ask, &byte, 1) == 1) {
        double rate = lade_probe_ram(threads);
        if (write(answer, &rate, sizeof(rate)) != sizeof(rate))
            break;
    }
}

static void start(struct bandwidth *b, const int ask[2], const int answer[2], int threads)
{
    b->child = fork();
    if (b->child == 0) {
        close(ask[1]);
        close(answer[0]);
        serve(ask[0], answer[1], threads);
        _exit(0);
    }
    close(ask[0]);
    close(answer[1]);
    b->ask = ask[1];
    b->answer = answer[0];
}

struct bandwidth *bandwidth_open(int threads)
{
    int ask[2], answer[2];
    struct bandwidth *b = malloc(sizeof(*b));
    if (!b || pipe2(ask, O_CLOEXEC)) {
        free(b);
        return NULL;
    }
    if (pipe2(answer, O_CLOEXEC)) {
        close(ask[0]);
        close(ask[1]);
        free(b);
        return NULL;
    }
    start(b, ask, answer, threads);
    if (b->child < 0) {
        bandwidth_close(b);
        return NULL;
    }
    return b;
}

double bandwidth_measure(struct bandwidth *b)
{
    double rate;
    if (!b || write(b->ask, "", 1) != 1 || read(b->answer, &rate, sizeof(rate)) != sizeof(rate))
        return 0;
    return rate;
}

void bandwidth_close(struct bandwidth *b)
{
    if (!b)
        return;
    close(b->ask);
    close(b->answer);
    if (b->child > 0)
        waitpid(b->child, NULL, 0);
    free(b);
}
