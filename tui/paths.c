#include "tui/paths.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *ours;     /* below LADE_HOME */
    const char *xdg;      /* environment variable */
    const char *standard; /* below the home directory */
} kinds[] = {
    [PATHS_CONFIG] = {"", "XDG_CONFIG_HOME", ".config"},
    [PATHS_DATA] = {"", "XDG_DATA_HOME", ".local/share"},
    [PATHS_CACHE] = {"/cache", "XDG_CACHE_HOME", ".cache"},
};

static int format(char out[PATH_MAX], char *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int format(char out[PATH_MAX], char *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, PATH_MAX, fmt, ap); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(ap);
    if (n < 0 || n >= PATH_MAX)
        return lade_fail(err, "LADE_HOME: the path is longer than %d bytes; use a shorter one",
                         PATH_MAX - 1);
    return 0;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *paths_home(void)
{
    const char *home = environment("HOME");
    if (home)
        return home;
    const struct passwd *user = getpwuid(getuid());
    return user && user->pw_dir && *user->pw_dir ? user->pw_dir : NULL;
}

int paths_dir(enum paths_kind kind, char out[PATH_MAX], char *err)
{
    const char *ours = environment("LADE_HOME"), *xdg = environment(kinds[kind].xdg);
    if (ours) {
        size_t len = strlen(ours);
        while (len > 1 && ours[len - 1] == '/')
            len--;
        return format(out, err, "%.*s%s", (int)len, ours, kinds[kind].ours);
    }
    if (xdg && *xdg == '/')
        return format(out, err, "%s/lade", xdg);
    const char *home = paths_home();
    if (!home)
        return lade_fail(err, "HOME: is not set and you have no home directory; set LADE_HOME");
    return format(out, err, "%s/%s/lade", home, kinds[kind].standard);
}

int paths_file(enum paths_kind kind, const char *name, char out[PATH_MAX], char *err)
{
    char dir[PATH_MAX];
    if (paths_dir(kind, dir, err))
        return -1;
    return format(out, err, "%s/%s", dir, name);
}

int paths_history(char out[PATH_MAX], char *err)
{
    return paths_file(PATHS_DATA, "history.db", out, err);
}

int paths_timelines(char out[PATH_MAX], char *err)
{
    return paths_file(PATHS_CACHE, "timelines", out, err);
}

bool paths_expand(const char *pattern, char out[PATH_MAX])
{
    char program[PATH_MAX] = "";
    const char *root = "";
    if (*pattern == '@') {
        ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
        program[n > 0 ? n : 0] = '\0';
        char *slash = strrchr(program, '/');
        if (!slash)
            return false;
        *slash = '\0';
        root = program;
    } else if (*pattern == '%') {
        root = LADE_PREFIX;
    }
    return snprintf(out, PATH_MAX, "%s%s", root, pattern + (*pattern == '@' || *pattern == '%')) <
           PATH_MAX;
}

bool paths_plugin(char out[PATH_MAX])
{
    static const char *const places[] = {"@/lade-cuda.so", "@/../lib/lade/lade-cuda.so",
                                         "%/lib/lade/lade-cuda.so"};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (paths_expand(places[i], out) && access(out, R_OK) == 0)
            return true;
    return false;
}
