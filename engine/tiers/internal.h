/* internal.h - inside engine/tiers: the state that tiers.c, ask.c, load.c and movers.c share. */
#ifndef LADE_TIERS_INTERNAL_H
#define LADE_TIERS_INTERNAL_H

#include <pthread.h>

#include "engine/tiers/cache.h"
#include "engine/tiers/haul.h"
#include "engine/tiers/heat.h"
#include "engine/tiers/kinds.h"
#include "engine/tiers/tiers.h"

enum {
    LADE_MOVERS = 2, /* threads */
    LADE_JOBS = 12,  /* a mover has on its way */
    LADE_GROUP = 32, /* experts of one load job, at most */
};

/* ---- jobs and movers (movers.c) ---- */

enum lade_job_kind { LADE_JOB_NONE, LADE_JOB_DEMAND, LADE_JOB_BASE, LADE_JOB_EXPERTS };

struct lade_job {
    enum lade_job_kind kind;
    struct lade_haul haul;
    int experts[LADE_GROUP], slots[LADE_GROUP], n; /* DEMAND, EXPERTS: the slots are FILLING */
    int base;                                      /* BASE: index into load.base */
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

/* ---- the load (load.c) ---- */

/* Consecutive items of the base. */
struct lade_base_job {
    int first, n;
};

struct lade_load {
    struct lade_item *items; /* of the base, in file order; owned, as all lists here */
    int n_items, cap_items;
    struct lade_base_job *base;
    int n_base, cap_base;
    int next_base, base_left; /* to be started; not home yet */
    int *order;               /* experts, in the order to be read */
    int n_order, next_expert;
    uint8_t *planned; /* [n_experts] counts for the progress and is not home yet */
    int flying;       /* load jobs on their way */
    uint64_t *shard_done, *shard_bytes; /* [n_shards] */
    uint64_t done, bytes;
    const atomic_bool *cancel; /* may be NULL */
    bool ended;                /* nothing more will be started, nothing is on its way */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

int lade_load_open(struct lade_tiers *t, char *err);
void lade_load_close(struct lade_tiers *t);

/* Under the lock: gives the next load job to `job`, with its slots taken; false where there is
 * none now. */
bool lade_load_pick(struct lade_tiers *t, struct lade_job *job);
/* Under the lock: expert e is home or never will be, a part of the base is home. */
void lade_load_count_expert(struct lade_tiers *t, int e);
void lade_load_count_base(struct lade_tiers *t, int base);
/* Under the lock: notices that the load has ended, or shall. */
void lade_load_check_end(struct lade_tiers *t);
void lade_load_check_cancel(struct lade_tiers *t);
/* Without the lock: tells the progress. */
void lade_load_report(struct lade_tiers *t);

/* ---- what a layer asked for (ask.c) ---- */

struct lade_want {
    int expert;  /* number among all */
    int slot;    /* held with one pin, or -1: not yet, or no more */
    uint64_t at; /* where it lies in the files, for the order */
};

struct lade_ask {
    struct lade_want *wants; /* [shape.experts], owned, as the arrays below */
    int n, next;             /* next: first that was in no wave yet */
    int wave_first;          /* the last wave: [wave_first, next) */
    int next_demand;         /* first that no mover has looked at */
    int *ids;                /* [shape.experts] of the wave */
    const void **data;       /* [shape.experts] of the wave */
    uint16_t *uses;          /* [shape.experts] zero between asks */
    int tokens;              /* of this forward pass; 0 outside */
    const atomic_bool *cancel;
    double began, wait_s; /* of this forward pass */
    bool failed;
    char err[LADE_ERR]; /* if failed */
};

int lade_ask_open(struct lade_tiers *t, char *err);
void lade_ask_close(struct lade_tiers *t);

/* Under the lock: gives the next expert that a layer waits for to `job`, with its slot taken. */
bool lade_ask_pick(struct lade_tiers *t, struct lade_job *job);
/* Under the lock: expert e could not be read; its slot is gone. */
void lade_ask_failed(struct lade_tiers *t, int e, const char *err);

/* ---- all of it ---- */

struct lade_tiers {
    const struct lade_catalog *cat;
    struct lade_placement place;
    const struct lade_io_ops *io;
    lade_load_fn *progress;
    void *user;
    struct lade_kinds kinds;
    struct lade_files files;

    unsigned char *base;                  /* memory of the base */
    size_t base_bytes, *base_at;          /* [n_pieces] offset in it; experts: unused */
    unsigned char *arena[LADE_MAX_KINDS]; /* address space for every expert of a kind */
    unsigned char *stage_slots;

    struct lade_mover movers[LADE_MOVERS];
    int n_movers;
    size_t stage_limit; /* bytes of one mover's stage, but for larger tensors */

    pthread_mutex_t report_lock; /* one progress call at a time; taken before `lock` */
    uint64_t *reported;          /* [n_shards] guarded by report_lock, as the next */
    bool end_reported;

    pthread_mutex_t lock;       /* guards everything below */
    pthread_cond_t work, ready; /* for movers: something to do; for others: something came */
    bool stop;
    struct lade_heat heat;
    struct lade_cache ram;
    struct lade_load load;
    struct lade_ask ask;
    struct lade_traffic traffic, before, token; /* all; at the last begin; of the last token */
    uint8_t *stage_kind; /* [ram.n_stage] kind whose padding the slot has; 255 = none */
};

/* A slot of the RAM cache: where it is, and how far it is to the next. */
unsigned char *lade_slot_memory(const struct lade_tiers *t, int slot);
size_t lade_slot_stride(const struct lade_tiers *t, int slot);

/* Where a slot of the stage had another kind before, zeroes it. Without the lock. */
void lade_slot_prepare(struct lade_tiers *t, int slot, int expert);

static inline int lade_expert_piece(const struct lade_tiers *t, int e)
{
    int experts = t->cat->shape.experts;
    return lade_catalog_expert(t->cat, e / experts, e % experts);
}

int lade_movers_start(struct lade_tiers *t, char *err);
void lade_movers_stop(struct lade_tiers *t);

/* Under the lock: waits for `ready`, but not for long, because a cancel does not signal it. */
void lade_wait_a_while(struct lade_tiers *t);

double lade_tiers_now(void); /* seconds, monotonic */

#endif
