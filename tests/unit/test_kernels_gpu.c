/* What a GPU adds to the ops: its own memory under a cap, queues and fences. */
#include "gpu_common.h"

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

static size_t used_by(struct lade_device *other)
{
    struct lade_device_memory m;
    good(memory(other, &m, err));
    return m.used - m.fixed;
}

/* What is free of the reserve goes back at once, the rest when it is freed; more is there or fails. */
static void reserve_changes(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, PIECES = 6, PIECE = 10 * MIB };
    struct lade_device *other;
    struct lade_device_memory m;
    struct lade_device_config cfg = {
        .threads = 1, .memory_cap = (size_t)800 << 20, .reserve = (size_t)64 << 20};
    void *p[PIECES], *large;
    good(open(&other, &cfg, err));
    for (int i = 0; i < PIECES; i++)
        good(alloc(other, &p[i], PIECE, err));
    assert_int_equal(used_by(other), 64 * MIB);
    good(reserve(other, 20 * MIB, err));
    assert_in_range(used_by(other), PIECES * PIECE, PIECES * PIECE + 2 * MIB);
    for (int i = 1; i < PIECES; i += 2) /* holes, of whole pages and not */
        gpu->free(other, p[i]);
    assert_in_range(used_by(other), 30 * MIB, 36 * MIB);
    bad("GPU", reserve(other, (size_t)800 << 20, err));
    bad("", reserve(other, SIZE_MAX - 3, err));
    assert_in_range(used_by(other), 30 * MIB, 36 * MIB);
    good(reserve(other, 64 * MIB, err));
    good(alloc(other, &large, 25 * MIB, err)); /* in no hole */
    assert_int_equal(used_by(other), 64 * MIB);
    float *all = random_floats(25 * MIB / 4, 1), *back = poison(25 * MIB / 4);
    good(upload(other, large, all, 25 * MIB, err));
    good(download(other, back, large, 25 * MIB, err));
    assert_memory_equal(all, back, 25 * MIB);
    guard_free(all);
    guard_free(back);
    good(memory(other, &m, err));
    assert_true(m.peak <= m.cap);
    gpu->free(other, large);
    for (int i = 0; i < PIECES; i += 2)
        gpu->free(other, p[i]);
    good(reserve(other, 256, err));
    assert_in_range(used_by(other), 256, 2 * MIB);
    good(alloc(other, &large, 8 * MIB, err)); /* beyond it */
    assert_in_range(used_by(other), 8 * MIB, 12 * MIB);
    gpu->free(other, large);
    assert_in_range(used_by(other), 256, 2 * MIB);
    gpu->close(other);
    good(reserve(dev, 64 * MIB, err)); /* opened without: nothing happens */
    assert_int_equal(used_by(dev), 0);
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

/* The largest work of some limits. Zeros are as good as anything: at[] are arrays of them, `routes` is one;
 * NULL: products alone. */
enum {
    W_N = 70,
    W_DIM = 64,
    W_EXPERTS = 6,
    W_K = 2,
    W_HEADS = 4,
    W_HEAD = 16,
    W_POSITIONS = 80,
    W_VOCAB = 3000
};
static const struct lade_limits largest = {.batch = W_N,
                                           .context = W_POSITIONS,
                                           .hidden = W_DIM,
                                           .widest = 2 * W_HEADS * W_HEAD,
                                           .vocab = W_VOCAB,
                                           .heads = W_HEADS,
                                           .kv_heads = 2,
                                           .head_dim = W_HEAD,
                                           .key_heads = 2,
                                           .value_heads = 4,
                                           .key_dim = W_HEAD,
                                           .value_dim = W_HEAD,
                                           .kernel = 4,
                                           .experts = W_EXPERTS,
                                           .experts_used = W_K,
                                           .expert_rows = W_DIM,
                                           .tables = 1};

static void run_mixers(struct lade_device *d, float *at[16], int n)
{
    struct lade_attention a = {.n = n,
                               .pos = W_POSITIONS - n,
                               .heads = W_HEADS,
                               .kv_heads = 2,
                               .head_dim = W_HEAD,
                               .rotary_dim = W_HEAD,
                               .q = at[1],
                               .k = at[2],
                               .v = at[3],
                               .q_norm = at[4],
                               .k_norm = at[4],
                               .eps = 1,
                               .inv_freq = at[5],
                               .rope_scale = 1,
                               .cache_type = LADE_F16,
                               .k_cache = at[6],
                               .v_cache = at[7],
                               .capacity = W_POSITIONS,
                               .out = at[8]};
    struct lade_deltanet delta = {.n = n,
                                  .key_heads = 2,
                                  .value_heads = 4,
                                  .key_dim = W_HEAD,
                                  .value_dim = W_HEAD,
                                  .kernel = 4,
                                  .qkvz = at[1],
                                  .ba = at[2],
                                  .conv = at[3],
                                  .decay = at[4],
                                  .dt_bias = at[4],
                                  .norm = at[5],
                                  .eps = 1,
                                  .conv_state = at[6],
                                  .state = at[7],
                                  .out = at[8]};
    good(attention(d, &a, err));
    good(deltanet(d, &delta, err));
}

static void run_products(struct lade_device *d, float *at[16], int n, const int32_t *routes)
{
    const struct lade_matrix w = {.type = LADE_F32, .rows = W_DIM, .cols = W_DIM, .data = at[0]};
    struct lade_expert table[W_EXPERTS];
    struct lade_matmul jobs[3];
    const int32_t ids[W_N] = {0};
    for (int i = 0; i < W_EXPERTS; i++)
        table[i] = (struct lade_expert){w, w, w};
    for (int i = 0; i < 3; i++) /* of different inputs */
        jobs[i] = (struct lade_matmul){at[4 + i], at[1 + i], &w};
    struct lade_moe m = {.n = n,
                         .dim = W_DIM,
                         .k = W_K,
                         .n_experts = W_EXPERTS,
                         .x = at[1],
                         .ids = routes,
                         .weights = at[2],
                         .experts = table,
                         .version = (uint64_t)n,
                         .shared = &table[0],
                         .y = at[9]};
    struct lade_topk t = {W_VOCAB, LADE_TOPK_MAX, at[1], at[2], (int32_t *)(void *)at[3]};
    good(matmul(d, jobs, 3, n, err));
    if (!routes)
        return;
    good(embed(d, at[8], &w, ids, n, err));
    good(moe(d, &m, err));
    good(topk(d, &t, err));
}

/* What was prepared for takes no memory more. */
static void work_space_is_enough(void **state)
{
    (void)state;
    const struct lade_device_config fast = {.memory_cap = (size_t)1 << 30};
    struct lade_device *d;
    struct lade_device_memory before, after;
    float *at[16];
    void *routes;
    good(open(&d, &fast, err)); /* not exact: products of many tokens in f16 */
    for (int i = 0; i < 16; i++)
        good(alloc(d, (void **)&at[i], (size_t)W_N * 4 * W_HEADS * W_HEAD * sizeof(float), err));
    good(alloc(d, &routes, (size_t)W_N * W_K * sizeof(int32_t), err));
    good(prepare(d, &largest, err));
    good(memory(d, &before, err));
    for (int n = 1; n <= W_N; n += W_N - 1) {
        run_mixers(d, at, n);
        run_products(d, at, n, routes);
    }
    good(sync(d, err));
    good(memory(d, &after, err));
    assert_int_equal(after.used, before.used);
    good(prepare(d, &(struct lade_limits){.batch = W_N, .widest = W_DIM}, err));
    good(memory(d, &before, err));
    run_products(d, at, W_N, NULL);
    good(sync(d, err));
    good(memory(d, &after, err));
    assert_int_equal(after.used, before.used);
    gpu->close(d);
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

/* Memory that its owner has pinned: uploads read it when their turn comes, and it is as it was after. */
static void uploads_from_pinned_memory(void **state)
{
    (void)state;
    enum { N = 2048, BYTES = N * sizeof(float) };
    float *want = random_floats(N, 1), *host = aligned_alloc(4096, BYTES);
    void *p = device_floats(NULL, N), *q = device_floats(NULL, N);
    lade_fence up, before;
    assert_non_null(host);
    for (int round = 0; round < 2; round++) {
        memset(host, 0xff, BYTES);
        good(pin(dev, host, BYTES, err));
        memcpy(host, want, BYTES);
        good(add(dev, q, p, N, err));
        good(mark(dev, &before, err));
        good(upload_async(dev, p, host + N / 2, BYTES / 2, before, NULL, err));
        good(upload_async(dev, (float *)p + N / 2, host, BYTES / 2, before, &up, err));
        good(wait(dev, up, err));
        good(copy(dev, q, (float *)p + N / 2, BYTES / 2, err));
        good(copy(dev, (float *)q + N / 2, p, BYTES / 2, err));
        assert_floats(q, want, N);
        gpu->unpin(dev, host);
        memset(host, 0, BYTES); /* the owner's alone again */
        assert_floats(q, want, N);
        good(zero(dev, p, BYTES, err));
        good(zero(dev, q, BYTES, err));
    }
    good(sync(dev, err));
    free(host);
    guard_free(want);
    gpu->free(dev, p);
    gpu->free(dev, q);
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

int main(int argc, char **argv)
{
    rng_start(argc, argv);
    const struct CMUnitTest tests[] = {
        EACH_GPU(lists_and_describes),
        EACH_GPU(memory_is_counted),
        EACH_GPU(reserve_is_taken_at_once),
        EACH_GPU(reserve_changes),
        EACH_GPU(work_space_is_taken_once),
        EACH_GPU(work_space_is_enough),
        EACH_GPU(copies_in_order),
        EACH_GPU(uploads_beside_compute),
        EACH_GPU(uploads_from_ordinary_memory),
        EACH_GPU(uploads_from_pinned_memory),
        EACH_GPU(ops_on_host_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
