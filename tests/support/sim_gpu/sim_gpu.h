/* sim_gpu.h - a simulated GPU: a plug-in (kernels/plugin.h) that computes on the CPU and is as
 * strict as a GPU can be. It is for tests of what drives a GPU, never a measurement of one.
 *
 * - Addresses of device memory are no addresses of the host: touching one faults, giving an op
 *   memory of the host is an error, and so is a range that leaves its allocation.
 * - Work is done as late as the order of kernels.h allows, so that results that nobody waited for
 *   are not there.
 * - Two accesses to the same bytes, one of them a write, from queues that no fence orders, are an
 *   error ("race"). So are a changed table of experts with its old version, and free() of memory
 *   that queued work still uses.
 * - Memory is counted against the cap. The link and the memory have speeds; what would have taken
 *   how long is counted in virtual seconds, nothing sleeps.
 *
 * Errors are those of the ops; what free() finds ends the program. Tests reach the knobs by
 * dlsym("lade_sim") in the object that they have loaded; set them while no device is open (atomic
 * ones: any time). Scripts, which run the program, set lose_call by LADE_SIM_LOSE_CALL in its environment. */
#ifndef LADE_TESTS_SIM_GPU_H
#define LADE_TESTS_SIM_GPU_H

#include <stddef.h>
#include <stdint.h>

struct lade_sim {
    /* the machine */
    int devices;                   /* GPUs; 0 = list() fails as without a driver */
    size_t total, others;          /* bytes of each, bytes of it that other programs hold */
    size_t context;                /* bytes that an open device takes */
    double memory_rate, link_rate; /* bytes per second */
    double launch;                 /* seconds that each op costs beside its bytes */
    _Atomic int64_t lose_call; /* which call of a device, counted from here, finds it lost; counts
                                      down, 0 and less: none */
    _Atomic int lose_gpu;      /* number of that device */
    _Atomic unsigned gone;     /* bit i: GPU i was lost and cannot be opened, until it is cleared */
    _Atomic int64_t fail_call; /* which call that takes memory or copies, counted from here,
                                      fails, once; counts down, 0 and less: none */
    int no_pinning;            /* not 0: pin() fails */
    /* counted since the program began */
    unsigned long allocations; /* alloc() and host_alloc() */
    unsigned long pinned;      /* ranges of pin() that are there now */
    uint64_t ops, uploads, downloads, replays, tables;
    uint64_t upload_bytes, download_bytes; /* over the link, ops on host_alloc memory included */
    uint64_t beyond_limits;                /* ops larger than prepare() was told */
    size_t beyond;                         /* most bytes of a device beyond its reserve; 0 = none
                                              so far, or none had one */
    double seconds;                        /* virtual time, as the host sees it: waiting only */
    double compute_busy, upload_busy, download_busy;
};

extern struct lade_sim lade_sim;

#endif
