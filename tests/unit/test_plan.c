/* The plan against the product's strategy table: the listed choices for the INT4-mixed 80B, the
 * table's own ranges, and checkpoints of other sizes. VRAM and RAM in GiB. */
#include <math.h>
#include <stdio.h>

#include "engine/plan/predict.h"
#include "engine/plan/split.h"
#include "tests/unit/plan_common.h"

/* The 80B with its experts at another width: total bytes of the checkpoint. */
static struct lade_plan_model sized(double total_gb)
{
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    double ratio = total_gb * 1e9 / (double)(m.base + m.experts);
    m.base = (uint64_t)((double)m.base * ratio);
    m.base_read = (uint64_t)((double)m.base_read * ratio);
    m.experts = (uint64_t)((double)m.experts * ratio);
    m.experts_read = (uint64_t)((double)m.experts_read * ratio);
    m.embed = (uint64_t)((double)m.embed * ratio);
    m.head = (uint64_t)((double)m.head * ratio);
    uint64_t base = m.base - m.embed - m.head, experts = m.experts;
    for (int i = 0; i < m.layers; i++) { /* what is left goes to the layers that are left */
        m.layer[i].base = base / (uint64_t)(m.layers - i);
        m.layer[i].experts = experts / (uint64_t)(m.layers - i);
        base -= m.layer[i].base;
        experts -= m.layer[i].experts;
    }
    return m;
}

static const char *choice(const struct lade_plan_model *m, double vram, double ram,
                          enum lade_storage storage)
{
    struct lade_plan plan = plan_of(m, vram, ram, storage);
    return plan.chosen < 0 ? "none" : lade_strategy_name(plan.rows[plan.chosen].strategy);
}

static void assert_choice(const struct lade_plan_model *m, double vram, double ram,
                          enum lade_storage storage, const char *want)
{
    const char *got = choice(m, vram, ram, storage);
    if (strcmp(got, want))
        fail_msg("(%g, %g, %s): %s, the table has %s", vram, ram, lade_storage_name(storage), got,
                 want);
}

static void test_listed_choices(void **state)
{
    (void)state;
    static const struct {
        double vram, ram;
        enum lade_storage storage;
        const char *want;
    } list[] = {
        {48, 64, LADE_STORAGE_NVME, "full-gpu"},
        {80, 128, LADE_STORAGE_NVME, "full-gpu"},
        {26, 56, LADE_STORAGE_NVME, "hybrid-heavy-gpu"},
        {32, 64, LADE_STORAGE_NVME, "hybrid-heavy-gpu"},
        {40, 64, LADE_STORAGE_NVME, "hybrid-heavy-gpu"},
        {22, 64, LADE_STORAGE_NVME, "hybrid-balanced"},
        {16, 72, LADE_STORAGE_NVME, "hybrid-heavy-cpu"},
        {0, 60, LADE_STORAGE_NVME, "cpu-tight"},
        {0, 90, LADE_STORAGE_NVME, "cpu-standard"},
        {0, 160, LADE_STORAGE_NVME, "cpu-comfort"},
        {10, 40, LADE_STORAGE_NVME, "stream-aggressive"},
        {10, 56, LADE_STORAGE_NVME, "stream-cached"},
        {14, 40, LADE_STORAGE_NVME, "offload-buffers"},
        {0, 24, LADE_STORAGE_NVME, "mmap"},
        {0, 40, LADE_STORAGE_NVME, "cached-mmap"},
        {0, 16, LADE_STORAGE_RAID0, "striped-mmap"},
    };
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        assert_choice(&m, list[i].vram, list[i].ram, list[i].storage, list[i].want);
}

/* Caches of 8 bits are the CPU's: a GPU is left alone, and says why where it is asked for. */
static void test_kv_q8(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    m.kv_on_cpu = true;
    assert_choice(&m, 48, 64, LADE_STORAGE_NVME, "cpu-tight");
    struct lade_plan plan = plan_of(&m, 48, 64, LADE_STORAGE_NVME);
    for (int i = 0; i < plan.n; i++)
        if (strncmp(lade_strategy_name(plan.rows[i].strategy), "cpu", 3) &&
            !strstr(lade_strategy_name(plan.rows[i].strategy), "mmap") &&
            !plan.rows[i].strategy->remote)
            assert_non_null(strstr(plan.rows[i].reason, "--kv-q8"));
}

/* A row of no machine: named only where there is an address, and then the only one. */
static void test_remote(void **state)
{
    (void)state;
    char why[LADE_ERR];
    struct lade_plan_model m;
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_model_80b(&m);
    lade_plan_machine_typical(&pc, 0, (uint64_t)(200 * 0x1p30), LADE_STORAGE_NVME);
    assert_int_equal(lade_plan(&plan, &m, &pc, "remote", 0, why), -1);
    assert_non_null(strstr(why, "--strategy remote: needs a server that has the model"));
    assert_int_equal(plan.rows[plan.n - 1].status, LADE_PLAN_IMPOSSIBLE);
    lade_plan_remote(&plan);
    assert_int_equal(plan.n, lade_n_strategies);
    for (int i = 0; i < plan.n; i++)
        assert_int_equal(plan.rows[i].status,
                         i == plan.chosen ? LADE_PLAN_CHOSEN : LADE_PLAN_IMPOSSIBLE);
    assert_string_equal(lade_strategy_name(plan.rows[plan.chosen].strategy), "remote");
}

/* The middle of each range of the table, and what it says about other checkpoints. */
static void test_ranges(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    for (double vram = 14; vram <= 16; vram++)
        assert_choice(&m, vram, 70, LADE_STORAGE_NVME, "hybrid-heavy-cpu");
    for (double vram = 20; vram <= 22; vram++)
        assert_choice(&m, vram, 60, LADE_STORAGE_NVME, "hybrid-balanced");
    for (double vram = 25; vram <= 29; vram++)
        assert_choice(&m, vram, 50, LADE_STORAGE_NVME, "hybrid-heavy-gpu");
    for (double ram = 50; ram <= 64; ram += 2)
        assert_choice(&m, 0, ram, LADE_STORAGE_NVME, "cpu-tight");
    for (double ram = 80; ram <= 96; ram += 4)
        assert_choice(&m, 0, ram, LADE_STORAGE_NVME, "cpu-standard");
    for (double ram = 128; ram <= 512; ram += 64)
        assert_choice(&m, 0, ram, LADE_STORAGE_NVME, "cpu-comfort");
    for (double ram = 33; ram <= 40; ram++)
        assert_choice(&m, 0, ram, LADE_STORAGE_SSD, "cached-mmap");

    struct lade_plan_model two_bit = sized(27), small = sized(29), large = sized(160);
    assert_choice(&two_bit, 32, 32, LADE_STORAGE_NVME, "full-gpu");
    assert_choice(&two_bit, 40, 32, LADE_STORAGE_NVME, "full-gpu");
    assert_choice(&small, 30, 16, LADE_STORAGE_NVME, "full-gpu");
    assert_choice(&small, 48, 64, LADE_STORAGE_NVME, "full-gpu");
    assert_choice(&small, 0, 40, LADE_STORAGE_NVME, "cpu-tight");
    assert_choice(&large, 80, 128, LADE_STORAGE_NVME, "hybrid-balanced");
    assert_choice(&large, 48, 128, LADE_STORAGE_NVME, "offload-buffers");
    assert_choice(&large, 0, 200, LADE_STORAGE_NVME, "cpu-tight");
    assert_choice(&large, 0, 256, LADE_STORAGE_NVME, "cpu-standard");
    assert_choice(&large, 0, 128, LADE_STORAGE_NVME, "cached-mmap");
    assert_choice(&large, 0, 24, LADE_STORAGE_NVME, "mmap");
}

/* The tree of decisions, for three checkpoints: does all of it fit in VRAM; else the base and a
 * share of the experts, the rest in RAM, computed by the CPU (hybrid) or carried to the GPU
 * (stream); else all in RAM; else the drive. */
static void test_decisions(void **state)
{
    (void)state;
    static const struct {
        double total_gb, vram, ram;
        const char *want;
    } list[] = {
        /* 29 GB, what the table's 30 GB of VRAM were meant for */
        {29, 30, 16, "full-gpu"},
        {29, 29, 8, "full-gpu"},
        {29, 24, 16, "hybrid-heavy-gpu"},
        {29, 16, 24, "hybrid-heavy-gpu"},
        {29, 14, 24, "hybrid-balanced"},
        {29, 10, 32, "hybrid-heavy-cpu"},
        {29, 12, 16, "offload-buffers"},
        {29, 8, 32, "stream-cached"},
        {29, 6, 16, "stream-aggressive"},
        {29, 4, 32, "cpu-tight"},
        {29, 0, 32, "cpu-tight"},
        {29, 0, 64, "cpu-standard"},
        {29, 0, 96, "cpu-comfort"},
        {29, 0, 24, "cached-mmap"},
        {29, 0, 8, "mmap"},
        /* 43 GB: the gaps between the table's rows */
        {43.243, 44, 64, "full-gpu"},
        {43.243, 40, 16, "hybrid-heavy-gpu"},
        {43.243, 24, 32, "hybrid-heavy-gpu"},
        {43.243, 20, 96, "hybrid-balanced"},
        {43.243, 14, 256, "hybrid-heavy-cpu"},
        {43.243, 12, 48, "stream-cached"},
        {43.243, 12, 32, "offload-buffers"},
        {43.243, 20, 24, "offload-buffers"},
        {43.243, 6, 24, "stream-aggressive"},
        {43.243, 10, 16, "mmap"},
        {43.243, 4, 64, "cpu-tight"},
        {43.243, 0, 8, "mmap"},
        /* 160 GB: sixteen bits a weight */
        {160, 192, 64, "full-gpu"},
        {160, 141, 64, "hybrid-heavy-gpu"},
        {160, 80, 192, "hybrid-balanced"},
        {160, 48, 256, "hybrid-heavy-cpu"},
        {160, 24, 256, "stream-cached"},
        {160, 80, 64, "offload-buffers"},
        {160, 24, 96, "stream-aggressive"},
        {160, 8, 192, "cpu-tight"},
        {160, 0, 256, "cpu-standard"},
        {160, 0, 512, "cpu-comfort"},
        {160, 0, 96, "cached-mmap"},
        {160, 0, 32, "mmap"},
        {160, 0, 16, "none"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct lade_plan_model m = sized(list[i].total_gb);
        assert_choice(&m, list[i].vram, list[i].ram, LADE_STORAGE_NVME, list[i].want);
    }
}

/* Caps are promises: no possible row uses more than it was given, and every row says why. */
static void test_no_row_exceeds_the_machine(void **state)
{
    (void)state;
    static const double totals[] = {8, 29, 43.243, 160};
    for (size_t t = 0; t < sizeof totals / sizeof *totals; t++) {
        struct lade_plan_model m = sized(totals[t]);
        for (int vram = 0; vram <= 96; vram += 4) {
            for (int ram = 2; ram <= 260; ram += 6) {
                struct lade_plan p = plan_of(&m, vram, ram, LADE_STORAGE_NVME);
                for (int i = 0; i < p.n; i++) {
                    const struct lade_plan_row *r = &p.rows[i];
                    assert_true(r->reason[0]);
                    if (r->status == LADE_PLAN_IMPOSSIBLE)
                        continue;
                    assert_true(r->vram_bytes <= (uint64_t)vram << 30);
                    assert_true(r->ram_bytes <= (uint64_t)ram << 30);
                    assert_true(isfinite(r->decode_tps) && r->decode_tps > 0);
                    assert_true(isfinite(r->prefill_tps) && r->prefill_tps > 0);
                    assert_true(r->load_s > 0 && r->ttft_s > 0);
                    uint64_t weights = r->vram_bytes + r->ram_bytes + r->disk_bytes;
                    assert_true(weights >= m.base + m.experts);
                }
            }
        }
    }
}

/* More memory never leads to nothing, and a machine that fits nothing is told what is missing. */
static void test_every_machine_has_an_answer(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    for (int vram = 0; vram <= 96; vram += 2)
        for (int ram = 16; ram <= 512; ram += 4)
            assert_string_not_equal(choice(&m, vram, ram, LADE_STORAGE_NVME), "none");
    struct lade_plan p = plan_of(&m, 0, 4, LADE_STORAGE_NVME);
    assert_int_equal(p.chosen, -1);
    for (int i = 0; i < p.n; i++)
        assert_non_null(strstr(p.rows[i].reason, "needs"));
}

static void test_forced_strategy(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_model_80b(&m);
    lade_plan_machine_typical(&pc, 0, (uint64_t)64 << 30, LADE_STORAGE_NVME);
    assert_int_equal(lade_plan(&plan, &m, &pc, "mmap", 0, err), 0);
    assert_string_equal(lade_strategy_name(plan.rows[plan.chosen].strategy), "mmap");
    assert_int_equal(lade_plan(&plan, &m, &pc, "full-gpu", 0, err), -1);
    assert_non_null(strstr(err, "VRAM"));
    assert_int_equal(lade_plan(&plan, &m, &pc, "fastest", 0, err), -1);
    assert_non_null(strstr(err, "fastest"));
}

/* Batches are large where that takes few experts, no conversation and no row away; one that was asked for
 * is what it is. */
static void test_batches(void **state)
{
    (void)state;
    static const struct {
        double vram, ram;
        const char *row;
        int context, batch;
    } cases[] = {
        {48, 64, "full-gpu", 0, 2048},
        {22, 64, "hybrid-balanced", 0, 2048},
        {10, 56, "stream-cached", 0, 2048},
        {48, 64, "full-gpu", 2048, 2048},
        {48, 64, "full-gpu", 2047, 512},
        {48, 64, "full-gpu", 256, 256},
        {14, 40, "offload-buffers", 0, 512},
        {48, 64, "cpu-tight", 0, 512},
        {7, 64, "stream-aggressive", 0, 512},
        {0, 32, "cached-mmap", 0, 4096},
        {0, 24, "mmap", 4095, 2048},
        {0, 10, "mmap", 0, 1024},
        {0, 7, "mmap", 0, 512},
        {0, 64, "cpu-tight", 0, 512},
        {48, 24, "mmap", 0, 4096},
        {0, 24, "mmap", 300, 300},
    };
    struct lade_plan_model m, plain;
    lade_plan_model_80b(&plain);
    m = plain;
    for (int i = 0; i < LADE_LARGE; i++) {
        plain.large[i].batch = 0;
        m.large[i].workspace = m.workspace + (42 << 20);
    }
    const struct lade_plan_large *cards = &m.large[1];
    assert_int_equal(cards->batch, LADE_CARDS_LARGE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_plan_machine pc;
        struct lade_plan with, without;
        lade_plan_machine_typical(&pc, (uint64_t)(cases[i].vram * 0x1p30),
                                  (uint64_t)(cases[i].ram * 0x1p30), LADE_STORAGE_NVME);
        assert_int_equal(lade_plan(&with, &m, &pc, NULL, cases[i].context, err), 0);
        assert_int_equal(lade_plan(&without, &plain, &pc, NULL, cases[i].context, err), 0);
        const struct lade_plan_row *r = row_of(&with, cases[i].row);
        const struct lade_plan_row *was = row_of(&without, cases[i].row);
        if (r->place.batch != cases[i].batch)
            fail_msg("%s, %g GiB: batch %d", cases[i].row, cases[i].vram, r->place.batch);
        const double before = lade_plan_prompt(was, &plain, &pc, 4096);
        if (r->disk_bytes && r->place.base == LADE_RAM && r->place.batch > 512)
            assert_true(lade_plan_prompt(r, &m, &pc, 4096) < before);
        assert_true(lade_plan_prompt(r, &m, &pc, 512) <=
                    1.1 * lade_plan_prompt(was, &plain, &pc, 512));
        assert_int_equal(with.chosen, without.chosen);
        assert_int_equal(r->place.context, was->place.context);
        assert_true(r->experts_in_vram >= was->experts_in_vram * 15 / 16);
        assert_true(r->experts_in_ram >= was->experts_in_ram * 15 / 16 || r->experts_in_vram > 0);
        assert_true(r->ram_bytes <= pc.ram - pc.ram_reserve);
        assert_true(r->vram_bytes <= pc.gpu[0].bytes - pc.gpu[0].reserve);
    }

    /* Just enough for all experts: more tokens at a time would cost the row. */
    struct lade_plan p = plan_of(&plain, 48, 64, LADE_STORAGE_NVME);
    struct lade_plan_machine pc;
    const uint64_t enough = row_of(&p, "full-gpu")->vram_bytes;
    lade_plan_machine_typical(&pc, enough, (uint64_t)64 << 30, LADE_STORAGE_NVME);
    pc.gpu[0].reserve = 0;
    for (int more = 0; more < 2; more++) {
        pc.gpu[0].bytes = enough + (more ? cards->workspace + cards->buffers - m.buffers : 0);
        assert_int_equal(lade_plan(&p, &m, &pc, NULL, 0, err), 0);
        assert_int_equal(p.chosen, 0);
        assert_int_equal(p.rows[0].place.batch, more ? 2048 : 512);
    }
}

/* What the tiers are told: sizes within the machine, homes as the table says. */
static void test_placements(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    struct lade_plan p = plan_of(&m, 14, 40, LADE_STORAGE_NVME);
    const struct lade_placement *o = &row_of(&p, "offload-buffers")->place;
    assert_int_equal(o->base, LADE_VRAM);
    assert_int_equal(o->kv, LADE_RAM);
    assert_int_equal(o->buffers, LADE_RAM);
    assert_int_equal(o->rest_by, LADE_BY_GPU);
    const struct lade_placement *s = &row_of(&p, "stream-aggressive")->place;
    assert_int_equal(s->kv, LADE_VRAM);
    assert_true(s->vram_is_cache && s->staging > 0);
    assert_true(lade_vram_experts(o) > lade_vram_experts(s)); /* that is what the row is for */

    p = plan_of(&m, 22, 64, LADE_STORAGE_NVME);
    const struct lade_placement *h = &row_of(&p, "hybrid-balanced")->place;
    assert_int_equal(h->rest_by, LADE_BY_CPU);
    assert_false(h->vram_is_cache);
    assert_true(lade_vram_experts(h) + h->ram_experts >= m.experts);
    assert_true((double)(lade_vram_experts(h) + h->ram_experts) < 1.01 * (double)m.experts);
    p = plan_of(&m, 10, 56, LADE_STORAGE_NVME);
    const struct lade_placement *c = &row_of(&p, "stream-cached")->place;
    assert_true(c->ram_backs_vram);
    assert_int_equal(c->ram_experts, m.experts);
    p = plan_of(&m, 0, 24, LADE_STORAGE_NVME);
    const struct lade_plan_row *d = row_of(&p, "mmap");
    assert_int_equal(d->place.base, LADE_RAM);
    assert_int_equal(lade_vram_experts(&d->place), 0);
    assert_int_equal(d->place.ram_experts + d->disk_bytes, m.experts);
}

/* Without a wish for a length, a short context is better than none; a wish is kept or refused. */
static void test_context(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan_machine pc;
    struct lade_plan p;
    lade_plan_model_80b(&m);
    m.kv_token *= 20;
    lade_plan_machine_typical(&pc, 0, (uint64_t)16 << 30, LADE_STORAGE_NVME);
    assert_int_equal(lade_plan(&p, &m, &pc, "mmap", 0, err), 0);
    int context = row_of(&p, "mmap")->place.context;
    assert_true(context >= 2048 && context < 32768);
    assert_int_equal(lade_plan(&p, &m, &pc, "mmap", 32768, err), -1);
    assert_int_equal(lade_plan(&p, &m, &pc, "mmap", 1000, err), 0);
    assert_int_equal(row_of(&p, "mmap")->place.context, 1000);
    assert_int_equal(row_of(&p, "mmap")->place.batch, 512);
}

static void test_bounds_of_the_80b(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    assert_int_equal(m.base + m.experts, 43243415040u);
    assert_true(m.experts_read > 750000000u && m.experts_read < 850000000u);
    assert_int_equal(m.kv_token, 12 * 2 * 2 * 256 * 2);
}

/* ---- several GPUs ---- */

static struct lade_plan plan_on(const double *vram, int n, double ram, const char *strategy)
{
    struct lade_plan_model m;
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_model_80b(&m);
    lade_plan_machine_typical(&pc, 0, (uint64_t)(ram * 0x1p30), LADE_STORAGE_NVME);
    for (int i = 0; i < n; i++)
        lade_plan_machine_add(&pc, (uint64_t)(vram[i] * 0x1p30));
    assert_int_equal(lade_plan(&plan, &m, &pc, strategy, 0, err), 0);
    return plan;
}

/* As few GPUs as hold everything, else all that are of use; their layers follow each other, and none is
 * given more than it has. */
static void test_several_gpus(void **state)
{
    (void)state;
    static const struct {
        double vram[4];
        int n;
        double ram;
        const char *want;
        int cards, gpu[4];
    } list[] = {
        {{24, 24}, 2, 64, "full-gpu", 2, {0, 1}},
        {{16, 16, 16}, 3, 64, "full-gpu", 3, {0, 1, 2}},
        {{24, 8, 16}, 3, 64, "full-gpu", 3, {0, 1, 2}},
        {{8, 80}, 2, 64, "full-gpu", 1, {1}}, /* one is enough */
        {{24, 4, 24}, 3, 64, "full-gpu", 2, {0, 2}},
        {{16, 16}, 2, 64, "hybrid-heavy-gpu", 2, {0, 1}},
        {{12, 8}, 2, 64, "hybrid-balanced", 2, {0, 1}},
        {{24, 1}, 2, 64, "hybrid-heavy-gpu", 1, {0}}, /* the other holds no layer */
        {{6, 6}, 2, 56, "stream-cached", 2, {0, 1}},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct lade_plan p = plan_on(list[i].vram, list[i].n, list[i].ram, NULL);
        assert_true(p.chosen >= 0);
        const struct lade_plan_row *r = &p.rows[p.chosen];
        if (strcmp(lade_strategy_name(r->strategy), list[i].want))
            fail_msg("row %zu: %s, not %s", i, lade_strategy_name(r->strategy), list[i].want);
        assert_int_equal(r->place.n_cards, list[i].cards);
        assert_int_equal(r->place.card[0].first, 0);
        double sum = 0;
        for (int c = 0; c < r->place.n_cards; c++) {
            const struct lade_plan_gpu *g = lade_plan_gpu_of(&p.machine, r->place.card[c].gpu);
            double held = lade_plan_card_fixed(&r->place, &p.model, c);
            assert_int_equal(g->gpu, list[i].gpu[c]);
            assert_true(!c || r->place.card[c].first > r->place.card[c - 1].first);
            held += (double)r->place.card[c].experts;
            assert_true(held + (double)g->reserve <= (double)g->bytes);
            sum += held;
        }
        assert_true(fabs(sum - (double)r->vram_bytes) < 8);
        if (!strcmp(list[i].want, "full-gpu"))
            assert_int_equal(lade_vram_experts(&r->place), p.model.experts);
    }
    /* A hybrid fills every card. */
    static const double pair[] = {20, 12};
    struct lade_plan p = plan_on(pair, 2, 64, "hybrid-heavy-gpu");
    const struct lade_plan_row *r = &p.rows[p.chosen];
    for (int c = 0; c < 2; c++) {
        double held =
            lade_plan_card_fixed(&r->place, &p.model, c) + (double)r->place.card[c].experts;
        assert_true(held + 1e9 > (double)p.machine.gpu[c].bytes - 4);
    }
    /* Layers stay where a model is. */
    struct lade_plan_machine held = p.machine;
    struct lade_plan again;
    held.gpus_held = true;
    held.gpu[0].first = 0;
    held.gpu[1].first = 40;
    assert_int_equal(lade_plan(&again, &p.model, &held, "stream-cached", 0, err), 0);
    assert_int_equal(again.rows[again.chosen].place.card[1].first, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listed_choices),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_kv_q8),
        cmocka_unit_test(test_remote),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_no_row_exceeds_the_machine),
        cmocka_unit_test(test_every_machine_has_an_answer),
        cmocka_unit_test(test_forced_strategy),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_placements),
        cmocka_unit_test(test_context),
        cmocka_unit_test(test_bounds_of_the_80b),
        cmocka_unit_test(test_several_gpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
