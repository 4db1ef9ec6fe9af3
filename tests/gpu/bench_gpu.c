/* bench_gpu PLUGIN [--layers N] [--experts N] [--vocab N] [--batch N] [--context N] [--once 1]
 *     [--json FILE]
 *
 * The ops of a plug-in at the shapes of Qwen3-Next-80B, int4 experts and int8 for the rest, one
 * by one and as whole tokens: eager, recorded and as prompts. Times are medians over different
 * layers' weights, so that no cache holds them; bytes are those an op must read, and beside them
 * stands the share of what the card was measured to read. Weights are random.
 *
 * Needs the kernels' library and the plug-in, nothing of the engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/blocks.h"
#include "tests/gpu/bench_model.h"

static double peak; /* bytes per second that the card reads */
static FILE *json;
static bool first_row = true;
static int once; /* not 0: everything is measured once, to see that it works */

static int times(int n)
{
    return once ? 1 : n;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- measuring ---- */

static int by_value(const void *p, const void *q)
{
    double u = *(const double *)p, v = *(const double *)q;
    return (u > v) - (u < v);
}

/* `bytes` are what one call must read or write; 0 where that is not the point. */
static void report(const char *name, int tokens, double seconds, double bytes)
{
    printf("%-30s %11.2f us", name, seconds * 1e6);
    if (bytes > 0)
        printf(" %8.0f GB/s %4.0f%%", bytes / seconds * 1e-9, 100 * bytes / seconds / peak);
    if (tokens > 0)
        printf(" %9.1f tokens/s", tokens / seconds);
    printf("\n");
    fflush(stdout);
    if (!json)
        return;
    fprintf(json,
            "%s\n  {\"op\": \"%s\", \"us\": %.3f, \"bytes\": %.0f, \"gbps\": %.1f, "
            "\"of_peak\": %.3f, \"tokens_per_s\": %.2f}",
            first_row ? "" : ",", name, seconds * 1e6, bytes, bytes / seconds * 1e-9,
            bytes / seconds / peak, tokens / seconds);
    first_row = false;
}

typedef void work_fn(struct layer *l, int n, int arg);

/* Every layer that has the op does it in turn, at most `most` times; how often. */
static int in_turn(work_fn *work, int n, int arg, int only, int most)
{
    int count = 0;
    for (int i = 0; i < layers && count < most; i++) {
        if (only >= 0 && layer[i].attention != only)
            continue;
        work(&layer[i], n, arg);
        count++;
    }
    return count;
}

/* One token's op as it is in a token: recorded and replayed. A prompt's: queued. The median of five
 * rounds after one that warms up. */
static void measure(const char *name, work_fn *work, int n, int arg, int only, double bytes)
{
    enum { ROUNDS = 5, REPLAYS = 8, PROMPTS = 4 };
    double seconds[ROUNDS];
    struct lade_recording *r = NULL;
    int count = 0;
    if (n == 1) {
        DO(record_begin(dev, err));
        count = in_turn(work, n, arg, only, layers);
        DO(record_end(dev, &r, err));
    }
    for (int round = once ? 0 : -1; round < times(ROUNDS); round++) {
        DO(sync(dev, err));
        double begin = now();
        for (int i = 0; r && i < times(REPLAYS); i++)
            DO(replay(dev, r, err));
        if (!r)
            count = in_turn(work, n, arg, only, PROMPTS);
        DO(sync(dev, err));
        if (round >= 0)
            seconds[round] = (now() - begin) / (r ? times(REPLAYS) : 1) / (count ? count : 1);
    }
    ops->record_free(dev, r);
    if (!count)
        return;
    qsort(seconds, (size_t)times(ROUNDS), sizeof *seconds, by_value);
    report(name, 0, seconds[times(ROUNDS) / 2], bytes);
}

static void w_in(struct layer *l, int n, int arg)
{
    (void)arg;
    do_in(l, n);
}
static void w_out(struct layer *l, int n, int arg)
{
    (void)arg;
    do_out(l, n);
}
static void w_mixer(struct layer *l, int n, int pos)
{
    if (l->attention)
        do_attention(l, n, pos, NULL);
    else
        do_delta(l, n);
}
static void w_router(struct layer *l, int n, int arg)
{
    (void)arg;
    do_router(l, n);
}
static void w_moe(struct layer *l, int n, int arg)
{
    (void)arg;
    do_moe(l, n);
}
static void w_head(struct layer *l, int n, int arg)
{
    (void)l, (void)n, (void)arg;
    do_head(0);
}
static void w_topk(struct layer *l, int n, int arg)
{
    (void)l, (void)n, (void)arg;
    do_topk();
}

static double size_of(const struct lade_matrix *m)
{
    return m->data ? (double)layout_of(m).bytes : 0;
}

static double expert_share(void)
{
    const struct lade_expert *s = &layer[0].shared;
    return (double)expert_bytes * USED + size_of(&s->gate) + size_of(&s->up) + size_of(&s->down);
}

/* ---- formats of GGUF ---- */

enum { BLOCK_BYTES = 256 << 20 /* of weights, more than caches hold */, BLOCK_TOKENS = 512 };

static const char *block_memory; /* any bytes: what they mean does not matter to the time */
static int block_rows;

/* Formats after ggml's: rows that begin anywhere, small groups, inputs with groups of their choice. */
static const struct {
    const char *name;
    struct lade_matrix m;
} others[] = {
    {"f32 odd", {.type = LADE_F32, .cols = HIDDEN - 1}},
    {"f16 odd", {.type = LADE_F16, .cols = HIDDEN - 1}},
    {"bf16 odd", {.type = LADE_BF16, .cols = HIDDEN - 1}},
    {"int4 by 16", {.type = LADE_Q4, .cols = HIDDEN, .group = 16}},
    {"int8 by 16", {.type = LADE_Q8, .cols = HIDDEN, .group = 16}},
    {"int4 act-order", {.type = LADE_Q4, .cols = HIDDEN, .group = 128, .has_order = true}}};
enum { OTHERS = sizeof others / sizeof *others };

static const char *block_name(int type)
{
    return type < LADE_N_BLOCKS ? lade_blocks[type].name : others[type - LADE_N_BLOCKS].name;
}

static struct lade_matrix block_matrix(int type, size_t index)
{
    struct lade_matrix m = {.type = LADE_BLOCKS, .cols = HIDDEN, .block = (uint8_t)type};
    if (type >= LADE_N_BLOCKS)
        m = others[type - LADE_N_BLOCKS].m;
    m.rows = block_rows;
    size_t bytes = (layout_of(&m).bytes + 255) / 256 * 256;
    m.data = block_memory + index % (BLOCK_BYTES / bytes) * bytes;
    return m;
}

static void w_block(struct layer *l, int n, int type)
{
    struct lade_matrix m = block_matrix(type, (size_t)(l - layer));
    struct lade_matmul j = {a, x, &m};
    DO(matmul(dev, &j, 1, n, err));
}

/* Groups of a matrix's inputs, to all places that block_matrix() gives it in `memory`. */
static void give_order(const struct lade_matrix *m, char *memory)
{
    const struct lade_matrix_layout l = layout_of(m);
    const size_t bytes = (l.bytes + 255) / 256 * 256;
    uint16_t order[HIDDEN];
    for (int k = 0; k < m->cols; k++)
        order[k] = (uint16_t)(rng() % (uint64_t)l.groups);
    for (size_t i = 0; i < BLOCK_BYTES / bytes; i++)
        DO(upload(dev, memory + i * bytes + l.order, order, (size_t)m->cols * sizeof *order, err));
}

/* As wide as qkvz. With small batches, where there is no GPU, a few of them. */
static void each_block(void)
{
    const bool small = batch < BLOCK_TOKENS;
    char name[64];
    unsigned char *host = malloc(BLOCK_BYTES / 16);
    char *p = get(BLOCK_BYTES);
    if (!host)
        die("out of memory");
    for (size_t i = 0; i < BLOCK_BYTES / 16; i++)
        host[i] = (unsigned char)rng();
    for (size_t i = 0; i < 16; i++)
        DO(upload(dev, p + i * (BLOCK_BYTES / 16), host, BLOCK_BYTES / 16, err));
    free(host);
    block_memory = p;
    block_rows = small ? 16 : QKVZ;
    for (int type = 0; type < LADE_N_BLOCKS + OTHERS; type += small ? 7 : 1) {
        struct lade_matrix m = block_matrix(type, 0);
        if (m.has_order)
            give_order(&m, p);
        snprintf(name, sizeof name, "%s %d x %d", block_name(type), m.rows, m.cols);
        measure(name, w_block, 1, type, -1, size_of(&m));
        if (small)
            continue;
        snprintf(name, sizeof name, "%d x %s", BLOCK_TOKENS, block_name(type));
        measure(name, w_block, BLOCK_TOKENS, type, -1, 0);
    }
    ops->free(dev, p);
}

/* ---- two ways beside each other ---- */

/* What a card is asked for, again and again. */
typedef void call_fn(struct lade_device *on, const void *what, int n);

static void c_product(struct lade_device *on, const void *job, int n)
{
    DO(matmul(on, job, 1, n, err));
}
static void c_delta(struct lade_device *on, const void *l, int n)
{
    struct lade_device *usual = dev;
    dev = on;
    do_delta((struct layer *)l, n);
    dev = usual;
}

/* Seconds of one call: the median of five rounds after one that warms up. */
static double time_calls(struct lade_device *on, call_fn *call, const void *what, int n)
{
    enum { ROUNDS = 5, CALLS = 8 };
    double seconds[ROUNDS];
    for (int round = once ? 0 : -1; round < times(ROUNDS); round++) {
        DO(sync(on, err));
        double begin = now();
        for (int i = 0; i < times(CALLS); i++)
            call(on, what, n);
        DO(sync(on, err));
        if (round >= 0)
            seconds[round] = (now() - begin) / times(CALLS);
    }
    qsort(seconds, (size_t)times(ROUNDS), sizeof *seconds, by_value);
    return seconds[times(ROUNDS) / 2];
}

/* ---- large products: cuBLAS beside the plug-in's own ---- */

static struct lade_device *plain; /* never prepared, so that it has no cuBLAS */

static void compare_product(const char *name, const struct lade_matrix *w, int n)
{
    char title[64];
    const bool wide = w->cols > HIDDEN; /* out: from a buffer that has room for such inputs */
    const struct lade_matmul job = {wide ? x : a, wide ? a : x, w};
    const double work = 2.0 * w->rows * w->cols * n;
    const double own = time_calls(plain, c_product, &job, n);
    const double with = time_calls(dev, c_product, &job, n);
    snprintf(title, sizeof title, "%d x %s, own", n, name);
    report(title, n, own, 0);
    snprintf(title, sizeof title, "%d x %s, cuBLAS", n, name);
    report(title, n, with, 0);
    printf("    %.0f and %.0f TFLOP/s: %s is faster\n", work / own * 1e-12, work / with * 1e-12,
           own < with ? "own" : "cuBLAS");
}

/* The shapes of the model, int8 as they are in it and bf16. What is faster belongs to the table in
 * kernels/cuda/dense.cu. */
static void each_dense(void)
{
    const struct layer *d = &layer[0], *t = &layer[3];
    const struct {
        const char *name;
        const struct lade_matrix *w;
    } shapes[] = {{"qkvz int8", &d->in},
                  {"out int8", &d->out},
                  {"q int8", &t->in},
                  {"k int8", &t->second},
                  {"head bf16", &head}};
    if (!strstr(ops->describe(dev), "cuBLAS")) {
        printf("no cuBLAS here: large products are the plug-in's own\n");
        return;
    }
    struct lade_device_config cfg = {0};
    DO(open(&plain, &cfg, err));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int n = 256; n <= batch; n *= i + 1 < sizeof shapes / sizeof *shapes ? 2 : 8) {
            struct lade_matrix w = *shapes[i].w;
            w.rows = w.rows < QKVZ ? w.rows : QKVZ; /* y has room for as many */
            compare_product(shapes[i].name, &w, n);
        }
    ops->close(plain);
}

/* ---- the delta rule of prompts: in chunks on tensor cores, and token by token ---- */

/* An exact device does it token by token. What is faster belongs to the table in
 * kernels/cuda/chunks.cu. */
static void each_delta(void)
{
    char title[64];
    struct lade_device *exact;
    struct lade_device_config cfg = {.exact = true};
    DO(open(&exact, &cfg, err));
    for (int n = 64; n <= batch; n *= 2) {
        const double steps = time_calls(exact, c_delta, &layer[0], n);
        const double chunks = time_calls(dev, c_delta, &layer[0], n);
        snprintf(title, sizeof title, "%d x delta-net, by token", n);
        report(title, n, steps, 0);
        snprintf(title, sizeof title, "%d x delta-net, in chunks", n);
        report(title, n, chunks, 0);
        printf("    %s is faster\n", steps < chunks ? "by token" : "in chunks");
    }
    ops->close(exact);
}

/* ---- */

static void each_op(void)
{
    char name[64];
    const struct layer *d = &layer[0], *t = &layer[layers > 3 ? 3 : 0];
    double kv = 2.0 * KV_HEADS * HEAD * 2, state = 2.0 * VALUE_HEADS * DIM * DIM * 4;
    measure("norm, qkvz+ba int8", w_in, 1, 0, 0, size_of(&d->in) + size_of(&d->second));
    measure("norm, q+k+v int8", w_in, 1, 0, 1,
            size_of(&t->in) + size_of(&t->second) + size_of(&t->third));
    measure("out int8", w_out, 1, 0, -1, size_of(&d->out));
    measure("norm, router bf16, top 10", w_router, 1, 0, -1, size_of(&d->router));
    measure("moe 10+1", w_moe, 1, 0, -1, expert_share());
    measure("deltanet", w_mixer, 1, 0, 0, state);
    for (int pos = 1024; pos < context; pos *= 32) {
        snprintf(name, sizeof name, "attention at %d", pos);
        measure(name, w_mixer, 1, pos, 1, kv * pos);
    }
    measure("norm, head bf16", w_head, 1, 0, -1, size_of(&head));
    measure("top 20 of the vocabulary", w_topk, 1, 0, -1, 4.0 * vocab);
    if (batch < 512)
        return;
    snprintf(name, sizeof name, "%d x ", batch);
    size_t at = strlen(name);
#define LARGE(title, work, only)                                                                   \
    snprintf(name + at, sizeof name - at, title);                                                  \
    measure(name, work, batch, 0, only, 0)
    LARGE("norm, qkvz+ba", w_in, 0);
    LARGE("out", w_out, -1);
    LARGE("norm, router, top 10", w_router, -1);
    LARGE("moe", w_moe, -1);
    LARGE("deltanet", w_mixer, 0);
    LARGE("attention", w_mixer, 1);
#undef LARGE
}

/* What a token reads: all weights but the embedding and the experts not used. */
static double token_bytes(int pos)
{
    double all = (double)weight_bytes - size_of(&embed);
    double attention = layers / 4, unused = (double)expert_bytes * (experts - USED) * layers;
    return all - unused + attention * 2.0 * KV_HEADS * HEAD * 2 * pos +
           (layers - attention) * 2.0 * VALUE_HEADS * DIM * DIM * 4;
}

static void whole_tokens(const int32_t *host_ids)
{
    char name[64];
    for (int pos = 1024; pos < context; pos *= 32) {
        enum { EAGER = 4, RECORDED = 9, REPLAYS = 4, COLD = 2 };
        double seconds[RECORDED];
        told[0] = 5;
        told[1] = pos;
        for (int i = 0; i < times(EAGER); i++) {
            double begin = now();
            pass(host_ids, 1, pos, false);
            DO(sync(dev, err));
            seconds[i] = now() - begin;
        }
        qsort(seconds + 1, (size_t)times(EAGER) - 1, sizeof *seconds, by_value);
        snprintf(name, sizeof name, "token at %d, op by op", pos);
        report(name, 1, seconds[times(EAGER) / 2], token_bytes(pos));
        struct lade_recording *r;
        DO(record_begin(dev, err));
        pass(NULL, 1, context - 1, true);
        DO(record_end(dev, &r, err));
        for (int i = 0; i < times(RECORDED); i++) {
            double begin = now();
            for (int k = 0; k < times(REPLAYS); k++)
                DO(replay(dev, r, err));
            DO(sync(dev, err));
            seconds[i] = (now() - begin) / times(REPLAYS);
        }
        if (!once)
            qsort(seconds + COLD, RECORDED - COLD, sizeof *seconds, by_value);
        snprintf(name, sizeof name, "token at %d, recorded", pos);
        report(name, 1, seconds[once ? 0 : (RECORDED + COLD) / 2], token_bytes(pos));
        ops->record_free(dev, r);
    }
}

static void prompts(const int32_t *host_ids)
{
    char name[64];
    for (int n = 16; n <= batch; n = n < 512 ? n * 32 : n * 4) {
        double seconds[3];
        for (int i = 0; i < times(3); i++) {
            double begin = now();
            pass(host_ids, n, 0, false);
            DO(sync(dev, err));
            seconds[i] = now() - begin;
        }
        snprintf(name, sizeof name, "prompt of %d", n);
        report(name, n, once ? seconds[0] : seconds[1] < seconds[2] ? seconds[1] : seconds[2], 0);
    }
}

/* ---- */

static void options(int argc, char **argv)
{
    static const struct {
        const char *name;
        int *value;
    } numbers[] = {{"--layers", &layers}, {"--experts", &experts}, {"--vocab", &vocab},
                   {"--batch", &batch},   {"--context", &context}, {"--once", &once}};
    for (int i = 2; i + 1 < argc; i += 2) {
        bool known = !strcmp(argv[i], "--json");
        if (known && !(json = fopen(argv[i + 1], "w")))
            die("%s: cannot be written", argv[i + 1]);
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (!strcmp(argv[i], numbers[k].name)) {
                *numbers[k].value = atoi(argv[i + 1]);
                known = true;
            }
        if (!known)
            die("%s: no such option", argv[i]);
    }
    if (layers < 4 || experts < USED || vocab < 2 * TOP || batch < 1 || context < batch)
        die("at least 4 layers, %d experts, a context of a batch", USED);
}

static void open_plugin(const char *path)
{
    struct lade_limits limits = {.batch = batch,
                                 .context = context,
                                 .hidden = HIDDEN,
                                 .widest = QKVZ,
                                 .vocab = vocab,
                                 .heads = HEADS,
                                 .kv_heads = KV_HEADS,
                                 .head_dim = HEAD,
                                 .key_heads = KEY_HEADS,
                                 .value_heads = VALUE_HEADS,
                                 .key_dim = DIM,
                                 .value_dim = DIM,
                                 .kernel = KERNEL,
                                 .experts = experts,
                                 .experts_used = USED,
                                 .expert_rows = FF,
                                 .tables = layers};
    struct lade_device_config cfg = {0};
    struct lade_device_rates rates;
    ops = lade_plugin_open(path, err);
    if (!ops)
        die("%s", err);
    double begin = now();
    DO(open(&dev, &cfg, err));
    printf("opened in %.2f s, ", now() - begin);
    begin = now();
    DO(prepare(dev, &limits, err));
    printf("prepared in %.2f: %s\n", now() - begin, ops->describe(dev));
    DO(measure(dev, &rates, err));
    peak = rates.memory;
    printf("measured: memory %.0f GB/s, link %.1f up, %.1f down; work space %.1f MiB\n",
           rates.memory * 1e-9, rates.upload * 1e-9, rates.download * 1e-9,
           (double)ops->workspace(&limits) / (1 << 20));
    if (json)
        fprintf(json,
                "{\"device\": \"%s\", \"memory_gbps\": %.1f, \"upload_gbps\": %.1f, "
                "\"download_gbps\": %.1f, \"rows\": [",
                ops->describe(dev), rates.memory * 1e-9, rates.upload * 1e-9,
                rates.download * 1e-9);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        die("usage: bench_gpu PLUGIN [--layers N] [--experts N] [--vocab N] [--batch N] "
            "[--context N] [--once 1] [--json FILE]");
    options(argc, argv);
    open_plugin(argv[1]);
    double begin = now();
    make_model();
    printf("%.1f GB of weights in %.1f s\n", (double)weight_bytes * 1e-9, now() - begin);
    make_buffers();
    int32_t *host_ids = malloc((size_t)batch * sizeof *host_ids);
    if (!host_ids)
        die("out of memory");
    for (int i = 0; i < batch; i++)
        host_ids[i] = (int32_t)(rng() % (uint32_t)vocab);
    pass(host_ids, 1, 0, false);
    each_op();
    each_delta();
    if (batch >= 512)
        each_dense();
    each_block();
    whole_tokens(host_ids);
    prompts(host_ids);
    struct lade_device_memory m;
    DO(memory(dev, &m, err));
    printf("GPU memory: %.2f GiB at most, %.2f of it the driver's\n", (double)m.peak / (1 << 30),
           (double)m.fixed / (1 << 30));
    if (json) {
        fprintf(json, "\n], \"peak_bytes\": %zu, \"fixed_bytes\": %zu}\n", m.peak, m.fixed);
        fclose(json);
    }
    ops->close(dev);
    return 0;
}
