/* plan_common.h - what tests of the plan share. VRAM and RAM in GiB. */
#ifndef LADE_TESTS_PLAN_COMMON_H
#define LADE_TESTS_PLAN_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/plan/plan.h"

static char err[LADE_ERR];

/* What is chosen for a machine of typical speeds. */
static inline struct lade_plan plan_of(const struct lade_plan_model *m, double vram, double ram,
                                       enum lade_storage storage)
{
    struct lade_plan_machine pc;
    struct lade_plan plan;
    lade_plan_machine_typical(&pc, (uint64_t)(vram * 0x1p30), (uint64_t)(ram * 0x1p30), storage);
    assert_int_equal(lade_plan(&plan, m, &pc, NULL, 0, err), 0);
    return plan;
}

static inline const struct lade_plan_row *row_of(const struct lade_plan *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->rows[i].strategy->name, name))
            return &p->rows[i];
    fail_msg("there is no row %s", name);
    return NULL;
}

#endif
