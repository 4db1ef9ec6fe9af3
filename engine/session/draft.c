#include "engine/session/draft.h"

/* How fast things are forgotten: of guesses, tokens and passes, the weight of the newest; of what passes
 * cost, how far a single token brings it back to the usual, so that what was slow once is tried again some
 * day. */
static const double GUESS = 1.0 / 16, PLAIN = 1.0 / 8, PASS = 1.0 / 4, FORGET = 1.0 / 512;

/* What a draft adds to a pass, in single tokens: passes of up to 8 rows are lines (tests/bench/LEDGER.md), so
 * one number that each of them teaches tells all. The usual, before any was timed, and the most that is
 * believed: it never pays, and what takes longer waited for something else. */
static const double USUAL = 0.45, DEAREST = 2;

/* Single tokens before a pass is measured by them. */
enum { KNOWN = 4 };

/* What a pass must be better by than single tokens: the state is brought behind it afterwards, and what
 * the last few guesses were like is no more than likely of the next ones. */
static const double MARGIN = 1.1;

static int clamp(int sure)
{
    return sure < 0 ? 0 : sure > LADE_DRAFT_SURE ? LADE_DRAFT_SURE : sure;
}

void lade_draft_heard(struct lade_draft *d, int sure, bool right)
{
    const int i = clamp(sure);
    d->right[i] += (right ? 1 : 0) - GUESS * d->right[i];
    d->heard[i] += 1 - GUESS * d->heard[i];
}

void lade_draft_took(struct lade_draft *d, int drafts, double seconds)
{
    if (drafts == 0) {
        d->plains += d->plains < 1 / PLAIN;
        d->plain += (seconds - d->plain) / d->plains;
        d->far -= FORGET * d->far;
    } else if (d->plain > 0) {
        double adds = (seconds / d->plain - 1) / drafts;
        adds = adds < 0 ? 0 : adds > DEAREST ? DEAREST : adds;
        d->far += PASS * (adds - USUAL - d->far);
    }
}

int lade_draft_worth(const struct lade_draft *d, int sure, int most)
{
    double likely = 1, tokens = 1, best = MARGIN;
    int worth = 0;
    const int limit = d->most ? d->most : LADE_DRAFT_MOST;
    if (d->plains < KNOWN)
        return 0;
    for (int n = 1; n <= most && n <= limit; n++) {
        const int i = clamp(sure + n - 1);
        likely *= (d->right[i] + 1) / (d->heard[i] + 2);
        tokens += likely;
        const double gain = tokens / (1 + n * (USUAL + d->far));
        if (gain > best) {
            best = gain;
            worth = n;
        }
    }
    return worth;
}
