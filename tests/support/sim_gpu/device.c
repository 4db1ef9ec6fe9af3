/* The simulated devices and the plug-in's symbol. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/plugin.h"

LADE_PLUGIN_EXPORT struct lade_sim lade_sim = {
    .devices = 1,
    .total = (size_t)80 << 30,
    .context = (size_t)64 << 20,
    .memory_rate = 1e12,
    .link_rate = 25e9,
    .launch = 3e-6,
};

__attribute__((constructor)) static void take_environment(void)
{
    const char *call = getenv("LADE_SIM_LOSE_CALL");
    if (call)
        atomic_store(&lade_sim.lose_call, strtol(call, NULL, 10));
}

static size_t card_free(void)
{
    return lade_sim.total > lade_sim.others ? lade_sim.total - lade_sim.others : 0;
}

/* What open devices hold of one, as another program would see it. */
static size_t left_of(size_t held)
{
    return card_free() > held ? card_free() - held : 0;
}

static int list(struct lade_gpu *gpus, int max, int *n, char *err)
{
    *n = lade_sim.devices;
    if (lade_sim.devices < 1)
        return lade_fail(err, "sim: there is no driver; install one, or run on the CPU");
    for (int i = 0; i < *n && i < max; i++) {
        gpus[i] =
            (struct lade_gpu){.major = 9,
                              .total = lade_sim.total,
                              .free = left_of(i < SIM_DEVICES ? atomic_load(&sim_held[i]) : 0),
                              .own = lade_sim.context,
                              .memory_rate = lade_sim.memory_rate,
                              .link_rate = lade_sim.link_rate};
        snprintf(gpus[i].name, sizeof gpus[i].name, "simulated GPU %d", i);
        snprintf(gpus[i].bus, sizeof gpus[i].bus, "0000:%02x:00.0", i + 1);
    }
    return 0;
}

static void close_device(struct lade_device *dev)
{
    if (!dev)
        return;
    sim_closed(dev);
    sim_discard(dev);
    sim_record_free(dev, dev->recording);
    while (dev->tables) {
        struct sim_table *next = dev->tables->next;
        sim_table_release(dev->tables);
        dev->tables = next;
    }
    while (dev->n_blocks) { /* the last one first, so that none moves */
        struct sim_block *b = &dev->blocks[dev->n_blocks - 1];
        (b->borrowed ? sim_unpin : b->host ? sim_host_free : sim_free)(dev, b->seen);
    }
    free(dev->blocks);
    free(dev->fences);
    sim_give(dev, dev->used);
    if (dev->cpu_dev)
        dev->cpu->close(dev->cpu_dev);
    free(dev);
}

static int take_first(struct lade_device *dev, const struct lade_device_config *cfg, char *err)
{
    dev->cap = cfg->memory_cap && cfg->memory_cap < card_free() ? cfg->memory_cap : card_free();
    dev->reserve = cfg->reserve;
    if (sim_take(dev, lade_sim.context, "the driver", err))
        return -1;
    dev->fixed = dev->used;
    return sim_take(dev, cfg->reserve, "the reserve", err);
}

static int open_device(struct lade_device **out, const struct lade_device_config *cfg, char *err)
{
    *out = NULL;
    if (cfg->gpu < 0 || cfg->gpu >= lade_sim.devices)
        return lade_fail(err, "sim: there is no GPU %d, this machine has %d; use one below that",
                         cfg->gpu, lade_sim.devices);
    if (atomic_load(&lade_sim.gone) >> cfg->gpu & 1)
        return lade_fail(err, "sim: GPU %d is gone; start lade again to use it", cfg->gpu);
    if (sim_fails(err))
        return -1;
    struct lade_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return lade_fail(err, "sim: out of memory; close other programs");
    dev->cpu = lade_cpu_ops();
    dev->number = cfg->gpu;
    snprintf(dev->title, sizeof dev->title, "simulated GPU %d", cfg->gpu);
    if (take_first(dev, cfg, err) || dev->cpu->open(&dev->cpu_dev, cfg, err)) {
        close_device(dev);
        return -1;
    }
    sim_opened(dev);
    *out = dev;
    return 0;
}

static const char *describe(const struct lade_device *dev)
{
    return dev->title;
}

static int memory(struct lade_device *dev, struct lade_device_memory *out, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    *out = (struct lade_device_memory){
        .total = lade_sim.total,
        .free = card_free() > dev->used ? card_free() - dev->used : 0,
        .cap = dev->cap,
        .used = dev->used,
        .peak = dev->peak,
        .fixed = dev->fixed,
    };
    return sim_leave(0);
}

static int measure(struct lade_device *dev, struct lade_device_rates *out, char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    *out = (struct lade_device_rates){lade_sim.memory_rate, lade_sim.link_rate, lade_sim.link_rate,
                                      ""};
    return sim_leave(0);
}

/* What a device of this kind might need: the activations of a batch a few times. */
static size_t workspace(const struct lade_limits *l)
{
    size_t rows = (size_t)l->batch, routes = rows * (size_t)(l->experts_used + 1);
    size_t floats = rows * (size_t)(l->widest + 4 * l->hidden) +
                    routes * (size_t)(2 * l->expert_rows + l->hidden) +
                    (size_t)(l->vocab + l->heads * l->head_dim * 64);
    return (floats * sizeof(float) / LADE_GPU_ALIGN + 1) * LADE_GPU_ALIGN;
}

static int prepare(struct lade_device *dev, const struct lade_limits *limits, char *err)
{
    if (sim_enter_counted(dev, err))
        return -1;
    sim_give_alloc(dev, dev->workspace);
    dev->workspace = 0;
    size_t bytes = workspace(limits);
    if (sim_take_alloc(dev, bytes, "work space", err))
        return sim_leave(-1);
    dev->workspace = bytes;
    dev->limits = *limits;
    dev->prepared = true;
    return sim_leave(0);
}

static const struct lade_ops ops = {
    .name = "sim",
    .host_memory = false,
    .list = list,
    .open = open_device,
    .close = close_device,
    .describe = describe,
    .lost = sim_lost,
    .memory = memory,
    .measure = measure,
    .workspace = workspace,
    .prepare = prepare,
    .reserve = sim_reserve,
    .alloc = sim_alloc,
    .free = sim_free,
    .host_alloc = sim_host_alloc,
    .host_free = sim_host_free,
    .pin = sim_pin,
    .unpin = sim_unpin,
    .upload = sim_upload,
    .download = sim_download,
    .copy = sim_copy,
    .zero = sim_zero,
    .sync = sim_sync,
    .mark = sim_mark,
    .upload_async = sim_upload_async,
    .download_async = sim_download_async,
    .wait = sim_wait,
    .reached = sim_reached,
    .finish = sim_finish,
    .record_begin = sim_record_begin,
    .record_end = sim_record_end,
    .replay = sim_replay,
    .record_free = sim_record_free,
    .table = sim_table,
    .embed = sim_embed,
    .embed_at = sim_embed_at,
    .rmsnorm = sim_rmsnorm,
    .add = sim_add,
    .matmul = sim_matmul,
    .project = sim_project,
    .attention = sim_attention,
    .deltanet = sim_deltanet,
    .route = sim_route,
    .router = sim_router,
    .moe = sim_moe,
    .topk = sim_topk,
};

LADE_PLUGIN_EXPORT const struct lade_plugin lade_plugin = LADE_PLUGIN(&ops);
