/* What a token costs on a GPU: bytes over the link by the simulated one's count, launches by the
 * emulated one's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "engine/session/model.h"
#include "tests/support/cuda_emulator/knobs.h"
#include "tests/support/plugins.h"
#include "tests/support/sim_gpu/sim_gpu.h"

enum { CONTEXT = 16, BATCH = 4, WARM = 3, TOKENS = 5, TOLD = 8 /* id and position */ };

#define INT4 "tests/fixtures/tiny8-int4-mixed"

static char err[LADE_ERR];

static struct lade_model *open_row(const char *model, const char *plugin, const char *strategy,
                                   struct lade_session **s)
{
    struct lade_model *m;
    struct lade_options opt = {.model = model,
                               .strategy = strategy,
                               .exact = true,
                               .threads = 1,
                               .context = CONTEXT,
                               .batch = BATCH,
                               .plugin = test_plugin_path(plugin)};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err) || lade_session_open(s, m, err))
        fail_msg("%s: %s", strategy, err);
    return m;
}

static uint64_t moved(const struct lade_sim *sim)
{
    return sim->upload_bytes + sim->download_bytes;
}

/* Bytes of the link for each of TOKENS tokens, once tokens are replayed. */
static uint64_t bytes_per_token(const char *strategy, uint64_t *bound)
{
    struct lade_session *s;
    struct lade_model *m = open_row(INT4, "lade-sim.so", strategy, &s);
    const struct lade_sim *sim = test_plugin_symbol(test_plugin_path("lade-sim.so"), "lade_sim");
    const int32_t ids[BATCH] = {5, 9, 200, 31};
    if (lade_session_sync(s, ids, BATCH, 0, NULL, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    for (int i = 0; i < WARM; i++)
        if (lade_session_push(s, 40 + i, err))
            fail_msg("%s", err);
    const uint64_t replays = sim->replays, before = moved(sim);
    for (int i = 0; i < TOKENS; i++)
        if (lade_session_push(s, 70 + i, err))
            fail_msg("%s", err);
    const uint64_t bytes = moved(sim) - before;
    assert_int_equal(sim->replays - replays, TOKENS);
    *bound = lade_model_plan(m)->model.kv_token * CONTEXT +
             (uint64_t)lade_model_catalog(m)->shape.vocab * sizeof(float) + TOLD;
    lade_session_close(s);
    lade_model_close(m);
    return bytes / TOKENS;
}

/* The cache as far as it may reach, and logits: nothing of the activations. */
static void buffers_in_ram(void **state)
{
    (void)state;
    uint64_t bound;
    uint64_t bytes = bytes_per_token("offload-buffers", &bound);
    if (bytes > bound)
        fail_msg("%llu bytes a token, at most %llu are needed", (unsigned long long)bytes,
                 (unsigned long long)bound);
}

/* All in VRAM: only id and position up, logits down. */
static void all_in_vram(void **state)
{
    (void)state;
    uint64_t bound;
    assert_true(bytes_per_token("full-gpu", &bound) <= 4 * 1024 + TOLD);
}

/* Launches of products that go together: one for codes in tiles, one for numbers, one for blocks. */
static unsigned long classes(const struct lade_matrix *const *w, int n)
{
    bool seen[3] = {false, false, false};
    for (int i = 0; i < n; i++) {
        const enum lade_type type = w[i]->type;
        const bool tiled = type == LADE_Q4 || type == LADE_Q8;
        if (w[i]->rows)
            seen[tiled ? 0 : type == LADE_BLOCKS ? 2 : 1] = true;
    }
    return (unsigned long)seen[0] + seen[1] + seen[2];
}

/* A delta-net layer: norm and projections, step, output, router, the experts' two; one with attention
 * two more; embedding and head. The first token goes op by op, in the same launches as a recording
 * of it. */
static void check_launches(const char *model)
{
    struct lade_session *s;
    struct lade_model *m = open_row(model, "lade-cuda-emulated.so", "full-gpu", &s);
    const struct lade_emulator_knobs *knobs =
        test_plugin_symbol(test_plugin_path("lade-cuda-emulated.so"), "lade_emulator");
    unsigned long want = 2;
    for (int i = 0; i < lade_model_catalog(m)->shape.layers; i++) {
        const struct lade_layer *l = &m->weights.layers[i];
        const struct lade_matrix *attention[] = {&l->attention.q, &l->attention.k, &l->attention.v};
        const struct lade_matrix *delta[] = {&l->delta.qkvz, &l->delta.ba, &l->delta.z};
        want += l->full_attention ? 7 + classes(attention, 3) : 5 + classes(delta, 3);
    }
    const unsigned long before = knobs->launches;
    if (lade_session_push(s, 50, err))
        fail_msg("%s", err);
    if (knobs->launches - before != want)
        fail_msg("%s: %lu launches a token, not %lu", model, knobs->launches - before, want);
    lade_session_close(s);
    lade_model_close(m);
}

static void launches(void **state)
{
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it does not follow the emulator's own stacks */
#endif
    check_launches(INT4);
    check_launches("tests/fixtures/tiny-gguf/tiny-q8_0.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(buffers_in_ram),
                                       cmocka_unit_test(all_in_vram), cmocka_unit_test(launches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
