/* The thread boundary: commands in, events out, from load to stop. Run under ThreadSanitizer. */
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "engine/plan/probe.h"
#include "engine/plan/strategies.h"
#include "engine/tiers/internal.h"
#include "tests/support/plugins.h"
#include "tests/support/support_io.h"
#include "tests/unit/engine_common.h"

#define THINKING "tests/fixtures/tiny-thinking"

static void test_load_and_answer(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    struct lade_model_info info;
    int number = ask(e, "hello", 24); /* while loading: answered when ready */
    wait_for(e, &s, &s.ready);
    assert_int_equal(s.model, 1);
    assert_true(lade_engine_info(e, &info));
    assert_true(info.n_shards >= 3);
    for (int i = 0; i < info.n_shards; i++) {
        assert_int_equal(s.shard_done[i], s.shard_bytes[i]);
        assert_int_equal(s.shard_bytes[i], info.shards[i].bytes);
    }
    assert_int_equal(s.done_bytes, info.bytes);
    wait_for(e, &s, &s.done);
    assert_int_equal(s.request, number);
    assert_true(s.result.tokens > 0 && s.result.tokens <= 24);
    assert_true(s.result.stop == LADE_STOP_LENGTH || s.result.stop == LADE_STOP_END);
    assert_true(s.prefills > 0);
    assert_int_equal(s.result.kept_tokens, 0);
    struct lade_stats stats;
    lade_engine_stats(e, &stats);
    assert_int_equal(stats.phase, LADE_PHASE_IDLE);
    assert_true(stats.weights > 0 && stats.rss > 0 && stats.rss_peak >= stats.rss);
    assert_int_equal(stats.load_done, info.bytes);
    lade_engine_stop(e);
}

static void test_second_turn_reuses_the_first(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    struct lade_message turns[3] = {{LADE_USER, "one two three four five", NULL, NULL}};
    lade_engine_ask(e, turns, 1, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    int first = s.result.prompt_tokens;
    turns[1] = (struct lade_message){LADE_ASSISTANT, s.text, NULL, NULL};
    turns[2] = (struct lade_message){LADE_USER, "and six?", NULL, NULL};
    lade_engine_ask(e, turns, 3, &greedy, 4, true, err);
    wait_for(e, &s, &s.done);
    /* At least the first prompt up to its answer is not read again. */
    assert_true(s.result.kept_tokens >= first - 8);
    assert_true(s.result.kept_tokens < s.result.prompt_tokens);
    lade_engine_stop(e);
}

static void test_thinking_is_apart(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(THINKING);
    struct lade_message m = {LADE_USER, "hello", NULL, NULL};
    lade_engine_ask(e, &m, 1, &greedy, 12, true, err);
    wait_for(e, &s, &s.done);
    assert_true(strlen(s.reasoning) > 0); /* the prompt opened the block */
    s.done = 0;                           /* the rest stays: the load may still be going on */
    s.text[0] = s.reasoning[0] = '\0';
    lade_engine_ask(e, &m, 1, &greedy, 12, false, err);
    wait_for(e, &s, &s.done);
    assert_string_equal(s.reasoning, "");
    assert_true(strlen(s.text) > 0);
    lade_engine_stop(e);
}

static void test_cancel_running_and_queued(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    wait_for(e, &s, &s.ready);
    struct lade_sampling endless = {
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 3};
    struct lade_message m = {LADE_USER, "go on", NULL, NULL};
    for (int i = 0; i < 3; i++)
        assert_true(lade_engine_ask(e, &m, 1, &endless, 0, true, err) > 0);
    wait_for(e, &s, &s.prefills);
    lade_engine_cancel(e, 0);
    while (s.done < 3)
        wait_for(e, &s, &s.done);
    assert_int_equal(s.result.stop, LADE_STOP_CANCELLED);
    /* It still answers. */
    ask(e, "again", 3);
    wait_for(e, &s, &s.done);
    assert_int_not_equal(s.result.stop, LADE_STOP_CANCELLED);
    lade_engine_stop(e);
}

/* An engine that decodes only while `open` can be taken. */
struct gate {
    _Atomic(struct lade_engine *) engine;
    sem_t open;
};

/* A lade_pressure_fn: called between tokens. */
static bool hold_decoding(void *user, struct lade_pressure *out)
{
    (void)out;
    struct gate *g = user;
    struct lade_stats stats = {.phase = LADE_PHASE_IDLE};
    if (atomic_load(&g->engine))
        lade_engine_stats(g->engine, &stats);
    if (stats.phase == LADE_PHASE_DECODE) {
        sem_wait(&g->open);
        sem_post(&g->open);
    }
    return false;
}

/* Takes the end of the next answer, which is of that request. */
static void expect_end(struct lade_engine *e, struct seen *s, int request, bool cancelled)
{
    wait_for(e, s, &s->done);
    assert_int_equal(s->request, request);
    assert_int_equal(s->result.stop == LADE_STOP_CANCELLED, cancelled);
}

static void test_cancel_one(void **state)
{
    (void)state;
    static struct seen s;
    static struct gate g;
    struct lade_engine *e;
    struct lade_options opt = {
        .model = MODEL, .context = 512, .pressure = hold_decoding, .pressure_user = &g};
    sem_init(&g.open, 0, 0);
    assert_int_equal(lade_engine_start(&e, &opt, err), 0);
    atomic_store(&g.engine, e);
    int first = ask(e, "one", 3), second = ask(e, "two", 3), third = ask(e, "three", 3),
        fourth = ask(e, "four", 3);
    wait_for(e, &s, &s.prefills); /* the first is running, and stays so */
    /* Out of the middle, and the last: what is asked next still finds the end of the queue. */
    lade_engine_cancel(e, second);
    expect_end(e, &s, second, true);
    lade_engine_cancel(e, fourth);
    expect_end(e, &s, fourth, true);
    int fifth = ask(e, "five", 3);
    lade_engine_cancel(e, fourth); /* is no more: nothing happens */
    sem_post(&g.open);
    expect_end(e, &s, first, false);
    expect_end(e, &s, third, false);
    expect_end(e, &s, fifth, false);
    /* The running one alone. */
    sem_wait(&g.open);
    int sixth = ask(e, "six", 3), seventh = ask(e, "seven", 3);
    wait_for(e, &s, &s.prefills);
    lade_engine_cancel(e, sixth);
    sem_post(&g.open);
    expect_end(e, &s, sixth, true);
    expect_end(e, &s, seventh, false);
    lade_engine_stop(e);
    sem_destroy(&g.open);
}

static void test_failed_load(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start("tests/fixtures/no-such-model");
    wait_for(e, &s, &s.failed);
    assert_int_equal(s.request, 0);
    assert_non_null(strstr(s.error, "no-such-model"));
    struct lade_message m = {LADE_USER, "hello", NULL, NULL};
    assert_int_equal(lade_engine_ask(e, &m, 1, &greedy, 1, true, err), -1);
    struct lade_stats stats;
    lade_engine_stats(e, &stats);
    assert_int_equal(stats.phase, LADE_PHASE_FAILED);
    lade_engine_stop(e);
}

static void test_prompt_too_long(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    char *text = malloc(20001);
    for (int i = 0; i < 20000; i++)
        text[i] = i % 2 ? ' ' : '7';
    text[20000] = '\0';
    int number = ask(e, text, 1);
    wait_for(e, &s, &s.failed);
    assert_int_equal(s.request, number);
    assert_non_null(strstr(s.error, "context"));
    assert_int_equal(s.result.stop, LADE_STOP_CONTEXT);
    free(text);
    ask(e, "short", 2);
    wait_for(e, &s, &s.done);
    lade_engine_stop(e);
}

static void test_change_of_strategy(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start(MODEL);
    struct lade_model_info info;
    struct lade_plan plan;
    wait_for(e, &s, &s.ready);
    assert_int_equal(lade_engine_strategy(e, "cpu-tight", err), 0);
    wait_for(e, &s, &s.strategies);
    assert_string_equal(s.error, "");
    assert_true(lade_engine_info(e, &info) && lade_engine_plan(e, &plan));
    assert_string_equal(info.strategy, "cpu-tight");
    assert_string_equal(lade_strategy_name(plan.rows[plan.chosen].strategy), "cpu-tight");
    /* In the middle of an answer; a name that does not exist changes nothing. */
    ask(e, "go on", 40);
    assert_int_equal(lade_engine_strategy(e, "no-such-row", err), 0);
    wait_for(e, &s, &s.strategies);
    assert_non_null(strstr(s.error, "no-such-row"));
    assert_true(lade_engine_info(e, &info));
    assert_string_equal(info.strategy, "cpu-tight");
    if (!s.done)
        wait_for(e, &s, &s.done);
    assert_int_equal(s.failed, 0);
    lade_engine_stop(e);
}

/* The same words, whether everything moves in the middle of them or not: to a GPU, between two uses
 * of it, and back. */
static void test_change_to_gpu(void **state)
{
    (void)state;
    static struct seen plain, s;
    static const char *const names[] = {"full-gpu", "hybrid-heavy-gpu", "offload-buffers",
                                        "cpu-tight"};
    struct lade_options opt = {.model = MODEL,
                               .threads = 2,
                               .context = 512,
                               .exact = true,
                               .strategy = "cpu-tight",
                               .plugin = test_plugin_path("lade-sim.so")};
    struct lade_engine *e = start(MODEL);
    ask(e, "go on", 40);
    wait_for(e, &plain, &plain.done);
    lade_engine_stop(e);
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    struct lade_model_info info;
    struct lade_stats stats;
    wait_for(e, &s, &s.ready); /* a load that moves begins to count anew */
    for (int i = 0; i < 4; i++) {
        s.text[0] = '\0';
        ask(e, "go on", 40);
        assert_int_equal(lade_engine_strategy(e, names[i], err), 0);
        wait_for(e, &s, &s.strategies);
        assert_string_equal(s.error, "");
        while (s.done == i)
            wait_for(e, &s, &s.done);
        assert_int_equal(s.result.tokens, plain.result.tokens);
        assert_string_equal(s.text, plain.text);
        assert_true(lade_engine_info(e, &info));
        assert_string_equal(info.strategy, names[i]);
        assert_int_equal(strncmp(info.device, i < 3 ? "sim" : "cpu", 3), 0);
        lade_engine_stats(e, &stats);
        assert_int_equal(stats.vram > 0, i < 3);
    }
    assert_int_equal(s.failed, 0);
    lade_engine_stop(e);
}

/* On the CPU, with room for these bytes of experts. */
static struct lade_engine *start_placed(const char *path, uint64_t ram_experts)
{
    struct lade_engine *e;
    static struct lade_placement place; /* the engine borrows it */
    place = (struct lade_placement){.base = LADE_RAM,
                                    .kv = LADE_RAM,
                                    .buffers = LADE_RAM,
                                    .ram_experts = ram_experts,
                                    .rest_by = LADE_BY_CPU,
                                    .context = 512,
                                    .batch = 64};
    struct lade_options opt = {.model = path,
                               .threads = 2,
                               .context = 512,
                               .exact = true,
                               .place = &place,
                               .io = &support_gated_io};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

/* ---- an answer while loading ----------------------------------------------------------------- */

/* The experts that a load reads last: more than one of its jobs has (LADE_GROUP). No token of the model
 * asks for them, because the router of their layer finds all experts of one worth and takes the first. */
enum { LATE = LADE_GROUP + 1 };
static struct {
    struct lade_catalog *cat;
    int late[LATE]; /* pieces, in the order of the files */
    atomic_int asked;
} lazy;

static int by_file(const void *a, const void *b)
{
    const struct lade_catalog *cat = lazy.cat;
    const struct lade_span *x = &cat->tensors[cat->pieces[*(const int *)a].first].parts[0];
    const struct lade_span *y = &cat->tensors[cat->pieces[*(const int *)b].first].parts[0];
    if (x->shard != y->shard)
        return x->shard - y->shard;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A copy of a model in which that holds. */
static void make_lazy(const char *from, const char *to)
{
    char command[512];
    struct lade_catalog *cat;
    snprintf(command, sizeof command, "cp -r %s/. %s", from, to);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
    assert_int_equal(lade_catalog_open(&cat, to, err), 0);
    lazy.cat = cat;
    int n = 0, *order = malloc((size_t)cat->n_pieces * sizeof *order);
    for (int i = 0; i < cat->n_pieces; i++)
        if (cat->pieces[i].kind == LADE_PIECE_EXPERT)
            order[n++] = i;
    assert_true(n > LATE);
    qsort(order, (size_t)n, sizeof *order, by_file);
    memcpy(lazy.late, order + n - LATE, sizeof lazy.late);
    free(order);
    int layer = cat->pieces[lazy.late[0]].layer;
    assert_int_equal(cat->pieces[lazy.late[LATE - 1]].layer, layer);
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        if (t->role != LADE_ROUTER || cat->pieces[t->piece].layer != layer)
            continue;
        const struct lade_span *span = &t->parts[0];
        char *zeros = calloc(1, span->bytes);
        int fd = open(cat->shards[span->shard].path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, zeros, span->bytes, (off_t)span->offset), span->bytes);
        close(fd);
        free(zeros);
    }
}

/* Whether a read is for one of the last `n` experts that a load reads. */
static bool is_late(const struct lade_read *r, int n)
{
    const struct lade_haul *haul = ((const struct lade_chunk *)(const void *)r)->haul;
    for (int i = 0; i < haul->n_items; i++)
        for (int j = LATE - n; j < LATE; j++)
            if (lazy.cat->tensors[haul->items[i].tensor].piece == lazy.late[j])
                return true;
    return false;
}

static bool count_late(const struct lade_read *r)
{
    if (is_late(r, LATE))
        atomic_fetch_add(&lazy.asked, 1);
    return false;
}

static bool hold_last(const struct lade_read *r)
{
    return is_late(r, 1);
}

/* The last read of the load does not come before the answer has begun. So the answer begins without it;
 * then the load ends, and what is said after it is what was said during it. */
static void test_answer_while_loading(void **state)
{
    (void)state;
    static struct seen plain, s;
    struct lade_stats stats;
    char dir[] = "/tmp/lade-lazy-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    make_lazy(MODEL, dir);

    /* With no room for experts every one that is asked for is read. */
    support_gate_shut(count_late);
    struct lade_engine *e = start_placed(dir, 0);
    ask(e, "go on", 40);
    wait_for(e, &plain, &plain.done);
    lade_engine_stop(e);
    assert_int_equal(atomic_load(&lazy.asked), 0);

    support_gate_shut(hold_last);
    e = start_placed(dir, UINT64_MAX / 2);
    ask(e, "go on", 40);
    wait_for(e, &s, &s.texts);
    assert_int_equal(s.usable, 1);
    assert_int_equal(s.ready, 0);
    lade_engine_stats(e, &stats);
    assert_true(stats.loading && stats.load_done < stats.load_bytes);
    support_gate_open();
    wait_for(e, &s, &s.ready);
    assert_int_equal(s.done_bytes, stats.load_bytes);
    if (!s.done)
        wait_for(e, &s, &s.done);
    assert_int_equal(s.result.tokens, plain.result.tokens);
    assert_string_equal(s.text, plain.text);
    lade_engine_stats(e, &stats);
    assert_false(stats.loading);
    assert_int_equal(stats.load_done, stats.load_bytes);
    assert_int_equal(stats.in_ram.experts, stats.in_ram.room);

    uint64_t reads = stats.traffic.disk_reads;
    s.text[0] = '\0';
    ask(e, "go on", 40);
    wait_for(e, &s, &s.done);
    assert_string_equal(s.text, plain.text);
    lade_engine_stats(e, &stats);
    assert_int_equal(stats.traffic.disk_reads, reads);
    assert_int_equal(s.ready, 1);
    assert_int_equal(s.failed, 0);
    lade_engine_stop(e);
    lade_catalog_close(lazy.cat);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

/* The drive is pulled in a conversation: that answer fails with the file's name, the conversation
 * stays, and when the drive is back it goes on. */
static void test_drive_is_pulled(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start_placed(MODEL, 0);
    struct lade_message turns[3] = {{LADE_USER, "one two three four five", NULL, NULL}};
    wait_for(e, &s, &s.ready);
    lade_engine_ask(e, turns, 1, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    int first = s.result.prompt_tokens;
    turns[1] = (struct lade_message){LADE_ASSISTANT, strdup(s.text), NULL, NULL};
    turns[2] = (struct lade_message){LADE_USER, "and six?", NULL, NULL};
    support_drive_gone(true);
    lade_engine_ask(e, turns, 3, &greedy, 4, true, err);
    wait_for(e, &s, &s.failed);
    assert_non_null(strstr(s.error, "read error"));
    assert_non_null(strstr(s.error, ".safetensors"));
    assert_non_null(strstr(s.error, "check the drive"));
    support_drive_gone(false);
    lade_engine_ask(e, turns, 3, &greedy, 4, true, err);
    wait_for(e, &s, &s.done);
    assert_true(s.result.kept_tokens >= first - 8); /* the first turn was not read again */
    assert_true(s.result.tokens > 0);
    free((char *)turns[1].content);
    lade_engine_stop(e);
}

/* Speeds of a machine whose memory is so slow that even this model is told to decode as a large one. */
static void keep_slow_speeds(const struct lade_probe_wish *wish)
{
    struct lade_machine slow;
    lade_machine_probe(&slow, wish);
    slow.ram_gbps = slow.kernels.experts_gbps = slow.kernels.base_gbps = 1e-3;
    slow.kernels.experts_gflops = slow.kernels.base_gflops = 0.3;
    lade_speeds_keep(&slow, wish->catalog->format, wish->cache_dir, (double)time(NULL));
}

/* What an answer took is known to the next plan, where it was long enough, all was home and nobody
 * stopped it short of that. */
static void test_answers_are_noted(void **state)
{
    (void)state;
    static struct seen s;
    static char text[4 * 400];
    char dir[] = "/tmp/lade-test-XXXXXX", command[64];
    struct lade_catalog *cat;
    struct lade_machine here;
    struct lade_engine *e;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(lade_catalog_open(&cat, MODEL, err), 0);
    struct lade_probe_wish wish = {.catalog = cat, .cache_dir = dir, .threads = 2, .exact = true};
    struct lade_options opt = {.model = MODEL,
                               .threads = 2,
                               .context = 512,
                               .exact = true,
                               .cpu_only = true,
                               .strategy = "mmap",
                               .cache_dir = dir};
    const int mmap = lade_strategy_find("mmap");
    keep_slow_speeds(&wish);
    for (int long_enough = 0; long_enough < 2; long_enough++) {
        s = (struct seen){0};
        for (int i = 0; i < (long_enough ? 400 : 20); i++)
            memcpy(text + 2 * (size_t)i, "a ", 3);
        assert_int_equal(lade_engine_start(&e, &opt, err), 0);
        wait_for(e, &s, &s.ready);
        ask(e, text, 2);
        wait_for(e, &s, &s.done);
        lade_engine_stop(e);
        lade_machine_probe(&here, &wish);
        assert_true((here.answers.prefill[mmap] > 0) == long_enough);
        assert_true(here.answers.decode[mmap] == 0);
        assert_int_equal(s.result.prompt_tokens >= 256, long_enough);
    }
    lade_catalog_close(cat);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
}

/* Stopping at any moment: while loading, while answering, with events unread. */
static void test_stop_any_time(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        struct lade_engine *e = start(MODEL);
        if (i % 2)
            ask(e, "hello", 0);
        if (i % 5 == 4)
            lade_engine_cancel_load(e);
        usleep((useconds_t)(i * 997));
        lade_engine_stop(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_and_answer),
        cmocka_unit_test(test_second_turn_reuses_the_first),
        cmocka_unit_test(test_thinking_is_apart),
        cmocka_unit_test(test_cancel_running_and_queued),
        cmocka_unit_test(test_cancel_one),
        cmocka_unit_test(test_failed_load),
        cmocka_unit_test(test_prompt_too_long),
        cmocka_unit_test(test_change_of_strategy),
        cmocka_unit_test(test_change_to_gpu),
        cmocka_unit_test(test_answer_while_loading),
        cmocka_unit_test(test_drive_is_pulled),
        cmocka_unit_test(test_answers_are_noted),
        cmocka_unit_test(test_stop_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
