#include "tui/model_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/checkpoint/packed.h"
#include "engine/hub/find.h"
#include "engine/hub/names.h"
#include "engine/remote/address.h"
#include "tui/paths.h"

/* '@' is the program's own directory, '%' the prefix it was made for. The former, so that a build
 * tree and a moved installation find theirs from any working directory; then the working directory,
 * for a build folder elsewhere. */
static const char *const bundled[] = {
    "@/../engine/bundled",
    "@/../share/lade/bundled",
    "%/share/lade/bundled",
    "engine/bundled",
};

static bool exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

static bool holds(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof(path), "%s/%s", dir, name) < PATH_MAX && exists(path);
}

static bool is_model(const char *dir)
{
    return holds(dir, "config.json");
}

static bool find_bundled(char out[PATH_MAX])
{
    for (size_t i = 0; i < sizeof(bundled) / sizeof(*bundled); i++) {
        if (paths_expand(bundled[i], out) && is_model(out)) {
            char real[PATH_MAX];
            if (realpath(out, real))
                snprintf(out, PATH_MAX, "%s", real);
            return true;
        }
    }
    return false;
}

/* The model that `lade models` calls so. */
static int find_by_name(const char *name, const char *models, char out[PATH_MAX], char *err)
{
    struct lade_found_list list;
    if (lade_find_models(&list, models, err))
        return -1;
    const struct lade_found *f = lade_found_resolve(&list, name, err);
    int n = f ? snprintf(out, PATH_MAX, "%s", f->path) : 0;
    lade_found_free(&list);
    return f && n < PATH_MAX ? 0 : -1;
}

int model_path_resolve(const char *name, char out[PATH_MAX], char *err)
{
    char models[PATH_MAX];
    if (!name || (strcmp(name, "bundled") == 0 && !exists(name))) {
        if (find_bundled(out))
            return 0;
        return lade_fail(err, "the bundled model: is not installed; give a model with -m");
    }
    if (lade_remote_is(name))
        return snprintf(out, PATH_MAX, "%s", name) < PATH_MAX
                   ? 0
                   : lade_fail(err, "-m: the address is too long; write http://HOST:PORT/v1");
    if (exists(name)) {
        size_t len = strlen(name);
        while (len > 1 && name[len - 1] == '/')
            len--;
        if (len >= PATH_MAX)
            return lade_fail(err, "-m: the path is too long; use a shorter one");
        memcpy(out, name, len);
        out[len] = '\0';
        return 0;
    }
    if (paths_file(PATHS_DATA, "models", models, err))
        return -1;
    if (*name && name[0] != '/' && name[0] != '.') {
        if (snprintf(out, PATH_MAX, "%s/%s", models, name) < PATH_MAX && exists(out))
            return 0;
        return find_by_name(name, models, out, err);
    }
    return lade_fail(
        err,
        "%s: there is no such file or directory; give the directory of a checkpoint, a "
        ".gguf file, or a name that lade models lists",
        *name ? name : "-m");
}

int model_path_absolute(char path[PATH_MAX], char *err)
{
    char whole[PATH_MAX];
    const char *from = path;
    if (path[0] == '/' || lade_remote_is(path))
        return 0;
    while (strncmp(from, "./", 2) == 0)
        from += 2;
    if (!getcwd(whole, sizeof whole))
        return lade_fail(err, "-m %s: the working directory is gone; give a path from /", path);
    size_t n = strlen(whole);
    if (n + 1 + strlen(from) >= PATH_MAX)
        return lade_fail(err, "-m: the path is too long; use a shorter one");
    snprintf(whole + n, sizeof whole - n, "/%s", from);
    memcpy(path, whole, strlen(whole) + 1);
    return 0;
}

bool model_path_names(const char *word)
{
    char path[PATH_MAX];
    if (exists(word))
        return is_model(word) || holds(word, LADE_PACKED_INDEX) || lade_ends_with(word, ".gguf");
    return model_path_resolve(word, path, NULL) == 0;
}
