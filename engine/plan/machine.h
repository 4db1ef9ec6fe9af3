/* machine.h - what this machine has, as the engine counts it. */
#ifndef LADE_PLAN_MACHINE_H
#define LADE_PLAN_MACHINE_H

#include <stdint.h>

struct lade_memory {
    uint64_t total;     /* bytes of RAM, or the control group's limit where that is lower */
    uint64_t available; /* bytes that can still be taken without swapping, under the same limit */
};

/* Reads /proc/meminfo and the control group (v2, else v1) of this process. Unknown values are 0.
 * Any thread. */
void lade_machine_memory(struct lade_memory *out);

/* Resident bytes of this process, now and at most so far. Any thread. */
void lade_machine_rss(uint64_t *now, uint64_t *peak);

/* Physical cores this process may run on (SMT siblings count once), at least 1. Any thread. */
int lade_machine_cores(void);

#endif
