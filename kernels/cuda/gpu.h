/* gpu.h - inside of the CUDA device: what its files share.
 *
 *     device.cu   which GPUs there are; open, close, memory in numbers
 *     memory.cu   alloc and free out of the reserve (pages.cu) or the driver; host memory; work space
 *     queues.cu   uploads and downloads, fences, recordings
 *     ops         embed.cu (embedding, norm, sums), matmul.cu, attention.cu, deltanet.cu, route.cu,
 *                 tables.cu, moe.cu, topk.cu: checks, work space and launches; kernels beside them
 *     weights.h, blocks.h, one.h, run.h, few.h, many.h   weights on the card and products with them
 *     blas.cu, dense.cu   cuBLAS, and products by it
 *
 * Every function here returns 0 or -1 with err filled, as in kernels.h, unless it says otherwise. */
#ifndef LADE_CUDA_GPU_H
#define LADE_CUDA_GPU_H

#include <pthread.h>
#include <stdint.h>

#include "kernels/cuda/launch.h"

extern "C" {
#include "kernels/blocks.h"
#include "kernels/kernels.h"
}

struct gpu_arena;  /* arena.cu */
struct gpu_pages;  /* pages.cu */
struct gpu_blas;   /* blas.h */
struct gpu_expert; /* tables.cu: an entry of a table of experts, and copies of tables */
struct gpu_table;

enum { GPU_FENCES = 1024, GPU_RING = 16, GPU_RING_BYTES = 64 << 10, GPU_STAGE_BYTES = 8 << 20 };

/* Allocations of the driver, in no order. */
struct gpu_extent {
    unsigned char *addr;
    size_t bytes;
};
struct gpu_extents {
    struct gpu_extent *extent;
    int n, room;
};

struct gpu_fence {
    lade_fence number; /* 0: never used */
    cudaEvent_t event;
};

struct lade_device {
    int gpu, major, minor, sms;
    size_t shared_max; /* dynamic shared memory a block may ask for */
    size_t cache;      /* bytes of the second one */
    bool exact;
    char title[160], blas_title[160]; /* without and with cuBLAS */
    size_t cap, fixed;

    cudaStream_t compute, up, down, misc; /* misc: clears what alloc() hands out */
    uint64_t launches;                    /* of kernels, so far */
    uint64_t last_delta;                  /* the one that last wrote a delta-net's state */

    pthread_mutex_t lock;               /* guards all down to the next blank line */
    size_t reserve;                     /* bytes taken of the driver for alloc() */
    size_t held;                        /* beyond `fixed` and the reserve */
    size_t peak;                        /* of the two together */
    struct gpu_pages *pages;            /* of the reserve; NULL: each alloc() asks the driver */
    struct gpu_extents extents, pinned; /* device memory beyond the reserve, host memory */
    struct gpu_extents mapped;          /* the pinned memory that pin_pages() made */
    struct gpu_fence fences[GPU_FENCES];
    lade_fence last_fence;
    bool lost;
    char lost_text[200];
    char gave_text[200]; /* see gpu_gave() */

    unsigned char *ring; /* pinned: GPU_RING slots for small uploads */
    cudaEvent_t ring_free[GPU_RING];
    int ring_next;
    unsigned char *stage; /* pinned, two of GPU_STAGE_BYTES, for large copies of other memory */
    cudaEvent_t stage_free[2];

    unsigned char *work; /* scratch of the ops */
    size_t work_bytes;
    bool recording;
    uint16_t *books;       /* codebooks of ggml's formats: enum gpu_book */
    unsigned *counters;    /* [GPU_COUNTERS], zero between kernels */
    struct gpu_blas *blas; /* NULL: not there, or of no use here */
    struct gpu_table *tables;
    struct gpu_expert *table_room; /* of those that prepare() made */
    uint64_t table_calls;
};

enum { GPU_COUNTERS = 1024 };

/* Fills err with what the runtime says of `code` ("WHAT: WHY; DO"), notes a lost device, is -1. */
int gpu_fail(struct lade_device *dev, const char *what, cudaError_t code, char *err);

/* Makes the device current for this thread. Every function of the table starts with it. */
int gpu_enter(struct lade_device *dev, char *err);

/* cudaError_t to 0 or -1: `return gpu_check(dev, "embed", LADE_LAUNCH(...), err)`. */
static inline int gpu_check(struct lade_device *dev, const char *what, cudaError_t code, char *err)
{
    return code == cudaSuccess ? 0 : gpu_fail(dev, what, code, err);
}

/* The same of a call whose caller cannot fail, most of which give something back: a lost device is
 * noted, too; any other error is a fault here or has cost memory, and the next sync() tells it, once.
 * No result of a CUDA call goes elsewhere than to one of these, to a test or into err: the emulator's
 * types are [[nodiscard]], so that the compiler says where one does. */
void gpu_gave(struct lade_device *dev, const char *what, cudaError_t code);

/* An error that was dealt with must not turn up in a later call. What this returns is that error. */
static inline void gpu_forget_error(void)
{
    (void)cudaGetLastError();
}

/* Cuts pieces, aligned to 256 bytes, out of the work space of one op. The next op may overwrite
 * them: all ops are in one queue. Describe the pieces, then commit: the pointers are set there. */
struct gpu_carve {
    struct {
        void **out;
        size_t at;
    } piece[16];
    int n;
    size_t bytes;
    bool overflow;
};
void gpu_carve_add(struct gpu_carve *c, void *out, size_t count, size_t size);
int gpu_carve_commit(struct lade_device *dev, struct gpu_carve *c, char *err);
size_t gpu_carve_bytes(const struct gpu_carve *c); /* SIZE_MAX on overflow */

/* arena.cu: pieces of a run of `bytes` bytes, first fit. Not thread-safe. Offsets and sizes are
 * multiples of 256; take() returns SIZE_MAX where nothing fits. */
struct gpu_arena *gpu_arena_open(size_t bytes);
void gpu_arena_close(struct gpu_arena *a);
size_t gpu_arena_take(struct gpu_arena *a, size_t bytes);
size_t gpu_arena_give(struct gpu_arena *a, size_t offset); /* the piece's bytes; 0: there is none */

/* pages.cu: the reserve. open() takes `bytes` of a card that has `card`; where the driver cannot do
 * that, dev->pages stays NULL. take() is alloc() without clearing; give() is false where the
 * address is not of the reserve. */
int gpu_pages_open(struct lade_device *dev, size_t bytes, size_t card, char *err);
void gpu_pages_close(struct lade_device *dev);
int gpu_pages_take(struct lade_device *dev, void **addr, size_t bytes, char *err);
bool gpu_pages_give(struct lade_device *dev, void *addr);

/* memory.cu, under the lock: whether so much more is within the cap; notes the peak. */
bool gpu_fits(const struct lade_device *dev, size_t more);
void gpu_note_peak(struct lade_device *dev);
/* Fills err: so much more does not fit beside `used`; is -1. */
int gpu_too_much(const struct lade_device *dev, size_t more, size_t used, char *err);

/* The part of struct lade_ops that each file brings. */
int gpu_list(struct lade_gpu *gpus, int max, int *n, char *err);
int gpu_open(struct lade_device **dev, const struct lade_device_config *cfg, char *err);
void gpu_close(struct lade_device *dev);
const char *gpu_describe(const struct lade_device *dev);
bool gpu_lost(struct lade_device *dev);
int gpu_memory(struct lade_device *dev, struct lade_device_memory *out, char *err);
int gpu_measure(struct lade_device *dev, struct lade_device_rates *out, char *err);

int gpu_reserve(struct lade_device *dev, size_t bytes, char *err);

size_t gpu_workspace(const struct lade_limits *limits);
int gpu_prepare(struct lade_device *dev, const struct lade_limits *limits, char *err);
int gpu_alloc(struct lade_device *dev, void **addr, size_t bytes, char *err);
void gpu_free(struct lade_device *dev, void *addr);
int gpu_host_alloc(struct lade_device *dev, void **host, size_t bytes, char *err);
void gpu_host_free(struct lade_device *dev, void *host);
int gpu_pin(struct lade_device *dev, void *host, size_t bytes, char *err);
void gpu_unpin(struct lade_device *dev, void *host);

/* Functions of a library that the plug-in is not linked to: each goes to its place; false where one
 * is missing. */
struct gpu_symbol {
    const char *name;
    void *place;
};
bool gpu_find_symbols(const struct gpu_symbol *symbols, size_t n,
                      void *(*find)(void *library, const char *name), void *library);

void gpu_host_give(struct lade_device *dev, void *host); /* of gpu_host_alloc(); not listed */
bool gpu_is_pinned(struct lade_device *dev, const void *host, size_t bytes);

int gpu_queues_open(struct lade_device *dev, char *err);
void gpu_queues_close(struct lade_device *dev);
int gpu_upload(struct lade_device *dev, void *dst, const void *host, size_t bytes, char *err);
int gpu_download(struct lade_device *dev, void *host, const void *src, size_t bytes, char *err);
int gpu_copy(struct lade_device *dev, void *dst, const void *src, size_t bytes, char *err);
int gpu_zero(struct lade_device *dev, void *dst, size_t bytes, char *err);
int gpu_sync(struct lade_device *dev, char *err);
int gpu_mark(struct lade_device *dev, lade_fence *fence, char *err);
int gpu_upload_async(struct lade_device *dev, void *dst, const void *host, size_t bytes,
                     lade_fence after, lade_fence *fence, char *err);
int gpu_download_async(struct lade_device *dev, void *host, const void *src, size_t bytes,
                       lade_fence after, lade_fence *fence, char *err);
int gpu_wait(struct lade_device *dev, lade_fence fence, char *err);
int gpu_reached(struct lade_device *dev, lade_fence fence, bool *yes, char *err);
int gpu_finish(struct lade_device *dev, lade_fence fence, char *err);
int gpu_record_begin(struct lade_device *dev, char *err);
int gpu_record_end(struct lade_device *dev, struct lade_recording **out, char *err);
int gpu_replay(struct lade_device *dev, struct lade_recording *r, char *err);
void gpu_record_free(struct lade_device *dev, struct lade_recording *r);
void gpu_record_abandon(struct lade_device *dev); /* drops the recording under way */

int gpu_table(struct lade_device *dev, const struct lade_expert *experts, int n_experts,
              uint64_t version, char *err);
size_t gpu_tables_bytes(const struct lade_limits *limits);
int gpu_tables_prepare(struct lade_device *dev, const struct lade_limits *limits, char *err);
void gpu_tables_close(struct lade_device *dev);

int gpu_embed(struct lade_device *dev, float *y, const struct lade_matrix *table,
              const int32_t *ids, int n, char *err);
int gpu_embed_at(struct lade_device *dev, float *y, const struct lade_matrix *table,
                 const int32_t *ids, int n, char *err);
int gpu_rmsnorm(struct lade_device *dev, float *y, float *x, const float *add, const float *w,
                int n, int dim, float eps, char *err);
int gpu_add(struct lade_device *dev, float *y, const float *x, size_t count, char *err);
int gpu_matmul(struct lade_device *dev, const struct lade_matmul *jobs, int n_jobs, int n,
               char *err);
int gpu_project(struct lade_device *dev, const struct lade_project *p, char *err);
int gpu_attention(struct lade_device *dev, const struct lade_attention *a, char *err);
int gpu_deltanet(struct lade_device *dev, const struct lade_deltanet *d, char *err);
int gpu_route(struct lade_device *dev, const struct lade_route *r, char *err);
int gpu_router(struct lade_device *dev, const struct lade_router *r, char *err);
int gpu_moe(struct lade_device *dev, const struct lade_moe *m, char *err);
int gpu_topk(struct lade_device *dev, const struct lade_topk *t, char *err);

/* Work space of the largest op of each kind within the limits, as carved by the ops
 * themselves; SIZE_MAX on overflow. */
size_t gpu_embed_work(const struct lade_limits *l);
size_t gpu_matmul_work(const struct lade_limits *l);
size_t gpu_dense_work(const struct lade_limits *l);
size_t gpu_attention_work(const struct lade_limits *l);
size_t gpu_deltanet_work(const struct lade_limits *l);
size_t gpu_moe_work(const struct lade_limits *l);
size_t gpu_topk_work(const struct lade_limits *l);

static inline int gpu_min(int a, int b)
{
    return a < b ? a : b;
}

static inline int gpu_up(int a, int b) /* a / b rounded up */
{
    return (a - 1) / b + 1;
}

#endif
