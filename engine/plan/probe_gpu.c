/* probe_gpu.c - the GPUs: through the plug-in, which is what lade can use, or through NVML, which
 * only sees them. */
#include <stdio.h>
#include <string.h>

#include "engine/plan/nvml.h"
#include "engine/plan/probe.h"
#include "kernels/plugin.h"

static void take(struct lade_machine_gpu *to, const struct lade_gpu *from)
{
    *to = (struct lade_machine_gpu){
        .total = from->total,
        .free = from->free,
        .own = from->own,
        .major = from->major,
        .minor = from->minor,
        .memory_gbps = from->memory_rate / 1e9,
        .upload_gbps = from->link_rate / 1e9,
        .download_gbps = from->link_rate / 1e9,
    };
    snprintf(to->name, sizeof to->name, "%.79s", from->name);
    snprintf(to->bus, sizeof to->bus, "%.23s", from->bus);
}

/* A GPU that cannot be opened keeps the numbers of its data sheet. */
static void measure_one(struct lade_machine_gpu *gpu, const struct lade_ops *ops, int number)
{
    struct lade_device_config config = {.gpu = number};
    struct lade_device_rates rates;
    struct lade_device *dev = NULL;
    if (!ops->measure || ops->open(&dev, &config, NULL))
        return;
    if (!ops->measure(dev, &rates, NULL)) {
        gpu->memory_gbps = rates.memory / 1e9;
        gpu->upload_gbps = rates.upload / 1e9;
        gpu->download_gbps = rates.download / 1e9;
        memcpy(gpu->library, rates.library, sizeof gpu->library);
        gpu->measured = true;
    }
    ops->close(dev);
}

/* What is there all the same. */
static void ask_nvml(struct lade_machine *probe)
{
    char reason[LADE_ERR];
    struct lade_nvml *nvml = lade_nvml_open(reason);
    for (int i = 0; i < lade_nvml_count(nvml) && probe->n_gpus < LADE_MACHINE_GPUS; i++) {
        struct lade_nvml_gpu seen;
        if (lade_nvml_sample(nvml, i, &seen))
            continue;
        struct lade_machine_gpu *gpu = &probe->gpu[probe->n_gpus++];
        *gpu = (struct lade_machine_gpu){0};
        snprintf(gpu->name, sizeof gpu->name, "%.79s", seen.name);
        if (seen.total != LADE_NVML_UNKNOWN && seen.used != LADE_NVML_UNKNOWN &&
            seen.used <= seen.total) {
            gpu->total = seen.total;
            gpu->free = seen.total - seen.used;
        }
    }
    lade_nvml_close(nvml);
}

void lade_probe_gpus(struct lade_machine *probe, const char *plugin, bool measure)
{
    struct lade_gpu list[LADE_MACHINE_GPUS];
    int n = 0;
    probe->n_gpus = 0;
    probe->gpu_missing[0] = '\0';
    if (!plugin)
        lade_set_error(probe->gpu_missing, "lade-cuda.so: is not installed; build it where nvcc "
                                           "is, or run on the CPU");
    const struct lade_ops *ops = plugin ? lade_plugin_open(plugin, probe->gpu_missing) : NULL;
    if (!ops || ops->list(list, LADE_MACHINE_GPUS, &n, probe->gpu_missing)) {
        if (measure)
            ask_nvml(probe);
        return;
    }
    for (int i = 0; i < n && i < LADE_MACHINE_GPUS; i++) {
        struct lade_machine_gpu *gpu = &probe->gpu[probe->n_gpus++];
        take(gpu, &list[i]);
        if (measure)
            measure_one(gpu, ops, i);
    }
}
