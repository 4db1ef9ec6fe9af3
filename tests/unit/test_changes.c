/* A change of strategy that fails half-way leaves everything as it was: whichever call of the GPU
 * fails, and when the drive fails while experts are brought to their new homes. The timeline goes on
 * with the logits of a model that never moved, and the same change then works. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/session/model.h"
#include "tests/support/plugins.h"
#include "tests/support/sim_gpu/sim_gpu.h"
#include "tests/support/support_io.h"
#include "tests/unit/off_by.h"

#define MODEL "tests/fixtures/tiny8-int4-mixed"
enum { TOKENS = 24 };
static const double TOLERANCE = 1e-4;

static char err[LADE_ERR];

/* Where things are: experts in sixteenths of all. */
static const struct {
    const char *name;
    enum lade_tier base, kv;
    int vram, ram;
    bool cache, backs;
    enum lade_experts_by rest_by;
} rows[] = {
    {"cpu", LADE_RAM, LADE_RAM, 0, 16, false, false, LADE_BY_CPU},
    {"mmap", LADE_RAM, LADE_RAM, 0, 2, false, false, LADE_BY_CPU},
    {"full-gpu", LADE_VRAM, LADE_VRAM, 16, 0, false, false, LADE_BY_GPU},
    {"hybrid", LADE_VRAM, LADE_VRAM, 8, 8, false, false, LADE_BY_CPU},
    {"stream-cached", LADE_VRAM, LADE_VRAM, 4, 16, true, true, LADE_BY_GPU},
    {"offload-buffers", LADE_VRAM, LADE_RAM, 8, 8, true, false, LADE_BY_GPU},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* A model, and a timeline that goes on whatever happens to it. */
struct talk {
    struct lade_options opt;
    struct lade_placement place; /* of the opening */
    struct lade_model *m;
    struct lade_session *s;
    int32_t ids[TOKENS];
    float *want; /* [TOKENS][vocab] */
    size_t vocab;
    int at;
    uint64_t experts; /* bytes */
};

static struct lade_placement place_of(const struct talk *t, int row)
{
    bool all = rows[row].ram == 16;
    return (struct lade_placement){
        .base = rows[row].base,
        .kv = rows[row].kv,
        .buffers = rows[row].kv,
        .n_cards = rows[row].base == LADE_VRAM,
        .card = {{.experts = rows[row].vram == 16 ? UINT64_MAX / 2
                                                  : t->experts * (uint64_t)rows[row].vram / 16}},
        .ram_experts = all ? UINT64_MAX / 2 : t->experts * (uint64_t)rows[row].ram / 16,
        .vram_is_cache = rows[row].cache,
        .ram_backs_vram = rows[row].backs,
        .rest_by = rows[row].rest_by,
        .context = 128,
        .batch = 1,
    };
}

/* Opens the model on the CPU, computes what it says, and starts the timeline. */
static void begin(struct talk *t, const struct lade_io_ops *io)
{
    *t = (struct talk){.opt = {.model = MODEL,
                               .exact = true,
                               .threads = 1,
                               .plugin = test_plugin_path("lade-sim.so"),
                               .io = io}};
    t->opt.place = &t->place;
    t->place = place_of(t, 0);
    if (lade_model_open(&t->m, &t->opt, NULL, NULL, NULL, err) ||
        lade_session_open(&t->s, t->m, err))
        fail_msg("%s", err);
    const struct lade_catalog *cat = lade_model_catalog(t->m);
    for (int i = 0; i < cat->n_pieces; i++)
        if (cat->pieces[i].kind == LADE_PIECE_EXPERT)
            t->experts += cat->pieces[i].bytes;
    t->vocab = (size_t)cat->shape.vocab;
    t->want = malloc(TOKENS * t->vocab * sizeof *t->want);
    for (int i = 0; i < TOKENS; i++)
        t->ids[i] = (i * 37 + 11) % (int)t->vocab;
    assert_int_equal(lade_session_all_logits(t->s, t->ids, TOKENS, t->want, err), 0);
    lade_session_reset(t->s);
}

static void end(struct talk *t)
{
    lade_session_close(t->s);
    lade_model_close(t->m);
    free(t->want);
}

/* The next token, whose logits must be those of the model that never moved. */
static void go_on(struct talk *t, const char *what)
{
    if (t->at == TOKENS) {
        lade_session_reset(t->s);
        t->at = 0;
    }
    if (lade_session_push(t->s, t->ids[t->at], err))
        fail_msg("%s: %s", what, err);
    const double off =
        off_by(lade_session_logits(t->s), t->want + (size_t)t->at * t->vocab, t->vocab);
    if (!(off <= TOLERANCE))
        fail_msg("%s: token %d is off by %.2e", what, t->at, off);
    t->at++;
}

static void settle(struct talk *t, int row)
{
    const struct lade_placement to = place_of(t, row);
    if (lade_model_move(t->m, t->s, &t->opt, &to, err) || lade_tiers_wait(t->m->tiers, true, err))
        fail_msg("to %s: %s", rows[row].name, err);
}

/* The model is in that row, with all that it says and no more. */
static void check_place(const struct talk *t, int row, const char *what)
{
    const struct lade_placement p = place_of(t, row), *have = &t->m->place;
    struct lade_tiers_stats now;
    lade_tiers_stats(t->m->tiers, &now);
    if (have->base != p.base || have->kv != p.kv ||
        lade_vram_experts(have) != lade_vram_experts(&p) || have->ram_experts != p.ram_experts ||
        t->m->devices.gpu != (p.base == LADE_VRAM))
        fail_msg("%s: the model is not in %s", what, rows[row].name);
    if (now.in_ram.bytes > p.ram_experts || now.in_vram.bytes > lade_vram_experts(&p))
        fail_msg("%s: %llu bytes of RAM, %llu of VRAM", what, (unsigned long long)now.in_ram.bytes,
                 (unsigned long long)now.in_vram.bytes);
    uint64_t total = (uint64_t)t->m->cat->shape.layers * (uint64_t)t->m->cat->shape.experts;
    if ((rows[row].vram == 16 && now.in_vram.room != total) ||
        (rows[row].ram == 16 && now.in_ram.room != total) ||
        (rows[row].vram == 8 && now.in_vram.room < total / 4))
        fail_msg("%s: room for %llu experts in RAM, %llu in VRAM", what,
                 (unsigned long long)now.in_ram.room, (unsigned long long)now.in_vram.room);
}

static void check_line(const char *what)
{
    if (!*err || strchr(err, '\n') || !strstr(err, ": ") || !strstr(err, "; "))
        fail_msg("%s: '%s' is not one line of WHAT: WHY; DO", what, err);
}

/* Every one of the first calls, then fewer and fewer of the many that are alike. */
static int64_t next_call(int64_t n)
{
    return n < 16 ? n + 1 : n + n / 4;
}

/* From one row to another with the n-th call failing, for all n, until none fails any more. */
static int try_calls(struct talk *t, _Atomic int64_t *fail_call, int from, int to)
{
    int failed = 0;
    for (int64_t n = 1;; n = next_call(n)) {
        char what[120];
        const struct lade_placement place = place_of(t, to);
        snprintf(what, sizeof what, "%s to %s, call %lld", rows[from].name, rows[to].name,
                 (long long)n);
        settle(t, from);
        *err = '\0';
        atomic_store(fail_call, n);
        int rc = lade_model_move(t->m, t->s, &t->opt, &place, err);
        if (rc)
            check_line(what);
        /* While the load goes on; a token may meet the call that fails. */
        if (t->at < TOKENS && lade_session_push(t->s, t->ids[t->at], err))
            check_line(what);
        t->at = lade_session_length(t->s);
        lade_tiers_wait(t->m->tiers, true, NULL);
        bool all = atomic_load(fail_call) > 0;
        atomic_store(fail_call, 0);
        check_place(t, rc ? from : to, what);
        go_on(t, what);
        failed += rc != 0;
        if (all && !rc)
            return failed;
    }
}

static void test_every_call_fails(void **state)
{
    (void)state;
    struct talk t;
    begin(&t, NULL);
    settle(&t, 2); /* the plug-in is open */
    struct lade_sim *sim = test_plugin_symbol(t.opt.plugin, "lade_sim");
    assert_non_null(sim);
    int failed = 0;
    for (int from = 0; from < ROWS; from++)
        for (int to = 0; to < ROWS; to++)
            if (from != to && (rows[from].base == LADE_VRAM || rows[to].base == LADE_VRAM))
                failed += try_calls(&t, &sim->fail_call, from, to);
    assert_true(failed > ROWS * ROWS); /* many pairs have many calls that must work */
    end(&t);
}

/* The n-th read fails, and all after it, while experts are brought to their new homes: the load says
 * so in one line, nothing that was in memory is lost, and with the drive back the timeline goes on. */
static void test_drive_fails(void **state)
{
    (void)state;
    static const int pairs[][2] = {{1, 0}, {1, 2}, {1, 4}, {2, 1}};
    struct talk t;
    begin(&t, &support_gated_io);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        int from = pairs[i][0], to = pairs[i][1], failed = 0;
        for (int64_t n = 0;; n = next_call(n)) {
            char what[120];
            const struct lade_placement place = place_of(&t, to);
            snprintf(what, sizeof what, "%s to %s, read %lld", rows[from].name, rows[to].name,
                     (long long)n);
            settle(&t, from);
            go_on(&t, what);
            support_drive_ends_after((long)n);
            if (lade_model_move(t.m, t.s, &t.opt, &place, err))
                fail_msg("%s: %s", what, err);
            int rc = lade_tiers_wait(t.m->tiers, true, err);
            if (rc)
                check_line(what);
            failed += rc != 0;
            support_drive_ends_after(LONG_MAX);
            check_place(&t, to, what);
            go_on(&t, what);
            if (!rc)
                break;
        }
        assert_true(failed > 0 || rows[to].ram < 16);
    }
    end(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_drive_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
