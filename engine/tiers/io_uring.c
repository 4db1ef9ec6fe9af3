/* io_uring.c - reads through io_uring. */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tiers/io.h"
#include "kernels/error.h"

struct lade_io {
    struct io_uring ring;
    struct lade_read *refused; /* could not be handed to the kernel; wait() returns them */
};

static int ring_open(struct lade_io **out, int depth, char *err)
{
    struct lade_io *io = calloc(1, sizeof *io);
    *out = NULL;
    if (!io)
        return lade_fail(err, "io_uring: out of memory; close other programs");
    int code = io_uring_queue_init((unsigned)depth, &io->ring, 0);
    if (code) {
        free(io);
        return lade_fail(err, "io_uring: %s; threads read instead", strerror(-code));
    }
    *out = io;
    return 0;
}

static void ring_close(struct lade_io *io)
{
    if (!io)
        return;
    io_uring_queue_exit(&io->ring);
    free(io);
}

static void ring_submit(struct lade_io *io, struct lade_read *r)
{
    /* There is always an entry: each is handed to the kernel at once. */
    struct io_uring_sqe *e = io_uring_get_sqe(&io->ring);
    io_uring_prep_read(e, r->fd, r->dst, (unsigned)r->bytes, r->offset);
    io_uring_sqe_set_data(e, r);
    int code;
    while ((code = io_uring_submit(&io->ring)) == -EINTR || code == -EAGAIN || code == -EBUSY)
        ;
    if (code >= 0)
        return;
    r->got = code;
    r->next = io->refused;
    io->refused = r;
}

static struct lade_read *ring_wait(struct lade_io *io)
{
    struct io_uring_cqe *e;
    if (io->refused) {
        struct lade_read *first = io->refused;
        io->refused = first->next;
        return first;
    }
    while (io_uring_wait_cqe(&io->ring, &e))
        ; /* a signal */
    struct lade_read *r = io_uring_cqe_get_data(e);
    r->got = e->res;
    io_uring_cqe_seen(&io->ring, e);
    return r;
}

const struct lade_io_ops lade_io_uring = {"io_uring",  ring_open, ring_close,
                                          ring_submit, ring_wait, true};

const struct lade_io_ops *lade_io_best(void)
{
    struct lade_io *io;
    char err[LADE_ERR];
    if (ring_open(&io, 1, err))
        return &lade_io_threads;
    ring_close(io);
    return &lade_io_uring;
}
