/* devices.h - what computes: the devices that the base lives on, each with some of the layers, and
 * the CPU beside them.
 *
 * Without a GPU the one part is the CPU, with all layers. With GPUs every card of the placement is a
 * part, in the order of their layers. */
#ifndef LADE_MODEL_DEVICES_H
#define LADE_MODEL_DEVICES_H

#include "engine/checkpoint/catalog.h"
#include "engine/plan/plan.h"
#include "kernels/kernels.h"

/* A device and the layers that it computes. */
struct lade_device_part {
    const struct lade_ops *ops;
    struct lade_device *dev;
    int gpu;        /* its number, as the plug-in lists it; the CPU: 0 */
    int first, end; /* layers [first, end) */
};

struct lade_devices {
    struct lade_device_part part[LADE_CARDS];
    int n;                      /* parts, at least 1 */
    const struct lade_ops *cpu; /* always */
    struct lade_device *cpu_dev;
    bool gpu;    /* the parts are GPUs */
    int refused; /* after a failure to open cards: the number of the GPU that it was; else -1 */
    int lost;    /* then: that of one that was lost meanwhile; else -1 */
};

/* Bytes of a card: the most that it may hold (0 = all that is free), and what it takes when it is
 * opened, so that nothing is allocated later. */
struct lade_vram_limit {
    uint64_t cap, reserve;
};

/* Opens the CPU and the cards of `place` by the plug-in at `plugin`, with work space for batches and
 * contexts of the placement. limits[i] are of the placement's card i. On failure nothing is open. */
int lade_devices_open(struct lade_devices *d, const struct lade_device_config *config,
                      const struct lade_placement *place, const struct lade_catalog *cat,
                      const char *plugin, const struct lade_vram_limit *limits, char *err);
void lade_devices_close(struct lade_devices *d);

/* The devices of another placement: *to is *d with its cards opened, or without any. Between two
 * placements with cards these and their layers must be the same. What `d` has that `to` lacks, or
 * the other way round, is closed by lade_devices_leave() once it is not in use. On failure nothing is
 * open that was not before. */
int lade_devices_change(struct lade_devices *to, const struct lade_devices *d,
                        const struct lade_device_config *config, const struct lade_placement *place,
                        const struct lade_catalog *cat, const char *plugin,
                        const struct lade_vram_limit *limits, char *err);
/* Closes the cards of `d` if `other` has none. */
void lade_devices_leave(const struct lade_devices *d, const struct lade_devices *other);

/* Closes all cards, lost or not: the CPU has all layers then. */
void lade_devices_drop(struct lade_devices *d, const struct lade_catalog *cat);

/* Changes what card i of the GPUs keeps to bytes[i]: all of them, or on failure none that gets
 * more. */
int lade_devices_reserve(const struct lade_devices *d, const uint64_t *bytes, char *err);

/* The number of a GPU among them that is lost: everything that needs it fails from then on. -1: none is.
 * Any thread. */
int lade_devices_lost(const struct lade_devices *d);

/* Waits until no device has anything to do. */
int lade_devices_sync(const struct lade_devices *d, char *err);

/* The part that computes a layer. */
const struct lade_device_part *lade_devices_part(const struct lade_devices *d, int layer);

/* The largest work that ops of this model will be asked for. */
void lade_devices_limits(struct lade_limits *out, const struct lade_catalog *cat, int batch,
                         int context);

/* Memory for ops of a part: its own, or with `in_ram` RAM that it can use. */
int lade_part_alloc(const struct lade_device_part *p, void **out, size_t bytes, bool in_ram,
                    char *err);
void lade_part_free(const struct lade_device_part *p, void *memory, bool in_ram);

#endif
