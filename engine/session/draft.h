/* draft.h - whether evaluating guesses of the next tokens with a token pays, and how many of them.
 *
 * A pass over several tokens reads the base once, but more experts, and computes more: it takes as long as
 * one and a half to four single tokens, by machine and model, which only a clock can tell; so this is the one place of
 * a session that decides by time. Whether guesses are right is seen for nothing: there is one for most
 * tokens, evaluated or not, and the token that comes says whether it was. So text that repeats nothing
 * costs no pass, and drafts begin as soon as they would have been right. No text depends on it: what a
 * token is, its own logits say.
 *
 * Where guesses come from is not its business, only how sure they are, 0 to LADE_DRAFT_SURE. Pure. */
#ifndef LADE_SESSION_DRAFT_H
#define LADE_SESSION_DRAFT_H

#include <stdbool.h>

enum { LADE_DRAFT_MOST = 7, LADE_DRAFT_SURE = 15 };

struct lade_draft {
    double right[LADE_DRAFT_SURE + 1], heard[LADE_DRAFT_SURE + 1]; /* recent guesses that sure */
    double plain;                                                  /* seconds of a single token */
    int plains; /* of them that were timed, while they are few */
    double far; /* what a draft adds to a pass, in single tokens, less the usual; see draft.c */
    int most;   /* for tests: of a pass; 0 = LADE_DRAFT_MOST */
};

/* All zero it knows nothing. The same one serves many answers. */

/* A guess of the next token that was so sure turned out right, or wrong. */
void lade_draft_heard(struct lade_draft *d, int sure, bool right);

/* A pass over one token and so many drafts took that long. */
void lade_draft_took(struct lade_draft *d, int drafts, double seconds);

/* How many drafts a pass should have, at most `most`, when the first is so sure and each further one,
 * the one before being right, surer by 1. */
int lade_draft_worth(const struct lade_draft *d, int sure, int most);

#endif
