/* json.h - checked reading of the small JSON files of a checkpoint, over jansson. */
#ifndef LADE_CHECKPOINT_JSON_H
#define LADE_CHECKPOINT_JSON_H

#include <jansson.h>
#include <stdint.h>

/* Parses a text whose root is an object. The caller drops it with json_decref. */
json_t *lade_json_object(const char *text, size_t len, const char *path, char *err);

/* Reads obj[key] as an integer from min to max. An absent or null key takes *fallback, or fails
 * where fallback is NULL. `path` names the file in errors. */
int lade_json_int(json_t *obj, const char *key, int64_t min, int64_t max, const int64_t *fallback,
                  int64_t *value, const char *path, char *err);

/* The same for a number. */
int lade_json_real(json_t *obj, const char *key, double min, double max, const double *fallback,
                   double *value, const char *path, char *err);

#endif
