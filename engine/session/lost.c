/* lost.c - a GPU is lost in the middle of it, or cannot be had: what becomes of the model then.
 *
 * Everything that cards held is dropped, the base is read into RAM again, and from there on it is a
 * change of strategy as any other, to a plan that does without the GPU. */
#include "engine/session/model.h"

bool lade_model_lost(const struct lade_model *m)
{
    return lade_devices_lost(&m->devices) >= 0;
}

void lade_model_do_without(struct lade_model *m, const struct lade_devices *d)
{
    for (int i = 0; d->gpu && i < d->n; i++)
        if (d->part[i].ops->lost(d->part[i].dev))
            m->without[d->part[i].gpu] = true;
}

/* A placement that asks for no more RAM than there is now: what comes from the cards takes the place of
 * experts. */
static struct lade_placement without_cards(const struct lade_model *m)
{
    const struct lade_plan_model *sizes = &m->sizes;
    struct lade_placement p = m->place;
    uint64_t more = 0;
    more += p.base == LADE_RAM ? 0 : sizes->base + sizes->state;
    more += p.kv == LADE_RAM ? 0 : sizes->kv_token * (uint64_t)m->context;
    more += p.buffers == LADE_RAM ? 0 : lade_forward_bytes(&m->cat->shape, m->batch);
    p.base = p.kv = p.buffers = LADE_RAM;
    p.ram_experts = lade_without(lade_smaller(m->ram_room, p.ram_experts), more);
    p.n_cards = 0;
    p.vram_is_cache = p.ram_backs_vram = false;
    p.rest_by = LADE_BY_CPU;
    return p;
}

/* The line of the GPU that is lost. */
static void why_lost(const struct lade_model *m, char *why)
{
    for (int i = 0; i < m->devices.n; i++) {
        const struct lade_device_part *p = &m->devices.part[i];
        if (p->ops->lost && p->ops->lost(p->dev))
            p->ops->sync(p->dev, why);
    }
}

int lade_model_lose(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                    struct lade_plan *plan, char *why, char *err)
{
    const struct lade_placement to = without_cards(m);
    why_lost(m, why);
    lade_model_do_without(m, &m->devices);
    if (s)
        lade_session_lose(s);
    lade_weights_free(&m->weights);
    int rc = lade_tiers_lose(m->tiers, &to, err);
    lade_devices_drop(&m->devices, m->cat);
    m->place = to;
    lade_model_moved(m);
    return rc || lade_model_plan_for(plan, m, opt, NULL, err) ? -1 : 0;
}

int lade_model_regain(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                      struct lade_plan *plan, char *why, char *err)
{
    if (!m->weights.layers &&
        (lade_tiers_resume(m->tiers, err) || lade_tiers_wait(m->tiers, false, err) ||
         lade_weights_bind(&m->weights, m->cat, m->tiers, err) ||
         (s && lade_session_renew(s, err))))
        return -1;
    const struct lade_placement *to = &plan->rows[plan->chosen].place;
    if (!lade_model_adopt(m, s, opt, plan, why))
        return 0;
    if (lade_model_lost(m))
        return 1;
    if (!to->n_cards)
        return lade_fail(err, "%s", why);
    for (int i = 0; i < to->n_cards; i++)
        if (m->refused < 0 || m->refused == to->card[i].gpu)
            m->without[to->card[i].gpu] = true;
    return lade_model_plan_for(plan, m, opt, NULL, err) ? -1 : 1;
}
