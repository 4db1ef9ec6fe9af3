/* plan.c - every strategy for a machine: chosen, possible with predicted numbers, or impossible and
 * why. Without -m the sizes are those of the INT4-mixed 80B, so people can ask before a download. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/plan/machine.h"
#include "engine/plan/plan.h"
#include "tui/cmd/cmd.h"
#include "engine/plan/nvml.h"
#include "tui/meters/units.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* Free VRAM of all GPUs; 0 without one. */
static uint64_t free_vram(void)
{
    struct lade_nvml *nvml = lade_nvml_open(NULL);
    uint64_t sum = 0;
    for (int i = 0; i < lade_nvml_count(nvml); i++) {
        struct lade_nvml_gpu gpu;
        if (!lade_nvml_sample(nvml, i, &gpu) && gpu.total != LADE_NVML_UNKNOWN &&
            gpu.used <= gpu.total)
            sum += gpu.total - gpu.used;
    }
    lade_nvml_close(nvml);
    return sum;
}

/* What is said on the command line (as a cap by --dry-run), else what this machine has free. */
static int describe_machine(const struct options *o, struct lade_plan_machine *out, char *err)
{
    struct lade_memory memory;
    lade_machine_memory(&memory);
    uint64_t vram = o->cpu ? 0 : o->gpu_memory > 0 ? (uint64_t)(o->gpu_memory * GIB) : free_vram();
    uint64_t ram = o->cpu_memory > 0 ? (uint64_t)(o->cpu_memory * GIB) : memory.available;
    if (!isnan(o->vram))
        vram = (uint64_t)(o->vram * GIB);
    if (!isnan(o->ram))
        ram = (uint64_t)(o->ram * GIB);
    int storage = o->storage ? lade_storage_find(o->storage) : LADE_STORAGE_NVME;
    if (storage < 0)
        return lade_fail(err,
                         "--storage %.40s: is not a kind of storage; use nvme, ssd, hdd or "
                         "raid0",
                         o->storage);
    lade_plan_machine_typical(out, vram, ram, (enum lade_storage)storage);
    return 0;
}

static int describe_model(const struct options *o, struct lade_plan_model *out, char *name,
                          size_t size, char *err)
{
    char path[PATH_MAX];
    struct lade_catalog *cat;
    if (!o->model) {
        lade_plan_model_80b(out);
        snprintf(name, size, "Qwen3-Next-80B-A3B INT4-mixed");
        return 0;
    }
    if (model_path_resolve(o->model, path, err) || lade_catalog_open(&cat, path, err))
        return -1;
    lade_plan_model_of(out, cat, o->batch, o->precision == PRECISION_EXACT);
    snprintf(name, size, "%s", cat->name);
    lade_catalog_close(cat);
    return 0;
}

static const char *const status_names[] = {"chosen", "possible", "impossible"};

static json_t *row_json(const struct lade_plan_row *r)
{
    bool possible = r->status != LADE_PLAN_IMPOSSIBLE;
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I}", "strategy", lade_strategy_name(r->strategy), "status",
        status_names[r->status], "reason", r->reason, "vram_bytes", (json_int_t)r->vram_bytes,
        "ram_bytes", (json_int_t)r->ram_bytes, "disk_bytes", (json_int_t)r->disk_bytes);
    const struct {
        const char *key;
        double value;
    } numbers[] = {{"load_s", r->load_s},
                   {"ttft_s", r->ttft_s},
                   {"prefill_tps", r->prefill_tps},
                   {"decode_tps", r->decode_tps}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(row, numbers[i].key,
                            possible ? json_real(numbers[i].value) : json_null());
    return row;
}

static int print_json(const struct lade_plan *plan, const char *name,
                      const struct lade_plan_machine *pc, char *err)
{
    json_t *rows = json_array();
    for (int i = 0; i < plan->n; i++)
        json_array_append_new(rows, row_json(&plan->rows[i]));
    const char *chosen =
        plan->chosen < 0 ? NULL : lade_strategy_name(plan->rows[plan->chosen].strategy);
    return output_json(json_pack("{s:s?, s:o, s:o, s:I, s:I, s:s, s:i}", "chosen", chosen, "rows",
                                 rows, "model", output_string(name), "vram", (json_int_t)pc->vram,
                                 "ram", (json_int_t)pc->ram, "storage",
                                 lade_storage_name(pc->storage), "context",
                                 plan->chosen < 0 ? 0 : plan->rows[plan->chosen].place.context),
                       err);
}

static void print_row(const struct lade_plan_row *r)
{
    static const char *const marks[] = {"*", " ", "-"};
    char vram[UNITS_MAX], ram[UNITS_MAX], disk[UNITS_MAX], load[UNITS_MAX], ttft[UNITS_MAX];
    char prefill[UNITS_MAX], decode[UNITS_MAX];
    printf("%s %-18s", marks[r->status], lade_strategy_name(r->strategy));
    if (r->status == LADE_PLAN_IMPOSSIBLE) {
        printf(" %s\n", r->reason);
        return;
    }
    printf(" %9s %9s %9s %8s %8s %8s %8s\n", units_memory(vram, (double)r->vram_bytes),
           units_memory(ram, (double)r->ram_bytes), units_memory(disk, (double)r->disk_bytes),
           units_duration(load, r->load_s), units_seconds(ttft, r->ttft_s),
           units_speed(prefill, r->prefill_tps), units_speed(decode, r->decode_tps));
    if (r->status == LADE_PLAN_CHOSEN)
        printf("  %-18s %s; %s\n", "", lade_strategy_summary(r->strategy), r->reason);
}

static void print_text(const struct lade_plan *plan, const char *name,
                       const struct lade_plan_machine *pc)
{
    char vram[UNITS_MAX], ram[UNITS_MAX];
    printf("%s on %s of VRAM, %s of RAM, %s\n\n", name,
           pc->vram ? units_memory(vram, (double)pc->vram) : "none",
           units_memory(ram, (double)pc->ram), lade_storage_name(pc->storage));
    printf("  %-18s %9s %9s %9s %8s %8s %8s %8s\n", "strategy", "VRAM", "RAM", "drive", "load",
           "first", "prefill", "decode");
    for (int i = 0; i < plan->n; i++)
        print_row(&plan->rows[i]);
    printf(
        "\n* chosen, - impossible. Speeds in tokens/s, predicted from typical bandwidths; first: "
        "first\ntoken of a 512-token prompt, once loaded.\n");
    if (plan->chosen < 0)
        printf(
            "\nNo strategy fits this machine: more RAM or VRAM is needed, or a smaller model.\n");
}

int cmd_plan(const struct options *o)
{
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    struct lade_plan plan;
    char name[128], err[LADE_ERR];
    if (describe_machine(o, &machine, err))
        return report_usage(o->json, err);
    if (describe_model(o, &model, name, sizeof name, err) ||
        lade_plan(&plan, &model, &machine, o->strategy, o->context, err))
        return report_failed(o->json, err);
    if (!o->json)
        print_text(&plan, name, &machine);
    else if (print_json(&plan, name, &machine, err))
        return report_failed(o->json, err);
    return EXIT_DONE;
}
