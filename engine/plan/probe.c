#include "engine/plan/probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "kernels/kernels.h"

/* An expert of the 80B model, where no catalog says what one is. */
static const size_t EXPERT_BYTES = 1703936;

/* ---- facts ---- */

/* The value of the first line "KEY : VALUE" of a file of /proc. */
static bool read_key(const char *file, const char *key, char *out, size_t size)
{
    char line[4096];
    bool found = false;
    FILE *f = fopen(file, "re");
    size_t len = strlen(key);
    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, len) != 0 || !colon || !strspn(line + len, " \t:"))
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

static uint64_t read_kib(const char *key)
{
    char text[64];
    unsigned long long kib = 0;
    if (read_key("/proc/meminfo", key, text, sizeof text))
        sscanf(text, "%llu", &kib);
    return kib * 1024;
}

static void name_cpu(struct lade_machine *p)
{
    p->cores = lade_machine_cores();
    p->processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (!read_key("/proc/cpuinfo", "model name", p->cpu, sizeof p->cpu) &&
        !read_key("/proc/cpuinfo", "Hardware", p->cpu, sizeof p->cpu))
        snprintf(p->cpu, sizeof p->cpu, "unknown processor");
}

/* Asks the device itself, so that what is said is what is used. */
static void ask_cpu(struct lade_machine *p, const struct lade_probe_wish *wish)
{
    struct lade_device_config config = {
        .threads = wish->threads, .isa = wish->isa, .exact = wish->exact};
    struct lade_device *dev = NULL;
    if (lade_cpu_ops()->open(&dev, &config, NULL))
        return;
    snprintf(p->isa, sizeof p->isa, "%s%s", lade_cpu_ops()->describe(dev),
             wish->exact ? ", exact" : "");
    lade_cpu_ops()->close(dev);
}

/* Groups the shards by drive. The largest shard of each is what is read to measure it. */
static void find_drives(struct lade_machine *p, const struct lade_catalog *cat)
{
    uint64_t largest[LADE_MACHINE_DRIVES] = {0};
    for (int i = 0; cat && i < cat->n_shards; i++) {
        const struct lade_shard *s = &cat->shards[i];
        struct lade_machine_drive found;
        struct stat st;
        if (stat(s->path, &st))
            continue;
        lade_probe_drive_of(&found, "/sys", "/proc/self/mountinfo", major(st.st_dev),
                            minor(st.st_dev));
        int k = 0;
        while (k < p->n_drives && strcmp(p->drive[k].name, found.name) != 0)
            k++;
        if (k == LADE_MACHINE_DRIVES)
            continue;
        if (k == p->n_drives)
            p->drive[p->n_drives++] = found;
        p->drive[k].shards++;
        p->drive[k].bytes += s->bytes;
        if (s->bytes >= largest[k]) {
            largest[k] = s->bytes;
            snprintf(p->drive[k].path, sizeof p->drive[k].path, "%s", s->path);
        }
    }
}

/* ---- speeds ---- */

static size_t expert_bytes(const struct lade_catalog *cat)
{
    size_t most = 0;
    for (int i = 0; cat && i < cat->n_pieces; i++)
        if (cat->pieces[i].kind == LADE_PIECE_EXPERT && cat->pieces[i].bytes > most)
            most = cat->pieces[i].bytes;
    return most ? most : EXPERT_BYTES;
}

static void measure(struct lade_machine *p, const struct lade_probe_wish *wish)
{
    const bool again = wish->measure == LADE_MEASURE_ALL;
    const bool ram = again || !p->ram_gbps, kernels = again || !p->kernels.experts_gbps;
    bool gpus = again || p->gpu_missing[0], drives = false;
    if (ram)
        p->ram_gbps = lade_probe_ram(p->cores);
    if (kernels)
        lade_probe_kernels(&p->kernels, wish, LADE_PROBE_PROMPT);
    if (wish->catalog && (again || !p->packing.fresh_gbps))
        lade_probe_packing(&p->packing, wish->catalog, p->cores);
    for (int i = 0; i < p->n_drives; i++)
        if (again || !p->drive[i].one_gbps) {
            lade_probe_drive_measure(&p->drive[i], expert_bytes(wish->catalog));
            drives |= p->drive[i].one_gbps > 0;
        }
    for (int i = 0; i < p->n_gpus; i++)
        gpus |= !p->gpu[i].measured;
    if (gpus)
        lade_probe_gpus(p, wish->plugin, true);
    if (ram || kernels || drives || (gpus && p->n_gpus)) /* what is told is another number now */
        p->answers = (struct lade_answers){0};
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec;
}

void lade_machine_note_load(const struct lade_catalog *cat, const char *cache_dir, bool to_vram,
                            double bytes, double seconds)
{
    struct lade_machine p = {0};
    if (!cache_dir || lade_loads_class(bytes) < 0)
        return;
    name_cpu(&p);
    find_drives(&p, cat);
    lade_probe_types(&p.kernels, cat);
    lade_speeds_recall(&p, cat->format, cache_dir, now());
    lade_loads_note(to_vram ? &p.to_vram : &p.to_ram, bytes, seconds);
    lade_speeds_keep(&p, cat->format, cache_dir, now());
}

void lade_machine_note_answer(const struct lade_probe_wish *wish, int strategy,
                              const struct lade_tokens_per_s *told,
                              const struct lade_tokens_per_s *measured)
{
    struct lade_machine p;
    struct lade_probe_wish as_it_is = *wish;
    as_it_is.measure = LADE_MEASURE_NOTHING;
    if (!wish->cache_dir || strategy < 0 || strategy >= LADE_ANSWERS)
        return;
    lade_machine_probe(&p, &as_it_is);
    lade_answers_note(&p.answers.decode[strategy], told->decode, measured->decode);
    lade_answers_note(&p.answers.prefill[strategy], told->prefill, measured->prefill);
    lade_speeds_keep(&p, wish->catalog->format, wish->cache_dir, now());
}

void lade_machine_probe(struct lade_machine *out, const struct lade_probe_wish *wish)
{
    const char *format = wish->catalog ? wish->catalog->format : "";
    *out = (struct lade_machine){0};
    lade_machine_memory(&out->memory);
    out->swap_total = read_kib("SwapTotal");
    out->swap_free = read_kib("SwapFree");
    out->nodes = lade_probe_nodes("/sys");
    name_cpu(out);
    ask_cpu(out, wish);
    find_drives(out, wish->catalog);
    lade_probe_gpus(out, wish->plugin, false);
    lade_probe_types(&out->kernels, wish->catalog);
    lade_speeds_recall(out, format, wish->cache_dir, now());
    if (wish->measure == LADE_MEASURE_NOTHING)
        return;
    measure(out, wish);
    lade_speeds_keep(out, format, wish->cache_dir, now());
}
