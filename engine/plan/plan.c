#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/plan/predict.h"
#include "engine/plan/split.h"

static const double GIB = 1024.0 * 1024 * 1024;

/* Tokens: what a long chat needs; the least that is of use. */
enum { CHAT_CONTEXT = 32768, LEAST_CONTEXT = 2048 };

const char *lade_strategy_name(const struct lade_strategy *s)
{
    return s->name;
}

/* ---- one row ---- */

/* RAM for what is on its way: experts, and of a batch what goes to the CPU's experts and back. */
static double passing_ram(const struct lade_placement *p, const struct lade_plan_model *m)
{
    return (double)p->staging + 2.0 * p->n_cards * (double)m->row * p->batch;
}

/* What RAM holds beside experts, in bytes. */
static double fixed_ram(const struct lade_placement *p, const struct lade_plan_model *m)
{
    double sum = (double)m->process + passing_ram(p, m);
    sum += p->base == LADE_RAM ? (double)(m->base + m->state + m->sketches + m->drafts) : 0;
    sum += p->kv == LADE_RAM ? (double)m->kv_token * p->context : 0;
    sum += p->buffers == LADE_RAM ? (double)m->buffers : 0;
    sum += p->rest_by == LADE_BY_CPU ? (double)m->batch_work * p->batch : 0;
    return sum;
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
static bool fill_vram(struct lade_plan_row *row, const struct lade_plan_model *m,
                      const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    struct lade_placement *p = &row->place;
    double experts = (double)m->experts, have = 0, kept = 0, filled = 0, room[LADE_CARDS];
    bool fits = p->n_cards > 0;
    for (int i = 0; i < p->n_cards; i++) {
        const struct lade_plan_gpu *g = lade_plan_gpu_of(pc, p->card[i].gpu);
        double own = (double)g->reserve + lade_plan_card_fixed(p, m, i);
        room[i] = (double)g->bytes - own;
        fits = fits && room[i] >= 0;
        room[i] = fmin(fmax(room[i], 0), lade_plan_card_experts(p, m, i));
        have += (double)g->bytes;
        kept += own;
        filled += room[i];
    }
    double share = experts > 0 ? fmin(filled / experts, 1) : 1;
    if (!fits || share < s->vram_min) {
        double need = kept + s->vram_min * experts;
        struct lade_placement one = *p;
        if (!p->n_cards) { /* as one card would have it */
            struct lade_plan_machine typical = {0};
            lade_plan_machine_add(&typical, 0);
            one.card[one.n_cards++] = (struct lade_card){0};
            need += (double)typical.gpu[0].reserve + lade_plan_card_fixed(&one, m, 0);
        }
        if (need > have || p->n_cards < 2)
            return say_short(row, "VRAM", need, have);
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "needs %.1f GiB of VRAM, %.1f are there, but whole layers do not fit the %d GPUs",
                 need / GIB, have / GIB, p->n_cards);
        return false;
    }
    double part = 1;
    if (s->vram_max < 1 && share >= s->vram_max && s->rest_by == LADE_BY_GPU)
        part = s->vram_max / share; /* streaming keeps only a working set there */
    row->vram_bytes = 0;
    for (int i = 0; i < p->n_cards; i++) {
        p->card[i].experts = (uint64_t)(part * room[i]);
        row->vram_bytes += (uint64_t)lade_plan_card_fixed(p, m, i) + p->card[i].experts;
    }
    return true;
}

/* What the slots of experts (engine/tiers) take beside experts where VRAM has some and RAM the others, so
 * that each has a home: those that experts pass through, half a chunk or two, pages that are not full. */
static double slots_beside(const struct lade_placement *p, const struct lade_plan_model *m)
{
    const double page = 4096, small = 16 * page, chunk = 64 << 20, least = 2.0 * (double)m->largest;
    const double token = m->layers ? (double)m->experts_read / m->layers : 0,
                 one = (double)m->largest;
    double sum = one < small ? 0 : m->n_experts * (ceil(one / page) * page - one);
    for (int i = 0; i < p->n_cards; i++) {
        const double bytes = (double)p->card[i].experts;
        sum += fmax(fmin(bytes / 4, 4 * token), least) + fmax(fmin(bytes / 32, chunk), least);
    }
    return sum;
}

/* As many of the others in RAM as fit. */
static bool fill_ram(struct lade_plan_row *row, double fixed, const struct lade_plan_model *m,
                     const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    double rest =
        (double)m->experts - (s->ram_backs_vram ? 0 : (double)lade_vram_experts(&row->place));
    double own = (double)m->process + passing_ram(&row->place, m), kept = (double)pc->ram_reserve;
    double need = kept + own + s->ram_slack * (fixed - own + s->ram_min * rest);
    if (need > (double)pc->ram)
        return say_short(row, "RAM", need, (double)pc->ram);
    if (rest > 0 && rest < (double)m->experts)
        rest = fmin(rest + slots_beside(&row->place, m), (double)m->experts);
    row->place.ram_experts = (uint64_t)fmin(rest, (double)pc->ram - kept - fixed);
    return true;
}

/* The speeds that say over which link experts of a prompt are carried, and which ones, where the CPU
 * computes the others. */
static void tell_carry(struct lade_placement *p, const struct lade_plan_model *m,
                       const struct lade_plan_machine *pc)
{
    double routes = m->largest ? (double)m->experts_read / (double)m->largest : 0;
    for (int i = 0; i < p->n_cards; i++)
        p->card[i].link_byte = 1e-9 / lade_plan_gpu_of(pc, p->card[i].gpu)->link_gbps;
    if (!p->n_cards || p->rest_by != LADE_BY_CPU || routes <= 0)
        return;
    double gflop = m->experts_flops / routes / 1e9; /* of an expert, for one token */
    p->carry = (struct lade_carry){.cpu_byte = 1e-9 / pc->experts_gbps,
                                   .cpu_token = gflop / pc->experts_gflops,
                                   .card_token = gflop / pc->gpu_gflops,
                                   .ram_byte = 1e-9 / pc->ram_gbps};
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
    };
    if (s->gpu)
        lade_plan_split(&row->place, m, pc);
    tell_carry(&row->place, m, pc);
    double fixed = fixed_ram(&row->place, m);
    if ((s->gpu && !fill_vram(row, m, pc)) || !fill_ram(row, fixed, m, pc))
        return false;
    double in_vram = (double)lade_vram_experts(&row->place);
    row->ram_bytes = (uint64_t)fixed + row->place.ram_experts;
    row->experts_in_vram = m->experts ? in_vram / (double)m->experts : 0;
    row->experts_in_ram = m->experts ? (double)row->place.ram_experts / (double)m->experts : 0;
    double in_both = s->ram_backs_vram ? 0 : in_vram;
    if (!s->ram_backs_vram)
        row->experts_in_ram = fmin(row->experts_in_ram, 1 - row->experts_in_vram);
    row->disk_bytes = (uint64_t)fmax((double)m->experts - in_both - row->place.ram_experts, 0);
    return true;
}

/* Seconds that a token of a long prompt takes at most, where nothing is done at the same time. */
static double prompt_token(const struct lade_plan_row *row, const struct lade_plan_model *m,
                           const struct lade_plan_machine *pc, int batch)
{
    const struct lade_plan_batch one = lade_plan_batch(row, m, pc, batch);
    return (one.compute + one.moved) / batch;
}

/* Whether a large batch is of use, to a CPU beside one of half as many tokens: that only waits less for the
 * drive, where cards also compute faster. */
static bool pays(const struct lade_plan_row *row, const struct lade_plan_model *m,
                 const struct lade_plan_machine *pc, const struct lade_plan_large *l)
{
    static const double gain = 1.0 / 16;
    if (row->place.buffers == LADE_VRAM)
        return l->workspace && l->batch == LADE_CARDS_LARGE &&
               (row->place.n_cards < 2 || row->experts_in_vram < 1);
    return row->place.base == LADE_RAM && row->disk_bytes &&
           prompt_token(row, m, pc, l->batch / 2) > (1 + gain) * prompt_token(row, m, pc, l->batch);
}

/* Prompts read each expert once a batch, from wherever it lies. So a large batch is worth the room of a
 * few experts, but not a shorter conversation or another row. Cards that share all layers are faster with
 * small ones, which go through them one after the other. */
static void enlarge(struct lade_plan_row *row, const struct lade_plan_model *m,
                    const struct lade_plan_machine *pc)
{
    static const double worth = 1.0 / 16; /* of the experts in VRAM, or in RAM */
    for (int i = 0; i < LADE_LARGE; i++) {
        const struct lade_plan_large *l = &m->large[i];
        struct lade_plan_model large = *m;
        struct lade_plan_row other = *row;
        if (l->batch <= m->batch || row->place.context < l->batch || !pays(row, m, pc, l))
            continue;
        large.batch = l->batch;
        large.buffers = l->buffers;
        large.workspace = l->workspace;
        if (place(&other, &large, pc, row->place.context) &&
            other.place.n_cards == row->place.n_cards &&
            other.experts_in_vram >= row->experts_in_vram * (1 - worth) &&
            other.experts_in_ram >= row->experts_in_ram * (1 - worth)) {
            *row = other;
            return;
        }
    }
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
    if (row->strategy->remote) {
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "needs a server that has the model (-m http://HOST:PORT)");
        return;
    }
    if (row->strategy->striped && pc->storage != LADE_STORAGE_RAID0) {
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "needs several drives (--storage raid0), one is there");
        return;
    }
    if (row->strategy->gpu && m->kv_on_cpu) {
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "computes attention on the GPU, which has no --kv-q8");
        return;
    }
    int wanted = context ? context : m->max_context < CHAT_CONTEXT ? m->max_context : CHAT_CONTEXT;
    bool fits = place(row, m, pc, wanted);
    /* Where nobody asked for a length, a shorter one is better than no model. */
    while (!fits && !context && wanted / 2 >= LEAST_CONTEXT)
        fits = place(row, m, pc, wanted /= 2);
    if (!fits)
        return;
    enlarge(row, m, pc);
    say_fits(row);
    lade_plan_predict(row, m, pc);
}

/* ---- all rows ---- */

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
        int i = lade_strategy_find(strategy);
        if (i < 0)
            return lade_fail(err, "--strategy %.40s: is not a strategy; `lade plan` lists them",
                             strategy);
        if (out->rows[i].status == LADE_PLAN_IMPOSSIBLE)
            return out->chosen < 0
                       ? lade_fail(err, "--strategy %s: %s; nothing else fits either", strategy,
                                   out->rows[i].reason)
                       : lade_fail(err, "--strategy %s: %s; take %s, which fits", strategy,
                                   out->rows[i].reason, lade_strategies[out->chosen].name);
        out->chosen = i;
    }
    if (out->chosen >= 0)
        out->rows[out->chosen].status = LADE_PLAN_CHOSEN;
    return 0;
}

void lade_plan_remote(struct lade_plan *out)
{
    *out = (struct lade_plan){.n = lade_n_strategies, .chosen = -1};
    for (int i = 0; i < out->n; i++) {
        struct lade_plan_row *row = &out->rows[i];
        row->strategy = &lade_strategies[i];
        row->status = row->strategy->remote ? LADE_PLAN_CHOSEN : LADE_PLAN_IMPOSSIBLE;
        if (row->strategy->remote)
            out->chosen = i;
        snprintf(row->reason, sizeof row->reason, "%s",
                 row->strategy->remote ? "the server decides where the weights live"
                                       : "needs the files of the model, which the server has");
    }
}
