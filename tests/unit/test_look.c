/* Reading ahead: it comes after all that a layer waits for, takes nobody's slot, is switched off
 * where it does not pay, and no bit of any result depends on it. What must happen in an order is held
 * by a gate in front of the drive; nothing here depends on how fast anything is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/session/model.h"
#include "engine/tiers/internal.h"
#include "tests/support/plugins.h"
#include "tests/support/support_io.h"

enum { LANDINGS = 6, TOKENS = 16, ASKING = 3 };

static const char MODEL[] = "tests/fixtures/tiny8-bf16"; /* 8 layers of 64 experts, 4 a token */
static char err[LADE_ERR];

/* ---- the governor ---------------------------------------------------------------------------- */

/* Tokens of 8 layers, of which each has so many right and wasted reads while it is on. */
static void pass(struct lade_governor *g, struct lade_look_counts *c, int tokens, int right,
                 int wasted)
{
    for (int i = 0; i < tokens; i++) {
        if (g->on) {
            c->layers += 8;
            c->right += (unsigned)right;
            c->wasted += (unsigned)wasted;
        }
        lade_governor_token(g, c);
    }
}

static void test_governor(void **state)
{
    (void)state;
    struct lade_governor g;
    struct lade_look_counts c = {0};
    lade_governor_open(&g);
    assert_true(g.on);
    pass(&g, &c, 100 * LADE_GOVERNOR_TRIAL, 4, 2); /* saves 4, costs 1 + 1 */
    assert_true(g.on);
    pass(&g, &c, LADE_GOVERNOR_TRIAL - 1, 1, 6);
    assert_true(g.on);
    pass(&g, &c, 1, 1, 6);
    assert_false(g.on);
    for (int rest = LADE_GOVERNOR_REST; rest <= LADE_GOVERNOR_MOST; rest *= 2) {
        pass(&g, &c, rest - 1, 1, 6);
        assert_false(g.on);
        pass(&g, &c, 1, 1, 6);
        assert_true(g.on);
        pass(&g, &c, LADE_GOVERNOR_TRIAL, 1, 6);
        assert_false(g.on);
    }
    pass(&g, &c, LADE_GOVERNOR_MOST, 8, 0); /* no longer than that */
    assert_true(g.on);
    pass(&g, &c, 10 * LADE_GOVERNOR_TRIAL, 8, 0);
    assert_true(g.on);
    pass(&g, &c, LADE_GOVERNOR_TRIAL, 0, 8); /* what failed long ago counts no more */
    assert_false(g.on);
    pass(&g, &c, LADE_GOVERNOR_REST, 0, 8);
    assert_true(g.on);
    pass(&g, &c, LADE_GOVERNOR_TRIAL, 0, 0); /* guesses cost, too, where there is nothing to read */
    assert_false(g.on);
}

/* ---- tiers ----------------------------------------------------------------------------------- */

/* A model with room for a part of its experts, in sixteenths, and for LANDINGS. */
static struct lade_model *open_model(const char *path, int room, const struct lade_io_ops *io,
                                     bool lookahead, bool gpu)
{
    struct lade_model *m;
    struct lade_catalog *cat;
    assert_int_equal(lade_catalog_open(&cat, path, err), 0);
    struct lade_kinds kinds;
    assert_int_equal(lade_kinds_open(&kinds, cat, err), 0);
    uint64_t one = kinds.largest, all = kinds.all;
    lade_kinds_close(&kinds);
    lade_catalog_close(cat);
    struct lade_placement place = {
        .base = gpu ? LADE_VRAM : LADE_RAM,
        .kv = gpu ? LADE_VRAM : LADE_RAM,
        .buffers = gpu ? LADE_VRAM : LADE_RAM,
        .card = {{.experts = all / 8}},
        .n_cards = gpu,
        .ram_experts = all * (uint64_t)room / 16,
        .rest_by = LADE_BY_CPU,
        .staging = 2 * 5 * LANDINGS * one,
        .context = 128,
        .batch = 8,
    };
    struct lade_options opt = {.model = path,
                               .exact = true,
                               .threads = 2,
                               .place = &place,
                               .io = io,
                               .no_lookahead = !lookahead,
                               .plugin = gpu ? test_plugin_path("lade-sim.so") : NULL};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

/* Waits until what has been guessed is there, or has failed. */
static void settle(struct lade_tiers *t)
{
    for (bool over = false; !over;) {
        pthread_mutex_lock(&t->lock);
        over = !t->look.flying && t->look.next == t->look.n_queue;
        pthread_mutex_unlock(&t->lock);
        if (!over)
            usleep(50);
    }
}

/* Takes all that was asked for; every expert once. */
static void take(struct lade_tiers *t, int n)
{
    struct lade_wave wave;
    int rc, got = 0;
    while ((rc = lade_tiers_wave(t, &wave, err)) > 0)
        got += wave.n;
    if (rc)
        fail_msg("%s", err);
    assert_int_equal(got, n);
    lade_tiers_done(t);
}

static struct lade_traffic traffic_of(struct lade_tiers *t)
{
    struct lade_tiers_stats s;
    lade_tiers_stats(t, &s);
    return s.traffic;
}

/* Experts of a layer that are in no memory, from the back. */
static int absent(struct lade_tiers *t, int layer, int32_t *ids, int n)
{
    int experts = t->cat->shape.experts, found = 0;
    pthread_mutex_lock(&t->lock);
    for (int i = experts - 1; i >= 0 && found < n; i--)
        if (t->ram.slot_of[layer * experts + i] < 0)
            ids[found++] = i;
    pthread_mutex_unlock(&t->lock);
    assert_int_equal(found, n);
    return n;
}

static atomic_bool hold;
static atomic_int held;

static bool hold_some(const struct lade_read *r)
{
    (void)r;
    bool holds = atomic_load(&hold);
    held += holds;
    return holds;
}

static void shut(void)
{
    atomic_store(&held, 0);
    atomic_store(&hold, true);
    support_gate_shut(hold_some);
}

static void wait_held(void)
{
    while (!atomic_load(&held))
        usleep(50);
}

/* Waits until movers have seen of so many wants that they are read ahead. */
static void wait_joined(struct lade_tiers *t, uint64_t n)
{
    while (traffic_of(t).ahead_right != n)
        usleep(50);
}

/* While a layer waits nothing is read ahead, however long it takes. When something is being read
 * ahead and does not come, a layer gets what it asks for. */
static void test_demand_first(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, &support_gated_io, true, false);
    struct lade_tiers *t = m->tiers;
    int32_t first[4], second[4], other[1];
    absent(t, 1, first, 4);
    absent(t, 2, second, 4);
    assert_int_equal(t->look.n, LANDINGS);
    lade_tiers_begin(t, 1, 0, NULL);
    assert_true(lade_tiers_looks(t));
    shut();
    lade_tiers_ask(t, 1, first, 4);
    lade_tiers_guess(t, 2, second, 2);
    wait_held(); /* some of what layer 1 asked for is on its way, all of it is waited for */
    for (int i = 0; i < 20; i++) {
        usleep(500); /* the movers could, if they would */
        assert_int_equal(traffic_of(t).ahead, 0);
    }
    support_gate_open();
    take(t, 4);
    settle(t);
    assert_int_equal(traffic_of(t).ahead, 2);

    shut();
    lade_tiers_guess(t, 2, second + 2, 2);
    wait_held();
    atomic_store(&hold, false); /* that one stays; all that come now pass */
    absent(t, 3, other, 1);
    lade_tiers_ask(t, 3, other, 1);
    take(t, 1);
    pthread_mutex_lock(&t->lock);
    assert_true(t->look.flying); /* and there is no second one beside it */
    assert_int_equal(t->look.next, 1);
    pthread_mutex_unlock(&t->lock);
    support_gate_open();
    settle(t);
    lade_tiers_end(t);
    lade_model_close(m);
}

/* What has landed is there without a read; what is on its way is waited for, and not read twice. */
static void test_right(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, &support_gated_io, true, false);
    struct lade_tiers *t = m->tiers;
    int32_t ids[2];
    absent(t, 1, ids, 2);
    lade_tiers_begin(t, 1, 0, NULL);
    lade_tiers_guess(t, 1, ids, 2);
    settle(t);
    shut();
    lade_tiers_ask(t, 1, ids, 2);
    take(t, 2);
    assert_int_equal(atomic_load(&held), 0);
    struct lade_traffic now = traffic_of(t);
    assert_int_equal(now.ahead, 2);
    assert_int_equal(now.ahead_right, 2);
    assert_int_equal(now.disk_reads, 2); /* that is where they were found */

    absent(t, 2, ids, 2);
    lade_tiers_guess(t, 2, ids, 1);
    wait_held();
    int before = atomic_load(&held);
    lade_tiers_ask(t, 2, ids, 1);
    wait_joined(t, 3);
    support_gate_open();
    take(t, 1);
    assert_int_equal(atomic_load(&held), before);
    assert_int_equal(traffic_of(t).ahead, 3);
    assert_int_equal(traffic_of(t).ahead_wasted, 0);
    lade_tiers_end(t);
    lade_model_close(m);
}

/* However many guesses are wrong, who is in which slot stays; memory is what was promised. */
static void test_wrong(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 8, NULL, true, false);
    struct lade_tiers *t = m->tiers;
    size_t experts = (size_t)t->kinds.n_experts;
    int *slots = malloc(experts * sizeof *slots);
    int evicted = t->ram.evicted, guessed = 0;
    struct lade_tiers_stats before, after;
    memcpy(slots, t->ram.slot_of, experts * sizeof *slots); /* nothing is on its way */
    lade_tiers_stats(t, &before);
    lade_tiers_begin(t, 1, 0, NULL);
    for (int layer = 1; layer < 8; layer++) {
        int32_t ids[4];
        guessed += absent(t, layer, ids, 4);
        lade_tiers_guess(t, layer, ids, 4);
        settle(t);
    }
    lade_tiers_end(t);
    lade_tiers_stats(t, &after);
    assert_memory_equal(slots, t->ram.slot_of, experts * sizeof *slots);
    assert_int_equal(t->ram.evicted, evicted);
    assert_int_equal(after.traffic.ahead, guessed);
    assert_int_equal(after.traffic.ahead_right, 0);
    assert_int_equal(after.traffic.ahead_wasted,
                     guessed - LANDINGS); /* the others are still there */
    assert_int_equal(after.traffic.ahead_wasted_bytes,
                     after.traffic.ahead_wasted * lade_expert_bytes(t, 0));
    assert_int_equal(after.ram_held, before.ram_held);
    size_t stage = (size_t)t->ram.n_stage * t->kinds.largest + t->look.bytes;
    assert_true(stage <= t->place.staging / 2);
    free(slots);
    lade_model_close(m);
}

/* A guess that cannot be read is nobody's error; the layer that asks reads it again. */
static void test_read_fails(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, &support_gated_io, true, false);
    struct lade_tiers *t = m->tiers;
    struct lade_wave wave;
    int32_t id;
    absent(t, 1, &id, 1);
    lade_tiers_begin(t, 1, 0, NULL);
    support_drive_gone(true);
    lade_tiers_guess(t, 1, &id, 1);
    settle(t);
    assert_int_equal(traffic_of(t).ahead, 1);
    lade_tiers_ask(t, 1, &id, 1);
    assert_int_equal(lade_tiers_wave(t, &wave, err), 1);
    assert_true(wave.nothing);
    assert_int_equal(lade_tiers_wave(t, &wave, err), -1); /* that is one */
    assert_non_null(strstr(err, strerror(EIO)));
    lade_tiers_done(t);

    support_drive_gone(false);
    shut();
    lade_tiers_guess(t, 1, &id, 1);
    wait_held();
    lade_tiers_ask(t, 1, &id, 1); /* the layer waits for the guess, */
    wait_joined(t, 1);
    support_drive_fails(1);
    support_gate_open();
    take(t, 1); /* and reads for itself when that has failed */
    lade_tiers_end(t);
    lade_model_close(m);
}

/* A read that was begun for a layer that has given up ends late and with an error: it is not that of the
 * next layer, which has joined it. */
static void test_late_error(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, &support_gated_io, true, false);
    struct lade_tiers *t = m->tiers;
    atomic_bool cancel = true;
    struct lade_wave wave;
    int32_t id;
    absent(t, 1, &id, 1);
    shut();
    lade_tiers_begin(t, 1, 0, &cancel);
    lade_tiers_ask(t, 1, &id, 1);
    wait_held();
    assert_int_equal(lade_tiers_wave(t, &wave, err), 1);
    assert_int_equal(lade_tiers_wave(t, &wave, err), -1);
    assert_non_null(strstr(err, "cancelled"));
    lade_tiers_done(t);
    lade_tiers_end(t);

    lade_tiers_begin(t, 1, 0, NULL);
    lade_tiers_ask(t, 1, &id, 1);
    support_drive_fails(1);
    support_gate_open();
    take(t, 1);
    support_drive_gone(true); /* what is read for the layer itself still is its error */
    absent(t, 1, &id, 1);
    lade_tiers_ask(t, 1, &id, 1);
    assert_int_equal(lade_tiers_wave(t, &wave, err), 1);
    assert_int_equal(lade_tiers_wave(t, &wave, err), -1);
    assert_non_null(strstr(err, strerror(EIO)));
    lade_tiers_done(t);
    lade_tiers_end(t);
    support_drive_gone(false);
    lade_model_close(m);
}

/* Nothing is guessed while a load goes on, in a prompt, where all is in memory, or where it is not
 * wanted. */
static void test_silent(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, &support_gated_io, true, false);
    struct lade_tiers *t = m->tiers;
    lade_tiers_begin(t, 2, 0, NULL);
    assert_false(lade_tiers_looks(t));
    lade_tiers_end(t);
    shut();
    assert_int_equal(lade_tiers_resize(t, t->kinds.all / 2, NULL, err),
                     0); /* loads what has room now */
    lade_tiers_begin(t, 1, 0, NULL);
    assert_false(lade_tiers_looks(t));
    lade_tiers_end(t);
    support_gate_open();
    assert_int_equal(lade_tiers_wait(t, true, err), 0);
    lade_tiers_begin(t, 1, 0, NULL);
    assert_true(lade_tiers_looks(t));
    lade_tiers_end(t);
    assert_int_equal(lade_tiers_resize(t, UINT64_MAX, NULL, err), 0);
    assert_int_equal(lade_tiers_wait(t, true, err), 0);
    lade_tiers_begin(t, 1, 0, NULL);
    assert_false(lade_tiers_looks(t));
    lade_tiers_end(t);
    lade_model_close(m);

    m = open_model(MODEL, 4, NULL, false, false);
    lade_tiers_begin(m->tiers, 1, 0, NULL);
    assert_false(lade_tiers_looks(m->tiers));
    lade_tiers_end(m->tiers);
    assert_false(traffic_of(m->tiers).ahead_on);
    lade_model_close(m);
}

/* A token of which ASKING layers ask for two absent experts each; guesses are right or wrong. */
static void token(struct lade_tiers *t, bool right)
{
    lade_tiers_begin(t, 1, 0, NULL);
    bool looks = lade_tiers_looks(t);
    for (int layer = 1; layer <= ASKING; layer++) {
        int32_t ids[4];
        absent(t, layer, ids, 4);
        if (looks) {
            lade_tiers_guess(t, layer, right ? ids : ids + 2, 2);
            settle(t);
        }
        lade_tiers_ask(t, layer, ids, 2);
        take(t, 2);
    }
    lade_tiers_end(t);
}

/* Routes that can be foreseen keep it on, others switch it off; later it is tried again. */
static void test_switches(void **state)
{
    (void)state;
    struct lade_model *m = open_model(MODEL, 4, NULL, true, false);
    struct lade_tiers *t = m->tiers;
    for (int i = 0; i < 2 * LADE_GOVERNOR_TRIAL; i++)
        token(t, true);
    struct lade_traffic now = traffic_of(t);
    assert_true(now.ahead_on);
    assert_int_equal(now.ahead, 2 * LADE_GOVERNOR_TRIAL * ASKING * 2);
    assert_int_equal(now.ahead_right, now.ahead);
    assert_int_equal(now.ahead_wasted, 0);
    for (int i = 0; i < LADE_GOVERNOR_TRIAL; i++)
        token(t, false);
    assert_false(traffic_of(t).ahead_on);
    uint64_t ahead = traffic_of(t).ahead;
    for (int i = 0; i < LADE_GOVERNOR_REST - 1; i++)
        token(t, false);
    assert_false(traffic_of(t).ahead_on);
    assert_int_equal(traffic_of(t).ahead, ahead);
    token(t, true);
    assert_true(traffic_of(t).ahead_on);
    for (int i = 0; i < LADE_GOVERNOR_TRIAL; i++)
        token(t, true);
    assert_true(traffic_of(t).ahead_on);
    assert_true(traffic_of(t).ahead > ahead);
    lade_model_close(m);
}

/* ---- bits ------------------------------------------------------------------------------------ */

/* Before a token: an expert of each layer is guessed and lands, so that landings are in use whatever
 * the drive has time for. */
static void guess_some(struct lade_tiers *t, int token)
{
    lade_tiers_begin(t, 1, 0, NULL);
    for (int layer = 0; layer < t->cat->shape.layers && lade_tiers_looks(t); layer++) {
        int32_t id = (token + 3 * layer) % t->cat->shape.experts;
        lade_tiers_guess(t, layer, &id, 1);
        settle(t);
    }
    lade_tiers_end(t);
}

static float *logits_of(struct lade_model *m, uint64_t *ahead)
{
    size_t vocab = (size_t)m->cat->shape.vocab;
    float *out = malloc(TOKENS * vocab * sizeof *out);
    struct lade_session *s;
    uint32_t random = 5;
    assert_int_equal(lade_session_open(&s, m, err), 0);
    for (int i = 0; i < TOKENS; i++) {
        random = random * 1664525u + 1013904223u;
        guess_some(m->tiers, i);
        if (lade_session_push(s, (int32_t)((random >> 8) % (uint32_t)vocab), err))
            fail_msg("%s", err);
        memcpy(out + (size_t)i * vocab, lade_session_logits(s), vocab * sizeof *out);
    }
    lade_session_close(s);
    *ahead = traffic_of(m->tiers).ahead;
    return out;
}

static void test_bits(void **state)
{
    (void)state;
    static const char *const models[] = {MODEL, "tests/fixtures/tiny8-int4-mixed",
                                         "tests/fixtures/tiny-gguf/tiny-bf16.gguf"};
    static const int rooms[] = {8, 3, 0};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        for (size_t r = 0; r < sizeof rooms / sizeof *rooms; r++)
            for (int gpu = 0; gpu < 2; gpu++) {
                float *logits[2];
                uint64_t ahead[2];
                size_t bytes = 0;
                for (int on = 0; on < 2; on++) {
                    struct lade_model *m = open_model(models[i], rooms[r], NULL, on, gpu);
                    bytes = TOKENS * (size_t)m->cat->shape.vocab * sizeof(float);
                    logits[on] = logits_of(m, &ahead[on]);
                    lade_model_close(m);
                }
                assert_int_equal(ahead[0], 0);
                assert_true(ahead[1] > 0);
                if (memcmp(logits[0], logits[1], bytes) != 0)
                    fail_msg("%s, room for %d of 16, %s: other bits", models[i], rooms[r],
                             gpu ? "GPU" : "CPU");
                free(logits[0]);
                free(logits[1]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_governor),   cmocka_unit_test(test_demand_first),
        cmocka_unit_test(test_right),      cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_read_fails), cmocka_unit_test(test_silent),
        cmocka_unit_test(test_switches),   cmocka_unit_test(test_bits),
        cmocka_unit_test(test_late_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
