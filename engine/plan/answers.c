#include "engine/plan/answers.h"

#include <math.h>

/* No plan is that wrong: something else was measured. */
static const double MOST = 50;

void lade_answers_note(double *seen, double told, double measured)
{
    double now = measured / told;
    if (told > 0 && now >= 1 / MOST && now <= MOST)
        *seen = *seen > 0 ? sqrt(*seen * now) : now;
}
