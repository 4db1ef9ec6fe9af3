/* probe_cpu.c - how fast memory is read, and how fast the kernels work through weights. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/pages.h"
#include "engine/plan/probe.h"
#include "kernels/kernels.h"

int lade_probe_nodes(const char *sys)
{
    char path[512], line[16];
    int nodes = 0;
    snprintf(path, sizeof path, "%s/devices/system/node", sys);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        int id;
        if (sscanf(e->d_name, "node%d", &id) != 1)
            continue;
        snprintf(path, sizeof path, "%s/devices/system/node/node%d/meminfo", sys, id);
        FILE *f = fopen(path, "re");
        unsigned long long kib = 0;
        if (f && fscanf(f, "%*s %*d %15s %llu", line, &kib) == 2 && kib)
            nodes++;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return nodes ? nodes : 1;
}

/* ---- memory ---- */

enum { ROUNDS = 5 };

/* More than caches hold, but for those of large servers, which then look faster than they are. */
static const size_t RAM_BYTES = (size_t)256 << 20;

/* Memory of its own, with pages there and of different contents. */
static void *touched(size_t bytes)
{
    void *p = lade_pages_take(bytes); /* as weights are in */
    if (p)
        memset(p, 0x11, bytes);
    return p;
}

double lade_probe_ram(int threads)
{
    const struct lade_device_config config = {.threads = threads};
    const struct lade_ops *cpu = lade_cpu_ops();
    struct lade_memory memory;
    struct lade_device *dev;
    double best = 0;
    lade_machine_memory(&memory);
    if (memory.available < 2 * RAM_BYTES || cpu->open(&dev, &config, NULL))
        return 0; /* what is left is others' */
    void *data = touched(RAM_BYTES);
    for (int k = 0; data && k < ROUNDS; k++) {
        const double begin = lade_now();
        lade_cpu_read(dev, data, RAM_BYTES);
        const double rate = (double)RAM_BYTES / (lade_now() - begin) / 1e9;
        best = rate > best ? rate : best;
    }
    lade_pages_give(data, RAM_BYTES);
    cpu->close(dev);
    return best;
}

/* ---- kernels ---- */

/* Shapes of the 80B model: a layer's experts, and its largest projection; as many that no cache has
 * them. */
enum { DIM = 2048, FF = 512, WIDE = 12288, TOP = 10, EXPERTS = 96, PROJECTIONS = 12 };
enum { BATCH = LADE_PROBE_PROMPT };

/* Seconds that a measurement takes at least, and that one of its windows takes at least. */
static const double SECONDS = 0.15, WINDOW = 0.01;

struct bench {
    const struct lade_ops *ops;
    struct lade_device *dev;
    struct lade_matrix projection[PROJECTIONS];
    struct lade_expert expert[EXPERTS];
    double expert_bytes, projection_bytes;
    unsigned char *weights;
    size_t weights_bytes;
    float *x, *y; /* [BATCH][WIDE] */
    int32_t *ids; /* [BATCH][TOP] */
    float *route; /* [BATCH][TOP] */
    int turn;
};

/* The type and group of most bytes among experts, or among the rest. */
static struct lade_matrix main_type(const struct lade_catalog *cat, bool experts)
{
    struct lade_matrix best = {.type = experts ? LADE_Q4 : LADE_Q8, .group = 128};
    size_t most = 0;
    for (int i = 0; cat && i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        enum lade_piece_kind kind = cat->pieces[t->piece].kind;
        bool wanted = experts ? kind == LADE_PIECE_EXPERT : kind == LADE_PIECE_BASE;
        if (wanted && t->bytes > most) {
            most = t->bytes;
            best = t->packed;
        }
    }
    return best;
}

/* Gives m the next bytes of the weights; only counts them while there is no memory yet. */
static void place(struct bench *b, struct lade_matrix *m, const struct lade_matrix *type, int rows,
                  int cols)
{
    struct lade_matrix_layout l;
    *m = *type;
    m->rows = rows;
    m->cols = cols;
    m->data = b->weights ? b->weights + b->weights_bytes : NULL;
    if (lade_matrix_layout(m, &l) == 0)
        b->weights_bytes += (l.bytes + LADE_ALIGN - 1) / LADE_ALIGN * LADE_ALIGN;
}

static void place_all(struct bench *b, const struct lade_matrix *experts,
                      const struct lade_matrix *base)
{
    b->weights_bytes = 0;
    for (int i = 0; i < EXPERTS; i++) {
        place(b, &b->expert[i].gate, experts, FF, DIM);
        place(b, &b->expert[i].up, experts, FF, DIM);
        place(b, &b->expert[i].down, experts, DIM, FF);
    }
    b->expert_bytes = (double)b->weights_bytes / EXPERTS;
    for (int i = 0; i < PROJECTIONS; i++)
        place(b, &b->projection[i], base, WIDE, DIM);
    b->projection_bytes = ((double)b->weights_bytes - b->expert_bytes * EXPERTS) / PROJECTIONS;
}

static void fill_inputs(struct bench *b)
{
    for (size_t i = 0; i < (size_t)BATCH * WIDE; i++)
        b->x[i] = 1.0f / (float)(1 + i % 7);
    for (int i = 0; i < BATCH * TOP; i++) {
        b->ids[i] = i % EXPERTS;
        b->route[i] = 1.0f / TOP;
    }
}

void lade_probe_types(struct lade_machine_kernels *out, const struct lade_catalog *cat)
{
    struct lade_matrix experts = main_type(cat, true), base = main_type(cat, false);
    snprintf(out->experts, sizeof out->experts, "%s", lade_matrix_type(&experts));
    snprintf(out->base, sizeof out->base, "%s", lade_matrix_type(&base));
}

static bool prepare(struct bench *b, const struct lade_probe_wish *wish)
{
    struct lade_device_config config = {
        .threads = wish->threads, .isa = wish->isa, .exact = wish->exact};
    struct lade_matrix experts = main_type(wish->catalog, true);
    struct lade_matrix base = main_type(wish->catalog, false);
    b->ops = lade_cpu_ops();
    place_all(b, &experts, &base);
    b->weights = touched(b->weights_bytes);
    b->x = malloc(sizeof(float) * BATCH * WIDE);
    b->y = malloc(sizeof(float) * BATCH * WIDE);
    b->ids = malloc(sizeof(int32_t) * BATCH * TOP);
    b->route = malloc(sizeof(float) * BATCH * TOP);
    if (!b->weights || !b->x || !b->y || !b->ids || !b->route ||
        b->ops->open(&b->dev, &config, NULL))
        return false;
    place_all(b, &experts, &base);
    fill_inputs(b);
    return true;
}

static void finish(struct bench *b)
{
    if (b->dev)
        b->ops->close(b->dev);
    lade_pages_give(b->weights, b->weights_bytes);
    free(b->x);
    free(b->y);
    free(b->ids);
    free(b->route);
}

/* Experts of `n` tokens. The next ones each time, so that they come from memory. */
static int run_experts(struct bench *b, int n)
{
    for (int i = 0; n == 1 && i < TOP; i++)
        b->ids[i] = b->turn++ % EXPERTS;
    struct lade_moe moe = {.n = n,
                           .dim = DIM,
                           .k = TOP,
                           .n_experts = EXPERTS,
                           .x = b->x,
                           .ids = b->ids,
                           .weights = b->route,
                           .experts = b->expert,
                           .y = b->y};
    return b->ops->moe(b->dev, &moe, NULL);
}

static int run_base(struct bench *b, int n)
{
    struct lade_matmul job = {.y = b->y, .x = b->x, .w = &b->projection[b->turn++ % PROJECTIONS]};
    return b->ops->matmul(b->dev, &job, 1, n, NULL);
}

/* Calls per second, 0 where a kernel refuses: of the best window, because other programs only ever
 * make it slower. */
static double rate(struct bench *b, int (*run)(struct bench *, int), int n)
{
    double best = 0, end, stop = lade_now() + SECONDS;
    if (run(b, n))
        return 0;
    do {
        double begin = lade_now();
        int calls = 0;
        do {
            if (run(b, n))
                return 0;
            calls++;
            end = lade_now();
        } while (end - begin < WINDOW);
        best = calls / (end - begin) > best ? calls / (end - begin) : best;
    } while (end < stop);
    return best;
}

void lade_probe_kernels(struct lade_machine_kernels *out, const struct lade_probe_wish *wish,
                        int prompt)
{
    struct bench b = {0};
    *out = (struct lade_machine_kernels){0};
    lade_probe_types(out, wish->catalog);
    if (prepare(&b, wish)) {
        /* A prompt of 512 tokens gives each of 512 experts ten: as many here per expert. */
        const int batch = (prompt * EXPERTS - 1) / BATCH + 1;
        const double expert_flops = 2.0 * 3 * DIM * FF * TOP, base_flops = 2.0 * DIM * WIDE;
        out->experts_gbps = rate(&b, run_experts, 1) * TOP * b.expert_bytes / 1e9;
        out->base_gbps = rate(&b, run_base, 1) * b.projection_bytes / 1e9;
        for (int i = 0; i < BATCH * TOP; i++)
            b.ids[i] = i % EXPERTS;
        out->experts_gflops = rate(&b, run_experts, batch) * batch * expert_flops / 1e9;
        out->base_gflops = rate(&b, run_base, prompt) * prompt * base_flops / 1e9;
    }
    finish(&b);
}
