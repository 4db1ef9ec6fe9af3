#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/plan/predict.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* Tokens: what a long chat needs; the least that is of use; what contexts are multiples of. */
enum { CHAT_CONTEXT = 32768, LEAST_CONTEXT = 2048, CONTEXT_STEP = 256 };

const char *lade_strategy_name(const struct lade_strategy *s)
{
    return s->name;
}

const char *lade_strategy_summary(const struct lade_strategy *s)
{
    return s->summary;
}

/* ---- one row ---- */

/* What each tier holds beside experts, in bytes. */
struct fixed {
    double vram, ram;
};

static struct fixed fixed_of(const struct lade_placement *p, const struct lade_plan_model *m)
{
    struct fixed f = {.ram = (double)m->process + (double)p->staging};
    *(p->base == LADE_VRAM ? &f.vram : &f.ram) += (double)m->base + (double)m->state;
    *(p->kv == LADE_VRAM ? &f.vram : &f.ram) += (double)m->kv_token * p->context;
    *(p->buffers == LADE_VRAM ? &f.vram : &f.ram) += (double)m->buffers;
    if (p->base == LADE_VRAM)
        f.vram += (double)m->workspace;
    return f;
}

static bool say_short(struct lade_plan_row *row, const char *what, double need, double have)
{
    bool small = need < GIB || need - have < 0.1 * GIB; /* digits that show the difference */
    double unit = small ? GIB / 1024 : GIB;
    row->status = LADE_PLAN_IMPOSSIBLE;
    int n = snprintf(row->reason, sizeof row->reason, "needs %.*f %s of %s, ", !small,
                     small ? ceil(need / unit) : need / unit, small ? "MiB" : "GiB", what);
    if (have > 0)
        snprintf(row->reason + n, sizeof row->reason - (size_t)n, "%.*f are there", !small,
                 have / unit);
    else
        snprintf(row->reason + n, sizeof row->reason - (size_t)n, "there is none");
    return false;
}

/* As many experts in VRAM as fit and the row allows. */
static bool fill_vram(struct lade_plan_row *row, double fixed, const struct lade_plan_model *m,
                      const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    double experts = (double)m->experts, kept = (double)pc->vram_reserve + fixed;
    double room = (double)pc->vram - kept;
    double share = experts > 0 ? fmin(fmax(room / experts, 0), 1) : 1;
    if (room < 0 || share < s->vram_min)
        return say_short(row, "VRAM", kept + s->vram_min * experts, (double)pc->vram);
    if (s->vram_max < 1 && share >= s->vram_max && s->rest_by == LADE_BY_GPU)
        share = s->vram_max; /* streaming keeps only a working set there */
    row->place.vram_experts = (uint64_t)(share * experts);
    return true;
}

/* As many of the others in RAM as fit. */
static bool fill_ram(struct lade_plan_row *row, double fixed, const struct lade_plan_model *m,
                     const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    double rest = (double)m->experts - (s->ram_backs_vram ? 0 : (double)row->place.vram_experts);
    double own = (double)m->process + (double)row->place.staging, kept = (double)pc->ram_reserve;
    double need = kept + own + s->ram_slack * (fixed - own + s->ram_min * rest);
    if (need > (double)pc->ram)
        return say_short(row, "RAM", need, (double)pc->ram);
    row->place.ram_experts = (uint64_t)fmin(rest, (double)pc->ram - kept - fixed);
    return true;
}

/* Places everything for a context. Returns false with the reason where the row's minimum is not
 * reached. */
static bool place(struct lade_plan_row *row, const struct lade_plan_model *m,
                  const struct lade_plan_machine *pc, int context)
{
    const struct lade_strategy *s = row->strategy;
    uint64_t token = m->layers ? m->experts_read / (uint64_t)m->layers : 0;
    row->status = LADE_PLAN_POSSIBLE;
    row->place = (struct lade_placement){
        .base = s->gpu ? LADE_VRAM : LADE_RAM,
        .kv = s->gpu && !s->kv_in_ram ? LADE_VRAM : LADE_RAM,
        .buffers = s->gpu && !s->kv_in_ram ? LADE_VRAM : LADE_RAM,
        .vram_is_cache = s->gpu && s->rest_by == LADE_BY_GPU && s->vram_min < 1,
        .ram_backs_vram = s->ram_backs_vram,
        .rest_by = s->rest_by,
        .staging = 6 * token, /* a few layers' worth: some read while others are packed */
        .striped = s->striped,
        .context = context,
        .batch = m->batch < context ? m->batch : context,
        .gpu = pc->gpu,
    };
    struct fixed f = fixed_of(&row->place, m);
    if ((s->gpu && !fill_vram(row, f.vram, m, pc)) || !fill_ram(row, f.ram, m, pc))
        return false;
    row->vram_bytes = (uint64_t)f.vram + row->place.vram_experts;
    row->ram_bytes = (uint64_t)f.ram + row->place.ram_experts;
    row->experts_in_vram = m->experts ? (double)row->place.vram_experts / (double)m->experts : 0;
    row->experts_in_ram = m->experts ? (double)row->place.ram_experts / (double)m->experts : 0;
    double in_both = s->ram_backs_vram ? 0 : (double)row->place.vram_experts;
    row->disk_bytes = (uint64_t)fmax((double)m->experts - in_both - row->place.ram_experts, 0);
    return true;
}

static void say_fits(struct lade_plan_row *row)
{
    double vram = 100 * row->experts_in_vram, ram = 100 * row->experts_in_ram;
    double disk = fmax(100 - vram - ram, 0);
    if (row->place.base == LADE_VRAM)
        snprintf(row->reason, sizeof row->reason,
                 "experts: %.0f%% in VRAM, %.0f%% in RAM, %.0f%% on the drive", vram, ram, disk);
    else
        snprintf(row->reason, sizeof row->reason,
                 "no weights in VRAM; experts: %.0f%% in RAM, %.0f%% on the drive", ram, disk);
}

static void judge(struct lade_plan_row *row, const struct lade_plan_model *m,
                  const struct lade_plan_machine *pc, int context)
{
    if (row->strategy->striped && pc->storage != LADE_STORAGE_RAID0) {
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "needs several drives (--storage raid0), one is there");
        return;
    }
    int wanted = context ? context : m->max_context < CHAT_CONTEXT ? m->max_context : CHAT_CONTEXT;
    bool fits = place(row, m, pc, wanted);
    /* Where nobody asked for a length, a shorter one is better than no model. */
    while (!fits && !context && wanted / 2 >= LEAST_CONTEXT)
        fits = place(row, m, pc, wanted /= 2);
    if (!fits)
        return;
    say_fits(row);
    lade_plan_predict(row, m, pc);
}

/* ---- all rows ---- */

static int find_strategy(const struct lade_plan *plan, const char *name)
{
    for (int i = 0; i < plan->n; i++)
        if (!strcmp(plan->rows[i].strategy->name, name))
            return i;
    return -1;
}

int lade_plan(struct lade_plan *out, const struct lade_plan_model *model,
              const struct lade_plan_machine *machine, const char *strategy, int context, char *err)
{
    *out = (struct lade_plan){
        .n = lade_n_strategies, .chosen = -1, .machine = *machine, .model = *model};
    for (int i = 0; i < out->n; i++) {
        out->rows[i].strategy = &lade_strategies[i];
        judge(&out->rows[i], model, machine, context);
        if (out->chosen < 0 && out->rows[i].status == LADE_PLAN_POSSIBLE)
            out->chosen = i;
    }
    if (strategy && strcmp(strategy, "auto")) {
        int i = find_strategy(out, strategy);
        if (i < 0)
            return lade_fail(err, "--strategy %.40s: is not a strategy; `lade plan` lists them",
                             strategy);
        if (out->rows[i].status == LADE_PLAN_IMPOSSIBLE)
            return lade_fail(err, "--strategy %s: %s; `lade plan` shows what fits", strategy,
                             out->rows[i].reason);
        out->chosen = i;
    }
    if (out->chosen >= 0)
        out->rows[out->chosen].status = LADE_PLAN_CHOSEN;
    return 0;
}
