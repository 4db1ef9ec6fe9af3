#include "engine/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/model/state.h"
#include "engine/plan/strategies.h"

static const double GB = 1e9, GIB = 1024.0 * 1024 * 1024;

/* What a GPU takes for itself (context, libraries' work space), and what the system and this
 * program need of RAM beside weights and caches. */
static const double VRAM_OVERHEAD = 1.0 * 1e9, RAM_OVERHEAD = 3.0 * 1e9;

enum { CHAT_CONTEXT = 32768, PROMPT = 512 };

/* ---- inputs ---- */

void lade_plan_model_of(struct lade_plan_model *out, const struct lade_catalog *cat)
{
    const struct lade_shape *s = &cat->shape;
    *out = (struct lade_plan_model){.layers = s->layers, .max_context = s->max_context};
    uint64_t embed = 0, largest_expert = 0;
    for (int i = 0; i < cat->n_pieces; i++) {
        const struct lade_piece *p = &cat->pieces[i];
        if (p->kind == LADE_PIECE_EXPERT) {
            out->experts += p->bytes;
            largest_expert = p->bytes > largest_expert ? p->bytes : largest_expert;
            continue;
        }
        out->base += p->bytes;
        if (p->kind == LADE_PIECE_EMBED)
            embed = p->bytes;
    }
    out->base_read = out->base - (s->tied_embeddings ? 0 : embed);
    out->experts_read = largest_expert * (uint64_t)s->experts_used * (uint64_t)s->layers;
    out->state = lade_state_recurrent_bytes(s);
    out->kv_token = lade_state_bytes(s, 1, LADE_F16) - out->state;
    out->buffers = 256u << 20;
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        double weights = (double)t->packed.rows * t->packed.cols;
        if (cat->pieces[t->piece].kind == LADE_PIECE_EXPERT)
            weights *= (double)s->experts_used / s->experts;
        else if (t->role == LADE_EMBED)
            weights = 0;
        out->flops_token += 2 * weights;
    }
}

void lade_plan_model_80b(struct lade_plan_model *out)
{
    /* Intel's INT4-mixed Instruct: 43,243,415,040 bytes, of which 48 x 512 experts of
     * 3 x 2048 x 512 weights at 4 bits with a scale (2 bytes) and packed zeros (0.5 byte) per 128;
     * embedding and head 151,936 x 2048 bf16; 3,563,764,480 weights used per token. */
    const uint64_t expert = 3145728 / 2 + 3145728 / 128 * 5 / 2;
    const uint64_t experts = 48 * 512 * expert, total = 43243415040u;
    *out = (struct lade_plan_model){
        .base = total - experts,
        .base_read = total - experts - 151936u * 2048 * 2,
        .experts = experts,
        .experts_read = 48 * 10 * expert,
        .state = 36u * (32 * 128 * 128 + 3 * 8192) * 4,
        .kv_token = 24576,
        .buffers = 256u << 20,
        .flops_token = 2.0 * 3563764480.0,
        .layers = 48,
        .max_context = 262144,
    };
}

/* Typical speeds, GB/s: sequential, and whole experts at random with several reads in flight. */
static const struct {
    const char *name;
    double sequential, random;
} storages[LADE_N_STORAGE] = {
    [LADE_STORAGE_NVME] = {"nvme", 3.5, 2.5},
    [LADE_STORAGE_SSD] = {"ssd", 0.5, 0.4},
    [LADE_STORAGE_HDD] = {"hdd", 0.15, 0.04},
    [LADE_STORAGE_RAID0] = {"raid0", 7.0, 5.0},
};

const char *lade_storage_name(enum lade_storage storage)
{
    return storages[storage].name;
}

int lade_storage_find(const char *name)
{
    for (int i = 0; i < LADE_N_STORAGE; i++)
        if (!strcmp(storages[i].name, name))
            return i;
    return -1;
}

void lade_plan_machine_typical(struct lade_plan_machine *out, uint64_t vram, uint64_t ram,
                               enum lade_storage storage)
{
    *out = (struct lade_plan_machine){
        .vram = vram, .ram = ram, .storage = storage,
        .vram_gbps = 600, .ram_gbps = 45, .link_gbps = 20,
        .disk_gbps = storages[storage].sequential,
        .disk_random_gbps = storages[storage].random,
        .cpu_gflops = 800, .gpu_gflops = 40000,
    };
}

const char *lade_strategy_name(const struct lade_strategy *s)
{
    return s->name;
}

const char *lade_strategy_summary(const struct lade_strategy *s)
{
    return s->summary;
}

/* ---- one row ---- */

/* Sizes of one row before it is judged, in bytes. */
struct sizes {
    double caches;       /* KV and recurrent state */
    double vram_fixed;   /* what VRAM holds beside experts */
    double ram_fixed;    /* what RAM holds beside experts */
    double vram_experts, ram_experts;
};

static void say_short(struct lade_plan_row *row, const char *what, double need, double have)
{
    row->status = LADE_PLAN_IMPOSSIBLE;
    snprintf(row->reason, sizeof row->reason, "needs %.1f GiB of %s, %.1f are there", need / GIB,
             what, have / GIB);
}

/* Places the experts: as many in VRAM as fit and the row allows, of the rest as many in RAM as
 * fit. Returns false with the reason where the row's minimum is not reached. */
static bool place(struct lade_plan_row *row, struct sizes *z, const struct lade_plan_model *m,
                  const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    double experts = (double)m->experts;
    double caches_in_ram = s->gpu && !s->kv_in_ram ? 0 : z->caches + (double)m->buffers;
    z->vram_fixed = s->gpu ? VRAM_OVERHEAD + (double)m->base : 0;
    if (s->gpu && !s->kv_in_ram)
        z->vram_fixed += z->caches + (double)m->buffers;
    z->ram_fixed = (s->gpu ? 0 : (double)m->base) + caches_in_ram;

    double room = s->gpu ? (double)pc->vram - z->vram_fixed : 0;
    double share = experts > 0 ? fmin(fmax(room / experts, 0), 1) : 1;
    if (s->gpu && (room < 0 || share < s->vram_min)) {
        say_short(row, "VRAM", z->vram_fixed + s->vram_min * experts, (double)pc->vram);
        return false;
    }
    if (s->vram_max < 1 && s->gpu && share >= s->vram_max && s->rest_by == LADE_BY_GPU)
        share = s->vram_max; /* streaming keeps only a working set there */
    if (!s->gpu)
        share = 0;
    row->experts_in_vram = share;
    z->vram_experts = share * experts;

    double rest = experts - z->vram_experts;
    double wanted = s->ram_min * (s->ram_backs_vram ? experts : rest);
    double need = RAM_OVERHEAD + s->ram_slack * (z->ram_fixed + wanted);
    if (need > (double)pc->ram) {
        say_short(row, "RAM", need, (double)pc->ram);
        return false;
    }
    z->ram_experts = fmin(s->ram_backs_vram ? experts : rest,
                          (double)pc->ram - RAM_OVERHEAD - z->ram_fixed);
    row->experts_in_ram = experts > 0 ? z->ram_experts / experts : 0;
    return true;
}

/* Bytes over speed, for every tier that a token or a load touches. Routes are taken as uniform, so
 * that a tier serves the share of the experts that it holds; real routing is narrower and caches
 * do better. */
static void predict(struct lade_plan_row *row, const struct sizes *z,
                    const struct lade_plan_model *m, const struct lade_plan_machine *pc)
{
    const struct lade_strategy *s = row->strategy;
    double read = (double)m->experts_read, all = (double)m->experts;
    double in_vram = row->experts_in_vram;
    double in_ram = fmin(row->experts_in_ram, 1 - in_vram); /* not counting copies of VRAM's */
    double on_disk = 1 - in_vram - in_ram;
    double base_gbps = s->gpu ? pc->vram_gbps : pc->ram_gbps;
    double ram_gbps = s->rest_by == LADE_BY_CPU ? pc->ram_gbps : pc->link_gbps;

    double token = (double)m->base_read / GB / base_gbps;
    double gpu_part = read * in_vram / GB / pc->vram_gbps;
    double ram_part = read * in_ram / GB / ram_gbps;
    /* The CPU works on its experts while the GPU works on its own. */
    token += s->rest_by == LADE_BY_CPU ? fmax(gpu_part, ram_part) : gpu_part + ram_part;
    token += read * on_disk / GB / pc->disk_random_gbps;
    row->decode_tps = 1 / token;

    /* A prompt of 512 tokens visits nearly every expert once, whatever the tier. */
    double gflops = s->gpu && s->rest_by == LADE_BY_GPU ? pc->gpu_gflops : pc->cpu_gflops;
    if (s->gpu && s->rest_by == LADE_BY_CPU)
        gflops = 1 / (in_vram / pc->gpu_gflops + (1 - in_vram) / pc->cpu_gflops);
    double compute = PROMPT * m->flops_token / GB / gflops;
    double moved = all * on_disk / GB / pc->disk_gbps;
    if (s->gpu && s->rest_by == LADE_BY_GPU)
        moved += all * in_ram / GB / pc->link_gbps;
    double prompt = fmax(compute, moved);
    row->prefill_tps = PROMPT / prompt;
    row->ttft_s = prompt + token;
    row->load_s = ((double)m->base + z->vram_experts + z->ram_experts) / GB / pc->disk_gbps;
}

static void say_fits(struct lade_plan_row *row, const struct lade_strategy *s)
{
    double vram = 100 * row->experts_in_vram, ram = 100 * row->experts_in_ram;
    double disk = fmax(100 - vram - ram, 0);
    if (s->gpu)
        snprintf(row->reason, sizeof row->reason,
                 "experts: %.0f%% in VRAM, %.0f%% in RAM, %.0f%% on the drive", vram, ram, disk);
    else
        snprintf(row->reason, sizeof row->reason,
                 "no weights in VRAM; experts: %.0f%% in RAM, %.0f%% on the drive", ram, disk);
}

static void judge(struct lade_plan_row *row, const struct lade_plan_model *m,
                  const struct lade_plan_machine *pc, int context)
{
    const struct lade_strategy *s = row->strategy;
    struct sizes z = {.caches = (double)m->state + (double)m->kv_token * context};
    row->status = LADE_PLAN_POSSIBLE;
    if (s->striped && pc->storage != LADE_STORAGE_RAID0) {
        row->status = LADE_PLAN_IMPOSSIBLE;
        snprintf(row->reason, sizeof row->reason,
                 "needs several drives (--storage raid0), one is there");
        return;
    }
    if (!place(row, &z, m, pc))
        return;
    say_fits(row, s);
    row->vram_bytes = (uint64_t)(z.vram_fixed + z.vram_experts);
    row->ram_bytes = (uint64_t)(z.ram_fixed + z.ram_experts);
    row->disk_bytes = (uint64_t)fmax((double)m->experts - z.vram_experts - z.ram_experts, 0);
    predict(row, &z, m, pc);
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
              const struct lade_plan_machine *machine, const char *strategy, int context,
              char *err)
{
    *out = (struct lade_plan){.n = lade_n_strategies, .chosen = -1};
    out->context = context ? context
                           : model->max_context < CHAT_CONTEXT ? model->max_context : CHAT_CONTEXT;
    for (int i = 0; i < out->n; i++) {
        out->rows[i].strategy = &lade_strategies[i];
        judge(&out->rows[i], model, machine, out->context);
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
