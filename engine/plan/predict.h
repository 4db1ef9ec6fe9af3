/* predict.h - what a placed row will be like: times and speeds. */
#ifndef LADE_PLAN_PREDICT_H
#define LADE_PLAN_PREDICT_H

#include "engine/plan/plan.h"

/* Fills read, load_s, first_s, ttft_s, prefill_tps and decode_tps of a row whose placement and
 * shares are set. Pure. */
void lade_plan_predict(struct lade_plan_row *row, const struct lade_plan_model *m,
                       const struct lade_plan_machine *pc);

#endif
