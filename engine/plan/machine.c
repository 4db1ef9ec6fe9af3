#include "engine/plan/machine.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernels/kernels.h"

bool lade_machine_line(const char *dir, const char *name, char *out, size_t size)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return false;
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(out, (int)size, f) != NULL;
    fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = '\0';
    return ok;
}

/* A byte count; "max" is UINT64_MAX. Where there is none *out stays as it was. */
static bool read_bytes(const char *dir, const char *name, uint64_t *out)
{
    char line[64];
    if (!lade_machine_line(dir, name, line, sizeof line))
        return false;
    if (!strcmp(line, "max")) {
        *out = UINT64_MAX;
        return true;
    }
    char *end;
    uint64_t bytes = strtoull(line, &end, 10);
    if (end == line)
        return false;
    *out = bytes;
    return true;
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

/* The files of a control group by version. Beyond `high` programs are not killed but made to wait. */
static const struct group_files {
    const char *mount, *limit, *high, *usage, *cache_key;
} group_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", NULL, "memory.usage_in_bytes",
              "total_inactive_file"},
  group_v2 = {"/sys/fs/cgroup", "memory.max", "memory.high", "memory.current", "inactive_file"};

/* Lowers *out to what one control group directory allows: its limit, if that is below the machine's
 * RAM, and what is left of it, which may be less than a narrower group below has left. Page cache of
 * the group can be taken back, so inactive file pages count as free. */
static void apply_limit(struct lade_memory *out, uint64_t machine, const char *dir,
                        const struct group_files *files)
{
    uint64_t limit = UINT64_MAX, high = UINT64_MAX, usage;
    read_bytes(dir, files->limit, &limit);
    if (files->high && read_bytes(dir, files->high, &high) && high < limit)
        limit = high;
    if (limit >= machine || !read_bytes(dir, files->usage, &usage))
        return;
    uint64_t cache = read_stat(dir, files->cache_key);
    usage = usage > cache ? usage - cache : 0;
    uint64_t left = limit > usage ? limit - usage : 0;
    if (limit < out->total)
        out->total = limit;
    if (left < out->available)
        out->available = left;
}

/* Walks from this process's group up to the root: any ancestor may hold the limit. */
static void walk_group(struct lade_memory *out, const char *root, char *group,
                       const struct group_files *files)
{
    const uint64_t machine = out->total;
    for (;;) {
        char dir[PATH_MAX];
        if (snprintf(dir, sizeof dir, "%s%s%s", root, files->mount, group) < (int)sizeof dir)
            apply_limit(out, machine, dir, files);
        char *slash = strrchr(group, '/');
        if (!slash || !group[1])
            return;
        slash[slash == group] = '\0';
    }
}

char *lade_machine_group(char *line, bool *v2)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    *v2 = !controllers[1];
    return *v2 || strstr(controllers, "memory") ? path : NULL;
}

static FILE *open_below(const char *root, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s%s", root, name) < (int)sizeof path ? fopen(path, "re")
                                                                              : NULL;
}

void lade_machine_memory(struct lade_memory *out)
{
    lade_machine_memory_at(out, "");
}

void lade_machine_memory_at(struct lade_memory *out, const char *root)
{
    *out = (struct lade_memory){0};
    FILE *f = open_below(root, "/proc/meminfo");
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
    f = open_below(root, "/proc/self/cgroup");
    if (!f)
        return;
    char line[PATH_MAX + 64];
    while (fgets(line, sizeof line, f)) {
        bool v2;
        char *group = lade_machine_group(line, &v2);
        if (group)
            walk_group(out, root, group, v2 ? &group_v2 : &group_v1);
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
