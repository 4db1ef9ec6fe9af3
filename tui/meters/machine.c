#include "tui/meters/machine.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/plan/machine.h"

double machine_load(struct machine_probe *probe, const char *stat_line)
{
    /* user nice system idle iowait irq softirq steal, in clock ticks since boot (proc(5)). Waiting
     * for a disk is not being busy. */
    unsigned long long t[8] = {0};
    if (sscanf(stat_line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
               &t[4], &t[5], &t[6], &t[7]) < 4)
        return NAN;
    uint64_t busy = t[0] + t[1] + t[2] + t[5] + t[6] + t[7], all = busy + t[3] + t[4];
    struct machine_probe last = *probe;
    *probe = (struct machine_probe){busy, all};
    if (!last.all || all <= last.all || busy < last.busy)
        return NAN;
    return (double)(busy - last.busy) / (double)(all - last.all);
}

void machine_sample(struct machine_probe *probe, struct machine *out)
{
    struct lade_memory memory;
    lade_machine_memory(&memory);
    *out = (struct machine){memory.total ? memory.total : MACHINE_UNKNOWN,
                            memory.total ? memory.available : MACHINE_UNKNOWN, MACHINE_UNKNOWN,
                            MACHINE_UNKNOWN, NAN};
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        unsigned long long size, resident, shared;
        uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
        if (fscanf(f, "%llu %llu %llu", &size, &resident, &shared) == 3) {
            out->rss = resident * page;
            out->rss_file = shared * page;
        }
        fclose(f);
    }
    f = fopen("/proc/stat", "re");
    if (f) {
        char line[256];
        if (fgets(line, sizeof line, f))
            out->load = machine_load(probe, line);
        fclose(f);
    }
}
