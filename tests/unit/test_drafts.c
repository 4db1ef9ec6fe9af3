/* Passes over drafts: logits and states are those of tokens that come one by one, however many of the
 * drafts were right; and answers do not depend on them. */
#include <math.h>
#include <unistd.h>

#include "engine/session/kept.h"
#include "engine/session/timeline.h"
#include "engine/session/worker.h"
#include "engine/tiers/internal.h"
#include "tests/unit/session_common.h"

#define SMALL "tests/fixtures/tiny-bf16"

enum { FROM = 40, TOKENS = 24 }; /* where drafts begin; how many tokens are compared */

/* Of the same tokens one by one. */
static float *single_logits[TOKENS + 1];
static unsigned char *single_state[TOKENS + 1];

static int32_t token(int i)
{
    return prompt[FROM + i];
}

static unsigned char *state_of(struct lade_session *s)
{
    unsigned char *data = malloc(s->state.recurrent_bytes);
    assert_int_equal(lade_session_settle(s, err), 0);
    assert_int_equal(lade_state_save(&s->state, data, err), 0);
    return data;
}

static void expect(struct lade_session *s, int taken)
{
    assert_int_equal(lade_session_length(s), FROM + taken);
    assert_memory_equal(lade_session_ids(s), prompt, (size_t)(FROM + taken) * sizeof *prompt);
    assert_true(off_by(lade_session_logits(s), single_logits[taken], (size_t)vocab) < 1e-5);
}

/* Each tail and each state of each layer by itself, so that a small one cannot hide behind others. */
static void expect_state(struct lade_session *s, int taken)
{
    const struct lade_shape *shape = &s->model->cat->shape;
    const size_t step = lade_state_layer_bytes(shape);
    const size_t tail =
        (size_t)(shape->conv_kernel - 1) * (size_t)lade_shape_channels(shape) * sizeof(float);
    const size_t rule = (size_t)shape->value_heads * (size_t)shape->key_dim *
                        (size_t)shape->value_dim * sizeof(float);
    unsigned char *now = state_of(s);
    assert_true(s->state.recurrent_bytes >= step && step >= tail + rule);
    for (size_t at = 0; at < s->state.recurrent_bytes; at += step) {
        const float *a = (const float *)(const void *)(now + at);
        const float *b = (const float *)(const void *)(single_state[taken] + at);
        const size_t behind = (step - rule) / sizeof(float); /* no fixture's state is padded */
        assert_true(off_by(a, b, tail / sizeof(float)) < 1e-5);
        assert_true(off_by(a + behind, b + behind, rule / sizeof(float)) < 1e-5);
    }
    free(now);
}

static int open_all(void **state)
{
    (void)state;
    open_with_prompt(SMALL);
    struct lade_session *s = open_session(model);
    sync_to(s, prompt, FROM, 0);
    for (int i = 0; i <= TOKENS; i++) {
        if (i)
            assert_int_equal(lade_session_push(s, token(i - 1), err), 0);
        single_state[i] = state_of(s);
        single_logits[i] = malloc((size_t)vocab * sizeof(float));
        memcpy(single_logits[i], lade_session_logits(s), (size_t)vocab * sizeof(float));
    }
    lade_session_close(s);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i <= TOKENS; i++) {
        free(single_state[i]);
        free(single_logits[i]);
    }
    lade_model_close(model);
    return 0;
}

/* Pushes token `at` with n drafts of which the first `right` are right, and takes these. */
static void push_pass(struct lade_session *s, int at, int n, int right)
{
    int32_t drafts[LADE_DRAFT_ROWS];
    for (int i = 0; i < n; i++)
        drafts[i] = i < right ? token(at + 1 + i) : (token(at + 1 + i) + 1) % vocab;
    assert_int_equal(lade_session_push_drafts(s, token(at), drafts, n, err), 0);
    expect(s, at + 1);
    for (int i = 1; i <= right; i++) {
        assert_true(lade_session_foreseen(s, token(at + i)));
        assert_int_equal(lade_session_push(s, token(at + i), err), 0);
        expect(s, at + 1 + i);
    }
    assert_false(lade_session_foreseen(s, token(at + right + 1)));
}

static void test_any_number_right(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    assert_int_equal(lade_session_most_drafts(s), LADE_DRAFT_ROWS - 1);
    for (int n = 1; n < LADE_DRAFT_ROWS; n++)
        for (int right = 0; right <= n; right++) {
            sync_to(s, prompt, FROM, FROM - 1);
            push_pass(s, 0, n, right);
            expect_state(s, right + 1);
            for (int i = right + 1; i < right + 3; i++) { /* by themselves, and once more */
                assert_int_equal(lade_session_push(s, token(i), err), 0);
                expect(s, i + 1);
            }
            push_pass(s, right + 3, n, right);
            assert_int_equal(lade_session_push(s, token(2 * right + 4), err), 0);
            expect(s, 2 * right + 5);
            expect_state(s, 2 * right + 5);
        }
    lade_session_close(s);
}

/* What else a session does before the state is behind its tokens. */
static void test_between(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    int32_t other[N];
    memcpy(other, prompt, sizeof other);
    sync_to(s, prompt, FROM, 20);

    /* A prompt that goes on there, and the same once more. */
    push_pass(s, 0, 5, 2);
    assert_int_equal(sync_to(s, prompt, FROM + 3, 0), FROM + 3);
    assert_int_equal(sync_to(s, prompt, FROM + 9, 0), FROM + 3);
    expect(s, 9);
    expect_state(s, 9);
    /* One that parts among the tokens that it took. */
    push_pass(s, 9, 4, 3);
    other[FROM + 11] = (other[FROM + 11] + 1) % vocab;
    assert_int_equal(sync_to(s, other, FROM + 12, 0), 20);
    sync_to(s, prompt, FROM, 0);
    expect_state(s, 0);
    /* Other homes. */
    push_pass(s, 0, 7, 3);
    lade_session_leave(s);
    assert_false(lade_session_foreseen(s, token(4)));
    assert_int_equal(lade_session_arrive(s, err), 0);
    assert_int_equal(lade_session_push(s, token(4), err), 0);
    expect(s, 5);
    expect_state(s, 5);
    /* A new pass where one row is left, and a start from nothing. */
    push_pass(s, 5, 3, 1);
    push_pass(s, 7, 3, 3);
    lade_session_reset(s);
    assert_false(lade_session_foreseen(s, token(11)));
    sync_to(s, prompt, FROM, 0);
    expect(s, 0);
    expect_state(s, 0);
    lade_session_close(s);
}

/* What is kept on the drive is behind all tokens, too. */
static void test_kept(void **state)
{
    (void)state;
    char dir[] = "/tmp/lade-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct lade_session *s = open_session(model), *later = open_session(model);
    char *path = lade_kept_path(s, dir);
    assert_non_null(path);
    sync_to(s, prompt, FROM, 0);
    push_pass(s, 0, 6, 4);
    assert_true(lade_kept_write(s, path, 0, HUGE_VAL, NULL));
    expect_state(s, 5);
    lade_kept_read(later, path, prompt, FROM + 6);
    assert_int_equal(lade_session_length(later), FROM + 5);
    expect_state(later, 5);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    free(path);
    lade_session_close(s);
    lade_session_close(later);
}

static void test_limits(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    static int32_t many[CONTEXT];
    const int32_t bad[2] = {1, vocab};
    sync_to(s, prompt, FROM, 0);
    assert_int_equal(lade_session_push_drafts(s, token(0), bad, 2, err), -1);
    assert_non_null(strstr(err, "vocab_size"));
    assert_int_equal(lade_session_length(s), FROM);
    push_pass(s, 0, 2, 2); /* nothing had happened */
    /* Of the last places of the context there is one for each draft, or they are left out. */
    sync_to(s, many, CONTEXT - 3, 0);
    assert_int_equal(lade_session_push_drafts(s, 1, many, 3, err), 0);
    assert_false(lade_session_foreseen(s, 0));
    assert_int_equal(lade_session_push_drafts(s, 1, many, 1, err), 0);
    assert_int_equal(lade_session_push(s, 0, err), 0);
    assert_int_equal(lade_session_length(s), CONTEXT);
    assert_int_equal(lade_session_push(s, 0, err), -1);
    assert_int_equal(lade_session_push_drafts(s, 0, many, 1, err), -1);
    lade_session_close(s);
}

/* The largest alone, as they are wanted. */
static void test_largest_logits(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    const int32_t drafts[] = {token(1), token(2), token(3)};
    const float *values;
    const int32_t *ids;
    lade_session_want(s, 3);
    sync_to(s, prompt, FROM, 0);
    assert_int_equal(lade_session_push_drafts(s, token(0), drafts, 3, err), 0);
    for (int i = 1; i <= 4; i++) {
        int largest = 0;
        for (int j = 0; j < vocab; j++)
            largest = single_logits[i][j] > single_logits[i][largest] ? j : largest;
        assert_int_equal(lade_session_top(s, &values, &ids), 3);
        assert_int_equal(ids[0], largest);
        assert_true(fabsf(values[0] - single_logits[i][largest]) < 1e-4f);
        assert_int_equal(lade_session_push(s, token(i), err), 0);
    }
    lade_session_close(s);
}

/* Per token, traffic is that of the passes by the tokens that came of them. */
static void test_tokens_are_counted(void **state)
{
    (void)state;
    struct lade_session *s = open_session(model);
    struct lade_traffic before, after;
    sync_to(s, prompt, FROM, 0);
    lade_model_traffic(model, &before);
    push_pass(s, 0, 7, 3);
    lade_model_traffic(model, &after);
    assert_int_equal(after.tokens - before.tokens, 4);
    lade_session_close(s);
}

/* What drafts use that were wrong is no use of an expert: heat, habits and ages are those of tokens one by
 * one. */
static void test_uses_are_counted(void **state)
{
    (void)state;
    struct lade_model *m[2];
    for (int passes = 0; passes < 2; passes++) {
        m[passes] = open_model(SMALL, true);
        struct lade_session *s = open_session(m[passes]);
        sync_to(s, prompt, FROM, 0);
        for (int at = 0, right = 0; at + right < TOKENS - 1;
             at += 1 + right, right = (right + 5) % 6) {
            if (passes)
                push_pass(s, at, right + 1 + at % 2, right);
            for (int i = 0; i <= right && !passes; i++)
                assert_int_equal(lade_session_push(s, token(at + i), err), 0);
        }
        lade_session_close(s);
    }
    const struct lade_tiers *one = m[0]->tiers, *several = m[1]->tiers;
    const size_t n = (size_t)one->kinds.n_experts;
    assert_true(one->decoded > TOKENS / 2 && one->decoded == several->decoded);
    assert_true(one->heat.now == several->heat.now && one->habit.now == several->habit.now);
    assert_memory_equal(one->heat.score, several->heat.score, n * sizeof(double));
    assert_memory_equal(one->habit.score, several->habit.score,
                        (size_t)one->habit.n * sizeof(double));
    assert_memory_equal(one->asked_at, several->asked_at, n * sizeof *one->asked_at);
    lade_model_close(m[0]);
    lade_model_close(m[1]);
}

/* With inputs of products rounded to 16 bits, passes over drafts are no further from exact arithmetic than
 * tokens that come one by one. */
static void test_rounded(void **state)
{
    (void)state;
    struct lade_model *exact = open_model("tests/fixtures/tiny8-int4-mixed", true),
                      *fast = open_model("tests/fixtures/tiny8-int4-mixed", false);
    const int words = lade_model_catalog(fast)->shape.vocab;
    struct lade_session *s[] = {open_session(exact), open_session(fast), open_session(fast)};
    int32_t ids[N];
    double single = 0, drafted = 0;
    for (int i = 0; i < N; i++)
        ids[i] = (i * 7919 + 13) % words;
    for (int i = 0; i < 3; i++)
        sync_to(s[i], ids, FROM, 0);
    for (int at = FROM; at < N - LADE_DRAFT_ROWS;) {
        const int n = 1 + at % (LADE_DRAFT_ROWS - 1);
        assert_int_equal(lade_session_push_drafts(s[2], ids[at], ids + at + 1, n, err), 0);
        for (int end = at + 1 + at % (n + 1); at < end; at++) {
            assert_int_equal(lade_session_push(s[0], ids[at], err), 0);
            assert_int_equal(lade_session_push(s[1], ids[at], err), 0);
            const float *want = lade_session_logits(s[0]);
            single += off_by(lade_session_logits(s[1]), want, (size_t)words);
            drafted += off_by(lade_session_logits(s[2]), want, (size_t)words);
            if (at + 1 < end)
                assert_int_equal(lade_session_push(s[2], ids[at + 1], err), 0);
        }
    }
    assert_true(drafted < 2 * single);
    for (int i = 0; i < 3; i++)
        lade_session_close(s[i]);
    lade_model_close(exact);
    lade_model_close(fast);
}

/* Who does not want drafts has no memory for them, nor does the plan tell of any; moves change neither. */
static void test_none(void **state)
{
    (void)state;
    uint64_t others[2];
    for (int without = 0; without < 2; without++) {
        struct lade_model *m;
        const struct lade_options opt = {.model = SMALL,
                                         .exact = true,
                                         .threads = 2,
                                         .context = CONTEXT,
                                         .batch = 16,
                                         .cpu_only = true,
                                         .no_draft = without};
        assert_int_equal(lade_model_open(&m, &opt, NULL, NULL, NULL, err), 0);
        struct lade_session *s = open_session(m);
        const int most = without ? 0 : LADE_DRAFT_ROWS - 1;
        const size_t bytes = without ? 0 : lade_drafts_bytes(&m->cat->shape, 16);
        const struct lade_plan_row *row = &m->plan.rows[m->plan.chosen];
        others[without] = row->ram_bytes - m->plan.model.drafts;
        assert_int_equal(m->plan.model.drafts, bytes);
        assert_true(others[without] == others[0]);
        assert_int_equal(lade_session_most_drafts(s), most);
        const struct lade_placement place = m->place;
        assert_int_equal(lade_model_move(m, s, &opt, &place, err), 0);
        assert_int_equal(lade_session_most_drafts(s), most);
        sync_to(s, prompt, FROM, 0);
        assert_int_equal(lade_session_push_drafts(s, token(0), prompt + FROM + 1, 3, err), 0);
        expect(s, 1);
        assert_int_equal(lade_session_foreseen(s, token(1)), !without);
        lade_session_close(s);
        lade_model_close(m);
    }
}

/* ---- answers ---- */

/* One answer. The engine believes that single tokens take ages, and that drafts cost nothing, or where there
 * shall be none, ages of ages: so there are n, whatever the clock says. */
static void answer(struct lade_engine *e, struct seen *s, const struct lade_sampling *sampling,
                   int max_tokens, int n)
{
    struct lade_draft ages = {.plain = 1e9, .plains = 8, .far = n ? -0.45 : 1e9, .most = n};
    const struct lade_message m = {
        .role = LADE_USER, .content = "one two three one two three one two three one two three"};
    const int failed = s->failed;
    s->text[0] = '\0';
    e->draft = ages; /* idle: the lock of the next call hands it over */
    assert_true(lade_engine_ask(e, &m, 1, sampling, max_tokens, true, err) > 0);
    wait_for(e, s, &s->done);
    assert_int_equal(s->failed, failed);
}

static struct lade_engine *start_with(bool no_draft, struct seen *s)
{
    struct lade_engine *e;
    struct lade_options opt = {
        .model = MODEL, .threads = 2, .context = 512, .cpu_only = true, .no_draft = no_draft};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    *s = (struct seen){0};
    wait_for(e, s, &s->ready);
    return e;
}

static void test_answers_are_the_same(void **state)
{
    (void)state;
    static struct seen with, without;
    struct lade_engine *a = start_with(false, &with), *b = start_with(true, &without);
    int drafted = 0, accepted = 0;
    for (int i = 0; i < 6; i++) {
        struct lade_sampling p = greedy;
        p.repetition_penalty = 0.6f; /* words come again, and soon in circles */
        if (i == 2)
            p.stop = (struct lade_stop_texts){.text = {"OOOOOOOO"}, .n = 1};
        if (i >= 3) {
            p.temperature = 0.25f;
            p.seed = (uint64_t)i;
        }
        const int tokens[] = {200, 61, 200, 200, 200, 200};
        answer(a, &with, &p, tokens[i], 7 - i);
        answer(b, &without, &p, tokens[i], 0);
        assert_string_equal(with.text, without.text);
        assert_int_equal(with.result.tokens, without.result.tokens);
        assert_int_equal(with.result.stop, without.result.stop);
        assert_true(i != 2 || with.result.stop == LADE_STOP_TEXT);
        assert_int_equal(with.result.kept_tokens, without.result.kept_tokens);
        assert_int_equal(without.result.drafted, 0);
        assert_true(with.result.accepted <= with.result.drafted);
        drafted += with.result.drafted;
        accepted += with.result.accepted;
        struct lade_stats x, y;
        lade_engine_stats(a, &x);
        lade_engine_stats(b, &y);
        assert_int_equal(x.context_used, y.context_used);
        assert_int_equal(x.traffic.tokens, y.traffic.tokens);
    }
    assert_true(accepted > 100);
    assert_true(drafted > accepted);
    lade_engine_stop(a);
    lade_engine_stop(b);
}

/* Exact arithmetic goes token by token. */
static void test_exact_answers_have_none(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    struct lade_plan plan;
    wait_for(e, &s, &s.ready);
    answer(e, &s, &greedy, 40, LADE_DRAFT_ROWS - 1);
    assert_int_equal(s.result.tokens, 40);
    assert_int_equal(s.result.drafted, 0);
    assert_true(lade_engine_plan(e, &plan));
    assert_int_equal(plan.model.drafts, 0);
    lade_engine_stop(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_number_right),
        cmocka_unit_test(test_between),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_largest_logits),
        cmocka_unit_test(test_tokens_are_counted),
        cmocka_unit_test(test_uses_are_counted),
        cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_answers_are_the_same),
        cmocka_unit_test(test_exact_answers_have_none),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
