/* io.h - many reads at once.
 *
 * One queue belongs to one thread, which submits reads and takes them back as they end, in any
 * order. Two ways to do it, the same to the caller: io_uring, and where the kernel has none (or
 * forbids it, as in many containers) a few threads that call pread. */
#ifndef LADE_TIERS_IO_H
#define LADE_TIERS_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lade_read {
    int fd;
    void *dst; /* for a direct read aligned, as offset and bytes must be, to 4096 */
    size_t bytes;
    uint64_t offset;
    void *user;             /* the caller's */
    long got;               /* when it is back: bytes read, maybe fewer than asked; or -errno */
    struct lade_read *next; /* the queue's, between submit and wait */
};

struct lade_io; /* opaque, one per queue */

struct lade_io_ops {
    const char *name;
    /* A queue of at most `depth` reads on their way. Fails with err filled. */
    int (*open)(struct lade_io **out, int depth, char *err);
    /* Nothing may be on its way. NULL is allowed. */
    void (*close)(struct lade_io *io);
    /* Starts a read, which the caller keeps until wait() returns it. Never more than depth. */
    void (*submit)(struct lade_io *io, struct lade_read *r);
    /* The next read that ended; blocks. Something must be on its way. */
    struct lade_read *(*wait)(struct lade_io *io);
    /* What the page cache has need not go through the queue: lade_read_now() does as well. */
    bool now;
};

extern const struct lade_io_ops lade_io_uring, lade_io_threads;

/* pread(), but for -errno where it fails. */
long lade_read_now(int fd, void *dst, size_t bytes, uint64_t offset);

/* io_uring where this kernel lets us have it, else threads. */
const struct lade_io_ops *lade_io_best(void);

#endif
