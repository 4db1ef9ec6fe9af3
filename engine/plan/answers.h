/* answers.h - how fast answers were beside what was told.
 *
 * The speeds of a plan are bytes over what was measured in a second or two, perhaps beside other programs, or
 * over typical speeds where nothing was. What an answer then took says more: measured over told, by strategy,
 * by which later plans for this machine, these kernels and these types of weights are multiplied. Measuring
 * again begins anew, for what is told is another number then. */
#ifndef LADE_PLAN_ANSWERS_H
#define LADE_PLAN_ANSWERS_H

enum { LADE_ANSWERS = 16 }; /* strategies, by their place in the table */

struct lade_answers {
    double decode[LADE_ANSWERS], prefill[LADE_ANSWERS]; /* measured over told; 0 = none was seen */
};

struct lade_tokens_per_s {
    double decode, prefill; /* 0 = not measured */
    int prompt;             /* tokens that were read; not 0 where prefill is not */
};

/* Notes an answer that came at `measured` tokens/s, where speeds alone told `told`. Of several the later
 * ones count more. Numbers that make no sense are left out. */
void lade_answers_note(double *seen, double told, double measured);

/* What a prediction is multiplied by: 1 where no answer was seen. */
static inline double lade_answers_factor(double seen)
{
    return seen > 0 ? seen : 1;
}

#endif
