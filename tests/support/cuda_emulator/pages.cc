/* Pages of memory under runs of addresses. Memory that is new under an address holds 0xff. A run
 * is as long-lived as an address of the pools: none is used twice. */
#include "cuda.h"
#include "runtime.h"

#include <map>
#include <sys/mman.h>

/* Pages are multiples of it, and so is where they lie. */
#define GRANULE (lade_emulator.granule)

struct memory {
    int device;
    size_t bytes;
    char *at; /* NULL: under no address */
};

struct run {
    size_t bytes;
    std::map<char *, CUmemGenericAllocationHandle> mapped; /* by address */
    std::map<char *, bool> open;                           /* whether access was given */
};

static std::map<CUmemGenericAllocationHandle, memory> memories;
static std::map<char *, run> runs;
static CUmemGenericAllocationHandle last;

static std::map<char *, run>::iterator find_run(const void *at)
{
    auto next = runs.upper_bound((char *)at);
    if (next == runs.begin())
        return runs.end();
    --next;
    return (const char *)at < next->first + next->second.bytes ? next : runs.end();
}

static run *run_of(CUdeviceptr at, size_t bytes, const char *what)
{
    auto r = find_run((void *)at);
    if (r == runs.end() || bytes > r->second.bytes - (size_t)((char *)at - r->first))
        lade_emulator_die("%s: %zu bytes at %p are in no run of addresses", what, bytes,
                          (void *)at);
    return &r->second;
}

static void protect(char *at, size_t bytes, bool open)
{
    if (mprotect(at, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE))
        lade_emulator_die("pages cannot be protected");
}

bool lade_emulator_in_pages(const void *at, size_t bytes)
{
    auto r = find_run(at);
    if (r == runs.end())
        return false;
    const char *end = (const char *)at + bytes;
    for (const char *next = (const char *)at; next < end;) {
        auto m = r->second.mapped.upper_bound((char *)next);
        if (m == r->second.mapped.begin())
            lade_emulator_die("no page is under %p", (const void *)next);
        --m;
        const char *page_end = m->first + memories[m->second].bytes;
        if (next >= page_end || !r->second.open[m->first])
            lade_emulator_die("no page is under %p, or none that may be used", (const void *)next);
        next = page_end;
    }
    return true;
}

void lade_emulator_protect_pages(int device, bool open)
{
    for (auto &r : runs)
        for (auto &m : r.second.mapped)
            if (memories[m.second].device == device && r.second.open[m.first])
                protect(m.first, memories[m.second].bytes, open);
}

/* ---- the functions ---- */

static CUresult granularity(size_t *out, const CUmemAllocationProp *prop,
                            CUmemAllocationGranularity_flags flags)
{
    (void)prop, (void)flags;
    *out = GRANULE;
    return CUDA_SUCCESS;
}

static CUresult address_reserve(CUdeviceptr *out, size_t bytes, size_t align, CUdeviceptr at,
                                unsigned long long flags)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    (void)align, (void)at, (void)flags;
    if (!bytes || bytes % GRANULE)
        return CUDA_ERROR_INVALID_VALUE;
    char *p = lade_emulator_addresses(bytes + GRANULE);
    p += (GRANULE - (size_t)p % GRANULE) % GRANULE;
    runs[p] = run{bytes, {}, {}};
    *out = (CUdeviceptr)p;
    return CUDA_SUCCESS;
}

static CUresult address_free(CUdeviceptr at, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    auto r = runs.find((char *)at);
    if (r == runs.end() || r->second.bytes != bytes || !r->second.mapped.empty())
        lade_emulator_die("%zu addresses from %p are freed but not free", bytes, (void *)at);
    runs.erase(r);
    return CUDA_SUCCESS;
}

static CUresult create(CUmemGenericAllocationHandle *out, size_t bytes,
                       const CUmemAllocationProp *prop, unsigned long long flags)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    (void)flags;
    cudaError_t e = lade_emulator_call();
    if (e)
        return (CUresult)e;
    if (lade_emulator_capturing())
        lade_emulator_die("pages are made while a stream is captured");
    if (!bytes || bytes % GRANULE || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
        prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    lade_emulator.allocations++;
    lade_emulator.pages++;
    if (!lade_emulator_take(prop->location.id, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    lade_emulator.held_pages++;
    lade_emulator.page_bytes = bytes;
    memories[++last] = memory{prop->location.id, bytes, nullptr};
    *out = last;
    return CUDA_SUCCESS;
}

static CUresult release(CUmemGenericAllocationHandle handle)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    auto m = memories.find(handle);
    if (m == memories.end() || m->second.at)
        lade_emulator_die("page %llu is released but is none, or in use", handle);
    lade_emulator_give(m->second.device, m->second.bytes);
    lade_emulator.held_pages--;
    memories.erase(m);
    return CUDA_SUCCESS;
}

static CUresult map(CUdeviceptr at, size_t bytes, size_t offset,
                    CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    (void)flags;
    cudaError_t e = lade_emulator_call();
    if (e)
        return (CUresult)e;
    lade_emulator.allocations++;
    run *r = run_of(at, bytes, "cuMemMap");
    auto m = memories.find(handle);
    if (m == memories.end() || m->second.at || m->second.bytes != bytes || offset ||
        at % GRANULE || r->mapped.count((char *)at))
        lade_emulator_die("page %llu is put under %p: it is none or in use, or that is", handle,
                          (void *)at);
    m->second.at = (char *)at;
    r->mapped[(char *)at] = handle;
    r->open[(char *)at] = false;
    protect((char *)at, bytes, true);
    memset((void *)at, 0xff, bytes);
    protect((char *)at, bytes, false);
    return CUDA_SUCCESS;
}

static CUresult unmap(CUdeviceptr at, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = lade_emulator_call(); /* a lost GPU's memory is gone all the same */
    run *r = run_of(at, bytes, "cuMemUnmap");
    auto m = r->mapped.find((char *)at);
    if (m == r->mapped.end() || memories[m->second].bytes != bytes)
        lade_emulator_die("no page of %zu bytes is under %p", bytes, (void *)at);
    lade_emulator_drain_all();
    memories[m->second].at = nullptr;
    r->mapped.erase(m);
    r->open.erase((char *)at);
    if (mmap((void *)at, bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        lade_emulator_die("pages cannot be given back");
    return (CUresult)e;
}

static CUresult set_access(CUdeviceptr at, size_t bytes, const CUmemAccessDesc *desc, size_t count)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    run *r = run_of(at, bytes, "cuMemSetAccess");
    if (count != 1 || desc->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        return CUDA_ERROR_INVALID_VALUE;
    for (char *p = (char *)at; p < (char *)at + bytes;) {
        auto m = r->mapped.find(p);
        if (m == r->mapped.end())
            return CUDA_ERROR_INVALID_VALUE;
        const memory &page = memories[m->second];
        r->open[p] = true;
        if (lade_emulator_entered(page.device))
            protect(p, page.bytes, true);
        p += page.bytes;
    }
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"cuMemGetAllocationGranularity", (void *)granularity},
        {"cuMemAddressReserve", (void *)address_reserve},
        {"cuMemAddressFree", (void *)address_free},
        {"cuMemCreate", (void *)create},
        {"cuMemRelease", (void *)release},
        {"cuMemMap", (void *)map},
        {"cuMemUnmap", (void *)unmap},
        {"cuMemSetAccess", (void *)set_access},
    };
    (void)version, (void)flags;
    *function = nullptr;
    for (auto &f : functions)
        if (!lade_emulator.no_pages && !strcmp(f.name, symbol))
            *function = f.function;
    return cudaSuccess;
}
