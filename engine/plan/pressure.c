#include "engine/clock.h"
#include "engine/plan/pressure.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/plan/machine.h"

static const uint64_t MOST_LEFT = 1u << 30, PART_LEFT = 16;
static const double LOOK_EVERY = 0.1, GROW_AFTER = 10;

/* Stalls of 150 ms within 2 s: what a user may ask for without being root is multiples of 2 s. */
static const char trigger[] = "some 150000 2000000";

struct lade_watch {
    int psi;                 /* readable with POLLPRI after stalls; -1: none */
    char events[PATH_MAX];   /* of the control group; "" = none */
    unsigned long long hits; /* its counters, added up */
    double looked;
};

uint64_t lade_memory_reserve(uint64_t bytes)
{
    uint64_t part = bytes / PART_LEFT;
    return part < MOST_LEFT ? part : MOST_LEFT;
}

uint64_t lade_pressure_room(const struct lade_experts_room *now, uint64_t left, uint64_t reserve,
                            bool stalled)
{
    uint64_t held = now->held < now->room ? now->held : now->room;
    if (left < reserve / 2 || (stalled && left < reserve)) {
        uint64_t lack = reserve - left;
        return held > lack ? held - lack : 0;
    }
    if (now->room >= now->plan || left <= reserve + reserve / 2 || now->since < GROW_AFTER)
        return now->room;
    uint64_t grown = held + (left - reserve);
    grown = grown < now->plan ? grown : now->plan;
    return grown > now->room ? grown : now->room;
}

/* ---- the system's numbers -------------------------------------------------------------------- */

/* The directory of this process's control group, version 2; false where there is none. */
static bool find_group(char dir[PATH_MAX])
{
    char line[PATH_MAX];
    bool found = false;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        found = !strncmp(line, "0::", 3) &&
                snprintf(dir, PATH_MAX, "/sys/fs/cgroup%s", line + 3) < PATH_MAX;
    }
    if (f)
        fclose(f);
    return found;
}

static int open_trigger(const char *path)
{
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && write(fd, trigger, sizeof trigger) == (ssize_t)sizeof trigger)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* How often the group ran into its limits so far. */
static unsigned long long count_hits(const char *path)
{
    char key[32];
    unsigned long long value, sum = 0;
    FILE *f = *path ? fopen(path, "re") : NULL;
    while (f && fscanf(f, "%31s %llu", key, &value) == 2)
        if (!strcmp(key, "high") || !strcmp(key, "max"))
            sum += value;
    if (f)
        fclose(f);
    return sum;
}

struct lade_watch *lade_watch_open(void)
{
    char dir[PATH_MAX], path[PATH_MAX + 32];
    struct lade_watch *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->psi = -1;
    if (find_group(dir)) {
        snprintf(path, sizeof path, "%s/memory.pressure", dir);
        w->psi = open_trigger(path);
        int n = snprintf(path, sizeof path, "%s/memory.events", dir);
        if (n < PATH_MAX)
            memcpy(w->events, path, (size_t)n + 1);
    }
    if (w->psi < 0)
        w->psi = open_trigger("/proc/pressure/memory");
    w->hits = count_hits(w->events);
    return w;
}

void lade_watch_close(struct lade_watch *w)
{
    if (w && w->psi >= 0)
        close(w->psi);
    free(w);
}

bool lade_watch_look(void *watch, struct lade_pressure *out)
{
    struct lade_watch *w = watch;
    if (!w)
        return false;
    struct pollfd p = {.fd = w->psi, .events = POLLPRI};
    bool stalled = w->psi >= 0 && poll(&p, 1, 0) == 1 && p.revents & POLLPRI;
    double now = lade_now();
    if (!stalled && now - w->looked < LOOK_EVERY)
        return false;
    unsigned long long hits = count_hits(w->events);
    struct lade_memory memory;
    lade_machine_memory(&memory);
    *out = (struct lade_pressure){.seconds = now,
                                  .ram_total = memory.total,
                                  .ram_left = memory.available,
                                  .stalled = stalled || hits > w->hits};
    w->hits = hits;
    w->looked = now;
    return memory.total > 0;
}
