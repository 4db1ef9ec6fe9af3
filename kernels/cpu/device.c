#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu.h"

enum { HUGE_PAGE = 2 << 20, HEADER = LADE_ALIGN };

/* In front of every allocation, so that free() needs no table and any thread may allocate. */
struct header {
    void *map; /* NULL: from aligned_alloc */
    size_t bytes;
};
_Static_assert(sizeof(struct header) <= HEADER, "the header keeps the data aligned");

static const char *cpu_describe(const struct lade_device *dev)
{
    return dev->title;
}

/* Large blocks come straight from the kernel: zero without being touched, so that pages land on
 * the memory node of the thread that fills them, and in huge pages where the system allows. */
static void *map_block(size_t bytes)
{
    size_t total;
    if (__builtin_add_overflow(bytes, (size_t)HUGE_PAGE + HEADER, &total))
        return NULL;
    char *map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    char *base = map + (HUGE_PAGE - (uintptr_t)map % HUGE_PAGE) % HUGE_PAGE;
    madvise(base, bytes + HEADER, MADV_HUGEPAGE);
    *(struct header *)base = (struct header){map, total};
    return base + HEADER;
}

static void *heap_block(size_t bytes)
{
    size_t total;
    if (__builtin_add_overflow(bytes, (size_t)2 * HEADER - 1, &total))
        return NULL;
    total = total / HEADER * HEADER;
    char *base = aligned_alloc(HEADER, total);
    if (!base)
        return NULL;
    memset(base, 0, total);
    *(struct header *)base = (struct header){NULL, total};
    return base + HEADER;
}

static void *take_block(size_t bytes)
{
    return bytes >= HUGE_PAGE ? map_block(bytes) : heap_block(bytes);
}

static void cpu_free(struct lade_device *dev, void *addr)
{
    (void)dev;
    if (!addr)
        return;
    struct header *h = (struct header *)((char *)addr - HEADER);
    if (h->map)
        munmap(h->map, h->bytes);
    else
        free(h);
}

static void cpu_close(struct lade_device *dev)
{
    if (!dev)
        return;
    cpu_pool_close(dev->pool);
    cpu_free(dev, dev->scratch);
    free(dev);
}

static int cpu_open(struct lade_device **out, const struct lade_device_config *cfg, char *err)
{
    *out = NULL;
    const struct cpu_isa *isa = cpu_isa_find(cfg->isa, err);
    if (!isa)
        return -1;
    struct lade_device *dev = calloc(1, sizeof(*dev));
    if (!dev)
        return lade_fail(err, "cpu: out of memory; close other programs");
    dev->isa = isa;
    dev->exact = cfg->exact;
    if (cpu_pool_open(&dev->pool, cfg->threads, err)) {
        cpu_close(dev);
        return -1;
    }
    dev->threads = cpu_pool_threads(dev->pool);
    snprintf(dev->title, sizeof(dev->title), "%s, %d thread%s", isa->title, dev->threads,
             dev->threads == 1 ? "" : "s");
    *out = dev;
    return 0;
}

static int cpu_alloc(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    (void)dev;
    *addr = take_block(bytes);
    if (!*addr)
        return lade_fail(err, "memory: cannot get %.2f GiB; free memory or use a smaller model",
                         (double)bytes / (1 << 30));
    return 0;
}

static int cpu_copy(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err)
{
    (void)dev;
    (void)err;
    if (bytes)
        memmove(dst, src, bytes);
    return 0;
}

static int cpu_zero(struct lade_device *dev, void *dst, size_t bytes, char *err)
{
    (void)dev, (void)err;
    memset(dst, 0, bytes);
    return 0;
}

static int cpu_sync(struct lade_device *dev, char *err)
{
    (void)dev;
    (void)err;
    return 0; /* every op has finished when it returns */
}

/* No queues: what is beside compute elsewhere is done in the call, and fence 0 is always reached. */
static int cpu_mark(struct lade_device *dev, lade_fence *fence, char *err)
{
    (void)dev, (void)err;
    *fence = 0;
    return 0;
}

static int cpu_copy_async(struct lade_device *dev, void *dst, const void *src, size_t bytes,
                          lade_fence after, lade_fence *fence, char *err)
{
    (void)after;
    if (fence)
        *fence = 0;
    return cpu_copy(dev, dst, src, bytes, err);
}

static int cpu_reached(struct lade_device *dev, lade_fence fence, bool *yes, char *err)
{
    (void)dev, (void)fence, (void)err;
    *yes = true;
    return 0;
}

static int cpu_wait(struct lade_device *dev, lade_fence fence, char *err)
{
    (void)dev, (void)fence, (void)err;
    return 0;
}

void cpu_carve_add(struct cpu_carve *c, void **out, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 4 - c->bytes ||
        c->n == (int)(sizeof(c->piece) / sizeof(c->piece[0]))) {
        c->overflow = true;
        return;
    }
    c->piece[c->n].out = out;
    c->piece[c->n++].at = c->bytes;
    c->bytes += (bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

int cpu_carve_commit(struct lade_device *dev, struct cpu_carve *c, char *err)
{
    if (c->overflow)
        return lade_fail(err, "cpu: the work space of this batch overflows; use smaller batches");
    if (c->bytes > dev->scratch_bytes) {
        void *larger = take_block(c->bytes);
        if (!larger)
            return lade_fail(err, "cpu: no %.1f MiB of work space; use smaller batches",
                             (double)c->bytes / (1 << 20));
        if (c->committed)
            memcpy(larger, dev->scratch, c->committed);
        cpu_free(dev, dev->scratch);
        dev->scratch = larger;
        dev->scratch_bytes = c->bytes;
    }
    c->committed = c->bytes;
    for (int i = 0; i < c->n; i++)
        *c->piece[i].out = (char *)dev->scratch + c->piece[i].at;
    return 0;
}

/* Of each token, what the op takes that takes most: attention has queries and sums, with their maxima, products
 * two forms of rounded inputs, which are larger than floats, experts those and the hidden values of all routes. */
static size_t cpu_workspace(const struct lade_limits *l)
{
    const int queries = l->heads * l->head_dim, values = l->value_heads * l->value_dim;
    const int cols = cpu_max(cpu_max(l->hidden, l->expert_rows), cpu_max(queries, values));
    const size_t hidden = cpu_pack_bytes(l->expert_rows) + (size_t)l->expert_rows * sizeof(float);
    const size_t route = hidden + sizeof(int32_t) + sizeof(float);
    const size_t needs[] = {
        2 * sizeof(float) * ((size_t)queries + (size_t)l->heads),
        CPU_N_ORDERS * cpu_pack_bytes(cols),
        CPU_N_ORDERS * cpu_pack_bytes(l->hidden) + ((size_t)l->experts_used + 1) * route,
    };
    size_t most = 0;
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        most = needs[i] > most ? needs[i] : most;
    return (size_t)l->batch * most;
}

const struct lade_ops *lade_cpu_ops(void)
{
    static const struct lade_ops ops = {
        .name = "cpu",
        .host_memory = true,
        .open = cpu_open,
        .close = cpu_close,
        .describe = cpu_describe,
        .alloc = cpu_alloc,
        .free = cpu_free,
        .host_alloc = cpu_alloc,
        .host_free = cpu_free,
        .upload = cpu_copy,
        .download = cpu_copy,
        .copy = cpu_copy,
        .zero = cpu_zero,
        .sync = cpu_sync,
        .mark = cpu_mark,
        .upload_async = cpu_copy_async,
        .download_async = cpu_copy_async,
        .wait = cpu_wait,
        .reached = cpu_reached,
        .finish = cpu_wait,
        .workspace = cpu_workspace,
        .soon = cpu_soon,
        .embed = cpu_embed,
        .embed_at = cpu_embed,
        .rmsnorm = cpu_rmsnorm,
        .add = cpu_add,
        .matmul = cpu_matmul,
        .project = cpu_project,
        .attention = cpu_attention,
        .deltanet = cpu_deltanet,
        .route = cpu_route,
        .router = cpu_router,
        .moe = cpu_moe,
        .topk = cpu_topk,
    };
    return &ops;
}
