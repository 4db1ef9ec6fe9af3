/* Every fixture against transformers in float32 (tests/reference/dump_goldens.py): logits of all
 * positions, in one batch, token by token and in odd chunks, on every instruction set this CPU has;
 * and greedy continuations. */
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

#define GOLDENS "tests/golden/models"
#define TOLERANCE 1e-4

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

static void open_golden(struct golden *g, const char *name)
{
    char path[512];
    json_error_t error;
    snprintf(path, sizeof path, GOLDENS "/%s.json", name);
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
    snprintf(path, sizeof path, GOLDENS "/%s.f32", name);
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

static struct lade_model *open_model(const char *name, int batch, const char *isa)
{
    char path[512], err[LADE_ERR] = "";
    struct lade_model *m;
    snprintf(path, sizeof path, "tests/fixtures/%s", name);
    struct lade_options opt = {.model = path, .exact = true, .cpu_only = true, .threads = 2,
                               .context = 512, .batch = batch, .isa = isa};
    if (lade_model_open(&m, &opt, NULL, NULL, NULL, err)) {
        if (isa && strstr(err, isa))
            return NULL;
        fail_msg("%s", err);
    }
    return m;
}

/* The worst relative L2 error over positions. */
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
        if (!(e <= worst))
            worst = e;
    }
    return worst;
}

static void check_logits(const char *name, const struct golden *g, int batch, const char *isa)
{
    char err[LADE_ERR] = "";
    struct lade_session *s;
    struct lade_model *m = open_model(name, batch, isa);
    if (!m) {
        print_message("skip %s on %s: this CPU lacks it\n", name, isa);
        return;
    }
    assert_int_equal(lade_model_catalog(m)->shape.vocab, g->vocab);
    if (lade_session_open(&s, m, err))
        fail_msg("%s", err);
    float *logits = malloc((size_t)g->n * (size_t)g->vocab * sizeof *logits);
    if (lade_session_all_logits(s, g->prompt, g->n, logits, err))
        fail_msg("%s", err);
    double worst = worst_error(g, logits);
    print_message("  %-20s %-9s batch %3d: relative L2 %.2e\n", name, isa ? isa : "best", batch,
                  worst);
    assert_true(worst <= TOLERANCE);
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

static void check_greedy(const char *name, const struct golden *g)
{
    char err[LADE_ERR] = "";
    struct lade_session *s;
    struct lade_model *m = open_model(name, 0, NULL);
    if (lade_session_open(&s, m, err))
        fail_msg("%s", err);
    json_t *list = json_object_get(g->json, "greedy"), *entry;
    size_t index;
    assert_true(json_array_size(list) > 0);
    json_array_foreach(list, index, entry) {
        int n, n_want;
        int32_t *prompt = read_ids(json_object_get(entry, "prompt"), &n);
        int32_t *want = read_ids(json_object_get(entry, "ids"), &n_want);
        assert_int_equal(n_want, 64);
        if (lade_session_sync(s, prompt, n, 0, NULL, NULL, NULL, NULL, err))
            fail_msg("%s", err);
        for (int i = 0; i < n_want; i++) {
            int32_t id = argmax(lade_session_logits(s), g->vocab);
            if (id != want[i])
                fail_msg("%s: greedy %zu, token %d: %d, transformers has %d", name, index, i, id,
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

static void test_model(void **state)
{
    static const int batches[] = {200, 64, 7, 1};
    static const char *const isas[] = {"portable", "avx2", "avx512"};
    const char *name = *state;
    struct golden g;
    open_golden(&g, name);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        check_logits(name, &g, batches[i], NULL);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        check_logits(name, &g, 200, isas[i]);
        check_logits(name, &g, 1, isas[i]);
    }
    check_greedy(name, &g);
    close_golden(&g);
}

/* The same weights out of a GGUF file must give the same logits. */
static void test_gguf(void **state)
{
    (void)state;
    static const char name[] = "tiny-gguf/tiny-bf16.gguf";
    struct golden g;
    open_golden(&g, "tiny-bf16");
    check_logits(name, &g, 64, NULL);
    check_greedy(name, &g);
    close_golden(&g);
}

int main(void)
{
    enum { MAX = 64 };
    static struct CMUnitTest tests[MAX];
    struct dirent **list;
    int n = scandir(GOLDENS, &list, NULL, alphasort), count = 0;
    for (int i = 0; i < n; i++) {
        char *dot = strrchr(list[i]->d_name, '.');
        if (!dot || strcmp(dot, ".json") || count == MAX - 1)
            continue;
        *dot = '\0';
        char *name = strdup(list[i]->d_name);
        tests[count++] = (struct CMUnitTest){name, test_model, NULL, NULL, name};
    }
    if (!count) {
        printf("no goldens under " GOLDENS "\n");
        return 1;
    }
    tests[count++] = (struct CMUnitTest){"tiny-bf16.gguf", test_gguf, NULL, NULL, NULL};
    return _cmocka_run_group_tests("golden models", tests, (size_t)count, NULL, NULL);
}
