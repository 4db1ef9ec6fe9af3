/* What a GPU adds to the ops: its own memory under a cap, queues and fences, recordings, tables
 * of experts; and how the simulated GPU finds the mistakes it is there for. */
#include "kernels_common.h"

#include "tests/support/sim_gpu/sim_gpu.h"

static char err[LADE_ERR];
static const struct lade_ops *gpu;
static struct lade_device *dev;

#define good(call) assert_int_equal(gpu->call, 0)
#define bad(why, call)                                                                             \
    do {                                                                                           \
        err[0] = '\0';                                                                             \
        assert_int_equal(gpu->call, -1);                                                           \
        if (!strstr(err, why))                                                                     \
            fail_msg("'%s' does not say '%s'", err, why);                                          \
    } while (0)

static struct lade_sim *sim(void)
{
    struct lade_sim *s = test_plugin_symbol(test_plugin_path("lade-sim.so"), "lade_sim");
    assert_non_null(s);
    return s;
}

static int start(void **state)
{
    rng_restart(state);
    gpu = lade_plugin_open(plugin_path(*state), err);
    if (!gpu)
        fail_msg("%s", err);
    struct lade_device_config cfg = {.threads = 2, .exact = true, .memory_cap = (size_t)1 << 30};
    good(open(&dev, &cfg, err));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    gpu->close(dev);
    dev = NULL;
    return 0;
}

static void *device_floats(const float *host, size_t n)
{
    void *p;
    good(alloc(dev, &p, n * sizeof *host, err));
    if (host)
        good(upload(dev, p, host, n * sizeof *host, err));
    return p;
}

static void assert_floats(const void *at, const float *want, size_t n)
{
    float *have = poison(n);
    good(download(dev, have, at, n * sizeof *have, err));
    assert_memory_equal(have, want, n * sizeof *have);
    guard_free(have);
}

/* ---- every GPU ---- */

static void lists_and_describes(void **state)
{
    (void)state;
    struct lade_gpu gpus[4];
    int n = 0;
    good(list(gpus, 4, &n, err));
    assert_true(n >= 1);
    assert_true(strlen(gpus[0].name) > 0);
    assert_true(gpus[0].total >= gpus[0].free && gpus[0].free > 0);
    assert_true(strlen(gpu->describe(dev)) > 0);
    struct lade_device_config cfg = {.gpu = n};
    struct lade_device *none = dev;
    bad("GPU", open(&none, &cfg, err));
    assert_null(none);
}

static void memory_is_counted(void **state)
{
    (void)state;
    struct lade_device_memory before, with, after;
    void *p, *q;
    good(memory(dev, &before, err));
    assert_int_equal(before.cap, (size_t)1 << 30);
    assert_true(before.used == before.fixed && before.used > 0 && before.used < before.cap);
    good(alloc(dev, &p, 100 << 20, err));
    assert_int_equal((uintptr_t)p % 256, 0);
    good(memory(dev, &with, err));
    assert_in_range(with.used - before.used, 100 << 20, 102 << 20);
    bad("GPU", alloc(dev, &q, (size_t)1 << 30, err));
    assert_null(q);
    assert_null(strchr(err, '\n'));
    bad("", alloc(dev, &q, SIZE_MAX - 10, err));
    gpu->free(dev, p);
    gpu->free(dev, NULL);
    good(memory(dev, &after, err));
    assert_int_equal(after.used, before.used);
    assert_true(after.peak >= with.used && after.peak <= after.cap);
}

static void reserve_is_taken_at_once(void **state)
{
    (void)state;
    struct lade_device *other;
    struct lade_device_memory m;
    struct lade_device_config cfg = {
        .threads = 1, .memory_cap = (size_t)700 << 20, .reserve = (size_t)300 << 20};
    good(open(&other, &cfg, err));
    good(memory(other, &m, err));
    assert_int_equal(m.used, m.fixed + ((size_t)300 << 20));
    void *p[3];
    for (int i = 0; i < 3; i++)
        good(alloc(other, &p[i], 90 << 20, err));
    struct lade_device_memory then;
    good(memory(other, &then, err));
    assert_int_equal(then.used, m.used);
    for (int i = 0; i < 3; i++)
        gpu->free(other, p[i]);
    gpu->close(other);
    cfg.reserve = (size_t)700 << 20;
    bad("", open(&other, &cfg, err));
    assert_null(other);
    gpu->close(NULL);
}

static void work_space_is_taken_once(void **state)
{
    (void)state;
    struct lade_limits limits = {.batch = 64,
                                 .context = 512,
                                 .hidden = 64,
                                 .widest = 256,
                                 .vocab = 1000,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 16,
                                 .key_heads = 2,
                                 .value_heads = 4,
                                 .key_dim = 16,
                                 .value_dim = 16,
                                 .kernel = 4,
                                 .experts = 16,
                                 .experts_used = 4,
                                 .expert_rows = 32};
    struct lade_device_memory before, with;
    good(memory(dev, &before, err));
    good(prepare(dev, &limits, err));
    good(memory(dev, &with, err));
    assert_true(with.used > before.used);
    assert_true(with.used - before.used <= gpu->workspace(&limits));
    limits.batch = 32; /* takes less, gives the rest back */
    good(prepare(dev, &limits, err));
    assert_true(gpu->workspace(&limits) > 0);
    good(memory(dev, &before, err));
    assert_true(before.used <= with.used);
}

static void copies_in_order(void **state)
{
    (void)state;
    enum { N = 40000 };
    float *a = random_floats(N, 1), *zeros = calloc(N, sizeof *zeros);
    assert_non_null(zeros);
    float *p = device_floats(a, N), *q = device_floats(NULL, N);
    assert_floats(q, zeros, N);
    good(copy(dev, q + 100, p, (N - 100) * sizeof *a, err));
    good(zero(dev, p, N * sizeof *a, err));
    assert_floats(q + 100, a, N - 100);
    assert_floats(p, zeros, N);
    for (int i = 0; i < 100; i++) { /* small uploads keep what was there when they were called */
        a[0] = (float)i;
        good(upload(dev, p + i, a, sizeof *a, err));
    }
    for (int i = 0; i < 100; i++)
        a[i] = (float)i;
    assert_floats(p, a, 100);
    gpu->free(dev, p);
    gpu->free(dev, q);
    guard_free(a);
    free(zeros);
}

static void wait_until(lade_fence fence)
{
    bool yes = false;
    while (!yes)
        good(reached(dev, fence, &yes, err));
}

/* Two staging buffers, as a mover of experts has them: each upload waits until compute is done
 * with the slot it fills, compute waits for the upload, the host for its buffer. */
static void uploads_beside_compute(void **state)
{
    (void)state;
    enum { N = 5000, SLOTS = 2, ROUNDS = 9 };
    float *stage[SLOTS], *sum = device_floats(NULL, N), want[N] = {0};
    void *slot[SLOTS];
    lade_fence filled[SLOTS] = {0}, used[SLOTS] = {0};
    for (int i = 0; i < SLOTS; i++) {
        good(host_alloc(dev, (void **)&stage[i], N * sizeof(float), err));
        assert_int_equal((uintptr_t)stage[i] % 4096, 0);
        assert_true(stage[i][0] == 0 && stage[i][N - 1] == 0);
        slot[i] = device_floats(NULL, N);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int i = round % SLOTS;
        wait_until(filled[i]);
        for (int j = 0; j < N; j++) {
            stage[i][j] = (float)(round * 10 + j % 7);
            want[j] += stage[i][j];
        }
        good(upload_async(dev, slot[i], stage[i], N * sizeof(float), used[i], &filled[i], err));
        good(wait(dev, filled[i], err));
        good(add(dev, sum, slot[i], N, err));
        good(mark(dev, &used[i], err));
    }
    assert_floats(sum, want, N);
    lade_fence summed, down;
    good(mark(dev, &summed, err));
    good(download_async(dev, stage[0], sum, N * sizeof(float), summed, &down, err));
    good(finish(dev, down, err));
    assert_memory_equal(stage[0], want, sizeof want);
    good(finish(dev, 0, err));
    good(sync(dev, err));
    for (int i = 0; i < SLOTS; i++) {
        gpu->host_free(dev, stage[i]);
        gpu->free(dev, slot[i]);
    }
    gpu->free(dev, sum);
}

/* Ordinary memory may be given too; the call then waits. */
static void uploads_from_ordinary_memory(void **state)
{
    (void)state;
    enum { N = 3000 };
    float *a = random_floats(N, 1), *b = poison(N);
    void *p = device_floats(NULL, N);
    lade_fence up, down;
    good(sync(dev, err));
    good(upload_async(dev, p, a, N * sizeof *a, 0, &up, err));
    good(download_async(dev, b, p, N * sizeof *a, up, &down, err));
    good(finish(dev, down, err));
    assert_memory_equal(a, b, N * sizeof *a);
    gpu->free(dev, p);
    guard_free(a);
    guard_free(b);
}

/* Ops take memory of host_alloc() as their operands, in and out. */
static void ops_on_host_memory(void **state)
{
    (void)state;
    enum { N = 300 };
    float *x, *y;
    good(host_alloc(dev, (void **)&x, N * sizeof *x, err));
    good(host_alloc(dev, (void **)&y, N * sizeof *y, err));
    for (int i = 0; i < N; i++)
        x[i] = (float)i, y[i] = 1;
    lade_fence done;
    good(add(dev, y, x, N, err));
    good(mark(dev, &done, err));
    good(finish(dev, done, err));
    for (int i = 0; i < N; i++)
        assert_true(y[i] == (float)(i + 1));
    gpu->host_free(dev, x);
    gpu->host_free(dev, y);
}

static struct lade_matrix place(const struct test_matrix *t)
{
    struct lade_matrix m = t->m;
    struct lade_matrix_layout l;
    void *p;
    assert_int_equal(lade_matrix_layout(&m, &l), 0);
    good(alloc(dev, &p, l.bytes, err));
    good(upload(dev, p, m.data, l.bytes, err));
    m.data = p;
    return m;
}

/* One token of a model of one layer, recorded once; id and position come from the host's memory
 * each time it is replayed. */
static void recordings_read_what_changes(void **state)
{
    (void)state;
    enum { VOCAB = 50, DIM = 32, HEADS = 2, KV = 1, HEAD = 16, STEPS = 12, TOP = 5 };
    struct test_matrix te = random_matrix(LADE_F32, VOCAB, DIM, 0, false),
                       tq = random_matrix(LADE_Q4, HEADS * 2 * HEAD, DIM, 32, false),
                       tk = random_matrix(LADE_Q8, KV * HEAD, DIM, 32, true),
                       tv = random_matrix(LADE_F16, KV * HEAD, DIM, 0, false),
                       to = random_matrix(LADE_BF16, VOCAB, HEADS * HEAD, 0, false);
    struct lade_matrix e = place(&te), q = place(&tq), k = place(&tk), v = place(&tv),
                       o = place(&to);
    float *ones = random_floats(DIM, 1), freq[4] = {1, 0.1f, 0.01f, 0.001f};
    for (int i = 0; i < DIM; i++)
        ones[i] = 1;
    float *w = device_floats(ones, DIM), *inv_freq = device_floats(freq, 4);
    float *x = device_floats(NULL, DIM), *h = device_floats(NULL, DIM),
          *qd = device_floats(NULL, HEADS * 2 * HEAD), *kd = device_floats(NULL, KV * HEAD),
          *vd = device_floats(NULL, KV * HEAD), *mixed = device_floats(NULL, HEADS * HEAD),
          *logits = device_floats(NULL, VOCAB), *k_cache = device_floats(NULL, KV * STEPS * HEAD),
          *v_cache = device_floats(NULL, KV * STEPS * HEAD), *values = device_floats(NULL, TOP);
    int32_t *told, *at, *best;
    good(host_alloc(dev, (void **)&told, 2 * sizeof *told, err));
    good(host_alloc(dev, (void **)&best, TOP * sizeof *best, err));
    good(alloc(dev, (void **)&at, 2 * sizeof *at, err));

    struct lade_matmul in[] = {{qd, h, &q}, {kd, h, &k}, {vd, h, &v}}, head = {logits, mixed, &o};
    struct lade_attention a = {.n = 1,
                               .pos = STEPS - 1,
                               .pos_at = at + 1,
                               .heads = HEADS,
                               .kv_heads = KV,
                               .head_dim = HEAD,
                               .rotary_dim = 8,
                               .q = qd,
                               .k = kd,
                               .v = vd,
                               .q_norm = w,
                               .k_norm = w,
                               .eps = 1e-6f,
                               .inv_freq = inv_freq,
                               .rope_scale = 1,
                               .cache_type = LADE_F32,
                               .k_cache = k_cache,
                               .v_cache = v_cache,
                               .capacity = STEPS,
                               .out = mixed};
    struct lade_topk top = {.n = VOCAB, .k = TOP, .logits = logits, .values = values, .ids = best};
    float seen[2][STEPS][VOCAB];
    int32_t picked[2][STEPS][TOP];
    struct lade_recording *r = NULL;
    for (int recorded = 0; recorded < 2; recorded++) {
        good(zero(dev, k_cache, KV * STEPS * HEAD * sizeof(float), err));
        good(zero(dev, v_cache, KV * STEPS * HEAD * sizeof(float), err));
        for (int t = 0; t < STEPS; t++) {
            told[0] = (t * 7 + 3) % VOCAB;
            told[1] = t;
            if (recorded && !r)
                good(record_begin(dev, err));
            if (!r) {
                good(copy(dev, at, told, 2 * sizeof *at, err));
                good(embed_at(dev, x, &e, at, 1, err));
                good(rmsnorm(dev, h, x, NULL, w, 1, DIM, 1e-6f, err));
                good(matmul(dev, in, 3, 1, err));
                good(attention(dev, &a, err));
                good(matmul(dev, &head, 1, 1, err));
                good(topk(dev, &top, err));
            }
            if (recorded && !r)
                good(record_end(dev, &r, err));
            if (recorded)
                good(replay(dev, r, err));
            good(download(dev, seen[recorded][t], logits, sizeof seen[0][0], err));
            memcpy(picked[recorded][t], best, sizeof picked[0][0]);
        }
    }
    assert_memory_equal(seen[0], seen[1], sizeof seen[0]);
    assert_memory_equal(picked[0], picked[1], sizeof picked[0]);
    gpu->record_free(dev, r);
    gpu->record_free(dev, NULL);
    void *all[] = {w,
                   inv_freq,
                   x,
                   h,
                   qd,
                   kd,
                   vd,
                   mixed,
                   logits,
                   k_cache,
                   v_cache,
                   values,
                   at,
                   (void *)e.data,
                   (void *)q.data,
                   (void *)k.data,
                   (void *)v.data,
                   (void *)o.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        gpu->free(dev, all[i]);
    gpu->host_free(dev, told);
    gpu->host_free(dev, best);
    guard_free(ones);
    free_matrix(&te), free_matrix(&tq), free_matrix(&tk), free_matrix(&tv), free_matrix(&to);
}

enum { EXPERTS = 6, USED = 2, WIDE = 32, FF = 16 };

struct experts {
    struct test_matrix t[3 * EXPERTS];
    struct lade_expert all[EXPERTS], table[EXPERTS];
    float *x, *y, *weights;
    int32_t *ids;
};

static struct experts *make_experts(void)
{
    struct experts *m = calloc(1, sizeof *m);
    assert_non_null(m);
    for (int e = 0; e < EXPERTS; e++) {
        struct test_matrix *t = &m->t[3 * e];
        t[0] = random_matrix(LADE_Q4, FF, WIDE, 32, false);
        t[1] = random_matrix(LADE_Q4, FF, WIDE, 32, false);
        t[2] = random_matrix(LADE_Q4, WIDE, FF, 16, false);
        m->all[e] = (struct lade_expert){place(&t[0]), place(&t[1]), place(&t[2])};
        m->table[e] = m->all[e];
        m->table[e].gate.data = m->table[e].up.data = m->table[e].down.data = NULL;
    }
    float *x = random_floats(WIDE, 1), weights[USED] = {0.75f, 0.25f};
    int32_t ids[USED] = {1, 4};
    m->x = device_floats(x, WIDE);
    m->y = device_floats(NULL, WIDE);
    m->weights = device_floats(weights, USED);
    m->ids = device_floats((float *)ids, USED);
    guard_free(x);
    return m;
}

static void free_experts(struct experts *m)
{
    for (int e = 0; e < EXPERTS; e++) {
        gpu->free(dev, (void *)m->all[e].gate.data);
        gpu->free(dev, (void *)m->all[e].up.data);
        gpu->free(dev, (void *)m->all[e].down.data);
    }
    for (int i = 0; i < 3 * EXPERTS; i++)
        free_matrix(&m->t[i]);
    gpu->free(dev, m->x);
    gpu->free(dev, m->y);
    gpu->free(dev, m->weights);
    gpu->free(dev, m->ids);
    free(m);
}

static struct lade_moe moe_of(const struct experts *m, uint64_t version)
{
    return (struct lade_moe){.n = 1,
                             .dim = WIDE,
                             .k = USED,
                             .n_experts = EXPERTS,
                             .x = m->x,
                             .ids = m->ids,
                             .weights = m->weights,
                             .experts = m->table,
                             .version = version,
                             .y = m->y};
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

/* ---- what only the simulated GPU says ---- */

static void host_memory_is_refused(void **state)
{
    (void)state;
    float host[4] = {0}, *p = device_floats(NULL, 4), *q = device_floats(NULL, 4);
    bad("no memory of the device", add(dev, p, host, 4, err));
    bad("no memory of the device", zero(dev, host, 4, err));
    bad("as memory of the host", upload(dev, p, q, 4, err));
    bad("uses 20 bytes", add(dev, p, q, 5, err));
    bad("uses 16 bytes", zero(dev, p + 1, 16, err));
    gpu->free(dev, q);
    bad("no memory of the device", add(dev, p, q, 4, err));
    gpu->free(dev, p);
}

static void races_are_found(void **state)
{
    (void)state;
    enum { N = 64, BYTES = N * sizeof(float) };
    float *stage, *p = device_floats(NULL, N), *sum = device_floats(NULL, N);
    lade_fence used, filled;
    good(host_alloc(dev, (void **)&stage, BYTES, err));
    good(sync(dev, err));
    good(add(dev, sum, p, N, err));
    bad("race: upload_async and add", upload_async(dev, p, stage, BYTES, 0, &filled, err));
    good(mark(dev, &used, err));
    good(upload_async(dev, p, stage, BYTES, used, &filled, err));
    bad("race: add and upload_async", add(dev, sum, p, N, err));
    bad("race: download_async", download_async(dev, stage, sum, BYTES, used, NULL, err));
    good(wait(dev, filled, err));
    good(add(dev, sum, p, N, err));
    good(sync(dev, err));
    gpu->free(dev, p);
    gpu->free(dev, sum);
    gpu->host_free(dev, stage);
}

static void results_are_late(void **state)
{
    (void)state;
    float *y, *x = device_floats((float[]){5}, 1);
    lade_fence done;
    good(host_alloc(dev, (void **)&y, sizeof *y, err));
    good(add(dev, y, x, 1, err));
    good(mark(dev, &done, err));
    assert_true(*y == 0);
    good(finish(dev, done, err));
    assert_true(*y == 5);
    gpu->host_free(dev, y);
    gpu->free(dev, x);
}

static void stale_tables_are_found(void **state)
{
    (void)state;
    struct experts *m = make_experts();
    struct lade_moe op = moe_of(m, 7);
    good(moe(dev, &op, err));
    m->table[1] = m->all[1];
    bad("version 7 did not", moe(dev, &op, err));
    good(record_begin(dev, err));
    op.version = 8;
    bad("changes in a recording", moe(dev, &op, err));
    struct lade_recording *r;
    good(record_end(dev, &r, err));
    gpu->record_free(dev, r);
    good(sync(dev, err));
    free_experts(m);
}

static void positions_have_a_bound(void **state)
{
    (void)state;
    int32_t *at;
    float *q = device_floats(NULL, 16);
    good(host_alloc(dev, (void **)&at, sizeof *at, err));
    *at = 3;
    float *k = device_floats(NULL, 8), *v = device_floats(NULL, 8), *w = device_floats(NULL, 8);
    float *kc = device_floats(NULL, 32), *vc = device_floats(NULL, 32),
          *out = device_floats(NULL, 8);
    struct lade_attention a = {.n = 1,
                               .pos = 2,
                               .pos_at = at,
                               .heads = 1,
                               .kv_heads = 1,
                               .head_dim = 8,
                               .q = q,
                               .k = k,
                               .v = v,
                               .q_norm = w,
                               .k_norm = w,
                               .inv_freq = w,
                               .rope_scale = 1,
                               .cache_type = LADE_F32,
                               .k_cache = kc,
                               .v_cache = vc,
                               .capacity = 4,
                               .out = out};
    good(attention(dev, &a, err));
    bad("above the largest", sync(dev, err));
    bad("above the largest", add(dev, q, k, 1, err)); /* the error stays */
}

static void link_time_is_modelled(void **state)
{
    (void)state;
    enum { BYTES = 10 << 20 };
    struct lade_sim *s = sim();
    double before = s->seconds, rate = s->link_rate;
    uint64_t moved = s->upload_bytes;
    s->link_rate = 1e9;
    void *stage, *p;
    lade_fence filled;
    good(host_alloc(dev, &stage, BYTES, err));
    good(alloc(dev, &p, BYTES, err));
    good(upload_async(dev, p, stage, BYTES, 0, &filled, err));
    assert_true(s->seconds == before);
    good(finish(dev, filled, err));
    assert_int_equal(s->upload_bytes - moved, BYTES);
    assert_true(s->seconds - before > 0.0104 && s->seconds - before < 0.0106);
    s->link_rate = rate;
    gpu->free(dev, p);
    gpu->host_free(dev, stage);
}

static void a_lost_device_fails_every_call(void **state)
{
    (void)state;
    struct lade_sim *s = sim();
    float *p = device_floats(NULL, 4), *q = device_floats(NULL, 4);
    good(sync(dev, err));
    s->lost_after = s->ops + s->uploads + s->downloads + 2;
    good(add(dev, p, q, 4, err));
    good(add(dev, p, q, 4, err));
    good(add(dev, p, q, 4, err)); /* loses it: seen by the next call */
    s->lost_after = 0;
    bad("was lost", add(dev, p, q, 4, err));
    bad("was lost", sync(dev, err));
    float host[4];
    bad("was lost", download(dev, host, p, sizeof host, err));
}

static void without_a_driver(void **state)
{
    struct lade_sim *s = sim();
    s->devices = 0;
    err[0] = '\0';
    assert_null(lade_plugin_open(test_plugin_path(*state), err));
    assert_non_null(strstr(err, "no driver"));
    s->devices = 1;
    s->others = s->total - 1000;
    struct lade_device *none;
    struct lade_device_config cfg = {.threads = 1};
    bad("no 0.062 GiB of GPU memory for the driver", open(&none, &cfg, err));
    s->others = 0;
}

/* clang-format off */
#define ON(title, plugin, fn) {#fn " " title, fn, start, stop, (void *)plugin}
/* clang-format on */
#define ON_SIM(fn) ON("simulated GPU", "lade-sim.so", fn)
#ifdef __SANITIZE_THREAD__ /* see kernels_common.h */
#define EACH_GPU(fn) ON_SIM(fn)
#else
#define EACH_GPU(fn) ON_SIM(fn), ON("CUDA", "lade-cuda-emulated.so", fn)
#endif

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_GPU(lists_and_describes),
        EACH_GPU(memory_is_counted),
        EACH_GPU(reserve_is_taken_at_once),
        EACH_GPU(work_space_is_taken_once),
        EACH_GPU(copies_in_order),
        EACH_GPU(uploads_beside_compute),
        EACH_GPU(uploads_from_ordinary_memory),
        EACH_GPU(ops_on_host_memory),
        EACH_GPU(recordings_read_what_changes),
        EACH_GPU(tables_follow_their_version),
        ON_SIM(host_memory_is_refused),
        ON_SIM(races_are_found),
        ON_SIM(results_are_late),
        ON_SIM(stale_tables_are_found),
        ON_SIM(positions_have_a_bound),
        ON_SIM(link_time_is_modelled),
        ON_SIM(a_lost_device_fails_every_call),
        ON_SIM(without_a_driver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
