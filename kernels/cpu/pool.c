#include "kernels/cpu/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(__i386__)
#define cpu_relax() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

/* A token is hundreds of runs a few microseconds apart: who waits spins for about 50 us, then lets others
 * have the core, and sleeps after two milliseconds, so that an idle program costs nothing. Tokens are less
 * apart than that: waking up takes longer than a run, and where cores are lent by a host, one that has
 * halted may come back beside the one that woke it, where both share one link to memory. */
enum { SPINS = 1500, AWAKE_US = 2000, MAX_THREADS = 1024 };

/* state = generation << 17 | workers inside << 1 | open. A worker that comes late finds the run
 * closed and does not hold it up: the caller never waits for a thread that has not begun. */
#define OPEN       ((uint64_t)1)
#define INSIDE     ((uint64_t)2)
#define INSIDE_ALL ((uint64_t)0x1fffe)
#define GENERATION ((uint64_t)1 << 17)

/* The units a thread has before it: first | end << 32. It takes from the front, others, when their
 * own are done, from the back: memory that units read in turn is then read in long runs. */
struct share {
    _Alignas(64) _Atomic uint64_t units;
};

/* How far a thread has come with what it was told to fetch. */
struct fetched {
    unsigned turn;
    int stretch;
    const char *at, *end;
};

/* What cpu_pool_soon() said. Read while it is written: what is fetched may then be of two turns, which
 * costs a little time and nothing else. */
struct soon {
    _Alignas(64) atomic_uint turn;
    _Atomic(const char *) begin[CPU_STRETCHES];
    atomic_size_t bytes[CPU_STRETCHES];
    _Alignas(64) struct fetched fetched; /* the thread's own */
};

struct cpu_pool {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) cpu_pool_fn fn; /* fn, range, ctx and shares change only while nobody is inside */
    cpu_pool_range_fn range;     /* NULL: fn */
    void *ctx;
    int threads;
    struct share *shares; /* [threads] */
    struct soon *soon;    /* [threads] */

    _Alignas(64) atomic_bool stop;
    atomic_int parked; /* workers asleep or about to be */
    atomic_bool caller_parked;
    pthread_mutex_t lock; /* only for sleeping and waking */
    pthread_cond_t work, done;
    int started;
    pthread_t *ids;
};

struct worker {
    struct cpu_pool *pool;
    int thread;
};

/* Of a run of ranges a thread takes this part of what a share has left, and no more than so many
 * units, because nobody can take over what it has begun. */
enum { RANGE_PART = 4, RANGE_MOST = 16 };

/* The next units of a share: how many, the first to *first; 0 where none is left. */
static int take(struct share *share, bool ranges, bool from_back, int *first)
{
    uint64_t v = atomic_load_explicit(&share->units, memory_order_relaxed);
    while ((uint32_t)v < v >> 32) {
        const uint32_t left = (uint32_t)(v >> 32) - (uint32_t)v, part = left / RANGE_PART;
        const uint64_t n = !ranges || part < 1 ? 1 : part > RANGE_MOST ? RANGE_MOST : part;
        const uint64_t rest = from_back ? v - (n << 32) : v + n;
        if (atomic_compare_exchange_weak_explicit(&share->units, &v, rest, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *first = (int)(from_back ? rest >> 32 : v & UINT32_MAX);
            return (int)n;
        }
    }
    return 0;
}

/* The share of another thread that has most left, or NULL. */
static struct share *richest(struct cpu_pool *p)
{
    struct share *best = NULL;
    uint32_t most = 0;
    for (int t = 0; t < p->threads; t++) {
        uint64_t v = atomic_load_explicit(&p->shares[t].units, memory_order_relaxed);
        uint32_t left = (uint32_t)(v >> 32) - (uint32_t)v;
        if (left > most) {
            most = left;
            best = &p->shares[t];
        }
    }
    return best;
}

static bool claim(struct cpu_pool *p, struct share *share, int thread)
{
    int first = 0, n = take(share, p->range != NULL, share != &p->shares[thread], &first);
    if (n && p->range)
        p->range(p->ctx, first, first + n, thread);
    else if (n)
        p->fn(p->ctx, first, thread);
    return n > 0;
}

static void claim_units(struct cpu_pool *p, int thread)
{
    while (claim(p, &p->shares[thread], thread))
        continue;
    for (struct share *other; (other = richest(p));)
        claim(p, other, thread);
}

static void deal(struct cpu_pool *p, int units)
{
    for (int t = 0; t < p->threads; t++) {
        const int first = cpu_pool_begins(units, p->threads, t);
        const int end = cpu_pool_begins(units, p->threads, t + 1);
        atomic_store_explicit(&p->shares[t].units, (uint64_t)first | (uint64_t)end << 32,
                              memory_order_relaxed);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* A core has so many lines on their way at most, and drops what it is asked for beyond. */
enum { LINE = 64, LINES = 16, FETCH_MOST = 512 << 10 };

/* Asks for the next few lines, or rests where all have been asked for. */
static void wait_a_little(struct cpu_pool *p, int thread)
{
    struct soon *s = &p->soon[thread];
    struct fetched *f = &s->fetched;
    const unsigned turn = atomic_load_explicit(&s->turn, memory_order_acquire);
    if (f->turn != turn)
        *f = (struct fetched){.turn = turn};
    while (f->at == f->end && f->stretch < CPU_STRETCHES) {
        f->at = atomic_load_explicit(&s->begin[f->stretch], memory_order_relaxed);
        f->end = f->at + atomic_load_explicit(&s->bytes[f->stretch], memory_order_relaxed);
        f->stretch++;
    }
    for (int i = 0; i < LINES && f->at < f->end; i++, f->at += LINE)
        __builtin_prefetch(f->at);
    if (f->at > f->end)
        f->at = f->end;
    cpu_relax();
}

/* How long a thread has waited. */
struct patience {
    int spins;
    int64_t end; /* us; 0 while it spins */
};

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Waits for a moment; false where it is time to sleep. */
static bool wait_awake(struct cpu_pool *p, int thread, struct patience *w)
{
    if (w->spins < SPINS) {
        w->spins++;
        wait_a_little(p, thread);
        return true;
    }
    const int64_t now = now_us();
    if (!w->end)
        w->end = now + AWAKE_US;
    sched_yield();
    return now < w->end;
}

void cpu_pool_soon(struct cpu_pool *p, int thread, const struct cpu_stretch s[CPU_STRETCHES])
{
    struct soon *to = &p->soon[thread];
    if (atomic_load_explicit(&to->begin[0], memory_order_relaxed) == s[0].begin)
        return;
    for (int i = 0; i < CPU_STRETCHES; i++) {
        const size_t bytes = s[i].bytes < FETCH_MOST ? s[i].bytes : FETCH_MOST;
        atomic_store_explicit(&to->begin[i], s[i].begin, memory_order_relaxed);
        atomic_store_explicit(&to->bytes[i], bytes, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&to->turn, 1, memory_order_release);
}

/* True when a run later than `seen` is open. */
static bool has_work(struct cpu_pool *p, uint64_t seen)
{
    uint64_t s = atomic_load(&p->state);
    return (s & OPEN) && s / GENERATION != seen;
}

static bool wait_for_work(struct cpu_pool *p, int thread, uint64_t seen)
{
    struct patience w = {0};
    do {
        if (atomic_load_explicit(&p->stop, memory_order_relaxed))
            return false;
        if (has_work(p, seen))
            return true;
    } while (wait_awake(p, thread, &w));
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->parked, 1);
    while (!atomic_load(&p->stop) && !has_work(p, seen))
        pthread_cond_wait(&p->work, &p->lock);
    atomic_fetch_sub(&p->parked, 1);
    pthread_mutex_unlock(&p->lock);
    return !atomic_load(&p->stop);
}

static void *worker_main(void *arg)
{
    struct worker w = *(struct worker *)arg;
    free(arg);
    struct cpu_pool *p = w.pool;
    uint64_t seen = 0;
    while (wait_for_work(p, w.thread, seen)) {
        uint64_t s = atomic_load(&p->state);
        if (!(s & OPEN) || !atomic_compare_exchange_strong(&p->state, &s, s + INSIDE))
            continue;
        seen = s / GENERATION;
        claim_units(p, w.thread);
        uint64_t before = atomic_fetch_sub(&p->state, INSIDE);
        if ((before & INSIDE_ALL) == INSIDE && atomic_load(&p->caller_parked)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return NULL;
}

static bool somebody_inside(struct cpu_pool *p)
{
    return (atomic_load(&p->state) & INSIDE_ALL) != 0;
}

/* Runs what fn, range and ctx say with all threads. */
static void run_all(struct cpu_pool *p, int units)
{
    deal(p, units);
    uint64_t s = atomic_load_explicit(&p->state, memory_order_relaxed);
    atomic_store(&p->state, (s / GENERATION + 1) * GENERATION | OPEN);
    if (atomic_load(&p->parked)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
    }
    claim_units(p, 0);
    atomic_fetch_and(&p->state, ~OPEN);
    struct patience w = {0};
    do {
        if (!somebody_inside(p))
            return;
    } while (wait_awake(p, 0, &w));
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_parked, true);
    while (somebody_inside(p))
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->caller_parked, false);
    pthread_mutex_unlock(&p->lock);
}

void cpu_pool_run(struct cpu_pool *p, int units, cpu_pool_fn fn, void *ctx)
{
    if (units <= 1 || p->threads == 1) {
        for (int u = 0; u < units; u++)
            fn(ctx, u, 0);
        return;
    }
    p->fn = fn;
    p->range = NULL;
    p->ctx = ctx;
    run_all(p, units);
}

void cpu_pool_run_ranges(struct cpu_pool *p, int units, cpu_pool_range_fn fn, void *ctx)
{
    if (units <= 1 || p->threads == 1) {
        if (units > 0)
            fn(ctx, 0, units, 0);
        return;
    }
    p->range = fn;
    p->ctx = ctx;
    run_all(p, units);
}

static long read_topology(int cpu, const char *leaf)
{
    char path[128];
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, leaf);
    FILE *f = fopen(path, "re");
    long value = -1;
    if (f) {
        if (fscanf(f, "%ld", &value) != 1)
            value = -1;
        fclose(f);
    }
    return value;
}

/* Two threads of one core share the arithmetic units and gain nothing here, so only cores count.
 * Unknown topology counts every CPU. */
int lade_cpu_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set))
        return 1;
    struct {
        long package, core;
    } seen[CPU_SETSIZE];
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        long package = read_topology(cpu, "physical_package_id");
        long core = read_topology(cpu, "core_id");
        bool known = false;
        for (int i = 0; i < n && core >= 0; i++)
            known |= seen[i].package == package && seen[i].core == core;
        if (!known) {
            seen[n].package = package;
            seen[n++].core = core;
        }
    }
    return n > 0 ? n : 1;
}

static int start_workers(struct cpu_pool *p, char *err)
{
    /* Signals belong to the thread that owns the terminal. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    for (int i = 1; i < p->threads && !rc; i++) {
        struct worker *w = malloc(sizeof(*w));
        if (!w) {
            rc = ENOMEM;
            break;
        }
        *w = (struct worker){p, i};
        rc = pthread_create(&p->ids[i - 1], NULL, worker_main, w);
        if (rc)
            free(w);
        else
            p->started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        return lade_fail(err, "threads: cannot start number %d of %d: %s; use fewer threads",
                         p->started + 2, p->threads, strerror(rc));
    return 0;
}

int cpu_pool_open(struct cpu_pool **out, int threads, char *err)
{
    *out = NULL;
    if (threads <= 0)
        threads = lade_cpu_cores();
    if (threads > MAX_THREADS)
        return lade_fail(err, "threads: %d is more than %d; use fewer", threads, MAX_THREADS);
    struct cpu_pool *p = aligned_alloc(_Alignof(struct cpu_pool), sizeof(*p));
    if (!p)
        return lade_fail(err, "threads: out of memory; close other programs");
    memset(p, 0, sizeof(*p));
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    p->ids = calloc((size_t)threads, sizeof(*p->ids));
    p->shares = aligned_alloc(_Alignof(struct share), (size_t)threads * sizeof(*p->shares));
    p->soon = aligned_alloc(_Alignof(struct soon), (size_t)threads * sizeof(*p->soon));
    if (p->soon)
        memset(p->soon, 0, (size_t)threads * sizeof(*p->soon));
    if (!p->ids || !p->shares || !p->soon) {
        cpu_pool_close(p);
        return lade_fail(err, "threads: out of memory; close other programs");
    }
    if (start_workers(p, err)) {
        cpu_pool_close(p);
        return -1;
    }
    *out = p;
    return 0;
}

void cpu_pool_close(struct cpu_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    free(p->ids);
    free(p->shares);
    free(p->soon);
    free(p);
}

int cpu_pool_threads(const struct cpu_pool *p)
{
    return p->threads;
}
