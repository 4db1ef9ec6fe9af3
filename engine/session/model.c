#include "engine/session/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan/machine.h"

enum {
    DEFAULT_BATCH = 512,
    MAX_BATCH = 8192,
    MIN_CONTEXT = 2048,
    CONTEXT_STEP = 256,
    LOAD_THREADS = 4, /* keeps a few reads in flight while others repack */
};

/* The longest context whose caches take at most half of the RAM that the weights leave; never
 * less than MIN_CONTEXT, because a shorter one is of no use (the tiers then refuse the load). */
static int default_context(const struct lade_model *m, size_t ram_cap)
{
    const struct lade_shape *s = &m->cat->shape;
    struct lade_memory memory;
    lade_machine_memory(&memory);
    size_t room = ram_cap ? ram_cap : memory.available;
    room = room > m->cat->packed_bytes ? (room - m->cat->packed_bytes) / 2 : 0;
    int context = s->max_context;
    size_t one = lade_state_bytes(s, CONTEXT_STEP, m->cache_type) - lade_state_recurrent_bytes(s);
    size_t fixed = lade_state_recurrent_bytes(s);
    size_t steps = one ? (room > fixed ? room - fixed : 0) / one : 0;
    if (one && steps < (size_t)context / CONTEXT_STEP)
        context = (int)steps * CONTEXT_STEP;
    if (context < MIN_CONTEXT)
        context = MIN_CONTEXT < s->max_context ? MIN_CONTEXT : s->max_context;
    return context;
}

static int choose_sizes(struct lade_model *m, const struct lade_options *opt, char *err)
{
    const struct lade_shape *s = &m->cat->shape;
    m->cache_type = opt->exact ? LADE_F32 : LADE_F16;
    m->batch = opt->batch ? opt->batch : DEFAULT_BATCH;
    if (m->batch < 1 || m->batch > MAX_BATCH)
        return lade_fail(err, "--batch %d: must be 1 to %d; use 512", opt->batch, MAX_BATCH);
    if (opt->context < 0 || opt->context > s->max_context)
        return lade_fail(err, "--context %d: the model allows 1 to %d tokens; use a shorter one",
                         opt->context, s->max_context);
    m->context = opt->context ? opt->context : default_context(m, opt->ram_cap);
    if (m->batch > m->context)
        m->batch = m->context;
    return 0;
}

/* Names the row of the strategy table that this load is. Weights have one home today, RAM, so the
 * rows are those of the cpu family; where the plan prefers another, because RAM is short, the load
 * is the tightest of them and the tiers refuse it if it does not fit at all. */
static int choose_strategy(struct lade_model *m, const struct lade_options *opt, const char *name,
                           char *err)
{
    struct lade_plan_model sizes;
    struct lade_plan_machine machine;
    struct lade_plan plan;
    struct lade_memory memory;
    const char *wanted = name && strcmp(name, "auto") ? name : NULL;
    lade_machine_memory(&memory);
    lade_plan_model_of(&sizes, m->cat,
                       &(struct lade_plan_caps){.batch = m->batch, .exact = opt->exact});
    /* What this model itself holds would be there for another plan of it. */
    size_t ram = memory.available + (m->tiers ? lade_tiers_bytes(m->tiers) : 0);
    lade_plan_machine_typical(&machine, 0, opt->ram_cap ? opt->ram_cap : ram, LADE_STORAGE_NVME);
    if (lade_plan(&plan, &sizes, &machine, wanted, m->context, err))
        return -1;
    const struct lade_strategy *s = plan.chosen < 0 ? NULL : plan.rows[plan.chosen].strategy;
    if (wanted && strncmp(wanted, "cpu-", 4))
        return lade_fail(err, "--strategy %s: this version keeps weights in RAM; use auto, "
                         "cpu-tight, cpu-standard or cpu-comfort", wanted);
    for (int i = 0; i < plan.n; i++)
        if (!strcmp(lade_strategy_name(plan.rows[i].strategy), "cpu-tight") &&
            (!s || strncmp(lade_strategy_name(s), "cpu-", 4)))
            s = plan.rows[i].strategy;
    m->plan = plan;
    m->strategy = s;
    return 0;
}

int lade_model_change(struct lade_model *m, const struct lade_options *opt, const char *name,
                      char *err)
{
    return choose_strategy(m, opt, name, err); /* the homes of these rows are the same */
}

int lade_model_prepare(struct lade_model **out, const struct lade_options *opt, char *err)
{
    struct lade_model *m = calloc(1, sizeof *m);
    *out = m;
    if (!m)
        return lade_fail(err, "%s: out of memory; close other programs", opt->model);
    if (lade_catalog_open(&m->cat, opt->model, err) ||
        lade_tokenizer_open(&m->tok, opt->model, err) ||
        lade_chat_detect(&m->family, opt->model, err) || choose_sizes(m, opt, err) ||
        choose_strategy(m, opt, opt->strategy, err))
        return -1;
    int size = lade_tokenizer_size(m->tok);
    if (size > m->cat->shape.vocab)
        return lade_fail(err,
                         "%s/tokenizer.json: has %d tokens but the model's vocab_size is %d; use "
                         "the tokenizer of this model",
                         opt->model, size, m->cat->shape.vocab);
    return 0;
}

int lade_model_load(struct lade_model *m, const struct lade_options *opt, lade_load_fn *progress,
                    void *user, const atomic_bool *cancel, char *err)
{
    struct lade_device_config config = {.threads = opt->threads, .isa = opt->isa,
                                        .exact = opt->exact};
    m->ops = lade_cpu_ops();
    if (m->ops->open(&m->dev, &config, err))
        return -1;
    snprintf(m->device, sizeof m->device, "%s: %s", m->ops->name, m->ops->describe(m->dev));
    size_t state = lade_state_bytes(&m->cat->shape, m->context, m->cache_type);
    size_t reserve;
    if (!state || __builtin_add_overflow(state, lade_forward_bytes(&m->cat->shape, m->batch),
                                         &reserve))
        return lade_fail(err, "--context %d: its caches do not fit in memory; use a shorter one",
                         m->context);
    if (lade_tiers_open(&m->tiers, m->cat, opt->ram_cap, reserve, err) ||
        lade_tiers_load(m->tiers, LOAD_THREADS, progress, user, cancel, err))
        return -1;
    return lade_weights_bind(&m->weights, m->cat, m->tiers, err);
}

int lade_model_open(struct lade_model **out, const struct lade_options *opt, lade_load_fn *progress,
                    void *user, const atomic_bool *cancel, char *err)
{
    if (lade_model_prepare(out, opt, err) ||
        lade_model_load(*out, opt, progress, user, cancel, err)) {
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
    if (m->dev)
        m->ops->close(m->dev);
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
    return lade_strategy_name(m->strategy);
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
    (void)m;
    *out = (struct lade_traffic){0};
}
