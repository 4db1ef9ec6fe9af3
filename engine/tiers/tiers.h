/* tiers.h - who holds the weights, and where they are now.
 *
 * The tiers own all weight memory. Every piece has a home, which the plan gave it, and a place,
 * where it is at the moment. The base (embedding, head, everything of a layer but its routed
 * experts) must be home before the first token. Experts need not: the forward pass asks for those
 * a layer needs and gets them in *waves*, first those at hand, then the others as they arrive, from
 * wherever they lie. So the first load, a cache that is too small and a strategy that changes are
 * one thing: experts that are not at hand.
 *
 * Bytes are moved by a few threads of the tiers, the movers, which serve what the forward pass
 * waits for before the load, and the load before what may be needed later (look.c).
 *
 * One thread (the engine's) uses the tiers; functions marked [any thread] may be called by others. */
#ifndef LADE_TIERS_TIERS_H
#define LADE_TIERS_TIERS_H

#include <stdatomic.h>
#include <stddef.h>

#include "engine/checkpoint/catalog.h"
#include "engine/engine.h"
#include "engine/model/devices.h"
#include "engine/plan/plan.h"
#include "engine/tiers/io.h"

struct lade_tiers;

struct lade_tiers_config {
    const struct lade_catalog *cat; /* borrowed; must outlive the tiers */
    struct lade_placement
        place;             /* what to hold where; its context, batch and buffers are others' */
    const char *cache_dir; /* where habits (engine/plan/habits.h) and speeds of loads
                              (engine/plan/loads.h) are kept; NULL: nowhere */
    double began; /* lade_now() when the opening of the model began: loads are timed from then */
    const struct lade_io_ops *io;       /* NULL: the best this system has */
    const struct lade_devices *devices; /* of the placement; copied, they stay open until close */
    bool lookahead;                     /* read experts ahead where that pays */
};

/* Reserves memory and opens the shards. Reads nothing yet. */
int lade_tiers_open(struct lade_tiers **out, const struct lade_tiers_config *config, char *err);
/* Stops the movers and frees everything; NULL is allowed. */
void lade_tiers_close(struct lade_tiers *t);

/* Bytes that the load will bring home: the base, and as many experts as have room. */
uint64_t lade_tiers_to_load(const struct lade_tiers *t);
/* Of these, the bytes of one shard. */
uint64_t lade_tiers_shard_to_load(const struct lade_tiers *t, int shard);

/* Starts the movers and the load, which ends early when `cancel` (may be NULL) becomes true or a
 * read fails; what is not home then is still read on demand. `progress` may be NULL. */
int lade_tiers_load(struct lade_tiers *t, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err);

/* Waits until the base is home, or with `all` until the load has ended. Fails with its error. */
int lade_tiers_wait(struct lade_tiers *t, bool all, char *err);

/* ---- other homes, between forward passes, once the base is home ---- */

/* Changes how many bytes of experts RAM and each card hold (vram_experts[i]: the placement's card i).
 * The hottest stay; what gets room is loaded in the background. Fails where there is no memory for
 * more: then they have as much as before. */
int lade_tiers_resize(struct lade_tiers *t, uint64_t ram_experts, const uint64_t *vram_experts,
                      char *err);
/* Bytes of RAM with which as many experts have a home as in `plan`, the placement of the open or the
 * last move, when its cards have only vram_experts for them. */
uint64_t lade_tiers_ram_for(const struct lade_tiers *t, const struct lade_placement *plan,
                            const uint64_t *vram_experts);

/* Moves to another placement, to or from GPUs or between two uses of the same, in two steps. The
 * devices of `to` are borrowed from the first step on; those that were in use are, until the second
 * step has returned. Between the steps the base is in its new home (see
 * lade_tiers_base), there is room for what else moves, and no forward pass may run.
 *
 * What experts are in memory stay there as far as the new placement has room; the rest is loaded
 * in the background. Where the first step fails everything is as it was, but that fewer experts may
 * be in memory. The second fails where there is no memory for all that `to` says, and what there is
 * will do until both steps are taken back to the placement that was. */
int lade_tiers_move_base(struct lade_tiers *t, const struct lade_placement *to,
                         const struct lade_devices *devices, char *err);
int lade_tiers_move_experts(struct lade_tiers *t, const struct lade_placement *to, char *err);

/* Ends the load that goes on, which reports nothing afterwards. A change or a loss must follow, which begins
 * another one. From the thread that changes. */
void lade_tiers_halt(struct lade_tiers *t);

/* After a GPU was lost, in whatever state that left the tiers, and with no forward pass: what the cards
 * held, VRAM and pinned RAM, is dropped, of the other cards, too, and everything has its home in `to`, a
 * placement without cards. The devices may be closed afterwards, and then _resume begins to read what is
 * not in RAM from the files again, in the background, the base first (see lade_tiers_wait). */
int lade_tiers_lose(struct lade_tiers *t, const struct lade_placement *to, char *err);
int lade_tiers_resume(struct lade_tiers *t, char *err);

/* Counts changes of the addresses of experts in VRAM, which are valid while it stays the same. */
uint64_t lade_tiers_version(const struct lade_tiers *t);

/* The packed bytes of a piece of the base, on the device that the plan gave it; valid until close
 * and to be read once the base is home. */
const void *lade_tiers_base(const struct lade_tiers *t, int piece);
/* The same of the embedding, where the head is: of a model whose head it is. */
const void *lade_tiers_tied_head(const struct lade_tiers *t);

/* ---- one forward pass ---- */

/* Experts that can be computed now. Valid until the next call of lade_tiers_wave or _done. */
struct lade_wave {
    bool on_gpu;  /* data are addresses of a GPU, whose compute queue has been told to wait for what
                     is still on its way there: */
    int card;     /* of this one of the devices, the layer's but for a prompt that another one helps
                     with; waves of one that helps come one after the other */
    bool stays;   /* they will be there in the next forward pass, too */
    bool nothing; /* nothing is at hand: n is 0, more waves follow */
    int n;
    const int *experts;      /* [n] of the layer */
    const void *const *data; /* [n] packed bytes of each piece */
};

/* Whether all experts are in VRAM beside the base, to stay. Then none need be asked for:
 * lade_tiers_settled_at() is where one lies, and lade_tiers_settled_visits() counts, for the statistics,
 * how many a layer has used. */
bool lade_tiers_settled(struct lade_tiers *t);
const void *lade_tiers_settled_at(struct lade_tiers *t, int layer, int expert);
void lade_tiers_settled_visits(struct lade_tiers *t, int visits);

enum { LADE_TIERS_DRAFTS = 7 }; /* of a pass at most */

/* `tokens` are about to be evaluated, layer by layer, the last `drafts` of them guesses: these count as none,
 * nor what they use as used. `cancel` may be NULL; when it becomes true lade_tiers_wave fails. */
void lade_tiers_begin(struct lade_tiers *t, int tokens, int drafts, const atomic_bool *cancel);
/* The next draft of the last pass turned out to be a token. */
void lade_tiers_accept(struct lade_tiers *t);
void lade_tiers_end(struct lade_tiers *t);

/* Asks for the experts that n routes of a layer name (repeats are allowed). */
void lade_tiers_ask(struct lade_tiers *t, int layer, const int32_t *ids, int n);

/* Whether guesses are welcome now, and a guess: n experts of a layer that will probably be asked
 * for, the likeliest first. They are read while nothing else is to be read (engine/tiers/look.c);
 * no result depends on it. */
enum { LADE_GUESSED = 32 }; /* more are never of use */
bool lade_tiers_looks(struct lade_tiers *t);
void lade_tiers_guess(struct lade_tiers *t, int layer, const int32_t *ids, int n);

/* The next wave: 1, or 0 when all experts asked for have been given, or -1 with err filled. Gives
 * up the wave before. The first wave is what was at hand, which may be nothing; later ones are
 * waited for. */
int lade_tiers_wave(struct lade_tiers *t, struct lade_wave *wave, char *err);

/* Gives up the last wave, and what was asked for and not taken. A GPU may still be at work on it:
 * its slots are used again only after that. */
void lade_tiers_done(struct lade_tiers *t);

/* ---- numbers [any thread] ---- */

struct lade_tiers_stats {
    struct lade_traffic traffic; /* `tokens` and the times are those of begin..end */
    struct lade_traffic token;   /* the last forward pass of one token */
    struct lade_residence in_ram, in_vram;
    uint64_t weights;          /* bytes of memory for weights, staging included */
    uint64_t ram_held;         /* of these, RAM in use by now */
    uint64_t ram_experts_held; /* of these, for experts that stay */
    bool loading;
};

void lade_tiers_stats(struct lade_tiers *t, struct lade_tiers_stats *out);

#endif
