/* bench_gpu PLUGIN [--layers N] [--experts N] [--vocab N] [--batch N] [--context N] [--json FILE]
 *
 * The ops of a plug-in at the shapes of Qwen3-Next-80B, int4 experts and int8 for the rest, one
 * by one and as whole tokens: eager, recorded and as prompts. Times are medians over different
 * layers' weights, so that no cache holds them; bytes are those an op must read, and beside them
 * stands the share of what the card was measured to read. Weights are random.
 *
 * Needs the kernels' library and the plug-in, nothing of the engine. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/plugin.h"

enum {
    HIDDEN = 2048,
    FF = 512,
    USED = 10,
    HEADS = 16,
    KV_HEADS = 2,
    HEAD = 256,
    ROTARY = 64,
    KEY_HEADS = 16,
    VALUE_HEADS = 32,
    DIM = 128,
    KERNEL = 4,
    QKVZ = 12288,
    CHANNELS = 8192,
    MIXED = 4096,
    QUERY = 8192,
    GROUP = 128,
    TOP = 20,
};

struct layer {
    bool attention;
    struct lade_matrix in, second, third, out, router; /* qkvz, ba; or q, k, v */
    struct lade_expert shared, *experts;
    float *in_norm, *post_norm, *shared_gate;
    float *conv, *decay, *dt_bias, *norm, *conv_state, *state;
    float *q_norm, *k_norm;
    void *k_cache, *v_cache;
};

static const struct lade_ops *ops;
static struct lade_device *dev;
static char err[LADE_ERR];

static int layers = 48, experts = 512, vocab = 151936, batch = 2048, context = 33792;
static struct layer *layer;
static struct lade_matrix embed, head;
static float *final_norm, *inv_freq;
static float *x, *h, *y, *a, *b, *c, *mixed, *router, *weights, *logits, *top;
static int32_t *ids, *top_ids, *told;
static size_t expert_bytes, weight_bytes;
static double peak; /* bytes per second that the card reads */
static FILE *json;
static bool first_row = true;

static _Noreturn void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "bench_gpu: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

#define DO(call)                                                                                   \
    do {                                                                                           \
        if (ops->call)                                                                             \
            die("%s", err);                                                                        \
    } while (0)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint32_t rng(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* ---- weights ---- */

static void *get(size_t bytes)
{
    void *p;
    DO(alloc(dev, &p, bytes, err));
    return p;
}

static float *constant(size_t n, float value)
{
    float *host = malloc(n * sizeof *host);
    if (!host)
        die("out of memory");
    for (size_t i = 0; i < n; i++)
        host[i] = value;
    float *p = get(n * sizeof *host);
    DO(upload(dev, p, host, n * sizeof *host, err));
    free(host);
    return p;
}

static struct lade_matrix_layout layout_of(const struct lade_matrix *m)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l))
        die("no layout for %d x %d", m->rows, m->cols);
    return l;
}

/* Random codes, and scales and floats of the size that weights have. */
static void fill(const struct lade_matrix *m, unsigned char *host)
{
    struct lade_matrix_layout l = layout_of(m);
    for (size_t i = 0; i + 4 <= l.bytes; i += 4) {
        uint32_t word = rng() ^ rng() << 20;
        memcpy(host + i, &word, 4);
    }
    uint16_t *half = (uint16_t *)host;
    float *full = (float *)host;
    if (m->type == LADE_Q4 || m->type == LADE_Q8)
        for (size_t i = 0; i < (size_t)l.tiles * (size_t)l.groups * LADE_TILE; i++)
            ((uint16_t *)(host + l.scales))[i] = (uint16_t)(0x1400 + rng() % 1024);
    else if (m->type == LADE_BF16)
        for (size_t i = 0; i < l.bytes / 2; i++)
            half[i] = (uint16_t)(0x3c00 | (half[i] & 0x807f));
    else
        for (size_t i = 0; i < l.bytes / 4; i++)
            full[i] = (float)((int)rng() - (1 << 23)) * 0x1p-28f;
}

static struct lade_matrix shape(enum lade_type type, int rows, int cols)
{
    bool packed = type == LADE_Q4 || type == LADE_Q8;
    return (struct lade_matrix){
        .type = type, .rows = rows, .cols = cols, .group = packed ? GROUP : 0};
}

static struct lade_matrix make(enum lade_type type, int rows, int cols)
{
    struct lade_matrix m = shape(type, rows, cols);
    size_t bytes = layout_of(&m).bytes;
    unsigned char *host = malloc(bytes);
    void *p = get(bytes);
    if (!host)
        die("out of memory");
    fill(&m, host);
    DO(upload(dev, p, host, bytes, err));
    free(host);
    m.data = p;
    weight_bytes += bytes;
    return m;
}

static void make_mixer(struct layer *l)
{
    if (l->attention) {
        size_t cache = (size_t)KV_HEADS * (size_t)context * HEAD * 2;
        l->in = make(LADE_Q8, QUERY, HIDDEN);
        l->second = make(LADE_Q8, KV_HEADS * HEAD, HIDDEN);
        l->third = make(LADE_Q8, KV_HEADS * HEAD, HIDDEN);
        l->q_norm = constant(HEAD, 1);
        l->k_norm = constant(HEAD, 1);
        l->k_cache = get(cache);
        l->v_cache = get(cache);
    } else {
        l->in = make(LADE_Q8, QKVZ, HIDDEN);
        l->second = make(LADE_Q8, 2 * VALUE_HEADS, HIDDEN);
        l->conv = constant(CHANNELS * KERNEL, 0.3f);
        l->decay = constant(VALUE_HEADS, -0.5f);
        l->dt_bias = constant(VALUE_HEADS, 0.1f);
        l->norm = constant(DIM, 1);
        l->conv_state = constant((KERNEL - 1) * CHANNELS, 0);
        l->state = constant(VALUE_HEADS * DIM * DIM, 0);
    }
    l->out = make(LADE_Q8, HIDDEN, MIXED);
}

/* One expert is made on the host; the others are copies of it at their own places. */
static void make_experts(struct layer *l)
{
    static unsigned char *first;
    struct lade_matrix parts[3] = {shape(LADE_Q4, FF, HIDDEN), shape(LADE_Q4, FF, HIDDEN),
                                   shape(LADE_Q4, HIDDEN, FF)};
    size_t at[3], bytes = 0;
    for (int i = 0; i < 3; i++) {
        at[i] = bytes;
        bytes += (layout_of(&parts[i]).bytes + 255) / 256 * 256;
    }
    expert_bytes = bytes;
    if (!first) {
        unsigned char *host = calloc(1, bytes);
        if (!host)
            die("out of memory");
        for (int i = 0; i < 3; i++)
            fill(&parts[i], host + at[i]);
        first = get(bytes);
        DO(upload(dev, first, host, bytes, err));
        free(host);
    }
    unsigned char *all = get(bytes * (size_t)experts);
    l->experts = calloc((size_t)experts, sizeof *l->experts);
    if (!l->experts)
        die("out of memory");
    for (int e = 0; e < experts; e++) {
        unsigned char *p = all + bytes * (size_t)e;
        DO(copy(dev, p, first, bytes, err));
        struct lade_matrix *m[] = {&l->experts[e].gate, &l->experts[e].up, &l->experts[e].down};
        for (int i = 0; i < 3; i++) {
            *m[i] = parts[i];
            m[i]->data = p + at[i];
        }
    }
    weight_bytes += bytes * (size_t)experts;
    DO(table(dev, l->experts, experts, 1, err));
}

static void make_model(void)
{
    layer = calloc((size_t)layers, sizeof *layer);
    if (!layer)
        die("out of memory");
    embed = make(LADE_BF16, vocab, HIDDEN);
    head = make(LADE_BF16, vocab, HIDDEN);
    final_norm = constant(HIDDEN, 1);
    for (int i = 0; i < layers; i++) {
        struct layer *l = &layer[i];
        l->attention = i % 4 == 3;
        make_mixer(l);
        l->in_norm = constant(HIDDEN, 1);
        l->post_norm = constant(HIDDEN, 1);
        l->shared_gate = constant(HIDDEN, 0.01f);
        l->router = make(LADE_BF16, experts, HIDDEN);
        l->shared = (struct lade_expert){make(LADE_Q8, FF, HIDDEN), make(LADE_Q8, FF, HIDDEN),
                                         make(LADE_Q8, HIDDEN, FF)};
        make_experts(l);
    }
    DO(sync(dev, err));
}

static void make_buffers(void)
{
    size_t n = (size_t)batch * sizeof(float);
    float freq[ROTARY / 2];
    x = get(n * HIDDEN), h = get(n * HIDDEN), y = get(n * HIDDEN);
    a = get(n * QKVZ), b = get(n * KV_HEADS * HEAD), c = get(n * KV_HEADS * HEAD);
    mixed = get(n * MIXED);
    router = get(n * (size_t)experts), weights = get(n * USED), ids = get(n * USED);
    logits = get((size_t)vocab * sizeof(float));
    top = get(TOP * sizeof(float)), top_ids = get(TOP * sizeof(int32_t));
    inv_freq = get(sizeof freq);
    for (int i = 0; i < ROTARY / 2; i++)
        freq[i] = 1.0f / (1.0f + 100.0f * (float)(i * i));
    DO(upload(dev, inv_freq, freq, sizeof freq, err));
    DO(host_alloc(dev, (void **)&told, 2 * sizeof *told, err)); /* id and position */
}

/* ---- one pass ---- */

static void do_in(struct layer *l, int n)
{
    struct lade_matmul j[] = {{a, h, &l->in}, {b, h, &l->second}, {c, h, &l->third}};
    DO(matmul(dev, j, l->attention ? 3 : 2, n, err));
}

static void do_out(struct layer *l, int n)
{
    struct lade_matmul j = {y, mixed, &l->out};
    DO(matmul(dev, &j, 1, n, err));
}

static void do_attention(struct layer *l, int n, int pos, const int32_t *pos_at)
{
    struct lade_attention t = {.n = n,
                               .pos = pos,
                               .pos_at = pos_at,
                               .heads = HEADS,
                               .kv_heads = KV_HEADS,
                               .head_dim = HEAD,
                               .rotary_dim = ROTARY,
                               .q = a,
                               .k = b,
                               .v = c,
                               .q_norm = l->q_norm,
                               .k_norm = l->k_norm,
                               .eps = 1e-6f,
                               .inv_freq = inv_freq,
                               .rope_scale = 1,
                               .cache_type = LADE_F16,
                               .k_cache = l->k_cache,
                               .v_cache = l->v_cache,
                               .capacity = context,
                               .out = mixed};
    DO(attention(dev, &t, err));
}

static void do_delta(struct layer *l, int n)
{
    struct lade_deltanet t = {.n = n,
                              .key_heads = KEY_HEADS,
                              .value_heads = VALUE_HEADS,
                              .key_dim = DIM,
                              .value_dim = DIM,
                              .kernel = KERNEL,
                              .qkvz = a,
                              .ba = b,
                              .conv = l->conv,
                              .decay = l->decay,
                              .dt_bias = l->dt_bias,
                              .norm = l->norm,
                              .eps = 1e-6f,
                              .conv_state = l->conv_state,
                              .state = l->state,
                              .out = mixed};
    DO(deltanet(dev, &t, err));
}

static void do_router(struct layer *l, int n)
{
    struct lade_matmul j = {router, h, &l->router};
    DO(matmul(dev, &j, 1, n, err));
}

static void do_route(int n)
{
    struct lade_route t = {.n = n,
                           .experts = experts,
                           .k = USED,
                           .renormalize = true,
                           .logits = router,
                           .ids = ids,
                           .weights = weights};
    DO(route(dev, &t, err));
}

static void do_moe(struct layer *l, int n)
{
    struct lade_moe t = {.n = n,
                         .dim = HIDDEN,
                         .k = USED,
                         .n_experts = experts,
                         .x = h,
                         .ids = ids,
                         .weights = weights,
                         .experts = l->experts,
                         .version = 1,
                         .shared = &l->shared,
                         .shared_gate = l->shared_gate,
                         .y = x};
    DO(moe(dev, &t, err));
}

static void do_head(void)
{
    struct lade_matmul j = {logits, h, &head};
    DO(matmul(dev, &j, 1, 1, err));
}

static void do_topk(void)
{
    struct lade_topk t = {.n = vocab, .k = TOP, .logits = logits, .values = top, .ids = top_ids};
    DO(topk(dev, &t, err));
}

/* n tokens from `pos` on; recorded ones take id and position from `told` when they run. */
static void pass(const int32_t *host_ids, int n, int pos, bool recorded)
{
    if (recorded)
        DO(embed_at(dev, x, &embed, told, n, err));
    else
        DO(embed(dev, x, &embed, host_ids, n, err));
    for (int i = 0; i < layers; i++) {
        struct layer *l = &layer[i];
        DO(rmsnorm(dev, h, x, NULL, l->in_norm, n, HIDDEN, 1e-6f, err));
        do_in(l, n);
        if (l->attention)
            do_attention(l, n, pos, recorded ? told + 1 : NULL);
        else
            do_delta(l, n);
        do_out(l, n);
        DO(rmsnorm(dev, h, x, y, l->post_norm, n, HIDDEN, 1e-6f, err));
        do_router(l, n);
        do_route(n);
        do_moe(l, n);
    }
    float *last = x + (size_t)(n - 1) * HIDDEN;
    DO(rmsnorm(dev, h, last, NULL, final_norm, 1, HIDDEN, 1e-6f, err));
    do_head();
    do_topk();
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
    for (int round = -1; round < ROUNDS; round++) {
        DO(sync(dev, err));
        double begin = now();
        for (int i = 0; r && i < REPLAYS; i++)
            DO(replay(dev, r, err));
        if (!r)
            count = in_turn(work, n, arg, only, PROMPTS);
        DO(sync(dev, err));
        if (round >= 0)
            seconds[round] = (now() - begin) / (r ? REPLAYS : 1) / (count ? count : 1);
    }
    ops->record_free(dev, r);
    if (!count)
        return;
    qsort(seconds, ROUNDS, sizeof *seconds, by_value);
    report(name, 0, seconds[ROUNDS / 2], bytes);
}

static void w_norm(struct layer *l, int n, int arg)
{
    (void)arg;
    DO(rmsnorm(dev, h, x, y, l->post_norm, n, HIDDEN, 1e-6f, err));
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
static void w_route(struct layer *l, int n, int arg)
{
    (void)l, (void)arg;
    do_route(n);
}
static void w_moe(struct layer *l, int n, int arg)
{
    (void)arg;
    do_moe(l, n);
}
static void w_head(struct layer *l, int n, int arg)
{
    (void)l, (void)n, (void)arg;
    do_head();
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

static void each_op(void)
{
    char name[64];
    const struct layer *d = &layer[0], *t = &layer[layers > 3 ? 3 : 0];
    double kv = 2.0 * KV_HEADS * HEAD * 2, state = 2.0 * VALUE_HEADS * DIM * DIM * 4;
    measure("rmsnorm+add", w_norm, 1, 0, -1, 3.0 * HIDDEN * 4);
    measure("qkvz+ba int8", w_in, 1, 0, 0, size_of(&d->in) + size_of(&d->second));
    measure("q+k+v int8", w_in, 1, 0, 1,
            size_of(&t->in) + size_of(&t->second) + size_of(&t->third));
    measure("out int8", w_out, 1, 0, -1, size_of(&d->out));
    measure("router bf16", w_router, 1, 0, -1, size_of(&d->router));
    measure("route", w_route, 1, 0, -1, 0);
    measure("moe 10+1", w_moe, 1, 0, -1, expert_share());
    measure("deltanet", w_mixer, 1, 0, 0, state);
    for (int pos = 1024; pos < context; pos *= 32) {
        snprintf(name, sizeof name, "attention at %d", pos);
        measure(name, w_mixer, 1, pos, 1, kv * pos);
    }
    measure("head bf16", w_head, 1, 0, -1, size_of(&head));
    measure("top 20 of the vocabulary", w_topk, 1, 0, -1, 4.0 * vocab);
    if (batch < 512)
        return;
    snprintf(name, sizeof name, "%d x ", batch);
    size_t at = strlen(name);
#define LARGE(title, work, only)                                                                   \
    snprintf(name + at, sizeof name - at, title);                                                  \
    measure(name, work, batch, 0, only, 0)
    LARGE("qkvz+ba", w_in, 0);
    LARGE("out", w_out, -1);
    LARGE("router", w_router, -1);
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
        double seconds[9];
        told[0] = 5;
        told[1] = pos;
        for (int i = 0; i < 4; i++) {
            double begin = now();
            pass(host_ids, 1, pos, false);
            DO(sync(dev, err));
            seconds[i] = now() - begin;
        }
        qsort(seconds + 1, 3, sizeof *seconds, by_value);
        snprintf(name, sizeof name, "token at %d, op by op", pos);
        report(name, 1, seconds[2], token_bytes(pos));
        struct lade_recording *r;
        DO(record_begin(dev, err));
        pass(NULL, 1, context - 1, true);
        DO(record_end(dev, &r, err));
        for (int i = 0; i < 9; i++) {
            double begin = now();
            for (int k = 0; k < 4; k++)
                DO(replay(dev, r, err));
            DO(sync(dev, err));
            seconds[i] = (now() - begin) / 4;
        }
        qsort(seconds + 2, 7, sizeof *seconds, by_value);
        snprintf(name, sizeof name, "token at %d, recorded", pos);
        report(name, 1, seconds[5], token_bytes(pos));
        ops->record_free(dev, r);
    }
}

static void prompts(const int32_t *host_ids)
{
    char name[64];
    for (int n = 16; n <= batch; n = n < 512 ? n * 32 : n * 4) {
        double seconds[3];
        for (int i = 0; i < 3; i++) {
            double begin = now();
            pass(host_ids, n, 0, false);
            DO(sync(dev, err));
            seconds[i] = now() - begin;
        }
        snprintf(name, sizeof name, "prompt of %d", n);
        report(name, n, seconds[1] < seconds[2] ? seconds[1] : seconds[2], 0);
    }
}

/* ---- */

static void options(int argc, char **argv)
{
    static const struct {
        const char *name;
        int *value;
    } numbers[] = {{"--layers", &layers},
                   {"--experts", &experts},
                   {"--vocab", &vocab},
                   {"--batch", &batch},
                   {"--context", &context}};
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
                                 .expert_rows = FF};
    struct lade_device_config cfg = {0};
    struct lade_device_rates rates;
    ops = lade_plugin_open(path, err);
    if (!ops)
        die("%s", err);
    struct lade_gpu gpu;
    int n;
    DO(list(&gpu, 1, &n, err));
    double begin = now();
    cfg.reserve = gpu.free / 8; /* measure() reads it: no cache may hold it */
    DO(open(&dev, &cfg, err));
    printf("%s, opened in %.2f s\n", ops->describe(dev), now() - begin);
    DO(prepare(dev, &limits, err));
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
            "[--context N] [--json FILE]");
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
