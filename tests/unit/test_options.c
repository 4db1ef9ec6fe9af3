#include "tui/options.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char err[LADE_ERR];
static char *line_args[64];
static char line_text[1024];

/* Splits at blanks (no quotes) and parses. */
static int parse(struct options *o, const char *text)
{
    int n = 0;
    err[0] = '\0';
    snprintf(line_text, sizeof(line_text), "lade %s", text);
    for (char *s = strtok(line_text, " "); s; s = strtok(NULL, " "))
        line_args[n++] = s;
    line_args[n] = NULL;
    return options_parse(o, n, line_args, err);
}

static void test_defaults(void **state)
{
    (void)state;
    struct options o;
    assert_int_equal(parse(&o, ""), 0);
    assert_int_equal(o.command, COMMAND_CHAT);
    assert_null(o.model);
    assert_true(isnan(o.temperature) && isnan(o.top_p) && isnan(o.min_p));
    assert_int_equal(o.top_k, -1);
    assert_int_equal(o.think, THINK_UNSET);
    assert_false(o.resume);
    assert_int_equal(parse(&o, "bench"), 0);
    assert_int_equal(o.prefill, 512);
    assert_int_equal(o.tokens, 64);
    assert_int_equal(o.repeat, 3);
    assert_int_equal(parse(&o, "run"), 0);
    assert_int_equal(o.tokens, 0);
    assert_int_equal(o.prefill, 0);
}

static void test_forms(void **state)
{
    (void)state;
    struct options o;
    static const char *const same[] = {
        "run -m dir -p hello -n 5 --greedy --seed 7",
        "run -mdir -phello -n5 --greedy --seed=7",
        "run --seed 7 --model=dir --tokens=5 --greedy --prompt hello",
        "run --max-tokens 5 --model dir --prompt=hello --greedy --seed 7",
    };
    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++) {
        if (parse(&o, same[i]))
            fail_msg("%s: %s", same[i], err);
        assert_int_equal(o.command, COMMAND_RUN);
        assert_string_equal(o.model, "dir");
        assert_string_equal(o.prompt, "hello");
        assert_int_equal(o.tokens, 5);
        assert_true(o.greedy);
        assert_true(o.seed == 7);
    }
    assert_int_equal(parse(&o, "run -p -"), 0);
    assert_string_equal(o.prompt, "-");
    assert_int_equal(parse(&o, "run what is -n 5 this -"), 0);
    assert_null(o.prompt);
    assert_int_equal(o.n_args, 4);
    assert_string_equal(o.args[2], "this");
    assert_string_equal(o.args[3], "-");
    assert_int_equal(parse(&o, "run --system= -t 0.5"), 0);
    assert_string_equal(o.system, "");
    assert_true(o.temperature == 0.5);
    assert_int_equal(parse(&o, "logits --exact --fast"), 0);
    assert_int_equal(o.precision, PRECISION_FAST);
    assert_int_equal(parse(&o, "run --no-think"), 0);
    assert_int_equal(o.think, THINK_NO);
    assert_int_equal(parse(&o, "bench -p 16 -n 0 -r 1 -d 0,64"), 0);
    assert_int_equal(o.prefill, 16);
    assert_int_equal(o.tokens, 0);
    assert_string_equal(o.depths, "0,64");
}

/* A dry run plans what would be opened; a plan of nothing is about the model one might fetch. */
static void test_dry_run(void **state)
{
    (void)state;
    static const char *const with[] = {"run --dry-run", "chat --dry-run", "bench --dry-run",
                                       "--dry-run"};
    struct options o;
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        assert_int_equal(parse(&o, with[i]), 0);
        assert_int_equal(o.command, COMMAND_PLAN);
        assert_string_equal(o.model, "bundled");
    }
    assert_int_equal(parse(&o, "run --dry-run -m dir"), 0);
    assert_string_equal(o.model, "dir");
    assert_int_equal(parse(&o, "plan --dry-run"), 0);
    assert_null(o.model);
    assert_int_equal(parse(&o, "plan"), 0);
    assert_null(o.model);
}

/* What is said of a model goes with where it runs. */
static void test_servers(void **state)
{
    (void)state;
    struct options o;
    struct lade_options e;
    assert_int_equal(parse(&o, "-m http://a:1 --key-file k --strategy remote --no-think"), 0);
    assert_string_equal(o.key_file, "k");
    options_engine(&o, o.model, false, &e);
    assert_string_equal(e.model, "http://a:1");
    assert_int_equal(parse(&o, "plan -m http://a:1 --strategy auto"), 0);
    assert_int_equal(parse(&o, "--resume 3 --key-file k"), 0); /* it may have been held with one */
    static const struct {
        const char *line, *why;
    } bad[] = {
        {"run -m http://a:1 --strategy mmap x", "the server that -m names decides"},
        {"run -m http://a:1 --cpu-memory 3 x", "--cpu-memory: is for models that run on this"},
        {"run -m http://a:1 --exact x", "--exact: is for models that run on this"},
        {"plan -m http://a:1 --ram 3", "--ram: is for models that run on this"},
        {"bench -m http://a:1", "lade bench needs the files of a model"},
        {"tokenize -m https://a", "lade tokenize needs the files of a model"},
        {"doctor -m https://a", "lade doctor needs the files of a model"},
        {"run -m http:// x", "is no address of a server"},
        {"run --strategy remote x", "give it with -m http://HOST:PORT"},
        {"run --key-file k -m dir x", "--key-file: is for a server"},
        {"bench --key-file k", "key-file"},
        {"serve -m http://a:1", "lade serve needs the files of a model"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(&o, bad[i].line), -1);
        if (!strstr(err, bad[i].why))
            fail_msg("%s: %s", bad[i].line, err);
    }
}

static void test_resume(void **state)
{
    (void)state;
    struct options o;
    assert_int_equal(parse(&o, "--resume"), 0);
    assert_true(o.resume && o.resume_id == 0);
    assert_int_equal(parse(&o, "chat --resume 12 -m dir"), 0);
    assert_true(o.resume && o.resume_id == 12);
    assert_int_equal(parse(&o, "--resume -m dir"), 0);
    assert_true(o.resume && o.resume_id == 0);
    assert_string_equal(o.model, "dir");
    assert_int_equal(parse(&o, "-r3"), 0);
    assert_true(o.resume_id == 3);
    assert_int_equal(parse(&o, "--resume=x"), -1);
}

static void test_other_spellings(void **state)
{
    (void)state;
    struct options o;
    assert_int_equal(parse(&o, "--load-strategy no-gpu --use-gptq --thinking --max-tokens 9 "
                               "--repeat-penalty 1.25"),
                     0);
    assert_true(o.repetition_penalty == 1.25);
    assert_true(o.cpu);
    assert_int_equal(o.think, THINK_YES);
    assert_int_equal(o.tokens, 9);
    assert_int_equal(parse(&o, "--load-strategy max-gpu"), 0);
    assert_false(o.cpu);
    assert_int_equal(parse(&o, "--load-strategy all-gpu"), -1);
    assert_non_null(strstr(err, "no-gpu, min-gpu, max-gpu"));
    assert_int_equal(parse(&o, "--check"), 0);
    assert_int_equal(o.command, COMMAND_DOCTOR);
    assert_int_equal(parse(&o, "--version"), 0);
    assert_int_equal(o.command, COMMAND_VERSION);
}

static void test_arguments(void **state)
{
    (void)state;
    struct options o;
    assert_int_equal(parse(&o, "history rename --json 3 new -- --title"), 0);
    assert_int_equal(o.n_args, 4);
    assert_string_equal(o.args[0], "rename");
    assert_string_equal(o.args[1], "3");
    assert_string_equal(o.args[3], "--title");
    assert_true(o.json);
    assert_int_equal(parse(&o, "help run"), 0);
    assert_int_equal(o.n_args, 1);
    assert_int_equal(parse(&o, "run -h"), 0);
    assert_true(o.help && o.command == COMMAND_RUN);
    assert_int_equal(parse(&o, "--help"), 0);
    assert_true(o.help && o.command == COMMAND_HELP);
    assert_int_equal(parse(&o, "chat --help"), 0);
    assert_true(o.help && o.command == COMMAND_CHAT);
}

/* An error is an object for whoever asked for one, wherever they did. */
static void test_errors_in_json(void **state)
{
    (void)state;
    struct options o;
    assert_int_equal(parse(&o, "run -n many --json"), -1);
    assert_true(o.json);
    assert_non_null(strstr(err, "0 to 1000000000;"));
    assert_int_equal(parse(&o, "rnu --json"), -1);
    assert_true(o.json);
    assert_int_equal(parse(&o, "run -n many -- --json"), -1);
    assert_false(o.json);
    assert_int_equal(parse(&o, "run -p --json"), 0);
    assert_false(o.json);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"rnu", "did you mean run?"},
        {"tokenise", "did you mean tokenize?"},
        {"zebra", "there is no such command; see lade help"},
        {"run --aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no such option; see lade help run"},
        {"bogus", "there is no such command; see lade help"},
        {"--gpu-plugin /no/such.so", "No such file or directory; give the path"},
        {"run --threads 1025", "from 0 to 1024"},
        {"--modle x", "did you mean --model?"},
        {"run --temprature 1", "did you mean --temperature?"},
        {"run --gredy", "did you mean --greedy?"},
        {"run --temp 1", "did you mean --temperature?"},
        {"run --xyzzyplugh", "there is no such option"},
        {"run --resume", "is not an option of run"},
        {"run --waaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaay", "no such option"},
        {"run -Z", "-Z: there is no such option"},
        {"run -n", "--tokens: needs a value"},
        {"run -n five", "--tokens five: is not a whole number from 0"},
        {"run -n 5x", "is not a whole number"},
        {"run -n 1.5", "is not a whole number"},
        {"run -n -1", "is not a whole number"},
        {"run -n 99999999999", "is not a whole number"},
        {"run --top-p 1.5", "from 0 to 1"},
        {"run --top-p nan", "from 0 to 1"},
        {"run --stop=", "--stop: a text is empty; give"},
        {"run --stop \xff", "--stop: is not UTF-8; give"},
        {"run --seed -4", "is not a whole number"},
        {"run --seed 99999999999999999999999", "is not a whole number"},
        {"run --greedy=yes", "takes no value"},
        {"doctor hello", "one argument too many"},
        {"-m x run", "write lade run first"},
        {"--gpu-memory -3", "is not a number from 0"},
        {"bench -r 0", "is not a whole number from 1"},
        {"run --prompt=", "--prompt: is empty; give TEXT|-"},
        {"pack --output=", "--output: is empty; give DIR"},
        {"--resume x", "--resume x: is not the number of a conversation; see lade history list"},
        {"--resume 3 4", "4: is one argument too many for chat"},
        {"run --strategy foo", "--strategy foo: is not a strategy; `lade plan` lists them"},
        {"--strategy hybird-balanced", "did you mean hybrid-balanced?"},
        {"run --isa foo", "--isa foo: is not an instruction set; lade doctor lists them"},
        {"plan --isa AVX2", "--isa AVX2: is not an instruction set"},
        {"run --kv-q8 --exact", "--kv-q8: exact arithmetic"},
        {"logits --kv-q8", "--kv-q8: exact arithmetic"},
        {"run --batch 8193", "from 0 to 8192"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct options o;
        assert_int_equal(parse(&o, cases[i].line), -1);
        if (!strstr(err, cases[i].part) || !(strchr(err, ';') || strchr(err, '?')))
            fail_msg("lade %s: \"%s\" does not hold \"%s\"", cases[i].line, err, cases[i].part);
    }
}

/* Every command has a help that names each of its options once. */
static void test_help(void **state)
{
    (void)state;
    for (int c = 0; c < N_COMMANDS; c++) {
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        options_help(f, (enum command)c);
        fclose(f);
        assert_non_null(strstr(text, "usage: lade"));
        if (c != COMMAND_HELP)
            assert_non_null(strstr(text, "--help"));
        for (char *s = text; s && *s; s = strchr(s, '\n') ? strchr(s, '\n') + 1 : NULL)
            assert_true(strcspn(s, "\n") <= 100);
        free(text);
    }
}

static void test_engine(void **state)
{
    (void)state;
    struct options o;
    struct lade_options e;
    assert_int_equal(parse(&o, "run --gpu-memory 1.5 --cpu-memory 2 --cpu --context 99 --threads 3 "
                               "--batch 8 --isa avx2 --strategy auto"),
                     0);
    options_engine(&o, "dir", true, &e);
    assert_string_equal(e.model, "dir");
    assert_true(e.vram_cap[0] == (size_t)3 << 29 && e.ram_cap == (size_t)2 << 30);
    assert_true(e.cpu_only && e.exact);
    assert_int_equal(e.context, 99);
    assert_int_equal(e.threads, 3);
    assert_int_equal(e.batch, 8);
    assert_string_equal(e.isa, "avx2");
    assert_string_equal(e.strategy, "auto");
    assert_int_equal(parse(&o, "run --fast"), 0);
    options_engine(&o, "dir", true, &e);
    assert_false(e.exact);
    struct lade_plan_caps c;
    options_caps(&o, &c);
    assert_false(c.no_draft || c.exact);
    assert_int_equal(parse(&o, "run --exact"), 0);
    options_caps(&o, &c);
    assert_true(c.no_draft && c.exact);
    assert_int_equal(parse(&o, "run --no-draft"), 0);
    options_caps(&o, &c);
    assert_true(c.no_draft && !c.exact);

    struct lade_sampling s = {.temperature = 0.7F,
                              .top_k = 20,
                              .top_p = 0.8F,
                              .min_p = 0.1F,
                              .repetition_penalty = 1.1F},
                         was = s;
    options_sampling(&o, &s);
    assert_memory_equal(&s, &was, sizeof(s));
    assert_int_equal(parse(&o, "run -t 0.5 --top-k 3 --top-p 0.25 --min-p 0 --seed 4"), 0);
    options_sampling(&o, &s);
    assert_true(s.temperature == 0.5F && s.top_k == 3 && s.top_p == 0.25F && s.min_p == 0 &&
                s.repetition_penalty == 1.1F && s.seed == 4);
    assert_int_equal(parse(&o, "run --greedy -t 2 --stop one --stop=two"), 0);
    options_sampling(&o, &s);
    assert_true(s.temperature == 0);
    assert_int_equal(s.stop.n, 2);
    assert_string_equal(s.stop.text[1], "two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),       cmocka_unit_test(test_forms),
        cmocka_unit_test(test_dry_run),        cmocka_unit_test(test_servers),
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_arguments),      cmocka_unit_test(test_errors),
        cmocka_unit_test(test_errors_in_json), cmocka_unit_test(test_help),
        cmocka_unit_test(test_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
