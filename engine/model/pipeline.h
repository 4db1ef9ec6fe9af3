/* pipeline.h - tokens in, logits out: the parts of the devices one after the other.
 *
 * A part hands the rows of a batch to the next one through RAM that both GPUs copy from and to. Work on a
 * GPU is queued, so where all experts are in VRAM the parts work at the same time: while one has the
 * second batch of a prompt, the next one has the first. A single token goes from part to part.
 * Where experts are elsewhere the host learns the routes of every layer, and one part works at a
 * time; the others help it with experts that cross the links (engine/plan/carry.h). With one part this
 * is its forward pass and no more. */
#ifndef LADE_MODEL_PIPELINE_H
#define LADE_MODEL_PIPELINE_H

#include "engine/model/forward.h"

struct lade_pipeline {
    const struct lade_devices *devices; /* borrowed, as the next */
    struct lade_tiers *tiers;
    struct lade_forward part[LADE_CARDS];  /* [n] */
    struct lade_helper helper[LADE_CARDS]; /* [n] what each has for others' experts */
    int n;                                 /* 0: not open */
    int batch;
    float *rows[LADE_CARDS];      /* [batch][hidden] of RAM: from the part before this one, whose
                                     memory it is; none for the first */
    lade_fence taken[LADE_CARDS]; /* this part's: it has them */
    int last;                     /* tokens of the last run before its last batch */
};

/* All arguments but err are borrowed. in_ram: see lade_part_alloc. drafts: whether there are passes over
 * drafts, where the devices allow any. */
int lade_pipeline_open(struct lade_pipeline *p, const struct lade_catalog *cat,
                       const struct lade_weights *weights, struct lade_tiers *tiers,
                       const struct lade_devices *devices, int batch, bool in_ram, bool drafts,
                       char *err);
void lade_pipeline_close(struct lade_pipeline *p);

/* Has every part call it after each layer of a batch, see lade_forward. */
void lade_pipeline_layers(struct lade_pipeline *p, lade_layer_fn *layer, void *user);

/* How many tokens one run should be given at most: a batch, or several where the parts then work at
 * the same time. */
int lade_pipeline_span(const struct lade_pipeline *p);

/* Evaluates tokens after the st->length already in `st`, and advances it. Each id must be below
 * vocab and length + n within capacity (the session checks). `cancel` (may be NULL) is read while
 * experts are waited for. After a failure the recurrent part of the state is undefined. */
int lade_pipeline_run(struct lade_pipeline *p, struct lade_state *st,
                      const struct lade_tokens *tokens, const atomic_bool *cancel, char *err);

/* ---- a token and guesses of those after it (drafts.h) ---- */

/* Most tokens of such a pass; 0: there are none. */
int lade_pipeline_draft_rows(const struct lade_pipeline *p);
/* Evaluates a token, ids[0], and n - 1 drafts after it, and computes the logits of all of them. Of `st` only
 * caches beyond its length change. */
int lade_pipeline_drafts(struct lade_pipeline *p, struct lade_state *st, const int32_t *ids, int n,
                         char *err);
/* Has lade_pipeline_logits and _top bring those of a row of these. */
void lade_pipeline_ask(struct lade_pipeline *p, int row);
/* Brings the recurrent part of `st`, as it was before that pass, behind its first n rows; its length is
 * the caller's to set. After a failure it is undefined. */
int lade_pipeline_settle(struct lade_pipeline *p, struct lade_state *st, int n, char *err);

/* Computes the logits of token `row` of the last run, one of its outputs and of its last batch. They stay on the device
 * until the next call of this or of lade_pipeline_run. */
int lade_pipeline_head(struct lade_pipeline *p, int row, char *err);
/* Brings them to host memory: all, [vocab], or the k largest (at most LADE_TOPK_MAX), largest first. */
int lade_pipeline_logits(struct lade_pipeline *p, float *out, char *err);
int lade_pipeline_top(struct lade_pipeline *p, int k, float *values, int32_t *ids, char *err);

#endif
