#include "tui/view/stats.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* The text so far; what does not fit any more is left out as a whole line. */
struct text {
    char *out;
    size_t cap, n;
    int lines;
};

__attribute__((format(printf, 3, 4))) static void row(struct text *t, const char *label,
                                                      const char *fmt, ...)
{
    char value[256];
    va_list ap;
    va_start(ap, fmt);
    /* clang-tidy 14 overlooks va_start in all files but its first. */
    vsnprintf(value, sizeof value, fmt, ap); /* NOLINT(clang-analyzer-valist.Uninitialized) */
    va_end(ap);
    size_t left = t->cap - t->n;
    int n = snprintf(t->out + t->n, left, "%-14s %s\n", label, value);
    if (n < 0 || (size_t)n >= left) {
        t->out[t->n] = '\0';
        return;
    }
    t->n += (size_t)n;
    t->lines++;
}

static void gap(struct text *t)
{
    if (t->n && t->n + 1 < t->cap) {
        t->out[t->n++] = '\n';
        t->out[t->n] = '\0';
        t->lines++;
    }
}

static double positive(double v)
{
    return v > 0 ? v : NAN;
}

static void model(struct text *t, const struct lade_model_info *m)
{
    char bytes[UNITS_MAX], context[UNITS_MAX];
    if (!m) {
        row(t, "Model", "not known yet");
        return;
    }
    row(t, "Model", "%s", m->name);
    if (m->remote) {
        row(t, "Server", "%s at %s", m->format, m->device);
        row(t, "Strategy", "%s", m->strategy);
        return;
    }
    row(t, "Files", "%s%s%s, %d %s, %s", m->format, *m->quant ? " " : "", m->quant, m->n_shards,
        m->n_shards == 1 ? "shard" : "shards", units_file(bytes, (double)m->bytes));
    row(t, "Shape", "%d layers of %d, %d of %d experts per token, %s tokens at most", m->layers,
        m->hidden, m->experts_used, m->experts, units_count(context, m->max_context));
    if (*m->strategy)
        row(t, "Strategy", "%s", m->strategy);
    if (*m->device)
        row(t, "Device", "%s", m->device);
}

static void context(struct text *t, const struct lade_stats *e)
{
    if (e->context_size > 0)
        row(t, "Context", "%d of %d tokens", e->context_used, e->context_size);
}

static void engine(struct text *t, const struct lade_stats *e)
{
    char a[UNITS_MAX], b[UNITS_MAX];
    if (e->load_bytes && e->phase == LADE_PHASE_LOADING)
        row(t, "Load", "%s after %s", units_file_of(a, (double)e->load_done, (double)e->load_bytes),
            units_seconds(b, e->load_s));
    else if (e->load_bytes && e->load_s > 0)
        row(t, "Load", "%s, %s on average", units_seconds(a, e->load_s),
            units_rate(b, (double)e->load_bytes / e->load_s * 1e-9));
    context(t, e);
    row(t, "Weights", "%s", units_memory(a, positive((double)e->weights)));
    row(t, "Caches, state", "%s", units_memory(a, positive((double)e->kv)));
    row(t, "Process", "%s, at most %s", units_memory(a, positive((double)e->rss)),
        units_memory(b, positive((double)e->rss_peak)));
}

static void machine(struct text *t, const struct meter_sample *s)
{
    char a[UNITS_MAX], b[UNITS_MAX];
    const struct machine *m = &s->machine;
    bool known = m->ram_total != MACHINE_UNKNOWN;
    row(t, "RAM", "%s, %s available", units_memory(a, known ? (double)m->ram_total : NAN),
        units_memory(b, known ? (double)m->ram_available : NAN));
    for (int i = 0; s->have_engine && s->engine.n_cards > 1 && i < s->engine.n_cards; i++) {
        const struct lade_card_memory *c = &s->engine.cards[i];
        char label[UNITS_MAX];
        snprintf(label, sizeof label, "GPU %d", c->gpu);
        row(t, label, "%s, %s free; layers %d to %d", units_memory(a, (double)c->total),
            units_memory(b, (double)c->free), c->first + 1, c->first + c->layers);
    }
    if (s->have_engine && s->engine.n_cards > 1)
        return;
    if (!s->have_gpu) {
        row(t, "VRAM", "none");
        return;
    }
    double total = s->gpu.total == LADE_NVML_UNKNOWN ? NAN : (double)s->gpu.total;
    double used = s->gpu.used == LADE_NVML_UNKNOWN ? NAN : (double)s->gpu.used;
    row(t, "GPU", "%s", s->gpu.name);
    row(t, "VRAM", "%s, %s free", units_memory(a, total), units_memory(b, total - used));
}

static void answer(struct text *t, const struct lade_result *r)
{
    static const char *const stop[] = {
        [LADE_STOP_END] = "ended by the model",     [LADE_STOP_TEXT] = "ended at a stop text",
        [LADE_STOP_LENGTH] = "token limit reached", [LADE_STOP_CONTEXT] = "context full",
        [LADE_STOP_CANCELLED] = "stopped",          [LADE_STOP_ERROR] = "failed",
    };
    char a[UNITS_MAX], b[UNITS_MAX];
    if (!r) {
        row(t, "Last answer", "none yet");
        return;
    }
    row(t, "Last answer", "%d token%s, %s", r->tokens, units_s(r->tokens),
        (unsigned)r->stop < sizeof stop / sizeof *stop ? stop[r->stop] : UNITS_UNKNOWN);
    row(t, "Prompt", "%d token%s, %d of them reused", r->prompt_tokens, units_s(r->prompt_tokens),
        r->kept_tokens);
    row(t, "First token", "after %s", units_seconds(a, positive(r->ttft_s)));
    row(t, "Prefill", "%s tokens/s, %s", units_speed(a, positive(r->prefill_tps)),
        units_seconds(b, positive(r->prefill_s)));
    row(t, "Decode", "%s tokens/s, %s", units_speed(a, positive(r->decode_tps)),
        units_seconds(b, positive(r->decode_s)));
    if (r->drafted)
        row(t, "Drafts", "%d of %d guessed token%s right", r->accepted, r->drafted,
            r->drafted == 1 ? " was" : "s were");
}

/* Where the experts of all tokens so far were. */
static void traffic(struct text *t, const struct lade_traffic *f)
{
    char a[UNITS_MAX], b[UNITS_MAX], bytes[UNITS_MAX], vram[64] = "";
    double all = (double)f->vram_hits + (double)f->ram_hits + (double)f->disk_reads;
    if (!(all > 0))
        return;
    if (f->vram_hits)
        snprintf(vram, sizeof vram, "%s in VRAM, ", units_percent(a, (double)f->vram_hits / all));
    row(t, "Experts", "found %s%s in RAM, %s read from the drive", vram,
        units_percent(a, (double)f->ram_hits / all), units_percent(b, (double)f->disk_reads / all));
    if (f->ahead)
        row(t, "Read ahead", "%s, of which %s were right and %s wasted (%s); now %s",
            units_count(a, (double)f->ahead), units_count(b, (double)f->ahead_right),
            units_count(vram, (double)f->ahead_wasted),
            units_file(bytes, (double)f->ahead_wasted_bytes), f->ahead_on ? "on" : "off");
    row(t, "Time", "%s computing, %s waiting for experts", units_seconds(a, f->compute_s),
        units_seconds(b, f->wait_s));
}

static void predicted(struct text *t, const struct lade_plan_row *p)
{
    char a[UNITS_MAX], b[UNITS_MAX], c[UNITS_MAX];
    row(t, "Predicted", "load %s, prefill %s tokens/s, decode %s tokens/s",
        units_seconds(a, p->load_s), units_speed(b, p->prefill_tps), units_speed(c, p->decode_tps));
}

int stats_text(char *out, size_t cap, const struct lade_model_info *info,
               const struct meter_sample *sample, const struct lade_result *last,
               const struct lade_plan_row *planned)
{
    struct text t = {out, cap, 0, 0};
    if (cap == 0)
        return 0;
    *out = '\0';
    const bool here = !info || !info->remote;
    model(&t, info);
    if (!here && sample->have_engine)
        context(&t, &sample->engine);
    if (here) {
        gap(&t);
        if (sample->have_engine) {
            engine(&t, &sample->engine);
            traffic(&t, &sample->engine.traffic);
        }
        machine(&t, sample);
    }
    gap(&t);
    answer(&t, last);
    if (planned && here)
        predicted(&t, planned);
    return t.lines;
}
