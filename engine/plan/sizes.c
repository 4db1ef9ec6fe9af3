/* sizes.c - what the plan is told: sizes of a checkpoint, typical speeds of a machine. */
#include <stdlib.h>
#include <string.h>

#include "engine/model/forward.h"
#include "engine/model/state.h"
#include "engine/plan/habits.h"
#include "engine/plan/hits.h"
#include "engine/plan/plan.h"
#include "kernels/plugin.h"

enum {
    DEFAULT_BATCH = 512,
    SNAPSHOTS = 4, /* of the recurrent state, kept by a session (session.c) */
    ENOUGH = 100,  /* tokens that routing must have been seen of */
};

/* Memory of this program before any model: code, libraries, the screen, thread stacks; and of a
 * tensor: its catalog entry and what parsing its header leaves behind. */
static const uint64_t PROGRAM = 48u << 20, TENSOR = 512;

static const int large_batches[LADE_LARGE] = {4096, LADE_CARDS_LARGE, 1024};

/* The kernels of this machine's GPUs; NULL where it has none, though it may have a plug-in and a driver. */
static const struct lade_ops *gpu_of(const struct lade_plan_caps *caps)
{
    int n = 0;
    const struct lade_ops *ops =
        caps->cpu_only || !caps->plugin ? NULL : lade_plugin_open(caps->plugin, NULL);
    return ops && !ops->list(NULL, 0, &n, NULL) && n > 0 ? ops : NULL;
}

/* What a device's kernels need beside weights and caches for such a batch; `limits` says the rest. */
static uint64_t workspace(const struct lade_ops *ops, struct lade_limits limits, int batch)
{
    limits.batch = batch;
    return ops && ops->workspace ? ops->workspace(&limits) : 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static double sum_of(const double *values, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += values[i];
    return sum;
}

/* What the most used experts have served, from the uses of all n. */
static void tell_served(struct lade_plan_model *out, double *uses, int n, double per_token)
{
    double all = sum_of(uses, n), sum = 0;
    if (all < ENOUGH * per_token)
        return;
    qsort(uses, (size_t)n, sizeof *uses, by_size);
    for (int i = 0, at = 0; i <= LADE_SERVED; i++) {
        for (; at < (int)((double)n * i / LADE_SERVED); at++)
            sum += uses[at];
        out->served[i] = sum / all;
    }
}

static void ask_habits(struct lade_plan_model *out, const struct lade_catalog *cat,
                       const char *cache_dir)
{
    char *path = lade_habits_path(cache_dir, cat);
    double *habits = calloc(lade_habits_count(cat), sizeof *habits);
    if (path && habits && lade_habits_read(path, cat, habits)) {
        double per_token = (double)cat->shape.experts_used * cat->shape.layers;
        double *ages = habits + out->n_experts;
        tell_served(out, habits, out->n_experts, per_token);
        if (sum_of(ages, 2 * LADE_AGES) >= ENOUGH * per_token)
            lade_hits_curve(out->kept, LADE_SERVED,
                            &(struct lade_hits_ages){ages, ages + LADE_AGES}, per_token,
                            out->n_experts);
    }
    free(path);
    free(habits);
}

/* Sums of the pieces: all, and by layer. */
static void tell_pieces(struct lade_plan_model *out, const struct lade_catalog *cat)
{
    for (int i = 0; i < cat->n_pieces; i++) {
        const struct lade_piece *p = &cat->pieces[i];
        if (p->kind == LADE_PIECE_EXPERT) {
            out->experts += p->bytes;
            out->largest = p->bytes > out->largest ? p->bytes : out->largest;
            out->layer[p->layer].experts += p->bytes;
            continue;
        }
        out->base += p->bytes;
        *(p->kind == LADE_PIECE_EMBED  ? &out->embed
          : p->kind == LADE_PIECE_HEAD ? &out->head
                                       : &out->layer[p->layer].base) += p->bytes;
    }
}

/* What is kept of a timeline, which is the same for each layer of a kind. */
static void spread_state(struct lade_plan_model *out, const struct lade_shape *s)
{
    uint64_t attention = 0;
    for (int i = 0; i < s->layers; i++)
        attention += s->full_attention[i];
    for (int i = 0; i < s->layers; i++) {
        if (s->full_attention[i])
            out->layer[i].kv_token = out->kv_token / attention;
        else
            out->layer[i].state = out->state / ((uint64_t)s->layers - attention);
    }
}

/* Whether all tokens of a prompt are multiplied with a tensor that is no expert's: not with the embedding;
 * with the head the last one alone; in the last layer with what the state is made of (model/forward.h). */
static bool in_prompt(const struct lade_catalog *cat, const struct lade_tensor *t)
{
    const bool last = cat->pieces[t->piece].layer == cat->shape.layers - 1;
    switch (t->role) {
    case LADE_EMBED:
    case LADE_HEAD:
        return false;
    case LADE_ATTN_Q:
    case LADE_ATTN_O:
    case LADE_DELTA_OUT:
    case LADE_ROUTER:
    case LADE_SHARED_FF_GATE:
    case LADE_SHARED_FF_UP:
    case LADE_SHARED_FF_DOWN:
        return !last;
    default:
        return true;
    }
}

void lade_plan_model_of(struct lade_plan_model *out, const struct lade_catalog *cat,
                        const struct lade_plan_caps *caps)
{
    const struct lade_shape *s = &cat->shape;
    *out = (struct lade_plan_model){.layers = s->layers,
                                    .n_experts = s->experts * s->layers,
                                    .max_context = s->max_context,
                                    .tied = s->tied_embeddings,
                                    .files = cat->source_bytes,
                                    .batch = caps->batch ? caps->batch : DEFAULT_BATCH};
    tell_pieces(out, cat);
    out->base_read = out->base - (s->tied_embeddings ? 0 : out->embed);
    out->experts_read = out->largest * (uint64_t)s->experts_used * (uint64_t)s->layers;
    out->state = lade_state_recurrent_bytes(s);
    out->kv_on_cpu = caps->kv_q8;
    const struct lade_ops *gpu = gpu_of(caps);
    out->kv_type = lade_state_cache_type(caps->exact, caps->kv_q8, gpu != NULL);
    out->kv_token = lade_state_bytes(s, 1, out->kv_type) - out->state;
    spread_state(out, s);
    out->buffers = lade_forward_bytes(s, out->batch);
    out->token_buffers = lade_forward_bytes(s, 1);
    out->sketches = lade_forward_sketches(cat);
    out->drafts = caps->no_draft ? 0 : lade_drafts_bytes(s, out->batch);
    out->row = (uint64_t)s->hidden * sizeof(float);
    struct lade_limits limits;
    lade_devices_limits(&limits, cat, out->batch, caps->context ? caps->context : s->max_context);
    out->workspace = workspace(gpu, limits, out->batch);
    out->batch_work = workspace(lade_cpu_ops(), limits, 1);
    for (int i = 0; i < LADE_LARGE && !caps->batch; i++)
        out->large[i] =
            (struct lade_plan_large){large_batches[i], lade_forward_bytes(s, large_batches[i]),
                                     workspace(gpu, limits, large_batches[i])};
    out->process = PROGRAM + TENSOR * (uint64_t)cat->n_tensors + SNAPSHOTS * out->state +
                   sizeof(float) * (uint64_t)s->vocab;
    for (int i = 0; i < cat->n_tensors; i++) {
        const struct lade_tensor *t = &cat->tensors[i];
        double weights = (double)t->packed.rows * t->packed.cols;
        if (cat->pieces[t->piece].kind == LADE_PIECE_EXPERT)
            out->experts_flops += 2 * weights * s->experts_used / s->experts;
        else if (in_prompt(cat, t))
            out->base_flops += 2 * weights;
    }
    ask_habits(out, cat, caps->cache_dir);
}

void lade_plan_model_80b(struct lade_plan_model *out)
{
    /* Intel's INT4-mixed Instruct: 43,243,415,040 bytes, of which 48 x 512 experts of
     * 3 x 2048 x 512 weights at 4 bits with a scale (2 bytes) and packed zeros (0.5 byte) per 128;
     * embedding and head 151,936 x 2048 bf16; 3,563,764,480 weights used per token, of which a prompt's
     * tokens do without the head and, in the last layer, queries, output, router and shared expert. */
    const uint64_t expert = 3145728 / 2 + 3145728 / 128 * 5 / 2;
    const uint64_t experts = 48 * 512 * expert, total = 43243415040u;
    const uint64_t state = 36u * (32 * 128 * 128 + 3 * 8192) * 4;
    *out = (struct lade_plan_model){
        .base = total - experts,
        .base_read = total - experts - 151936u * 2048 * 2,
        .experts = experts,
        .experts_read = 48 * 10 * expert,
        .largest = expert,
        .state = state,
        .kv_token = 24576,
        .buffers = 64u << 20,
        .batch_work = 2 * 6144 + 11 * (1536 + 2048 + 8), /* device.c */
        .token_buffers = 1u << 20,
        .drafts = 4u * LADE_DRAFT_ROWS * (151936u + 36 * (12288 + 64 + 4096)) + state / 36,
        .row = 2048 * 4,
        .process = PROGRAM + TENSOR * 74391 + SNAPSHOTS * state + 151936u * 4,
        .files = total,
        .base_flops = 2.0 * (3563764480.0 - 480 * 3145728.0 - 151936 * 2048.0 -
                             2048.0 * (8192 + 4096 + 512 + 3 * 512 + 1)),
        .experts_flops = 2.0 * 480 * 3145728.0,
        .layers = 48,
        .n_experts = 48 * 512,
        .max_context = 262144,
        .batch = DEFAULT_BATCH,
        .embed = 151936u * 2048 * 2,
        .head = 151936u * 2048 * 2,
        .large = {{4096, 512u << 20, 0}, {LADE_CARDS_LARGE, 256u << 20, 0}, {1024, 128u << 20, 0}},
    };
    const uint64_t layers = out->base - out->embed - out->head;
    for (int i = 0; i < 48; i++) { /* every fourth has full attention */
        out->layer[i] = (struct lade_plan_layer){.base = layers / 48, .experts = experts / 48};
        *(i % 4 == 3 ? &out->layer[i].kv_token : &out->layer[i].state) =
            i % 4 == 3 ? out->kv_token / 12 : state / 36;
    }
    out->layer[0].base += layers % 48;
}

/* ---- machines ---- */

/* Typical speeds, GB/s: front to back, and whole experts at random, one and eight in flight. */
static const struct {
    const char *name;
    double sequential, one, eight;
} storages[LADE_N_STORAGE] = {
    [LADE_STORAGE_NVME] = {"nvme", 3.5, 1.2, 2.5},
    [LADE_STORAGE_SSD] = {"ssd", 0.5, 0.3, 0.4},
    [LADE_STORAGE_HDD] = {"hdd", 0.15, 0.04, 0.04},
    [LADE_STORAGE_RAID0] = {"raid0", 7.0, 1.2, 5.0},
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
        .ram = ram,
        .storage = storage,
        .ram_reserve = 2500000000, /* the system and other programs */
        /* Cards of the middle class, two channels of DDR5 and eight cores. */
        .gpu_gflops = 40000,
        .ram_gbps = 50,
        .base_gbps = 42,
        .experts_gbps = 38,
        .load_gbps = 6,
        .pack_gbps = 10,
        .base_gflops = 900,
        .experts_gflops = 600,
        .disk_gbps = storages[storage].sequential,
        .disk_one_gbps = storages[storage].one,
        .disk_random_gbps = storages[storage].eight,
    };
    if (vram)
        lade_plan_machine_add(out, vram);
}

void lade_plan_machine_add(struct lade_plan_machine *out, uint64_t vram)
{
    out->gpu[out->n_gpus] = (struct lade_plan_gpu){
        .gpu = out->n_gpus,
        .first = -1,
        .bytes = vram,
        .reserve = 1000000000, /* the driver's context and the libraries' work space */
        .gbps = 600,
        .link_gbps = 20, /* PCIe 4.0 */
    };
    out->n_gpus++;
}

uint64_t lade_plan_machine_vram(const struct lade_plan_machine *m)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->n_gpus; i++)
        sum += m->gpu[i].bytes;
    return sum;
}
