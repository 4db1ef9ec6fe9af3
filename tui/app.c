#include "tui/app.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/checkpoint/file.h"
#include "engine/clock.h"
#include "tui/app_keys.h"
#include "tui/editor.h"
#include "tui/input.h"
#include "tui/key_file.h"
#include "tui/leave.h"
#include "tui/model_path.h"
#include "tui/paths.h"
#include "tui/prefs.h"
#include "tui/report.h"
#include "tui/screen.h"
#include "tui/stop.h"
#include "tui/term.h"
#include "tui/text/width.h"
#include "tui/theme.h"

/* Seconds: between frames while text streams, and between ticks while something runs or nothing
 * does (then only the machine's memory is looked at). */
#define FRAME       (1.0 / 30)
#define TICK_BUSY   0.25
#define TICK_IDLE   2.0
#define EDITOR_LOOK 0.1 /* between looks whether the editor has ended */

struct app {
    struct chat chat;
    struct screen screen;
    struct keys keys;
    double ticked, drawn;
    int signal; /* that ended it; 0 = none */
};

/* ---- before the screen ------------------------------------------------------------------------ */

/* A file in one of lade's directories, which is made. NULL-terminated path in out, "" on failure. */
static const char *file_in(enum paths_kind kind, const char *name, char out[PATH_MAX])
{
    if (paths_file(kind, name, out, NULL) != 0)
        return out[0] = '\0', NULL;
    lade_make_parents(out);
    return out;
}

static int choose_theme(const struct options *opt, char out[PATH_MAX], char *err)
{
    if (opt->theme) {
        snprintf(out, PATH_MAX, "%s", opt->theme);
        return theme_check(out, err);
    }
    /* A saved name that no longer exists is no reason to stop. */
    prefs_get("theme", out, PATH_MAX);
    if (!*out || theme_check(out, NULL) != 0)
        snprintf(out, PATH_MAX, "%s", THEME_DEFAULT);
    return 0;
}

/* `name` is what the model is called, NULL for the bundled one. */
static struct lade_engine *start_engine(const struct options *opt, const char *name, char *err)
{
    static char model[PATH_MAX], timelines[PATH_MAX];
    char key[KEY_FILE_MAX];
    struct lade_options engine_options;
    struct lade_engine *engine;
    if (model_path_resolve(name, model, err) != 0 || model_path_absolute(model, err) != 0 ||
        (opt->key_file && key_file_read(opt->key_file, key, err) != 0))
        return NULL;
    options_engine(opt, model, false, &engine_options);
    engine_options.key = opt->key_file ? key : NULL;
    if (paths_timelines(timelines, NULL) == 0)
        engine_options.timelines = timelines;
    return lade_engine_start(&engine, &engine_options, err) == 0 ? engine : NULL;
}

/* What the command line set counts as set by /set. */
static void take_options(struct chat *c, const struct options *opt)
{
    const struct {
        const char *name;
        double value;
        bool given;
    } numbers[] = {
        {"temperature", opt->greedy ? 0 : opt->temperature,
         opt->greedy || !isnan(opt->temperature)},
        {"top-p", opt->top_p, !isnan(opt->top_p)},
        {"min-p", opt->min_p, !isnan(opt->min_p)},
        {"repetition-penalty", opt->repetition_penalty, !isnan(opt->repetition_penalty)},
        {"top-k", opt->top_k, opt->top_k >= 0},
        {"max-tokens", opt->tokens, opt->tokens > 0},
    };
    char text[64], stops[STOP_LIST], err[LADE_ERR];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!numbers[i].given)
            continue;
        snprintf(text, sizeof text, "%.9g", numbers[i].value);
        if (settings_set(&c->settings, numbers[i].name, text, err) < 0)
            chat_say(c, ENTRY_ERROR, "%s", err);
    }
    if (opt->seed) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)opt->seed);
        settings_set(&c->settings, "seed", text, NULL);
    }
    if (opt->stop.n)
        settings_set(&c->settings, "stop", stop_write(&opt->stop, stops, sizeof stops), NULL);
    if (opt->system)
        settings_set(&c->settings, "system", opt->system, NULL);
    if (opt->think != THINK_UNSET)
        c->settings.think = opt->think == THINK_YES;
}

/* ---- the loop --------------------------------------------------------------------------------- */

static void submitted(void *user, const char *text)
{
    chat_submit(user, text);
}

/* What was typed and is complete; what follows the key that starts the editor waits for its end. */
static bool take_keys(struct app *a)
{
    struct keys_event ev;
    bool any = false;
    while (!a->chat.quit && !editor_runs() && keys_next(&a->keys, &ev, lade_now())) {
        app_key(&a->chat, &a->screen, &ev);
        any = true;
    }
    return any;
}

static void read_keys(struct app *a)
{
    char bytes[65536];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        a->signal = SIGHUP; /* the terminal is gone, whether we were told or not */
        a->chat.quit = true;
        return;
    }
    if (n > 0)
        keys_feed(&a->keys, bytes, (size_t)n, lade_now());
    take_keys(a);
}

static void read_signals(struct app *a)
{
    for (int sig; (sig = term_signal());) {
        switch (sig) {
        case SIGWINCH:
            term_resize();
            a->chat.repaint = a->chat.dirty = true;
            break;
        case SIGTSTP:
            term_suspend();
            a->chat.repaint = a->chat.dirty = true;
            break;
        case SIGCONT:
            a->chat.repaint = a->chat.dirty = true;
            break;
        default:
            a->signal = sig;
            a->chat.quit = true;
            break;
        }
    }
}

static void read_engine(struct app *a)
{
    struct lade_event ev;
    while (lade_engine_next(a->chat.engine, &ev)) {
        chat_event(&a->chat, &ev);
        lade_event_clear(&ev);
    }
}

static double tick(const struct app *a)
{
    return chat_is_busy(&a->chat) ? TICK_BUSY : TICK_IDLE;
}

/* Looks whether the editor has ended, and takes what was written into the input line. */
static void read_editor(struct app *a)
{
    char *text, err[LADE_ERR];
    if (!editor_runs() || !editor_done(&text, err))
        return;
    if (text)
        input_set(text);
    else
        chat_say(&a->chat, ENTRY_ERROR, "%s", err);
    free(text);
    a->chat.repaint = a->chat.dirty = true;
}

/* Seconds until something must be done without anything happening. */
static double wait_time(const struct app *a, double now)
{
    double wait = a->ticked + tick(a) - now;
    double keys = keys_wait(&a->keys, now), frame = a->drawn + FRAME - now;
    if (keys >= 0 && keys < wait)
        wait = keys;
    if (editor_runs() && EDITOR_LOOK < wait)
        wait = EDITOR_LOOK;
    else if (a->chat.dirty && !editor_runs() && frame < wait)
        wait = frame;
    return wait > 0 ? wait : 0;
}

static void run(struct app *a)
{
    struct pollfd fds[3] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = term_signal_fd(), .events = POLLIN},
        {.fd = a->chat.engine ? lade_engine_fd(a->chat.engine) : -1, .events = POLLIN},
    };
    while (!a->chat.quit) {
        double now = lade_now();
        bool typed = false;
        fds[0].fd = editor_runs() ? -1 : STDIN_FILENO;
        if (poll(fds, 3, (int)ceil(wait_time(a, now) * 1000)) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            read_signals(a);
        if (fds[0].revents) {
            read_keys(a);
            typed = true;
        }
        typed |= take_keys(a);
        if (fds[2].revents)
            read_engine(a);
        read_editor(a);
        now = lade_now();
        if (a->chat.tick_now || now - a->ticked >= tick(a)) {
            chat_tick(&a->chat, now);
            a->ticked = now;
        }
        a->chat.dirty |= input_changed();
        bool may_draw = a->chat.dirty && !a->chat.quit && !editor_runs();
        if (may_draw && (typed || now - a->drawn >= FRAME)) {
            screen_draw(&a->screen, &a->chat);
            a->drawn = now;
        }
    }
}

/* ---- begin and end ---------------------------------------------------------------------------- */

static void die_without_memory(void)
{
    static const char text[] = "lade: out of memory; the conversation is saved\n";
    term_stop();
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(1);
    _exit(1);
}

/* NULL if there is none. One that can only be read still has what was said before; `err` is "" if it can
 * be written. */
static struct history *open_history(char *err)
{
    char path[PATH_MAX];
    struct history *h;
    if (paths_history(path, err) != 0 || history_open_to_read(&h, path, err) != 0)
        return NULL;
    if (!history_is_read_only(h))
        *err = '\0';
    return h;
}

/* What to open: malloc'ed, NULL = the bundled one. */
static char *model_of(const struct options *opt, struct history *history)
{
    char *held = opt->resume && !opt->model ? chat_held_with(history, opt->resume_id) : NULL;
    return held || !opt->model ? held : buf_strdup(opt->model);
}

/* Where no screen can say that there is no such model, it is said in `err` instead of why there is no
 * screen. */
static void name_reason(const struct options *opt, char err[LADE_ERR])
{
    char path[PATH_MAX], no_model[LADE_ERR], not_saved[LADE_ERR];
    struct history *history = opt->resume ? open_history(not_saved) : NULL;
    char *model = model_of(opt, history);
    if (model_path_resolve(model, path, no_model))
        snprintf(err, LADE_ERR, "%s", no_model);
    free(model);
    history_close(history);
}

/* Before the terminal is taken, which turns wheel reports on. */
static void take_mouse(void)
{
    char value[16];
    term_mouse(strcmp(prefs_get("mouse", value, sizeof value), "off") != 0);
}

static void begin(struct app *a, const struct options *opt)
{
    char path[PATH_MAX], err[LADE_ERR], no_engine[LADE_ERR], not_saved[LADE_ERR], value[16];
    struct history *history = open_history(not_saved);
    char *model = model_of(opt, history);
    struct lade_engine *engine = start_engine(opt, model, no_engine);
    chat_init(&a->chat, engine, history);
    a->chat.bundled = !model;
    a->chat.history_failed = *not_saved;
    a->chat.transcript.fold = strcmp(prefs_get("thinking", value, sizeof value), "show") != 0;
    free(model);
    /* First, because it clears the screen and takes the settings of the conversation. */
    bool resumed = !opt->resume || chat_resume(&a->chat, opt->resume_id, err) == 0;
    if (*not_saved)
        chat_say(&a->chat, ENTRY_ERROR, "not saved: %s", not_saved);
    if (!resumed)
        chat_say(&a->chat, ENTRY_ERROR, "%s", err);
    take_options(&a->chat, opt);
    if (prefs_check(err) != 0)
        chat_say(&a->chat, ENTRY_ERROR, "%s", err);
    if (!engine)
        chat_say(&a->chat, ENTRY_ERROR, "%s", no_engine);
    input_start(file_in(PATHS_DATA, "input.history", path), submitted, &a->chat);
}

int chat_main(const struct options *opt)
{
    static struct app app;
    char err[LADE_ERR], theme[PATH_MAX], log[PATH_MAX];
    width_locale();
    take_mouse();
    if (choose_theme(opt, theme, err) != 0)
        return report_usage(opt->json, err);
    if (term_start(file_in(PATHS_CACHE, "lade.log", log), err) != 0) {
        name_reason(opt, err);
        return report_failed(opt->json, err);
    }
    buf_no_memory = die_without_memory;
    if (theme_load(theme, err) != 0)
        theme_load(THEME_DEFAULT, NULL);
    begin(&app, opt);
    run(&app);
    bool failed = app.chat.failed;
    screen_close(&app.screen);
    input_stop();
    term_stop();
    chat_end(&app.chat);
    long long saved = app.chat.history_failed ? 0 : (long long)app.chat.conversation;
    leave_wait(app.chat.engine);
    chat_close(&app.chat);
    keys_free(&app.keys);
    if (failed || app.signal)
        term_replay(STDERR_FILENO, 10);
    if (saved && app.signal != SIGHUP)
        printf("Saved as conversation %lld; go on with: lade chat --resume %lld\n", saved, saved);
    return app.signal ? 128 + app.signal : EXIT_DONE;
}
