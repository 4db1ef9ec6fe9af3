/* forward.h - the layer order of Qwen3-Next, written once over an op table.
 *
 *     x = embed(ids)
 *     per layer:  x += mixer(norm(x));  x += experts(norm(x))
 *     logits = head(norm(x))
 *
 * The mixer is gated attention or a gated delta-net (weights.h knows which). One struct lade_forward
 * is what one part of the devices does of it: the first one embeds, each runs its layers, the last
 * one has the head. pipeline.h joins them: tokens in, logits out. */
#ifndef LADE_MODEL_FORWARD_H
#define LADE_MODEL_FORWARD_H

#include "engine/model/drafts.h"
#include "engine/model/experts.h"
#include "engine/model/state.h"
#include "engine/model/weights.h"

/* What may be done after each layer of a batch of n tokens. */
typedef void lade_layer_fn(void *user, int n);

/* Activation buffers for batches of up to `batch` tokens, and the constants of rotary embedding.
 * On the part's device; one set serves any number of states, one forward pass at a time. */
struct lade_forward {
    const struct lade_shape *shape;     /* borrowed */
    const struct lade_weights *weights; /* borrowed */
    struct lade_experts experts;
    const struct lade_device_part *part; /* borrowed */
    const struct lade_ops *ops;          /* of the part */
    struct lade_device *dev;
    int batch;
    bool in_ram;                   /* where the GPU's buffers are */
    float *arena;                  /* all buffers below, one allocation */
    float *near;                   /* with in_ram: the same for one token, on the device, or each
                                         block of each kernel would read its inputs over the link */
    float *x, *h, *y;              /* [batch][hidden]: residual stream, normed, mixer output */
    float *a, *b, *c;              /* [batch][*]: projections of the mixer */
    float *mixed;                  /* [batch][*]: mixer before its output projection */
    float *router, *route_weights; /* [batch][experts], [batch][experts_used] */
    int32_t *route_ids;            /* [batch][experts_used] */
    float *guess_weights;          /* [experts_used] of a guess, as the next */
    int32_t *guess_ids;
    struct lade_router_sketch *sketches; /* of the part's layers, owned; NULL with a GPU */
    void *sketch_memory;                 /* what they point to */
    float *logits;                       /* [1][vocab] */
    const float *asked;                  /* [vocab] that logits() and top() bring */
    struct lade_drafts drafts;           /* without rows where there are none */
    float *top;                          /* [2 * LADE_TOPK_MAX]: k logits, then their k ids */
    int32_t *told;                       /* [2]: id and position of a token that is replayed */
    struct lade_recording *step;         /* one token through the layers, owned; see forward.c */
    const struct lade_state *step_of;    /* that it works on; NULL: never ran op by op */
    lade_layer_fn *layer;                /* NULL: nothing; not called for one token alone */
    void *layer_user;
    float *inv_freq; /* [rotary_dim / 2] */
    float rope_scale;
};

/* Bytes the buffers take; 0 on overflow. With in_ram, those of one token are VRAM beside the RAM. */
size_t lade_forward_bytes(const struct lade_shape *shape, int batch);

/* Bytes of the sketches that the CPU keeps of routers; 0 where all have 16 bits. */
size_t lade_forward_sketches(const struct lade_catalog *cat);

/* For a part of the devices. All arguments but err are borrowed. in_ram: see lade_part_alloc. drafts: whether
 * there is memory for passes over drafts, where there is no GPU. */
int lade_forward_open(struct lade_forward *f, const struct lade_catalog *cat,
                      const struct lade_weights *weights, struct lade_tiers *tiers,
                      const struct lade_devices *devices, int part, int batch, bool in_ram,
                      bool drafts, char *err);
void lade_forward_close(struct lade_forward *f);

/* Has x and the other buffers be those of n tokens. */
void lade_forward_take(struct lade_forward *f, int n);

/* A copy of the recurrent state on the way. */
struct lade_state_copy {
    int after;   /* so many tokens of a run */
    void *to;    /* host memory as for lade_state_save() */
    bool failed; /* false before; it fails for itself, not for the run */
};

/* Tokens that are evaluated one after the other: a run, or a batch of one. */
struct lade_tokens {
    const int32_t *ids; /* each below vocab */
    int n, first;       /* tokens; those of the run before them */
    /* Of the last `outputs`, 0 to n, there may be logits (lade_forward_head): of the others the model's last
     * layer computes what the state keeps and no more, which of a model of 8 layers is an eighth of a
     * prompt. */
    int outputs;
    struct lade_state_copy *copies; /* borrowed, those within them, in order of the tokens */
    int n_copies;
};

/* After lade_forward_take: runs up to `batch` tokens, the first of them at position `pos`, through the
 * part's layers, between lade_tiers_begin and _end. The first part embeds the ids; the others find
 * the rows of the part before them in f->x. `settled`: whether all experts are in VRAM to stay.
 * After a failure the recurrent part of the state is undefined. */
int lade_forward_run(struct lade_forward *f, struct lade_state *st,
                     const struct lade_tokens *tokens, int pos, bool settled, char *err);

/* After lade_forward_take, with 2 <= n <= f->drafts.rows: runs n tokens as lade_forward_run does and
 * computes the logits of all rows, but leaves the recurrent state as it was. */
int lade_forward_drafts(struct lade_forward *f, struct lade_state *st, const int32_t *ids, int n,
                        int pos, char *err);
/* Has lade_forward_logits and _top bring those of a row of these. */
void lade_forward_ask(struct lade_forward *f, int row);
/* Brings the recurrent state behind the first n rows of these. After a failure it is undefined. */
int lade_forward_settle(struct lade_forward *f, struct lade_state *st, int n, char *err);

/* The last part: computes the logits of row `row` of the last batch, one of its outputs, on the device. They stay there
 * until the next call of this or of lade_forward_run. */
int lade_forward_head(struct lade_forward *f, int row, char *err);
/* Brings them to host memory: all, [vocab], or the k largest (at most LADE_TOPK_MAX), largest first. */
int lade_forward_logits(struct lade_forward *f, float *out, char *err);
int lade_forward_top(struct lade_forward *f, int k, float *values, int32_t *ids, char *err);

#endif
