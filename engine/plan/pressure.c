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
static const double LOOK_EVERY = 0.02, GROW_AFTER = 10;
/* Looks that pass until memory that is given back is there, about. */
static const uint64_t LOOKS_AHEAD = 4;

/* Stalls of 150 ms within 2 s: what a user may ask for without being root is multiples of 2 s. */
static const char trigger[] = "some 150000 2000000";

struct lade_watch {
    const char *root;        /* of the files; "" = the system's */
    int psi;                 /* readable with POLLPRI after stalls; -1: none */
    char events[PATH_MAX];   /* of the control group; "" = none */
    unsigned long long hits; /* its counters and those of groups above, added up */
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
    uint64_t soon = now->claimed < reserve ? LOOKS_AHEAD * now->claimed : reserve;
    soon = soon < reserve ? soon : reserve;
    if (left < reserve / 2 || (left < reserve && (stalled || left < soon))) {
        uint64_t lack = reserve - left + soon;
        return held > lack ? held - lack : 0;
    }
    if (now->room >= now->plan || left <= reserve + reserve / 2 || now->since < GROW_AFTER)
        return now->room;
    uint64_t grown = held + (left - reserve);
    grown = grown < now->plan ? grown : now->plan;
    return grown > now->room ? grown : now->room;
}

/* ---- the system's numbers -------------------------------------------------------------------- */

/* A file below a root; "" where the name is too long. */
static void join(char out[PATH_MAX], const char *root, const char *name)
{
    if (snprintf(out, PATH_MAX, "%s%s", root, name) >= PATH_MAX)
        *out = '\0';
}

/* A file of this process's control group: "" where it is not there. */
static void find_file(char out[PATH_MAX], const char *root, const char *name, bool v2)
{
    char line[PATH_MAX];
    join(line, root, "/proc/self/cgroup");
    *out = '\0';
    FILE *f = fopen(line, "re");
    while (f && !*out && fgets(line, sizeof line, f)) {
        bool of_v2;
        const char *group = lade_machine_group(line, &of_v2);
        if (!group || of_v2 != v2)
            continue;
        int n = snprintf(out, PATH_MAX, "%s/sys/fs/cgroup%s%s/%s", root, v2 ? "" : "/memory", group,
                         name);
        if (n >= PATH_MAX || access(out, R_OK))
            *out = '\0';
    }
    if (f)
        fclose(f);
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

/* The numbers of a file: lines of a key and a number, or a number alone. False where it is not there. */
static bool add_hits(const char *path, unsigned long long *sum)
{
    char key[32];
    unsigned long long value;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    if (fscanf(f, "%llu", &value) == 1)
        *sum += value;
    while (fscanf(f, "%31s %llu", key, &value) == 2)
        if (!strcmp(key, "high") || !strcmp(key, "max"))
            *sum += value;
    fclose(f);
    return true;
}

/* How often the group and those above it ran into their limits so far. Above the last one there is no
 * such file. */
static unsigned long long count_hits(const char *events)
{
    char path[PATH_MAX];
    unsigned long long sum = 0;
    snprintf(path, sizeof path, "%s", events);
    while (*path && add_hits(path, &sum)) {
        char *name = strrchr(path, '/');
        *name = '\0';
        char *group = strrchr(path, '/');
        if (!group)
            break;
        *name = '/';
        memmove(group, name, strlen(name) + 1);
    }
    return sum;
}

struct lade_watch *lade_watch_open(void)
{
    return lade_watch_open_at("");
}

struct lade_watch *lade_watch_open_at(const char *root)
{
    char path[PATH_MAX];
    struct lade_watch *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->root = root;
    find_file(path, root, "memory.pressure", true);
    w->psi = open_trigger(path);
    join(path, root, "/proc/pressure/memory");
    if (w->psi < 0)
        w->psi = open_trigger(path);
    find_file(w->events, root, "memory.events.local", true);
    if (!*w->events) /* before Linux 5.2; counts groups below, too */
        find_file(w->events, root, "memory.events", true);
    if (!*w->events)
        find_file(w->events, root, "memory.failcnt", false);
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
    lade_machine_memory_at(&memory, w->root);
    *out = (struct lade_pressure){.seconds = now,
                                  .ram_total = memory.total,
                                  .ram_left = memory.available,
                                  .stalled = stalled || hits > w->hits};
    w->hits = hits;
    w->looked = now;
    return memory.total > 0;
}
