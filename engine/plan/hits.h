/* hits.h - how often a cache of experts finds what a token asks for, from how a model routes.
 *
 * What counts is how many tokens ago an expert that is asked for was asked for last: its age. A cache
 * that keeps what was used lately holds all that the last T tokens asked for, with T as large as has
 * room, and so finds what is at most T tokens old. How many experts T tokens ask for follows from the
 * ages alone: each token adds those of its experts that are older than T (Denning and Schwartz,
 * "Properties of the working-set model", Communications of the ACM 15, 1972). So one count of ages
 * tells the hits of a cache of any size. An expert's first visit of a run tells only that its age is
 * more than the run's; such counts are weighed as survival times that are not known to the end are
 * (Kaplan and Meier, Journal of the American Statistical Association 53, 1958). */
#ifndef LADE_PLAN_HITS_H
#define LADE_PLAN_HITS_H

enum { LADE_AGES = 64 }; /* classes: of one token each up to 16, then six to an octave */

/* The class of an age, in tokens, 1 or more. */
int lade_hits_class(double age);

/* Visits by their age, decaying or not: `again` of known ages, `first` of which only a lower bound is
 * known. */
struct lade_hits_ages {
    const double *again, *first; /* [LADE_AGES] */
};

/* Fills out[points + 1] with the part of visits found by a cache of i / points of all n_experts, where
 * a token asks for per_token of them: 0 for none, about 1 for all. All 0 where the ages are. Pure. */
void lade_hits_curve(double *out, int points, const struct lade_hits_ages *ages, double per_token,
                     double n_experts);

#endif
