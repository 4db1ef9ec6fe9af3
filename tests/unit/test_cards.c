/* Several GPUs, simulated: whatever layers each has, the logits are those of a model that is all in RAM,
 * and no card touches another's memory, holds more than its cap or waits where it could work. */
#include "kernels/plugin.h"
#include "tests/support/sim_gpu/sim_gpu.h"
#include "tests/unit/places_common.h"

static struct lade_sim *machine;

static void set_cards(int n)
{
    machine->devices = n;
}

/* Shares a placement's layers and experts out over n cards, unequally. */
static struct lade_placement on_cards(struct lade_placement p, int layers, int n)
{
    const uint64_t all = p.card[0].experts;
    for (int i = 0; i < n; i++) {
        int first = i ? i + (layers - n) * i / (n + 1) : 0, end = layers;
        if (i + 1 < n)
            end = i + 1 + (layers - n) * (i + 1) / (n + 1);
        p.card[i] = (struct lade_card){.gpu = n - 1 - i, .first = first};
        p.card[i].experts = all >= UINT64_MAX / 2
                                ? UINT64_MAX / 2
                                : all * (uint64_t)(end - first) / (uint64_t)layers;
    }
    p.n_cards = n;
    return p;
}

static void check_cards(const struct lade_model *m, const struct lade_placement *p,
                        const char *name)
{
    assert_int_equal(m->tiers->n_vram, p->n_cards);
    for (int i = 0; i < p->n_cards; i++) {
        const struct lade_vram *v = &m->tiers->vram[i];
        uint64_t bytes = 0;
        for (int k = 0; k < v->kinds.n; k++)
            bytes += (uint64_t)v->cache.kind[k].room * v->kinds.kind[k].stride;
        if (bytes > p->card[i].experts + 2 * (v->kinds.largest + 4096))
            fail_msg("%s: GPU %d has room for %llu bytes", name, p->card[i].gpu,
                     (unsigned long long)bytes);
    }
}

/* Every row, in prompts and token by token. */
static void test_rows(void **state)
{
    (void)state;
    static const int batches[] = {TOKENS, 7, 1};
    for (int i = 0; i < MODELS; i++) {
        struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
        struct lade_model *m = open_model(models[i], &all, NULL);
        const int layers = lade_model_catalog(m)->shape.layers;
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        uint64_t experts = expert_bytes(m);
        float *want = logits_of(m);
        lade_model_close(m);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
            const int n = 2 + (int)(r + (size_t)i) % 2, batch = batches[(r + (size_t)i) % 3];
            struct lade_placement place = on_cards(gpu_place(&rows[r], experts, batch), layers, n);
            struct lade_traffic t;
            set_cards(n);
            m = open_model(models[i], &place, NULL);
            float *have = logits_of(m);
            double e = worst(want, have, vocab);
            lade_model_traffic(m, &t);
            if (!(e <= TOLERANCE))
                fail_msg("%s, %s, %d GPUs, batch %d: off by %.2e", models[i], rows[r].name, n,
                         batch, e);
            check_cards(m, &place, rows[r].name);
            assert_int_equal(t.tokens, TOKENS);
            if (rows[r].vram == 16)
                assert_int_equal(t.ram_hits + t.disk_reads + t.link_bytes, 0);
            if (rows[r].rest_by == LADE_BY_CPU)
                assert_int_equal(t.link_bytes, 0);
            else if (rows[r].vram < 16)
                assert_true(t.link_bytes > 0);
            free(have);
            lade_model_close(m);
        }
        free(want);
    }
}

/* A timeline that goes on while everything moves, between two and three cards and none. */
static void test_moves(void **state)
{
    (void)state;
    for (int n = 2; n <= 3; n++) {
        struct lade_placement all = ram_place(UINT64_MAX, 1);
        struct lade_options opt = {
            .model = models[1], .exact = true, .threads = 2, .place = &all, .plugin = sim()};
        set_cards(n);
        struct lade_model *m = open_model(models[1], &all, NULL);
        const int layers = lade_model_catalog(m)->shape.layers;
        size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
        uint64_t experts = expert_bytes(m);
        float *want = logits_of(m);
        struct lade_session *s;
        int32_t ids[TOKENS];
        fill_ids(m, ids);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        for (int k = 0; k < 5 * PLACES; k++) {
            const char *name;
            /* steps of 1, 2, ... places, so that many pairs come up */
            struct lade_placement to = any_place(k * (1 + k / PLACES) % PLACES, experts, &name);
            if (to.n_cards)
                to = on_cards(to, layers, n);
            if (k % TOKENS == 0)
                lade_session_reset(s);
            if (lade_model_move(m, s, &opt, &to, err))
                fail_msg("to %s: %s", name, err);
            check_cards(m, &to, name);
            if (lade_session_push(s, ids[k % TOKENS], err))
                fail_msg("at %s: %s", name, err);
            double e = off_by(lade_session_logits(s), want + (size_t)(k % TOKENS) * vocab, vocab);
            if (!(e <= TOLERANCE))
                fail_msg("token %d, %s, %d GPUs: off by %.2e", k % TOKENS, name, n, e);
        }
        /* Layers stay on their card while there are cards. */
        struct lade_placement full = on_cards(gpu_place(&rows[0], experts, 1), layers, n);
        assert_int_equal(lade_model_move(m, s, &opt, &full, err), 0);
        full.card[1].first++;
        assert_int_equal(lade_model_move(m, s, &opt, &full, err), -1);
        assert_non_null(strstr(err, "from GPU to GPU"));
        free(want);
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* Going back to a snapshot, whose parts lie on different cards, and prompts of several batches at
 * once: what comes next is as it was. */
static void test_snapshots(void **state)
{
    (void)state;
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_model *m = open_model(models[0], &all, NULL);
    const int layers = lade_model_catalog(m)->shape.layers;
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    float *want = logits_of(m);
    int32_t ids[TOKENS], kept;
    fill_ids(m, ids);
    lade_model_close(m);
    for (int n = 2; n <= 3; n++) {
        struct lade_placement place = on_cards(gpu_place(&rows[0], 0, 3), layers, n);
        struct lade_session *s;
        set_cards(n);
        m = open_model(models[0], &place, NULL);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        assert_int_equal(lade_session_sync(s, ids, 30, 17, NULL, NULL, NULL, NULL, err), 0);
        assert_true(off_by(lade_session_logits(s), want + 29 * vocab, vocab) <= TOLERANCE);
        for (int i = 30; i < TOKENS; i++)
            assert_int_equal(lade_session_push(s, ids[i], err), 0);
        assert_true(off_by(lade_session_logits(s), want + (TOKENS - 1) * vocab, vocab) <=
                    TOLERANCE);
        assert_int_equal(lade_session_sync(s, ids, 25, 17, NULL, NULL, NULL, &kept, err), 0);
        assert_int_equal(kept, 17);
        assert_true(off_by(lade_session_logits(s), want + 24 * vocab, vocab) <= TOLERANCE);
        lade_session_close(s);
        lade_model_close(m);
    }
    free(want);
}

/* Simulated seconds that a prompt takes on n cards, and seconds that they work for it. */
static double prompt_time(const char *path, int n, double *busy)
{
    int32_t ids[TOKENS];
    struct lade_session *s;
    struct lade_placement place = gpu_place(&rows[0], 0, 4);
    set_cards(n);
    struct lade_model *m;
    place = on_cards(place, 8, n);
    m = open_model(path, &place, NULL);
    fill_ids(m, ids);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    double from = machine->seconds, before = machine->compute_busy;
    assert_int_equal(lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err), 0);
    *busy = machine->compute_busy - before;
    double time = machine->seconds - from;
    lade_session_close(s);
    lade_model_close(m);
    return time;
}

/* While one card has a batch the next one has the batch before. The clock is the simulation's. */
static void test_prompts_overlap(void **state)
{
    (void)state;
    double one, two, three;
    double alone = prompt_time(models[0], 1, &one);
    double pair = prompt_time(models[0], 2, &two),
           three_at_once = prompt_time(models[0], 3, &three);
    assert_true(alone >= 0.9 * one);
    if (!(pair < 0.8 * two && three_at_once < 0.6 * three))
        fail_msg("one card %.1f us; two cards work %.1f us in %.1f; three %.1f in %.1f",
                 alone * 1e6, two * 1e6, pair * 1e6, three * 1e6, three_at_once * 1e6);
}

static int set_up(void **state)
{
    (void)state;
    if (!lade_plugin_open(sim(), err))
        return -1;
    machine = test_plugin_symbol(sim(), "lade_sim");
    return machine ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    machine->devices = 1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_prompts_overlap),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
