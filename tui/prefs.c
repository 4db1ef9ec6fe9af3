#include "tui/prefs.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "tui/paths.h"

char *prefs_get(const char *key, char *out, size_t n)
{
    char path[PATH_MAX];
    *out = '\0';
    if (paths_file(PATHS_CONFIG, "settings.json", path, NULL) != 0)
        return out;
    json_t *all = json_load_file(path, 0, NULL);
    const char *value = json_string_value(json_object_get(all, key));
    snprintf(out, n, "%s", value ? value : "");
    json_decref(all);
    return out;
}

/* The whole file, an empty object where there is none; NULL with err where it is none of ours. */
static json_t *load(char path[PATH_MAX], char *err)
{
    json_error_t why;
    if (paths_file(PATHS_CONFIG, "settings.json", path, err) != 0)
        return NULL;
    json_t *all = json_load_file(path, 0, &why);
    if (!all && access(path, F_OK) != 0)
        all = json_object();
    if (json_is_object(all))
        return all;
    json_decref(all);
    lade_fail(err, "%s: not a JSON object%s%s; mend it or move it away", path,
              *why.text ? ": " : "", why.text);
    return NULL;
}

int prefs_check(char *err)
{
    char path[PATH_MAX];
    json_t *all = load(path, err);
    json_decref(all);
    return all ? 0 : -1;
}

int prefs_set(const char *key, const char *value, char *err)
{
    char path[PATH_MAX];
    json_t *all = load(path, err);
    if (!all)
        return -1;
    json_object_set_new(all, key, json_string(value));
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(all);
    int rc = text ? lade_file_replace(path, text, strlen(text), err)
                  : lade_fail(err, "out of memory for %s", path);
    free(text);
    return rc;
}
