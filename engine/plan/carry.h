/* carry.h - which experts of a prompt's batch are carried to cards, and to which, where the CPU computes
 * what is not in VRAM.
 *
 * An expert's bytes cross the link once, however many tokens ask for it; the CPU's work grows with the
 * tokens. So while the CPU computes some of a layer's experts where they lie, those with most tokens are
 * carried and computed by the card: as many as let both sides end at about the same time, and none where
 * that would save little. It depends on the plan's speeds and on the routes alone, never on time, so that
 * the same prompt gives the same bits.
 *
 * Of several cards one has the layer, and the others have nothing to do meanwhile: they help. Experts cross
 * all links at once; a card that helps is given the batch's rows, and what it makes of them is added up
 * where the layer is. That is 1.2 to 1.5 times as fast by count as one link, with prompts of 512 and 2,048
 * tokens over two cards. The other way, two halves of a prompt in turn, which each card has while the
 * other one has the other, carries every expert twice: 0.7 to 1.1 times (tests/bench/GPU.md). */
#ifndef LADE_PLAN_CARRY_H
#define LADE_PLAN_CARRY_H

#include "engine/plan/probe.h"

/* Seconds, as the plan's machine has them. All 0: nothing is carried. */
struct lade_carry {
    double cpu_byte,
        cpu_token;     /* the CPU: a byte of an expert's weights; the products of one token with
                                   an expert: the slower of the two is what an expert takes */
    double card_token; /* the same products on a card */
    double ram_byte;   /* a byte of RAM, whoever reads it */
};

/* An expert that is not in VRAM. */
struct lade_carry_expert {
    int expert, tokens; /* that ask for it */
    double bytes;
    int link; /* where it is carried: which one of the layer's */
};

/* A layer of a batch. */
struct lade_carry_layer {
    struct lade_carry_expert *experts; /* [n] in any order: sorted, those that are carried first */
    int n;
    /* Seconds a byte from RAM: to the layer's card, 0 = nothing can be carried; to cards that help, 0 =
     * that one does not. */
    double link_byte[LADE_MACHINE_GPUS];
    int n_links;
    double own;  /* seconds that the layer's card works on experts that it has */
    double rows; /* seconds of a batch's activations to the CPU and back */
};

/* How many of the layer's experts, from the first on, are carried. *seconds (may be NULL): until all
 * sides have done the layer's experts. Pure. */
int lade_carry_split(const struct lade_carry *c, const struct lade_carry_layer *l, double *seconds);

/* The same where all are carried, because the CPU computes none: shares them out among the links. */
void lade_carry_deal(const struct lade_carry_layer *l);

#endif
