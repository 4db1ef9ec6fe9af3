#include "tui/view/status.h"

#include <math.h>
#include <stdio.h>

void status_init(struct status *s)
{
    *s = (struct status){.tick = NAN};
    for (int i = 0; i < METER_COUNT; i++)
        meter_init(&s->meter[i], i);
    for (int i = 0; i < LADE_CARDS; i++) {
        meter_init(&s->card[i], METER_CARD);
        s->card[i].card = i;
    }
    s->nvml = lade_nvml_open(s->gpu_reason);
    s->sample.machine =
        (struct machine){MACHINE_UNKNOWN, MACHINE_UNKNOWN, MACHINE_UNKNOWN, MACHINE_UNKNOWN, NAN};
}

void status_close(struct status *s)
{
    lade_nvml_close(s->nvml);
    s->nvml = NULL;
}

void status_model(struct status *s, const struct lade_model_info *info)
{
    snprintf(s->model, sizeof s->model, "%s", info->name);
    snprintf(s->detail, sizeof s->detail, "%s%s%s", info->format, *info->quant ? " " : "",
             info->quant);
    s->remote = info->remote;
    snprintf(s->strategy, sizeof s->strategy, "%s%s%s", info->strategy, info->remote ? " " : "",
             info->remote ? info->device : "");
}

void status_prefill(struct status *s, int done, int total)
{
    s->prefill_done = done;
    s->prefill_total = total;
}

/* All GPUs as one: what a person wants to know is whether the model fits. A number that one of
 * them does not tell is unknown for all. */
static void sample_gpus(struct status *s)
{
    s->sample.have_gpu = false;
    for (int i = 0; i < lade_nvml_count(s->nvml); i++) {
        struct lade_nvml_gpu g, *all = &s->sample.gpu;
        if (lade_nvml_sample(s->nvml, i, &g) != 0)
            continue;
        if (!s->sample.have_gpu) {
            *all = g;
            s->sample.have_gpu = true;
            continue;
        }
        all->total += g.total;
        all->used += g.used;
        all->ours = all->ours == LADE_NVML_UNKNOWN || g.ours == LADE_NVML_UNKNOWN
                        ? LADE_NVML_UNKNOWN
                        : all->ours + g.ours;
        all->busy = g.busy > all->busy ? g.busy : all->busy;
    }
}

/* Traffic of the tokens decoded since the last sample. A sample after a prompt begins anew: its
 * sums are those of the prompt too. */
static void sample_traffic(struct status *s, enum lade_phase before)
{
    const struct lade_stats *e = &s->sample.engine;
    struct lade_traffic *r = &s->sample.recent, now = e->traffic, last = s->traffic;
    if (e->phase == LADE_PHASE_DECODE && before == e->phase && now.tokens == last.tokens)
        return; /* in the middle of a token, which may take many samples */
    s->traffic = now;
    if (e->phase == LADE_PHASE_IDLE && before != LADE_PHASE_DECODE && now.tokens > last.tokens &&
        e->token.tokens)
        *r = e->token; /* an answer that began and ended between two samples */
    if (e->phase != LADE_PHASE_DECODE || now.tokens < last.tokens)
        return;
    if (before != LADE_PHASE_DECODE) {
        if (e->token.tokens)
            *r = e->token;
        return;
    }
    *r = lade_traffic_between(&last, &now);
}

int status_cards(const struct status *s)
{
    return s->sample.have_engine && s->sample.engine.n_cards > 1 ? s->sample.engine.n_cards : 0;
}

bool status_has_shares(const struct status *s)
{
    const struct lade_traffic *t = &s->sample.recent;
    return (t->vram_hits > 0) + (t->ram_hits > 0) + (t->disk_reads > 0) > 1;
}

static bool running(const struct status *s)
{
    enum lade_phase p = s->sample.engine.phase;
    return s->sample.have_engine && (s->sample.engine.loading || p == LADE_PHASE_LOADING ||
                                     p == LADE_PHASE_PREFILL || p == LADE_PHASE_DECODE);
}

bool status_tick(struct status *s, const struct lade_stats *stats, double now)
{
    bool was = running(s);
    enum lade_phase phase = s->sample.engine.phase;
    s->sample.have_engine = stats != NULL;
    if (stats)
        s->sample.engine = *stats;
    /* A new phase shows at once. */
    bool changed = was != running(s) || phase != s->sample.engine.phase;
    double every = running(s) ? 0.25 : 1;
    if (!isnan(s->tick) && now - s->tick < every - 0.01 && !changed)
        return false;
    bool first = isnan(s->tick), steady = first || now - s->tick >= 0.2;
    s->tick = now;
    if (stats)
        sample_traffic(s, phase);
    if (steady) {
        machine_sample(&s->probe, &s->sample.machine);
        sample_gpus(s);
    }
    phase = s->sample.engine.phase;
    for (int i = 0; i < METER_COUNT; i++) {
        /* Speeds are remembered only while there is one, so that the line of the last answer
         * stays; a load's history is shown by the board. */
        bool remember =
            steady && (i == METER_SPEED  ? stats && phase == LADE_PHASE_DECODE
                       : i == METER_LOAD ? stats && (stats->loading || phase == LADE_PHASE_LOADING)
                                         : true);
        meter_update(&s->meter[i], &s->sample, remember);
    }
    for (int i = 0; i < LADE_CARDS; i++)
        meter_update(&s->card[i], &s->sample, steady);
    return true;
}

char *status_phase(const struct status *s, char out[UNITS_MAX])
{
    static const char *const names[] = {
        [LADE_PHASE_LOADING] = "loading",    [LADE_PHASE_IDLE] = "idle",
        [LADE_PHASE_PREFILL] = "prefill",    [LADE_PHASE_DECODE] = "generating",
        [LADE_PHASE_FAILED] = "load failed",
    };
    const struct lade_stats *e = &s->sample.engine;
    char a[UNITS_MAX], b[UNITS_MAX];
    if (!s->sample.have_engine || (unsigned)e->phase >= sizeof names / sizeof *names)
        snprintf(out, UNITS_MAX, "no model");
    else if ((e->phase == LADE_PHASE_LOADING || (e->phase == LADE_PHASE_IDLE && e->loading)) &&
             e->load_bytes > 0)
        snprintf(out, UNITS_MAX, "loading %.8s",
                 units_percent(a, (double)e->load_done / (double)e->load_bytes));
    else if (e->phase == LADE_PHASE_PREFILL && s->prefill_total > 9999)
        snprintf(out, UNITS_MAX, "prefill %.8s",
                 units_percent(a, (double)s->prefill_done / s->prefill_total));
    else if (e->phase == LADE_PHASE_PREFILL && s->prefill_total > 0)
        snprintf(out, UNITS_MAX, "prefill %.8s/%.8s", units_count(a, s->prefill_done),
                 units_count(b, s->prefill_total));
    else
        snprintf(out, UNITS_MAX, "%s", names[e->phase]);
    return out;
}

enum theme_role status_phase_role(const struct status *s)
{
    static const enum theme_role roles[] = {
        [LADE_PHASE_LOADING] = THEME_ACCENT,  [LADE_PHASE_IDLE] = THEME_STATUS_LABEL,
        [LADE_PHASE_PREFILL] = THEME_WARNING, [LADE_PHASE_DECODE] = THEME_OK,
        [LADE_PHASE_FAILED] = THEME_ERROR,
    };
    if (!s->sample.have_engine || (unsigned)s->sample.engine.phase >= sizeof roles / sizeof *roles)
        return THEME_STATUS_LABEL;
    if (s->sample.engine.phase == LADE_PHASE_IDLE && s->sample.engine.loading)
        return THEME_ACCENT;
    return roles[s->sample.engine.phase];
}
