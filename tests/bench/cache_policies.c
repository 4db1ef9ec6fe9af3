/* cache_policies - how often an expert is found in RAM, by the policy that says who leaves.
 *
 *     cache_policies TRACE...                 recorded routing (tests/fixtures/routing)
 *     cache_policies --synthetic [TOKENS]     made-up routing of the 80B model's size
 *
 * Routes are replayed token by token through engine/tiers/cache.c, in the order in which ask.c uses
 * it: what is there is pinned first, then the others take slots, then all is given up. A policy is a
 * score of each expert; the cache evicts the lowest. At the start the cache is full, as after a
 * load: the same number of experts of every layer.
 *
 * Made-up routing is that of a router whose logits are sums of Gaussians: how popular an expert is,
 * what the topic, which drifts, and what the kind of token want of it, and noise. The weights come
 * near what was seen of a real model of 512 experts, 10 a token (llama.cpp #27861): LRU caches of
 * 12.5% and 25% serve 71% and 79% (there 67% and 81%), the 6.2% most popular experts 18% (10%). */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tiers/cache.h"
#include "engine/tiers/heat.h"

static char err[LADE_ERR];

static void *get(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "cache_policies: out of memory; close other programs\n");
        exit(1);
    }
    return p;
}

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "cache_policies: %s: %s\n", what, why);
    exit(1);
}

/* ---- routes ---------------------------------------------------------------------------------- */

struct trace {
    int layers, experts, top, tokens;
    int *routes; /* [tokens][layers][top] experts of the layer, owned */
};

static int *routes_at(const struct trace *t, int token, int layer)
{
    return t->routes + ((size_t)token * (size_t)t->layers + (size_t)layer) * (size_t)t->top;
}

/* The format is described in tests/reference/demo/traces.py. */
static void read_trace(struct trace *t, const char *path)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char line[4096];
    FILE *f = fopen(path, "re");
    if (!f)
        give_up(path, strerror(errno));
    if (!fgets(line, sizeof line, f) || strcmp(line, "lade-routing 1\n") != 0 ||
        !fgets(line, sizeof line, f) ||
        sscanf(line, "layers %d experts %d top %d", &t->layers, &t->experts, &t->top) != 3 ||
        t->layers < 1 || t->experts < 1 || t->experts > 36 || t->top < 1 || t->top > t->experts)
        give_up(path, "is not a trace");
    size_t width = (size_t)t->layers * (size_t)t->top, room = 0;
    t->tokens = 0;
    t->routes = NULL;
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "conversation ", 13))
            continue;
        if ((size_t)t->tokens == room) {
            room = room ? 2 * room : 1024;
            t->routes = realloc(t->routes, room * width * sizeof *t->routes);
            if (!t->routes)
                give_up(path, "out of memory");
        }
        int *to = routes_at(t, t->tokens++, 0);
        size_t n = 0;
        for (const char *c = line; *c && *c != '\n'; c++) {
            const char *digit = *c == '|' ? NULL : strchr(digits, *c);
            if (*c == '|')
                continue;
            if (!digit || n == width || digit - digits >= t->experts)
                give_up(path, "has a line that is no token");
            to[n++] = (int)(digit - digits);
        }
        if (n != width)
            give_up(path, "has a line that is no token");
    }
    fclose(f);
}

static uint64_t rng = 88172645463325252u;

static double uniform(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (double)(rng >> 11) * 0x1p-53;
}

/* The sum of four uniforms is close enough, and quick. */
static float gaussian(void)
{
    return (float)((uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508);
}

static float *gaussians(size_t n)
{
    float *out = get(n, sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i] = gaussian();
    return out;
}

/* The `top` experts of the largest logits. */
static void choose(const float *logits, int experts, int *out, int top)
{
    float kept[32];
    int n = 0;
    for (int e = 0; e < experts; e++) {
        if (n == top && logits[e] <= kept[n - 1])
            continue;
        int at = n < top ? n++ : n - 1;
        for (; at > 0 && kept[at - 1] < logits[e]; at--) {
            kept[at] = kept[at - 1];
            out[at] = out[at - 1];
        }
        kept[at] = logits[e];
        out[at] = e;
    }
}

static void make_trace(struct trace *t, int tokens)
{
    enum { LAYERS = 48, EXPERTS = 512, TOP = 10, KINDS = 64 };
    const float popular = 0.2f, of_topic = 1.0f, of_kind = 0.5f, noise = 0.45f, keep = 0.96f;
    const float change = sqrtf(1 - keep * keep);
    size_t all = (size_t)LAYERS * EXPERTS;
    float *popularity = gaussians(all), *topic = gaussians(all), *kind = gaussians(KINDS * all),
          *logits = get(EXPERTS, sizeof *logits);
    *t = (struct trace){LAYERS, EXPERTS, TOP, tokens, NULL};
    t->routes = get((size_t)tokens * LAYERS * TOP, sizeof *t->routes);
    for (int i = 0; i < tokens; i++) {
        int k = (int)(KINDS * uniform() * uniform()); /* few kinds of token are frequent */
        for (int l = 0; l < LAYERS; l++) {
            size_t at = (size_t)l * EXPERTS;
            for (size_t e = 0; e < EXPERTS; e++) {
                topic[at + e] = keep * topic[at + e] + change * gaussian();
                logits[e] = popular * popularity[at + e] + of_topic * topic[at + e] +
                            of_kind * kind[(size_t)k * all + at + e] + noise * gaussian();
            }
            choose(logits, EXPERTS, routes_at(t, i, l), TOP);
        }
    }
    free(popularity);
    free(topic);
    free(kind);
    free(logits);
}

/* ---- policies -------------------------------------------------------------------------------- */

enum policy { STATIC, LRU, LFU, LFU_HALVED, LRFU, LFRU, BELADY };

struct row {
    const char *name;
    enum policy policy;
    double tokens; /* LFU_HALVED: after how many; LRFU: after how many a use counts e times less */
    bool by_layer; /* each layer has slots of its own */
};

static const struct row rows[] = {
    {"most used, chosen once", STATIC, 0, false},
    {"LRU", LRU, 0, false},
    {"LRU, by layer", LRU, 0, true},
    {"LFU", LFU, 0, false},
    {"LFU, halved every 64 tokens", LFU_HALVED, 64, false},
    {"LFU, halved every 256 tokens", LFU_HALVED, 256, false},
    {"LFRU (uses over age)", LFRU, 0, false},
    {"LRFU, 4 tokens", LRFU, 4, false},
    {"LRFU, 8 tokens", LRFU, 8, false},
    {"LRFU, 16 tokens", LRFU, 16, false},
    {"LRFU, 32 tokens", LRFU, 32, false},
    {"LRFU, 64 tokens", LRFU, 64, false},
    {"LRFU, 256 tokens", LRFU, 256, false},
    {"LRFU, 1024 tokens", LRFU, 1024, false},
    {"LRFU, 16 tokens, by layer", LRFU, 16, true},
    {"farthest next use (bound)", BELADY, 0, false},
};

struct replay {
    const struct trace *t;
    const struct row *row;
    struct lade_kinds kinds;
    struct lade_cache cache;
    double *score;   /* [n] owned, as `used` */
    int *used;       /* [n] LFRU: token of the last use */
    const int *next; /* [tokens][layers][top] borrowed, BELADY: the next token that uses it */
    int slots[32];   /* of the layer at work */
    int now;
    long hits, visits;
};

static void open_replay(struct replay *r, const struct trace *t, const struct row *row,
                        double share, const int *next)
{
    size_t n = (size_t)t->layers * (size_t)t->experts;
    int room[LADE_MAX_KINDS];
    *r = (struct replay){.t = t, .row = row, .next = next};
    r->kinds.n_experts = (int)n;
    r->kinds.n = row->by_layer ? t->layers : 1;
    r->kinds.of = get(n, 1);
    r->score = get(n, sizeof *r->score);
    r->used = get(n, sizeof *r->used);
    for (size_t e = 0; e < n; e++) {
        r->kinds.of[e] = (uint8_t)(row->by_layer ? e / (size_t)t->experts : 0);
        r->kinds.kind[r->kinds.of[e]].experts++;
        r->score[e] = row->policy == BELADY ? -t->tokens : 0; /* nothing is known of it */
    }
    for (int i = 0; i < r->kinds.n; i++)
        room[i] = (int)(share * r->kinds.kind[i].experts + 0.5);
    if (lade_cache_open(&r->cache, &r->kinds, room, t->top, r->score, err))
        give_up("cache", err);
}

static void close_replay(struct replay *r)
{
    lade_cache_close(&r->cache);
    free(r->kinds.of);
    free(r->score);
    free(r->used);
}

/* Fills the cache: first experts of all layers, then second ones, and so on, or the most used. */
static void fill(struct replay *r)
{
    const struct trace *t = r->t;
    int n = t->layers * t->experts, *order = get((size_t)n, sizeof *order);
    long *uses = get((size_t)n, sizeof *uses);
    for (int i = 0; i < n; i++)
        order[i] = i % t->layers * t->experts + i / t->layers;
    if (r->row->policy == STATIC) {
        for (int i = 0; i < t->tokens; i++)
            for (int l = 0; l < t->layers; l++)
                for (int k = 0; k < t->top; k++)
                    uses[l * t->experts + routes_at(t, i, l)[k]]++;
        for (int i = 1; i < n; i++) /* nearly sorted is not to be expected, but n is small */
            for (int j = i; j > 0 && uses[order[j]] > uses[order[j - 1]]; j--) {
                int e = order[j];
                order[j] = order[j - 1];
                order[j - 1] = e;
            }
    }
    for (int i = 0; i < n; i++) {
        int slot = lade_cache_take(&r->cache, order[i], LADE_TAKE_FREE);
        if (slot < 0)
            continue;
        lade_cache_filled(&r->cache, slot);
        lade_cache_unpin(&r->cache, slot);
    }
    free(order);
    free(uses);
}

/* Expert e is used, while its slot is pinned or it has none. */
static void count(struct replay *r, int e, int next)
{
    double *s = &r->score[e];
    switch (r->row->policy) {
    case STATIC:
        return;
    case LRU:
        *s = r->now + 1;
        return;
    case LFU:
    case LFU_HALVED:
    case LFRU:
        *s += 1;
        r->used[e] = r->now;
        return;
    case LRFU:
        *s += exp(fmod(r->now, 300 * r->row->tokens) / r->row->tokens);
        return;
    case BELADY:
        *s = -next;
        return;
    }
}

/* What policies do between tokens. It keeps the order of scores, so the heap need not know. */
static void tick(struct replay *r)
{
    double factor = 1, tokens = r->row->tokens;
    if (r->row->policy == LFU_HALVED && r->now % (int)tokens == 0)
        factor = 0.5;
    if (r->row->policy == LRFU && r->now && r->now % (int)(300 * tokens) == 0)
        factor = exp(-300);
    for (int e = 0; factor < 1 && e < r->kinds.n_experts; e++)
        r->score[e] *= factor;
}

/* LFRU's order changes with time: frees the slot of the lowest uses over age by looking at all. */
static void evict_lfru(struct replay *r)
{
    struct lade_cache *c = &r->cache;
    const struct lade_cache_kind *k = &c->kind[0];
    int worst = -1;
    double least = INFINITY;
    for (int i = 0; i < k->n_heap && !k->n_free; i++) {
        int e = c->expert_in[k->heap[i]];
        double value = r->score[e] / (r->now - r->used[e] + 1);
        if (value < least) {
            least = value;
            worst = k->heap[i];
        }
    }
    if (worst >= 0) {
        r->score[c->expert_in[worst]] = 0; /* uses are those since it came */
        lade_cache_evict(c, worst);
    }
}

static void visit_layer(struct replay *r, int layer)
{
    const struct trace *t = r->t;
    struct lade_cache *c = &r->cache;
    const int *routes = routes_at(t, r->now, layer);
    bool fixed = r->row->policy == STATIC;
    for (int k = 0; k < t->top; k++) {
        int e = layer * t->experts + routes[k];
        r->slots[k] = c->slot_of[e];
        if (r->slots[k] >= 0)
            lade_cache_pin(c, r->slots[k]);
        r->hits += r->slots[k] >= 0;
        r->visits++;
        count(r, e, r->next[routes + k - t->routes]);
    }
    for (int k = 0; k < t->top; k++) {
        if (r->slots[k] >= 0)
            continue;
        if (r->row->policy == LFRU)
            evict_lfru(r);
        r->slots[k] = lade_cache_take(c, layer * t->experts + routes[k],
                                      fixed ? LADE_TAKE_PASSING : LADE_TAKE_ANY);
        lade_cache_filled(c, r->slots[k]);
    }
    for (int k = 0; k < t->top; k++)
        lade_cache_unpin(c, r->slots[k]);
}

static double replay(const struct trace *t, const struct row *row, double share, const int *next)
{
    struct replay r;
    open_replay(&r, t, row, share, next);
    fill(&r);
    for (; r.now < t->tokens; r.now++) {
        tick(&r);
        for (int l = 0; l < t->layers; l++)
            visit_layer(&r, l);
    }
    close_replay(&r);
    return (double)r.hits / (double)r.visits;
}

/* For each route the token that uses the same expert next. */
static int *next_uses(const struct trace *t)
{
    size_t width = (size_t)t->layers * (size_t)t->top;
    int *next = get((size_t)t->tokens * width, sizeof *next);
    int *seen = get((size_t)t->layers * (size_t)t->experts, sizeof *seen);
    for (int i = 0; i < t->layers * t->experts; i++)
        seen[i] = 2 * t->tokens;
    for (int i = t->tokens - 1; i >= 0; i--)
        for (int l = 0; l < t->layers; l++)
            for (int k = 0; k < t->top; k++) {
                const int *route = routes_at(t, i, l) + k;
                next[route - t->routes] = seen[l * t->experts + *route];
                seen[l * t->experts + *route] = i;
            }
    free(seen);
    return next;
}

static void compare(const char *name, const struct trace *t)
{
    static const double shares[] = {0.0625, 0.125, 0.25, 0.45, 0.64, 0.8};
    enum { SHARES = sizeof shares / sizeof *shares };
    int *next = next_uses(t);
    printf("%s: %d tokens, %d layers of %d experts, %d a token\n\n", name, t->tokens, t->layers,
           t->experts, t->top);
    printf("| hits in %%, of a cache of |");
    for (int i = 0; i < SHARES; i++)
        printf(" %g%% |", 100 * shares[i]);
    printf("\n|---|");
    for (int i = 0; i < SHARES; i++)
        printf("---:|");
    for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
        printf("\n| %s |", rows[j].name);
        for (int i = 0; i < SHARES; i++) {
            printf(" %.1f |", 100 * replay(t, &rows[j], shares[i], next));
            fflush(stdout);
        }
    }
    printf("\n\n");
    free(next);
}

int main(int argc, char **argv)
{
    struct trace t;
    if (argc < 2)
        give_up("usage", "cache_policies TRACE... | --synthetic [TOKENS]");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--synthetic") != 0) {
            read_trace(&t, argv[i]);
            compare(argv[i], &t);
        } else {
            int tokens = i + 1 < argc ? atoi(argv[++i]) : 1500;
            make_trace(&t, tokens < 1 ? 1 : tokens);
            compare("made-up routing", &t);
        }
        free(t.routes);
    }
    return 0;
}
