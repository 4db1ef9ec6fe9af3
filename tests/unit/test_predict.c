/* What a plan predicts: bytes over speed, by hand where that can be done, and what each speed changes. */
#include <math.h>

#include "tests/unit/plan_common.h"

/* Predictions are bytes over speed: what a token reads adds up, and no row beats the bound. */
static void test_predictions(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan_machine pc;
    struct lade_plan p;
    lade_plan_model_80b(&m);
    for (int vram = 0; vram <= 48; vram += 6) {
        for (int ram = 16; ram <= 128; ram += 8) {
            p = plan_of(&m, vram, ram, LADE_STORAGE_NVME);
            lade_plan_machine_typical(&pc, 1, 0, LADE_STORAGE_NVME);
            for (int i = 0; i < p.n; i++) {
                const struct lade_plan_row *r = &p.rows[i];
                double all = r->read[LADE_VRAM] + r->read[LADE_RAM] + r->read[LADE_DRIVE];
                if (r->status == LADE_PLAN_IMPOSSIBLE)
                    continue;
                assert_true(fabs(all / (double)(m.base_read + m.experts_read) - 1) < 1e-6);
                assert_true(r->read[LADE_DRIVE] >= 0);
                assert_true(1 / r->decode_tps >= r->read[LADE_VRAM] / pc.gpu[0].gbps / 1e9);
                assert_true(1 / r->decode_tps >= r->read[LADE_DRIVE] / pc.disk_random_gbps / 1e9);
                assert_true(r->load_s <= 1.01 * (double)m.files / pc.disk_gbps / 1e9);
                assert_true(r->first_s > 1 / r->decode_tps);
                assert_true(r->ttft_s > 1 / r->decode_tps);
            }
        }
    }
}

/* The seconds of a token beside those of one whose experts are all in RAM: what the drive adds. */
static double drive_adds(const struct lade_plan_model *m, struct lade_plan_machine *pc)
{
    struct lade_plan p;
    assert_int_equal(lade_plan(&p, m, pc, "mmap", 0, err), 0);
    return 1 / p.rows[p.chosen].decode_tps;
}

/* A layer's first miss waits for one read alone, the others for one of many: by hand for a model that
 * reads all of its experts from the drive, and by what each speed changes. */
static void test_misses(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan_machine pc, twice;
    lade_plan_model_80b(&m);
    for (int i = 0; i <= LADE_SERVED; i++)
        m.kept[i] = i == LADE_SERVED; /* a cache finds nothing unless it has all */
    lade_plan_machine_typical(&pc, 0, (uint64_t)24 << 30, LADE_STORAGE_NVME);
    pc.disk_one_gbps = 1;
    pc.disk_random_gbps = 4;
    pc.pack_gbps = 100;
    double token = drive_adds(&m, &pc), expert = (double)m.largest / 1e9;
    twice = pc;
    twice.disk_one_gbps = 2; /* one expert of each of 48 layers */
    assert_float_equal(token - drive_adds(&m, &twice), 48 * expert * (1 - 1.0 / 2), 1e-3);
    twice = pc;
    twice.disk_random_gbps = 8; /* nine of each */
    assert_float_equal(token - drive_adds(&m, &twice), 48 * 9 * expert * (1.0 / 4 - 1.0 / 8), 1e-3);
}

/* The seconds in which hybrid-balanced is told to do a prompt of 512 tokens. */
static double told_prompt(const struct lade_plan_model *m, const struct lade_plan_machine *pc,
                          double *in_vram)
{
    struct lade_plan p;
    assert_int_equal(lade_plan(&p, m, pc, "hybrid-balanced", 0, err), 0);
    *in_vram = p.rows[p.chosen].experts_in_vram;
    assert_true(p.rows[p.chosen].place.carry.cpu_token > 0);
    return 512 / p.rows[p.chosen].prefill_tps;
}

/* Prompts of a row whose experts the CPU computes, told as a layer divides them (carry.h). By hand: what
 * the CPU takes where the link carries nothing but activations, what the card takes where the link and RAM
 * cost nothing; in between both, and neither is idle for long. */
static void test_carried_prompts(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan_machine pc, other;
    double in_vram;
    lade_plan_model_80b(&m);
    lade_plan_machine_typical(&pc, (uint64_t)22 << 30, (uint64_t)64 << 30, LADE_STORAGE_NVME);
    const double base = 512 * m.base_flops / pc.gpu_gflops / 1e9;
    double told = told_prompt(&m, &pc, &in_vram);
    const double flops = 512 * m.experts_flops * 47 / 48; /* nothing in the last layer */
    const double rest = 1 - in_vram, cpu = flops * rest / pc.experts_gflops / 1e9;
    const double bytes = (double)m.experts * rest * 47 / 48,
                 link = bytes / pc.gpu[0].link_gbps / 1e9;

    other = pc;
    other.gpu[0].link_gbps = 1e-3;
    double rows = 47 * 2.0 * 512 * 2048 * 4 / 1e6;
    assert_float_equal(told_prompt(&m, &other, &in_vram) / (base + cpu + rows), 1, 0.02);

    other = pc;
    other.gpu[0].link_gbps = other.ram_gbps = 1e6;
    assert_float_equal(told_prompt(&m, &other, &in_vram) / (base + flops / 4e13), 1, 0.02);

    /* An expert of n of the tokens saves the CPU n times what it takes the link: at least what both side by
     * side would do of experts that are all alike. */
    assert_true(told < base + cpu && told < base + link);
    assert_true(told < 1.15 * (base + 1 / (1 / cpu + 1 / link)));
    assert_true(told > base + bytes / pc.ram_gbps / 1e9);
}

/* Loads are told as those of about the same size were, where the base has the same home; others as the
 * drive and packing allow. */
static void test_loads_seen(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan after;
    lade_plan_model_80b(&m);
    const struct lade_plan before = plan_of(&m, 24, 64, LADE_STORAGE_NVME);
    struct lade_plan_machine pc = before.machine;
    lade_loads_note(&pc.to_ram, (double)m.files, (double)m.files / 1e9);
    assert_int_equal(lade_plan(&after, &m, &pc, NULL, 0, err), 0);
    double gb = (double)m.files / 1e9;
    assert_float_equal(row_of(&before, "cpu-tight")->load_s, gb / pc.disk_gbps, 0.01);
    assert_float_equal(row_of(&after, "cpu-tight")->load_s, gb, 0.01);
    assert_true(row_of(&after, "cpu-tight")->first_s > row_of(&before, "cpu-tight")->first_s);
    assert_float_equal(row_of(&after, "hybrid-balanced")->load_s,
                       row_of(&before, "hybrid-balanced")->load_s, 1e-9);
}

/* More RAM, more VRAM, a faster drive: never slower. */
static void test_more_is_never_slower(void **state)
{
    (void)state;
    struct lade_plan_model m;
    lade_plan_model_80b(&m);
    double last = 0;
    for (int ram = 12; ram <= 48; ram++) {
        struct lade_plan p = plan_of(&m, 0, ram, LADE_STORAGE_SSD);
        const struct lade_plan_row *r = row_of(&p, "mmap");
        assert_true(r->decode_tps >= last);
        last = r->decode_tps;
    }
    last = 0;
    for (int vram = 7; vram <= 12; vram++) {
        struct lade_plan p = plan_of(&m, vram, 64, LADE_STORAGE_SSD);
        const struct lade_plan_row *r = row_of(&p, "stream-cached");
        assert_true(r->decode_tps >= last);
        last = r->decode_tps;
    }
    struct lade_plan slow = plan_of(&m, 0, 24, LADE_STORAGE_HDD);
    struct lade_plan fast = plan_of(&m, 0, 24, LADE_STORAGE_NVME);
    assert_true(row_of(&slow, "mmap")->decode_tps < row_of(&fast, "mmap")->decode_tps);
    assert_true(row_of(&slow, "mmap")->load_s > row_of(&fast, "mmap")->load_s);
}

/* What answers were of what was told multiplies what is told, of their strategy alone. */
static void test_answers_seen(void **state)
{
    (void)state;
    struct lade_plan_model m;
    struct lade_plan after;
    lade_plan_model_80b(&m);
    const struct lade_plan before = plan_of(&m, 24, 64, LADE_STORAGE_NVME);
    struct lade_plan_machine pc = before.machine;
    pc.answers.decode[before.chosen] = 0.5;
    pc.answers.prefill[before.chosen] = 4;
    assert_int_equal(lade_plan(&after, &m, &pc, NULL, 0, err), 0);
    for (int i = 0; i < before.n; i++) {
        const struct lade_plan_row *was = &before.rows[i], *is = &after.rows[i];
        const bool seen = i == before.chosen;
        assert_float_equal(is->decode_tps, was->decode_tps * (seen ? 0.5 : 1), 1e-9);
        assert_float_equal(is->prefill_tps, was->prefill_tps * (seen ? 4 : 1), 1e-9);
        assert_true(!seen || (is->ttft_s < was->ttft_s && is->first_s > was->first_s));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_predictions),          cmocka_unit_test(test_misses),
        cmocka_unit_test(test_carried_prompts),      cmocka_unit_test(test_loads_seen),
        cmocka_unit_test(test_more_is_never_slower), cmocka_unit_test(test_answers_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
