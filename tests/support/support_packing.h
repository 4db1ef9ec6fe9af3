/* support_packing.h - modules of a tiny checkpoint in the packings of Hugging Face, with random codes
 * that tests/reference/make_packings.py repeats. */
#ifndef LADE_TESTS_SUPPORT_PACKING_H
#define LADE_TESTS_SUPPORT_PACKING_H

#include <stdbool.h>

#include "tests/support/support_checkpoint.h"

struct support_packing {
    const char *form;           /* "gptq", "awq", "compressed-tensors", "fp8" */
    const char *scales;         /* their dtype */
    const char *scale_name;     /* fp8: "weight_scale_inv" is Qwen's, "weight_scale" another's */
    int bits, group;            /* not fp8; group -1: all inputs */
    int zero_offset;            /* gptq: 1 = version 1 */
    int block_rows, block_cols; /* fp8; -1: all */
    bool sym;
    bool order; /* with g_idx: each input has a random group */
};

/* Replaces the .weight of a module by its packed tensors. */
void support_pack(struct support_checkpoint *c, const char *module,
                  const struct support_packing *p);

/* The quantization_config that says so, in a static buffer. */
const char *support_packing_config(const struct support_packing *p);

#endif
