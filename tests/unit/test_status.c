/* The status area: what is shown at which width, phases, unknown values, the panel, and /stats. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cells_common.h"
#include "tui/view/stats.h"
#include "tui/view/status.h"

#define GIB 1073741824ull

static struct status status;
static struct lade_model_info info;

static void fresh(void)
{
    status_init(&status);
    lade_nvml_close(status.nvml); /* the same picture on machines with and without a GPU */
    status.nvml = NULL;
    memset(&info, 0, sizeof info);
    strcpy(info.name, "Qwen3-Next-80B-A3B-Instruct");
    strcpy(info.format, "safetensors");
    strcpy(info.quant, "int4 mixed");
    strcpy(info.strategy, "cpu-standard");
    info.n_shards = 9;
    info.bytes = 43200000000;
    status_model(&status, &info);
}

/* Sets what the machine and the engine say, past status_tick's own samples. */
static void says(struct lade_stats e, bool gpu)
{
    status.sample = (struct meter_sample){.engine = e,
                                          .have_engine = true,
                                          .machine = {64 * GIB, 16 * GIB, 40 * GIB, 0, 0.5},
                                          .gpu = {"g", 24 * GIB, 12 * GIB, 10 * GIB, 5},
                                          .have_gpu = gpu};
    for (int i = 0; i < METER_COUNT; i++)
        meter_update(&status.meter[i], &status.sample, true);
}

static const char *line(int cols, int rows, int y)
{
    static char out[2048];
    struct cells c;
    assert_int_equal(cells_init(&c, rows, cols, true, true), 0);
    status_cells(&status, &c);
    cells_row(&c, y, out, sizeof out);
    assert_true(cells_width(out) <= cols);
    cells_free(&c);
    return out;
}

static const char *panel(int rows)
{
    struct cells c;
    assert_int_equal(cells_init(&c, rows, 34, true, true), 0);
    status_panel_cells(&status, &c);
    return picture_of(&c);
}

static const struct lade_stats decoding = {
    .phase = LADE_PHASE_DECODE, .decode_tps = 12.34, .context_used = 1234, .context_size = 32768};

static void has(const char *text, const char *what)
{
    if (!strstr(text, what))
        fail_msg("'%s' is not in '%s'", what, text);
}

/* Where the model is elsewhere, its place stands instead of this machine's memory. */
static void test_a_server(void **state)
{
    (void)state;
    fresh();
    info.remote = true;
    strcpy(info.strategy, "remote");
    strcpy(info.device, "gpu.local:8000");
    status_model(&status, &info);
    says(decoding, true);
    for (int rows = 1; rows <= 2; rows++) {
        const char *last = line(100, rows, rows - 1);
        has(last, "remote gpu.local:8000");
        has(last, "1234/32768");
        assert_null(strstr(last, "RAM"));
    }
    const char *p = panel(40);
    has(p, "remote gpu.local:8000");
    has(p, "Context");
    assert_null(strstr(p, "RAM"));
    assert_null(strstr(p, "CPU"));
}

static void test_widths(void **state)
{
    (void)state;
    fresh();
    says(decoding, true);
    /* The narrower, the less; what matters most stays. */
    has(line(40, 1, 0), "● generating");
    has(line(40, 1, 0), "12.3 tok/s");
    has(line(60, 1, 0), "12.3 tok/s");
    has(line(80, 1, 0), "VRAM 12.0/24.0 GiB");
    has(line(140, 1, 0), "ctx  1234/32768");
    has(line(140, 1, 0), "Qwen3-Next-80B-A3B-Instruct");
    has(line(200, 1, 0), "cpu-standard");
    has(line(80, 2, 0), "Qwen3-Next-80B-A3B-Instruct");
    has(line(80, 2, 0), "12.3 tok/s");
    has(line(80, 2, 1), "ctx ");
    has(line(80, 2, 1), "1234/32768");
    has(line(80, 2, 1), "48.0/64.0 GiB");
    has(line(80, 2, 1), "12.0/24.0 GiB");
    says((struct lade_stats){.phase = LADE_PHASE_LOADING}, true);
    has(line(40, 1, 0), "RAM 48.0/64.0 GiB"); /* the board tells the speed */
    says(decoding, false);
    has(line(80, 2, 1), "VRAM none");
    has(line(80, 2, 1), "cpu-standard");
    /* A long name has what the line leaves over: part of it beside all numbers, all on a wide one. */
    snprintf(status.model, sizeof status.model, "%s",
             "Qwen3-Next-80B-A3B-Instruct-int4-mixed-AutoRound");
    has(line(80, 2, 0), "Qwen3-Next-80B-A3B-Instruct-i");
    has(line(120, 2, 0), "Qwen3-Next-80B-A3B-Instruct-int4-mixed-AutoRound");
    has(line(120, 2, 0), "12.3 tok/s");
    for (int cols = 0; cols < 220; cols++)
        for (int rows = 0; rows < 3; rows++)
            line(cols, rows, 0);
    int lines, panel;
    status_wants(40, 120, &lines, &panel);
    assert_true(lines == 2 && panel == 0);
    status.panel = true;
    assert_null(strstr(line(200, 1, 0), "RAM"));
    has(line(200, 1, 0), "cpu-standard");
    status_close(&status);
}

static void test_phases(void **state)
{
    (void)state;
    char out[UNITS_MAX];
    fresh();
    assert_string_equal(status_phase(&status, out), "no model");
    struct lade_stats e = {.phase = LADE_PHASE_LOADING, .load_done = 43, .load_bytes = 100};
    says(e, false);
    assert_string_equal(status_phase(&status, out), "loading 43%");
    e.load_bytes = 0;
    says(e, false);
    assert_string_equal(status_phase(&status, out), "loading");
    e.phase = LADE_PHASE_PREFILL;
    says(e, false);
    assert_string_equal(status_phase(&status, out), "prefill");
    status_prefill(&status, 120, 512);
    assert_string_equal(status_phase(&status, out), "prefill 120/512");
    status_prefill(&status, 9000, 30000);
    assert_string_equal(status_phase(&status, out), "prefill 30%");
    e.phase = LADE_PHASE_IDLE;
    says(e, false);
    assert_string_equal(status_phase(&status, out), "idle");
    e.phase = LADE_PHASE_FAILED;
    says(e, false);
    assert_string_equal(status_phase(&status, out), "load failed");
    assert_int_equal(status_phase_role(&status), THEME_ERROR);
    status_close(&status);
}

/* Nothing measured: dashes, and no number at all. */
static void test_unknown(void **state)
{
    (void)state;
    fresh();
    for (int rows = 1; rows < 3; rows++) {
        for (int y = 0; y < rows; y++) {
            const char *text = line(200, rows, y) + 0;
            const char *model = strstr(text, "Qwen3-Next-80B-A3B-Instruct");
            for (const char *c = text; *c; c++)
                if (!model || c < model || c >= model + strlen("Qwen3-Next-80B-A3B-Instruct"))
                    assert_false(*c >= '0' && *c <= '9');
        }
    }
    has(line(200, 1, 0), UNITS_UNKNOWN " tok/s");
    has(line(200, 1, 0), "RAM " UNITS_UNKNOWN);
    status_close(&status);
}

/* While numbers change, nothing moves: labels stay in their columns. */
static void test_no_jitter(void **state)
{
    (void)state;
    static const char *const labels[] = {"RAM", "VRAM", "●", "ctx", "tok/s"};
    long at[5] = {0};
    fresh();
    for (int i = 0; i < 200; i++) {
        struct lade_stats e = decoding;
        e.phase = i % 3 ? LADE_PHASE_DECODE : i % 2 ? LADE_PHASE_PREFILL : LADE_PHASE_IDLE;
        e.decode_tps = i * i / 20.0;
        e.prefill_tps = i * 3;
        e.context_used = i * 150;
        status_prefill(&status, i, 200);
        says(e, true);
        const char *text = line(160, 1, 0);
        for (int k = 0; k < 5; k++) {
            const char *p = strstr(text, labels[k]);
            assert_non_null(p);
            char before[2048];
            snprintf(before, sizeof before, "%.*s", (int)(p - text), text);
            long col = cells_width(before);
            assert_true(i == 0 || col == at[k]);
            at[k] = col;
        }
    }
    status_close(&status);
}

static void test_tick(void **state)
{
    (void)state;
    fresh();
    struct lade_stats e = {.phase = LADE_PHASE_IDLE};
    assert_true(status_tick(&status, &e, 100));
    assert_false(status_tick(&status, &e, 100.3));
    assert_false(status_tick(&status, &e, 100.9));
    assert_true(status_tick(&status, &e, 101));
    e.phase = LADE_PHASE_DECODE; /* a new phase shows at once */
    e.decode_tps = 10;
    assert_true(status_tick(&status, &e, 101.01));
    assert_false(status_tick(&status, &e, 101.1));
    assert_true(status_tick(&status, &e, 101.3));
    assert_true(status_tick(&status, &e, 101.6));
    assert_true(status.meter[METER_SPEED].history.n >= 2);
    int n = status.meter[METER_SPEED].history.n;
    e.phase = LADE_PHASE_IDLE; /* the line of the last answer stays */
    assert_true(status_tick(&status, &e, 103));
    assert_int_equal(status.meter[METER_SPEED].history.n, n);
    assert_true(status.meter[METER_RAM].now.total > 0);
    assert_true(status_tick(&status, NULL, 105));
    status_close(&status);
}

static void test_panel(void **state)
{
    (void)state;
    fresh();
    struct lade_stats e = decoding;
    e.weights = 40 * GIB;
    says(e, true);
    const char *all = panel(44);
    has(all, "Qwen3-Next-80B-A3B-Instruct");
    has(all, "safetensors int4 mixed");
    has(all, "1234/32768");
    has(all, "40.0 GiB");
    has(all, "others");
    has(all, "16.0 GiB");
    has(all, "12.0/24.0 GiB");
    for (int rows = 0; rows < 50; rows += 7)
        for (int cols = 0; cols < 60; cols += 3) {
            struct cells c;
            cells_init(&c, rows, cols, true, false);
            status_panel_cells(&status, &c);
            cells_free(&c);
        }
    status_close(&status);
}

/* An engine in the middle of an answer: `tokens` so far, each like the last. */
static struct lade_stats answering(int tokens)
{
    struct lade_stats e = decoding;
    uint64_t n = (uint64_t)tokens;
    e.token = (struct lade_traffic){.tokens = 1,
                                    .vram_hits = 120,
                                    .ram_hits = 312,
                                    .disk_reads = 48,
                                    .vram_bytes = 120000000,
                                    .ram_bytes = 312000000,
                                    .disk_bytes = 48000000,
                                    .wait_s = 0.02,
                                    .compute_s = 0.06};
    e.traffic = (struct lade_traffic){.tokens = n,
                                      .vram_hits = 120 * n,
                                      .ram_hits = 312 * n,
                                      .disk_reads = 48 * n,
                                      .vram_bytes = 120000000 * n,
                                      .ram_bytes = 312000000 * n,
                                      .disk_bytes = 48000000 * n,
                                      .wait_s = 0.02 * tokens,
                                      .compute_s = 0.06 * tokens};
    e.in_vram = (struct lade_residence){2048, 2048, 4 * GIB};
    e.in_ram = (struct lade_residence){9812, 12000, 20 * GIB};
    return e;
}

static const char *anatomy(int rows, int cols, int y)
{
    static char out[2048];
    struct cells c;
    assert_int_equal(cells_init(&c, rows, cols, true, true), 0);
    status_anatomy_cells(&status, &c);
    cells_row(&c, y, out, sizeof out);
    cells_free(&c);
    return out;
}

/* A prompt of 500 tokens, then 30 of an answer, the last ten of them in one sample. */
static void test_traffic(void **state)
{
    (void)state;
    fresh();
    struct lade_stats e = answering(0);
    e.phase = LADE_PHASE_PREFILL;
    e.traffic = (struct lade_traffic){.tokens = 500, .disk_reads = 24000};
    status_tick(&status, &e, 100); /* a prompt: no token was decoded yet */
    assert_int_equal(status.sample.recent.tokens, 0);
    assert_false(status_has_shares(&status));
    has(anatomy(5, 100, 0), "is measured while an answer is written");
    has(anatomy(5, 100, 1), UNITS_UNKNOWN);
    assert_null(strstr(line(200, 1, 0), "hits"));

    e = answering(510);
    e.traffic.disk_reads = 24000 + 480;
    status_tick(&status, &e, 100.3); /* the first tokens: the last one alone, not the prompt */
    assert_int_equal(status.sample.recent.disk_reads, 48);
    e = answering(520);
    status_tick(&status, &e, 100.6);
    e = answering(530);
    status_tick(&status, &e, 100.9);
    assert_int_equal(status.sample.recent.tokens, 10);
    assert_int_equal(status.sample.recent.vram_hits, 1200);
    assert_true(status_has_shares(&status));
    has(line(200, 1, 0), "hits");
    has(line(200, 1, 0), "90%");

    /* A token that takes longer than a sample counts whole, when it is done. */
    struct lade_stats half = e;
    half.traffic.ram_hits += 100;
    status_tick(&status, &half, 101.2);
    e = answering(531);
    status_tick(&status, &e, 101.5);
    assert_int_equal(status.sample.recent.tokens, 1);
    assert_int_equal(status.sample.recent.ram_hits, 312);

    e.phase = LADE_PHASE_IDLE; /* what was measured last stays */
    status_tick(&status, &e, 102);
    has(anatomy(5, 100, 0), "A token in 80 ms");

    /* An answer that is over before the next sample is measured by its last token. */
    e = answering(540);
    e.phase = LADE_PHASE_IDLE;
    e.token.compute_s = 0.03;
    status_tick(&status, &e, 104);
    has(anatomy(5, 100, 0), "A token in 50 ms");
    assert_int_equal(status.sample.recent.tokens, 1);

    const char *all = panel(60);
    has(all, "90% at home");
    has(all, "312");
    has(all, "waiting for experts");
    status_close(&status);
}

static void test_anatomy(void **state)
{
    (void)state;
    fresh();
    struct lade_stats e = answering(520);
    status_tick(&status, &e, 100);
    e = answering(530);
    status_tick(&status, &e, 100.3);
    has(anatomy(5, 100, 0), "A token in 80 ms");
    has(anatomy(5, 100, 0), "VRAM 2048/2048, RAM 9812/12000, reading ahead off");
    has(anatomy(5, 66, 0), "VRAM 2048/2048, RAM 9812/12000");
    assert_null(strstr(anatomy(5, 66, 0), "ahead"));
    status.sample.recent.ahead = 90;
    status.sample.recent.ahead_right = 80;
    has(anatomy(5, 100, 0), "RAM 9812/12000, reading ahead 9 (8 right)");
    status.sample.engine.ram_given = (uint64_t)3 << 30;
    has(anatomy(5, 100, 0), "RAM 9812/12000, 3.0 GiB of RAM given to others");
    has(anatomy(5, 100, 1), "25% 120 experts   120 MB");
    has(anatomy(5, 100, 2), "65% 312 experts   312 MB");
    has(anatomy(5, 100, 3), "10%  48 experts    48 MB");
    has(anatomy(5, 100, 4), "compute 60 ms, wait 20 ms");
    struct lade_traffic whole = status.sample.recent;
    status.sample.recent = (struct lade_traffic){.tokens = 1, .ram_hits = 107, .disk_reads = 23};
    has(anatomy(5, 100, 2), "82% 107 experts"); /* 82.3 */
    has(anatomy(5, 100, 3), "18%  23 experts"); /* 17.7 */
    status.sample.recent.ram_hits = 299;
    status.sample.recent.disk_reads = 1;
    has(anatomy(5, 100, 2), "99% 299 experts");
    has(anatomy(5, 100, 3), "0%    1 expert ");
    status.sample.recent = whole;
    for (int cols = 1; cols < 220; cols += 3)
        for (int rows = 1; rows < 8; rows++)
            anatomy(rows, cols, 0);
    status_close(&status);
}

static void test_wants(void **state)
{
    (void)state;
    int lines, panel;
    status_wants(10, 40, &lines, &panel);
    assert_true(lines == 1 && panel == 0);
    status_wants(24, 80, &lines, &panel);
    assert_true(lines == 2 && panel == 0);
    status_wants(60, 200, &lines, &panel);
    assert_true(lines == 1 && panel > 20);
}

static void test_stats(void **state)
{
    (void)state;
    char out[4096], tiny[40];
    struct meter_sample s = {.machine = {64 * GIB, 16 * GIB, GIB, 0, 0.5}};
    assert_true(stats_text(out, sizeof out, NULL, &s, NULL, NULL) > 3);
    has(out, "not known yet");
    has(out, "none yet");
    has(out, "VRAM           none");
    fresh();
    info.layers = 48;
    info.hidden = 2048;
    info.experts = 512;
    info.experts_used = 10;
    info.max_context = 262144;
    s.have_engine = true;
    s.engine = decoding;
    s.engine.load_bytes = 43200000000;
    s.engine.load_s = 36;
    struct lade_result r = {.stop = LADE_STOP_END,
                            .prompt_tokens = 90,
                            .kept_tokens = 60,
                            .tokens = 12,
                            .drafted = 9,
                            .accepted = 7,
                            .ttft_s = 0.42,
                            .decode_tps = 12.3,
                            .decode_s = 1};
    struct lade_plan_row p = {.load_s = 31, .prefill_tps = 100, .decode_tps = 14};
    s.engine.traffic = (struct lade_traffic){
        .tokens = 12, .ram_hits = 300, .disk_reads = 100, .wait_s = 2, .compute_s = 3};
    int lines = stats_text(out, sizeof out, &info, &s, &r, &p), n = 0;
    for (const char *c = out; *c; c++)
        n += *c == '\n';
    assert_int_equal(lines, n);
    has(out, "10 of 512 experts per token, 262k tokens at most");
    has(out, "9 shards, 43.2 GB");
    has(out, "1.20 GB/s on average");
    has(out, "12 tokens, ended by the model");
    has(out, "after 420 ms");
    has(out, "7 of 9 guessed tokens were right");
    has(out, "Prefill        " UNITS_UNKNOWN " tokens/s");
    has(out, "Weights        " UNITS_UNKNOWN);
    has(out, "found 75% in RAM, 25% read from the drive");
    has(out, "3.0 s computing, 2.0 s waiting");
    has(out, "Predicted      load 31.0 s, prefill 100 tokens/s, decode 14.0 tokens/s");
    stats_text(tiny, sizeof tiny, &info, &s, &r, &p);
    assert_true(strlen(tiny) < sizeof tiny);
    assert_int_equal(stats_text(tiny, 0, &info, &s, &r, &p), 0);
    status_close(&status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_server),  cmocka_unit_test(test_widths),
        cmocka_unit_test(test_phases),    cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_no_jitter), cmocka_unit_test(test_tick),
        cmocka_unit_test(test_panel),     cmocka_unit_test(test_wants),
        cmocka_unit_test(test_stats),     cmocka_unit_test(test_traffic),
        cmocka_unit_test(test_anatomy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
