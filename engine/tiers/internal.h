/* internal.h - inside engine/tiers: the state that its files share.
 *
 * tiers.c opens and closes; change.c gives everything other homes; ask.c serves the forward pass;
 * load.c decides what is read first; look.c what is read ahead; movers.c brings it; vram.c is what
 * GPUs add. Below them, each knowing nothing of the others: cache.h (who is in which slot), store.h
 * (where slots are), governor.h (whether reading ahead pays), haul.h (one job's reads), io.h. */
#ifndef LADE_TIERS_INTERNAL_H
#define LADE_TIERS_INTERNAL_H

#include <pthread.h>

#include "engine/clock.h"
#include "engine/tiers/cache.h"
#include "engine/tiers/governor.h"
#include "engine/tiers/haul.h"
#include "engine/tiers/heat.h"
#include "engine/tiers/kinds.h"
#include "engine/tiers/store.h"
#include "engine/tiers/tiers.h"

enum {
    LADE_MOVERS = 12,        /* threads, at most */
    LADE_JOBS = 12,          /* a mover has on its way */
    LADE_GROUP = 32,         /* experts of one load job, at most */
    LADE_HABITS_EVERY = 512, /* tokens after which habits are written again */
};

/* ---- jobs and movers (movers.c) ---- */

enum lade_job_kind {
    LADE_JOB_NONE,
    LADE_JOB_DEMAND,
    LADE_JOB_BASE,
    LADE_JOB_EXPERTS,
    LADE_JOB_LOOK
};

struct lade_job {
    enum lade_job_kind kind;
    struct lade_haul haul;
    int base; /* BASE: index into load.base */
    /* LOOK, and DEMAND of what has landed: which landing; DEMAND of others: -1 */
    int landing;
    /* DEMAND, EXPERTS: their slots in RAM and, if they go there, in VRAM, else -1. All FILLING. */
    int experts[LADE_GROUP], slots[LADE_GROUP], vslots[LADE_GROUP], n;
    size_t stage_at; /* where its part of the stage lies; bytes: haul.stage_bytes */
    bool flying;     /* reads have been started */
};

struct lade_mover {
    struct lade_tiers *tiers;
    pthread_t thread;
    struct lade_io *io;
    struct lade_job jobs[LADE_JOBS];
    struct lade_job *parked; /* waits for room in the stage */
    int flying;              /* jobs whose reads are on their way */
    unsigned char *stage;    /* aligned to LADE_DIRECT; what reads need beside their places */
    size_t stage_bytes;
};

int lade_movers_start(struct lade_tiers *t, char *err);
void lade_movers_stop(struct lade_tiers *t);

/* ---- the load (load.c) ---- */

/* Consecutive items of the base. */
struct lade_base_job {
    int first, n;
};

enum lade_home { LADE_HOME_RAM = 1, LADE_HOME_VRAM = 2 };

struct lade_load {
    struct lade_item *items; /* of the base, in file order; owned, as all lists here */
    int n_items, cap_items;
    struct lade_base_job *base;
    int n_base;
    int next_base, base_left; /* jobs to be started; jobs not done */
    int *piece_left;          /* [n_pieces] items of the base that are not packed */
    int *order;               /* experts, in the order to be read */
    int n_order, next_expert;
    uint8_t *homes;   /* [n_experts] enum lade_home bits: where the load shall bring it */
    uint8_t *planned; /* [n_experts] counts for the progress and is not home yet */
    int n_planned;    /* how many are; a layer that asks first may be bringing the last of them */
    int flying;       /* load jobs on their way */
    uint64_t *shard_done, *shard_bytes; /* [n_shards] */
    uint64_t done, bytes;
    const atomic_bool *cancel; /* may be NULL */
    bool ended;                /* nothing more will be started, nothing is on its way */
    bool told;                 /* that it has ended: no report comes after that one */
    double seconds;            /* then: since tiers.began */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

int lade_load_open(struct lade_tiers *t, char *err);
void lade_load_close(struct lade_tiers *t);

/* Under the lock: gives the next load job to `job`, with its slots taken; false where there is
 * none now. */
bool lade_load_pick(struct lade_tiers *t, struct lade_job *job);
/* Under the lock: expert e is home or never will be; a job of the base is done. */
void lade_load_count_expert(struct lade_tiers *t, int e);
/* Under the lock: what was to bring expert e on demand has failed; the load tries again. */
void lade_load_missed(struct lade_tiers *t, int e);
void lade_load_count_base(struct lade_tiers *t, int base);
/* Under the lock: notices that the load has ended, or shall. */
void lade_load_check_end(struct lade_tiers *t);
void lade_load_check_cancel(struct lade_tiers *t);
/* Without the lock: tells the progress. */
void lade_load_report(struct lade_tiers *t);

/* ---- what a layer asked for (ask.c) ---- */

struct lade_want {
    int expert;  /* number among all */
    int slot;    /* in RAM, held with one pin, or -1: not yet, or no more */
    int vslot;   /* the same in VRAM, */
    int card;    /* of this card: the layer's, or one that helps */
    bool begun;  /* the slot has its bytes, or a mover is bringing them, */
    bool ours;   /* for this want, not for who asked before it, the load or a guess */
    bool carry;  /* to VRAM, though the CPU computes others */
    uint64_t at; /* where it is or lies in the files, for the order */
};

struct lade_rank { /* of a list in order of scores */
    double score;
    int at; /* what the list is of */
};

struct lade_ask {
    struct lade_want *wants; /* [shape.experts], owned, as the arrays below */
    int n, next;             /* next: first that was in no wave yet */
    struct lade_vram *vram;  /* the layer's card; NULL: none */
    int wave_first;          /* the last wave: [wave_first, next) */
    bool wave_on_gpu;
    bool begun;                     /* there was a wave */
    int next_demand;                /* first that no mover has looked at */
    int *ids;                       /* [shape.experts] of the wave */
    const void **data;              /* [shape.experts] of the wave */
    uint16_t *uses;                 /* [shape.experts] zero between asks */
    struct lade_rank *rank;         /* [2][shape.experts] for keep.c */
    struct lade_carry_expert *rest; /* [shape.experts] of a prompt: what is not in VRAM; owned */
    int tokens;                     /* of this forward pass; 0 outside */
    int drafts, accepted;           /* of these, and of those: see lade_tiers_begin */
    int32_t *drafted; /* [layers][LADE_TIERS_DRAFTS][experts_used] their routes; owned */
    const atomic_bool *cancel;
    double began, wait_s; /* of this forward pass */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

int lade_ask_open(struct lade_tiers *t, char *err);
void lade_ask_close(struct lade_tiers *t);

/* Under the lock: of a prompt, gives the hottest of the layer's wants that are to be read the places of
 * colder experts that the prompt does not use. Others have no slot yet. */
void lade_keep_hottest(struct lade_tiers *t, int layer);

/* Under the lock: gives the next expert that a layer waits for to `job`, with its slot taken. */
bool lade_ask_pick(struct lade_tiers *t, struct lade_job *job);
/* Under the lock: whether a layer has asked for something that is not here yet. */
bool lade_ask_waits(const struct lade_tiers *t);
/* Under the lock: expert e could not be read; its slot is gone. Where the layer had only joined somebody
 * else's read, which may be of other bytes or long ago, it reads for itself; its own error is the
 * layer's. */
void lade_ask_failed(struct lade_tiers *t, int e, const char *err);
/* Under the lock: slots of VRAM that the last wave had are other experts' or free now. */
void lade_ask_lost(struct lade_tiers *t);

/* ---- what the next layer may ask for (look.c) ---- */

/* A place of its own for one expert that was read ahead. */
struct lade_landing {
    int expert;   /* or -1 */
    int slot;     /* of RAM, FILLING, that its bytes shall go to: a layer has asked; else -1 */
    bool here;    /* all bytes are */
    bool fresh;   /* another kind was there: its padding must go before the read */
    uint8_t kind; /* whose padding it has; 255 = none */
    uint64_t age; /* a larger one came later; 0 = empty */
};

struct lade_look {
    struct lade_landing *landings; /* [n], owned, as the next two */
    int *queue;                    /* [n] experts to be read, the likeliest first */
    unsigned char *memory;         /* of the landings */
    size_t bytes;                  /* of the memory */
    int n, n_queue, next;          /* next: in the queue */
    uint64_t ages, layers;         /* given so far; guessed so far */
    bool active; /* one token is being evaluated, no load goes on, not all experts are in memory */
    bool flying; /* a job is on its way: never more than one, so that little is in demand's way */
    struct lade_governor governor;
};

/* `n` landings, of kinds.largest each; 0: nothing is read ahead. */
int lade_look_open(struct lade_tiers *t, int n, char *err);
void lade_look_close(struct lade_tiers *t);

/* Under the lock: a forward pass begins, or ends. */
void lade_look_begin(struct lade_tiers *t);
void lade_look_end(struct lade_tiers *t);

/* Under the lock: gives the next guess to `job`, with its landing taken. */
bool lade_look_pick(struct lade_tiers *t, struct lade_job *job);
/* Under the lock: `slot`, FILLING, waits for expert e. The landing that has it, or with *here false
 * will: then nothing need be done for the slot. -1: neither. */
int lade_look_claim(struct lade_tiers *t, int e, int slot, bool *here);
/* Under the lock: a job has ended. True where a slot waits for the expert: the job then is the
 * demand for it, and goes on. */
bool lade_look_landed(struct lade_tiers *t, struct lade_job *job, bool failed);
/* Under the lock: a landing is empty. */
void lade_look_taken(struct lade_tiers *t, int landing);

/* Without the lock, by the mover that has the job: where a landing is; takes out what another kind
 * left there; copies the expert to the slot that waits. */
unsigned char *lade_landing_place(const struct lade_tiers *t, int landing);
void lade_landing_prepare(struct lade_tiers *t, int landing);
void lade_landing_copy(struct lade_tiers *t, const struct lade_job *job);

/* ---- GPUs (vram.c) ---- */

/* A slot of RAM that a copy to the GPU reads: pinned until the fence is reached. */
struct lade_passing {
    int slot;
    lade_fence fence;
};

/* An expert that a wave carries to VRAM. */
struct lade_carried {
    int expert, slot, vslot; /* one pin of `slot` is the carrier's */
};

/* What one card has. */
struct lade_vram {
    struct lade_device_part part; /* ops, device, layers */
    struct lade_kinds kinds;      /* of the experts of these layers; numbered as all are */
    struct lade_store store;
    struct lade_cache cache; /* under the lock */
    lade_fence *used;        /* [cache.n_slots] when compute is done with the slot; the engine's */
    int wave_limit;          /* experts that one wave carries at most */
    struct lade_passing *passing; /* the engine's thread alone, as all below; owned */
    int n_passing, cap_passing;
    struct lade_carried *carried; /* [shape.experts] of a wave; owned */
};

/* Opens the cards of a placement, without any memory but the stage; the base is apart. Nothing where
 * the placement uses no GPU. */
int lade_vram_open(struct lade_tiers *t, const struct lade_placement *place,
                   const struct lade_devices *devices, char *err);
void lade_vram_close(struct lade_tiers *t);
/* Memory for the pieces of the base, and back. */
int lade_vram_open_base(struct lade_tiers *t, char *err);
void lade_vram_close_base(struct lade_tiers *t);
/* The card that has a piece of the base. */
struct lade_vram *lade_vram_of_piece(struct lade_tiers *t, int piece);

/* Slots of a card that experts pass through in a placement, and the bytes that are left for those
 * that stay. */
int lade_vram_stage(const struct lade_tiers *t, const struct lade_vram *v,
                    const struct lade_placement *place);
uint64_t lade_vram_budget(const struct lade_tiers *t, const struct lade_vram *v,
                          const struct lade_placement *place);
/* Another number of such slots; the memory for them is the store's. */
int lade_vram_size_stage(struct lade_tiers *t, struct lade_vram *v, int n_stage, char *err);

/* Any thread: an expert's packed bytes from a slot of RAM to one of VRAM; returns when they are
 * there. */
int lade_vram_put(struct lade_tiers *t, int expert, int slot, int vslot, char *err);
/* Any thread: a piece of the base from RAM to VRAM; _put gives its RAM back. */
int lade_vram_copy_base(struct lade_tiers *t, int piece, char *err);
int lade_vram_put_base(struct lade_tiers *t, int piece, char *err);

/* The engine's thread, without the lock: starts to carry the first n of `carried` and has compute
 * wait for them. */
int lade_vram_carry(struct lade_tiers *t, struct lade_vram *v, int n, char *err);
/* The engine's thread, without the lock: gives up what copies to a card have read; with `wait`, at
 * least one (if there is any). */
int lade_vram_reap(struct lade_tiers *t, struct lade_vram *v, bool wait, char *err);
/* A card that copies are on their way to; NULL: there is none. */
struct lade_vram *lade_vram_passing(struct lade_tiers *t);

/* ---- all of it ---- */

struct lade_tiers {
    const struct lade_catalog *cat;
    struct lade_placement place;
    const struct lade_io_ops *io;
    lade_load_fn *progress;
    void *user;
    struct lade_kinds kinds;
    struct lade_files files;

    unsigned char *base;         /* RAM of the base: its home, or where it passes through */
    size_t base_bytes, *base_at; /* [n_pieces] offset in it; experts: unused */
    bool base_is_home;           /* nothing of it need be loaded */
    bool lookahead;              /* allowed */
    struct lade_store store;     /* of RAM */
    struct lade_vram vram[LADE_CARDS];
    int n_vram;                /* 0: there is no GPU, or the placement does not use it */
    unsigned char **vram_base; /* [n_pieces] addresses, where the base has its home in VRAM */
    unsigned char *tied;       /* the embedding on the last card, where it is the head, too */
    char *cache_dir;           /* owned; NULL: nothing is kept */
    double began;              /* of the first load; 0 once it was noted, under report_lock */
    char *habits_path;         /* owned; NULL: habits are not kept */
    struct lade_heat habit;    /* habits.h; the engine's thread alone, as the next three */
    int habit_tokens;          /* asked for since it was written */
    uint64_t decoded;          /* tokens, but for prompts */
    uint64_t *asked_at;        /* [n_experts] decoded when a token last asked for it; 0: none did */

    struct lade_mover movers[LADE_MOVERS];
    int n_movers, most_movers; /* there are, and may be: as many as this machine has cores for */
    size_t stage_limit;        /* bytes of one mover's stage, but for larger tensors; the first */
    size_t gather_bytes;       /* of them are what reads to lent memory are gathered in */
    uint64_t version;          /* of the addresses in VRAM: counts changes of sizes */
    bool no_pinning;           /* RAM could not be pinned: the CPU's experts are not carried */

    pthread_mutex_t report_lock; /* one progress call at a time; taken before `lock` */
    uint64_t *reported;          /* [n_shards] guarded by report_lock */

    pthread_mutex_t lock;       /* guards everything below, and vram[].cache */
    pthread_cond_t work, ready; /* for movers: something to do; for others: something came */
    bool stop;
    struct lade_heat heat; /* for the caches */
    struct lade_cache ram;
    struct lade_load load;
    struct lade_ask ask;
    struct lade_look look;
    struct lade_traffic traffic, before, token; /* all; at the last begin; of the last token */
    uint8_t *stage_kind; /* [ram.n_stage] kind whose padding the slot has; 255 = none */
};

/* Where a slot of the stage had another kind before, zeroes it. Without the lock. */
void lade_slot_prepare(struct lade_tiers *t, int slot, int expert);

static inline int lade_expert_piece(const struct lade_tiers *t, int e)
{
    int experts = t->cat->shape.experts;
    return lade_catalog_expert(t->cat, e / experts, e % experts);
}

static inline size_t lade_expert_bytes(const struct lade_tiers *t, int e)
{
    return t->kinds.kind[t->kinds.of[e]].bytes;
}

/* The card of an expert's layer. There is one. */
static inline struct lade_vram *lade_vram_of(struct lade_tiers *t, int e)
{
    struct lade_vram *v = t->vram;
    while (e / t->cat->shape.experts >= v->part.end)
        v++;
    return v;
}

/* The slot of an expert in VRAM, or -1. Under the lock. */
static inline int lade_vslot(struct lade_tiers *t, int e)
{
    return t->n_vram ? lade_vram_of(t, e)->cache.slot_of[e] : -1;
}

/* Whether experts that are not in VRAM are carried there to be computed. */
static inline bool lade_streams(const struct lade_tiers *t)
{
    return t->n_vram && t->place.rest_by == LADE_BY_GPU;
}

/* Whether an expert may stay in RAM; one whose home is VRAM alone only passes through. */
static inline bool lade_may_stay(const struct lade_tiers *t, int e)
{
    return !t->load.homes[e] || t->load.homes[e] & LADE_HOME_RAM;
}

/* Whether the load reads experts that stay in RAM to their own slots, to be packed there. */
static inline bool lade_reads_to_slots(const struct lade_tiers *t)
{
    return t->gather_bytes && t->store.where == LADE_STORE_RAM && !t->cat->aligned;
}

/* Writes the habits, if there is anything new. */
void lade_tiers_keep_habits(struct lade_tiers *t);

/* Under the lock: waits for `ready`, but not for long, because a cancel does not signal it. */
void lade_wait_a_while(struct lade_tiers *t);

#endif
