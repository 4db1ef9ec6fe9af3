/* machine.h - what this machine has, as the engine counts it. */
#ifndef LADE_PLAN_MACHINE_H
#define LADE_PLAN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lade_memory {
    uint64_t total;     /* bytes of RAM, or the control group's limit where that is lower */
    uint64_t available; /* bytes that can still be taken without swapping, under the same limit */
};

/* Reads /proc/meminfo and the limits (v2: memory.max and memory.high; v1) of this process's control
 * group and of those above it. Unknown values are 0. Any thread. */
void lade_machine_memory(struct lade_memory *out);
/* The same where all these files are below a directory `root`: for tests. */
void lade_machine_memory_at(struct lade_memory *out, const char *root);

/* The path of the control group that counts memory, in a line NUMBER:CONTROLLERS:PATH of
 * /proc/self/cgroup, which is cut there; NULL where the line names another. *v2: of which version. */
char *lade_machine_group(char *line, bool *v2);

/* First line of DIR/NAME, a file of /proc or /sys, without its newline; false where there is none. */
bool lade_machine_line(const char *dir, const char *name, char *out, size_t size);

/* Resident bytes of this process, now and at most so far. Any thread. */
void lade_machine_rss(uint64_t *now, uint64_t *peak);

/* Physical cores this process may run on (SMT siblings count once), at least 1. Any thread. */
int lade_machine_cores(void);

#endif
