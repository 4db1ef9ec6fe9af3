#include "kernels/plugin.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

/* What the loader says, without the path that it begins with. */
static const char *loader_error(const char *path)
{
    const char *text = dlerror();
    if (!text)
        return "the loader gives no reason";
    size_t len = strlen(path);
    return !strncmp(text, path, len) && !strncmp(text + len, ": ", 2) ? text + len + 2 : text;
}

/* The whole of dlopen's work but the meaning of the symbol. NULL with err filled. */
static const struct lade_plugin *load(const char *path, char *err)
{
    if (access(path, F_OK)) {
        lade_set_error(err, "%s: no such file; build it where nvcc is, or run on the CPU", path);
        return NULL;
    }
    void *library = strchr(path, '/') ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        lade_set_error(err, "%s: cannot be loaded: %s; install what is missing, or run on the CPU",
                       path, strchr(path, '/') ? loader_error(path) : "the path has no directory");
        return NULL;
    }
    const struct lade_plugin *plugin = dlsym(library, "lade_plugin");
    if (!plugin) {
        dlclose(library);
        lade_set_error(err, "%s: is no plug-in of lade; give the path of lade-cuda.so", path);
    }
    return plugin;
}

const struct lade_ops *lade_plugin_open(const char *path, char *err)
{
    static const struct lade_plugin_sizes sizes = LADE_PLUGIN_SIZES;
    const struct lade_plugin *plugin = load(path, err);
    if (!plugin)
        return NULL;
    if (plugin->abi != LADE_PLUGIN_ABI) {
        lade_set_error(err,
                       "%s: is for version %u of the op table, this program has %d; build "
                       "both from the same sources",
                       path, plugin->abi, LADE_PLUGIN_ABI);
        return NULL;
    }
    if (memcmp(&plugin->sizes, &sizes, sizeof sizes)) {
        lade_set_error(err,
                       "%s: was built with other structures than this program; build both "
                       "from the same sources",
                       path);
        return NULL;
    }
    int devices = 0;
    if (plugin->ops->list(NULL, 0, &devices, err))
        return NULL;
    return plugin->ops;
}
