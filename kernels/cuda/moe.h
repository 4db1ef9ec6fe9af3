/* moe.h - tables of experts on the card, and the two ways through them.
 *
 *     moe.cu      tables, checks; few tokens: two launches for all routes of all tokens
 *     sorted.cu   many tokens: routes sorted by expert, grouped products */
#ifndef LADE_CUDA_MOE_H
#define LADE_CUDA_MOE_H

#include "kernels/cuda/weights.h"

/* gate and up are of one kind: GPU_WIDE takes any type where theirs differ. */
struct gpu_expert {
    struct gpu_matrix gate, up, down;
};

struct gpu_table {
    const struct lade_expert *host; /* its name */
    uint64_t version;
    int n, capacity;
    int widest;                        /* most rows of gate */
    unsigned hidden_kinds, down_kinds; /* sets of 1 << kind in use */
    struct gpu_expert *card;           /* [n] */
    struct gpu_table *next;
};

/* One op, as both ways see it. */
struct gpu_moe {
    int n, dim, k, n_experts;
    const float *x;
    const int32_t *ids;
    const float *weights;
    const struct gpu_expert *experts; /* on the card */
    struct gpu_expert shared;         /* gate.data NULL: none */
    const float *shared_gate;
    float *y;
    int widest;                        /* most rows of a gate, the shared one included */
    unsigned hidden_kinds, down_kinds; /* of all, the shared one included */
    const uint16_t *books;
};

#endif
