#include "tui/cmd/bandwidth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct bandwidth {
    pid_t child;
    int ask, answer; /* pipes: a byte asks, a struct lade_reads answers */
};

enum { TIMES = 4 }; /* in one go: threads start and wait for each other once a GiB */

/* The process: one measurement for each byte, until the other end closes. */
static void serve(int ask, int answer, int threads)
{
    struct lade_ram_reader *reader = NULL;
    char byte;
    while (read(ask, &byte, 1) == 1) {
        struct lade_reads reads = {0};
        if (!reader)
            reader = lade_ram_reader_open(threads);
        if (reader)
            lade_ram_reader_add(reader, TIMES, &reads);
        if (write(answer, &reads, sizeof(reads)) != sizeof(reads))
            break;
    }
    lade_ram_reader_close(reader);
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

void bandwidth_add(struct bandwidth *b, struct lade_reads *reads)
{
    struct lade_reads more;
    if (!b || write(b->ask, "", 1) != 1 || read(b->answer, &more, sizeof(more)) != sizeof(more))
        return;
    reads->bytes += more.bytes;
    reads->seconds += more.seconds;
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
