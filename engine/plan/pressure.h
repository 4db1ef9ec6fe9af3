/* pressure.h - memory that others claim while the model is there.
 *
 * A plan is made for what was free when it was made. Other programs come later. So the free memory
 * is watched, and experts give way: where less than half of the reserve (lade_memory_reserve) is
 * left, or less than all of it while programs wait for memory or take it so fast that it would soon
 * be gone, as much goes back as the reserve lacks, and as much again as they are likely to take
 * before that helps; where half as much again as the reserve has been free for a while, experts
 * come back, up to the plan.
 *
 * Watched are MemAvailable and the limits of the control groups (machine.h), and for the moments
 * between two looks the kernel's pressure stall information: a trigger on the group's
 * memory.pressure or on /proc/pressure/memory, and how often the group and those above it ran into
 * their limits (`high` and `max` of memory.events.local; memory.failcnt of version 1). None of
 * these need be there. */
#ifndef LADE_PLAN_PRESSURE_H
#define LADE_PLAN_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/plan/probe.h"

/* One look at the memory. */
struct lade_pressure {
    double seconds;               /* when, by any clock that goes on */
    uint64_t ram_total, ram_left; /* bytes, under all limits; left: can be taken without swapping */
    bool stalled;                 /* programs waited for RAM since the last look */
    /* Of the GPUs in use, in the order of their layers, all programs counted; 0 total: unknown. */
    uint64_t vram_total[LADE_MACHINE_GPUS], vram_left[LADE_MACHINE_GPUS];
};

/* Where looks come from: false where there is nothing new to see. Called often, on one thread. */
typedef bool lade_pressure_fn(void *user, struct lade_pressure *out);

/* The system's. Looks at most 50 times a second, and at once when programs stall. */
struct lade_watch;
struct lade_watch *lade_watch_open(void); /* NULL without memory, which is allowed below */
/* The same where the system's files are below a directory `root`, borrowed: for tests. */
struct lade_watch *lade_watch_open_at(const char *root);
void lade_watch_close(struct lade_watch *w);
bool lade_watch_look(void *watch, struct lade_pressure *out); /* a lade_pressure_fn; RAM alone */

/* What is left to other programs of that much RAM or VRAM: a sixteenth, at most 1 GiB. */
uint64_t lade_memory_reserve(uint64_t bytes);

/* Experts in one memory, bytes. */
struct lade_experts_room {
    uint64_t plan;    /* room that the plan gives them */
    uint64_t room;    /* that they have now */
    uint64_t held;    /* of this, what is really taken */
    double since;     /* seconds since the room changed */
    uint64_t claimed; /* that others have taken since the last look */
};

/* The room they should have, when `left` bytes are free and `reserve` should be. Pure. */
uint64_t lade_pressure_room(const struct lade_experts_room *now, uint64_t left, uint64_t reserve,
                            bool stalled);

#endif
