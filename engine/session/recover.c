/* recover.c - a GPU is lost: the engine's thread tells so and goes on without it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/session/worker.h"

/* One line: what happened, and what lade does now. */
static char *say(const struct lade_options *opt, const char *was, const struct lade_plan *plan,
                 const char *why)
{
    const char *now = lade_strategy_name(plan->rows[plan->chosen].strategy);
    const bool named = was && opt->strategy && !strcmp(opt->strategy, was);
    char *text;
    int n;
    if (was && strcmp(was, now) != 0)
        n = asprintf(&text, "%s. Until then lade goes on with %s instead of %s%s.", why, now, was,
                     named ? ", which was asked for" : "");
    else
        n = asprintf(&text, "%s. Until then lade goes on with %s%s.", why, now,
                     was ? " on what is left" : "");
    return n < 0 ? NULL : text;
}

void lade_worker_told(struct lade_engine *e, const char *was, const struct lade_plan *plan,
                      const char *why)
{
    struct lade_event ev = {.kind = LADE_EV_GPU_LOST, .text = say(&e->opt, was, plan, why)};
    lade_worker_changed(e, plan, &ev);
}

int lade_worker_recover(struct lade_engine *e, char *err)
{
    struct lade_model *m = e->model;
    struct lade_plan *plan = calloc(1, sizeof *plan); /* made by the first turn: a GPU is lost */
    struct lade_event ev = {.kind = LADE_EV_GPU_LOST};
    char why[LADE_ERR] = "";
    int rc = plan ? 1 : lade_fail(err, "%s: out of memory; close other programs", m->cat->path);
    while (rc > 0) {
        char was[64];
        snprintf(was, sizeof was, "%s", lade_model_strategy(m));
        if (lade_model_lost(m) && lade_model_lose(m, e->session, &e->opt, plan, why, err)) {
            rc = -1;
            break;
        }
        lade_worker_told(e, was, plan, why);
        rc = lade_model_regain(m, e->session, &e->opt, plan, why, err);
    }
    free(plan);
    if (rc)
        lade_worker_broken(e, err);
    else
        lade_worker_changed(e, &m->plan, &ev);
    return rc;
}
