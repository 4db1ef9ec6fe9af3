/* plugin.h - op tables that are loaded at run time.
 *
 * A plug-in is a shared object with one data symbol, `lade_plugin`: numbers that say for which
 * version of kernels.h it was built, and its op table. The program never links one, so the same
 * binary runs where there is no GPU, no driver or no plug-in.
 *
 * A plug-in defines the symbol by
 *
 *     LADE_PLUGIN_EXPORT const struct lade_plugin lade_plugin = LADE_PLUGIN(&my_ops);
 */
#ifndef LADE_KERNELS_PLUGIN_H
#define LADE_KERNELS_PLUGIN_H

#include "kernels/kernels.h"

/* Counts changes of kernels.h that sizes do not show: other meanings, other order of fields. */
enum { LADE_PLUGIN_ABI = 3 };

/* Sizes of all that crosses the border, so that a plug-in of another version cannot be used. */
struct lade_plugin_sizes {
    uint32_t ops, config, gpu, memory, rates, limits, matrix, matmul, project, attention, deltanet,
        route, router, expert, moe, topk;
};

struct lade_plugin {
    uint32_t abi; /* first in every version */
    struct lade_plugin_sizes sizes;
    const struct lade_ops *ops;
};

#define LADE_PLUGIN_SIZES                                                                          \
    {                                                                                              \
        sizeof(struct lade_ops), sizeof(struct lade_device_config), sizeof(struct lade_gpu),       \
            sizeof(struct lade_device_memory), sizeof(struct lade_device_rates),                   \
            sizeof(struct lade_limits), sizeof(struct lade_matrix), sizeof(struct lade_matmul),    \
            sizeof(struct lade_project), sizeof(struct lade_attention),                            \
            sizeof(struct lade_deltanet), sizeof(struct lade_route), sizeof(struct lade_router),   \
            sizeof(struct lade_expert), sizeof(struct lade_moe), sizeof(struct lade_topk)          \
    }
#define LADE_PLUGIN(table)                                                                         \
    {                                                                                              \
        LADE_PLUGIN_ABI, LADE_PLUGIN_SIZES, table                                                  \
    }
#ifdef __cplusplus
#define LADE_PLUGIN_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define LADE_PLUGIN_EXPORT __attribute__((visibility("default")))
#endif

/* The op table of the plug-in at `path`, for the rest of the process (plug-ins are not unloaded:
 * drivers do not survive that). NULL with err filled where the file is missing, is no plug-in,
 * was built for another version, or its list() says that no GPU can be used: no driver, a driver
 * too old, no device. Opening the same path again is cheap. Any thread. */
const struct lade_ops *lade_plugin_open(const char *path, char *err);

#endif
