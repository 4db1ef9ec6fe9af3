/* hf.h - inside engine/checkpoint: what hf.c (names, plain tensors) and hf_quant.c (tensors of
 * quantized modules) have of each other.
 *
 * `name` is a buffer of LADE_HF_NAME bytes that begins with the module's name, of module_len bytes. */
#ifndef LADE_CHECKPOINT_HF_H
#define LADE_CHECKPOINT_HF_H

#include "engine/checkpoint/build.h"

enum { LADE_HF_NAME = 256 };

/* lade_tensor.naming: the names of the role's module, those of its layer's fused tensors, or the
 * module's with the other suffix of a part. */
enum lade_hf_naming { LADE_HF_MODULE, LADE_HF_STACK, LADE_HF_OTHER };

/* The tensor with that suffix after the module's name, or NULL; `name` becomes the whole name. */
struct lade_raw *lade_hf_find(struct lade_build *b, char *name, size_t module_len,
                              const char *suffix);

/* Gives part `part` of t its place, and marks the tensor as used. */
void lade_hf_take(struct lade_tensor *t, int part, struct lade_raw *raw);

bool lade_hf_same_dims(const struct lade_raw *raw, const uint64_t *want, int rank);

/* Fail with the line for such a tensor; `by` says what gives the expected shape. */
int lade_hf_wrong_shape(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                        const uint64_t *want, int rank, const char *by, char *err);
int lade_hf_wrong_dtype(const struct lade_build *b, const struct lade_raw *raw, const char *name,
                        const char *want, char *err);

/* 1: the module is quantized and t is bound; 0: nothing of such a module is there; -1: failed. */
int lade_hf_bind_quantized(struct lade_build *b, struct lade_tensor *t, char *name,
                           size_t module_len, char *err);

/* What follows the module's name in a part of a quantized tensor. */
const char *lade_hf_suffix(const struct lade_tensor *t, int part);

#endif
