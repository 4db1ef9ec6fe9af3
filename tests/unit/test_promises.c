/* What a plan promises, a load keeps: for every row of the strategy table, planned for a machine that
 * has just so much memory, the GPU is given that much and no byte more, RAM is counted, and the
 * logits are those of a model that is all in RAM, while every token evicts where not all fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/model.h"
#include "kernels/cpu/cpu.h"
#include "kernels/plugin.h"
#include "tests/support/plugins.h"
#include "tests/unit/off_by.h"

enum { TOKENS = 24, FEW_TOKENS = 2, CONTEXT = 64, BATCH = 4 };
static const double TOLERANCE = 1e-4, PROMISE = 1.05;

static char err[LADE_ERR];

static const char *const models[] = {"tests/fixtures/tiny8-int4-mixed",
                                     "tests/fixtures/tiny8-bf16"};

/* A plug-in, the bytes that a device of it takes for itself, and how many tokens are worth the time. */
struct card {
    char plugin[4096];
    size_t fixed;
    int tokens;
};

static struct card card_of(const char *plugin, int tokens)
{
    struct card card = {.tokens = tokens};
    struct lade_device_config cfg = {0};
    struct lade_device_memory memory;
    struct lade_device *dev = NULL;
    snprintf(card.plugin, sizeof card.plugin, "%s", test_plugin_path(plugin));
    const struct lade_ops *ops = lade_plugin_open(card.plugin, err);
    if (!ops || ops->open(&dev, &cfg, err) || ops->memory(dev, &memory, err))
        fail_msg("%s", err);
    ops->close(dev);
    card.fixed = memory.fixed;
    return card;
}

static struct lade_plan_caps caps(const struct card *card)
{
    return (struct lade_plan_caps){
        .exact = true, .threads = 2, .context = CONTEXT, .batch = BATCH, .plugin = card->plugin};
}

/* The row of a plan for a machine with these bytes free, none of them reserved. */
static struct lade_plan_row plan_row(const struct lade_plan_model *m, uint64_t vram, uint64_t ram,
                                     const char *name)
{
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_machine_typical(&pc, vram, ram, LADE_STORAGE_RAID0);
    pc.gpu[0].reserve = pc.ram_reserve = 0;
    if (lade_plan(&plan, m, &pc, name, CONTEXT, err))
        fail_msg("%s", err);
    return plan.rows[plan.chosen];
}

/* A row with as little memory as it takes, and a little more than its least share of experts. */
static struct lade_plan_row tight_row(const struct lade_plan_model *m,
                                      const struct lade_strategy *s)
{
    const uint64_t lots = (uint64_t)64 << 30;
    struct lade_plan_row wide = plan_row(m, s->gpu ? lots : 0, lots, s->name);
    uint64_t vram = wide.vram_bytes - lade_vram_experts(&wide.place);
    double share = s->vram_min < 1 ? fmin(1.3 * s->vram_min, 1) : 1;
    if (s->gpu)
        vram += (uint64_t)(share * (double)m->experts);
    struct lade_plan_row row = plan_row(m, s->gpu ? vram : 0, lots, s->name);
    if (s->ram_min >= 1 || s->ram_min <= 0)
        return row;
    uint64_t ram = row.ram_bytes - row.place.ram_experts;
    double rest = (double)m->experts - (double)lade_vram_experts(&row.place);
    ram += (uint64_t)(fmin(1.1 * s->ram_min, 1) * rest) + 1;
    return plan_row(m, s->gpu ? vram : 0, ram, s->name);
}

static float *logits_of(struct lade_model *m, int tokens, size_t *vocab)
{
    struct lade_session *s;
    int32_t ids[TOKENS];
    *vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    float *out = malloc((size_t)tokens * *vocab * sizeof *out);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % (int)*vocab;
    if (lade_session_open(&s, m, err) ||
        lade_session_sync(s, ids, BATCH, 0, NULL, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    lade_session_reset(s);
    for (int i = 0; i < tokens; i++) {
        if (lade_session_push(s, ids[i], err))
            fail_msg("%s", err);
        memcpy(out + (size_t)i * *vocab, lade_session_logits(s), *vocab * sizeof *out);
    }
    lade_session_close(s);
    return out;
}

/* RAM by the engine's own count, with what the plan says of the program itself. */
static uint64_t ram_taken(const struct lade_model *m, const struct lade_plan_model *pm)
{
    struct lade_tiers_stats now;
    const struct lade_placement *p = &m->place;
    lade_tiers_stats(m->tiers, &now);
    uint64_t sum = pm->process + now.ram_held;
    sum += p->kv == LADE_RAM ? pm->kv_token * CONTEXT : 0;
    sum += p->base == LADE_RAM ? pm->state : 0;
    sum += p->buffers == LADE_RAM ? pm->buffers : 0;
    sum += p->rest_by == LADE_BY_CPU ? pm->batch_work * (uint64_t)p->batch : 0;
    return sum;
}

static void check_row(const char *path, const struct lade_strategy *s,
                      const struct lade_plan_model *pm, const struct card *card, const float *want)
{
    struct lade_plan_row row = tight_row(pm, s);
    struct lade_options opt = {.model = path,
                               .exact = true,
                               .threads = 2,
                               .place = &row.place,
                               .plugin = card->plugin,
                               .vram_cap = {row.vram_bytes + card->fixed}};
    struct lade_model *m;
    struct lade_traffic t;
    size_t vocab;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s, %s: %s", path, s->name, err);
    float *have = logits_of(m, card->tokens, &vocab);
    double e = worst_off_by(have, want, card->tokens, vocab);
    if (!(e <= TOLERANCE))
        fail_msg("%s, %s: off by %.2e", path, s->name, e);
    uint64_t own, peak = lade_model_vram_peak(m, &own), ram = ram_taken(m, pm);
    assert_int_equal(peak > 0, s->gpu);
    if (s->gpu && (double)(peak - own) > PROMISE * (double)row.vram_bytes)
        fail_msg("%s, %s: %llu bytes of VRAM, planned %llu", path, s->name,
                 (unsigned long long)(peak - own), (unsigned long long)row.vram_bytes);
    if ((double)ram > PROMISE * (double)row.ram_bytes)
        fail_msg("%s, %s: %llu bytes of RAM, planned %llu", path, s->name, (unsigned long long)ram,
                 (unsigned long long)row.ram_bytes);
    lade_model_traffic(m, &t);
    bool all = row.experts_in_vram + row.experts_in_ram >= 0.999;
    if (!all)
        assert_true(t.disk_reads >= (uint64_t)card->tokens); /* and so many were evicted */
    else if (t.disk_reads) /* RAM has what VRAM's slots have no room for */
        fail_msg("%s, %s: %llu experts of the drive", path, s->name,
                 (unsigned long long)t.disk_reads);
    if (s->gpu && s->rest_by == LADE_BY_GPU && row.experts_in_vram < 0.999)
        assert_true(t.link_bytes > 0);
    free(have);
    lade_model_close(m);
}

static void check_every_row(const struct card *card, size_t n_models, bool with_cpu)
{
    for (size_t i = 0; i < n_models; i++) {
        struct lade_placement all = {.base = LADE_RAM,
                                     .kv = LADE_RAM,
                                     .buffers = LADE_RAM,
                                     .ram_experts = UINT64_MAX,
                                     .rest_by = LADE_BY_CPU,
                                     .context = CONTEXT,
                                     .batch = BATCH};
        struct lade_options opt = {.model = models[i], .exact = true, .threads = 2, .place = &all};
        struct lade_plan_caps c = caps(card);
        struct lade_plan_model pm;
        struct lade_model *m;
        size_t vocab;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        lade_plan_model_of(&pm, lade_model_catalog(m), &c);
        float *want = logits_of(m, card->tokens, &vocab);
        lade_model_close(m);
        for (int k = 0; k < lade_n_strategies; k++)
            if (!lade_strategies[k].remote && (with_cpu || lade_strategies[k].gpu))
                check_row(models[i], &lade_strategies[k], &pm, card, want);
        free(want);
    }
}

static void test_every_row(void **state)
{
    (void)state;
    const struct card card = card_of("lade-sim.so", TOKENS);
    check_every_row(&card, sizeof models / sizeof *models, true);
}

/* The plug-in for NVIDIA's, by its own count. */
static void test_every_row_of_cuda(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* the one does not follow the emulator's own stacks, the other takes long; bytes are the same */
#endif
    const struct card card = card_of("lade-cuda-emulated.so", FEW_TOKENS);
    check_every_row(&card, 1, false);
}

/* The row that `lade plan` shows as chosen is the one that a load takes. */
static void test_same_choice(void **state)
{
    (void)state;
    static const double shares[] = {0, 0.1, 0.3, 0.45, 0.7, 2};
    const struct card card = card_of("lade-sim.so", TOKENS);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct lade_plan_caps c = caps(&card);
        struct lade_catalog *cat;
        struct lade_plan_model pm;
        struct lade_plan plan;
        struct lade_model *m;
        if (lade_catalog_open(&cat, models[0], err))
            fail_msg("%s", err);
        lade_plan_model_of(&pm, cat, &c);
        uint64_t fixed = pm.base + pm.state + pm.kv_token * CONTEXT + pm.buffers + pm.workspace;
        c.vram[0] = fixed + (uint64_t)(shares[i] * (double)pm.experts) + card.fixed;
        if (lade_plan_here(&plan, cat, &c, err))
            fail_msg("%s", err);
        struct lade_options opt = {.model = models[0],
                                   .exact = true,
                                   .threads = 2,
                                   .context = CONTEXT,
                                   .batch = BATCH,
                                   .plugin = c.plugin,
                                   .vram_cap = {c.vram[0]}};
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("a share of %.2f, %s: %s", shares[i],
                     lade_strategy_name(plan.rows[plan.chosen].strategy), err);
        assert_string_equal(lade_model_strategy(m),
                            lade_strategy_name(plan.rows[plan.chosen].strategy));
        assert_true(lade_model_vram_peak(m, NULL) <= c.vram[0]);
        lade_model_close(m);
        lade_catalog_close(cat);
    }
}

/* What the CPU's kernels have taken for a prompt of one batch, and what was told of it. */
static size_t work_of(const char *path, bool exact, int batch, size_t *told)
{
    struct lade_options opt = {
        .model = path, .exact = exact, .threads = 2, .context = 2 * batch, .batch = batch};
    struct lade_session *s = NULL;
    struct lade_model *m;
    struct lade_limits limits;
    int32_t *ids = calloc((size_t)batch, sizeof *ids);
    for (int i = 0; i < batch; i++)
        ids[i] = i * 7 % 200;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(&s, m, err) ||
        lade_session_sync(s, ids, batch, 0, NULL, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    lade_devices_limits(&limits, lade_model_catalog(m), batch, 2 * batch);
    *told = lade_cpu_ops()->workspace(&limits);
    const size_t bytes = m->devices.cpu_dev->scratch_bytes;
    lade_session_close(s);
    lade_model_close(m);
    free(ids);
    return bytes;
}

/* Work space grows with batches by no more than plans are told. */
static void test_batches_on_the_cpu(void **state)
{
    (void)state;
    static const char *const all[] = {"tests/fixtures/tiny8-int4-mixed",
                                      "tests/fixtures/tiny8-bf16", "tests/fixtures/wide-bf16",
                                      "tests/fixtures/tiny-gguf/tiny-q8_0.gguf"};
    for (size_t i = 0; i < 2 * sizeof all / sizeof *all; i++) {
        size_t told_small, told_large;
        const size_t small = work_of(all[i / 2], i % 2, 256, &told_small),
                     large = work_of(all[i / 2], i % 2, 1024, &told_large);
        assert_true(small > 0 && large > small && told_large == 4 * told_small);
        if (large - small > told_large - told_small)
            fail_msg("%s, exact %zu: %zu and %zu bytes, told %zu and %zu", all[i / 2], i % 2, small,
                     large, told_small, told_large);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_every_row_of_cuda),
        cmocka_unit_test(test_same_choice),
        cmocka_unit_test(test_batches_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
