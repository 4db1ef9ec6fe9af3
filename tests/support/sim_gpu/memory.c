/* Device memory under addresses that are none of the host's: one bit that no address of a program
 * has is flipped. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 2 << 20, ALIGN = 256, PAGE = 4096 };

static const uintptr_t tag = (uintptr_t)1 << 55;

void sim_die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "simulated GPU: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

static char *flip(const void *addr)
{
    return (char *)((uintptr_t)addr ^ tag);
}

/* Place of the first block that begins after `real`. */
static int place_after(const struct lade_device *dev, const char *real)
{
    int low = 0, high = dev->n_blocks;
    while (low < high) {
        int mid = (low + high) / 2;
        if (dev->blocks[mid].real <= real)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct sim_block *find(const struct lade_device *dev, const void *addr)
{
    bool device = (uintptr_t)addr & tag;
    const char *real = device ? flip(addr) : addr;
    int i = place_after(dev, real) - 1;
    if (i < 0 || dev->blocks[i].host == device || real > dev->blocks[i].real + dev->blocks[i].bytes)
        return NULL;
    return &dev->blocks[i];
}

void *sim_real(struct lade_device *dev, const char *what, const void *addr, size_t bytes,
               bool *host, char *err)
{
    const struct sim_block *b = find(dev, addr);
    if (!b) {
        lade_set_error(err,
                       "sim: %s is given %p, which is no memory of the device or of "
                       "host_alloc; fix the caller",
                       what, addr);
        return NULL;
    }
    char *real = b->host ? (char *)addr : flip(addr);
    if (bytes > b->bytes - (size_t)(real - b->real)) {
        lade_set_error(err,
                       "sim: %s uses %zu bytes at byte %zu of an allocation of %zu; fix the "
                       "caller",
                       what, bytes, (size_t)(real - b->real), b->bytes);
        return NULL;
    }
    if (host)
        *host = b->host;
    return real;
}

static struct lade_device *devices; /* that are open; under the lock */

void sim_opened(struct lade_device *dev)
{
    pthread_mutex_lock(&sim_lock);
    dev->next = devices;
    devices = dev;
    pthread_mutex_unlock(&sim_lock);
}

void sim_closed(struct lade_device *dev)
{
    pthread_mutex_lock(&sim_lock);
    struct lade_device **at = &devices;
    while (*at && *at != dev)
        at = &(*at)->next;
    if (*at)
        *at = dev->next;
    pthread_mutex_unlock(&sim_lock);
}

bool sim_is_pinned(const void *host, size_t bytes)
{
    for (struct lade_device *dev = devices; dev; dev = dev->next)
        if (sim_real(dev, "copy", host, bytes, NULL, NULL))
            return true;
    return false;
}

atomic_size_t sim_held[SIM_DEVICES];

static void hold(const struct lade_device *dev, size_t more, size_t less)
{
    if (dev->number >= SIM_DEVICES)
        return;
    atomic_fetch_add(&sim_held[dev->number], more);
    atomic_fetch_sub(&sim_held[dev->number], less);
}

int sim_take(struct lade_device *dev, size_t bytes, const char *what, char *err)
{
    if (bytes > dev->cap - dev->used)
        return lade_fail(err,
                         "sim: no %.3f GiB of GPU memory for %s: %.3f of %.3f are used; use a "
                         "smaller model or context, or allow more",
                         (double)bytes / (1 << 30), what, (double)dev->used / (1 << 30),
                         (double)dev->cap / (1 << 30));
    dev->used += bytes;
    hold(dev, bytes, 0);
    if (dev->used > dev->peak)
        dev->peak = dev->used;
    return 0;
}

void sim_give(struct lade_device *dev, size_t bytes)
{
    dev->used -= bytes;
    hold(dev, 0, bytes);
}

/* What allocations take beyond the reserve, which is taken already. */
static size_t beyond_reserve(const struct lade_device *dev, size_t allocated)
{
    return allocated > dev->reserve ? allocated - dev->reserve : 0;
}

static size_t whole(size_t bytes)
{
    return (bytes + LADE_GPU_ALIGN - 1) / LADE_GPU_ALIGN * LADE_GPU_ALIGN;
}

int sim_take_alloc(struct lade_device *dev, size_t bytes, const char *what, char *err)
{
    size_t after;
    if (bytes > SIZE_MAX / 2 || __builtin_add_overflow(dev->allocated, whole(bytes), &after))
        return lade_fail(err, "sim: no GPU has %zu bytes; use a smaller model", bytes);
    const size_t before = beyond_reserve(dev, dev->allocated), beyond = beyond_reserve(dev, after);
    if (sim_take(dev, beyond - before, what, err))
        return -1;
    dev->allocated = after;
    if (dev->reserve && beyond > lade_sim.beyond)
        lade_sim.beyond = beyond;
    return 0;
}

void sim_give_alloc(struct lade_device *dev, size_t bytes)
{
    const size_t before = beyond_reserve(dev, dev->allocated);
    dev->allocated -= whole(bytes);
    sim_give(dev, before - beyond_reserve(dev, dev->allocated));
}

static int reserve(struct lade_device *dev, size_t bytes, char *err)
{
    const size_t held = dev->reserve + beyond_reserve(dev, dev->allocated);
    const size_t all = bytes > dev->allocated ? bytes : dev->allocated;
    if (!dev->reserve) /* as a GPU that cannot */
        return 0;
    if (all > held && sim_take(dev, all - held, "the reserve", err))
        return -1;
    if (all < held)
        sim_give(dev, held - all);
    dev->reserve = bytes;
    return 0;
}

int sim_reserve(struct lade_device *dev, size_t bytes, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    return sim_leave(reserve(dev, bytes, err));
}

static char *get(size_t bytes, size_t align)
{
    size_t total;
    if (__builtin_add_overflow(bytes, align, &total))
        return NULL;
    total = total / align * align;
    if (bytes < LARGE) {
        char *p = aligned_alloc(align, total);
        return p ? memset(p, 0, total) : NULL;
    }
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void put_back(const struct sim_block *b)
{
    if (b->bytes < LARGE)
        free(b->real);
    else
        munmap(b->real, b->bytes);
}

static int list_block(struct lade_device *dev, const struct sim_block *b, char *err)
{
    if (dev->n_blocks == dev->room_blocks) {
        int room = dev->room_blocks ? 2 * dev->room_blocks : 64;
        void *larger = realloc(dev->blocks, (size_t)room * sizeof *dev->blocks);
        if (!larger)
            return lade_fail(err, "sim: out of memory; close other programs");
        dev->blocks = larger;
        dev->room_blocks = room;
    }
    int at = place_after(dev, b->real);
    memmove(dev->blocks + at + 1, dev->blocks + at,
            (size_t)(dev->n_blocks++ - at) * sizeof *dev->blocks);
    dev->blocks[at] = *b;
    return 0;
}

static int add_block(struct lade_device *dev, size_t bytes, bool host, void **out, char *err)
{
    struct sim_block b = {.bytes = bytes, .host = host};
    b.real = get(bytes, host ? PAGE : ALIGN);
    if (!b.real)
        return lade_fail(err, "sim: this machine has no %.3f GiB; close other programs",
                         (double)bytes / (1 << 30));
    b.seen = host ? b.real : flip(b.real);
    if (list_block(dev, &b, err)) {
        put_back(&b);
        return -1;
    }
    *out = b.seen;
    return 0;
}

static int alloc(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    *addr = NULL;
    if (sim_take_alloc(dev, bytes, "an allocation", err))
        return -1;
    if (!add_block(dev, bytes, false, addr, err))
        return 0;
    sim_give_alloc(dev, bytes);
    return -1;
}

int sim_alloc(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    *addr = NULL;
    if (sim_enter_counted(dev, err))
        return -1;
    lade_sim.allocations++;
    return sim_leave(alloc(dev, addr, bytes, err));
}

int sim_host_alloc(struct lade_device *dev, void **host, size_t bytes, char *err)
{
    *host = NULL;
    if (sim_enter_counted(dev, err))
        return -1;
    lade_sim.allocations++;
    return sim_leave(add_block(dev, bytes, true, host, err));
}

static void release(struct lade_device *dev, void *addr, bool host, bool borrowed)
{
    const char *what = borrowed ? "unpin" : host ? "host_free" : "free";
    if (!addr)
        return;
    pthread_mutex_lock(&sim_lock);
    struct sim_block *b = find(dev, addr);
    if (!b || b->seen != addr || b->host != host || b->borrowed != borrowed)
        sim_die("%s of %p, which is no such allocation", what, addr);
    if (!dev->lost && sim_in_use(dev, b)) /* a lost device does nothing any more */
        sim_die("%s of %p while queued work uses it", what, addr);
    if (!host)
        sim_give_alloc(dev, b->bytes);
    if (borrowed)
        lade_sim.pinned--;
    else
        put_back(b);
    dev->frees++;
    memmove(b, b + 1, (size_t)(dev->blocks + --dev->n_blocks - b) * sizeof *b);
    pthread_mutex_unlock(&sim_lock);
}

void sim_free(struct lade_device *dev, void *addr)
{
    release(dev, addr, false, false);
}

void sim_host_free(struct lade_device *dev, void *host)
{
    release(dev, host, true, false);
}

/* Whole pages of which none is the device's. */
static int pin(struct lade_device *dev, void *host, size_t bytes, char *err)
{
    const struct sim_block b = {
        .real = host, .seen = host, .bytes = bytes, .host = true, .borrowed = true};
    int at = place_after(dev, host);
    bool before = at > 0 && dev->blocks[at - 1].real + dev->blocks[at - 1].bytes > b.real;
    bool behind = at < dev->n_blocks && dev->blocks[at].real < b.real + bytes;
    if (!bytes || bytes % PAGE || (uintptr_t)host % PAGE || before || behind)
        sim_die("pin of %zu bytes at %p, which are not whole pages or were pinned before", bytes,
                host);
    if (lade_sim.no_pinning)
        return lade_fail(err, "sim: no RAM can be pinned; do without");
    if (list_block(dev, &b, err))
        return -1;
    lade_sim.pinned++;
    return 0;
}

int sim_pin(struct lade_device *dev, void *host, size_t bytes, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_leave(pin(dev, host, bytes, err));
}

void sim_unpin(struct lade_device *dev, void *host)
{
    release(dev, host, true, true);
}
