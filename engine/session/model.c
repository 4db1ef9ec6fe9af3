#include "engine/clock.h"
#include "engine/session/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plan/split.h"

enum { MAX_BATCH = 8192 };

static int check_options(const struct lade_model *m, const struct lade_options *opt, char *err)
{
    if (opt->batch < 0 || opt->batch > MAX_BATCH)
        return lade_fail(err, "--batch %d: must be 1 to %d; use 512", opt->batch, MAX_BATCH);
    if (opt->context < 0 || opt->context > m->cat->shape.max_context)
        return lade_fail(err, "--context %d: the model allows 1 to %d tokens; use a shorter one",
                         opt->context, m->cat->shape.max_context);
    if (opt->exact && opt->kv_q8)
        return lade_fail(err, "--kv-q8: exact arithmetic keeps 32 bits of keys and values; add "
                              "--fast, or leave it out");
    return 0;
}

/* RAM that another plan would use and that this process has, besides what every plan needs. */
static uint64_t held_ram(const struct lade_model *m)
{
    struct lade_tiers_stats now;
    if (!m->tiers)
        return 0;
    lade_tiers_stats(m->tiers, &now);
    uint64_t state = lade_state_bytes(&m->cat->shape, m->context, m->cache_type);
    uint64_t recurrent = lade_state_recurrent_bytes(&m->cat->shape);
    uint64_t held = now.ram_held;
    held += m->place.kv == LADE_RAM ? state - recurrent : 0;
    held +=
        m->place.base == LADE_RAM ? recurrent + lade_forward_sketches(m->cat) + m->sizes.drafts : 0;
    held += m->place.buffers == LADE_RAM ? lade_forward_bytes(&m->cat->shape, m->batch) : 0;
    return held;
}

/* What a plan for a model may use. */
static struct lade_plan_caps caps_of(const struct lade_model *m, const struct lade_options *opt,
                                     const char *name)
{
    struct lade_card_memory cards[LADE_CARDS] = {0};
    struct lade_plan_caps caps = {
        .held = held_ram(m),
        .ram = opt->ram_cap,
        .cpu_only = opt->cpu_only,
        .strategy = name,
        .context = m->context ? m->context : opt->context,
        .batch = m->batch ? m->batch : opt->batch, /* buffers stay what they are */
        .exact = opt->exact,
        .kv_q8 = opt->kv_q8,
        .no_draft = opt->no_draft,
        .threads = opt->threads,
        .isa = opt->isa,
        .plugin = opt->plugin,
        .cache_dir = opt->cache_dir,
    };
    memcpy(caps.vram, opt->vram_cap, sizeof caps.vram);
    memcpy(caps.without, m->without, sizeof caps.without);
    caps.n_held = lade_model_cards(m, cards);
    for (int i = 0; i < caps.n_held; i++) {
        caps.held_cards[i] = m->place.card[i];
        caps.held_vram[i] = cards[i].used;
    }
    return caps;
}

int lade_model_plan_for(struct lade_plan *plan, const struct lade_model *m,
                        const struct lade_options *opt, const char *name, char *err)
{
    const struct lade_plan_caps caps = caps_of(m, opt, name);
    return lade_plan_here(plan, m->cat, &caps, err);
}

void lade_model_note_answer(const struct lade_model *m, const struct lade_options *opt,
                            const struct lade_tokens_per_s *measured)
{
    const struct lade_plan_caps caps = caps_of(m, opt, NULL);
    if (m->plan.n)
        lade_plan_note_answer(&m->plan, m->cat, &caps, measured);
}

uint64_t lade_model_planned(const struct lade_model *m, int card)
{
    const struct lade_placement *p = &m->place;
    return card < 0 ? lade_smaller(p->ram_experts, m->expert_bytes)
                    : lade_smaller(p->card[card].experts, m->card_bytes[card]);
}

/* Experts have all the room that the placement gives. */
static void take_rooms(struct lade_model *m)
{
    int experts = m->cat->shape.experts;
    m->ram_room = lade_model_planned(m, -1);
    for (int i = 0; i < m->place.n_cards; i++) {
        const struct lade_device_part *p = &m->devices.part[i];
        m->card_bytes[i] = 0;
        for (int e = p->first * experts; e < p->end * experts; e++)
            m->card_bytes[i] +=
                m->cat->pieces[lade_catalog_expert(m->cat, e / experts, e % experts)].bytes;
        m->vram_room[i] = lade_model_planned(m, i);
    }
}

/* All of what is planned is what the placement says, however it says so. */
static void as_placed(uint64_t out[LADE_CARDS], const struct lade_model *m, const uint64_t *vram)
{
    for (int i = 0; i < m->place.n_cards; i++)
        out[i] = vram[i] < lade_model_planned(m, i) ? vram[i] : m->place.card[i].experts;
}

uint64_t lade_model_ram_for(const struct lade_model *m, const uint64_t *vram, uint64_t ram_cap)
{
    const struct lade_plan_row *row = m->plan.n ? &m->plan.rows[m->plan.chosen] : NULL;
    uint64_t planned = lade_model_planned(m, -1), most = m->expert_bytes, bytes[LADE_CARDS];
    if (ram_cap) { /* beside experts everything stays as it is planned */
        uint64_t beside = row ? row->ram_bytes - row->place.ram_experts : ram_cap;
        most = lade_smaller(most, lade_without(ram_cap, beside));
    }
    as_placed(bytes, m, vram);
    uint64_t want = lade_smaller(lade_tiers_ram_for(m->tiers, &m->place, bytes), most);
    return want > planned ? want : planned;
}

/* What each card keeps for a placement: all that it will ever hold. */
static void reserves_of(uint64_t out[LADE_CARDS], const struct lade_model *m,
                        const struct lade_placement *p)
{
    for (int i = 0; i < p->n_cards; i++)
        out[i] = lade_plan_card_bytes(p, &m->sizes, i);
}

/* The same of the room that experts have now. */
static void reserves_now(uint64_t out[LADE_CARDS], const struct lade_model *m)
{
    struct lade_placement p = m->place;
    for (int i = 0; i < p.n_cards; i++)
        p.card[i].experts = m->vram_room[i];
    reserves_of(out, m, &p);
}

/* Before a change: cards keep what is there and what will be there. Fails where others have it. */
static int reserve_both(const struct lade_model *m, const uint64_t *now, const uint64_t *next,
                        char *err)
{
    uint64_t most[LADE_CARDS];
    for (int i = 0; i < m->place.n_cards; i++)
        most[i] = now[i] > next[i] ? now[i] : next[i];
    if (!lade_devices_reserve(&m->devices, most, err))
        return 0;
    lade_devices_reserve(&m->devices, now, NULL);
    return -1;
}

/* After a change cards keep what the placement says. It is not more than before: only a lost GPU
 * fails here, and says so at the next call. */
static void settle(const struct lade_model *m)
{
    uint64_t bytes[LADE_CARDS];
    reserves_now(bytes, m);
    lade_devices_reserve(&m->devices, bytes, NULL);
}

int lade_model_resize(struct lade_model *m, uint64_t ram, const uint64_t *vram, char *err)
{
    struct lade_placement p = m->place;
    uint64_t now[LADE_CARDS], next[LADE_CARDS], bytes[LADE_CARDS];
    as_placed(bytes, m, vram);
    for (int i = 0; i < p.n_cards; i++)
        p.card[i].experts = bytes[i];
    reserves_now(now, m);
    reserves_of(next, m, &p);
    if (reserve_both(m, now, next, err))
        return -1;
    int rc = lade_tiers_resize(m->tiers, ram != lade_model_planned(m, -1) ? ram : p.ram_experts,
                               bytes, err);
    m->ram_room = rc ? m->ram_room : ram;
    for (int i = 0; !rc && i < p.n_cards; i++)
        m->vram_room[i] = vram[i];
    settle(m);
    return rc;
}

/* The context and the batch that the caches and buffers are made for, and what they take of a card. */
static void take_sizes(struct lade_model *m, const struct lade_options *opt)
{
    const struct lade_plan_caps caps = {
        .context = m->place.context,
        .batch = m->place.batch,
        .exact = opt->exact,
        .kv_q8 = opt->kv_q8,
        .no_draft = opt->no_draft,
        .cpu_only = opt->cpu_only,
        .plugin = opt->plugin,
    };
    lade_plan_model_of(&m->sizes, m->cat, &caps);
    m->cache_type = m->sizes.kv_type;
    m->context = m->place.context;
    m->batch = m->place.batch < m->context ? m->place.batch : m->context;
}

/* What the cards of the models recommend, where the files say nothing: older GGUF files do not. */
static void take_sampling(struct lade_generation *g, enum lade_chat_family family)
{
    static const struct {
        float temperature, top_p;
        int top_k;
    } cards[] = {
        [LADE_CHAT_INSTRUCT] = {0.7f, 0.8f, 20},
        [LADE_CHAT_THINKING] = {0.6f, 0.95f, 20},
        [LADE_CHAT_CODER] = {1, 0.95f, 40},
    };
    if (g->sampled)
        return;
    g->temperature = cards[family].temperature;
    g->top_p = cards[family].top_p;
    g->top_k = cards[family].top_k;
}

static struct lade_device_config device_config(const struct lade_options *opt)
{
    return (struct lade_device_config){
        .threads = opt->threads, .isa = opt->isa, .exact = opt->exact};
}

/* A GPU may hold what the plan was made for: strategies change, the limit does not. */
static void gpu_limits(struct lade_vram_limit out[LADE_CARDS], const struct lade_model *m,
                       const struct lade_options *opt, const struct lade_placement *place)
{
    const struct lade_plan *plan = &m->plan;
    uint64_t reserves[LADE_CARDS];
    reserves_of(reserves, m, place);
    for (int i = 0; i < place->n_cards; i++) {
        const int gpu = place->card[i].gpu;
        out[i] = (struct lade_vram_limit){lade_vram_cap(opt->vram_cap, gpu), reserves[i]};
        for (int j = 0; !out[i].cap && plan->n && j < plan->machine.n_gpus; j++)
            if (plan->machine.gpu[j].gpu == gpu)
                out[i].cap = plan->machine.gpu[j].bytes;
    }
}

static void name_device(struct lade_model *m)
{
    const struct lade_device_part *p = &m->devices.part[0];
    int n = snprintf(m->device, sizeof m->device, "%s: %s", p->ops->name, p->ops->describe(p->dev));
    for (int i = 1; i < m->devices.n && n < (int)sizeof m->device; i++) {
        p = &m->devices.part[i];
        n += snprintf(m->device + n, sizeof m->device - (size_t)n, " + %s",
                      p->ops->describe(p->dev));
    }
}

static int open_devices(struct lade_model *m, const struct lade_options *opt, char *err)
{
    struct lade_device_config config = device_config(opt);
    struct lade_vram_limit limits[LADE_CARDS];
    gpu_limits(limits, m, opt, &m->place);
    if (lade_devices_open(&m->devices, &config, &m->place, m->cat, opt->plugin, limits, err))
        return -1;
    name_device(m);
    return 0;
}

/* Whether a person has asked for a strategy, and not for whatever works. */
static bool is_named(const char *strategy)
{
    return strategy && strcmp(strategy, "auto") != 0;
}

/* Opens what the placement needs. On failure nothing is open; *refused is the GPU that cannot be had,
 * or -1 where it is not one's fault. */
static int open_placed(struct lade_model *m, const struct lade_options *opt, double began,
                       int *refused, char *err)
{
    if (open_devices(m, opt, err)) {
        *refused = m->devices.refused;
        return -1;
    }
    take_rooms(m);
    struct lade_tiers_config config = {.cat = m->cat,
                                       .place = m->place,
                                       .cache_dir = opt->cache_dir,
                                       .began = began,
                                       .io = opt->io,
                                       .lookahead = !opt->no_lookahead,
                                       .devices = &m->devices};
    if (!lade_tiers_open(&m->tiers, &config, err))
        return 0;
    *refused = lade_devices_lost(&m->devices);
    lade_devices_close(&m->devices);
    return -1;
}

/* Plans, and opens what the plan needs. A GPU that cannot be opened, because another program has taken
 * its memory in between, say, is done without where nobody has asked for it. */
static int open_planned(struct lade_model *m, const struct lade_options *opt, double began,
                        char *err)
{
    for (;;) {
        char why[LADE_ERR];
        int refused = -1;
        if (!opt->place && lade_model_plan_for(&m->plan, m, opt, opt->strategy, err))
            return -1;
        m->place = opt->place ? *opt->place : m->plan.rows[m->plan.chosen].place;
        take_sizes(m, opt);
        if (!open_placed(m, opt, began, &refused, why))
            return 0;
        if (opt->place || is_named(opt->strategy) || refused < 0)
            return lade_fail(err, "%s", why);
        m->without[refused] = true;
        m->context = m->batch = 0; /* as if nothing had been planned */
        lade_set_error(m->notice, "%s", why);
    }
}

int lade_model_prepare(struct lade_model **out, const struct lade_options *opt, char *err)
{
    struct lade_model *m = calloc(1, sizeof *m);
    double began = lade_now();
    *out = m;
    if (!m)
        return lade_fail(err, "%s: out of memory; close other programs", opt->model);
    if (lade_catalog_open(&m->cat, opt->model, err) ||
        lade_chat_family(&m->family, NULL, m->cat, err) || check_options(m, opt, err))
        return -1;
    take_sampling(&m->cat->generation, m->family);
    for (int i = 0; i < m->cat->n_pieces; i++)
        if (m->cat->pieces[i].kind == LADE_PIECE_EXPERT)
            m->expert_bytes += m->cat->pieces[i].bytes;
    return open_planned(m, opt, began, err);
}

/* ---- a change of strategy ---- */

/* The base has moved: binds it again, and brings the session after it. */
static int follow(struct lade_model *m, struct lade_session *s, char *err)
{
    lade_weights_free(&m->weights);
    if (lade_weights_bind(&m->weights, m->cat, m->tiers, err))
        return -1;
    return s ? lade_session_arrive(s, err) : 0;
}

/* The first half of a move: base and session. */
static int move_base(struct lade_model *m, struct lade_session *s, const struct lade_placement *to,
                     const struct lade_devices *next, char *err)
{
    if (lade_tiers_move_base(m->tiers, to, next, err))
        return -1;
    m->devices = *next;
    m->place = *to;
    return follow(m, s, err);
}

void lade_model_moved(struct lade_model *m)
{
    take_rooms(m);
    name_device(m);
}

/* Back to where everything was, which had room there. If others have taken VRAM meanwhile, with less. */
static void go_back(struct lade_model *m, struct lade_session *s, const struct lade_placement *from,
                    const struct lade_devices *was)
{
    struct lade_placement back = *from;
    if (s)
        lade_session_leave(s);
    move_base(m, s, &back, was, NULL);
    while (lade_tiers_move_experts(m->tiers, &back, NULL) && lade_vram_experts(&back)) {
        for (int i = 0; i < back.n_cards; i++)
            back.card[i].experts /= 2;
        move_base(m, NULL, &back, was, NULL);
    }
    take_rooms(m);
}

/* A move ended because a GPU was lost that has a part of everything: there is no way back. The cards stay
 * open, for lade_model_lose(); what reports of a load looks at them, so that ends first. */
static void stay_lost(struct lade_model *m, const struct lade_placement *from,
                      const struct lade_devices *was)
{
    if (!was->gpu)
        return;
    lade_tiers_halt(m->tiers);
    m->devices = *was;
    m->place = *from;
}

int lade_model_move(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                    const struct lade_placement *to, char *err)
{
    const struct lade_devices was = m->devices;
    const struct lade_placement from = m->place;
    struct lade_device_config config = device_config(opt);
    struct lade_devices next;
    struct lade_vram_limit limits[LADE_CARDS];
    uint64_t now[LADE_CARDS] = {0}, then[LADE_CARDS] = {0};
    m->refused = -1;
    if (to->n_cards && m->cache_type == LADE_Q16)
        return lade_fail(err,
                         "GPU: there was none when the model was opened, and a GPU cannot compute "
                         "with a KV cache of 16-bit codes; start lade again");
    gpu_limits(limits, m, opt, to);
    reserves_now(now, m);
    reserves_of(then, m, to);
    if (lade_devices_change(&next, &was, &config, to, m->cat, opt->plugin, limits, err)) {
        m->refused = next.refused;
        if (next.lost >= 0)
            m->without[next.lost] = true;
        return -1;
    }
    if (was.gpu && next.gpu && reserve_both(m, now, then, err))
        return -1;
    if (s)
        lade_session_leave(s);
    if (move_base(m, s, to, &next, err) || lade_tiers_move_experts(m->tiers, to, err)) {
        lade_model_do_without(m, &next);
        if (lade_devices_lost(&was) >= 0 || lade_model_lost(m)) {
            stay_lost(m, &from, &was);
            return -1;
        }
        go_back(m, s, &from, &was);
        lade_model_do_without(m, &next);
        lade_devices_leave(&next, &was);
        settle(m);
        return -1;
    }
    lade_model_do_without(m, &was); /* it was not needed any more, and nobody has noticed */
    lade_devices_leave(&was, &next);
    lade_model_moved(m);
    settle(m);
    return 0;
}

int lade_model_adopt(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                     const struct lade_plan *plan, char *err)
{
    struct lade_placement to = plan->rows[plan->chosen].place;
    to.batch = m->place.batch; /* buffers and context stay what they are */
    to.context = m->place.context;
    if (lade_model_move(m, s, opt, &to, err))
        return -1;
    m->plan = *plan;
    return 0;
}

int lade_model_change(struct lade_model *m, struct lade_session *s, const struct lade_options *opt,
                      const char *name, char *why, char *err)
{
    struct lade_plan plan;
    bool taken[LADE_CARDS] = {false}; /* by others, for now: it may be free at the next change */
    int rc;
    *why = '\0';
    for (int tries = 0;; tries++) {
        if ((rc = lade_model_plan_for(&plan, m, opt, name, err)) ||
            !(rc = lade_model_adopt(m, s, opt, &plan, err)) || is_named(name) || m->refused < 0 ||
            lade_model_lost(m) || tries == LADE_CARDS)
            break;
        taken[m->refused] = !m->without[m->refused]; /* else it is lost */
        m->without[m->refused] = true;
        lade_set_error(why, "%s", err);
    }
    for (int i = 0; i < LADE_CARDS; i++)
        m->without[i] &= !taken[i];
    return rc;
}

static int open_tokenizer(struct lade_model *m, char *err)
{
    const char *path = m->cat->path;
    if (lade_tokenizer_open(&m->tok, path, err))
        return -1;
    int size = lade_tokenizer_size(m->tok);
    if (size > m->cat->shape.vocab)
        return lade_fail(err,
                         "%s/tokenizer.json: has %d tokens but the model's vocab_size is %d; use "
                         "the tokenizer of this model",
                         path, size, m->cat->shape.vocab);
    return 0;
}

int lade_model_load(struct lade_model *m, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err)
{
    if (lade_tiers_load(m->tiers, progress, user, cancel, err) || open_tokenizer(m, err) ||
        lade_tiers_wait(m->tiers, false, err))
        return -1;
    return lade_weights_bind(&m->weights, m->cat, m->tiers, err);
}

int lade_model_open(struct lade_model **out, const struct lade_options *opt, lade_load_fn *progress,
                    void *user, const atomic_bool *cancel, char *err)
{
    if (lade_model_prepare(out, opt, err) || lade_model_load(*out, progress, user, cancel, err) ||
        lade_tiers_wait((*out)->tiers, true, err)) {
        lade_model_close(*out);
        *out = NULL;
        return -1;
    }
    return 0;
}

void lade_model_close(struct lade_model *m)
{
    if (!m)
        return;
    lade_weights_free(&m->weights);
    lade_tiers_close(m->tiers);
    lade_devices_close(&m->devices);
    lade_tokenizer_close(m->tok);
    lade_catalog_close(m->cat);
    free(m);
}

const struct lade_catalog *lade_model_catalog(const struct lade_model *m)
{
    return m->cat;
}

const struct lade_tokenizer *lade_model_tokenizer(const struct lade_model *m)
{
    return m->tok;
}

const char *lade_model_device(const struct lade_model *m)
{
    return m->device;
}

const char *lade_model_strategy(const struct lade_model *m)
{
    return m->plan.n ? lade_strategy_name(m->plan.rows[m->plan.chosen].strategy) : "placed";
}

const char *lade_model_notice(const struct lade_model *m)
{
    return m->notice[0] ? m->notice : NULL;
}

int lade_model_context(const struct lade_model *m)
{
    return m->context;
}

const struct lade_plan *lade_model_plan(const struct lade_model *m)
{
    return &m->plan;
}

void lade_model_traffic(const struct lade_model *m, struct lade_traffic *out)
{
    struct lade_tiers_stats stats;
    lade_tiers_stats(m->tiers, &stats);
    *out = stats.traffic;
}

/* Larger than the caches of most machines. */
static const size_t READ_LEAST = (size_t)128 << 20;

void lade_model_read(const struct lade_model *m, uint64_t least, struct lade_reads *reads)
{
    const struct lade_matrix *head = &m->weights.head;
    struct lade_matrix_layout l;
    if (m->devices.gpu || lade_matrix_layout(head, &l) || l.bytes < READ_LEAST)
        return;
    const double begin = lade_now();
    for (uint64_t done = 0; done < least; done += l.bytes, reads->bytes += (double)l.bytes)
        lade_cpu_read(m->devices.cpu_dev, head->data, l.bytes);
    reads->seconds += lade_now() - begin;
}

int lade_model_cards(const struct lade_model *m, struct lade_card_memory out[LADE_CARDS])
{
    int n = m->devices.gpu ? m->devices.n : 0;
    for (int i = 0; i < n; i++) {
        const struct lade_device_part *p = &m->devices.part[i];
        struct lade_device_memory now = {0};
        if (p->ops->memory(p->dev, &now, NULL))
            now = (struct lade_device_memory){0};
        out[i] = (struct lade_card_memory){p->gpu,   p->first, p->end - p->first, now.total,
                                           now.free, now.used, now.peak,          now.fixed};
    }
    return n;
}

uint64_t lade_model_vram_peak(const struct lade_model *m, uint64_t *own)
{
    struct lade_card_memory cards[LADE_CARDS] = {0};
    uint64_t sum = 0, fixed = 0;
    for (int i = lade_model_cards(m, cards) - 1; i >= 0; i--) {
        sum += cards[i].peak;
        fixed += cards[i].own;
    }
    if (own)
        *own = fixed;
    return sum;
}
