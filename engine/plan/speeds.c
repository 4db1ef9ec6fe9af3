/* speeds.c - measured speeds, kept between runs in one small JSON file:
 *
 *     {"version": 1, "ram": {KEY: {"at": SECONDS, "ram_gbps": N}}, "kernels": {...},
 *      "packing": {...}, "gpus": {...}, "drives": {...}, "loads": {...}, "answers": {...}}
 *
 * KEY names what was measured: the processor and its threads, the types of weights, a GPU's bus, a
 * drive, the size of a load, a strategy. A number that makes no sense is no number. */
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/checkpoint/file.h"
#include "engine/plan/probe.h"
#include "engine/plan/strategies.h"

enum { VERSION = 1, MOST_BYTES = 1 << 20 };

static const double MONTH = 30 * 86400.0;

/* A number of a struct, and its name in the file. */
struct number {
    const char *name;
    size_t field;
};

#define NUMBER(type, name)                                                                         \
    {                                                                                              \
#name, offsetof(struct type, name)                                                         \
    }
static const struct number kernels_numbers[] = {NUMBER(lade_machine_kernels, experts_gbps),
                                                NUMBER(lade_machine_kernels, base_gbps),
                                                NUMBER(lade_machine_kernels, experts_gflops),
                                                NUMBER(lade_machine_kernels, base_gflops),
                                                {0}};
static const struct number packing_numbers[] = {
    NUMBER(lade_machine_packing, fresh_gbps), NUMBER(lade_machine_packing, again_gbps), {0}};
static const struct number gpu_numbers[] = {NUMBER(lade_machine_gpu, memory_gbps),
                                            NUMBER(lade_machine_gpu, upload_gbps),
                                            NUMBER(lade_machine_gpu, download_gbps),
                                            {0}};
static const struct number drive_numbers[] = {NUMBER(lade_machine_drive, sequential_gbps),
                                              NUMBER(lade_machine_drive, one_gbps),
                                              NUMBER(lade_machine_drive, eight_gbps),
                                              {0}};
static const struct number ram_numbers[] = {NUMBER(lade_machine, ram_gbps), {0}};
static const struct number load_numbers[] = {{"gbps", 0}, {0}}; /* of one size */
static const struct number answer_numbers[] = {{"of_told", 0}, {0}};
#undef NUMBER

static double *field(const void *base, const struct number *n)
{
    return (double *)((char *)base + n->field);
}

/* Takes an entry's numbers, all or none. */
static bool recall(void *base, const struct number *numbers, json_t *section, const char *key,
                   double now)
{
    json_t *entry = json_object_get(section, key);
    double at = json_number_value(json_object_get(entry, "at"));
    if (!entry || !(at <= now && at >= now - MONTH))
        return false;
    for (const struct number *n = numbers; n->name; n++) {
        double value = json_number_value(json_object_get(entry, n->name));
        if (!(value > 0) || !isfinite(value))
            return false;
    }
    for (const struct number *n = numbers; n->name; n++)
        *field(base, n) = json_number_value(json_object_get(entry, n->name));
    return true;
}

/* Whether an entry has just these numbers: it was not measured again, and is as old as before. */
static bool has_all(const void *base, const struct number *numbers, json_t *entry)
{
    for (const struct number *n = numbers; entry && n->name; n++)
        if (json_number_value(json_object_get(entry, n->name)) != *field(base, n))
            return false;
    return entry != NULL;
}

/* Writes an entry, unless something of it is not known. */
static void keep(const void *base, const struct number *numbers, json_t *file, const char *name,
                 const char *key, double now)
{
    json_t *section = json_object_get(file, name), *entry;
    if (has_all(base, numbers, json_object_get(section, key)))
        return;
    entry = json_object();
    for (const struct number *n = numbers; n->name; n++) {
        if (!(*field(base, n) > 0)) {
            json_decref(entry);
            return;
        }
        json_object_set_new(entry, n->name, json_real(*field(base, n)));
    }
    json_object_set_new(entry, "at", json_real(now));
    if (!json_is_object(section)) {
        section = json_object();
        json_object_set_new(file, name, section);
    }
    json_object_set_new(section, key, entry);
}

/* ---- keys ---- */

enum { KEY = 256 };

static const char *ram_key(char out[KEY], const struct lade_machine *p)
{
    snprintf(out, KEY, "%s, %d cores", p->cpu, p->cores);
    return out;
}

static const char *kernels_key(char out[KEY], const struct lade_machine *p)
{
    snprintf(out, KEY, "%s, %s, %s, %s", p->cpu, p->isa, p->kernels.experts, p->kernels.base);
    return out;
}

static const char *packing_key(char out[KEY], const struct lade_machine *p, const char *format)
{
    snprintf(out, KEY, "%s, %d cores, %s, %s", p->cpu, p->cores, format, p->kernels.experts);
    return out;
}

static const char *gpu_key(char out[KEY], const struct lade_machine_gpu *g)
{
    snprintf(out, KEY, "%s, %s", g->bus, g->name);
    return out;
}

/* The drives together: which of them is read last decides. */
static const char *load_key(char out[KEY], const struct lade_machine *p, const char *format,
                            const char *home, int size)
{
    int n = snprintf(out, KEY, "%s, %d cores, %s, %s, 2^%.2f bytes to %s from", p->cpu, p->cores,
                     format, p->kernels.experts, lade_loads_exponent(size), home);
    for (int i = 0; i < p->n_drives && n < KEY; i++)
        n += snprintf(out + n, (size_t)(KEY - n), " %s", p->drive[i].name);
    return out;
}

static const char *answer_key(char out[KEY], const struct lade_machine *p, int strategy,
                              const char *what)
{
    const struct lade_strategy *s = &lade_strategies[strategy];
    char kernels[KEY];
    int n = snprintf(out, KEY, "%s by %s, %s", what, s->name, kernels_key(kernels, p));
    for (int i = 0; s->gpu && i < p->n_gpus && n < KEY; i++)
        n += snprintf(out + n, (size_t)(KEY - n), ", %s", p->gpu[i].name);
    return out;
}

/* ---- the file ---- */

static bool file_path(char out[PATH_MAX], const char *cache_dir)
{
    return cache_dir && snprintf(out, PATH_MAX, "%s/speeds.json", cache_dir) < PATH_MAX;
}

/* An empty object where the file is missing, damaged or of another version. */
static json_t *read_file(const char *path)
{
    struct stat st;
    json_t *file = NULL;
    if (!stat(path, &st) && st.st_size <= MOST_BYTES)
        file = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (json_integer_value(json_object_get(file, "version")) == VERSION)
        return file;
    json_decref(file);
    return json_pack("{s:i}", "version", VERSION);
}

static void recall_loads(struct lade_loads *loads, const struct lade_machine *p, const char *format,
                         const char *home, json_t *file, double now)
{
    char key[KEY];
    for (int i = 0; i < LADE_LOADS; i++)
        recall(&loads->gbps[i], load_numbers, json_object_get(file, "loads"),
               load_key(key, p, format, home, i), now);
}

static void keep_loads(const struct lade_loads *loads, const struct lade_machine *p,
                       const char *format, const char *home, json_t *file, double now)
{
    char key[KEY];
    for (int i = 0; i < LADE_LOADS; i++)
        keep(&loads->gbps[i], load_numbers, file, "loads", load_key(key, p, format, home, i), now);
}

/* Calls `each` for what answers of every strategy were. */
static void each_answer(struct lade_answers *answers, const struct lade_machine *p, json_t *file,
                        double now,
                        void (*each)(double *seen, const char *key, json_t *file, double now))
{
    char key[KEY];
    for (int i = 0; i < lade_n_strategies && i < LADE_ANSWERS; i++) {
        each(&answers->decode[i], answer_key(key, p, i, "decode"), file, now);
        each(&answers->prefill[i], answer_key(key, p, i, "prefill"), file, now);
    }
}

static void recall_answer(double *seen, const char *key, json_t *file, double now)
{
    recall(seen, answer_numbers, json_object_get(file, "answers"), key, now);
}

/* What is not known any more goes: something else is told now. */
static void keep_answer(double *seen, const char *key, json_t *file, double now)
{
    if (*seen > 0)
        keep(seen, answer_numbers, file, "answers", key, now);
    else
        json_object_del(json_object_get(file, "answers"), key);
}

void lade_speeds_recall(struct lade_machine *probe, const char *format, const char *cache_dir,
                        double now)
{
    char path[PATH_MAX], key[KEY];
    if (!file_path(path, cache_dir))
        return;
    json_t *file = read_file(path);
    recall(probe, ram_numbers, json_object_get(file, "ram"), ram_key(key, probe), now);
    recall(&probe->kernels, kernels_numbers, json_object_get(file, "kernels"),
           kernels_key(key, probe), now);
    recall(&probe->packing, packing_numbers, json_object_get(file, "packing"),
           packing_key(key, probe, format), now);
    for (int i = 0; i < probe->n_gpus; i++)
        probe->gpu[i].measured = recall(&probe->gpu[i], gpu_numbers, json_object_get(file, "gpus"),
                                        gpu_key(key, &probe->gpu[i]), now);
    for (int i = 0; i < probe->n_drives; i++)
        recall(&probe->drive[i], drive_numbers, json_object_get(file, "drives"),
               probe->drive[i].name, now);
    recall_loads(&probe->to_ram, probe, format, "RAM", file, now);
    recall_loads(&probe->to_vram, probe, format, "VRAM", file, now);
    each_answer(&probe->answers, probe, file, now, recall_answer);
    json_decref(file);
}

void lade_speeds_keep(const struct lade_machine *probe, const char *format, const char *cache_dir,
                      double now)
{
    char path[PATH_MAX], key[KEY];
    if (!file_path(path, cache_dir))
        return;
    json_t *file = read_file(path);
    keep(probe, ram_numbers, file, "ram", ram_key(key, probe), now);
    keep(&probe->kernels, kernels_numbers, file, "kernels", kernels_key(key, probe), now);
    keep(&probe->packing, packing_numbers, file, "packing", packing_key(key, probe, format), now);
    for (int i = 0; i < probe->n_gpus; i++)
        if (probe->gpu[i].measured)
            keep(&probe->gpu[i], gpu_numbers, file, "gpus", gpu_key(key, &probe->gpu[i]), now);
    for (int i = 0; i < probe->n_drives; i++)
        keep(&probe->drive[i], drive_numbers, file, "drives", probe->drive[i].name, now);
    keep_loads(&probe->to_ram, probe, format, "RAM", file, now);
    keep_loads(&probe->to_vram, probe, format, "VRAM", file, now);
    struct lade_answers answers = probe->answers;
    each_answer(&answers, probe, file, now, keep_answer);
    char *text = json_dumps(file, JSON_INDENT(1));
    if (text)
        lade_file_replace(path, text, strlen(text), NULL);
    free(text);
    json_decref(file);
}
