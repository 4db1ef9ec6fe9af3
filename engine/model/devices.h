/* devices.h - what computes: the device that the base lives on, and the CPU beside it. */
#ifndef LADE_MODEL_DEVICES_H
#define LADE_MODEL_DEVICES_H

#include "engine/checkpoint/catalog.h"
#include "engine/plan/plan.h"
#include "kernels/kernels.h"

struct lade_devices {
    const struct lade_ops *ops; /* of the base: the CPU's, or a GPU's */
    struct lade_device *dev;
    const struct lade_ops *cpu; /* always */
    struct lade_device *cpu_dev;
    bool gpu; /* ops is not cpu */
};

/* Opens the CPU and, if `place` has anything in VRAM, the GPU of the plug-in at `plugin`, with work
 * space for batches and contexts of the placement. `cap` (0 = all that is free) is the most it
 * may hold. On failure nothing is open. */
int lade_devices_open(struct lade_devices *d, const struct lade_device_config *config,
                      const struct lade_placement *place, const struct lade_catalog *cat,
                      const char *plugin, size_t cap, char *err);
void lade_devices_close(struct lade_devices *d);

/* The devices of another placement: *to is *d with the GPU opened, or left out. What `d` has that
 * `to` lacks, or the other way round, is closed by lade_devices_leave() once it is not in use. On
 * failure nothing is open that was not before. */
int lade_devices_change(struct lade_devices *to, const struct lade_devices *d,
                        const struct lade_device_config *config, const struct lade_placement *place,
                        const struct lade_catalog *cat, const char *plugin, size_t cap, char *err);
/* Closes the GPU of `d` if `other` has none. */
void lade_devices_leave(const struct lade_devices *d, const struct lade_devices *other);

/* The largest work that ops of this model will be asked for. */
void lade_devices_limits(struct lade_limits *out, const struct lade_catalog *cat, int batch,
                         int context);

/* Memory for ops of the base's device: its own, or with `in_ram` RAM that it can use. */
int lade_devices_alloc(const struct lade_devices *d, void **out, size_t bytes, bool in_ram,
                       char *err);
void lade_devices_free(const struct lade_devices *d, void *memory, bool in_ram);

#endif
