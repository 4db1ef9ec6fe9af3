/* load.c - what is read first, and in which order.
 *
 * The base comes first, then the experts that have room: those that earlier conversations used
 * most, then the others. Each part is read in the order of its files, in jobs of some MiB, many at a
 * time, so that the drive is read from front to back however the tensors of a piece are scattered. */
#include <stdlib.h>
#include <string.h>

#include "engine/tiers/internal.h"

enum {
    SLICE = 4 << 20, /* of a large tensor of the base; more is read at once only where it must */
    JOB = 2 << 20,   /* bytes of a load job, where its parts allow: a mover has several at once,
                         so that the drive reads while it packs */
    LARGE_JOB = 4 << 20, /* of one whose experts are read to their own slots, by longer reads */
    NEAR = 128 << 10,    /* items of one job are at most this far apart */
    HOT_PART = 4,        /* the hottest quarter comes first */
    CACHED_PART =
        16, /* of a load that tells how fast loads are, no more is read from the page cache */
};

static const struct lade_span *first_span(const struct lade_tiers *t, int e)
{
    const struct lade_piece *p = &t->cat->pieces[lade_expert_piece(t, e)];
    return &t->cat->tensors[p->first].parts[0];
}

/* ---- the base -------------------------------------------------------------------------------- */

static int add_item(void *user, const struct lade_item *item, char *err)
{
    struct lade_tiers *t = user;
    struct lade_load *l = &t->load;
    if (l->n_items == l->cap_items) {
        int cap = l->cap_items ? 2 * l->cap_items : 1024;
        struct lade_item *grown = realloc(l->items, (size_t)cap * sizeof *grown);
        if (!grown)
            return lade_fail(err, "%s: out of memory for the load order; close other programs",
                             t->cat->path);
        l->items = grown;
        l->cap_items = cap;
    }
    l->items[l->n_items++] = *item;
    l->piece_left[t->cat->tensors[item->tensor].piece]++;
    l->shard_bytes[item->shard] += item->bytes;
    l->bytes += item->bytes;
    return 0;
}

/* Cuts the ordered items into jobs. */
static int make_base_jobs(struct lade_tiers *t, char *err)
{
    struct lade_load *l = &t->load;
    l->base = malloc((size_t)(l->n_items ? l->n_items : 1) * sizeof *l->base);
    if (!l->base)
        return lade_fail(err, "%s: out of memory for the load order; close other programs",
                         t->cat->path);
    for (int i = 0; i < l->n_items;) {
        struct lade_base_job *job = &l->base[l->n_base++];
        const struct lade_item *first = &l->items[i];
        uint64_t end = first->offset;
        *job = (struct lade_base_job){.first = i};
        for (; i < l->n_items; i++, job->n++) {
            const struct lade_item *it = &l->items[i];
            if (job->n && (it->shard != first->shard || it->offset > end + NEAR ||
                           it->offset + it->bytes - first->offset > JOB))
                break;
            end = it->offset + it->bytes > end ? it->offset + it->bytes : end;
        }
    }
    l->base_left = l->n_base;
    return 0;
}

static int plan_base(struct lade_tiers *t, char *err)
{
    for (int i = 0; i < t->cat->n_pieces && !t->base_is_home; i++) {
        const struct lade_piece *p = &t->cat->pieces[i];
        if (p->kind == LADE_PIECE_EXPERT)
            continue;
        if (lade_items_of_piece(t->cat, i, t->base + t->base_at[i], true, add_item, t, err))
            return -1;
    }
    if (t->load.n_items) /* none where the base is home: qsort() wants no NULL */
        qsort(t->load.items, (size_t)t->load.n_items, sizeof *t->load.items, lade_item_order);
    return make_base_jobs(t, err);
}

/* ---- the experts ----------------------------------------------------------------------------- */

struct candidate {
    double score;
    uint64_t at;             /* in its shard */
    int shard, expert, turn; /* turn: first experts of all layers, then second ones, and so on */
    bool hot;
};

static int by_heat(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->turn - y->turn;
}

static int by_file(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->hot != y->hot)
        return x->hot ? -1 : 1;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Counts the bytes of an expert's spans into a list by shard. */
static uint64_t count_spans(struct lade_tiers *t, int e, uint64_t *by_shard)
{
    const struct lade_piece *p = &t->cat->pieces[lade_expert_piece(t, e)];
    uint64_t sum = 0;
    for (int i = p->first; i < p->first + p->n_tensors; i++)
        for (int part = 0; part < t->cat->tensors[i].n_parts; part++) {
            const struct lade_span *s = &t->cat->tensors[i].parts[part];
            by_shard[s->shard] += s->bytes;
            sum += s->bytes;
        }
    return sum;
}

/* Whether an expert is in every memory that is its home, or on its way there. */
static bool is_home(struct lade_tiers *t, int e)
{
    uint8_t homes = t->load.homes[e];
    int slot = t->ram.slot_of[e];
    bool in_ram = slot >= 0 && !lade_cache_is_stage(&t->ram, slot);
    return (!(homes & LADE_HOME_RAM) || in_ram) &&
           (!(homes & LADE_HOME_VRAM) || lade_vslot(t, e) >= 0);
}

/* Of one that is home: whether its bytes are there. */
static bool has_come(struct lade_tiers *t, int e)
{
    int slot = t->ram.slot_of[e], vslot = lade_vslot(t, e);
    uint8_t homes = t->load.homes[e];
    return (!(homes & LADE_HOME_RAM) || t->ram.state[slot] == LADE_SLOT_HERE) &&
           (!(homes & LADE_HOME_VRAM) || lade_vram_of(t, e)->cache.state[vslot] == LADE_SLOT_HERE);
}

/* Gives the first of the candidates, which are in order of heat, a home in one memory, as many as
 * have room there beside those that are in it already. Only experts of layers [first, end). */
static void choose_home(struct lade_tiers *t, const struct candidate *c,
                        const struct lade_cache *cache, enum lade_home home, bool others_too,
                        int first, int end)
{
    int left[LADE_MAX_KINDS];
    for (int i = 0; i < t->kinds.n; i++)
        left[i] = cache->kind[i].room;
    for (int e = 0; e < t->kinds.n_experts; e++) {
        int slot = cache->slot_of[e];
        if (slot < 0 || lade_cache_is_stage(cache, slot))
            continue;
        t->load.homes[e] |= home;
        left[t->kinds.of[e]]--;
    }
    for (int i = 0; i < t->kinds.n_experts; i++) {
        uint8_t *homes = &t->load.homes[c[i].expert];
        int layer = c[i].expert / t->cat->shape.experts;
        bool free = layer >= first && layer < end && !(*homes & home) && (!*homes || others_too);
        if (free && left[t->kinds.of[c[i].expert]]-- > 0)
            *homes |= home;
    }
}

/* Chooses what will be where: the hottest experts, or where nothing is known of them the same
 * number of every layer, in VRAM; of the others, or where RAM backs VRAM of all, in RAM. */
static int plan_experts(struct lade_tiers *t, char *err)
{
    struct lade_load *l = &t->load;
    int n = t->kinds.n_experts, layers = t->cat->shape.layers, experts = t->cat->shape.experts;
    int chosen = 0;
    struct candidate *c = malloc((size_t)n * sizeof *c);
    l->order = malloc((size_t)n * sizeof *l->order);
    l->planned = calloc((size_t)n, 1);
    l->homes = calloc((size_t)n, 1);
    if (!c || !l->order || !l->planned || !l->homes) {
        free(c);
        return lade_fail(err, "%s: out of memory for the load order; close other programs",
                         t->cat->path);
    }
    for (int e = 0; e < n; e++) {
        const struct lade_span *s = first_span(t, e);
        c[e] = (struct candidate){.score = t->habit.score[e],
                                  .at = s->offset,
                                  .shard = s->shard,
                                  .expert = e,
                                  .turn = e % experts * layers + e / experts};
    }
    qsort(c, (size_t)n, sizeof *c, by_heat);
    for (int i = 0; i < t->n_vram; i++) {
        const struct lade_device_part *p = &t->vram[i].part;
        choose_home(t, c, &t->vram[i].cache, LADE_HOME_VRAM, true, p->first, p->end);
    }
    choose_home(t, c, &t->ram, LADE_HOME_RAM, t->place.ram_backs_vram, 0, layers);
    for (int i = 0; i < n; i++)
        if (l->homes[c[i].expert] && !is_home(t, c[i].expert))
            c[chosen++] = c[i];
    for (int i = 0; i < chosen; i++)
        c[i].hot = i < chosen / HOT_PART && c[i].score > 0;
    qsort(c, (size_t)chosen, sizeof *c, by_file);
    for (int i = 0; i < chosen; i++) {
        l->order[l->n_order++] = c[i].expert;
        l->planned[c[i].expert] = 1;
        l->n_planned++;
        l->bytes += count_spans(t, c[i].expert, l->shard_bytes);
    }
    free(c);
    return 0;
}

int lade_load_open(struct lade_tiers *t, char *err)
{
    size_t n = (size_t)t->cat->n_shards;
    t->load.shard_done = calloc(n, sizeof *t->load.shard_done);
    t->load.shard_bytes = calloc(n, sizeof *t->load.shard_bytes);
    t->load.piece_left = calloc((size_t)t->cat->n_pieces, sizeof *t->load.piece_left);
    if (!t->load.shard_done || !t->load.shard_bytes || !t->load.piece_left)
        return lade_fail(err, "%s: out of memory for the load order; close other programs",
                         t->cat->path);
    return plan_base(t, err) || plan_experts(t, err) ? -1 : 0;
}

void lade_load_close(struct lade_tiers *t)
{
    struct lade_load *l = &t->load;
    free(l->items);
    free(l->base);
    free(l->order);
    free(l->planned);
    free(l->homes);
    free(l->piece_left);
    free(l->shard_done);
    free(l->shard_bytes);
    *l = (struct lade_load){0};
}

/* ---- while it runs --------------------------------------------------------------------------- */

/* Takes the slots that an expert needs to come home: 1 done, 0 others have taken its room, -1 there
 * is no slot to pass through now. */
static int take_slots(struct lade_tiers *t, int e, struct lade_job *job)
{
    uint8_t homes = t->load.homes[e];
    int at = job->n, slot = t->ram.slot_of[e];
    if (slot >= 0) /* a layer is using it in passing; or it has come to RAM to stay */
        return t->ram.state[slot] == LADE_SLOT_FILLING || lade_cache_is_stage(&t->ram, slot) ? -1
                                                                                             : 0;
    job->vslots[at] = -1;
    slot = lade_cache_take(&t->ram, e, homes & LADE_HOME_RAM ? LADE_TAKE_FREE : LADE_TAKE_PASSING);
    if (slot < 0)
        return homes & LADE_HOME_RAM ? 0 : -1;
    if (homes & LADE_HOME_VRAM && lade_vslot(t, e) < 0)
        job->vslots[at] = lade_cache_take(&lade_vram_of(t, e)->cache, e, LADE_TAKE_FREE);
    if (job->vslots[at] < 0 && !(homes & LADE_HOME_RAM)) {
        lade_cache_failed(&t->ram, slot);
        return 0;
    }
    job->slots[at] = slot;
    job->experts[job->n++] = e;
    return 1;
}

/* Bytes of a job of experts, of which a stage has to hold what its slots cannot: fewer where a layer may
 * have to wait for it. */
static uint64_t job_bytes(const struct lade_tiers *t)
{
    const uint64_t room = t->stage_limit - t->gather_bytes;
    const uint64_t most = lade_reads_to_slots(t) && !t->ask.tokens ? LARGE_JOB : JOB;
    return most < room ? most : room;
}

/* The next experts in the order that are not home and have room, as one job. */
static bool pick_experts(struct lade_tiers *t, struct lade_job *job)
{
    struct lade_load *l = &t->load;
    const uint64_t most = job_bytes(t);
    uint64_t bytes = 0;
    job->n = 0;
    for (; l->next_expert < l->n_order && job->n < LADE_GROUP; l->next_expert++) {
        int e = l->order[l->next_expert];
        uint64_t more = t->cat->pieces[lade_expert_piece(t, e)].source_bytes;
        if (!l->planned[e])
            continue;        /* it came on demand */
        if (is_home(t, e)) { /* on its way, or a layer has had it carried there */
            if (has_come(t, e))
                lade_load_count_expert(t, e);
            continue;
        }
        if (job->n && bytes + more > most)
            break;
        int taken = take_slots(t, e, job);
        if (taken < 0)
            break;
        if (taken)
            bytes += more;
        else
            lade_load_count_expert(t, e);
    }
    if (job->n)
        job->kind = LADE_JOB_EXPERTS; /* a job of a kind is not free */
    return job->n > 0;
}

static bool pick(struct lade_tiers *t, struct lade_job *job)
{
    struct lade_load *l = &t->load;
    lade_load_check_cancel(t);
    if (l->failed || l->ended)
        return false;
    if (l->next_base < l->n_base) {
        job->kind = LADE_JOB_BASE;
        job->base = l->next_base++;
        return true;
    }
    /* While a layer may ask for experts at any moment, the load keeps out of its way. */
    return !l->base_left && !(t->ask.tokens && l->flying) && pick_experts(t, job);
}

bool lade_load_pick(struct lade_tiers *t, struct lade_job *job)
{
    bool any = pick(t, job);
    t->load.flying += any;
    lade_load_check_end(t);
    return any;
}

void lade_load_check_cancel(struct lade_tiers *t)
{
    struct lade_load *l = &t->load;
    if (l->failed || l->ended || !l->cancel || !atomic_load(l->cancel))
        return;
    l->failed = true;
    lade_fail(l->err, "loading: cancelled; start it again when ready");
    lade_load_check_end(t);
}

void lade_load_count_expert(struct lade_tiers *t, int e)
{
    if (!t->load.planned[e])
        return;
    t->load.planned[e] = 0;
    t->load.n_planned--;
    t->load.done += count_spans(t, e, t->load.shard_done);
}

void lade_load_missed(struct lade_tiers *t, int e)
{
    if (t->load.planned[e])
        t->load.next_expert = 0; /* what is home is passed over quickly */
}

void lade_load_count_base(struct lade_tiers *t, int base)
{
    struct lade_load *l = &t->load;
    for (int i = l->base[base].first; i < l->base[base].first + l->base[base].n; i++) {
        l->shard_done[l->items[i].shard] += l->items[i].bytes;
        l->done += l->items[i].bytes;
    }
    l->base_left--;
}

void lade_load_check_end(struct lade_tiers *t)
{
    struct lade_load *l = &t->load;
    bool all = l->next_base == l->n_base && l->next_expert == l->n_order && !l->n_planned;
    bool before = l->ended;
    l->ended = !l->flying && (all || l->failed);
    if (l->ended && !before) {
        l->seconds = lade_now() - t->began;
        pthread_cond_broadcast(&t->work); /* somebody has to tell it */
    }
    if (l->ended)
        pthread_cond_broadcast(&t->ready);
}

/* Keeps what the first load took, for the next plan: where it was whole, nobody had an answer meanwhile,
 * and the drive was read, not the page cache. */
static void note_speed(struct lade_tiers *t)
{
    pthread_mutex_lock(&t->lock);
    const struct lade_load *l = &t->load;
    uint64_t bytes = l->bytes, cached = atomic_load(&t->files.from_cache);
    bool tells = !l->failed && !t->ask.tokens && !t->traffic.tokens && cached < bytes / CACHED_PART;
    double seconds = l->seconds;
    pthread_mutex_unlock(&t->lock);
    if (tells)
        lade_machine_note_load(t->cat, t->cache_dir, t->place.base == LADE_VRAM, (double)bytes,
                               seconds);
    t->began = 0;
}

void lade_load_report(struct lade_tiers *t)
{
    int n = t->cat->n_shards;
    pthread_mutex_lock(&t->report_lock);
    pthread_mutex_lock(&t->lock);
    bool ended = t->load.ended; /* then all shards below are as they will stay */
    const bool told = t->load.told;
    t->load.told = told || ended;
    pthread_mutex_unlock(&t->lock);
    if (ended && t->began > 0)
        note_speed(t);
    for (int shard = 0; t->progress && !told && shard < n; shard++) {
        pthread_mutex_lock(&t->lock);
        const struct lade_load *l = &t->load;
        struct lade_load_progress p = {
            .shard = shard,
            .n_shards = n,
            .path = t->cat->shards[shard].path,
            .shard_done = l->shard_done[shard],
            .shard_bytes = l->shard_bytes[shard],
            .done = l->done,
            .bytes = l->bytes,
            .usable = !l->base_left,
            .ended = ended && shard == n - 1,
            .error = l->failed ? l->err : NULL,
        };
        bool news = l->shard_done[shard] != t->reported[shard] || p.ended;
        t->reported[shard] = l->shard_done[shard];
        pthread_mutex_unlock(&t->lock);
        if (news)
            t->progress(t->user, &p);
    }
    pthread_mutex_unlock(&t->report_lock);
}
