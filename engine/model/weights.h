/* weights.h - every weight of the base as the forward pass names it, bound once. Routed experts come
 * and go; experts.h asks the tiers for them.
 *
 * Binding resolves roles to matrices and pointers, so that a missing or misshapen tensor cannot
 * surface in the middle of a token. Nothing here is owned: the tiers own the memory. */
#ifndef LADE_MODEL_WEIGHTS_H
#define LADE_MODEL_WEIGHTS_H

#include "engine/checkpoint/catalog.h"
#include "engine/tiers/tiers.h"
#include "kernels/kernels.h"

struct lade_attention_weights {
    struct lade_matrix q, k, v, o;
    const float *q_norm, *k_norm;
};

struct lade_delta_weights {
    struct lade_matrix qkvz, z, ba, out; /* z: no rows where qkvz has them */
    const float *conv, *decay, *dt_bias, *norm;
};

struct lade_layer {
    bool full_attention;
    const float *in_norm, *post_norm;
    union {
        struct lade_attention_weights attention;
        struct lade_delta_weights delta;
    };
    struct lade_matrix router;
    const float *shared_gate;
    struct lade_expert shared;
};

struct lade_weights {
    struct lade_matrix embed, head;
    const float *final_norm;
    struct lade_layer *layers; /* owned */
};

int lade_weights_bind(struct lade_weights *w, const struct lade_catalog *cat,
                      const struct lade_tiers *tiers, char *err);
void lade_weights_free(struct lade_weights *w);

#endif
