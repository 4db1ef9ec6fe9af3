/* quant.h - quantization_config: how each module of a Hugging Face checkpoint is quantized.
 *
 * The tensors decide whether a module is quantized at all; this says how to read it. Known:
 * AutoRound in its three packings, GPTQ (v1 and v2), AWQ (GEMM), compressed-tensors with packed
 * integers or 8-bit floats, and FP8 as Qwen publishes it. Everything else is refused by name. */
#ifndef LADE_CHECKPOINT_QUANT_H
#define LADE_CHECKPOINT_QUANT_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/checkpoint/catalog.h"
#include "engine/checkpoint/raw.h"

/* Integers (all sources but LADE_SRC_F8): W = scale * (code - (stored zero + zero_offset)).
 * 8-bit floats: W = scale * code. */
struct lade_quant_spec {
    enum lade_source source; /* LADE_SRC_GPTQ, AWQ, CT or F8 */
    int bits;                /* 8 for LADE_SRC_F8 */
    int group;               /* integers: inputs that share a scale; -1 = all */
    bool sym;                /* the zero is 2^(bits-1) everywhere */
    int zero_offset;         /* added to a stored zero */
    bool reordered;          /* each input may have a group of its own choice (g_idx) */
    int block_rows;          /* LADE_SRC_F8: rows and inputs that share a scale; -1 = all */
    int block_cols;
};

struct lade_quant;

/* Reads the quantization_config of config.json, or the file quantization_config.json itself
 * (whole_file). *out is NULL where config.json has none. The caller frees it. */
int lade_quant_parse(struct lade_quant **out, const char *text, size_t len, bool whole_file,
                     const char *path, char *err);
void lade_quant_free(struct lade_quant *q);

/* Sorts the settings of single modules (AutoRound: extra_config, GPTQ: dynamic): keys that are
 * modules of `raws` hold for that module, the rest are regular expressions. Call once, before
 * lade_quant_module. */
int lade_quant_bind(struct lade_quant *q, const struct lade_raws *raws, char *err);

/* The specification of a quantized module, by name. */
int lade_quant_module(const struct lade_quant *q, const char *module, size_t len,
                      struct lade_quant_spec *spec, char *err);

/* The file it came from, for error messages. */
const char *lade_quant_file(const struct lade_quant *q);

#endif
