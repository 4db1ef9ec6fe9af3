/* experts.h - the routed experts of a layer: ask the tiers, compute what they hand out, where it is.
 *
 * On a CPU that is all there is. With GPUs the base of a layer is on one of them; experts that it has
 * or that are carried to it are queued there, and while it works on them the CPU computes the others
 * on activations that were copied down. One addition joins the two. Each part of the devices has
 * its own struct lade_experts, which serves that part's layers.
 *
 * Of a prompt whose experts cross the links, some go to the other GPUs (engine/plan/carry.h), which have
 * nothing of their own to do then. They are given the activations through RAM, and so is the layer's GPU
 * what they make of them. */
#ifndef LADE_MODEL_EXPERTS_H
#define LADE_MODEL_EXPERTS_H

#include "engine/model/devices.h"
#include "engine/tiers/tiers.h"

/* One layer's table of what is in VRAM. */
struct lade_expert_table {
    struct lade_expert *experts; /* [shape.experts], into one array of all layers */
    uint64_t version;
    bool complete; /* all of them, to stay */
};

/* What a part has for the layers of others: buffers that it needs for its own alone. */
struct lade_helper {
    const struct lade_device_part *part;
    float *x, *y;   /* [batch][hidden] of its memory: in, out */
    int32_t *ids;   /* [batch][k] */
    float *weights; /* [batch][k] */
    float *back;    /* [batch][hidden] of RAM that its GPU can use */
};

struct lade_experts {
    const struct lade_catalog *cat; /* borrowed, as the two below */
    struct lade_tiers *tiers;
    const struct lade_devices *devices;
    const struct lade_device_part *part; /* of these */
    struct lade_expert *table;           /* [shape.experts], owned; without data between waves */
    uint8_t *named;                      /* [shape.experts], owned: 0 between waves */
    const struct lade_helper *helpers; /* [of all parts], borrowed; NULL: none helps another one */

    /* with a GPU */
    uint64_t version;                 /* lade_tiers_version() that the tables below were made for */
    struct lade_expert_table *layers; /* [of the part], owned, as the array behind it */
    struct lade_expert *all;
    void *memory;   /* what follows: RAM that the GPU can use */
    int32_t *ids;   /* [batch][k] routes, for the host */
    float *weights; /* [batch][k] */
    float *x, *y;   /* [batch][hidden] in and out of the CPU's experts */
};

/* For the layers of a part of the devices and batches of up to `batch` tokens. */
int lade_experts_open(struct lade_experts *x, const struct lade_catalog *cat,
                      struct lade_tiers *tiers, const struct lade_devices *devices, int part,
                      int batch, char *err);
void lade_experts_close(struct lade_experts *x);

/* Adds to moe->y what the routed experts of a layer and the shared one give; of `moe` everything is
 * set but the table and its version, and the routes are computed, or queued to be. `guess`
 * (NULL: none) is the next layer's router on this layer's row of x, of one token, to where it does no
 * harm: it sees there most of what it will see after the next mixer (tests/bench/LEDGER.md), and
 * what it names may be read ahead. */
int lade_experts_run(struct lade_experts *x, int layer, const struct lade_moe *moe,
                     const struct lade_router *guess, char *err);

/* Whether what is in VRAM has moved since the last call of lade_experts_run: no recording that names
 * its addresses is of use any more. */
bool lade_experts_moved(const struct lade_experts *x);

/* Counts the visits of n tokens whose layers (of this part) all ran without lade_experts_run, from a
 * recording. */
void lade_experts_count(struct lade_experts *x, int n);

#endif
