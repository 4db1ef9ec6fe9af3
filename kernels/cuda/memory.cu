/* Memory: pieces of the reserve, the driver's beyond it, pinned memory of the host, work space. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/products.h"

static const double gib = 1024.0 * 1024 * 1024;

/* ---- accounts; all under the lock ------------------------------------------------------------ */

static bool list_add(struct gpu_extents *l, void *addr, size_t bytes)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 16;
        struct gpu_extent *grown =
            (struct gpu_extent *)realloc(l->extent, (size_t)room * sizeof *grown);
        if (!grown)
            return false;
        l->extent = grown;
        l->room = room;
    }
    l->extent[l->n++] = (struct gpu_extent){(unsigned char *)addr, bytes};
    return true;
}

/* Bytes of the extent at `addr`, which is taken out; 0 where there is none. */
static size_t list_remove(struct gpu_extents *l, const void *addr)
{
    for (int i = 0; i < l->n; i++) {
        if (l->extent[i].addr != addr)
            continue;
        size_t bytes = l->extent[i].bytes;
        l->extent[i] = l->extent[--l->n];
        return bytes;
    }
    return 0;
}

bool gpu_fits(const struct lade_device *dev, size_t more)
{
    size_t need;
    return !__builtin_add_overflow(dev->fixed + dev->reserve + dev->held, more, &need) &&
           need <= dev->cap;
}

void gpu_note_peak(struct lade_device *dev)
{
    if (dev->reserve + dev->held > dev->peak)
        dev->peak = dev->reserve + dev->held;
}

int gpu_too_much(const struct lade_device *dev, size_t more, size_t used, char *err)
{
    return lade_fail(err,
                     "GPU %d: %.2f GiB more do not fit, %.2f of %.2f GiB are in use; raise "
                     "--gpu-memory, lower --context, or use --cpu",
                     dev->gpu, more / gib, used / gib, dev->cap / gib);
}

static int hold(struct lade_device *dev, size_t bytes, char *err)
{
    if (!gpu_fits(dev, bytes))
        return gpu_too_much(dev, bytes, dev->fixed + dev->reserve + dev->held, err);
    dev->held += bytes;
    gpu_note_peak(dev);
    return 0;
}

/* Memory of the driver within the cap. */
static int take(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    pthread_mutex_lock(&dev->lock);
    int failed = hold(dev, bytes, err);
    pthread_mutex_unlock(&dev->lock);
    if (failed)
        return -1;
    cudaError_t code = cudaMalloc(addr, bytes);
    if (code == cudaSuccess)
        return 0;
    pthread_mutex_lock(&dev->lock);
    dev->held -= bytes;
    pthread_mutex_unlock(&dev->lock);
    *addr = NULL;
    return gpu_fail(dev, "allocating memory", code, err);
}

static void give(struct lade_device *dev, void *addr, size_t bytes)
{
    gpu_gave(dev, "freeing memory", cudaFree(addr));
    pthread_mutex_lock(&dev->lock);
    dev->held -= bytes;
    pthread_mutex_unlock(&dev->lock);
}

/* ---- device memory --------------------------------------------------------------------------- */

static int alloc_beyond(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    if (take(dev, addr, bytes, err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    bool listed = list_add(&dev->extents, *addr, bytes);
    pthread_mutex_unlock(&dev->lock);
    if (listed)
        return 0;
    give(dev, *addr, bytes);
    *addr = NULL;
    return lade_fail(err, "GPU %d: out of memory; close other programs", dev->gpu);
}

/* Memory of the card as it is: of the reserve, or of the driver where there is none. */
static int alloc_raw(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    return dev->pages ? gpu_pages_take(dev, addr, bytes, err)
                      : alloc_beyond(dev, addr, bytes ? bytes : 1, err);
}

int gpu_alloc(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    *addr = NULL;
    if (gpu_enter(dev, err) || alloc_raw(dev, addr, bytes, err))
        return -1;
    cudaError_t code = bytes ? cudaMemsetAsync(*addr, 0, bytes, dev->misc) : cudaSuccess;
    if (code == cudaSuccess)
        code = cudaStreamSynchronize(dev->misc);
    if (code == cudaSuccess)
        return 0;
    gpu_free(dev, *addr);
    *addr = NULL;
    return gpu_fail(dev, "clearing memory", code, err);
}

void gpu_free(struct lade_device *dev, void *addr)
{
    if (!addr)
        return;
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    if (gpu_pages_give(dev, addr))
        return;
    pthread_mutex_lock(&dev->lock);
    size_t bytes = list_remove(&dev->extents, addr);
    pthread_mutex_unlock(&dev->lock);
    if (bytes)
        give(dev, addr, bytes);
}

/* ---- host memory ----------------------------------------------------------------------------- */

/* Large pieces in huge pages of the system's: the driver's own allocation takes 0.4 s a GiB, page by
 * page. False where that cannot be had. */
static bool pin_pages(struct lade_device *dev, void **host, size_t bytes)
{
    const size_t huge = (size_t)2 << 20, all = (bytes + huge - 1) / huge * huge + huge;
    int same = 0; /* whether kernels find it at the host's address */
    if (bytes < huge ||
        cudaDeviceGetAttribute(&same, cudaDevAttrCanUseHostPointerForRegisteredMem, dev->gpu) !=
            cudaSuccess ||
        !same)
        return false;
    void *map = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return false;
    const size_t before = (huge - (uintptr_t)map % huge) % huge, after = huge - before;
    unsigned char *at = (unsigned char *)map + before;
    if (before)
        munmap(map, before);
    munmap(at + (all - huge), after);
    madvise(at, all - huge, MADV_HUGEPAGE); /* only advice */
    bool done = cudaHostRegister(at, all - huge,
                                 cudaHostRegisterPortable | cudaHostRegisterMapped) == cudaSuccess;
    pthread_mutex_lock(&dev->lock);
    const bool listed = done && list_add(&dev->mapped, at, all - huge);
    pthread_mutex_unlock(&dev->lock);
    if (done && !listed) {
        gpu_gave(dev, "unpinning memory", cudaHostUnregister(at));
        done = false;
    }
    if (!done) {
        gpu_forget_error();
        munmap(at, all - huge);
        return false;
    }
    *host = at;
    return true;
}

void gpu_host_give(struct lade_device *dev, void *host)
{
    pthread_mutex_lock(&dev->lock);
    size_t bytes = list_remove(&dev->mapped, host);
    pthread_mutex_unlock(&dev->lock);
    gpu_gave(dev, "unpinning memory", bytes ? cudaHostUnregister(host) : cudaFreeHost(host));
    if (bytes)
        munmap(host, bytes);
}

int gpu_host_alloc(struct lade_device *dev, void **host, size_t bytes, char *err)
{
    *host = NULL;
    if (gpu_enter(dev, err))
        return -1;
    size_t room = (bytes + 4095) / 4096 * 4096;
    if (room < bytes)
        return lade_fail(err, "GPU %d: %.2f GiB of RAM cannot be pinned; use a smaller model",
                         dev->gpu, bytes / gib);
    room = room ? room : 4096;
    /* Mapped at the same address on the card (unified addressing): ops can use it as it is. */
    const bool pages = pin_pages(dev, host, room); /* zeros, as the system gives them */
    cudaError_t code = pages
                           ? cudaSuccess
                           : cudaHostAlloc(host, room, cudaHostAllocPortable | cudaHostAllocMapped);
    if (code != cudaSuccess) {
        *host = NULL;
        gpu_forget_error();
        if (code == cudaErrorMemoryAllocation)
            return lade_fail(err,
                             "GPU %d: %.2f GiB of RAM cannot be pinned; close other programs or "
                             "lower --cpu-memory",
                             dev->gpu, bytes / gib);
        return gpu_fail(dev, "pinning memory", code, err);
    }
    if (!pages)
        memset(*host, 0, room);
    pthread_mutex_lock(&dev->lock);
    bool listed = list_add(&dev->pinned, *host, room);
    pthread_mutex_unlock(&dev->lock);
    if (listed)
        return 0;
    gpu_host_give(dev, *host);
    *host = NULL;
    return lade_fail(err, "GPU %d: out of memory; close other programs", dev->gpu);
}

void gpu_host_free(struct lade_device *dev, void *host)
{
    if (!host)
        return;
    pthread_mutex_lock(&dev->lock);
    size_t bytes = list_remove(&dev->pinned, host);
    pthread_mutex_unlock(&dev->lock);
    if (!bytes)
        return;
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    gpu_host_give(dev, host);
}

int gpu_pin(struct lade_device *dev, void *host, size_t bytes, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    cudaError_t code = cudaHostRegister(host, bytes, cudaHostRegisterPortable);
    if (code == cudaSuccess)
        return 0;
    gpu_forget_error();
    return lade_fail(err, "GPU %d: %.2f GiB of RAM cannot be pinned: %s; copies of it take longer",
                     dev->gpu, bytes / gib, cudaGetErrorString(code));
}

void gpu_unpin(struct lade_device *dev, void *host)
{
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    gpu_gave(dev, "unpinning memory", cudaHostUnregister(host));
}

bool gpu_is_pinned(struct lade_device *dev, const void *host, size_t bytes)
{
    const unsigned char *from = (const unsigned char *)host;
    bool found = false;
    pthread_mutex_lock(&dev->lock);
    for (int i = 0; i < dev->pinned.n && !found; i++) {
        const struct gpu_extent *e = &dev->pinned.extent[i];
        found = from >= e->addr && from < e->addr + e->bytes &&
                bytes <= (size_t)(e->addr + e->bytes - from);
    }
    pthread_mutex_unlock(&dev->lock);
    return found;
}

/* ---- work space ------------------------------------------------------------------------------ */

void gpu_carve_add(struct gpu_carve *c, void *out, size_t count, size_t size)
{
    size_t bytes, end;
    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(c->bytes, bytes, &end) || __builtin_add_overflow(end, 255, &end))
        c->overflow = true;
    if (c->overflow)
        return;
    c->piece[c->n].out = (void **)out;
    c->piece[c->n++].at = c->bytes;
    c->bytes = end / 256 * 256;
}

size_t gpu_carve_bytes(const struct gpu_carve *c)
{
    return c->overflow ? SIZE_MAX : c->bytes;
}

static int grow(struct lade_device *dev, size_t bytes, char *err)
{
    if (dev->recording)
        return lade_fail(err,
                         "GPU %d: a recording needs %zu bytes of work space, %zu are there; "
                         "report this",
                         dev->gpu, bytes, dev->work_bytes);
    /* What is queued may still use the old one. */
    if (gpu_check(dev, "waiting for work space", cudaStreamSynchronize(dev->compute), err))
        return -1;
    gpu_free(dev, dev->work);
    dev->work = NULL;
    dev->work_bytes = 0;
    void *work;
    if (alloc_raw(dev, &work, bytes, err))
        return -1;
    dev->work = (unsigned char *)work;
    dev->work_bytes = bytes;
    return 0;
}

int gpu_carve_commit(struct lade_device *dev, struct gpu_carve *c, char *err)
{
    if (c->overflow)
        return lade_fail(err, "GPU %d: work space overflows; use smaller batches", dev->gpu);
    if (c->bytes > dev->work_bytes && grow(dev, c->bytes, err))
        return -1;
    for (int i = 0; i < c->n; i++)
        *c->piece[i].out = dev->work + c->piece[i].at;
    return 0;
}

/* Of the op that needs most. */
static size_t scratch_bytes(const struct lade_limits *l)
{
    const size_t work[] = {gpu_embed_work(l),     gpu_matmul_work(l),   gpu_dense_work(l),
                           gpu_attention_work(l), gpu_deltanet_work(l), gpu_moe_work(l),
                           gpu_topk_work(l)};
    size_t most = 0;
    for (size_t i = 0; i < sizeof work / sizeof *work; i++)
        most = work[i] > most ? work[i] : most;
    return most;
}

size_t gpu_workspace(const struct lade_limits *l)
{
    size_t all;
    return __builtin_add_overflow(scratch_bytes(l), gpu_tables_bytes(l), &all) ? SIZE_MAX : all;
}

int gpu_prepare(struct lade_device *dev, const struct lade_limits *limits, char *err)
{
    size_t bytes = scratch_bytes(limits);
    if (gpu_enter(dev, err))
        return -1;
    if (gpu_workspace(limits) == SIZE_MAX)
        return lade_fail(err, "GPU %d: work space overflows; use smaller batches", dev->gpu);
    if (bytes && bytes != dev->work_bytes && grow(dev, bytes, err))
        return -1;
    if (!dev->exact && !dev->blas && limits->batch >= gpu_dense_tokens(dev))
        gpu_blas_open(dev);
    return gpu_tables_prepare(dev, limits, err);
}
