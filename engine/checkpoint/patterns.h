/* patterns.h - inside engine/checkpoint: names of modules by pattern, as quantization configs have
 * them. */
#ifndef LADE_CHECKPOINT_PATTERNS_H
#define LADE_CHECKPOINT_PATTERNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/error.h"

struct lade_patterns;

/* `list` names the patterns in errors ("config.json: extra_config"); copied. NULL without memory. */
struct lade_patterns *lade_patterns_new(const char *list);
void lade_patterns_free(struct lade_patterns *p);

/* Adds a regular expression, which must match from the start of a name (anchored) or anywhere in
 * it. One that is none is left out: the programs that wrote it ignore such, too. The text and the
 * value stay the caller's and must outlive the list. */
int lade_patterns_add(struct lade_patterns *p, const char *text, bool anchored, json_t *value,
                      char *err);

/* The value of the first pattern that matches, or NULL. Fails where matching takes too long. */
int lade_patterns_find(const struct lade_patterns *p, const char *name, size_t len, json_t **value,
                       char *err);

#endif
