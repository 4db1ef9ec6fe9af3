#include "kernels/cpu/int16.h"

#include "kernels/blocks.h"

bool cpu_int16_takes(const struct lade_matrix *w)
{
    static const bool blocks[LADE_N_BLOCKS] = {
        [LADE_BLOCK_Q4_1] = true,   [LADE_BLOCK_Q5_0] = true,    [LADE_BLOCK_Q5_1] = true,
        [LADE_BLOCK_Q2_K] = true,   [LADE_BLOCK_Q3_K] = true,    [LADE_BLOCK_Q4_K] = true,
        [LADE_BLOCK_Q5_K] = true,   [LADE_BLOCK_Q6_K] = true,    [LADE_BLOCK_IQ4_NL] = true,
        [LADE_BLOCK_IQ4_XS] = true, [LADE_BLOCK_MXFP4] = true,   [LADE_BLOCK_IQ1_S] = true,
        [LADE_BLOCK_IQ1_M] = true,  [LADE_BLOCK_IQ2_XXS] = true, [LADE_BLOCK_IQ2_XS] = true,
        [LADE_BLOCK_IQ2_S] = true,  [LADE_BLOCK_IQ3_XXS] = true, [LADE_BLOCK_IQ3_S] = true,
    };
    if (w->type == LADE_BLOCKS)
        return blocks[w->block];
    return (w->type == LADE_Q4 || w->type == LADE_Q8) && !w->has_order &&
           (w->group % CPU_BLOCK == 0 || w->group >= w->cols);
}
