/* here.c - the plan for the machine this runs on. */
#include "engine/plan/machine.h"
#include "engine/plan/plan.h"

/* Of what is free, this much is left to other programs, which grow. */
static const uint64_t LEAVE = 1u << 30, LEAVE_PART = 16;

static void describe(struct lade_plan_machine *out, const struct lade_plan_caps *caps)
{
    struct lade_memory memory;
    lade_machine_memory(&memory);
    lade_plan_machine_typical(out, 0, memory.available, LADE_STORAGE_NVME);
    out->ram_reserve =
        memory.available / LEAVE_PART < LEAVE ? memory.available / LEAVE_PART : LEAVE;
    if (caps->ram && caps->ram < out->ram - out->ram_reserve) {
        out->ram = caps->ram;
        out->ram_reserve = 0;
    }
}

int lade_plan_here(struct lade_plan *out, const struct lade_catalog *cat,
                   const struct lade_plan_caps *caps, char *err)
{
    struct lade_plan_model model;
    struct lade_plan_machine machine;
    lade_plan_model_of(&model, cat, caps->batch, caps->exact);
    describe(&machine, caps);
    if (lade_plan(out, &model, &machine, caps->strategy, caps->context, err))
        return -1;
    if (out->chosen < 0)
        return lade_fail(err,
                         "%s: no strategy fits this machine: %s; close other programs, lower "
                         "--context, or use a smaller model",
                         cat->path, out->rows[out->n - 1].reason);
    return 0;
}
