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

/* ---- the parts ---- */

/* The CPU has all layers. */
static void use_cpu(struct lade_devices *d, const struct lade_catalog *cat)
{
    d->part[0] = (struct lade_device_part){d->cpu, d->cpu_dev, 0, 0, cat->shape.layers};
    d->n = 1;
    d->gpu = false;
    d->refused = d->lost = -1;
}

static void close_cards(const struct lade_devices *d)
{
    for (int i = 0; d->gpu && i < d->n; i++)
        d->part[i].ops->close(d->part[i].dev);
}

/* One more part; it counts as soon as it is open. */
static int open_card(struct lade_devices *d, struct lade_device_config config,
                     const struct lade_card *card, int end, const struct lade_limits *limits,
                     const struct lade_ops *ops, char *err)
{
    struct lade_device_part *p = &d->part[d->n];
    *p = (struct lade_device_part){.ops = ops, .gpu = card->gpu, .first = card->first, .end = end};
    config.gpu = card->gpu;
    if (ops->open(&p->dev, &config, err))
        return -1;
    d->n++;
    return ops->prepare ? ops->prepare(p->dev, limits, err) : 0;
}

/* The cards of the placement in place of the parts there are. On failure none is open. */
static int open_cards(struct lade_devices *d, const struct lade_device_config *config,
                      const struct lade_placement *place, const struct lade_catalog *cat,
                      const char *plugin, const struct lade_vram_limit *limits, char *err)
{
    struct lade_limits work;
    if (!plugin)
        return lade_fail(err, "GPU: there is no plug-in; choose a strategy without VRAM, or give "
                              "--gpu-plugin");
    const struct lade_ops *ops = lade_plugin_open(plugin, err);
    if (!ops)
        return -1;
    lade_devices_limits(&work, cat, place->batch, place->context);
    d->gpu = true;
    d->n = 0;
    for (int i = 0; i < place->n_cards; i++) {
        struct lade_device_config own = *config;
        int end = i + 1 < place->n_cards ? place->card[i + 1].first : cat->shape.layers;
        own.memory_cap = limits[i].cap;
        own.reserve = limits[i].reserve;
        if (open_card(d, own, &place->card[i], end, &work, ops, err)) {
            const int lost = lade_devices_lost(d);
            close_cards(d);
            use_cpu(d, cat);
            d->lost = lost;
            d->refused = place->card[i].gpu;
            return -1;
        }
    }
    return 0;
}

int lade_devices_open(struct lade_devices *d, const struct lade_device_config *config,
                      const struct lade_placement *place, const struct lade_catalog *cat,
                      const char *plugin, const struct lade_vram_limit *limits, char *err)
{
    *d = (struct lade_devices){.cpu = lade_cpu_ops(), .refused = -1, .lost = -1};
    if (d->cpu->open(&d->cpu_dev, config, err))
        return -1;
    use_cpu(d, cat);
    if (!place->n_cards || !open_cards(d, config, place, cat, plugin, limits, err))
        return 0;
    const int refused = d->refused, lost = d->lost;
    lade_devices_close(d);
    d->refused = refused;
    d->lost = lost;
    return -1;
}

void lade_devices_close(struct lade_devices *d)
{
    close_cards(d);
    if (d->cpu_dev)
        d->cpu->close(d->cpu_dev);
    *d = (struct lade_devices){0};
}

static bool same_cards(const struct lade_devices *d, const struct lade_placement *place)
{
    bool same = d->n == place->n_cards;
    for (int i = 0; same && i < d->n; i++)
        same = d->part[i].gpu == place->card[i].gpu && d->part[i].first == place->card[i].first;
    return same;
}

int lade_devices_change(struct lade_devices *to, const struct lade_devices *d,
                        const struct lade_device_config *config, const struct lade_placement *place,
                        const struct lade_catalog *cat, const char *plugin,
                        const struct lade_vram_limit *limits, char *err)
{
    *to = *d;
    to->refused = to->lost = -1;
    if (!place->n_cards)
        use_cpu(to, cat);
    else if (!d->gpu)
        return open_cards(to, config, place, cat, plugin, limits, err);
    else if (!same_cards(d, place))
        return lade_fail(err, "strategy: layers cannot move from GPU to GPU; change to a strategy "
                              "without VRAM first");
    return 0;
}

void lade_devices_leave(const struct lade_devices *d, const struct lade_devices *other)
{
    if (!other->gpu)
        close_cards(d);
}

void lade_devices_drop(struct lade_devices *d, const struct lade_catalog *cat)
{
    close_cards(d);
    use_cpu(d, cat);
}

int lade_devices_reserve(const struct lade_devices *d, const uint64_t *bytes, char *err)
{
    for (int i = 0; d->gpu && i < d->n; i++) {
        const struct lade_device_part *p = &d->part[i];
        if (p->ops->reserve(p->dev, bytes[i], err))
            return -1;
    }
    return 0;
}

int lade_devices_lost(const struct lade_devices *d)
{
    for (int i = 0; d->gpu && i < d->n; i++)
        if (d->part[i].ops->lost(d->part[i].dev))
            return d->part[i].gpu;
    return -1;
}

int lade_devices_sync(const struct lade_devices *d, char *err)
{
    int failed = 0;
    for (int i = 0; i < d->n; i++) /* all of them, though one be lost */
        if (d->part[i].ops->sync(d->part[i].dev, failed ? NULL : err))
            failed = -1;
    return failed;
}

const struct lade_device_part *lade_devices_part(const struct lade_devices *d, int layer)
{
    const struct lade_device_part *p = d->part;
    while (layer >= p->end)
        p++;
    return p;
}

/* ---- memory ---- */

int lade_part_alloc(const struct lade_device_part *p, void **out, size_t bytes, bool in_ram,
                    char *err)
{
    return in_ram ? p->ops->host_alloc(p->dev, out, bytes, err)
                  : p->ops->alloc(p->dev, out, bytes, err);
}

void lade_part_free(const struct lade_device_part *p, void *memory, bool in_ram)
{
    if (in_ram)
        p->ops->host_free(p->dev, memory);
    else
        p->ops->free(p->dev, memory);
}
