#include "engine/plan/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/error.h"

enum { MAX_GPUS = 16, NVML_OK = 0, MAX_PROCESSES = 256 };

/* Layouts of NVIDIA's documented C interface; handles are opaque. */
typedef void *device_handle;
struct memory_info {
    unsigned long long total, free, used;
};
struct utilization {
    unsigned gpu, memory;
};
struct process_info {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

struct lade_nvml {
    void *library;
    int n;
    device_handle device[MAX_GPUS];
    /* required */
    int (*init)(void);
    int (*shutdown)(void);
    int (*count)(unsigned *n);
    int (*by_index)(unsigned i, device_handle *out);
    int (*memory)(device_handle d, struct memory_info *out);
    /* optional */
    int (*name)(device_handle d, char *out, unsigned size);
    int (*busy)(device_handle d, struct utilization *out);
    int (*processes)(device_handle d, unsigned *n, struct process_info *out);
};

/* dlsym gives an object pointer; copying its bytes is the way to a function pointer that C allows. */
static bool symbol(struct lade_nvml *n, const char *name, void *function)
{
    void *p = dlsym(n->library, name);
    memcpy(function, &p, sizeof p);
    return p != NULL;
}

static bool bind_symbols(struct lade_nvml *n)
{
    symbol(n, "nvmlDeviceGetName", &n->name);
    symbol(n, "nvmlDeviceGetUtilizationRates", &n->busy);
    symbol(n, "nvmlDeviceGetComputeRunningProcesses_v3", &n->processes);
    return symbol(n, "nvmlInit_v2", &n->init) && symbol(n, "nvmlShutdown", &n->shutdown) &&
           symbol(n, "nvmlDeviceGetCount_v2", &n->count) &&
           symbol(n, "nvmlDeviceGetHandleByIndex_v2", &n->by_index) &&
           symbol(n, "nvmlDeviceGetMemoryInfo", &n->memory);
}

static int start(struct lade_nvml *n, char *reason)
{
    unsigned count = 0;
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return lade_fail(reason, "libnvidia-ml.so.1: not on this machine; install NVIDIA's driver "
                                 "if it has a GPU");
    if (!bind_symbols(n))
        return lade_fail(reason, "libnvidia-ml.so.1: lacks functions of driver 450 and later; "
                                 "update NVIDIA's driver");
    int rc = n->init();
    if (rc != NVML_OK) {
        n->shutdown = NULL;
        return lade_fail(reason,
                         "libnvidia-ml.so.1: nvmlInit failed with %d; check that the driver "
                         "is loaded",
                         rc);
    }
    if ((rc = n->count(&count)) != NVML_OK || count == 0)
        return lade_fail(reason, "libnvidia-ml.so.1: reports no GPU (%d); check nvidia-smi", rc);
    for (unsigned i = 0; i < count && n->n < MAX_GPUS; i++)
        if (n->by_index(i, &n->device[n->n]) == NVML_OK)
            n->n++;
    if (n->n == 0)
        return lade_fail(reason,
                         "libnvidia-ml.so.1: none of %u GPUs can be opened; check the "
                         "permissions of /dev/nvidia*",
                         count);
    return 0;
}

struct lade_nvml *lade_nvml_open(char *reason)
{
    struct lade_nvml *n = calloc(1, sizeof *n);
    if (!n) {
        lade_fail(reason, "libnvidia-ml.so.1: no memory to open it; free some");
        return NULL;
    }
    if (start(n, reason) != 0) {
        lade_nvml_close(n);
        return NULL;
    }
    return n;
}

void lade_nvml_close(struct lade_nvml *n)
{
    if (!n)
        return;
    if (n->shutdown)
        n->shutdown();
    if (n->library)
        dlclose(n->library);
    free(n);
}

int lade_nvml_count(const struct lade_nvml *n)
{
    return n ? n->n : 0;
}

static uint64_t own_memory(struct lade_nvml *n, device_handle d)
{
    struct process_info list[MAX_PROCESSES];
    unsigned count = MAX_PROCESSES, self = (unsigned)getpid();
    if (!n->processes || n->processes(d, &count, list) != NVML_OK)
        return LADE_NVML_UNKNOWN;
    for (unsigned i = 0; i < count && i < MAX_PROCESSES; i++)
        if (list[i].pid == self)
            return list[i].used; /* all ones where the driver does not tell: unknown */
    /* In a container the driver counts with the host's process numbers; only an empty list
     * proves that nothing is ours. */
    return count == 0 ? 0 : LADE_NVML_UNKNOWN;
}

int lade_nvml_sample(struct lade_nvml *n, int i, struct lade_nvml_gpu *out)
{
    struct memory_info m;
    struct utilization u;
    if (!n || i < 0 || i >= n->n)
        return -1;
    *out =
        (struct lade_nvml_gpu){.total = LADE_NVML_UNKNOWN, .used = LADE_NVML_UNKNOWN, .busy = -1};
    device_handle d = n->device[i];
    if (n->memory(d, &m) != NVML_OK)
        return -1;
    out->total = m.total;
    out->used = m.used;
    out->ours = own_memory(n, d);
    if (n->busy && n->busy(d, &u) == NVML_OK)
        out->busy = (int)u.gpu;
    if (!n->name || n->name(d, out->name, sizeof out->name) != NVML_OK)
        snprintf(out->name, sizeof out->name, "GPU %d", i);
    return 0;
}
