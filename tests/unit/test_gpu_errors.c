/* What a GPU that cannot be used leaves: one clear sentence where a strategy asked for it, and a plan
 * for the CPU that works where none did. On the CUDA plug-in, emulated, whose machine is told what to
 * lack. */
#include "engine/session/model.h"
#include "tests/support/cuda_emulator/knobs.h"
#include "tests/support/plugins.h"
#include "tests/unit/engine_common.h"

#undef MODEL
#define MODEL "tests/fixtures/tiny-int4"

static struct lade_emulator_knobs *knobs, usual;
static int loads; /* calls of on_load */

static void on_load(void *user, const struct lade_load_progress *p)
{
    (void)user, (void)p;
    loads++;
}

static const char *plugin(void)
{
    return test_plugin_path("lade-cuda-emulated.so");
}

static int open_model(struct lade_model **m, const char *strategy, size_t vram_cap)
{
    struct lade_options opt = {.model = MODEL,
                               .strategy = strategy,
                               .vram_cap = {vram_cap},
                               .threads = 2,
                               .context = 128,
                               .plugin = plugin()};
    loads = 0;
    err[0] = '\0';
    return lade_model_open(m, &opt, on_load, NULL, NULL, err);
}

/* "WHAT: WHY; DO", on one line, that has these words. */
static void assert_sentence(const char *words)
{
    if (!strstr(err, words))
        fail_msg("'%s' is not in '%s'", words, err);
    assert_null(strchr(err, '\n'));
    assert_non_null(strstr(err, ": "));
    assert_non_null(strstr(err, "; "));
}

/* Without a strategy the CPU does it, and what it does is right. */
static void works_on(const char *device)
{
    struct lade_model *m;
    struct lade_session *s;
    const int32_t ids[] = {1, 2, 3, 4};
    if (open_model(&m, NULL, 0))
        fail_msg("%s", err);
    assert_int_equal(strncmp(lade_model_device(m), device, strlen(device)), 0);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    assert_int_equal(lade_session_sync(s, ids, 4, 0, NULL, NULL, NULL, NULL, err), 0);
    assert_int_equal(lade_session_push(s, 5, err), 0);
    lade_session_close(s);
    lade_model_close(m);
}

/* ThreadSanitizer does not follow the emulator's own stacks. */
static void need_emulator(void)
{
    if (knobs == &usual)
        skip();
}

static void refused(const char *words)
{
    struct lade_model *m;
    need_emulator();
    assert_int_equal(open_model(&m, "full-gpu", 0), -1);
    assert_null(m);
    assert_sentence(words);
    assert_int_equal(loads, 0);
}

static int find_knobs(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    knobs = &usual;
    return 0;
#endif
    works_on("cuda"); /* loads the plug-in, too */
    knobs = test_plugin_symbol(plugin(), "lade_emulator");
    if (!knobs)
        return -1;
    usual = *knobs;
    return 0;
}

static int as_usual(void **state)
{
    (void)state;
    *knobs = usual;
    return 0;
}

static void test_no_driver(void **state)
{
    (void)state;
    knobs->driver = 0;
    refused("no NVIDIA driver");
    works_on("cpu");
}

static void test_old_driver(void **state)
{
    (void)state;
    knobs->driver = 11040;
    refused("the NVIDIA driver is for CUDA 11.4, older than");
    works_on("cpu");
}

static void test_no_device(void **state)
{
    (void)state;
    knobs->devices = 0;
    refused("finds no device");
    works_on("cpu");
}

/* A driver without a card is no GPU: the KV cache is the CPU's own form, which stays as long as the model is
 * open, whatever is found later. */
static void test_cache(void **state)
{
    (void)state;
    struct lade_model *m;
    struct lade_session *s;
    struct lade_plan plan;
    const struct lade_options opt = {.model = MODEL, .context = 128, .plugin = plugin()};
    need_emulator();
    assert_int_equal(open_model(&m, "cpu-tight", 0), 0);
    assert_int_equal(m->cache_type, LADE_F16);
    lade_model_close(m);
    knobs->devices = 0;
    assert_int_equal(open_model(&m, NULL, 0), 0);
    assert_int_equal(m->cache_type, LADE_Q16);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    assert_int_equal(lade_session_push(s, 5, err), 0);
    *knobs = usual;
    assert_int_equal(lade_model_plan_for(&plan, m, &opt, "full-gpu", err), 0);
    const struct lade_placement *to = &plan.rows[plan.chosen].place;
    assert_int_equal(to->n_cards, 1);
    assert_int_equal(lade_model_move(m, s, &opt, to, err), -1);
    assert_sentence("GPU: there was none when the model was opened");
    assert_int_equal(lade_session_push(s, 6, err), 0);
    lade_session_close(s);
    lade_model_close(m);
}

static void test_old_device(void **state)
{
    (void)state;
    knobs->major = 6;
    refused("compute capability 6.0");
    works_on("cpu");
}

static void test_little_memory(void **state)
{
    (void)state;
    knobs->total = (size_t)300 << 20;
    refused("of VRAM");
    works_on("cpu");
}

/* A cap below what the row needs is refused before anything is read, a sufficient one is kept. */
static void test_cap(void **state)
{
    (void)state;
    struct lade_model *m;
    need_emulator();
    assert_int_equal(open_model(&m, "full-gpu", (size_t)100 << 20), -1);
    assert_null(m);
    assert_sentence("of VRAM");
    assert_int_equal(loads, 0);
    const size_t cap = (size_t)700 << 20;
    assert_int_equal(open_model(&m, "full-gpu", cap), 0);
    assert_true(loads > 0);
    assert_in_range(lade_model_vram_peak(m, NULL), 1, cap);
    lade_model_close(m);
}

/* In the middle of an answer: the answer fails, closing is safe, and the CPU goes on. */
static void test_lost(void **state)
{
    (void)state;
    struct lade_model *m;
    struct lade_session *s;
    need_emulator();
    if (open_model(&m, "full-gpu", 0))
        fail_msg("%s", err);
    assert_int_equal(lade_session_open(&s, m, err), 0);
    assert_int_equal(lade_session_push(s, 1, err), 0);
    knobs->lost_after = 200;
    int pushed = 0;
    while (pushed < 100 && !lade_session_push(s, 2, err))
        pushed++;
    assert_in_range(pushed, 0, 99);
    assert_sentence("GPU 0: lost at ");
    assert_int_equal(lade_session_push(s, 3, err), -1);
    assert_sentence("GPU 0: lost at ");
    lade_session_close(s);
    lade_model_close(m);
    *knobs = usual;
    knobs->devices = 0;
    works_on("cpu");
}

/* The words of an answer, told on the way that the GPU was lost or not. */
static const char *answer(const char *strategy, long lost_after)
{
    static struct seen s;
    struct lade_options opt = {.model = MODEL,
                               .strategy = strategy,
                               .threads = 2,
                               .context = 128,
                               .exact = true,
                               .plugin = plugin()};
    struct lade_engine *e;
    s = (struct seen){0};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    wait_for(e, &s, &s.ready);
    knobs->lost_after = lost_after;
    ask(e, "hello", 10);
    wait_for(e, &s, &s.done);
    assert_int_equal(s.lost, lost_after > 0);
    assert_int_equal(s.found, lost_after > 0);
    snprintf(err, sizeof err, "%s", s.told);
    if (lost_after)
        assert_sentence("GPU 0: lost at ");
    lade_engine_stop(e);
    *knobs = usual;
    return s.text;
}

/* An engine goes on with the CPU in the middle of an answer: with a context that refuses everything, even
 * to give back what it has. */
static void test_lost_answer(void **state)
{
    (void)state;
    char plain[4096];
    need_emulator();
    snprintf(plain, sizeof plain, "%s", answer("cpu-tight", 0));
    assert_string_equal(answer("full-gpu", 40), plain);
    assert_non_null(strstr(err, "Until then lade goes on with cpu-"));
    assert_string_equal(answer("stream-cached", 150), plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_driver, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_old_driver, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_no_device, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_cache, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_old_device, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_little_memory, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_cap, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_lost, NULL, as_usual),
        cmocka_unit_test_setup_teardown(test_lost_answer, NULL, as_usual),
    };
    return cmocka_run_group_tests(tests, find_knobs, NULL);
}
