/* split.h - which GPUs take part, and which layers each has. */
#ifndef LADE_PLAN_SPLIT_H
#define LADE_PLAN_SPLIT_H

#include "engine/plan/plan.h"

/* Chooses the cards of a placement whose base is in VRAM, with their layers: as few cards as hold
 * everything, those with most VRAM first, or all that are of use. Layers are shared out by the VRAM
 * that each card has for them, so that hybrids fill all cards alike; the choice does not depend on
 * what the placement does with experts. Cards that a model is on already stay as they are. */
void lade_plan_split(struct lade_placement *p, const struct lade_plan_model *m,
                     const struct lade_plan_machine *pc);

/* Bytes that card i of a placement holds beside experts, and bytes of all experts of its layers. */
double lade_plan_card_fixed(const struct lade_placement *p, const struct lade_plan_model *m, int i);
double lade_plan_card_experts(const struct lade_placement *p, const struct lade_plan_model *m,
                              int i);

/* All that card i holds: what it must reserve. */
uint64_t lade_plan_card_bytes(const struct lade_placement *p, const struct lade_plan_model *m,
                              int i);

/* The layers of card i. */
int lade_plan_card_end(const struct lade_placement *p, const struct lade_plan_model *m, int i);

/* The GPU of that number, which the machine has. */
const struct lade_plan_gpu *lade_plan_gpu_of(const struct lade_plan_machine *pc, int gpu);

#endif
