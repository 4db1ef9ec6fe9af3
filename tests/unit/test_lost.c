/* A GPU that is lost, on simulated ones: at every call while a model is in a row, while it moves to
 * another and while it answers. What remains has a plan, the conversation is read again, and the words
 * are those of a model that never had a GPU. */
#include "engine/session/worker.h"
#include "tests/unit/places_common.h"

#include "tests/unit/engine_common.h"

#undef MODEL
#define MODEL "tests/fixtures/tiny8-int4-mixed"

static void lose(int gpu, int64_t call)
{
    atomic_store(&machine->gone, 0);
    atomic_store(&machine->lose_gpu, gpu);
    atomic_store(&machine->lose_call, call);
}

/* ---- a model and a session ------------------------------------------------------------------- */

struct talk {
    struct lade_options opt;
    struct lade_placement place;
    struct lade_model *m;
    struct lade_session *s;
    int32_t ids[TOKENS];
    float *want;
    size_t vocab;
    uint64_t experts;
    int at; /* tokens so far */
};

static void begin(struct talk *t)
{
    *t = (struct talk){.opt = {.model = MODEL, .exact = true, .threads = 1, .plugin = sim()}};
    t->place = ram_place(UINT64_MAX / 2, 4);
    t->opt.place = &t->place;
    if (lade_model_open(&t->m, &t->opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    t->experts = expert_bytes(t->m);
    t->vocab = (size_t)t->m->cat->shape.vocab;
    t->want = logits_of(t->m);
    fill_ids(t->m, t->ids);
    if (lade_session_open(&t->s, t->m, err))
        fail_msg("%s", err);
}

static void end(struct talk *t)
{
    lade_session_close(t->s);
    lade_model_close(t->m);
    free(t->want);
}

static void check_line(const char *what, const char *line)
{
    if (!strstr(line, "GPU ") || strchr(line, '\n') || !strstr(line, ": ") || !strstr(line, "; "))
        fail_msg("%s: '%s' is not one line of WHAT: WHY; DO", what, line);
}

/* As the engine does it. */
static void go_on_without(struct talk *t, const char *what)
{
    struct lade_plan *plan = malloc(sizeof *plan);
    char why[LADE_ERR] = "";
    int rc = 1;
    while (rc > 0) {
        if (lade_model_lost(t->m) && lade_model_lose(t->m, t->s, &t->opt, plan, why, err))
            fail_msg("%s: %s", what, err);
        check_line(what, why);
        rc = lade_model_regain(t->m, t->s, &t->opt, plan, why, err);
    }
    if (rc)
        fail_msg("%s: %s", what, err);
    free(plan);
    assert_int_equal(lade_session_length(t->s), 0);
}

/* The timeline with one token more, whatever the session still has of it. */
static void next_token(struct talk *t, const char *what)
{
    t->at = t->at % TOKENS + 1;
    if (lade_session_sync(t->s, t->ids, t->at, 0, NULL, NULL, NULL, NULL, err)) {
        if (!lade_model_lost(t->m))
            fail_msg("%s: %s", what, err);
        check_line(what, err);
        go_on_without(t, what);
        if (lade_session_sync(t->s, t->ids, t->at, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s: %s", what, err);
    }
    double e =
        off_by(lade_session_logits(t->s), t->want + (size_t)(t->at - 1) * t->vocab, t->vocab);
    if (!(e <= TOLERANCE))
        fail_msg("%s: token %d is off by %.2e", what, t->at, e);
}

static void move(struct talk *t, struct lade_placement to, const char *what)
{
    to.batch = 4;
    if (!lade_model_move(t->m, t->s, &t->opt, &to, err))
        return;
    check_line(what, err);
    if (lade_model_lost(t->m))
        go_on_without(t, what);
}

/* Every one of the first calls, then fewer and fewer of the many that are alike. */
static int64_t next_call(int64_t n)
{
    return n < 4 ? n + 1 : n + n / 2;
}

/* From one place to another and two tokens there, with the GPU lost at the n-th call, for all n. */
static int try_calls(struct talk *t, int from, int to, bool moving)
{
    int lost = 0;
    for (int64_t n = 1;; n = next_call(n)) {
        const char *a, *b;
        char what[160];
        const struct lade_placement here = any_place(from, t->experts, &a),
                                    there = any_place(to, t->experts, &b);
        snprintf(what, sizeof what, "%s to %s, call %lld", a, b, (long long)n);
        lose(0, 0);
        memset(t->m->without, 0, sizeof t->m->without);
        move(t, here, what);
        next_token(t, what);
        if (moving)
            lose(0, n);
        move(t, there, what);
        if (!moving)
            lose(0, n);
        next_token(t, what);
        next_token(t, what);
        lade_tiers_wait(t->m->tiers, true, NULL); /* a load that the loss has ended says so */
        bool all = atomic_load(&machine->lose_call) > 0;
        if (lade_model_lost(t->m))
            go_on_without(t, what);
        lose(0, 0);
        next_token(t, what);
        if (all)
            return lost;
        assert_false(t->m->devices.gpu);
        if (!t->m->without[0])
            fail_msg("%s: a later plan may choose the lost GPU", what);
        lost++;
    }
}

static void test_every_call(void **state)
{
    (void)state;
    static const struct {
        int from,
            to; /* of any_place(): cpu, mmap; full-gpu, hybrid, stream-cached, offload-buffers */
        bool moving; /* lost in the move, or after it */
    } pairs[] = {{0, 3, true},   {2, 10, true}, {0, 5, false}, {0, 3, false},
                 {2, 12, false}, {3, 2, true},  {5, 0, true},  {10, 0, true},
                 {5, 10, true},  {10, 3, true}, {12, 5, true}, {2, 10, false}};
    struct talk t;
    begin(&t);
    int lost = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        lost += try_calls(&t, pairs[i].from, pairs[i].to, pairs[i].moving);
    assert_true(lost > 60);
    end(&t);
}

/* Two cards, either of which is lost: the other one goes on, and where that is lost, too, the CPU. */
static void test_two_cards(void **state)
{
    (void)state;
    machine->devices = 2;
    for (int gpu = 0; gpu < 2; gpu++) {
        struct talk t;
        char what[64], name[64];
        begin(&t);
        snprintf(what, sizeof what, "GPU %d of two", gpu);
        snprintf(name, sizeof name, "simulated GPU %d", 1 - gpu);
        struct lade_placement both = gpu_place(&rows[gpu ? 3 : 0], t.experts, 4);
        both.n_cards = 2;
        both.card[0].gpu = gpu;
        both.card[1] =
            (struct lade_card){.gpu = 1 - gpu, .first = 3, .experts = both.card[0].experts / 2};
        lose(gpu, 0);
        move(&t, both, what);
        next_token(&t, what);
        lose(gpu, 40);
        for (int i = 0; i < 6; i++)
            next_token(&t, what);
        assert_true(t.m->devices.gpu);
        assert_int_equal(t.m->devices.n, 1);
        assert_non_null(strstr(lade_model_device(t.m), name));
        assert_true(t.m->without[gpu] && !t.m->without[1 - gpu]);
        atomic_store(&machine->lose_gpu, 1 - gpu);
        atomic_store(&machine->lose_call, 20);
        for (int i = 0; i < 6; i++)
            next_token(&t, what);
        assert_false(t.m->devices.gpu);
        end(&t);
    }
    /* Both at once: the other one turns out to be gone when it is opened. */
    struct talk t;
    begin(&t);
    lose(0, 0);
    move(&t, gpu_place(&rows[0], t.experts, 4), "one of two");
    next_token(&t, "one of two");
    lose(0, 20);
    atomic_store(&machine->gone, 2);
    for (int i = 0; i < 4; i++)
        next_token(&t, "one of two");
    assert_false(t.m->devices.gpu);
    assert_true(t.m->without[0] && t.m->without[1]);
    end(&t);
    machine->devices = 1;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static struct seen plain, s;

static struct lade_engine *start_on(const char *strategy)
{
    struct lade_engine *e;
    struct lade_options opt = {.model = MODEL,
                               .strategy = strategy,
                               .threads = 2,
                               .context = 512,
                               .exact = true,
                               .plugin = sim()};
    s = (struct seen){.may_begin_again = true};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

static void finish_answer(struct lade_engine *e)
{
    while (!s.done && !s.failed)
        wait_for(e, &s, &s.done);
    if (s.failed)
        fail_msg("%s", s.error);
}

/* It was told once, with both strategies (`was` NULL: while opening there is but one); the answer is whole, and so is the next one. */
static void check_told(struct lade_engine *e, const char *was)
{
    struct lade_model_info info;
    check_line("the notice", s.told);
    if (!strstr(s.told, "GPU 0 ") || !strstr(s.told, "Until then lade goes on with ") ||
        (was && !strstr(s.told, was)))
        fail_msg("'%s'", s.told);
    assert_int_equal(s.lost, 1);
    assert_in_range(s.found, was ? 1 : 0, 1);
    assert_true(lade_engine_info(e, &info));
    assert_non_null(strstr(s.told, info.strategy));
    assert_int_equal(strncmp(info.strategy, "cpu-", 4), 0);
    assert_int_equal(strncmp(info.device, "cpu: ", 5), 0);
    assert_int_equal(s.result.tokens, plain.result.tokens);
    assert_int_equal(s.result.stop, plain.result.stop);
    assert_int_equal(s.result.prompt_tokens, plain.result.prompt_tokens);
    assert_string_equal(s.text, plain.text);
    struct lade_message turns[3] = {{LADE_USER, "go on", NULL, NULL},
                                    {LADE_ASSISTANT, s.text, NULL, NULL},
                                    {LADE_USER, "and now?", NULL, NULL}};
    s.done = 0;
    assert_true(lade_engine_ask(e, turns, 3, &greedy, 4, true, err) > 0);
    finish_answer(e);
    assert_true(s.result.kept_tokens > 0);
    assert_int_equal(s.lost, 1);
}

static void answer_on_cpu(void)
{
    struct lade_engine *e = start_on("cpu-tight");
    ask(e, "go on", 24);
    finish_answer(e);
    plain = s;
    lade_engine_stop(e);
}

/* In the prompt, in the answer, and while nothing is asked, which is noticed, too. */
static void test_answers(void **state)
{
    (void)state;
    static const char *const names[] = {"full-gpu", "hybrid-balanced", "stream-cached"};
    static const int calls[] = {2, 10, 35, 80};
    answer_on_cpu();
    for (int i = 0; i < 3; i++)
        for (int k = i > 0; k < 4; k++) {
            lose(0, 0);
            struct lade_engine *e = start_on(names[i]);
            wait_for(e, &s, &s.ready);
            lose(0, calls[k]);
            if (k == 0)
                wait_for(e, &s, &s.found);
            ask(e, "go on", 24);
            finish_answer(e);
            check_told(e, names[i]);
            assert_non_null(strstr(s.told, "which was asked for"));
            lade_engine_stop(e);
        }
}

/* While the load goes on, which then begins again and comes to its end. */
static void test_load(void **state)
{
    (void)state;
    static const int calls[] = {3, 12, 40, 90};
    answer_on_cpu();
    for (int k = 0; k < 4; k++) {
        lose(0, calls[k]);
        struct lade_engine *e = start_on(NULL);
        ask(e, "go on", 24);
        finish_answer(e);
        if (!s.ready)
            wait_for(e, &s, &s.ready);
        check_told(e, NULL);
        assert_int_equal(s.usable, 1);
        lade_engine_stop(e);
    }
}

/* While everything moves in the middle of an answer. */
static void test_strategy(void **state)
{
    (void)state;
    static const int calls[] = {1, 20, 80, 200};
    answer_on_cpu();
    for (int k = 0; k < 8; k++) {
        lose(0, 0);
        struct lade_engine *e = start_on(k % 2 ? "full-gpu" : "hybrid-balanced");
        wait_for(e, &s, &s.ready);
        ask(e, "go on", 24);
        lose(0, calls[k / 2]);
        assert_int_equal(lade_engine_strategy(e, k % 2 ? "cpu-tight" : "full-gpu", err), 0);
        finish_answer(e);
        assert_string_equal(s.text, plain.text);
        assert_int_equal(s.result.tokens, plain.result.tokens);
        assert_in_range(s.lost, 0, 1);
        if (!s.strategies)
            wait_for(e, &s, &s.strategies);
        lade_engine_stop(e);
    }
}

/* Another program takes the memory between the plan and the opening: with a strategy that was asked for
 * that is an error, else the CPU goes on and it is told. */
static void test_cannot_be_opened(void **state)
{
    (void)state;
    answer_on_cpu();
    lose(0, 0);
    atomic_store(&machine->gone, 1);
    struct lade_engine *e = start_on(NULL);
    ask(e, "go on", 24);
    finish_answer(e);
    assert_string_equal(s.text, plain.text);
    assert_int_equal(s.lost, 1);
    check_line("the notice", s.told);
    assert_non_null(strstr(s.told, "Until then lade goes on with cpu-"));
    lade_engine_stop(e);
    e = start_on("full-gpu");
    wait_for(e, &s, &s.failed);
    check_line("the error", s.error);
    lade_engine_stop(e);
    /* A change to what the plan finds goes on without it, too. */
    e = start_on("cpu-tight");
    wait_for(e, &s, &s.ready);
    assert_int_equal(lade_engine_strategy(e, "full-gpu", err), 0);
    wait_for(e, &s, &s.strategies);
    check_line("the change", s.error);
    assert_int_equal(s.lost, 0);
    assert_int_equal(lade_engine_strategy(e, "auto", err), 0);
    wait_for(e, &s, &s.strategies);
    assert_string_equal(s.error, "");
    assert_int_equal(s.lost, 1);
    check_line("the notice", s.told);
    assert_non_null(strstr(s.told, "Until then lade goes on with cpu-"));
    ask(e, "go on", 24);
    finish_answer(e);
    assert_string_equal(s.text, plain.text);
    lade_engine_stop(e);
    lose(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call), cmocka_unit_test(test_two_cards),
        cmocka_unit_test(test_answers),    cmocka_unit_test(test_load),
        cmocka_unit_test(test_strategy),   cmocka_unit_test(test_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, find_sim, NULL);
}
