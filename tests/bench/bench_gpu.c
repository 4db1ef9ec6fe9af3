/* bench_gpu - speed of a GPU plug-in on the true geometry of the 80B model, random weights.
 *
 *     bench_gpu [--plugin PATH] [--layers N] [--context N] [--batch N] [--f32-cache] [WHAT ...]
 *
 * WHAT: ops (each decode op, in all layers so that no cache holds it), token (a whole token, as one
 * recording), prefill (a batch, whole and op by op); all without one. Weights are of the int4-mixed
 * checkpoint: experts int4, mixers and shared experts int8, router, embedding and head bf16. Every
 * line: name, microseconds, GB/s of weights and state read or TFLOP/s, share of the memory's own
 * read speed. Nothing is checked here: tests/unit/test_kernels_* do. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/plugin.h"

enum {
    DIM = 2048,
    FF = 512,
    EXPERTS = 512,
    TOP = 10,
    VOCAB = 151936,
    HEADS = 16,
    KV_HEADS = 2,
    HEAD_DIM = 256,
    ROTARY = 64,
    KEY_HEADS = 16,
    VALUE_HEADS = 32,
    HEAD = 128,
    TAPS = 4,
    QKV = 2 * KEY_HEADS * HEAD + VALUE_HEADS * HEAD,
    MIXED = VALUE_HEADS * HEAD,
    MAX_LAYERS = 48,
    REPLAYS = 32,
};

struct layer {
    bool attention;
    struct lade_matrix in[3], out, router; /* q k v, or qkvz ba */
    int n_in;
    struct lade_expert shared, experts[EXPERTS];
    float *in_norm, *post_norm, *q_norm, *k_norm, *shared_gate;
    float *conv, *decay, *dt_bias, *norm, *conv_state, *state;
    void *k, *v;
};

static struct {
    const struct lade_ops *ops;
    struct lade_device *dev;
    struct layer *layer;
    int layers, context, batch;
    enum lade_type cache;
    struct lade_matrix embed, head;
    float *x, *h, *y, *a, *b, *c, *mixed, *logits, *route, *weights, *inv_freq, *ones, *values;
    int32_t *ids, *token, *pos, *top;
    double memory_rate;
} g;

static char err[LADE_ERR];

#define must(call)                                                                                 \
    do {                                                                                           \
        if (call) {                                                                                \
            fprintf(stderr, "bench_gpu: %s\n", err);                                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t random32(void)
{
    static uint32_t s = 12345;
    s ^= s << 13;
    s ^= s >> 17;
    return s ^= s << 5;
}

/* ---- weights --------------------------------------------------------------------------------- */

static void *take(size_t bytes)
{
    void *p;
    must(g.ops->alloc(g.dev, &p, bytes, err));
    return p;
}

static float *floats(size_t n, float scale)
{
    float *host = malloc(n * sizeof *host), *p = take(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        host[i] = scale * (float)(int32_t)random32() * 0x1p-31f;
    must(g.ops->upload(g.dev, p, host, n * sizeof *p, err));
    free(host);
    return p;
}

static float *constants(size_t n, float value)
{
    float *host = malloc(n * sizeof *host), *p = take(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        host[i] = value;
    must(g.ops->upload(g.dev, p, host, n * sizeof *p, err));
    free(host);
    return p;
}

static struct lade_matrix shape(enum lade_type type, int rows, int cols)
{
    return (struct lade_matrix){
        .type = type, .rows = rows, .cols = cols, .group = lade_types[type].per_word ? 128 : 0};
}

static size_t bytes_of(const struct lade_matrix *m)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l))
        abort();
    return l.bytes;
}

/* Random codes, scales of 0.004 to 0.008; bf16 numbers below 0.06. */
static void fill(const struct lade_matrix *m, unsigned char *to)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l))
        abort();
    uint32_t *words = (uint32_t *)to;
    for (size_t i = 0; i < l.bytes / 4; i++)
        words[i] = m->type == LADE_BF16 ? random32() & 0xbd7fbd7f : random32();
    if (lade_types[m->type].per_word)
        for (uint16_t *s = (uint16_t *)(to + l.scales); (unsigned char *)s < to + l.bytes; s++)
            *s = (uint16_t)(0x1c00 + random32() % 1024);
}

static struct lade_matrix matrix(enum lade_type type, int rows, int cols)
{
    struct lade_matrix m = shape(type, rows, cols);
    unsigned char *host = malloc(bytes_of(&m));
    fill(&m, host);
    void *p = take(bytes_of(&m));
    must(g.ops->upload(g.dev, p, host, bytes_of(&m), err));
    free(host);
    m.data = p;
    return m;
}

/* One copy of an expert in memory of its own; the first one is made, the others copied from it. */
static struct lade_expert expert(enum lade_type type, const struct lade_expert *like)
{
    if (!like)
        return (struct lade_expert){matrix(type, FF, DIM), matrix(type, FF, DIM),
                                    matrix(type, DIM, FF)};
    struct lade_expert e = *like;
    struct lade_matrix *part[] = {&e.gate, &e.up, &e.down};
    for (int i = 0; i < 3; i++) {
        void *p = take(bytes_of(part[i]));
        must(g.ops->copy(g.dev, p, part[i]->data, bytes_of(part[i]), err));
        part[i]->data = p;
    }
    return e;
}

static void make_layer(struct layer *l, bool attention)
{
    l->attention = attention;
    l->in_norm = constants(DIM, 1);
    l->post_norm = constants(DIM, 1);
    if (attention) {
        l->in[0] = matrix(LADE_Q8, 2 * HEADS * HEAD_DIM, DIM);
        l->in[1] = matrix(LADE_Q8, KV_HEADS * HEAD_DIM, DIM);
        l->in[2] = matrix(LADE_Q8, KV_HEADS * HEAD_DIM, DIM);
        l->n_in = 3;
        l->q_norm = constants(HEAD_DIM, 1);
        l->k_norm = constants(HEAD_DIM, 1);
        size_t bytes =
            (size_t)KV_HEADS * (size_t)g.context * HEAD_DIM * (g.cache == LADE_F16 ? 2 : 4);
        l->k = take(bytes);
        l->v = take(bytes);
    } else {
        l->in[0] = matrix(LADE_Q8, QKV + MIXED, DIM);
        l->in[1] = matrix(LADE_Q8, 2 * VALUE_HEADS, DIM);
        l->n_in = 2;
        l->conv = floats((size_t)QKV * TAPS, 0.5f);
        l->decay = constants(VALUE_HEADS, -0.1f);
        l->dt_bias = constants(VALUE_HEADS, 0);
        l->norm = constants(HEAD, 1);
        l->conv_state = take((TAPS - 1) * (size_t)QKV * sizeof(float));
        l->state = take((size_t)VALUE_HEADS * HEAD * HEAD * sizeof(float));
    }
    l->out = matrix(LADE_Q8, DIM, MIXED);
    l->router = matrix(LADE_BF16, EXPERTS, DIM);
    l->shared_gate = floats(DIM, 0.05f);
    l->shared = expert(LADE_Q8, NULL);
    for (int e = 0; e < EXPERTS; e++)
        l->experts[e] = expert(LADE_Q4, l == g.layer && !e ? NULL : &g.layer[0].experts[0]);
    must(g.ops->table(g.dev, l->experts, EXPERTS, 1, err));
}

static size_t model_bytes(void)
{
    const struct lade_matrix e = shape(LADE_Q4, FF, DIM), d = shape(LADE_Q4, DIM, FF);
    const struct lade_matrix head = shape(LADE_BF16, VOCAB, DIM);
    size_t layer = EXPERTS * (2 * bytes_of(&e) + bytes_of(&d)) + ((size_t)44 << 20);
    size_t cache = (size_t)g.context * KV_HEADS * HEAD_DIM * 2 * (g.cache == LADE_F16 ? 2 : 4);
    return (size_t)g.layers * layer + 2 * bytes_of(&head) + (size_t)(g.layers / 4 + 1) * cache +
           (size_t)g.batch * 160000 + ((size_t)256 << 20);
}

static void open_all(const char *plugin)
{
    g.ops = lade_plugin_open(plugin, err);
    must(!g.ops);
    struct lade_device_config cfg = {.reserve = model_bytes()};
    double start = now();
    must(g.ops->open(&g.dev, &cfg, err));
    struct lade_limits limits = {.batch = g.batch,
                                 .context = g.context,
                                 .hidden = DIM,
                                 .widest = QKV + MIXED,
                                 .vocab = VOCAB,
                                 .heads = HEADS,
                                 .kv_heads = KV_HEADS,
                                 .head_dim = HEAD_DIM,
                                 .key_heads = KEY_HEADS,
                                 .value_heads = VALUE_HEADS,
                                 .key_dim = HEAD,
                                 .value_dim = HEAD,
                                 .kernel = TAPS,
                                 .experts = EXPERTS,
                                 .experts_used = TOP,
                                 .expert_rows = FF};
    must(g.ops->prepare(g.dev, &limits, err));
    struct lade_device_rates rates;
    must(g.ops->measure(g.dev, &rates, err));
    g.memory_rate = rates.memory;
    printf("device     %s\n", g.ops->describe(g.dev));
    printf("memory     %.0f GB/s read, link %.1f up %.1f down\n", rates.memory * 1e-9,
           rates.upload * 1e-9, rates.download * 1e-9);
    g.layer = calloc((size_t)g.layers, sizeof *g.layer);
    g.embed = matrix(LADE_BF16, VOCAB, DIM);
    g.head = matrix(LADE_BF16, VOCAB, DIM);
    for (int i = 0; i < g.layers; i++)
        make_layer(&g.layer[i], i % 4 == 3);
    size_t n = (size_t)g.batch;
    g.x = floats(n * DIM, 1);
    g.h = floats(n * DIM, 1);
    g.y = floats(n * DIM, 1);
    g.a = floats(n * (QKV + MIXED), 1);
    g.b = floats(n * KV_HEADS * HEAD_DIM, 1);
    g.c = floats(n * KV_HEADS * HEAD_DIM, 1);
    g.mixed = floats(n * MIXED, 1);
    g.route = floats(n * EXPERTS, 1);
    g.weights = floats(n * TOP, 1);
    g.logits = floats(VOCAB, 1);
    g.inv_freq = floats(ROTARY / 2, 0.5f);
    g.values = take(64 * sizeof(float));
    g.ids = take(n * TOP * sizeof(int32_t));
    g.token = take(n * sizeof(int32_t));
    g.top = take(64 * sizeof(int32_t));
    g.pos = take(sizeof(int32_t));
    must(g.ops->sync(g.dev, err));
    struct lade_device_memory m;
    must(g.ops->memory(g.dev, &m, err));
    printf("loaded     %.1f s; %.2f GB held, %.2f of the device's own\n", now() - start,
           (double)m.used * 1e-9, (double)m.fixed * 1e-9);
}

/* ---- the ops of one layer -------------------------------------------------------------------- */

static void op_norm(struct layer *l, int n)
{
    must(g.ops->rmsnorm(g.dev, g.h, g.x, g.y, l->in_norm, n, DIM, 1e-6f, err));
}

static void op_in(struct layer *l, int n)
{
    struct lade_matmul jobs[] = {
        {g.a, g.h, &l->in[0]}, {g.b, g.h, &l->in[1]}, {g.c, g.h, &l->in[2]}};
    must(g.ops->matmul(g.dev, jobs, l->n_in, n, err));
}

static void op_mixer(struct layer *l, int n)
{
    if (!l->attention) {
        struct lade_deltanet d = {.n = n,
                                  .key_heads = KEY_HEADS,
                                  .value_heads = VALUE_HEADS,
                                  .key_dim = HEAD,
                                  .value_dim = HEAD,
                                  .kernel = TAPS,
                                  .qkvz = g.a,
                                  .ba = g.b,
                                  .conv = l->conv,
                                  .decay = l->decay,
                                  .dt_bias = l->dt_bias,
                                  .norm = l->norm,
                                  .eps = 1e-6f,
                                  .conv_state = l->conv_state,
                                  .state = l->state,
                                  .out = g.mixed};
        must(g.ops->deltanet(g.dev, &d, err));
        return;
    }
    struct lade_attention a = {.n = n,
                               .pos = n == 1 ? g.context - 1 : 0,
                               .pos_at = n == 1 ? g.pos : NULL,
                               .heads = HEADS,
                               .kv_heads = KV_HEADS,
                               .head_dim = HEAD_DIM,
                               .rotary_dim = ROTARY,
                               .q = g.a,
                               .k = g.b,
                               .v = g.c,
                               .q_norm = l->q_norm,
                               .k_norm = l->k_norm,
                               .eps = 1e-6f,
                               .inv_freq = g.inv_freq,
                               .rope_scale = 1,
                               .cache_type = g.cache,
                               .k_cache = l->k,
                               .v_cache = l->v,
                               .capacity = g.context,
                               .out = g.mixed};
    must(g.ops->attention(g.dev, &a, err));
}

static void op_out(struct layer *l, int n)
{
    struct lade_matmul job = {g.y, g.mixed, &l->out};
    must(g.ops->matmul(g.dev, &job, 1, n, err));
}

static void op_router(struct layer *l, int n)
{
    struct lade_matmul job = {g.route, g.h, &l->router};
    must(g.ops->matmul(g.dev, &job, 1, n, err));
}

static void op_route(struct layer *l, int n)
{
    (void)l;
    struct lade_route r = {.n = n,
                           .experts = EXPERTS,
                           .k = TOP,
                           .renormalize = true,
                           .logits = g.route,
                           .ids = g.ids,
                           .weights = g.weights};
    must(g.ops->route(g.dev, &r, err));
}

static void op_moe(struct layer *l, int n)
{
    struct lade_moe m = {.n = n,
                         .dim = DIM,
                         .k = TOP,
                         .n_experts = EXPERTS,
                         .x = g.h,
                         .ids = g.ids,
                         .weights = g.weights,
                         .experts = l->experts,
                         .version = 1,
                         .shared = &l->shared,
                         .shared_gate = l->shared_gate,
                         .y = g.x};
    must(g.ops->moe(g.dev, &m, err));
}

static const struct op {
    const char *name;
    void (*run)(struct layer *l, int n);
} ops[] = {{"norm", op_norm}, {"project in", op_in}, {"mixer", op_mixer}, {"project out", op_out},
           {"norm", op_norm}, {"router", op_router}, {"route", op_route}, {"experts", op_moe}};
enum { N_OPS = sizeof ops / sizeof *ops };

/* Bytes of weights and state that one token needs of an op. */
static double op_bytes(const struct op *op, const struct layer *l, int depth)
{
    double sum = 0;
    if (op->run == op_in)
        for (int i = 0; i < l->n_in; i++)
            sum += (double)bytes_of(&l->in[i]);
    if (op->run == op_mixer)
        sum = l->attention ? (double)depth * KV_HEADS * HEAD_DIM * 2 * (g.cache == LADE_F16 ? 2 : 4)
                           : 2.0 * VALUE_HEADS * HEAD * HEAD * 4;
    if (op->run == op_out)
        sum = (double)bytes_of(&l->out);
    if (op->run == op_router)
        sum = (double)bytes_of(&l->router);
    if (op->run == op_moe) {
        const struct lade_expert *e = &l->experts[0], *s = &l->shared;
        sum = TOP * (double)(bytes_of(&e->gate) + bytes_of(&e->up) + bytes_of(&e->down)) +
              (double)(bytes_of(&s->gate) + bytes_of(&s->up) + bytes_of(&s->down));
    }
    return sum;
}

static void set_position(int depth)
{
    int32_t pos = depth;
    must(g.ops->upload(g.dev, g.pos, &pos, sizeof pos, err));
}

static void line(const char *name, double seconds, double bytes)
{
    printf("%-28s %9.2f us", name, seconds * 1e6);
    if (bytes > 0)
        printf(" %8.0f GB/s %5.1f%%", bytes / seconds * 1e-9,
               100 * bytes / seconds / g.memory_rate);
    printf("\n");
    fflush(stdout);
}

/* Seconds of one run of a recording. */
static double time_replay(struct lade_recording *r)
{
    double best = INFINITY;
    for (int round = 0; round < 4; round++) { /* the first one warms up */
        must(g.ops->sync(g.dev, err));
        double start = now();
        for (int i = 0; i < REPLAYS; i++)
            must(g.ops->replay(g.dev, r, err));
        must(g.ops->sync(g.dev, err));
        double seconds = (now() - start) / REPLAYS;
        if (round && seconds < best)
            best = seconds;
    }
    return best;
}

/* ---- what is measured ------------------------------------------------------------------------ */

/* One op of all layers of a kind, one after the other. */
static void bench_op(const struct op *op, bool attention, int depth)
{
    int count = 0;
    double bytes = 0;
    struct lade_recording *r;
    must(g.ops->record_begin(g.dev, err));
    for (int i = 0; i < g.layers; i++) {
        if (g.layer[i].attention != attention)
            continue;
        op->run(&g.layer[i], 1);
        bytes += op_bytes(op, &g.layer[i], depth);
        count++;
    }
    must(g.ops->record_end(g.dev, &r, err));
    double seconds = time_replay(r);
    char name[60];
    snprintf(name, sizeof name, "%s %s", attention ? "attention" : "delta", op->name);
    if (op->run == op_mixer && attention)
        snprintf(name, sizeof name, "attention at %d", depth);
    line(name, seconds / count, bytes / count);
    g.ops->record_free(g.dev, r);
}

static void record_head(void)
{
    struct lade_matmul head = {g.logits, g.h, &g.head};
    must(g.ops->matmul(g.dev, &head, 1, 1, err));
}

static void record_topk(void)
{
    struct lade_topk t = {
        .n = VOCAB, .k = 40, .logits = g.logits, .values = g.values, .ids = g.top};
    must(g.ops->topk(g.dev, &t, err));
}

static void bench_one(const char *name, void (*run)(void), double bytes)
{
    struct lade_recording *r;
    must(g.ops->record_begin(g.dev, err));
    run();
    must(g.ops->record_end(g.dev, &r, err));
    line(name, time_replay(r), bytes);
    g.ops->record_free(g.dev, r);
}

static void token(int n)
{
    must(g.ops->embed_at(g.dev, g.x, &g.embed, g.token, n, err));
    for (int i = 0; i < g.layers; i++)
        for (int j = 0; j < N_OPS; j++)
            ops[j].run(&g.layer[i], n);
}

static void one_token(void)
{
    token(1);
    op_norm(&g.layer[0], 1);
    record_head();
    record_topk();
}

static double token_bytes(int depth)
{
    double sum = (double)bytes_of(&g.head);
    for (int i = 0; i < g.layers; i++)
        for (int j = 0; j < N_OPS; j++)
            sum += op_bytes(&ops[j], &g.layer[i], depth);
    return sum;
}

static void bench_ops(void)
{
    set_position(g.context - 1);
    one_token(); /* everything has run once before it is recorded */
    for (int attention = 0; attention < 2 && attention * 3 < g.layers; attention++)
        for (int j = 0; j < N_OPS; j++)
            if (j != 4)
                bench_op(&ops[j], attention, g.context - 1);
    bench_one("head", record_head, (double)bytes_of(&g.head));
    bench_one("top 40", record_topk, 0);
}

static void bench_token(void)
{
    const int depths[] = {0, 1023, 32767};
    set_position(0);
    one_token();
    for (int i = 0; i < 3; i++) {
        int depth = depths[i];
        if (depth >= g.context)
            continue;
        set_position(depth);
        char name[60];
        struct lade_recording *r;
        must(g.ops->record_begin(g.dev, err));
        one_token();
        must(g.ops->record_end(g.dev, &r, err));
        double seconds = time_replay(r);
        snprintf(name, sizeof name, "token at %d: %.1f/s", depth, 1 / seconds);
        line(name, seconds, token_bytes(depth));
        if (!i) {
            double start = now();
            for (int k = 0; k < 4; k++)
                one_token();
            double queued = now();
            must(g.ops->sync(g.dev, err));
            line("token, not recorded", (now() - start) / 4, token_bytes(depth));
            line("  of it, queueing", (queued - start) / 4, 0);
        }
        g.ops->record_free(g.dev, r);
    }
}

static void bench_prefill(void)
{
    int n = g.batch;
    token(n);
    must(g.ops->sync(g.dev, err));
    double start = now();
    token(n);
    must(g.ops->sync(g.dev, err));
    double seconds = now() - start;
    printf("prefill of %d, %d layers: %.1f ms, %.0f tokens/s\n", n, g.layers, seconds * 1e3,
           n / seconds);
    for (int attention = 0; attention < 2 && attention * 3 < g.layers; attention++)
        for (int j = 0; j < N_OPS; j++) {
            int count = 0;
            must(g.ops->sync(g.dev, err));
            start = now();
            for (int i = 0; i < g.layers; i++)
                if (g.layer[i].attention == attention) {
                    ops[j].run(&g.layer[i], n);
                    count++;
                }
            must(g.ops->sync(g.dev, err));
            char name[60];
            snprintf(name, sizeof name, "prefill %s %s", attention ? "attention" : "delta",
                     ops[j].name);
            line(name, (now() - start) / count, 0);
        }
}

int main(int argc, char **argv)
{
    const char *plugin = "build/lade-cuda.so";
    bool want_ops = false, want_token = false, want_prefill = false;
    g.layers = MAX_LAYERS;
    g.context = 32768;
    g.batch = 2048;
    g.cache = LADE_F16;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--plugin") && more)
            plugin = argv[++i];
        else if (!strcmp(argv[i], "--layers") && more)
            g.layers = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--context") && more)
            g.context = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--batch") && more)
            g.batch = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--f32-cache"))
            g.cache = LADE_F32;
        else if (!strcmp(argv[i], "ops"))
            want_ops = true;
        else if (!strcmp(argv[i], "token"))
            want_token = true;
        else if (!strcmp(argv[i], "prefill"))
            want_prefill = true;
        else {
            fprintf(stderr, "bench_gpu: %s is not known; see the top of bench_gpu.c\n", argv[i]);
            return 2;
        }
    }
    if (g.layers < 1 || g.layers > MAX_LAYERS || g.context < g.batch || g.batch < 1) {
        fprintf(stderr,
                "bench_gpu: 1 to %d layers, a batch of at least 1, a context of at least "
                "the batch\n",
                (int)MAX_LAYERS);
        return 2;
    }
    bool all = !want_ops && !want_token && !want_prefill;
    open_all(plugin);
    if (all || want_ops)
        bench_ops();
    if (all || want_token)
        bench_token();
    if (all || want_prefill)
        bench_prefill();
    g.ops->close(g.dev);
    return 0;
}
