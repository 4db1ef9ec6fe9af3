/* strategies.h - the strategy table. */
#ifndef LADE_PLAN_STRATEGIES_H
#define LADE_PLAN_STRATEGIES_H

#include <stdbool.h>

/* What computes an expert that is not in VRAM. */
enum lade_experts_by { LADE_BY_GPU, LADE_BY_CPU };

struct lade_strategy {
    const char *name, *family, *summary;
    bool gpu;                  /* the base is in VRAM and computed there */
    double vram_min, vram_max; /* share of the experts in VRAM; max is exclusive unless 1 */
    bool ram_backs_vram; /* what VRAM holds is a copy: RAM is asked for all experts, not the rest */
    double ram_min;      /* of these, the share that RAM must hold; below 1 the drive serves */
    double ram_slack;    /* RAM wanted: this many times the weights and caches held there */
    bool kv_in_ram;      /* KV cache and computation buffers beside the CPU */
    enum lade_experts_by rest_by;
    bool striped; /* only where experts lie on several drives */
    bool remote;  /* nothing lives here: a server has the model */
};

/* Best first: the plan takes the first row that fits. The last one is not of this machine. */
extern const struct lade_strategy lade_strategies[];
extern const int lade_n_strategies;

/* Index of the row called `name`; -1 if there is none. */
int lade_strategy_find(const char *name);

#endif
