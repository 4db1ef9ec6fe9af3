/* Tables of experts, as a GPU would keep them: copied when the version changes, else as they
 * were. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

void sim_table_release(struct sim_table *t)
{
    if (!t || --t->holders)
        return;
    free(t->source);
    free(t->real);
    free(t->ranges);
    free(t);
}

static int add_matrix(struct lade_device *dev, struct sim_table *t, struct lade_matrix *m,
                      char *err)
{
    struct lade_matrix_layout l;
    if (lade_matrix_layout(m, &l))
        return lade_fail(err, "sim: an expert of %d x %d has no layout; check the checkpoint",
                         m->rows, m->cols);
    m->data = sim_real(dev, "an expert", m->data, l.bytes, NULL, err);
    if (!m->data)
        return -1;
    t->ranges[t->n_ranges++] = (struct sim_range){m->data, l.bytes, false};
    return 0;
}

/* Finds the real addresses again: after a change, and where memory was freed since. */
static int resolve(struct lade_device *dev, struct sim_table *t, char *err)
{
    t->n_ranges = 0;
    t->frees = dev->frees;
    for (int e = 0; e < t->n; e++) {
        struct lade_expert *x = &t->real[e];
        *x = t->source[e];
        if (x->gate.data && (add_matrix(dev, t, &x->gate, err) || add_matrix(dev, t, &x->up, err) ||
                             add_matrix(dev, t, &x->down, err)))
            return -1;
    }
    return 0;
}

static struct sim_table **find(struct lade_device *dev, const struct lade_expert *key)
{
    struct sim_table **t = &dev->tables;
    while (*t && (*t)->key != key)
        t = &(*t)->next;
    return t;
}

static struct sim_table *make(const struct lade_expert *experts, int n, uint64_t version, char *err)
{
    struct sim_table *t = calloc(1, sizeof *t);
    size_t count = (size_t)n;
    if (t) {
        *t = (struct sim_table){.key = experts, .n = n, .holders = 1, .version = version};
        t->source = malloc(count * sizeof *t->source);
        t->real = malloc(count * sizeof *t->real);
        t->ranges = malloc(3 * count * sizeof *t->ranges);
    }
    if (!t || !t->source || !t->real || !t->ranges) {
        sim_table_release(t);
        lade_set_error(err, "sim: out of memory; close other programs");
        return NULL;
    }
    memcpy(t->source, experts, count * sizeof *experts);
    return t;
}

/* Whether an expert is as it was; what describes experts that are not there does not count. */
static bool same(const struct lade_expert *a, const struct lade_expert *b)
{
    return a->gate.data == b->gate.data &&
           (!a->gate.data || (a->up.data == b->up.data && a->down.data == b->down.data));
}

int sim_table_update(struct lade_device *dev, const struct lade_expert *experts, int n,
                     uint64_t version, char *err)
{
    struct sim_table **place = find(dev, experts), *old = *place;
    if (old && old->version == version && old->n == n) {
        for (int e = 0; e < n; e++)
            if (!same(&old->source[e], &experts[e]))
                return lade_fail(err,
                                 "sim: expert %d of a table changed, its version %llu did "
                                 "not; fix the caller",
                                 e, (unsigned long long)version);
        return 0;
    }
    if (dev->recording)
        return lade_fail(err, "sim: a table of experts changes in a recording; call table() "
                              "before");
    struct sim_table *t = make(experts, n, version, err);
    if (!t)
        return -1;
    if (resolve(dev, t, err)) {
        sim_table_release(t);
        return -1;
    }
    if (old) {
        t->next = old->next;
        sim_table_release(old);
    }
    *place = t;
    lade_sim.tables++;
    return 0;
}

struct sim_table *sim_table_hold(struct lade_device *dev, const struct lade_expert *key, char *err)
{
    struct sim_table *t = *find(dev, key);
    if (!t) {
        lade_set_error(err, "sim: a table of experts is used before table() or moe() saw it; fix "
                            "the caller");
        return NULL;
    }
    if (t->frees != dev->frees && resolve(dev, t, err))
        return NULL;
    t->holders++;
    return t;
}

int sim_table(struct lade_device *dev, const struct lade_expert *experts, int n, uint64_t version,
              char *err)
{
    if (sim_enter_plain(dev, err))
        return -1;
    return sim_leave(sim_table_update(dev, experts, n, version, err));
}
