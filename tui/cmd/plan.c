/* plan.c - every strategy for a machine: chosen, possible with predicted numbers, or impossible and
 * why. Without -m the sizes are those of the INT4-mixed 80B, so people can ask before a download. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/plan/plan.h"
#include "engine/remote/address.h"
#include "tui/cmd/cmd.h"
#include "tui/meters/units.h"
#include "tui/model_path.h"
#include "tui/output.h"
#include "tui/report.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* What is planned for. */
struct subject {
    struct lade_catalog *cat; /* NULL: the 80B nobody has downloaded */
    char name[128];
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    struct lade_machine probe; /* of this machine; empty for another */
    bool here;
};

static uint64_t bytes_of(double gib, uint64_t otherwise)
{
    return isnan(gib) ? otherwise : (uint64_t)(gib * GIB);
}

static uint64_t capped(uint64_t bytes, uint64_t cap)
{
    return cap && cap < bytes ? cap : bytes;
}

static int open_model(struct subject *s, const struct options *o, const struct lade_plan_caps *caps,
                      char *err)
{
    char path[PATH_MAX];
    if (!o->model) {
        lade_plan_model_80b(&s->model);
        if (caps->no_draft)
            s->model.drafts = 0;
        s->model.kv_on_cpu = caps->kv_q8;
        if (caps->kv_q8) /* heads of 256 values */
            s->model.kv_token =
                s->model.kv_token / lade_cache_row(LADE_F16, 256) * lade_cache_row(LADE_Q8, 256);
        snprintf(s->name, sizeof s->name, "Qwen3-Next-80B-A3B INT4-mixed");
        return 0;
    }
    if (model_path_resolve(o->model, path, err) || lade_catalog_open(&s->cat, path, err))
        return -1;
    snprintf(s->name, sizeof s->name, "%s", s->cat->name);
    return 0;
}

/* This machine, measured where that has not been done yet; or another one, as it is described. */
static void describe_machine(struct subject *s, const struct options *o, int storage,
                             const struct lade_plan_caps *caps)
{
    s->here = !o->vram.n && isnan(o->ram) && storage < 0;
    lade_machine_probe(&s->probe,
                       &(struct lade_probe_wish){
                           .catalog = s->cat,
                           .plugin = caps->cpu_only ? NULL : caps->plugin,
                           .cache_dir = caps->cache_dir,
                           .threads = caps->threads,
                           .isa = caps->isa,
                           .exact = caps->exact,
                           .measure = s->here ? LADE_MEASURE_MISSING : LADE_MEASURE_NOTHING,
                       });
    lade_plan_machine_of(&s->machine, &s->probe, caps);
    if (s->here)
        return;
    struct lade_plan_machine seen = s->machine;
    int n = caps->cpu_only ? 0 : o->vram.n ? o->vram.n : seen.n_gpus;
    lade_plan_machine_typical(&s->machine, 0, capped(bytes_of(o->ram, seen.ram), caps->ram),
                              storage < 0 ? LADE_STORAGE_NVME : (enum lade_storage)storage);
    for (int i = 0; i < n; i++) {
        uint64_t vram = o->vram.n ? bytes_of(o->vram.gib[i], 0) : seen.gpu[i].bytes;
        if (vram)
            lade_plan_machine_add(&s->machine, capped(vram, lade_vram_cap(caps->vram, i)));
    }
}

static int describe(struct subject *s, const struct options *o, int storage, char *err)
{
    struct lade_plan_caps caps;
    options_caps(o, &caps);
    if (open_model(s, o, &caps, err))
        return -1;
    describe_machine(s, o, storage, &caps);
    if (s->cat)
        lade_plan_model_of(&s->model, s->cat, &caps);
    return 0;
}

static const char *const status_names[] = {"chosen", "possible", "impossible"};

/* What each GPU would hold. */
static json_t *cards_json(const struct lade_plan_row *r, const struct lade_plan_model *m)
{
    json_t *list = json_array();
    const struct lade_placement *p = &r->place;
    for (int i = 0; i < p->n_cards && r->status != LADE_PLAN_IMPOSSIBLE; i++) {
        int end = i + 1 < p->n_cards ? p->card[i + 1].first : m->layers;
        json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:I}", "gpu", p->card[i].gpu,
                                              "first_layer", p->card[i].first, "layers",
                                              end - p->card[i].first, "experts_bytes",
                                              (json_int_t)p->card[i].experts));
    }
    return list;
}

static json_t *row_json(const struct lade_plan_row *r, const struct lade_plan_model *m)
{
    bool possible = r->status != LADE_PLAN_IMPOSSIBLE && !r->strategy->remote;
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:i}", "strategy", r->strategy->name, "status",
        status_names[r->status], "reason", r->reason, "vram_bytes", (json_int_t)r->vram_bytes,
        "ram_bytes", (json_int_t)r->ram_bytes, "disk_bytes", (json_int_t)r->disk_bytes, "context",
        possible ? r->place.context : 0, "batch", possible ? r->place.batch : 0);
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"load_s", r->load_s},
        {"first_s", r->first_s},
        {"ttft_s", r->ttft_s},
        {"prefill_tps", r->prefill_tps},
        {"decode_tps", r->decode_tps},
        {"experts_in_vram", r->experts_in_vram},
        {"experts_in_ram", r->experts_in_ram},
        {"token_vram_bytes", r->read[LADE_VRAM]},
        {"token_ram_bytes", r->read[LADE_RAM]},
        {"token_disk_bytes", r->read[LADE_DRIVE]},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(row, numbers[i].key,
                            possible ? json_real(numbers[i].value) : json_null());
    json_object_set_new(row, "gpus", cards_json(r, m));
    return row;
}

static json_t *gpus_json(const struct lade_plan_machine *m)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n_gpus; i++)
        json_array_append_new(list, json_pack("{s:i, s:I, s:f, s:f}", "gpu", m->gpu[i].gpu, "vram",
                                              (json_int_t)m->gpu[i].bytes, "vram_gbps",
                                              m->gpu[i].gbps, "link_gbps", m->gpu[i].link_gbps));
    return list;
}

static json_t *machine_json(const struct lade_plan_machine *m)
{
    return json_pack("{s:b, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}",
                     "measured", m->measured, "load_gbps", m->load_gbps, "pack_gbps", m->pack_gbps,
                     "ram_gbps", m->ram_gbps, "base_gbps", m->base_gbps, "experts_gbps",
                     m->experts_gbps, "base_gflops", m->base_gflops, "experts_gflops",
                     m->experts_gflops, "disk_gbps", m->disk_gbps, "disk_random_gbps",
                     m->disk_random_gbps, "vram_gbps", m->n_gpus ? m->gpu[0].gbps : 0.0,
                     "link_gbps", m->n_gpus ? m->gpu[0].link_gbps : 0.0, "gpus", gpus_json(m));
}

static int print_json(const struct subject *s, const struct lade_plan *plan, char *err)
{
    json_t *rows = json_array();
    for (int i = 0; i < plan->n; i++)
        json_array_append_new(rows, row_json(&plan->rows[i], &plan->model));
    const struct lade_plan_row *chosen = plan->chosen < 0 ? NULL : &plan->rows[plan->chosen];
    return output_json(
        json_pack("{s:s?, s:o, s:o, s:I, s:I, s:s, s:i, s:o, s:I, s:I, s:I}", "chosen",
                  chosen ? chosen->strategy->name : NULL, "rows", rows, "model",
                  output_string(s->name), "vram", (json_int_t)lade_plan_machine_vram(&s->machine),
                  "ram", (json_int_t)s->machine.ram, "storage",
                  lade_storage_name(s->machine.storage), "context",
                  chosen ? chosen->place.context : 0, "machine", machine_json(&s->machine),
                  "base_bytes", (json_int_t)s->model.base, "experts_bytes",
                  (json_int_t)s->model.experts, "process_bytes", (json_int_t)s->model.process),
        err);
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_row(const struct lade_plan_row *r)
{
    static const char *const marks[] = {"*", " ", "-"};
    char vram[UNITS_MAX], ram[UNITS_MAX], disk[UNITS_MAX], load[UNITS_MAX], ttft[UNITS_MAX];
    char prefill[UNITS_MAX], decode[UNITS_MAX];
    printf("%s %-18s", marks[r->status], r->strategy->name);
    if (r->status == LADE_PLAN_IMPOSSIBLE) {
        printf(" %s\n", r->reason);
        return;
    }
    printf(" %8s %8s %8s %7s %7s %7s %7s\n",
           r->vram_bytes ? units_memory(vram, (double)r->vram_bytes) : "-",
           units_memory(ram, (double)r->ram_bytes),
           r->disk_bytes ? units_memory(disk, (double)r->disk_bytes) : "-",
           units_duration(load, r->load_s), units_seconds(ttft, r->ttft_s),
           units_speed(prefill, r->prefill_tps), units_speed(decode, r->decode_tps));
    printf("    %s\n", r->status == LADE_PLAN_CHOSEN ? r->strategy->summary : r->reason);
    if (r->status == LADE_PLAN_CHOSEN)
        printf("    %s\n", r->reason);
}

static void print_speeds(const struct subject *s)
{
    const struct lade_plan_machine *m = &s->machine;
    printf("\n* chosen, - impossible. first: of a 512-token prompt, once loaded; tokens/s.\n");
    if (!m->measured) {
        printf("Predicted from typical speeds of such a machine.\n");
        return;
    }
    printf("Predicted from what was measured here: weights %.1f and %.1f GB/s (base, experts),\n"
           "RAM %.1f, drive %.2f in order, %.2f at random",
           m->base_gbps, m->experts_gbps, m->ram_gbps, m->disk_gbps, m->disk_random_gbps);
    for (int i = 0; i < m->n_gpus; i++)
        printf(", VRAM %.0f, link %.1f", m->gpu[i].gbps, m->gpu[i].link_gbps);
    printf(". lade doctor measures again.\n");
}

/* "24.0 GiB + 16.0 GiB of VRAM" */
static void print_vram(const struct lade_plan_machine *m)
{
    char vram[UNITS_MAX];
    for (int i = 0; i < m->n_gpus; i++)
        printf("%s%s", i ? " + " : "", units_memory(vram, (double)m->gpu[i].bytes));
    printf(m->n_gpus ? " of VRAM" : "no VRAM");
}

/* "layers 1-24 on GPU 0, 25-48 on GPU 1", where there are several. */
static void print_cards(const struct lade_placement *p, const struct lade_plan_model *m)
{
    if (p->n_cards < 2)
        return;
    for (int i = 0; i < p->n_cards; i++)
        printf("%s%d-%d on GPU %d", i ? ", " : "    layers ", p->card[i].first + 1,
               i + 1 < p->n_cards ? p->card[i + 1].first : m->layers, p->card[i].gpu);
    printf("\n");
}

static void print_text(const struct subject *s, const struct lade_plan *plan)
{
    char ram[UNITS_MAX];
    const struct lade_plan_machine *m = &s->machine;
    output_format("%s on ", s->name);
    print_vram(m);
    printf(", %s of RAM, %s\n", units_memory(ram, (double)m->ram), lade_storage_name(m->storage));
    if (s->here && !m->n_gpus && s->probe.n_gpus)
        output_format("%s is not used: %s\n", s->probe.gpu[0].name, s->probe.gpu_missing);
    printf("\n  %-18s %8s %8s %8s %7s %7s %7s %7s\n", "strategy", "VRAM", "RAM", "drive", "load",
           "first", "prefill", "decode");
    for (int i = 0; i < plan->n; i++) {
        print_row(&plan->rows[i]);
        if (i == plan->chosen)
            print_cards(&plan->rows[i].place, &plan->model);
    }
    if (plan->chosen < 0)
        printf("\nNo strategy fits this machine: more memory is needed, or a smaller model.\n");
    print_speeds(s);
}

/* A server has the model: nothing of this machine matters. */
static int plan_remote(const struct options *o)
{
    struct subject s = {0};
    struct lade_plan plan;
    char err[LADE_ERR];
    lade_plan_remote(&plan);
    snprintf(s.name, sizeof s.name, "%s", o->model);
    if (o->json)
        return print_json(&s, &plan, err) ? report_failed(true, err) : EXIT_DONE;
    const struct lade_plan_row *r = &plan.rows[plan.chosen];
    output_format("%s\n\n", s.name);
    printf("* %s: %s; %s.\n", r->strategy->name, r->strategy->summary, r->reason);
    return EXIT_DONE;
}

int cmd_plan(const struct options *o)
{
    struct subject s = {0};
    struct lade_plan plan;
    char err[LADE_ERR];
    int storage = o->storage ? lade_storage_find(o->storage) : -1;
    if (o->storage && storage < 0) {
        lade_fail(err,
                  "--storage %.40s: is not a kind of storage; use nvme, ssd, hdd or "
                  "raid0",
                  o->storage);
        return report_usage(o->json, err);
    }
    if (lade_remote_is(o->model))
        return plan_remote(o);
    int rc = describe(&s, o, storage, err);
    if (rc == 0)
        rc = lade_plan(&plan, &s.model, &s.machine, o->strategy, o->context, err);
    if (rc == 0 && o->json)
        rc = print_json(&s, &plan, err);
    else if (rc == 0)
        print_text(&s, &plan);
    lade_catalog_close(s.cat);
    if (rc)
        return report_failed(o->json, err);
    return EXIT_DONE;
}
