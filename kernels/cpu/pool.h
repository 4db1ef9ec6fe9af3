/* pool.h - the threads of the CPU device.
 *
 * Work is cut into units whose results do not depend on who computes them, so a run gives the
 * same bits whatever the timing and the number of threads. Each thread begins with a run of units of
 * its own, so that memory is read in long stretches and by the thread that read it the last time,
 * and then takes from others what they have left: all cores stay busy when one of them is slowed
 * down by other programs. */
#ifndef LADE_KERNELS_CPU_POOL_H
#define LADE_KERNELS_CPU_POOL_H

#include <stddef.h>
#include <stdint.h>

struct cpu_pool;

/* One unit of work. `thread` is below cpu_pool_threads() and no two units that run at the same
 * time share it, so it can index scratch memory. */
typedef void (*cpu_pool_fn)(void *ctx, int unit, int thread);

/* Starts threads - 1 workers; the caller of cpu_pool_run() is the last one. 0 and less mean one
 * thread per physical core this process may run on. Returns 0, or -1 with err filled. */
int cpu_pool_open(struct cpu_pool **out, int threads, char *err);

/* Stops and joins the workers. `pool` may be NULL. */
void cpu_pool_close(struct cpu_pool *pool);

int cpu_pool_threads(const struct cpu_pool *pool);

/* Calls fn(ctx, u, thread) once for each u in [0, units) and returns when all have returned.
 * One caller at a time. Allocates nothing. */
void cpu_pool_run(struct cpu_pool *pool, int units, cpu_pool_fn fn, void *ctx);

/* The units [first, last). */
typedef void (*cpu_pool_range_fn)(void *ctx, int first, int last, int thread);

/* The same for units that are neighbours in memory and only read it: a thread takes many at once,
 * and fewer and fewer towards the end. Memory idles whenever a thread turns to the next piece. */
void cpu_pool_run_ranges(struct cpu_pool *pool, int units, cpu_pool_range_fn fn, void *ctx);

/* The unit that a thread begins with; of thread `threads`: their number. */
static inline int cpu_pool_begins(int units, int threads, int thread)
{
    return (int)((int64_t)units * thread / threads);
}

/* Bytes that lie one after the other. */
struct cpu_stretch {
    const char *begin;
    size_t bytes;
};

enum { CPU_STRETCHES = 2 };

/* What a thread will read first in the next run: it fetches that into its caches while it waits, so
 * that memory does not idle while a single thread works. Where it is told the same again it goes on.
 * Only the caller of cpu_pool_run() tells, also while it runs. */
void cpu_pool_soon(struct cpu_pool *pool, int thread, const struct cpu_stretch s[CPU_STRETCHES]);

#endif
