#include "engine/model/experts.h"

#include <stdlib.h>

int lade_experts_open(struct lade_experts *x, const struct lade_catalog *cat,
                      struct lade_tiers *tiers, char *err)
{
    *x = (struct lade_experts){.cat = cat, .tiers = tiers};
    x->table = calloc((size_t)cat->shape.experts, sizeof *x->table);
    return x->table ? 0
                    : lade_fail(err,
                                "%s: out of memory for a table of experts; close other "
                                "programs",
                                cat->path);
}

void lade_experts_close(struct lade_experts *x)
{
    free(x->table);
    *x = (struct lade_experts){0};
}

/* Points an entry of the table at the packed bytes of its piece; NULL takes it out. */
static void point(struct lade_experts *x, int layer, int expert, const unsigned char *data)
{
    const struct lade_catalog *cat = x->cat;
    const struct lade_piece *p = &cat->pieces[lade_catalog_expert(cat, layer, expert)];
    struct lade_expert *e = &x->table[expert];
    /* The order of an expert's tensors is that of the roles (catalog.h). */
    struct lade_matrix *m[] = {&e->gate, &e->up, &e->down};
    for (int i = 0; i < 3; i++) {
        const struct lade_tensor *t = &cat->tensors[p->first + i];
        *m[i] = t->packed;
        m[i]->data = data ? data + t->offset : NULL;
    }
}

static int run_wave(struct lade_experts *x, int layer, const struct lade_wave *wave,
                    const struct lade_moe *moe, const struct lade_ops *ops, struct lade_device *dev,
                    char *err)
{
    struct lade_moe op = *moe;
    op.experts = x->table;
    op.version = ++x->version;
    for (int i = 0; i < wave->n; i++)
        point(x, layer, wave->experts[i], wave->data[i]);
    int rc = ops->moe(dev, &op, err);
    for (int i = 0; i < wave->n; i++)
        point(x, layer, wave->experts[i], NULL);
    return rc;
}

int lade_experts_run(struct lade_experts *x, int layer, const struct lade_moe *moe,
                     const struct lade_ops *ops, struct lade_device *dev, char *err)
{
    struct lade_moe rest = *moe;
    struct lade_wave wave;
    int rc;
    lade_tiers_ask(x->tiers, layer, moe->ids, moe->n * moe->k);
    while ((rc = lade_tiers_wave(x->tiers, &wave, err)) > 0) {
        rc = run_wave(x, layer, &wave, &rest, ops, dev, err);
        if (rc)
            break;
        rest.shared = NULL; /* it went with the first wave */
    }
    lade_tiers_done(x->tiers);
    return rc;
}
