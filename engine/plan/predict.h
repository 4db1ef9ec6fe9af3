/* predict.h - what a placed row will be like: times and speeds. */
#ifndef LADE_PLAN_PREDICT_H
#define LADE_PLAN_PREDICT_H

#include "engine/plan/plan.h"

/* Fills read, load_s, first_s, ttft_s, prefill_tps and decode_tps of a row whose placement and
 * shares are set. Pure. */
void lade_plan_predict(struct lade_plan_row *row, const struct lade_plan_model *m,
                       const struct lade_plan_machine *pc);

/* Seconds that a prompt's batch of n tokens (1 and more) is computed, and that experts of it come from the drive
 * or over links, by speeds alone: without what earlier answers have told. Pure. */
struct lade_plan_batch {
    double compute, moved;
};
struct lade_plan_batch lade_plan_batch(const struct lade_plan_row *row,
                                       const struct lade_plan_model *m,
                                       const struct lade_plan_machine *pc, int n);

/* Seconds of reading a prompt of so many tokens (1 and more) with such a row, by the same, both at once. Pure. */
double lade_plan_prompt(const struct lade_plan_row *row, const struct lade_plan_model *m,
                        const struct lade_plan_machine *pc, int tokens);

#endif
