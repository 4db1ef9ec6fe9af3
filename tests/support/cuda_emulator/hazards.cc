/* Two bytes of memory are a cell that knows who last wrote and read them, and when. Time is counted in
 * barriers: an epoch begins with a block and with each of its barriers, so what has different epochs is in
 * order. Within an epoch, each __syncwarp() of a warp begins a turn of it. */
#include "hazards.h"
#include "runtime.h"

#include <dlfcn.h>
#include <map>
#include <set>
#include <string>
#include <sys/mman.h>
#include <vector>

enum {
    GRAIN = 2,  /* bytes of a cell: what kernels write apart */
    SHIFT = 16, /* of a page of global memory */
    PAGE_CELLS = (1 << SHIFT) / GRAIN,
    THREAD = 1023,    /* of writer and reader */
    MANY = 1024,      /* lanes of the warp */
    ALL = 2048,       /* warps */
    UNDER_WAY = 4096, /* a copy is */
};

/* Epoch 0: never. Turns are compared with those of the same epoch and warp only. */
struct cell {
    uint32_t wrote, read;
    uint32_t before; /* read by an earlier block of the grid */
    uint16_t write_turn, read_turn, writer, reader;
};

static uint32_t epoch, block_first, grid_first;
static uint16_t turn[1024 / LADE_WARP];
static uint32_t counted, fenced; /* this block: first atomic, fence after it; 0: none yet */
struct span {
    uint32_t first, end;
};
static std::vector<span> released;             /* epochs of earlier blocks of the grid, in order */
static std::map<const void *, span> last_grid; /* of a stream */
static span ahead;

static struct lade_emulator_memory shared;
static std::vector<cell> dynamic_cells, static_cells;
static uintptr_t device; /* addresses */
static size_t device_bytes;
static cell **pages; /* of them */

/* ---- places ---------------------------------------------------------------------------------- */

struct site {
    const char *kind;
    uintptr_t offset;
    std::string kernel;
    bool operator<(const site &b) const
    {
        return offset != b.offset ? offset < b.offset : kernel < b.kernel;
    }
};
static std::set<site> *sites; /* kept until all has ended */
static const char *sites_file;
static uintptr_t dropped, module_base;

__attribute__((constructor)) static void read_environment(void)
{
    Dl_info info;
    const char *drop = getenv("LADE_EMULATOR_DROP");
    sites_file = getenv("LADE_EMULATOR_SITES");
    if (drop)
        dropped = strtoul(drop, nullptr, 16);
    if (sites_file)
        sites = new std::set<site>();
    if (dladdr((void *)read_environment, &info))
        module_base = (uintptr_t)info.dli_fbase;
}

__attribute__((destructor)) static void write_sites(void)
{
    FILE *f = sites_file ? fopen(sites_file, "a") : nullptr;
    if (!f)
        return;
    for (auto &s : *sites)
        fprintf(f, "%s %lx %s\n", s.kind, (unsigned long)s.offset, s.kernel.c_str());
    fclose(f);
}

/* Whether what is at a place counts. */
static bool counts(const char *kind, const void *at)
{
    const uintptr_t offset = (uintptr_t)at - module_base;
    if (sites)
        sites->insert({kind, offset, lade_emulator_kernel()});
    return offset != dropped;
}

/* ---- time ------------------------------------------------------------------------------------ */

static void next_epoch(void)
{
    if (!++epoch)
        lade_emulator_die("more barriers than can be counted");
    memset(turn, 0, sizeof turn);
}

void lade_emulator_hazards_grid(const void *stream, const struct lade_emulator_memory *memory)
{
    shared = *memory;
    device = (uintptr_t)lade_emulator_device_addresses(&device_bytes);
    dynamic_cells.resize(shared.dynamic_bytes / GRAIN + 1);
    static_cells.resize(shared.static_bytes / GRAIN + 1);
    next_epoch();
    grid_first = epoch;
    released.clear();
    ahead = last_grid[stream];
}

void lade_emulator_hazards_grid_end(const void *stream)
{
    last_grid[stream] = {grid_first, epoch + 1};
}

void lade_emulator_hazards_break(const void *stream)
{
    last_grid.erase(stream);
}

void lade_emulator_hazards_block(void)
{
    next_epoch();
    block_first = epoch;
    counted = fenced = 0;
}

void lade_emulator_hazards_barrier(const void *at)
{
    if (counts("syncthreads", at))
        next_epoch();
}

void lade_emulator_hazards_syncwarp(const void *at)
{
    if (counts("syncwarp", at))
        turn[lade_emulator_now->warp]++;
}

void lade_emulator_launch_wait(void)
{
    lade_emulator_now->waited = true;
    if (counts("launch_wait", __builtin_return_address(0)))
        lade_emulator_now->passed = true;
}

void lade_emulator_fence(void)
{
    lade_emulator_thread *t = lade_emulator_now;
    if (!counts("threadfence", __builtin_return_address(0)))
        return;
    t->fence = epoch;
    if (t->atomic == epoch && !fenced)
        fenced = epoch;
}

void lade_emulator_atomic(void)
{
    lade_emulator_thread *t = lade_emulator_now;
    if (!t->passed)
        lade_emulator_die("an atomic before launch_wait()");
    t->atomic = epoch;
    if (!counted)
        counted = epoch;
    if (t->fence == epoch)
        released.push_back({block_first, epoch});
}

/* Whether what another block of the grid did in epoch `then` is over for the running thread. */
static bool is_over(uint32_t then, uint32_t since)
{
    if (!since || since == epoch)
        return false;
    size_t low = 0, high = released.size();
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (released[mid].end <= then)
            low = mid + 1;
        else
            high = mid;
    }
    return low < released.size() && released[low].first <= then;
}

/* ---- accesses -------------------------------------------------------------------------------- */

[[noreturn]] static void hazard(uintptr_t at, const char *what, int other)
{
    const size_t dynamic = at - (uintptr_t)shared.dynamic_shared;
    const size_t fixed = at - (uintptr_t)shared.static_shared;
    char where[64];
    if (dynamic < shared.dynamic_bytes)
        snprintf(where, sizeof where, "byte %zu of dynamic shared memory", dynamic);
    else if (fixed < shared.static_bytes)
        snprintf(where, sizeof where, "byte %zu of shared variables", fixed);
    else
        snprintf(where, sizeof where, "%p of the device", (void *)at);
    if (other < 0)
        lade_emulator_die("hazard: %s, %s", where, what);
    lade_emulator_die("hazard: %s, %s thread %d and nothing between them", where, what, other);
}

/* Whether the running thread and one that was there in this block's present epoch are not in order. */
static bool meets(int me, int other, uint16_t others_turn, bool many)
{
    const int warp = me / LADE_WARP;
    return (other & THREAD) / LADE_WARP != warp ||
           (others_turn == turn[warp] && (many || (other & THREAD) != me));
}

static inline void after_write(const cell &c, uintptr_t at, int me, bool global, bool write)
{
    if (c.wrote >= block_first) {
        if (c.writer & UNDER_WAY)
            hazard(at, "where a copy is under way by", c.writer & THREAD);
        if (c.wrote == epoch && meets(me, c.writer, c.write_turn, false))
            hazard(at, write ? "written by this and" : "read by this, written by",
                   c.writer & THREAD);
    } else if (global && c.wrote >= grid_first) {
        if (!is_over(c.wrote, write ? counted : fenced))
            hazard(at, "which another block of the grid has written", -1);
    } else if (global && !lade_emulator_now->passed && c.wrote >= ahead.first &&
               c.wrote < ahead.end) {
        hazard(at, "which the kernel ahead has written, is read before launch_wait()", -1);
    }
}

static inline void note_read(cell &c, uintptr_t at, int me, bool global)
{
    const uint16_t now = turn[me / LADE_WARP];
    if (c.read == epoch && c.wrote < epoch &&
        (c.reader & ALL || (c.reader == me && c.read_turn == now)))
        return; /* was looked at in this epoch */
    after_write(c, at, me, global, false);
    if (c.read != epoch) {
        if (c.read >= grid_first && c.read < block_first)
            c.before = c.read;
        c.read = epoch;
        c.reader = (uint16_t)me;
        c.read_turn = now;
    } else if (c.reader & ALL) {
        return;
    } else if ((c.reader & THREAD) / LADE_WARP != me / LADE_WARP) {
        c.reader |= ALL;
    } else if (c.read_turn != now) {
        c.reader = (uint16_t)me;
        c.read_turn = now;
    } else if ((c.reader & THREAD) != me) {
        c.reader |= MANY;
    }
}

static inline void note_write(cell &c, uintptr_t at, int me, bool global)
{
    after_write(c, at, me, global, true);
    if (c.read == epoch && (c.reader & ALL || meets(me, c.reader, c.read_turn, c.reader & MANY)))
        hazard(at, "written by this, read by", c.reader & THREAD);
    const uint32_t others = c.read < block_first ? c.read : c.before;
    if (global && others >= grid_first && others < block_first && !is_over(others, counted))
        hazard(at, "which another block of the grid has read, is written", -1);
    c.wrote = epoch;
    c.writer = (uint16_t)me;
    c.write_turn = turn[me / LADE_WARP];
}

/* Cells of global memory: none where no kernel has written yet, unless one writes now. */
static cell *global_cell(uintptr_t from, bool write)
{
    if (!pages) {
        void *map = mmap(nullptr, (device_bytes >> SHIFT) * sizeof *pages, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED)
            lade_emulator_die("no memory to look for hazards");
        pages = (cell **)map;
    }
    cell *&page = pages[from >> SHIFT];
    if (!page && write && !(page = (cell *)calloc(PAGE_CELLS, sizeof *page)))
        lade_emulator_die("no memory to look for hazards");
    return page ? page + from % (1 << SHIFT) / GRAIN : nullptr;
}

/* NULL: of no interest. */
static inline cell *cell_of(uintptr_t at, bool write, bool *global)
{
    *global = false;
    if (at - (uintptr_t)shared.dynamic_shared < shared.dynamic_bytes)
        return &dynamic_cells[(at - (uintptr_t)shared.dynamic_shared) / GRAIN];
    if (at - (uintptr_t)shared.static_shared < shared.static_bytes)
        return &static_cells[(at - (uintptr_t)shared.static_shared) / GRAIN];
    *global = at - device < device_bytes;
    return *global ? global_cell(at - device, write) : nullptr;
}

/* Accesses of the host, and of a thread to its own stack: most of all. */
static inline bool is_private(uintptr_t at)
{
    const lade_emulator_thread *t = lade_emulator_now;
    return !t || at - (uintptr_t)t->stack < t->stack_bytes;
}

/* At most the 16 bytes of a load, which are of one page. Not inlined where is_private() is asked before: its
 * registers need not be saved then. */
__attribute__((noinline)) static void touch_shared(uintptr_t at, size_t bytes, bool write)
{
    const lade_emulator_thread *t = lade_emulator_now;
    bool global;
    cell *c = cell_of(at, write, &global);
    if (!c)
        return;
    if (global && write && !t->passed)
        hazard(at, "written before launch_wait()", -1);
    const int me = t->warp * LADE_WARP + t->lane;
    for (const uintptr_t end = at + bytes; at < end; at += GRAIN, c++)
        if (write)
            note_write(*c, at, me, global);
        else
            note_read(*c, at, me, global);
}

static inline void touch(uintptr_t at, size_t bytes, bool write)
{
    if (!is_private(at))
        touch_shared(at, bytes, write);
}

void lade_emulator_hazards_copy(const void *to, size_t bytes, const void *from, size_t read)
{
    bool global;
    if (read)
        touch((uintptr_t)from, read, false);
    touch((uintptr_t)to, bytes, true);
    for (size_t i = 0; i < bytes; i += GRAIN)
        if (cell *c = cell_of((uintptr_t)to + i, true, &global))
            c->writer |= UNDER_WAY;
}

void lade_emulator_hazards_copied(const void *at, const void *to, size_t bytes)
{
    bool global;
    if (!counts("copy_wait", at))
        return;
    for (size_t i = 0; i < bytes; i += GRAIN)
        if (cell *c = cell_of((uintptr_t)to + i, true, &global))
            c->writer &= (uint16_t)~UNDER_WAY;
    touch((uintptr_t)to, bytes, true);
}

/* ---- what the compiler calls ----------------------------------------------------------------- */

/* Under a sanitizer kernels have no such calls (Makefile), and the compiler has names of its own for these. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" {
#define TOUCH(name, bytes)                                                                         \
    void __tsan_read##name(void *at)                                                               \
    {                                                                                              \
        touch((uintptr_t)at, bytes, false);                                                        \
    }                                                                                              \
    void __tsan_write##name(void *at)                                                              \
    {                                                                                              \
        touch((uintptr_t)at, bytes, true);                                                         \
    }                                                                                              \
    void __tsan_unaligned_read##name(void *at)                                                     \
    {                                                                                              \
        touch((uintptr_t)at, bytes, false);                                                        \
    }                                                                                              \
    void __tsan_unaligned_write##name(void *at)                                                    \
    {                                                                                              \
        touch((uintptr_t)at, bytes, true);                                                         \
    }
TOUCH(1, 1)
TOUCH(2, 2)
TOUCH(4, 4)
TOUCH(8, 8)
TOUCH(16, 16)
#undef TOUCH
void __tsan_read_range(void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += GRAIN)
        touch((uintptr_t)at + i, GRAIN, false);
}
void __tsan_write_range(void *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += GRAIN)
        touch((uintptr_t)at + i, GRAIN, true);
}
/* The host's code. */
unsigned char __tsan_atomic8_load(const volatile unsigned char *at, int order)
{
    (void)order;
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
void __tsan_atomic8_store(volatile unsigned char *at, unsigned char value, int order)
{
    (void)order;
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
void __tsan_init(void)
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void)
{
}
}
#endif
