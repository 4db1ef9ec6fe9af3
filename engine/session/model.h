/* model.h - an open model: files, tokenizer, device, weights. See engine.h for the public calls. */
#ifndef LADE_SESSION_MODEL_H
#define LADE_SESSION_MODEL_H

#include "engine/engine.h"
#include "engine/model/pipeline.h"
#include "engine/model/weights.h"
#include "engine/plan/plan.h"
#include "engine/tiers/tiers.h"
#include "kernels/kernels.h"

/* Bytes: the smaller number, and what is left of one without the other, at least 0. */
static inline uint64_t lade_smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t lade_without(uint64_t all, uint64_t part)
{
    return all > part ? all - part : 0;
}

struct lade_model {
    struct lade_catalog *cat;
    struct lade_tokenizer *tok;
    enum lade_chat_family family;
    struct lade_devices devices;
    struct lade_tiers *tiers;
    struct lade_weights weights;
    int context, batch;
    enum lade_type cache_type;
    char device[128];
    struct lade_plan plan;          /* none (n = 0) where the options had a placement */
    struct lade_placement place;    /* the plan's */
    struct lade_plan_model sizes;   /* what a card's reserve is made of, and drafts */
    uint64_t ram_room;              /* what experts have of it now: less where others need memory */
    uint64_t vram_room[LADE_CARDS]; /* the same of each card */
    uint64_t expert_bytes;          /* all of them */
    uint64_t card_bytes[LADE_CARDS]; /* all of each card's layers */
    bool without[LADE_CARDS]; /* GPUs, by their numbers, that were lost or could not be opened */
    int refused;              /* of the last move: the GPU that could not be opened, or -1 */
    char notice[LADE_ERR];    /* why the first plan does without a GPU; "" = it does not */
};

/* The two halves of lade_model_open, so that the engine can tell the screen what is to be loaded
 * before it loads: headers first, then weights, and the tokenizer while they are read; the second
 * waits only for the base: experts arrive in the background. After a failure of either the model must be
 * closed. */
int lade_model_prepare(struct lade_model **out, const struct lade_options *opt, char *err);
int lade_model_load(struct lade_model *m, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err);

/* Plans again with `name` ("auto" or a row of the table) and moves everything to its new home, the
 * session's caches and state too (NULL: there is no session). The timeline stays, but for the
 * logits of its last token. After a failure the model is as it was. Nothing moves to a GPU where there was
 * none when the model was opened: its KV cache is of a form that only the CPU has. A GPU that cannot be
 * had is done without for "auto"; `why` ([LADE_ERR], "" where that is not so) then tells what it was. */
int lade_model_change(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                      const char *name, char *why, char *err);
/* The same with a placement instead of a plan: for tests, and inside. */
int lade_model_move(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                    const struct lade_placement *to, char *err);

/* The two halves of lade_model_change: the plan for this machine as it is now, with what the model holds,
 * and the move to what it has chosen. */
int lade_model_plan_for(struct lade_plan *plan, const struct lade_model *m,
                        const struct lade_options *opt, const char *name, char *err);
int lade_model_adopt(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                     const struct lade_plan *plan, char *err);
/* An answer of the model as it is came at these speeds, everything being home: later plans tell as much
 * (engine/plan/answers.h). */
void lade_model_note_answer(const struct lade_model *m, const struct lade_options *opt,
                            const struct lade_tokens_per_s *measured);
/* After its placement and its devices have become others: what follows from them. */
void lade_model_moved(struct lade_model *m);

/* ---- a GPU that is lost (lost.c) ---- */

/* Whether a GPU that the model is on is lost: then every call on the session fails. Any thread. */
bool lade_model_lost(const struct lade_model *m);
/* No later plan uses the GPUs of `d` that are lost. */
void lade_model_do_without(struct lade_model *m, const struct lade_devices *d);

/* Of a model that is lost, whatever it was doing: gives up what all cards held and closes them, and
 * plans for what remains. why[LADE_ERR]: the line of the GPU. Experts in RAM stay there. Until
 * lade_model_regain() has returned 0 nothing but this, that and closing may be called. After a
 * failure nothing but closing. */
int lade_model_lose(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                    struct lade_plan *plan, char *why, char *err);
/* Waits for the base, which is read from the files again, and moves to *plan. The session (NULL: there
 * is none) has no tokens then. Returns 1 where a card of the plan cannot be had either: `why` is its
 * line, and *plan another one, for which this is called again; or that card is lost, too. */
int lade_model_regain(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                      struct lade_plan *plan, char *why, char *err);

/* Gives experts that many bytes: on a card (vram[i]: on card i) at most what the placement says, in RAM
 * at most lade_model_ram_for(). */
int lade_model_resize(struct lade_model *m, uint64_t ram, const uint64_t *vram, char *err);
/* Bytes that the placement gives to experts on a card, or in RAM (card -1): at most those there are. */
uint64_t lade_model_planned(const struct lade_model *m, int card);
/* The same of RAM when the cards have only these bytes for them: what has to leave VRAM may live in
 * RAM, as far as ram_cap (0: there is none) allows. */
uint64_t lade_model_ram_for(const struct lade_model *m, const uint64_t *vram, uint64_t ram_cap);

/* Calls `between` between two layers of a batch, where experts may be given another room; of one token
 * alone it is not called. */
typedef void lade_between_fn(void *user);
void lade_session_between(struct lade_session *s, lade_between_fn *between, void *user);

/* Before the model's placement changes: the session gives up its buffers. Afterwards, when the base
 * is where the model's devices and placement say: it brings its caches and state there, too. Fails
 * with the caches where they were; both may then be called again for the placement that was. */
void lade_session_leave(struct lade_session *s);
int lade_session_arrive(struct lade_session *s, char *err);
/* The same around the loss of a GPU: the session gives up caches and state, too, and later has new ones
 * without any token. */
void lade_session_lose(struct lade_session *s);
int lade_session_renew(struct lade_session *s, char *err);

#endif
