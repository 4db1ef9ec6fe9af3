#include "engine/plan/hits.h"

#include <math.h>
#include <stdbool.h>

enum { SINGLE = 16, OCTAVE = 6 };

/* The oldest age of the classes before i. */
static double oldest_before(int i)
{
    return i <= SINGLE ? i : SINGLE * exp2((double)(i - SINGLE) / OCTAVE);
}

int lade_hits_class(double age)
{
    int i = age <= SINGLE ? (int)age : SINGLE + (int)ceil(OCTAVE * log2(age / SINGLE));
    return i < 1 ? 0 : i > LADE_AGES ? LADE_AGES - 1 : i - 1;
}

/* The experts that the last so many tokens have asked for, and the part of visits older than that. */
struct window {
    double experts, older;
};

/* The window as it is longer by a class of ages. `left` visits are as old or older. */
static struct window grow(const struct window *w, int i, const struct lade_hits_ages *a,
                          double per_token, double left)
{
    double tokens = oldest_before(i + 1) - oldest_before(i);
    double known = left - a->first[i] * (tokens - 1) / (2 * tokens);
    double stay = known > a->again[i] ? 1 - a->again[i] / known : 0;
    double older = left > 0 ? w->older * stay : w->older;
    double mean = w->older + (older - w->older) * (tokens - 1) / (2 * tokens);
    return (struct window){w->experts + per_token * tokens * mean, older};
}

void lade_hits_curve(double *out, int points, const struct lade_hits_ages *a, double per_token,
                     double n_experts)
{
    struct window before = {0, 1}, w = {0, 1};
    double left = 0;
    int at = 0;
    for (int i = 0; i < LADE_AGES; i++)
        left += a->again[i] + a->first[i];
    bool known = left > 0 && per_token > 0;
    for (int i = 0; i <= points; i++) {
        double room = n_experts * i / points;
        while (known && w.experts < room && at < LADE_AGES && left > 0) {
            before = w;
            w = grow(&before, at, a, per_token, left);
            left -= a->again[at] + a->first[at];
            at++;
        }
        if (w.experts >= room) { /* between the two */
            double part = (room - before.experts) / fmax(w.experts - before.experts, 1e-9);
            out[i] = 1 - before.older - part * (w.older - before.older);
        } else { /* all that is known to come back, and some of the others */
            out[i] = 1 - w.older * (n_experts - room) / (n_experts - w.experts);
        }
        out[i] = known ? out[i] : 0;
    }
}
