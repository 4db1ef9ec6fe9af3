/* Which of a prompt's experts stay: the hottest that were read, where colder ones lay that the prompt does not
 * use; and no bit of an answer depends on when they came. */
#include "tests/unit/places_common.h"

enum { LAYER = 1, LAYERS = 8, EXPERTS = 64, HALF = EXPERTS / 2, PROMPT = 8, NEW = 6 };

struct half { /* a model with room for half of its experts */
    struct lade_model *m;
    struct lade_tiers *t;
    int32_t in[HALF], out[HALF]; /* of the layer: those in RAM, and the others */
};

static bool stays(const struct lade_tiers *t, int layer, int id)
{
    int slot = t->ram.slot_of[layer * EXPERTS + id];
    return slot >= 0 && !lade_cache_is_stage(&t->ram, slot) && t->ram.state[slot] == LADE_SLOT_HERE;
}

static int count(const struct lade_tiers *t, int layer)
{
    int n = 0;
    for (int id = 0; id < EXPERTS; id++)
        n += stays(t, layer, id);
    return n;
}

static struct lade_placement half_place(int batch)
{
    struct lade_placement all = ram_place(UINT64_MAX, batch);
    struct lade_model *m = open_model(models[0], &all, NULL);
    struct lade_placement half = ram_place(expert_bytes(m) / 2, batch);
    lade_model_close(m);
    return half;
}

static struct half open_half(void)
{
    struct half h;
    struct lade_placement half = half_place(TOKENS);
    h.m = open_model(models[0], &half, NULL);
    h.t = h.m->tiers;
    assert_int_equal(lade_tiers_wait(h.t, true, err), 0);
    assert_int_equal(lade_model_catalog(h.m)->shape.experts, EXPERTS);
    assert_int_equal(count(h.t, LAYER), HALF);
    for (int id = 0, in = 0, out = 0; id < EXPERTS; id++)
        *(stays(h.t, LAYER, id) ? &h.in[in++] : &h.out[out++]) = id;
    return h;
}

/* A layer of a pass: every wave is computed at once. */
static void ask(struct lade_tiers *t, int tokens, const int32_t *ids, int n)
{
    struct lade_wave wave;
    int rc, seen = 0;
    lade_tiers_begin(t, tokens, 0, NULL);
    lade_tiers_ask(t, LAYER, ids, n);
    while ((rc = lade_tiers_wave(t, &wave, err)) > 0)
        seen += wave.n;
    if (rc < 0)
        fail_msg("%s", err);
    assert_true(seen > 0);
    lade_tiers_done(t);
    lade_tiers_end(t);
}

/* Routes of a prompt: the first `n` of those that are in RAM, once, and each of NEW others that often. */
static int routes(const struct half *h, int n, const int *uses, int32_t *ids)
{
    int at = 0;
    for (int i = 0; i < n; i++)
        ids[at++] = h->in[i];
    for (int i = 0; i < NEW; i++)
        for (int k = 0; k < uses[i]; k++)
            ids[at++] = h->out[i];
    return at;
}

/* Four have no use for their places, and the four hottest of six take them. */
static void test_hottest_stay(void **state)
{
    (void)state;
    static const int uses[NEW] = {2, 1, 3, 4, 1, 5};
    struct half h = open_half();
    int32_t ids[EXPERTS];
    ask(h.t, PROMPT, ids, routes(&h, HALF - 4, uses, ids));
    for (int i = 0; i < HALF; i++)
        assert_int_equal(stays(h.t, LAYER, h.in[i]), i < HALF - 4);
    for (int i = 0; i < NEW; i++)
        assert_int_equal(stays(h.t, LAYER, h.out[i]), uses[i] > 1);
    for (int layer = 0; layer < LAYERS; layer++)
        assert_int_equal(count(h.t, layer), HALF);
    lade_model_close(h.m);
}

/* What an answer has used more than the prompt uses others keeps its place. */
static void test_warmer_keep_their_places(void **state)
{
    (void)state;
    static const int uses[NEW] = {1, 1, 2, 1, 1, 1};
    struct half h = open_half();
    int32_t ids[EXPERTS];
    for (int i = 0; i < 8; i++)
        ask(h.t, 1, h.in + HALF - 4, 4);
    ask(h.t, PROMPT, ids, routes(&h, HALF - 5, uses, ids));
    for (int i = 0; i < HALF; i++)
        assert_int_equal(stays(h.t, LAYER, h.in[i]), i != HALF - 5);
    for (int i = 0; i < NEW; i++)
        assert_int_equal(stays(h.t, LAYER, h.out[i]), uses[i] > 1);
    lade_model_close(h.m);
}

/* A prompt that uses all that is there leaves it there. */
static void test_none_to_spare(void **state)
{
    (void)state;
    static const int uses[NEW] = {5, 5, 5, 5, 5, 5};
    struct half h = open_half();
    int32_t ids[2 * EXPERTS];
    ask(h.t, PROMPT, ids, routes(&h, HALF, uses, ids));
    for (int i = 0; i < HALF; i++)
        assert_true(stays(h.t, LAYER, h.in[i]) && !stays(h.t, LAYER, h.out[i]));
    lade_model_close(h.m);
}

/* Who makes room does not depend on time: prompts in small batches, each of which displaces some. */
static void test_same_bits(void **state)
{
    (void)state;
    float *first = NULL;
    struct lade_placement half = half_place(7);
    for (int i = 0; i < 6; i++) {
        struct lade_model *m =
            open_model(models[0], &half, i % 2 ? &lade_io_threads : &lade_io_uring);
        assert_int_equal(lade_tiers_wait(m->tiers, true, err), 0);
        check_same_bits(&first, logits_of(m), (size_t)lade_model_catalog(m)->shape.vocab);
        assert_true(m->tiers->ram.evicted > 0);
        lade_model_close(m);
    }
    free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hottest_stay),
        cmocka_unit_test(test_warmer_keep_their_places),
        cmocka_unit_test(test_none_to_spare),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
