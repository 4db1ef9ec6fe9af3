/* The timeline: what is reused, what is recomputed, and that neither changes a logit. */
#include <math.h>
#include <time.h>

#include "tests/unit/session_common.h"

#define SMALL "tests/fixtures/tiny-bf16"

static int open_all(void **state)
{
    (void)state;
    open_with_prompt(SMALL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    lade_model_close(model);
    return 0;
}

/* The session's logits equal those of a fresh session that read the same tokens at once. */
static void assert_as_fresh(struct lade_session *s, const int32_t *ids, int n)
{
    struct lade_session *fresh = open_session(model);
    sync_to(fresh, ids, n, 0);
    assert_true(off_by(lade_session_logits(s), lade_session_logits(fresh), (size_t)vocab) < 1e-4);
    lade_session_close(fresh);
}

static void test_extension_is_kept(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    assert_int_equal(sync_to(s, prompt, 50, 0), 0);
    assert_int_equal(sync_to(s, prompt, 90, 0), 50);
    assert_as_fresh(s, prompt, 90);
    /* The same prompt again costs nothing, after a push only what parts. */
    assert_int_equal(sync_to(s, prompt, 90, 0), 90);
    assert_as_fresh(s, prompt, 90);
    lade_session_close(s);
}

static void test_pushed_tokens_are_kept(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    sync_to(s, prompt, 40, 0);
    for (int i = 40; i < 60; i++)
        assert_int_equal(lade_session_push(s, prompt[i], err), 0);
    assert_as_fresh(s, prompt, 60);
    assert_int_equal(sync_to(s, prompt, N, 0), 60);
    assert_as_fresh(s, prompt, N);
    lade_session_close(s);
}

static void test_snapshot_serves_a_fork(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    int32_t fork[N];
    memcpy(fork, prompt, sizeof fork);
    for (int i = 70; i < N; i++)
        fork[i] = (prompt[i] + 1) % vocab;
    sync_to(s, prompt, N, 65);
    assert_int_equal(sync_to(s, fork, 100, 65), 65);
    assert_as_fresh(s, fork, 100);
    /* Back to the first branch: the snapshot serves again. */
    assert_int_equal(sync_to(s, prompt, 110, 0), 65);
    assert_as_fresh(s, prompt, 110);
    /* A shorter prompt than the timeline returns to the snapshot too. */
    assert_int_equal(sync_to(s, prompt, 66, 0), 65);
    assert_as_fresh(s, prompt, 66);
    /* Parting before every snapshot starts over. */
    fork[10] = (prompt[10] + 1) % vocab;
    assert_int_equal(sync_to(s, fork, 30, 0), 0);
    assert_as_fresh(s, fork, 30);
    lade_session_close(s);
}

static void test_many_snapshots(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    for (int turn = 1; turn <= 8; turn++)
        sync_to(s, prompt, turn * 12, turn * 12 - 3);
    /* The latest ones are kept: 93 and 81 among them. */
    int32_t fork[N];
    memcpy(fork, prompt, sizeof fork);
    fork[95] = (prompt[95] + 1) % vocab;
    assert_int_equal(sync_to(s, fork, 99, 0), 93);
    assert_as_fresh(s, fork, 99);
    fork[85] = (prompt[85] + 1) % vocab;
    assert_int_equal(sync_to(s, fork, 99, 0), 81);
    assert_as_fresh(s, fork, 99);
    lade_session_close(s);
}

static void count(void *user)
{
    ++*(int *)user;
}

/* Wherever in a batch of 16 the snapshot is, there is one pass for a batch and no more, and both ways on from the
 * snapshot are as if nothing had been read before. */
static void test_a_snapshot_within_a_pass(void **state)
{
    (void)state;
    const int layers = lade_model_catalog(model)->shape.layers, cases[] = {1, 7, 15, 16, 17, 29};
    int32_t other[N];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lade_session *s = open_session(model);
        const int stable = cases[i];
        int between = 0;
        memcpy(other, prompt, sizeof other);
        other[stable] = (prompt[stable] + 1) % vocab;
        lade_session_between(s, count, &between);
        sync_to(s, prompt, 30, stable);
        assert_int_equal(between, 2 * layers);
        assert_as_fresh(s, prompt, 30);
        assert_int_equal(sync_to(s, other, 40, 0), stable);
        assert_as_fresh(s, other, 40);
        assert_int_equal(sync_to(s, prompt, stable + 1, 0), stable);
        assert_as_fresh(s, prompt, stable + 1);
        lade_session_close(s);
    }
}

/* Conversations that begin alike: the second one is read from the start, the third from the last whole
 * batch that they share, however long the others became. */
static void test_a_shared_beginning_is_kept(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    int32_t other[N];
    memcpy(other, prompt, sizeof other);
    for (int i = 60; i < N; i++)
        other[i] = (prompt[i] + 1) % vocab;
    assert_int_equal(sync_to(s, prompt, 70, 66), 0);
    assert_int_equal(sync_to(s, other, 70, 66), 0);
    for (int turn = 1; turn <= 6; turn++)
        assert_int_equal(sync_to(s, other, 70 + turn * 8, 67 + turn * 8), 62 + turn * 8);
    assert_int_equal(sync_to(s, prompt, 70, 66), 48);
    assert_as_fresh(s, prompt, 70);
    assert_int_equal(sync_to(s, other, 90, 86), 48);
    assert_as_fresh(s, other, 90);
    /* One that has less in common moves it. */
    other[40] = (prompt[40] + 1) % vocab;
    assert_int_equal(sync_to(s, other, 70, 66), 0);
    assert_int_equal(sync_to(s, prompt, 70, 66), 32);
    assert_as_fresh(s, prompt, 70);
    /* Where it is expected already the second one is not read whole. */
    lade_session_reset(s);
    lade_session_expect(s, 40);
    assert_int_equal(sync_to(s, prompt, 70, 66), 0);
    assert_int_equal(sync_to(s, other, 70, 66), 40);
    assert_as_fresh(s, other, 70);
    /* It outlives what the conversation goes on with, and is there where all is one pass. */
    for (int turn = 1; turn <= 6; turn++)
        sync_to(s, other, 70 + turn * 8, 67 + turn * 8);
    assert_int_equal(sync_to(s, prompt, 55, 53), 40);
    assert_as_fresh(s, prompt, 55);
    lade_session_reset(s);
    lade_session_expect(s, 5);
    assert_int_equal(sync_to(s, prompt, 15, 11), 0);
    other[11] = (prompt[11] + 1) % vocab;
    assert_int_equal(sync_to(s, other, 16, 14), 11);
    other[5] = (prompt[5] + 1) % vocab;
    assert_int_equal(sync_to(s, other, 16, 14), 5);
    assert_as_fresh(s, other, 16);
    lade_session_close(s);
}

static void cancel_soon(void *user, int done, int total)
{
    (void)total;
    if (done >= 32)
        atomic_store((atomic_bool *)user, true);
}

static void test_cancel_keeps_what_was_read(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    atomic_bool cancel = false;
    assert_int_equal(lade_session_sync(s, prompt, N, 0, cancel_soon, &cancel, &cancel, NULL, err),
                     -1);
    assert_non_null(strstr(err, "cancelled"));
    assert_int_equal(lade_session_length(s), 32);
    assert_int_equal(sync_to(s, prompt, N, 0), 32);
    assert_as_fresh(s, prompt, N);

    /* What was read when it was cancelled has no logits of its own, only those of before. */
    lade_session_reset(s);
    atomic_store(&cancel, false);
    assert_int_equal(lade_session_sync(s, prompt, N, 0, cancel_soon, &cancel, &cancel, NULL, err),
                     -1);
    assert_int_equal(lade_session_length(s), 32);
    sync_to(s, prompt, 32, 0);
    assert_as_fresh(s, prompt, 32);
    lade_session_close(s);
}

struct heard {
    int calls, last;
    bool falls;
};

static void hear(void *user, int done, int total)
{
    struct heard *h = user;
    h->falls |= done < h->last || done > total;
    h->last = done;
    h->calls++;
}

static void rest(void *user)
{
    (void)user;
    nanosleep(&(struct timespec){.tv_nsec = 110000000}, NULL);
}

/* A batch that takes long tells after each layer how far it is, as the share of its tokens. */
static void test_progress_within_a_batch(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    const int layers = lade_model_catalog(model)->shape.layers;
    struct heard heard = {0};
    lade_session_between(s, rest, NULL);
    assert_int_equal(lade_session_sync(s, prompt, 12, 0, hear, &heard, NULL, NULL, err), 0);
    assert_int_equal(heard.calls, layers); /* of the last layer the batch itself tells */
    assert_int_equal(heard.last, 12);
    assert_false(heard.falls);
    lade_session_between(s, NULL, NULL);
    heard = (struct heard){0};
    assert_int_equal(lade_session_sync(s, prompt, N, 0, hear, &heard, NULL, NULL, err), 0);
    assert_int_equal(heard.last, N - 12);
    assert_false(heard.falls);
    assert_as_fresh(s, prompt, N);
    lade_session_close(s);
}

/* Only what is wanted of the logits is brought, and more of it when more is wanted. */
static void test_largest_logits(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model), *all = open_session(model);
    const float *values;
    const int32_t *ids;
    const int wants[] = {5, 1, 0, 20};
    sync_to(all, prompt, 30, 0);
    for (size_t w = 0; w < sizeof wants / sizeof *wants; w++) {
        lade_session_want(s, wants[w]);
        sync_to(s, prompt, 30, 0);
        const float *logits = lade_session_logits(all);
        assert_int_equal(lade_session_top(s, &values, &ids), wants[w]);
        if (!wants[w])
            assert_as_fresh(s, prompt, 30);
        for (int i = 0; i < wants[w]; i++) {
            int above = 0;
            for (int j = 0; j < vocab; j++)
                above += logits[j] > logits[ids[i]] || (logits[j] == logits[ids[i]] && j < ids[i]);
            assert_int_equal(above, i);
            assert_true(values[i] == logits[ids[i]]);
        }
    }
    assert_int_equal(lade_session_push(s, prompt[30], err), 0);
    assert_int_equal(lade_session_top(s, &values, &ids), 20);
    lade_session_want(s, vocab);
    assert_int_equal(lade_session_push(s, prompt[31], err), 0);
    assert_int_equal(lade_session_top(s, &values, &ids), 0);
    assert_as_fresh(s, prompt, 32);
    /* A pipeline that comes anew, as in a change of strategy, has no logits to take more from. */
    lade_session_want(all, 0);
    sync_to(all, prompt, 32, 0);
    lade_session_leave(s);
    assert_int_equal(lade_session_arrive(s, err), 0);
    lade_session_want(s, 3);
    sync_to(s, prompt, 32, 0);
    const float *logits = lade_session_logits(all);
    assert_int_equal(lade_session_top(s, &values, &ids), 3);
    for (int i = 0; i < 3; i++)
        assert_true(fabsf(values[i] - logits[ids[i]]) < 1e-3f * fabsf(logits[ids[i]]));
    lade_session_close(all);
    lade_session_close(s);
}

static void test_limits(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    int32_t *many = calloc(300, sizeof *many);
    assert_int_equal(lade_session_sync(s, many, 300, 0, NULL, NULL, NULL, NULL, err), -1);
    assert_non_null(strstr(err, "300"));
    assert_non_null(strstr(err, "256"));
    assert_int_equal(lade_session_sync(s, many, 0, 0, NULL, NULL, NULL, NULL, err), -1);
    int32_t bad[] = {1, vocab};
    assert_int_equal(lade_session_sync(s, bad, 2, 0, NULL, NULL, NULL, NULL, err), -1);
    assert_non_null(strstr(err, "vocab_size"));
    assert_int_equal(lade_session_push(s, -1, err), -1);
    sync_to(s, many, 256, 0);
    assert_int_equal(lade_session_push(s, 1, err), -1);
    assert_non_null(strstr(err, "--context"));
    free(many);
    lade_session_close(s);
}

static void test_model_larger_than_memory(void **state)
{
    (void)state;
    struct lade_model *m;
    struct lade_options opt = {.model = SMALL, .ram_cap = 100000};
    assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), -1);
    assert_null(m);
    assert_non_null(strstr(err, SMALL));
    assert_non_null(strstr(err, "RAM"));
}

/* The logits after a prompt of `n` tokens that is read in batches of so many. */
static float *logits_by(int batch, bool exact, int n)
{
    struct lade_options opt = {.model = "tests/fixtures/tiny8-int4-mixed",
                               .exact = exact,
                               .threads = 2,
                               .context = n + 1,
                               .batch = batch};
    struct lade_model *m;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    const size_t count = (size_t)lade_model_catalog(m)->shape.vocab;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    float *out = malloc(count * sizeof *out);
    for (int i = 0; i < n; i++)
        ids[i] = (i * 7919 + i / 3) % (int)count;
    struct lade_session *s = open_session(m);
    sync_to(s, ids, n, 0);
    memcpy(out, lade_session_logits(s), count * sizeof *out);
    lade_session_close(s);
    lade_model_close(m);
    free(ids);
    return out;
}

/* A batch may be as large as a plan makes it: nothing in it is of another order than in small ones. */
static void test_large_batches(void **state)
{
    (void)state;
    enum { MANY = 3000 };
    for (int exact = 0; exact < 2; exact++) {
        const double limit = exact ? 1e-4 : 5e-3;
        float *small = logits_by(100, exact, MANY), *large = logits_by(4096, exact, MANY);
        const double off = off_by(large, small, (size_t)vocab);
        if (!(off <= limit))
            fail_msg("exact %d: off by %.2e", exact, off);
        free(small);
        free(large);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extension_is_kept),
        cmocka_unit_test(test_pushed_tokens_are_kept),
        cmocka_unit_test(test_snapshot_serves_a_fork),
        cmocka_unit_test(test_many_snapshots),
        cmocka_unit_test(test_a_snapshot_within_a_pass),
        cmocka_unit_test(test_a_shared_beginning_is_kept),
        cmocka_unit_test(test_cancel_keeps_what_was_read),
        cmocka_unit_test(test_progress_within_a_batch),
        cmocka_unit_test(test_largest_logits),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_large_batches),
        cmocka_unit_test(test_model_larger_than_memory),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
