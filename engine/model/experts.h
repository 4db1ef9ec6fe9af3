/* experts.h - the routed experts of a layer: route, ask the tiers, compute what they hand out. */
#ifndef LADE_MODEL_EXPERTS_H
#define LADE_MODEL_EXPERTS_H

#include "engine/checkpoint/catalog.h"
#include "engine/tiers/tiers.h"
#include "kernels/kernels.h"

struct lade_experts {
    const struct lade_catalog *cat; /* borrowed */
    struct lade_tiers *tiers;       /* borrowed */
    struct lade_expert *table;      /* [shape.experts], owned; without data between waves */
    uint64_t version;               /* of the table */
};

int lade_experts_open(struct lade_experts *x, const struct lade_catalog *cat,
                      struct lade_tiers *tiers, char *err);
void lade_experts_close(struct lade_experts *x);

/* Adds to moe->y what the routed experts of a layer and the shared one give; of `moe` everything is
 * set but the table and its version, and the routes are computed. */
int lade_experts_run(struct lade_experts *x, int layer, const struct lade_moe *moe,
                     const struct lade_ops *ops, struct lade_device *dev, char *err);

#endif
