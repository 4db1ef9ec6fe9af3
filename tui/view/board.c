/* The state of the load board: engine events in, steady numbers out. */
#include "tui/view/board.h"

#include <math.h>
#include <stdio.h>

/* Time constant in seconds of the shown speed: long enough to read, short enough to be true. */
static const double SMOOTH = 2.0;

/* Seconds: times shorter than this are those of the screen, not of the load. */
static const double BATCH = 0.1;

void board_init(struct board *b)
{
    *b = (struct board){.gbps = NAN, .eta = NAN, .tick = NAN, .moved = NAN};
}

void board_waiting(struct board *b, const char *text)
{
    snprintf(b->waits, sizeof b->waits, "%s", text);
}

static void describe(struct board *b, const struct lade_model_info *info)
{
    snprintf(b->name, sizeof b->name, "%s", info->name);
    snprintf(b->detail, sizeof b->detail, "%s%s%s%s%s", info->format, *info->quant ? " " : "",
             info->quant, *info->strategy ? " · " : "", info->strategy);
}

void board_model(struct board *b, const struct lade_model_info *info)
{
    board_init(b);
    describe(b, info);
    b->n_all = info->n_shards > 0 ? info->n_shards : 0;
    b->n = b->n_all < BOARD_SHARDS ? b->n_all : BOARD_SHARDS;
    b->bytes = info->bytes;
    for (int i = 0; i < b->n; i++) {
        struct board_shard *s = &b->shard[i];
        snprintf(s->name, sizeof s->name, "%s", info->shards[i].name);
        s->bytes = info->shards[i].bytes;
        s->gbps = s->seconds = s->began = NAN;
    }
}

/* A load that begins again, because everything gets another place. */
static void begin_again(struct board *b)
{
    b->tick_done = 0;
    for (int i = 0; i < b->n; i++) {
        struct board_shard *s = &b->shard[i];
        s->done = s->tick_done = 0;
        s->gbps = s->seconds = s->began = NAN;
    }
}

void board_event(struct board *b, const struct lade_event *ev, double now)
{
    if (ev->total_bytes)
        b->bytes = ev->total_bytes;
    if (ev->done_bytes < b->told)
        begin_again(b);
    b->done = b->told = ev->done_bytes;
    if (ev->shard < 0 || ev->shard >= b->n)
        return;
    struct board_shard *s = &b->shard[ev->shard];
    bool was_done = s->bytes && s->done >= s->bytes;
    s->bytes = ev->shard_bytes;
    s->done = ev->shard_done;
    if (isnan(s->began) && s->done)
        s->began = isnan(b->tick) ? now : b->tick;
    if (s->done >= s->bytes && !was_done && !isnan(s->began)) {
        /* Events arrive in batches: what lies within one has no time of its own. */
        bool measured = now - s->began >= BATCH;
        s->seconds = measured ? now - s->began : NAN;
        s->gbps = measured ? (double)s->bytes / s->seconds * 1e-9 : NAN;
    }
}

/* Exponential smoothing that does not depend on how often it is called; the first sample counts
 * whole. */
static double smooth(double old, double sample, double dt)
{
    return isnan(old) ? sample : old + (sample - old) * (1 - exp(-dt / SMOOTH));
}

/* Smoothing never gets to zero; a load that stands still for so many seconds has no speed, and
 * nobody knows when it ends. */
static const double STALLED = 5.0;

static void tick_shards(struct board *b, double dt, double now)
{
    bool stalled = now - b->moved >= STALLED;
    for (int i = 0; i < b->n; i++) {
        struct board_shard *s = &b->shard[i];
        if (!isnan(s->began) && s->done < s->bytes) {
            double moved = s->done > s->tick_done ? (double)(s->done - s->tick_done) : 0;
            s->gbps = stalled ? 0 : smooth(s->gbps, moved / dt * 1e-9, dt);
            s->seconds = now - s->began;
        }
        s->tick_done = s->done;
    }
}

/* Where the weights are: the experts that each memory has room for, and until the engine tells of
 * them all that it holds. */
static void tick_tiers(struct board *b, const struct lade_stats *stats)
{
    const struct {
        const char *name;
        const struct lade_residence *in;
    } memory[] = {{"VRAM", &stats->in_vram}, {"RAM", &stats->in_ram}};
    b->n_tiers = 0;
    for (int i = 0; i < 2; i++) {
        const struct lade_residence *r = memory[i].in;
        if (r->room)
            b->tier[b->n_tiers++] = (struct board_tier){
                memory[i].name, (uint64_t)((double)r->bytes * (double)r->experts / (double)r->room),
                r->bytes};
    }
    if (b->n_tiers == 0 && stats->weights && b->bytes)
        b->tier[b->n_tiers++] = (struct board_tier){"RAM", stats->weights, b->bytes};
}

void board_tick(struct board *b, const struct lade_stats *stats, double now)
{
    if (stats) {
        b->elapsed = stats->load_s;
        tick_tiers(b, stats);
    }
    if (b->ready)
        return;
    /* A change of strategy moves pieces without reading shards. */
    if (b->usable && stats && stats->load_bytes) {
        b->done = stats->load_done;
        b->bytes = stats->load_bytes;
    }
    double dt = now - b->tick;
    if (dt < 0.1)
        return;
    if (dt > 0) {
        double moved = b->done > b->tick_done ? (double)(b->done - b->tick_done) : 0;
        double sample = moved / dt * 1e-9;
        if (moved > 0 || isnan(b->moved))
            b->moved = now;
        /* Before the first byte there is no speed to speak of. */
        if (b->done) {
            b->gbps = now - b->moved >= STALLED ? 0 : smooth(b->gbps, sample, dt);
            ring_push(&b->speed, (float)sample);
        }
        tick_shards(b, dt, now);
    }
    b->tick = now;
    b->tick_done = b->done;
    b->eta =
        b->gbps > 1e-6 && b->bytes >= b->done ? (double)(b->bytes - b->done) / b->gbps * 1e-9 : NAN;
}

void board_usable(struct board *b)
{
    b->usable = true;
}

void board_strategy(struct board *b, const struct lade_model_info *info)
{
    describe(b, info);
    b->gbps = b->eta = b->moved = NAN;
    b->ready = false;
}

void board_ready(struct board *b, double seconds)
{
    b->ready = true;
    b->elapsed = seconds;
    b->done = b->bytes;
    b->eta = 0;
    b->gbps = seconds > 0 ? (double)b->bytes / seconds * 1e-9 : NAN;
    for (int i = 0; i < b->n; i++)
        b->shard[i].done = b->shard[i].bytes;
}
