/* carry.h - which experts of a prompt's batch are carried to the card of their layer, where the CPU
 * computes what is not in VRAM.
 *
 * An expert's bytes cross the link once, however many tokens ask for it; the CPU's work grows with the
 * tokens. So while the CPU computes some of a layer's experts where they lie, those with most tokens are
 * carried and computed by the card: as many as let both sides end at about the same time, and none where
 * that would save little. It depends on the plan's speeds and on the routes alone, never on time, so that
 * the same prompt gives the same bits. */
#ifndef LADE_PLAN_CARRY_H
#define LADE_PLAN_CARRY_H

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
};

/* A layer of a batch. */
struct lade_carry_layer {
    struct lade_carry_expert *experts; /* [n] in any order: sorted, those that are carried first */
    int n;
    double link_byte; /* seconds, RAM to the layer's card; 0: nothing can be carried */
    double own;       /* seconds that the card works on experts that it has */
    double rows;      /* seconds of a batch's activations to the CPU and back */
};

/* How many of the layer's experts, from the first on, are carried. *seconds (may be NULL): until both
 * sides have done the layer's experts. Pure. */
int lade_carry_split(const struct lade_carry *c, const struct lade_carry_layer *l, double *seconds);

#endif
