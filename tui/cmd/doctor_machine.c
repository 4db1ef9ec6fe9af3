/* What the machine has: processor, memory, GPU, drives; and how fast they are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "tui/cmd/doctor.h"
#include "tui/meters/units.h"
#include "tui/paths.h"

/* A speed that was not measured is no number. */
static json_t *speed_json(double gbps)
{
    return gbps > 0 ? json_real(gbps) : json_null();
}

static const char *speed(char out[UNITS_MAX], double gbps)
{
    return units_rate(out, gbps > 0 ? gbps : NAN);
}

static void look_system(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
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

static void look_processor(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_machine *m = &d->machine;
    char nodes[32] = "";
    if (m->nodes > 1)
        snprintf(nodes, sizeof(nodes), ", %d NUMA nodes", m->nodes);
    snprintf(f->value, sizeof(f->value), "%s, %d core%s, %d processor%s%s", m->cpu, m->cores,
             units_s(m->cores), m->processors, units_s(m->processors), nodes);
    json_object_set_new(f->data, "model", json_string(m->cpu));
    json_object_set_new(f->data, "cores", json_integer(m->cores));
    json_object_set_new(f->data, "processors", json_integer(m->processors));
    json_object_set_new(f->data, "numa_nodes", json_integer(m->nodes));
}

/* Asks the device itself, so that what is said is what is used. */
static void look_instructions(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    json_t *list = json_array();
    char *p = f->value, *end = f->value + sizeof(f->value);
    for (const char *const *name = options_isas; *name; name++) {
        struct lade_device_config config = {.threads = 1, .isa = *name};
        struct lade_device *dev = NULL;
        if (lade_cpu_ops()->open(&dev, &config, NULL))
            continue;
        lade_cpu_ops()->close(dev);
        p += snprintf(p, (size_t)(end - p), "%s%s", p > f->value ? ", " : "", *name);
        json_array_append_new(list, json_string(*name));
    }
    if (json_array_size(list) == 1) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "this processor has no AVX2: lade works, several times slower");
    }
    json_object_set_new(f->data, "usable", list);
}

/* What decides the speed of answers on the CPU. */
static void look_kernels(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_machine_kernels *k = &d->machine.kernels;
    char base[UNITS_MAX], experts[UNITS_MAX];
    snprintf(f->value, sizeof(f->value),
             "%s weights at %s, %s experts at %s; prefill %.0f and %.0f GFLOP/s", k->base,
             speed(base, k->base_gbps), k->experts, speed(experts, k->experts_gbps), k->base_gflops,
             k->experts_gflops);
    json_object_set_new(f->data, "base_type", json_string(k->base));
    json_object_set_new(f->data, "experts_type", json_string(k->experts));
    json_object_set_new(f->data, "base_gbps", speed_json(k->base_gbps));
    json_object_set_new(f->data, "experts_gbps", speed_json(k->experts_gbps));
    json_object_set_new(f->data, "base_gflops", speed_json(k->base_gflops));
    json_object_set_new(f->data, "experts_gflops", speed_json(k->experts_gflops));
}

static void look_memory(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_memory *m = &d->machine.memory;
    char total[UNITS_MAX], available[UNITS_MAX], rate[UNITS_MAX];
    bool limited =
        (double)m->total < (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    snprintf(f->value, sizeof(f->value), "%s%s, %s available, read at %s",
             units_memory(total, (double)m->total),
             limited ? " (the limit of a control group)" : "",
             units_memory(available, (double)m->available), speed(rate, d->machine.ram_gbps));
    if (m->available < (uint64_t)16 << 30) {
        f->state = DOCTOR_NOTE;
        snprintf(f->advice, sizeof(f->advice),
                 "the 80B model wants at least 16 GiB free; close other programs");
    }
    json_object_set_new(f->data, "total_bytes", json_integer((json_int_t)m->total));
    json_object_set_new(f->data, "available_bytes", json_integer((json_int_t)m->available));
    json_object_set_new(f->data, "limited", json_boolean(limited));
    json_object_set_new(f->data, "read_gbps", speed_json(d->machine.ram_gbps));
}

static void look_swap(struct doctor_finding *f, const struct doctor *d)
{
    char size[UNITS_MAX], left[UNITS_MAX];
    double total = (double)d->machine.swap_total, free_bytes = (double)d->machine.swap_free;
    if (total > 0)
        snprintf(f->value, sizeof(f->value), "%s, %s free", units_memory(size, total),
                 units_memory(left, free_bytes));
    else
        snprintf(f->value, sizeof(f->value), "none");
    json_object_set_new(f->data, "total_bytes", json_integer((json_int_t)total));
    json_object_set_new(f->data, "free_bytes", json_integer((json_int_t)free_bytes));
}

static json_t *gpu_json(const struct lade_machine_gpu *g)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:b, s:o, s:o, s:o}", "name", g->name, "bus",
                     g->bus, "library", g->library, "total_bytes", (json_int_t)g->total,
                     "used_bytes", (json_int_t)(g->total - g->free), "measured", g->measured,
                     "memory_gbps", speed_json(g->memory_gbps), "upload_gbps",
                     speed_json(g->upload_gbps), "download_gbps", speed_json(g->download_gbps));
}

static void look_gpu(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_machine *m = &d->machine;
    json_t *list = json_array();
    char *p = f->value, *end = f->value + sizeof(f->value);
    for (int i = 0; i < m->n_gpus && p < end; i++) {
        const struct lade_machine_gpu *g = &m->gpu[i];
        char memory[UNITS_MAX], rate[UNITS_MAX], up[UNITS_MAX], down[UNITS_MAX];
        if (m->n_gpus > 1)
            p += snprintf(p, (size_t)(end - p), "%sGPU %d: ", i ? "; " : "", i);
        if (p >= end)
            break;
        p += snprintf(p, (size_t)(end - p), "%s, %s free", g->name,
                      units_memory_of(memory, (double)g->free, (double)g->total));
        if (p < end && g->upload_gbps > 0)
            p += snprintf(p, (size_t)(end - p), ", read at %s, copied to at %s, from at %s%s",
                          speed(rate, g->memory_gbps), speed(up, g->upload_gbps),
                          speed(down, g->download_gbps), g->measured ? "" : " (data sheet)");
        if (p < end && g->library[0])
            p += snprintf(p, (size_t)(end - p), ", %s", g->library);
        json_array_append_new(list, gpu_json(g));
    }
    if (m->n_gpus == 0)
        snprintf(f->value, sizeof(f->value), "none");
    if (m->n_gpus && m->gpu_missing[0])
        f->state = DOCTOR_NOTE;
    snprintf(f->advice, sizeof(f->advice), "%.*s", DOCTOR_TEXT - 1, m->gpu_missing);
    json_object_set_new(f->data, "gpus", list);
    json_object_set_new(f->data, "usable", json_boolean(!m->gpu_missing[0]));
}

static json_t *drive_json(const struct lade_machine_drive *v)
{
    return json_pack("{s:s, s:b, s:i, s:b, s:i, s:I, s:o, s:o, s:o}", "name", v->name, "rotational",
                     v->rotational, "disks", v->disks, "direct", v->direct, "shards", v->shards,
                     "bytes", (json_int_t)v->bytes, "sequential_gbps",
                     speed_json(v->sequential_gbps), "depth1_gbps", speed_json(v->one_gbps),
                     "depth8_gbps", speed_json(v->eight_gbps));
}

/* The drives under the model's shards. */
static void look_drives(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_machine *m = &d->machine;
    json_t *list = json_array();
    char *p = f->value, *end = f->value + sizeof(f->value);
    snprintf(f->value, sizeof(f->value), "not known without a model; see -m");
    for (int i = 0; i < m->n_drives && p < end; i++) {
        const struct lade_machine_drive *v = &m->drive[i];
        char in_order[UNITS_MAX], one[UNITS_MAX], eight[UNITS_MAX];
        p += snprintf(p, (size_t)(end - p), "%s%s%s", i ? "; " : "", v->name,
                      v->disks > 1    ? " (striped)"
                      : v->rotational ? " (rotating)"
                                      : "");
        if (p < end && v->one_gbps > 0)
            p += snprintf(p, (size_t)(end - p), ": %s in order, %s at random, %s with 8 in flight",
                          speed(in_order, v->sequential_gbps), speed(one, v->one_gbps),
                          speed(eight, v->eight_gbps));
        else if (p < end)
            p += snprintf(p, (size_t)(end - p), ": the model is too small to measure it");
        if (!v->direct && v->one_gbps > 0)
            snprintf(f->advice, sizeof(f->advice),
                     "%s: reads past the page cache do not work there; the speeds are the cache's",
                     v->name);
        json_array_append_new(list, drive_json(v));
    }
    json_object_set_new(f->data, "drives", list);
}

/* Adds the loads that were seen to a list; returns the class of the largest, or -1. */
static int add_loads(json_t *list, const struct lade_loads *loads, const char *home)
{
    int largest = -1;
    for (int i = 0; i < LADE_LOADS; i++) {
        if (!(loads->gbps[i] > 0))
            continue;
        largest = i;
        json_array_append_new(list, json_pack("{s:s, s:I, s:f}", "home", home, "bytes",
                                              (json_int_t)exp2(lade_loads_exponent(i)), "gbps",
                                              loads->gbps[i]));
    }
    return largest;
}

/* How fast files become weights, the drive left aside, and how fast loads came in all. */
static void look_loading(struct doctor_finding *f, const struct doctor *d)
{
    const struct lade_machine *m = &d->machine;
    const struct lade_machine_packing *p = &m->packing;
    char fresh[UNITS_MAX], again[UNITS_MAX], size[UNITS_MAX], rate[UNITS_MAX];
    json_t *list = json_array();
    int ram = add_loads(list, &m->to_ram, "RAM"), vram = add_loads(list, &m->to_vram, "VRAM");
    int largest = ram > vram ? ram : vram;
    int n = snprintf(f->value, sizeof(f->value),
                     p->fresh_gbps > 0 ? "packs at %s, at %s where memory was used before"
                                       : "not known without a model; see -m",
                     speed(fresh, p->fresh_gbps), speed(again, p->again_gbps));
    if (largest >= 0)
        snprintf(f->value + n, sizeof(f->value) - (size_t)n, "; %s or more came at %s",
                 units_file(size, exp2(lade_loads_exponent(largest))),
                 speed(rate, ram > vram ? m->to_ram.gbps[ram] : m->to_vram.gbps[vram]));
    json_object_set_new(f->data, "fresh_gbps", speed_json(p->fresh_gbps));
    json_object_set_new(f->data, "again_gbps", speed_json(p->again_gbps));
    json_object_set_new(f->data, "loads", list);
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

static void look_data(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    look_disk(f, PATHS_DATA);
}

static void look_cache(struct doctor_finding *f, const struct doctor *d)
{
    (void)d;
    look_disk(f, PATHS_CACHE);
}

const struct doctor_check doctor_machine_checks[] = {
    {"system", look_system},   {"processor", look_processor}, {"instructions", look_instructions},
    {"kernels", look_kernels}, {"memory", look_memory},       {"swap", look_swap},
    {"gpu", look_gpu},         {"drives", look_drives},       {"loading", look_loading},
    {"data", look_data},       {"cache", look_cache},
};
const int doctor_n_machine_checks = sizeof(doctor_machine_checks) / sizeof(*doctor_machine_checks);
