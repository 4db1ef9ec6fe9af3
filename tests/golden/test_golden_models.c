/* Every fixture and the bundled model against transformers in float32 (tests/reference: dump_goldens.py,
 * demo/goldens.py): logits of all positions, in one batch, token by token and in odd chunks, on every
 * instruction set this CPU has; and greedy continuations. The bundled model without `exact` too: what
 * a trained model says may not change where rounding is allowed. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "engine/engine.h"

#define GOLDENS        "tests/golden/models"
#define FIXTURES       "tests/fixtures/"
#define TOLERANCE      1e-4
#define FAST_TOLERANCE 2e-2 /* 8 bits of mantissa through 8 layers */

static const char bundled[] = "engine/bundled", bundled_golden[] = "tests/golden/bundled/bundled";

struct golden {
    json_t *json;
    int32_t *prompt;
    int n, columns, first, step, vocab;
    float *logits; /* [n][columns] */
};

static int field(const json_t *json, const char *key)
{
    json_t *v = json_object_get(json, key);
    if (!json_is_integer(v))
        fail_msg("golden: '%s' is missing", key);
    return (int)json_integer_value(v);
}

static int32_t *read_ids(const json_t *array, int *n)
{
    *n = (int)json_array_size(array);
    int32_t *ids = malloc(((size_t)*n + 1) * sizeof *ids);
    for (int i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}

/* `base` is the path without its ending. */
static void open_golden(struct golden *g, const char *base)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, "%s.json", base);
    g->json = json_load_file(path, 0, &error);
    if (!g->json)
        fail_msg("%s: %s", path, error.text);
    g->prompt = read_ids(json_object_get(g->json, "prompt"), &g->n);
    g->columns = field(g->json, "columns");
    g->first = field(g->json, "column_first");
    g->step = field(g->json, "column_step");
    g->vocab = field(g->json, "vocab");
    size_t count = (size_t)g->n * (size_t)g->columns;
    g->logits = malloc(count * sizeof *g->logits);
    snprintf(path, sizeof path, "%s.f32", base);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: missing", path);
    assert_int_equal(fread(g->logits, sizeof *g->logits, count, f), count);
    fclose(f);
}

static void close_golden(struct golden *g)
{
    json_decref(g->json);
    free(g->prompt);
    free(g->logits);
}

static struct lade_model *open_model(const char *path, bool exact, int batch, const char *isa)
{
    char err[LADE_ERR] = "";
    struct lade_model *m;
    struct lade_options opt = {.model = path,
                               .exact = exact,
                               .cpu_only = true,
                               .threads = 2,
                               .context = 512,
                               .batch = batch,
                               .isa = isa};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err))
        fail_msg("%s", err);
    return m;
}

/* The worst relative L2 error over positions; NaN if one is. */
static double worst_error(const struct golden *g, const float *logits)
{
    double worst = 0;
    for (int p = 0; p < g->n; p++) {
        double diff = 0, norm = 0;
        for (int c = 0; c < g->columns; c++) {
            double want = g->logits[(size_t)p * (size_t)g->columns + (size_t)c];
            double got = logits[(size_t)p * (size_t)g->vocab + (size_t)(g->first + c * g->step)];
            diff += (got - want) * (got - want);
            norm += want * want;
        }
        double e = sqrt(diff / norm);
        if (isnan(e))
            return e;
        worst = fmax(worst, e);
    }
    return worst;
}

static const char *name_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static void check_logits(const char *path, const struct golden *g, bool exact, int batch,
                         const char *isa)
{
    char err[LADE_ERR] = "";
    struct lade_session *s;
    struct lade_model *m = open_model(path, exact, batch, isa);
    assert_int_equal(lade_model_catalog(m)->shape.vocab, g->vocab);
    if (lade_session_open(&s, m, err))
        fail_msg("%s", err);
    float *logits = malloc((size_t)g->n * (size_t)g->vocab * sizeof *logits);
    if (lade_session_all_logits(s, g->prompt, g->n, logits, err))
        fail_msg("%s", err);
    double worst = worst_error(g, logits);
    print_message("  %-20s %-9s batch %3d%s: relative L2 %.2e\n", name_of(path), isa ? isa : "best",
                  batch, exact ? "" : ", fast", worst);
    assert_true(worst <= (exact ? TOLERANCE : FAST_TOLERANCE));
    free(logits);
    lade_session_close(s);
    lade_model_close(m);
}

static int32_t argmax(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

static void check_greedy(const char *path, const struct golden *g, bool exact)
{
    char err[LADE_ERR] = "";
    struct lade_session *s;
    struct lade_model *m = open_model(path, exact, 0, NULL);
    if (lade_session_open(&s, m, err))
        fail_msg("%s", err);
    json_t *list = json_object_get(g->json, "greedy"), *entry;
    size_t index;
    assert_true(json_array_size(list) > 0);
    json_array_foreach(list, index, entry)
    {
        int n, n_want;
        int32_t *prompt = read_ids(json_object_get(entry, "prompt"), &n);
        int32_t *want = read_ids(json_object_get(entry, "ids"), &n_want);
        assert_int_equal(n_want, 64);
        if (lade_session_sync(s, prompt, n, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        for (int i = 0; i < n_want; i++) {
            int32_t id = argmax(lade_session_logits(s), g->vocab);
            if (id != want[i])
                fail_msg("%s: greedy %zu, token %d: %d, transformers has %d", path, index, i, id,
                         want[i]);
            if (lade_session_push(s, id, err))
                fail_msg("%s", err);
        }
        free(prompt);
        free(want);
    }
    lade_session_close(s);
    lade_model_close(m);
}

static void check_model(const char *path, const char *golden)
{
    static const int batches[] = {200, 64, 7, 1};
    struct golden g;
    open_golden(&g, golden);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        check_logits(path, &g, true, batches[i], NULL);
    check_greedy(path, &g, true);
    close_golden(&g);
}

/* The names under GOLDENS, which are those of the fixtures. */
enum { MAX_FIXTURES = 48 };
static const char *fixtures[MAX_FIXTURES];
static int n_fixtures;

static void list_fixtures(void)
{
    struct dirent **list;
    int n = scandir(GOLDENS, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char *dot = strrchr(list[i]->d_name, '.');
        if (!dot || strcmp(dot, ".json") || n_fixtures == MAX_FIXTURES)
            continue;
        *dot = '\0';
        fixtures[n_fixtures++] = list[i]->d_name;
    }
}

static void paths_of(const char *fixture, char path[512], char golden[512])
{
    snprintf(path, 512, FIXTURES "%s", fixture);
    snprintf(golden, 512, GOLDENS "/%s", fixture);
}

static void test_fixture(void **state)
{
    char path[512], golden[512];
    paths_of(*state, path, golden);
    check_model(path, golden);
}

/* The same weights out of a GGUF file must give the same logits. */
static void test_gguf(void **state)
{
    (void)state;
    static const char path[] = FIXTURES "tiny-gguf/tiny-bf16.gguf";
    struct golden g;
    open_golden(&g, GOLDENS "/tiny-bf16");
    check_logits(path, &g, true, 64, NULL);
    check_greedy(path, &g, true);
    close_golden(&g);
}

static void test_bundled(void **state)
{
    (void)state;
    check_model(bundled, bundled_golden);
}

static void test_bundled_fast(void **state)
{
    (void)state;
    struct golden g;
    open_golden(&g, bundled_golden);
    check_logits(bundled, &g, false, 200, NULL);
    check_logits(bundled, &g, false, 1, NULL);
    check_greedy(bundled, &g, false);
    close_golden(&g);
}

static void check_on_isa(const char *path, const char *golden, bool exact, const char *isa)
{
    struct golden g;
    open_golden(&g, golden);
    check_logits(path, &g, exact, 200, isa);
    check_logits(path, &g, exact, 1, isa);
    close_golden(&g);
}

/* All of them on one instruction set; the state is its name. */
static void test_isa(void **state)
{
    char err[LADE_ERR] = "", path[512], golden[512];
    const char *isa = *state;
    struct lade_options opt = {.model = bundled, .cpu_only = true, .isa = isa};
    struct lade_model *m;
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err)) {
        if (!strstr(err, isa))
            fail_msg("%s", err);
        print_message("skipped: %s\n", err);
        skip();
    }
    lade_model_close(m);
    check_on_isa(bundled, bundled_golden, true, isa);
    check_on_isa(bundled, bundled_golden, false, isa);
    for (int i = 0; i < n_fixtures; i++) {
        paths_of(fixtures[i], path, golden);
        check_on_isa(path, golden, true, isa);
    }
}

int main(void)
{
    static struct CMUnitTest tests[MAX_FIXTURES + 7] = {
        {"bundled", test_bundled, NULL, NULL, NULL},
        {"bundled, fast", test_bundled_fast, NULL, NULL, NULL},
        {"tiny-bf16.gguf", test_gguf, NULL, NULL, NULL},
        {"portable", test_isa, NULL, NULL, "portable"},
        {"avx2", test_isa, NULL, NULL, "avx2"},
        {"avxvnni", test_isa, NULL, NULL, "avxvnni"},
        {"avx512", test_isa, NULL, NULL, "avx512"},
    };
    size_t count = 7;
    list_fixtures();
    if (n_fixtures == 0) {
        printf("no goldens under " GOLDENS "\n");
        return 1;
    }
    for (int i = 0; i < n_fixtures; i++)
        tests[count++] = (struct CMUnitTest){fixtures[i], test_fixture, NULL, NULL,
                                             (void *)(uintptr_t)fixtures[i]};
    return _cmocka_run_group_tests("golden models", tests, count, NULL, NULL);
}
