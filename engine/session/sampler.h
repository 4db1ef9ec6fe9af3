/* sampler.h - from logits to one token.
 *
 * The order is that of the reference implementation (transformers' logits processors): repetition
 * penalty, temperature, top-k, top-p, min-p, then a draw. */
#ifndef LADE_SESSION_SAMPLER_H
#define LADE_SESSION_SAMPLER_H

#include "engine/engine.h"

enum { LADE_PENALTY_WINDOW = 256 };

struct lade_sampler {
    struct lade_sampling p;
    uint64_t rng[4];
    int vocab;
    struct lade_candidate *pool; /* [vocab], owned */
};

int lade_sampler_open(struct lade_sampler *s, const struct lade_sampling *p, int vocab, char *err);
void lade_sampler_close(struct lade_sampler *s);

/* How many of the largest logits lade_sample_top needs; 0: it will not do, lade_sample needs all. That is
 * where top-k is off, and where a penalty below 1 raises logits. */
int lade_sampler_wants(const struct lade_sampler *s);

/* Picks as lade_sample does, from the n = lade_sampler_wants() largest, best first. */
int32_t lade_sample_top(struct lade_sampler *s, const float *logits, const int32_t *ids, int n,
                        const int32_t *recent, int n_recent);

/* Picks a token. `recent` are the last n_recent tokens of the timeline (for the penalty). Equal
 * seeds and logits give equal tokens. NaN logits are never picked; if nothing else is left the
 * result is -1. */
int32_t lade_sample(struct lade_sampler *s, const float *logits, const int32_t *recent,
                    int n_recent);

#endif
