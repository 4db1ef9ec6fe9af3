#include "engine/session/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 8192 };

static int check_options(const struct lade_model *m, const struct lade_options *opt, char *err)
{
    if (opt->batch < 0 || opt->batch > MAX_BATCH)
        return lade_fail(err, "--batch %d: must be 1 to %d; use 512", opt->batch, MAX_BATCH);
    if (opt->context < 0 || opt->context > m->cat->shape.max_context)
        return lade_fail(err, "--context %d: the model allows 1 to %d tokens; use a shorter one",
                         opt->context, m->cat->shape.max_context);
    return 0;
}

/* Asks the plan where everything shall live. `name` is a row of its table, NULL or "auto". */
static int make_plan(struct lade_plan *plan, const struct lade_model *m,
                     const struct lade_options *opt, const char *name, char *err)
{
    struct lade_tiers_stats now = {0};
    uint64_t held = 0;
    if (m->tiers) {
        lade_tiers_stats(m->tiers, &now);
        held = m->devices.gpu ? 0 : now.weights - now.in_ram.bytes;
        held += now.in_ram.room ? now.in_ram.bytes / now.in_ram.room * now.in_ram.experts : 0;
    }
    struct lade_plan_caps caps = {
        .held = held,
        .vram = opt->vram_cap,
        .ram = opt->ram_cap,
        .cpu_only = opt->cpu_only,
        .strategy = name,
        .context = m->context ? m->context : opt->context,
        .batch = opt->batch,
        .exact = opt->exact,
        .threads = opt->threads,
        .isa = opt->isa,
        .plugin = opt->plugin,
        .cache_dir = opt->cache_dir,
    };
    return lade_plan_here(plan, m->cat, &caps, err);
}

int lade_model_change(struct lade_model *m, const struct lade_options *opt, const char *name,
                      char *err)
{
    struct lade_plan plan;
    if (make_plan(&plan, m, opt, name, err))
        return -1;
    const struct lade_placement *to = &plan.rows[plan.chosen].place, *is = &m->place;
    bool moves = to->base != is->base || to->kv != is->kv || to->buffers != is->buffers ||
                 to->vram_experts != is->vram_experts || to->rest_by != is->rest_by;
    if (moves || (m->devices.gpu && to->ram_experts != is->ram_experts))
        return lade_fail(err,
                         "--strategy %s: this version cannot move weights to or from a GPU while "
                         "it runs; start again with it",
                         name);
    if (to->ram_experts != is->ram_experts && lade_tiers_change_ram(m->tiers, to->ram_experts, err))
        return -1;
    m->plan = plan;
    m->place.ram_experts = to->ram_experts;
    return 0;
}

/* The context and the batch that the caches and buffers are made for. */
static void take_sizes(struct lade_model *m, const struct lade_options *opt)
{
    m->cache_type = opt->exact ? LADE_F32 : LADE_F16;
    m->context = m->place.context;
    m->batch = m->place.batch < m->context ? m->place.batch : m->context;
}

/* What the cards of the models recommend, where the files say nothing: older GGUF files do not. */
static void take_sampling(struct lade_generation *g, enum lade_chat_family family)
{
    static const struct {
        float temperature, top_p;
        int top_k;
    } cards[] = {
        [LADE_CHAT_INSTRUCT] = {0.7f, 0.8f, 20},
        [LADE_CHAT_THINKING] = {0.6f, 0.95f, 20},
        [LADE_CHAT_CODER] = {1, 0.95f, 40},
    };
    if (g->sampled)
        return;
    g->temperature = cards[family].temperature;
    g->top_p = cards[family].top_p;
    g->top_k = cards[family].top_k;
}

/* A GPU may hold what the plan says, and what the plan left to its driver. */
static int open_devices(struct lade_model *m, const struct lade_options *opt, char *err)
{
    struct lade_device_config config = {
        .threads = opt->threads, .isa = opt->isa, .exact = opt->exact};
    size_t cap = opt->vram_cap;
    if (!cap && m->plan.n)
        cap = m->plan.rows[m->plan.chosen].vram_bytes + m->plan.machine.vram_reserve;
    if (lade_devices_open(&m->devices, &config, &m->place, m->cat, opt->plugin, cap, err))
        return -1;
    snprintf(m->device, sizeof m->device, "%s: %s", m->devices.ops->name,
             m->devices.ops->describe(m->devices.dev));
    return 0;
}

int lade_model_prepare(struct lade_model **out, const struct lade_options *opt, char *err)
{
    struct lade_model *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return lade_fail(err, "%s: out of memory; close other programs", opt->model);
    if (lade_catalog_open(&m->cat, opt->model, err) ||
        lade_tokenizer_open(&m->tok, opt->model, err) ||
        lade_chat_detect(&m->family, NULL, opt->model, err) || check_options(m, opt, err))
        return -1;
    take_sampling(&m->cat->generation, m->family);
    if (!opt->place && make_plan(&m->plan, m, opt, opt->strategy, err))
        return -1;
    m->place = opt->place ? *opt->place : m->plan.rows[m->plan.chosen].place;
    take_sizes(m, opt);
    if (open_devices(m, opt, err))
        return -1;
    struct lade_tiers_config config = {.cat = m->cat,
                                       .place = m->place,
                                       .io = opt->io,
                                       .gpu = m->devices.gpu ? m->devices.ops : NULL,
                                       .gpu_dev = m->devices.gpu ? m->devices.dev : NULL};
    if (lade_tiers_open(&m->tiers, &config, err))
        return -1;
    int size = lade_tokenizer_size(m->tok);
    if (size > m->cat->shape.vocab)
        return lade_fail(err,
                         "%s/tokenizer.json: has %d tokens but the model's vocab_size is %d; use "
                         "the tokenizer of this model",
                         opt->model, size, m->cat->shape.vocab);
    return 0;
}

int lade_model_load(struct lade_model *m, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err)
{
    if (lade_tiers_load(m->tiers, progress, user, cancel, err) ||
        lade_tiers_wait(m->tiers, false, err))
        return -1;
    return lade_weights_bind(&m->weights, m->cat, m->tiers, err);
}

int lade_model_open(struct lade_model **out, const struct lade_options *opt, lade_load_fn *progress,
                    void *user, const atomic_bool *cancel, char *err)
{
    if (lade_model_prepare(out, opt, err) || lade_model_load(*out, progress, user, cancel, err) ||
        lade_tiers_wait((*out)->tiers, true, err)) {
        lade_model_close(*out);
        *out = NULL;
        return -1;
    }
    return 0;
}

void lade_model_close(struct lade_model *m)
{
    if (!m)
        return;
    lade_weights_free(&m->weights);
    lade_tiers_close(m->tiers);
    lade_devices_close(&m->devices);
    lade_tokenizer_close(m->tok);
    lade_catalog_close(m->cat);
    free(m);
}

const struct lade_catalog *lade_model_catalog(const struct lade_model *m)
{
    return m->cat;
}

const struct lade_tokenizer *lade_model_tokenizer(const struct lade_model *m)
{
    return m->tok;
}

const char *lade_model_device(const struct lade_model *m)
{
    return m->device;
}

const char *lade_model_strategy(const struct lade_model *m)
{
    return m->plan.n ? lade_strategy_name(m->plan.rows[m->plan.chosen].strategy) : "placed";
}

int lade_model_context(const struct lade_model *m)
{
    return m->context;
}

const struct lade_plan *lade_model_plan(const struct lade_model *m)
{
    return &m->plan;
}

void lade_model_traffic(const struct lade_model *m, struct lade_traffic *out)
{
    struct lade_tiers_stats stats;
    lade_tiers_stats(m->tiers, &stats);
    *out = stats.traffic;
}

uint64_t lade_model_vram_peak(const struct lade_model *m)
{
    struct lade_device_memory vram = {0};
    if (m->devices.gpu)
        m->devices.ops->memory(m->devices.dev, &vram, NULL);
    return vram.peak;
}
