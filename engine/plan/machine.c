#include "engine/plan/machine.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/kernels.h"

/* First line of a small file, without its newline. */
static bool read_line(const char *path, char *buf, int size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(buf, size, f) != NULL;
    fclose(f);
    if (ok)
        buf[strcspn(buf, "\n")] = '\0';
    return ok;
}

/* A byte count; "max" and v1's huge "no limit" are UINT64_MAX. */
static bool read_bytes(const char *dir, const char *name, uint64_t *out)
{
    char path[PATH_MAX + 64], line[64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!read_line(path, line, sizeof line))
        return false;
    if (!strcmp(line, "max")) {
        *out = UINT64_MAX;
        return true;
    }
    char *end;
    *out = strtoull(line, &end, 10);
    return end != line;
}

/* One line of memory.stat. */
static uint64_t read_stat(const char *dir, const char *key)
{
    char path[PATH_MAX + 64], name[64];
    unsigned long long value, found = 0;
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fscanf(f, "%63s %llu", name, &value) == 2)
        if (!strcmp(name, key))
            found = value;
    fclose(f);
    return found;
}

/* Lowers *out to what one control group directory allows: its limit, if that is below the machine's
 * RAM, and what is left of it, which may be less than a narrower group below has left. Page cache of
 * the group can be taken back, so inactive file pages count as free. */
static void apply_limit(struct lade_memory *out, uint64_t machine, const char *dir,
                        const char *limit_name, const char *usage_name, const char *cache_key)
{
    uint64_t limit, usage;
    if (!read_bytes(dir, limit_name, &limit) || !read_bytes(dir, usage_name, &usage) ||
        limit >= machine)
        return;
    uint64_t cache = read_stat(dir, cache_key);
    usage = usage > cache ? usage - cache : 0;
    uint64_t left = limit > usage ? limit - usage : 0;
    if (limit < out->total)
        out->total = limit;
    if (left < out->available)
        out->available = left;
}

/* Walks from this process's group up to the root: any ancestor may hold the limit. */
static void walk_group(struct lade_memory *out, const char *mount, char *group, bool v2)
{
    const uint64_t machine = out->total;
    for (;;) {
        char dir[PATH_MAX];
        if (snprintf(dir, sizeof dir, "%s%s", mount, group) < (int)sizeof dir)
            apply_limit(out, machine, dir, v2 ? "memory.max" : "memory.limit_in_bytes",
                        v2 ? "memory.current" : "memory.usage_in_bytes",
                        v2 ? "inactive_file" : "total_inactive_file");
        char *slash = strrchr(group, '/');
        if (!slash || !group[1])
            return;
        slash[slash == group] = '\0';
    }
}

void lade_machine_memory(struct lade_memory *out)
{
    *out = (struct lade_memory){0};
    FILE *f = fopen("/proc/meminfo", "re");
    if (f) {
        char line[256];
        unsigned long long kib;
        while (fgets(line, sizeof line, f)) {
            if (sscanf(line, "MemTotal: %llu", &kib) == 1)
                out->total = kib * 1024;
            else if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
                out->available = kib * 1024;
        }
        fclose(f);
    }
    f = fopen("/proc/self/cgroup", "re");
    if (!f)
        return;
    char line[PATH_MAX + 64];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = '\0';
        *group++ = '\0';
        if (!*controllers)
            walk_group(out, "/sys/fs/cgroup", group, true);
        else if (strstr(controllers, "memory"))
            walk_group(out, "/sys/fs/cgroup/memory", group, false);
    }
    fclose(f);
}

void lade_machine_rss(uint64_t *now, uint64_t *peak)
{
    *now = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f) {
        unsigned long long size, resident;
        if (fscanf(f, "%llu %llu", &size, &resident) == 2)
            *now = resident * (uint64_t)sysconf(_SC_PAGESIZE);
        fclose(f);
    }
    struct rusage usage;
    *peak = getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
    if (*peak < *now)
        *peak = *now;
}

int lade_machine_cores(void)
{
    return lade_cpu_cores();
}
