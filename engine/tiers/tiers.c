#include "engine/tiers/tiers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pages.h"
#include "engine/plan/habits.h"
#include "engine/tiers/internal.h"

enum { LEAST_STAGE = 2, LANDINGS_PART = 5, NO_KIND = 255 };

/* Holds a job of the load: a slice of the base with what its aligned ends take. */
enum { GATHER = (4 << 20) + (64 << 10) };

static const double gib = 1024.0 * 1024 * 1024;

void lade_wait_a_while(struct lade_tiers *t)
{
    lade_cond_wait(&t->ready, &t->lock, 0.02);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static size_t page_up(size_t bytes)
{
    return (bytes + LADE_DIRECT - 1) / LADE_DIRECT * LADE_DIRECT;
}

static int reserve_base(struct lade_tiers *t, char *err)
{
    t->base_at = calloc((size_t)t->cat->n_pieces, sizeof *t->base_at);
    if (!t->base_at)
        return lade_fail(err, "%s: out of memory for %d pieces; close other programs", t->cat->path,
                         t->cat->n_pieces);
    for (int i = 0; i < t->cat->n_pieces; i++) {
        if (t->cat->pieces[i].kind == LADE_PIECE_EXPERT)
            continue;
        t->base_at[i] = t->base_bytes;
        t->base_bytes += page_up(t->cat->pieces[i].bytes);
    }
    t->base = lade_pages_take(t->base_bytes);
    return t->base ? 0
                   : lade_fail(err, "%s: cannot reserve %.2f GiB of RAM: %s; close other programs",
                               t->cat->path, (double)t->base_bytes / gib, strerror(errno));
}

void lade_slot_prepare(struct lade_tiers *t, int slot, int expert)
{
    if (!lade_cache_is_stage(&t->ram, slot))
        return;
    uint8_t *kind = &t->stage_kind[slot - t->ram.first_stage];
    if (*kind != NO_KIND && *kind != t->kinds.of[expert])
        memset(lade_store_slot(&t->store, slot), 0, t->kinds.largest);
    *kind = t->kinds.of[expert];
}

/* ---- habits ---------------------------------------------------------------------------------- */

/* What earlier runs used most is also what a cache keeps first, until this one's uses say more. */
static int open_habits(struct lade_tiers *t, const char *cache_dir, char *err)
{
    int n = t->kinds.n_experts;
    if (lade_heat_open(&t->heat, n, LADE_HEAT_CACHE, err) ||
        lade_heat_open(&t->habit, (int)lade_habits_count(t->cat), LADE_HEAT_HABIT, err))
        return -1;
    t->asked_at = calloc(n ? (size_t)n : 1, sizeof *t->asked_at);
    if (!t->asked_at)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    t->habits_path = lade_habits_path(cache_dir, t->cat);
    if (!t->habits_path || !lade_habits_read(t->habits_path, t->cat, t->habit.score))
        return 0;
    for (int e = 0; e < n; e++)
        t->heat.score[e] = t->habit.score[e] / LADE_HEAT_HABIT;
    return 0;
}

void lade_tiers_keep_habits(struct lade_tiers *t)
{
    if (!t->habits_path || !t->habit_tokens)
        return;
    lade_heat_settle(&t->habit);
    lade_habits_write(t->habits_path, t->cat, t->habit.score); /* if it fails, it stays as it was */
    t->habit_tokens = 0;
}

/* ---- open, close ----------------------------------------------------------------------------- */

/* Gives a new cache its rooms, all of which must be there. */
static int open_rooms(struct lade_cache *c, struct lade_store *s, const int *room, char *err)
{
    for (int i = 0; i < c->kinds->n; i++)
        if (lade_store_resize(s, i, lade_cache_resize(c, i, room[i], NULL, NULL), err))
            return -1;
    return 0;
}

/* Packing takes a core about as long as reading from memory: three of four, that a load from the page
 * cache is as fast as it can be; two at least, so that one reads while the other packs. */
static int count_movers(void)
{
    int n = lade_cpu_cores() * 3 / 4;
    return n < 2 ? 2 : n > LADE_MOVERS ? LADE_MOVERS : n;
}

/* Half of the staging memory are slots and landings, the other half what the movers read to. Where
 * experts are carried to a GPU all slots are memory that it can read. */
static int open_ram(struct lade_tiers *t, char *err)
{
    int room[LADE_MAX_KINDS], none[LADE_MAX_KINDS] = {0};
    enum lade_store_kind stage_where = t->n_vram ? LADE_STORE_PINNED : LADE_STORE_RAM;
    enum lade_store_kind where = lade_streams(t) ? LADE_STORE_PINNED : LADE_STORE_RAM;
    size_t half = t->place.staging / 2;
    size_t stage = t->kinds.largest ? half / t->kinds.largest : 0;
    size_t most = (size_t)t->kinds.n_experts;
    int landings = (int)(stage / LANDINGS_PART);
    stage -= (size_t)landings;
    stage = stage < LEAST_STAGE ? LEAST_STAGE : stage > most ? most : stage;
    size_t least = page_up(t->kinds.read_largest) + 16 * LADE_DIRECT;
    t->most_movers = count_movers();
    t->stage_limit = half / (size_t)t->most_movers > least ? half / (size_t)t->most_movers : least;
    t->stage_limit = page_up(t->stage_limit);
    t->gather_bytes = t->stage_limit - least >= GATHER ? GATHER : 0;
    if (lade_cache_open(&t->ram, &t->kinds, none, (int)stage, t->heat.score, err) ||
        lade_store_open(&t->store, where, stage_where, &t->kinds, t->place.ram_experts, (int)stage,
                        t->vram[0].part.ops, t->vram[0].part.dev, err))
        return -1;
    lade_store_fit(&t->store, t->place.ram_experts, room);
    t->stage_kind = malloc(stage);
    if (!t->stage_kind)
        return lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    memset(t->stage_kind, NO_KIND, stage);
    if (lade_look_open(t, landings, err))
        return -1;
    return open_rooms(&t->ram, &t->store, room, err);
}

static int open_vram(struct lade_tiers *t, const struct lade_tiers_config *config, char *err)
{
    int room[LADE_MAX_KINDS];
    if (lade_vram_open(t, &t->place, config->devices, err))
        return -1;
    for (int i = 0; i < t->n_vram; i++) {
        struct lade_vram *v = &t->vram[i];
        lade_store_fit(&v->store, lade_vram_budget(t, v, &t->place), room);
        if (open_rooms(&v->cache, &v->store, room, err))
            return -1;
    }
    return t->n_vram && t->place.base == LADE_VRAM ? lade_vram_open_base(t, err) : 0;
}

static void init_locks(struct lade_tiers *t)
{
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->report_lock, NULL);
    pthread_cond_init(&t->work, NULL);
    lade_cond_init(&t->ready);
}

int lade_tiers_open(struct lade_tiers **out, const struct lade_tiers_config *config, char *err)
{
    struct lade_tiers *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t)
        return lade_fail(err, "%s: out of memory; close other programs", config->cat->path);
    t->cat = config->cat;
    t->place = config->place;
    t->lookahead = config->lookahead;
    t->cache_dir = config->cache_dir ? strdup(config->cache_dir) : NULL;
    t->began = config->began;
    t->io = config->io ? config->io : lade_io_best();
    init_locks(t);
    t->reported = calloc((size_t)t->cat->n_shards, sizeof *t->reported);
    if (!t->reported)
        lade_fail(err, "%s: out of memory; close other programs", t->cat->path);
    if (!t->reported || lade_kinds_open(&t->kinds, t->cat, err) ||
        open_habits(t, config->cache_dir, err) || open_vram(t, config, err) || open_ram(t, err) ||
        reserve_base(t, err) || lade_load_open(t, err) || lade_ask_open(t, err) ||
        lade_files_open(&t->files, t->cat, err)) {
        lade_tiers_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

void lade_tiers_close(struct lade_tiers *t)
{
    if (!t)
        return;
    lade_movers_stop(t);
    lade_tiers_keep_habits(t);
    for (int i = 0; i < t->n_vram; i++) /* nothing may be at work on what is freed */
        t->vram[i].part.ops->sync(t->vram[i].part.dev, NULL);
    lade_store_close(&t->store);
    lade_vram_close(t);
    lade_files_close(&t->files);
    lade_ask_close(t);
    lade_look_close(t);
    lade_load_close(t);
    lade_pages_give(t->base, t->base_bytes);
    free(t->stage_kind);
    free(t->base_at);
    free(t->reported);
    lade_cache_close(&t->ram);
    lade_heat_close(&t->heat);
    lade_heat_close(&t->habit);
    free(t->cache_dir);
    free(t->habits_path);
    free(t->asked_at);
    lade_kinds_close(&t->kinds);
    pthread_cond_destroy(&t->work);
    pthread_cond_destroy(&t->ready);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->report_lock);
    free(t);
}

/* ---- loading --------------------------------------------------------------------------------- */

uint64_t lade_tiers_to_load(const struct lade_tiers *t)
{
    return t->load.bytes;
}

uint64_t lade_tiers_shard_to_load(const struct lade_tiers *t, int shard)
{
    return t->load.shard_bytes[shard];
}

int lade_tiers_load(struct lade_tiers *t, lade_load_fn *progress, void *user,
                    const atomic_bool *cancel, char *err)
{
    t->progress = progress;
    t->user = user;
    t->load.cancel = cancel;
    return lade_movers_start(t, err);
}

int lade_tiers_wait(struct lade_tiers *t, bool all, char *err)
{
    const struct lade_load *l = &t->load;
    int result = 0;
    pthread_mutex_lock(&t->lock);
    while (all ? !l->ended : l->base_left && !l->failed) {
        lade_load_check_cancel(t);
        lade_wait_a_while(t);
    }
    if (l->failed && (all || l->base_left))
        result = lade_fail(err, "%s", l->err);
    pthread_mutex_unlock(&t->lock);
    return result;
}

const void *lade_tiers_base(const struct lade_tiers *t, int piece)
{
    return t->vram_base ? t->vram_base[piece] : t->base + t->base_at[piece];
}

const void *lade_tiers_tied_head(const struct lade_tiers *t)
{
    return t->tied ? t->tied : lade_tiers_base(t, 0);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void tell_residence(struct lade_residence *out, const struct lade_cache *c,
                           const struct lade_kinds *kinds)
{
    out->experts += (uint64_t)c->here;
    for (int i = 0; i < kinds->n; i++) {
        out->room += (uint64_t)c->kind[i].room;
        out->bytes += (uint64_t)c->kind[i].room * kinds->kind[i].stride;
    }
}

void lade_tiers_stats(struct lade_tiers *t, struct lade_tiers_stats *out)
{
    *out = (struct lade_tiers_stats){.weights = t->base_bytes};
    pthread_mutex_lock(&t->lock);
    out->traffic = t->traffic;
    out->token = t->token;
    out->loading = !t->load.ended;
    tell_residence(&out->in_ram, &t->ram, &t->kinds);
    for (int i = 0; i < t->n_vram; i++)
        tell_residence(&out->in_vram, &t->vram[i].cache, &t->vram[i].kinds);
    for (int i = 0; i < t->n_vram; i++)
        out->weights += (size_t)t->vram[i].cache.n_stage * t->vram[i].kinds.largest;
    pthread_mutex_unlock(&t->lock);
    size_t ram_stage = (size_t)t->ram.n_stage * t->kinds.largest +
                       (size_t)t->most_movers * t->stage_limit + t->look.bytes;
    out->weights += out->in_ram.bytes + out->in_vram.bytes + ram_stage;
    bool touched = t->store.where == LADE_STORE_RAM && out->in_ram.room; /* only what is used */
    out->ram_experts_held =
        touched ? out->in_ram.bytes / out->in_ram.room * out->in_ram.experts : out->in_ram.bytes;
    out->ram_held = (t->vram_base ? 0 : t->base_bytes) + ram_stage + out->ram_experts_held;
}
