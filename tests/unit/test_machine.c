/* The machine as it is: numbers that must hold on any Linux, and the load from two made-up lines. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernels/error.h"
#include "tui/meters/machine.h"
#include "tui/meters/meter.h"
#include "engine/plan/nvml.h"

static void test_load(void **state)
{
    (void)state;
    struct machine_probe p = {0};
    assert_true(isnan(machine_load(&p, "cpu  100 0 100 700 100 0 0 0 0 0")));
    assert_float_equal(machine_load(&p, "cpu  130 10 110 720 130 0 0 0 0 0"), 0.5, 1e-9);
    /* Nothing passed, a counter that ran back, a line of another kind. */
    assert_true(isnan(machine_load(&p, "cpu  130 10 110 720 130 0 0 0 0 0")));
    assert_true(isnan(machine_load(&p, "cpu  1 1 1 1 1 0 0 0 0 0")));
    assert_true(isnan(machine_load(&p, "intr 5")));
}

static void test_memory_moves(void **state)
{
    (void)state;
    struct machine_probe p = {0};
    struct machine before, after;
    const size_t size = 64 << 20;
    machine_sample(&p, &before);
    assert_true(before.ram_total != MACHINE_UNKNOWN && before.ram_total > 0);
    assert_true(before.ram_available <= before.ram_total);
    assert_true(before.rss > 0 && before.rss_file <= before.rss);
    char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(block != MAP_FAILED);
    memset(block, 1, size);
    machine_sample(&p, &after);
    munmap(block, size);
    assert_true(after.rss - after.rss_file >= before.rss - before.rss_file + size / 10 * 9);
}

static void test_nvml(void **state)
{
    (void)state;
    char reason[LADE_ERR] = "";
    struct lade_nvml *n = lade_nvml_open(reason);
    if (!n) {
        print_message("no GPU here: %s\n", reason);
        assert_non_null(strstr(reason, "libnvidia-ml.so.1: "));
        assert_int_equal(lade_nvml_count(NULL), 0);
        struct lade_nvml_gpu g;
        assert_int_equal(lade_nvml_sample(NULL, 0, &g), -1);
        lade_nvml_close(NULL);
        return;
    }
    assert_true(lade_nvml_count(n) > 0);
    for (int i = 0; i < lade_nvml_count(n); i++) {
        struct lade_nvml_gpu g;
        assert_int_equal(lade_nvml_sample(n, i, &g), 0);
        assert_true(*g.name && g.used <= g.total && g.busy <= 100);
    }
    struct lade_nvml_gpu g;
    assert_int_equal(lade_nvml_sample(n, lade_nvml_count(n), &g), -1);
    lade_nvml_close(n);
}

static const char *text_of(enum meter_id id, const struct meter_sample *s)
{
    static char out[UNITS_MAX];
    struct meter m;
    meter_init(&m, id);
    meter_update(&m, s, false);
    m.desc->format(&m.now, out);
    assert_true(cells_width(out) <= meter_width(&m));
    return out;
}

#define GIB 1073741824ull

static void test_meters(void **state)
{
    (void)state;
    struct meter_sample s = {.machine = {64 * GIB, 16 * GIB, 40 * GIB, 2 * GIB, 0.5}};
    assert_string_equal(text_of(METER_RAM, &s), "50.0/64.0 GiB");
    assert_string_equal(text_of(METER_VRAM, &s), "none");
    assert_string_equal(text_of(METER_CPU, &s), "50%");
    assert_string_equal(text_of(METER_SPEED, &s), UNITS_UNKNOWN " tok/s");
    assert_string_equal(text_of(METER_CONTEXT, &s), UNITS_UNKNOWN);

    s.have_engine = true;
    s.engine = (struct lade_stats){.phase = LADE_PHASE_DECODE,
                                   .decode_tps = 12.34,
                                   .prefill_tps = 83,
                                   .context_used = 1234,
                                   .context_size = 32768,
                                   .load_gbps = 1.5};
    assert_string_equal(text_of(METER_SPEED, &s), "12.3 tok/s");
    assert_string_equal(text_of(METER_CONTEXT, &s), "1234/32768");
    assert_string_equal(text_of(METER_LOAD, &s), "1.50 GB/s");
    s.engine.phase = LADE_PHASE_PREFILL;
    assert_string_equal(text_of(METER_SPEED, &s), "83.0 tok/s");
    s.engine.prefill_tps = 0;
    assert_string_equal(text_of(METER_SPEED, &s), UNITS_UNKNOWN " tok/s");

    s.have_gpu = true;
    s.gpu = (struct lade_nvml_gpu){"g", 24 * GIB, 6 * GIB, LADE_NVML_UNKNOWN, -1};
    assert_string_equal(text_of(METER_VRAM, &s), "6.0/24.0 GiB");
    s.gpu.ours = 2 * GIB;
    assert_string_equal(text_of(METER_VRAM, &s), "6.0/24.0 GiB");
    s.gpu.used = LADE_NVML_UNKNOWN;
    s.gpu.ours = LADE_NVML_UNKNOWN;
    assert_string_equal(text_of(METER_VRAM, &s), UNITS_UNKNOWN "/24.0 GiB");

    /* Half known is not zero. */
    s.machine = (struct machine){64 * GIB, MACHINE_UNKNOWN, 40 * GIB, 0, NAN};
    struct meter m;
    meter_init(&m, METER_RAM);
    meter_update(&m, &s, true);
    assert_true(isnan(m.now.part[1]));
    assert_int_equal(m.history.n, 1);
    assert_string_equal(text_of(METER_CPU, &s), UNITS_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_memory_moves),
        cmocka_unit_test(test_nvml),
        cmocka_unit_test(test_meters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
