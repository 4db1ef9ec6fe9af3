/* here.c - the plan for the machine this runs on. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan/plan.h"
#include "engine/plan/predict.h"
#include "engine/plan/pressure.h"

/* The kind of storage below the shards. What it does is measured; the kind gives typical speeds
 * where it is not. */
static enum lade_storage storage_of(const struct lade_machine *p)
{
    const struct lade_machine_drive *d = &p->drive[0];
    for (int i = 1; i < p->n_drives; i++)
        if (p->drive[i].bytes > d->bytes)
            d = &p->drive[i];
    if (p->n_drives > 1 || d->disks > 1)
        return LADE_STORAGE_RAID0;
    if (!p->n_drives || !strncmp(d->name, "nvme", 4))
        return LADE_STORAGE_NVME;
    return d->rotational ? LADE_STORAGE_HDD : LADE_STORAGE_SSD;
}

/* Takes a measured speed. */
static void set(double *speed, double measured)
{
    if (measured > 0)
        *speed = measured;
}

/* Several drives are read at once: their speeds add up as far as each has its share of the bytes,
 * that is, the one that ends last decides. */
static void add_drives(struct lade_plan_machine *out, const struct lade_machine *p)
{
    double bytes = 0, sequential = 0, one = 0, eight = 0;
    for (int i = 0; i < p->n_drives; i++) {
        const struct lade_machine_drive *d = &p->drive[i];
        if (!d->one_gbps)
            return;
        double b = (double)d->bytes;
        bytes += b;
        sequential = b / d->sequential_gbps > sequential ? b / d->sequential_gbps : sequential;
        one = b / d->one_gbps > one ? b / d->one_gbps : one;
        eight = b / d->eight_gbps > eight ? b / d->eight_gbps : eight;
    }
    if (bytes <= 0)
        return;
    out->disk_gbps = bytes / sequential;
    out->disk_one_gbps = bytes / one;
    out->disk_random_gbps = bytes / eight;
}

/* The card that a model is on; -1: none is on this GPU. */
static int held_card(const struct lade_plan_caps *caps, int gpu)
{
    int i = caps->n_held - 1;
    while (i >= 0 && caps->held_cards[i].gpu != gpu)
        i--;
    return i;
}

/* A GPU that may be used, with what is free of it under its cap. */
static void add_gpu(struct lade_plan_machine *out, const struct lade_machine_gpu *g, int number,
                    const struct lade_plan_caps *caps)
{
    const int held = held_card(caps, number);
    const uint64_t cap = lade_vram_cap(caps->vram, number);
    if (caps->n_held && held < 0)
        return; /* the plan stays where the model is */
    lade_plan_machine_add(out, g->free + (held < 0 ? 0 : caps->held_vram[held]));
    struct lade_plan_gpu *to = &out->gpu[out->n_gpus - 1];
    to->gpu = number;
    to->first = held < 0 ? -1 : caps->held_cards[held].first;
    to->bytes = cap && cap < to->bytes ? cap : to->bytes;
    to->reserve = lade_memory_reserve(to->bytes);
    if (to->reserve < g->own) /* what the driver takes for this program */
        to->reserve = g->own;
    set(&to->gbps, g->memory_gbps);
    set(&to->link_gbps, g->upload_gbps);
}

static int by_layer(const void *a, const void *b)
{
    const struct lade_plan_gpu *x = a, *y = b;
    return x->first - y->first;
}

static void add_gpus(struct lade_plan_machine *out, const struct lade_machine *p,
                     const struct lade_plan_caps *caps)
{
    for (int i = 0; i < p->n_gpus && !p->gpu_missing[0]; i++)
        if (!caps->without[i])
            add_gpu(out, &p->gpu[i], i, caps);
    out->gpus_held = caps->n_held > 0;
    if (out->gpus_held)
        qsort(out->gpu, (size_t)out->n_gpus, sizeof *out->gpu, by_layer);
}

void lade_plan_machine_of(struct lade_plan_machine *out, const struct lade_machine *p,
                          const struct lade_plan_caps *caps)
{
    uint64_t ram = p->memory.available + caps->held;
    lade_plan_machine_typical(out, 0, ram, storage_of(p));
    out->ram_reserve = lade_memory_reserve(ram);
    if (caps->ram && caps->ram < ram - out->ram_reserve) {
        out->ram = caps->ram; /* all of which is ours */
        out->ram_reserve = 0;
    }
    if (!caps->cpu_only)
        add_gpus(out, p, caps);
    set(&out->ram_gbps, p->ram_gbps);
    set(&out->base_gbps, p->kernels.base_gbps);
    set(&out->experts_gbps, p->kernels.experts_gbps);
    set(&out->base_gflops, p->kernels.base_gflops);
    set(&out->experts_gflops, p->kernels.experts_gflops);
    set(&out->load_gbps, p->packing.fresh_gbps);
    set(&out->pack_gbps, p->packing.again_gbps);
    add_drives(out, p);
    out->to_ram = p->to_ram;
    out->to_vram = p->to_vram;
    out->answers = p->answers;
    out->measured = p->ram_gbps > 0 && p->kernels.experts_gbps > 0;
    for (int i = 0; i < p->n_drives; i++)
        out->measured &= p->drive[i].one_gbps > 0;
}

/* Whether that strategy cannot be had because there is no GPU. */
static bool needs_gpu(const char *strategy)
{
    int row = strategy ? lade_strategy_find(strategy) : -1;
    return row >= 0 && lade_strategies[row].gpu;
}

static struct lade_probe_wish wish_of(const struct lade_catalog *cat,
                                      const struct lade_plan_caps *caps)
{
    return (struct lade_probe_wish){.catalog = cat,
                                    .plugin = caps->cpu_only ? NULL : caps->plugin,
                                    .cache_dir = caps->cache_dir,
                                    .threads = caps->threads,
                                    .isa = caps->isa,
                                    .exact = caps->exact};
}

void lade_plan_note_answer(const struct lade_plan *plan, const struct lade_catalog *cat,
                           const struct lade_plan_caps *caps,
                           const struct lade_tokens_per_s *measured)
{
    static_assert((int)LADE_ANSWERS >= (int)LADE_MAX_STRATEGIES, "an answer's place");
    const double most_tps = 1000; /* of a smaller model, calls between bytes are what takes time */
    const struct lade_plan_row *row = plan->chosen < 0 ? NULL : &plan->rows[plan->chosen];
    if (!row || row->decode_tps > most_tps)
        return;
    const struct lade_probe_wish wish = wish_of(cat, caps);
    const struct lade_answers *seen = &plan->machine.answers;
    struct lade_tokens_per_s told = {.decode = row->decode_tps /
                                               lade_answers_factor(seen->decode[plan->chosen])};
    if (measured->prompt > 0)
        told.prefill = measured->prompt /
                       lade_plan_prompt(row, &plan->model, &plan->machine, measured->prompt);
    lade_machine_note_answer(&wish, plan->chosen, &told, measured);
}

int lade_plan_here(struct lade_plan *out, const struct lade_catalog *cat,
                   const struct lade_plan_caps *caps, char *err)
{
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    struct lade_machine probe;
    const struct lade_probe_wish wish = wish_of(cat, caps);
    lade_machine_probe(&probe, &wish);
    lade_plan_machine_of(&machine, &probe, caps);
    lade_plan_model_of(&model, cat, caps);
    if (lade_plan(out, &model, &machine, caps->strategy, caps->context, err))
        return probe.gpu_missing[0] && needs_gpu(caps->strategy)
                   ? lade_fail(err, "%s", probe.gpu_missing)
                   : -1;
    if (out->chosen < 0)
        return lade_fail(err,
                         "%s: no strategy fits this machine: %s; close other programs, lower "
                         "--context, or use a smaller model",
                         cat->path, out->rows[lade_strategy_find("mmap")].reason);
    return 0;
}
