/* ask.c - what a layer asks for, given out in waves.
 *
 * Experts in VRAM come first, then those in RAM, in the order of their numbers; that is the first
 * wave or two, and of a prompt where the CPU computes most (carry.h) those that are carried before the
 * CPU's, so that the card has all its work before the CPU begins. Then come the others, each when it has
 * arrived: of a prompt in the order of their files, which a drive likes, else in that of their numbers. Sums
 * within a wave are in the order of numbers, so a wave ends where that falls. So where the waves are parted,
 * which depends on time, no bit of an answer does, once the load is over. */
#include <stdlib.h>
#include <string.h>

#include "engine/plan/hits.h"
#include "engine/tiers/internal.h"

/* More tokens than this are a prompt: it visits most experts once, and would only push out what
 * the conversation uses (keep.c). */
enum { PROMPT = 4 };

/* Where in `drafted` a layer's routes of a draft are. */
static size_t drafted_row(const struct lade_tiers *t, int layer, int draft)
{
    return ((size_t)layer * LADE_TIERS_DRAFTS + (size_t)draft) * (size_t)t->cat->shape.experts_used;
}

int lade_ask_open(struct lade_tiers *t, char *err)
{
    size_t n = (size_t)t->cat->shape.experts;
    struct lade_ask *a = &t->ask;
    a->wants = malloc(n * sizeof *a->wants);
    a->ids = malloc(n * sizeof *a->ids);
    a->data = malloc(n * sizeof *a->data);
    a->uses = calloc(n, sizeof *a->uses);
    a->rank = malloc(2 * n * sizeof *a->rank);
    a->rest = malloc(n * sizeof *a->rest);
    a->drafted = malloc(drafted_row(t, t->cat->shape.layers, 0) * sizeof *a->drafted);
    return a->wants && a->ids && a->data && a->uses && a->rank && a->rest && a->drafted
               ? 0
               : lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
}

void lade_ask_close(struct lade_tiers *t)
{
    free(t->ask.wants);
    free(t->ask.ids);
    free(t->ask.data);
    free(t->ask.uses);
    free(t->ask.rank);
    free(t->ask.rest);
    free(t->ask.drafted);
}

void lade_tiers_begin(struct lade_tiers *t, int tokens, int drafts, const atomic_bool *cancel)
{
    pthread_mutex_lock(&t->lock);
    t->ask.tokens = tokens;
    t->ask.drafts = drafts;
    t->ask.accepted = 0;
    t->ask.cancel = cancel;
    t->ask.wait_s = 0;
    t->ask.began = lade_now();
    t->before = t->traffic;
    lade_heat_tick(&t->heat, tokens - drafts);
    lade_look_begin(t);
    pthread_mutex_unlock(&t->lock);
}

void lade_tiers_end(struct lade_tiers *t)
{
    /* The load needs the slots that copies have read, and nobody may come to give them up for it. */
    for (struct lade_vram *v = lade_vram_passing(t); v && !lade_vram_reap(t, v, true, NULL);)
        v = lade_vram_passing(t);
    pthread_mutex_lock(&t->lock);
    t->traffic.tokens += (uint64_t)(t->ask.tokens - t->ask.drafts);
    t->traffic.wait_s += t->ask.wait_s;
    t->traffic.compute_s += lade_now() - t->ask.began - t->ask.wait_s;
    lade_look_end(t);
    if (t->ask.tokens == 1)
        t->token = lade_traffic_between(&t->before, &t->traffic);
    t->ask.tokens = 0;
    if (!t->load.ended)
        pthread_cond_broadcast(&t->work); /* the load may go at full speed again */
    pthread_mutex_unlock(&t->lock);
    if (t->habit_tokens >= LADE_HABITS_EVERY)
        lade_tiers_keep_habits(t);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct lade_want *x = a, *y = b;
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    return x->card != y->card ? x->card - y->card : x->expert - y->expert;
}

/* Places in the order of wants; files come after, where shards do not overlap, so the order of
 * their numbers will do. What other cards help with comes after what the layer's own link carries, which
 * goes on while those wait for activations. */
enum { IN_VRAM, CARRIED, HELPED, IN_RAM, IN_FILES };

static uint64_t place_of(const struct lade_tiers *t, int e)
{
    if (t->ask.tokens <= PROMPT)
        return IN_FILES;
    const struct lade_piece *p = &t->cat->pieces[lade_expert_piece(t, e)];
    const struct lade_span *s = &t->cat->tensors[p->first].parts[0];
    return IN_FILES + ((uint64_t)s->shard << 48) + s->offset;
}

static bool is_here(const struct lade_cache *c, int slot)
{
    return slot >= 0 && c->state[slot] == LADE_SLOT_HERE;
}

/* Whether it can be computed on the layer's card. */
static bool is_up(const struct lade_ask *a, const struct lade_want *w)
{
    return a->vram && is_here(&a->vram->cache, w->vslot);
}

static void count_visit(struct lade_traffic *c, uint64_t at, size_t bytes)
{
    *(at == IN_VRAM ? &c->vram_hits : at == IN_RAM ? &c->ram_hits : &c->disk_reads) += 1;
    *(at == IN_VRAM ? &c->vram_bytes : at == IN_RAM ? &c->ram_bytes : &c->disk_bytes) += bytes;
}

static void want(struct lade_tiers *t, int e)
{
    struct lade_ask *a = &t->ask;
    struct lade_want *w = &a->wants[a->n++];
    const int vslot = lade_vslot(t, e);
    *w = (struct lade_want){.expert = e, .slot = -1, .vslot = vslot, .begun = true};
    w->card = a->vram ? (int)(a->vram - t->vram) : 0;
    if (vslot >= 0)
        lade_cache_pin(&a->vram->cache, vslot);
    else if ((w->slot = t->ram.slot_of[e]) >= 0)
        lade_cache_pin(&t->ram, w->slot);
    w->at = is_up(a, w) ? IN_VRAM : is_here(&t->ram, w->slot) ? IN_RAM : place_of(t, e);
    count_visit(&t->traffic, w->at, lade_expert_bytes(t, e));
}

/* What may be done for an expert's slot in RAM. One whose home is VRAM only passes through. */
static enum lade_take how_to_take(const struct lade_tiers *t, int e)
{
    if (!lade_may_stay(t, e))
        return LADE_TAKE_PASSING;
    return t->ask.tokens > PROMPT ? LADE_TAKE_STAGE : LADE_TAKE_ANY;
}

/* A slot for a want that has none, if there is one. */
static void take_slot(struct lade_tiers *t, struct lade_want *w)
{
    w->slot = lade_cache_take(&t->ram, w->expert, how_to_take(t, w->expert));
    w->begun = false;
}

/* Counts an expert's age for the habits. Prompts do not count: most of what they read does not stay. */
static void note_age(struct lade_tiers *t, int e)
{
    uint64_t last = t->asked_at[e], age = t->decoded - last;
    int first = t->kinds.n_experts + (last ? 0 : LADE_AGES);
    if (last ? age > 0 : age > 1)
        lade_heat_use(&t->habit, first + lade_hits_class((double)(last ? age : age - 1)), 1);
    t->asked_at[e] = t->decoded;
}

/* So many tokens more, whose uses follow. */
static void note_tokens(struct lade_tiers *t, int tokens)
{
    lade_heat_tick(&t->habit, tokens);
    t->habit_tokens += tokens;
    t->decoded += tokens <= PROMPT ? (uint64_t)tokens : 0;
}

/* Of `tokens` so many have used an expert, whose slots are pinned. */
static void note_uses(struct lade_tiers *t, int e, int tokens, int uses)
{
    lade_heat_use(&t->heat, e, uses);
    lade_heat_use(&t->habit, e, uses);
    if (tokens <= PROMPT)
        note_age(t, e);
}

void lade_tiers_accept(struct lade_tiers *t)
{
    const struct lade_shape *s = &t->cat->shape;
    struct lade_ask *a = &t->ask;
    pthread_mutex_lock(&t->lock);
    t->traffic.tokens++;
    lade_heat_tick(&t->heat, 1);
    note_tokens(t, 1);
    for (int layer = 0; layer < s->layers; layer++) {
        const int32_t *ids = a->drafted + drafted_row(t, layer, a->accepted);
        for (int i = 0; i < s->experts_used; i++) {
            const int e = layer * s->experts + ids[i], slot = t->ram.slot_of[e];
            if (slot >= 0)
                lade_cache_pin(&t->ram, slot);
            note_uses(t, e, 1, 1);
            if (slot >= 0)
                lade_cache_unpin(&t->ram, slot);
        }
    }
    a->accepted++;
    pthread_mutex_unlock(&t->lock);
}

/* The links that experts of the layer may cross: cards[i] has the i-th one. The others' cards help where
 * their slots hold what passes through, and activations are in VRAM. */
static void list_links(const struct lade_tiers *t, struct lade_carry_layer *layer,
                       int cards[LADE_CARDS])
{
    const struct lade_placement *p = &t->place;
    const int own = (int)(t->ask.vram - t->vram);
    cards[layer->n_links] = own;
    layer->link_byte[layer->n_links++] = p->card[own].link_byte;
    for (int i = 0; i < t->n_vram && p->buffers == LADE_VRAM && p->card[own].link_byte > 0; i++) {
        const struct lade_vram *v = &t->vram[i];
        if (i == own || !v->cache.n_stage || v->kinds.largest < t->ask.vram->kinds.largest ||
            !(p->card[i].link_byte > 0))
            continue;
        cards[layer->n_links] = i;
        layer->link_byte[layer->n_links++] = p->card[i].link_byte;
    }
}

/* Chooses which of a prompt's wants, none of which has been sorted, are carried, and where to. */
static void choose_carried(struct lade_tiers *t, int n_tokens)
{
    struct lade_ask *a = &t->ask;
    const struct lade_placement *p = &t->place;
    int cards[LADE_CARDS];
    if (!a->vram || !a->vram->cache.n_stage || t->no_pinning)
        return;
    struct lade_carry_layer layer = {.experts = a->rest};
    list_links(t, &layer, cards);
    layer.rows = 2.0 * n_tokens * t->cat->shape.hidden * sizeof(float) * layer.link_byte[0];
    for (int i = 0; i < a->n; i++) {
        int uses = a->uses[a->wants[i].expert % t->cat->shape.experts];
        if (a->wants[i].vslot >= 0)
            layer.own += uses * p->carry.card_token;
        else
            a->rest[layer.n++] = (struct lade_carry_expert){
                i, uses, (double)lade_expert_bytes(t, a->wants[i].expert), 0};
    }
    int carried = layer.n;
    if (lade_streams(t))
        lade_carry_deal(&layer);
    else
        carried = lade_carry_split(&p->carry, &layer, NULL);
    for (int i = 0; i < carried; i++) {
        struct lade_want *w = &a->wants[a->rest[i].expert];
        w->carry = true;
        if (w->at != IN_RAM)
            continue; /* the drive is slower than any link */
        w->at = a->rest[i].link ? HELPED : CARRIED;
        w->card = cards[a->rest[i].link];
    }
}

void lade_tiers_ask(struct lade_tiers *t, int layer, const int32_t *ids, int n)
{
    struct lade_ask *a = &t->ask;
    int experts = t->cat->shape.experts, tokens = a->tokens - a->drafts;
    const int sure = n - a->drafts * t->cat->shape.experts_used; /* routes: of no drafts */
    pthread_mutex_lock(&t->lock);
    a->n = a->next = a->wave_first = a->next_demand = 0;
    a->failed = a->begun = false;
    a->vram = t->n_vram ? lade_vram_of(t, layer * experts) : NULL;
    if (layer == 0)
        note_tokens(t, tokens);
    for (int i = 0; i < n; i++)
        a->uses[ids[i]]++;
    for (int i = 0; i < experts; i++)
        if (a->uses[i])
            want(t, layer * experts + i);
    if (a->tokens > PROMPT)
        choose_carried(t, n / t->cat->shape.experts_used);
    for (int i = sure; i < n; i++)
        a->uses[ids[i]]--;
    for (int i = 0; i < a->n; i++)
        if (a->uses[a->wants[i].expert % experts])
            note_uses(t, a->wants[i].expert, tokens, a->uses[a->wants[i].expert % experts]);
    if (sure < n)
        memcpy(a->drafted + drafted_row(t, layer, 0), ids + sure, (size_t)(n - sure) * sizeof *ids);
    memset(a->uses, 0, (size_t)experts * sizeof *a->uses);
    qsort(a->wants, (size_t)a->n, sizeof *a->wants, by_place);
    /* All at once, so that who makes room does not depend on how soon the movers come to it. A prompt
     * asks for more than there are slots: its others get one when a mover comes to them. */
    if (a->tokens > PROMPT)
        lade_keep_hottest(t, layer);
    else
        for (int i = 0; i < a->n; i++)
            if (a->wants[i].slot < 0 && a->wants[i].vslot < 0)
                take_slot(t, &a->wants[i]);
    if (a->n && a->wants[a->n - 1].at >= IN_FILES)
        pthread_cond_broadcast(&t->work);
    else
        a->next_demand = a->n; /* nothing is to be read: the movers may sleep on */
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock: whether a want has a slot that is to be filled; it may have to get one first. */
static bool to_be_read(struct lade_tiers *t, struct lade_want *w)
{
    if (w->slot >= 0 || w->vslot >= 0)
        return !w->begun;
    /* On its way by now? Then its slot has a pin for us, too. */
    w->vslot = lade_vslot(t, w->expert);
    if (w->vslot >= 0) {
        lade_cache_pin(&t->ask.vram->cache, w->vslot);
        w->begun = true;
        return false;
    }
    w->slot = t->ram.slot_of[w->expert];
    if (w->slot >= 0) {
        lade_cache_pin(&t->ram, w->slot);
        w->begun = true;
        return false;
    }
    take_slot(t, w);
    return true;
}

bool lade_ask_pick(struct lade_tiers *t, struct lade_job *job)
{
    struct lade_ask *a = &t->ask;
    if (a->next_demand < a->next)
        a->next_demand = a->next; /* what waves have had is given up, not missing */
    for (; a->next_demand < a->n && !a->failed; a->next_demand++) {
        struct lade_want *w = &a->wants[a->next_demand];
        if (!to_be_read(t, w))
            continue;
        if (w->slot < 0)
            return false; /* until a wave gives one back */
        bool here = true;
        w->begun = true;
        job->landing = lade_look_claim(t, w->expert, w->slot, &here);
        if (!here)
            continue; /* the mover that is reading it ahead will fill the slot */
        w->ours = true;
        a->next_demand++;
        job->kind = LADE_JOB_DEMAND;
        job->experts[0] = w->expert;
        job->slots[0] = w->slot;
        job->vslots[0] = -1;
        job->n = 1;
        return true;
    }
    return false;
}

bool lade_ask_waits(const struct lade_tiers *t)
{
    const struct lade_ask *a = &t->ask;
    for (int i = a->next; i < a->n; i++)
        if (a->wants[i].vslot >= 0 ? !is_here(&a->vram->cache, a->wants[i].vslot)
                                   : !is_here(&t->ram, a->wants[i].slot))
            return true;
    return false;
}

void lade_ask_failed(struct lade_tiers *t, int e, const char *err)
{
    struct lade_ask *a = &t->ask;
    for (int i = a->next; i < a->n; i++) {
        struct lade_want *w = &a->wants[i];
        if (w->expert != e || (w->slot < 0 && w->vslot < 0))
            continue;
        w->slot = w->vslot = -1;
        if (w->ours) {
            a->failed = true;
            lade_fail(a->err, "%s", err);
        } else if (i < a->next_demand) {
            a->next_demand = i;
            pthread_cond_broadcast(&t->work);
        }
    }
}

void lade_ask_lost(struct lade_tiers *t)
{
    struct lade_ask *a = &t->ask;
    for (int i = a->wave_first; i < a->next; i++) {
        struct lade_want *w = &a->wants[i];
        if (w->vslot >= 0 && t->vram[w->card].cache.slot_of[w->expert] != w->vslot)
            w->vslot = -1;
    }
}

/* ---- waves ----------------------------------------------------------------------------------- */

/* Gives back the slots of wants [from, to). */
static void give_up(struct lade_tiers *t, int from, int to)
{
    bool freed = false;
    for (int i = from; i < to; i++) {
        struct lade_want *w = &t->ask.wants[i];
        if (w->slot >= 0 && w->begun)
            lade_cache_unpin(&t->ram, w->slot);
        else if (w->slot >= 0)
            lade_cache_failed(&t->ram, w->slot); /* no mover has come to it */
        if (w->vslot >= 0)
            lade_cache_unpin(&t->vram[w->card].cache, w->vslot);
        freed |= w->slot >= 0;
        w->slot = w->vslot = -1;
    }
    if (freed && (t->ask.next_demand < t->ask.n || !t->load.ended))
        pthread_cond_broadcast(&t->work);
}

/* The engine's thread, without the lock: notes when the GPU will be done with the last wave, of
 * which the slots may then be filled anew. */
static int mark_used(struct lade_tiers *t, char *err)
{
    struct lade_ask *a = &t->ask;
    lade_fence done;
    if (!a->wave_on_gpu || a->wave_first == a->next)
        return 0;
    struct lade_vram *v = &t->vram[a->wants[a->wave_first].card];
    if (!v->cache.n_stage)
        return 0;
    if (v->part.ops->mark(v->part.dev, &done, err))
        return -1;
    for (int i = a->wave_first; i < a->next; i++)
        if (a->wants[i].vslot >= 0)
            v->used[a->wants[i].vslot] = done;
    return 0;
}

static bool at_hand(const struct lade_want *w)
{
    return w->at < IN_FILES;
}

/* Wants from `next` on that can be computed, without a gap, in the order of their numbers, all on one device,
 * carried there or not, and all or none at hand when they were asked for. */
static int count_ready(const struct lade_tiers *t)
{
    const struct lade_ask *a = &t->ask;
    int n = 0;
    for (; a->next + n < a->n; n++) {
        const struct lade_want *w = &a->wants[a->next + n];
        bool on_gpu = w->vslot >= 0;
        const struct lade_want *first = &a->wants[a->next];
        if (on_gpu != (first->vslot >= 0) || w->carry != first->carry || w->card != first->card ||
            at_hand(w) != at_hand(first) || (n && w->expert < w[-1].expert))
            break;
        if (on_gpu ? !is_up(a, w) : !is_here(&t->ram, w->slot))
            break;
    }
    return n;
}

/* Under the lock: waits while nothing is ready. Copies to the GPU hold slots that others need: they
 * are waited for first. */
static int wait_longer(struct lade_tiers *t, char *err)
{
    struct lade_ask *a = &t->ask;
    if (a->cancel && atomic_load(a->cancel))
        return lade_fail(err, "answer: cancelled; ask again");
    struct lade_vram *passing = lade_vram_passing(t);
    if (!passing) {
        lade_wait_a_while(t);
        return 0;
    }
    pthread_mutex_unlock(&t->lock);
    int rc = lade_vram_reap(t, passing, true, err);
    pthread_mutex_lock(&t->lock);
    return rc;
}

/* Under the lock: how many are ready, at least one, or -1. */
static int wait_ready(struct lade_tiers *t, char *err)
{
    struct lade_ask *a = &t->ask;
    int n = count_ready(t);
    double from = n ? 0 : lade_now();
    while (!n && !a->failed) {
        if (wait_longer(t, err))
            return -1;
        n = count_ready(t);
    }
    a->wait_s += from > 0 ? lade_now() - from : 0;
    return n ? n : lade_fail(err, "%s", a->err);
}

/* Under the lock: slots in VRAM for the first of n wants, which are in RAM; how many got one. */
static int take_vslots(struct lade_tiers *t, int n)
{
    struct lade_ask *a = &t->ask;
    struct lade_vram *v = &t->vram[a->wants[a->next].card];
    struct lade_cache *c = &v->cache;
    enum lade_take how = !lade_streams(t) || v != a->vram ? LADE_TAKE_PASSING
                         : a->tokens > PROMPT             ? LADE_TAKE_STAGE
                                                          : LADE_TAKE_ANY;
    int taken = 0;
    n = n < v->wave_limit ? n : v->wave_limit;
    for (; taken < n; taken++) {
        struct lade_want *w = &a->wants[a->next + taken];
        w->vslot = lade_cache_take(c, w->expert, how);
        if (w->vslot < 0)
            break;
        lade_cache_filled(c, w->vslot); /* compute is told to wait for the bytes */
        v->carried[taken] = (struct lade_carried){w->expert, w->slot, w->vslot};
        w->slot = -1;
        t->traffic.link_bytes += lade_expert_bytes(t, w->expert);
    }
    return taken;
}

static int next_wave(struct lade_tiers *t, struct lade_wave *wave, char *err)
{
    struct lade_ask *a = &t->ask;
    bool none = !a->begun && a->n && !at_hand(&a->wants[0]);
    int n = a->next < a->n && !none ? wait_ready(t, err) : 0, carried = 0;
    a->begun = true;
    bool in_vram = n > 0 && a->wants[a->next].vslot >= 0;
    const int card = a->next < a->n ? a->wants[a->next].card : 0;
    if (n > 0 && !in_vram && (lade_streams(t) || a->wants[a->next].carry)) {
        n = carried = take_vslots(t, n);
        if (!n)
            return lade_fail(err, "streaming: no slot of VRAM is free; report this");
    }
    for (int i = 0; i < n; i++) {
        const struct lade_want *w = &a->wants[a->next + i];
        a->ids[i] = w->expert % t->cat->shape.experts;
        a->data[i] = w->vslot >= 0 ? lade_store_slot(&t->vram[card].store, w->vslot)
                                   : lade_store_slot(&t->store, w->slot);
    }
    a->next += n > 0 ? n : 0;
    a->wave_on_gpu = in_vram || carried;
    *wave = (struct lade_wave){.on_gpu = a->wave_on_gpu,
                               .card = card,
                               .stays = in_vram && !lade_streams(t),
                               .nothing = none,
                               .n = n,
                               .experts = a->ids,
                               .data = a->data};
    return carried;
}

int lade_tiers_wave(struct lade_tiers *t, struct lade_wave *wave, char *err)
{
    struct lade_ask *a = &t->ask;
    if (mark_used(t, err))
        return -1;
    for (int i = 0; i < t->n_vram; i++)
        if (lade_vram_reap(t, &t->vram[i], false, err))
            return -1;
    pthread_mutex_lock(&t->lock);
    give_up(t, a->wave_first, a->next);
    a->wave_first = a->next;
    int carried = next_wave(t, wave, err);
    pthread_mutex_unlock(&t->lock);
    if (carried < 0 || wave->n < 0 || lade_vram_carry(t, &t->vram[wave->card], carried, err))
        return -1;
    return wave->n > 0 || wave->nothing;
}

void lade_tiers_done(struct lade_tiers *t)
{
    mark_used(t, NULL); /* after a failure the device fails every other call, too */
    pthread_mutex_lock(&t->lock);
    t->ask.next_demand = t->ask.n; /* what no mover has begun, none will */
    give_up(t, t->ask.wave_first, t->ask.n);
    t->ask.n = t->ask.next = t->ask.wave_first = t->ask.next_demand = 0;
    pthread_mutex_unlock(&t->lock);
}

void lade_tiers_settled_visits(struct lade_tiers *t, int visits)
{
    int most = t->cat->shape.experts;
    visits = visits < most ? visits : most;
    pthread_mutex_lock(&t->lock);
    t->traffic.vram_hits += (uint64_t)visits;
    t->traffic.vram_bytes += (uint64_t)visits * t->kinds.largest;
    pthread_mutex_unlock(&t->lock);
}
