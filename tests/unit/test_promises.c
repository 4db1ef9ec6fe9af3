/* What a plan promises, a load keeps: for every row of the strategy table, planned for a machine that
 * has just so much memory, the GPU is given that much and no byte more, RAM is counted, and the
 * logits are those of a model that is all in RAM, while every token evicts where not all fits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/model.h"
#include "tests/support/plugins.h"
#include "tests/support/sim_gpu/sim_gpu.h"

enum { TOKENS = 24, CONTEXT = 64, BATCH = 8 };
static const double TOLERANCE = 1e-4, PROMISE = 1.05;

static char err[LADE_ERR];

static const char *const models[] = {"tests/fixtures/tiny8-int4-mixed",
                                     "tests/fixtures/tiny8-bf16"};

static struct lade_plan_caps caps(void)
{
    return (struct lade_plan_caps){.exact = true,
                                   .threads = 2,
                                   .context = CONTEXT,
                                   .batch = BATCH,
                                   .plugin = test_plugin_path("lade-sim.so")};
}

/* The row of a plan for a machine with these bytes free, none of them reserved. */
static struct lade_plan_row plan_row(const struct lade_plan_model *m, uint64_t vram, uint64_t ram,
                                     const char *name)
{
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_machine_typical(&pc, vram, ram, LADE_STORAGE_RAID0);
    pc.vram_reserve = pc.ram_reserve = 0;
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
    uint64_t vram = wide.vram_bytes - wide.place.vram_experts;
    double share = s->vram_min < 1 ? fmin(1.3 * s->vram_min, 1) : 1;
    if (s->gpu)
        vram += (uint64_t)(share * (double)m->experts);
    struct lade_plan_row row = plan_row(m, s->gpu ? vram : 0, lots, s->name);
    if (s->ram_min >= 1 || s->ram_min <= 0)
        return row;
    uint64_t ram = row.ram_bytes - row.place.ram_experts;
    double rest = (double)m->experts - (double)row.place.vram_experts;
    ram += (uint64_t)(fmin(1.1 * s->ram_min, 1) * rest) + 1;
    return plan_row(m, s->gpu ? vram : 0, ram, s->name);
}

static float *logits_of(struct lade_model *m, size_t *vocab)
{
    struct lade_session *s;
    int32_t ids[TOKENS];
    *vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    float *out = malloc(TOKENS * *vocab * sizeof *out);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % (int)*vocab;
    if (lade_session_open(&s, m, err) ||
        lade_session_sync(s, ids, BATCH, 0, NULL, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    lade_session_reset(s);
    for (int i = 0; i < TOKENS; i++) {
        if (lade_session_push(s, ids[i], err))
            fail_msg("%s", err);
        memcpy(out + (size_t)i * *vocab, lade_session_logits(s), *vocab * sizeof *out);
    }
    lade_session_close(s);
    return out;
}

static double worst(const float *a, const float *b, size_t n, size_t vocab)
{
    double most = 0;
    for (size_t p = 0; p < n; p++) {
        double diff = 0, norm = 0;
        for (size_t i = p * vocab; i < (p + 1) * vocab; i++) {
            diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
            norm += (double)b[i] * b[i];
        }
        most = fmax(most, sqrt(diff / norm));
    }
    return most;
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
    return sum;
}

static void check_row(const char *path, const struct lade_strategy *s,
                      const struct lade_plan_model *pm, const float *want)
{
    const struct lade_sim *sim = test_plugin_symbol(test_plugin_path("lade-sim.so"), "lade_sim");
    struct lade_plan_row row = tight_row(pm, s);
    struct lade_options opt = {.model = path,
                               .exact = true,
                               .threads = 2,
                               .place = &row.place,
                               .plugin = test_plugin_path("lade-sim.so"),
                               .vram_cap = row.vram_bytes + sim->context};
    struct lade_model *m;
    struct lade_traffic t;
    size_t vocab;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s, %s: %s", path, s->name, err);
    float *have = logits_of(m, &vocab);
    double e = worst(have, want, TOKENS, vocab);
    if (!(e <= TOLERANCE))
        fail_msg("%s, %s: off by %.2e", path, s->name, e);
    uint64_t peak = lade_model_vram_peak(m), ram = ram_taken(m, pm);
    assert_int_equal(peak > 0, s->gpu);
    if (s->gpu && (double)(peak - sim->context) > PROMISE * (double)row.vram_bytes)
        fail_msg("%s, %s: %llu bytes of VRAM, planned %llu", path, s->name,
                 (unsigned long long)(peak - sim->context), (unsigned long long)row.vram_bytes);
    if ((double)ram > PROMISE * (double)row.ram_bytes)
        fail_msg("%s, %s: %llu bytes of RAM, planned %llu", path, s->name, (unsigned long long)ram,
                 (unsigned long long)row.ram_bytes);
    lade_model_traffic(m, &t);
    bool all = row.experts_in_vram + row.experts_in_ram >= 0.999;
    if (!all)
        assert_true(t.disk_reads >= TOKENS); /* and so many were evicted */
    if (s->gpu && s->rest_by == LADE_BY_GPU && row.experts_in_vram < 0.999)
        assert_true(t.link_bytes > 0);
    free(have);
    lade_model_close(m);
}

static void test_every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct lade_placement all = {.base = LADE_RAM,
                                     .kv = LADE_RAM,
                                     .buffers = LADE_RAM,
                                     .ram_experts = UINT64_MAX,
                                     .rest_by = LADE_BY_CPU,
                                     .context = CONTEXT,
                                     .batch = BATCH};
        struct lade_options opt = {.model = models[i], .exact = true, .threads = 2, .place = &all};
        struct lade_plan_caps c = caps();
        struct lade_plan_model pm;
        struct lade_model *m;
        size_t vocab;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        lade_plan_model_of(&pm, lade_model_catalog(m), &c);
        float *want = logits_of(m, &vocab);
        lade_model_close(m);
        for (int k = 0; k < lade_n_strategies; k++)
            check_row(models[i], &lade_strategies[k], &pm, want);
        free(want);
    }
}

/* The row that `lade plan` shows as chosen is the one that a load takes. */
static void test_same_choice(void **state)
{
    (void)state;
    static const double shares[] = {0, 0.1, 0.3, 0.45, 0.7, 2};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        struct lade_plan_caps c = caps();
        struct lade_catalog *cat;
        struct lade_plan_model pm;
        struct lade_plan plan;
        struct lade_model *m;
        const struct lade_sim *sim = NULL;
        if (lade_catalog_open(&cat, models[0], err))
            fail_msg("%s", err);
        lade_plan_model_of(&pm, cat, &c);
        sim = test_plugin_symbol(c.plugin, "lade_sim");
        uint64_t fixed = pm.base + pm.state + pm.kv_token * CONTEXT + pm.buffers + pm.workspace;
        c.vram = fixed + (uint64_t)(shares[i] * (double)pm.experts) + sim->context;
        if (lade_plan_here(&plan, cat, &c, err))
            fail_msg("%s", err);
        struct lade_options opt = {.model = models[0],
                                   .exact = true,
                                   .threads = 2,
                                   .context = CONTEXT,
                                   .batch = BATCH,
                                   .plugin = c.plugin,
                                   .vram_cap = c.vram};
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("a share of %.2f, %s: %s", shares[i],
                     lade_strategy_name(plan.rows[plan.chosen].strategy), err);
        assert_string_equal(lade_model_strategy(m),
                            lade_strategy_name(plan.rows[plan.chosen].strategy));
        assert_true(lade_model_vram_peak(m) <= c.vram);
        lade_model_close(m);
        lade_catalog_close(cat);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_same_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
