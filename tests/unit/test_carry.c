/* Prompts whose experts the CPU computes, but for those that are carried to the card because that is
 * faster: which ones, by hand and against every other division; that they are carried and how many; and
 * that logits stay those of a model that is all in RAM, bit by bit from run to run, while memory gives way,
 * the drive fails or RAM cannot be pinned. */
#include "engine/plan/split.h"
#include "tests/support/cuda_emulator/knobs.h"
#include "tests/support/support_io.h"
#include "tests/unit/places_common.h"

/* ---- which ones ------------------------------------------------------------------------------ */

enum { MANY = 200 };

/* One expert is 1 s on the link, the CPU takes 1/4 s a token and at least 1/2 s. */
static const struct lade_carry speeds = {0.005, 0.25, 0.001, 0};
static const double EXPERT = 100, LINK = 0.01;

static struct lade_carry_layer layer_of(struct lade_carry_expert *list, const int *tokens, int n)
{
    for (int i = 0; i < n; i++)
        list[i] = (struct lade_carry_expert){i, tokens[i], EXPERT, 0};
    return (struct lade_carry_layer){.experts = list, .n = n, .link_byte = {LINK}, .n_links = 1};
}

/* Six experts by hand: those of 20 and 8 tokens cross the link in 2 s, the others take the CPU 3 s. One
 * more on the link would be 3 s beside 2: no better. */
static void test_by_hand(void **state)
{
    (void)state;
    static const int tokens[] = {1, 20, 4, 1, 8, 4};
    struct lade_carry_expert list[6];
    struct lade_carry_layer l = layer_of(list, tokens, 6);
    double seconds;
    assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 2);
    assert_float_equal(seconds, 3, 1e-9);
    assert_int_equal(list[0].expert, 1);
    assert_int_equal(list[1].expert, 4);
    assert_int_equal(list[2].expert, 2); /* equal ones in the order of their numbers */
    /* Without a link, or without speeds, nothing is. */
    l.link_byte[0] = 0;
    assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 0);
    assert_float_equal(seconds, 10, 1e-9);
    l.link_byte[0] = LINK;
    assert_int_equal(lade_carry_split(&(struct lade_carry){0}, &l, NULL), 0);
    /* Nor where it would hardly save anything: the card has work of its own for nearly as long. */
    l.own = 9;
    assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 0);
    assert_float_equal(seconds, 10, 1e-9);
    /* RAM is the bound: 6 experts in 9 s, whoever reads them. */
    l.own = 0;
    struct lade_carry slow = speeds;
    slow.ram_byte = 9.0 / 600;
    assert_int_equal(lade_carry_split(&slow, &l, &seconds), 0);
    l.n = 0;
    assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 0);
    assert_float_equal(seconds, 0, 1e-9);
}

/* What is carried and left, as the header says it, for any number of the busiest. */
static double seconds_of(const struct lade_carry *c, const struct lade_carry_layer *l, int carried)
{
    double cpu = carried < l->n ? l->rows : 0, link = 0, card = l->own, ram = 0;
    for (int i = 0; i < l->n; i++) {
        const struct lade_carry_expert *e = &l->experts[i];
        if (i < carried) {
            link += e->bytes * l->link_byte[0];
            card += e->tokens * c->card_token;
        } else {
            cpu += fmax(e->bytes * c->cpu_byte, e->tokens * c->cpu_token);
        }
        ram += carried ? e->bytes * c->ram_byte : 0;
    }
    return fmax(fmax(cpu, ram), fmax(link, card));
}

/* No other division of random layers is faster by more than what is not worth it, and where the link is
 * slow enough none is carried. */
static void test_no_better_one(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 500; round++) {
        struct lade_carry_expert list[MANY];
        int tokens[MANY], n = 1 + round % MANY;
        for (int i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            tokens[i] = 1 + (int)(seed >> 26);
        }
        struct lade_carry_layer l = layer_of(list, tokens, n);
        l.link_byte[0] = LINK * (1 + round % 7) / 4;
        l.rows = round % 3;
        l.own = round % 5 * 4;
        double best = INFINITY, seconds;
        int carried = lade_carry_split(&speeds, &l, &seconds);
        assert_float_equal(seconds, seconds_of(&speeds, &l, carried), 1e-9);
        for (int k = 0; k <= n; k++)
            best = fmin(best, seconds_of(&speeds, &l, k));
        assert_true(seconds <= seconds_of(&speeds, &l, 0) + 1e-9);
        assert_true(seconds <= best + 1e-9 || best > seconds_of(&speeds, &l, 0) * 7 / 8);
        l.link_byte[0] = 1e6;
        assert_int_equal(lade_carry_split(&speeds, &l, NULL), 0);
    }
}

/* ---- that they are carried ------------------------------------------------------------------- */

/* How a batch pays: what is carried costs next to nothing; an expert as much as five of its tokens cost
 * the CPU, so that some are carried; the card is slower than the CPU. */
enum { ALL, SOME, NONE, PAYS, BATCH = 10 };

static struct lade_placement place_for(const struct row *r, uint64_t experts, size_t one, int pays)
{
    struct lade_placement p = gpu_place(r, experts, BATCH);
    p.carry = (struct lade_carry){.cpu_token = 1, .card_token = pays == NONE ? 1e6 : 1e-9};
    p.card[0].link_byte = (pays == SOME ? 5 : 1e-9) / (double)one;
    return p;
}

static struct lade_traffic traffic_of(const struct lade_model *m)
{
    struct lade_traffic t;
    lade_model_traffic(m, &t);
    return t;
}

/* The logits of one model in RAM, and what else tests ask of it. */
struct wanted {
    float *logits;
    size_t vocab, one; /* one: bytes of an expert */
    uint64_t experts;  /* bytes of all */
};

static struct wanted want_of(const char *path)
{
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_model *m = open_model(path, &all, NULL);
    struct wanted w = {logits_of(m), (size_t)lade_model_catalog(m)->shape.vocab,
                       m->cat->pieces[lade_catalog_expert(m->cat, 0, 0)].bytes, expert_bytes(m)};
    lade_model_close(m);
    return w;
}

static void check_logits(struct lade_model *m, const struct wanted *w, const char *name)
{
    float *have = logits_of(m);
    double e = worst_off_by(have, w->logits, TOKENS, w->vocab);
    if (!(e <= TOLERANCE))
        fail_msg("%s: off by %.2e", name, e);
    free(have);
}

/* Rows with experts in RAM: of a prompt all that are not in VRAM are carried, some, or none; the others
 * the CPU computes. What is in VRAM stays. */
static void test_rows(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        struct wanted w = want_of(models[i]);
        for (int r = 1; r <= 3; r++)
            for (int pays = 0; pays < PAYS; pays++) {
                struct lade_placement p = place_for(&rows[r], w.experts, w.one, pays);
                struct lade_tiers_stats before, after;
                struct lade_model *m = open_model(models[i], &p, NULL);
                const bool can = m->tiers->vram[0].cache.n_stage; /* not of the smallest models */
                uint64_t uploads = machine->upload_bytes;
                lade_tiers_stats(m->tiers, &before);
                check_logits(m, &w, rows[r].name);
                lade_tiers_stats(m->tiers, &after);
                struct lade_traffic t = after.traffic;
                const uint64_t rest = t.ram_bytes + t.disk_bytes;
                if (can ? pays == ALL && t.link_bytes != rest : t.link_bytes)
                    fail_msg("%s, %s: %llu of %llu bytes", models[i], rows[r].name,
                             (unsigned long long)t.link_bytes, (unsigned long long)rest);
                assert_true(t.link_bytes <= rest);
                if (pays == NONE)
                    assert_int_equal(t.link_bytes, 0);
                assert_true(machine->upload_bytes - uploads >= t.link_bytes);
                assert_int_equal(after.in_vram.experts, before.in_vram.experts);
                lade_model_close(m);
            }
        free(w.logits);
    }
}

/* Token by token the CPU computes what VRAM does not have, however cheap the link. */
static void test_tokens(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    struct lade_placement p = place_for(&rows[2], w.experts, w.one, ALL);
    p.batch = 1;
    struct lade_model *m = open_model(models[1], &p, NULL);
    check_logits(m, &w, "token by token");
    assert_int_equal(traffic_of(m).link_bytes, 0);
    lade_model_close(m);
    free(w.logits);
}

/* A layer divides its experts: some cross the link, some do not, and ten runs give the same bits. */
static void test_ten_runs(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    struct lade_placement p = place_for(&rows[3], w.experts, w.one, SOME);
    float *first = NULL;
    uint64_t link = 0;
    for (int run = 0; run < 10; run++) {
        struct lade_model *m = open_model(models[1], &p, NULL);
        float *have = logits_of(m);
        struct lade_traffic t = traffic_of(m);
        assert_true(t.link_bytes > 0 && t.link_bytes < t.ram_bytes);
        if (first)
            assert_int_equal(t.link_bytes, link);
        link = t.link_bytes;
        assert_true(worst_off_by(have, w.logits, TOKENS, w.vocab) <= TOLERANCE);
        check_same_bits(&first, have, w.vocab);
        lade_model_close(m);
    }
    free(first);
    free(w.logits);
}

/* ---- what may go wrong ----------------------------------------------------------------------- */

/* Where RAM cannot be pinned, what was to be carried is copied once, and then the CPU computes it. */
static void test_no_pinning(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    struct lade_placement p = place_for(&rows[3], w.experts, w.one, ALL);
    struct lade_model *m = open_model(models[1], &p, NULL);
    machine->no_pinning = 1;
    check_logits(m, &w, "nothing pinned");
    struct lade_traffic t = traffic_of(m);
    assert_true(t.link_bytes > 0 && t.link_bytes < t.ram_bytes / 4);
    machine->no_pinning = 0;
    check_logits(m, &w, "still nothing pinned");
    assert_int_equal(traffic_of(m).link_bytes, t.link_bytes);
    assert_int_equal(machine->pinned, 0);
    lade_model_close(m);
    free(w.logits);
}

/* VRAM shrinks to nothing and grows again between batches of a prompt, RAM too; what was pinned is not
 * any more where it is gone, which the simulated GPU checks. Strategies change, too. */
static void test_pressure(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    struct lade_placement all = ram_place(UINT64_MAX, BATCH);
    struct lade_options opt = {
        .model = models[1], .exact = true, .threads = 2, .place = &all, .plugin = sim()};
    int32_t ids[TOKENS];
    struct lade_session *s;
    struct lade_model *m = open_model(models[1], &all, NULL);
    fill_ids(m, ids);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    for (int k = 0; k < 3 * TOKENS / BATCH; k++) {
        int n = (k % (TOKENS / BATCH) + 1) * BATCH;
        struct lade_placement to = place_for(&rows[k % 7 ? 1 + k % 3 : 9], w.experts, w.one, k % 2);
        uint64_t none = 0, some = w.experts / 3;
        if (n == BATCH)
            lade_session_reset(s);
        if (lade_model_move(m, s, &opt, k % 5 == 4 ? &all : &to, err))
            fail_msg("%s", err);
        if (m->place.n_cards)
            assert_int_equal(lade_tiers_resize(m->tiers, some, k % 2 ? &some : &none, err), 0);
        if (m->place.n_cards && k % 3 == 0)
            assert_int_equal(lade_tiers_resize(m->tiers, UINT64_MAX, &some, err), 0);
        if (lade_session_sync(s, ids, n, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        double e = off_by(lade_session_logits(s), w.logits + (size_t)(n - 1) * w.vocab, w.vocab);
        if (!(e <= TOLERANCE))
            fail_msg("batch %d: off by %.2e", k, e);
    }
    assert_true(traffic_of(m).link_bytes > 0);
    lade_session_close(s);
    lade_model_close(m);
    assert_int_equal(machine->pinned, 0);
    free(w.logits);
}

/* Experts that only the drive has are read once a batch, whoever computes them; a read that fails says so,
 * and when the drive is back everything goes on. */
static void test_drive(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    for (int pays = 0; pays < PAYS; pays++) {
        struct lade_placement p = place_for(&rows[5], w.experts, w.one, pays);
        p.batch = TOKENS;
        int32_t ids[TOKENS];
        struct lade_session *s;
        struct lade_model *m = open_model(models[1], &p, &support_gated_io);
        fill_ids(m, ids);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        support_drive_gone(true);
        assert_int_equal(lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err), -1);
        assert_non_null(strstr(err, "read error"));
        support_drive_gone(false);
        struct lade_traffic before;
        int failed;
        do { /* reads that failed may still be on their way to who asks next */
            before = traffic_of(m);
            failed = lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err);
        } while (failed && strstr(err, "read error"));
        if (failed)
            fail_msg("%s", err);
        double e = off_by(lade_session_logits(s), w.logits + (TOKENS - 1) * w.vocab, w.vocab);
        if (!(e <= TOLERANCE))
            fail_msg("%d: off by %.2e", pays, e);
        struct lade_traffic t = traffic_of(m);
        int all = m->cat->shape.layers * m->cat->shape.experts;
        assert_true(t.disk_reads - before.disk_reads > 0);
        assert_true(t.disk_reads - before.disk_reads <= (uint64_t)all);
        assert_int_equal(t.link_bytes - before.link_bytes > 0, pays != NONE);
        lade_session_close(s);
        lade_model_close(m);
    }
    free(w.logits);
}

/* ---- the plug-in for NVIDIA's, emulated ------------------------------------------------------ */

static void test_emulated(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not follow the emulator's own stacks */
#endif
    const char *plugin = test_plugin_path("lade-cuda-emulated.so");
    static const int which[] = {1, 6};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        const char *path = models[which[i]];
        struct wanted w = want_of(path);
        struct lade_placement p = place_for(&rows[3], w.experts, w.one, SOME);
        struct lade_options opt = {
            .model = path, .exact = true, .threads = 2, .place = &p, .plugin = plugin};
        struct lade_model *m;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        const struct lade_emulator_knobs *knobs = test_plugin_symbol(plugin, "lade_emulator");
        const unsigned long before = knobs->device_allocations;
        check_logits(m, &w, path);
        struct lade_traffic t = traffic_of(m);
        assert_true(t.link_bytes > 0 && t.link_bytes < t.ram_bytes);
        assert_true(knobs->registered > 0);
        assert_int_equal(knobs->device_allocations, before);
        lade_model_close(m);
        assert_int_equal(knobs->registered, 0);
        free(w.logits);
    }
}

/* ---- the clock of the simulated GPU ---------------------------------------------------------- */

/* What is carried arrives while the card computes what came before: a prompt that streams takes less time
 * than the two together. */
static void test_overlap(void **state)
{
    (void)state;
    struct lade_placement p = gpu_place(&rows[7], 0, TOKENS);
    struct lade_session *s;
    int32_t ids[TOKENS];
    const struct lade_sim was = *machine;
    machine->launch = 0;
    machine->memory_rate = 2e9;
    machine->link_rate = 3e8;
    struct lade_placement small = ram_place(UINT64_MAX, 1);
    struct lade_model *m = open_model(models[0], &small, NULL);
    p.card[0].experts = expert_bytes(m) / 3;
    lade_model_close(m);
    m = open_model(models[0], &p, NULL);
    fill_ids(m, ids);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    double from = machine->seconds, busy = machine->compute_busy, up = machine->upload_busy;
    assert_int_equal(lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err), 0);
    double all = machine->seconds - from;
    busy = machine->compute_busy - busy;
    up = machine->upload_busy - up;
    if (!(all < 0.9 * (busy + up)))
        fail_msg("%.1f us: compute %.1f, up %.1f", all * 1e6, busy * 1e6, up * 1e6);
    lade_session_close(s);
    lade_model_close(m);
    machine->launch = was.launch;
    machine->memory_rate = was.memory_rate;
    machine->link_rate = was.link_rate;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_no_better_one),
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_ten_runs), cmocka_unit_test(test_no_pinning),
        cmocka_unit_test(test_pressure), cmocka_unit_test(test_drive),
        cmocka_unit_test(test_emulated), cmocka_unit_test(test_overlap),
    };
    return cmocka_run_group_tests(tests, find_sim, NULL);
}
