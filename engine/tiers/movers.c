/* movers.c - the threads that bring bytes to their places. */
#include <stdlib.h>
#include <string.h>

#include "engine/checkpoint/pack.h"
#include "engine/pages.h"
#include "engine/tiers/internal.h"

enum { DEPTH = 256 }; /* reads of one mover on their way */

/* ---- the stage of a mover -------------------------------------------------------------------- */

/* The first gap of `bytes` between the parts in use, which are few; -1 where there is none. */
static long find_gap(const struct lade_mover *m, size_t bytes)
{
    size_t at = m->tiers->gather_bytes;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < LADE_JOBS; i++) {
            const struct lade_job *j = &m->jobs[i];
            size_t end = j->stage_at + j->haul.stage_bytes;
            if (j->flying && j->stage_at < at + bytes && end > at) {
                at = end;
                moved = true;
            }
        }
    }
    return at + bytes <= m->stage_bytes ? (long)at : -1;
}

/* A stage of at least `bytes`; nothing is in the old one. It goes back to its usual size when the
 * one job that needs more is done. */
static int resize_stage(struct lade_mover *m, size_t bytes, char *err)
{
    size_t want = bytes > m->tiers->stage_limit ? bytes : m->tiers->stage_limit;
    if (want == m->stage_bytes)
        return 0;
    lade_pages_give(m->stage, m->stage_bytes);
    m->stage_bytes = 0;
    m->stage = lade_pages_take(want);
    if (!m->stage)
        return lade_fail(err, "%s: out of memory for a buffer of %zu bytes; close other programs",
                         m->tiers->cat->path, want);
    m->stage_bytes = want;
    return 0;
}

/* Room for the job's reads: 1 done, 0 not now, -1 failed. */
static int place_in_stage(struct lade_mover *m, struct lade_job *j, char *err)
{
    size_t bytes = j->haul.stage_bytes, whole = m->tiers->gather_bytes + bytes;
    j->stage_at = 0;
    if (!bytes && !j->haul.n_lent)
        return 1;
    if (!m->flying && (whole > m->stage_bytes || m->stage_bytes > m->tiers->stage_limit) &&
        resize_stage(m, whole, err))
        return -1;
    long at = find_gap(m, bytes);
    if (at < 0)
        return 0;
    j->stage_at = (size_t)at;
    return 1;
}

/* ---- jobs ------------------------------------------------------------------------------------ */

/* Items of the base are read to where only they will lie. */
static int lend_base(struct lade_tiers *t, struct lade_job *j, char *err)
{
    for (int i = 0; i < j->haul.n_items; i++) {
        const struct lade_item *it = &j->haul.items[i];
        const struct lade_tensor *tensor = &t->cat->tensors[it->tensor];
        size_t at, bytes = lade_pack_own(tensor, it->part, it->first, it->rows, &at);
        if (lade_haul_lend(&j->haul, it->dst + at, bytes, err))
            return -1;
    }
    return 0;
}

/* What the load brings to RAM is read to its own place; an expert only if it stays there. */
static int lend(struct lade_tiers *t, struct lade_job *j, char *err)
{
    if (t->cat->aligned || j->haul.read_bytes > t->gather_bytes)
        return 0;
    if (j->kind == LADE_JOB_BASE)
        return lend_base(t, j, err);
    if (j->kind != LADE_JOB_EXPERTS || !lade_reads_to_slots(t))
        return 0;
    for (int i = 0; i < j->n; i++)
        if (!lade_cache_is_stage(&t->ram, j->slots[i]) &&
            lade_haul_lend(&j->haul, lade_store_slot(&t->store, j->slots[i]),
                           lade_expert_bytes(t, j->experts[i]), err))
            return -1;
    return 0;
}

/* Tells the job's spans and where they go. */
static int describe(struct lade_tiers *t, struct lade_job *j, char *err)
{
    struct lade_haul *f = &j->haul;
    lade_haul_clear(f);
    f->cat = t->cat;
    f->files = &t->files;
    f->ops = t->io;
    if (j->kind == LADE_JOB_BASE) {
        const struct lade_base_job *b = &t->load.base[j->base];
        for (int i = b->first; i < b->first + b->n; i++)
            if (lade_haul_item(f, &t->load.items[i], err))
                return -1;
    }
    for (int i = 0; j->kind != LADE_JOB_BASE && i < j->n; i++) {
        bool ahead = j->kind == LADE_JOB_LOOK;
        int e = j->experts[i], slot = j->slots[i];
        size_t stride = ahead ? t->kinds.largest : lade_store_stride(&t->store, slot);
        if (ahead)
            lade_landing_prepare(t, j->landing);
        else
            lade_slot_prepare(t, slot, e);
        if (lade_haul_piece(f, lade_expert_piece(t, e),
                            ahead ? lade_landing_place(t, j->landing)
                                  : lade_store_slot(&t->store, slot),
                            stride % LADE_DIRECT == 0, err))
            return -1;
    }
    return lade_haul_arrange(f, err) || lend(t, j, err) ? -1 : 0;
}

/* Under the lock: an expert of a job is there, or failed. */
static void publish_expert(struct lade_tiers *t, const struct lade_job *j, int i, const char *err)
{
    int e = j->experts[i], slot = j->slots[i], vslot = j->vslots[i];
    if (err) {
        lade_ask_failed(t, e, err);
        lade_load_missed(t, e);
        lade_cache_failed(&t->ram, slot);
        if (vslot >= 0)
            lade_cache_failed(&lade_vram_of(t, e)->cache, vslot);
        return;
    }
    bool passes = lade_cache_is_stage(&t->ram, slot);
    lade_cache_filled(&t->ram, slot);
    if (vslot >= 0) {
        struct lade_cache *c = &lade_vram_of(t, e)->cache;
        lade_cache_filled(c, vslot);
        lade_cache_unpin(c, vslot);
    }
    if (vslot >= 0 || !passes)
        lade_load_count_expert(t, e);
    if (j->kind != LADE_JOB_DEMAND)
        lade_cache_unpin(&t->ram, slot);
}

/* Under the lock: what became of a job. */
static void publish(struct lade_tiers *t, struct lade_job *j, const char *err)
{
    bool load = j->kind != LADE_JOB_DEMAND;
    for (int i = 0; j->kind != LADE_JOB_BASE && i < j->n; i++)
        publish_expert(t, j, i, err);
    if (j->kind == LADE_JOB_DEMAND && j->landing >= 0)
        lade_look_taken(t, j->landing);
    if (j->kind == LADE_JOB_BASE && !err)
        lade_load_count_base(t, j->base);
    if (load) {
        t->load.flying--;
        if (err && !t->load.failed) {
            t->load.failed = true;
            lade_fail(t->load.err, "%s", err);
        }
        pthread_cond_broadcast(&t->work); /* the load may start its next job */
    }
    lade_load_check_end(t);
    pthread_cond_broadcast(&t->ready);
    j->kind = LADE_JOB_NONE;
}

/* Brings what has been packed in RAM to VRAM, where that is its home. */
static int bring_to_vram(struct lade_tiers *t, const struct lade_job *j, char *err)
{
    for (int i = 0; j->kind == LADE_JOB_EXPERTS && i < j->n; i++)
        if (j->vslots[i] >= 0 && lade_vram_put(t, j->experts[i], j->slots[i], j->vslots[i], err))
            return -1;
    if (j->kind != LADE_JOB_BASE || !t->vram_base)
        return 0;
    const struct lade_base_job *b = &t->load.base[j->base];
    for (int i = b->first; i < b->first + b->n; i++) {
        int piece = t->cat->tensors[t->load.items[i].tensor].piece;
        pthread_mutex_lock(&t->lock);
        bool whole = --t->load.piece_left[piece] == 0;
        pthread_mutex_unlock(&t->lock);
        if (whole && lade_vram_put_base(t, piece, err))
            return -1;
    }
    return 0;
}

static void finish(struct lade_mover *m, struct lade_job *j, const char *err)
{
    struct lade_tiers *t = m->tiers;
    if (j->flying)
        m->flying--;
    j->flying = false;
    if (j->kind == LADE_JOB_LOOK) {
        pthread_mutex_lock(&t->lock);
        bool waited_for = lade_look_landed(t, j, err);
        pthread_mutex_unlock(&t->lock);
        if (!waited_for)
            return;
        if (!err)
            lade_landing_copy(t, j);
    }
    pthread_mutex_lock(&t->lock);
    publish(t, j, err);
    pthread_mutex_unlock(&t->lock);
    lade_load_report(t);
}

/* All reads of a job are back: packs and publishes it. */
static void complete(struct lade_mover *m, struct lade_job *j)
{
    char err[LADE_ERR];
    bool failed = lade_haul_finish(&j->haul, err) || bring_to_vram(m->tiers, j, err);
    finish(m, j, failed ? err : NULL);
}

/* Starts a described job, or parks it until there is room. */
static void launch(struct lade_mover *m, struct lade_job *j)
{
    char err[LADE_ERR];
    int room = place_in_stage(m, j, err);
    m->parked = room ? NULL : j;
    if (!room)
        return;
    if (room < 0 || lade_haul_start(&j->haul, m->stage + j->stage_at, m->stage, m->io, err)) {
        finish(m, j, err);
        return;
    }
    j->flying = true;
    m->flying++;
    if (!j->haul.pending) /* all of it is in the page cache */
        complete(m, j);
}

/* Takes one read back, which may complete a job. */
static void take_back(struct lade_mover *m)
{
    struct lade_chunk *c = (struct lade_chunk *)(void *)m->tiers->io->wait(m->io);
    struct lade_haul *f = c->haul;
    lade_haul_back(c, m->io);
    if (f->pending)
        return;
    for (int i = 0; i < LADE_JOBS; i++)
        if (&m->jobs[i].haul == f)
            complete(m, &m->jobs[i]);
    if (m->parked)
        launch(m, m->parked);
}

static struct lade_job *free_job(struct lade_mover *m)
{
    for (int i = 0; i < LADE_JOBS; i++)
        if (m->jobs[i].kind == LADE_JOB_NONE)
            return &m->jobs[i];
    return NULL;
}

/* Under the lock: something to start now, or NULL. */
static struct lade_job *pick(struct lade_mover *m)
{
    struct lade_tiers *t = m->tiers;
    struct lade_job *j = m->parked || t->stop ? NULL : free_job(m);
    return j && (lade_ask_pick(t, j) || lade_load_pick(t, j) || lade_look_pick(t, j)) ? j : NULL;
}

static void *work(void *arg)
{
    struct lade_mover *m = arg;
    struct lade_tiers *t = m->tiers;
    char err[LADE_ERR];
    for (;;) {
        pthread_mutex_lock(&t->lock);
        struct lade_job *j = pick(m);
        /* That a load has ended may show in a pick, where what was left of it came by demand. */
        while (!j && !m->flying && !t->stop && (!t->load.ended || t->load.told)) {
            pthread_cond_wait(&t->work, &t->lock);
            j = pick(m);
        }
        bool idle = !j && !m->flying, stop = idle && t->stop, ended = t->load.ended;
        pthread_mutex_unlock(&t->lock);
        if (ended)
            lade_load_report(t);
        if (stop)
            return NULL;
        if (idle)
            continue;
        if (!j)
            take_back(m);
        else if (j->kind == LADE_JOB_DEMAND && j->landing >= 0) {
            lade_landing_copy(t, j);
            finish(m, j, NULL);
        } else if (describe(t, j, err))
            finish(m, j, err);
        else
            launch(m, j);
    }
}

/* ---- start, stop ----------------------------------------------------------------------------- */

static void close_mover(struct lade_mover *m)
{
    for (int i = 0; i < LADE_JOBS; i++)
        lade_haul_close(&m->jobs[i].haul);
    if (m->io)
        m->tiers->io->close(m->io);
    lade_pages_give(m->stage, m->stage_bytes);
    *m = (struct lade_mover){0};
}

int lade_movers_start(struct lade_tiers *t, char *err)
{
    for (int i = 0; i < t->most_movers; i++) {
        struct lade_mover *m = &t->movers[t->n_movers];
        m->tiers = t;
        if (t->io->open(&m->io, DEPTH, err)) {
            close_mover(m);
            return t->n_movers ? 0 : -1; /* fewer movers are slower, no more */
        }
        if (pthread_create(&m->thread, NULL, work, m)) {
            close_mover(m);
            return t->n_movers ? 0
                               : lade_fail(err, "%s: cannot start a thread; close other programs",
                                           t->cat->path);
        }
        t->n_movers++;
    }
    return 0;
}

void lade_movers_stop(struct lade_tiers *t)
{
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n_movers; i++) {
        pthread_join(t->movers[i].thread, NULL);
        close_mover(&t->movers[i]);
    }
    t->n_movers = 0;
}
