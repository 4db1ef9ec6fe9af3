/* A plug-in that a test turns into one of another version: its symbol can be written. */
#include "kernels/plugin.h"

static int list(struct lade_gpu *gpus, int max, int *n, char *err)
{
    (void)gpus, (void)max;
    *n = 0;
    return lade_fail(err, "other: no device; run on the CPU");
}

static const struct lade_ops ops = {.name = "other", .list = list};

LADE_PLUGIN_EXPORT struct lade_plugin lade_plugin;
struct lade_plugin lade_plugin = LADE_PLUGIN(&ops);
