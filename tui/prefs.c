#include "tui/prefs.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Makes the directory of a file, with those above it. */
static void make_folder(const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *p = folder + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(folder, 0700);
            *p = '/';
        }
}

int prefs_set(const char *key, const char *value, char *err)
{
    char path[PATH_MAX], temporary[PATH_MAX + 8];
    if (paths_file(PATHS_CONFIG, "settings.json", path, err) != 0)
        return -1;
    make_folder(path);
    json_t *all = json_load_file(path, 0, NULL);
    if (!json_is_object(all)) {
        json_decref(all);
        all = json_object();
    }
    json_object_set_new(all, key, json_string(value));
    snprintf(temporary, sizeof temporary, "%s.new", path);
    int rc = json_dump_file(all, temporary, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(all);
    if (rc != 0 || rename(temporary, path) != 0)
        return lade_fail(err, "%s: %s; make its directory writable", path, strerror(errno));
    return 0;
}
