/* names.h - what the names of model files say: quantization labels and parts of split files. */
#ifndef LADE_HUB_NAMES_H
#define LADE_HUB_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* The text `file` ends with `tail`, in any case of letters. */
bool lade_ends_with(const char *file, const char *tail);

/* The model of a GGUF file name: its last path component without ".gguf" and without
 * "-00001-of-00003". *part and *parts (either may be NULL) become that pair, or 1 and 1. False
 * where the name does not end in .gguf or is too long. */
bool lade_gguf_stem(const char *file, char *stem, size_t size, int *part, int *parts);

/* The quantization that a stem names: "Q4_K_M", "UD-IQ2_XXS", "BF16", as written there. False where
 * it names none. */
bool lade_quant_label(const char *stem, char *label, size_t size);

/* The stem ends with the label, after a '-' or '.', in any case of letters. */
bool lade_stem_has_label(const char *stem, const char *label);

#endif
