/* kinds.h - experts that look alike in memory.
 *
 * Experts of one kind have the same tensors at the same offsets, so that a slot made for one serves
 * all of them, padding included: what one leaves in the padding of a matrix is what the next one
 * needs there. A checkpoint has one kind, or a few where layers differ in precision. */
#ifndef LADE_TIERS_KINDS_H
#define LADE_TIERS_KINDS_H

#include <stdint.h>

#include "engine/checkpoint/catalog.h"

enum { LADE_MAX_KINDS = 64 };

struct lade_kind {
    int example;         /* a piece of this kind */
    int experts;         /* how many there are */
    size_t bytes;        /* of one, packed */
    size_t stride;       /* bytes from slot to slot: a multiple of 4096 where that costs little, so
                            that a drive can write to a slot directly */
    uint64_t read_bytes; /* of the largest in its files */
};

struct lade_kinds {
    struct lade_kind kind[LADE_MAX_KINDS];
    int n;
    int n_experts;  /* layers x experts; expert number = layer * shape.experts + expert */
    uint8_t *of;    /* [n_experts], owned */
    size_t all;     /* bytes of slots for every expert */
    size_t largest; /* stride */
    uint64_t read_largest;
};

int lade_kinds_open(struct lade_kinds *k, const struct lade_catalog *cat, char *err);
void lade_kinds_close(struct lade_kinds *k);

/* The same kinds, but only the experts [first, end) counted. `of` stays that of `k`; not to be
 * closed. */
void lade_kinds_of(struct lade_kinds *out, const struct lade_kinds *k, int first, int end);

/* How many slots of each kind `bytes` give: all, or the same share of each. Fills room[k->n];
 * returns the bytes they take, at most `bytes` (or k->all, a little more than the experts, where
 * `bytes` holds all experts). */
size_t lade_kinds_rooms(const struct lade_kinds *k, uint64_t bytes, int *room);

#endif
