#include "engine/checkpoint/json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "engine/checkpoint/scan.h"
#include "kernels/error.h"

json_t *lade_json_object(const char *text, size_t len, const char *path, char *err)
{
    json_error_t e;
    json_t *root = json_loadb(text, len, 0, &e);
    if (!root) {
        char why[96];
        lade_fail(err, "%s: not valid JSON (line %d: %s); download the file again", path, e.line,
                  lade_printable(why, sizeof why, e.text, strlen(e.text)));
        return NULL;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        lade_fail(err, "%s: not a JSON object; download the file again", path);
        return NULL;
    }
    return root;
}

/* 1: the key is there; 0: it is not, take the fallback; -1: failed. */
static int present(json_t *obj, const char *key, bool optional, const char *path, char *err)
{
    json_t *v = json_object_get(obj, key);
    if (v && !json_is_null(v))
        return 1;
    if (optional)
        return 0;
    return lade_fail(err, "%s: key '%s' is missing; download the file again", path, key);
}

int lade_json_int(json_t *obj, const char *key, int64_t min, int64_t max, const int64_t *fallback,
                  int64_t *value, const char *path, char *err)
{
    int rc = present(obj, key, fallback, path, err);
    if (rc == 0)
        *value = *fallback;
    if (rc <= 0)
        return rc;
    json_t *v = json_object_get(obj, key);
    if (!json_is_integer(v))
        return lade_fail(err, "%s: key '%s' is not an integer; the file is damaged", path, key);
    if (json_integer_value(v) < min || json_integer_value(v) > max)
        return lade_fail(err,
                         "%s: %s is %" JSON_INTEGER_FORMAT ", expected %" PRId64 " to %" PRId64
                         "; the file is damaged or not a Qwen3-Next model",
                         path, key, json_integer_value(v), min, max);
    *value = json_integer_value(v);
    return 0;
}

int lade_json_real(json_t *obj, const char *key, double min, double max, const double *fallback,
                   double *value, const char *path, char *err)
{
    int rc = present(obj, key, fallback, path, err);
    if (rc == 0)
        *value = *fallback;
    if (rc <= 0)
        return rc;
    json_t *v = json_object_get(obj, key);
    if (!json_is_number(v))
        return lade_fail(err, "%s: key '%s' is not a number; the file is damaged", path, key);
    double x = json_number_value(v);
    if (!(x >= min && x <= max))
        return lade_fail(err, "%s: %s is %g, expected %g to %g; the file is damaged", path, key, x,
                         min, max);
    *value = x;
    return 0;
}
