/* Memory that other programs claim while an engine answers: experts give way, to RAM where VRAM is
 * wanted and RAM is free, and come back. Looks at the memory are the test's; the GPU is simulated. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/support/plugins.h"
#include "tests/support/sim_gpu/sim_gpu.h"
#include "tests/support/support_io.h"
#include "tests/unit/engine_common.h"

/* What the engine sees of the memory. */
struct claims {
    pthread_mutex_t lock;
    struct lade_pressure now;
    int looks;
};

static bool see(void *user, struct lade_pressure *out)
{
    struct claims *c = user;
    pthread_mutex_lock(&c->lock);
    *out = c->now;
    c->looks++;
    pthread_mutex_unlock(&c->lock);
    return true;
}

/* Sets what is left, and waits until the engine has seen it and acted on it. */
static void claim(struct claims *c, uint64_t ram_left, uint64_t vram_left)
{
    pthread_mutex_lock(&c->lock);
    c->now.ram_left = ram_left;
    c->now.vram_left[0] = vram_left;
    c->now.seconds += 100;
    int until = c->looks + 2;
    pthread_mutex_unlock(&c->lock);
    for (bool seen = false; !seen; usleep(1000)) {
        pthread_mutex_lock(&c->lock);
        seen = c->looks >= until;
        pthread_mutex_unlock(&c->lock);
    }
}

/* Other programs take all memory there is: experts give way, in RAM and in VRAM, while an answer is
 * written and while nothing happens; the words stay the same; when the memory is free again they
 * come back. */
static void test_memory_is_claimed(void **state)
{
    (void)state;
    static struct seen plain;
    static const char *const names[] = {"cpu-tight", "full-gpu", "hybrid-heavy-gpu"};
    const uint64_t gib = (uint64_t)1 << 30;
    struct lade_engine *e = start(MODEL);
    ask(e, "go on", 40);
    wait_for(e, &plain, &plain.done);
    lade_engine_stop(e);
    for (int i = 0; i < 3; i++) {
        static struct seen s;
        struct claims c = {PTHREAD_MUTEX_INITIALIZER,
                           {.ram_total = 16 * gib,
                            .ram_left = 8 * gib,
                            .vram_total = {16 * gib},
                            .vram_left = {8 * gib}},
                           0};
        struct lade_options opt = {.model = MODEL,
                                   .threads = 2,
                                   .context = 512,
                                   .exact = true,
                                   .strategy = names[i],
                                   .plugin = test_plugin_path("lade-sim.so"),
                                   .pressure = see,
                                   .pressure_user = &c};
        struct lade_stats full, squeezed, again;
        memset(&s, 0, sizeof s);
        if (lade_engine_start(&e, &opt, err))
            fail_msg("%s", err);
        wait_for(e, &s, &s.ready);
        lade_engine_stats(e, &full);
        assert_true(full.in_ram.room + full.in_vram.room > 0);
        ask(e, "go on", 40);
        wait_for(e, &s, &s.prefills); /* it is being written */
        claim(&c, 0, 0);
        wait_for(e, &s, &s.memory);
        lade_engine_stats(e, &squeezed);
        assert_int_equal(squeezed.in_ram.room + squeezed.in_vram.room, 0);
        assert_true(squeezed.weights < full.weights);
        assert_int_equal(squeezed.ram_given > 0, i == 0);
        assert_int_equal(squeezed.vram_given > 0, i > 0);
        assert_non_null(strstr(s.told, "gave way"));
        if (!s.done)
            wait_for(e, &s, &s.done);
        assert_string_equal(s.text, plain.text);
        claim(&c, 8 * gib, 8 * gib);
        wait_for(e, &s, &s.memory);
        lade_engine_stats(e, &again);
        assert_int_equal(again.in_ram.room, full.in_ram.room);
        assert_int_equal(again.in_vram.room, full.in_vram.room);
        assert_int_equal(again.ram_given + again.vram_given, 0);
        s.text[0] = '\0';
        ask(e, "go on", 40);
        wait_for(e, &s, &s.done);
        assert_string_equal(s.text, plain.text);
        assert_int_equal(s.failed, 0);
        lade_engine_stop(e);
    }
}

/* All memory is taken and given back from look to look. */
static bool see_swings(void *user, struct lade_pressure *out)
{
    const uint64_t gib = (uint64_t)1 << 30;
    int *looks = user;
    uint64_t left = *looks % 2 ? 8 * gib : 0;
    *looks += 1;
    *out = (struct lade_pressure){.seconds = 100.0 * *looks,
                                  .ram_total = 16 * gib,
                                  .ram_left = left,
                                  .vram_total = {16 * gib},
                                  .vram_left = {left}};
    return true;
}

/* Experts go and come back between any two layers of a prompt, and between any two tokens: the words
 * stay the same. */
static void test_memory_swings(void **state)
{
    (void)state;
    static struct seen plain;
    static const char *const names[] = {"cpu-tight", "full-gpu", "hybrid-heavy-gpu",
                                        "stream-cached"};
    static const char question[] = "one two three four five six seven eight nine ten";
    struct lade_engine *e = start(MODEL);
    ask(e, question, 6);
    wait_for(e, &plain, &plain.done);
    lade_engine_stop(e);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        static struct seen s;
        int looks = 0;
        struct lade_options opt = {.model = MODEL,
                                   .threads = 2,
                                   .context = 512,
                                   .exact = true,
                                   .batch = 16,
                                   .strategy = names[i],
                                   .plugin = test_plugin_path("lade-sim.so"),
                                   .pressure = see_swings,
                                   .pressure_user = &looks};
        memset(&s, 0, sizeof s);
        if (lade_engine_start(&e, &opt, err))
            fail_msg("%s", err);
        wait_for(e, &s, &s.ready);
        ask(e, question, 6);
        wait_for(e, &s, &s.done);
        assert_int_equal(s.failed, 0);
        assert_string_equal(s.text, plain.text);
        lade_engine_stop(e);
        assert_true(looks > 16 + 6); /* 8 layers, at least two batches */
    }
}

/* ---- VRAM is claimed, RAM is free ------------------------------------------------------------ */

static atomic_long reads; /* while they are counted; none is held */

static bool count_read(const struct lade_read *r)
{
    (void)r;
    atomic_fetch_add(&reads, 1);
    return false;
}

/* An engine whose experts lose VRAM: what it said and had before. */
struct squeeze {
    struct lade_engine *e;
    struct claims c;
    struct seen s, plain;
    struct lade_stats full, now;
    uint64_t experts; /* bytes */
};

static const uint64_t LOTS = (uint64_t)8 << 30;

/* Starts with a strategy and caps (0: none), loads, and answers. */
static void squeeze_open(struct squeeze *q, const char *strategy, uint64_t vram_cap,
                         uint64_t ram_cap)
{
    struct lade_plan plan;
    struct lade_options opt = {.model = MODEL,
                               .threads = 2,
                               .context = 512,
                               .exact = true,
                               .strategy = strategy,
                               .vram_cap = {vram_cap},
                               .ram_cap = ram_cap,
                               .io = &support_gated_io,
                               .plugin = test_plugin_path("lade-sim.so"),
                               .pressure = see,
                               .pressure_user = &q->c};
    memset(q, 0, sizeof *q);
    q->c = (struct claims){
        PTHREAD_MUTEX_INITIALIZER,
        {.ram_total = 2 * LOTS, .ram_left = LOTS, .vram_total = {2 * LOTS}, .vram_left = {LOTS}},
        0};
    if (lade_engine_start(&q->e, &opt, err))
        fail_msg("%s", err);
    wait_for(q->e, &q->plain, &q->plain.ready);
    ask(q->e, "go on", 40);
    wait_for(q->e, &q->plain, &q->plain.done);
    assert_true(lade_engine_plan(q->e, &plan));
    q->experts = plan.model.experts;
    lade_engine_stats(q->e, &q->full);
    atomic_store(&reads, 0);
    support_gate_shut(count_read);
}

static void squeeze_close(struct squeeze *q)
{
    support_gate_open();
    lade_engine_stop(q->e);
}

/* So much is left now. A short answer has the engine look, and a long one must say what was said before. */
static void squeeze_to(struct squeeze *q, uint64_t ram_left, uint64_t vram_left)
{
    pthread_mutex_lock(&q->c.lock);
    q->c.now.ram_left = ram_left;
    q->c.now.vram_left[0] = vram_left;
    q->c.now.seconds += 100;
    pthread_mutex_unlock(&q->c.lock);
    ask(q->e, "look", 2);
    wait_for(q->e, &q->s, &q->s.done);
    q->s.text[0] = '\0';
    ask(q->e, "go on", 40);
    wait_for(q->e, &q->s, &q->s.done);
    assert_int_equal(q->s.failed, 0);
    assert_string_equal(q->s.text, q->plain.text);
    lade_engine_stats(q->e, &q->now);
}

static void assert_as_planned(const struct squeeze *q)
{
    assert_int_equal(q->now.in_vram.room, q->full.in_vram.room);
    assert_int_equal(q->now.in_vram.experts, q->full.in_vram.experts);
    assert_int_equal(q->now.in_ram.room, q->full.in_ram.room);
    assert_int_equal(q->now.in_ram.experts, q->full.in_ram.experts);
    assert_int_equal(q->now.vram_given + q->now.ram_given, 0);
}

/* A cap with which a GPU holds everything but a part of the experts. */
static uint64_t cap_without(double part)
{
    struct squeeze *q = malloc(sizeof *q);
    struct lade_plan plan;
    squeeze_open(q, "full-gpu", 0, 0);
    assert_true(lade_engine_plan(q->e, &plan));
    squeeze_close(q);
    const struct lade_plan_row *row = &plan.rows[plan.chosen];
    uint64_t cap = row->vram_bytes + plan.machine.gpu[0].reserve;
    cap -= (uint64_t)(part * (double)plan.model.experts);
    free(q);
    return cap;
}

/* All that leaves VRAM goes to RAM, and nothing is read, then or later; it goes back the same way. */
static void test_vram_is_claimed(void **state)
{
    (void)state;
    static struct squeeze q;
    static const char *const names[] = {"full-gpu", "hybrid-heavy-gpu", "stream-aggressive",
                                        "offload-buffers"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        squeeze_open(&q, names[i], i ? cap_without(0.375) : 0, 0);
        uint64_t all = q.full.in_ram.experts + q.full.in_vram.experts;
        squeeze_to(&q, LOTS, 0);
        assert_true(q.now.in_vram.room < q.full.in_vram.room);
        assert_true(q.now.in_ram.room + q.now.in_vram.room >= all);
        assert_true(q.now.in_ram.experts + q.now.in_vram.experts >= all);
        assert_true(q.now.vram_given > 0);
        assert_int_equal(q.now.ram_given, 0);
        assert_non_null(strstr(q.s.told, "moved to RAM"));
        squeeze_to(&q, LOTS, LOTS);
        assert_as_planned(&q);
        assert_int_equal(atomic_load(&reads), 0);
        assert_int_equal(q.s.memory, 2);
        squeeze_close(&q);
    }
}

/* A cap of RAM stays one: what it has no room for is read when it is needed. */
static void test_ram_cap_is_kept(void **state)
{
    (void)state;
    static struct squeeze q;
    struct lade_plan plan;
    squeeze_open(&q, "full-gpu", 0, 0);
    assert_true(lade_engine_plan(q.e, &plan));
    uint64_t ram = plan.rows[plan.chosen].ram_bytes, half = q.experts / 2;
    squeeze_close(&q);
    squeeze_open(&q, "full-gpu", 0, ram + half);
    squeeze_to(&q, LOTS, 0);
    assert_int_equal(q.now.in_vram.room, 0);
    assert_in_range(q.now.in_ram.bytes, half / 2, half);
    assert_in_range(q.now.in_ram.experts, q.full.in_vram.experts / 4, q.full.in_vram.experts / 2);
    assert_non_null(strstr(q.s.told, "of them to RAM"));
    assert_true(q.now.traffic.disk_reads > q.full.traffic.disk_reads);
    squeeze_to(&q, LOTS, LOTS);
    squeeze_close(&q);
    /* Nor does it take RAM that others need. */
    squeeze_open(&q, "full-gpu", 0, 0);
    squeeze_to(&q, 0, 0);
    assert_int_equal(q.now.in_ram.room + q.now.in_vram.room, 0);
    assert_null(strstr(q.s.told, "to RAM"));
    squeeze_close(&q);
}

/* RAM that GPUs can read may be short: then VRAM is given back all the same. With more of it later the
 * experts come to RAM, and whatever was in the way, they end up where they were planned. */
static void test_no_pinned_ram(void **state)
{
    (void)state;
    static struct squeeze q;
    for (int64_t n = 1; n < 40; n += n < 4 ? 1 : 7) {
        squeeze_open(&q, "full-gpu", 0, 0);
        struct lade_sim *sim = test_plugin_symbol(test_plugin_path("lade-sim.so"), "lade_sim");
        assert_non_null(sim);
        atomic_store(&sim->fail_call, n);
        squeeze_to(&q, LOTS, 0);
        assert_true(atomic_load(&sim->fail_call) <= 0);
        assert_int_equal(q.now.in_vram.room, 0);
        squeeze_to(&q, LOTS, 0);
        assert_true(q.now.in_ram.room >= q.full.in_vram.experts);
        squeeze_to(&q, LOTS, LOTS);
        assert_int_equal(q.now.in_vram.room, q.full.in_vram.room);
        assert_int_equal(q.now.in_ram.room, q.full.in_ram.room);
        squeeze_close(&q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_claimed), cmocka_unit_test(test_memory_swings),
        cmocka_unit_test(test_vram_is_claimed),   cmocka_unit_test(test_ram_cap_is_kept),
        cmocka_unit_test(test_no_pinned_ram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
