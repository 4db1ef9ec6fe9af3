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

int prefs_set(const char *key, const char *value, char *err)
{
    char path[PATH_MAX];
    json_error_t why;
    if (paths_file(PATHS_CONFIG, "settings.json", path, err) != 0)
        return -1;
    json_t *all = json_load_file(path, 0, &why);
    if (!all && access(path, F_OK) != 0)
        all = json_object();
    if (!json_is_object(all)) {
        json_decref(all);
        return lade_fail(err, "%s: not a JSON object%s%s; mend it or move it away", path,
                         *why.text ? ": " : "", why.text);
    }
    json_object_set_new(all, key, json_string(value));
    char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(all);
    int rc = text ? lade_file_replace(path, text, strlen(text), err)
                  : lade_fail(err, "out of memory for %s", path);
    free(text);
    return rc;
}
