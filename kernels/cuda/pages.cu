/* The reserve: memory of the card that was taken from the driver once, in pages that can be put
 * under any address (CUDA's virtual memory management), so that what it holds may come, go and be
 * cut otherwise without a hole that nothing fits, and so that a part of it can be given back.
 *
 * Pieces (arena.cu) lie in a run of addresses much longer than the reserve. A page is under it
 * where a piece is, and spare where none is. As long as pieces fit, only open() and reserve() ask
 * the driver for memory; one that does not fit takes pages beyond the reserve, under the cap, until
 * it is freed.
 *
 * Counted is what was asked for: the driver's pages make it up to one page more. */
#include <cuda.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/gpu.h"

enum {
    PAGES = 4096, /* most of a reserve, about: each takes the driver tens of microseconds */
    DRIVER_VERSION = 10020, /* that has the functions */
};

struct page {
    CUmemGenericAllocationHandle memory;
    int pieces; /* that lie in it; 0: no memory is there */
};

struct gpu_pages {
    struct gpu_arena *arena;
    CUmemAllocationProp prop;
    CUdeviceptr base;
    size_t size;       /* of a page */
    struct page *page; /* [n_pages], by address */
    size_t n_pages;
    CUmemGenericAllocationHandle *spare;
    size_t n_spare, room_spare;
    size_t owned;  /* pages with memory, spare ones too */
    size_t beyond; /* bytes of these that count beyond the reserve */
    CUresult gave; /* the first error of a call that gave something back, and is not told yet */

    CUresult (*granularity)(size_t *, const CUmemAllocationProp *, CUmemAllocationGranularity_flags);
    CUresult (*reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
    CUresult (*unreserve)(CUdeviceptr, size_t);
    CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *,
                       unsigned long long);
    CUresult (*release)(CUmemGenericAllocationHandle);
    CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
    CUresult (*unmap)(CUdeviceptr, size_t);
    CUresult (*access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
};

/* The driver's codes of errors are the runtime's. */
static int check(struct lade_device *dev, const char *what, CUresult code, char *err)
{
    return gpu_check(dev, what, (cudaError_t)code, err);
}

/* To be told when the lock is free. */
static void note(struct gpu_pages *p, CUresult code)
{
    if (p->gave == CUDA_SUCCESS)
        p->gave = code;
}

static void tell(struct lade_device *dev, CUresult gave)
{
    gpu_gave(dev, "giving memory back", (cudaError_t)gave);
}

static CUresult take_note(struct gpu_pages *p)
{
    const CUresult gave = p->gave;
    p->gave = CUDA_SUCCESS;
    return gave;
}

/* ---- pages of the driver; all under the device's lock ----------------------------------------- */

/* A function of the driver, which the program is not linked to. */
static void *find(void *library, const char *name)
{
    void *f = NULL;
    (void)library;
#if CUDART_VERSION >= 12050
    cudaError_t code =
        cudaGetDriverEntryPointByVersion(name, &f, DRIVER_VERSION, cudaEnableDefault);
#else
    cudaError_t code = cudaGetDriverEntryPoint(name, &f, cudaEnableDefault);
#endif
    if (code == cudaSuccess)
        return f;
    gpu_forget_error();
    return NULL;
}

static bool find_functions(struct gpu_pages *p)
{
    const struct gpu_symbol symbols[] = {
        {"cuMemGetAllocationGranularity", &p->granularity},
        {"cuMemAddressReserve", &p->reserve},
        {"cuMemAddressFree", &p->unreserve},
        {"cuMemCreate", &p->create},
        {"cuMemRelease", &p->release},
        {"cuMemMap", &p->map},
        {"cuMemUnmap", &p->unmap},
        {"cuMemSetAccess", &p->access},
    };
    return gpu_find_symbols(symbols, sizeof symbols / sizeof *symbols, find, NULL);
}

static size_t pages_of(const struct gpu_pages *p, size_t bytes)
{
    return bytes / p->size + (bytes % p->size != 0);
}

/* Room for as many spare pages as there may be, so that giving one back cannot fail. */
static bool make_room(struct gpu_pages *p, size_t pages)
{
    if (pages <= p->room_spare)
        return true;
    size_t room = 2 * pages;
    CUmemGenericAllocationHandle *grown =
        (CUmemGenericAllocationHandle *)realloc(p->spare, room * sizeof *grown);
    if (!grown)
        return false;
    p->spare = grown;
    p->room_spare = room;
    return true;
}

static void drop_spare(struct gpu_pages *p, size_t least)
{
    while (p->n_spare && p->owned > least) {
        note(p, p->release(p->spare[--p->n_spare]));
        p->owned--;
    }
}

/* More spare pages, until `pages` are owned; on failure as many as before. */
static CUresult own(struct gpu_pages *p, size_t pages)
{
    const size_t before = p->owned;
    if (!make_room(p, pages))
        return CUDA_ERROR_OUT_OF_MEMORY;
    while (p->owned < pages) {
        CUresult code = p->create(&p->spare[p->n_spare], p->size, &p->prop, 0);
        if (code != CUDA_SUCCESS) {
            drop_spare(p, before);
            return code;
        }
        p->n_spare++;
        p->owned++;
    }
    return CUDA_SUCCESS;
}

/* What so many pages count beyond the reserve: nothing where they are what it needs, else whole. */
static size_t beyond_of(const struct lade_device *dev, size_t owned)
{
    const struct gpu_pages *p = dev->pages;
    return owned > pages_of(p, dev->reserve) ? owned * p->size - dev->reserve : 0;
}

/* That counts as held, as allocations without a reserve do. */
static void count(struct lade_device *dev)
{
    struct gpu_pages *p = dev->pages;
    const size_t beyond = beyond_of(dev, p->owned);
    dev->held = dev->held - p->beyond + beyond;
    p->beyond = beyond;
    gpu_note_peak(dev);
}

static CUdeviceptr address(const struct gpu_pages *p, size_t page)
{
    return p->base + page * p->size;
}

static void unmap(struct gpu_pages *p, size_t page)
{
    note(p, p->unmap(address(p, page), p->size));
    p->spare[p->n_spare++] = p->page[page].memory;
}

/* One piece less in pages [first, end). */
static void leave(struct gpu_pages *p, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++)
        if (!--p->page[i].pieces)
            unmap(p, i);
}

/* Puts memory under pages [from, end), which have none: on failure under none. */
static CUresult put_under(struct lade_device *dev, size_t from, size_t end)
{
    struct gpu_pages *p = dev->pages;
    CUmemAccessDesc access = {};
    access.location = p->prop.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    CUresult code = CUDA_SUCCESS;
    size_t i = from;
    for (; i < end && code == CUDA_SUCCESS; i++) {
        p->page[i].memory = p->spare[p->n_spare - 1];
        code = p->map(address(p, i), p->size, 0, p->page[i].memory, 0);
        p->n_spare -= code == CUDA_SUCCESS;
    }
    const size_t mapped = code == CUDA_SUCCESS ? i : i - 1;
    if (code == CUDA_SUCCESS)
        code = p->access(address(p, from), (end - from) * p->size, &access, 1);
    for (size_t j = from; code != CUDA_SUCCESS && j < mapped; j++)
        unmap(p, j);
    return code;
}

/* One piece more in pages [first, end); there are spare ones enough. */
static CUresult join(struct lade_device *dev, size_t first, size_t end)
{
    struct gpu_pages *p = dev->pages;
    for (size_t i = first; i < end;) {
        size_t next = i;
        while (next < end && !p->page[next].pieces)
            next++;
        CUresult code = next > i ? put_under(dev, i, next) : CUDA_SUCCESS;
        if (code != CUDA_SUCCESS) {
            leave(p, first, i);
            return code;
        }
        if (next == i)
            next++;
        for (; i < next; i++)
            p->page[i].pieces++;
    }
    return CUDA_SUCCESS;
}

/* ---- the reserve ------------------------------------------------------------------------------ */

/* Addresses and books; false where the driver has no such thing. */
static bool lay_out(struct lade_device *dev, struct gpu_pages *p, size_t bytes, size_t card)
{
    p->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    p->prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    p->prop.location.id = dev->gpu;
    if (!find_functions(p) ||
        p->granularity(&p->size, &p->prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS ||
        !p->size)
        return false;
    while (bytes / p->size > PAGES)
        p->size *= 2;
    p->n_pages = 2 * pages_of(p, card);
    if (p->reserve(&p->base, p->n_pages * p->size, 0, 0, 0) != CUDA_SUCCESS) {
        p->base = 0;
        return false;
    }
    p->page = (struct page *)calloc(p->n_pages, sizeof *p->page);
    p->arena = gpu_arena_open(p->n_pages * p->size);
    return p->page && p->arena;
}

static void close_pages(struct lade_device *dev, struct gpu_pages *p)
{
    for (size_t i = 0; p->page && i < p->n_pages; i++)
        if (p->page[i].pieces)
            unmap(p, i);
    drop_spare(p, 0);
    if (p->base)
        note(p, p->unreserve(p->base, p->n_pages * p->size));
    tell(dev, take_note(p));
    gpu_arena_close(p->arena);
    free(p->page);
    free(p->spare);
    free(p);
}

int gpu_pages_open(struct lade_device *dev, size_t bytes, size_t card, char *err)
{
    struct gpu_pages *p = (struct gpu_pages *)calloc(1, sizeof *p);
    if (!p)
        return lade_fail(err, "GPU %d: out of memory; close other programs", dev->gpu);
    if (!lay_out(dev, p, bytes, card)) {
        close_pages(dev, p);
        return 0;
    }
    CUresult code = own(p, pages_of(p, bytes));
    if (code != CUDA_SUCCESS) { /* what has addresses but no pages is asked each time, too */
        close_pages(dev, p);
        return code == CUDA_ERROR_OUT_OF_MEMORY ? check(dev, "reserving memory", code, err) : 0;
    }
    dev->pages = p;
    dev->reserve = bytes;
    gpu_note_peak(dev);
    return 0;
}

void gpu_pages_close(struct lade_device *dev)
{
    if (dev->pages)
        close_pages(dev, dev->pages);
    dev->pages = NULL;
}

int gpu_reserve(struct lade_device *dev, size_t bytes, char *err)
{
    struct gpu_pages *p = dev->pages;
    size_t rounded, need;
    if (gpu_enter(dev, err))
        return -1;
    if (!p)
        return 0;
    pthread_mutex_lock(&dev->lock);
    const size_t others = dev->held - p->beyond;
    CUresult code = CUDA_SUCCESS;
    bool fits = !__builtin_add_overflow(bytes, LADE_GPU_ALIGN - 1, &rounded);
    rounded = rounded / LADE_GPU_ALIGN * LADE_GPU_ALIGN;
    fits = fits && !__builtin_add_overflow(dev->fixed + others, rounded, &need) && need <= dev->cap;
    if (fits)
        code = own(p, pages_of(p, rounded));
    if (fits && code == CUDA_SUCCESS) {
        dev->reserve = rounded;
        drop_spare(p, pages_of(p, rounded));
        count(dev);
    }
    const CUresult gave = take_note(p);
    pthread_mutex_unlock(&dev->lock);
    tell(dev, gave);
    return fits ? check(dev, "reserving memory", code, err)
                : gpu_too_much(dev, bytes, dev->fixed + others, err);
}

/* Under the lock: memory for a piece at `offset`. False where the cap has no room. */
static bool take_pages(struct lade_device *dev, size_t offset, size_t bytes, CUresult *code)
{
    struct gpu_pages *p = dev->pages;
    const size_t first = offset / p->size, end = pages_of(p, offset + bytes);
    const size_t wanted = pages_of(p, dev->reserve);
    size_t missing = 0;
    for (size_t i = first; i < end; i++)
        missing += !p->page[i].pieces;
    const size_t owned = p->owned - p->n_spare + missing;
    if (owned > p->owned) {
        const size_t beyond = beyond_of(dev, owned);
        if (beyond > p->beyond && !gpu_fits(dev, beyond - p->beyond))
            return false;
        *code = own(p, owned);
    }
    if (*code == CUDA_SUCCESS)
        *code = join(dev, first, end);
    if (*code != CUDA_SUCCESS)
        drop_spare(p, wanted);
    count(dev);
    return true;
}

int gpu_pages_take(struct lade_device *dev, void **addr, size_t bytes, char *err)
{
    struct gpu_pages *p = dev->pages;
    const size_t some = bytes ? bytes : 1;
    CUresult code = CUDA_SUCCESS;
    pthread_mutex_lock(&dev->lock);
    const size_t used = dev->fixed + dev->reserve + dev->held;
    const size_t offset = gpu_arena_take(p->arena, some);
    const bool fits = offset != SIZE_MAX && take_pages(dev, offset, some, &code);
    if (offset != SIZE_MAX && (!fits || code != CUDA_SUCCESS))
        gpu_arena_give(p->arena, offset);
    const CUresult gave = take_note(p);
    pthread_mutex_unlock(&dev->lock);
    tell(dev, gave);
    *addr = fits && code == CUDA_SUCCESS ? (void *)(uintptr_t)(p->base + offset) : NULL;
    return fits ? check(dev, "allocating memory", code, err)
                : gpu_too_much(dev, bytes, used, err);
}

bool gpu_pages_give(struct lade_device *dev, void *addr)
{
    struct gpu_pages *p = dev->pages;
    const CUdeviceptr at = (CUdeviceptr)(uintptr_t)addr;
    if (!p || at < p->base || at >= address(p, p->n_pages))
        return false;
    pthread_mutex_lock(&dev->lock);
    const size_t offset = (size_t)(at - p->base);
    const size_t bytes = gpu_arena_give(p->arena, offset);
    if (bytes)
        leave(p, offset / p->size, pages_of(p, offset + bytes));
    drop_spare(p, pages_of(p, dev->reserve));
    count(dev);
    const CUresult gave = take_note(p);
    pthread_mutex_unlock(&dev->lock);
    tell(dev, gave);
    return true;
}
