#include "engine/session/draft.h"

/* How fast things are forgotten: of guesses and passes, the weight of the newest; of what passes with
 * drafts cost, how far a single token brings it back to what is typical, so that one that was slow once is
 * tried again some day. */
static const double GUESS = 1.0 / 16, PASS = 1.0 / 8, FORGET = 1.0 / 512;

/* Single tokens before a pass is measured by them. */
enum { KNOWN = 4 };

/* What a pass must be better by than single tokens: the state is brought behind it afterwards, and what
 * the last few guesses were like is no more than likely of the next ones. */
static const double MARGIN = 1.1;

/* Of a pass in single tokens, where nothing is known. */
static double typical(int drafts)
{
    return 1 + 0.45 * drafts;
}

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
        d->plains += d->plains < 1 / PASS;
        d->plain += (seconds - d->plain) / d->plains;
        for (int i = 1; i <= LADE_DRAFT_MOST; i++)
            if (d->ratio[i] > 0)
                d->ratio[i] += FORGET * (typical(i) - d->ratio[i]);
    } else if (drafts <= LADE_DRAFT_MOST && d->plain > 0) {
        const double now = seconds / d->plain;
        d->ratio[drafts] += d->ratio[drafts] > 0 ? PASS * (now - d->ratio[drafts]) : now;
    }
}

int lade_draft_worth(const struct lade_draft *d, int sure, int most)
{
    double likely = 1, tokens = 1, best = MARGIN;
    int worth = 0;
    if (d->plains < KNOWN)
        return 0;
    for (int n = 1; n <= most && n <= LADE_DRAFT_MOST; n++) {
        const int i = clamp(sure + n - 1);
        likely *= (d->right[i] + 1) / (d->heard[i] + 2);
        tokens += likely;
        const double gain = tokens / (d->ratio[n] > 0 ? d->ratio[n] : typical(n));
        if (gain > best) {
            best = gain;
            worth = n;
        }
    }
    return worth;
}
