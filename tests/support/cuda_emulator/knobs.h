/* knobs.h - what tests may set of the emulated machine, and what they may read.
 *
 * A plain C structure, exported by the emulated plug-in as `lade_emulator`: tests find it with
 * dlsym() in the object that they have loaded. Set it while no device is open. */
#ifndef LADE_EMULATOR_KNOBS_H
#define LADE_EMULATOR_KNOBS_H

#include <stddef.h>

struct lade_emulator_knobs {
    int devices;                    /* how many GPUs there are */
    int driver;                     /* version of the driver as CUDA numbers it; 0 = no driver */
    int major, minor;               /* compute capability */
    size_t total;                   /* bytes of memory of each GPU */
    size_t others;                  /* bytes of it that other programs hold */
    size_t context;                 /* bytes that the first use of a GPU takes */
    long lost_after;                /* calls and kernels until the GPU is lost; 0 = never */
    int eager;                      /* not 0: work is done when it is queued */
    unsigned long launches, copies; /* counted, as the next */
    unsigned long allocations;      /* of device and of pinned memory */
};

#ifdef __cplusplus
extern "C"
#endif
    struct lade_emulator_knobs lade_emulator;

#endif
