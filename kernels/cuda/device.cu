/* Which GPUs there are, and the life of one. */
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/blocks.h"
#include "kernels/cuda/products.h"

extern "C" {
#include "kernels/codebooks.h"
}

static const double gib = 1024.0 * 1024 * 1024;

/* The context: 525 MiB on an H100 and on an H200. Where NVML is not to be had, or another program
 * has taken memory at the same moment, this much is assumed. */
static const size_t usual_context = (size_t)576 << 20;

/* ---- errors ---------------------------------------------------------------------------------- */

/* After some errors every later call fails, too: then the device is lost to this process. */
static bool is_lost(void)
{
    size_t free, total;
    gpu_forget_error();
    return cudaMemGetInfo(&free, &total) != cudaSuccess;
}

int gpu_fail(struct lade_device *dev, const char *what, cudaError_t code, char *err)
{
    if (code != cudaErrorMemoryAllocation && is_lost()) {
        pthread_mutex_lock(&dev->lock);
        if (!dev->lost) {
            snprintf(dev->lost_text, sizeof dev->lost_text,
                     "GPU %d: lost at %s: %s; start lade again to use it", dev->gpu, what,
                     cudaGetErrorString(code));
            __atomic_store_n(&dev->lost, true, __ATOMIC_RELEASE);
        }
        pthread_mutex_unlock(&dev->lock);
        return lade_fail(err, "%s", dev->lost_text);
    }
    gpu_forget_error();
    if (code == cudaErrorMemoryAllocation)
        return lade_fail(err,
                         "GPU %d: out of memory at %s; close other programs or lower "
                         "--gpu-memory",
                         dev->gpu, what);
    return lade_fail(err, "GPU %d: %s failed: %s; use --cpu and report this", dev->gpu, what,
                     cudaGetErrorString(code));
}

void gpu_gave(struct lade_device *dev, const char *what, cudaError_t code)
{
    char text[LADE_ERR];
    if (code == cudaSuccess || gpu_lost(dev))
        return;
    gpu_fail(dev, what, code, text);
    pthread_mutex_lock(&dev->lock);
    if (!dev->gave_text[0])
        snprintf(dev->gave_text, sizeof dev->gave_text, "%.199s", text);
    pthread_mutex_unlock(&dev->lock);
}

bool gpu_lost(struct lade_device *dev)
{
    return __atomic_load_n(&dev->lost, __ATOMIC_ACQUIRE);
}

int gpu_enter(struct lade_device *dev, char *err)
{
    if (gpu_lost(dev))
        return lade_fail(err, "%s", dev->lost_text);
    return gpu_check(dev, "selecting the device", cudaSetDevice(dev->gpu), err);
}

/* ---- NVML ------------------------------------------------------------------------------------ */

/* The driver's management library knows a card's memory without a context on it, which would
 * take hundreds of MB itself. It is part of the driver; without it some numbers are missing. */
struct nvml_memory {
    unsigned long long total, free, used;
};

struct nvml {
    void *lib;
    int (*init)(void);
    int (*shutdown)(void);
    int (*find)(const char *bus, void **card);
    int (*memory)(void *card, struct nvml_memory *out);
    int (*generation)(void *card, unsigned *out);
    int (*width)(void *card, unsigned *out);
};

bool gpu_find_symbols(const struct gpu_symbol *symbols, size_t n,
                      void *(*find)(void *library, const char *name), void *library)
{
    for (size_t i = 0; i < n; i++) {
        void *f = find(library, symbols[i].name);
        if (!f)
            return false;
        memcpy(symbols[i].place, &f, sizeof f);
    }
    return true;
}

static bool nvml_open(struct nvml *n)
{
    *n = (struct nvml){};
    n->lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->lib)
        return false;
    const struct gpu_symbol symbols[] = {
        {"nvmlInit_v2", &n->init},
        {"nvmlShutdown", &n->shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", &n->find},
        {"nvmlDeviceGetMemoryInfo", &n->memory},
        {"nvmlDeviceGetMaxPcieLinkGeneration", &n->generation},
        {"nvmlDeviceGetMaxPcieLinkWidth", &n->width},
    };
    if (gpu_find_symbols(symbols, sizeof symbols / sizeof *symbols, dlsym, n->lib) &&
        n->init() == 0)
        return true;
    dlclose(n->lib);
    return false;
}

static void nvml_close(struct nvml *n)
{
    n->shutdown();
    dlclose(n->lib);
}

/* Bytes in use on a card by all programs; false where that cannot be told. */
static bool nvml_used(int gpu, size_t *used)
{
    struct nvml n;
    char bus[32];
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, gpu) != cudaSuccess || !nvml_open(&n))
        return false;
    void *card;
    struct nvml_memory m;
    bool found = n.find(bus, &card) == 0 && n.memory(card, &m) == 0;
    if (found)
        *used = (size_t)m.used;
    nvml_close(&n);
    return found;
}

/* ---- list ------------------------------------------------------------------------------------ */

static int count_gpus(int *n, char *err)
{
    int driver = 0, runtime = 0;
    cudaError_t code = cudaDriverGetVersion(&driver);
    if (code != cudaSuccess || driver == 0)
        return lade_fail(err, "GPU: this machine has no NVIDIA driver; install it, or use --cpu");
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess)
        runtime = CUDART_VERSION;
    code = cudaGetDeviceCount(n);
    gpu_forget_error();
    if (code == cudaErrorInsufficientDriver)
        return lade_fail(err,
                         "GPU: the NVIDIA driver is for CUDA %d.%d, older than this build's %d.%d; "
                         "update the driver, or use --cpu",
                         driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (code == cudaErrorNoDevice || (code == cudaSuccess && *n == 0))
        return lade_fail(err, "GPU: the driver finds no device; check it with nvidia-smi, or use "
                              "--cpu");
    if (code != cudaSuccess)
        return lade_fail(err, "GPU: the driver fails: %s; check it with nvidia-smi, or use --cpu",
                         cudaGetErrorString(code));
    return 0;
}

static void describe_link(const struct nvml *n, struct lade_gpu *g)
{
    void *card;
    struct nvml_memory m;
    if (n->find(g->bus, &card))
        return;
    if (n->memory(card, &m) == 0)
        g->free = (size_t)m.free;
    unsigned generation, width;
    if (n->generation(card, &generation) == 0 && n->width(card, &width) == 0)
        g->link_rate = 0.985e9 / 4 * ldexp(1.0, (int)generation - 1) * width; /* gen 3: 0.985e9 */
}

/* Machine code is built from compute capability 7.5 on. */
static bool is_too_old(const cudaDeviceProp *prop)
{
    return prop->major * 10 + prop->minor < 75;
}

static int fail_too_old(int gpu, const char *name, int major, int minor, char *err)
{
    return lade_fail(err,
                     "GPU %d: %s has compute capability %d.%d, at least 7.5 is needed; use --cpu",
                     gpu, name, major, minor);
}

int gpu_list(struct lade_gpu *gpus, int max, int *n, char *err)
{
    *n = 0;
    int count = 0;
    if (count_gpus(&count, err))
        return -1;
    struct nvml nvml;
    bool have_nvml = nvml_open(&nvml), usable = false;
    char why[LADE_ERR] = "";
    for (int i = 0; i < count && i < max; i++) {
        struct lade_gpu *g = &gpus[i];
        cudaDeviceProp prop;
        cudaError_t code = cudaGetDeviceProperties(&prop, i);
        *g = (struct lade_gpu){};
        if (code != cudaSuccess) { /* the others may be well */
            lade_fail(why, "GPU %d: cannot be read: %s; use --cpu", i, cudaGetErrorString(code));
            snprintf(g->name, sizeof g->name, "GPU that cannot be read");
            continue;
        }
        snprintf(g->name, sizeof g->name, "%.79s", prop.name);
        if (cudaDeviceGetPCIBusId(g->bus, sizeof g->bus, i) != cudaSuccess)
            g->bus[0] = '\0';
        g->major = prop.major;
        g->minor = prop.minor;
        g->total = g->free = prop.totalGlobalMem;
        g->own = usual_context;
        int clock = 0, bits = 0; /* kHz, of double data rate memory */
        if (cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, i) == cudaSuccess &&
            cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, i) == cudaSuccess)
            g->memory_rate = 2e3 * clock * bits / 8;
        if (have_nvml)
            describe_link(&nvml, g);
        if (is_too_old(&prop)) {
            g->free = 0; /* nothing of it can be used */
            fail_too_old(i, g->name, g->major, g->minor, why);
        }
        usable = usable || !is_too_old(&prop);
    }
    if (have_nvml)
        nvml_close(&nvml);
    gpu_forget_error();
    if (!usable && count > 0 && max > 0)
        return lade_fail(err, "%s", why);
    *n = count;
    return 0;
}

/* ---- open, close ----------------------------------------------------------------------------- */

static int upload_books(struct lade_device *dev, char *err)
{
    uint16_t books[GPU_BOOKS];
    memcpy(books + GPU_BOOK_IQ1, lade_iq1_grid, sizeof lade_iq1_grid);
    memcpy(books + GPU_BOOK_IQ2XXS, lade_iq2xxs_grid, sizeof lade_iq2xxs_grid);
    memcpy(books + GPU_BOOK_IQ2XS, lade_iq2xs_grid, sizeof lade_iq2xs_grid);
    memcpy(books + GPU_BOOK_IQ2S, lade_iq2s_grid, sizeof lade_iq2s_grid);
    memcpy(books + GPU_BOOK_IQ3XXS, lade_iq3xxs_grid, sizeof lade_iq3xxs_grid);
    memcpy(books + GPU_BOOK_IQ3S, lade_iq3s_grid, sizeof lade_iq3s_grid);
    return gpu_check(dev, "uploading tables",
                     cudaMemcpy(dev->books, books, sizeof books, cudaMemcpyHostToDevice), err);
}

/* What open() itself takes of the card. */
static int open_fixed(struct lade_device *dev, char *err)
{
    if (gpu_check(dev, "allocating tables", cudaMalloc((void **)&dev->books, GPU_BOOKS * 2), err) ||
        gpu_check(dev, "allocating counters",
                  cudaMalloc((void **)&dev->counters, GPU_COUNTERS * sizeof *dev->counters), err) ||
        gpu_check(dev, "clearing counters",
                  cudaMemset(dev->counters, 0, GPU_COUNTERS * sizeof *dev->counters), err))
        return -1;
    return upload_books(dev, err) || gpu_queues_open(dev, err) ? -1 : 0;
}

static int open_reserve(struct lade_device *dev, size_t wanted, char *err)
{
    size_t need, free, total, reserve;
    if (__builtin_add_overflow(wanted, LADE_GPU_ALIGN - 1, &reserve))
        reserve = SIZE_MAX;
    reserve = reserve / LADE_GPU_ALIGN * LADE_GPU_ALIGN;
    if (gpu_check(dev, "reading its memory", cudaMemGetInfo(&free, &total), err))
        return -1;
    if (__builtin_add_overflow(dev->fixed, reserve, &need) || (dev->cap && need > dev->cap))
        return lade_fail(err,
                         "GPU %d: needs %.2f GiB (%.2f of its own) but %.2f GiB are allowed by "
                         "--gpu-memory; raise it, or use --cpu",
                         dev->gpu, ((double)dev->fixed + (double)reserve) / gib, dev->fixed / gib,
                         dev->cap / gib);
    if (!dev->cap)
        dev->cap = dev->fixed + free;
    if (reserve > free)
        return lade_fail(err,
                         "GPU %d: needs %.2f GiB but %.2f GiB of %.2f are free; close other "
                         "programs that use it, or lower --gpu-memory",
                         dev->gpu, reserve / gib, free / gib, total / gib);
    return reserve ? gpu_pages_open(dev, reserve, total, err) : 0;
}

static int check_device(struct lade_device *dev, const cudaDeviceProp *prop, char *err)
{
    dev->major = prop->major;
    dev->minor = prop->minor;
    dev->sms = prop->multiProcessorCount;
    dev->shared_max = prop->sharedMemPerBlockOptin;
    dev->cache = (size_t)prop->l2CacheSize;
    snprintf(dev->title, sizeof dev->title, "%.79s, %.1f GiB", prop->name,
             prop->totalGlobalMem / gib);
    return is_too_old(prop) ? fail_too_old(dev->gpu, prop->name, prop->major, prop->minor, err) : 0;
}

int gpu_open(struct lade_device **out, const struct lade_device_config *cfg, char *err)
{
    *out = NULL;
    int n;
    if (count_gpus(&n, err))
        return -1;
    if (cfg->gpu < 0 || cfg->gpu >= n)
        return lade_fail(err, "GPU %d: this machine has %d; choose one from 0 to %d", cfg->gpu, n,
                         n - 1);
    struct lade_device *dev = (struct lade_device *)calloc(1, sizeof *dev);
    if (!dev)
        return lade_fail(err, "GPU %d: out of memory; close other programs", cfg->gpu);
    pthread_mutex_init(&dev->lock, NULL);
    dev->gpu = cfg->gpu;
    dev->exact = cfg->exact;
    dev->cap = cfg->memory_cap;

    size_t before = 0, after = 0, free, total;
    bool known = nvml_used(dev->gpu, &before);
    cudaDeviceProp prop;
    if (gpu_check(dev, "reading its properties", cudaGetDeviceProperties(&prop, dev->gpu), err) ||
        check_device(dev, &prop, err) || gpu_enter(dev, err) || open_fixed(dev, err) ||
        gpu_check(dev, "reading its memory", cudaMemGetInfo(&free, &total), err)) {
        gpu_close(dev);
        return -1;
    }
    known = known && nvml_used(dev->gpu, &after) && after > before &&
            after - before < 2 * usual_context;
    size_t used = total - free;
    dev->fixed = known ? after - before : used < usual_context ? used : usual_context;
    if (open_reserve(dev, cfg->reserve, err)) {
        gpu_close(dev);
        return -1;
    }
    *out = dev;
    return 0;
}

/* Takes back what a lost device could not be asked for, above all the RAM that it has pinned. Only what
 * is this device's: where it cannot even be selected, nothing. */
static void reset(int gpu)
{
    int selected = -1;
    if (cudaGetDevice(&selected) == cudaSuccess && selected == gpu &&
        cudaDeviceReset() != cudaSuccess)
        gpu_forget_error();
}

void gpu_close(struct lade_device *dev)
{
    if (!dev)
        return;
    /* What fails from here on has nobody left to be told to, but for a device that is lost: that one must be
     * reset. The others' work is done, or it would be known to be lost. */
    gpu_gave(dev, "selecting the device", cudaSetDevice(dev->gpu));
    gpu_gave(dev, "waiting", cudaDeviceSynchronize());
    gpu_blas_close(dev);
    gpu_tables_close(dev);
    gpu_queues_close(dev);
    for (int i = 0; i < dev->extents.n; i++)
        gpu_gave(dev, "freeing memory", cudaFree(dev->extents.extent[i].addr));
    for (int i = 0; i < dev->pinned.n; i++)
        gpu_host_give(dev, dev->pinned.extent[i].addr);
    gpu_pages_close(dev); /* and the work space, if it is there */
    gpu_gave(dev, "freeing memory", cudaFree(dev->books));
    gpu_gave(dev, "freeing memory", cudaFree(dev->counters));
    if (gpu_lost(dev))
        reset(dev->gpu);
    gpu_forget_error();
    free(dev->extents.extent);
    free(dev->pinned.extent);
    free(dev->mapped.extent);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

const char *gpu_describe(const struct lade_device *dev)
{
    return dev->blas ? dev->blas_title : dev->title;
}

/* ---- numbers --------------------------------------------------------------------------------- */

int gpu_memory(struct lade_device *dev, struct lade_device_memory *out, char *err)
{
    *out = (struct lade_device_memory){};
    if (gpu_enter(dev, err) ||
        gpu_check(dev, "reading its memory", cudaMemGetInfo(&out->free, &out->total), err))
        return -1;
    pthread_mutex_lock(&dev->lock);
    out->cap = dev->cap;
    out->used = dev->fixed + dev->reserve + dev->held;
    out->peak = dev->fixed + dev->peak;
    out->fixed = dev->fixed;
    pthread_mutex_unlock(&dev->lock);
    return 0;
}

/* Reads n x 16 bytes; writes only what never happens, so that the reads stay. */
__global__ static void read_memory(const uint4 *from, size_t n, unsigned *never)
{
    launch_wait();
    uint32_t all = 0;
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        uint4 v = from[i];
        all |= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (all == 0x12345678 && n == 1)
        *never = all;
}

struct timer {
    cudaEvent_t from, to;
};

/* Bytes per second of the last part of the compute queue; -1 on error. */
static int timer_rate(struct lade_device *dev, const struct timer *t, size_t bytes, double *rate,
                      char *err)
{
    float ms = 0;
    if (gpu_check(dev, "measuring", cudaEventRecord(t->to, dev->compute), err) ||
        gpu_check(dev, "measuring", cudaEventSynchronize(t->to), err) ||
        gpu_check(dev, "measuring", cudaEventElapsedTime(&ms, t->from, t->to), err))
        return -1;
    *rate = ms > 0 ? (double)bytes / (ms * 1e-3) : 0;
    return 0;
}

enum { MEASURE_COPY = 16 << 20, MEASURE_COPIES = 8, MEASURE_READS = 2 };

/* `card` has `bytes`, at least those of a copy. */
static int measure_all(struct lade_device *dev, const struct timer *t, void *card, size_t bytes,
                       void *host, struct lade_device_rates *out, char *err)
{
    cudaStream_t s = dev->compute;
    for (int down = 0; down < 2; down++) {
        for (int i = -1; i < MEASURE_COPIES; i++) { /* the first one is not counted */
            cudaError_t code = i ? cudaSuccess : cudaEventRecord(t->from, s);
            if (code == cudaSuccess)
                code = down ? cudaMemcpyAsync(host, card, MEASURE_COPY, cudaMemcpyDeviceToHost, s)
                            : cudaMemcpyAsync(card, host, MEASURE_COPY, cudaMemcpyHostToDevice, s);
            if (gpu_check(dev, "measuring the link", code, err))
                return -1;
        }
        if (timer_rate(dev, t, (size_t)MEASURE_COPIES * MEASURE_COPY,
                       down ? &out->download : &out->upload, err))
            return -1;
    }
    for (int i = -1; i < MEASURE_READS; i++) {
        if ((i == 0 && gpu_check(dev, "measuring", cudaEventRecord(t->from, s), err)) ||
            gpu_check(dev, "measuring memory",
                      LADE_LAUNCH(read_memory, dev->sms * 8, 512, 0, dev, (const uint4 *)card,
                                  bytes / 16, dev->counters),
                      err))
            return -1;
    }
    return timer_rate(dev, t, MEASURE_READS * bytes, &out->memory, err);
}

/* The second cache holds up to 128 MiB: only a long run shows memory. As much as there is. */
static int alloc_long(struct lade_device *dev, void **card, size_t *bytes, char *err)
{
    for (*bytes = (size_t)1 << 30; *bytes > MEASURE_COPY; *bytes /= 2)
        if (!gpu_alloc(dev, card, *bytes, NULL))
            return 0;
    return gpu_alloc(dev, card, *bytes, err);
}

/* Whether cuBLAS is there, on a card where it is of use. */
static void name_library(struct lade_device *dev, char out[24])
{
    const bool open = dev->blas;
    if (gpu_dense_tokens(dev) == INT_MAX)
        return;
    if (!open)
        gpu_blas_open(dev);
    if (dev->blas)
        snprintf(out, 24, "cuBLAS %d.%d", dev->blas->version / 10000,
                 dev->blas->version / 100 % 100);
    else
        snprintf(out, 24, "no cuBLAS");
    if (!open)
        gpu_blas_close(dev);
}

int gpu_measure(struct lade_device *dev, struct lade_device_rates *out, char *err)
{
    *out = (struct lade_device_rates){};
    struct timer t = {};
    void *card = NULL, *host = NULL;
    size_t bytes;
    int failed = gpu_enter(dev, err) || alloc_long(dev, &card, &bytes, err) ||
                 gpu_host_alloc(dev, &host, MEASURE_COPY, err) ||
                 gpu_check(dev, "measuring", cudaEventCreate(&t.from), err) ||
                 gpu_check(dev, "measuring", cudaEventCreate(&t.to), err) ||
                 measure_all(dev, &t, card, bytes, host, out, err);
    if (!failed)
        name_library(dev, out->library);
    if (t.from)
        gpu_gave(dev, "measuring", cudaEventDestroy(t.from));
    if (t.to)
        gpu_gave(dev, "measuring", cudaEventDestroy(t.to));
    gpu_free(dev, card);
    gpu_host_free(dev, host);
    return failed ? -1 : 0;
}
