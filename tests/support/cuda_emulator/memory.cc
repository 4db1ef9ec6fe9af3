/* Device and pinned memory: two ranges of addresses that nothing else uses and that are never used
 * twice, so that a stale pointer faults. */
#include "runtime.h"

#include <iterator>
#include <map>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

static const size_t POOL = (size_t)1 << 41, PAGE = 4096, ALIGN = 256;
enum { MAX_DEVICES = 8 };

struct block {
    char *map; /* whole pages; the data ends at most ALIGN - 1 bytes before their end */
    size_t map_bytes, bytes;
    int device;
};

struct pool {
    char *base;
    size_t used;
    std::map<char *, block> blocks; /* by address of the data */
};
static pool device_pool, pinned_pool;
static std::map<char *, size_t> registered; /* memory of the host, whole pages */
static size_t device_used[MAX_DEVICES];
static int entered[MAX_DEVICES];

/* For pages.cc: whether as much is left, and what is taken or given back. */
bool lade_emulator_take(int device, size_t bytes)
{
    size_t taken = lade_emulator.others + lade_emulator.context + device_used[device];
    if (taken > lade_emulator.total || bytes > lade_emulator.total - taken ||
        (lade_emulator.fail_allocation && !--lade_emulator.fail_allocation))
        return false;
    device_used[device] += bytes;
    return true;
}

void lade_emulator_give(int device, size_t bytes)
{
    device_used[device] -= bytes;
}

bool lade_emulator_entered(int device)
{
    return entered[device];
}

static char *reserve(pool *p, size_t bytes)
{
    if (!p->base) {
        void *at =
            mmap(nullptr, POOL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED)
            lade_emulator_die("no room for 2 TiB of addresses");
        p->base = (char *)at;
    }
    if (bytes > POOL - p->used)
        lade_emulator_die("the addresses of the emulated memory are used up");
    char *at = p->base + p->used;
    p->used += bytes + PAGE; /* a page that nobody may touch follows */
    return at;
}

char *lade_emulator_addresses(size_t bytes)
{
    return reserve(&device_pool, bytes);
}

char *lade_emulator_device_addresses(size_t *bytes)
{
    *bytes = device_pool.base ? POOL : 0;
    return device_pool.base;
}

static bool in_pool(const pool *p, const void *at)
{
    return p->base && (size_t)((const char *)at - p->base) < POOL;
}

/* The block that holds `at`, or ends there. */
static std::map<char *, block>::iterator find(pool *p, const void *at)
{
    auto next = p->blocks.upper_bound((char *)at);
    if (next == p->blocks.begin())
        return p->blocks.end();
    --next;
    return (const char *)at <= next->first + next->second.bytes ? next : p->blocks.end();
}

static void protect(const block *b, bool open)
{
    if (mprotect(b->map, b->map_bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE))
        lade_emulator_die("memory cannot be protected");
}

cudaError_t lade_emulator_malloc(void **out, size_t bytes, bool pinned)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    *out = nullptr;
    cudaError_t e = lade_emulator_call();
    if (e)
        return e;
    if (lade_emulator_capturing())
        return lade_emulator_error(cudaErrorStreamCaptureUnsupported);
    if (!bytes)
        return cudaSuccess;
    lade_emulator.allocations++;
    lade_emulator.device_allocations += !pinned;
    int device = lade_emulator_device();
    if (bytes > POOL / 2 || (!pinned && !lade_emulator_take(device, bytes)))
        return lade_emulator_error(cudaErrorMemoryAllocation);
    size_t aligned = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    block b = {nullptr, (aligned + PAGE - 1) / PAGE * PAGE, bytes, device};
    pool *p = pinned ? &pinned_pool : &device_pool;
    b.map = reserve(p, b.map_bytes);
    protect(&b, true);
    /* Pinned memory begins on a page, as on a GPU; that of the device ends on one. */
    char *data = pinned ? b.map : b.map + b.map_bytes - aligned;
    memset(b.map, 0xff, b.map_bytes);
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(b.map, (size_t)(data - b.map));
    __asan_poison_memory_region(data + bytes, (size_t)(b.map + b.map_bytes - data) - bytes);
#endif
    if (!pinned && !entered[device])
        protect(&b, false);
    p->blocks[data] = b;
    *out = data;
    return cudaSuccess;
}

static cudaError_t release(pool *p, void *at)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    if (!at)
        return cudaSuccess;
    cudaError_t e = lade_emulator_call(); /* a lost GPU's memory is gone all the same */
    if (!e && lade_emulator_capturing())
        return lade_emulator_error(cudaErrorStreamCaptureUnsupported);
    auto i = p->blocks.find((char *)at);
    if (i == p->blocks.end())
        lade_emulator_die("%p is freed but no allocation", at);
    lade_emulator_drain_all();
    if (p == &device_pool)
        device_used[i->second.device] -= i->second.bytes;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(i->second.map, i->second.map_bytes);
#endif
    if (mmap(i->second.map, i->second.map_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        lade_emulator_die("memory cannot be given back");
    p->blocks.erase(i);
    return e;
}

cudaError_t cudaFree(void *p)
{
    return release(&device_pool, p);
}

cudaError_t cudaFreeHost(void *p)
{
    return release(&pinned_pool, p);
}

/* The registered range that holds `at`, or ends there. */
static std::map<char *, size_t>::iterator find_registered(const void *at)
{
    auto next = registered.upper_bound((char *)at);
    if (next == registered.begin())
        return registered.end();
    --next;
    return (const char *)at <= next->first + next->second ? next : registered.end();
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    (void)flags;
    cudaError_t e = lade_emulator_call();
    if (e)
        return e;
    if (lade_emulator.no_pinning)
        return lade_emulator_error(cudaErrorMemoryAllocation);
    auto next = registered.lower_bound((char *)p);
    auto before = next == registered.begin() ? registered.end() : std::prev(next);
    if ((size_t)p % PAGE || !bytes || bytes % PAGE ||
        (next != registered.end() && next->first < (char *)p + bytes) ||
        (before != registered.end() && before->first + before->second > (char *)p))
        lade_emulator_die("%zu bytes at %p are registered, which are not whole pages or were "
                          "registered before",
                          bytes, p);
    registered[(char *)p] = bytes;
    lade_emulator.registered = registered.size();
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = lade_emulator_call(); /* a lost GPU's memory is gone all the same */
    if (!registered.count((char *)p))
        lade_emulator_die("%p is unregistered but was not registered", p);
    lade_emulator_drain_all();
    registered.erase((char *)p);
    lade_emulator.registered = registered.size();
    return e;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    std::lock_guard<std::recursive_mutex> lock(lade_emulator_lock);
    cudaError_t e = lade_emulator_call();
    if (e)
        return e;
    size_t taken =
        lade_emulator.others + lade_emulator.context + device_used[lade_emulator_device()];
    *total = lade_emulator.total;
    *free_bytes = taken < *total ? *total - taken : 0;
    return cudaSuccess;
}

enum lade_emulator_place lade_emulator_where(const void *at, size_t bytes)
{
    pool *p = in_pool(&device_pool, at)   ? &device_pool
              : in_pool(&pinned_pool, at) ? &pinned_pool
                                          : nullptr;
    if (!p) {
        auto r = find_registered(at);
        if (r == registered.end() || (const char *)at == r->first + r->second)
            return LADE_HOST;
        if (bytes > r->second - (size_t)((const char *)at - r->first))
            lade_emulator_die("%zu bytes at %p leave the memory that was registered", bytes, at);
        return LADE_PINNED;
    }
    if (p == &device_pool && lade_emulator_in_pages(at, bytes))
        return LADE_ON_DEVICE;
    auto b = find(p, at);
    if (b == p->blocks.end())
        lade_emulator_die("%p is in no allocation", at);
    size_t left = b->second.bytes - (size_t)((const char *)at - b->first);
    if (bytes > left)
        lade_emulator_die("%zu bytes at %p leave their allocation of %zu, which has %zu left",
                          bytes, at, b->second.bytes, left);
    return p == &device_pool ? LADE_ON_DEVICE : LADE_PINNED;
}

void lade_emulator_check_words(const char *name, const void *words, size_t bytes)
{
    for (size_t i = 0; i + sizeof(void *) <= bytes; i += sizeof(void *)) {
        uintptr_t word;
        memcpy(&word, (const char *)words + i, sizeof word);
        if (in_pool(&device_pool, (void *)word) || in_pool(&pinned_pool, (void *)word))
            continue;
        /* Pages of programs lie high; two small numbers side by side look like low addresses. */
        unsigned char resident;
        if (word >> 32 >= 0x5500 && word >> 48 == 0 &&
            !mincore((void *)(word & ~(uintptr_t)(PAGE - 1)), 1, &resident))
            lade_emulator_die("%s is given %p, which is memory of the host (byte %zu of its "
                              "arguments)",
                              name, (void *)word, i);
    }
}

void lade_emulator_enter(int device)
{
    if (!entered[device]++)
        for (auto &b : device_pool.blocks)
            if (b.second.device == device)
                protect(&b.second, true);
    if (entered[device] == 1)
        lade_emulator_protect_pages(device, true);
}

void lade_emulator_leave(int device)
{
    if (!--entered[device])
        for (auto &b : device_pool.blocks)
            if (b.second.device == device)
                protect(&b.second, false);
    if (!entered[device])
        lade_emulator_protect_pages(device, false);
}
