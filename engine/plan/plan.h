/* plan.h - where everything should live: a pure function of the checkpoint, the machine and the
 * caps.
 *
 * A strategy is a row of a table (strategies.h), not code: how much of the experts is in VRAM, how
 * much of the rest is in RAM, what happens to what is in neither. Thresholds come from the real
 * sizes of the checkpoint at hand. The plan decides once; the tiers obey (struct lade_placement).
 * Sizes are bytes, speeds GB/s (10^9 bytes). */
#ifndef LADE_PLAN_PLAN_H
#define LADE_PLAN_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/checkpoint/catalog.h"
#include "engine/plan/carry.h"
#include "engine/plan/probe.h"
#include "engine/plan/strategies.h"

/* ---- what goes in ---- */

enum { LADE_SERVED = 64 };

/* What the plan needs to know of a checkpoint. Bytes are those in memory, packed, but for `files`. Of
 * one layer: */
struct lade_plan_layer {
    uint64_t base, experts; /* weights */
    uint64_t state;         /* recurrent state */
    uint64_t kv_token;      /* KV cache of one token */
};

enum { LADE_LARGE = 3, LADE_CARDS_LARGE = 2048 /* tokens: the one for cards */ };

struct lade_plan_model {
    uint64_t base;          /* embedding, head, and all of the layers but routed experts */
    uint64_t base_read;     /* of these, read for every token (the embedding is not) */
    uint64_t experts;       /* all routed experts */
    uint64_t experts_read;  /* of these, asked for by every token */
    uint64_t largest;       /* the largest expert */
    uint64_t state;         /* recurrent state */
    uint64_t kv_token;      /* KV cache of one token */
    enum lade_type kv_type; /* what it holds */
    bool kv_on_cpu;         /* which only the CPU can compute with: lade_plan_caps.kv_q8 */
    uint64_t buffers;       /* activations of a prefill batch */
    uint64_t batch_work;    /* RAM that the CPU's kernels need for one token of it */
    uint64_t token_buffers; /* of one token: in VRAM even where the others are in RAM */
    uint64_t sketches;      /* beside a base in RAM: routers in 16 bits, read in place of 32 */
    uint64_t drafts;      /* beside a base in RAM: what passes over drafts leave (model/drafts.h) */
    uint64_t row;         /* what a layer's experts are given for a token, and what they give */
    uint64_t workspace;   /* VRAM that the GPU's kernels need */
    uint64_t process;     /* RAM of this program beside all that: tables, tokenizer, snapshots */
    uint64_t files;       /* bytes of the checkpoint that are read to load it */
    double base_flops;    /* multiplications and additions of one token of a prompt (sizes.c) */
    double experts_flops; /* of any token, in all layers */
    int layers, n_experts, max_context, batch;
    /* The same for large batches, the largest first, which read experts for more tokens at once. Without a
     * batch where nobody may choose; without work space where there is no card. */
    struct lade_plan_large {
        int batch;
        uint64_t buffers, workspace;
    } large[LADE_LARGE];
    uint64_t embed, head; /* of the base, what is in no layer; together with layer[] it is all */
    bool tied;            /* the head is the embedding */
    struct lade_plan_layer layer[LADE_MAX_LAYERS];
    /* What part of all visits the most used i / LADE_SERVED of the experts served in earlier runs
     * (habits.h); all 0 where too little is known. */
    double served[LADE_SERVED + 1];
    /* And what part of all visits a cache for i / LADE_SERVED of the experts that keeps the recently
     * used would have found (hits.h). */
    double kept[LADE_SERVED + 1];
};

enum lade_storage {
    LADE_STORAGE_NVME,
    LADE_STORAGE_SSD,
    LADE_STORAGE_HDD,
    LADE_STORAGE_RAID0,
    LADE_N_STORAGE
};

enum { LADE_CARDS = LADE_MACHINE_GPUS };

/* One GPU that may be used. */
struct lade_plan_gpu {
    int gpu;          /* its number, as the plug-in lists it */
    int first;        /* the first of its layers, where gpus_held */
    uint64_t bytes;   /* there are, or free, under its cap */
    uint64_t reserve; /* of these, left to the driver and other programs */
    double gbps;      /* weights of a token */
    double link_gbps; /* RAM to VRAM */
};

/* What the plan needs to know of a machine. */
struct lade_plan_machine {
    struct lade_plan_gpu gpu[LADE_CARDS];
    int n_gpus;
    bool gpus_held;       /* a model is on all of them already: its layers stay where they are */
    uint64_t ram;         /* bytes there are, or free, under the cap */
    uint64_t ram_reserve; /* of these, left to the system and other programs */
    enum lade_storage storage;
    double gpu_gflops;                      /* a GPU on a prefill batch */
    double ram_gbps;                        /* plain reads by all cores */
    double base_gbps, experts_gbps;         /* weights of a token through the CPU's kernels */
    double base_gflops, experts_gflops;     /* the CPU's kernels on a prefill batch */
    double disk_gbps;                       /* front to back */
    double disk_one_gbps, disk_random_gbps; /* experts at random: one, eight in flight */
    double load_gbps, pack_gbps; /* bytes of files into weights, the drive left aside: new memory,
                                    memory used before */
    struct lade_loads to_ram, to_vram; /* loads that were seen, of the base's home */
    struct lade_answers answers;       /* that were seen */
    bool measured;                     /* speeds are this machine's, not typical ones */
};

/* ---- what comes out ---- */

enum lade_tier { LADE_VRAM, LADE_RAM, LADE_DRIVE, LADE_N_TIERS };

/* What one GPU holds and computes: the layers from `first` up to the next card's. The first card also
 * has the embedding, the last one the final norm and the head; a tied embedding is on both. */
struct lade_card {
    int gpu;          /* its number, as the plug-in lists it */
    int first;        /* layer; 0 of the first card */
    uint64_t experts; /* bytes of experts of its layers in its VRAM */
    double link_byte; /* seconds that a byte takes from RAM; 0: not known */
};

/* What the tiers must do. Bytes are promises: a tier never holds more of the kind. A size that is
 * all of the model's experts means that nothing is ever evicted there. */
struct lade_placement {
    enum lade_tier base;    /* embedding, head and every layer's base, computed where it is;
                                    the recurrent state lies there too */
    enum lade_tier kv;      /* KV caches; attention is computed beside them */
    enum lade_tier buffers; /* activations of a prefill batch */
    struct lade_card card[LADE_CARDS]; /* that take part, in the order of their layers */
    int n_cards;                       /* 0: nothing is in VRAM */
    uint64_t ram_experts;              /* bytes of experts in RAM */
    bool vram_is_cache;           /* experts in VRAM come and go with use; else the hottest stay */
    bool ram_backs_vram;          /* RAM also keeps what VRAM holds, pinned for transfer */
    enum lade_experts_by rest_by; /* who computes an expert that is not in VRAM, */
    struct lade_carry carry;      /* where it is the CPU: what decides which ones of a prompt's are
                                     carried to the card all the same */
    uint64_t staging;             /* bytes of pinned transfer buffers in RAM, beside ram_experts */
    bool striped;                 /* experts lie on several drives */
    int context, batch;           /* tokens */
};

/* Bytes of experts in the VRAM of all cards. */
static inline uint64_t lade_vram_experts(const struct lade_placement *p)
{
    uint64_t sum = 0;
    for (int i = 0; i < p->n_cards; i++)
        sum = p->card[i].experts < UINT64_MAX - sum ? sum + p->card[i].experts : UINT64_MAX;
    return sum;
}

enum lade_plan_status { LADE_PLAN_CHOSEN, LADE_PLAN_POSSIBLE, LADE_PLAN_IMPOSSIBLE };

/* One row's verdict for one machine. Numbers of an impossible row are 0. */
struct lade_plan_row {
    const struct lade_strategy *strategy;
    enum lade_plan_status status;
    char reason[200];
    struct lade_placement place;
    uint64_t vram_bytes, ram_bytes, disk_bytes; /* all of it: weights, caches, buffers, program;
                                                   disk: experts that only the drive has */
    double experts_in_vram, experts_in_ram;     /* shares of all experts, 0..1 */
    double read[LADE_N_TIERS];                  /* bytes of weights a token reads from each tier */
    double load_s;                              /* until everything is home */
    double first_s; /* from a cold start to the first token of a 16-token prompt */
    double ttft_s;  /* first token of a 512-token prompt, once loaded */
    double prefill_tps, decode_tps;
};

enum { LADE_MAX_STRATEGIES = 16 };

struct lade_plan {
    struct lade_plan_row rows[LADE_MAX_STRATEGIES];
    int n, chosen;                    /* chosen: index, -1 where nothing works */
    struct lade_plan_machine machine; /* it was made for */
    struct lade_plan_model model;
};

/* What a person allows. Zero means no wish. */
struct lade_plan_caps {
    uint64_t ram;              /* bytes at most: a promise, kept at all times, as the next */
    uint64_t vram[LADE_CARDS]; /* of each GPU, by its number; see lade_vram_cap */
    uint64_t held;             /* RAM that this program holds already and another plan would use */
    struct lade_card held_cards[LADE_CARDS]; /* cards that it is on, where the plan then stays; */
    uint64_t held_vram[LADE_CARDS];          /* what it holds there */
    int n_held;
    bool cpu_only;            /* as if there were no GPU */
    bool without[LADE_CARDS]; /* as if there were not this GPU, by its number */
    const char *strategy;     /* NULL or "auto": the best that fits */
    int context, batch;       /* tokens */
    bool exact;               /* caches of 32 bits a value, others have 16 */
    bool kv_q8;               /* or 8 bits and a scale per 32 values: on the CPU alone */
    bool no_draft;            /* there are no passes over drafts */
    int threads;              /* 0 = physical cores */
    const char *isa;          /* NULL = the best */
    const char *plugin;       /* path of the GPU plug-in; NULL = no GPU */
    const char *cache_dir;    /* where measured speeds are kept; NULL = typical ones are used */
};

/* The cap of a GPU: 0 = all that is free. The numbers of a list stand for the GPUs in turn, the last one
 * of the list (before the first 0) for all that follow, so that a single one is each GPU's. */
static inline uint64_t lade_vram_cap(const uint64_t caps[LADE_CARDS], int gpu)
{
    int i = gpu < LADE_CARDS ? gpu : LADE_CARDS - 1;
    while (i > 0 && !caps[i])
        i--;
    return caps[i];
}

/* Sizes of an open catalog, for the batch, the exactness and the drafts of the caps and the GPU's kernels,
 * and what the caps' cache_dir knows of its routing. */
void lade_plan_model_of(struct lade_plan_model *out, const struct lade_catalog *cat,
                        const struct lade_plan_caps *caps);

/* The INT4-mixed Qwen3-Next-80B (43,243,415,040 bytes), for people who have not downloaded it. */
void lade_plan_model_80b(struct lade_plan_model *out);

/* Typical speeds for a machine that is only described. vram (of one GPU; 0 = none) and ram in bytes. */
void lade_plan_machine_typical(struct lade_plan_machine *out, uint64_t vram, uint64_t ram,
                               enum lade_storage storage);
/* One more GPU, a typical one; no more than LADE_CARDS. */
void lade_plan_machine_add(struct lade_plan_machine *out, uint64_t vram);
/* VRAM of all GPUs together. */
uint64_t lade_plan_machine_vram(const struct lade_plan_machine *m);

/* Plans. `strategy` NULL or "auto" chooses; a name forces that row. context 0 = what a long chat
 * needs (32,768 tokens or the model's limit). Fails for an unknown name and for a forced row that
 * is impossible; *out is filled all the same. No row possible is not a failure: chosen is then -1
 * and every reason says why. Pure; any thread. */
int lade_plan(struct lade_plan *out, const struct lade_plan_model *model,
              const struct lade_plan_machine *machine, const char *strategy, int context,
              char *err);

/* The plan of a model behind a server: that is the only way, and nothing is known of its sizes and speeds.
 * Pure. */
void lade_plan_remote(struct lade_plan *out);

const char *lade_strategy_name(const struct lade_strategy *s);
const char *lade_storage_name(enum lade_storage storage);

/* The storage of that name, or -1. */
int lade_storage_find(const char *name);

/* ---- this machine ---- */

/* What the probe found as the plan wants it: what is free now under the caps, measured speeds
 * where they are known and typical ones elsewhere. Pure. */
void lade_plan_machine_of(struct lade_plan_machine *out, const struct lade_machine *probe,
                          const struct lade_plan_caps *caps);

/* The plan for an open catalog on this machine. It measures nothing: speeds are those that
 * `lade doctor` or `lade plan` have left in cache_dir. Fails as lade_plan does, and where no row
 * fits. Any thread. */
int lade_plan_here(struct lade_plan *out, const struct lade_catalog *cat,
                   const struct lade_plan_caps *caps, char *err);

/* An answer came at these tokens/s (0 = not measured) with what lade_plan_here() has chosen for these
 * caps, everything being home: later plans tell as much. Models that are told to decode 1,000 tokens/s and
 * more say nothing of larger ones and are left out. Any thread. */
void lade_plan_note_answer(const struct lade_plan *plan, const struct lade_catalog *cat,
                           const struct lade_plan_caps *caps,
                           const struct lade_tokens_per_s *measured);

#endif
