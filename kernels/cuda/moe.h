/* moe.h - tables of experts on the card, and the two ways through them.
 *
 *     tables.cu   tables
 *     moe.cu      few tokens: two launches for all routes of all tokens
 *     sorted.cu   many tokens: routes sorted by expert, grouped products */
#ifndef LADE_CUDA_MOE_H
#define LADE_CUDA_MOE_H

#include "kernels/cuda/weights.h"

/* gate and up are of one kind: GPU_WIDE takes any type where theirs differ. */
struct gpu_expert {
    struct gpu_matrix gate, up, down;
};

/* The kinds that one.h has tiles for: few tokens' products of all others are those of runs (run.h). */
__host__ __device__ static inline constexpr bool moe_is_tiled(int kind)
{
    return kind == GPU_Q4 || kind == GPU_Q8;
}

struct gpu_table {
    const struct lade_expert *host; /* its name; NULL: nobody's yet */
    uint64_t version;
    uint64_t used; /* when last: the number of the call */
    bool own;      /* its memory is not prepare()'s */
    int n, capacity;
    int widest;                        /* most rows of gate */
    unsigned hidden_kinds, down_kinds; /* sets of 1 << kind in use */
    int run;                           /* most bytes of a run (run.h); 0: none */
    struct gpu_expert *card;           /* [capacity] */
    struct gpu_table *next;
};

/* The card's copy of a table; NULL where it never had one. */
struct gpu_table *gpu_find_table(struct lade_device *dev, const struct lade_expert *experts);

/* Fails where an expert's matrices do not fit each other, or `dim` if it is not 0. */
int gpu_check_expert(const struct lade_expert *e, int dim, char *err);
struct gpu_expert gpu_expert_of(const struct lade_expert *e);
/* Most bytes of a run of its matrices that are not tiled; 0 where all are. */
int gpu_expert_run(const struct gpu_expert *e);

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
    int run;                           /* the same */
    const uint16_t *books;
};

#endif
