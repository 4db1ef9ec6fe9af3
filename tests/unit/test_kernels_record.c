/* Recordings, and the tables of experts that they use. */
#include "gpu_common.h"

#include "tests/support/cuda_emulator/knobs.h"

/* A model of one layer, and where its token goes. */
enum { VOCAB = 50, DIM = 32, HEADS = 2, KV = 1, HEAD = 16, STEPS = 12, TOP = 5 };
enum { EMBED, Q, K, V, OUT, WEIGHTS };

struct one_layer {
    struct test_matrix made[WEIGHTS];
    struct lade_matrix w[WEIGHTS];
    struct lade_matmul in[3], head;
    struct lade_attention attention;
    struct lade_topk top;
    float *norm, *inv_freq, *x, *h, *logits; /* the weights of the norm; rows before and after it */
    int32_t *at;                             /* the token's id and position */
    int32_t *told, *best;                    /* of the host: what `at` becomes, what is picked */
};

static void make_layer(struct one_layer *m)
{
    *m = (struct one_layer){
        .made = {[EMBED] = random_matrix(LADE_F32, VOCAB, DIM, 0, false),
                 [Q] = random_matrix(LADE_Q4, HEADS * 2 * HEAD, DIM, 32, false),
                 [K] = random_matrix(LADE_Q8, KV * HEAD, DIM, 32, true),
                 [V] = random_matrix(LADE_F16, KV * HEAD, DIM, 0, false),
                 [OUT] = random_matrix(LADE_BF16, VOCAB, HEADS * HEAD, 0, false)}};
    for (int i = 0; i < WEIGHTS; i++)
        m->w[i] = place(&m->made[i]);
    float ones[DIM], freq[4] = {1, 0.1f, 0.01f, 0.001f};
    for (int i = 0; i < DIM; i++)
        ones[i] = 1;
    m->norm = device_floats(ones, DIM);
    m->inv_freq = device_floats(freq, 4);
    m->x = device_floats(NULL, DIM);
    m->h = device_floats(NULL, DIM);
    m->logits = device_floats(NULL, VOCAB);
    good(host_alloc(dev, (void **)&m->told, 2 * sizeof *m->told, err));
    good(host_alloc(dev, (void **)&m->best, TOP * sizeof *m->best, err));
    good(alloc(dev, (void **)&m->at, 2 * sizeof *m->at, err));
    struct lade_attention *a = &m->attention;
    *a = make_attention(HEADS, KV, HEAD, STEPS);
    a->pos = STEPS - 1;
    a->pos_at = m->at + 1;
    a->rotary_dim = 8;
    a->inv_freq = m->inv_freq;
    m->in[0] = (struct lade_matmul){(float *)a->q, m->h, &m->w[Q]};
    m->in[1] = (struct lade_matmul){(float *)a->k, m->h, &m->w[K]};
    m->in[2] = (struct lade_matmul){(float *)a->v, m->h, &m->w[V]};
    m->head = (struct lade_matmul){m->logits, a->out, &m->w[OUT]};
    m->top = (struct lade_topk){.n = VOCAB,
                                .k = TOP,
                                .logits = m->logits,
                                .values = device_floats(NULL, TOP),
                                .ids = m->best};
}

static void free_layer(struct one_layer *m)
{
    void *all[] = {m->norm, m->inv_freq, m->x, m->h, m->logits, m->top.values, m->at};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        gpu->free(dev, all[i]);
    for (int i = 0; i < WEIGHTS; i++) {
        gpu->free(dev, (void *)m->w[i].data);
        free_matrix(&m->made[i]);
    }
    free_attention(&m->attention);
    gpu->host_free(dev, m->told);
    gpu->host_free(dev, m->best);
}

static void run_token(const struct one_layer *m)
{
    good(copy(dev, m->at, m->told, 2 * sizeof *m->told, err));
    good(embed_at(dev, m->x, &m->w[EMBED], m->at, 1, err));
    good(rmsnorm(dev, m->h, m->x, NULL, m->norm, 1, DIM, 1e-6f, err));
    good(matmul(dev, m->in, 3, 1, err));
    good(attention(dev, &m->attention, err));
    good(matmul(dev, &m->head, 1, 1, err));
    good(topk(dev, &m->top, err));
}

/* One token of a model of one layer, recorded once; id and position come from the host's memory
 * each time it is replayed. */
static void recordings_read_what_changes(void **state)
{
    (void)state;
    struct one_layer m;
    make_layer(&m);
    float seen[2][STEPS][VOCAB];
    int32_t picked[2][STEPS][TOP];
    struct lade_recording *r = NULL;
    for (int recorded = 0; recorded < 2; recorded++) {
        good(zero(dev, m.attention.k_cache, KV * STEPS * HEAD * sizeof(float), err));
        good(zero(dev, m.attention.v_cache, KV * STEPS * HEAD * sizeof(float), err));
        for (int t = 0; t < STEPS; t++) {
            m.told[0] = (t * 7 + 3) % VOCAB;
            m.told[1] = t;
            if (recorded && !r)
                good(record_begin(dev, err));
            if (!r)
                run_token(&m);
            if (recorded && !r)
                good(record_end(dev, &r, err));
            if (recorded)
                good(replay(dev, r, err));
            good(download(dev, seen[recorded][t], m.logits, sizeof seen[0][0], err));
            memcpy(picked[recorded][t], m.best, sizeof picked[0][0]);
        }
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_memory_equal(picked[0], picked[1], sizeof picked[0]);
    gpu->record_free(dev, r);
    gpu->record_free(dev, NULL);
    free_layer(&m);
}

/* Experts that come and go between runs of one recording. */
static void tables_follow_their_version(void **state)
{
    (void)state;
    struct experts *m = make_experts();
    struct lade_recording *r;
    struct lade_moe op = moe_of(m, 1);
    good(moe(dev, &op, err)); /* takes work space, which a recording cannot */
    float none[WIDE], one[WIDE], both[WIDE], apart[WIDE], zeros[WIDE] = {0};
    good(table(dev, m->table, EXPERTS, 1, err));
    good(record_begin(dev, err));
    good(zero(dev, m->y, sizeof none, err));
    good(moe(dev, &op, err));
    good(record_end(dev, &r, err));
    good(replay(dev, r, err));
    good(download(dev, none, m->y, sizeof none, err));
    assert_memory_equal(none, zeros, sizeof zeros);
    m->table[1] = m->all[1];
    good(table(dev, m->table, EXPERTS, 2, err));
    good(replay(dev, r, err));
    good(download(dev, one, m->y, sizeof one, err));
    m->table[4] = m->all[4];
    good(table(dev, m->table, EXPERTS, 3, err));
    good(replay(dev, r, err));
    good(download(dev, both, m->y, sizeof both, err));
    m->table[1].gate.data = NULL;
    op = moe_of(m, 4);
    good(zero(dev, m->y, sizeof none, err));
    good(moe(dev, &op, err));
    good(download(dev, apart, m->y, sizeof apart, err));
    for (int i = 0; i < WIDE; i++) {
        assert_true(one[i] != 0 && apart[i] != 0);
        assert_true(fabsf(one[i] + apart[i] - both[i]) <=
                    1e-5f * (fabsf(one[i]) + fabsf(apart[i])));
    }
    gpu->record_free(dev, r);
    free_experts(m);
}

/* Norm, projections, router: what a layer has before its experts. All is float but the weights. */
enum { BLOCK_DIM = 64, BLOCK_ROWS = 48, BLOCK_EXPERTS = 24, BLOCK_USED = 3 };

struct block {
    struct test_matrix tq, tr;
    struct lade_matrix q, r;
    float *begin, *x, *add, *norm, *h, *y, *logits, *weights, *ids;
};

static struct block make_block(void)
{
    struct block b = {.tq = random_matrix(LADE_Q8, BLOCK_ROWS, BLOCK_DIM, 32, false),
                      .tr = random_matrix(LADE_BF16, BLOCK_EXPERTS, BLOCK_DIM, 0, false)};
    float *x = random_floats(3 * BLOCK_DIM, 1);
    b.q = place(&b.tq);
    b.r = place(&b.tr);
    b.begin = device_floats(x, BLOCK_DIM);
    b.add = device_floats(x + BLOCK_DIM, BLOCK_DIM);
    b.norm = device_floats(x + 2 * BLOCK_DIM, BLOCK_DIM);
    b.x = device_floats(NULL, BLOCK_DIM);
    b.h = device_floats(NULL, BLOCK_DIM);
    b.y = device_floats(NULL, BLOCK_ROWS);
    b.logits = device_floats(NULL, BLOCK_EXPERTS);
    b.weights = device_floats(NULL, BLOCK_USED);
    b.ids = device_floats(NULL, BLOCK_USED);
    guard_free(x);
    return b;
}

static void run_block(const struct block *b)
{
    struct lade_matmul job = {b->y, b->h, &b->q};
    struct lade_project project = {.n = 1,
                                   .dim = BLOCK_DIM,
                                   .x = b->x,
                                   .norm = b->norm,
                                   .eps = 1e-6f,
                                   .h = b->h,
                                   .jobs = &job,
                                   .n_jobs = 1};
    struct lade_router router = {.n = 1,
                                 .dim = BLOCK_DIM,
                                 .x = b->x,
                                 .add = b->add,
                                 .norm = b->norm,
                                 .eps = 1e-6f,
                                 .h = b->h,
                                 .w = &b->r,
                                 .logits = b->logits,
                                 .route = {.experts = BLOCK_EXPERTS,
                                           .k = BLOCK_USED,
                                           .renormalize = true,
                                           .ids = (int32_t *)b->ids,
                                           .weights = b->weights}};
    good(copy(dev, b->x, b->begin, BLOCK_DIM * sizeof(float), err));
    good(project(dev, &project, err));
    good(router(dev, &router, err));
}

static void free_block(struct block *b)
{
    void *all[] = {b->begin,
                   b->x,
                   b->add,
                   b->norm,
                   b->h,
                   b->y,
                   b->logits,
                   b->weights,
                   b->ids,
                   (void *)b->q.data,
                   (void *)b->r.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        gpu->free(dev, all[i]);
    free_matrix(&b->tq);
    free_matrix(&b->tr);
}

/* Replayed, they give the same bits as op by op, every time. */
static void fused_ops_are_replayed(void **state)
{
    (void)state;
    struct block b = make_block();
    struct {
        float *at;
        size_t n;
        float want[BLOCK_DIM];
    } out[] = {{b.x, BLOCK_DIM, {0}},        {b.h, BLOCK_DIM, {0}},
               {b.y, BLOCK_ROWS, {0}},       {b.logits, BLOCK_EXPERTS, {0}},
               {b.weights, BLOCK_USED, {0}}, {b.ids, BLOCK_USED, {0}}};
    const size_t n_out = sizeof out / sizeof *out;
    struct lade_recording *r;
    run_block(&b);
    for (size_t i = 0; i < n_out; i++)
        good(download(dev, out[i].want, out[i].at, out[i].n * sizeof(float), err));
    good(record_begin(dev, err));
    run_block(&b);
    good(record_end(dev, &r, err));
    for (int again = 0; again < 3; again++) {
        for (size_t i = 0; i < n_out; i++)
            good(zero(dev, out[i].at, out[i].n * sizeof(float), err));
        good(replay(dev, r, err));
        for (size_t i = 0; i < n_out; i++)
            assert_floats(out[i].at, out[i].want, out[i].n);
    }
    gpu->record_free(dev, r);
    free_block(&b);
}

/* One launch for a norm and its products, one from a mixer's output to the routes. */
static void launches_are_few(void **state)
{
    const struct lade_emulator_knobs *knobs =
        test_plugin_symbol(plugin_path(*state), "lade_emulator");
    if (!knobs)
        skip(); /* only the emulator counts */
    struct block b = make_block();
    good(sync(dev, err));
    const unsigned long before = knobs->launches;
    run_block(&b);
    good(sync(dev, err));
    assert_int_equal(knobs->launches - before, 2);
    free_block(&b);
}

/* With room for two tables, a third one takes the place of the one used longest ago, and no memory. */
static void tables_make_room(void **state)
{
    (void)state;
    struct lade_limits limits = {.batch = 1,
                                 .hidden = WIDE,
                                 .experts = EXPERTS,
                                 .experts_used = USED,
                                 .expert_rows = FF,
                                 .tables = 2};
    struct experts *m = make_experts();
    struct lade_expert other[2][EXPERTS];
    struct lade_device_memory before, after;
    float want[WIDE], have[WIDE];
    good(prepare(dev, &limits, err));
    good(memory(dev, &before, err));
    memcpy(m->table, m->all, sizeof m->table);
    for (int i = 0; i < 2; i++)
        memcpy(other[i], m->table, sizeof m->table);
    for (int round = 0; round < 3; round++) {
        struct lade_moe op = moe_of(m, (uint64_t)round + 1);
        op.experts = round ? other[round - 1] : m->table;
        good(zero(dev, m->y, sizeof want, err));
        good(moe(dev, &op, err));
        good(download(dev, have, m->y, sizeof have, err));
        if (!round)
            memcpy(want, have, sizeof want);
        assert_memory_equal(want, have, sizeof want);
    }
    good(memory(dev, &after, err));
    assert_int_equal(after.used, before.used);
    free_experts(m);
}

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_GPU(recordings_read_what_changes),
        EACH_GPU(tables_follow_their_version),
        EACH_GPU(tables_make_room),
        EACH_GPU(fused_ops_are_replayed),
        ON_CUDA(launches_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
