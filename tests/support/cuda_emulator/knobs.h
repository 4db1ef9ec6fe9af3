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
    int no_pages;                   /* not 0: the driver has no virtual memory management */
    int no_blas;                    /* not 0: cuBLAS is not installed */
    int no_pinning;                 /* not 0: memory of the host cannot be registered */
    long fail_blas;                 /* which of its products fails, as fail_allocation */
    size_t granule;                 /* bytes that pages are multiples of; 4096 or a multiple */
    long fail_allocation;           /* which one of device memory or pages fails, counted from here;
                                       counts down, 0: none; may be set at any time */
    unsigned long launches, copies; /* counted, as the next */
    unsigned long registered;       /* ranges of the host's memory, now */
    unsigned long allocations;      /* of device and of pinned memory, pages and maps of them */
    unsigned long device_allocations; /* of these, cudaMalloc() */
    unsigned long pages, held_pages;  /* cuMemCreate(), and how many are there now */
    unsigned long page_bytes;         /* of the last one */
    unsigned long products;           /* of cuBLAS */
};

#ifdef __cplusplus
extern "C"
#endif
    struct lade_emulator_knobs lade_emulator;

#endif
