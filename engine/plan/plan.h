/* plan.h - where everything should live: a pure function of the checkpoint, the machine and the
 * caps.
 *
 * A strategy is a row of a table (strategies.c), not code: how much of the experts is in VRAM, how
 * much of the rest is in RAM, what happens to what is in neither. Thresholds come from the real
 * sizes of the checkpoint at hand. Sizes are bytes, speeds GB/s (10^9 bytes). */
#ifndef LADE_PLAN_PLAN_H
#define LADE_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/checkpoint/catalog.h"

/* What the plan needs to know of a checkpoint. */
struct lade_plan_model {
    uint64_t base;         /* embedding, head, and all of the layers but routed experts */
    uint64_t base_read;    /* of these, read for every token (the embedding is not) */
    uint64_t experts;      /* all routed experts */
    uint64_t experts_read; /* of these, read for every token */
    uint64_t state;        /* recurrent state */
    uint64_t kv_token;     /* KV cache of one token, 16 bit */
    uint64_t buffers;      /* activations of a prefill batch */
    double flops_token;    /* multiplications and additions of one token */
    int layers, max_context;
};

enum lade_storage { LADE_STORAGE_NVME, LADE_STORAGE_SSD, LADE_STORAGE_HDD, LADE_STORAGE_RAID0,
                    LADE_N_STORAGE };

/* What the plan needs to know of a machine; bytes that may be used, not what is built in. */
struct lade_plan_machine {
    uint64_t vram, ram;
    enum lade_storage storage;
    double vram_gbps, ram_gbps, link_gbps; /* link: RAM to VRAM */
    double disk_gbps, disk_random_gbps;    /* sequential; whole experts at random, deep queue */
    double cpu_gflops, gpu_gflops;
};

enum lade_plan_status { LADE_PLAN_CHOSEN, LADE_PLAN_POSSIBLE, LADE_PLAN_IMPOSSIBLE };

struct lade_strategy; /* a row of the table */

/* One row's verdict for one machine. */
struct lade_plan_row {
    const struct lade_strategy *strategy;
    enum lade_plan_status status;
    char reason[200];
    uint64_t vram_bytes, ram_bytes, disk_bytes; /* weights, caches and buffers in each tier */
    double experts_in_vram, experts_in_ram;     /* shares of all experts, 0..1 */
    double load_s;                /* until everything is home */
    double ttft_s;                /* first token of a 512-token prompt, once loaded */
    double prefill_tps, decode_tps;
};

enum { LADE_MAX_STRATEGIES = 16 };

struct lade_plan {
    struct lade_plan_row rows[LADE_MAX_STRATEGIES];
    int n, chosen; /* chosen: index, -1 where nothing works */
    int context;   /* tokens it was made for */
};

/* Sizes of an open catalog. */
void lade_plan_model_of(struct lade_plan_model *out, const struct lade_catalog *cat);

/* The INT4-mixed Qwen3-Next-80B (43,243,415,040 bytes), for people who have not downloaded it. */
void lade_plan_model_80b(struct lade_plan_model *out);

/* Typical speeds for a machine that is only described. vram and ram in bytes. */
void lade_plan_machine_typical(struct lade_plan_machine *out, uint64_t vram, uint64_t ram,
                               enum lade_storage storage);

/* Plans. `strategy` NULL or "auto" chooses; a name forces that row. context 0 = what a long chat
 * needs (32,768 tokens or the model's limit). Fails for an unknown name and for a forced row that
 * is impossible. No row possible is not a failure: chosen is then -1 and every reason says why. */
int lade_plan(struct lade_plan *out, const struct lade_plan_model *model,
              const struct lade_plan_machine *machine, const char *strategy, int context,
              char *err);

const char *lade_strategy_name(const struct lade_strategy *s);
const char *lade_strategy_summary(const struct lade_strategy *s);
const char *lade_storage_name(enum lade_storage storage);

/* The storage of that name, or -1. */
int lade_storage_find(const char *name);

#endif
