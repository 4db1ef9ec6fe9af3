/* Prompts over several cards whose experts cross the links: one card has the layer, the others help it with
 * experts. Which go where, by hand; that every link is used, by rows of the strategy table over two and
 * three cards; that logits stay those of a model that is all in RAM, bit by bit from run to run, while VRAM
 * gives way; and that it takes less time. */
#include "tests/support/cuda_emulator/knobs.h"
#include "tests/unit/places_common.h"

/* ---- which ones ------------------------------------------------------------------------------ */

/* Four experts of 100 bytes, one second each on the first link, two on the second. The CPU takes a second a
 * token, activations half a second either way. */
static void test_by_hand(void **state)
{
    (void)state;
    static const int tokens[] = {3, 9, 5, 7};
    static const struct lade_carry speeds = {.cpu_token = 1, .card_token = 0.001};
    struct lade_carry_expert e[4];
    struct lade_carry_layer l = {
        .experts = e, .n = 4, .link_byte = {0.01, 0.02}, .n_links = 2, .rows = 0.25};
    double seconds;
    for (int i = 0; i < 4; i++)
        e[i] = (struct lade_carry_expert){i, tokens[i], 100, 0};
    /* 9 tokens: first link, at 1. 7: first at 2, before the second at 0.75 + 2. 5: second at 2.75, before the
     * first at 3. 3: first at 3. */
    assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 4);
    static const int experts[] = {1, 3, 2, 0}, links[] = {0, 0, 1, 0};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(e[i].expert, experts[i]);
        assert_int_equal(e[i].link, links[i]);
    }
    assert_float_equal(seconds, 3, 1e-9);
    lade_carry_deal(&l); /* the same links, in the order as they are */
    for (int i = 0; i < 4; i++)
        assert_int_equal(e[i].link, links[i]);
    /* A card that cannot help, and one link less. */
    l.link_byte[1] = 0;
    for (int n = 2; n >= 1; n--) {
        l.n_links = n;
        assert_int_equal(lade_carry_split(&speeds, &l, &seconds), 3);
        for (int i = 0; i < 4; i++)
            assert_int_equal(e[i].link, 0);
        assert_float_equal(seconds, 3.25, 1e-9); /* the CPU's three tokens, and activations */
    }
    /* Of activations that take longer than experts nobody gives any away. */
    l.n_links = 2;
    l.link_byte[1] = 0.01;
    l.rows = 4;
    lade_carry_deal(&l);
    for (int i = 0; i < 4; i++)
        assert_int_equal(e[i].link, 0);
}

/* ---- that they go there ---------------------------------------------------------------------- */

enum { BATCH = 10 };

/* A row over n cards with slots on each; the link of each card is half as fast as that of the one before. */
static struct lade_placement place_for(const struct row *r, uint64_t experts, int layers, int n)
{
    struct lade_placement p = on_cards(gpu_place(r, experts, BATCH), layers, n);
    if (r->rest_by == LADE_BY_CPU)
        p.carry = (struct lade_carry){.cpu_token = 1, .card_token = 1e-9};
    for (int i = 0; i < n; i++)
        p.card[i].link_byte = 1e-12 * (1 << i);
    return p;
}

struct wanted {
    float *logits;
    size_t vocab;
    uint64_t experts;
    int layers;
};

static struct wanted want_of(const char *path)
{
    struct lade_placement all = ram_place(UINT64_MAX, TOKENS);
    struct lade_model *m = open_model(path, &all, NULL);
    struct wanted w = {logits_of(m), (size_t)lade_model_catalog(m)->shape.vocab, expert_bytes(m),
                       lade_model_catalog(m)->shape.layers};
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

static const int with_links[] = {1, 2, 3, 5, 7, 8}; /* of rows[] */
enum { WITH_LINKS = sizeof with_links / sizeof *with_links };

/* Every row whose prompts cross links, with the links of all cards. */
static void test_rows(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        struct wanted w = want_of(models[i]);
        for (int k = i % 2; k < WITH_LINKS; k += 2) { /* rows in turn */
            const struct row *r = &rows[with_links[k]];
            const int n = 2 + (i + k) % 2;
            struct lade_placement p = place_for(r, w.experts, w.layers, n);
            struct lade_traffic t;
            machine->devices = n;
            struct lade_model *m = open_model(models[i], &p, NULL);
            check_logits(m, &w, r->name);
            lade_model_traffic(m, &t);
            if (r->rest_by == LADE_BY_GPU)
                assert_true(t.link_bytes > 0);
            lade_model_close(m);
        }
        free(w.logits);
    }
}

static const struct row *const ten[] = {&rows[3], &rows[7]};

/* Ten runs give the same bits. */
static void test_ten_runs(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    machine->devices = 3;
    for (size_t k = 0; k < sizeof ten / sizeof *ten; k++) {
        struct lade_placement p = place_for(ten[k], w.experts, w.layers, 3);
        float *first = NULL;
        for (int run = 0; run < 10; run++) {
            struct lade_model *m = open_model(models[1], &p, NULL);
            assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
            float *have = logits_of(m);
            assert_true(worst_off_by(have, w.logits, TOKENS, w.vocab) <= TOLERANCE);
            check_same_bits(&first, have, w.vocab);
            lade_model_close(m);
        }
        free(first);
    }
    free(w.logits);
}

/* VRAM shrinks to nothing and grows again, on one card or all; cards whose slots went no longer help. */
static void test_pressure(void **state)
{
    (void)state;
    struct wanted w = want_of(models[1]);
    machine->devices = 3;
    for (size_t k = 0; k < sizeof ten / sizeof *ten; k++) {
        struct lade_placement p = place_for(ten[k], w.experts, w.layers, 3);
        struct lade_model *m = open_model(models[1], &p, NULL);
        for (int round = 0; round < 8; round++) {
            uint64_t vram[3];
            for (int i = 0; i < 3; i++)
                vram[i] = round >> i & 1 ? 0 : p.card[i].experts;
            assert_int_equal(lade_tiers_resize(m->tiers, UINT64_MAX / 2, vram, err), 0);
            check_logits(m, &w, ten[k]->name);
        }
        lade_model_close(m);
        assert_int_equal(machine->pinned, 0);
    }
    free(w.logits);
}

/* ---- the plug-in for NVIDIA's, emulated ------------------------------------------------------ */

#ifdef __SANITIZE_ADDRESS__
enum { EMULATED = 1 }; /* it takes long there */
#else
enum { EMULATED = sizeof ten / sizeof *ten };
#endif

static void test_emulated(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not follow the emulator's own stacks */
#endif
    char plugin[4096];
    snprintf(plugin, sizeof plugin, "%s", test_plugin_path("lade-cuda-emulated.so"));
    if (!lade_plugin_open(plugin, err))
        fail_msg("%s", err);
    struct lade_emulator_knobs *knobs = test_plugin_symbol(plugin, "lade_emulator");
    struct wanted w = want_of(models[1]);
    knobs->devices = 2;
    for (size_t k = 0; k < EMULATED; k++) {
        struct lade_placement p = place_for(ten[k], w.experts, w.layers, 2);
        struct lade_options opt = {
            .model = models[1], .exact = true, .threads = 2, .place = &p, .plugin = plugin};
        struct lade_model *m;
        if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        struct lade_session *s;
        int32_t ids[TOKENS];
        fill_ids(m, ids);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        const unsigned long before = knobs->device_allocations;
        if (lade_session_sync(s, ids, BATCH, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s: %s", ten[k]->name, err);
        double e = off_by(lade_session_logits(s), w.logits + (BATCH - 1) * w.vocab, w.vocab);
        if (!(e <= TOLERANCE))
            fail_msg("%s: off by %.2e", ten[k]->name, e);
        assert_int_equal(knobs->device_allocations, before);
        lade_session_close(s);
        lade_model_close(m);
        assert_int_equal(knobs->registered, 0);
    }
    knobs->devices = 1;
    free(w.logits);
}

/* ---- the clock of the simulated GPU ---------------------------------------------------------- */

/* Links work at the same time: a prompt takes less than copies do up all links together. */
static void test_time(void **state)
{
    (void)state;
    const struct lade_sim was = *machine;
    struct wanted w = want_of(models[0]);
    machine->devices = 2;
    machine->launch = 0;
    machine->memory_rate = 1e12;
    machine->link_rate = 3e8;
    for (size_t k = 0; k < sizeof ten / sizeof *ten; k++) {
        struct lade_placement p = place_for(ten[k], w.experts, w.layers, 2);
        struct lade_session *s;
        int32_t ids[TOKENS];
        p.card[1].link_byte = p.card[0].link_byte;
        struct lade_model *m = open_model(models[0], &p, NULL);
        fill_ids(m, ids);
        assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
        assert_int_equal(lade_session_open(&s, m, err), 0);
        double from = machine->seconds, busy = machine->upload_busy;
        assert_int_equal(lade_session_sync(s, ids, TOKENS, 0, NULL, NULL, NULL, NULL, err), 0);
        double time = machine->seconds - from;
        busy = machine->upload_busy - busy;
        if (!(time < 0.8 * busy))
            fail_msg("%s: %.1f us, copies up %.1f", ten[k]->name, time * 1e6, busy * 1e6);
        lade_session_close(s);
        lade_model_close(m);
    }
    machine->launch = was.launch;
    machine->memory_rate = was.memory_rate;
    machine->link_rate = was.link_rate;
    free(w.logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_rows),
        cmocka_unit_test(test_ten_runs), cmocka_unit_test(test_pressure),
        cmocka_unit_test(test_emulated), cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, find_sim, NULL);
}
