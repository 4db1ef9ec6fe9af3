/* A model behind a server, with one that says what it was told to (model_server.py): what becomes of each
 * answer, and of each way to fail. */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/engine_common.h"

static struct {
    pid_t pid;
    int in, port;
    char asked[64]; /* a file: questions */
} server;

static int start_server(void **state)
{
    (void)state;
    int to[2], from[2];
    char line[32] = "";
    strcpy(server.asked, "/tmp/lade-asked-XXXXXX");
    int log = mkstemp(server.asked);
    if (log < 0 || pipe(to) || pipe(from))
        return -1;
    close(log);
    server.pid = fork();
    if (server.pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execlp("python3", "python3", "tests/support/model_server.py", server.asked, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    server.in = to[1];
    for (size_t n = 0; n < sizeof line - 1 && read(from[0], line + n, 1) == 1 && line[n] != '\n';)
        n++;
    close(from[0]);
    server.port = atoi(line);
    return server.pid > 0 && server.port > 0 ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    close(server.in); /* it ends with its standard input */
    waitpid(server.pid, NULL, 0);
    unlink(server.asked);
    return 0;
}

static const struct lade_sampling unset = {
    .temperature = NAN, .top_k = -1, .top_p = NAN, .min_p = NAN, .repetition_penalty = NAN};

static struct lade_engine *open_at(const char *how, const char *name, const char *key)
{
    char address[128];
    struct lade_engine *e;
    snprintf(address, sizeof address, "http://127.0.0.1:%d/%s/v1%s", server.port, how, name);
    struct lade_options opt = {.model = address, .key = key};
    if (lade_engine_start(&e, &opt, err))
        fail_msg("%s", err);
    return e;
}

static int ask_remote(struct lade_engine *e, const char *text)
{
    struct lade_message m = {.role = LADE_USER, .content = text};
    int number = lade_engine_ask(e, &m, 1, &unset, 0, true, err);
    if (number < 1)
        fail_msg("%s", err);
    return number;
}

/* Asks the server that behaves so; returns what was seen. */
static struct seen *say(const char *how)
{
    static struct seen s;
    s = (struct seen){0};
    struct lade_engine *e = open_at(how, "", NULL);
    wait_for(e, &s, &s.ready);
    int number = ask_remote(e, "Why?");
    wait_for(e, &s, &s.ended_answers);
    assert_int_equal(s.request, number);
    lade_engine_stop(e);
    return &s;
}

static void test_answers(void **state)
{
    (void)state;
    static const char floats[] = "Ships float because of Archimedes.";
    static const struct {
        const char *how, *text, *reasoning;
        enum lade_stop stop;
        int prompt, kept, tokens;
    } cases[] = {
        {"plain", floats, "", LADE_STOP_END, 20, 8, 4},
        {"reasoning", "They float.", "They displace water.", LADE_STOP_END, 20, 8, 4},
        {"other-reasoning", "They float.", "Water.", LADE_STOP_END, 20, 8, 4},
        {"tags", "They <think> float.", "Water <b>", LADE_STOP_END, 20, 8, 4},
        {"no-usage", floats, "", LADE_STOP_END, 0, 0, 4},
        {"no-done", floats, "", LADE_STOP_END, 0, 0, 4},
        {"length", floats, "", LADE_STOP_LENGTH, 20, 8, 4},
        {"stop-text", floats, "", LADE_STOP_TEXT, 20, 8, 4},
        {"llamacpp", floats, "", LADE_STOP_END, 20, 8, 4},
        {"odd", "Ships \xEF\xBF\xBD\xEF\xBF\xBD \xF0\x9F\x9A\xA2", "", LADE_STOP_END, 20, 8, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct seen *s = say(cases[i].how);
        if (!s->done)
            fail_msg("%s: %s", cases[i].how, s->error);
        assert_string_equal(s->text, cases[i].text);
        assert_string_equal(s->reasoning, cases[i].reasoning);
        assert_int_equal(s->result.stop, cases[i].stop);
        assert_int_equal(s->result.prompt_tokens, cases[i].prompt);
        assert_int_equal(s->result.kept_tokens, cases[i].kept);
        assert_int_equal(s->result.tokens, cases[i].tokens);
        assert_true(s->result.ttft_s > 0);
        assert_true((s->prefills > 0) == !strcmp(cases[i].how, "llamacpp"));
        assert_true((s->result.prefill_tps > 0) == (cases[i].kept > 0)); /* else it is not known */
    }
}

static void test_answers_that_fail(void **state)
{
    (void)state;
    static const struct {
        const char *how, *why, *text;
        enum lade_stop stop;
    } cases[] = {
        {"error", "CUDA ?[31mout of memory", "Ships", LADE_STOP_ERROR},
        {"error-field", "no slot", "Ships", LADE_STOP_ERROR},
        {"cut", "cut", "Ships float", LADE_STOP_ERROR},
        {"early", "ended before", "Ships float", LADE_STOP_ERROR},
        {"garbage", "no JSON", "Ships", LADE_STOP_ERROR},
        {"huge", "more than 1048576 bytes", "Ships", LADE_STOP_ERROR},
        {"refuses", "400: top_k is not?supported", "", LADE_STOP_ERROR},
        {"too-long", "context length is 8;", "", LADE_STOP_CONTEXT},
        {"no-stream", "does not answer as", "", LADE_STOP_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct seen *s = say(cases[i].how);
        assert_int_equal(s->failed, 1);
        if (!strstr(s->error, cases[i].why))
            fail_msg("%s: %s", cases[i].how, s->error);
        assert_string_equal(s->text, cases[i].text); /* what came is kept */
        assert_int_equal(s->result.stop, cases[i].stop);
    }
}

static void test_servers_that_cannot_be_used(void **state)
{
    (void)state;
    static const struct {
        const char *how, *name, *why;
    } cases[] = {
        {"several", "", "has 2 models; choose one with #NAME at the end of -m: one, two/three"},
        {"several", "#four", "has no model four; it has one, two/three"},
        {"none", "", "has no model; "},
        {"key", "", "wants a key (401): Unauthorized; give it with --key-file"},
        {"redirect", "", "sends on to http://localhost:9/v1/models"},
        {"page", "", "does not answer as an OpenAI-compatible server does"},
        {"nothing", "", "has no /models (404)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct seen s = {0};
        struct lade_engine *e = open_at(cases[i].how, cases[i].name, NULL);
        wait_for(e, &s, &s.failed);
        if (!strstr(s.error, cases[i].why))
            fail_msg("%s: %s", cases[i].how, s.error);
        assert_int_equal(s.model, 0);
        lade_engine_stop(e);
    }
    struct lade_engine *e;
    struct seen s = {0};
    struct lade_options opt = {.model = "http://127.0.0.1:1"}; /* nothing listens there */
    assert_int_equal(lade_engine_start(&e, &opt, err), 0);
    wait_for(e, &s, &s.failed);
    assert_non_null(strstr(s.error, "127.0.0.1:1: nothing answers there"));
    lade_engine_stop(e);
}

static void test_what_is_known_of_it(void **state)
{
    (void)state;
    static struct lade_model_info info;
    static struct lade_plan plan;
    struct seen s = {0};
    struct lade_engine *e = open_at("several", "#two/three", NULL);
    wait_for(e, &s, &s.ready);
    assert_int_equal(s.usable, 1);
    assert_true(lade_engine_info(e, &info));
    assert_string_equal(info.name, "two/three");
    assert_string_equal(info.format, "vllm");
    assert_string_equal(info.strategy, "remote");
    assert_true(info.remote && !info.n_shards && !info.bytes);
    assert_int_equal(info.max_context, 4096);
    assert_true(isnan(info.sampling.temperature) && info.sampling.top_k == -1);
    assert_non_null(strstr(info.path, "/several/v1#two/three"));
    assert_true(lade_engine_plan(e, &plan));
    assert_string_equal(plan.rows[plan.chosen].strategy->name, "remote");
    assert_int_equal(lade_engine_strategy(e, "mmap", err), -1);
    assert_non_null(strstr(err, "behind a server"));
    struct lade_stats stats;
    lade_engine_stats(e, &stats);
    assert_false(stats.loading);
    assert_int_equal(stats.context_size, 4096);
    lade_engine_stop(e);
}

/* The server's log of what was asked. */
static const char *asked(void)
{
    static char text[1 << 16];
    FILE *f = fopen(server.asked, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void test_the_key_is_sent(void **state)
{
    (void)state;
    struct seen s = {0};
    struct lade_engine *e = open_at("key", "", "secret-key");
    wait_for(e, &s, &s.ready);
    ask_remote(e, "With a key");
    wait_for(e, &s, &s.done);
    lade_engine_stop(e);
    const char *line = strstr(asked(), "With a key");
    assert_non_null(line);
    assert_non_null(strstr(line, "\"key\": \"Bearer secret-key\""));
    say("plain");
    assert_non_null(strstr(strstr(asked(), "Why?"), "\"key\": null"));
}

/* A server that loads is waited for, and asked what was asked meanwhile. */
static void test_loading(void **state)
{
    (void)state;
    struct seen s = {0};
    struct lade_engine *e = open_at("loading", "", NULL);
    ask_remote(e, "Early");
    wait_for(e, &s, &s.done);
    assert_int_equal(s.waiting, 3); /* the first is before anything is known */
    assert_non_null(strstr(s.told, "still loading its model (70%)"));
    assert_string_equal(s.text, "Ships float because of Archimedes.");
    lade_engine_stop(e);
    s = (struct seen){0};
    e = open_at("always-loading", "", NULL);
    wait_for(e, &s, &s.waiting);
    wait_for(e, &s, &s.waiting);
    lade_engine_cancel_load(e);
    wait_for(e, &s, &s.failed);
    assert_non_null(strstr(s.error, "cancelled"));
    lade_engine_stop(e);
}

/* Cancelled answers end though the server says nothing more, and the next one is asked. */
static void test_cancel(void **state)
{
    (void)state;
    struct seen s = {0};
    struct lade_engine *e = open_at("slow", "", NULL);
    ask_remote(e, "Slowly");
    while (!strstr(s.text, "float"))
        wait_for(e, &s, &s.texts);
    lade_engine_cancel(e, 0);
    wait_for(e, &s, &s.done);
    assert_int_equal(s.result.stop, LADE_STOP_CANCELLED);
    assert_int_equal(s.result.tokens, 2);
    assert_string_equal(s.text, "Ships float");
    int first = ask_remote(e, "Again"), second = ask_remote(e, "And again");
    wait_for(e, &s, &s.texts);
    lade_engine_cancel(e, second);
    wait_for(e, &s, &s.done);
    assert_int_equal(s.request, second);
    lade_engine_cancel(e, first);
    wait_for(e, &s, &s.done);
    assert_int_equal(s.request, first);
    lade_engine_stop(e);
    /* Leaving while it says nothing at all. */
    e = open_at("silent", "", NULL);
    s = (struct seen){0};
    wait_for(e, &s, &s.ready);
    ask_remote(e, "Never");
    lade_engine_stop(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_that_fail),
        cmocka_unit_test(test_servers_that_cannot_be_used),
        cmocka_unit_test(test_what_is_known_of_it),
        cmocka_unit_test(test_the_key_is_sent),
        cmocka_unit_test(test_loading),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
