/* What the machine has: processor, memory, GPU, disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/plan/machine.h"
#include "kernels/kernels.h"
#include "tui/cmd/doctor.h"
#include "engine/plan/nvml.h"
#include "tui/meters/units.h"
#include "tui/paths.h"

/* The value of the first line `KEY : VALUE` of a file of /proc; false if there is none. */
static bool read_key(const char *file, const char *key, char *out, size_t size)
{
    char line[4096];
    bool found = false;
    FILE *f = fopen(file, "r");
    while (f && !found && fgets(line, sizeof(line), f)) {
        size_t len = strlen(key);
        char *colon = strchr(line, ':');
        if (strncmp(line, key, len) != 0 || !colon || strspn(line + len, " \t:") == 0)
            continue;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(out, size, "%s", value);
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

static void look_system(struct doctor_finding *f)
{
    struct utsname u;
    char name[128];
    if (uname(&u)) {
        snprintf(f->value, sizeof(f->value), "unknown");
        return;
    }
    FILE *release = fopen("/etc/os-release", "r");
    char line[256];
    snprintf(name, sizeof(name), "%.100s", u.sysname);
    while (release && fgets(line, sizeof(line), release)) {
        if (sscanf(line, "PRETTY_NAME=\"%127[^\"]\"", name) == 1)
            break;
    }
    if (release)
        fclose(release);
    snprintf(f->value, sizeof(f->value), "%s, kernel %.60s, %.30s", name, u.release, u.machine);
    json_object_set_new(f->data, "system", json_string(name));
    json_object_set_new(f->data, "kernel", json_string(u.release));
    json_object_set_new(f->data, "machine", json_string(u.machine));
}

static void look_processor(struct doctor_finding *f)
{
    char model[128] = "unknown model";
    int cores = lade_machine_cores();
    int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (!read_key("/proc/cpuinfo", "model name", model, sizeof(model)))
        read_key("/proc/cpuinfo", "Hardware", model, sizeof(model));
    snprintf(f->value, sizeof(f->value), "%s, %d core%s, %d processor%s", model, cores,
             cores == 1 ? "" : "s", processors, processors == 1 ? "" : "s");
    json_object_set_new(f->data, "model", json_string(model));
    json_object_set_new(f->data, "cores", json_integer(cores));
    json_object_set_new(f->data, "processors", json_integer(processors));
}

/* Asks the device itself, so that what is said is what is used. */
static void look_instructions(struct doctor_finding *f)
{
    static const char *const names[] = {"avx512", "avx2", "portable"};
    json_t *list = json_array();
    char *p = f->value, *end = f->value + sizeof(f->value);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct lade_device_config config = {.threads = 1, .isa = names[i]};
        struct lade_device *dev = NULL;
        if (lade_cpu_ops()->open(&dev, &config, NULL))
            continue;
        lade_cpu_ops()->close(dev);
        p += snprintf(p, (size_t)(end - p), "%s%s", p > f->value ? ", " : "", names[i]);
        json_array_append_new(list, json_string(names[i]));
    }
    if (json_array_size(list) == 1) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "this processor has no AVX2: lade works, several times slower");
    }
    json_object_set_new(f->data, "usable", list);
}

static void look_memory(struct doctor_finding *f)
{
    char total[UNITS_MAX], available[UNITS_MAX], text[64] = "";
    struct lade_memory m;
    lade_machine_memory(&m);
    read_key("/proc/meminfo", "MemTotal", text, sizeof(text));
    bool limited = (double)m.total < strtod(text, NULL) * 1024;
    snprintf(f->value, sizeof(f->value), "%s%s, %s available", units_memory(total, (double)m.total),
             limited ? " (the limit of a control group)" : "",
             units_memory(available, (double)m.available));
    if (m.available < (uint64_t)16 << 30) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "the 80B model wants at least 16 GiB free; close other programs");
    }
    json_object_set_new(f->data, "total_bytes", json_integer((json_int_t)m.total));
    json_object_set_new(f->data, "available_bytes", json_integer((json_int_t)m.available));
    json_object_set_new(f->data, "limited", json_boolean(limited));
}

static void look_swap(struct doctor_finding *f)
{
    char text[64] = "", size[UNITS_MAX], left[UNITS_MAX];
    double total = 0, free_bytes = 0;
    if (read_key("/proc/meminfo", "SwapTotal", text, sizeof(text)))
        total = strtod(text, NULL) * 1024;
    if (read_key("/proc/meminfo", "SwapFree", text, sizeof(text)))
        free_bytes = strtod(text, NULL) * 1024;
    if (total > 0)
        snprintf(f->value, sizeof(f->value), "%s, %s free", units_memory(size, total),
                 units_memory(left, free_bytes));
    else
        snprintf(f->value, sizeof(f->value), "none");
    json_object_set_new(f->data, "total_bytes", json_integer((json_int_t)total));
    json_object_set_new(f->data, "free_bytes", json_integer((json_int_t)free_bytes));
}

static json_t *known_bytes(uint64_t bytes)
{
    return bytes == LADE_NVML_UNKNOWN ? json_null() : json_integer((json_int_t)bytes);
}

static void look_gpu(struct doctor_finding *f)
{
    char reason[LADE_ERR] = "";
    struct lade_nvml *n = lade_nvml_open(reason);
    json_t *list = json_array();
    char *p = f->value, *end = f->value + sizeof(f->value);
    for (int i = 0; i < lade_nvml_count(n) && p < end; i++) {
        struct lade_nvml_gpu gpu;
        char memory[UNITS_MAX];
        if (lade_nvml_sample(n, i, &gpu))
            continue;
        double used = gpu.used == LADE_NVML_UNKNOWN ? -1 : (double)gpu.used;
        double total = gpu.total == LADE_NVML_UNKNOWN ? -1 : (double)gpu.total;
        p += snprintf(p, (size_t)(end - p), "%s%s, %s used", i ? "; " : "", gpu.name,
                      units_memory_of(memory, used, total));
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "name", gpu.name, "total_bytes",
                                              known_bytes(gpu.total), "used_bytes",
                                              known_bytes(gpu.used)));
    }
    if (json_array_size(list) == 0) {
        snprintf(f->value, sizeof(f->value), "none");
        snprintf(f->advice, sizeof(f->advice), "%.*s", DOCTOR_TEXT - 1, reason);
    }
    json_object_set_new(f->data, "gpus", list);
    json_object_set_new(f->data, "driver", json_string(lade_nvml_driver(n)));
    lade_nvml_close(n);
}

/* Free space where `kind` lies or, while it is not there, where it will be made. */
static void look_disk(struct doctor_finding *f, enum paths_kind kind)
{
    char path[PATH_MAX], size[UNITS_MAX];
    struct statvfs st = {0};
    if (paths_dir(kind, path, f->value)) {
        f->state = DOCTOR_BAD;
        return;
    }
    json_object_set_new(f->data, "path", json_string(path));
    char *slash;
    while (statvfs(path, &st) && (slash = strrchr(path + 1, '/')))
        *slash = '\0';
    double bytes = (double)st.f_bavail * (double)st.f_frsize;
    snprintf(f->value, sizeof(f->value), "%s free at %.180s", units_file(size, bytes), path);
    json_object_set_new(f->data, "free_bytes", json_integer((json_int_t)bytes));
    if (bytes < 1e8) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice), "almost full: conversations may not be saved");
    }
}

static void look_data(struct doctor_finding *f)
{
    look_disk(f, PATHS_DATA);
}

static void look_cache(struct doctor_finding *f)
{
    look_disk(f, PATHS_CACHE);
}

const struct doctor_check doctor_machine_checks[] = {
    {"system", look_system}, {"processor", look_processor}, {"instructions", look_instructions},
    {"memory", look_memory}, {"swap", look_swap},           {"gpu", look_gpu},
    {"data", look_data},     {"cache", look_cache},
};
const int doctor_n_machine_checks = sizeof(doctor_machine_checks) / sizeof(*doctor_machine_checks);
