/* Draws the load board, the status lines and the side panel with made-up numbers, as the chat lays
 * them out, and waits for a key: for looking at them in a terminal, and for the screen tests, which
 * need the same picture every time.
 *
 *     show_views [shards=N] [at=FRACTION] [theme=NAME] [phase=NAME] [gpu=GiB] [cards=N]
 *         [ram=GiB] [move=1]
 *
 * phase: loading idle prefill decode failed. move=1 plays the load in real time. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tui/text/width.h"
#include "tui/theme.h"
#include "tui/view/board.h"
#include "tui/view/status.h"

static struct board board;
static struct status status;
static struct lade_model_info info;

struct show {
    int shards, cards;
    double at, gpu, ram;
    const char *theme;
    enum lade_phase phase;
    bool move;
};

static int usage(const char *word)
{
    fprintf(stderr, "show_views: '%s': not an option; see the top of show_views.c\n", word);
    return 2;
}

static int options(struct show *s, int argc, char **argv)
{
    static const char *const phases[] = {"loading", "idle", "prefill", "decode", "failed"};
    for (int i = 1; i < argc; i++) {
        const char *eq = strchr(argv[i], '=');
        if (!eq)
            return usage(argv[i]);
        size_t n = (size_t)(eq++ - argv[i]);
        if (!strncmp(argv[i], "shards", n))
            s->shards = atoi(eq);
        else if (!strncmp(argv[i], "at", n))
            s->at = atof(eq);
        else if (!strncmp(argv[i], "cards", n))
            s->cards = atoi(eq) < LADE_CARDS ? atoi(eq) : LADE_CARDS;
        else if (!strncmp(argv[i], "gpu", n))
            s->gpu = atof(eq);
        else if (!strncmp(argv[i], "ram", n))
            s->ram = atof(eq);
        else if (!strncmp(argv[i], "theme", n))
            s->theme = eq;
        else if (!strncmp(argv[i], "move", n))
            s->move = atoi(eq) != 0;
        else if (!strncmp(argv[i], "phase", n)) {
            for (int p = 0; p < 5; p++)
                if (!strcmp(eq, phases[p]))
                    s->phase = (enum lade_phase)p;
        } else
            return usage(argv[i]);
    }
    return 0;
}

static void make_model(int shards)
{
    strcpy(info.name, "Qwen3-Next-80B-A3B-Instruct");
    strcpy(info.format, "safetensors");
    strcpy(info.quant, "int4 mixed");
    strcpy(info.strategy, "cpu-standard");
    info.n_shards = shards;
    for (int i = 0; i < shards && i < 256; i++) {
        snprintf(info.shards[i].name, sizeof info.shards[i].name, "model-%05d-of-%05d.safetensors",
                 i + 1, shards);
        info.shards[i].bytes =
            (uint64_t)43200000000 / (uint64_t)shards - (uint64_t)(i % 5) * 7000000;
        info.bytes += info.shards[i].bytes;
    }
}

static double speed_at(double t)
{
    return 1.2 + 0.35 * sin(t * 0.9) + 0.15 * sin(t * 3.1);
}

/* Two shards are read at a time: the first takes two thirds of the speed. */
static void advance(uint64_t moved, double now)
{
    uint64_t done = board.done;
    int open = 0;
    for (int i = 0; i < info.n_shards && open < 2; i++) {
        struct board_shard *s = &board.shard[i];
        if (s->done >= s->bytes)
            continue;
        uint64_t step = open == 0 ? moved * 2 / 3 : moved / 3;
        if (step > s->bytes - s->done)
            step = s->bytes - s->done;
        done += step;
        board_event(&board,
                    &(struct lade_event){.kind = LADE_EV_SHARD,
                                         .shard = i,
                                         .n_shards = info.n_shards,
                                         .shard_done = s->done + step,
                                         .shard_bytes = s->bytes,
                                         .done_bytes = done,
                                         .total_bytes = info.bytes},
                    now);
        open++;
    }
}

static struct lade_stats stats;

static void step(const struct show *s, double now, double dt)
{
    stats.phase = s->phase;
    if (s->phase == LADE_PHASE_LOADING) {
        stats.load_gbps = speed_at(now);
        advance((uint64_t)(stats.load_gbps * dt * 1e9), now);
        stats.load_s = now;
        stats.load_done = board.done;
        stats.load_bytes = info.bytes;
        stats.weights = board.done;
        board_tick(&board, &stats, now);
        return;
    }
    stats.weights = 43200000000;
    stats.kv = 350000000;
    stats.context_size = 32768;
    stats.context_used = 4096 + (int)now * 12;
    if (s->phase == LADE_PHASE_DECODE || s->phase == LADE_PHASE_IDLE)
        stats.decode_tps = 12.3 + 2 * sin(now) + sin(now * 2.7);
    stats.prefill_tps = 83.5;
    status_prefill(&status, 640, 4096);
}

/* The machine's own numbers would differ on every machine. */
static void made_up_machine(const struct show *s)
{
    struct machine *m = &status.sample.machine;
    const double gib = 1073741824.0;
    m->ram_total = (uint64_t)(s->ram * gib);
    m->rss = stats.weights + (uint64_t)(0.4 * gib);
    m->rss_file = 0;
    m->ram_available = m->ram_total - m->rss - (uint64_t)(5.7 * gib);
    m->load = 0.83;
    status.sample.have_gpu = s->gpu > 0;
    status.sample.gpu =
        (struct lade_nvml_gpu){"made up", (uint64_t)(s->gpu * gib), (uint64_t)(s->gpu * gib * 0.7),
                               (uint64_t)(s->gpu * gib * 0.55), 80};
    for (int i = 0; i < METER_COUNT; i++)
        meter_update(&status.meter[i], &status.sample, false);
    status.sample.engine.n_cards = s->cards;
    for (int i = 0; i < s->cards; i++) { /* the model is on so many, each smaller than the last */
        double total = s->gpu / (i + 1);
        status.sample.engine.cards[i] =
            (struct lade_card_memory){.gpu = i,
                                      .total = (uint64_t)(total * gib),
                                      .free = (uint64_t)(total * gib * 0.2),
                                      .used = (uint64_t)(total * gib * 0.7)};
    }
    for (int i = 0; i < s->cards; i++)
        meter_update(&status.card[i], &status.sample, false);
}

static void tick(const struct show *s, double now, double dt)
{
    step(s, now, dt);
    status_tick(&status, &stats, now);
    if (s->phase == LADE_PHASE_IDLE)
        ring_push(&status.meter[METER_SPEED].history, (float)stats.decode_tps);
    made_up_machine(s);
}

static void draw(void)
{
    int lines, panel;
    status_wants(LINES, COLS, &lines, &panel);
    status.panel = panel > 0;
    bkgd(theme_attr(THEME_TEXT));
    erase();
    int rows = LINES - lines - 2, cols = COLS - panel;
    WINDOW *b = derwin(stdscr, rows, cols, 0, 0),
           *st = derwin(stdscr, lines, COLS, LINES - lines, 0);
    WINDOW *side = panel ? derwin(stdscr, rows + 2, panel, 0, cols) : NULL;
    attrset(theme_attr(THEME_BORDER));
    for (int x = 0; x < cols; x++)
        mvaddstr(rows, x, width_utf8() ? "─" : "-");
    attrset(theme_attr(THEME_PROMPT));
    mvaddstr(rows + 1, 1, "> ");
    if (b)
        board_draw(&board, b);
    if (st)
        status_draw(&status, st);
    if (side)
        status_panel_draw(&status, side);
    delwin(b);
    delwin(st);
    delwin(side);
    refresh();
}

/* From the start to the moment asked for: part of the load, or all of it and twelve seconds. */
static void play(const struct show *s)
{
    struct show load = *s;
    bool loading = s->phase == LADE_PHASE_LOADING;
    double now = 0, end = loading ? s->at : 1;
    load.phase = LADE_PHASE_LOADING;
    for (; now < 600 && (double)board.done < end * (double)info.bytes; now += 0.25)
        tick(&load, now, 0.25);
    if (loading)
        return;
    board_ready(&board, now);
    for (double t = 0; t < 12; t += 0.25)
        tick(s, now + t, 0.25);
}

int main(int argc, char **argv)
{
    struct show s = {
        .shards = 9, .at = 0.45, .ram = 62.7, .theme = THEME_DEFAULT, .phase = LADE_PHASE_LOADING};
    char err[LADE_ERR];
    if (options(&s, argc, argv) != 0)
        return 2;
    setlocale(LC_ALL, "");
    initscr();
    cbreak();
    noecho();
    curs_set(0);
    keypad(stdscr, TRUE);
    if (theme_load(s.theme, err) != 0) {
        endwin();
        fprintf(stderr, "show_views: %s\n", err);
        return 1;
    }
    make_model(s.shards);
    board_model(&board, &info);
    status_init(&status);
    status_model(&status, &info);
    play(&s);
    double now = 12;
    timeout(s.move ? 250 : -1);
    for (int key = KEY_RESIZE; key == KEY_RESIZE || key == ERR; key = getch()) {
        if (s.move) {
            now += 0.25;
            tick(&s, now, 0.25);
        }
        draw();
    }
    endwin();
    status_close(&status);
    return 0;
}
