#include "tui/cmd/bandwidth.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 5, MOST_THREADS = 256 };

/* More than any cache holds. */
static const size_t bytes_in_all = (size_t)512 << 20;

struct reader {
    pthread_t thread;
    const uint64_t *data;
    size_t words;
    volatile uint64_t sum; /* volatile: somebody must want what is read */
};

/* Four sums, so that the additions do not wait for each other. */
static void *read_all(void *arg)
{
    struct reader *r = arg;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i + 4 <= r->words; i += 4) {
        a += r->data[i];
        b += r->data[i + 1];
        c += r->data[i + 2];
        d += r->data[i + 3];
    }
    r->sum = a + b + c + d;
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of one round; 0 if a thread could not be started. */
static double round_of(struct reader *readers, int threads)
{
    int started = 1;
    double begin = now();
    while (started < threads &&
           pthread_create(&readers[started].thread, NULL, read_all, &readers[started]) == 0)
        started++;
    read_all(&readers[0]);
    for (int i = 1; i < started; i++)
        pthread_join(readers[i].thread, NULL);
    return started == threads ? now() - begin : 0;
}

static double measure(int threads)
{
    static struct reader readers[MOST_THREADS];
    double best = 0;
    size_t share = bytes_in_all / sizeof(uint64_t) / (size_t)threads;
    uint64_t *data = malloc(bytes_in_all);
    if (!data)
        return 0;
    memset(data, 1, bytes_in_all); /* pages must be there, and not all be the zero page */
    for (int i = 0; i < threads; i++)
        readers[i] = (struct reader){.data = data + share * (size_t)i, .words = share};
    for (int k = 0; k < ROUNDS; k++) {
        double seconds = round_of(readers, threads);
        double rate = seconds > 0 ? (double)bytes_in_all / seconds / 1e9 : 0;
        best = rate > best ? rate : best;
    }
    free(data);
    return best;
}

/* In a process of its own, because its memory would count as ours at the peak. */
double bandwidth_measure(int threads)
{
    int pipe_fd[2];
    double rate = 0;
    if (threads < 1 || threads > MOST_THREADS)
        threads = threads < 1 ? 1 : MOST_THREADS;
    if (pipe(pipe_fd))
        return 0;
    pid_t child = fork();
    if (child == 0) {
        rate = measure(threads);
        _exit(write(pipe_fd[1], &rate, sizeof(rate)) != sizeof(rate));
    }
    close(pipe_fd[1]);
    if (child < 0 || read(pipe_fd[0], &rate, sizeof(rate)) != sizeof(rate))
        rate = 0;
    close(pipe_fd[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return rate;
}
