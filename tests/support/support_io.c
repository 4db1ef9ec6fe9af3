#include "tests/support/support_io.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels/error.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static support_held_fn *held_by; /* NULL: the gate is open */
static atomic_bool drive_gone;
static atomic_long reads_left = LONG_MAX, failing;

/* A queue, used by one thread. */
struct gated {
    struct lade_io *inner;
    int flying;             /* in `inner` */
    struct lade_read *held; /* through `next` */
};

static int gated_open(struct lade_io **out, int depth, char *err)
{
    struct gated *g = calloc(1, sizeof *g);
    if (!g || lade_io_threads.open(&g->inner, depth, err)) {
        free(g);
        return -1;
    }
    *out = (struct lade_io *)(void *)g;
    return 0;
}

static void gated_close(struct lade_io *io)
{
    struct gated *g = (struct gated *)(void *)io;
    if (!g)
        return;
    lade_io_threads.close(g->inner);
    free(g);
}

static void gated_submit(struct lade_io *io, struct lade_read *r)
{
    struct gated *g = (struct gated *)(void *)io;
    pthread_mutex_lock(&lock);
    bool hold = held_by && held_by(r);
    pthread_mutex_unlock(&lock);
    if (!hold) {
        g->flying++;
        lade_io_threads.submit(g->inner, r);
        return;
    }
    r->next = g->held;
    g->held = r;
}

static struct lade_read *gated_wait(struct lade_io *io)
{
    struct gated *g = (struct gated *)(void *)io;
    pthread_mutex_lock(&lock);
    while (!g->flying && g->held && held_by)
        pthread_cond_wait(&opened, &lock);
    bool is_open = !held_by;
    pthread_mutex_unlock(&lock);
    while (is_open && g->held) {
        struct lade_read *r = g->held;
        g->held = r->next;
        g->flying++;
        lade_io_threads.submit(g->inner, r);
    }
    g->flying--;
    struct lade_read *r = lade_io_threads.wait(g->inner);
    bool fails = atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) > 0;
    if (fails || atomic_fetch_sub(&reads_left, 1) <= 0 || atomic_load(&drive_gone))
        r->got = -EIO;
    return r;
}

const struct lade_io_ops support_gated_io = {"gated",      gated_open, gated_close,
                                             gated_submit, gated_wait, false};

void support_gate_shut(support_held_fn *held)
{
    pthread_mutex_lock(&lock);
    held_by = held;
    pthread_mutex_unlock(&lock);
}

void support_gate_open(void)
{
    pthread_mutex_lock(&lock);
    held_by = NULL;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&lock);
}

void support_drive_gone(bool gone)
{
    atomic_store(&drive_gone, gone);
}

void support_drive_fails(long reads)
{
    atomic_store(&failing, reads);
}

void support_drive_ends_after(long reads)
{
    atomic_store(&reads_left, reads);
}
