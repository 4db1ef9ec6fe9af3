#include "hazards.h"

#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    MAX_THREADS = 1024,
    MAX_WARPS = MAX_THREADS / LADE_WARP,
    MAX_SHARED = 227 << 10,
#ifdef __SANITIZE_ADDRESS__
    STACK = 256 << 10,
#else
    STACK = 64 << 10,
#endif
    PAGE = 4096,
};

/* Lanes that meet. Two sets of what they gave, used in turn: a lane that goes on to the next
 * exchange cannot reach the one after it before all others have read this one. */
struct warp {
    unsigned alive, arrived;
    enum lade_emulator_op op;
    unsigned present[2];
    alignas(LADE_EXCHANGE) unsigned char given[2][LADE_WARP][LADE_EXCHANGE];
};

struct lade_emulator_thread *lade_emulator_now;
uint3 lade_emulator_block;
dim3 lade_emulator_block_dim, lade_emulator_grid_dim;

static struct lade_emulator_thread threads[MAX_THREADS], host;
static struct warp warps[MAX_WARPS];
static struct lade_emulator_thread *ready[MAX_THREADS]; /* a ring */
static unsigned ready_first, ready_n;
static int alive, arrived, votes, result; /* of the block, and of its barrier */
static const char *kernel_name;
static void (*thread_body)(const void *);
static const void *thread_context;
alignas(1024) static unsigned char dynamic_shared[MAX_SHARED];
static size_t dynamic_bytes;

const char *lade_emulator_kernel(void)
{
    return kernel_name;
}

void lade_emulator_die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "cuda emulator: ");
    vfprintf(stderr, format, ap);
    if (kernel_name)
        fprintf(stderr, "; in %s, block %u %u %u", kernel_name, lade_emulator_block.x,
                lade_emulator_block.y, lade_emulator_block.z);
    if (lade_emulator_now)
        fprintf(stderr, ", thread %u %u %u", lade_emulator_now->index.x, lade_emulator_now->index.y,
                lade_emulator_now->index.z);
    fprintf(stderr, "\n");
    va_end(ap);
    abort();
}

/* ---- switching ---- */

extern "C" void lade_emulator_switch(void **save, void *to);
#if defined(__x86_64__)
/* Saves what a called function must keep, and the stack; takes the other's. */
__asm__(".text\n"
        ".type lade_emulator_switch, @function\n"
        "lade_emulator_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n"
        "    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n"
        "    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size lade_emulator_switch, . - lade_emulator_switch\n");

static void *first_frame(char *stack, void (*entry)(void))
{
    void **sp = (void **)(stack + STACK) - 3; /* so that the entry finds the alignment of a call */
    *--sp = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    return sp;
}
#elif defined(__aarch64__)
__asm__(".text\n"
        ".type lade_emulator_switch, %function\n"
        "lade_emulator_switch:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp]\n    stp x21, x22, [sp, #16]\n    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n    stp x27, x28, [sp, #64]\n    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n    stp d10, d11, [sp, #112]\n    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x2, sp\n    str x2, [x0]\n    mov sp, x1\n"
        "    ldp x19, x20, [sp]\n    ldp x21, x22, [sp, #16]\n    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n    ldp x27, x28, [sp, #64]\n    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n    ldp d10, d11, [sp, #112]\n    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n    ret\n"
        ".size lade_emulator_switch, . - lade_emulator_switch\n");

static void *first_frame(char *stack, void (*entry)(void))
{
    void **sp = (void **)(stack + STACK) - 20;
    memset(sp, 0, 20 * sizeof *sp);
    sp[11] = (void *)entry; /* x30 */
    return sp;
}
#else
#error "the emulator knows how to switch stacks on x86-64 and AArch64"
#endif

/* Leaves the running thread (for ever, if `leaving`) and goes on with `to`. */
__attribute__((no_sanitize_address)) static void go_to(struct lade_emulator_thread *to,
                                                       bool leaving)
{
    struct lade_emulator_thread *from = lade_emulator_now ? lade_emulator_now : &host;
    if (from == to)
        return;
    lade_emulator_now = to == &host ? nullptr : to;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(leaving ? nullptr : &from->fake_stack, to->stack,
                                   to->stack_bytes);
#else
    (void)leaving;
#endif
    lade_emulator_switch(&from->sp, to->sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

static void make_ready(struct lade_emulator_thread *t)
{
    ready[(ready_first + ready_n++) % MAX_THREADS] = t;
}

/* Goes on with the next thread that can run; the host when all are done. */
__attribute__((no_sanitize_address)) static void pass_on(bool leaving)
{
    if (ready_n) {
        struct lade_emulator_thread *next = ready[ready_first];
        ready_first = (ready_first + 1) % MAX_THREADS;
        ready_n--;
        go_to(next, leaving);
    } else if (!alive) {
        go_to(&host, leaving);
    } else {
        lade_emulator_die("%d threads wait for others that never come (%d are at a block's "
                          "barrier)",
                          alive, arrived);
    }
}

/* ---- meeting ---- */

static void open_barrier(const void *site)
{
    lade_emulator_hazards_barrier(site);
    result = votes;
    arrived = votes = 0;
    for (int i = 0; i < MAX_THREADS && threads[i].stack; i++)
        if (threads[i].sp && !threads[i].done && &threads[i] != lade_emulator_now)
            make_ready(&threads[i]);
}

int lade_emulator_barrier(bool value)
{
    votes += value;
    if (++arrived == alive)
        open_barrier(__builtin_return_address(0));
    else
        pass_on(false);
    return result;
}

static void open_exchange(struct warp *w, unsigned generation)
{
    int at = generation & 1;
    int first = (int)(w - warps) * LADE_WARP;
    w->present[at] = w->arrived;
    for (int lane = 0; lane < LADE_WARP; lane++) {
        if (!(w->arrived >> lane & 1))
            memset(w->given[at][lane], 0xff, LADE_EXCHANGE);
        else if (&threads[first + lane] != lade_emulator_now)
            make_ready(&threads[first + lane]);
    }
    w->arrived = 0;
}

const unsigned char (*lade_emulator_exchange(unsigned mask, enum lade_emulator_op op,
                                             const void *value, size_t bytes,
                                             unsigned *present))[LADE_EXCHANGE]
{
    struct lade_emulator_thread *t = lade_emulator_now;
    struct warp *w = &warps[t->warp];
    unsigned bit = 1u << t->lane;
    int at = t->generation & 1;
    if (!(mask & bit))
        lade_emulator_die("lane %d is not in its own mask %08x", t->lane, mask);
    if (w->alive & ~mask)
        lade_emulator_die("mask %08x leaves out lanes that run (%08x): only whole warps are "
                          "emulated",
                          mask, w->alive);
    if (w->arrived && w->op != op)
        lade_emulator_die("lanes of one warp are at different instructions");
    w->op = op;
    if (bytes == 4) /* most often: a move, not a call */
        memcpy(w->given[at][t->lane], value, 4);
    else if (bytes)
        memcpy(w->given[at][t->lane], value, bytes);
    w->arrived |= bit;
    if (w->arrived == w->alive) {
        if (op == LADE_SYNCWARP)
            lade_emulator_hazards_syncwarp(__builtin_return_address(0));
        open_exchange(w, t->generation++);
    } else {
        t->generation++;
        pass_on(false);
    }
    *present = w->present[at];
    return w->given[at];
}

/* ---- copies beside ---- */

enum { COPY = 16 };
struct copy {
    void *to;
    const void *from;
    size_t bytes; /* that are read */
    unsigned group;
};
static std::vector<copy> copies[MAX_THREADS]; /* begun, in order */
static unsigned committed[MAX_THREADS];       /* groups */

static int number_of(const struct lade_emulator_thread *t)
{
    return (int)(t - threads);
}

void lade_emulator_copy_async(void *to, const void *from, size_t bytes)
{
    const int i = number_of(lade_emulator_now);
    if (bytes > COPY || (uintptr_t)to % COPY || (bytes && (uintptr_t)from % COPY))
        lade_emulator_die("a copy of %zu bytes from %p to %p", bytes, from, to);
    lade_emulator_hazards_copy(to, COPY, from, bytes);
    copies[i].push_back({to, from, bytes, committed[i]});
}

void lade_emulator_copy_commit(void)
{
    committed[number_of(lade_emulator_now)]++;
}

void lade_emulator_copy_wait(unsigned left)
{
    const int i = number_of(lade_emulator_now);
    size_t done = 0;
    for (; done < copies[i].size() && copies[i][done].group + left < committed[i]; done++) {
        const copy &c = copies[i][done];
        memset(c.to, 0, COPY);
        if (c.bytes)
            memcpy(c.to, c.from, c.bytes);
        lade_emulator_hazards_copied(__builtin_return_address(0), c.to, COPY);
    }
    copies[i].erase(copies[i].begin(), copies[i].begin() + (long)done);
}

/* ---- a block ---- */

static void finish_thread(struct lade_emulator_thread *t)
{
    struct warp *w = &warps[t->warp];
    if (!t->waited)
        lade_emulator_die("a thread never called launch_wait()");
    t->done = true;
    alive--;
    w->alive &= ~(1u << t->lane);
    if (w->arrived && w->arrived == w->alive) { /* those that wait now are all there are */
        int lane = __builtin_ctz(w->alive);
        open_exchange(w, threads[t->warp * LADE_WARP + lane].generation - 1);
    }
    if (arrived && arrived == alive)
        open_barrier(nullptr);
}

__attribute__((no_sanitize_address)) static void enter(void)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    thread_body(thread_context);
    finish_thread(lade_emulator_now);
    pass_on(true);
    abort(); /* a thread that is done never runs again */
}

static void make_stack(struct lade_emulator_thread *t)
{
    char *p = (char *)mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, PAGE, PROT_NONE))
        lade_emulator_die("no memory for the stacks of a block");
    t->stack = p + PAGE;
    t->stack_bytes = STACK;
}

/* Place `i` of the order in which threads start. */
static int in_order(int i, int n, unsigned order)
{
    static const int strides[] = {1, 1, 33, 129, 519, 1021}; /* all odd: see below */
    int s = strides[order % 6];
    if (n & (n - 1) || s == 1) /* not a power of two: strides may not reach all */
        return order & 1 ? n - 1 - i : i;
    return (i * s + (int)(order % 97)) & (n - 1);
}

static void run_block(int n, unsigned order)
{
    alive = n;
    arrived = votes = 0;
    ready_first = ready_n = 0;
    for (int w = 0; w * LADE_WARP < n; w++) {
        int lanes = n - w * LADE_WARP;
        warps[w].alive = lanes >= LADE_WARP ? ~0u : (1u << lanes) - 1;
        warps[w].arrived = 0;
    }
    for (int i = 0; i < n; i++) {
        struct lade_emulator_thread *t = &threads[i];
        if (!t->stack)
            make_stack(t);
        unsigned u = (unsigned)i;
        t->index.x = u % lade_emulator_block_dim.x;
        t->index.y = u / lade_emulator_block_dim.x % lade_emulator_block_dim.y;
        t->index.z = u / lade_emulator_block_dim.x / lade_emulator_block_dim.y;
        t->warp = i / LADE_WARP;
        t->lane = i % LADE_WARP;
        t->generation = 0;
        t->done = t->waited = t->passed = false;
        t->fence = t->atomic = 0;
        t->sp = first_frame(t->stack, enter);
        copies[i].clear();
        committed[i] = 0;
    }
    for (int i = n; i < MAX_THREADS && threads[i].stack; i++)
        threads[i].sp = nullptr;
    for (int i = 0; i < n; i++)
        make_ready(&threads[in_order(i, n, order)]);
    pass_on(false);
}

/* ---- shared memory ---- */

void *lade_emulator_dynamic_shared(void)
{
    return dynamic_shared;
}

struct shared_range {
    void *at;
    size_t bytes;
};

/* The thread-local variables of this object, which are its kernels' shared variables. */
static int find_shared(struct dl_phdr_info *info, size_t size, void *out)
{
    (void)size;
    struct shared_range *range = (struct shared_range *)out;
    bool ours = false;
    size_t bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD && (uintptr_t)&threads - begin < h->p_memsz)
            ours = true;
        if (h->p_type == PT_TLS)
            bytes = h->p_memsz;
    }
    if (ours && info->dlpi_tls_data) {
        range->at = info->dlpi_tls_data;
        range->bytes = bytes;
    }
    return ours;
}

static struct shared_range static_shared(void)
{
    struct shared_range range = {nullptr, 0};
#ifndef __SANITIZE_ADDRESS__
    dl_iterate_phdr(find_shared, &range);
#else
    (void)find_shared;
#endif
    return range;
}

static void set_dynamic_shared(size_t bytes)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(dynamic_shared, sizeof dynamic_shared);
    __asan_poison_memory_region(dynamic_shared + bytes, sizeof dynamic_shared - bytes);
#endif
    dynamic_bytes = bytes;
}

void lade_emulator_run_grid(const char *name, const void *stream, dim3 grid, dim3 block,
                            size_t shared, unsigned order, void (*body)(const void *context),
                            const void *context)
{
    kernel_name = name;
    thread_body = body;
    thread_context = context;
    lade_emulator_grid_dim = grid;
    lade_emulator_block_dim = block;
#ifdef __SANITIZE_ADDRESS__
    pthread_attr_t attr; /* where this thread's own stack is */
    void *stack;
    size_t bytes;
    if (pthread_getattr_np(pthread_self(), &attr) || pthread_attr_getstack(&attr, &stack, &bytes))
        lade_emulator_die("the stack of this thread is not known");
    pthread_attr_destroy(&attr);
    host.stack = (char *)stack;
    host.stack_bytes = bytes;
#endif
    set_dynamic_shared(shared);
    const struct shared_range fixed = static_shared();
    const struct lade_emulator_memory memory = {dynamic_shared, fixed.at, shared, fixed.bytes};
    lade_emulator_hazards_grid(stream, &memory);
    int n = (int)(block.x * block.y * block.z);
    unsigned count = 0;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                lade_emulator_hazards_block();
                if (count++ % 16 == 0 && fixed.at)
                    memset(fixed.at, 0xff, fixed.bytes);
                memset(dynamic_shared, 0xff, shared);
                lade_emulator_block.x = x;
                lade_emulator_block.y = y;
                lade_emulator_block.z = z;
                run_block(n, order);
            }
    set_dynamic_shared(0);
    lade_emulator_hazards_grid_end(stream);
    kernel_name = nullptr;
}
