/* The plan against the product's strategy table: the listed choices for the INT4-mixed 80B, the
 * table's own ranges, and checkpoints of other sizes. VRAM and RAM in GiB. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/plan/plan.h"

static char err[LADE_ERR];

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
    return m;
}

static struct lade_plan plan_of(const struct lade_plan_model *m, double vram, double ram,
                                enum lade_storage storage)
{
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_machine_typical(&pc, (uint64_t)(vram * 0x1p30), (uint64_t)(ram * 0x1p30), storage);
    assert_int_equal(lade_plan(&plan, m, &pc, NULL, 0, err), 0);
    return plan;
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

static void test_bounds_of_the_80b(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    assert_int_equal(m.base + m.experts, 43243415040u);
    assert_true(m.experts_read > 750000000u && m.experts_read < 850000000u);
    assert_int_equal(m.kv_token, 12 * 2 * 2 * 256 * 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listed_choices),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_no_row_exceeds_the_machine),
        cmocka_unit_test(test_every_machine_has_an_answer),
        cmocka_unit_test(test_forced_strategy),
        cmocka_unit_test(test_bounds_of_the_80b),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
