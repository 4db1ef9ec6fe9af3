/* Where themes lie: the user's folder, the tree the program was built in, the installed ones. */
#include "tui/theme_file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/paths.h"

#define SUFFIX ".theme"

/* After the user's. Folders relative to the program let a build tree and a moved installation find
 * their own themes from any working directory. */
static const char *const shipped[] = {
    "@/../themes",
    "@/../share/lade/themes",
    "themes",
    "%/share/lade/themes",
};

enum { FOLDERS = 1 + sizeof shipped / sizeof *shipped, FILE_MAX = 65536 };

/* Folder i of the search order; false when there is none. */
static bool folder(int i, char out[PATH_MAX])
{
    return i ? paths_expand(shipped[i - 1], out)
             : paths_file(PATHS_CONFIG, "themes", out, NULL) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct theme_entry *)a)->name, ((const struct theme_entry *)b)->name);
}

static int add(struct theme_entry *out, int n, int max, const char *file)
{
    size_t len = strlen(file), suffix = strlen(SUFFIX);
    if (n >= max || len <= suffix || strcmp(file + len - suffix, SUFFIX) != 0 ||
        len - suffix >= THEME_NAME || *file == '.')
        return n;
    struct theme_entry e = {0};
    memcpy(e.name, file, len - suffix);
    for (int i = 0; i < n; i++)
        if (strcmp(out[i].name, e.name) == 0)
            return n;
    out[n] = e;
    return n + 1;
}

int theme_list(struct theme_entry *out, int max)
{
    int n = 0;
    for (int i = 0; i < FOLDERS; i++) {
        char path[PATH_MAX];
        DIR *dir = folder(i, path) ? opendir(path) : NULL;
        if (!dir)
            continue;
        for (struct dirent *d; (d = readdir(dir));)
            n = add(out, n, max, d->d_name);
        closedir(dir);
    }
    qsort(out, (size_t)n, sizeof *out, by_name);
    return n;
}

static int read_file(struct theme_file *out, const char *path, FILE *f, char *err)
{
    char *text = malloc(FILE_MAX + 1);
    if (!text)
        return lade_fail(err, "%s: no memory to read it; free some", path);
    size_t n = fread(text, 1, FILE_MAX + 1, f);
    int rc;
    if (ferror(f))
        rc = lade_fail(err, "%s: %s; choose another theme", path, strerror(errno));
    else if (n > FILE_MAX)
        rc = lade_fail(err, "%s: larger than %d bytes; a theme has one line per role", path,
                       FILE_MAX);
    else
        rc = theme_parse(out, path, text, n, err);
    free(text);
    return rc;
}

static int not_found(const char *name, char *err)
{
    struct theme_entry all[32];
    char names[256] = "";
    int n = theme_list(all, 32);
    for (int i = 0; i < n; i++) {
        size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", i ? ", " : "", all[i].name);
    }
    return lade_fail(err, "theme '%.63s': there is none of this name; %s%s", name,
                     n ? "choose " : "install lade's themes folder", names);
}

int theme_read(struct theme_file *out, const char *name_or_path, char *name, char *err)
{
    char path[PATH_MAX], dir[PATH_MAX - THEME_NAME - 16];
    const char *slash = strrchr(name_or_path, '/');
    FILE *f = NULL;
    if (slash) {
        snprintf(path, sizeof path, "%s", name_or_path);
        f = fopen(path, "re");
        if (!f)
            return lade_fail(err, "%s: %s; name a theme file", path, strerror(errno));
        snprintf(name, THEME_NAME, "%.*s", (int)strcspn(slash + 1, "."), slash + 1);
    } else {
        char at[PATH_MAX];
        for (int i = 0; i < FOLDERS && !f && strlen(name_or_path) < THEME_NAME; i++) {
            if (!folder(i, at) || snprintf(dir, sizeof dir, "%s", at) >= (int)sizeof dir)
                continue;
            snprintf(path, sizeof path, "%s/%.63s" SUFFIX, dir, name_or_path);
            f = fopen(path, "re");
        }
        if (!f)
            return not_found(name_or_path, err);
        snprintf(name, THEME_NAME, "%s", name_or_path);
    }
    int rc = read_file(out, path, f, err);
    fclose(f);
    return rc;
}
