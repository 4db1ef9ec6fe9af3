#include "tests/support/plugins.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *test_plugin_path(const char *name)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 300);
    path[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2; i++) { /* the program's name and its folder */
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = '\0';
    }
    snprintf(path + strlen(path), 280, "/%s", name);
    return path;
}

void *test_plugin_symbol(const char *path, const char *symbol)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (!library)
        return NULL;
    void *found = dlsym(library, symbol);
    dlclose(library); /* the plug-in itself stays */
    return found;
}
