/* The thread boundary: commands in, events out, from load to stop. Run under ThreadSanitizer. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "tests/support/plugins.h"
#include "tests/support/support_io.h"

#define MODEL    "tests/fixtures/tiny8-bf16"
#define THINKING "tests/fixtures/tiny-thinking"
enum { PATIENCE_MS = 600000 }; /* for the slowest machine under the slowest sanitizer */

static char err[LADE_ERR];

/* What came out of an engine, added up. */
struct seen {
    int model, usable, ready, strategies, memory, shards_done, prefills, done, failed;
    uint64_t shard_done[16], shard_bytes[16], done_bytes;
    char text[1 << 16], reasoning[1 << 16], error[LADE_ERR], told[LADE_ERR];
    struct lade_result result;
    int request;
};

static void note(struct seen *s, const struct lade_event *ev)
{
    switch (ev->kind) {
    case LADE_EV_MODEL:
        s->model++;
        break;
    case LADE_EV_SHARD:
        assert_in_range(ev->shard, 0, 15);
        assert_true(ev->shard_done >= s->shard_done[ev->shard]);
        assert_true(ev->done_bytes >= s->done_bytes);
        s->shard_done[ev->shard] = ev->shard_done;
        s->shard_bytes[ev->shard] = ev->shard_bytes;
        s->done_bytes = ev->done_bytes;
        break;
    case LADE_EV_USABLE:
        s->usable++;
        break;
    case LADE_EV_READY:
        assert_int_equal(s->usable, 1);
        s->ready++;
        break;
    case LADE_EV_STRATEGY:
        s->strategies++;
        snprintf(s->error, sizeof s->error, "%s", ev->text ? ev->text : "");
        break;
    case LADE_EV_MEMORY:
        s->memory++;
        snprintf(s->told, sizeof s->told, "%s", ev->text);
        break;
    case LADE_EV_PREFILL:
        s->prefills++;
        break;
    case LADE_EV_TEXT:
        strncat(ev->reasoning ? s->reasoning : s->text, ev->text,
                sizeof s->text - strlen(ev->reasoning ? s->reasoning : s->text) - 1);
        break;
    case LADE_EV_DONE:
        s->done++;
        s->result = ev->result;
        s->request = ev->request;
        break;
    case LADE_EV_FAILED:
        s->failed++;
        s->request = ev->request;
        s->result = ev->result;
        snprintf(s->error, sizeof s->error, "%s", ev->text);
        break;
    }
}

/* Takes events until *counter grows; the wake descriptor must announce every one. */
static void wait_for(struct lade_engine *e, struct seen *s, const int *counter)
{
    int before = *counter;
    while (*counter == before) {
        struct pollfd p = {.fd = lade_engine_fd(e), .events = POLLIN};
        int n = poll(&p, 1, PATIENCE_MS);
        if (n != 1)
            fail_msg("no event for %d ms", PATIENCE_MS);
        struct lade_event ev;
        assert_true(lade_engine_next(e, &ev));
        note(s, &ev);
        lade_event_clear(&ev);
    }
}

static struct lade_engine *start(const char *path)
{
    struct lade_engine *e;
    struct lade_options opt = {.model = path, .threads = 2, .context = 512, .exact = true};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

static const struct lade_sampling greedy = {.top_p = 1, .repetition_penalty = 1};

static int ask(struct lade_engine *e, const char *text, int max_tokens)
{
    struct lade_message m = {.role = LADE_USER, .content = text};
    int number = lade_engine_ask(e, &m, 1, &greedy, max_tokens, true, err);
    if (number < 1)
        fail_msg("%s", err);
    return number;
}

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
    struct lade_message turns[3] = {{LADE_USER, "one two three four five", NULL}};
    lade_engine_ask(e, turns, 1, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    int first = s.result.prompt_tokens;
    turns[1] = (struct lade_message){LADE_ASSISTANT, s.text, NULL};
    turns[2] = (struct lade_message){LADE_USER, "and six?", NULL};
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
    struct lade_message m = {LADE_USER, "hello", NULL};
    lade_engine_ask(e, &m, 1, &greedy, 12, true, err);
    wait_for(e, &s, &s.done);
    assert_true(strlen(s.reasoning) > 0); /* the prompt opened the block */
    s.done = 0; /* the rest stays: the load may still be going on */
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
    struct lade_message m = {LADE_USER, "go on", NULL};
    for (int i = 0; i < 3; i++)
        assert_true(lade_engine_ask(e, &m, 1, &endless, 0, true, err) > 0);
    wait_for(e, &s, &s.prefills);
    lade_engine_cancel(e);
    while (s.done < 3)
        wait_for(e, &s, &s.done);
    assert_int_equal(s.result.stop, LADE_STOP_CANCELLED);
    /* It still answers. */
    ask(e, "again", 3);
    wait_for(e, &s, &s.done);
    assert_int_not_equal(s.result.stop, LADE_STOP_CANCELLED);
    lade_engine_stop(e);
}

static void test_failed_load(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start("tests/fixtures/no-such-model");
    wait_for(e, &s, &s.failed);
    assert_int_equal(s.request, 0);
    assert_non_null(strstr(s.error, "no-such-model"));
    struct lade_message m = {LADE_USER, "hello", NULL};
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
    wait_for(e, &s, &s.usable);
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

/* The drive is pulled in a conversation: that answer fails with the file's name, the conversation
 * stays, and when the drive is back it goes on. */
static void test_drive_is_pulled(void **state)
{
    (void)state;
    static struct seen s;
    struct lade_engine *e = start_placed(MODEL, 0);
    struct lade_message turns[3] = {{LADE_USER, "one two three four five", NULL}};
    wait_for(e, &s, &s.ready);
    lade_engine_ask(e, turns, 1, &greedy, 16, true, err);
    wait_for(e, &s, &s.done);
    int first = s.result.prompt_tokens;
    turns[1] = (struct lade_message){LADE_ASSISTANT, strdup(s.text), NULL};
    turns[2] = (struct lade_message){LADE_USER, "and six?", NULL};
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
        cmocka_unit_test(test_failed_load),
        cmocka_unit_test(test_prompt_too_long),
        cmocka_unit_test(test_change_of_strategy),
        cmocka_unit_test(test_change_to_gpu),
        cmocka_unit_test(test_memory_is_claimed),
        cmocka_unit_test(test_memory_swings),
        cmocka_unit_test(test_drive_is_pulled),
        cmocka_unit_test(test_stop_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
