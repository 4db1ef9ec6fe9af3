/* support_tensor.h - tensors of a catalog: the bytes that their files have, and packed ones. Fails the
 * running cmocka test where it cannot. Returned memory is the caller's, to free(). */
#ifndef LADE_TESTS_SUPPORT_TENSOR_H
#define LADE_TESTS_SUPPORT_TENSOR_H

#include "engine/checkpoint/catalog.h"
#include "tests/support/support_checkpoint.h"

/* A part of a tensor as its shard has it. */
unsigned char *support_tensor_part(const struct lade_catalog *cat, const struct lade_tensor *t,
                                   int part);

/* Memory for the packed tensor, zeros, aligned as kernels want it. */
unsigned char *support_tensor_room(const struct lade_tensor *t);

/* The tensor packed, from the values that the checkpoint has in memory. */
unsigned char *support_tensor_packed(struct support_checkpoint *c, const struct lade_catalog *cat,
                                     const struct lade_tensor *t);

#endif
