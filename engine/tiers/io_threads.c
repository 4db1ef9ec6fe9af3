/* io_threads.c - reads by threads that wait for them, where there is no io_uring. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/tiers/io.h"
#include "kernels/error.h"

enum { MAX_THREADS = 8 };

struct list {
    struct lade_read *first, **end;
};

struct lade_io {
    pthread_t threads[MAX_THREADS];
    int n;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t asked, ended;
    struct list to_do, done;
    bool stop;
};

static void put(struct list *l, struct lade_read *r)
{
    r->next = NULL;
    *l->end = r;
    l->end = &r->next;
}

static struct lade_read *take(struct list *l)
{
    struct lade_read *r = l->first;
    l->first = r->next;
    if (!l->first)
        l->end = &l->first;
    return r;
}

long lade_read_now(int fd, void *dst, size_t bytes, uint64_t offset)
{
    long got;
    do
        got = pread(fd, dst, bytes, (off_t)offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static void *work(void *arg)
{
    struct lade_io *io = arg;
    pthread_mutex_lock(&io->lock);
    for (;;) {
        while (!io->stop && !io->to_do.first)
            pthread_cond_wait(&io->asked, &io->lock);
        if (io->stop)
            break;
        struct lade_read *r = take(&io->to_do);
        pthread_mutex_unlock(&io->lock);
        r->got = lade_read_now(r->fd, r->dst, r->bytes, r->offset);
        pthread_mutex_lock(&io->lock);
        put(&io->done, r);
        pthread_cond_signal(&io->ended);
    }
    pthread_mutex_unlock(&io->lock);
    return NULL;
}

static void threads_close(struct lade_io *io)
{
    if (!io)
        return;
    pthread_mutex_lock(&io->lock);
    io->stop = true;
    pthread_cond_broadcast(&io->asked);
    pthread_mutex_unlock(&io->lock);
    for (int i = 0; i < io->n; i++)
        pthread_join(io->threads[i], NULL);
    pthread_cond_destroy(&io->asked);
    pthread_cond_destroy(&io->ended);
    pthread_mutex_destroy(&io->lock);
    free(io);
}

static int threads_open(struct lade_io **out, int depth, char *err)
{
    struct lade_io *io = calloc(1, sizeof *io);
    *out = NULL;
    if (!io)
        return lade_fail(err, "reading: out of memory; close other programs");
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->asked, NULL);
    pthread_cond_init(&io->ended, NULL);
    io->to_do.end = &io->to_do.first;
    io->done.end = &io->done.first;
    while (io->n < depth && io->n < MAX_THREADS &&
           pthread_create(&io->threads[io->n], NULL, work, io) == 0)
        io->n++;
    if (!io->n) {
        threads_close(io);
        return lade_fail(err, "reading: cannot start a thread; close other programs");
    }
    *out = io;
    return 0;
}

static void threads_submit(struct lade_io *io, struct lade_read *r)
{
    pthread_mutex_lock(&io->lock);
    put(&io->to_do, r);
    pthread_cond_signal(&io->asked);
    pthread_mutex_unlock(&io->lock);
}

static struct lade_read *threads_wait(struct lade_io *io)
{
    pthread_mutex_lock(&io->lock);
    while (!io->done.first)
        pthread_cond_wait(&io->ended, &io->lock);
    struct lade_read *r = take(&io->done);
    pthread_mutex_unlock(&io->lock);
    return r;
}

const struct lade_io_ops lade_io_threads = {"pread",        threads_open, threads_close,
                                            threads_submit, threads_wait, true};
