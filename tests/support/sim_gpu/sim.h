/* sim.h - inside of the simulated GPU. */
#ifndef LADE_TESTS_SIM_H
#define LADE_TESTS_SIM_H

#include <pthread.h>
#include <stdatomic.h>

#include "kernels/kernels.h"
#include "sim_gpu.h"

enum { SIM_DEVICES = 8 };

/* Bytes that open devices hold of each GPU (memory.c): of the first SIM_DEVICES. */
extern atomic_size_t sim_held[SIM_DEVICES];

enum { SIM_COMPUTE, SIM_UP, SIM_DOWN, SIM_QUEUES };

/* An allocation. `real` is what the CPU computes on; `seen` is the address that callers have. */
struct sim_block {
    char *real, *seen;
    size_t bytes;
    bool host;     /* from host_alloc or pin: real == seen */
    bool borrowed; /* from pin */
};

/* Bytes that a command reads or writes, by real address. */
struct sim_range {
    const char *at;
    size_t bytes;
    bool write;
};

/* What the device knows of a table of experts; commands that use it hold it. */
struct sim_table {
    const struct lade_expert *key;
    int n, holders;
    uint64_t version, frees;    /* frees: of the device, when the addresses were last checked */
    struct lade_expert *source; /* as the caller had it */
    struct lade_expert *real;   /* with real addresses */
    struct sim_range *ranges;   /* of all experts that are there */
    int n_ranges;
    struct sim_table *next;
};

struct sim_command;
typedef int sim_run(struct lade_device *dev, struct sim_command *c, char *err);

enum { SIM_RANGES = 40 };

/* One piece of queued work. */
struct sim_command {
    sim_run *run;
    const char *what;
    uint64_t before[SIM_QUEUES]; /* positions in the queues that come before it, its own too */
    struct sim_range range[SIM_RANGES];
    int n_ranges;
    const struct lade_expert *table_key; /* moe */
    struct sim_table *table;
    double ready;                    /* when the host queued it, virtual seconds */
    lade_fence after;                /* it waits for this one */
    size_t device_bytes, link_bytes; /* moved; run() may correct them */
    void *copy;                      /* owned: staged bytes, ids, job lists */
    size_t copy_bytes;
    union {
        struct {
            void *dst;
            const void *src;
            size_t bytes;
        } copy_args;
        struct {
            float *y, *x;
            const float *add, *w;
            int n, dim;
            float eps;
            size_t count;
        } rows;
        struct {
            float *y;
            struct lade_matrix table;
            const int32_t *ids;
            int n;
        } embed;
        struct {
            int n_jobs, n;
        } matmul;                    /* jobs and matrices in `copy` */
        struct lade_project project; /* the same */
        struct lade_attention attention;
        struct lade_deltanet deltanet;
        struct lade_route route;
        struct {
            struct lade_router op;
            struct lade_matrix w;
        } router;
        struct {
            struct lade_moe op;
            struct lade_expert shared;
        } moe;
        struct lade_topk topk;
    };
};

struct sim_queue {
    struct sim_command **waiting; /* a ring of `room` */
    size_t room, first, n;
    uint64_t queued, done;       /* commands so far; positions count from 1 */
    uint64_t before[SIM_QUEUES]; /* of the last one queued */
    double clock;                /* virtual seconds when the last one was done */
};

/* A fence is a place in a queue. */
struct sim_fence {
    int queue;
    uint64_t position;
    uint64_t before[SIM_QUEUES];
    double time; /* when it was reached */
    int polls;
};

struct lade_recording {
    struct sim_command **commands;
    size_t n, room;
};

/* Of all devices, which share one clock and its counts. */
extern pthread_mutex_t sim_lock;

struct lade_device {
    const struct lade_ops *cpu;
    struct lade_device *cpu_dev;
    int number;
    size_t cap, used, peak, fixed, reserve, allocated, workspace;
    struct sim_block *blocks; /* by real address */
    int n_blocks, room_blocks;
    uint64_t frees;
    struct sim_queue queue[SIM_QUEUES];
    struct sim_fence *fences; /* fence i is fences[i - 1] */
    size_t n_fences, room_fences;
    struct sim_table *tables;
    struct lade_recording *recording;
    struct lade_limits limits;
    struct lade_device *next; /* of those that are open */
    bool prepared, lost;
    char error[LADE_ERR]; /* of work that ran later; sticks */
    char title[80];
};

/* ---- memory.c ---- */

/* The real address of [addr, addr + bytes), or NULL with err filled: memory of the host, freed
 * memory, a range that leaves its allocation. */
void *sim_real(struct lade_device *dev, const char *what, const void *addr, size_t bytes,
               bool *host, char *err);
/* Whether it is pinned memory of the host, of any device that is open; and which ones are. */
bool sim_is_pinned(const void *host, size_t bytes);
void sim_opened(struct lade_device *dev);
void sim_closed(struct lade_device *dev);
int sim_alloc(struct lade_device *dev, void **addr, size_t bytes, char *err);
void sim_free(struct lade_device *dev, void *addr);
int sim_host_alloc(struct lade_device *dev, void **host, size_t bytes, char *err);
void sim_host_free(struct lade_device *dev, void *host);
int sim_pin(struct lade_device *dev, void *host, size_t bytes, char *err);
void sim_unpin(struct lade_device *dev, void *host);
/* Counts bytes of device memory taken; fails beyond the cap. */
int sim_take(struct lade_device *dev, size_t bytes, const char *what, char *err);
void sim_give(struct lade_device *dev, size_t bytes);
/* The same for what comes out of the reserve, as far as that reaches. */
int sim_take_alloc(struct lade_device *dev, size_t bytes, const char *what, char *err);
void sim_give_alloc(struct lade_device *dev, size_t bytes);
int sim_reserve(struct lade_device *dev, size_t bytes, char *err);
void sim_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- queue.c ---- */

/* Locks, and fails where the device is lost or earlier work failed. On failure it is unlocked. */
int sim_enter(struct lade_device *dev, char *err);
int sim_leave(int result);
bool sim_lost(struct lade_device *dev);
/* The same for functions that recordings cannot hold. */
int sim_enter_plain(struct lade_device *dev, char *err);
/* The same for those of them that lade_sim.fail_call counts. */
int sim_enter_counted(struct lade_device *dev, char *err);
/* Whether this is the call that lade_sim.fail_call says. */
bool sim_fails(char *err);

/* A new command, to be given to sim_put or sim_drop. NULL with err filled. */
struct sim_command *sim_command(const char *what, sim_run *run, char *err);
void sim_drop(struct sim_command *c);
/* Notes that the command may read or write `bytes` and does so with `moved` of them; returns the
 * real address, or NULL with err filled. */
void *sim_use(struct lade_device *dev, struct sim_command *c, const void *addr, size_t bytes,
              size_t moved, bool write, char *err);
/* Queues it (or records it), after a check for races. Owns it in any case. */
int sim_put(struct lade_device *dev, struct sim_command *c, int queue, lade_fence *fence,
            char *err);
/* Does all work up to a fence, or all. */
int sim_reach(struct lade_device *dev, lade_fence fence, char *err);
int sim_drain(struct lade_device *dev, char *err);
void sim_discard(struct lade_device *dev); /* frees what is queued, undone */
int sim_mark(struct lade_device *dev, lade_fence *fence, char *err);
int sim_wait(struct lade_device *dev, lade_fence fence, char *err);
int sim_reached(struct lade_device *dev, lade_fence fence, bool *yes, char *err);
int sim_finish(struct lade_device *dev, lade_fence fence, char *err);
int sim_sync(struct lade_device *dev, char *err);
int sim_record_begin(struct lade_device *dev, char *err);
int sim_record_end(struct lade_device *dev, struct lade_recording **out, char *err);
int sim_replay(struct lade_device *dev, struct lade_recording *r, char *err);
void sim_record_free(struct lade_device *dev, struct lade_recording *r);
/* Whether queued work uses a block. */
bool sim_in_use(const struct lade_device *dev, const struct sim_block *b);

/* ---- table.c ---- */

int sim_table(struct lade_device *dev, const struct lade_expert *experts, int n, uint64_t version,
              char *err);
/* The table that moe() of this address uses now, held for a command; NULL with err filled. */
struct sim_table *sim_table_hold(struct lade_device *dev, const struct lade_expert *key, char *err);
void sim_table_release(struct sim_table *t);
int sim_table_update(struct lade_device *dev, const struct lade_expert *experts, int n,
                     uint64_t version, char *err);

/* ---- copies.c ---- */

/* Whether memory of the host, not of the device, was given; fills err. */
bool sim_is_host(const char *what, const void *host, char *err);
int sim_upload(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err);
int sim_download(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err);
int sim_copy(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err);
int sim_zero(struct lade_device *dev, void *dst, size_t bytes, char *err);
int sim_upload_async(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                     lade_fence after, lade_fence *fence, char *err);
int sim_download_async(struct lade_device *dev, void *host, const void *src, size_t bytes,
                       lade_fence after, lade_fence *fence, char *err);

/* ---- ops.c ---- */

int sim_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err);
int sim_embed_at(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err);
int sim_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err);
int sim_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err);
int sim_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err);
int sim_project(struct lade_device *dev, const struct lade_project *p, char *err);
int sim_attention(struct lade_device *dev, const struct lade_attention *a, char *err);
int sim_deltanet(struct lade_device *dev, const struct lade_deltanet *d, char *err);
int sim_route(struct lade_device *dev, const struct lade_route *r, char *err);
int sim_router(struct lade_device *dev, const struct lade_router *r, char *err);
int sim_moe(struct lade_device *dev, const struct lade_moe *m, char *err);
int sim_topk(struct lade_device *dev, const struct lade_topk *t, char *err);

#endif
