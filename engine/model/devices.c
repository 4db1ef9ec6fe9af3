#include "engine/model/devices.h"

#include "kernels/plugin.h"

void lade_devices_limits(struct lade_limits *out, const struct lade_catalog *cat, int batch,
                         int context)
{
    const struct lade_shape *s = &cat->shape;
    int widest = s->expert_ff;
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        if (t->role == LADE_EMBED || t->role == LADE_HEAD)
            continue;
        widest = t->packed.rows > widest ? t->packed.rows : widest;
        widest = t->packed.cols > widest ? t->packed.cols : widest;
    }
    *out = (struct lade_limits){
        .batch = batch,
        .context = context,
        .hidden = s->hidden,
        .widest = widest,
        .vocab = s->vocab,
        .heads = s->heads,
        .kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .key_heads = s->key_heads,
        .value_heads = s->value_heads,
        .key_dim = s->key_dim,
        .value_dim = s->value_dim,
        .kernel = s->conv_kernel,
        .experts = s->experts,
        .experts_used = s->experts_used,
        .expert_rows = s->expert_ff > s->shared_ff ? s->expert_ff : s->shared_ff,
        .tables = s->layers + 1, /* experts.h: one for each, one that changes with every wave */
    };
}

static int open_gpu(struct lade_devices *d, const struct lade_device_config *config,
                    const struct lade_placement *place, const struct lade_catalog *cat,
                    const char *plugin, size_t cap, char *err)
{
    struct lade_device_config own = *config;
    struct lade_limits limits;
    own.gpu = place->gpu;
    own.memory_cap = cap;
    if (!plugin)
        return lade_fail(err, "GPU: there is no plug-in; choose a strategy without VRAM, or give "
                              "--gpu-plugin");
    const struct lade_ops *ops = lade_plugin_open(plugin, err);
    if (!ops || ops->open(&d->dev, &own, err))
        return -1;
    d->ops = ops;
    d->gpu = true;
    lade_devices_limits(&limits, cat, place->batch, place->context);
    return ops->prepare ? ops->prepare(d->dev, &limits, err) : 0;
}

static bool needs_gpu(const struct lade_placement *place)
{
    return place->base == LADE_VRAM || place->vram_experts;
}

int lade_devices_open(struct lade_devices *d, const struct lade_device_config *config,
                      const struct lade_placement *place, const struct lade_catalog *cat,
                      const char *plugin, size_t cap, char *err)
{
    *d = (struct lade_devices){.cpu = lade_cpu_ops()};
    if (d->cpu->open(&d->cpu_dev, config, err))
        return -1;
    if (needs_gpu(place)) {
        if (!open_gpu(d, config, place, cat, plugin, cap, err))
            return 0;
        lade_devices_close(d);
        return -1;
    }
    d->ops = d->cpu;
    d->dev = d->cpu_dev;
    return 0;
}

void lade_devices_close(struct lade_devices *d)
{
    if (d->gpu)
        d->ops->close(d->dev);
    if (d->cpu_dev)
        d->cpu->close(d->cpu_dev);
    *d = (struct lade_devices){0};
}

int lade_devices_change(struct lade_devices *to, const struct lade_devices *d,
                        const struct lade_device_config *config, const struct lade_placement *place,
                        const struct lade_catalog *cat, const char *plugin, size_t cap, char *err)
{
    *to = *d;
    if (needs_gpu(place) == d->gpu)
        return 0;
    if (d->gpu) {
        to->ops = d->cpu;
        to->dev = d->cpu_dev;
        to->gpu = false;
        return 0;
    }
    if (!open_gpu(to, config, place, cat, plugin, cap, err))
        return 0;
    lade_devices_leave(to, d);
    return -1;
}

void lade_devices_leave(const struct lade_devices *d, const struct lade_devices *other)
{
    if (d->gpu && !other->gpu)
        d->ops->close(d->dev);
}

int lade_devices_alloc(const struct lade_devices *d, void **out, size_t bytes, bool in_ram,
                       char *err)
{
    return d->gpu && in_ram ? d->ops->host_alloc(d->dev, out, bytes, err)
                            : d->ops->alloc(d->dev, out, bytes, err);
}

void lade_devices_free(const struct lade_devices *d, void *memory, bool in_ram)
{
    if (d->gpu && in_ram)
        d->ops->host_free(d->dev, memory);
    else
        d->ops->free(d->dev, memory);
}
