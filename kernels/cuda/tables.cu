/* Tables of experts on the card.
 *
 * prepare() takes room for as many as are said to be in use at once. Where all of that is taken, a new
 * table gets the place of the one that was used longest ago: its owner is gone, as more were never
 * to be in use. Work that is queued before has read it when the new one is copied there. */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/moe.h"
#include "kernels/cuda/run.h"

int gpu_check_expert(const struct lade_expert *e, int dim, char *err)
{
    struct lade_matrix_layout layout[3];
    return lade_matrix_expert(&e->gate, &e->up, &e->down, dim, layout, err);
}

struct gpu_expert gpu_expert_of(const struct lade_expert *e)
{
    struct gpu_expert g = {gpu_matrix_of(&e->gate), gpu_matrix_of(&e->up), gpu_matrix_of(&e->down)};
    if (g.gate.kind != g.up.kind)
        g.gate.kind = g.up.kind = GPU_WIDE;
    return g;
}

int gpu_expert_run(const struct gpu_expert *e)
{
    const struct gpu_matrix *m[] = {&e->gate, &e->up, &e->down};
    int most = 0;
    for (int i = 0; i < 3; i++) {
        const int bytes = moe_is_tiled(m[i]->kind) ? 0 : run_bytes(run_format(*m[i]));
        most = bytes > most ? bytes : most;
    }
    return most;
}

struct gpu_table *gpu_find_table(struct lade_device *dev, const struct lade_expert *experts)
{
    struct gpu_table *t = experts ? dev->tables : NULL;
    while (t && t->host != experts)
        t = t->next;
    return t;
}

static struct gpu_table *add_table(struct lade_device *dev, char *err)
{
    struct gpu_table *t = (struct gpu_table *)calloc(1, sizeof *t);
    if (!t) {
        lade_set_error(err, "GPU %d: out of memory; close other programs", dev->gpu);
        return NULL;
    }
    t->next = dev->tables;
    dev->tables = t;
    return t;
}

/* Of prepare()'s that hold n: nobody's, or the one that was used longest ago. */
static struct gpu_table *take_table(struct lade_device *dev, int n)
{
    struct gpu_table *best = NULL;
    for (struct gpu_table *t = dev->tables; t; t = t->next)
        if (!t->own && t->capacity >= n && (!best || t->used < best->used))
            best = t;
    return best;
}

/* A table with room for n experts; recordings keep its address as long as n does not grow. */
static struct gpu_table *make_table(struct lade_device *dev, const struct lade_expert *experts,
                                    int n, char *err)
{
    struct gpu_table *t = gpu_find_table(dev, experts);
    if (t && t->capacity >= n)
        return t;
    if (t && gpu_sync(dev, err)) /* queued work may use the old one */
        return NULL;
    if (t && t->own) {
        gpu_free(dev, t->card);
        t->card = NULL;
        t->capacity = 0;
    } else {
        if (t)
            t->host = NULL;
        t = take_table(dev, n);
    }
    if (!t && !(t = add_table(dev, err)))
        return NULL;
    t->host = experts;
    t->n = 0; /* holds nothing yet */
    if (t->capacity >= n)
        return t;
    t->own = true;
    if (gpu_alloc(dev, (void **)&t->card, (size_t)n * sizeof *t->card, err)) {
        t->host = NULL;
        return NULL;
    }
    t->capacity = n;
    return t;
}

static int fill_table(struct lade_device *dev, struct gpu_table *t,
                      const struct lade_expert *experts, int n, char *err)
{
    struct gpu_expert *all = (struct gpu_expert *)calloc((size_t)n, sizeof *all);
    if (!all)
        return lade_fail(err, "GPU %d: out of memory; close other programs", dev->gpu);
    t->n = t->widest = t->run = 0;
    t->hidden_kinds = t->down_kinds = 0;
    int dim = 0, failed = 0;
    for (int i = 0; i < n && !failed; i++) {
        if (!experts[i].gate.data && experts[i].gate.rows < 1)
            continue; /* not here, and never to be */
        failed = gpu_check_expert(&experts[i], dim, err);
        dim = experts[i].gate.cols;
        all[i] = gpu_expert_of(&experts[i]);
        if (!experts[i].gate.data)
            all[i].gate.data = all[i].up.data = all[i].down.data = NULL;
        t->widest = all[i].gate.rows > t->widest ? all[i].gate.rows : t->widest;
        const int run = gpu_expert_run(&all[i]);
        t->run = run > t->run ? run : t->run;
        t->hidden_kinds |= 1u << all[i].gate.kind;
        t->down_kinds |= 1u << all[i].down.kind;
    }
    failed = failed || gpu_upload(dev, t->card, all, (size_t)n * sizeof *all, err);
    free(all);
    if (failed)
        return -1;
    t->n = n;
    return 0;
}

int gpu_table(struct lade_device *dev, const struct lade_expert *experts, int n_experts,
              uint64_t version, char *err)
{
    if (gpu_enter(dev, err))
        return -1;
    if (n_experts < 1)
        return 0;
    struct gpu_table *t = gpu_find_table(dev, experts);
    if (t)
        t->used = ++dev->table_calls;
    if (t && t->n == n_experts && (t->version == version || dev->recording))
        return 0;
    if (dev->recording)
        return lade_fail(err,
                         "moe: the table of experts was never copied to GPU %d before a "
                         "recording; report this",
                         dev->gpu);
    t = make_table(dev, experts, n_experts, err);
    if (!t || fill_table(dev, t, experts, n_experts, err))
        return -1;
    t->version = version;
    t->used = ++dev->table_calls;
    return 0;
}

size_t gpu_tables_bytes(const struct lade_limits *l)
{
    size_t bytes;
    return __builtin_mul_overflow((size_t)l->tables * (size_t)l->experts, sizeof(struct gpu_expert),
                                  &bytes)
               ? SIZE_MAX
               : bytes;
}

int gpu_tables_prepare(struct lade_device *dev, const struct lade_limits *l, char *err)
{
    void *room;
    if (dev->tables && gpu_sync(dev, err)) /* queued work may use them */
        return -1;
    gpu_tables_close(dev);
    if (l->tables < 1 || l->experts < 1)
        return 0;
    if (gpu_alloc(dev, &room, gpu_tables_bytes(l), err))
        return -1;
    dev->table_room = (struct gpu_expert *)room;
    for (int i = 0; i < l->tables; i++) {
        struct gpu_table *t = add_table(dev, err);
        if (!t)
            return -1;
        t->card = dev->table_room + (size_t)i * (size_t)l->experts;
        t->capacity = l->experts;
    }
    return 0;
}

void gpu_tables_close(struct lade_device *dev)
{
    while (dev->tables) {
        struct gpu_table *t = dev->tables;
        dev->tables = t->next;
        if (t->own)
            gpu_free(dev, t->card);
        free(t);
    }
    gpu_free(dev, dev->table_room);
    dev->table_room = NULL;
}
