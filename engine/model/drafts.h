/* drafts.h - memory of a pass over one token and guesses of those after it, most of which may be wrong.
 *
 * The pass leaves the recurrent state as it was: every delta-net works on a copy of its layer's, and
 * what it was given stays here. When it is known how many of the rows were right, the state takes those
 * and no others (lade_forward_settle); of the caches the length tells. So a wrong guess costs no copy
 * of the whole state, and a pass that fails changes nothing. Of a CPU without GPUs: their tokens are
 * recordings, beside which several rows gain little.
 *
 * Up to LADE_DRAFT_ROWS rows the CPU's delta-nets go token by token, so that of equal rows the state is
 * the same to the last bit, whichever way it took them. */
#ifndef LADE_MODEL_DRAFTS_H
#define LADE_MODEL_DRAFTS_H

#include "engine/checkpoint/shape.h"
#include "engine/model/devices.h"
#include "engine/tiers/tiers.h"

enum { LADE_DRAFT_ROWS = 1 + LADE_TIERS_DRAFTS }; /* of a pass at most: the token and its drafts */

/* What a delta-net is given: see struct lade_deltanet. */
struct lade_delta_rows {
    float *qkvz, *ba, *z;
};

struct lade_drafts {
    const struct lade_device_part *part; /* borrowed */
    int rows;                            /* 0: there are no such passes */
    void *memory;                        /* owned: all below */
    float *logits;                       /* [rows][vocab] */
    void *state;                         /* of the layer that is computed */
    struct lade_delta_rows first;        /* of the first delta-net */
    size_t step;                         /* floats from one delta-net to the next */
};

/* Bytes for batches of up to that many tokens. */
size_t lade_drafts_bytes(const struct lade_shape *shape, int batch);

int lade_drafts_open(struct lade_drafts *d, const struct lade_shape *shape,
                     const struct lade_device_part *part, int batch, char *err);
void lade_drafts_close(struct lade_drafts *d);

/* What is kept of a layer, a delta-net. */
struct lade_delta_rows lade_drafts_layer(const struct lade_drafts *d,
                                         const struct lade_shape *shape, int layer);

#endif
