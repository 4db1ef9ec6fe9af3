#include "engine/model/weights.h"

#include <stdlib.h>

struct binder {
    const struct lade_catalog *cat;
    const struct lade_tiers *tiers;
    char *err;
    bool failed;
};

/* Sticky: after the first missing tensor every further look-up returns an empty matrix. */
static struct lade_matrix matrix(struct binder *b, int piece, enum lade_role role)
{
    const struct lade_tensor *t = b->failed ? NULL : lade_catalog_find(b->cat, piece, role);
    if (!t) {
        if (!b->failed)
            lade_fail(b->err, "%s: layer %d lacks tensor role %d; download the model again",
                      b->cat->path, b->cat->pieces[piece].layer, role);
        b->failed = true;
        return (struct lade_matrix){0};
    }
    struct lade_matrix m = t->packed;
    m.data = (const unsigned char *)lade_tiers_base(b->tiers, piece) + t->offset;
    return m;
}

static const float *vector(struct binder *b, int piece, enum lade_role role)
{
    return matrix(b, piece, role).data;
}

static void bind_mixer(struct binder *b, struct lade_layer *layer, int base)
{
    if (layer->full_attention) {
        layer->attention = (struct lade_attention_weights){
            .q = matrix(b, base, LADE_ATTN_Q),
            .k = matrix(b, base, LADE_ATTN_K),
            .v = matrix(b, base, LADE_ATTN_V),
            .o = matrix(b, base, LADE_ATTN_O),
            .q_norm = vector(b, base, LADE_Q_NORM),
            .k_norm = vector(b, base, LADE_K_NORM),
        };
        return;
    }
    layer->delta = (struct lade_delta_weights){
        .qkvz = matrix(b, base, LADE_DELTA_QKVZ),
        .z = lade_catalog_find(b->cat, base, LADE_DELTA_Z) ? matrix(b, base, LADE_DELTA_Z)
                                                           : (struct lade_matrix){0},
        .ba = matrix(b, base, LADE_DELTA_BA),
        .out = matrix(b, base, LADE_DELTA_OUT),
        .conv = vector(b, base, LADE_DELTA_CONV),
        .decay = vector(b, base, LADE_DELTA_DECAY),
        .dt_bias = vector(b, base, LADE_DELTA_DT_BIAS),
        .norm = vector(b, base, LADE_DELTA_NORM),
    };
}

static void bind_layer(struct binder *b, struct lade_layer *layer, int index)
{
    int base = lade_catalog_base(b->cat, index);
    layer->in_norm = vector(b, base, LADE_IN_NORM);
    layer->post_norm = vector(b, base, LADE_POST_NORM);
    bind_mixer(b, layer, base);
    layer->router = matrix(b, base, LADE_ROUTER);
    layer->shared_gate = vector(b, base, LADE_SHARED_GATE);
    layer->shared = (struct lade_expert){matrix(b, base, LADE_SHARED_FF_GATE),
                                         matrix(b, base, LADE_SHARED_FF_UP),
                                         matrix(b, base, LADE_SHARED_FF_DOWN)};
}

int lade_weights_bind(struct lade_weights *w, const struct lade_catalog *cat,
                      const struct lade_tiers *tiers, char *err)
{
    const struct lade_shape *s = &cat->shape;
    *w = (struct lade_weights){0};
    w->layers = calloc((size_t)s->layers, sizeof *w->layers);
    if (!w->layers)
        return lade_fail(err, "%s: out of memory for the weight table; close other programs",
                         cat->path);
    struct binder b = {.cat = cat, .tiers = tiers, .err = err};
    /* Pieces 0 and 1 are the embedding and the head (catalog.h). */
    w->embed = matrix(&b, 0, LADE_EMBED);
    w->final_norm = vector(&b, 1, LADE_FINAL_NORM);
    if (s->tied_embeddings) {
        w->head = w->embed;
        w->head.data = (const unsigned char *)lade_tiers_tied_head(tiers) +
                       ((const unsigned char *)w->embed.data -
                        (const unsigned char *)lade_tiers_base(tiers, 0));
    } else {
        w->head = matrix(&b, 1, LADE_HEAD);
    }
    for (int i = 0; i < s->layers; i++) {
        w->layers[i].full_attention = s->full_attention[i];
        bind_layer(&b, &w->layers[i], i);
    }
    if (b.failed) {
        lade_weights_free(w);
        return -1;
    }
    return 0;
}

void lade_weights_free(struct lade_weights *w)
{
    free(w->layers);
    *w = (struct lade_weights){0};
}
