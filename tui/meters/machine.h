/* machine.h - memory and processors of the machine, as this process may use them. Linux. */
#ifndef LADE_TUI_METERS_MACHINE_H
#define LADE_TUI_METERS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* A number that could not be read is MACHINE_UNKNOWN. Bytes. */
#define MACHINE_UNKNOWN UINT64_MAX

struct machine {
    uint64_t ram_total;     /* MemTotal, or the cgroup's limit if that is lower */
    uint64_t ram_available; /* what can still be taken without swapping */
    uint64_t rss;           /* of this process, file pages included */
    uint64_t rss_anon;      /* of these, memory that is not a mapped file */
    bool limited;           /* a cgroup limit is below the machine's memory */
    double load;            /* busy part of all processors since the last sample, 0..1; NAN first */
    int processors;         /* online */
};

/* What the next sample needs of the last; zero-initialise. */
struct machine_probe {
    uint64_t busy, all;
};

/* Reads /proc and the cgroup. Some ten microseconds; any thread, one probe each. */
void machine_sample(struct machine_probe *probe, struct machine *out);

/* The same from another root (tests): "" is the real one, otherwise ROOT/proc/..., ROOT/sys/... */
void machine_sample_at(const char *root, struct machine_probe *probe, struct machine *out);

#endif
