/* Plain reads of memory: the speed that products of one token are compared with. */
#include <stdatomic.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { PIECE = 1 << 20, LINE = 64, READ_AHEAD = 4096 }; /* bytes */

typedef uint64_t part __attribute__((vector_size(16)));

struct run {
    const char *data;
    size_t bytes;
    _Atomic uint64_t sum;
};

static part load(const char *at)
{
    part p;
    memcpy(&p, at, sizeof(p));
    return p;
}

/* Four sums, so that the additions do not wait for each other, and memory asked for in advance, as
 * kernels do: a core alone does not look far enough ahead. */
static void read_unit(void *ctx, int unit, int thread)
{
    (void)thread;
    struct run *r = ctx;
    const char *at = r->data + (size_t)unit * PIECE;
    const size_t left = r->bytes - (size_t)unit * PIECE, bytes = left < PIECE ? left : PIECE;
    part a = {0}, b = {0}, c = {0}, d = {0};
    size_t i = 0;
    for (; i + LINE <= bytes; i += LINE) {
        __builtin_prefetch(at + i + READ_AHEAD);
        a += load(at + i);
        b += load(at + i + sizeof(part));
        c += load(at + i + 2 * sizeof(part));
        d += load(at + i + 3 * sizeof(part));
    }
    a += b + c + d;
    uint64_t words = a[0] + a[1];
    for (; i < bytes; i += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, at + i, bytes - i < sizeof(word) ? bytes - i : sizeof(word));
        words += word;
    }
    atomic_fetch_add_explicit(&r->sum, words, memory_order_relaxed);
}

uint64_t lade_cpu_read(struct lade_device *dev, const void *data, size_t bytes)
{
    struct run r = {.data = data, .bytes = bytes};
    cpu_pool_run(dev->pool, (int)(bytes / PIECE + (bytes % PIECE != 0)), read_unit, &r);
    return r.sum;
}
