/* Mixture of experts: mixed types, experts that live elsewhere, no shared expert, batches. */
#include "kernels_common.h"
#include "tests/support/cuda_emulator/knobs.h"

enum { MAX_EXPERTS = 40 };

struct layer {
    int dim, n_experts, k;
    struct test_matrix gate[MAX_EXPERTS + 1], up[MAX_EXPERTS + 1], down[MAX_EXPERTS + 1];
    struct lade_expert experts[MAX_EXPERTS + 1]; /* the last one is the shared expert */
    float *shared_gate;
};

static struct test_matrix matrix(int rows, int cols, enum lade_type only)
{
    if (only != LADE_N_TYPES)
        return random_matrix(only, rows, cols, 32, only != LADE_BLOCKS && rng_int(0, 1));
    enum lade_type type = (enum lade_type)rng_int(0, LADE_N_TYPES - 1);
    const bool tiled = lade_types[type].per_word > 0;
    struct test_matrix t = random_matrix(type, rows, cols, 32, rng_int(0, 1) && tiled);
    if (tiled && !rng_int(0, 3))
        order_inputs(&t);
    return t;
}

/* `only`: the type of all matrices, or LADE_N_TYPES for any. */
static struct layer *make_layer(int dim, int n_experts, int k, int ff, enum lade_type only)
{
    struct layer *l = calloc(1, sizeof(*l));
    assert_non_null(l);
    l->dim = dim;
    l->n_experts = n_experts;
    l->k = k;
    for (int e = 0; e <= n_experts; e++) {
        int width = e == n_experts ? ff + 8 : ff;
        l->gate[e] = matrix(width, dim, only);
        l->up[e] = matrix(width, dim, only);
        l->down[e] = matrix(dim, width, only);
        l->experts[e] = (struct lade_expert){l->gate[e].m, l->up[e].m, l->down[e].m};
        if (e < n_experts && e % 5 == 3)
            l->experts[e].gate.data = l->experts[e].up.data = l->experts[e].down.data = NULL;
    }
    l->shared_gate = random_floats((size_t)dim, 0.1f);
    return l;
}

static void free_layer(struct layer *l)
{
    for (int e = 0; e <= l->n_experts; e++) {
        free_matrix(&l->gate[e]);
        free_matrix(&l->up[e]);
        free_matrix(&l->down[e]);
    }
    guard_free(l->shared_gate);
    free(l);
}

static void add_expert(double *y, const struct layer *l, int e, const double *x, double weight)
{
    int ff = l->gate[e].m.rows;
    double *h = malloc((size_t)ff * 2 * sizeof(double)),
           *out = malloc((size_t)l->dim * sizeof(double));
    assert_true(h && out);
    multiply(h, &l->gate[e], x);
    multiply(h + ff, &l->up[e], x);
    for (int i = 0; i < ff; i++)
        h[i] = h[i] / (1 + exp(-h[i])) * h[ff + i];
    multiply(out, &l->down[e], h);
    for (int i = 0; i < l->dim; i++)
        y[i] += weight * out[i];
    free(h);
    free(out);
}

static void check(struct lade_device *dev, const struct layer *l, int n, bool shared, bool gated,
                  double limit)
{
    size_t dim = (size_t)l->dim, k = (size_t)l->k;
    float *x = random_floats((size_t)n * dim, 1), *y = random_floats((size_t)n * dim, 0.01f);
    float *weights = random_floats((size_t)n * k, 0.3f);
    int32_t *ids = guard_alloc((size_t)n * k * sizeof(*ids));
    double *want = to_double(y, (size_t)n * dim), *xd = to_double(x, (size_t)n * dim);
    for (int t = 0; t < n; t++) {
        for (int j = 0; j < l->k; j++) {
            int32_t *id = &ids[t * l->k + j];
            bool again = true;
            while (again) { /* a token's experts are distinct */
                *id = rng_int(0, l->n_experts - 1);
                again = false;
                for (int i = 0; i < j; i++)
                    again |= ids[t * l->k + i] == *id;
            }
            if (l->experts[*id].gate.data)
                add_expert(want + (size_t)t * dim, l, *id, xd + (size_t)t * dim,
                           weights[t * l->k + j]);
        }
        double dot = 0;
        for (size_t i = 0; i < dim; i++)
            dot += xd[(size_t)t * dim + i] * l->shared_gate[i];
        if (shared)
            add_expert(want + (size_t)t * dim, l, l->n_experts, xd + (size_t)t * dim,
                       gated ? 1 / (1 + exp(-dot)) : 1);
    }
    struct lade_moe m = {.n = n,
                         .dim = l->dim,
                         .k = l->k,
                         .n_experts = l->n_experts,
                         .x = x,
                         .ids = ids,
                         .weights = weights,
                         .experts = l->experts,
                         .shared = shared ? &l->experts[l->n_experts] : NULL,
                         .shared_gate = gated ? l->shared_gate : NULL,
                         .y = y};
    char err[LADE_ERR], what[80];
    assert_int_equal(ops->moe(dev, &m, err), 0);
    snprintf(what, sizeof(what), "%d tokens, %d of %d experts, shared %d", n, l->k, l->n_experts,
             shared);
    assert_near(what, y, want, (size_t)n * dim, limit);
    guard_free(x);
    guard_free(y);
    guard_free(weights);
    guard_free(ids);
    free(want);
    free(xd);
}

static void batches(const char *device, bool exact, double limit)
{
    static const int tokens[] = {1, 2, 4, 5, 9, 60, 130};
    static const struct {
        int dim, experts, k, ff;
    } sizes[] = {{64, 8, 2, 32}, {70, 40, 10, 21}, {33, 1, 1, 300}, {160, 12, 4, 64}};
    need_device(device);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct layer *l =
            make_layer(sizes[s].dim, sizes[s].experts, sizes[s].k, sizes[s].ff, LADE_N_TYPES);
        for (int threads = least_threads(device); threads <= most_threads(device); threads++) {
            struct lade_device *dev = open_device(device, threads, exact);
            for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
                check(dev, l, tokens[i], i % 3 != 2, i % 2, limit);
            close_device(dev);
        }
        free_layer(l);
    }
}

static void each_batch(void **state)
{
    batches(*state, true, 3e-6);
}

/* Rounded to 16 bits twice, before each product. */
static void fast(void **state)
{
    batches(*state, false, is_cuda(*state) ? 2e-3 : 5e-4);
}

/* The same where all experts are of types with integer products. */
static void fast_types(void **state)
{
    static const int tokens[] = {4, 5, 30, 200};
    static const enum lade_type types[] = {LADE_Q4, LADE_Q8, LADE_BLOCKS};
    need_device(*state);
    for (int i = 0; i < 12; i++) {
        struct layer *l = make_layer(96 + 37 * (i % 4), 6, 2, 16 + 24 * (i % 3), types[i % 3]);
        struct lade_device *dev = open_device(*state, 2, false);
        for (size_t j = 0; j < sizeof(tokens) / sizeof(tokens[0]); j++)
            check(dev, l, tokens[j], true, true, 5e-4);
        close_device(dev);
        free_layer(l);
    }
}

/* Each number of tokens that a tile is multiplied with at once, where that is done without a panel: all of
 * them meet the shared expert, a few each of the others. */
static void each_count(void **state)
{
    enum { DIM = 300, EXPERTS = 3, FF = 40 };
    static const struct lade_matrix types[] = {{.type = LADE_Q4, .group = 32},
                                               {.type = LADE_BLOCKS, .block = LADE_BLOCK_Q4_K}};
    need_device(*state);
    struct lade_device *dev = open_device(*state, 2, false);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct layer *l = calloc(1, sizeof *l);
        assert_non_null(l);
        *l = (struct layer){.dim = DIM, .n_experts = EXPERTS, .k = 1};
        for (int e = 0; e <= EXPERTS; e++) {
            struct lade_matrix m = types[i];
            m.rows = FF;
            m.cols = DIM;
            l->gate[e] = random_weights(m);
            l->up[e] = random_weights(m);
            m.rows = DIM;
            m.cols = FF;
            l->down[e] = random_weights(m);
            l->experts[e] = (struct lade_expert){l->gate[e].m, l->up[e].m, l->down[e].m};
        }
        l->shared_gate = random_floats(DIM, 0.1f);
        for (int n = 5; n <= 14; n++)
            check(dev, l, n, true, true, 5e-4);
        free_layer(l);
    }
    close_device(dev);
}

/* Weights of form i: ggml's blocks, then other types, with groups of any size and order. */
enum { OTHERS = 8, FORMS = LADE_N_BLOCKS + OTHERS };

static struct test_matrix of_form(int i, int rows, int cols)
{
    static const struct lade_matrix others[OTHERS] = {
        {.type = LADE_F32},
        {.type = LADE_F16},
        {.type = LADE_BF16},
        {.type = LADE_Q4, .group = 8, .has_zeros = true},
        {.type = LADE_Q4, .group = 32}, /* its inputs have groups of their choice */
        {.type = LADE_Q8, .group = 12},
        {.type = LADE_Q4, .group = 32, .has_zeros = true},
        {.type = LADE_Q8, .group = 64}};
    struct lade_matrix m = {.type = LADE_BLOCKS, .block = (uint8_t)i};
    if (i >= LADE_N_BLOCKS)
        m = others[i - LADE_N_BLOCKS];
    m.rows = rows;
    m.cols = cols;
    struct test_matrix t = random_weights(m);
    if (i == LADE_N_BLOCKS + 4)
        order_inputs(&t);
    return t;
}

/* Each form as gate, the next one as up and the one after it as down, so that a launch meets several sizes;
 * more slots than a GPU has room for at once; some so wide that their last matrices have several
 * runs. */
static void each_form(void **state)
{
    enum { DIM = 271, EXPERTS = FORMS, K = 18 };
    struct lade_device *dev = open_device(*state, 1, true);
    struct layer *l = calloc(1, sizeof *l);
    assert_non_null(l);
    *l = (struct layer){.dim = DIM, .n_experts = EXPERTS, .k = K};
    for (int e = 0; e <= EXPERTS; e++) {
        const int width = e % 10 == 9 ? 531 : 20;
        l->gate[e] = of_form(e % FORMS, width, DIM);
        l->up[e] = of_form((e + 1) % FORMS, width, DIM);
        l->down[e] = of_form((e + 2) % FORMS, DIM, width);
        l->experts[e] = (struct lade_expert){l->gate[e].m, l->up[e].m, l->down[e].m};
    }
    l->shared_gate = random_floats(DIM, 0.1f);
    check(dev, l, 1, true, true, 3e-6);
    check(dev, l, 3, false, false, 3e-6);
    close_device(dev);
    /* Cards whose blocks may have less shared memory. */
    static const struct {
        int major, minor;
    } cards[] = {{7, 5}, {8, 6}, {12, 0}};
    for (int i = 0; i < 3 && is_emulated(*state); i++) {
        struct lade_emulator_knobs *knobs =
            test_plugin_symbol(plugin_path(*state), "lade_emulator");
        const struct lade_emulator_knobs before = *knobs;
        knobs->major = cards[i].major;
        knobs->minor = cards[i].minor;
        dev = open_device(*state, 1, true);
        check(dev, l, 1, true, true, 3e-6);
        close_device(dev);
        knobs->major = before.major;
        knobs->minor = before.minor;
    }
    free_layer(l);
}

/* An answer must not depend on what else is in the batch. */
static void batch_equals_single(void **state)
{
    enum { N = 20 };
    struct lade_device *dev = open_device(*state, 2, true);
    struct layer *l = make_layer(96, 12, 3, 40, LADE_N_TYPES);
    float *x = random_floats(N * 96, 1), *all = random_floats(N * 96, 0),
          *one = random_floats(N * 96, 0);
    float weights[N * 3];
    int32_t ids[N * 3];
    char err[LADE_ERR];
    for (int i = 0; i < N * 3; i++) {
        weights[i] = rng_normal();
        ids[i] = (i % 3) * 4 + rng_int(0, 3);
    }
    struct lade_moe m = {.n = N,
                         .dim = 96,
                         .k = 3,
                         .n_experts = 12,
                         .x = x,
                         .ids = ids,
                         .weights = weights,
                         .experts = l->experts,
                         .shared = &l->experts[12],
                         .shared_gate = l->shared_gate,
                         .y = all};
    assert_int_equal(ops->moe(dev, &m, err), 0);
    for (int t = 0; t < N; t++) {
        m.n = 1;
        m.x = x + (size_t)t * 96;
        m.y = one + (size_t)t * 96;
        m.ids = ids + t * 3;
        m.weights = weights + t * 3;
        assert_int_equal(ops->moe(dev, &m, err), 0);
    }
    double *want = to_double(one, N * 96);
    assert_near("batch against single", all, want, N * 96, 2e-6);
    free(want);
    guard_free(x);
    guard_free(all);
    guard_free(one);
    free_layer(l);
    close_device(dev);
}

static void bad_route(void **state)
{
    struct lade_device *dev = open_device(*state, 1, true);
    struct layer *l = make_layer(16, 2, 1, 8, LADE_N_TYPES);
    float x[16] = {0}, y[16] = {0}, weight = 1;
    int32_t id = 2;
    char err[LADE_ERR] = "";
    struct lade_moe m = {.n = 1,
                         .dim = 16,
                         .k = 1,
                         .n_experts = 2,
                         .x = x,
                         .ids = &id,
                         .weights = &weight,
                         .experts = l->experts,
                         .y = y};
    assert_int_equal(ops->moe(dev, &m, err), -1);
    assert_non_null(strstr(err, "expert 2"));
    id = 1;
    l->experts[1].down.rows = 15;
    assert_int_equal(ops->moe(dev, &m, err), -1);
    assert_non_null(strstr(err, "do not fit"));
    free_layer(l);
    close_device(dev);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {EACH_DEVICE(each_batch),
                                       EACH_DEVICE(fast),
                                       EACH_BUT_CUDA(fast_types),
                                       EACH_BUT_CUDA(each_count),
                                       EACH_DEVICE(batch_equals_single),
                                       EACH_DEVICE(each_form),
                                       EACH_ISA(bad_route)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
