/* pyjson.h - JSON values as Python writes them, which is what models have read in training.
 *
 * Keys stay in the order in which they came. All return malloc'ed text, or NULL without memory. */
#ifndef LADE_TOKENIZER_PYJSON_H
#define LADE_TOKENIZER_PYJSON_H

#include <jansson.h>

/* json.dumps(value, ensure_ascii=False). */
char *lade_pyjson(const json_t *value);

/* str(value): a text is itself, lists and objects are as repr has them. Characters that repr would
 * escape because they cannot be seen are escaped up to U+007F only. */
char *lade_pystr(const json_t *value);

#endif
