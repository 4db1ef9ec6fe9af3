#include "tests/gpu/bench_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct lade_ops *ops;
struct lade_device *dev;
char err[LADE_ERR];

int layers = 48, experts = 512, vocab = 151936, batch = 2048, context = 33792;
struct layer *layer;
struct lade_matrix embed, head;
size_t expert_bytes, weight_bytes;
int32_t *told;
float *x, *a;

static float *final_norm, *inv_freq;
static float *h, *y, *b, *c, *mixed, *router, *weights, *logits, *top;
static int32_t *ids, *top_ids;

_Noreturn void die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "bench_gpu: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

uint32_t rng(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* ---- weights ---- */

void *get(size_t bytes)
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

struct lade_matrix_layout layout_of(const struct lade_matrix *m)
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

void make_model(void)
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

void make_buffers(void)
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

/* Products of the norm of x[n][HIDDEN]. */
static void project(const float *from, const float *norm, const struct lade_matmul *jobs,
                    int n_jobs, int n)
{
    struct lade_project t = {.n = n,
                             .dim = HIDDEN,
                             .x = from,
                             .norm = norm,
                             .eps = 1e-6f,
                             .h = h,
                             .jobs = jobs,
                             .n_jobs = n_jobs};
    DO(project(dev, &t, err));
}

void do_in(struct layer *l, int n)
{
    struct lade_matmul j[] = {{a, h, &l->in}, {b, h, &l->second}, {c, h, &l->third}};
    project(x, l->in_norm, j, l->attention ? 3 : 2, n);
}

void do_out(struct layer *l, int n)
{
    struct lade_matmul j = {y, mixed, &l->out};
    DO(matmul(dev, &j, 1, n, err));
}

void do_attention(struct layer *l, int n, int pos, const int32_t *pos_at)
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

void do_delta(struct layer *l, int n)
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

void do_router(struct layer *l, int n)
{
    struct lade_router t = {
        .n = n,
        .dim = HIDDEN,
        .x = x,
        .add = y,
        .norm = l->post_norm,
        .eps = 1e-6f,
        .h = h,
        .w = &l->router,
        .logits = router,
        .route = {
            .experts = experts, .k = USED, .renormalize = true, .ids = ids, .weights = weights}};
    DO(router(dev, &t, err));
}

void do_moe(struct layer *l, int n)
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

void do_head(int token)
{
    struct lade_matmul j = {logits, h, &head};
    project(x + (size_t)token * HIDDEN, final_norm, &j, 1, 1);
}

void do_topk(void)
{
    struct lade_topk t = {.n = vocab, .k = TOP, .logits = logits, .values = top, .ids = top_ids};
    DO(topk(dev, &t, err));
}

void pass(const int32_t *host_ids, int n, int pos, bool recorded)
{
    if (recorded)
        DO(embed_at(dev, x, &embed, told, n, err));
    else
        DO(embed(dev, x, &embed, host_ids, n, err));
    for (int i = 0; i < layers; i++) {
        struct layer *l = &layer[i];
        do_in(l, n);
        if (l->attention)
            do_attention(l, n, pos, recorded ? told + 1 : NULL);
        else
            do_delta(l, n);
        do_out(l, n);
        do_router(l, n);
        do_moe(l, n);
    }
    do_head(n - 1);
    do_topk();
}
