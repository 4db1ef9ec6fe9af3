/* Several GPUs, simulated: whatever layers each has, the logits are those of a model that is all in RAM,
 * and no card touches another's memory, holds more than its cap or waits where it could work. */
#include "kernels/plugin.h"
#include "engine/plan/split.h"
#include "tests/support/cuda_emulator/knobs.h"
#include "tests/unit/places_common.h"

static void set_cards(int n)
{
    machine->devices = n;
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

/* Rows in turn, in prompts and token by token, so that every row comes with both numbers of cards. */
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
        for (size_t r = (size_t)i % 2; r < sizeof rows / sizeof *rows; r += 2) {
            const int n = 2 + (int)(r / 2 + (size_t)i / 2) % 2,
                      batch = batches[(r + (size_t)i) % 3];
            struct lade_placement place = on_cards(gpu_place(&rows[r], experts, batch), layers, n);
            struct lade_traffic t;
            set_cards(n);
            m = open_model(models[i], &place, NULL);
            float *have = logits_of(m);
            double e = worst_off_by(have, want, TOKENS, vocab);
            lade_model_traffic(m, &t);
            if (!(e <= TOLERANCE))
                fail_msg("%s, %s, %d GPUs, batch %d: off by %.2e", models[i], rows[r].name, n,
                         batch, e);
            check_cards(m, &place, rows[r].name);
            check_traffic(&rows[r], &t);
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
        for (int k = 0; k < 3 * PLACES; k++) {
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

/* ---- what a plan promises -------------------------------------------------------------------- */

enum { CONTEXT = 128, BATCH = 8 };

/* A machine with two unequal GPUs, neither of which holds a model of so many bytes in VRAM; `spare` of
 * them lie between layers. */
static void two_gpus(struct lade_plan_machine *pc, const struct lade_plan_model *m, double bytes,
                     double spare)
{
    const double each = (double)m->buffers + (double)m->workspace;
    lade_plan_machine_typical(pc, (uint64_t)(0.62 * bytes + each + spare), (uint64_t)64 << 30,
                              LADE_STORAGE_RAID0);
    lade_plan_machine_add(pc, (uint64_t)(0.38 * bytes + each + spare));
    pc->gpu[0].reserve = pc->gpu[1].reserve = pc->ram_reserve = 0;
}

static struct lade_plan_row plan_pair(const struct lade_plan_model *m,
                                      const struct lade_strategy *s, struct lade_plan_machine *pc)
{
    double fixed = (double)(m->base + m->state) + (double)m->kv_token * CONTEXT;
    double share = s->vram_min < 1 ? fmin(1.3 * s->vram_min, 1) : 1;
    struct lade_plan plan;
    /* layers are not cut, and the ends of the model are not in the same proportion */
    double spare = (double)(m->layer[0].base + m->embed + m->head);
    two_gpus(pc, m, fixed + share * (double)m->experts,
             spare + (share < 1 ? 0 : (double)m->layer[0].experts));
    if (lade_plan(&plan, m, pc, s->name, CONTEXT, err))
        fail_msg("%s", err);
    return plan.rows[plan.chosen];
}

/* Every row with VRAM: planned for two unequal GPUs, each capped to what it has, held to it. */
static void check_caps(const char *path, const struct lade_plan_model *pm,
                       const struct lade_strategy *s, const float *want)
{
    struct lade_plan_machine pc;
    struct lade_plan_row row = plan_pair(pm, s, &pc);
    struct lade_card_memory cards[LADE_CARDS];
    struct lade_options opt = {
        .model = path,
        .exact = true,
        .threads = 2,
        .place = &row.place,
        .plugin = sim(),
        .vram_cap = {pc.gpu[0].bytes + machine->context, pc.gpu[1].bytes + machine->context}};
    struct lade_model *m;
    assert_int_equal(row.place.n_cards, 2);
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s, %s: %s", path, s->name, err);
    float *have = logits_of(m);
    double e = worst_off_by(have, want, TOKENS, (size_t)lade_model_catalog(m)->shape.vocab);
    if (!(e <= TOLERANCE))
        fail_msg("%s, %s: off by %.2e", path, s->name, e);
    assert_int_equal(lade_model_cards(m, cards), 2);
    for (int i = 0; i < 2; i++) {
        double planned =
            lade_plan_card_fixed(&row.place, pm, i) + (double)row.place.card[i].experts;
        if ((double)(cards[i].peak - cards[i].own) > 1.05 * planned ||
            cards[i].peak > opt.vram_cap[i])
            fail_msg("%s, %s: GPU %d held %llu bytes, planned %.0f of %llu", path, s->name, i,
                     (unsigned long long)(cards[i].peak - cards[i].own), planned,
                     (unsigned long long)pc.gpu[i].bytes);
    }
    free(have);
    lade_model_close(m);
}

static void test_caps(void **state)
{
    (void)state;
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_plan_caps c = {.exact = true, .context = CONTEXT, .batch = BATCH, .plugin = sim()};
    struct lade_plan_model pm;
    set_cards(2);
    struct lade_model *m = open_model(models[1], &all, NULL);
    lade_plan_model_of(&pm, lade_model_catalog(m), &c);
    float *want = logits_of(m);
    lade_model_close(m);
    for (int k = 0; k < lade_n_strategies; k++)
        if (lade_strategies[k].gpu)
            check_caps(models[1], &pm, &lade_strategies[k], want);
    free(want);
}

/* The plan of the program itself: several cards are taken where one is too small, and another strategy
 * finds them, with their layers, as they are. */
static void test_strategies(void **state)
{
    (void)state;
    static const char *const names[] = {"hybrid-balanced", "cpu-tight",        "full-gpu",
                                        "offload-buffers", "hybrid-heavy-cpu", "full-gpu"};
    struct lade_placement all = ram_place(UINT64_MAX, 1);
    struct lade_plan_caps c = {.exact = true, .context = CONTEXT, .batch = BATCH, .plugin = sim()};
    struct lade_plan_model pm;
    struct lade_plan_machine pc;
    struct lade_session *s;
    int32_t ids[TOKENS];
    set_cards(3);
    struct lade_model *m = open_model(models[1], &all, NULL);
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    lade_plan_model_of(&pm, lade_model_catalog(m), &c);
    float *want = logits_of(m);
    fill_ids(m, ids);
    lade_model_close(m);
    two_gpus(&pc, &pm, (double)(pm.base + pm.state + pm.experts) + (double)pm.kv_token * CONTEXT,
             (double)(pm.layer[0].base + pm.layer[0].experts + pm.embed + pm.head));
    struct lade_options opt = {.model = models[1],
                               .strategy = "full-gpu",
                               .exact = true,
                               .threads = 2,
                               .context = CONTEXT,
                               .batch = BATCH,
                               .plugin = sim()};
    for (int i = 0; i < 2; i++)
        opt.vram_cap[i] = pc.gpu[i].bytes + machine->context;
    opt.vram_cap[2] = machine->context + 4096; /* of no use */
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    assert_int_equal(m->place.n_cards, 2);
    assert_non_null(strstr(lade_model_device(m), " + simulated GPU 1"));
    assert_int_equal(lade_session_open(&s, m, err), 0);
    for (int i = 0; i < TOKENS; i++) {
        const char *name = i % 6 == 5 ? names[i / 6 % 6] : NULL;
        char why[LADE_ERR];
        const int second = m->place.n_cards ? m->place.card[1].first : 0;
        if (name && lade_model_change(m, s, &opt, name, why, err))
            fail_msg("to %s: %s", name, err);
        if (name && second && m->place.n_cards)
            assert_int_equal(m->place.card[1].first, second);
        if (lade_session_push(s, ids[i], err))
            fail_msg("token %d: %s", i, err);
        double e = off_by(lade_session_logits(s), want + (size_t)i * vocab, vocab);
        if (!(e <= TOLERANCE))
            fail_msg("token %d, %s: off by %.2e", i, lade_model_strategy(m), e);
        struct lade_card_memory cards[LADE_CARDS];
        for (int k = lade_model_cards(m, cards) - 1; k >= 0; k--)
            assert_true(cards[k].peak <= opt.vram_cap[k]);
    }
    free(want);
    lade_session_close(s);
    lade_model_close(m);
}

/* ---- allocations ----------------------------------------------------------------------------- */

/* While it generates nothing is asked of a driver: neither VRAM nor pinned memory, and never more VRAM
 * than was reserved at open. On one card and on two, for every row; test_cuda and test_reserve look at
 * the same of that plug-in. */
static void test_no_allocations(void **state)
{
    (void)state;
    set_cards(2);
    machine->beyond = 0;
    struct lade_placement all = ram_place(UINT64_MAX, 1);
    struct lade_model *m = open_model(models[2], &all, NULL);
    const int layers = lade_model_catalog(m)->shape.layers;
    uint64_t experts = expert_bytes(m);
    int32_t ids[TOKENS];
    fill_ids(m, ids);
    lade_model_close(m);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        const int n = 1 + (int)(r % 2);
        struct lade_placement place = on_cards(gpu_place(&rows[r], experts, 4), layers, n);
        struct lade_options opt = {
            .model = models[2], .exact = true, .threads = 2, .place = &place, .plugin = sim()};
        struct lade_session *s = NULL;
        unsigned long opened = machine->allocations;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(&s, m, err))
            fail_msg("%s: %s", rows[r].name, err);
        unsigned long before = machine->allocations;
        assert_true(before > opened);
        if (lade_session_sync(s, ids, 6, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s: %s", rows[r].name, err);
        for (int i = 6; i < 26; i++)
            if (lade_session_push(s, ids[i], err))
                fail_msg("%s: %s", rows[r].name, err);
        if (machine->allocations != before)
            fail_msg("%s, %d GPUs: %lu allocations", rows[r].name, n,
                     machine->allocations - before);
        /* Streaming takes two slots, though a placement that no plan makes gives none. */
        if (machine->beyond && (rows[r].vram || rows[r].rest_by == LADE_BY_CPU))
            fail_msg("%s, %d GPUs: %zu bytes beyond what was taken at open", rows[r].name, n,
                     machine->beyond);
        machine->beyond = 0;
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* ---- a GPU that is lost ---------------------------------------------------------------------- */

static void test_lost(void **state)
{
    (void)state;
    set_cards(2);
    for (int gpu = 0; gpu < 2; gpu++) {
        struct lade_placement place = on_cards(gpu_place(&rows[gpu], 0, 4), 8, 2);
        struct lade_model *m = open_model(models[0], &place, NULL);
        struct lade_session *s;
        char name[16];
        int tokens = 0;
        assert_int_equal(lade_session_open(&s, m, err), 0);
        machine->lose_gpu = gpu;
        machine->lose_call = 400;
        while (tokens < 100 && !lade_session_push(s, 1, err))
            tokens++;
        snprintf(name, sizeof name, "GPU %d", gpu);
        if (tokens == 100 || !strstr(err, name) || !strstr(err, "; ") || strchr(err, '\n'))
            fail_msg("GPU %d, after %d tokens: '%s'", gpu, tokens, err);
        lade_session_close(s);
        lade_model_close(m);
        machine->lose_gpu = 0;
        machine->gone = 0;
    }
}

/* ---- a head that is the embedding ------------------------------------------------------------ */

/* Which the last card then has, too. */
static void test_tied(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-test-XXXXXX", command[512];
    assert_non_null(mkdtemp(dir));
    snprintf(
        command, sizeof command,
        "cp -L %s/* %s && sed -i 's/\\(tie_word_embeddings\":\\) false/\\1 true/' %s/config.json",
        models[0], dir, dir);
    assert_int_equal(system(command), 0);
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_model *m = open_model(dir, &all, NULL);
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    assert_true(lade_model_catalog(m)->shape.tied_embeddings);
    float *want = logits_of(m);
    lade_model_close(m);
    struct lade_placement place = on_cards(gpu_place(&rows[0], 0, 7), 8, 2);
    set_cards(2);
    m = open_model(dir, &place, NULL);
    float *have = logits_of(m);
    assert_true(worst_off_by(have, want, TOKENS, vocab) <= TOLERANCE);
    free(want);
    free(have);
    lade_model_close(m);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* ---- the plug-in for NVIDIA's, emulated ------------------------------------------------------ */

/* There a kernel that touches another GPU's memory faults, and work for a GPU that is not the thread's
 * ends the program. */
static void test_cuda(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not follow the emulator's own stacks */
#endif
    enum { FEW = 4 };
    const char *path = test_plugin_path("lade-cuda-emulated.so");
    char plugin[4096];
    snprintf(plugin, sizeof plugin, "%s", path);
    if (!lade_plugin_open(plugin, err))
        fail_msg("%s", err);
    struct lade_emulator_knobs *knobs = test_plugin_symbol(plugin, "lade_emulator");
    assert_non_null(knobs);
    struct lade_placement all = ram_place(UINT64_MAX, FEW);
    struct lade_model *m = open_model(models[2], &all, NULL);
    size_t vocab = (size_t)lade_model_catalog(m)->shape.vocab;
    const int layers = lade_model_catalog(m)->shape.layers;
    uint64_t experts = expert_bytes(m);
    float *want = logits_of(m);
    int32_t ids[TOKENS];
    fill_ids(m, ids);
    lade_model_close(m);
    knobs->devices = 2;
    static const struct {
        int row, cards;
    } cases[] = {{0, 1}, {0, 2}, {2, 2}, {8, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct row *r = &rows[cases[i].row];
        struct lade_placement place = on_cards(gpu_place(r, experts, 3), layers, cases[i].cards);
        struct lade_options opt = {
            .model = models[2], .exact = true, .threads = 2, .place = &place, .plugin = plugin};
        struct lade_session *s = NULL;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(&s, m, err))
            fail_msg("%s: %s", r->name, err);
        const unsigned long allocated = knobs->allocations;
        if (lade_session_sync(s, ids, FEW, 0, NULL, NULL, NULL, NULL, err) ||
            lade_session_push(s, ids[FEW], err) || lade_session_push(s, ids[FEW + 1], err) ||
            lade_session_push(s, ids[FEW + 2], err)) /* op by op, recorded, replayed */
            fail_msg("%s: %s", r->name, err);
        double e = off_by(lade_session_logits(s), want + (FEW + 2) * vocab, vocab);
        if (!(e <= TOLERANCE))
            fail_msg("%s, %d GPUs: off by %.2e", r->name, cases[i].cards, e);
        assert_int_equal(knobs->allocations, allocated);
        lade_session_close(s);
        lade_model_close(m);
    }
    free(want);
    knobs->devices = 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_moves),
        cmocka_unit_test(test_snapshots),      cmocka_unit_test(test_prompts_overlap),
        cmocka_unit_test(test_caps),           cmocka_unit_test(test_strategies),
        cmocka_unit_test(test_no_allocations), cmocka_unit_test(test_lost),
        cmocka_unit_test(test_tied),           cmocka_unit_test(test_cuda),
    };
    return cmocka_run_group_tests(tests, find_sim, NULL);
}
